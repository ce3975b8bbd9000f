import asyncio
from typing import Any

import pytest
from aiohttp import web

from bridge.errors import SchemaMismatch, UpstreamInvalid, UpstreamRefused, UpstreamUnavailable
from bridge.model.query import Query
from bridge.model.span import EPOCH, Span, timedelta
from bridge.sources.base import BadSetting
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
    assert error.value.message == f"far.runs: the far API has version {api!r}; declared are 1, 2, 2.5-beta"
    assert "add this version to `by_version`" in error.value.remedy


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


class Renamed:
    """An API whose second version stands at the same path under other names; it can be replaced at any time."""

    def __init__(self, rows: str = "items", *, header: bool = False) -> None:
        self.api = "1"
        self.rows = rows
        self.header = header
        self.answering = asyncio.Event()
        self.release: asyncio.Event | None = None

    async def __call__(self, seen: Seen) -> web.Response:
        api = self.api
        told = {"X_API": api} if self.header else {}
        if seen.path == "/version":
            return js({"api": api}, **told)
        self.answering.set()
        if self.release is not None:
            await self.release.wait()
        row = {"name": "old", "value": 1} if api == "1" else {"title": "new", "value": 2}
        return js({"items" if api == "1" else self.rows: [row]}, **told)


RENAMED = {"rows": "items", "by_version": {"1": {}, "2": {"select": {"name": "title"}}}}
MOVED = {"rows": "items", "by_version": {"1": {}, "2": {"rows": "data", "select": {"name": "title"}}}}


@pytest.mark.parametrize(("rows", "dataset"), [("items", RENAMED), ("data", MOVED)])
async def test_a_container_replaced_by_another_version_is_followed_within_the_question(
    rows: str, dataset: dict[str, Any]
) -> None:
    """Also where the old reading of the new answer would not fail, but find no rows."""
    container = Renamed(rows)
    async with far(container) as there, rest(there.url, dataset, clock=HandClock(), **VERSION) as source:
        first = await source.collect(Q)
        container.api = "2"
        second = await source.collect(Q)
        assert (first.data["name"].to_list(), second.data["name"].to_list()) == (["old"], ["new"])
        assert [frame.meta.custom["far_version"] for frame in (first, second)] == ["1", "2"]
        assert second.meta.notices == ()
        assert source.far_version == "2"


async def test_questions_that_meet_the_new_version_together_ask_for_it_once() -> None:
    container = Renamed()
    async with far(container) as there, rest(there.url, RENAMED, clock=HandClock(), **VERSION) as source:
        await source.collect(Q)
        container.api = "2"
        frames = await asyncio.gather(*(source.collect(Q) for _ in range(3)))
        assert [frame.data["name"].to_list() for frame in frames] == [["new"]] * 3
        assert [seen.path for seen in there.seen].count("/version") == 2


async def test_an_answer_that_fits_no_version_is_told_and_the_version_is_asked_once_for_it() -> None:
    broken = False

    def serve(seen: Seen) -> web.Response:
        if seen.path == "/version":
            return js({"api": "1"})
        return js({"items": [{"title": "x"} if broken else {"name": "x", "value": 1}]})

    async with far(serve) as there, rest(there.url, RENAMED, clock=HandClock(), **VERSION) as source:
        await source.collect(Q)
        broken = True
        for _ in range(2):
            with pytest.raises(SchemaMismatch, match="column `name` is gone"):
                await source.collect(Q)
        assert [seen.path for seen in there.seen].count("/version") == 3


async def test_an_empty_answer_of_the_same_version_stays_empty_and_doubted() -> None:
    def serve(seen: Seen) -> web.Response:
        return js({"api": "1"} if seen.path == "/version" else {"other": []})

    async with far(serve) as there, rest(there.url, RENAMED, clock=HandClock(), **VERSION) as source:
        for _ in range(2):
            frame = await source.collect(Q)
            assert (frame.rows, len(frame.meta.notices)) == (0, 1)


