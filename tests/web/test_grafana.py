"""What a panel sends becomes the question it meant, and answers become frames it can draw."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from bridge.errors import AnswerTooLarge, BadQuery, UnknownDataset
from bridge.model.filters import Filter, Op
from bridge.model.frame import Frame
from bridge.model.query import Agg, Query
from bridge.model.schema import Column, ColumnType, Param, Role, Schema, Shape
from bridge.model.span import EARLIEST
from bridge.sources.ask import Answer
from bridge.sources.base import DatasetSpec, NoOptions
from bridge.web import grafana
from bridge.web.handlers.json_bodies import AdHoc, QueryBody, Target, TimeRange

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SCHEMA = Schema(
    (
        Column("time", ColumnType.TIME, role=Role.TIME),
        Column("model", ColumnType.STRING, role=Role.DIMENSION),
        Column("size", ColumnType.NUMBER, role=Role.DIMENSION),
        Column("ok", ColumnType.BOOLEAN, role=Role.DIMENSION),
        Column("extra", ColumnType.JSON),
        Column("accuracy", ColumnType.NUMBER, role=Role.MEASURE),
    )
)
SPEC = DatasetSpec(
    "runs",
    NoOptions(),
    params=(
        Param("mode", options=("fast", "slow"), default="fast"),
        Param("tags", multi=True, options=("x", "y", "x,y")),
        Param("many", multi=True),
        Param("one"),
    ),
)


def query(payload: dict[str, Any]) -> Query:
    return grafana.query_of("lab.runs", payload, SPEC, SCHEMA)


@pytest.mark.parametrize(
    ("given", "span"),
    [
        (None, None),
        (TimeRange(), None),
        (TimeRange.model_validate({"from": 0, "to": 1000}), (datetime(1970, 1, 1, tzinfo=UTC), 1000)),
        (TimeRange.model_validate({"to": "1970-01-01T00:00:01Z"}), (EARLIEST, 1)),
        (TimeRange.model_validate({"from": "2026-01-31T11:00:00Z"}), (NOW.replace(hour=11), None)),
    ],
)
def test_a_range_is_half_open_and_ends_now_unless_it_says(given: Any, span: Any) -> None:
    found = grafana.span_of(given, NOW)
    if span is None:
        assert found is None
    else:
        assert found is not None
        assert found.start == span[0]
        assert found.end == (NOW if span[1] is None else datetime.fromtimestamp(span[1], UTC))


@pytest.mark.parametrize(
    "given", [{"from": 2, "to": 1}, {"from": 5, "to": 5}, {"from": "yesterday"}, {"to": "1e400"}]
)
def test_a_range_that_is_none_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(BadQuery):
        grafana.span_of(TimeRange.model_validate(given), NOW)


@pytest.mark.parametrize(
    ("value", "found"), [(None, None), (1, 1), (99.9, 99), (1e9, 1000), (float("inf"), 1000), (1e300, 1000)]
)
def test_points_are_what_the_panel_can_draw_up_to_the_row_limit(value: Any, found: Any) -> None:
    assert grafana.points(value, 1000) == found


@pytest.mark.parametrize("value", [0, -1, 0.5, float("nan"), float("-inf")])
def test_fewer_points_than_one_are_refused(value: float) -> None:
    with pytest.raises(BadQuery, match="at least 1"):
        grafana.points(value, 1000)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, None),
        (0, None),
        (-5, None),
        (float("nan"), None),
        (1500.7, 1500),
        (1e300, grafana.MAX_STEP_MS),
        (float("inf"), grafana.MAX_STEP_MS),
    ],
)
def test_an_absurd_interval_is_no_error(value: Any, found: Any) -> None:
    assert grafana.step_ms_of(value) == found


@pytest.mark.parametrize(
    ("item", "found"),
    [
        ({"key": "model", "operator": "=", "value": "svm"}, Filter("model", Op.EQ, ("svm",))),
        ({"key": "model", "value": "a,b"}, Filter("model", Op.EQ, ("a,b",))),
        ({"key": "model", "operator": "=|", "value": "a", "values": ["a", "b"]}, Filter("model", Op.EQ, ("a", "b"))),
        ({"key": "model", "operator": "!=|", "values": ["a", "a"]}, Filter("model", Op.NE, ("a",))),
        ({"key": "model", "operator": "=~", "value": "a.*", "values": ["x"]}, Filter("model", Op.RE, ("a.*",))),
        ({"key": "model", "operator": "=", "value": ""}, Filter("model", Op.EQ, ("",))),
        ({"key": "model", "operator": "=", "value": None}, Filter("model", Op.EQ, ("",))),
        ({"key": "ok", "operator": "=", "value": True}, Filter("ok", Op.EQ, ("true",))),
        ({"key": "size", "operator": ">=", "value": 10.0}, Filter("size", Op.GE, ("10",))),
        ({"key": "size", "operator": ">", "value": ""}, None),
        ({"key": "", "operator": "=", "value": "x"}, None),
    ],
)
def test_ad_hoc_filters_are_taken_word_for_word(item: dict[str, Any], found: Filter | None) -> None:
    assert grafana.adhoc([AdHoc.model_validate(item)]) == ((found,) if found else ())


@pytest.mark.parametrize(
    "item",
    [
        {"key": "model", "operator": "like", "value": "x"},
        {"key": "model", "operator": "=", "value": ["x"]},
        {"key": "model", "operator": "=", "value": {"x": 1}},
        {"key": "model", "operator": "=", "values": [["x"]]},
    ],
)
def test_an_ad_hoc_filter_that_cannot_be_one_is_refused(item: dict[str, Any]) -> None:
    with pytest.raises(BadQuery):
        grafana.adhoc([AdHoc.model_validate(item)])


def test_no_ad_hoc_filters_are_no_filters() -> None:
    assert grafana.adhoc(None) == ()


def test_filters_and_patterns_of_one_question_are_bounded() -> None:
    one, pattern = Filter("a", Op.EQ, ("x",)), Filter("a", Op.NRE, ("x",))
    assert grafana.bounded((one,) * grafana.MAX_FILTERS)
    assert grafana.bounded((pattern,) * grafana.MAX_PATTERNS)
    with pytest.raises(BadQuery, match="filters"):
        grafana.bounded((one,) * (grafana.MAX_FILTERS + 1))
    with pytest.raises(BadQuery, match="patterns"):
        grafana.bounded((pattern,) * (grafana.MAX_PATTERNS + 1))


@pytest.mark.parametrize(
    ("target", "names"),
    [
        (None, []),
        ("", []),
        ("  ", []),
        (5, []),
        (["lab.runs"], []),
        ({"value": "lab.runs"}, ["lab.runs"]),
        ({"text": "lab.runs"}, []),
        ("lab.runs", ["lab.runs"]),
        (" lab.runs ", ["lab.runs"]),
        (r"lab\.runs", ["lab.runs"]),
        ("(lab.runs|lab.events)", ["lab.runs", "lab.events"]),
        (r"lab.(runs|e\|v)", ["lab.runs", "lab.e|v"]),
        ("lab.{runs,events}", ["lab.runs", "lab.events"]),
        ("(a|b).{c,d}", ["a.c", "a.d", "b.c", "b.d"]),
        ("(a|a).c", ["a.c"]),
        ("lab.(runs)", ["lab.runs"]),
        ("lab.()", ["lab.()"]),
        (r"lab.\(a|b\)", ["lab.(a|b)"]),
        ("(a)(a)(b)", ["aab"]),
    ],
)
def test_a_target_stands_for_one_or_more_datasets(target: Any, names: list[str]) -> None:
    assert grafana.targets_of(Target(target=target)) == names


@pytest.mark.parametrize(
    "target",
    [
        "(a|b)" * 6,
        "(a|b)" * 3000,
        "{a,b}" * 3000,
        "x" * (grafana.MAX_TARGET_CHARS + 1),
        "x" * (grafana.MAX_NAME_CHARS + 1),
        "(" + "|".join(map(str, range(51))) + ")",
    ],
)
def test_a_target_that_expands_too_far_is_refused(target: str) -> None:
    with pytest.raises(BadQuery, match="the target"):
        grafana.targets_of(Target(target=target))


def test_a_target_longer_than_anyone_writes_is_not_looked_into() -> None:
    with pytest.raises(BadQuery, match="has 20001 characters; at most 16384 are read"):
        grafana.targets_of(Target(target="(a|b)" * 4000 + "c"))


@pytest.mark.parametrize("target", ["(a)" * 5000, "(" * 16_000, "({" * 8000, "(" + "\\" * 16_000, "{" * 16_000])
def test_a_target_made_to_be_slow_is_read_in_one_pass(target: str) -> None:
    with pytest.raises(BadQuery, match="longer than any dataset's name"):
        grafana.targets_of(Target(target=target))


@pytest.mark.parametrize(
    ("item", "payload"),
    [
        ({}, {}),
        ({"payload": {"a": 1}}, {"a": 1}),
        ({"payload": '{"a": 1}'}, {"a": 1}),
        ({"payload": ""}, {}),
        ({"data": {"a": 1}}, {"a": 1}),
        ({"payload": {}, "data": {"a": 1}}, {}),
    ],
)
def test_a_payload_is_an_object_its_text_or_the_older_spelling(item: dict[str, Any], payload: dict[str, Any]) -> None:
    assert grafana.payload_of(Target.model_validate(item)) == payload


@pytest.mark.parametrize("payload", ["{", "[1]", "5", [1], 5, True])
def test_a_payload_that_is_none_is_refused_by_its_ref_id(payload: Any) -> None:
    with pytest.raises(BadQuery, match="the payload of B"):
        grafana.payload_of(Target(refId="B", payload=payload))


@pytest.mark.parametrize(
    ("payload", "filters"),
    [
        ({}, ()),
        ({"model": "svm"}, (Filter("model", Op.EQ, ("svm",)),)),
        ({"model": "(svm|mlp)"}, (Filter("model", Op.EQ, ("svm", "mlp")),)),
        ({"model": "a,b"}, (Filter("model", Op.EQ, ("a,b", "a", "b")),)),
        ({"extra": "a,b"}, (Filter("extra", Op.EQ, ("a,b", "a", "b")),)),
        ({"size": "10,20"}, (Filter("size", Op.EQ, ("10", "20")),)),
        ({"size": [10, 20.0]}, (Filter("size", Op.EQ, ("10", "20")),)),
        ({"ok": True}, (Filter("ok", Op.EQ, ("true",)),)),
        ({"model": "$__all"}, ()),
        ({"time": "2026-01-31"}, ()),
        ({"left_over": "x", "model": None}, ()),
        ({"filter": "model=svm"}, (Filter("model", Op.EQ, ("svm",)),)),
        ({"filter": "model=(svm|mlp)"}, (Filter("model", Op.EQ, ("svm", "mlp")),)),
        ({"filter": r"accuracy>=0\.9"}, (Filter("accuracy", Op.GE, ("0.9",)),)),
        ({"filter": "model=a,b"}, (Filter("model", Op.EQ, ("a,b",)),)),
        ({"filter": "model=$__all"}, ()),
        ({"filter": "model="}, (Filter("model", Op.EQ, ("",)),)),
        ({"filter": "model=~(s|m).*"}, (Filter("model", Op.RE, ("(s|m).*",)),)),
        ({"filter": "model!~.*"}, (Filter("model", Op.NRE, (".*",)),)),
        (
            {"filter": "model=svm\n\n accuracy>0.5 \r\n"},
            (Filter("model", Op.EQ, ("svm",)), Filter("accuracy", Op.GT, ("0.5",))),
        ),
        (
            {"filter": ["model=a;b", "size<5"]},
            (Filter("model", Op.EQ, ("a;b",)), Filter("size", Op.LT, ("5",))),
        ),
    ],
)
def test_payload_keys_named_after_columns_filter(payload: dict[str, Any], filters: tuple[Filter, ...]) -> None:
    assert query(payload).filters == filters


def test_without_a_schema_only_written_filters_filter() -> None:
    found = grafana.query_of("lab.runs", {"model": "svm", "filter": "model=svm"}, SPEC, None)
    assert found.filters == (Filter("model", Op.EQ, ("svm",)),)


@pytest.mark.parametrize(
    ("payload", "params"),
    [
        ({}, {"mode": ("fast",)}),
        ({"mode": "slow"}, {"mode": ("slow",)}),
        ({"mode": "$__all"}, {"mode": ("fast",)}),
        ({"tags": "x,y"}, {"mode": ("fast",), "tags": ("x,y",)}),
        ({"tags": "y,x"}, {"mode": ("fast",), "tags": ("y", "x")}),
        ({"many": "a,b"}, {"mode": ("fast",), "many": ("a", "b")}),
        ({"many": ["a|b", "c"]}, {"mode": ("fast",), "many": ("a", "b", "c")}),
        ({"one": "a,b|c"}, {"mode": ("fast",), "one": ("a,b|c",)}),
    ],
)
def test_the_datasets_own_parameters_take_their_values(
    payload: dict[str, Any], params: dict[str, tuple[str, ...]]
) -> None:
    assert dict(query(payload).params) == params


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"mode": "quick"}, "`mode` cannot be 'quick'"),
        ({"tags": "x,z"}, "`tags` cannot be 'z'"),
        ({"one": ["a", "b"]}, "`one` takes one value and was given 2"),
        ({"mode": "(fast|slow)"}, "`mode` takes one value"),
        ({"one": {"a": 1}}, "`one` must be a value"),
        ({"model": {"a": 1}}, "`model` must be a value"),
        ({"filter": "model"}, "cannot read the filter"),
        ({"filter": {"a": 1}}, "`filter`"),
        ({"filter": [["model=x"]]}, "`filter`"),
        ({"filter": "\n".join(["model=x"] * 101)}, "101 filters"),
        # Refused before any of them is looked at.
        ({"filter": "\n".join(["model=$__all"] * 101)}, "101 filters"),
        ({"agg": "median"}, "`agg` cannot be 'median'"),
        ({"agg": "(mean|max)"}, "`agg` cannot be 'mean,max'"),
    ],
)
def test_a_payload_value_that_cannot_be_used_is_refused(payload: dict[str, Any], text: str) -> None:
    with pytest.raises(BadQuery) as caught:
        query(payload)
    assert text in caught.value.message


@pytest.mark.parametrize(
    ("payload", "columns", "series", "agg"),
    [
        ({}, (), None, None),
        ({"columns": "accuracy,size", "agg": "auto"}, ("accuracy", "size"), None, None),
        ({"columns": ["accuracy", "a,b"], "agg": "max"}, ("accuracy", "a", "b"), None, Agg.MAX),
        ({"series": "none"}, (), (), None),
        ({"series": "{model,size}"}, (), ("model", "size"), None),
        ({"series": "$__all", "agg": None}, (), None, None),
    ],
)
def test_columns_series_and_joining_are_read(payload: Any, columns: Any, series: Any, agg: Any) -> None:
    found = query(payload)
    assert (found.columns, found.series, found.agg) == (columns, series, agg)


@pytest.mark.parametrize(
    ("body", "target", "shape"),
    [
        ({}, {}, Shape.TIMESERIES),
        ({"panelPluginId": "timeseries"}, {}, Shape.TIMESERIES),
        ({"panelPluginId": "stat"}, {}, Shape.TIMESERIES),
        ({"panelPluginId": "table"}, {}, Shape.TABLE),
        ({"panelPluginId": "logs"}, {}, Shape.LOGS),
        ({"panelPluginId": "nodeGraph"}, {}, Shape.TABLE),
        ({"panelPluginId": "table"}, {"type": "timeserie"}, Shape.TIMESERIES),
        ({"panelPluginId": "table"}, {"type": "timeseries"}, Shape.TIMESERIES),
        ({}, {"type": "table"}, Shape.TABLE),
        ({}, {"refId": "Anno"}, Shape.ANNOTATIONS),
        ({"scopedVars": {"__annotation": {}}}, {}, Shape.ANNOTATIONS),
    ],
)
def test_the_asking_panel_decides_the_shape(body: Any, target: Any, shape: Shape) -> None:
    found = grafana.shape_of(QueryBody.model_validate(body), Target.model_validate(target))
    assert found is shape


def test_a_request_may_not_hold_endless_targets() -> None:
    with pytest.raises(ValidationError):
        QueryBody.model_validate({"targets": [{}] * 201})


def frame(ids: list[str], shape: Shape = Shape.NODES, name: str = "lab.nodes") -> Frame:
    return Frame(pl.DataFrame({"id": ids}), Schema((Column("id", ColumnType.STRING),)), name=name, shape=shape)


def failed(ref_id: str) -> Answer:
    return Answer(Query("lab.x", ref_id), error=UnknownDataset("there is no `lab.x`", remedy="look"))


def test_a_failed_target_is_an_empty_frame_that_says_why_beside_the_others() -> None:
    good = Answer(Query("lab.nodes", "A"), (replace(frame(["1"]), ref_id="A"),))
    first, second = grafana.wire([good, failed("B")], {"A": "Mine"})
    assert first["schema"]["name"] == "Mine"
    assert first["schema"]["refId"] == "A"
    assert second["schema"]["refId"] == "B"
    assert second["schema"]["meta"]["notices"] == [{"severity": "error", "text": "there is no `lab.x` (look)"}]
    assert second["schema"]["meta"]["custom"] == {"error": "unknown_dataset", "status": 404}
    assert second["data"] == {"values": []}


def test_when_every_target_failed_the_first_error_is_the_answer() -> None:
    with pytest.raises(UnknownDataset):
        grafana.wire([failed("A"), failed("B")], {})


def test_no_targets_are_no_frames() -> None:
    assert grafana.wire([], {}) == []


def test_an_error_frame_is_made_of_an_error_only() -> None:
    with pytest.raises(ValueError, match="no error"):
        grafana.error_frame(Answer(Query("lab.x")))
    plain = grafana.error_frame(Answer(Query("lab.x"), error=BadQuery("no")))
    assert plain["schema"]["meta"]["notices"][0]["text"] == "no"


def test_nodes_are_added_for_ends_that_another_targets_edges_name() -> None:
    edges = Frame(
        pl.DataFrame({"id": ["e"], "source": ["1"], "target": ["9"]}),
        Schema(tuple(Column(name, ColumnType.STRING) for name in ("id", "source", "target"))),
        shape=Shape.EDGES,
    )
    nodes, other = Answer(Query("lab.nodes", "A"), (frame(["1"]),)), Answer(Query("lab.edges", "B"), (edges,))
    first, second = grafana.wire([nodes, other], {})
    assert first["data"]["values"][0] == ["1", "9"]
    assert second["data"]["values"][2] == ["9"]


def test_the_rows_of_all_queries_together_are_bounded() -> None:
    answers = [Answer(Query("lab.nodes"), (frame(["1", "2"]),))] * 2
    assert grafana.refuse_rows(answers, 4) == 4
    with pytest.raises(AnswerTooLarge, match="4 rows, more than the 3"):
        grafana.refuse_rows(answers, 3)
