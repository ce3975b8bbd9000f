import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from aiohttp import web

from bridge.errors import BadQuery
from bridge.model.filters import Filter, Op
from bridge.model.query import Query
from bridge.model.schema import Param
from bridge.model.span import Span
from bridge.sources.base import BadSetting, DatasetSpec, NoOptions
from bridge.sources.builtin.rest import RestSource
from servers.far import Seen, far, js, text
from servers.rest_rig import HandClock, build, rest, tools

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
SPAN = Span(START, START + timedelta(hours=1))
Q = Query("far.runs")
RUNS = {
    "items": [
        {"id": 1, "at": "2026-01-31T12:00:00Z", "model": {"kind": "svm"}, "acc": 0.5, "ok": True, "tags": ["a"]},
        {"id": 2, "at": 1769860860, "model": {"kind": "tree"}, "acc": None, "ok": False},
    ]
}
COLS = ("time:time=at", "model=model.kind", "acc:number", "ok:boolean", "tags:json", "twice:number=to_number(id)")


async def test_any_json_becomes_typed_columns_by_configuration_alone() -> None:
    async with far(lambda seen: js(RUNS)) as there, rest(there.url, {"rows": "items"}, COLS) as source:
        frame = await source.collect(Q)
    assert frame.name == "far.runs"
    assert frame.schema.names == ("time", "model", "acc", "ok", "tags", "twice")
    assert frame.data.schema["time"] == pl.Datetime("us", "UTC")
    assert frame.data.rows() == [
        (START, "svm", 0.5, True, '["a"]', 1),
        (START + timedelta(minutes=1), "tree", None, False, None, 2),
    ]
    assert frame.meta.executed == "GET /runs"
    assert frame.meta.notices == ()
    assert source.validate(frame).findings == ()


@pytest.mark.parametrize(
    ("answer", "rows", "values"),
    [
        (js([{"name": "a", "value": 1}]), "@", [("a", 1)]),
        (js({"name": "a", "value": 1}), "@", [("a", 1)]),
        (js({"data": {"rows": [{"name": "a", "value": 1}]}}), "data.rows", [("a", 1)]),
        (js({"data": [{"name": "a", "value": 1}, {"name": "b", "value": 2}]}), "data[?value > `1`]", [("b", 2)]),
        (js({"data": None}), "data", []),
        (js({"data": []}), "data", []),
        (js([None, {"name": "a", "value": 1}]), "@", [("a", 1)]),
        (text('{"name": "a", "value": 1}\n{"name": "b"}\n', "application/x-ndjson"), "@", [("a", 1), ("b", None)]),
        (text("name,value\na,1\nb,\n", "text/csv"), "@", [("a", 1), ("b", None)]),
        (text("name,value\n", "text/csv"), "@", []),
        (text("", "application/json"), "@", []),
        (text("", status=204), "@", []),
        (js([{"name": 7, "value": "2.5"}]), "@", [("7", 2.5)]),
    ],
)
async def test_rows_are_found_in_every_form(answer: web.Response, rows: str, values: list[Any]) -> None:
    async with far(lambda seen: answer) as there, rest(there.url, {"rows": rows}) as source:
        frame = await source.collect(Q)
    assert frame.data.rows() == values
    assert frame.data.columns == ["name", "value"]
    assert source.validate(frame).findings == ()


async def test_rows_that_are_arrays_are_read_by_position() -> None:
    answer = {"columns": ["name", "value"], "values": [["a", 1], ["b", 2]]}
    cols = ("name=[0]", "value:number=[1]")
    async with far(lambda seen: js(answer)) as there, rest(there.url, {"rows": "values"}, cols) as source:
        assert (await source.collect(Q)).data.rows() == [("a", 1), ("b", 2)]


async def test_rows_that_are_plain_values_are_a_column_of_their_own() -> None:
    async with far(lambda seen: js(["a", "b"])) as there, rest(there.url, {}, ("name=@",)) as source:
        assert (await source.collect(Q)).data["name"].to_list() == ["a", "b"]


