"""Far answers' bodies: read in pieces, unpacked within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Iterator

from aiohttp import ClientError, ClientResponse

from bridge.errors import UpstreamInvalid, UpstreamTooLarge, UpstreamUnavailable

# Smallest bound on the output of one step, so that other requests get their turn while a bomb unpacks.
STEP_BYTES = 256 * 1024
# A member costs more than its bytes say; block-wise gzip (BGZF) of 64 MiB has about a thousand.
MAX_GZIP_MEMBERS = 10_000
PEEK_BYTES = 2_048
PEEK_S = 1.0


class Unpacker:
    """Takes one content coding off; every step's output is bounded.

    Errors: UpstreamInvalid for an unknown coding or broken data, UpstreamUnavailable for a cut stream.
    """

    def __init__(self, coding: str, what: str) -> None:
        self._what = what
        self._coding = coding.strip().lower()
        if self._coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise UpstreamInvalid(
                f"{what}: the answer comes in the content coding {ascii(coding)[:40]}, which bridge did not ask for",
                remedy="let the far server send gzip or plain bodies",
            )
        self._plain = self._coding in ("", "identity")
        self._inflate: zlib._Decompress | None = None
        self._members = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The plain bytes of the next piece, in steps."""
        if self._plain:
            yield data
            return
        inflate = self._inflate
        try:
            while data:
                inflate = self._current(data)
                yield inflate.decompress(data, STEP_BYTES)
                data = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
            # Output that the last step had no room for is still inside zlib.
            while inflate is not None and not inflate.eof and (rest := inflate.decompress(b"", STEP_BYTES)):
                yield rest
        except zlib.error as error:
            raise UpstreamInvalid(f"{self._what}: the answer is not valid {self._coding} data") from error

    def finish(self) -> None:
        """Nothing, when the stream is whole."""
        if self._inflate is not None and not self._inflate.eof:
            raise UpstreamUnavailable(f"{self._what}: the answer broke off inside its {self._coding} data")

    def _current(self, data: bytes) -> zlib._Decompress:
        if self._inflate is None or self._inflate.eof:
            self._members += 1
            if self._members > (1 if self._coding == "deflate" else MAX_GZIP_MEMBERS):
                raise UpstreamInvalid(f"{self._what}: the answer has too many {self._coding} members")
            # Servers send "deflate" with and without the zlib wrapper; its first byte tells (RFC 1950).
            bare = zlib.MAX_WBITS if data[0] & 0x0F == zlib.DEFLATED else -zlib.MAX_WBITS
            self._inflate = zlib.decompressobj(bare if self._coding == "deflate" else 16 + zlib.MAX_WBITS)
        return self._inflate


async def read_body(response: ClientResponse, *, max_bytes: int, what: str) -> bytes:
    """The whole body, unpacked.

    Errors: UpstreamTooLarge once either the packed or the plain bytes pass `max_bytes`.
    """
    unpacker = Unpacker(response.headers.get("Content-Encoding", ""), what)
    if (response.content_length or 0) > max_bytes and response.method != "HEAD":
        raise _too_large(what, max_bytes)
    plain = bytearray()
    packed_bytes = 0
    async for data in response.content.iter_any():
        packed_bytes += len(data)
        for part in unpacker.feed(data):
            plain += part
            if max(packed_bytes, len(plain)) > max_bytes:
                raise _too_large(what, max_bytes)
            if len(part) == STEP_BYTES:
                await asyncio.sleep(0)
    unpacker.finish()
    return bytes(plain)


async def peek_body(response: ClientResponse) -> tuple[bytes, bool]:
    """The beginning of an error's body, and whether that is all; never an error of its own."""
    found = bytearray()
    with contextlib.suppress(TimeoutError, ClientError, UpstreamInvalid):
        async with asyncio.timeout(PEEK_S):
            unpacker = Unpacker(response.headers.get("Content-Encoding", ""), "")
            async for data in response.content.iter_any():
                for part in unpacker.feed(data):
                    found += part[: PEEK_BYTES + 1]
                    if len(found) > PEEK_BYTES:
                        return bytes(found[:PEEK_BYTES]), False
            return bytes(found), True
    return bytes(found), False


def _too_large(what: str, max_bytes: int) -> UpstreamTooLarge:
    return UpstreamTooLarge(
        f"{what}: the answer is over {max_bytes} bytes",
        remedy="ask for less at a time (paging, a shorter time range), or raise the source's limit",
    )
