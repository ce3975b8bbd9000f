"""A panel's buckets over rows that are not read yet; they are those that all rows at once would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from bridge.model.frame import TIME_DTYPE, Frame
from bridge.model.query import Agg, Query
from bridge.model.schema import Column, Schema
from bridge.model.span import Span, to_us

_BUCKET, _ROWS, _ALL = "\x00bucket", "\x00rows", "\x00all"
_LOW, _HIGH, _WHEN = "\x00low", "\x00high", "\x00when"


def can_join(by: Sequence[str], measures: Sequence[str], axis: str, names: Sequence[str], query: Query) -> bool:
    """Whether the buckets can be told before the rows are read: their grid is that of the span."""
    known, taken = set(names), {axis, *measures}
    return query.span is not None and {*by, *measures} <= known and taken.isdisjoint(by)


def bucketed(
    rows: pl.LazyFrame, time: Column, by: Sequence[Column], measures: Sequence[Column], query: Query
) -> tuple[Frame, Query, int] | None:
    """One row for each series and bucket, what is left to be asked of them, and how many rows less that is.

    Shape: of series that fit a panel the rows as they are; None where that is true of all.
    """
    assert query.span is not None and query.agg is not None and query.max_points is not None  # noqa: S101, PT018
    names, agg = [column.name for column in by], query.agg
    start, width = _grid(query.span, query.max_points)
    bucket = ((pl.col(time.name).to_physical() - start) // width).alias(_BUCKET)
    found = rows.select(time.name, *names, *(_known(rows, measure) for measure in measures))
    values = [expr for measure in measures for expr in _values(measure.name, agg, time.name)]
    made = found.group_by(*names, bucket).agg(pl.len().alias(_ROWS), *values).collect(engine="streaming")
    total = pl.col(_ROWS).sum()
    made = made.with_columns((total.over(names) if names else total).alias(_ALL))
    fits = pl.lit(value=False) if agg.adds_up else pl.col(_ALL) <= query.max_points
    few, many = made.filter(fits), made.filter(~fits)
    if not many.height and few.height:
        return None
    lost = int(many.get_column(_ROWS).sum()) - many.height
    begin = (pl.col(_BUCKET) * width + start).cast(TIME_DTYPE)
    if agg is Agg.LAST:
        begin = pl.max_horizontal(*(pl.col(_WHEN + measure.name) for measure in measures))
    data = many.select(begin.alias(time.name), *names, *(_summed(many, m.name, agg, names) for m in measures))
    if few.height:
        raw = found.join(few.select(names).unique().lazy(), on=names, how="semi", nulls_equal=True).collect()
        data = pl.concat([data, raw.select(data.columns)], how="vertical_relaxed")
    columns = (time, *by, *(replace(m, unit=None) if agg is Agg.COUNT else m for m in measures))
    data = data.sort(time.name, *names, nulls_last=True).with_columns(pl.col(time.name).set_sorted())
    # Each bucket has one row now, and how many it stands for is to be added up, not counted again.
    left = replace(query, filters=(), agg=Agg.SUM if agg is Agg.COUNT else agg)
    return Frame(data, Schema(columns)), left, lost


def _known(rows: pl.LazyFrame, measure: Column) -> pl.Expr:
    value = pl.col(measure.name)
    # A NaN is a gap, as it is wherever points are joined.
    return value.fill_nan(None) if rows.collect_schema()[measure.name].is_float() else value


def _grid(span: Span, buckets: int) -> tuple[int, int]:
    """Start and width of the buckets as a panel's own have them."""
    start, end = to_us(span.start), to_us(span.end)
    width = -((start - end) // buckets)
    return start, width if width < 1_000 else -(-width // 1_000) * 1_000


def _values(name: str, agg: Agg, axis: str) -> list[pl.Expr]:
    """What is worked out of one measure in each bucket; the groups come in no order."""
    col, when = pl.col(name), pl.col(axis)
    some = col.count() > 0
    match agg:
        case Agg.MEAN:
            return [col.mean().alias(name)]
        case Agg.MIN:
            return [col.min().alias(name)]
        case Agg.MAX:
            return [col.max().alias(name)]
        case Agg.SUM:
            summed = [pl.when(some).then(col.sum()).alias(name), col.cast(pl.Float64).sum().alias(f"{name}{_ALL}")]
            return [*summed, col.min().alias(_LOW + name), col.max().alias(_HIGH + name)]
        case Agg.COUNT:
            return [pl.when(some).then(col.count().cast(pl.Int64)).alias(name)]
        case _:
            there = pl.when(col.is_not_null()).then(when)
            return [col.max_by(there).alias(name), pl.coalesce(there.max(), when.max()).alias(_WHEN + name)]


def _summed(made: pl.DataFrame, name: str, agg: Agg, by: Sequence[str]) -> pl.Expr:
    """The column; a sum of integers that could leave 64 bits is made of floats, as it would wrap around silently."""
    if agg is not Agg.SUM or not made.schema[name].is_integer():
        return pl.col(name)
    low, high = pl.col(_LOW + name).min().abs(), pl.col(_HIGH + name).max().abs()
    ends = pl.max_horizontal(low, high).cast(pl.Float64) * pl.col(_ALL)
    if not made.select((ends >= 2.0**63).any()).item():
        return pl.col(name)
    return pl.when(pl.col(name).is_not_null()).then(pl.col(f"{name}{_ALL}")).alias(name)