async def test_the_question_reaches_the_far_side_through_templates() -> None:
    dataset = {
        "path": "/models/{param.model}/runs",
        "params": {
            "from": "{from_s}",
            "to": "{to_s}",
            "tag": "{param.tag}",
            "name": "{filter.name}",
            "absent": "{param.none}",
            "n": "{max_points}",
        },
        "headers": {"X-Own": "1"},
    }
    params = (Param("model"), Param("tag", multi=True), Param("none"))
    query = Query(
        "far.runs",
        span=SPAN,
        max_points=500,
        filters=(Filter("name", Op.EQ, ("x", "y")), Filter("value", Op.GT, ("1",))),
        params=(("model", ("a/b",)), ("tag", ("t1", "t 2"))),
    )
    answer = [{"name": "x", "value": 1}]
    headers = {"X-All": "2"}
    async with (
        far(lambda seen: js(answer)) as there,
        rest(f"{there.url}/api", dataset, params=params, headers=headers) as source,
    ):
        frame = await source.collect(source.narrow(query))
    assert there.last.path == "/api/models/a%2Fb/runs"
    assert there.last.params == [
        ("from", "1769860800"),
        ("to", "1769864400"),
        ("tag", "t1"),
        ("tag", "t 2"),
        ("name", "x"),
        ("name", "y"),
        ("n", "500"),
    ]
    assert (there.last.headers["X-Own"], there.last.headers["X-All"]) == ("1", "2")
    assert frame.meta.executed == (
        "GET /models/a%2Fb/runs?from=1769860800&to=1769864400&tag=t1&tag=t+2&name=x&name=y&n=500"
    )


async def test_a_post_carries_a_json_body() -> None:
    dataset = {"method": "POST", "body": {"range": ["{from_ms}", "{to_ms}"], "q": "{param.q}"}}
    answer = [{"name": "x", "value": 1}]
    async with far(lambda seen: js(answer)) as there, rest(there.url, dataset, params=(Param("q"),)) as source:
        await source.collect(Query("far.runs", span=SPAN))
    assert there.last.method == "POST"
    assert there.last.headers["Content-Type"] == "application/json"
    assert there.last.json == {"range": [1769860800000, 1769864400000]}


async def test_only_what_the_templates_use_makes_two_questions_different() -> None:
    full = Query(
        "far.runs",
        ref_id="B",
        span=SPAN,
        step_ms=1_000,
        max_points=10,
        filters=(
            Filter("name", Op.NE, ("z",)),
            Filter("name", Op.EQ, ("x",)),
            Filter("name", Op.EQ, ("y",)),
            Filter("value", Op.EQ, ("1",)),
        ),
        columns=("name",),
        params=(("q", ("1",)),),
        fresh=True,
    )
    async with tools() as given:

        def narrowed(params: dict[str, str], body: Any = None) -> Query:
            dataset = {"params": params, "body": body, "method": "POST" if body else "GET"}
            return build(given, "http://127.0.0.1:1", dataset).narrow(full)

        bare = Query("far.runs", params=full.params)
        assert narrowed({}) == bare
        assert narrowed({"a": "{to_iso}"}) == Query("far.runs", span=SPAN, params=full.params)
        assert narrowed({"a": "{step_s}"}) == Query("far.runs", step_ms=1_000, params=full.params)
        assert narrowed({"a": "{max_points}"}) == Query("far.runs", max_points=10, params=full.params)
        assert narrowed({}, {"a": ["{filter.name}"]}) == Query(
            "far.runs", filters=(Filter("name", Op.EQ, ("x",)),), params=full.params
        )
        source = build(given, "http://127.0.0.1:1")
        assert source.metadata.pushes_down
        assert not source.metadata.streams
        assert (source.kind, source.infers_schema) == ("rest", False)


async def test_a_path_without_its_parameter_is_the_callers_error() -> None:
    dataset = {"path": "/m/{param.model}"}
    async with far(lambda seen: js([])) as there, rest(there.url, dataset, params=(Param("model"),)) as source:
        with pytest.raises(BadQuery, match=r"`far\.runs` needs the parameter `model`"):
            await source.collect(Q)
    assert there.seen == []


async def test_a_big_answer_is_read_beside_the_loop_with_the_same_result() -> None:
    rows = [{"name": "x" * 200, "value": index} for index in range(2_000)]
    async with far(lambda seen: js(rows)) as there, rest(there.url) as source:
        frame = await source.collect(Q)
    assert len(json.dumps(rows)) > 256 * 1024
    assert frame.data["value"].to_list() == list(range(2_000))