async def test_the_version_stands_beside_the_answer_it_gave_whatever_was_learned_meanwhile() -> None:
    container = Renamed()
    container.release = asyncio.Event()
    async with far(container) as there, rest(there.url, RENAMED, clock=HandClock(), **VERSION) as source:
        question = asyncio.create_task(source.collect(Q))
        await container.answering.wait()
        container.api = "2"
        await source.ping()
        assert source.far_version == "2"
        container.release.set()
        frame = await question
        assert frame.data["name"].to_list() == ["old"]
        assert frame.meta.custom["far_version"] == "1"


SAME = {"rows": "items", "by_version": {"1": {}, "2": {"select": {"value": "`2`"}}}}


async def test_where_answers_say_their_version_a_change_is_noticed_although_they_still_fit() -> None:
    api = "1"

    def serve(seen: Seen) -> web.Response:
        return js({"items": [{"name": "x", "value": 1}]}, X_API=api)

    version = {"version": {"path": "/version", "header": "X-API"}}
    async with far(serve) as there, rest(there.url, SAME, clock=HandClock(), **version) as source:
        assert (await source.collect(Q)).data["value"].to_list() == [1]
        api = "2"
        frame = await source.collect(Q)
        assert (frame.data["value"].to_list(), frame.meta.custom["far_version"]) == ([2], "2")


async def test_answers_of_another_version_than_the_version_page_says_are_refused() -> None:
    def serve(seen: Seen) -> web.Response:
        return js({"items": [{"name": "x", "value": 1}]}, X_API="1" if seen.path == "/version" else "2")

    version = {"version": {"path": "/version", "header": "X-API"}}
    async with far(serve) as there, rest(there.url, SAME, **version) as source:
        with pytest.raises(UpstreamInvalid, match="was asked as version 1, and its answer says 2"):
            await source.collect(Q)
    async with far(serve) as there, rest(there.url, **version, dataset={"rows": "items"}) as source:
        assert (await source.collect(Q)).meta.custom["far_version"] == "2"


async def test_a_container_that_was_away_is_asked_for_its_version_anew() -> None:
    away = False

    async def serve(seen: Seen) -> web.StreamResponse:
        if away:
            # No answer at all: the connection ends.
            raise asyncio.CancelledError
        return js({"api": api} if seen.path == "/version" else {"items": [{"name": "x", "value": 1}]})

    api = "1"
    async with far(serve) as there, rest(there.url, SAME, clock=HandClock(), **VERSION) as source:
        await source.collect(Q)
        away, api = True, "2"
        with pytest.raises(UpstreamUnavailable):
            await source.collect(Q)
        away = False
        frame = await source.collect(Q)
        assert (frame.data["value"].to_list(), frame.meta.custom["far_version"]) == ([2], "2")


ACCEPT = {"version": {"path": "/version", "select": "api", "accept": ["1", "2.5-beta", "2"]}}


@pytest.mark.parametrize(("api", "name"), [("1", "old"), ("1.4", "old"), ("2.1", "new"), ("v2", "new")])
async def test_a_declared_version_is_read_by_the_dataset_itself_where_nothing_differs(api: str, name: str) -> None:
    dataset = {"by_version": {"2": BY_VERSION["2"]}}
    async with far(Container(api)) as there, rest(there.url, dataset, **ACCEPT) as source:
        frame = await source.collect(Q)
        assert (frame.data["name"].to_list(), frame.meta.custom["far_version"]) == ([name], api)


@pytest.mark.parametrize("dataset", [{}, {"by_version": {"2": BY_VERSION["2"]}}])
@pytest.mark.parametrize("api", ["3", "21", "0.9", "10", "beta"])
async def test_an_undeclared_version_is_refused_with_the_declared_ones(dataset: dict[str, Any], api: str) -> None:
    """Also by datasets in which no version differs: their data could mean something else by now."""
    async with far(Container(api)) as there, rest(there.url, dataset, **ACCEPT) as source:
        with pytest.raises(UpstreamInvalid) as error:
            await source.collect(Q)
        assert error.value.message == f"far.runs: the far API has version {api!r}; declared are 1, 2.5-beta, 2"
        assert "`version.accept`" in error.value.remedy
        assert [seen.path for seen in there.seen] == ["/version"]


