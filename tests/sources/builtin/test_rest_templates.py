from datetime import UTC, datetime, timedelta

import pytest

from bridge.errors import BadQuery
from bridge.model.filters import Filter, Op
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Param
from bridge.model.span import Span
from bridge.sources.builtin.rest.templates import (
    Absent,
    body_names,
    check_path,
    check_template,
    compile_body,
    compile_path,
    compile_template,
    render_body,
    render_params,
    render_path,
    values_of,
)

START = datetime(2026, 1, 31, 12, 0, 0, 250_001, UTC)
SPAN = Span(START, START + timedelta(seconds=10))
MODEL = Column("model", ColumnType.STRING)
ACTIVE = Column("active", ColumnType.BOOLEAN)


def values(query: Query, *params: Param) -> dict[str, tuple[str, ...]]:
    return values_of(query, [MODEL, ACTIVE], params, max_rows=100)


def texts(template: str, query: Query, *params: Param) -> list[str]:
    return list(compile_template(template).render(values(query, *params)))


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{from_ms}", "1769860800250"),
        ("{to_ms}", "1769860810251"),
        ("{from_s}", "1769860800"),
        ("{to_s}", "1769860811"),
        ("{from_iso}", "2026-01-31T12:00:00.250001Z"),
        ("{to_iso}", "2026-01-31T12:00:10.250001Z"),
        ("{step_ms}", "1500"),
        ("{step_s}", "1.5"),
        ("{max_points}", "600"),
        ("{limit}", "101"),
        ("{param.model}", "svm"),
        ("{filter.model}", "forest"),
        ("time>={from_s} and time<{to_s}", "time>=1769860800 and time<1769860811"),
        ("{{{param.model}}}", "{svm}"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_every_name_stands_for_a_part_of_the_question_and_span_ends_are_never_cut(template: str, text: str) -> None:
    query = Query(
        "far.runs",
        span=SPAN,
        step_ms=1500,
        max_points=600,
        filters=(Filter("model", Op.EQ, ("forest",)),),
        params=(("model", ("svm",)),),
    )
    assert texts(template, query, Param("model")) == [text]


def test_a_whole_step_is_written_without_a_fraction() -> None:
    assert texts("{step_s}", Query("far.runs", step_ms=60_000)) == ["60"]


@pytest.mark.parametrize("name", ["from_ms", "to_iso", "step_s", "max_points", "param.model", "filter.model"])
def test_what_the_question_does_not_say_is_absent(name: str) -> None:
    assert texts(f"x{{{name}}}", Query("far.runs"), Param("model")) == []


def test_a_parameter_falls_back_to_its_default() -> None:
    assert texts("{param.model}", Query("far.runs"), Param("model", default="svm")) == ["svm"]


@pytest.mark.parametrize(
    ("items", "pushed"),
    [
        ([Filter("model", Op.EQ, ("a", "b"))], ["a", "b"]),
        ([Filter("model", Op.EQ, ("a",)), Filter("model", Op.EQ, ("b",))], ["a"]),
        ([Filter("model", Op.NE, ("a",))], []),
        ([Filter("model", Op.RE, ("a.*",))], []),
        ([Filter("model", Op.EQ, ("a", ""))], []),
        ([Filter("other", Op.EQ, ("a",))], []),
    ],
)
def test_only_equality_with_values_reaches_the_far_side(items: list[Filter], pushed: list[str]) -> None:
    assert texts("{filter.model}", Query("far.runs", filters=tuple(items))) == pushed


@pytest.mark.parametrize(("value", "sent"), [("1", "true"), ("0", "false"), ("True", "true"), ("false", "false")])
def test_a_boolean_filter_is_spelled_as_far_apis_know_it(value: str, sent: str) -> None:
    assert texts("{filter.active}", Query("far.runs", filters=(Filter("active", Op.EQ, (value,)),))) == [sent]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{from}", "unknown name {from}"),
        ("{}", "unknown name {}"),
        ("{param.}", "unknown name {param.}"),
        ("{param.a b}", "unknown name"),
        ("{__class__}", "unknown name"),
        ("{from_ms!r}", "unknown name"),
        ("a{", "lone `{` in 'a{'"),
        ("a}", "write `}}` for a literal brace"),
    ],
)
def test_a_wrong_template_is_refused_with_the_text_and_the_known_names(text: str, part: str) -> None:
    with pytest.raises(ValueError, match="in ") as error:
        check_template(text)
    assert part in str(error.value)


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("runs", "must begin with `/`"),
        ("/runs?a=1", "query parameters go under `params`"),
        ("/runs#x", "must not hold `?` or `#`"),
        ("/a/../b", "climbs"),
        ("/a/%2e%2e/b", "climbs"),
        ("/a/{x}", "unknown name"),
        ("/a%0d%0ab", "characters that do not belong"),
    ],
)
def test_a_wrong_path_is_refused_when_the_settings_are_read(path: str, part: str) -> None:
    with pytest.raises(ValueError, match=r"path|name") as error:
        check_path(path)
    assert part in str(error.value)


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("svm", "/models/svm/runs"),
        ("a/b", "/models/a%2Fb/runs"),
        ("../../admin", "/models/..%2F..%2Fadmin/runs"),
        ("a?b#c&d", "/models/a%3Fb%23c%26d/runs"),
        ("a%2fb", "/models/a%252fb/runs"),
        ("ä b", "/models/%C3%A4%20b/runs"),
        ("...", "/models/.../runs"),
    ],
)
def test_a_value_stays_inside_its_own_path_segment(value: str, path: str) -> None:
    query = Query("far.runs", params=(("model", (value,)),))
    assert render_path(compile_path("/models/{param.model}/runs"), values(query, Param("model")), dataset="d") == path


