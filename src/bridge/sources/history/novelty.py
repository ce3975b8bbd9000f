"""What of a sample is new: rows that are recorded already are told from new ones and from corrected ones.

A row is named by its key: its time and its dimensions. A key of which both the record and the sample have one row is
corrected when they differ. A key that has several rows in either, as that of log lines does, has nothing that could
be replaced: each different row of it is kept, and equal ones as often as one sample had them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from bridge.model.frame import TIME_DTYPE, micros
from bridge.sources.history.stored import MARKS, NOTHING, REV

_Numbers = npt.NDArray[np.uint64]
_Flags = npt.NDArray[np.bool_]
# Below so many numbers, sorting them is cheaper than Polars' way to begin.
_FEW = 4_096


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Rows told apart by numbers: one for the key, and one for the whole row that tells equal rows apart, too."""

    keys: _Numbers
    rows: _Numbers

    def those(self, flags: _Flags) -> Known:
        """A part of them."""
        return self if flags.all() else Known(self.keys[flags], self.rows[flags])

    def with_keys(self, keys: _Numbers) -> Known:
        """Those that have one of these keys."""
        return self.those(_among(self.keys, keys))

    def and_others(self, others: Known) -> Known:
        """Both."""
        return Known(np.concatenate([self.keys, others.keys]), np.concatenate([self.rows, others.rows]))


_NOTHING_KNOWN = Known(np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint64))


def novel(
    data: pl.DataFrame,
    key: tuple[str, ...],
    known: Known | None,
    frontier_us: int | None,
    recorded: Callable[[int, int], pl.DataFrame],
) -> tuple[pl.DataFrame, Known]:
    """The rows of a sample that are not recorded yet, with `REV` 1 where a row replaces the one of its key.

    Shape: `key` begins with the time, which is never null; `known` has the recorded rows of every key of the sample
           before, and what is given back those of this one's; `frontier_us` is the latest instant recorded;
           `recorded` gives the newest rows between two instants, both included, as they were stored.
    """
    sample, have = _numbered(data, key), known or _NOTHING_KNOWN
    unseen = ~_among(sample.rows, have.rows)
    if not unseen.any():
        # What is equal in number has the same keys, too.
        same = len(have.rows) == data.height
        return _revised(data.clear(), None), have if same else have.with_keys(sample.keys)
    if frontier_us is not None:
        # Not in the sample before, yet not later than all that is recorded: late, or seen before that.
        times = micros(data.get_column(key[0]).cast(TIME_DTYPE))
        late = unseen & (times <= frontier_us) & ~_among(sample.keys, have.keys)
        if late.any():
            found = recorded(int(times[late].min()), int(times[late].max()))
            have = have.and_others(_numbered(found, key).with_keys(sample.keys[late]))
            unseen &= ~_among(sample.rows, have.rows)
    new = sample.those(unseen)
    corrects = _corrects(new.keys, sample, have)
    left = have.with_keys(sample.keys)
    if corrects is not None:
        left = left.those(~_among(left.keys, new.keys[corrects]))
    rows = data if unseen.all() else data[np.flatnonzero(unseen)]
    return _revised(rows, corrects), left.and_others(new)


def _corrects(keys: _Numbers, sample: Known, have: Known) -> _Flags | None:
    """Which of the new rows of these keys take the place of another; None where none does."""
    held = _alone(have.keys[_among(have.keys, keys)])
    alone = _alone(sample.keys[_among(sample.keys, held)]) if len(held) else held
    return _among(keys, alone) if len(alone) else None


def _alone(numbers: _Numbers) -> _Numbers:
    """Those that are there once."""
    found, counts = np.unique(numbers, return_counts=True)
    alone: _Numbers = found[counts == 1]
    return alone


def _among(numbers: _Numbers, others: _Numbers) -> _Flags:
    """Which of the numbers are some of the others."""
    if not len(others) or len(numbers) + len(others) <= _FEW:
        return np.isin(numbers, others)
    return pl.Series(numbers).is_in(pl.Series(others).implode()).to_numpy()


def _numbered(data: pl.DataFrame, key: tuple[str, ...]) -> Known:
    keys, rows = data.select(key).hash_rows(1), data.hash_rows(2)
    if rows.n_unique() < len(rows):
        nth = pl.int_range(pl.len(), dtype=pl.UInt32).over("row").alias("nth")
        several = pl.DataFrame({"row": rows}).with_columns(nth)
        again = pl.when(pl.col("nth") == 0).then(pl.col("row")).otherwise(several.hash_rows(3))
        rows = several.select(again).to_series()
    return Known(keys.to_numpy(), rows.to_numpy())


def _revised(data: pl.DataFrame, flags: _Flags | None) -> pl.DataFrame:
    numbers = np.zeros(data.height, dtype=np.int32) if flags is None else flags.astype(np.int32)
    return data.hstack([pl.Series(REV, numbers, MARKS[REV])])


def snapshot(data: pl.DataFrame) -> pl.DataFrame:
    """All rows of a sample without a time; of none, a mark that says so."""
    if data.height:
        return _revised(data, None)
    return data.clear(1).with_columns(pl.lit(NOTHING, pl.Int32).alias(REV))


def digest(data: pl.DataFrame) -> bytes:
    """Equal for samples that hold the same rows in the same order."""
    return hashlib.blake2b(data.hash_rows(4).to_numpy().tobytes(), digest_size=16).digest()
