"""One far HTTP server, and the only way to ask it: one deadline, bounded answers, checked addresses."""

from __future__ import annotations

import asyncio
import io
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypedDict, Unpack
from urllib.parse import quote, urlencode, urljoin

import aiohttp
from aiohttp import ClientResponse, ClientSession
from aiohttp.abc import AbstractResolver
from yarl import URL

from bridge.edge.address import DEFAULT_PORTS, Base, FarUrl, check_path, parse_base, read_url
from bridge.edge.body import read_body
from bridge.edge.connect import CheckedConnector, open_session
from bridge.edge.faults import refused, translate
from bridge.errors import (
    AddressRefused,
    BadQuery,
    BridgeError,
    UpstreamInvalid,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from bridge.model.clock import Clock, SystemClock

MAX_REDIRECTS = 5
MAX_BYTES = 64 * 1024 * 1024
DEADLINE_S = 25.0

_REDIRECTS = (301, 302, 303, 307, 308)
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\x20-\x7e\t]*")
# These frame the message or steer the connection: whoever sets them can smuggle a second request.
_FRAMING = re.compile(
    r"(?i:accept-encoding|connection|content-length|expect|host|http2-settings|keep-alive|proxy-.*|te|trailer"
    r"|transfer-encoding|upgrade)"
)
_NOT_PASSED_ON = frozenset(
    ("connection", "content-encoding", "content-length", "keep-alive", "set-cookie", "trailer", "transfer-encoding")
)
_SECRET_NAME = re.compile(r"auth|cookie|key|pass|secret|session|token", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a far server answered with success.

    Shape: header names are in lower case, several of one name joined by `, `; the body is unpacked. `url` is the
           last one asked, and is kept out of the repr since its query may hold a key.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    url: str = field(repr=False)


class AskOptions(TypedDict, total=False):
    """What may be said with a request; `credentials` never leave the origin, `secrets` never reach an error text."""

    params: Sequence[tuple[str, str]]
    headers: Mapping[str, str] | None
    credentials: Mapping[str, str] | None
    secrets: Sequence[str]
    body: bytes | None
    deadline_s: float
    max_bytes: int


@dataclass(frozen=True, slots=True, repr=False)
class _Ask:
    method: str
    params: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] | None = None
    credentials: Mapping[str, str] | None = None
    secrets: Sequence[str] = ()
    body: bytes | None = None
    deadline_s: float = DEADLINE_S
    max_bytes: int = MAX_BYTES


