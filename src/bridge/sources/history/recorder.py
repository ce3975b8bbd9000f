"""Samples datasets at intervals of their own, for as long as the service runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import polars as pl

from bridge.edge.meters import Meters
from bridge.errors import BridgeError
from bridge.model.clock import Clock
from bridge.model.frame import TIME_DTYPE, Frame
from bridge.model.query import Query
from bridge.model.span import Span
from bridge.sources.ask import Desk
from bridge.sources.history.history import History
from bridge.sources.registry import Keeping

log = logging.getLogger("bridge.history")


class Recorder:
    """One task for each dataset with a history."""

    def __init__(
        self,
        desk: Desk,
        clock: Clock,
        meters: Meters,
        *,
        jitter: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._desk = desk
        self._clock = clock
        self._meters = meters
        self._jitter = jitter
        self._sleep = sleep
        # The instant that the last sample of a dataset without a time of its own was fetched at.
        self._stamps: dict[str, object] = {}

    async def run(self) -> None:
        """Samples until it is cancelled; does nothing where no dataset keeps a history.

        Where another one samples the same histories, that one rests until this one has ended.
        """
        async with asyncio.TaskGroup() as group:
            for name, keeper in self._desk.keepers.items():
                if keeper.history is not None and keeper.entry.history is not None:
                    group.create_task(self._follow(name, keeper.history, keeper.entry.history))

    async def _follow(self, name: str, history: History, keeping: Keeping) -> None:
        history.sampler = self
        try:
            await self._beat(name, history, keeping)
        finally:
            if history.sampler is self:
                history.sampler = None

    async def _beat(self, name: str, history: History, keeping: Keeping) -> None:
        due_s = self._clock.monotonic_s() + self._jitter() * keeping.every_s
        while True:
            await self._sleep(max(0.0, due_s - self._clock.monotonic_s()))
            history.sampler = history.sampler or self
            if history.sampler is self:
                await self.once(name, history, keeping)
            due_s += keeping.every_s
            late_s = self._clock.monotonic_s() - due_s
            if late_s > 0:
                # What was missed is not made up for: the past cannot be asked of most sources.
                due_s += -(-late_s // keeping.every_s) * keeping.every_s

    async def once(self, name: str, history: History, keeping: Keeping) -> None:
        """One sample, and what is due to be done with those before it, also while the source is down."""
        outcome, rows = await self._outcome(name, self._taken(name, history, keeping))
        upkeep, _ = await self._outcome(name, self._tended(history))
        self._meters.samples.labels(name, upkeep if outcome == "ok" else outcome).inc()
        self._meters.sampled_rows.labels(name).inc(rows)

    async def _outcome(self, name: str, work: Awaitable[tuple[str, int]]) -> tuple[str, int]:
        """What became of it, and how many rows were recorded."""
        try:
            return await work
        except BridgeError as error:
            # Told by the dataset's status, or that of its history.
            return error.code, 0
        except Exception:
            # Its neighbours' tasks stand in the same group.
            log.exception("recording failed inside bridge", extra={"dataset": name})
            return "internal", 0

    async def _taken(self, name: str, history: History, keeping: Keeping) -> tuple[str, int]:
        frame = await self._sample(name, keeping)
        if frame.meta.custom.get("stale"):
            # Said before: it would be recorded as if it were said again now.
            return str(frame.meta.custom.get("error", "stale")), 0
        return "ok", await history.record(frame)

    async def _tended(self, history: History) -> tuple[str, int]:
        await history.tend()
        return "ok", 0

    async def _sample(self, name: str, keeping: Keeping) -> Frame:
        now = self._clock.now()
        span = Span(now - timedelta(seconds=keeping.window_s), now) if keeping.window_s else None
        frame = await self._desk.fetched(Query(name, span=span))
        if keeping.time is None:
            return frame
        held = frame.data.get_column(keeping.time).max() if frame.rows else None
        if held is None or held != self._stamps.get(name):
            self._stamps[name] = held
            return frame
        # An answer that did not change holds the instant of its first fetch, and is a new sample all the same.
        stamp = pl.lit(now).cast(TIME_DTYPE).alias(keeping.time)
        return replace(frame, data=frame.data.with_columns(stamp))