async def test_a_version_may_page_in_another_way() -> None:
    """Keys of `paging` are replaced one by one; another kind begins anew."""
    api = "1"

    def serve(seen: Seen) -> web.Response:
        given = dict(seen.params)
        if seen.path == "/version":
            return js({"api": api})
        row = {"name": api, "value": 1}
        match api:
            case "1":
                return js({"items": [row], "next": None if "cursor" in given else "c"})
            case "2":
                return js({"items": [row], "next_cursor": None if "after" in given else "a"})
            case _:
                return js({"items": [row] if given["page"] == "1" else [], "next": "never read"})

    paging = {"kind": "cursor", "param": "cursor", "next": "next", "size_param": "limit", "size": 1}
    by_version = {
        "2": {"paging": {"param": "after", "next": "next_cursor"}},
        "3": {"paging": {"kind": "page"}},
    }
    dataset = {"rows": "items", "paging": paging, "by_version": {"1": {}, **by_version}}
    for wanted in (
        [{"limit": "1"}, {"limit": "1", "cursor": "c"}],
        [{"limit": "1"}, {"limit": "1", "after": "a"}],
        [{"page": "1"}, {"page": "2"}],
    ):
        async with far(serve) as there, rest(there.url, dataset, **VERSION) as source:
            await source.collect(Q)
            assert [dict(seen.params) for seen in there.seen[1:]] == wanted
        api = str(int(api) + 1)


async def test_a_version_may_be_asked_in_another_way() -> None:
    def serve(seen: Seen) -> web.Response:
        if seen.path == "/version":
            return js({"api": "2"})
        assert seen.method == "POST"
        assert seen.json == {"sort": "time"}
        assert (seen.headers["X-Both"], seen.headers["X-Own"]) == ("new", "1")
        return text("name,value\nx,1\n", "application/octet-stream")

    overlay = {"method": "POST", "body": {"sort": "time"}, "headers": {"X-Both": "new"}, "format": "csv"}
    dataset = {"headers": {"X-Both": "old", "X-Own": "1"}, "format": "json", "by_version": {"2": overlay}}
    async with far(serve) as there, rest(there.url, dataset, **VERSION) as source:
        assert (await source.collect(Q)).data.rows() == [("x", 1)]

    def plain(seen: Seen) -> web.Response:
        assert (seen.method, seen.body) == ("GET", b"")
        return js({"api": "2"} if seen.path == "/version" else [{"name": "x", "value": 1}])

    without = {"method": "POST", "body": {"a": 1}, "by_version": {"2": {"method": "GET", "body": None}}}
    async with far(plain) as there, rest(there.url, without, **VERSION) as source:
        assert (await source.collect(Q)).rows == 1


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


@pytest.mark.parametrize("accept", [[], ["1"]])
async def test_with_adapters_a_far_side_that_hides_its_version_is_an_error(accept: list[str]) -> None:
    """Also where versions are declared and no dataset differs by them."""

    def silent(seen: Seen) -> web.Response:
        return js({}, status=503)

    version = {**VERSION["version"], "accept": accept}
    dataset = {} if accept else DATASET
    async with far(silent) as there, rest(there.url, dataset, version=version) as source:
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
        ({"by_version": {"1": {"paging": {"parm": "x"}}}}, VERSION, "by_version 1: paging.parm: Extra inputs"),
        (
            {"by_version": {"1": {"paging": {"kind": "cursor"}}}},
            VERSION,
            "by_version 1: paging: paging by cursor needs",
        ),
        ({"by_version": {"1": {"body": {}}}}, VERSION, "by_version 1: `body` needs `method: POST`"),
        ({}, {"version": {"accept": [2.1]}}, 'write the version in quotes, such as "2.1"'),
        ({"by_version": {"3": {}}}, ACCEPT, "by_version 3: far.runs is never read so; `version.accept` has 1, 2"),
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
