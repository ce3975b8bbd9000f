"""Plug-in code on a leash: its deadline holds, whatever the code does with its cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from bridge.errors import UpstreamTimeout, UpstreamUnavailable

T = TypeVar("T")

# Work that was cancelled and goes on; beyond so many the plug-in is not asked again until some of it has ended.
MAX_STRAYS = 16


class Leash:
    """Runs one plug-in's coroutines, each as a task of its own that nobody has to wait for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._strays: set[asyncio.Task[Any]] = set()

    async def run(self, work: Callable[[], Awaitable[T]], deadline_s: float) -> T:
        """What `work()` gives; it is cancelled when the caller is, or when its time is over.

        Errors: UpstreamTimeout after `deadline_s`; UpstreamUnavailable when too much of its earlier work goes on
                although it was cancelled; whatever `work` raises.
        """
        if len(self._strays) >= MAX_STRAYS:
            raise UpstreamUnavailable(
                f"`{self.name}`: {len(self._strays)} of its fetches go on although they were cancelled",
                remedy="restart bridge, and have the plug-in pass CancelledError on",
            )

        async def call() -> T:
            return await work()

        task = asyncio.create_task(call())
        task.add_done_callback(_looked_at)
        try:
            await asyncio.wait({task}, timeout=deadline_s)
        finally:
            if not task.done():
                self._let_go(task)
        if not task.done():
            raise UpstreamTimeout(
                f"`{self.name}` did not answer within {deadline_s:g} s",
                remedy="narrow the time range or the filters, or raise limits.deadline_s",
            )
        if task.cancelled():
            raise UpstreamUnavailable(f"`{self.name}`: the plug-in gave its work up", remedy="ask again")
        return task.result()

    def _let_go(self, task: asyncio.Task[Any]) -> None:
        """Cancels the work without waiting for it to obey; until it has ended it is a stray."""
        self._strays.add(task)
        task.add_done_callback(self._strays.discard)
        task.cancel()


def _looked_at(task: asyncio.Task[Any]) -> None:
    """Takes the error of work that nobody waits for any more, which asyncio would report as lost."""
    if not task.cancelled():
        task.exception()
