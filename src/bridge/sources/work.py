"""Where rows are worked on: on the loop when they are few, on a thread when they are many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Below this many rows the work is shorter than a hop to a thread and back.
THREAD_ROWS = 20_000


async def run(rows: int, work: Callable[[], T]) -> T:
    """`work()` here, or on a thread when it has many rows to go through, so that the loop stays free."""
    return await asyncio.to_thread(work) if rows > THREAD_ROWS else work()
