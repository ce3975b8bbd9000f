"""From a dataset's rows to what one panel is given."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from bridge.errors import AnswerTooLarge, BadQuery
from bridge.model.frame import Frame, Notice
from bridge.model.query import Agg, Query
from bridge.model.schema import Column, ColumnType, Kind, Role, Schema, Shape
from bridge.sources.base import Limits
from bridge.sources.present import bind, distinct, in_time_order, long_rows, present, select_rows, without
from support import COLUMNS, at, frame_of, span, texts, where

Q = Query("lab.runs")
SCHEMA = Schema(COLUMNS)
LIMITS = Limits()
TIME, VALUE, MODEL = COLUMNS
LOSS = Column("loss", ColumnType.NUMBER, role=Role.MEASURE)
NOTE = Column("note", ColumnType.STRING)
SIZE = Column("size", ColumnType.NUMBER, role=Role.DIMENSION)


def column(frame: Frame, name: str) -> list[Any]:
    return frame.data[name].to_list()


# What must exist


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (replace(Q, columns=("value", "nope")), "`columns` names `nope`, which lab.runs does not have"),
        (replace(Q, series=("nope",)), "`series` names `nope`, which lab.runs does not have"),
        (replace(Q, filters=where("nope=1")), "there is no column `nope` to filter by"),
        (replace(Q, columns=("x" * 500,)), f"`columns` names `{'x' * 80}`,"),
    ],
    ids=["column", "series", "filter", "long"],
)
def test_a_name_that_does_not_exist_is_refused_with_those_that_do(query: Query, message: str) -> None:
    with pytest.raises(BadQuery) as caught:
        bind(query, SCHEMA)
    assert message in caught.value.message
    assert caught.value.remedy.endswith("columns are time, value, model")


@pytest.mark.parametrize("text", ["value=high", "time>soon", "model=~("])
@pytest.mark.parametrize("adhoc", [True, False])
def test_a_filter_that_cannot_be_applied_is_refused_before_the_source_is_asked(text: str, adhoc: bool) -> None:
    with pytest.raises(BadQuery):
        bind(replace(Q, **{"adhoc" if adhoc else "filters": where(text)}), SCHEMA)


def test_dashboard_filters_bind_where_their_column_is_and_are_told_where_it_is_not() -> None:
    filters = where("model=svm")
    bound, notices = bind(replace(Q, filters=filters, adhoc=where("value>1", "host=a")), SCHEMA)
    assert bound.filters == filters + where("value>1")
    assert bound.adhoc == ()
    assert notices == (Notice("info", "the dashboard filter `host=a` is not applied: lab.runs has no such column"),)


def test_the_notice_of_a_long_dashboard_filter_stays_short() -> None:
    _, (notice,) = bind(replace(Q, adhoc=where("host=" + "x" * 5_000)), SCHEMA)
    assert len(notice.text) < 300


def test_filters_on_one_column_can_be_taken_out() -> None:
    query = replace(Q, filters=where("model=a", "value>1"), adhoc=where("model=b", "host=c"))
    left = without(query, "model")
    assert (left.filters, left.adhoc) == (where("value>1"), where("host=c"))


# Rows


def test_the_time_range_is_half_open() -> None:
    frame = select_rows(frame_of(), replace(Q, span=span(0, 2)))
    assert column(frame, "time") == [at(0), at(1)]


def test_rows_pass_all_filters() -> None:
    frame = select_rows(frame_of(), replace(Q, span=span(0, 9), filters=where("model=svm", "value>1")))
    assert column(frame, "value") == [3.0]


def test_without_span_and_filters_no_row_is_touched() -> None:
    frame = frame_of()
    assert select_rows(frame, Q).data is frame.data


def test_a_span_says_nothing_to_data_without_times() -> None:
    frame = frame_of([("a",)], (MODEL,))
    assert select_rows(frame, replace(Q, span=span(0, 1))).rows == 1
    odd = replace(VALUE, role=Role.TIME)
    assert select_rows(frame_of([(1.0,)], (odd,)), replace(Q, span=span(0, 1))).rows == 1


def test_tables_are_in_the_order_of_their_time_and_rows_of_one_instant_stay_as_they_were() -> None:
    frame = frame_of([(2, 1.0, "a"), (0, 2.0, "b"), (2, 3.0, "c"), (None, 4.0, "d")])
    (table,) = present(frame, replace(Q, shape=Shape.TABLE), Shape.TABLE, LIMITS)
    assert column(table, "model") == ["d", "b", "a", "c"]
    assert table.shape is Shape.TABLE


def test_the_order_is_looked_for_once() -> None:
    for rows in ([(0, 1.0, "a"), (1, 2.0, "b")], [(1, 2.0, "b"), (0, 1.0, "a")]):
        frame = in_time_order(frame_of(rows))
        assert column(frame, "value") == [1.0, 2.0]
        assert frame.data["time"].flags["SORTED_ASC"]
        narrowed = select_rows(frame, replace(Q, filters=where("value>0")))
        assert narrowed.data["time"].flags["SORTED_ASC"]


def test_a_table_without_times_keeps_its_order() -> None:
    frame = frame_of([("b",), ("a",)], (MODEL,))
    assert in_time_order(frame) is frame
    (table,) = present(frame, Q, Shape.AUTO, LIMITS)
    assert column(table, "model") == ["b", "a"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (Q, ("time", "value", "loss", "model", "note")),
        (replace(Q, columns=("note", "value")), ("time", "note", "value")),
        (replace(Q, columns=("value",), series=("model",)), ("time", "model", "value")),
        (replace(Q, columns=("time", "value")), ("time", "value")),
        (replace(Q, columns=("value",), series=()), ("time", "value")),
    ],
)
def test_a_table_has_the_wanted_columns_with_time_and_series_before_them(
    query: Query, names: tuple[str, ...]
) -> None:
    frame = frame_of([(0, 1.0, 2.0, "a", "n")], (TIME, VALUE, LOSS, MODEL, NOTE))
    (table,) = present(frame, query, Shape.TABLE, LIMITS)
    assert table.schema.names == tuple(table.data.columns) == names


# Shapes


def test_a_time_series_panel_gets_one_frame_per_series_and_measure() -> None:
    frame = frame_of([(0, 1.0, 5.0, "a"), (1, 2.0, 6.0, "b")], (TIME, VALUE, LOSS, MODEL))
    frames = present(frame, replace(Q, ref_id="C"), Shape.TIMESERIES, LIMITS)
    assert [(dict(f.labels), f.schema.names) for f in frames] == [
        ({"model": "a"}, ("time", "value")),
        ({"model": "a"}, ("time", "loss")),
        ({"model": "b"}, ("time", "value")),
        ({"model": "b"}, ("time", "loss")),
    ]
    assert {f.ref_id for f in frames} == {"C"}


@pytest.mark.parametrize(
    ("query", "labels", "measures"),
    [
        (Q, [{"model": "a", "size": "1"}, {"model": "b", "size": "2"}], {"value", "loss"}),
        (replace(Q, series=("model",)), [{"model": "a"}, {"model": "b"}], {"value", "loss"}),
        (replace(Q, series=()), [{}], {"value", "loss"}),
        (replace(Q, columns=("loss",), series=()), [{}], {"loss"}),
        (replace(Q, columns=("loss", "model"), series=()), [{}], {"loss"}),
    ],
    ids=["dimensions", "series", "none", "columns", "mixed"],
)
def test_series_and_measures_are_those_the_panel_names(
    query: Query, labels: list[dict[str, str]], measures: set[str]
) -> None:
    frame = frame_of([(0, 1.0, 5.0, "a", 1.0), (1, 2.0, 6.0, "b", 2.0)], (TIME, VALUE, LOSS, MODEL, SIZE))
    frames = present(frame, query, Shape.AUTO, LIMITS)
    found = [dict(f.labels) for f in frames]
    assert [label for label in labels if label in found] == labels
    assert len(found) == len(labels) * len(measures)
    assert {f.schema.names[1] for f in frames} == measures


def test_a_time_series_without_a_wanted_measure_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadQuery, match=r"lab.runs has no measure among the wanted columns") as caught:
        present(frame_of(), replace(Q, columns=("model",)), Shape.TIMESERIES, LIMITS)
    assert caught.value.remedy == "its measures are value"


def test_where_the_panel_does_not_say_columns_without_a_measure_are_a_table() -> None:
    (table,) = present(frame_of(), replace(Q, columns=("model",)), Shape.AUTO, LIMITS)
    assert (table.shape, table.schema.names) == (Shape.TABLE, ("time", "model"))


@pytest.mark.parametrize(
    ("columns", "shape"),
    [
        (COLUMNS, Shape.TIMESERIES),
        ((VALUE, MODEL), Shape.TABLE),
        ((TIME, MODEL), Shape.TABLE),
        ((TIME, replace(MODEL, role=Role.MEASURE)), Shape.TABLE),
        ((replace(VALUE, name="when", role=Role.TIME), VALUE), Shape.TABLE),
    ],
    ids=["both", "no time", "no measure", "a text as measure", "a number as time"],
)
@pytest.mark.parametrize("asked", [Shape.AUTO, Shape.TIMESERIES])
def test_what_cannot_be_drawn_over_time_is_a_table(columns: tuple[Column, ...], shape: Shape, asked: Shape) -> None:
    frames = present(frame_of([], columns), Q, asked, LIMITS)
    assert {frame.shape for frame in frames} == {shape}


MESSAGE = Column("message", ColumnType.STRING)
GRAPH = tuple(Column(name, ColumnType.STRING) for name in ("id", "source", "target"))


@pytest.mark.parametrize(
    ("shape", "columns", "names"),
    [
        (Shape.LOGS, (TIME, MESSAGE), ("timestamp", "body")),
        (Shape.ANNOTATIONS, (TIME, MESSAGE), ("time", "text")),
        (Shape.NODES, GRAPH[:1], ("id",)),
        (Shape.EDGES, GRAPH, ("id", "source", "target")),
    ],
)
def test_log_annotation_and_graph_panels_get_their_own_columns(
    shape: Shape, columns: tuple[Column, ...], names: tuple[str, ...]
) -> None:
    row = [0 if column.type is ColumnType.TIME else "x" for column in columns]
    (frame,) = present(frame_of([row], columns), Q, shape, LIMITS)
    assert (frame.shape, frame.schema.names, frame.rows) == (shape, names, 1)


@pytest.mark.parametrize("shape", [Shape.LOGS, Shape.ANNOTATIONS, Shape.NODES, Shape.EDGES])
def test_data_that_cannot_take_a_shape_is_refused(shape: Shape) -> None:
    with pytest.raises(BadQuery):
        present(frame_of([(1.0,)], (VALUE,)), Q, shape, LIMITS)


# Limits


@pytest.mark.parametrize(
    ("shape", "columns"),
    [
        (Shape.TABLE, COLUMNS),
        (Shape.TIMESERIES, COLUMNS),
        (Shape.LOGS, (TIME, MESSAGE)),
        (Shape.ANNOTATIONS, (TIME, MESSAGE)),
        (Shape.NODES, GRAPH),
        (Shape.EDGES, GRAPH),
    ],
)
def test_more_rows_than_allowed_are_refused_with_a_remedy(shape: Shape, columns: tuple[Column, ...]) -> None:
    row = [0 if c.type is ColumnType.TIME else 1.0 if c.type is ColumnType.NUMBER else "x" for c in columns]
    assert present(frame_of([row] * 3, columns), Q, shape, Limits(max_rows=3))
    with pytest.raises(AnswerTooLarge, match="the answer has 4 rows, more than the 3 allowed") as caught:
        present(frame_of([row] * 4, columns), Q, shape, Limits(max_rows=3))
    assert caught.value.remedy == "narrow the time range, add filters, or ask for fewer points"


def test_rows_of_all_series_count_together_after_they_were_thinned_out() -> None:
    frame = frame_of([(n, float(n), 1.0, "a") for n in range(10)], (TIME, VALUE, LOSS, MODEL))
    with pytest.raises(AnswerTooLarge, match="20 rows"):
        present(frame, Q, Shape.TIMESERIES, Limits(max_rows=10))
    assert present(frame, replace(Q, max_points=5), Shape.TIMESERIES, Limits(max_rows=10))


def test_more_series_than_allowed_are_refused_with_the_column_that_makes_them() -> None:
    frame = frame_of([(n, 1.0, f"m{n}") for n in range(4)])
    with pytest.raises(AnswerTooLarge, match="4 series, 3 are allowed; `model` alone has 4 values"):
        present(frame, Q, Shape.TIMESERIES, Limits(max_series=3))
    with pytest.raises(AnswerTooLarge, match="4 series, 3 are allowed") as caught:
        long_rows(frame, replace(Q, max_points=1), Limits(max_series=3))
    assert caught.value.remedy


# Fewer points


def sine(count: int, model: str = "a") -> list[tuple[Any, ...]]:
    return [(n, float((n * 7919) % 101), model) for n in range(count)]


def test_series_are_thinned_out_to_the_panel_s_points_and_the_first_says_so() -> None:
    frame = frame_of([*sine(100), *sine(50, "b"), *sine(5, "c")])
    frames = present(frame, replace(Q, max_points=10), Shape.TIMESERIES, LIMITS)
    assert all(f.rows <= 10 for f in frames)
    dropped = 155 - sum(f.rows for f in frames)
    assert [texts(f) for f in frames] == [
        [f"info: {dropped} points were left out to fit 10 per series (keeping extremes and last values)"],
        [],
        [],
    ]
    (joined, *_) = present(frame, replace(Q, max_points=10, agg=Agg.MEAN), Shape.TIMESERIES, LIMITS)
    assert texts(joined)[0].endswith("(by mean)")


def test_nothing_is_said_where_nothing_was_left_out() -> None:
    (frame,) = present(frame_of(sine(10)), replace(Q, max_points=10), Shape.TIMESERIES, LIMITS)
    assert texts(frame) == []


WIDE = (TIME, VALUE, LOSS, MODEL, NOTE)


def wide(count: int, model: str = "a") -> list[tuple[Any, ...]]:
    return [(n, float((n * 7919) % 101), float((n * 31) % 17), model, f"{model}{n}") for n in range(count)]


def test_thinned_out_rows_are_whole_rows_of_the_data() -> None:
    rows = [*wide(200), *wide(300, "b"), *wide(3, "c")]
    frame = long_rows(frame_of(rows, WIDE), replace(Q, max_points=20), LIMITS)
    given = {tuple(row) for row in frame_of(rows, WIDE).data.rows()}
    assert set(frame.data.rows()) <= given
    assert frame.schema.names == tuple(column.name for column in WIDE)
    per_model = Counter(column(frame, "model"))
    assert 10 <= per_model["a"] <= 20
    assert 10 <= per_model["b"] <= 20
    assert per_model["c"] == 3
    assert column(frame, "time") == sorted(column(frame, "time"))
    left = 503 - frame.rows
    assert texts(frame) == [
        f"info: {left} points were left out to fit 20 per series (keeping extremes and last values)"
    ]


def test_thinned_out_rows_keep_first_last_and_the_extremes_of_every_measure() -> None:
    rows = wide(500)
    rows[123] = (123, 9_999.0, 1.0, "a", "high")
    rows[321] = (321, 5.0, -9_999.0, "a", "low")
    frame = long_rows(frame_of(rows, WIDE), replace(Q, max_points=20), LIMITS)
    assert {"high", "low", "a0", "a499"} <= set(column(frame, "note"))


def test_rows_that_share_a_time_are_never_multiplied() -> None:
    rows = [(n // 5, float(n % 3), float(n % 2), "a", f"n{n}") for n in range(100)]
    frame = long_rows(frame_of(rows, WIDE), replace(Q, max_points=10), LIMITS)
    notes = column(frame, "note")
    assert len(notes) == len(set(notes)) <= 10
    every = long_rows(frame_of([(0, 1.0, 1.0, "a", "same")] * 50, WIDE), replace(Q, max_points=4), LIMITS)
    assert 1 <= every.rows <= 4


def test_a_gap_stays_one_in_thinned_out_rows() -> None:
    rows = [
        (n, None if 40 <= n < 60 else float("nan") if n == 80 else float(n % 13), float(n % 7), "a", f"n{n}")
        for n in range(100)
    ]
    frame = long_rows(frame_of(rows, WIDE), replace(Q, max_points=30), LIMITS)
    values = column(frame, "value")
    assert None in values
    assert any(value is not None and math.isnan(value) for value in values)


def test_with_more_measures_than_points_the_bound_still_holds() -> None:
    measures = tuple(replace(VALUE, name=f"m{n}") for n in range(5))
    rows = [(n, *(float((n * (m + 2)) % 11) for m in range(5))) for n in range(40)]
    for points in (1, 2, 3):
        frame = long_rows(frame_of(rows, (TIME, *measures)), replace(Q, max_points=points), LIMITS)
        assert 1 <= frame.rows <= points


def test_whole_numbers_and_counters_are_thinned_out_too() -> None:
    data = pl.DataFrame({"time": [at(n) for n in range(100)], "value": list(range(100)), "model": ["a"] * 100})
    data = data.with_columns(pl.col("time").cast(pl.Datetime("us", "UTC")))
    schema = Schema((TIME, replace(VALUE, kind=Kind.COUNTER), MODEL))
    frame = long_rows(Frame(data, schema), replace(Q, max_points=10), LIMITS)
    assert frame.rows <= 10
    assert frame.data.schema["value"] == pl.Int64
    assert column(frame, "value")[-1] == 99


@pytest.mark.parametrize(
    "query",
    [Q, replace(Q, agg=Agg.MEAN), replace(Q, max_points=5, agg=Agg.NONE), replace(Q, max_points=100)],
    ids=["no bound", "no bound but agg", "agg none", "enough"],
)
def test_rows_are_all_given_where_nothing_has_to_go(query: Query) -> None:
    frame = frame_of([*wide(50), *wide(50, "b")], WIDE)
    out = long_rows(frame, query, LIMITS)
    assert out.data.equals(in_time_order(frame).data)
    assert texts(out) == []


@pytest.mark.parametrize("columns", [(MODEL, VALUE), (TIME, MODEL)], ids=["no time", "no measure"])
def test_tables_that_are_no_series_are_not_thinned_out(columns: tuple[Column, ...]) -> None:
    rows = [[float(n) if c is VALUE else n if c is TIME else "a" for c in columns] for n in range(9)]
    assert long_rows(frame_of(rows, columns), replace(Q, max_points=2), LIMITS).rows == 9
    assert long_rows(frame_of(wide(9), WIDE), replace(Q, max_points=2, columns=("note",)), LIMITS).rows == 9


def test_columns_choose_what_is_shown_and_not_what_tells_series_apart() -> None:
    rows = [*wide(100), *wide(100, "b")]
    frame = long_rows(frame_of(rows, WIDE), replace(Q, max_points=10, columns=("value", "note")), LIMITS)
    assert frame.schema.names == tuple(frame.data.columns) == ("time", "value", "note")
    assert 10 < frame.rows <= 20
    one = long_rows(frame_of(rows, WIDE), replace(Q, max_points=10, series=()), LIMITS)
    assert one.rows <= 10


def test_joined_rows_have_time_series_and_measures_of_each_bucket() -> None:
    rows = [*wide(100), *wide(100, "b")]
    query = replace(Q, max_points=10, agg=Agg.MAX, span=span(0, 100))
    frame = long_rows(frame_of(rows, WIDE), query, LIMITS)
    assert frame.schema.names == tuple(frame.data.columns) == ("time", "model", "value", "loss")
    assert frame.rows == 20
    first = frame.data.filter(model="a").row(0, named=True)
    assert first == {
        "time": at(0),
        "model": "a",
        "value": max(row[1] for row in rows[:10]),
        "loss": max(row[2] for row in rows[:10]),
    }
    assert texts(frame) == ["info: 180 points were left out to fit 10 per series (by max)"]


def test_joined_rows_of_several_measures_stay_one_per_bucket_also_for_the_last_values() -> None:
    rows: list[tuple[Any, ...]] = [(n, float(n), float(-n), "a", "") for n in range(100)]
    rows[9] = (9, None, -9.0, "a", "")
    frame = long_rows(frame_of(rows, WIDE), replace(Q, max_points=10, agg=Agg.LAST, span=span(0, 100)), LIMITS)
    assert frame.rows == 10
    assert frame.data.row(0, named=True) == {"time": at(9), "model": "a", "value": 8.0, "loss": -9.0}
    assert None not in column(frame, "value") + column(frame, "loss")


def test_joined_rows_keep_the_types_of_their_series_columns() -> None:
    rows = [(n, float(n), size) for size in (1.0, None) for n in range(20)]
    frame = long_rows(frame_of(rows, (TIME, VALUE, SIZE)), replace(Q, max_points=5, agg=Agg.MEAN), LIMITS)
    assert frame.data.schema["size"] == pl.Float64
    assert set(column(frame, "size")) == {1.0, None}


def test_a_count_has_no_unit_of_the_values_it_counts() -> None:
    frame = long_rows(frame_of(sine(50)), replace(Q, max_points=5, agg=Agg.COUNT, columns=("value",)), LIMITS)
    assert frame.schema.names == ("time", "value")
    assert [c.unit for c in frame.schema.columns] == [None, None]
    assert sum(column(frame, "value")) == 50


def test_series_by_a_measure_or_the_time_have_each_column_once() -> None:
    for name in ("value", "time"):
        query = replace(Q, max_points=1, agg=Agg.MEAN, series=(name,))
        frame = long_rows(frame_of([*sine(3), *sine(3)]), query, LIMITS)
        assert tuple(frame.data.columns) == frame.schema.names == ("time", "value")


def test_rows_without_a_time_are_told_when_the_others_are_thinned_out() -> None:
    rows = [(None, 1.0, "a"), *sine(50)]
    frame = long_rows(frame_of(rows), replace(Q, max_points=5), LIMITS)
    assert None not in column(frame, "time")
    assert texts(frame)[0] == "warning: 1 rows without a `time` left out"
    assert texts(frame)[1].startswith(f"info: {50 - frame.rows} points were left out")


def test_thinning_out_nothing_gives_nothing() -> None:
    for agg in (None, Agg.MEAN):
        frame = long_rows(frame_of([], WIDE), replace(Q, max_points=5, agg=agg), LIMITS)
        assert (frame.rows, frame.schema.names) == (0, tuple(column.name for column in WIDE))
        no_time = long_rows(frame_of([(None, 1.0, "a")] * 9), replace(Q, max_points=5, agg=agg), LIMITS)
        assert no_time.rows == 9


def test_rows_keep_the_notices_and_marks_they_came_with() -> None:
    frame = frame_of(sine(50)).note(Notice("warning", "old"), stale=True)
    for query in (Q, replace(Q, max_points=5), replace(Q, max_points=5, agg=Agg.MEAN)):
        out = long_rows(frame, query, LIMITS)
        assert texts(out)[0] == "warning: old"
        assert out.meta.custom == {"stale": True}


def test_more_rows_than_allowed_are_refused_as_rows_too() -> None:
    with pytest.raises(AnswerTooLarge):
        long_rows(frame_of(sine(5)), Q, Limits(max_rows=4))
    assert long_rows(frame_of(sine(5)), replace(Q, max_points=4), Limits(max_rows=4)).rows <= 4


# Values of one column


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("time", ["2026-01-31T12:00:00.000Z", "2026-01-31T12:00:01.500Z"]),
        ("value", ["-1", "0.5", "10"]),
        ("model", ["", "B", "a"]),
        ("ok", ["false", "true"]),
    ],
)
def test_values_are_distinct_sorted_texts_as_filters_and_labels_have_them(name: str, values: list[str]) -> None:
    ok = Column("ok", ColumnType.BOOLEAN)
    rows = [(0, 10.0, "a", True), (1.5, -1.0, "B", False), (0, 0.5, "", None), (None, None, None, True)]
    frame = frame_of(rows, (*COLUMNS, ok))
    found = distinct(frame, name, Q, 100)
    assert found == values
    for text in found:
        assert select_rows(frame, replace(Q, filters=where(f"{name}={text}"))).rows


def test_values_are_bounded_and_narrowed_by_the_query() -> None:
    frame = frame_of([(n, float(n), "a") for n in range(10)])
    assert distinct(frame, "value", replace(Q, span=span(3, 9)), 2) == ["3", "4"]


def test_values_of_a_column_that_is_none_are_refused() -> None:
    with pytest.raises(BadQuery, match="`column` names `nope`"):
        distinct(frame_of(), "nope", Q, 5)
