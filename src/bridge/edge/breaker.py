"""A circuit breaker that lets exactly one trial request through."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bridge.errors import BreakerOpen, BridgeError, Retry, SourceError
from bridge.model.clock import Clock


class Breaker:
    """Leaves a far server alone after `failures` failures in a row within `window_s`.

    Units:  it stays open `open_s`, doubled after each failed trial up to `max_open_s`; `jitter` gives a number from
            0 to 1 that takes up to a quarter off, so that many breakers do not come back at once.
    Errors: BreakerOpen, which says when the next trial is.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        jitter: Callable[[], float],
        failures: int = 5,
        window_s: float = 60.0,
        open_s: float = 30.0,
        max_open_s: float = 300.0,
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._failures = failures
        self._window_s = window_s
        self._open_s = open_s
        self._max_open_s = max_open_s
        self._failed_at_s: deque[float] = deque(maxlen=failures)
        self._failing = f"the far server failed {failures} times in a row"
        self._why = ""
        self._open_until_s: float | None = None
        self._trips = 0
        self._probing = False
        # Counts the changes of state: a request let in before one has no say after it.
        self._epoch = 0

    @property
    def state(self) -> str:
        """`closed`, `open` or `half_open`."""
        if self._open_until_s is None:
            return "closed"
        return "open" if self.retry_in_s > 0 else "half_open"

    @property
    def retry_in_s(self) -> float:
        """Seconds until the next trial; 0 when requests may come."""
        return 0.0 if self._open_until_s is None else max(self._open_until_s - self._clock.monotonic_s(), 0.0)

    def trip(self, why: str, trips: int = 0) -> None:
        """Opens it for a reason that lies in what the far server answered; longer after `trips` such trials."""
        self._why = why
        pause_s = min(self._open_s * 2.0 ** min(trips, 32), self._max_open_s)
        self._open_until_s = self._clock.monotonic_s() + pause_s * (1 - self._jitter() / 4)
        self._probing = False
        self._epoch += 1

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[None]:
        """Around one request: it fails fast while open, and its outcome is counted.

        Errors: BreakerOpen; whatever is raised inside passes through.
        """
        epoch, probe = self._admit()
        try:
            yield
        except Exception as error:
            if epoch == self._epoch:
                self._judge(error)
            raise
        else:
            if epoch == self._epoch:
                self._close()
        finally:
            # Also after a cancellation, which says nothing of the far server but must not keep the only slot.
            if probe and epoch == self._epoch:
                self._probing = False

    def _admit(self) -> tuple[int, bool]:
        state = self.state
        if state == "closed":
            return self._epoch, False
        if state == "open" or self._probing:
            when = f"in {self.retry_in_s:.0f} s" if state == "open" else "right now, by another request"
            raise BreakerOpen(
                f"{self._why or self._failing} and is left alone; it is tried again {when}",
                remedy="see the source's last error for the cause",
            )
        self._probing = True
        return self._epoch, True

    def _judge(self, error: Exception) -> None:
        if isinstance(error, BreakerOpen):
            # Said by another breaker inside: the far server was not asked.
            return
        if isinstance(error, SourceError) and error.retry is Retry.NEVER:
            # A clear "no" is an answer: the server is there.
            self._close()
        elif isinstance(error, SourceError) or not isinstance(error, BridgeError):
            self._fail()

    def _close(self) -> None:
        self._failed_at_s.clear()
        if self._open_until_s is not None:
            self._open_until_s, self._trips, self._probing, self._why = None, 0, False, ""
            self._epoch += 1

    def _fail(self) -> None:
        now_s = self._clock.monotonic_s()
        self._failed_at_s.append(now_s)
        in_a_row = len(self._failed_at_s) == self._failures and now_s - self._failed_at_s[0] <= self._window_s
        if self._open_until_s is None and not in_a_row:
            return
        pause_s = min(self._open_s * 2.0 ** min(self._trips, 32), self._max_open_s)
        self._open_until_s = now_s + pause_s * (1 - self._jitter() / 4)
        self._trips, self._probing = self._trips + 1, False
        self._epoch += 1
