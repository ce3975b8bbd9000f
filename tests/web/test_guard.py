"""Whatever is asked and whatever a handler does: one shape of answer, a name for the request, and a count of it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from aiohttp import web
from polars.exceptions import PanicException
from prometheus_client.parser import text_string_to_metric_families

from bridge.errors import BridgeError, SettingsError
from bridge.web.keys import METERS
from bridge.web.routes import Handler
from servers.far import Seen, far, js
from servers.house import HANG_S, YAML, House, Reply, Start

SHAPE = {"message", "error", "code", "request_id", "remedy"}


async def counted(bridge: House, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """The samples of one metric by their labels."""
    reply = await bridge.get("/metrics")
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
        if sample.name == name
    }


async def requests(bridge: House) -> dict[tuple[str, str, str], float]:
    """Requests by route, method and status."""
    found = await counted(bridge, "bridge_requests_total")
    return {(dict(key)["route"], dict(key)["method"], dict(key)["status"]): value for key, value in found.items()}


def shaped(reply: Reply, status: int, code: str) -> dict[str, Any]:
    assert reply.status == status, reply.text
    found: dict[str, Any] = reply.json
    assert set(found) == SHAPE
    assert found["code"] == code
    assert found["request_id"] == reply.headers["X-Request-Id"]
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.headers["Cache-Control"] == "no-store"
    return found


@pytest.mark.parametrize("path", ["/healthz", "/nope", "/json", "/api/v1/datasets/lab.runs", "/metrics", "/"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::1]", "10.0.0.1", ""]
)
async def test_a_foreign_host_is_refused_on_every_path(bridge: House, path: str, host: str) -> None:
    found = shaped(await bridge.get(path, headers={"Host": host}), 421, "misdirected")
    assert "server.allowed_hosts" in found["remedy"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "localhost:3000", "127.0.0.1:1"])
async def test_an_allowed_host_is_answered_on_any_port(bridge: House, host: str) -> None:
    assert (await bridge.get("/healthz", headers={"Host": host})).status == 200


@pytest.mark.parametrize("allowed", ["'::1'", "'[::1]'"])
@pytest.mark.parametrize(("host", "status"), [("[::1]", 200), ("[::1]:8000", 200), ("[::2]:8000", 421), ("::1", 421)])
async def test_an_address_of_version_six_may_be_allowed(start: Start, allowed: str, host: str, status: int) -> None:
    bridge = await start(f"server: {{allowed_hosts: [{allowed}]}}\n" + YAML)
    assert (await bridge.get("/healthz", headers={"Host": host})).status == status


@pytest.mark.parametrize(("host", "status"), [("a.example:8443", 200), ("a.example", 421), ("a.example:80", 421)])
async def test_a_host_allowed_with_its_port_is_allowed_on_that_port_only(
    start: Start, host: str, status: int
) -> None:
    bridge = await start("server: {allowed_hosts: ['a.example:8443']}\n" + YAML)
    assert (await bridge.get("/healthz", headers={"Host": host})).status == status


async def test_a_request_without_a_host_is_refused(bridge: House) -> None:
    status, _, body = await bridge.raw(b"GET /healthz HTTP/1.0\r\n\r\n")
    assert status == 421
    assert set(json.loads(body)) == SHAPE


@pytest.mark.parametrize(
    "path",
    ["/nope", "/json/nope", "/api/v1", "/api/v1/datasets/", "/api/v1/datasets/a/b/c", "/JSON", "//json", "/x/%00"],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
async def test_an_unknown_path_is_404_for_every_method(bridge: House, path: str, method: str) -> None:
    found = shaped(await bridge.get(path, method=method), 404, "not_found")
    assert found["remedy"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/json", "GET, HEAD, OPTIONS"),
        ("GET", "/json/query", "OPTIONS, POST"),
        ("PUT", "/api/v1/datasets/lab.runs", "GET, HEAD, OPTIONS, POST"),
        ("GET", "/api/v1/cache", "DELETE, OPTIONS"),
        ("PROPFIND", "/healthz", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_wrong_method_is_405_and_told_the_right_ones(
    bridge: House, method: str, path: str, allowed: str
) -> None:
    reply = await bridge.get(path, method=method)
    found = shaped(reply, 405, "method_not_allowed")
    assert reply.headers["Allow"] == allowed
    assert found["remedy"] == f"use {allowed}"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/json", "GET, HEAD, OPTIONS"),
        ("/json/query", "OPTIONS, POST"),
        ("/api/v1/datasets/lab.runs", "GET, HEAD, OPTIONS, POST"),
    ],
)
async def test_options_tells_the_methods(bridge: House, path: str, allowed: str) -> None:
    reply = await bridge.get(path, method="OPTIONS")
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["Allow"] == allowed
    assert reply.headers["X-Request-Id"]


async def test_a_head_has_the_headers_of_a_get_and_no_body(bridge: House) -> None:
    for path in ("/healthz", "/api/v1/datasets/lab.runs", "/metrics", "/openapi.json"):
        head = await bridge.get(path, method="HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["Content-Type"] == (await bridge.get(path)).headers["Content-Type"]


async def test_two_hosts_are_no_request(bridge: House) -> None:
    sent = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    status, _, body = await bridge.raw(sent)
    assert status == 400
    assert set(json.loads(body)) == SHAPE


async def test_every_answer_names_its_request_anew(bridge: House) -> None:
    names = {(await bridge.get(path)).headers["X-Request-Id"] for path in ("/healthz", "/nope", "/json", "/json")}
    assert len(names) == 4


def at(path: str, handler: Handler) -> Callable[[web.Application], None]:
    """Adds one more path to the application."""

    def extend(app: web.Application) -> None:
        app.router.add_route("GET", path, handler)

    return extend


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("hunter2"),
        RecursionError("hunter2"),
        BridgeError("hunter2"),
        SettingsError(["hunter2"]),
        TimeoutError("hunter2"),
        ExceptionGroup("hunter2", [ValueError("hunter2")]),
        PanicException("hunter2"),
    ],
)
async def test_a_fault_is_500_with_an_id_and_the_log_has_the_rest(
    start: Start, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    async def fault(_: web.Request) -> web.Response:
        raise error

    bridge = await start(extend=at("/fault", fault))
    with caplog.at_level(logging.ERROR, logger="bridge.web"):
        reply = await bridge.get("/fault")
    found = shaped(reply, 500, "internal")
    assert found["request_id"] in found["message"]
    assert "hunter2" not in reply.text
    [record] = [record for record in caplog.records if record.name == "bridge.web"]
    assert record.__dict__["request_id"] == found["request_id"]
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert (await bridge.get("/healthz")).status == 200
    assert (await requests(bridge))["/fault", "GET", "500"] == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [(web.HTTPBadRequest(reason="odd"), 400), (web.HTTPForbidden(), 400), (web.HTTPFound("/"), 400)],
)
async def test_an_answer_that_was_raised_keeps_the_one_shape(
    start: Start, error: web.HTTPException, status: int
) -> None:
    async def raising(_: web.Request) -> web.Response:
        raise error

    bridge = await start(extend=at("/raise", raising))
    found = shaped(await bridge.get("/raise"), 400, "bad_request")
    assert found["error"] == error.reason


async def test_an_answer_that_has_begun_is_left_as_it_is(start: Start) -> None:
    async def flowing(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"piece")
        return response

    bridge = await start(extend=at("/flow", flowing))
    reply = await bridge.get("/flow")
    assert (reply.status, reply.body) == (200, b"piece")
    assert (await requests(bridge))["/flow", "GET", "200"] == 1


class Gate:
    """A handler that waits until it is told to go on, and knows when it was cancelled."""

    def __init__(self, places: int) -> None:
        self.inside = 0
        self.full = asyncio.Event()
        self.go = asyncio.Event()
        self.cancelled = asyncio.Event()
        self._places = places

    async def wait(self, _: web.Request) -> web.Response:
        self.inside += 1
        if self.inside == self._places:
            self.full.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return web.Response(text="done")


@pytest.fixture
def gate() -> Gate:
    return Gate(2)


async def test_too_many_requests_at_once_are_turned_away_while_health_is_answered(start: Start, gate: Gate) -> None:
    bridge = await start("limits: {requests_in_flight: 2}\n" + YAML, extend=at("/gate", gate.wait))
    waiting = [asyncio.create_task(bridge.get("/gate")) for _ in range(2)]
    async with asyncio.timeout(HANG_S):
        await gate.full.wait()
        for path in ("/json", "/api/v1/datasets/lab.runs", "/nope"):
            reply = await bridge.get(path)
            found = shaped(reply, 503, "not_ready")
            assert reply.headers["Retry-After"] == "1"
            assert "2 requests" in found["error"]
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await bridge.get(path)).status == 200
        assert (await counted(bridge, "bridge_requests_in_flight"))[()] == 3
        gate.go.set()
        assert [reply.status for reply in await asyncio.gather(*waiting)] == [200, 200]
    assert (await bridge.get("/json")).status == 200


async def test_a_client_that_goes_away_frees_its_place(start: Start) -> None:
    gate = Gate(1)
    bridge = await start("limits: {requests_in_flight: 1}\n" + YAML, extend=at("/gate", gate.wait))
    async with asyncio.timeout(HANG_S):
        _, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
        writer.write(b"GET /gate HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await gate.full.wait()
        assert (await bridge.get("/json")).status == 503
        writer.close()
        await gate.cancelled.wait()
        while (await bridge.get("/json")).status != 200:
            await asyncio.sleep(0)
    assert (await requests(bridge))["/gate", "GET", "499"] == 1


async def test_answers_that_nobody_takes_count_as_load(start: Start) -> None:
    async def big(_: web.Request) -> web.Response:
        return web.Response(body=bytes(16_000_000))

    async def answered() -> float:
        return (await requests(bridge)).get(("/big", "GET", "200"), 0)

    bridge = await start("limits: {requests_in_flight: 2}\n" + YAML, extend=at("/big", big))
    async with asyncio.timeout(HANG_S):
        deaf = [await asyncio.open_connection("127.0.0.1", bridge.port) for _ in range(3)]
        for _, writer in deaf[:2]:
            writer.write(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while await answered() != 2:
            await asyncio.sleep(0)
        # Both handlers are over, and neither answer has been read.
        shaped(await bridge.get("/json"), 503, "not_ready")
        assert (await counted(bridge, "bridge_requests_in_flight"))[()] == 3
        for _, writer in deaf:
            writer.close()
        while bridge.app[METERS].busy:
            await asyncio.sleep(0)
        assert (await bridge.get("/json")).status == 200


MIXED = {
    "kept alive": b"GET /json HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "two in one packet": b"GET /json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2,
    "HTTP/1.0": b"GET /json HTTP/1.0\r\nHost: localhost\r\n\r\n",
    "HEAD": b"HEAD /big HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "304": b"GET /same HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "stream": b"GET /flow HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "stream that breaks": b"GET /broken HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "error": b"GET /raise HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "not found": b"GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "foreign host": b"GET /json HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "malformed": b"GET /json HTTP/1.1\r\n\r\n",
    "half a body": b"POST /json/query HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
    "answer never read": b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "left while it waits": b"GET /gate HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


def mixed(gate: Gate) -> Callable[[web.Application], None]:
    async def big(_: web.Request) -> web.Response:
        return web.Response(body=bytes(16_000_000))

    async def same(_: web.Request) -> web.Response:
        return web.Response(status=304)

    async def fail(_: web.Request) -> web.Response:
        raise ValueError

    async def flow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"piece")
        if request.path == "/broken":
            raise ConnectionResetError
        return response

    handlers = {"/big": big, "/same": same, "/raise": fail, "/flow": flow, "/broken": flow, "/gate": gate.wait}

    def extend(app: web.Application) -> None:
        for path, handler in handlers.items():
            at(path, handler)(app)

    return extend


async def test_whatever_becomes_of_requests_none_is_counted_for_ever(start: Start) -> None:
    gate = Gate(6)
    bridge = await start(extend=mixed(gate))
    meters = bridge.app[METERS]
    async with asyncio.timeout(HANG_S):
        writers = []
        for _ in range(3):
            for sent in MIXED.values():
                _, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
                writer.write(sent)
                writers.append(writer)
                if b"/json " in sent or b"/big" in sent:  # and one that leaves at once, wherever bridge is then
                    _, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
                    writer.write(sent)
                    writer.transport.abort()
        for _ in range(3):
            _, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
            writer.write(MIXED["left while it waits"])
            writers.append(writer)
        await gate.full.wait()
        # What waits, what is unread and what has half a body are still there; the rest is over.
        while meters.busy != 6 + 3 + 3:
            await asyncio.sleep(0)
        for writer in writers:
            writer.transport.abort()
        while bridge.front.connections:
            await asyncio.sleep(0)
        while bridge.front.in_flight:
            await asyncio.sleep(0)
        assert meters.busy == 0
    assert (await counted(bridge, "bridge_requests_in_flight"))[()] == 1


async def test_a_client_that_goes_away_ends_the_question_to_the_source(start: Start) -> None:
    asked, never, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def hang(_: Seen) -> web.StreamResponse:
        asked.set()
        try:
            await never.wait()
        except asyncio.CancelledError:
            gone.set()
            raise
        return js([])

    async with far(hang) as server:
        text = f"""
