import asyncio
from typing import Any

import pytest
from aiohttp import web

from bridge.errors import SchemaMismatch, UpstreamInvalid, UpstreamRefused
from bridge.model.query import Query
from bridge.model.span import EPOCH, Span, timedelta
from bridge.sources.builtin.rest.plan import BadSetting
from servers.far import Seen, far, js, text
from servers.rest_rig import HandClock, build, rest, tools

Q = Query("far.runs")


class Container:
    """An API that was renamed from one version to the next."""

    def __init__(self, api: Any) -> None:
        self.api = api

    def __call__(self, seen: Seen) -> web.Response:
        if seen.path == "/version":
            return js({"api": self.api})
        if seen.path == "/runs":
            return js([{"name": "old", "value": 1}])
        if seen.path == "/v2/runs":
            return js({"items": [{"name": "new", "metrics": {"value": 2}}]})
        return js({"detail": "gone"}, status=404)


BY_VERSION = {
    "1": {},
    "2": {
        "path": "/v2/runs",
        "rows": "items",
        "params": {"new": "1", "old": None},
        "select": {"value": "metrics.value"},
    },
    "2.5-beta": {"path": "/v2/runs", "rows": "items", "select": {"value": "`5`"}},
}
DATASET = {"params": {"old": "1", "both": "1"}, "by_version": BY_VERSION}
VERSION = {"version": {"path": "/version", "select": "api"}}


@pytest.mark.parametrize(
    ("api", "name", "value"),
    [
        ("1", "old", 1),
        ("1.9.3", "old", 1),
        (1, "old", 1),
        ("2", "new", 2),
        ("2.1", "new", 2),
        ("v2.7.1-rc1", "new", 2),
        (2.0, "new", 2),
        (" 2.5-beta ", "new", 5),
    ],
)
async def test_the_far_version_decides_how_it_is_asked_and_read(api: Any, name: str, value: int) -> None:
    async with far(Container(api)) as there, rest(there.url, DATASET, **VERSION) as source:
        frame = await source.collect(Q)
        assert frame.data.rows() == [(name, value)]
        assert source.far_version == str(api).strip()
        assert source.metadata.far_version == str(api).strip()
    wanted = [("old", "1"), ("both", "1")] if name == "old" else [("both", "1"), ("new", "1")]
    assert there.last.params == wanted or api == " 2.5-beta "


@pytest.mark.parametrize("api", ["3", "21", "beta"])
async def test_a_version_nobody_configured_is_named_with_the_known_ones(api: str) -> None:
    async with far(Container(api)) as there, rest(there.url, DATASET, **VERSION) as source:
        with pytest.raises(UpstreamInvalid) as error:
            await source.collect(Q)
    assert error.value.message == f"far.runs: the far API has version {api!r}; known are 1, 2, 2.5-beta"
    assert error.value.remedy == "add this version under `by_version`"


@pytest.mark.parametrize("api", [None, "", True, {"major": 2}, "9" * 65])
async def test_a_version_that_is_none_is_said_so(api: Any) -> None:
    async with far(Container(api)) as there, rest(there.url, DATASET, **VERSION) as source:
        with pytest.raises(UpstreamInvalid) as error:
            await source.collect(Q)
    assert error.value.message == "GET /version does not tell the API's version at `api`"


async def test_a_version_may_stand_in_a_header() -> None:
    def serve(seen: Seen) -> web.Response:
        return js([{"name": "x", "value": 1}], X_API_Version="2024-05")

    version = {"path": "/", "header": "X-API-Version"}
    async with far(serve) as there, rest(there.url, {"by_version": {"2024": {}}}, version=version) as source:
        assert (await source.collect(Q)).rows == 1
        assert source.far_version == "2024-05"


async def test_a_missing_version_header_is_named() -> None:
    version = {"path": "/", "header": "X-API-Version"}
    dataset = {"by_version": {"1": {}}}
    async with far(lambda seen: js([])) as there, rest(there.url, dataset, version=version) as source:
        with pytest.raises(UpstreamInvalid, match="GET / does not tell the API's version at header `X-API-Version`"):
            await source.collect(Q)


async def test_the_version_is_asked_once_a_minute_for_all_who_wait() -> None:
    container, clock = Container("1"), HandClock()
    async with far(container) as there, rest(there.url, DATASET, clock=clock, **VERSION) as source:
        await asyncio.gather(source.collect(Q), source.collect(Q))
        assert [seen.path for seen in there.seen] == ["/version", "/runs", "/runs"]
        container.api = "2"
        clock.seconds += 60
        assert (await source.collect(Q)).data["name"].to_list() == ["new"]


