"""Fetches datasets at intervals of their own, so that answers are there before anyone asks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta

from bridge.edge.meters import Meters
from bridge.errors import BridgeError
from bridge.model.clock import Clock
from bridge.model.query import Query
from bridge.model.span import Span
from bridge.sources.ask import Desk
from bridge.sources.registry import Poll

log = logging.getLogger("bridge.sources")

# A dataset that goes on failing is asked at ever longer intervals, up to this one.
MAX_WAIT_S = 300.0
JITTER_RATIO = 0.1


class Poller:
    """One task for each polled dataset: a slow or failing one waits for itself only."""

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

    async def run(self) -> None:
        """Polls until it is cancelled; does nothing where no dataset is to be polled."""
        async with asyncio.TaskGroup() as group:
            for name, entry in self._desk.registry.datasets.items():
                if entry.poll is not None:
                    group.create_task(self._follow(name, entry.poll))

    async def _follow(self, name: str, poll: Poll) -> None:
        # Spread over the interval: forty datasets that all begin at once would go on meeting for ever.
        due_s = self._clock.monotonic_s() + self._jitter() * min(poll.every_s, MAX_WAIT_S)
        failures = 0
        while True:
            await self._sleep(max(0.0, due_s - self._clock.monotonic_s()))
            failures = 0 if await self._once(name, poll) else failures + 1
            # What was missed is not made up for: after a long fetch the next one comes at the next beat.
            due_s += self._wait_s(poll, failures)
            late_s = self._clock.monotonic_s() - due_s
            if late_s > 0:
                due_s += -(-late_s // poll.every_s) * poll.every_s

    def _wait_s(self, poll: Poll, failures: int) -> float:
        if not failures:
            return poll.every_s
        longest_s = max(poll.every_s, MAX_WAIT_S)
        wait_s = min(poll.every_s * 2.0 ** min(failures, 32), longest_s)
        return wait_s * (1 + JITTER_RATIO * self._jitter())

    async def _once(self, name: str, poll: Poll) -> bool:
        """Whether the source answered."""
        outcome = "ok"
        try:
            now = self._clock.now()
            span = Span(now - timedelta(seconds=poll.window_s), now) if poll.window_s else None
            # What its steps read of other datasets has intervals of its own.
            frame = await self._desk.fetched(Query(name, span=span, fresh=True), alone=True)
            if frame.meta.custom.get("stale"):
                outcome = str(frame.meta.custom.get("error", "stale"))
        except BridgeError as error:
            outcome = error.code
        except Exception:
            # Its neighbours' tasks stand in the same group.
            log.exception("polling failed inside bridge", extra={"dataset": name})
            outcome = "internal"
        self._meters.polls.labels(name, outcome).inc()
        return outcome == "ok"
