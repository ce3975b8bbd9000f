"""What of a sample is new: rows that are recorded already are told from new ones and from corrected ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from bridge.model.frame import TIME_DTYPE
from bridge.sources.history.stored import REV

_KEY, _ROW, _NTH, _AT = "\x00key", "\x00row", "\x00nth", "\x00at"
_MARKS = [_KEY, _ROW, _NTH]


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """The rows of the sample before: a number for each key, for each whole row, and which of equal rows it is."""

    marks: pl.DataFrame
    data: pl.DataFrame


def novel(
    data: pl.DataFrame,
    key: tuple[str, ...],
    known: Known | None,
    frontier_us: int | None,
    recorded: Callable[[int, int], pl.DataFrame],
) -> tuple[pl.DataFrame, Known]:
    """The rows of a sample that are not recorded yet, with `REV` 1 where a row replaces the one of its key.

    Shape:  `key` begins with the time; `frontier_us` is the latest instant recorded; `recorded` gives the newest
            rows between two instants, both included, as they were stored. A key that stands for several rows, as
            that of log lines does, has nothing to replace: each different row of it is kept.
    """
    if known is not None and data is known.data:
        return data.clear().with_columns(pl.lit(0, pl.Int32).alias(REV)), known
    marks = _marks(data, key)
    have = known.marks if known is not None else marks.clear()
    unseen = _unseen(marks, have)
    doubtful = unseen.join(have, on=_KEY, how="anti")
    if frontier_us is not None:
        # Not in the sample before, yet not later than all that is recorded: late, or seen before that.
        doubtful = doubtful.filter(pl.col(_AT) <= frontier_us)
        if doubtful.height:
            low, high = doubtful.select(pl.col(_AT).min(), pl.col(_AT).max().alias("high")).row(0)
            have = pl.concat([have, _marks(recorded(low, high), key).select(have.columns)])
            unseen = _unseen(marks, have)
    new = data[unseen["row"]]
    single = marks.filter(pl.col(_KEY).is_unique())[_KEY].implode()
    # The sample before and the store may both hold a row: counted once.
    held = have.unique(_MARKS).filter(pl.col(_KEY).is_unique())[_KEY].implode()
    corrects = unseen.select(pl.col(_KEY).is_in(single) & pl.col(_KEY).is_in(held)).to_series()
    return new.with_columns(corrects.cast(pl.Int32).alias(REV)), Known(marks.drop("row"), data)


def _unseen(marks: pl.DataFrame, have: pl.DataFrame) -> pl.DataFrame:
    return marks.join(have, on=_MARKS, how="anti", maintain_order="left") if have.height else marks


def _marks(data: pl.DataFrame, key: tuple[str, ...]) -> pl.DataFrame:
    time = data.get_column(key[0]).cast(TIME_DTYPE).to_physical()
    marks = pl.DataFrame({_KEY: data.select(key).hash_rows(1), _ROW: data.hash_rows(2), _AT: time}).with_row_index(
        "row"
    )
    if marks[_KEY].n_unique() == marks.height:
        return marks.with_columns(pl.lit(0, pl.UInt32).alias(_NTH))
    return marks.with_columns(pl.int_range(pl.len(), dtype=pl.UInt32).over(_KEY, _ROW).alias(_NTH))
