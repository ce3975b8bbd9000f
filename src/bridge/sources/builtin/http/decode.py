"""Bytes of an answer as a document: JSON, NDJSON or CSV."""

from __future__ import annotations

import codecs
import csv
import html
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from bridge.errors import UpstreamInvalid

_TITLE = re.compile(r"<title[^>]{0,200}>(.{0,2000}?)</title", re.I | re.S)
_MARKUP_BYTES = 65_536
_LITERALS = (b"null", b"true", b"false")
_JSON_TYPES = ("application/json", "text/json")
_LINES_TYPES = tuple(
    f"application/{name}"
    for name in ("x-ndjson", "ndjson", "jsonl", "x-jsonl", "jsonlines", "x-jsonlines", "json-seq")
)
_CSV_TYPES = ("text/csv", "application/csv")
# Python's own, which no server means; of some the time grows with the square of the text.
_NO_CHARSETS = frozenset(("idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"))


@dataclass(frozen=True, slots=True)
class Document:
    """What an answer holds; `header` names the columns of a CSV, whose rows may be none."""

    value: Any
    header: tuple[str, ...] | None = None


def decode(body: bytes, content_type: str, wanted: str, *, what: str) -> Document:
    """The document of an answer; an empty body holds no rows.

    Errors: UpstreamInvalid for HTML and for anything that cannot be read, with the place where reading ended.
    """
    media, charset = _media(content_type)
    body = body.removeprefix(codecs.BOM_UTF8)
    start = body[:256].lstrip()
    if not start and not body.strip():
        return Document(None)
    if start.startswith(b"<"):
        raise _markup(body, what)
    kind = _kind(media, start) if wanted == "auto" else wanted
    if kind == "csv":
        return _csv(_text(body, charset, what), what)
    if kind == "ndjson":
        return Document(list(_lines(body, what)))
    return Document(_json(body, what))


def _media(content_type: str) -> tuple[str, str]:
    media, _, rest = content_type.partition(";")
    found = re.search(r"charset\s*=\s*\"?([A-Za-z0-9._:-]{1,40})", rest, re.I)
    return media.strip().lower(), found[1] if found else "utf-8"


def _kind(media: str, start: bytes) -> str:
    if media in _LINES_TYPES:
        return "ndjson"
    if media in _JSON_TYPES or media.endswith("+json"):
        return "json"
    if media in _CSV_TYPES:
        return "csv"
    return "json" if start[:1] in (b"{", b"[") or start.strip() in _LITERALS else "csv"


def _markup(body: bytes, what: str) -> UpstreamInvalid:
    text = body[:_MARKUP_BYTES].decode("utf-8", "replace")
    title = _TITLE.search(text)
    page = "an HTML page" if title or re.search(r"<(!doctype\s+)?html", text, re.I) else "markup"
    named = f" (title “{' '.join(html.unescape(title[1]).split())[:80]}”)" if title else ""
    return UpstreamInvalid(
        f"{what} answered with {page}{named} instead of data",
        remedy="check `url`, `path` and `auth`: a login page or a proxy may stand in front of the API",
    )


def _json(body: bytes, what: str, *, place: str = "") -> Any:
    """One JSON text; NaN and Infinity are taken as numbers, as Python servers write them."""
    try:
        return msgspec.json.decode(body)
    except RecursionError as error:
        raise _too_deep(what) from error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    try:
        return json.loads(body)
    except RecursionError as error:
        raise _too_deep(what) from error
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at character {error.pos}"
        raise _unreadable(what, "JSON", place + reason) from error
    except UnicodeDecodeError as error:
        raise _unreadable(what, "JSON", f"{place}byte {error.start} is not {error.encoding}") from error
    except ValueError as error:
        # A number with more digits than Python converts.
        raise _unreadable(what, "JSON", f"{place}{str(error).split(';')[0]}") from error


def _too_deep(what: str) -> UpstreamInvalid:
    return UpstreamInvalid(f"{what} answered with JSON that is nested too deeply to be data")


def _unreadable(what: str, form: str, reason: str) -> UpstreamInvalid:
    return UpstreamInvalid(
        f"{what} answered with unreadable {form}: {reason}",
        remedy="ask the address by hand; when it answers well, set `format` to what it sends",
    )


def _lines(body: bytes, what: str) -> Iterator[Any]:
    # RFC 7464 begins every text with a record separator; newline-delimited texts have none.
    for number, line in enumerate(io.BytesIO(body.replace(b"\x1e", b"")), 1):
        if line and not line.isspace():
            yield _json(line, what, place=f"line {number}: ")


def _text(body: bytes, charset: str, what: str) -> str:
    try:
        if codecs.lookup(charset).name.replace("_", "-") in _NO_CHARSETS:
            raise LookupError
        return body.decode(charset)
    except UnicodeDecodeError as error:
        raise _unreadable(what, "CSV", f"byte {error.start} is not {charset}") from error
    except (LookupError, ValueError) as error:
        raise _unreadable(what, "CSV", f"the charset {charset!r} is unknown") from error


def _csv(text: str, what: str) -> Document:
    """Rows as objects of texts; an empty cell is null, and one that a short row lacks is not there.

    Filled up, many short rows below a wide header would be more than any memory holds.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[dict[str, str | None]] = []
    try:
        header = tuple(name.strip() for name in next((row for row in reader if row), ()))
        twice = next((name for name, count in Counter(header).items() if count > 1), None)
        if twice is not None:
            raise _unreadable(what, "CSV", f"the header names `{twice[:80]}` more than once")
        for row in reader:
            if len(row) > len(header):
                reason = f"line {reader.line_num} has {len(row)} cells under a header of {len(header)}"
                raise _unreadable(what, "CSV", reason)
            if row:
                rows.append({name: cell or None for name, cell in zip(header, row, strict=False)})
    except csv.Error as error:
        raise _unreadable(what, "CSV", f"line {reader.line_num}: {error}") from error
    return Document(rows, header)
