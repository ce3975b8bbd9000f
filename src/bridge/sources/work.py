"""Where rows are worked on: on the loop when they are few, on a thread when they are many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from bridge.model.frame import Frame
from bridge.model.query import Query

T = TypeVar("T")

# Below this many cells the work is shorter than a hop to a thread and back.
THREAD_CELLS = 100_000
# A column costs something before its first value is looked at: about as much as this many values.
COLUMN_ROWS = 100


def cells(*frames: Frame) -> int:
    """How much there is to go through: the values, where a column with hardly any still counts as some."""
    return sum(frame.data.width * max(frame.rows, COLUMN_ROWS) for frame in frames)


async def compiled(query: Query, work: Callable[[], T]) -> T:
    """`work()` here, or on a thread where a pattern must be compiled, which may take longer than all else."""
    if any(item.is_pattern for item in (*query.filters, *query.adhoc)):
        return await asyncio.to_thread(work)
    return work()


async def run(cells: int, work: Callable[[], T]) -> T:
    """`work()` here, or on a thread when it has many cells to go through, so that the loop stays free."""
    return await asyncio.to_thread(work) if cells > THREAD_CELLS else work()