@pytest.mark.parametrize("value", ["", ".", "..", "%2e%2e", "a\r\nb", "a\x00b", "\ud800"])
def test_a_value_that_would_change_the_path_is_refused_with_its_name(value: str) -> None:
    query = Query("far.runs", params=(("model", (value,)),))
    with pytest.raises(BadQuery, match=r"^`far.runs` cannot use .* for `param.model`"):
        render_path(compile_path("/models/{param.model}"), values(query, Param("model")), dataset="far.runs")


def test_two_values_side_by_side_cannot_climb() -> None:
    query = Query("far.runs", params=(("a", (".",)), ("b", (".",))))
    with pytest.raises(BadQuery, match=r"param\.a"):
        render_path(compile_path("/x/{param.a}{param.b}"), values(query, Param("a"), Param("b")), dataset="d")


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/m/{param.model}", "`far.runs` needs the parameter `model`"),
        ("/m/{filter.model}", "`far.runs` needs a filter on `model`"),
        ("/m/{from_ms}", "`far.runs` needs a time range"),
        ("/m/{step_s}", "`far.runs` needs `step_s`"),
    ],
)
def test_a_path_without_its_value_says_what_is_required(path: str, sentence: str) -> None:
    with pytest.raises(BadQuery) as error:
        render_path(compile_path(path), values(Query("far.runs"), Param("model")), dataset="far.runs")
    assert error.value.message == sentence
    assert error.value.remedy


def test_a_path_takes_one_value_only() -> None:
    query = Query("far.runs", params=(("model", ("a", "b")),))
    with pytest.raises(BadQuery, match=r"takes one value for `param\.model`, not 2"):
        render_path(compile_path("/m/{param.model}"), values(query, Param("model")), dataset="far.runs")


def test_literal_parts_of_a_path_are_encoded_once() -> None:
    assert render_path(compile_path("/a b/%20/x:y"), {}, dataset="d") == "/a%20b/%20/x:y"


def test_absent_parameters_are_left_out_and_multiple_ones_repeated() -> None:
    templates = {
        "from": compile_template("{from_ms}"),
        "model": compile_template("m:{param.model}"),
        "fixed": compile_template("1"),
    }
    query = Query("far.runs", params=(("model", ("a", "b")),))
    assert render_params(templates, values(query, Param("model", multi=True))) == [
        ("model", "m:a"),
        ("model", "m:b"),
        ("fixed", "1"),
    ]


def test_a_parameter_is_not_repeated_without_end() -> None:
    many = tuple(map(str, range(40)))
    query = Query("far.runs", params=(("a", many), ("b", many)))
    with pytest.raises(BadQuery, match="repeated 1600 times; at most 1000"):
        render_params({"x": compile_template("{param.a}{param.b}")}, values(query, Param("a"), Param("b")))


BODY = compile_body(
    {
        "range": {"from": "{from_ms}", "to": "{to_iso}"},
        "step": "{step_s}",
        "models": "{param.models}",
        "model": "{param.model}",
        "terms": [{"active": "{filter.active}"}, "{filter.model}", "fixed", 1, None, True],
        "text": "x {param.model}",
    }
)


def body(query: Query) -> object:
    return render_body(BODY, values(query, Param("models", multi=True), Param("model")), frozenset(("param.models",)))


def test_a_body_carries_numbers_lists_and_texts() -> None:
    query = Query(
        "far.runs",
        span=SPAN,
        step_ms=1_500,
        filters=(Filter("model", Op.EQ, ("svm",)), Filter("active", Op.EQ, ("1",))),
        params=(("models", ("a",)), ("model", ("b",))),
    )
    assert body(query) == {
        "range": {"from": 1769860800250, "to": "2026-01-31T12:00:10.250001Z"},
        "step": 1.5,
        "models": ["a"],
        "model": "b",
        "terms": [{"active": "true"}, "svm", "fixed", 1, None, True],
        "text": "x b",
    }


def test_parts_of_a_body_without_a_value_are_left_out() -> None:
    assert body(Query("far.runs")) == {"range": {}, "terms": [{}, "fixed", 1, None, True]}


def test_a_body_leaves_out_a_filter_with_several_values_as_bridge_filters_again() -> None:
    query = Query("far.runs", filters=(Filter("model", Op.EQ, ("a", "b")),))
    assert body(query) == {"range": {}, "terms": [{}, "fixed", 1, None, True]}


def test_a_body_takes_one_value_where_the_parameter_is_single() -> None:
    with pytest.raises(BadQuery, match=r"the body takes one value for `param\.model`"):
        body(Query("far.runs", params=(("model", ("a", "b")),)))


def test_a_body_that_is_one_absent_text_is_absent() -> None:
    with pytest.raises(Absent):
        render_body(compile_body("{from_ms}"), {}, frozenset())


def test_the_names_of_a_body_are_found_at_any_depth() -> None:
    assert body_names(BODY) == {
        "from_ms",
        "to_iso",
        "step_s",
        "param.models",
        "param.model",
        "filter.active",
        "filter.model",
    }
