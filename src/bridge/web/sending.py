"""How an answer leaves: in pieces, and not for ever when its client does not take it."""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections.abc import Callable
from typing import Final

from aiohttp import Payload, web
from aiohttp.abc import AbstractStreamWriter

PIECE_BYTES: Final = 256 * 1024


class WriteDeadline:
    """Calls `cut` when a connection's unsent bytes have not become fewer for `write_s`.

    It runs while there are unsent bytes and ends by itself when there are none, so that an answer which leaves at
    once costs nothing.
    """

    __slots__ = ("_cut", "_left_bytes", "_timer", "_write_s")

    def __init__(self, write_s: float, cut: Callable[[], None]) -> None:
        self._write_s = write_s
        self._cut = cut
        self._left_bytes: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, transport: asyncio.Transport) -> None:
        """Watches what is unsent from now on, if anything is and it is not watched already."""
        if self._timer is None and _waiting_bytes(transport):
            self._left_bytes = _left_bytes(transport)
            self._again(transport)

    def moved(self) -> None:
        """Bytes have left, although others may have come after them."""
        self._left_bytes = None

    def stop(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self, transport: asyncio.Transport) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._write_s, self._look, transport)

    def _look(self, transport: asyncio.Transport) -> None:
        self._timer = None
        if not _waiting_bytes(transport):
            return
        left_bytes, before_bytes = _left_bytes(transport), self._left_bytes
        if before_bytes is not None and left_bytes >= before_bytes:
            self._cut()
            return
        self._left_bytes = left_bytes
        self._again(transport)


def _waiting_bytes(transport: asyncio.Transport) -> int:
    try:
        return transport.get_write_buffer_size()
    except AttributeError:  # asyncio's TLS transport once it was closed twice; its shutdown has a deadline of its own
        return 0


def _left_bytes(transport: asyncio.Transport) -> int:
    """What the client has not acknowledged.

    The kernel asks for more only when a third of its own buffer is free: without what it holds, a client on a slow
    line would seem to stand still for minutes.
    """
    waiting_bytes = _waiting_bytes(transport)
    try:
        held = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, b"\0" * 4)
    except (OSError, ValueError):  # the socket is closed already, or the system does not tell
        return waiting_bytes
    held_bytes: int = struct.unpack("i", held)[0]
    return waiting_bytes + held_bytes


class _Pieces(Payload):
    """A body that is handed over as fast as it leaves."""

    _value: bytes

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self._size = len(body)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._value.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        view = memoryview(self._value)
        for begin in range(0, len(view), PIECE_BYTES):
            await writer.write(view[begin : begin + PIECE_BYTES])


def in_pieces(response: web.StreamResponse) -> web.StreamResponse:
    """The same answer; a large body waits where it is, not once more in the buffer of its connection.

    TLS needs this for flow control at all: whatever is written at once counts as sent there.
    """
    if isinstance(response, web.Response) and not response.prepared:
        body = response.body
        if isinstance(body, bytes) and len(body) > PIECE_BYTES:
            response.body = _Pieces(body)
    return response
