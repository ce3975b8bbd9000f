"""CSV in its dialects, block by block: every record is counted and none is bent to fit."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from bridge.errors import UpstreamInvalid
from bridge.sources.builtin.files.content import Piece, check_text, without_bom
from bridge.sources.builtin.files.paths import Found
from bridge.sources.table import check_names

MAX_HEADER_BYTES = 1024 * 1024
MAX_RECORD_BYTES = 64 * 1024 * 1024
SEPARATORS = (",", ";", "\t", "|")

_QUOTE, _NEWLINE = ord('"'), ord("\n")
_INTEGER = r"^[+-]?(0|[1-9]\d*)$"
_LEADING_ZERO = r"^[+-]?0\d"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the texts are to be read; `separator` None means the header tells."""

    separator: str | None = None
    decimal_comma: bool = False
    null_values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Head:
    names: tuple[str, ...]
    separator: str


def pieces(blocks: Iterable[bytes], found: Found, dialect: Dialect, wanted: Sequence[str] | None) -> Iterator[Piece]:
    """Tables of text columns, the first of them even without rows; `wanted` names the columns to keep.

    Errors: UpstreamInvalid naming the file and the line.
    """
    head: _Head | None = None
    for first_line, block in _records(blocks, found):
        data, line = _skipped_blank(block, first_line)
        check_text(data, line, found)
        if head is None and data:
            end = _record_ends(data)[:1]
            record = data[: int(end[0]) + 1] if len(end) else data
            head = _head(record, found, dialect, line)
            data, line = data[len(record) :], line + record.count(b"\n")
        if head is not None:
            table = _parsed(data, line, head, found, dialect, wanted)
            yield Piece(tuple(name for name in head.names if name), table)


def _records(blocks: Iterable[bytes], found: Found) -> Iterator[tuple[int, bytes]]:
    """Blocks that end where a record ends, each with the number of its first line."""
    rest, line, started = b"", 1, False
    for block in blocks:
        data = rest + (block if started else without_bom(block, found))
        started = True
        ends = _record_ends(data)
        if not len(ends):
            if len(data) > MAX_RECORD_BYTES:
                raise _unclosed(found, line, "has no end")
            rest = data
            continue
        end = int(ends[-1]) + 1
        yield line, data[:end]
        line += data.count(b"\n", 0, end)
        rest = data[end:]
    if rest:
        yield line, rest


def _unclosed(found: Found, line: int, what: str) -> UpstreamInvalid:
    return UpstreamInvalid(
        f"`{found.shown}`: the record that begins in line {line} {what}",
        remedy='look for a quote (") in that line that is not closed or not doubled',
    )


def _skipped_blank(data: bytes, line: int) -> tuple[bytes, int]:
    rest = data.lstrip(b"\r\n")
    return rest, line + data.count(b"\n", 0, len(data) - len(rest))


def _outside(data: bytes, code: int) -> npt.NDArray[np.int64]:
    """Positions of a character outside of quotes: there, the number of quotes before it is even."""
    chars = np.frombuffer(data, dtype=np.uint8)
    hits = chars == code
    if b'"' in data:
        # Eight bits wrap around at 256, which is even: the parity stays right.
        hits &= (np.cumsum(chars == _QUOTE, dtype=np.uint8) & 1) == 0
    return np.flatnonzero(hits)


def _record_ends(data: bytes) -> npt.NDArray[np.int64]:
    return _outside(data, _NEWLINE)


def _head(record: bytes, found: Found, dialect: Dialect, line: int) -> _Head:
    record = record.rstrip(b"\r\n")
    if len(record) > MAX_HEADER_BYTES:
        raise UpstreamInvalid(
            f"`{found.shown}`: the header in line {line} has {len(record):,} bytes",
            remedy="check that the file is CSV with line ends, and `format`",
        )
    text = record.decode()
    separator = dialect.separator or _sniffed(record, found)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise UpstreamInvalid(
            f"`{found.shown}`: the header in line {line} cannot be read: {error}", remedy="correct the quotes in it"
        ) from error
    names = tuple(rows[0])
    if len(rows) > 1 or any("\r" in name for name in names):
        raise UpstreamInvalid(
            f"`{found.shown}` ends its lines with a carriage return only", remedy="save it with line ends LF or CRLF"
        )
    check_names([name for name in names if name], f"`{found.shown}`: ")
    return _Head(names, separator)


