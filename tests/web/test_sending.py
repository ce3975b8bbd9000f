"""How an answer leaves: what becomes of a client that takes it slowly, or not at all."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from test_protocol import HANG_S, HOST, SECOND, hello, house, one_answer, until
from test_tls import client_context, write_pair

from bridge.web.sending import WriteDeadline, in_pieces

BIG = bytes(range(250)) * 80_000  # more than all buffers of the system on the way


async def big(_: web.Request) -> web.Response:
    return web.Response(body=BIG)


async def streamed(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(BIG[:100_000])


async def never_held_up(request: web.Request) -> web.Response:
    """Its answer is over while nearly all of it is unsent."""
    assert request.transport is not None
    request.transport.set_write_buffer_limits(high=10**9)
    return web.Response(body=BIG)


@pytest.mark.parametrize("handler", [big, streamed, never_held_up])
async def test_a_client_that_takes_nothing_of_its_answer_is_cut_off(handler: object) -> None:
    async with house(handler, wire={"write_s": 0.1}) as there:  # type: ignore[arg-type]
        _, writer = await asyncio.open_connection(HOST, there.port)
        writer.write(SECOND)
        await until(lambda: bool(there.paths))
        await until(lambda: not there.front.connections)
        await until(lambda: not there.front.in_flight)
        writer.close()


async def test_a_client_that_takes_nothing_is_cut_off_with_tls_too(tmp_path: Path) -> None:
    async with house(big, wire={"write_s": 0.1}, tls=write_pair(tmp_path, "one")) as there:
        _, writer = await asyncio.open_connection(HOST, there.port, ssl=client_context())
        writer.write(SECOND)
        await until(lambda: bool(there.paths))
        await asyncio.sleep(0)
        assert there.front.in_flight == 1
        await until(lambda: not there.front.connections)
        await until(lambda: not there.front.in_flight)
        writer.transport.abort()


async def test_a_slow_client_that_goes_on_reading_gets_everything() -> None:
    async with house(big, wire={"write_s": 0.2}) as there:
        loop = asyncio.get_running_loop()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
            client.setblocking(False)
            await loop.sock_connect(client, (HOST, there.port))
            await loop.sock_sendall(client, SECOND)
            said = bytearray()
            # One and a half seconds of slow reading: too slow for the system to ask for more within the deadline.
            for _ in range(75):
                said += await loop.sock_recv(client, 8_192)
                await asyncio.sleep(0.02)
            async with asyncio.timeout(HANG_S):
                while len(said) < len(BIG) and (more := await loop.sock_recv(client, 1_000_000)):
                    said += more
                head, _, body = bytes(said).partition(b"\r\n\r\n")
                while len(body) < len(BIG) and (more := await loop.sock_recv(client, 1_000_000)):
                    body += more
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert body == BIG


async def test_after_an_answer_was_taken_slowly_its_connection_waits_for_the_next_request() -> None:
    async with house(big, wire={"write_s": 0.1}) as there:
        reader, writer = await asyncio.open_connection(HOST, there.port)
        for _ in range(2):
            writer.write(SECOND)
            await until(lambda: there.front.in_flight == 1)
            assert (await one_answer(reader)).endswith(BIG)
            await until(lambda: not there.front.in_flight)
            await asyncio.sleep(0.3)
        assert there.front.connections == 1
        writer.close()


async def test_a_large_answer_is_not_copied_into_the_buffer_of_its_connection() -> None:
    async with house(big) as there:
        _, writer = await asyncio.open_connection(HOST, there.port)
        writer.write(SECOND)
        await until(lambda: bool(there.wires))
        (wire,) = there.wires
        await until(lambda: bool(wire.writing_paused))
        assert 0 < wire.transport.get_write_buffer_size() < 1_000_000
        writer.close()


@pytest.mark.parametrize("body", [b"", b"small", BIG])
async def test_an_answer_in_pieces_is_the_same_answer(body: bytes) -> None:
    response = in_pieces(web.Response(body=body, content_type="text/csv", charset="utf-8"))
    assert isinstance(response, web.Response)
    assert response.content_type == "text/csv"

    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="text/csv")

    async with house(handler) as there:
        said = await there.raw(SECOND.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        head, _, got = said.partition(b"\r\n\r\n")
        assert got == body
        assert b"content-length: %d\r\n" % len(body) in head.lower() + b"\r\n"
        assert b"transfer-encoding" not in head.lower()
        assert head.lower().count(b"content-type: text/csv") == 1
        head_only = await there.raw(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert head_only.partition(b"\r\n\r\n")[2] == b""
        assert b"content-length: %d\r\n" % len(body) in head_only.lower() or not body


async def test_the_text_of_an_answer_in_pieces_can_still_be_read() -> None:
    response = in_pieces(web.Response(text="é" * 200_000))
    assert isinstance(response, web.Response)
    assert response.text == "é" * 200_000


async def test_a_small_answer_is_not_watched() -> None:
    async with house(hello) as there:
        reader, writer = await asyncio.open_connection(HOST, there.port)
        writer.write(SECOND)
        await one_answer(reader)
        (wire,) = there.wires
        await until(lambda: not there.front.in_flight)
        assert wire._sending._timer is None
        writer.close()


class Full(asyncio.Transport):
    """A connection with this much unsent, whose socket is closed."""

    unsent_bytes = 1

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        closed = socket.socket()
        closed.close()
        return closed


async def test_bytes_that_left_count_even_when_more_have_come_after_them() -> None:
    cut = asyncio.Event()
    deadline, transport = WriteDeadline(0.04, cut.set), Full()
    deadline.start(transport)
    for _ in range(20):
        await asyncio.sleep(0.01)
        transport.unsent_bytes += 1
        deadline.moved()
    assert not cut.is_set()
    await asyncio.wait_for(cut.wait(), HANG_S)


async def test_a_connection_that_is_gone_is_not_watched() -> None:
    cut = asyncio.Event()
    deadline = WriteDeadline(0.02, cut.set)
    deadline.start(Full())
    deadline.stop()
    deadline.stop()
    await asyncio.sleep(0.1)
    assert not cut.is_set()


async def test_a_tls_connection_that_was_closed_twice_has_nothing_to_watch(tmp_path: Path) -> None:
    async with house(hello, tls=write_pair(tmp_path, "one")) as there:
        reader, writer = await asyncio.open_connection(HOST, there.port, ssl=client_context())
        writer.write(SECOND)
        await one_answer(reader)
        (wire,) = there.wires
        transport = wire.transport
        transport.close()
        transport.close()
        WriteDeadline(0.02, wire.abort).start(transport)
        writer.transport.abort()
        await until(lambda: not there.front.connections)
