"""The wire: what a client may and may not do with its connection."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from bridge.errors import BridgeError
from bridge.web.front import Front
from bridge.web.protocol import Wire, assert_c_parser, read_body
from bridge.web.tls import TlsFiles

HOST = "127.0.0.1"
HEAD = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
SECOND = b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n"
MANY_FIELDS = b"".join(b"X%d: y\r\n" % number for number in range(129))
# Long enough that only a hang reaches it.
HANG_S = 20.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class House:
    """A running front with one handler for every path, and what it saw."""

    front: Front
    port: int
    paths: list[str] = field(default_factory=list)
    wires: set[Any] = field(default_factory=set)

    async def raw(self, *pieces: bytes) -> bytes:
        """Everything a server says to these bytes until it closes the connection."""
        reader, writer = await asyncio.open_connection(HOST, self.port)
        with suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
        try:
            return await asyncio.wait_for(reader.read(), HANG_S)
        finally:
            writer.close()


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except BridgeError as error:
        return web.json_response({"code": error.code, "error": error.message}, status=error.status)


@asynccontextmanager
async def house(
    handler: Handler, *, wire: dict[str, Any] | None = None, tls: TlsFiles | None = None, **options: Any
) -> AsyncIterator[House]:
    options = {"header_s": HANG_S, "keepalive_s": HANG_S, "drain_s": 1.0} | options
    front = Front(**options)
    front.limits = replace(front.limits, **(wire or {}))
    found = House(front, 0)

    async def seen(request: web.Request) -> web.StreamResponse:
        found.paths.append(request.path)
        found.wires.add(request.protocol)
        return await handler(request)

    app = web.Application(middlewares=[errors_as_json])
    app.router.add_route("*", "/{path:.*}", seen)
    await front.swap(app)
    ((_, found.port),) = await front.listen(HOST, 0, tls=tls)
    try:
        yield found
    finally:
        await front.aclose()


async def hello(request: web.Request) -> web.Response:
    return web.Response(text="hello")


async def length(request: web.Request) -> web.Response:
    body = await read_body(request, max_bytes=1_000, deadline_s=HANG_S)
    return web.json_response({"bytes": len(body)})


def answers(said: bytes) -> list[int]:
    """The statuses of the answers in what a server said."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", said)]


def body_of(said: bytes) -> Any:
    return orjson.loads(said.partition(b"\r\n\r\n")[2])


def head_of(said: bytes) -> bytes:
    return said.partition(b"\r\n\r\n")[0].lower()


