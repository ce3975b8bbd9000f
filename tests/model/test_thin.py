"""A quarter of the rows or fewer stand for all of them, and no panel shows another shape."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bridge.model.downsample import downsample
from bridge.model.frame import TIME_DTYPE, Frame
from bridge.model.schema import Column, ColumnType, Kind, Role, Schema
from bridge.model.thin import representative

TIME = Column("time", ColumnType.TIME, role=Role.TIME)
HOST = Column("host", ColumnType.STRING, role=Role.DIMENSION)
ZONE = Column("zone", ColumnType.STRING, role=Role.DIMENSION)
LOAD = Column("load", ColumnType.NUMBER, role=Role.MEASURE)
TOTAL = Column("total", ColumnType.NUMBER, role=Role.MEASURE, kind=Kind.COUNTER)
ROW = Column("row", ColumnType.NUMBER)
ALL = Schema((TIME, HOST, ZONE, LOAD, TOTAL, ROW))
NAN = float("nan")


def times(rows: int) -> pl.Series:
    return pl.Series("time", 1_767_225_600_000_000 + 1_000_000 * np.arange(rows)).cast(TIME_DTYPE)


def one(values: Sequence[Any], column: Column = LOAD, dtype: Any = pl.Float64) -> tuple[pl.DataFrame, Schema]:
    """One series of one measure."""
    data = pl.DataFrame([times(len(values)), pl.Series(column.name, values, dtype=dtype)])
    return data.with_columns(row=pl.int_range(len(values))), Schema((TIME, column, ROW))


def kept(values: Sequence[Any], column: Column = LOAD, dtype: Any = pl.Float64, block_rows: int = 64) -> list[int]:
    """The rows of one series that are kept."""
    found = representative(*one(values, column, dtype), block_rows)
    assert found is not None
    rows: list[int] = found["row"].to_list()
    return rows


def drawn(data: pl.DataFrame, measure: Column, points: int) -> pl.DataFrame:
    """What a panel is given of one series."""
    schema = Schema((TIME, measure))
    return downsample(Frame(data.select(schema.names), schema), points, agg=None, span=None)[0].data


def known(data: pl.DataFrame, name: str) -> pl.DataFrame:
    """The rows with a value."""
    return data.with_columns(pl.col(name).fill_nan(None)).drop_nulls(name)


def gaps(data: pl.DataFrame, name: str) -> list[bool]:
    """Value, gap, value, gap: the turns of one series."""
    return list(data.get_column(name).fill_nan(None).is_null().rle().struct.field("value"))


missing_or = st.sampled_from([None, NAN])
oddities = {
    "load": st.one_of(missing_or, st.floats(allow_nan=False), st.sampled_from([-0.0, float("inf"), -float("inf")])),
    "total": st.one_of(missing_or, st.integers(-3, 1_000).map(float)),
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[pl.DataFrame, int]:
    """Up to three series whose values stand still, jump, are missing, and begin again."""
    rows = draw(st.integers(0, 400))
    block_rows = draw(st.sampled_from([8, 16, 64]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    hosts = draw(st.lists(st.sampled_from(["a", "b", "", None]), min_size=1, max_size=3))
    columns: dict[str, list[Any]] = {"load": [], "total": []}
    for name, values in columns.items():
        values.extend(np.cumsum(rng.integers(0 if name == "total" else -3, 4, rows)).astype(float))
        for _ in range(draw(st.integers(0, 3)) if rows else 0):
            start = draw(st.integers(0, rows - 1))
            width = draw(st.integers(1, 20))
            values[start : start + width] = [draw(oddities[name])] * len(values[start : start + width])
    host = pl.Series("host", [hosts[index] for index in rng.integers(0, len(hosts), rows)], dtype=pl.String)
    zone = pl.Series("zone", [None] * rows, dtype=pl.String)
    own = [pl.Series(name, values, dtype=pl.Float64) for name, values in columns.items()]
    return pl.DataFrame([times(rows), host, zone, *own]).with_columns(row=pl.int_range(rows)), block_rows


@given(tables())
@settings(max_examples=200, deadline=None)
def test_what_is_kept_are_rows_as_they_were_in_their_order(made: tuple[pl.DataFrame, int]) -> None:
    """And a quarter at most."""
    data, block_rows = made
    thin = representative(data, ALL, block_rows)
    if thin is None:
        return
    rows = thin["row"].to_numpy()
    assert (np.diff(rows) > 0).all()
    assert thin.equals(data[rows.tolist()])
    assert 4 * thin.height <= data.height


@given(tables(), st.integers(4, 40))
@settings(max_examples=200, deadline=None)
def test_every_series_is_drawn_with_the_same_ends_extremes_gaps_and_increase(
    made: tuple[pl.DataFrame, int], points: int
) -> None:
    """As if the panel had looked at all rows."""
    data, block_rows = made
    thin = representative(data, ALL, block_rows)
    assume(thin is not None)
    assert thin is not None
    for host in data["host"].unique():
        whole, part = (table.filter(pl.col("host").eq_missing(host)) for table in (data, thin))
        assert whole[[0, -1]].equals(part[[0, -1]])
        for measure in (LOAD, TOTAL):
            assert gaps(part, measure.name) == gaps(whole, measure.name)
            if not known(whole, measure.name).height:
                continue
            of_all, of_some = (known(drawn(table, measure, points), measure.name) for table in (whole, part))
            if measure is LOAD:
                for end in ("min", "max"):
                    assert getattr(of_some[measure.name], end)() == getattr(of_all[measure.name], end)()
            assert of_some[[0, -1]].equals(of_all[[0, -1]])
        rise_of_all, rise_of_some = (known(table, "total")["total"].to_numpy() for table in (whole, part))
        assert increases(rise_of_some) == pytest.approx(increases(rise_of_all))


def increases(values: np.ndarray[Any, Any]) -> float:
    """What a counter has counted, its resets taken for what they are."""
    steps = np.diff(values)
    return float(np.where(steps < 0, values[1:], steps).sum())


def test_each_block_keeps_its_smallest_and_largest_value_the_first_of_equals() -> None:
    """And the series its first and last row, whatever stands there."""
    values = [5.0] * 256
    values[70], values[71], values[90], values[200], values[201] = 9.0, 9.0, 1.0, float("inf"), -float("inf")
    assert kept(values) == [0, 64 + 6, 90, 128, 200, 201, 255]


def test_blocks_are_counted_in_each_series_for_itself() -> None:
    """In its rows, not in those of the table: here every second row is the other's."""
    values = np.zeros(512)
    values[[300, 301]] = 7.0
    hosts = pl.Series("host", ["a", "b"] * 256)
    data = pl.DataFrame([times(512), hosts, pl.Series("load", values)]).with_columns(row=pl.int_range(512))
    thin = representative(data, Schema((TIME, HOST, LOAD, ROW)))
    assert thin is not None
    assert thin.filter(pl.col("host") == "a")["row"].to_list() == [0, 128, 256, 300, 384, 510]
    assert thin.filter(pl.col("host") == "b")["row"].to_list() == [1, 129, 257, 301, 385, 511]


