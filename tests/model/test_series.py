from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import AnswerTooLarge, BadQuery
from bridge.model.frame import DTYPES, Frame, Meta, Notice
from bridge.model.schema import Column, ColumnType, Role, Schema, Shape
from bridge.model.series import complete_graph, split, to_annotations, to_edges, to_logs, to_nodes

T0 = datetime(2026, 1, 31, 12, tzinfo=UTC)
TIME = Column("time", ColumnType.TIME, role=Role.TIME)
MODEL = Column("model", ColumnType.STRING, role=Role.DIMENSION)
DEPTH = Column("depth", ColumnType.NUMBER, role=Role.DIMENSION)
SCORE = Column("score", ColumnType.NUMBER, unit="percentunit", role=Role.MEASURE)
LOSS = Column("loss", ColumnType.NUMBER, role=Role.MEASURE)


def frame(*columns: Column, rows: list[tuple[Any, ...]], name: str = "digits.runs") -> Frame:
    """Rows as they are written; a number in a time column is seconds after T0."""
    data = {}
    for at, column in enumerate(columns):
        values = [row[at] for row in rows]
        if column.type is ColumnType.TIME:
            values = [None if value is None else T0 + timedelta(seconds=value) for value in values]
        data[column.name] = pl.Series(values, dtype=DTYPES[column.type], strict=False)
    return Frame(pl.DataFrame(data), Schema(columns), name=name, ref_id="A")


def text(name: str, role: Role | None = None) -> Column:
    return Column(name, ColumnType.STRING, role=role)


def seconds(series: Frame) -> list[float]:
    times = [(time - T0).total_seconds() for time in series.data["time"].to_list()]
    assert times == sorted(times)
    return times


RUNS = frame(
    TIME,
    MODEL,
    DEPTH,
    SCORE,
    LOSS,
    rows=[(2, "svm", 5, 0.9, 1), (1, "svm", 5, 0.8, 2), (1, None, 0.5, 0.1, 3), (0, "forest", 5, 0.5, None)],
)


def test_there_is_one_series_per_combination_of_values_ordered_by_labels() -> None:
    out = split(RUNS, ("model", "depth"), ("score",), max_series=10)
    assert [dict(series.labels) for series in out] == [
        {"model": "", "depth": "0.5"},
        {"model": "forest", "depth": "5"},
        {"model": "svm", "depth": "5"},
    ]
    assert [seconds(series) for series in out] == [[1], [0], [1, 2]]
    assert out[2].data["score"].to_list() == [0.8, 0.9]
    for series in out:
        assert series.shape is Shape.TIMESERIES
        assert series.schema.columns == (TIME, SCORE)
        assert tuple(series.data.columns) == ("time", "score")
        assert (series.name, series.ref_id) == ("digits.runs", "A")


def test_each_measure_is_a_series_of_its_own() -> None:
    out = split(RUNS, ("model",), ("score", "loss", "score"), max_series=6)
    assert [(series.labels["model"], series.schema.names[1]) for series in out] == [
        ("", "score"),
        ("", "loss"),
        ("forest", "score"),
        ("forest", "loss"),
        ("svm", "score"),
        ("svm", "loss"),
    ]


def test_without_dimensions_all_rows_are_one_series_per_measure() -> None:
    out = split(RUNS, (), ("score", "loss"), max_series=2)
    assert [seconds(series) for series in out] == [[0, 1, 1, 2]] * 2
    assert [dict(series.labels) for series in out] == [{}, {}]


def test_a_null_and_an_empty_text_are_one_series_as_their_labels_are_equal() -> None:
    rows = frame(TIME, MODEL, SCORE, rows=[(0, None, 1), (1, "", 2)])
    (only,) = split(rows, ("model", "model"), ("score",), max_series=1)
    assert only.data["score"].to_list() == [1, 2]


@pytest.mark.parametrize("by", [(), ("model",)])
def test_no_rows_leave_an_empty_series_per_measure_so_that_its_columns_are_known(by: tuple[str, ...]) -> None:
    for empty in (
        RUNS.with_data(RUNS.data.clear()),
        RUNS.with_data(RUNS.data.with_columns(time=None).cast(RUNS.data.schema)),
    ):
        out = split(empty, by, ("score", "loss"), max_series=2)
        assert [(series.rows, series.schema.names, dict(series.labels)) for series in out] == [
            (0, ("time", "score"), {}),
            (0, ("time", "loss"), {}),
        ]


def test_what_is_said_of_the_frame_stands_once_and_its_custom_values_everywhere() -> None:
    told = Frame(RUNS.data, RUNS.schema, meta=Meta((Notice("warning", "stale"),), {"age_s": 3}, "GET /runs"))
    first, second, _ = split(told, ("model",), ("score",), max_series=3)
    assert first.meta == told.meta
    assert second.meta == Meta(custom={"age_s": 3})