@pytest.mark.parametrize(
    ("dataset", "cols", "loc", "text"),
    [
        (
            {},
            ("name", "value:number=a..b"),
            ("datasets", "runs", "columns", 1, "select"),
            "column `value`: `select` 'a..b' is no JMESPath expression",
        ),
        (
            {"params": {"a": "{filter.nope}"}},
            ("name",),
            ("datasets", "runs", "options"),
            "{filter.nope}: far.runs declares no column `nope` (declared: name)",
        ),
        (
            {"path": "/{param.model}"},
            ("name",),
            ("datasets", "runs", "options"),
            "{param.model}: far.runs declares no parameter `model` (declared: none)",
        ),
        (
            {"method": "POST", "body": {"a": [{"b": "{param.model}"}]}},
            ("name",),
            ("datasets", "runs", "options"),
            "{param.model}: far.runs declares no parameter `model` (declared: none)",
        ),
    ],
)
async def test_what_cannot_work_is_refused_at_the_start_with_its_place(
    dataset: dict[str, Any], cols: tuple[str, ...], loc: tuple[Any, ...], text: str
) -> None:
    async with tools() as given:
        with pytest.raises(BadSetting) as error:
            build(given, "http://127.0.0.1:1", dataset, cols)
    assert text in str(error.value)
    assert error.value.loc == loc


@pytest.mark.parametrize(
    ("dataset", "part"),
    [
        ({"rows": "a["}, "'a[' is no JMESPath expression"),
        ({"params": {"a": "{nope}"}}, "unknown name {nope}"),
        ({"body": {"a": 1}}, "`body` needs `method: POST`"),
        ({"method": "POST", "body": {"a": ["{nope}"]}}, "unknown name {nope}"),
        ({"method": "POST", "body": {"a": {1: 2}}}, "a body key must be text, not 1"),
        ({"method": "POST", "body": {"a": START}}, "a body holds what JSON can hold, not datetime"),
        ({"method": "POST", "paging": {"kind": "link"}}, "paging by link needs `method: GET`"),
        ({"method": "DELETE"}, "Input should be 'GET' or 'POST'"),
        ({"headers": {"Cookie": "x"}}, "credentials go under `auth`"),
        ({"colums": []}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_option_is_refused_with_its_name(dataset: dict[str, Any], part: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as error:
        RestSource.DatasetOptions.model_validate({"path": "/runs", **dataset})
    assert part in str(error.value)


async def test_foreign_options_are_a_programming_error() -> None:
    async with tools() as given:
        with pytest.raises(TypeError, match="options of NoOptions"):
            RestSource("far", NoOptions(), {}, given)
        options = RestSource.SourceOptions.model_validate({"url": "http://a"})
        with pytest.raises(TypeError, match=r"far\.runs: options of NoOptions"):
            RestSource("far", options, {"runs": DatasetSpec("runs", NoOptions())}, given)


async def test_an_address_that_may_not_be_called_is_refused_at_the_start() -> None:
    async with tools() as given:
        with pytest.raises(ValueError, match="only http"):
            build(given, "file:///etc/passwd")


@pytest.mark.parametrize("status", [200, 204, 404, 500])
async def test_ping_takes_any_answer_for_a_sign_of_life(status: int) -> None:
    async with far(lambda seen: text("", status=status)) as there, rest(f"{there.url}/base") as source:
        ping = await source.ping()
    assert ping.ok
    assert there.last.path == "/base"


async def test_ping_says_what_keeps_a_far_side_from_answering() -> None:
    async with far(lambda seen: js([])) as there:
        url = there.url
    async with rest(url) as source:
        ping = await source.ping()
    assert not ping.ok
    assert "cannot connect" in ping.text


async def test_a_cancelled_question_ends_the_request_at_the_far_side() -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def serve(seen: Seen) -> web.Response:
        arrived.set()
        try:
            await asyncio.Event().wait()
        finally:
            gone.set()
        return js([])

    async with far(serve) as there, rest(there.url) as source:
        task = asyncio.create_task(source.collect(Q))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(gone.wait(), 10)


async def test_the_clock_is_the_injected_one() -> None:
    clock = HandClock()
    async with tools(clock) as given:
        assert build(given, "http://127.0.0.1:1").tools.clock is clock
