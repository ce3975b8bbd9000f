"""Rows of one key told from each other: corrected ones from those they correct, live ones from recorded ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from bridge.model.frame import micros
from bridge.sources.history.stored import REV, SEQ, STORED, normal

_PLACE, _LAST, _NTH = "\x00place", "\x00last", "\x00nth"


def ordered(data: pl.DataFrame, axis: str) -> pl.DataFrame:
    """Rows by time, those of one instant as they were recorded: the same whatever files they stand in."""
    time = data.get_column(axis)
    if not time.null_count():
        us, seq = micros(time), data.get_column(SEQ).to_numpy()
        if bool(((us[1:] > us[:-1]) | ((us[1:] == us[:-1]) & (seq[1:] >= seq[:-1]))).all()):
            return data
    return data.sort(axis, SEQ, maintain_order=True)


def corrected(rows: pl.DataFrame, later: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """The rows without those that a later one of their key took the place of, which stands where they stood.

    Shape: both have their marks; `later` holds all the rows that take another's place; `key` begins with the time.
    """
    if not later.height:
        return rows
    last = _last(later, key)
    base = rows.filter(pl.col(REV) <= 0).with_row_index(_PLACE)
    met = base.select(*key, SEQ, _PLACE).join(
        last.select(*key, pl.col(SEQ).alias(_LAST)), on=[*key], how="inner", nulls_equal=True
    )
    met = met.filter(pl.col(SEQ) < pl.col(_LAST))
    places = met.group_by(*key).agg(pl.col(_PLACE).min())
    placed = last.join(places, on=[*key], how="left", nulls_equal=True).select(base.columns)
    kept = base.filter(~pl.col(_PLACE).is_in(met.get_column(_PLACE).implode()))
    return pl.concat([kept, placed]).sort(key[0], _PLACE, nulls_last=True, maintain_order=True).drop(_PLACE)


def corrected_lazy(rows: pl.LazyFrame, later: pl.DataFrame, key: Sequence[str]) -> pl.LazyFrame:
    """The same in no order, of rows that are not read yet."""
    last = _last(later, key)
    marked = last.lazy().select(*key, pl.col(SEQ).alias(_LAST))
    kept = rows.filter(pl.col(REV) <= 0).join(marked, on=[*key], how="left", nulls_equal=True)
    kept = kept.filter(pl.col(_LAST).is_null() | (pl.col(SEQ) > pl.col(_LAST))).drop(_LAST)
    return pl.concat([kept, last.lazy()])


def _last(later: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    return later.sort(SEQ).unique([*key], keep="last", maintain_order=True)


def repeats(data: pl.DataFrame, key: Sequence[str], axis: str) -> bool:
    """Whether several rows have one key, as log lines do."""
    time = data.get_column(axis)
    us = micros(time) if not time.null_count() else np.empty(0, dtype=np.int64)
    if len(us) and bool((us[1:] > us[:-1]).all()):
        return False
    return data.select([name for name in key if name in data.columns]).n_unique() < data.height


def merged(
    past: pl.DataFrame, live: pl.DataFrame, key: Sequence[str], axis: str, new: Sequence[str] = ()
) -> tuple[pl.DataFrame, int]:
    """Live rows, and before and between them the recorded ones that they are not; and how many those are.

    Shape: the columns of the past, and of the live rows those of `new` as well.
    """
    live = live.select([name for name in (*past.columns, *new) if name in live.columns])
    start = live.get_column(axis).min()
    if start is None or not past.height:
        return pl.concat([past, live], how="diagonal_relaxed"), past.height
    early, late = past.filter(pl.col(axis) < start), past.filter(pl.col(axis) >= start)
    if late.height:
        own = live.select(_shared(past.columns, live)).cast({name: past.schema[name] for name in _shared(key, live)})
        keys = own.select(key).unique()
        same = late.join(keys, on=[*key], how="semi", nulls_equal=True, maintain_order="left")
        rest = late.join(keys, on=[*key], how="anti", nulls_equal=True, maintain_order="left")
        late = pl.concat([rest, _outlasting(same, own, key)])
    return pl.concat([early, late, live], how="diagonal_relaxed"), early.height + late.height


def merged_lazy(
    past: pl.LazyFrame, live: pl.DataFrame, kinds: Mapping[str, str], key: Sequence[str], axis: str
) -> pl.LazyFrame:
    """The same in no order, with the columns of `kinds`, of recorded rows that are not read yet."""
    missing = [pl.lit(None, STORED[kind]).alias(name) for name, kind in kinds.items() if name not in live.columns]
    own = normal(live.with_columns(missing), kinds)
    keys = own.select(key).unique()
    low, high = own.get_column(axis).min(), own.get_column(axis).max()
    if low is None:
        return pl.concat([past, own.lazy()])
    near = past.filter(pl.col(axis).is_between(low, high))
    same = near.join(keys.lazy(), on=[*key], how="semi", nulls_equal=True).collect()
    rest = past.join(keys.lazy(), on=[*key], how="anti", nulls_equal=True)
    return pl.concat([rest, _outlasting(same, own, key).lazy(), own.lazy()])


def _shared(names: Sequence[str], live: pl.DataFrame) -> list[str]:
    return [name for name in names if name in live.columns]


def _outlasting(same: pl.DataFrame, live: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Of recorded rows whose keys live rows have, those that stand beside them.

    A key that has one row on either side is that of one row, which the live one is the newest of. Where it has
    several, as log lines do, a recorded row is a live one only as a whole.
    """
    counts, ours = same.group_by(key).len(), live.group_by(key).len()
    single = (counts.filter(pl.col("len") == 1), ours.filter(pl.col("len") == 1))
    if single[0].height == same.height and single[1].height == live.height:
        return same.clear()
    both = single[0].join(single[1], on=[*key], how="semi", nulls_equal=True)
    several = same.join(both, on=[*key], how="anti", nulls_equal=True, maintain_order="left")
    on = [name for name in same.columns if name in live.columns]
    told = live.select(on).cast({name: same.schema[name] for name in on})
    nth = pl.int_range(pl.len()).over(on).alias(_NTH)
    return (
        several.with_columns(nth)
        .join(told.with_columns(nth), on=[*on, _NTH], how="anti", nulls_equal=True, maintain_order="left")
        .drop(_NTH)
    )