def test_rows_that_share_an_instant_stay_and_are_pointed_out_once() -> None:
    first, *rest = split(RUNS, (), ("score", "loss"), max_series=9)
    assert first.rows == 4
    assert [notice.severity for notice in first.meta.notices] == ["info"]
    assert first.meta.notices[0].text == ("several rows share one time in `digits.runs`: choose `series` or `agg`")
    assert all(not series.meta.notices for series in rest)


def test_rows_that_share_an_instant_in_different_series_need_no_notice() -> None:
    assert not split(RUNS, ("model",), ("score",), max_series=9)[0].meta.notices


@pytest.mark.parametrize(("lost", "said"), [(1, "1 row without"), (2, "2 rows without")])
def test_rows_without_a_time_are_left_out_and_counted(lost: int, said: str) -> None:
    rows = frame(TIME, SCORE, rows=[(1, 0.1)] + [(None, 0.2)] * lost)
    (only,) = split(rows, (), ("score",), max_series=1)
    assert only.data["score"].to_list() == [0.1]
    assert [notice.text[: len(said)] for notice in only.meta.notices] == [said]


def test_too_many_series_are_refused_by_naming_the_dimension_with_most_values() -> None:
    rows = frame(TIME, MODEL, DEPTH, SCORE, rows=[(0, f"m{at % 3}", at, 1) for at in range(12)])
    assert len(split(rows, ("model", "depth"), ("score",), max_series=12)) == 12
    with pytest.raises(AnswerTooLarge, match=r"12 series, 11 are allowed; `depth` alone has 12 values") as caught:
        split(rows, ("model", "depth"), ("score",), max_series=11)
    assert "choose fewer `series`" in caught.value.remedy


def test_measures_count_as_series_too() -> None:
    with pytest.raises(AnswerTooLarge, match=r"2 series, 1 are allowed$"):
        split(RUNS, (), ("score", "loss"), max_series=1)


@pytest.mark.parametrize(
    ("by", "measures", "said"),
    [
        (("nosuch",), ("score",), "no column `nosuch`"),
        ((), ("nosuch",), "no column `nosuch`"),
        ((), ("model",), "`model` of `digits.runs` is a string, not a number"),
        ((), (), "no number to draw"),
    ],
)
def test_what_cannot_be_split_is_the_callers_error(by: tuple[str, ...], measures: tuple[str, ...], said: str) -> None:
    with pytest.raises(BadQuery, match=said):
        split(RUNS, by, measures, max_series=9)


@pytest.mark.parametrize(
    "make",
    [lambda f: split(f, (), ("score",), max_series=9), to_logs, to_annotations],
    ids=["split", "logs", "annotations"],
)
@pytest.mark.parametrize("when", [Column("when", ColumnType.TIME), Column("when", ColumnType.STRING, role=Role.TIME)])
def test_what_has_no_time_cannot_be_shown_over_time(make: Callable[[Frame], Any], when: Column) -> None:
    with pytest.raises(BadQuery, match=r"^the dataset has no column of role time") as caught:
        make(frame(when, text("body"), SCORE, rows=[(None, "x", 1)], name=""))
    assert "table" in caught.value.remedy


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["a", "b", "", None]), st.integers(0, 2), st.floats(0, 1))),
    st.sampled_from([(), ("model",), ("depth",), ("depth", "model")]),
)
def test_every_row_is_in_exactly_one_series(rows: list[tuple[Any, ...]], by: tuple[str, ...]) -> None:
    out = split(frame(TIME, MODEL, DEPTH, SCORE, rows=rows), by, ("score",), max_series=99)
    labels = [tuple(series.labels.values()) for series in out]
    assert labels == sorted(set(labels))
    back = sorted(
        (second, score) for series in out for second, score in zip(seconds(series), series.data["score"], strict=True)
    )
    assert back == sorted((row[0], row[3]) for row in rows)


LOG_TEXTS = ["body", "message", "line", "text", "msg", "Message"]


@pytest.mark.parametrize("name", LOG_TEXTS)
def test_log_lines_have_the_columns_grafana_looks_for(name: str) -> None:
    level, ident = text("Level"), Column("id", ColumnType.NUMBER)
    rows = [(0, "hello", "warn", 7, "svm", 5, 0.5), (1, None, None, None, None, None, None)]
    out = to_logs(frame(TIME, text(name), level, ident, MODEL, DEPTH, SCORE, rows=rows))
    assert out.shape is Shape.LOGS
    assert out.schema.names == tuple(out.data.columns) == ("timestamp", "body", "severity", "id", "labels")
    assert [column.type for column in out.schema.columns] == [
        ColumnType.TIME,
        ColumnType.STRING,
        ColumnType.STRING,
        ColumnType.STRING,
        ColumnType.JSON,
    ]
    assert out.data.row(0)[:4] == (T0, "hello", "warn", "7")
    assert out.data.row(1)[1:4] == (None, None, None)
    assert [json.loads(labels) for labels in out.data["labels"]] == [
        {"model": "svm", "depth": "5"},
        {"model": "", "depth": ""},
    ]


