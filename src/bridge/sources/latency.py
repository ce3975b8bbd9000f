"""How long the last fetches of one dataset took."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence

MAX_FETCHES = 256


class Latency:
    """The durations of the last fetches, as many as are kept."""

    def __init__(self, max_fetches: int = MAX_FETCHES) -> None:
        self._seconds: deque[float] = deque(maxlen=max_fetches)

    def add(self, seconds: float) -> None:
        """Notes one more fetch; the oldest goes where there is no room for it."""
        self._seconds.append(seconds)

    @property
    def last_s(self) -> float | None:
        """The newest; None before the first."""
        return self._seconds[-1] if self._seconds else None

    def quantiles_s(self, ratios: Sequence[float]) -> tuple[float | None, ...]:
        """The smallest duration that so large a share of the fetches did not exceed; None before the first.

        Shape: one per ratio, each of them a duration that was measured (nearest rank).
        """
        ordered = sorted(self._seconds)
        return tuple(_ranked(ordered, ratios))


def _ranked(ordered: Sequence[float], ratios: Sequence[float]) -> Iterator[float | None]:
    for ratio in ratios:
        # Rounded first: 0.95 times 20 is a little more than 19.
        rank = math.ceil(round(ratio * len(ordered), 9))
        yield ordered[min(max(rank, 1), len(ordered)) - 1] if ordered else None
