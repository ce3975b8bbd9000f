"""Connections whose address has been checked: the one that was judged is the one that is used."""

from __future__ import annotations

import socket
import ssl

from aiohttp import (
    AddrInfoType,
    ClientRequest,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
    ThreadedResolver,
)
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from bridge.edge.address import check_address

MAX_HEADER_BYTES = 8_190
MAX_HEADERS = 128


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
    ) -> None:
        def checked_socket(info: AddrInfoType) -> socket.socket:
            # An IP literal in the URL never passes through the resolver, but it does pass here.
            family, kind, protocol, _, address = info
            check_address(address[0], private_ok=private_ok)
            return socket.socket(family, kind, protocol)

        super().__init__(
            resolver=CheckingResolver(resolver or ThreadedResolver(), private_ok=private_ok),
            # Resolved afresh for each connection: a cached answer would be one that was judged at another time.
            use_dns_cache=False,
            ssl=ssl_context or True,
            limit=0,
            limit_per_host=max_connections_per_host,
            socket_factory=checked_socket,
        )

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