class Upstream:
    """A client bound to one base URL.

    Errors: of every request: BadQuery when it cannot be sent as asked, else a subclass of SourceError.
    """

    def __init__(self, base: Base, pool: UpstreamPool, headers: Mapping[str, str] | None = None) -> None:
        self.base = base
        self._pool = pool
        self._headers = dict(headers or {})

    def __repr__(self) -> str:
        return f"Upstream({self.base.origin}{self.base.path})"

    async def get(self, path: str = "", **options: Unpack[AskOptions]) -> Answer:
        """The answer to a GET."""
        return await self.request("GET", path, **options)

    async def request(self, method: str, path: str, **options: Unpack[AskOptions]) -> Answer:
        """The answer with a 2xx status; `path` is appended to the base as it is, `params` are encoded here.

        Units: `deadline_s` is around everything: name, connection, redirects and the last byte of the body.
        """
        check_path(path)
        full = self.base.path.rstrip("/") + path if path else self.base.path
        ask = _Ask(_method(method), **options)
        far = FarUrl(self.base.scheme, self.base.host, self.base.port, full, _query(ask.params))
        return await self._run(ask, far)

    async def follow(self, url: str, *, relative_to: str = "", **options: Unpack[AskOptions]) -> Answer:
        """The answer at a URL the far side named as the next page; `relative_to` is the page that named it.

        Errors: AddressRefused when it leads away from the base's origin: the credentials stay there.
        """
        here = relative_to or f"{self.base.origin}{self.base.path or '/'}"
        try:
            far = read_url(urljoin(here, url.partition("#")[0]))
        except ValueError as error:
            raise UpstreamInvalid(
                f"GET {self.base.origin}: the link to the next page is of no use: {error}"
            ) from None
        if far.origin != self.base.origin:
            raise AddressRefused(
                f"GET {self.base.origin}: the link to the next page leads to {far.origin}",
                remedy="have the far server build its links from the URL that stands in the settings",
            )
        ask = _Ask("GET", **options)
        if ask.params:
            raise BadQuery("a link is followed as it is, without further parameters")
        return await self._run(ask, far)

    async def _run(self, ask: _Ask, far: FarUrl) -> Answer:
        _check_headers({**self._headers, **(ask.headers or {}), **(ask.credentials or {})})
        started_s = self._pool.clock.monotonic_s()
        seen: int | str = "cancelled"
        try:
            async with asyncio.timeout(ask.deadline_s):
                answer = await self._hops(ask, far)
            seen = answer.status
        except TimeoutError as error:
            seen = UpstreamTimeout.code
            raise UpstreamTimeout(
                f"{_what(ask, far)}: no complete answer within {ask.deadline_s:g} s",
                remedy="ask for less at a time, or give the source a longer deadline",
            ) from error
        except BridgeError as error:
            seen = error.far_status if isinstance(error, UpstreamRefused) else error.code
            raise
        finally:
            self._pool.observe(self.base.host, seen, self._pool.clock.monotonic_s() - started_s)
        return answer

    async def _hops(self, ask: _Ask, far: FarUrl) -> Answer:
        for _ in range(MAX_REDIRECTS + 1):
            found = await self._exchange(ask, far)
            if isinstance(found, Answer):
                return found
            far = found
        raise UpstreamInvalid(f"{_what(ask, far)}: more than {MAX_REDIRECTS} redirects")

    async def _exchange(self, ask: _Ask, far: FarUrl) -> Answer | FarUrl:
        """One request on the wire: its answer, or where it is redirected to."""
        what = _what(ask, far)
        session = self._pool.session(private_ok=self.base.private_ok)
        # aiohttp warns of large bytes; a file object is sent in pieces.
        data = io.BytesIO(ask.body) if ask.body and len(ask.body) > 2**20 else ask.body
        try:
            async with session.request(
                ask.method,
                URL(str(far), encoded=True),
                headers=self._outgoing(ask, far),
                data=data,
                allow_redirects=False,
            ) as response:
                if response.status in _REDIRECTS:
                    return self._next(ask, far, response)
                return await self._answer(ask, far, response)
        except AddressRefused as error:
            raise AddressRefused(_named(error.message, what), remedy=error.remedy) from error
        except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as error:
            # Their texts hold the full URL and, in the request they carry, every header.
            raise translate(error, what) from None
        except (aiohttp.ClientError, OSError) as error:
            raise translate(error, what) from error

    async def _answer(self, ask: _Ask, far: FarUrl, response: ClientResponse) -> Answer:
        what = _what(ask, far)
        if not 200 <= response.status < 300:
            raise await refused(response, what, secrets=self._secrets(ask), now=self._pool.clock.now())
        body = await read_body(response, max_bytes=ask.max_bytes, what=what)
        return Answer(response.status, _incoming(response), body, str(far))

    def _next(self, ask: _Ask, far: FarUrl, response: ClientResponse) -> FarUrl:
        """Where a redirect leads, when bridge may go there."""
        what = _what(ask, far)
        if ask.method not in ("GET", "HEAD"):
            raise UpstreamInvalid(
                f"{what}: the server redirects a {ask.method}, which is not sent twice",
                remedy="write the final URL into the settings",
            )
        location = response.headers.get("Location", "").partition("#")[0]
        if not location:
            raise UpstreamInvalid(f"{what}: the server redirects with status {response.status}, but not where to")
        try:
            there = read_url(urljoin(str(far), location))
        except ValueError as error:
            raise AddressRefused(
                f"{what}: the server redirects to a URL of no use: {error}",
                remedy="write the final URL into the settings",
            ) from None
        upgrade = (far.scheme, there.scheme, there.host) == ("http", "https", far.host)
        if there.origin == far.origin or (upgrade and there.port in (far.port, DEFAULT_PORTS["https"])):
            return there
        raise AddressRefused(
            f"{what}: redirects to another host are not followed, this one leads to {there.origin}",
            remedy="write the final URL into the settings if it is the right one",
        )

    def _outgoing(self, ask: _Ask, far: FarUrl) -> dict[str, str]:
        """The headers for this hop; away from the base's origin only those that say nothing of who asks."""
        own = {"accept": "*/*", "user-agent": self._pool.user_agent}
        given = {name.lower(): value for name, value in {**self._headers, **(ask.headers or {})}.items()}
        if far.origin == self.base.origin:
            own |= given | {name.lower(): value for name, value in (ask.credentials or {}).items()}
        elif "accept" in given:
            own["accept"] = given["accept"]
        return {name.title(): value for name, value in (own | {"accept-encoding": "gzip"}).items()}

    def _secrets(self, ask: _Ask) -> list[str]:
        named = {**self._headers, **(ask.headers or {})}
        values = [value for name, value in named.items() if _SECRET_NAME.search(name)]
        return [*values, *(ask.credentials or {}).values(), *ask.secrets]


