"""The wire: what a connection may do before, between and during its requests, and how a body is read."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

import aiohttp.http
import orjson
from aiohttp import StreamReader, web
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong

from bridge.errors import (
    BadRequest,
    BodyTooLarge,
    BridgeError,
    HeaderTooLarge,
    RequestTimedOut,
    SettingsError,
    UnsupportedEncoding,
)
from bridge.web.sending import WriteDeadline

log = logging.getLogger("bridge.web")

_TOO_MANY_FIELDS = "Too many headers received"


@dataclass(frozen=True, slots=True)
class WireLimits:
    """Bounds of every connection.

    `linger_s` is how long an unread rest of a body is thrown away after the answer: closing at once would reset
    the connection and take the answer with it. `write_s` is how long a client may take nothing of its answer.
    """

    header_s: float = 10.0
    keepalive_s: float = 75.0
    linger_s: float = 2.0
    write_s: float = 30.0
    max_connections: int = 2000
    max_line_bytes: int = 65_536
    max_field_bytes: int = 8_190
    max_fields: int = 128
    max_head_bytes: int = 131_072


def assert_c_parser() -> None:
    """Stops the start when requests would be read by aiohttp's pure Python parser, which is slower and more lenient.

    Errors: SettingsError.
    """
    parser = aiohttp.http.HttpRequestParser
    if parser.__module__ != "aiohttp._http_parser":
        raise SettingsError(
            [
                f"aiohttp reads HTTP with {parser.__module__}, not with its C parser: unset AIOHTTP_NO_EXTENSIONS, "
                "or install an aiohttp wheel that is built for this Python"
            ]
        )


class Tally:
    """A count that can be waited on until it is zero."""

    def __init__(self) -> None:
        self.count = 0
        self._zero = asyncio.Event()
        self._zero.set()

    def up(self) -> None:
        """One more."""
        self.count += 1
        self._zero.clear()

    def down(self) -> None:
        """One less."""
        self.count -= 1
        if not self.count:
            self._zero.set()

    async def zero(self, within_s: float) -> bool:
        """Whether the count comes to zero in time."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._zero.wait(), within_s)
        return not self.count


