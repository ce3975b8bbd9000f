"""Tells an OpenLineage consumer of fetches, no more often than needed: at intervals, and when an outcome changes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from bridge.edge.openlineage import Outbox
from bridge.errors import BridgeError
from bridge.model.clock import Clock
from bridge.model.finding import Finding
from bridge.model.frame import Frame
from bridge.sources.openlineage import Teller, completed, failed, run_id
from bridge.sources.registry import DatasetEntry

log = logging.getLogger("bridge.sources")

# A dataset that fails every other time, or two panels of which one is refused, would tell of each fetch.
MAX_PER_INTERVAL = 10
RANDOM_BYTES = 10


@dataclass(slots=True)
class _Told:
    """What was told of one dataset in the present interval."""

    began_s: float
    outcome: str
    schema: str
    events: int = 1


class LineageEvents:
    """Takes note of what became of each fetch; `run` sends what is worth telling."""

    def __init__(
        self, outbox: Outbox, teller: Teller, clock: Clock, *, every_s: float, randomness: Callable[[int], bytes]
    ) -> None:
        self._outbox = outbox
        self._teller = teller
        self._clock = clock
        self._every_s = every_s
        self._randomness = randomness
        self._told: dict[str, _Told] = {}

    def note(self, entry: DatasetEntry, came: Frame | BridgeError, findings: Sequence[Finding] = ()) -> None:
        """Takes note of one fetch: its frame, or why there is none; never raises, never waits."""
        if entry.name.startswith("_"):
            return
        try:
            if isinstance(came, BridgeError):
                if self._due(entry.name, "FAIL", None):
                    self._put(self._failure(entry, came, findings))
            elif (lineage := came.meta.custom.get("lineage")) and not came.meta.custom.get("stale"):
                schema = lineage["schema"]
                if self._due(entry.name, "COMPLETE", None if schema.get("partial") else schema["fingerprint"]):
                    self._put(self._success(came, findings, lineage.get("checks", ())))
        except (KeyError, TypeError, ValueError):
            # A plug-in may have put what cannot be written into its frame: the answer matters more.
            self._outbox.lost()
            log.exception("a fetch cannot be told as a lineage event", extra={"dataset": entry.name})

    async def run(self) -> None:
        """Sends what is noted until it is cancelled, and then for a moment what is left."""
        await self._outbox.run()

    def _due(self, name: str, outcome: str, schema: str | None) -> bool:
        now_s = self._clock.monotonic_s()
        told = self._told.get(name)
        if told is None or now_s - told.began_s >= self._every_s:
            known = schema or (told.schema if told else "")
            self._told[name] = _Told(now_s, outcome, known)
            return True
        changed = outcome != told.outcome or bool(schema and told.schema and schema != told.schema)
        if not changed or told.events >= MAX_PER_INTERVAL:
            told.schema = told.schema or schema or ""
            return False
        told.outcome, told.schema, told.events = outcome, schema or told.schema, told.events + 1
        return True

    def _success(self, frame: Frame, findings: Sequence[Finding], checks: Sequence[str]) -> dict[str, Any]:
        run = run_id(self._clock.now(), self._randomness(RANDOM_BYTES))
        return completed(self._teller, frame, run, findings=findings, checks=checks)

    def _failure(self, entry: DatasetEntry, error: BridgeError, findings: Sequence[Finding]) -> dict[str, Any]:
        now = self._clock.now()
        run = run_id(now, self._randomness(RANDOM_BYTES))
        return failed(self._teller, entry.name, entry.others, error, now, run, findings=findings)

    def _put(self, event: dict[str, Any]) -> None:
        self._outbox.put(orjson.dumps(event))
