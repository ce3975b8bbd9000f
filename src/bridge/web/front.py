"""The front door: one listening server for the life of the process, and behind it a house that can be swapped."""

from __future__ import annotations

import asyncio
import errno
import logging
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, cast

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage

from bridge.errors import NotReady, SettingsError
from bridge.web.protocol import Tally, Wire, WireLimits, WireServer, refusal_body
from bridge.web.sending import in_pieces
from bridge.web.tls import TlsFiles, TlsReloader

log = logging.getLogger("bridge.web")

# How long the last bytes may take to leave when the process goes down.
FLUSH_S = 2.0

OnTrouble = Callable[[str, BaseException | None], None]


def log_trouble(text: str, error: BaseException | None) -> None:
    """Writes to the log what no request can be told."""
    log.error(text, exc_info=error)


class House:
    """One application with its parts, and the requests that run in it."""

    def __init__(self, app: web.Application) -> None:
        self._runner = web.AppRunner(app)
        self._leases: set[Lease] = set()
        self.requests = Tally()
        self.handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
        self.request_factory: Callable[..., web.BaseRequest]

    async def open(self) -> None:
        """Starts every part; what a part raises is raised here, and `aclose` is still owed."""
        await self._runner.setup()
        server = self._runner.server
        assert server is not None  # noqa: S101 setup has just made it
        self.handler = server.request_handler
        self.request_factory = server.request_factory

    def enter(self) -> Lease:
        """Counts one request in, until its lease is released."""
        lease = Lease(self)
        self._leases.add(lease)
        self.requests.up()
        return lease

    def leave(self, lease: Lease) -> None:
        """Counts the request out, once."""
        if lease in self._leases:
            self._leases.remove(lease)
            self.requests.down()

    def cancel_rest(self) -> None:
        """Ends the requests that are still here; their connections are closed."""
        for lease in self._leases:
            if lease.task is not None:
                lease.task.cancel()

    async def aclose(self) -> None:
        """Closes every part that was started."""
        await self._runner.cleanup()


class Lease:
    """One request's right to its house."""

    __slots__ = ("house", "task")

    def __init__(self, house: House) -> None:
        self.house = house
        self.task: asyncio.Task[Any] | None = None

    def release(self) -> None:
        """Gives the right back; more than once is as good as once."""
        self.house.leave(self)


LEASE: Final = web.RequestKey("bridge.lease", Lease)