class WireServer(web.Server):
    """The one server of the process: makes a `Wire` per connection and caps their number."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        request_factory: Callable[..., web.BaseRequest],
        limits: WireLimits,
    ) -> None:
        # Without cancellation the work of a client that went away would run to its end.
        super().__init__(handler, request_factory=request_factory, handler_cancellation=True)
        self.limits = limits
        self.wires: set[Wire] = set()
        self._open = Tally()
        self._winding_down = False

    def __call__(self) -> Wire:
        return Wire(self, self.limits)

    def admit(self, wire: Wire) -> bool:
        """Whether one more connection may live."""
        if self._winding_down or len(self.wires) >= self.limits.max_connections:
            return False
        self.wires.add(wire)
        self._open.up()
        return True

    def dismiss(self, wire: Wire) -> None:
        """The connection is gone."""
        if wire in self.wires:
            self.wires.remove(wire)
            self._open.down()

    def wind_down(self) -> None:
        """Closes idle connections at once, and the others after their present answer."""
        self._winding_down = True
        for wire in tuple(self.wires):
            wire.wind_down()

    async def hang_up(self, flush_s: float) -> None:
        """Closes every connection; what is unsent after `flush_s` is dropped."""
        for wire in tuple(self.wires):
            wire.force_close()
        if not await self._open.zero(flush_s):
            for wire in tuple(self.wires):
                wire.abort()
            await self._open.zero(flush_s)


class Wire(web.RequestHandler):
    """One connection: aiohttp's handler plus a deadline and a size for request heads, and answers in JSON.

    Only one name that aiohttp does not publish is used, `_request_count`: the number of heads parsed so far.
    """

    __slots__ = (
        "_begun",
        "_busy",
        "_content",
        "_head_bytes",
        "_head_timer",
        "_limits",
        "_on_end",
        "_raw",
        "_sending",
        "_server",
        "last",
    )

    def __init__(self, server: WireServer, limits: WireLimits) -> None:
        options: dict[str, Any] = {
            "access_log": None,
            "auto_decompress": False,  # a request of 10 MB must not become one of 10 GB
            "keepalive_timeout": limits.keepalive_s,
            "lingering_time": limits.linger_s,
            "max_line_size": limits.max_line_bytes,
            "max_field_size": limits.max_field_bytes,
            "max_headers": limits.max_fields,
            "tcp_keepalive": True,
        }
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._server = server
        self._limits = limits
        self._raw: asyncio.Transport  # `transport` is None as soon as the connection begins to close
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._begun = 0
        self._busy = 0
        self._content: StreamReader | None = None
        self._on_end: Callable[[], None]
        self._sending = WriteDeadline(limits.write_s, self.abort)
        self.last = False  # the present answer is the last one on this connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Refuses the connection over the cap, else starts the clock of its first head."""
        self._raw = cast(asyncio.Transport, transport)
        if not self._server.admit(self):
            self._raw.abort()
            return
        super().connection_made(transport)
        self._watch_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stops the clocks and frees the place under the cap."""
        self._unwatch_head()
        self._sending.stop()
        self._server.dismiss(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """More is written than leaves: from now on the client must take some of it."""
        super().pause_writing()
        self._sending.start(self._raw)

    def resume_writing(self) -> None:
        """Enough has left."""
        super().resume_writing()
        self._sending.moved()

    def data_received(self, data: bytes) -> None:
        """Feeds the parser; while a head is awaited its bytes and seconds are counted."""
        waiting = bool(data) and self._awaits_head()
        if waiting:
            self._watch_head()
            self._head_bytes += len(data)
        parsed = self._request_count
        super().data_received(data)
        if self._request_count != parsed:
            self._unwatch_head()
            self._break_body()
        elif waiting and self._head_bytes > self._limits.max_head_bytes:
            self._refuse(_head_too_large())

    def begin(self, content: StreamReader, task: asyncio.Task[None], on_end: Callable[[], None]) -> None:
        """A request starts; `on_end` is called when it is over, and again when the connection ends."""
        if not self._begun:
            # A handler that is cancelled before its first step never reports its end.
            task.add_done_callback(self._connection_over)
        self._begun += 1
        self._busy += 1
        self._content = content
        self._on_end = on_end

    def ended(self) -> None:
        """The answer has been written."""
        self._busy -= 1
        self._sending.start(self._raw)
        if self.last and self._awaits_head():
            self.force_close()

    def wind_down(self) -> None:
        """Closes the connection now when it is idle, else after the present answer."""
        self.last = True
        if self._awaits_head():
            self.force_close()

    def abort(self) -> None:
        """Drops the connection with whatever is unsent."""
        self.force_close()
        self._raw.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A refusal in JSON: neither the parser's words, which repeat the request, nor a traceback."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun, it cannot become an error any more")
        error = _wire_error(status, exc)
        if error.status >= 500:
            self.log_exception("unhandled error", exc_info=exc)
        response = web.Response(
            body=refusal_body(error),
            status=error.status,
            content_type="application/json",
            headers={"Server": "bridge"},
        )
        response.force_close()
        return response

    def _awaits_head(self) -> bool:
        body_over = self._content is None or self._content.is_eof()
        return body_over and not self._busy and self._begun == self._request_count

    def _connection_over(self, _task: asyncio.Task[None]) -> None:
        self._on_end()

    def _watch_head(self) -> None:
        if self._head_timer is None:
            loop = asyncio.get_running_loop()
            self._head_timer = loop.call_later(self._limits.header_s, self._head_late)

    def _unwatch_head(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_late(self) -> None:
        if not self._head_bytes:
            self.force_close()  # nothing was asked, so nothing is answered
            return
        self._refuse(
            RequestTimedOut(
                f"the request head was not complete after {self._limits.header_s:g} s", remedy="send it in one go"
            )
        )

    def _refuse(self, error: BridgeError) -> None:
        if self.transport is not None:
            self.transport.write(_raw_refusal(error))
        self.force_close()

    def _break_body(self) -> None:
        """Ends the body being read when the parser gave up inside it; the C parser tells no one but the next head."""
        content = self._content
        if content is not None and not content.is_eof():
            content.set_exception(web.RequestPayloadError("malformed body"))
            content.feed_eof()
            self.close()


def _head_too_large() -> HeaderTooLarge:
    return HeaderTooLarge("the request head is too large", remedy="send a shorter URL, or fewer and shorter headers")


def _wire_error(status: int, exc: BaseException | None) -> BridgeError:
    if status >= 500:
        return BridgeError("something went wrong inside bridge; its log has the details")
    if isinstance(exc, LineTooLong) or (isinstance(exc, BadHttpMessage) and exc.message == _TOO_MANY_FIELDS):
        return _head_too_large()
    return BadRequest("the request is not valid HTTP/1.1", remedy="check the client, or the proxy before bridge")


def refusal_body(error: BridgeError) -> bytes:
    """The one error shape, for refusals that no application sees."""
    request_id = secrets.token_hex(8)
    log.debug("refused with %s: %s", error.code, error.message, extra={"request_id": request_id})
    return orjson.dumps(error.body(request_id))


def _raw_refusal(error: BridgeError) -> bytes:
    body = refusal_body(error)
    head = (
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


async def read_body(request: web.BaseRequest, *, max_bytes: int, deadline_s: float) -> bytes:
    """The whole request body, `b""` when there is none.

    Errors: BodyTooLarge, UnsupportedEncoding, RequestTimedOut, BadRequest when it is malformed; after each of them
    the connection ends with the answer.
    """
    try:
        _check_encoding(request)
        if (request.content_length or 0) > max_bytes:
            raise _body_too_large(max_bytes)
        async with asyncio.timeout(deadline_s):
            return await _read(request.content, max_bytes)
    except TimeoutError as error:
        _make_last(request)
        raise RequestTimedOut(
            f"the request body was not complete after {deadline_s:g} s", remedy="send it faster, or send less"
        ) from error
    except web.RequestPayloadError as error:
        _make_last(request)
        raise BadRequest("the request body is malformed", remedy="check how the client frames its chunks") from error
    except BridgeError:
        _make_last(request)
        raise


async def _read(content: StreamReader, max_bytes: int) -> bytes:
    body = bytearray()  # not a list of parts: tiny chunks would cost forty times their size
    while part := await content.readany():
        if len(body) + len(part) > max_bytes:
            raise _body_too_large(max_bytes)
        body += part
    return bytes(body)


def _check_encoding(request: web.BaseRequest) -> None:
    for value in request.headers.getall("Content-Encoding", ()):
        for name in value.split(","):
            if name.strip().lower() not in ("", "identity"):
                raise UnsupportedEncoding(
                    f"request bodies with Content-Encoding {name.strip()[:40]!r} are not read here",
                    remedy="send the body uncompressed",
                )


def _body_too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the request body is over {max_bytes} bytes", remedy="send a smaller request")


def _make_last(request: web.BaseRequest) -> None:
    if isinstance(request.protocol, Wire):
        request.protocol.last = True