class UpstreamPool:
    """Owns the sessions of all upstreams; made before the loop runs, closed with `aclose`."""

    def __init__(
        self,
        *,
        user_agent: str = "bridge/0.1",
        max_connections_per_host: int = 20,
        resolver: AbstractResolver | None = None,
        observe: Callable[[str, int | str, float], None] | None = None,
        clock: Clock | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self.user_agent = user_agent
        self.clock = clock or SystemClock()
        self._max_connections_per_host = max_connections_per_host
        self._resolver = resolver
        self._observe = observe
        self._ssl_context = ssl_context
        # The socket factory sees an address and not for whom, so each of the two rules has connections of its own.
        self._sessions: dict[bool, ClientSession] = {}
        self._closed = False

    def upstream(
        self, url: str, *, allow_private: bool = False, headers: Mapping[str, str] | None = None
    ) -> Upstream:
        """An upstream for the origin and base path of `url`.

        Errors: ValueError when the URL or a header is not one bridge may send.
        """
        base = parse_base(url, allow_private=allow_private)
        try:
            _check_headers(headers or {})
        except BadQuery as error:
            raise ValueError(error.message) from None
        return Upstream(base, self, headers)

    def session(self, *, private_ok: bool) -> ClientSession:
        """The session whose connections obey this rule."""
        if self._closed:
            raise UpstreamUnavailable("the service is going down and asks nobody any more")
        if private_ok not in self._sessions:
            self._sessions[private_ok] = open_session(
                CheckedConnector(
                    private_ok=private_ok,
                    resolver=self._resolver,
                    max_connections_per_host=self._max_connections_per_host,
                    ssl_context=self._ssl_context,
                )
            )
        return self._sessions[private_ok]

    def observe(self, host: str, outcome: int | str, seconds: float) -> None:
        """Tells the meters how one request ended: a far status or an error's code."""
        if self._observe is not None:
            self._observe(host, outcome, seconds)

    async def aclose(self) -> None:
        """Closes every connection; requests after that are refused."""
        self._closed = True
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _method(method: str) -> str:
    if method not in _METHODS:
        raise BadQuery(f"the method {ascii(method)[:20]} is not sent", remedy=f"use one of {', '.join(_METHODS)}")
    return method


def _query(params: Sequence[tuple[str, str]]) -> str:
    try:
        return urlencode(params, quote_via=quote, safe="")
    except UnicodeEncodeError as error:
        raise BadQuery("a parameter is not valid Unicode") from error


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if _TOKEN.fullmatch(name) is None or _FRAMING.fullmatch(name):
            raise BadQuery(f"the header {ascii(name)[:60]} is not one that can be set")
        if _VALUE.fullmatch(value) is None:
            raise BadQuery(
                f"the value of the header `{name}` holds a line break or other characters that cannot be sent",
                remedy="use printable ASCII only",
            )


def _incoming(response: ClientResponse) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in response.headers.items():
        name = name.lower()  # noqa: PLW2901
        if name not in _NOT_PASSED_ON:
            # Undecodable bytes arrive as surrogates, which no encoder further on would take.
            clean = value.encode("utf-8", "replace").decode()
            found[name] = f"{found[name]}, {clean}" if name in found else clean
    return found


def _what(ask: _Ask, far: FarUrl) -> str:
    return f"{ask.method} {far.origin}{far.path or '/'}"[:300]


def _named(message: str, what: str) -> str:
    return message if message.startswith(what) else f"{what}: {message}"
