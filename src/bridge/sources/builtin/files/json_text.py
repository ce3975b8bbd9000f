"""JSON documents and lines as untyped tables of their rows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jmespath
import orjson

from bridge.errors import UpstreamInvalid
from bridge.sources.builtin.files.content import Piece, check_text, without_bom
from bridge.sources.builtin.files.paths import Found
from bridge.sources.table import raw_rows, shown_names

MAX_LINE_BYTES = 64 * 1024 * 1024
MAX_COLUMNS = 2_000
_NOWHERE = object()


def document_pieces(
    blocks: Iterable[bytes], found: Found, rows_path: str | None, wanted: Sequence[str] | None
) -> Iterator[Piece]:
    """The one table of a JSON document.

    Errors: UpstreamInvalid when it is no JSON, or has no list of objects where `rows_path` says.
    """
    data = without_bom(b"".join(blocks), found)
    check_text(data, 1, found)
    if not data.strip():
        raise UpstreamInvalid(f"`{found.shown}` is empty", remedy="write at least [] into it")
    try:
        document = loads(data)
    except json.JSONDecodeError as error:
        lines = "set `format: ndjson`, as each line is JSON by itself"
        remedy = lines if _is_lines(data) else "write the file again, to another name first and then renamed"
        raise UpstreamInvalid(
            f"`{found.shown}` is no complete JSON: {error.msg} (line {error.lineno}, character {error.colno})",
            remedy=remedy,
        ) from error
    yield _piece(_rows(document, rows_path, found), found, wanted)


def line_pieces(blocks: Iterable[bytes], found: Found, wanted: Sequence[str] | None) -> Iterator[Piece]:
    """The rows of newline-delimited JSON, block by block.

    Errors: UpstreamInvalid naming the line that is no JSON object.
    """
    rest, line, started = b"", 1, False
    for block in blocks:
        data = rest + (block if started else without_bom(block, found))
        started = True
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        if len(rest) > MAX_LINE_BYTES:
            raise UpstreamInvalid(
                f"`{found.shown}`: line {line + data.count(bytes([10]))} has more than {MAX_LINE_BYTES:,} bytes",
                remedy="check that the file has one JSON object on each line, and `format`",
            )
        if end:
            yield _lines(data[:end], line, found, wanted)
        line += data.count(b"\n", 0, end)
    if rest:
        yield _lines(rest, line, found, wanted)


def _lines(data: bytes, line: int, found: Found, wanted: Sequence[str] | None) -> Piece:
    check_text(data, line, found)
    rows = []
    for number, text in enumerate(data.split(b"\n"), line):
        if not text or text.isspace():
            continue
        try:
            row = loads(text)
        except json.JSONDecodeError as error:
            raise UpstreamInvalid(
                f"`{found.shown}`: line {number} is no complete JSON: {error.msg} (character {error.colno})",
                remedy="write one JSON object on each line; a line that is being written must end before it is read",
            ) from error
        if not isinstance(row, dict):
            raise UpstreamInvalid(
                f"`{found.shown}`: line {number} holds {_kind(row)}, not an object",
                remedy="write one JSON object on each line",
            )
        rows.append(row)
    return _piece(rows, found, wanted)


def loads(data: bytes) -> Any:
    """JSON, with the NaN, Infinity and lone surrogates that Python programs write.

    Errors: json.JSONDecodeError with what is wrong and where.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as first:
        if not any(word in data for word in (b"NaN", b"Infinity", b"\\u")):
            raise
        try:
            return json.loads(data)
        except json.JSONDecodeError:
            raise
        except (RecursionError, ValueError):
            # Nested too deep, or a number of thousands of digits: both are wrong for the strict reader too.
            raise first from None


def _is_lines(data: bytes) -> bool:
    first, _, more = data.partition(b"\n")
    try:
        return isinstance(loads(first), dict) and bool(more.strip())
    except json.JSONDecodeError:
        return False


def _rows(document: Any, path: str | None, found: Found) -> list[dict[str, Any]]:
    place = f"at `{path}`" if path else "at its top"
    try:
        rows = jmespath.search(path, document) if path else document
    except (jmespath.exceptions.JMESPathError, RecursionError) as error:
        raise UpstreamInvalid(
            f"`{found.shown}`: the rows {place} cannot be read: {str(error)[:200]}", remedy="correct `rows`"
        ) from error
    if not isinstance(rows, list):
        keys = f" with {shown_names(map(str, document))}" if isinstance(document, dict) else ""
        raise UpstreamInvalid(
            f"`{found.shown}` has {_kind(rows)} {place}, not a list of rows; the document is {_kind(document)}{keys}",
            remedy="set `rows` to the JMESPath of the list, for example `rows: items`",
        )
    odd = next((i for i, row in enumerate(rows) if not isinstance(row, dict)), None)
    if odd is not None:
        raise UpstreamInvalid(
            f"`{found.shown}`: item {odd + 1} of the list {place} is {_kind(rows[odd])}, not an object",
            remedy="set `rows` to a list of objects, for example with `rows: 'items[].{step: [0], loss: [1]}'`",
        )
    return rows


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "nothing"}
    return kinds.get(type(value), "a number")


def _dig(rows: Sequence[dict[str, Any]], wanted: Iterable[str]) -> None:
    """Puts what a wanted path such as `result.loss` leads to beside the keys of its row, under that path."""
    for path in wanted:
        first, *rest = path.split(".")
        if not rest or any(path in row for row in rows):
            continue
        for row in rows:
            value: Any = row.get(first)
            for key in rest:
                value = value.get(key, _NOWHERE) if isinstance(value, dict) else _NOWHERE
            if value is not _NOWHERE:
                row[path] = value


def _piece(rows: Sequence[dict[str, Any]], found: Found, wanted: Sequence[str] | None) -> Piece:
    _dig(rows, wanted or ())
    keys = dict.fromkeys(key for row in rows for key in row)
    asked = None if wanted is None else set(wanted)
    names = [key for key in keys if asked is None or key in asked]
    if len(names) > MAX_COLUMNS:
        raise UpstreamInvalid(
            f"`{found.shown}` has {len(names):,} different keys in its rows, over the limit of {MAX_COLUMNS:,}",
            remedy="declare the dataset's `columns`, or reshape the rows with `rows`",
        )
    return Piece(tuple(keys), raw_rows(rows, [name for name in names if name]))