async def one_answer(reader: asyncio.StreamReader) -> bytes:
    """One answer with a Content-Length, from a connection that stays open."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HANG_S)
    size = next(
        int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
    )
    return head + await asyncio.wait_for(reader.readexactly(size), HANG_S)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANG_S):
        while not true():
            await asyncio.sleep(0.01)


MALFORMED = {
    "length and chunked": HEAD + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    "chunked and length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n",
    "xchunked": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked is not last": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "two transfer encodings": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "control character before chunked": HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked outside ASCII": HEAD + b"Transfer-Encoding: \xc5\xbfchunked\r\n\r\n0\r\n\r\n",
    "space before the colon": HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "folded header": HEAD + b"X-A: b\r\n c\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: x\n\n",
    "one bare line feed": b"GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
    "length with a sign": HEAD + b"Content-Length: +5\r\n\r\nhello",
    "negative length": HEAD + b"Content-Length: -1\r\n\r\nhello",
    "length beyond 64 bits": HEAD + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a list of lengths": HEAD + b"Content-Length: 5, 5\r\n\r\nhello",
    "bad chunk in the first packet": HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\nhello\r\n0\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "NUL in a value": HEAD + b"X-A: b\x00c\r\n\r\n",
    "address without a host": b"GET http:evil/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS on a plain port": b"\x16\x03\x01\x02\x00\x01\x00",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_request_is_400_and_nothing_after_it_is_read(request_bytes: bytes) -> None:
    async with house(hello) as there:
        said = await there.raw(request_bytes + SECOND)
        assert answers(said) == [400]
        assert there.paths == []
        assert there.front.in_flight == 0
        assert b"connection: close" in head_of(said) or said.startswith(b"HTTP/1.0")
        body = body_of(said)
        assert body["code"] == "bad_request"
        assert body["error"] == "the request is not valid HTTP/1.1"
        assert body["error"] in body["message"]
        assert len(body["request_id"]) == 16
        assert body["remedy"]


async def test_a_refusal_does_not_repeat_the_request() -> None:
    async with house(hello) as there:
        said = await there.raw(b"GET / HTTP/1.1\r\nHost: x\r\nX-<script>: secret\r\n\r\n")
        assert answers(said) == [400]
        assert b"script" not in said
        assert b"secret" not in said


TOO_LARGE = {
    "request line": b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "one header": HEAD + b"X-A: " + b"a" * 3_000 + b"\r\n\r\n",
    "more headers than allowed": HEAD + b"X: y\r\n" * 60 + b"\r\n",
    "129 headers": HEAD + MANY_FIELDS + b"\r\n",
    "all headers together": HEAD + b"".join(b"X%d: " % number + b"a" * 1_000 + b"\r\n" for number in range(8)),
}


@pytest.mark.parametrize("request_bytes", TOO_LARGE.values(), ids=TOO_LARGE)
async def test_a_head_over_a_limit_is_431(request_bytes: bytes) -> None:
    wire = {"max_line_bytes": 4_000, "max_field_bytes": 2_000, "max_head_bytes": 6_000, "max_fields": 50}
    async with house(hello, wire=wire) as there:
        said = await there.raw(request_bytes)
        assert answers(said) == [431]
        assert body_of(said)["code"] == "header_too_large"
        assert there.paths == []


async def test_a_long_head_within_the_limits_and_a_long_body_in_one_packet_are_read() -> None:
    wire = {"max_head_bytes": 6_000}
    fields = b"".join(b"X%d: " % number + b"a" * 1_000 + b"\r\n" for number in range(4))
    async with house(hello, wire=wire) as there:
        end = b"Connection: close\r\nContent-Length: 20000\r\n\r\n" + b"a" * 20_000
        assert answers(await there.raw(HEAD + fields + end)) == [200]


MALFORMED_BODY = {
    "not a size": b"ZZ\r\nhello\r\n0\r\n\r\n",
    "negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "bare line feeds": b"5\nhello\n0\n\n",
    "longer than its size": b"2\r\nhello\r\n0\r\n\r\n",
    "129 trailers": b"5\r\nhello\r\n0\r\n" + MANY_FIELDS + b"\r\n",
}


@pytest.mark.parametrize("body", MALFORMED_BODY.values(), ids=MALFORMED_BODY)
async def test_a_body_that_breaks_off_malformed_is_400_at_once(body: bytes) -> None:
    began = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        began.set()
        return await length(request)

    async with house(handler) as there:
        reader, writer = await asyncio.open_connection(HOST, there.port)
        writer.write(CHUNKED)
        await began.wait()
        writer.write(body + SECOND)
        said = await asyncio.wait_for(reader.read(), HANG_S / 2)
        assert answers(said) == [400]
        assert body_of(said) == {"code": "bad_request", "error": "the request body is malformed"}
        assert there.paths == ["/"]
        writer.close()


async def test_a_malformed_body_that_nobody_reads_gets_no_answer_of_its_own() -> None:
    began, go = asyncio.Event(), asyncio.Event()

    async def careless(request: web.Request) -> web.Response:
        began.set()
        await go.wait()
        return web.Response(text="done")

    async with house(careless) as there:
        reader, writer = await asyncio.open_connection(HOST, there.port)
        writer.write(CHUNKED)
        await began.wait()
        (wire,) = there.wires
        writer.write(b"ZZ\r\n" + SECOND)
        await until(lambda: wire._request_count == 2)
        go.set()
        assert answers(await asyncio.wait_for(reader.read(), HANG_S / 2)) == [200]
        assert there.paths == ["/"]
        writer.close()


async def test_a_connection_that_says_nothing_is_closed_without_a_word() -> None:
    async with house(hello, header_s=0.1) as there:
        assert await there.raw() == b""


async def test_a_head_that_is_not_complete_in_time_is_408() -> None:
    async with house(hello, header_s=0.1) as there:
        said = await there.raw(b"GET / HTTP/1.1\r\nHost:")
        assert answers(said) == [408]
        assert b"connection: close" in head_of(said)
        assert body_of(said)["code"] == "request_timed_out"
        assert there.paths == []
        assert there.front.connections == 0


async def test_a_dripping_head_is_not_kept_alive_by_its_drops() -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while True:
                writer.write(b"X")
                await writer.drain()
                await asyncio.sleep(0.02)

    async with house(hello, header_s=0.3) as there:
        reader, writer = await asyncio.open_connection(HOST, there.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ")
        dripping = asyncio.create_task(drip(writer))
        with suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), HANG_S / 2)
        dripping.cancel()
        assert there.paths == []
        writer.close()


async def test_the_second_head_of_a_connection_has_the_same_deadline() -> None:
    async with house(hello, header_s=0.2) as there:
        reader, writer = await asyncio.open_connection(HOST, there.port)
        for path in ("/1", "/2"):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert answers(await one_answer(reader)) == [200]
        writer.write(b"GET /3 HTTP/1.1\r\n")
        assert answers(await asyncio.wait_for(reader.read(), HANG_S / 2)) == [408]
        assert there.paths == ["/1", "/2"]
        writer.close()


async def test_the_head_deadline_is_no_deadline_for_handlers_bodies_and_idle_connections() -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.3)
        return await length(request)

    async with house(slow, header_s=0.1) as there:
        reader, writer = await asyncio.open_connection(HOST, there.port)
        for _ in range(2):
            writer.write(HEAD + b"Content-Length: 4\r\n\r\nab")
            await asyncio.sleep(0.2)
            writer.write(b"cd")
            assert body_of(await one_answer(reader)) == {"bytes": 4}
            await asyncio.sleep(0.2)
        assert len(there.wires) == 1
        writer.close()


async def test_the_rest_of_an_unread_body_is_not_taken_for_a_slow_head() -> None:
    async with house(hello, header_s=0.2) as there:
        reader, writer = await asyncio.open_connection(HOST, there.port)
        writer.write(HEAD + b"Content-Length: 6\r\n\r\nab")
        assert answers(await one_answer(reader)) == [200]
        writer.write(b"cd")
        await asyncio.sleep(0.05)
        writer.write(b"ef")
        await asyncio.sleep(0.4)
        writer.write(SECOND)
        assert answers(await one_answer(reader)) == [200]
        assert there.paths == ["/", "/second"]
        writer.close()


async def test_an_idle_connection_is_closed_after_its_time_without_a_word() -> None:
    async with house(hello, keepalive_s=0.2) as there:
        reader, writer = await asyncio.open_connection(HOST, there.port)
        writer.write(SECOND)
        assert answers(await one_answer(reader)) == [200]
        assert await asyncio.wait_for(reader.read(), HANG_S / 2) == b""
        writer.close()


async def test_connections_over_the_cap_are_closed_at_once_and_places_are_freed() -> None:
    async with house(hello, max_connections=2) as there:
        kept = [await asyncio.open_connection(HOST, there.port) for _ in range(2)]
        for reader, writer in kept:
            writer.write(SECOND)
            assert answers(await one_answer(reader)) == [200]
        with suppress(ConnectionError):
            assert await there.raw(SECOND) == b""
        assert there.front.connections == 2
        kept[0][1].close()
        await until(lambda: there.front.connections == 1)
        reader, writer = await asyncio.open_connection(HOST, there.port)
        writer.write(SECOND)
        assert answers(await one_answer(reader)) == [200]
        writer.close()
        kept[1][1].close()


async def test_pipelined_requests_are_answered_in_order() -> None:
    async def echo(request: web.Request) -> web.Response:
        return web.Response(text=request.path)

    async with house(echo) as there:
        last = b"GET /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        said = await there.raw(HEAD.replace(b"/ ", b"/1 ") + b"\r\n" + SECOND + last)
        assert answers(said) == [200, 200, 200]
        assert there.paths == ["/1", "/second", "/3"]
        assert there.front.in_flight == 0


async def test_what_follows_a_declined_upgrade_is_not_read_as_a_request() -> None:
    async with house(hello) as there:
        said = await there.raw(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n" + SECOND
        )
        assert answers(said) == [200]
        assert b"connection: close" in head_of(said)
        assert there.paths == ["/"]


async def test_a_websocket_talks_and_ends_its_connection() -> None:
    async def talk(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(await socket.receive_str())
        await socket.close()
        return socket

    async with house(talk) as there, aiohttp.ClientSession() as session:
        async with session.ws_connect(f"http://{HOST}:{there.port}/") as client:
            await client.send_str("hello")
            assert await client.receive_str() == "hello"
            assert (await client.receive()).type is aiohttp.WSMsgType.CLOSE
        await until(lambda: not there.front.connections)
        assert there.front.in_flight == 0


async def test_the_work_of_a_client_that_goes_away_is_cancelled() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def endless(request: web.Request) -> web.Response:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    async with house(endless) as there:
        _, writer = await asyncio.open_connection(HOST, there.port)
        writer.write(SECOND)
        await began.wait()
        assert there.front.in_flight == 1
        writer.close()
        await asyncio.wait_for(ended.wait(), HANG_S)
        await until(lambda: not there.front.in_flight)


@pytest.mark.parametrize("error", [ValueError("inner secret"), TimeoutError("inner secret")])
async def test_an_error_that_nobody_caught_is_500_without_its_details(error: Exception) -> None:
    async def fail(request: web.Request) -> web.Response:
        raise error

    async with house(fail) as there:
        said = await there.raw(SECOND)
        assert answers(said) == [500]
        assert body_of(said)["code"] == "internal"
        assert b"secret" not in said


async def test_an_answer_that_fails_after_it_began_is_cut_and_not_ended() -> None:
    async def fail(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b"begun")
        raise ValueError("too late")

    async with house(fail) as there:
        said = await there.raw(SECOND)
        assert answers(said) == [200]
        assert b"begun" in said
        assert not said.endswith(b"0\r\n\r\n")
        assert there.front.in_flight == 0


async def test_request_bodies_are_never_unpacked_by_the_server() -> None:
    packed = gzip.compress(b"a" * 100_000)

    async def raw(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async with house(raw) as there, aiohttp.ClientSession() as session:
        url = f"http://{HOST}:{there.port}/"
        async with session.post(url, data=packed, headers={"Content-Encoding": "gzip"}) as answer:
            assert await answer.read() == packed


CLOSE = b"Connection: close\r\n"
BODIES = {
    "no body": (HEAD + CLOSE + b"\r\n", 200, {"bytes": 0}),
    "GET that says it has JSON": (
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + CLOSE + b"\r\n",
        200,
        {"bytes": 0},
    ),
    "as long as allowed": (HEAD + CLOSE + b"Content-Length: 1000\r\n\r\n" + b"a" * 1_000, 200, {"bytes": 1_000}),
    "identity": (
        HEAD + CLOSE + b"Content-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}",
        200,
        {"bytes": 2},
    ),
    "chunked": (
        HEAD + CLOSE + b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + b"a" * 1_000 + b"\r\n0\r\n\r\n",
        200,
        {"bytes": 1_000},
    ),
    "declared too long, nothing sent": (HEAD + b"Content-Length: 1001\r\n\r\n", 413, "body_too_large"),
    "too long": (HEAD + b"Content-Length: 1001\r\n\r\n" + b"a" * 1_001, 413, "body_too_large"),
    "chunked too long": (CHUNKED + b"3e9\r\n" + b"a" * 1_001 + b"\r\n0\r\n\r\n", 413, "body_too_large"),
    "chunked without end": (CHUNKED + b"ffffff\r\n" + b"a" * 5_000, 413, "body_too_large"),
    "gzip": (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 415, "unsupported_encoding"),
    "encoded twice": (
        HEAD + b"Content-Encoding: identity, br\r\nContent-Length: 2\r\n\r\n{}",
        415,
        "unsupported_encoding",
    ),
    "a second encoding line": (
        HEAD + b"Content-Encoding: identity\r\nContent-Encoding: x\r\nContent-Length: 2\r\n\r\n{}",
        415,
        "unsupported_encoding",
    ),
}


@pytest.mark.parametrize(("request_bytes", "status", "expected"), BODIES.values(), ids=BODIES)
async def test_a_body_is_read_whole_or_refused(request_bytes: bytes, status: int, expected: Any) -> None:
    async with house(length, wire={"linger_s": 0.2}) as there:
        said = await there.raw(request_bytes)
        assert answers(said) == [status]
        assert b"connection: close" in head_of(said)
        body = body_of(said)
        assert (body["code"] if status != 200 else body) == expected


async def test_a_body_that_does_not_come_in_time_is_408() -> None:
    async def impatient(request: web.Request) -> web.Response:
        return web.Response(body=await read_body(request, max_bytes=1_000, deadline_s=0.1))

    async with house(impatient, wire={"linger_s": 0.1}) as there:
        said = await there.raw(HEAD + b"Content-Length: 10\r\n\r\nhalf")
        assert answers(said) == [408]
        assert b"connection: close" in head_of(said)
        assert body_of(said)["code"] == "request_timed_out"


async def test_a_refused_upload_ends_its_connection_soon_and_its_sender_sees_the_answer() -> None:
    async with house(length, wire={"linger_s": 0.3}) as there, aiohttp.ClientSession() as session:
        url = f"http://{HOST}:{there.port}/"
        async with session.post(url, data=b"a" * 200_000) as answer:
            assert answer.status == 413
        sending = there.raw(HEAD + b"Content-Length: 9000000\r\n\r\n" + b"a" * 5_000)
        assert answers(await asyncio.wait_for(sending, HANG_S / 4)) == [413]
        assert there.front.connections == 0


async def test_a_body_can_be_read_behind_any_aiohttp_server(aiohttp_client: Any) -> None:
    app = web.Application(middlewares=[errors_as_json])
    app.router.add_post("/", length)
    client = await aiohttp_client(app)
    assert (await client.post("/", data=b"12345")).status == 200
    assert (await client.post("/", data=b"a" * 1_001)).status == 413


def test_the_c_parser_is_in_use() -> None:
    assert_c_parser()


def test_the_start_is_refused_when_the_pure_python_parser_would_read_requests() -> None:
    code = "from bridge.web.protocol import assert_c_parser; assert_c_parser()"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "AIOHTTP_NO_EXTENSIONS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert run.returncode == 1
    assert "SettingsError" in run.stderr
    assert "unset AIOHTTP_NO_EXTENSIONS" in run.stderr


async def test_aiohttp_still_counts_heads_the_way_the_wire_relies_on() -> None:
    async with house(hello) as there:
        reader, writer = await asyncio.open_connection(HOST, there.port)
        for number in (1, 2, 3):
            writer.write(SECOND)
            await one_answer(reader)
            (wire,) = there.wires
            assert isinstance(wire, Wire)
            assert wire._request_count == number
        writer.close()
