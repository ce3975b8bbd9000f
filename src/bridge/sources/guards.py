"""The circuit breakers of one dataset: one for its source as a whole, and one for each question of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from bridge.edge.breaker import Breaker
from bridge.errors import UpstreamRefused
from bridge.model.clock import Clock
from bridge.model.query import Query
from bridge.model.schema import Param
from bridge.sources.stale import spanless

T = TypeVar("T")

# Failures in a row that open a breaker; also a source that lets every fetch run into its deadline gets so far.
FAILURES = 5
MAX_OWN = 64


class Guards:
    """What stands between a dataset's questions and its source."""

    def __init__(
        self, clock: Clock, jitter: Callable[[], float], deadline_s: float, params: Sequence[Param] = ()
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._params = params
        self._window_s = 60.0 + FAILURES * deadline_s
        self._whole = self._new()
        self._own: dict[str, Breaker] = {}
        # How often in a row the source was left alone for what it answered.
        self._rests = 0

    @property
    def state(self) -> str:
        """`closed`, `open` or `half_open`."""
        return self._whole.state

    def rest(self, query: Query, bad_answers: int) -> None:
        """Leaves a source alone that gave so many bad answers in a row, if they are enough; each time longer.

        What one caller's parameters bring to light stays that question's.
        """
        own = any(query.param(param.name) not in ((), (param.default,)) for param in self._params)
        breaker = self._of(query) if own else self._whole
        if bad_answers < FAILURES:
            self._rests = 0
        elif breaker.state != "open":
            # Answers that were under way when it was opened are no trials.
            why = f"the source gave {bad_answers} answers in a row that checks held back"
            breaker.trip(why, 0 if own else self._rests)
            self._rests += not own

    async def through(self, query: Query, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` gives; what one caller's parameters make the far side refuse stays that question's.

        Errors: BreakerOpen; whatever `work` raises.
        """
        if not query.params and not query.filters:
            async with self._whole.guard():
                return await work()
        async with self._whole.guard():
            try:
                async with self._of(query).guard():
                    return await work()
            except UpstreamRefused as error:
                # Towards the dataset's breaker this counts as an answer: the far side is there.
                refused = error
        raise refused

    def _of(self, query: Query) -> Breaker:
        """The breaker of one question, whatever its span; the questions asked last are remembered."""
        question = spanless(query)
        breaker = self._own.pop(question, None) or self._new()
        self._own[question] = breaker
        if len(self._own) > MAX_OWN:
            del self._own[next(iter(self._own))]
        return breaker

    def _new(self) -> Breaker:
        return Breaker(self._clock, jitter=self._jitter, failures=FAILURES, window_s=self._window_s)
