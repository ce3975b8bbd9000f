"""Request bodies and query strings: read once, bounded, parsed into what handlers work with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from bridge.errors import BadRequest, UnsupportedEncoding
from bridge.web.keys import CONFIG
from bridge.web.payload import text_of
from bridge.web.protocol import read_body

M = TypeVar("M", bound=BaseModel)
MAX_PAIRS = 2_000


class Lenient(BaseModel):
    """A body of a protocol that grows with every Grafana version: what is not known is ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Strict(BaseModel):
    """A body of bridge's own API: what is not known is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


async def raw(request: web.Request) -> bytes:
    """The body, bounded in size and time.

    Errors: BodyTooLarge, UnsupportedEncoding, RequestTimedOut.
    """
    config = request.app[CONFIG]
    return await read_body(request, max_bytes=config.body_bytes, deadline_s=config.body_s)


async def parsed(request: web.Request, model: type[M]) -> M:
    """The JSON body as a model, whatever its Content-Type says; no body counts as `{}`.

    Errors: BadRequest with the place of the first mistake.
    """
    return validated(loads(await raw(request)), model)


def loads(body: bytes) -> Any:
    """JSON from bytes; nothing counts as `{}`.

    Errors: BadRequest with the position.
    """
    text = body.strip()
    if not text:
        return {}
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the request body is not valid JSON: {error}", remedy="send a JSON object") from error


def validated(data: Any, model: type[M]) -> M:
    """Parsed JSON as a model.

    Errors: BadRequest that names the first wrong key.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the body"
        text = first["msg"].removeprefix("Value error, ")
        raise BadRequest(f"`{place[:120]}`: {text[:300]}", remedy="see /docs for the expected shape") from error


def pairs(request: web.Request) -> list[tuple[str, str]]:
    """The query string as decoded pairs, in order.

    Errors: BadRequest when it is too long or not UTF-8.
    """
    return decoded(request.rel_url.raw_query_string, request.app[CONFIG].query_bytes, "the query string")


def decoded(text: str, max_chars: int, what: str) -> list[tuple[str, str]]:
    """Form-encoded pairs.

    Errors: BadRequest when there are too many, or when they are not UTF-8.
    """
    if len(text) > max_chars:
        raise BadRequest(f"{what} is longer than {max_chars} bytes", remedy="POST the parameters as JSON")
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_PAIRS)
    except UnicodeDecodeError as error:
        raise _not_utf8(what) from error
    except ValueError as error:
        raise BadRequest(f"{what} has more than {MAX_PAIRS} parameters", remedy="send fewer") from error


def _utf8(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _not_utf8(what) from error


def _not_utf8(what: str) -> BadRequest:
    return BadRequest(f"{what} is not UTF-8", remedy="encode texts as UTF-8 before they are percent-encoded")


async def posted_pairs(request: web.Request) -> list[tuple[str, str]]:
    """Query string and POST body together as pairs; the body is JSON or a URL-encoded form.

    Errors: UnsupportedEncoding for multipart (Infinity writes another boundary in its header than in its body),
            BadRequest for anything that is no form and no JSON object.
    """
    both = pairs(request)
    body = await raw(request)
    if request.content_type.startswith("multipart/"):
        raise UnsupportedEncoding(
            "multipart bodies are not read here", remedy="choose body type `x-www-form-urlencoded` or `raw` with JSON"
        )
    if request.content_type == "application/x-www-form-urlencoded":
        return both + decoded(_utf8(body, "the form"), request.app[CONFIG].body_bytes, "the form")
    data = loads(body)
    if not isinstance(data, dict):
        raise BadRequest("the request body must be a JSON object of parameters")
    return both + flattened(data)


def flattened(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Parameters of a JSON object as pairs; lists repeat their key, null is left out.

    Errors: BadRequest for a nested value, or too many.
    """
    out: list[tuple[str, str]] = []
    for key, value in data.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, (dict, list)):
                raise BadRequest(f"`{key[:80]}` must be a value or a list of values")
            if item is not None:
                out.append((key, text_of(item)))
        if len(out) > MAX_PAIRS:
            raise BadRequest(f"the request has more than {MAX_PAIRS} parameters", remedy="send fewer")
    return out