class Front:
    """Listens, and gives each request to the house that stands when the request begins.

    A request stays in its house to its end, whatever is swapped meanwhile; a house is closed after its last request.
    Units: seconds as named; `drain_s` is how long requests may still run in a house that was swapped out, and
    `cancel_s` how long those that were then cancelled may take to let go of what they hold;
    `certificate_every_s` is how often the certificate's files are looked at.
    """

    def __init__(
        self,
        *,
        header_s: float = 10.0,
        keepalive_s: float = 75.0,
        max_connections: int = 2000,
        drain_s: float = 30.0,
        cancel_s: float = 5.0,
        certificate_every_s: float = 10.0,
        on_trouble: OnTrouble = log_trouble,
    ) -> None:
        self.limits = WireLimits(header_s=header_s, keepalive_s=keepalive_s, max_connections=max_connections)
        self._drain_s = drain_s
        self._cancel_s = cancel_s
        self._certificate_every_s = certificate_every_s
        self.report = on_trouble
        self._current: House | None = None
        self._houses: set[House] = set()
        self._server: WireServer | None = None
        self._listeners: list[asyncio.Server] = []
        self._tls: TlsReloader | None = None
        self._watching: set[asyncio.Task[None]] = set()
        self._retiring: set[asyncio.Task[None]] = set()
        self._swapping = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None

    @property
    def in_flight(self) -> int:
        """Requests that are being answered, in all houses."""
        return sum(house.requests.count for house in self._houses)

    @property
    def houses(self) -> int:
        """Houses that are not closed yet: the standing one, and those that finish their last requests."""
        return len(self._houses)

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._server.wires) if self._server else 0

    async def swap(self, app: web.Application) -> None:
        """Puts a new application in place of the old one, which finishes its requests in the background.

        Errors: whatever the new one raises while it starts, then the old one stays; NotReady when going down.
        """
        async with self._swapping:
            house = House(app)
            try:
                await house.open()
                if self._closing is not None:
                    raise NotReady("the service is going down")
            except BaseException:
                await self._clean(house)
                raise
            old, self._current = self._current, house
            self._houses.add(house)
            if old is not None:
                self._keep(self._retiring, self._retire(old))

    async def listen(
        self, host: str, port: int, *, tls: TlsFiles | None = None, reuse_port: bool = False
    ) -> list[tuple[str, int]]:
        """Accepts connections; the addresses that were bound, port 0 takes a free one.

        Errors: SettingsError when the address or the certificate cannot be used.
        """
        if self._closing is not None:
            raise NotReady("the service is going down")
        if not 0 <= port <= 65_535:  # uvloop would take it modulo 65536
            raise SettingsError([f"server.port: {port} is not a port; choose one between 0 and 65535"])
        if self._server is None:
            self._server = WireServer(self._answer, request_factory=self._begin, limits=self.limits)
        options: dict[str, Any] = {"backlog": 512, "reuse_port": reuse_port or None}
        reloader = self._reloader(tls) if tls is not None else None
        if reloader is not None:
            options |= {"ssl": reloader.context, "ssl_handshake_timeout": self.limits.header_s}
        loop = asyncio.get_running_loop()
        try:
            listener = await loop.create_server(self._server, host, port, **options)
        except OSError as error:
            raise _cannot_listen(host, port, error) from error
        self._listeners.append(listener)
        if reloader is not None:
            self._tls = reloader
            self._keep(self._watching, reloader.watch())
        return [bound.getsockname()[:2] for bound in listener.sockets]

    async def reload_tls(self, files: TlsFiles | None = None) -> bool:
        """Loads the certificate, from other files where given; False when it is broken and the old one stays."""
        return await self._tls.reload(files) if self._tls is not None else True

    async def aclose(self) -> None:
        """Stops accepting, lets running requests finish within `drain_s`, then closes every house."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    def _begin(
        self,
        message: RawRequestMessage,
        content: StreamReader,
        wire: Wire,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        """Makes the request of a complete head; from here on it holds its house open."""
        if message.upgrade:
            wire.last = True  # whoever stands before bridge may take what follows for the other protocol
        house = self._current
        if house is None:
            wire.begin(content, task, lambda: None)
            return web.BaseRequest(message, content, wire, writer, task, asyncio.get_running_loop())
        lease = house.enter()
        wire.begin(content, task, lease.release)
        request = house.request_factory(message, content, wire, writer, task)
        request[LEASE] = lease
        return request

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        wire = cast(Wire, request.protocol)
        lease = request.get(LEASE)
        # aiohttp runs every request in a task of its own, which is done when the answer has been written.
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 this is a coroutine
        task.add_done_callback(lambda _: _over(wire, lease))
        if lease is None:
            return _parting(wire, _not_ready())
        lease.task = task
        try:
            return _parting(wire, in_pieces(await lease.house.handler(request)))
        except web.HTTPException as answer:
            _parting(wire, answer)
            raise

    async def _retire(self, house: House) -> None:
        try:
            if not await house.requests.zero(self._drain_s):
                house.cancel_rest()
                if not await house.requests.zero(self._cancel_s):
                    self.report(f"{house.requests.count} requests run on although they were cancelled", None)
            await self._clean(house)
        finally:
            self._houses.discard(house)

    async def _clean(self, house: House) -> None:
        try:
            await house.aclose()
        except Exception as error:  # noqa: BLE001 a part that fails to close must not keep the others open
            self.report("a part did not close cleanly", error)

    async def _close(self) -> None:
        for task in self._watching:
            task.cancel()
        for listener in self._listeners:
            listener.close()
        if self._server is not None:
            self._server.wind_down()
        # Heads that were complete before now begin in the next round of the loop; they are still answered.
        await asyncio.sleep(0)
        house, self._current = self._current, None
        if house is not None:
            self._keep(self._retiring, self._retire(house))
        await asyncio.gather(*self._retiring, *self._watching, return_exceptions=True)
        if self._server is not None:
            await self._server.hang_up(FLUSH_S)

    def _keep(self, tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def _reloader(self, files: TlsFiles) -> TlsReloader:
        return TlsReloader(files, on_broken=self._certificate_broken, every_s=self._certificate_every_s)

    def _certificate_broken(self, error: SettingsError) -> None:
        self.report("the new certificate is not used, the old one stays", error)


def _over(wire: Wire, lease: Lease | None) -> None:
    if lease is not None:
        lease.release()
    wire.ended()


def _parting(wire: Wire, response: web.StreamResponse) -> web.StreamResponse:
    """Says in the answer that it is the connection's last, where it is and can still be said."""
    if wire.last and not response.prepared:
        response.force_close()
    return response


def _not_ready() -> web.Response:
    error = NotReady("bridge is starting or going down", remedy="try again in a moment")
    return web.Response(
        body=refusal_body(error),
        status=error.status,
        content_type="application/json",
        headers={"Retry-After": "1", "Server": "bridge"},
    )


def _cannot_listen(host: str, port: int, error: OSError) -> SettingsError:
    code = error.errno
    if code == errno.EADDRINUSE:
        text = f"server.port: {port} on {host} is in use; stop the program that has it, or choose another port"
    elif code == errno.EACCES:
        text = f"server.port: {port} may not be used by this user; choose a port above 1023"
    elif isinstance(error, socket.gaierror) or code == errno.EADDRNOTAVAIL:
        text = f"server.host: {host!r} is not an address of this machine; 127.0.0.1 always is"
    else:
        text = f"server.host: cannot listen on {host}:{port}: {error}; choose another address"
    return SettingsError([text])


async def run_until_signalled(front: Front, *, on_hup: Callable[[], Awaitable[None]]) -> None:
    """Runs until SIGTERM or SIGINT, then closes gracefully; a second one ends the process as it would any other.

    SIGHUP awaits `on_hup`, one at a time; all that come while one runs make one more.
    """
    loop = asyncio.get_running_loop()
    stop, again = asyncio.Event(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.add_signal_handler(signal.SIGHUP, again.set)
    reloading = asyncio.create_task(_reload_on(again, on_hup, front.report))
    try:
        await stop.wait()
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        loop.remove_signal_handler(signal.SIGINT)
        reloading.cancel()
        await asyncio.wait([reloading])
        await front.aclose()
        loop.remove_signal_handler(signal.SIGHUP)


async def _reload_on(again: asyncio.Event, on_hup: Callable[[], Awaitable[None]], on_trouble: OnTrouble) -> None:
    while True:
        await again.wait()
        again.clear()
        try:
            await on_hup()
        except Exception as error:  # noqa: BLE001 a reload that fails must not stop the service
            on_trouble("the reload failed, everything stays as it was", error)