def _sniffed(record: bytes, found: Found) -> str:
    counts = {item: len(_outside(record, ord(item))) for item in SEPARATORS}
    usual = "\t" if found.shown.lower().removesuffix(".gz").endswith(".tsv") else ","
    best = max(SEPARATORS, key=lambda item: (counts[item], item == usual))
    return best if counts[best] else usual


def _parsed(
    data: bytes, line: int, head: _Head, found: Found, dialect: Dialect, wanted: Sequence[str] | None
) -> pl.DataFrame:
    # Names of our own, as a file may leave one out (the index column that pandas writes).
    own = [f"c{i}" for i in range(len(head.names))]
    asked = None if wanted is None else set(wanted)
    kept = [(a, b) for a, b in zip(own, head.names, strict=True) if b and (asked is None or b in asked)]
    blank = _checked(data, line, head, found)
    source = head.separator.join(own).encode() + b"\n" + data
    try:
        table = pl.read_csv(
            source,
            separator=head.separator,
            infer_schema=False,
            null_values=list(dialect.null_values),
            empty_string_is_null="" in dialect.null_values,
        )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise _unclosed(found, line, "or one after it has misplaced quotes") from error
    if table.height != len(blank):
        raise _unclosed(found, line, "or one after it has misplaced quotes")
    if blank.any():
        table = table.filter(pl.Series(~blank))
    return table.select(pl.col(a).alias(b) for a, b in kept) if kept else pl.DataFrame(height=table.height)


def _checked(data: bytes, line: int, head: _Head, found: Found) -> npt.NDArray[np.bool_]:
    """Which records are blank lines; all others have as many fields as the header.

    Errors: UpstreamInvalid naming the first line that has not.
    """
    if not data:
        return np.zeros(0, dtype=np.bool_)
    ends = _record_ends(data)
    if data.count(b'"') % 2:
        last = int(ends[-1]) + 1 if len(ends) else 0
        raise _unclosed(found, line + data.count(b"\n", 0, last), "opens a quote that is never closed")
    if not data.endswith(b"\n"):
        ends = np.append(ends, len(data))
    starts = np.concatenate(([0], ends[:-1] + 1))
    sizes = ends - starts
    chars = np.frombuffer(data, dtype=np.uint8)
    blank: npt.NDArray[np.bool_] = (sizes == 0) | ((sizes == 1) & (chars[starts % len(data)] == ord("\r")))
    edges = np.searchsorted(_outside(data, ord(head.separator)), np.concatenate(([0], ends)))
    fields = np.diff(edges) + 1
    wrong = np.flatnonzero((fields != len(head.names)) & ~blank)
    if len(wrong):
        where = line + data.count(b"\n", 0, int(starts[wrong[0]]))
        count = f"{fields[wrong[0]]} field" + ("s" if fields[wrong[0]] > 1 else "")
        raise UpstreamInvalid(
            f"`{found.shown}`: line {where} has {count}, the header has {len(head.names)}",
            remedy="correct the line (a separator inside a value needs quotes), or set `separator`",
        )
    return blank


def with_point(texts: pl.Series) -> pl.Series:
    """Numbers written with a decimal comma, with a point; one that has a point already is left to be refused."""
    value = pl.col(texts.name)
    point = value.str.contains(".", literal=True)
    refused = pl.concat_str([value, pl.lit(" (a point, but `decimal_comma` is set)")])
    told = pl.when(point).then(refused).otherwise(value.str.replace(",", ".", literal=True))
    return texts.to_frame().select(told).to_series().alias(texts.name)


def sharpened(table: pl.DataFrame, *, decimal_comma: bool) -> pl.DataFrame:
    """Text columns as numbers or booleans where all of their values are; without values, of no type yet."""
    return pl.DataFrame([_sharp(texts, decimal_comma=decimal_comma) for texts in table.get_columns()])


def _sharp(texts: pl.Series, *, decimal_comma: bool) -> pl.Series:
    count = texts.null_count()
    if count == len(texts):
        return texts.cast(pl.Null)
    plain = texts.str.strip_chars()
    if plain.str.contains(_LEADING_ZERO).any():
        # 007 is a name, and so are the others in its column.
        return texts
    if plain.str.contains(_INTEGER).all():
        whole = plain.cast(pl.Int64, strict=False)
        return whole if whole.null_count() == count else texts
    numbers = (with_point(plain) if decimal_comma else plain).cast(pl.Float64, strict=False)
    if numbers.null_count() == count:
        return numbers
    lower = plain.str.to_lowercase()
    return lower == "true" if lower.is_in(["true", "false"]).all() else texts
