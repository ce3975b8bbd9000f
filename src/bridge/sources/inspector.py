"""Puts every answer of one dataset before its checks, and remembers what they found."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from bridge.edge.meters import Meters
from bridge.errors import BridgeError, HeldBack, SchemaMismatch
from bridge.model.clock import Clock
from bridge.model.finding import Finding, Level
from bridge.model.frame import Frame, Notice
from bridge.model.query import Query
from bridge.model.schema import Schema
from bridge.sources.quality.bound import CheckError
from bridge.sources.quality.judge import BoundCheck, Judged, asked, bind_checks, judge
from bridge.sources.quality.ledger import Ledger
from bridge.sources.recipe import Errand, Reach, both
from bridge.sources.registry import DatasetEntry
from bridge.sources.work import COLUMN_ROWS, cells, run

log = logging.getLogger("bridge.sources")

_SEVERITIES = {Level.INFO: "info", Level.WARN: "warning"}
MAX_TEXTS = 5
# A plug-in's own checks may be called as it likes, and each name is a series for good.
MAX_NAMES = 200
# Part of the deadline that a dataset to compare with may take: an answer that is there must not be lost over it.
OTHERS_RATIO = 0.4


class Inspector:
    """The checks of one dataset at work.

    A check of the plug-in's own counts as one of the settings': what it blocks is held back, what it finds is told.
    """

    def __init__(
        self,
        entry: DatasetEntry,
        clock: Clock,
        meters: Meters,
        reach: Reach | None,
        published: Callable[[], Schema | None],
        deadline_s: float,
    ) -> None:
        self.ledger = Ledger()
        self._entry = entry
        self._clock = clock
        self._meters = meters
        self._reach = reach
        self._published = published
        self._patience_s = deadline_s * OTHERS_RATIO
        self._bound: tuple[str, Mapping[str, Schema], tuple[BoundCheck, ...]] | None = None
        self._names: set[str] = set()

    async def inspect(self, frame: Frame, errand: Errand, found: Sequence[Finding] = ()) -> Frame:
        """The frame with what was found of it; `found` is what its plug-in says.

        Errors: HeldBack when a check keeps it from its consumers; SchemaMismatch when the checks do not fit it.
        """
        if not self._entry.checks and not found and not self.ledger.active:
            return frame
        judged = await self._judged(frame, errand)
        told = replace(
            judged,
            findings=(*found, *judged.findings),
            made=judged.made | {(item.check, item.column or "") for item in found} | self._gone(found),
        )
        self.ledger.note(told, self._clock.now())
        self._count(told.findings)
        if told.blocked:
            raise self._held_back(told)
        return frame.note(*(Notice(_SEVERITIES[item.level], item.text) for item in told.findings))

    @property
    def restless(self) -> bool:
        """Whether an answer must be judged again though its data did not change.

        It may have grown old, or what it is compared with be another; and after one that was held back, that which
        came before it is the good one again.
        """
        aging = any(check.kind == "fresh" or check.others for check in self._entry.checks)
        return aging or self.ledger.blocks_in_a_row > 0

    def refused(self, error: SchemaMismatch) -> bool:
        """Notes what a check before the steps found; whether it was one that kept the answer back."""
        found = tuple(item for item in error.findings if isinstance(item, Finding))
        if found:
            self.ledger.note(
                Judged(found, made=frozenset((f.check, f.column or "") for f in found)), self._clock.now()
            )
            self._count(found)
        return bool(found)

    def _count(self, findings: Iterable[Finding]) -> None:
        for item in findings:
            if len(self._names) < MAX_NAMES:
                self._names.add(item.check)
            name = item.check if item.check in self._names else "other"
            self._meters.findings.labels(self._entry.name, name, item.level.value).inc()

    def _gone(self, found: Sequence[Finding]) -> set[tuple[str, str]]:
        """Findings of the plug-in's own checks that stand and were not made again."""
        named = {check.name for check in self._bound[2]} if self._bound else set()
        still = {(item.check, item.column or "") for item in found}
        active = {(noted.finding.check, noted.finding.column or "") for noted in self.ledger.active}
        return {key for key in active - still if key[0] not in named}

    async def _judged(self, frame: Frame, errand: Errand) -> Judged:
        if not self._entry.checks:
            return Judged()
        bound = await self._bind(frame, errand)
        others = await self._others(bound, errand)
        whole = not errand.own.filters
        now = self._clock.now()
        return await run(cells(frame), lambda: judge(bound, frame, others, now, whole=whole, span=errand.own.span))

    async def _bind(self, frame: Frame, errand: Errand) -> tuple[BoundCheck, ...]:
        # Of a frame that was narrowed to some columns the others are not gone: their checks are passed over.
        schema = (self._published() if errand.own.columns else None) or frame.schema
        known = {}
        for check in self._entry.checks:
            for name in check.others:
                theirs = self._reach.schema(name) if self._reach else None
                if theirs is not None:
                    known[name] = theirs
        print_ = schema.fingerprint
        if self._bound is None or self._bound[:2] != (print_, known):
            effort = len(self._entry.checks) * len(schema.columns) * COLUMN_ROWS
            try:
                bound = await run(effort, lambda: bind_checks(self._entry.checks, schema, known))
            except CheckError as error:
                place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.loc)
                raise SchemaMismatch(
                    f"`{self._entry.name}`: checks{place}: {error}", remedy="correct the dataset's `checks`"
                ) from error
            self._bound = (print_, known, bound)
        return self._bound[2]

    async def _others(self, bound: tuple[BoundCheck, ...], errand: Errand) -> dict[str, Frame]:
        """The datasets to compare with; one that cannot be had is missing, which the check then says."""
        wanted = asked(bound, errand.own.span)
        if not wanted or self._reach is None:
            return {}
        reach = self._reach

        async def one(query: Query) -> Frame | None:
            try:
                async with asyncio.timeout(self._patience_s):
                    return await reach.get(query)
            except (BridgeError, TimeoutError) as error:
                log.warning("no reference", extra={"dataset": self._entry.name, "error": str(error) or "too slow"})
                return None

        frames = await both(*(one(query) for query in wanted.values()))
        return {name: frame for name, frame in zip(wanted, frames, strict=True) if frame is not None}

    def _held_back(self, told: Judged) -> HeldBack:
        texts = [item.text for item in told.findings if item.level is Level.BLOCK]
        more = f"; and {len(texts) - MAX_TEXTS} more findings" if len(texts) > MAX_TEXTS else ""
        return HeldBack(
            f"`{self._entry.name}` is held back: {'; '.join(texts[:MAX_TEXTS])}{more}",
            remedy="correct the data at its source, or the dataset's `checks`; `_findings` lists all",
        )
