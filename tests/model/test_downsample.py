from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import BadQuery
from bridge.model.downsample import downsample
from bridge.model.frame import Frame, Notice
from bridge.model.query import Agg
from bridge.model.schema import Column, ColumnType, Kind, Role, Schema, Shape
from bridge.model.span import Span

T0 = datetime(2026, 1, 31, 12, tzinfo=UTC)
T0_US = 1_769_860_800_000_000
Values = list[float | None]
VALUES = st.lists(st.one_of(st.none(), st.floats()), max_size=60)
POINTS = st.integers(1, 40)
AGGS = [Agg.MEAN, Agg.MIN, Agg.MAX, Agg.SUM, Agg.LAST, Agg.COUNT]


def series(values: list[Any], *, kind: Kind = Kind.GAUGE, us: list[int] | None = None, dtype: Any = None) -> Frame:
    """One value per second from T0, or at the given microseconds after it."""
    at = us if us is not None else [1_000_000 * index for index in range(len(values))]
    data = pl.DataFrame(
        {
            "time": pl.Series([T0_US + offset for offset in at], dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
            "v": pl.Series(values, dtype=dtype or pl.Float64, strict=False),
        }
    )
    columns = (
        Column("time", ColumnType.TIME, role=Role.TIME),
        Column("v", ColumnType.NUMBER, unit="s", role=Role.MEASURE, kind=kind),
    )
    return Frame(data, Schema(columns), name="a.b", labels={"m": "x"}, shape=Shape.TIMESERIES).note(
        Notice("info", "n")
    )


def points(frame: Frame) -> list[tuple[float, Any]]:
    """Seconds after T0, and the value."""
    return [((time - T0).total_seconds(), value) for time, value in frame.data.rows()]


def thin(frame: Frame, max_points: int, agg: Agg | None = None, span: Span | None = None) -> list[tuple[float, Any]]:
    out, dropped = downsample(frame, max_points, agg=agg, span=span)
    assert dropped == frame.rows - out.rows
    assert out.rows <= max_points
    assert out.schema.names == frame.schema.names == tuple(out.data.columns)
    return points(out)


def known(rows: list[tuple[float, Any]]) -> list[Any]:
    return [value for _, value in rows if value is not None]


def is_gap(value: float | None) -> bool:
    return value is None or math.isnan(value)


@st.composite
def lines(draw: st.DrawFn, values: st.SearchStrategy[Any] = VALUES) -> tuple[list[Any], list[int]]:
    """Values at ascending instants, which may repeat or lie years apart."""
    drawn = draw(values)
    steps = st.sampled_from([0, 1, 1_000, 1_000_000, 10**13])
    at, total = [], 0
    for step in draw(st.lists(steps, min_size=len(drawn), max_size=len(drawn))):
        total += step
        at.append(total)
    return drawn, at


@pytest.mark.parametrize(("agg", "values"), [(Agg.COUNT, [1, 1, 1]), (Agg.SUM, [5.0, 7.0, 9.0])])
def test_counts_and_sums_are_made_of_a_series_that_fits_too(agg: Agg, values: list[float]) -> None:
    """Beside a longer series, raw values would be mixed with counts."""
    out, dropped = downsample(series([5.0, 7.0, 9.0]), 3, agg=agg, span=None)
    assert out.data.get_columns()[1].to_list() == values
    assert dropped == 0
    empty = series([])
    assert downsample(empty, 3, agg=agg, span=None) == (empty, 0)


@pytest.mark.parametrize("agg", [None, *(agg for agg in AGGS if not agg.adds_up), Agg.NONE])
def test_a_series_that_fits_is_handed_back_as_it_is(agg: Agg | None) -> None:
    frame = series([1, None, float("nan")])
    for max_points in (3, 10**9):
        assert downsample(frame, max_points, agg=agg, span=None) == (frame, 0)


def test_full_resolution_can_be_asked_for() -> None:
    frame = series(list(range(100)))
    out, dropped = downsample(frame, 10, agg=Agg.NONE, span=None)
    assert out is frame
    assert dropped == 0


def test_name_labels_and_notices_stay_with_the_series() -> None:
    frame = series(list(range(100)))
    out, dropped = downsample(frame, 10, agg=None, span=None)
    assert (out.name, out.labels, out.meta, out.shape) == (frame.name, frame.labels, frame.meta, frame.shape)
    assert dropped == 100 - out.rows > 0


@pytest.mark.parametrize("max_points", [0, -1])
def test_no_points_at_all_cannot_be_asked_for(max_points: int) -> None:
    with pytest.raises(BadQuery, match="points cannot be drawn"):
        downsample(series([1, 2]), max_points, agg=None, span=None)


@pytest.mark.parametrize("names", [("time",), ("v",), ("time", "v", "w"), ("time", "v", "s")])
def test_only_one_series_at_a_time_is_thinned(names: tuple[str, ...]) -> None:
    frame = series([1, 2, 3])
    data = frame.data.with_columns(w=pl.lit(1.0), s=pl.lit("x"))
    columns = (*frame.schema.columns, Column("w", ColumnType.NUMBER), Column("s", ColumnType.STRING))
    with pytest.raises(ValueError, match="make a series"):
        downsample(Frame(data, Schema(columns)).select(names), 2, agg=None, span=None)


def test_a_gauge_keeps_a_single_spike_among_many_points() -> None:
    values: Values = [math.sin(index / 50) for index in range(10_000)]
    values[4_321], values[8_765] = 99.0, -99.0
    rows = thin(series(values), 50)
    assert {(4_321.0, 99.0), (8_765.0, -99.0), (0.0, values[0]), (9_999.0, values[-1])} <= set(rows)


SPIKES = [107, 215, 333, 478, 512, 689, 745, 801, 877]


@pytest.mark.parametrize("size", [1.0, 1e200, 1e-200, 1.7e308])
@pytest.mark.parametrize("infinite", [False, True])
def test_the_shape_of_a_gauge_is_kept_at_any_size_and_beside_infinities(size: float, infinite: bool) -> None:
    values: Values = [0.0] * 1_000
    for spike in SPIKES:
        values[spike] = size * (0.5 if spike % 2 else -0.5)
    if infinite:
        values[900], values[50] = math.inf, -math.inf
    times = {time for time, _ in thin(series(values), 50)}
    assert times >= {float(spike) for spike in SPIKES}


@pytest.mark.parametrize(
    ("max_points", "wanted"),
    [(1, [(9.0, 4.0)]), (2, [(0.0, 3.0), (9.0, 4.0)]), (3, [(0.0, 3.0), (2.0, 9.0), (9.0, 4.0)])],
)
def test_even_very_few_points_are_points_of_the_gauge(max_points: int, wanted: list[tuple[float, float]]) -> None:
    assert thin(series([3, 5, 9, 5, 5, -7, 5, 5, 5, 4]), max_points) == wanted


@given(lines(), POINTS)
def test_a_thinned_gauge_is_ordered_points_of_the_gauge_with_its_extremes(
    line: tuple[Values, list[int]], max_points: int
) -> None:
    values, at = line
    frame = series(values, us=at)
    rows = thin(frame, max_points)
    if frame.rows <= max_points:
        return
    assert [time for time, _ in rows] == sorted(time for time, _ in rows)
    given_rows = [(time, None if is_gap(value) else value) for time, value in points(frame)]
    assert all(row in given_rows for row in rows)
    numbers = known(given_rows)
    if numbers:
        assert known(rows)[-1] == numbers[-1]
    if numbers and max_points >= 4:
        assert known(rows)[0] == numbers[0]
        assert (min(known(rows)), max(known(rows))) == (min(numbers), max(numbers))


@given(st.lists(st.floats(allow_nan=False), min_size=30, max_size=200), st.integers(8, 29), st.integers(0, 300))
def test_a_gauge_of_any_magnitude_uses_most_of_its_points(values: list[float], max_points: int, shift: int) -> None:
    scaled = [math.ldexp(value, -shift) if math.isfinite(value) else value for value in values]
    assert len(thin(series(scaled), max_points)) >= max_points // 2


@pytest.mark.parametrize("kind", Kind)
def test_each_gap_stays_as_one_null_in_its_place(kind: Kind) -> None:
    values: list[Any] = list(range(300))
    values[0:10] = [None] * 10
    values[100:110] = [None] * 10
    values[150] = float("nan")
    values[290:300] = [float("nan")] * 10
    rows = thin(series(values, kind=kind), 60)
    gaps = [index for index, (_, value) in enumerate(rows) if value is None]
    assert [rows[index][0] for index in gaps] == [0.0, 100.0, 150.0, 290.0]
    before_and_after = [(rows[index - 1][0], rows[index + 1][0]) for index in gaps[1:3]]
    assert all(
        before < rows[gap][0] < after for (before, after), gap in zip(before_and_after, gaps[1:3], strict=True)
    )


def test_the_edges_of_a_gap_in_a_gauge_are_where_they_were() -> None:
    values: list[Any] = [1.0] * 1_000
    values[400:500] = [None] * 100
    rows = thin(series(values), 40)
    gap = rows.index((400.0, None))
    assert (rows[gap - 1][0], rows[gap + 1][0]) == (399.0, 500.0)


@pytest.mark.parametrize("kind", Kind)
def test_when_not_every_gap_fits_the_longest_ones_stay(kind: Kind) -> None:
    values: list[Any] = [None if index % 2 else 1.0 for index in range(1_000)]
    values[300:320] = [None] * 20
    rows = thin(series(values, kind=kind), 11)
    assert (299.0, None) in rows
    assert known(rows)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("max_points", [1, 2, 5])
def test_a_series_without_any_value_is_one_null(kind: Kind, max_points: int) -> None:
    assert thin(series([None] * 9, kind=kind), max_points) == [(0.0, None)]


@pytest.mark.parametrize("dtype", [pl.Int8, pl.UInt64, pl.Int64, pl.Float32, pl.Decimal(20, 0)], ids=str)
@pytest.mark.parametrize("kind", Kind)
def test_thinned_numbers_keep_their_type(dtype: pl.DataType, kind: Kind) -> None:
    out, _ = downsample(series([*range(50), None, 3], kind=kind, dtype=dtype), 10, agg=None, span=None)
    assert out.data.schema["v"] == dtype


def test_the_extremes_of_integers_too_large_for_floats_are_told_apart() -> None:
    values = [2**60, 2**60 + 1, 2**60 + 2, 2**60 + 1] * 10
    rows = thin(series(values, dtype=pl.Int64), 4)
    assert {min(known(rows)), max(known(rows))} == {2**60, 2**60 + 2}


def increase(values: list[Any]) -> float:
    """What `increase()` would sum up: a fall is a restart from zero."""
    return sum(after - before if after >= before else after for before, after in pairwise(values))


def test_a_counter_keeps_its_last_value_per_bucket() -> None:
    rows = thin(series(list(range(100)), kind=Kind.COUNTER), 12)
    assert rows == [(0.0, 0.0), *[(float(at), float(at)) for at in (9, 19, 29, 39, 49, 59, 69, 79, 89, 99)]]


def test_buckets_of_a_counter_lie_over_the_span_that_was_asked_for() -> None:
    span = Span(T0 - timedelta(seconds=100), T0 + timedelta(seconds=100))
    rows = thin(series(list(range(100)), kind=Kind.COUNTER), 6, span=span)
    assert [time for time, _ in rows] == [0.0, 49.0, 99.0]


@given(lines(st.lists(st.one_of(st.none(), st.integers(0, 1000)), max_size=60)), POINTS)
def test_a_thinned_counter_never_gains_and_loses_nothing_where_its_resets_fit(
    line: tuple[list[Any], list[int]], max_points: int
) -> None:
    values, at = line
    frame = series(values, us=at, kind=Kind.COUNTER, dtype=pl.Int64)
    rows = thin(frame, max_points)
    assert [time for time, _ in rows] == sorted(time for time, _ in rows)
    assert all(row in points(frame) for row in rows)
    before, after = known(points(frame)), known(rows)
    assert increase(after) <= increase(before)
    resets = sum(later < earlier for earlier, later in pairwise(before))
    if max_points >= 2 + 2 * resets:
        assert increase(after) == increase(before)
        assert after[-1:] == before[-1:]


def test_of_too_many_resets_the_largest_falls_stay() -> None:
    values = [index % 2 for index in range(100)]
    values[50:52] = [1_000, 0]
    rows = thin(series(values, kind=Kind.COUNTER), 5)
    assert {(50.0, 1_000.0), (51.0, 0.0)} <= set(rows)


@pytest.mark.parametrize(
    ("agg", "wanted"),
    [
        (Agg.MEAN, [(0.0, 2.0), (3.0, 11.0)]),
        (Agg.MIN, [(0.0, 1.0), (3.0, 10.0)]),
        (Agg.MAX, [(0.0, 3.0), (3.0, 12.0)]),
        (Agg.SUM, [(0.0, 6.0), (3.0, 22.0)]),
        (Agg.COUNT, [(0.0, 3), (3.0, 2)]),
        (Agg.LAST, [(2.0, 3.0), (4.0, 12.0)]),
    ],
)
def test_points_are_joined_as_asked_at_the_start_of_their_bucket_or_the_last_instant(
    agg: Agg, wanted: list[tuple[float, float]]
) -> None:
    values = [1, 2, 3, 10, 12, None]
    assert thin(series(values), 2, agg) == wanted
    assert thin(series([1, 2, 3, 10, 12, float("nan")]), 2, agg) == wanted


@pytest.mark.parametrize("agg", AGGS)
def test_a_bucket_without_values_is_null_and_one_without_rows_is_absent(agg: Agg) -> None:
    us = [second * 1_000_000 for second in (0, 1, 10, 11, 30, 31)]
    rows = thin(series([1, 2, None, None, 3, 4], us=us), 4, agg, Span(T0, T0 + timedelta(seconds=40)))
    at = [1.0, 11.0, 31.0] if agg is Agg.LAST else [0.0, 10.0, 30.0]
    assert [time for time, _ in rows] == at
    assert [value is None for _, value in rows] == [False, True, False]


def test_rows_outside_the_span_are_joined_apart_and_not_into_its_edges() -> None:
    span = Span(T0 + timedelta(seconds=4), T0 + timedelta(seconds=6))
    assert thin(series([1] * 10), 5, Agg.SUM, span) == [(0.0, 2), (2.0, 2), (4.0, 2), (6.0, 2), (8.0, 2)]


def test_buckets_begin_on_whole_milliseconds_unless_the_points_lie_closer() -> None:
    span = Span(T0, T0 + timedelta(seconds=1))
    apart = [
        (time, count) for time, count in thin(series([1] * 4, us=[0, 400_000, 700_000, 900_000]), 3, Agg.COUNT, span)
    ]
    assert apart == [(0.0, 1), (0.334, 1), (0.668, 2)]
    close = thin(series([1] * 4, us=[0, 1, 2, 3]), 2, Agg.COUNT)
    assert close == [(0.0, 2), (0.000002, 2)]


def test_a_count_has_no_unit_and_other_joins_keep_it() -> None:
    for agg, unit in ((Agg.COUNT, None), (Agg.MEAN, "s")):
        out, _ = downsample(series([1, 2, 3]), 2, agg=agg, span=None)
        assert out.schema.columns[1].unit == unit


@pytest.mark.parametrize(
    ("values", "dtype", "wanted"),
    [
        ([2**62] * 4, pl.Int64, 2.0**64),
        ([2**63] * 4, pl.UInt64, 2.0**65),
        ([-(2**63)] * 2, pl.Int64, -(2.0**64)),
        ([100] * 4, pl.Int8, 400),
        ([2**60, 1], pl.Int64, 2**60 + 1),
    ],
)
def test_a_sum_of_integers_never_wraps_around(values: list[int], dtype: pl.DataType, wanted: float) -> None:
    assert thin(series(values, dtype=dtype), 1, Agg.SUM) == [(0.0, wanted)]


@given(lines(), POINTS, st.sampled_from(AGGS), st.sampled_from([None, Span(T0, T0 + timedelta(days=1))]))
def test_joined_points_are_few_ascending_and_never_made_of_nothing(
    line: tuple[Values, list[int]], max_points: int, agg: Agg, span: Span | None
) -> None:
    values, at = line
    frame = series(values, us=at)
    rows = thin(frame, max_points, agg, span)
    if frame.rows <= max_points:
        return
    times = [time for time, _ in rows]
    assert times == sorted(times)
    assert len(set(times)) == len(times)
    numbers = [value for value in values if not is_gap(value)]
    assert bool(known(rows)) == bool(numbers)
    if agg is Agg.COUNT:
        assert sum(known(rows)) == len(numbers)
    if agg in (Agg.MIN, Agg.MAX) and numbers:
        best = min if agg is Agg.MIN else max
        assert best(known(rows)) == best(number for number in numbers if number is not None)
