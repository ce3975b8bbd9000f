"""What is worked out once of a long series that is kept, so that no panel has to look at every row of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from tsdownsample import MinMaxLTTBDownsampler

from bridge.model.frame import micros
from bridge.model.span import Span, to_us

_Rows = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]
# Below this a panel may as well look at every row.
MIN_ROWS = 100_000
_BLOCK_ROWS = 64
# So many rows to choose from for each one that is drawn: the shape then is that of all rows.
_CHOICE = 8
# Beyond this the areas of the triangles overflow.
_LARGE = 1e100
# From here on floats, which all is chosen and joined by, are not each a whole number of its own.
_INEXACT = 2.0**53
# First, last, smallest and largest value.
_CORNERS = 4
# The library panics when it is asked for fewer, which no `except Exception` would catch.
_FEWEST = 3


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """A series without gaps, its instants strictly ascending, its values finite.

    Shape: `peaks` are the rows of the smallest and the largest value of each block, ascending, and `peak_us` and
           `peak_y` what stands there; `us`, `values` and, where those are floats already, `y` are views of the kept
           columns.
    """

    us: _Rows
    values: npt.NDArray[Any]
    y: _Floats
    peaks: _Rows
    peak_us: _Rows
    peak_y: _Floats

    def rows_in(self, span: Span | None) -> tuple[int, int]:
        """The half-open range of rows inside the span."""
        if span is None:
            return 0, len(self.us)
        low, high = np.searchsorted(self.us, [to_us(span.start), to_us(span.end)]).tolist()
        return low, high

    def shape(self, low: int, high: int, max_points: int) -> _Rows | None:
        """The rows that show the shape of `low:high`; None where too few are known to choose from.

        Shape: ascending, at most `max_points`, first, last, smallest and largest value among them.
        """
        # A block may be cut by either end of the range: as many rows there are looked at one by one.
        inner_low, inner_high = low + _BLOCK_ROWS, high - _BLOCK_ROWS
        first, last = np.searchsorted(self.peaks, [inner_low, inner_high]).tolist()
        if last - first < _CHOICE * max_points or max_points < _CORNERS + _FEWEST:
            return None
        us = np.concatenate((self.us[low:inner_low], self.peak_us[first:last], self.us[inner_high:high]))
        y = np.concatenate((self.y[low:inner_low], self.peak_y[first:last], self.y[inner_high:high]))
        corners = (0, len(y) - 1, int(y.argmax()), int(y.argmin()))
        chosen = MinMaxLTTBDownsampler().downsample(us, y, n_out=max_points - _CORNERS)  # type: ignore[no-untyped-call]
        # A set of so few is made faster than numpy's unique.
        at = np.array(sorted({*corners, *chosen.tolist()}), dtype=np.int64)
        head, tail = _BLOCK_ROWS, len(y) - _BLOCK_ROWS
        inner = self.peaks[first + np.clip(at - head, 0, last - first - 1)]
        return np.where(at < head, low + at, np.where(at >= tail, high - len(y) + at, inner))


def outline(time: pl.Series, measure: pl.Series) -> Outline | None:
    """What is worth knowing of a series; None where it has gaps, repeats or values that cannot be compared."""
    us = micros(time)
    if len(us) < MIN_ROWS or measure.null_count() or not bool((us[1:] > us[:-1]).all()):
        return None
    values, y = measure.to_numpy(), measure.cast(pl.Float64).to_numpy()
    large = _INEXACT if measure.dtype.is_integer() else _LARGE
    if not -large < float(y.min()) <= float(y.max()) < large:  # false for NaN too
        return None
    whole = len(y) // _BLOCK_ROWS * _BLOCK_ROWS
    blocks = y[:whole].reshape(-1, _BLOCK_ROWS)
    starts = np.arange(0, whole, _BLOCK_ROWS)
    rest = np.arange(whole, len(y))
    peaks = np.unique(np.concatenate((starts + blocks.argmin(axis=1), starts + blocks.argmax(axis=1), rest)))
    return Outline(us, values, y, peaks, us[peaks], y[peaks])