async def test_a_container_replaced_by_another_version_is_understood_at_the_next_question() -> None:
    api = "1"

    def serve(seen: Seen) -> web.Response:
        if seen.path == "/version":
            return js({"api": api})
        return js([{"name": "x", "value": 1}] if api == "1" else [{"title": "x", "value": 1}])

    dataset = {"by_version": {"1": {}, "2": {"select": {"name": "title"}}}}
    async with far(serve) as there, rest(there.url, dataset, clock=HandClock(), **VERSION) as source:
        await source.collect(Q)
        api = "2"
        with pytest.raises(SchemaMismatch):
            await source.collect(Q)
        assert (await source.collect(Q)).data["name"].to_list() == ["x"]


async def test_without_adapters_the_version_is_only_noted_and_its_failure_is_none() -> None:
    clock = HandClock()
    async with far(Container("7")) as there, rest(there.url, clock=clock, **VERSION) as source:
        await source.collect(Q)
        await source.collect(Q)
        assert source.far_version == "7"
        assert [seen.path for seen in there.seen].count("/version") == 1

    def silent(seen: Seen) -> web.Response:
        return js([{"name": "x", "value": 1}]) if seen.path == "/runs" else js({}, status=404)

    async with far(silent) as there, rest(there.url, clock=clock, **VERSION) as source:
        await source.collect(Q)
        await source.collect(Q)
        assert source.far_version is None
        assert [seen.path for seen in there.seen] == ["/version", "/runs", "/runs"]


async def test_a_version_page_that_hangs_leaves_time_for_the_question() -> None:
    async def serve(seen: Seen) -> web.Response:
        if seen.path == "/version":
            await asyncio.Event().wait()
        return js([{"name": "x", "value": 1}])

    async with far(serve) as there, rest(there.url, request_deadline_s=600, **VERSION) as source:
        assert (await source.collect(Q)).rows == 1


async def test_with_adapters_a_far_side_that_hides_its_version_is_an_error() -> None:
    def silent(seen: Seen) -> web.Response:
        return js({}, status=503)

    async with far(silent) as there, rest(there.url, DATASET, **VERSION) as source:
        with pytest.raises(UpstreamRefused, match="/version: the server answered 503"):
            await source.collect(Q)


async def test_ping_tells_the_version() -> None:
    async with far(Container("2.1")) as there, rest(there.url, **VERSION) as source:
        ping = await source.ping()
    assert (ping.ok, ping.far_version) == (True, "2.1")
    assert source.far_version == "2.1"


async def test_what_any_version_needs_is_carried_to_the_source() -> None:
    dataset = {"by_version": {"1": {}, "2": {"params": {"from": "{from_ms}"}}}}
    query = Query("far.runs", span=Span(EPOCH, EPOCH + timedelta(seconds=1)))
    async with tools() as given:
        source = build(given, "http://127.0.0.1:1", dataset, **VERSION)
    assert source.narrow(query).span == query.span


@pytest.mark.parametrize(
    ("dataset", "options", "part"),
    [
        ({"by_version": {"1": {}}}, {}, "far.runs: `by_version` needs `version` in the source's options"),
        ({"by_version": {"1": {"select": {"nope": "a"}}}}, VERSION, "by_version 1: `nope` is no column of far.runs"),
        ({"by_version": {"1": {"params": {"a": "{param.x}"}}}}, VERSION, "far.runs declares no parameter `x`"),
        ({"by_version": {"1": {"rows": "a["}}}, VERSION, "'a[' is no JMESPath expression"),
        ({"by_version": {"1": {"path": "x"}}}, VERSION, "must begin with `/`"),
        ({}, {"version": {"path": "/{limit}"}}, "must not hold placeholders"),
        ({}, {"version": {"select": "a["}}, "'a[' is no JMESPath expression"),
    ],
)
async def test_adapters_that_cannot_work_are_refused_at_the_start(
    dataset: dict[str, Any], options: dict[str, Any], part: str
) -> None:
    async with tools() as given:
        with pytest.raises(ValueError, match=r"\w") as error:
            build(given, "http://127.0.0.1:1", dataset, **options)
    assert part in str(error.value)


async def test_a_refused_adapter_points_at_its_place_in_the_settings() -> None:
    async with tools() as given:
        with pytest.raises(BadSetting) as error:
            build(given, "http://127.0.0.1:1", {"by_version": {"1": {"params": {"a": "{param.x}"}}}}, **VERSION)
    assert error.value.loc == ("datasets", "runs", "options", "by_version", "1")


async def test_a_version_page_that_is_html_says_so() -> None:
    async with far(lambda seen: text("<html>", "text/html")) as there, rest(there.url, DATASET, **VERSION) as source:
        with pytest.raises(UpstreamInvalid, match="GET /version answered with an HTML page"):
            await source.collect(Q)
