"""Bad input gets a sentence a person can act on, in the shape of its route, and the process stays healthy."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from servers.house import FILES, HANG_S, START, YAML, House, Reply, Start, ms

RUNS = "/api/v1/datasets/lab.runs"
POSTS = (
    "/json/metrics",
    "/json/metric-payload-options",
    "/json/query",
    "/json/variable",
    "/json/tag-keys",
    "/json/tag-values",
    "/json/search",
    "/json/annotations",
    "/api/v1/batch",
    RUNS,
)
DEEP = b"[" * 900 + b"]" * 900
HUGE = 10 * 1024 * 1024


def refused(reply: Reply, *statuses: int) -> dict[str, Any]:
    """The error of an answer, after its shape was looked at."""
    assert reply.status in (statuses or (400,)), f"{reply.status}: {reply.text[:500]}"
    found: dict[str, Any] = reply.json
    assert set(found) == {"message", "error", "code", "request_id", "remedy"}
    assert found["message"].startswith(found["error"])
    assert len(found["error"]) > 10
    assert len(found["message"]) < 2_000
    assert "Traceback" not in reply.text
    return found


async def healthy(bridge: House) -> None:
    assert (await bridge.get("/healthz")).status == 200
    reply = await bridge.post("/json/query", {"targets": [{"refId": "A", "target": "lab.guessed"}]})
    assert reply.status == 200


async def query(bridge: House, target: Any = None, **body: Any) -> Reply:
    targets = [{"refId": "A", "target": "lab.runs", **(target or {})}]
    return await bridge.post("/json/query", {"targets": targets, **body})


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"hello",
        b"{'a': 1}",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e400}',
        b'{"a": "\\ud800"}',
        b'{"a": "\xff\xfe"}',
        b"\x00",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"[]",
        b"5",
        b"null",
        b'"text"',
        b"true",
    ],
    ids=lambda body: ascii(body[:20]),
)
async def test_what_is_no_json_object_is_refused_everywhere(bridge: House, body: bytes) -> None:
    for path in POSTS:
        refused(await bridge.post(path, body))
    await healthy(bridge)


@pytest.mark.parametrize(
    "body",
    [
        {"targets": {}},
        {"targets": "lab.runs"},
        {"targets": [5]},
        {"targets": [None]},
        {"targets": [{"refId": 5}]},
        {"targets": [{"refId": {"a": 1}}]},
        {"targets": [{"refId": "x" * 201}]},
        {"targets": [{"hide": "perhaps"}]},
        {"targets": [{"alias": ["a"]}]},
        {"targets": [{}] * 201},
        {"range": "today"},
        {"range": {"from": {}}},
        {"range": {"from": []}},
        {"range": {"from": "now-6h", "to": "now"}},
        {"range": {"from": ms(START) + 5, "to": ms(START)}},
        {"range": {"from": ms(START), "to": ms(START)}},
        {"range": {"from": -1e308, "to": 1e308}},
        {"range": {"from": "0001-01-01T00:00:00Z", "to": "9999-12-31T23:59:59Z"}},
        {"range": {"from": "x" * 10_000}},
        {"maxDataPoints": 0},
        {"maxDataPoints": -100},
        {"maxDataPoints": "many"},
        {"maxDataPoints": "NaN"},
        {"maxDataPoints": []},
        {"intervalMs": "soon"},
        {"filters": {}},
        {"filters": [{"operator": "="}]},
        {"filters": [{"key": 5}]},
        {"filters": [{"key": "model", "operator": 5}]},
        {"filters": [{"key": "model", "operator": "~~", "value": "x"}]},
        {"filters": [{"key": "model", "operator": "=", "value": ["x"]}]},
        {"filters": [{"key": "model", "operator": "=", "value": {"a": {}}}]},
        {"filters": [{"key": "m", "operator": "=", "value": "x"}] * 201},
        {"filters": [{"key": "m", "operator": "=", "value": "x"}] * 150},
        {"filters": [{"key": "m", "operator": "=~", "value": "x"}] * 11},
        {"scopedVars": []},
        {"panelId": [1]},
        {"dashboardUID": 5},
        {"panelPluginId": {}},
    ],
    ids=lambda body: json.dumps(body)[:40],
)
async def test_a_wrong_type_in_a_panels_request_is_refused(bridge: House, body: dict[str, Any]) -> None:
    targets = body.get("targets", [{"refId": "A", "target": "lab.runs"}])
    refused(await bridge.post("/json/query", {**body, "targets": targets}))
    await healthy(bridge)


@pytest.mark.parametrize(
    "target",
    [
        {"target": "lab.nope"},
        {"target": "../../etc/passwd"},
        {"target": "lab.runs/../../x"},
        {"target": "..%2f..%2f"},
        {"target": "lab.\x00"},
        {"target": "lab.runs\r\nX-Evil: 1"},
        {"target": "é" * 200},
        {"target": "x" * 1_000_000},
        {"target": "(a|b)" * 100_000},
        {"target": "(a)" * 300_000},
        {"target": "{a,b}" * 100_000},
        {"target": "(" * 900_000},
        {"target": "(" + "|".join(["lab.runs"] + [str(number) for number in range(60)]) + ")"},
        {"payload": "{"},
        {"payload": 5},
        {"payload": []},
        {"payload": {"model": {"a": 1}}},
        {"payload": {"model": [{"a": {}}]}},
        {"payload": {"model": [str(number) for number in range(1001)]}},
        {"payload": {"model": ",".join(map(str, range(2000)))}},
        {"payload": {"size": "ten"}},
        {"payload": {"size": "NaN,Infinity,x"}},
        {"payload": {"columns": "nope"}},
        {"payload": {"series": ["nope"]}},
        {"payload": {"agg": "median"}},
        {"payload": {"agg": 5}},
        {"payload": {"filter": "nope>5"}},
        {"payload": {"filter": "=5"}},
        {"payload": {"filter": "model"}},
        {"payload": {"filter": "model=~("}},
        {"payload": {"filter": "model=~" + "a" * 2000}},
        {"payload": {"filter": "model=~" + "(a{1000}){1000}"}},
        {"payload": {"filter": "model=" + "a" * 100_000}},
        {"payload": {"filter": "\n".join(["model=a"] * 100_000)}},
        {"payload": {"filter": {"a": 1}}},
        {"payload": {"filter": [[[["model=a"]]]]}},
        {"target": "lab.by_model", "payload": {"model_file": "../../runs"}},
        {"target": "lab.by_model", "payload": {"model_file": "/etc/passwd"}},
        {"target": "lab.by_model", "payload": {"model_file": "a\x00b"}},
        {"target": "lab.by_model", "payload": {"model_file": "x" * 100_000}},
        {"target": "lab.by_model", "payload": {"model_file": ["a", "b"]}},
        {"target": "lab.by_model", "payload": {}},
        {"target": "lab.by_model", "payload": {"model_file": "svm", "mode": "quick"}},
    ],
    ids=lambda target: ascii(json.dumps(target))[:60],
)
async def test_a_bad_target_is_refused_alone_and_is_a_notice_beside_a_good_one(
    bridge: House, target: dict[str, Any]
) -> None:
    bad = {"refId": "B", "target": "lab.runs", **target}
    alone = await bridge.post("/json/query", {"targets": [bad]})
    if alone.status == 200:
        # What holds several names: some are datasets, and the others are notices.
        assert [frame for frame in alone.json if frame["schema"]["meta"].get("custom", {}).get("error")]
    else:
        refused(alone, 400, 404, 502)
    assert "X-Evil" not in alone.headers
    both = await bridge.post("/json/query", {"targets": [{"refId": "A", "target": "lab.guessed"}, bad]})
    assert both.status == 200, both.text[:500]
    assert {frame["schema"]["refId"] for frame in both.json} == {"A", "B"}
    await healthy(bridge)


@pytest.mark.parametrize(
    "body",
    [
        b'{"targets": [{"target": "lab.runs", "payload": {"model": %b}}]}' % DEEP,
        b'{"targets": [{"target": "lab.runs", "payload": {"model": %b}}]}' % (b'{"value":' * 900 + b"1" + b"}" * 900),
        b'{"targets": [{"target": "lab.runs", "payload": {"odd": %b}}]}' % DEEP,
        b'{"targets": [{"target": %b}]}' % DEEP,
        b'{"targets": [], "scopedVars": {"a": %b}}' % DEEP,
        b'{"targets": [], "future": %b}' % DEEP,
        b'{"targets": [{"target": "lab.runs", "refId": "A", "refId": "B"}], "targets": []}',
    ],
    ids=lambda body: ascii(body[:60]),
)
async def test_values_nested_as_deep_as_json_goes_are_no_fault(bridge: House, body: bytes) -> None:
    reply = await bridge.post("/json/query", body)
    assert reply.status == 200, reply.text[:500]
    await healthy(bridge)


async def test_a_value_made_to_be_slow_is_a_value_like_any_other(bridge: House) -> None:
    async with asyncio.timeout(HANG_S):
        for text in ("{" + "," * 900_000, "[" * 900_000, "(" * 900_000, "\\" * 450_000):
            assert (await query(bridge, {"payload": {"model": text}})).status == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/json/query", b'{"targets": [{"target": "lab.runs", "payload": {"filter": %b}}]}'),
        ("/json/query", b'{"targets": [{"target": "lab.runs", "payload": {"columns": {"a": %b}}}]}'),
        ("/json/query", b'{"filters": [{"key": "model", "value": %b}], "targets": [{"target": "lab.runs"}]}'),
        ("/json/variable", b'{"payload": %b}'),
        ("/json/variable", b'{"payload": {"target": %b}}'),
        ("/json/tag-values", b'{"key": "model", "filters": [{"key": "size", "value": %b}]}'),
        ("/json/metric-payload-options", b'{"metric": "lab.runs", "name": "nope", "payload": {"odd": %b}}'),
        ("/json/metric-payload-options", b'{"metric": "lab.runs", "name": "model", "payload": %b}'),
        ("/api/v1/batch", b'{"queries": [{"dataset": "lab.runs", "odd": %b}]}'),
        (RUNS, b'{"model": %b}'),
    ],
)
async def test_values_nested_deep_where_they_cannot_be_are_refused(bridge: House, path: str, body: bytes) -> None:
    refused(await bridge.post(path, body % DEEP))
    await healthy(bridge)


async def test_points_without_measure_are_what_the_answer_may_hold(bridge: House) -> None:
    for points in (1, 10**9, 1e300, "1e400", 2.5):
        reply = await query(bridge, maxDataPoints=points, intervalMs="inf")
        assert reply.status == 200, reply.text
    for interval in (0, -5, 1e308, "Infinity", "NaN", None):
        assert (await query(bridge, intervalMs=interval)).status == 200


@pytest.mark.parametrize("path", POSTS)
async def test_a_body_over_the_limit_is_413_with_and_without_its_length(bridge: House, path: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(160):
            yield b" " * 65_536

    for data in (io.BytesIO(b" " * HUGE), chunks()):
        reply = await bridge.get(path, method="POST", data=data, headers={"Content-Type": "application/json"})
        assert "1048576 bytes" in refused(reply, 413)["error"]
    await healthy(bridge)


async def test_a_body_that_says_it_is_larger_than_it_is_ends(start: Start) -> None:
    bridge = await start("limits: {body_s: 0.2}\n" + YAML)
    sent = b"POST /json/query HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{}"
    status, _, body = await bridge.raw(sent)
    assert status == 408
    assert "not complete after 0.2 s" in json.loads(body)["error"]
    await healthy(bridge)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "x-odd", "identity, gzip"])
async def test_a_packed_body_is_refused_unread(bridge: House, encoding: str) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    for path in POSTS:
        reply = await bridge.post(path, bomb, headers={"Content-Encoding": encoding})
        assert "send the body uncompressed" in refused(reply, 415)["remedy"]
    await healthy(bridge)


@pytest.mark.parametrize(
    ("text", "statuses"),
    [
        ("model=%ff", (400,)),
        ("%ff=1", (400,)),
        ("model=%ed%a0%80", (400,)),
        ("model=%00", (200,)),
        ("model=%0d%0aX-Evil:%201", (200,)),
        ("%0d%0aX-Evil:%201=1", (400,)),
        ("refId=%0d%0aX-Evil:%201&format=frame", (200,)),
        ("from=$__%0d%0aX-Evil:%201", (200,)),
        ("from=nan", (400,)),
        ("from=inf", (400,)),
        ("from=" + "9" * 5000, (400,)),
        ("limit=" + "9" * 5000, (200,)),
        ("max_points=1e999", (200,)),
        ("a=1&" * 3000, (400,)),
        ("&" * 3000, (200, 400)),
        ("filter=" + "a" * 60_000, (400,)),
        ("filter=model%3D~(a%2B)%2B$", (200,)),
        ("x" * 60_000, (400,)),
        ("filter=model=~" + "a" * 1025, (400,)),
        ("&".join(["filter=model=~a"] * 11), (400,)),
        ("&".join(["filter=model=a"] * 101), (400,)),
    ],
    ids=lambda value: ascii(value)[:40],
)
async def test_a_query_string_can_do_no_harm(bridge: House, text: str, statuses: tuple[int, ...]) -> None:
    reply = await bridge.get(f"{RUNS}?{text}")
    if reply.status == 200:
        assert statuses != (400,)
    else:
        refused(reply, *statuses)
    assert "X-Evil" not in reply.headers
    await healthy(bridge)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /api/v1/datasets/\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /api/v1/datasets/lab.runs?model=\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /api/v1/datasets/lab.runs?a=\x01 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /json/query HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /json/query HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_bytes_that_are_no_request_are_400(bridge: House, sent: bytes) -> None:
    status, _, body = await bridge.raw(sent)
    assert status == 400
    assert set(json.loads(body)) == {"message", "error", "code", "request_id", "remedy"}
    await healthy(bridge)


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "..",
        ".",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "lab.runs%2f..%2f..",
        "lab.runs%00",
        "lab..runs",
        ".runs",
        "lab.",
        "%0d%0aX-Evil:1",
        "_finding",
        "LAB.RUNS",
        "%ff%fe",
        "x" * 60_000,
        "%f0%9f%98%80" * 1000,
        "*",
        "lab.*",
        "{name}",
        "$__all",
    ],
    ids=lambda name: name[:30],
)
@pytest.mark.parametrize("rest", ["", "/schema", "/infinity"])
async def test_a_name_that_is_no_dataset_is_404(bridge: House, name: str, rest: str) -> None:
    reply = await bridge.get(f"/api/v1/datasets/{name}{rest}")
    refused(reply, 404)
    assert "X-Evil" not in reply.headers
    assert "passwd:" not in reply.text
    assert (await bridge.get("/healthz")).status == 200


def long(count: int) -> dict[str, str]:
    """Texts on which a backtracking pattern would take for ever."""
    lines = "\n".join(f"{ms(START) + index},{'a' * 60}!,1,0.5,1,n" for index in range(count))
    return {**FILES, "runs.csv": f"time,model,size,accuracy,loss,note\n{lines}\n"}


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|a)*$", "(.*)*x", "([a-zA-Z]+)*$", "(a|aa)+$", "(?:a{0,30}){0,30}$"]
)
async def test_a_pattern_made_to_be_slow_is_answered_and_so_is_everyone_else(start: Start, pattern: str) -> None:
    bridge = await start(files=long(5_000))
    body = {"targets": [{"refId": "A", "target": "lab.runs", "payload": {"filter": f"model=~{pattern}"}}]}
    adhoc = [{"key": "model", "operator": "!~", "value": pattern}] * 10
    async with asyncio.timeout(HANG_S):
        slow = [
            asyncio.create_task(bridge.post("/json/query", body)),
            asyncio.create_task(query(bridge, filters=adhoc, panelPluginId="table")),
            asyncio.create_task(bridge.post("/json/tag-values", {"key": "model", "filters": adhoc})),
        ]
        assert (await bridge.get("/healthz")).status == 200
        for reply in await asyncio.gather(*slow):
            assert reply.status in (200, 400), reply.text[:300]
        assert (await bridge.get("/healthz")).status == 200


async def test_as_many_of_everything_as_is_allowed_is_answered(bridge: House) -> None:
    """The most targets, filters and values one request may hold; everyone else is answered meanwhile."""
    filters = [{"key": "model", "operator": "!=|", "values": [f"{i}_{j}" for j in range(80)]} for i in range(100)]
    targets = [{"refId": f"R{index}", "target": "lab.runs", "payload": {"model": "svm"}} for index in range(200)]
    async with asyncio.timeout(HANG_S):
        slow = asyncio.create_task(bridge.post("/json/query", {"targets": targets, "filters": filters}))
        assert (await bridge.get("/healthz")).status == 200
        reply = await slow
    assert reply.status == 200, reply.text[:300]
    assert len({frame["schema"]["refId"] for frame in reply.json}) == 200


async def test_a_dashboards_queries_without_end_are_looked_at_in_bounds(bridge: House) -> None:
    queries = [{"target": f"x{index}.(" + "|".join(f"a{i}" for i in range(50)) + ")"} for index in range(3000)]
    async with asyncio.timeout(HANG_S):
        for path in ("/json/tag-keys", "/json/tag-values"):
            assert (await bridge.post(path, {"key": "model", "queries": queries})).status == 200
    refused(await bridge.post("/json/tag-keys", {"queries": [{}] * 5001}))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/json/metric-payload-options", {"metric": 5}),
        ("/json/metric-payload-options", {"metric": "x" * 501}),
        ("/json/metric-payload-options", {"metric": "lab.runs", "name": []}),
        ("/json/tag-values", {"key": 5}),
        ("/json/tag-values", {"key": "x" * 501}),
        ("/json/tag-values", {"key": "model", "timeRange": []}),
        ("/json/tag-values", {"key": "model", "filters": "x"}),
        ("/json/tag-keys", {"queries": {}}),
        ("/json/annotations", {"annotation": []}),
        ("/json/annotations", {"annotation": {"name": 5}}),
        ("/json/annotations", {"annotation": {"query": "lab.events"}, "range": {"from": "x"}}),
        ("/json/variable", {"payload": {"target": "lab.runs.model"}, "range": {"from": 2, "to": 1}}),
        ("/json/variable", {"payload": {"target": "lab.runs.model", "filter": "nope=1"}}),
        ("/json/variable", {"payload": {"target": "x" * 100_000}}),
        ("/json/search", {"target": "." + "x" * 100_000}),
        ("/api/v1/batch", {"queries": [{"dataset": "x" * 201}]}),
        ("/api/v1/batch", {"queries": [{"dataset": "a", "params": []}]}),
    ],
    ids=lambda value: ascii(json.dumps(value))[:60],
)
async def test_a_wrong_body_is_refused_on_every_other_route(bridge: House, path: str, body: Any) -> None:
    refused(await bridge.post(path, body))
    await healthy(bridge)


async def test_a_request_has_only_so_many_patterns_over_all_its_queries(bridge: House) -> None:
    """Ten are fine for one dataset; a batch of fifty such would keep every thread compiling."""
    filters = [[f"model=~s{group}.{number}" for number in range(10)] for group in range(3)]
    batch = [{"dataset": "lab.runs", "params": {"filter": given}} for given in filters]
    reply = await bridge.post("/api/v1/batch", {"queries": batch})
    assert reply.status == 400
    assert "30 different patterns" in reply.json["message"]
    assert (await bridge.post("/api/v1/batch", {"queries": batch[:2]})).status == 200
    targets = [{"refId": "A", "target": "lab.runs", "payload": {"filter": given}} for given in filters]
    assert (await bridge.post("/json/query", {"targets": targets})).status == 400


async def test_near_misses_are_looked_for_a_few_times_only(bridge: House) -> None:
    """A panel of hundreds of unknown names is answered at once; the first ones say what was meant."""
    targets = [{"refId": f"R{number}", "target": f"lab.rums{number}"} for number in range(40)]
    reply = await bridge.post("/json/query", {"targets": [*targets, {"refId": "A", "target": "lab.runs"}]})
    texts = [frame["schema"]["meta"]["notices"][0]["text"] for frame in reply.json if not frame["schema"]["fields"]]
    assert len(texts) == 40
    assert sum("did you mean" in text for text in texts) == 10


async def test_a_dashboard_that_names_no_dataset_does_not_ask_thousands(start: Start) -> None:
    """Among so many only those whose columns are known already take part."""
    names = [f"{{name: d{number}, options: {{path: runs.csv}}}}" for number in range(120)]
    bridge = await start("sources: [{name: many, kind: files, datasets: [" + ", ".join(names) + "]}]\n")
    assert (await bridge.post("/json/tag-keys", {})).json == []
    assert (await bridge.get("/api/v1/datasets/many.d7")).status == 200
    assert {item["text"] for item in (await bridge.post("/json/tag-keys", {})).json} >= {"model", "accuracy"}
    # Nobody looks for near misses among hundreds of names.
    reply = await bridge.get("/api/v1/datasets/many.e7")
    assert reply.status == 404
