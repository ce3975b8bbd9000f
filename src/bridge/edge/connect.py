"""Connections whose address has been checked: the one that was judged is the one that is used."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from aiohttp import (
    AddrInfoType,
    ClientRequest,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from bridge.edge.address import check_address
from bridge.errors import UpstreamUnavailable

MAX_HEADER_BYTES = 8_190
MAX_HEADERS = 128
MAX_LOOKUPS = 16
SLOT_WAIT_S = 2.0

_LOCALHOST = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV

Lookup = Callable[..., Sequence[tuple[Any, ...]]]


class ThreadResolver(AbstractResolver):
    """Looks names up in threads of its own, so that a name server that hangs holds up nothing else.

    Shape:  one thread for a name however often it is asked for, and `max_lookups` in all.
    Units:  `slot_wait_s` is how long a name waits for one of the others to end.
    Errors: OSError for a name without addresses, UpstreamUnavailable when no other lookup ends.
    """

    def __init__(
        self,
        lookup: Lookup = socket.getaddrinfo,
        *,
        max_lookups: int = MAX_LOOKUPS,
        slot_wait_s: float = SLOT_WAIT_S,
    ) -> None:
        self._lookup = lookup
        self._max_lookups = max_lookups
        self._slot_wait_s = slot_wait_s
        self._slots = asyncio.Semaphore(max_lookups)
        self._flights: dict[tuple[str, int], asyncio.Task[list[tuple[int, str]]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The name's addresses; `localhost` is this machine and asks no name server."""
        if host.lower().removesuffix(".") == "localhost":
            found: Sequence[tuple[int, str]] = [item for item in _LOCALHOST if family in (socket.AF_UNSPEC, item[0])]
        else:
            found = await self._shared(host, family)
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=_NUMERIC)
            for kind, address in found
        ]

    async def close(self) -> None:
        """Whoever waits is refused. A lookup cannot be ended: its thread is let go of and holds up no exit."""
        for flight in self._flights.values():
            flight.cancel()

    async def _shared(self, host: str, family: int) -> list[tuple[int, str]]:
        key = (host, family)
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(self._look_up(host, family))
            flight.add_done_callback(lambda done: self._landed(key, done))
        # Unlike awaiting it, this does not cancel the flight when one of those who wait for it gives up.
        await asyncio.wait((flight,))
        if flight.cancelled():
            raise UpstreamUnavailable(f"the service is going down and looks `{host}` up no more")
        return flight.result()

    def _landed(self, key: tuple[str, int], flight: asyncio.Task[list[tuple[int, str]]]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            # Looked at even when nobody waits any more: asyncio would log it as forgotten.
            flight.exception()

    async def _look_up(self, host: str, family: int) -> list[tuple[int, str]]:
        try:
            async with asyncio.timeout(self._slot_wait_s):
                await self._slots.acquire()
        except TimeoutError:
            raise UpstreamUnavailable(
                f"the name `{host}` is not looked up, as {self._max_lookups} other lookups hang",
                remedy="check this machine's name servers, and the host names in the sources' URLs",
            ) from None
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[tuple[int, str]]] = loop.create_future()

        def land(found: list[tuple[int, str]], error: Exception | None) -> None:
            # The slot belongs to the thread, not to whoever waits for it.
            self._slots.release()
            if answer.done():
                return
            if error is None:
                answer.set_result(found)
            else:
                answer.set_exception(error)

        def work() -> None:
            found: list[tuple[int, str]] = []
            failed: Exception | None = None
            try:
                infos = self._lookup(host, 0, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
                found = [(info[0], _address(info[4])) for info in infos]
            except Exception as error:  # noqa: BLE001
                failed = error
            # The loop may have been closed since.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(land, found, failed)

        # A daemon: the threads of an executor would be waited for when the process ends.
        threading.Thread(target=work, name=f"lookup {host}", daemon=True).start()
        return await answer


def _address(where: tuple[Any, ...]) -> str:
    """The address of a socket's address, with the zone that a link-local one is of no use without."""
    address, zone = str(where[0]), where[3] if len(where) > 3 else 0
    return f"{address}%{zone}" if zone and "%" not in address else address


class CheckingResolver(AbstractResolver):
    """Resolves a name and refuses all of it when one of its addresses is refused.

    Errors: AddressRefused. A name that mixes good and bad addresses is how DNS rebinding looks.
    """

    def __init__(self, inner: AbstractResolver, *, private_ok: bool) -> None:
        self._inner = inner
        self._private_ok = private_ok

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The name's addresses, every one of them checked."""
        found = await self._inner.resolve(host, port, family)
        if not found:
            raise OSError(None, "the name has no addresses")
        for record in found:
            check_address(record["host"], private_ok=self._private_ok)
        return found

    async def close(self) -> None:
        """The inner resolver belongs to whoever made it."""


class CheckedConnector(TCPConnector):
    """Connects only to checked addresses, and hands out no connection that has something to say already."""

    def __init__(
        self,
        *,
        private_ok: bool,
        resolver: AbstractResolver | None,
        max_connections_per_host: int,
        ssl_context: ssl.SSLContext | None,
        lookup: Lookup = socket.getaddrinfo,
    ) -> None:
        def checked_socket(info: AddrInfoType) -> socket.socket:
            # An IP literal in the URL never passes through the resolver, but it does pass here.
            family, kind, protocol, _, address = info
            check_address(address[0], private_ok=private_ok)
            return socket.socket(family, kind, protocol)

        # A resolver that was given belongs to whoever gave it.
        self._lookups = ThreadResolver(lookup)
        super().__init__(
            resolver=CheckingResolver(resolver or self._lookups, private_ok=private_ok),
            # Resolved afresh for each connection: a cached answer would be one that was judged at another time.
            use_dns_cache=False,
            ssl=ssl_context or True,
            limit=0,
            limit_per_host=max_connections_per_host,
            socket_factory=checked_socket,
        )

    async def close(self, *, abort_ssl: bool = False) -> None:
        """Closes every connection, and ends the waiting for names."""
        await self._lookups.close()
        await super().close(abort_ssl=abort_ssl)

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:  # noqa: ASYNC109
        """A connection on which the next answer is the one to the next question.

        Source: response smuggling: bytes that a server or a proxy before it sent unasked would otherwise be read
                as the answer to whoever uses the connection next.
        """
        while True:
            connection = await super().connect(req, traces, timeout)
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            # Each turn uses up one idle connection, and the request's deadline stands around all of them.
            connection.close()


def open_session(connector: CheckedConnector) -> ClientSession:
    """A session that adds nothing of its own: no cookies, no proxies, no redirects, no unpacking, no clock."""
    return ClientSession(
        connector=connector,
        cookie_jar=DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        # The one deadline is around the whole request and stands in Upstream.
        timeout=ClientTimeout(total=None),
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        max_headers=MAX_HEADERS,
    )