def test_log_lines_of_a_plain_text_have_nothing_more() -> None:
    out = to_logs(frame(TIME, text("line"), rows=[]))
    assert out.data.schema == {"timestamp": DTYPES[ColumnType.TIME], "body": pl.String()}


def test_log_labels_that_the_dataset_has_itself_are_used() -> None:
    labels = Column("labels", ColumnType.JSON)
    out = to_logs(frame(TIME, text("line"), MODEL, labels, rows=[(0, "x", "svm", '{"a":"b"}')]))
    assert out.data["labels"].to_list() == ['{"a":"b"}']


def test_a_dimension_that_is_the_severity_is_no_label_as_well() -> None:
    out = to_logs(frame(TIME, text("line"), text("severity", Role.DIMENSION), rows=[(0, "x", "info")]))
    assert out.schema.names == ("timestamp", "body", "severity")


@pytest.mark.parametrize(
    "columns", [(MODEL,), (Column("body", ColumnType.NUMBER),), (Column("body", ColumnType.JSON),)]
)
def test_log_lines_need_a_text(columns: tuple[Column, ...]) -> None:
    with pytest.raises(BadQuery, match="no text column that can be a log line") as caught:
        to_logs(frame(TIME, *columns, rows=[]))
    assert "body, message" in caught.value.remedy


@pytest.mark.parametrize("end", ["timeEnd", "time_end", "END"])
def test_annotations_have_the_columns_grafana_looks_for(end: str) -> None:
    columns = (
        Column("id", ColumnType.NUMBER),
        text("Tags"),
        text("note"),
        text("Text"),
        text("title"),
        Column(end, ColumnType.TIME),
        TIME,
        SCORE,
    )
    out = to_annotations(frame(*columns, rows=[(3, "a,b", "n", "t", "head", 5, 1, 0.5), (None,) * 8]))
    assert out.shape is Shape.ANNOTATIONS
    assert out.schema.names == tuple(out.data.columns) == ("time", "timeEnd", "title", "text", "tags", "id")
    assert out.data.row(0)[2:] == ("head", "t", "a,b", "3")
    assert [time - T0 for time in out.data.row(0)[:2]] == [timedelta(seconds=1), timedelta(seconds=5)]
    assert set(out.data.row(1)) == {None}


def test_an_annotation_takes_a_column_called_time_before_the_one_of_role_time() -> None:
    start = Column("started", ColumnType.TIME, role=Role.TIME)
    plain = Column("Time", ColumnType.TIME)
    assert to_annotations(frame(start, plain, MODEL, rows=[(0, 7, "x")])).data["time"][0] == T0 + timedelta(seconds=7)
    assert to_annotations(frame(MODEL, start, rows=[("x", 3)])).data["time"][0] == T0 + timedelta(seconds=3)


def test_the_text_of_an_annotation_is_the_first_text_that_is_nothing_else() -> None:
    out = to_annotations(frame(TIME, text("title"), text("tags"), text("note"), rows=[(0, "head", "a", "body")]))
    assert out.data["text"].to_list() == ["body"]


def test_the_text_of_an_annotation_is_made_of_the_measures_when_there_is_none() -> None:
    out = to_annotations(frame(TIME, SCORE, LOSS, rows=[(0, 0.5, 2), (1, None, 0.25), (2, None, None)]))
    assert out.data["text"].to_list() == ["score=0.5 percentunit, loss=2", "loss=0.25", ""]


def test_an_annotation_of_a_time_alone_is_named_after_the_dataset() -> None:
    out = to_annotations(frame(TIME, rows=[(0,), (1,)]))
    assert out.data["text"].to_list() == ["digits.runs"] * 2


@pytest.mark.parametrize(
    ("kind", "value", "wanted"), [(ColumnType.JSON, '["a"]', '["a"]'), (ColumnType.NUMBER, 5, "5")]
)
def test_tags_may_be_a_json_array_or_any_value(kind: ColumnType, value: Any, wanted: str) -> None:
    out = to_annotations(frame(TIME, text("text"), Column("tags", kind), rows=[(0, "x", value)]))
    assert out.data["tags"].to_list() == [wanted]
    assert out.schema.columns[-1].type is (kind if kind is ColumnType.JSON else ColumnType.STRING)


