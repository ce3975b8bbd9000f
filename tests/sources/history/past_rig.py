"""A desk whose datasets keep histories in a folder, and a plain model of what they must say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.schema import Column
from bridge.sources.history import upkeep
from bridge.sources.history.history import History
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


def kept_dataset(name: str = "runs", keeping: Keeping = KEEPING, **options: Any) -> DatasetConfig:
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
    return [tuple("NaN" if cell != cell else cell for cell in row) for row in data.rows()]
