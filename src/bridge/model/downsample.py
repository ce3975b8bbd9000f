"""Fewer points for a panel, by what the numbers are: a gauge keeps its shape, a counter its increases."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from tsdownsample import MinMaxLTTBDownsampler

from bridge.errors import BadQuery
from bridge.model.frame import TIME_DTYPE, Frame, micros
from bridge.model.query import Agg
from bridge.model.schema import Column, ColumnType, Kind
from bridge.model.span import Span, to_us

_Rows = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]
# Beyond this the areas of the triangles overflow; values are then scaled down before the comparison.
_LARGE = 1e100
# No published column can be named so, as names from outside are printable.
_BUCKET = "\x00bucket"
# First, last, smallest and largest value of a gauge.
_CORNERS = 4


@dataclass(frozen=True, slots=True)
class _Line:
    """One series as numpy: instants, values (NaN where there is none), and the row numbers of either."""

    us: _Rows
    y: _Floats
    values: _Rows
    gaps: _Rows


def downsample(frame: Frame, max_points: int, *, agg: Agg | None, span: Span | None) -> tuple[Frame, int]:
    """The series with at most `max_points` rows, and how many rows that took away.

    Shape:  a time column in ascending order without nulls and one number column; the frame itself when nothing
            must go, unless `agg` counts or adds up. Nulls and NaN are gaps: one null row stands for each run of
            them, the longest first when they do not all fit. Gauges keep first, last, smallest and largest value,
            counters the points around resets. An explicit `agg` joins the values of buckets of equal width over
            `span`, or over the data without it.
    Errors: BadQuery for less than one point; ValueError for a frame of another shape.
    Source: MinMaxLTTB, arXiv:2305.00332.
    """
    if max_points < 1:
        raise BadQuery(f"{max_points} points cannot be drawn", remedy="ask for at least 1 point")
    time, measure = _columns(frame)
    fits = frame.rows <= max_points and not (agg and agg.adds_up)
    if fits or agg is Agg.NONE or not frame.rows:
        return frame, 0
    data = frame.data
    if data.schema[measure.name].is_float() and np.isnan(data.get_column(measure.name).to_numpy()).any():
        data = data.with_columns(pl.col(measure.name).fill_nan(None))
    if agg is not None:
        thin, measure = _joined(data, time.name, measure, agg, max_points, span)
    else:
        line = _line(data.get_column(time.name), data.get_column(measure.name))
        if measure.kind is Kind.COUNTER:
            rows = _counter(line, max_points, span)
        else:
            rows = _gauge(line, data.get_column(measure.name), max_points)
        thin = data[rows]
    columns = tuple(measure if column.name == measure.name else column for column in frame.schema.columns)
    out = replace(frame, data=thin.select(frame.schema.names), schema=replace(frame.schema, columns=columns))
    return out, frame.rows - out.rows


def _columns(frame: Frame) -> tuple[Column, Column]:
    times = [column for column in frame.schema.columns if column.type is ColumnType.TIME]
    numbers = [column for column in frame.schema.columns if column.type is ColumnType.NUMBER]
    if len(times) != 1 or len(numbers) != 1 or len(frame.schema.columns) != 2:
        raise ValueError(f"one time and one number column make a series, not {', '.join(frame.schema.names)}")
    return times[0], numbers[0]


def _line(time: pl.Series, measure: pl.Series) -> _Line:
    us, y = micros(time), measure.cast(pl.Float64).to_numpy()
    if not measure.null_count():
        return _Line(us, y, np.arange(len(us)), np.empty(0, dtype=np.int64))
    known = measure.is_not_null().to_numpy()
    return _Line(us, y, np.flatnonzero(known), _runs(us, ~known))


def _runs(us: _Rows, gone: npt.NDArray[np.bool_]) -> _Rows:
    """First row of every run of missing values, the longest in time first."""
    edges = np.diff(np.concatenate(([False], gone, [False])).astype(np.int8))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    before, after = np.maximum(starts - 1, 0), np.minimum(ends, len(us) - 1)
    return starts[np.argsort(us[before] - us[after], kind="stable")]


def _gauge(line: _Line, measure: pl.Series, max_points: int) -> _Rows:
    if not len(line.values):
        return line.gaps[:1]
    extremes = [row for row in (measure.arg_max(), measure.arg_min()) if row is not None]
    corners = list(dict.fromkeys([int(line.values[-1]), int(line.values[0]), *extremes]))[:max_points]
    # Each gap parts one stretch in two, and each stretch gets a point at least.
    gaps = line.gaps[: max(0, (max_points - _CORNERS - 1) // 2)]
    stretches = [part for part in np.split(line.values, np.searchsorted(line.values, np.sort(gaps))) if len(part)]
    spare = max_points - len(corners) - len(gaps)
    picked = [_shape_of(line, part, share) for part, share in _shares(stretches, spare)]
    return np.unique(np.concatenate([np.array(corners, dtype=np.int64), gaps, *picked]))


def _shares(stretches: list[_Rows], points: int) -> list[tuple[_Rows, int]]:
    """The points for each stretch, one and more by its length."""
    extra = points - len(stretches)
    total = sum(map(len, stretches))
    return [(part, 1 + extra * len(part) // total) for part in stretches]


def _shape_of(line: _Line, rows: _Rows, points: int) -> _Rows:
    if len(rows) <= points:
        return rows
    # Rows in one piece are looked at where they are, not copied.
    whole = rows[-1] - rows[0] == len(rows) - 1
    at: slice | _Rows = slice(rows[0], rows[-1] + 1) if whole else rows
    y = _comparable(line.y[at])
    if points < 3:
        return rows[[int(np.argmax(y)), int(np.argmin(y))][:points]]
    chosen = MinMaxLTTBDownsampler().downsample(line.us[at], y, n_out=points)  # type: ignore[no-untyped-call]
    return rows[np.asarray(chosen, dtype=np.int64)]


def _comparable(y: _Floats) -> _Floats:
    """The values in a range whose areas can be computed; an infinity counts as the largest and hides nothing."""
    if max(-float(y.min()), float(y.max())) <= _LARGE:
        return y
    finite = np.abs(y[np.isfinite(y)])
    top = float(finite.max()) if len(finite) else 0.0
    if top > _LARGE:
        y, top = y / top, 1.0
    edge = top or 1.0
    return np.nan_to_num(y, posinf=edge, neginf=-edge)


def _counter(line: _Line, max_points: int, span: Span | None) -> _Rows:
    if not len(line.values):
        return line.gaps[:1]
    y = line.y[line.values]
    drops = np.flatnonzero(np.diff(y) < 0)
    # A reset left out hides the increase before it, so the largest drops come first.
    drops = drops[np.argsort(y[drops + 1] - y[drops], kind="stable")]
    resets = line.values[np.column_stack((drops, drops + 1)).ravel()]
    must = list(dict.fromkeys([int(line.values[-1]), int(line.values[0]), *resets.tolist()]))[:max_points]
    gaps = line.gaps[: max(0, (max_points - len(must)) // 2)]
    rows = [np.array(must, dtype=np.int64), gaps]
    if buckets := max_points - len(must) - len(gaps):
        number = _bucket(line.us[line.values], buckets, span)
        rows.append(line.values[np.flatnonzero(np.diff(number, append=-1))])
    return np.unique(np.concatenate(rows))


def _bucket(us: _Rows, buckets: int, span: Span | None) -> _Rows:
    start, width = _grid(us, buckets, span)
    return (us - start) // width


def _grid(us: _Rows, buckets: int, span: Span | None) -> tuple[int, int]:
    """Start and width in microseconds of at most so many equal buckets over the span and all of the data."""
    first, last = int(us[0]), int(us[-1])
    # The last point stands for as long as the others do on average, so that even steps make even buckets.
    start, end = first, last + max(1, (last - first) // max(1, len(us) - 1))
    if span is not None:
        start = min(start, to_us(span.start))
        end = to_us(span.end) if last < to_us(span.end) else end
    width = -((start - end) // buckets)
    # Whole milliseconds where that costs nothing, as no panel shows finer ones.
    return start, width if width < 1_000 else -(-width // 1_000) * 1_000


def _joined(
    data: pl.DataFrame, time: str, measure: Column, agg: Agg, buckets: int, span: Span | None
) -> tuple[pl.DataFrame, Column]:
    start, width = _grid(micros(data.get_column(time)), buckets, span)
    col, when = pl.col(measure.name), pl.col(time)
    # Ascending as the times are: Polars then groups by runs instead of hashing every row.
    data = data.with_columns(((when.to_physical() - start) // width).set_sorted().alias(_BUCKET))
    begin = (pl.col(_BUCKET).first() * width + start).cast(data.schema[time])
    if agg is Agg.LAST:
        # The instant at which the value was true; where a bucket has none, that of its last row.
        begin = pl.coalesce(when.filter(col.is_not_null()).last(), when.last())
    joined = pl.when(col.is_not_null().any()).then(_join(col, data.get_column(measure.name), agg))
    thin = data.group_by(_BUCKET, maintain_order=True).agg(begin.alias("time"), joined.alias("value"))
    unit = None if agg is Agg.COUNT else measure.unit
    return thin.select(pl.col("time").alias(time), pl.col("value").alias(measure.name)), replace(measure, unit=unit)


def joined(us: _Rows, y: _Floats, agg: Agg, buckets: int, span: Span | None, names: tuple[str, str]) -> pl.DataFrame:
    """Mean, smallest or largest value of each bucket of a series without gaps; as `downsample`, without Polars.

    Shape: rows are those of the buckets that hold any; `us` is ascending.
    """
    start, width = _grid(us, buckets, span)
    first_bucket, last_bucket = (int(us[0]) - start) // width, (int(us[-1]) - start) // width
    begins = start + width * np.arange(first_bucket, last_bucket + 1)
    edges = np.searchsorted(us, begins)
    ends = np.append(edges[1:], len(us))
    full = ends > edges
    edges, ends, begins = edges[full], ends[full], begins[full]
    match agg:
        case Agg.MEAN:
            values = np.add.reduceat(y, edges) / (ends - edges)
        case Agg.MIN:
            values = np.minimum.reduceat(y, edges)
        case _:
            values = np.maximum.reduceat(y, edges)
    return pl.DataFrame([pl.Series(names[0], begins).cast(TIME_DTYPE), pl.Series(names[1], values)])


def _join(col: pl.Expr, measure: pl.Series, agg: Agg) -> pl.Expr:
    match agg:
        case Agg.MEAN:
            return col.mean()
        case Agg.MIN:
            return col.min()
        case Agg.MAX:
            return col.max()
        case Agg.SUM:
            return _sum(col, measure)
        case Agg.COUNT:
            return col.count().cast(pl.Int64)
        case _:
            return col.drop_nulls().last()


def _sum(col: pl.Expr, measure: pl.Series) -> pl.Expr:
    """A sum of integers that could leave 64 bits is made of floats, as it would wrap around silently."""
    ends: list[Any] = [measure.min() or 0, measure.max() or 0]
    if measure.dtype.is_integer() and max(map(abs, ends)) * len(measure) >= 2**63:
        return col.cast(pl.Float64).sum()
    return col.sum()