def test_a_null_an_empty_text_and_two_dimensions_make_series_of_their_own() -> None:
    """Each keeps its first and last row."""
    pairs = [("a", "x"), ("a", "y"), ("a", None), (None, "x"), ("", "x"), (None, None)]
    rows = 100 * len(pairs)
    data = pl.DataFrame(
        [
            times(rows),
            pl.Series("host", [pairs[row // 100][0] for row in range(rows)]),
            pl.Series("zone", [pairs[row // 100][1] for row in range(rows)]),
            pl.Series("load", [0.0] * rows),
        ]
    )
    thin = representative(data.with_columns(row=pl.int_range(rows)), Schema((TIME, HOST, ZONE, LOAD, ROW)))
    assert thin is not None
    assert thin["row"].to_list() == sorted(row + part for row in range(0, rows, 100) for part in (0, 64, 99))


def test_a_counter_keeps_the_last_value_of_each_block_and_both_sides_of_a_reset() -> None:
    """Also where the reset lies between two blocks or beside a gap, and not where another series begins."""
    values: list[float | None] = [float(row) for row in range(256)]
    values[100:] = [float(row) for row in range(156)]
    assert kept(values, TOTAL) == [0, 63, 99, 100, 127, 128, 191, 192, 255]
    values[10] = None
    assert kept(values, TOTAL) == [0, 10, 63, 99, 100, 127, 128, 191, 192, 255]
    values = [float(row) for row in range(256)]
    values[128:] = [float(row) for row in range(128)]
    values[120:130] = [None] * 10
    assert kept(values, TOTAL) == [0, 63, 64, 119, 120, 130, 191, 192, 255]
    two = [*range(1000, 1256), *range(256)]
    data = one(two, TOTAL)[0].with_columns(host=pl.Series(["a"] * 256 + ["b"] * 256))
    thin = representative(data, Schema((TIME, HOST, TOTAL)))
    assert thin is not None
    assert thin.height == 16
    with_gap = data.with_columns(total=pl.when(pl.col("row") != 70).then("total"))
    thin = representative(with_gap, Schema((TIME, HOST, TOTAL)))
    assert thin is not None
    assert thin.height == 17


@pytest.mark.parametrize("missing", [None, NAN])
def test_a_gap_stays_a_gap_and_a_value_between_two_stays(missing: float | None) -> None:
    """The first row of each run of missing values, the ends of the series' values, a lone stretch."""
    values: list[float | None] = [1.0] * 256
    values[70], values[75] = 2.0, 0.0
    for start, stop in ((0, 3), (100, 103), (106, 110), (250, 256)):
        values[start:stop] = [missing] * (stop - start)
    assert kept(values) == [0, 3, 70, 75, 100, 103, 106, 128, 192, 249, 250, 255]


@pytest.mark.parametrize("missing", [None, NAN])
@pytest.mark.parametrize("column", [LOAD, TOTAL])
def test_a_series_without_any_value_is_one_gap(missing: float | None, column: Column) -> None:
    """Its ends say how long it lasted."""
    assert kept([missing] * 100, column) == [0, 99]
    assert kept([None] * 100, column, pl.Null) == [0, 99]


@pytest.mark.parametrize("dtype", [pl.UInt8, pl.Int64, pl.Float64])
def test_a_missing_number_is_not_taken_for_one(dtype: Any) -> None:
    """Neither for a zero nor for the smallest or largest there is."""
    values: list[int | None] = [None] * 70 + [0] * 10 + [9] * 20 + [None] * 100
    assert kept(values, LOAD, dtype) == [0, 70, 80, 99, 100, 199]
    values = [None if row in (5, 6, 40) else 0 for row in range(64)]
    assert kept(values, LOAD, dtype) == [0, 5, 7, 40, 63]
    values = [None if row in (0, 1) else 0 for row in range(64)]
    assert kept(values, LOAD, dtype) == [0, 2, 63]


def test_infinities_are_values_beside_gaps() -> None:
    """A block may hold nothing else."""
    assert kept([None, *[float("inf")] * 199]) == [0, 1, 64, 128, 192, 199]
    assert kept([NAN, *[-float("inf")] * 199]) == [0, 1, 64, 128, 192, 199]


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (pl.Int64, -(2**63), 2**63 - 1),
        (pl.UInt64, 0, 2**64 - 1),
        (pl.Int8, -128, 127),
        (pl.Float32, -3.0, 3.0),
        (pl.Int128, -(2**90), 2**90),
        (pl.Decimal(20, 2), -3, 3),
    ],
)
@pytest.mark.parametrize("gap", [False, True])
def test_numbers_of_every_width_are_compared_as_what_they_are(dtype: Any, low: Any, high: Any, gap: bool) -> None:
    """Also those that a float cannot tell apart, and the smallest and largest there are."""
    values: list[Any] = [1] * 128
    values[20], values[30] = low, high
    values[90:100] = (
        [high if index % 2 else high - 1 for index in range(10)] if dtype in (pl.Int64, pl.UInt64) else [2] * 10
    )
    if gap:
        values[50] = None
    rows = kept(values, LOAD, dtype)
    assert {0, 20, 30, 127} <= set(rows)
    assert (91 if dtype in (pl.Int64, pl.UInt64) else 90) in rows
    assert (50 in rows) is gap


def test_more_than_a_quarter_is_not_worth_it() -> None:
    """Short series, small blocks, a counter that always begins again, gaps everywhere."""
    assert representative(*one([1.0] * 7)) is None
    assert representative(*one([1.0] * 8)) is not None
    assert representative(*one(list(range(100))), 4) is None
    assert representative(*one([1.0, 0.0] * 100, TOTAL)) is None
    assert representative(*one([1.0, None, 1.0, 1.0] * 50)) is None
    data, _ = one([1.0] * 100)
    own = data.with_columns(host=pl.col("row").cast(pl.String))
    assert representative(own, Schema((TIME, HOST, LOAD))) is None


def test_rows_that_do_not_ascend_in_time_have_no_shape_to_keep() -> None:
    """Nor those of which some have no time, or none has."""
    data, schema = one([1.0] * 100)
    assert representative(data.reverse(), schema) is None
    assert representative(data.with_columns(time=pl.when(pl.col("row") > 0).then("time")), schema) is None
    assert representative(data, Schema((LOAD, ROW))) is None
    assert representative(data.with_columns(pl.col("time") + timedelta(days=1)), schema) is not None


def test_no_rows_stay_no_rows_and_no_measure_leaves_the_ends() -> None:
    """A number that is no measure is not looked at, nor a measure that is no number."""
    data, schema = one([])
    assert representative(data, schema) is data
    data, _ = one(list(range(100)))
    text = Column("text", ColumnType.STRING, role=Role.MEASURE)
    data = data.with_columns(text=pl.lit("x"))
    thin = representative(data, Schema((TIME, Column("load", ColumnType.NUMBER), text, ROW)))
    assert thin is not None
    assert thin["row"].to_list() == [0, 99]
    with pytest.raises(ValueError, match="a block of 0 rows"):
        representative(data, schema, 0)
