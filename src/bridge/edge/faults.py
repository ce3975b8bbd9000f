"""What went wrong with a far server, in bridge's own words: no query string, no credential."""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
import ssl
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, quote_plus

import aiohttp
from aiohttp import ClientResponse

from bridge.edge.body import peek_body
from bridge.errors import (
    BridgeError,
    NeedsAuth,
    Retry,
    UpstreamInvalid,
    UpstreamRefused,
    UpstreamUnavailable,
)

MAX_EXCERPT_CHARS = 200
MAX_RETRY_AFTER_S = 3_600.0
# The client errors that time can heal; every other 4xx will be the same answer again.
_HEALING = (408, 425, 429)


def translate(error: Exception, what: str) -> BridgeError:
    """A library's error as one of ours; its own text is used only where it cannot hold a URL or a header."""
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError)):
        return UpstreamUnavailable(
            f"{what}: the server's TLS certificate is not trusted",
            remedy="check the host name in the URL, or add the server's CA to this machine's trusted certificates",
        )
    if isinstance(error, aiohttp.ClientSSLError):
        return UpstreamUnavailable(f"{what}: TLS failed", remedy="check whether the URL should begin with http://")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return UpstreamUnavailable(f"{what}: the host name cannot be resolved", remedy="check the host in the URL")
    if isinstance(error, aiohttp.ClientConnectorError):
        reason = (error.os_error.strerror or "").partition(" [")[0]
        return UpstreamUnavailable(
            f"{what}: cannot connect" + (f" ({printable(reason)})" if reason else ""),
            remedy="check that the server runs and that the port is right",
        )
    if isinstance(error, (aiohttp.ClientResponseError, aiohttp.InvalidURL)):
        return UpstreamInvalid(
            f"{what}: the answer is not well-formed HTTP, or its headers are too large",
            remedy="check that the port is the one of the HTTP API",
        )
    return UpstreamUnavailable(f"{what}: the connection broke off", remedy="see the far server's log")


async def refused(response: ClientResponse, what: str, *, secrets: Iterable[str], now: datetime) -> BridgeError:
    """The error for a status that is no success, with the beginning of what the server said."""
    status = response.status
    if status < 400:
        return UpstreamInvalid(f"{what}: the answer's status {status} is not one a source can read")
    body, whole = await peek_body(response)
    text = excerpt(body, response.content_type, secrets=secrets, whole=whole)
    said = f"{what}: the server answered {status}" + (f": {text}" if text else "")
    if status in (401, 403):
        return NeedsAuth(said, remedy="check the credential under the source's `auth`, and what it may read")
    error = UpstreamRefused(
        said,
        far_status=status,
        retry_after_s=retry_after_s(response.headers.get("Retry-After", ""), now),
        remedy=_what_helps(status),
    )
    if status < 500 and status not in _HEALING:
        error.retry = Retry.NEVER  # type: ignore[misc]
    return error


def _what_helps(status: int) -> str:
    if status >= 500:
        return "see the far server's log; it is asked again by itself"
    if status in _HEALING:
        return "it is asked again by itself; a larger `refresh_s` asks less often"
    return "check the source's path and parameters"


def retry_after_s(value: str, now: datetime) -> float | None:
    """Seconds a server asks to be left alone, from a number or an HTTP date, never over an hour; None if unread."""
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,12}", value):
        return min(float(value), MAX_RETRY_AFTER_S)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max((moment - now).total_seconds(), 0.0), MAX_RETRY_AFTER_S)


def excerpt(body: bytes, content_type: str, *, secrets: Iterable[str], whole: bool) -> str:
    """At most 200 characters of a text body, in one printable line, without the secrets it may echo."""
    if "html" in content_type:
        return "(an HTML page)"
    if not re.match(r"text/|application/(?:.*[+])?(?:json|xml)", content_type):
        return ""
    text = body.decode("utf-8", "replace")
    spellings = sorted({spelling for secret in secrets for spelling in _spellings(secret)}, key=len, reverse=True)
    for spelling in spellings:
        text = text.replace(spelling, "***")
    if spellings and not whole:
        # The cut may have left the first half of a secret, which is not recognised any more.
        text = text[: -len(spellings[0])]
    return printable(" ".join(text.split()))[:MAX_EXCERPT_CHARS]


def printable(text: str) -> str:
    """The text with control and formatting characters (among them those that turn its direction) escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _spellings(secret: str) -> Iterator[str]:
    """The ways a server may echo a credential: whole, without its scheme, decoded, and escaped."""
    found = {secret, secret.partition(" ")[2].strip()}
    if secret[:6].lower() == "basic ":
        try:
            pair = base64.b64decode(secret[6:]).decode("utf-8", "replace")
        except binascii.Error:
            pair = ""
        found |= {pair, pair.partition(":")[2]}
    for text in found - {""}:
        quoted = quote(text, safe="")
        yield from (text, quoted, quoted.lower(), quote_plus(text), json.dumps(text)[1:-1], text.replace("/", "\\/"))
        yield html.escape(text)