sources:
  - name: far
    kind: rest
    options: {{url: "{server.url}", allow_private: true}}
    datasets: [{{name: slow, options: {{path: /slow}}, columns: [{{name: host, type: string}}]}}]
"""
        bridge = await start(text)
        body = json.dumps({"targets": [{"refId": "A", "target": "far.slow"}]}).encode()
        async with asyncio.timeout(HANG_S):
            _, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
            head = f"POST /json/query HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await asked.wait()
            writer.close()
            # The far server sees bridge hang up on it.
            while not (key := await _outcome(bridge)):
                await asyncio.sleep(0)
        assert key == "cancelled"
        assert (await requests(bridge))["/json/query", "POST", "499"] == 1
        never.set()


async def _outcome(bridge: House) -> str | None:
    found = await counted(bridge, "bridge_source_fetches_total")
    return next((dict(key)["outcome"] for key in found), None)


async def test_requests_are_counted_by_route_and_never_by_what_a_client_makes_up(bridge: House) -> None:
    for index in range(5):
        await bridge.get(f"/nope/{index}")
        await bridge.get(f"/api/v1/datasets/lab.x{index}")
        await bridge.get("/healthz", method="PROPFIND")
    await bridge.get("/api/v1/datasets/lab.runs")
    await bridge.get("/healthz", headers={"Host": "evil.example"})
    found = await requests(bridge)
    assert found["unknown", "GET", "404"] == 5
    assert found["/api/v1/datasets/{name}", "GET", "404"] == 5
    assert found["/api/v1/datasets/{name}", "GET", "200"] == 1
    assert found["/healthz", "GET", "421"] == 1
    assert found["unknown", "other", "405"] == 5
    seconds = await counted(bridge, "bridge_request_seconds_count")
    assert seconds[(("route", "/api/v1/datasets/{name}"),)] == 6


async def panels(bridge: House) -> dict[tuple[str, str], float]:
    found = await counted(bridge, "bridge_panel_requests_total")
    return {(dict(key)["dashboard"], dict(key)["panel"]): value for key, value in found.items()}


async def test_the_cost_of_a_panel_is_known_by_headers_or_body(bridge: House) -> None:
    dash = {"X-Dashboard-Uid": "d1", "X-Panel-Id": "7"}
    await bridge.get("/api/v1/datasets/lab.runs", headers=dash)
    await bridge.post("/json/query", {"dashboardUID": "other", "panelId": 9}, headers=dash)
    await bridge.post("/json/query", {"dashboardUID": "d2", "panelId": 3})
    await bridge.post("/json/query", {"dashboardUID": "d2", "panelId": "3"})
    await bridge.post("/json/query", {"dashboardUID": "d2"})
    await bridge.post("/json/query", {"dashboardUID": "", "panelId": 3})
    await bridge.get("/json", headers={"X-Dashboard-Uid": "d1"})
    await bridge.get("/nope", headers=dash)
    assert await panels(bridge) == {("d1", "7"): 3, ("d2", "3"): 2, ("d2", "0"): 1, ("d1", "0"): 1}
    assert set(await counted(bridge, "bridge_panel_seconds_total"))


async def test_at_most_two_hundred_panels_are_told_apart(bridge: House) -> None:
    for index in range(210):
        await bridge.get("/healthz", headers={"X-Dashboard-Uid": f"d{index}", "X-Panel-Id": "1"})
    await bridge.get("/healthz", headers={"X-Dashboard-Uid": "a b\tc", "X-Panel-Id": "1"})
    found = await panels(bridge)
    assert len(found) == 201
    assert found["other", "other"] == 11


@pytest.mark.parametrize(("version", "first"), [("1.1", b"HTTP/1.1 100 Continue"), ("1.0", b"HTTP/1.0 200")])
async def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(
    bridge: House, version: str, first: bytes
) -> None:
    head = f"POST /json/query HTTP/{version}\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n"
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", bridge.port)
        writer.write(f"{head}Connection: close\r\n\r\n".encode())
        if version == "1.1":
            assert (await reader.readline()).startswith(first)
        writer.write(b"{}")
        answer = await reader.read()
        writer.close()
    assert b" 200 OK" in answer
    assert answer.endswith(b"[]")


async def test_any_other_expectation_is_refused_in_the_one_shape(bridge: House) -> None:
    status, _, body = await bridge.raw(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: miracles\r\n\r\n")
    assert status == 400
    assert b'"code":"bad_request"' in body


async def test_answers_do_not_tell_which_software_serves_them(bridge: House) -> None:
    for path in ("/healthz", "/nothing/here"):
        assert (await bridge.get(path)).headers["Server"] == "bridge"


async def test_what_is_logged_for_a_request_carries_its_id(bridge: House) -> None:
    seen: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(structlog.contextvars.get_contextvars()["request_id"])

    handler = Keep()
    logging.getLogger("bridge.sources").addHandler(handler)
    try:
        reply = await bridge.get("/api/v1/datasets/lab.missing")
    finally:
        logging.getLogger("bridge.sources").removeHandler(handler)
    assert reply.status == 502
    assert seen == [reply.headers["X-Request-Id"]]
