"""A desk whose datasets keep histories in a folder, and a plain model of what they must say."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from bridge.model.clock import Clock
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.schema import Column
from bridge.sources.history import upkeep
from bridge.sources.history.history import History
from bridge.sources.history.recorder import Recorder
from bridge.sources.history.store import Store
from bridge.sources.registry import DatasetConfig, Keeping
from support import COLUMNS, Rig, dataset, frame_of, make_desk

KEEP_S = 30 * 86_400.0
KEEPING = Keeping(KEEP_S, 60.0)


@dataclass
class Kept(Rig):
    """A desk with histories."""

    folder: Path = Path()
    store: Store | None = None

    def history(self, name: str = "lab.runs") -> History:
        found = self.keeper(name).history
        assert found is not None
        return found

    async def sample(self, rows: Sequence[Sequence[Any]] | Frame, name: str = "lab.runs") -> int:
        """Records these rows as the source's, a minute later."""
        self.source().data = rows if isinstance(rows, Frame) else frame_of(rows, self.columns(name))
        self.clock.advance(60)
        return await self.history(name).record(await self.desk.fetched(Query(name)))

    def columns(self, name: str) -> tuple[Column, ...]:
        return self.keeper(name).entry.spec.columns or COLUMNS

    def flush(self, name: str = "lab.runs") -> None:
        self.history(name).table.flush()

    def compact(self, name: str = "lab.runs") -> None:
        self.flush(name)
        upkeep.compact(self.history(name).table)


def kept_dataset(name: str = "runs", keeping: Keeping | None = KEEPING, **options: Any) -> DatasetConfig:
    """A dataset with a history, fetched anew for every question."""
    return dataset(name, **{"refresh_s": 0, "history": keeping, **options})


@asynccontextmanager
async def keeping(folder: Path, *datasets: DatasetConfig, passed_s: float = 0.0, **more: Any) -> AsyncIterator[Kept]:
    """A desk with histories below this folder, as a start of the service finds them."""
    made = make_desk(*(datasets or (kept_dataset(),)), **more)
    made.clock.passed_s = passed_s
    store = Store(folder, made.clock)
    found = await store.open(made.registry.datasets.values())
    made.desk.remember(found)
    rig = Kept(**vars(made), folder=folder, store=store)
    try:
        yield rig
    finally:
        await store.close()


def told(frame: Frame) -> list[tuple[Any, ...]]:
    """The rows of a frame."""
    return _plain(frame.data)


def as_of(version: int, query: Query | None = None) -> Query:
    """The question as of a version."""
    return replace(query or Query("lab.runs"), as_of=version)


def in_order(data: pl.DataFrame) -> list[tuple[Any, ...]]:
    """Rows in an order of their own, whatever theirs is."""
    return _plain(data.sort(data.columns, nulls_last=True))


def _plain(data: pl.DataFrame) -> list[tuple[Any, ...]]:
    """The rows; a NaN, which is not even itself, as a word."""
    return [
        tuple("NaN" if isinstance(cell, float) and math.isnan(cell) else cell for cell in row) for row in data.rows()
    ]


class Beats:
    """Recorders on a rig's clock: time passes when all of them sleep, and each works until it sleeps again."""

    def __init__(self, rig: Kept) -> None:
        self.rig = rig
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0
        self._awake = 0
        self._still = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self._count += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.rig.clock.passed_s + seconds, self._count, future))
        self._awake -= 1
        self._check()
        try:
            await future
        finally:
            self._awake += 1

    def _check(self) -> None:
        if self._awake <= 0:
            self._still.set()

    async def still(self) -> None:
        """Until nobody works."""
        async with asyncio.timeout(30):
            await self._still.wait()

    async def advance(self, seconds: float) -> None:
        """Lets so much time pass, waking whoever sleeps until a moment in it."""
        end_s = self.rig.clock.passed_s + seconds
        await self.still()
        while self._sleepers and self._sleepers[0][0] <= end_s:
            due_s, _, future = heapq.heappop(self._sleepers)
            if future.done():
                continue
            self.rig.clock.passed_s = max(self.rig.clock.passed_s, due_s)
            self._still.clear()
            future.set_result(None)
            await self.still()
        self.rig.clock.passed_s = max(self.rig.clock.passed_s, end_s)

    @asynccontextmanager
    async def recording(
        self, jitter: Callable[[], float] = lambda: 0.0, datasets: int = 1, clock: Clock | None = None
    ) -> AsyncIterator[None]:
        """The rig's datasets recorded while the block runs."""
        rig = self.rig
        recorder = Recorder(rig.desk, clock or rig.clock, rig.meters, jitter=jitter, sleep=self.sleep)
        self._awake += datasets
        self._still.clear()
        task = asyncio.create_task(recorder.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self._awake -= datasets
