"""The front door: houses are swapped behind it and no request notices."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from test_tls import client_context, name_shown, write_pair

from bridge.errors import NotReady, SettingsError
from bridge.web.front import Front, _cannot_listen, log_trouble, run_until_signalled
from bridge.web.tls import TlsFiles

HOST = "127.0.0.1"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
# Long enough that only a hang reaches it.
HANG_S = 20.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class House:
    """An application that knows how often its parts were opened and closed, and whether a request met closed ones."""

    def __init__(
        self, name: str, handler: Handler | None = None, *, starts: bool = True, closes: bool = True
    ) -> None:
        self.name = name
        self.handler = handler
        self.starts, self.closes = starts, closes
        self.opened = self.closed = self.running = self.late = 0
        self.gone = asyncio.Event()
        self.peers: set[Any] = set()
        self.app = web.Application()
        self.app.router.add_route("*", "/{path:.*}", self.answer)
        self.app.cleanup_ctx.append(self.part)
        if not starts:
            self.app.cleanup_ctx.append(self.broken_part)

    async def part(self, app: web.Application) -> AsyncIterator[None]:
        self.opened += 1
        yield
        self.late += self.running
        self.closed += 1
        self.gone.set()
        if not self.closes:
            raise RuntimeError("will not close")

    async def broken_part(self, app: web.Application) -> AsyncIterator[None]:
        raise SettingsError(["sources[0]: no such kind"])
        yield

    async def answer(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        self.peers.add(request.transport.get_extra_info("peername"))
        self.running += 1
        self.late += self.closed
        try:
            if self.handler is not None:
                return await self.handler(request)
            for _ in range(5):
                await asyncio.sleep(0)
            return web.Response(text=self.name)
        finally:
            self.running -= 1


class Gate:
    """A handler that says when it began and ends when it is let."""

    def __init__(self) -> None:
        self.began, self.go, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def __call__(self, request: web.Request) -> web.Response:
        self.began.set()
        try:
            await self.go.wait()
        finally:
            self.ended.set()
        return web.Response(text="through the gate")


class Troubles:
    """What the front reports."""

    def __init__(self) -> None:
        self.told: list[tuple[str, BaseException | None]] = []

    def __call__(self, text: str, error: BaseException | None) -> None:
        self.told.append((text, error))


@asynccontextmanager
async def front_of(*houses: House, **options: Any) -> AsyncIterator[tuple[Front, str]]:
    options = {"drain_s": HANG_S, "header_s": HANG_S, "keepalive_s": HANG_S} | options
    front = Front(**options)
    for one in houses:
        await front.swap(one.app)
    ((_, port),) = await front.listen(HOST, 0)
    try:
        yield front, f"http://{HOST}:{port}/"
    finally:
        await front.aclose()


def port_of(url: str) -> int:
    return int(url.rstrip("/").rpartition(":")[2])


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANG_S):
        while not true():
            await asyncio.sleep(0.01)


async def text_of(session: aiohttp.ClientSession, url: str) -> str:
    # POST, as the client would try a GET again by itself and hide a broken connection.
    async with session.post(url, data=b"x" * 500) as answer:
        assert answer.status == 200
        return await answer.text()


# ---- swapping


async def test_twenty_swaps_under_load_fail_no_request_and_break_no_connection() -> None:
    houses = [House(str(number)) for number in range(21)]
    answers: list[list[int]] = [[] for _ in range(8)]
    done = asyncio.Event()

    async def client(url: str, mine: list[int]) -> None:
        async with aiohttp.TCPConnector(limit=1) as connector, aiohttp.ClientSession(connector=connector) as session:
            while not done.is_set():
                mine.append(int(await text_of(session, url)))
            mine.append(int(await text_of(session, url)))

    async with front_of(houses[0]) as (front, url), asyncio.TaskGroup() as clients:
        for mine in answers:
            clients.create_task(client(url, mine))
        for one in houses[1:]:
            goal = [len(mine) + 2 for mine in answers]
            await until(lambda goal=goal: all(len(mine) >= least for mine, least in zip(answers, goal, strict=True)))
            await front.swap(one.app)
        done.set()
        await until(lambda: front.houses == 1)
    assert all(mine == sorted(mine) and mine[-1] == 20 for mine in answers)
    assert {name for mine in answers for name in mine} == set(range(21))
    assert len(set().union(*(one.peers for one in houses))) == len(answers)
    assert [one.opened for one in houses] == [1] * 21
    assert [one.closed for one in houses] == [1] * 21
    assert [one.late for one in houses] == [0] * 21


async def test_one_kept_connection_serves_every_house() -> None:
    houses = [House(str(number)) for number in range(5)]
    async with front_of() as (front, url), aiohttp.ClientSession() as session:
        for one in houses:
            await front.swap(one.app)
            assert await text_of(session, url) == one.name
    assert len(set().union(*(one.peers for one in houses))) == 1


async def test_a_house_that_does_not_start_leaves_the_old_one_standing() -> None:
    old, bad = House("old"), House("bad", starts=False)
    async with front_of(old) as (front, url), aiohttp.ClientSession() as session:
        with pytest.raises(SettingsError, match="no such kind"):
            await front.swap(bad.app)
        assert (bad.opened, bad.closed) == (1, 1)  # the part that did start is closed again
        assert await text_of(session, url) == "old"
        assert (front.houses, old.closed) == (1, 0)


async def test_a_swap_that_is_given_up_closes_what_had_started() -> None:
    old, new = House("old"), House("new")
    waiting = asyncio.Event()

    async def endless(app: web.Application) -> AsyncIterator[None]:
        waiting.set()
        await asyncio.Event().wait()
        yield

    new.app.cleanup_ctx.append(endless)
    async with front_of(old) as (front, url), aiohttp.ClientSession() as session:
        swap = asyncio.create_task(front.swap(new.app))
        await waiting.wait()
        swap.cancel()
        with pytest.raises(asyncio.CancelledError):
            await swap
        assert (new.opened, new.closed) == (1, 1)
        assert await text_of(session, url) == "old"


async def test_before_there_is_a_house_requests_are_told_to_come_back() -> None:
    async with front_of() as (front, url), aiohttp.ClientSession() as session:
        async with session.get(url) as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"] == "1"
            assert (await answer.json())["code"] == "not_ready"
        assert (front.in_flight, front.houses, front.connections) == (0, 0, 1)
        await front.swap(House("first").app)
        assert await text_of(session, url) == "first"


async def test_a_running_request_ends_in_the_house_it_began_in() -> None:
    gate = Gate()
    old, new = House("old", gate), House("new")
    async with front_of(old) as (front, url), aiohttp.ClientSession() as session:
        running = asyncio.create_task(text_of(session, url))
        await gate.began.wait()
        await front.swap(new.app)
        assert await text_of(session, url) == "new"
        assert (front.in_flight, front.houses, old.closed) == (1, 2, 0)
        gate.go.set()
        assert await running == "through the gate"
        await until(lambda: front.houses == 1)
        assert (old.closed, old.late) == (1, 0)


async def test_a_stream_runs_on_over_a_swap() -> None:
    steps: asyncio.Queue[bytes] = asyncio.Queue()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while piece := await steps.get():
            await response.write(piece)
        return response

    old = House("old", stream)
    async with front_of(old) as (front, url), aiohttp.ClientSession() as session, session.get(url) as answer:
        steps.put_nowait(b"one ")
        assert await answer.content.readany() == b"one "
        await front.swap(House("new").app)
        steps.put_nowait(b"two")
        assert await answer.content.readany() == b"two"
        assert old.closed == 0
        steps.put_nowait(b"")
        assert await answer.content.readany() == b""
        await old.gone.wait()
        assert old.late == 0


async def test_an_answer_is_written_before_its_house_is_closed() -> None:
    old = House("old")
    held, go = asyncio.Event(), asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        held.set()
        await go.wait()
        yield b"late but whole"

    async def lazy(request: web.Request) -> web.Response:
        return web.Response(body=pieces())  # written after the handler has returned

    old.handler = lazy
    async with front_of(old) as (front, url), aiohttp.ClientSession() as session:
        running = asyncio.create_task(text_of(session, url))
        await held.wait()
        await front.swap(House("new").app)
        assert await text_of(session, url) == "new"
        assert old.closed == 0
        go.set()
        assert await running == "late but whole"
        await old.gone.wait()


async def test_a_request_that_outstays_the_drain_is_cancelled_before_its_house_is_closed() -> None:
    gate = Gate()
    old = House("old", gate)
    async with front_of(old, drain_s=0.1) as (front, url), aiohttp.ClientSession() as session:
        running = asyncio.create_task(text_of(session, url))
        await gate.began.wait()
        await front.swap(House("new").app)
        with pytest.raises(aiohttp.ClientError):
            await running
        await old.gone.wait()
        assert gate.ended.is_set()
        assert (old.closed, old.late, front.in_flight) == (1, 0, 0)
        assert await text_of(session, url) == "new"


async def test_a_request_that_will_not_be_cancelled_is_reported_and_holds_nothing_up() -> None:
    began, go = asyncio.Event(), asyncio.Event()
    troubles = Troubles()

    async def stubborn(request: web.Request) -> web.Response:
        began.set()
        while not go.is_set():
            with suppress(asyncio.CancelledError):
                await go.wait()
        return web.Response()

    old = House("old", stubborn)
    async with front_of(old, drain_s=0.1, cancel_s=0.1, on_trouble=troubles) as (front, url):
        _, writer = await asyncio.open_connection(HOST, port_of(url))
        writer.write(GET)
        await began.wait()
        await front.swap(House("new").app)
        await until(lambda: front.houses == 1)
        assert old.closed == 1
        assert [text for text, _ in troubles.told] == ["1 requests run on although they were cancelled"]
        go.set()
        writer.close()
        await until(lambda: not old.running)


async def test_a_part_that_fails_to_close_is_reported_and_the_house_is_gone() -> None:
    troubles = Troubles()
    async with front_of(House("old", closes=False), on_trouble=troubles) as (front, url):
        await front.swap(House("new").app)
        await until(lambda: front.houses == 1)
        ((text, error),) = troubles.told
        assert text == "a part did not close cleanly"
        assert str(error) == "will not close"
        async with aiohttp.ClientSession() as session:
            assert await text_of(session, url) == "new"


def test_trouble_goes_to_the_log_when_nobody_else_takes_it(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        log_trouble("a part did not close cleanly", ValueError("why"))
    assert "a part did not close cleanly" in caplog.text
    assert "why" in caplog.text


async def test_of_two_swaps_the_later_one_stands_at_the_end_however_long_the_first_takes() -> None:
    first, second = House("first"), House("second")
    starting, go = asyncio.Event(), asyncio.Event()

    async def slow_part(app: web.Application) -> AsyncIterator[None]:
        starting.set()
        await go.wait()
        yield

    first.app.cleanup_ctx.append(slow_part)
    async with front_of(House("0")) as (front, url), aiohttp.ClientSession() as session:
        swaps = [asyncio.create_task(front.swap(first.app))]
        await starting.wait()
        swaps.append(asyncio.create_task(front.swap(second.app)))
        assert await text_of(session, url) == "0"
        go.set()
        await asyncio.gather(*swaps)
        assert await text_of(session, url) == "second"
        await until(lambda: front.houses == 1)


# ---- closing


async def test_closing_answers_what_runs_and_closes_what_is_idle_at_once() -> None:
    gate = Gate()
    old = House("old", gate)
    async with front_of(old) as (front, url):
        port = port_of(url)
        idle_reader, idle_writer = await asyncio.open_connection(HOST, port)
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(GET)
        await gate.began.wait()
        await until(lambda: front.connections == 2)
        closing = asyncio.create_task(front.aclose())
        assert await asyncio.wait_for(idle_reader.read(), HANG_S / 2) == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, port)
        assert not closing.done()
        assert old.closed == 0
        gate.go.set()
        said = await asyncio.wait_for(reader.read(), HANG_S / 2)
        assert b"Connection: close" in said
        assert said.endswith(b"through the gate")
        await closing
        await front.aclose()
        assert (old.closed, old.late, front.houses, front.connections) == (1, 0, 0, 0)
        idle_writer.close()
        writer.close()


async def test_closing_lets_an_upload_that_has_begun_finish() -> None:
    began = asyncio.Event()

    async def upload(request: web.Request) -> web.Response:
        began.set()
        return web.Response(text=str(len(await request.read())))

    async with front_of(House("old", upload)) as (front, url):
        reader, writer = await asyncio.open_connection(HOST, port_of(url))
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        await began.wait()
        closing = asyncio.create_task(front.aclose())
        await asyncio.sleep(0)
        writer.write(b"cd")
        assert (await asyncio.wait_for(reader.read(), HANG_S / 2)).endswith(b"\r\n\r\n4")
        await closing
        writer.close()


async def test_a_head_that_came_just_before_closing_is_still_answered() -> None:
    async with front_of(House("old")) as (front, url):
        reader, writer = await asyncio.open_connection(HOST, port_of(url))
        await until(lambda: front.connections == 1)
        assert front._server is not None
        (wire,) = front._server.wires
        # In one step of the loop: the head is complete, its request has not begun, and closing starts.
        wire.data_received(GET)
        await front._close()
        assert (await asyncio.wait_for(reader.read(), HANG_S / 2)).endswith(b"\r\n\r\nold")
        writer.close()


async def test_closing_ends_a_stream_when_the_drain_is_over() -> None:
    began = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        began.set()
        await asyncio.Event().wait()
        return response

    old = House("old", endless)
    async with front_of(old, drain_s=0.1) as (front, url):
        reader, writer = await asyncio.open_connection(HOST, port_of(url))
        writer.write(GET)
        await began.wait()
        await asyncio.wait_for(front.aclose(), HANG_S)
        assert (old.closed, old.late) == (1, 0)
        await asyncio.wait_for(reader.read(), HANG_S)
        writer.close()


async def test_a_stream_that_ends_while_closing_ends_its_connection_too() -> None:
    gate = Gate()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "2"})
        await response.prepare(request)
        await gate(request)
        await response.write(b"ok")
        return response

    async with front_of(House("old", stream)) as (front, url):
        reader, writer = await asyncio.open_connection(HOST, port_of(url))
        writer.write(GET)
        await gate.began.wait()
        closing = asyncio.create_task(front.aclose())
        await asyncio.sleep(0)
        gate.go.set()
        assert (await asyncio.wait_for(reader.read(), HANG_S / 2)).endswith(b"\r\n\r\nok")
        await closing
        writer.close()


async def test_while_one_request_runs_on_the_connections_of_finished_streams_are_closed() -> None:
    gates = [Gate(), Gate()]

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "2"})
        await response.prepare(request)
        await gates[int(request.path[1:])](request)
        await response.write(b"ok")
        return response

    async with front_of(House("old", stream)) as (front, url):
        lines = [await asyncio.open_connection(HOST, port_of(url)) for _ in gates]
        for number, (_, writer) in enumerate(lines):
            writer.write(f"GET /{number} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await gates[number].began.wait()
        closing = asyncio.create_task(front.aclose())
        await asyncio.sleep(0)
        for number, (reader, writer) in enumerate(lines):
            assert not closing.done()
            gates[number].go.set()
            assert (await asyncio.wait_for(reader.read(), HANG_S / 2)).endswith(b"\r\n\r\nok")
            writer.close()
        await closing


async def test_a_connection_that_was_accepted_while_closing_is_closed_at_once() -> None:
    async with front_of(House("old")) as (front, url):
        assert front._server is not None
        front._server.wind_down()
        reader, writer = await asyncio.open_connection(HOST, port_of(url))
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), HANG_S / 2) == b""
        writer.close()


async def test_a_raised_answer_is_the_last_of_its_connection_while_closing() -> None:
    gate = Gate()

    async def moved(request: web.Request) -> web.Response:
        await gate(request)
        raise web.HTTPFound("/elsewhere")

    async with front_of(House("old", moved)) as (front, url):
        reader, writer = await asyncio.open_connection(HOST, port_of(url))
        writer.write(GET)
        await gate.began.wait()
        closing = asyncio.create_task(front.aclose())
        await asyncio.sleep(0)
        gate.go.set()
        said = await asyncio.wait_for(reader.read(), HANG_S / 2)
        assert said.startswith(b"HTTP/1.1 302")
        assert b"Connection: close" in said
        await closing
        writer.close()


async def test_a_client_that_does_not_read_cannot_hold_the_process() -> None:
    async def much(request: web.Request) -> web.Response:
        return web.Response(body=b"a" * 50_000_000)

    old = House("old", much)
    async with front_of(old, drain_s=0.1) as (front, url):
        with socket.create_connection((HOST, port_of(url))) as deaf:
            deaf.sendall(GET)
            await until(lambda: front.in_flight == 1)
            await asyncio.wait_for(front.aclose(), HANG_S)
            assert (old.closed, front.connections) == (1, 0)


async def test_nothing_is_begun_after_closing() -> None:
    late = House("late")
    async with front_of(House("old")) as (front, _):
        await front.aclose()
        with pytest.raises(NotReady):
            await front.swap(late.app)
        with pytest.raises(NotReady):
            await front.listen(HOST, 0)
    assert (late.opened, late.closed) == (1, 1)


async def test_a_front_that_never_listened_closes_its_house() -> None:
    only = House("only")
    front = Front()
    await front.swap(only.app)
    await front.aclose()
    assert (only.closed, front.connections) == (1, 0)


# ---- listening


async def test_several_addresses_lead_to_the_same_house() -> None:
    async with front_of(House("one")) as (front, url), aiohttp.ClientSession() as session:
        ((host, port),) = await front.listen("127.0.0.2", 0)
        assert await text_of(session, url) == "one"
        assert await text_of(session, f"http://{host}:{port}/") == "one"


async def test_workers_can_share_a_port() -> None:
    first, second = Front(), Front()
    ((_, port),) = await first.listen(HOST, 0, reuse_port=True)
    assert await second.listen(HOST, port, reuse_port=True) == [(HOST, port)]
    await first.aclose()
    await second.aclose()


@pytest.mark.parametrize(
    ("host", "port", "says"),
    [
        (HOST, None, ["server.port", "in use", "choose another port"]),
        (HOST, 70_000, ["server.port", "70000 is not a port", "65535"]),
        ("203.0.113.7", 0, ["server.host", "'203.0.113.7'", "not an address of this machine"]),
        ("256.256.256.256", 0, ["server.host", "not an address of this machine"]),
    ],
)
async def test_an_address_that_cannot_be_used_is_a_sentence(host: str, port: int | None, says: list[str]) -> None:
    front = Front()
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        with pytest.raises(SettingsError) as caught:
            await front.listen(host, taken.getsockname()[1] if port is None else port)
    assert all(part in str(caught.value) for part in says), str(caught.value)
    await front.aclose()


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EACCES, "server.port: 80 may not be used by this user; choose a port above 1023"),
        (errno.EMFILE, "choose another address"),
    ],
)
def test_what_the_system_refuses_is_a_sentence(number: int, says: str) -> None:
    # The tests may run as root, whom the system refuses nothing.
    assert says in str(_cannot_listen(HOST, 80, OSError(number, os.strerror(number))))


async def test_a_certificate_is_changed_without_a_restart(tmp_path: Path) -> None:
    troubles = Troubles()
    front = Front(on_trouble=troubles)
    assert await front.reload_tls()  # nothing to reload
    await front.swap(House("safe").app)
    ((_, port),) = await front.listen(HOST, 0, tls=write_pair(tmp_path, "old"))
    assert await name_shown(port) == "old"
    assert await front.reload_tls(write_pair(tmp_path, "new"))
    assert await name_shown(port) == "new"
    assert not await front.reload_tls(TlsFiles(str(tmp_path / "none"), str(tmp_path / "none")))
    assert await name_shown(port) == "new"
    ((text, error),) = troubles.told
    assert text == "the new certificate is not used, the old one stays"
    assert isinstance(error, SettingsError)
    async with aiohttp.ClientSession() as session, session.get(f"https://{HOST}:{port}/", ssl=False) as answer:
        assert await answer.text() == "safe"
    await front.aclose()


async def test_a_renewed_certificate_is_found_by_itself(tmp_path: Path) -> None:
    front = Front(certificate_every_s=0.02)
    files = write_pair(tmp_path, "old")
    ((_, port),) = await front.listen(HOST, 0, tls=files)
    assert await name_shown(port) == "old"
    write_pair(tmp_path, "new", files=files)
    async with asyncio.timeout(HANG_S):
        while await name_shown(port) != "new":
            await asyncio.sleep(0.01)
    await front.aclose()


async def test_a_handshake_that_does_not_come_is_given_up(tmp_path: Path) -> None:
    front = Front(header_s=0.2)
    ((_, port),) = await front.listen(HOST, 0, tls=write_pair(tmp_path, "one"))
    reader, writer = await asyncio.open_connection(HOST, port)
    with suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), HANG_S) == b""
    writer.close()
    # With a finished handshake the clock of the head runs.
    reader, writer = await asyncio.open_connection(HOST, port, ssl=client_context())
    assert isinstance(writer.get_extra_info("ssl_object"), ssl.SSLObject)
    assert await asyncio.wait_for(reader.read(), HANG_S) == b""
    writer.close()
    await front.aclose()


# ---- signals


@asynccontextmanager
async def signalled(front: Front, on_hup: Callable[[], Awaitable[None]]) -> AsyncIterator[asyncio.Task[None]]:
    """The service as it runs in a process of its own; it is listening to signals when this is entered."""
    task = asyncio.create_task(run_until_signalled(front, on_hup=on_hup))
    await until(lambda: signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


async def no_reload() -> None:
    raise AssertionError


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_signal_closes_gracefully_and_a_second_one_is_not_held_back(number: signal.Signals) -> None:
    gate = Gate()
    old = House("old", gate)
    async with (
        front_of(old) as (front, url),
        signalled(front, no_reload) as service,
        aiohttp.ClientSession() as session,
    ):
        running = asyncio.create_task(text_of(session, url))
        await gate.began.wait()
        os.kill(os.getpid(), number)
        await until(lambda: signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler))
        assert signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL  # a late reload must not kill the process
        assert not service.done()
        gate.go.set()
        assert await running == "through the gate"
        await asyncio.wait_for(service, HANG_S)
        assert old.closed == 1


async def test_a_hang_up_signal_swaps_the_house() -> None:
    async with front_of(House("old")) as (front, url), aiohttp.ClientSession() as session:
        swapped = asyncio.Event()

        async def reload() -> None:
            await front.swap(House("new").app)
            swapped.set()

        async with signalled(front, reload):
            assert await text_of(session, url) == "old"
            os.kill(os.getpid(), signal.SIGHUP)
            await swapped.wait()
            assert await text_of(session, url) == "new"


async def test_hang_up_signals_during_a_reload_make_one_more_reload() -> None:
    began: asyncio.Queue[None] = asyncio.Queue()
    go: asyncio.Queue[None] = asyncio.Queue()
    running = most = count = 0

    async def reload() -> None:
        nonlocal running, most, count
        running, count = running + 1, count + 1
        most = max(most, running)
        began.put_nowait(None)
        await go.get()
        running -= 1

    async with front_of(House("old")) as (front, _), signalled(front, reload):
        os.kill(os.getpid(), signal.SIGHUP)
        await began.get()
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0.01)
        go.put_nowait(None)
        await began.get()
        go.put_nowait(None)
        await until(lambda: not running)
        await asyncio.sleep(0.01)
        assert (count, most) == (2, 1)


async def test_a_reload_that_fails_is_reported_and_the_next_one_is_tried() -> None:
    troubles = Troubles()
    tries: asyncio.Queue[int] = asyncio.Queue()

    async def reload() -> None:
        tries.put_nowait(1)
        raise ValueError("broken file")

    async with front_of(House("old"), on_trouble=troubles) as (front, url), signalled(front, reload) as service:
        for number in (1, 2):
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.wait_for(tries.get(), HANG_S)
            await until(lambda number=number: len(troubles.told) == number)
        assert not service.done()
        assert [str(error) for _, error in troubles.told] == ["broken file"] * 2
        async with aiohttp.ClientSession() as session:
            assert await text_of(session, url) == "old"


async def test_a_stop_signal_gives_up_a_reload_that_hangs() -> None:
    began = asyncio.Event()

    async def hang() -> None:
        began.set()
        await asyncio.Event().wait()

    async with front_of(House("old")) as (front, _), signalled(front, hang) as service:
        os.kill(os.getpid(), signal.SIGHUP)
        await began.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(service, HANG_S)