def test_nodes_have_their_id_first_as_text_then_what_is_drawn_then_the_rest() -> None:
    columns = (SCORE, text("ID"), text("subTitle"), text("Title"), Column("id", ColumnType.NUMBER))
    out = to_nodes(frame(*columns, rows=[(0.5, "other", "s", "t", 1)]))
    assert out.shape is Shape.NODES
    assert out.schema.names == tuple(out.data.columns) == ("id", "title", "subtitle", "score", "ID")
    assert out.data.row(0) == ("1", "t", "s", 0.5, "other")


def test_edges_have_id_source_and_target_first_as_texts() -> None:
    columns = (SCORE, Column("target", ColumnType.NUMBER), text("Source"), text("id"))
    out = to_edges(frame(*columns, rows=[(0.5, 2, "a", "e")]))
    assert out.shape is Shape.EDGES
    assert out.schema.names == tuple(out.data.columns) == ("id", "source", "target", "score")
    assert out.data.row(0) == ("e", "a", "2", 0.5)


@pytest.mark.parametrize(
    ("make", "columns", "said"),
    [
        (to_nodes, (MODEL,), "`digits.runs` cannot be shown as nodes: it has no column `id`"),
        (to_edges, (text("id"),), "it has no column `source`, `target`"),
        (to_edges, (text("source"), text("target")), "it has no column `id`"),
    ],
)
def test_a_graph_is_refused_by_naming_every_column_that_is_missing(
    make: Callable[[Frame], Frame], columns: tuple[Column, ...], said: str
) -> None:
    with pytest.raises(BadQuery, match=said) as caught:
        make(frame(*columns, rows=[]))
    assert "need id" in caught.value.remedy


def test_nodes_and_edges_without_names_are_left_out_and_counted() -> None:
    nodes = to_nodes(frame(text("id"), rows=[("a",), (None,)]))
    edges = to_edges(
        frame(*map(text, ("id", "source", "target")), rows=[("1", "a", None), (None, "a", "b"), ("2", "a", "b")])
    )
    assert nodes.data["id"].to_list() == ["a"]
    assert edges.data.rows() == [("2", "a", "b")]
    assert [notice.text for notice in nodes.meta.notices] == ["1 row without `id` left out"]
    assert [notice.text for notice in edges.meta.notices] == ["2 rows without `id` or `source` or `target` left out"]


EDGES = frame(*map(text, ("id", "source", "target")), rows=[("1", "a", "b"), ("2", "b", "c"), ("3", "d", "a")])


def test_every_end_of_an_edge_becomes_a_node() -> None:
    nodes = frame(SCORE, text("title"), text("id"), rows=[(0.5, "A", "a")])
    out = complete_graph(nodes, EDGES)
    assert out.shape is Shape.NODES
    assert out.data.rows() == [("a", "A", 0.5), ("b", "b", None), ("c", "c", None), ("d", "d", None)]
    assert out.meta.notices == (Notice("info", "3 nodes were added for ends of edges that no node names"),)


def test_a_graph_of_edges_alone_gets_all_of_its_nodes() -> None:
    out = complete_graph(None, EDGES.note(Notice("warning", "of the edges")))
    assert out.schema.names == ("id", "title")
    assert out.data.rows() == [(name, name) for name in "abcd"]
    assert (out.name, out.ref_id, out.shape) == ("digits.runs", "A", Shape.NODES)
    assert [notice.severity for notice in out.meta.notices] == ["info"]


@pytest.mark.parametrize("title", [None, Column("title", ColumnType.NUMBER)])
def test_a_node_that_is_added_has_a_title_only_where_titles_are_texts(title: Column | None) -> None:
    columns = (text("id"), *([title] if title else []))
    rows = [(name, 1) for name in "abc"]
    out = complete_graph(frame(*columns, rows=rows), EDGES)
    assert out.data.height == 4
    assert out.data.row(3) == ("d", None)[: len(columns)]
    assert out.meta.notices[0].text.startswith("1 node was added")


def test_a_complete_graph_is_left_alone() -> None:
    nodes = to_nodes(frame(text("id"), rows=[(name,) for name in "abcd"]))
    out = complete_graph(nodes, EDGES)
    assert out.data.equals(nodes.data)
    assert out.meta == nodes.meta
    empty = complete_graph(None, frame(*map(text, ("id", "source", "target")), rows=[]))
    assert (empty.rows, empty.meta.notices) == (0, ())


def test_numeric_ids_of_nodes_and_edges_meet_as_the_same_texts() -> None:
    number = [Column(name, ColumnType.NUMBER) for name in ("id", "source", "target")]
    out = complete_graph(frame(number[0], rows=[(1,), (2,)]), frame(*number, rows=[(9, 1, 2)]))
    assert out.data["id"].to_list() == ["1", "2"]
