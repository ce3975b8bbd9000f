"""Answers as bytes: JSON, the one error shape, and compression where the client asked for it."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
from aiohttp import web
from isal import isal_zlib

from bridge.errors import AnswerTooLarge, BridgeError, MethodNotAllowed, NotReady, UpstreamRefused
from bridge.sources.work import run
from bridge.web.keys import CONFIG

JSON_TYPE = "application/json"
# Below this the header of a gzip stream costs more than it saves.
GZIP_BYTES = 2_048
# Above this compressing would hold up the loop for milliseconds.
THREAD_BYTES = 131_072
_NOT_WANTED = re.compile(r"q=0(\.0*)?", re.IGNORECASE)
_NO_STORE = {"Cache-Control": "no-store"}


def dumps(value: Any) -> bytes:
    """JSON bytes; numpy arrays are written directly, NaN and infinities as null."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def json(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A small JSON answer that is not to be stored."""
    return web.Response(
        body=dumps(value), status=status, content_type=JSON_TYPE, headers={**_NO_STORE, **(headers or {})}
    )


def refuse_large(request: web.Request, estimated_bytes: int) -> None:
    """Refuses an answer that is far over the limit before work and memory go into writing it.

    Errors: AnswerTooLarge.
    """
    limit_bytes = request.app[CONFIG].answer_bytes
    if estimated_bytes > 2 * limit_bytes:
        raise _too_large(f"about {estimated_bytes}", limit_bytes)


def _too_large(amount: str, limit_bytes: int) -> AnswerTooLarge:
    return AnswerTooLarge(
        f"the answer has {amount} bytes, more than the {limit_bytes} allowed",
        remedy="narrow the time range, choose fewer columns, or ask for fewer points",
    )


async def send_json(request: web.Request, build: Callable[[], Any], cells: int) -> web.Response:
    """A JSON data answer, built and written on a thread when it has many cells."""
    return await send(request, await run(cells, lambda: dumps(build())))


async def send(
    request: web.Request,
    body: bytes,
    *,
    content_type: str = JSON_TYPE,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """A data answer: bounded, compressed with gzip where the client takes it.

    Errors: AnswerTooLarge over the limit on bytes.
    """
    limit_bytes = request.app[CONFIG].answer_bytes
    if len(body) > limit_bytes:
        raise _too_large(str(len(body)), limit_bytes)
    out = {**_NO_STORE, "Vary": "Accept-Encoding", "Content-Type": content_type, **(headers or {})}
    if len(body) >= GZIP_BYTES and takes_gzip(request.headers.getall("Accept-Encoding", ())):
        body = _gzip(body) if len(body) < THREAD_BYTES else await asyncio.to_thread(_gzip, body)
        out["Content-Encoding"] = "gzip"
    return web.Response(body=body, headers=out)


def _gzip(body: bytes) -> bytes:
    packed: bytes = isal_zlib.compress(body, level=1, wbits=31)
    return packed


def takes_gzip(accept: Iterable[str]) -> bool:
    """Whether a client takes gzip; what is said of gzip itself counts more than what is said of `*`.

    Source: RFC 9110 section 12.5.3.
    """
    said: dict[str, bool] = {}
    for item in ",".join(accept).split(","):
        name, _, weight = item.partition(";")
        said[name.strip().lower()] = _NOT_WANTED.fullmatch(weight.replace(" ", "")) is None
    return said.get("gzip", said.get("*", False))


def etag(body: bytes) -> str:
    """A validator for these bytes.

    Large bodies are told apart by two checksums and their length: a digest of theirs would cost half of all the
    rest, and nobody gains by bytes that look alike.
    """
    if len(body) > THREAD_BYTES:
        return f'W/"{isal_zlib.crc32(body):08x}{isal_zlib.adler32(body):08x}{len(body):x}"'
    return f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def unchanged(request: web.Request, tag: str) -> bool:
    """Whether the client already holds what this validator stands for.

    Source: RFC 9110 section 13.1.2, by which weak validators are enough.
    """
    said = [item.strip() for item in ",".join(request.headers.getall("If-None-Match", ())).split(",")]
    return "*" in said or tag in said


def failure(error: BridgeError, request_id: str) -> web.Response:
    """An error as an HTTP answer."""
    headers: dict[str, str] = {}
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = ", ".join(error.allowed)
    if isinstance(error, NotReady):
        headers["Retry-After"] = "1"
    if isinstance(error, UpstreamRefused) and error.retry_after_s:
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    return json(error.body(request_id), status=error.status, headers=headers)
