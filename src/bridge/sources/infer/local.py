"""Files: which datasets a file, a folder or a pattern holds, from the beginning of each file."""

from __future__ import annotations

import csv
import glob
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from bridge.errors import BadRequest, SourceError, UpstreamInvalid
from bridge.sources.builtin.files import csv_text, json_text, parquet
from bridge.sources.builtin.files.content import Budget, Piece, blocks, without_bom
from bridge.sources.builtin.files.paths import Format, Found, Place, find
from bridge.sources.infer.columns import Field, guess
from bridge.sources.infer.fetch import plain_path, settings_path
from bridge.sources.infer.names import Names, plain_name
from bridge.sources.infer.shape import dotted_select, fields_of, find_rows, remarks_of
from bridge.sources.infer.stanza import DatasetGuess, SourceGuess, clean, listed
from bridge.sources.table import SAMPLE_ROWS

BLOCK_BYTES = 256 * 1024
# A JSON document is read whole before its first row is known.
MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
MAX_LOOKED = 50

_COMMA_NUMBER = r"^\s*[+-]?(\d+|\d*,\d+)([eE][+-]?\d+)?\s*$"


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of one file: its fields and how it has to be read."""

    found: Found
    fields: tuple[Field, ...]
    rows: int
    options: tuple[tuple[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def likeness(self) -> object:
        """Equal for files that can be one dataset."""
        return self.found.format, self.options, frozenset(item.keys for item in self.fields)


def look_at_files(
    what: str, name: str | None, base_dir: Path, max_datasets: int, say: Callable[[str], None]
) -> SourceGuess:
    """The datasets of these files. Blocks: call it in a thread.

    Errors: SourceError naming the file that cannot be read, when none can.
    """
    path = plain_path(Path(what))
    if "{" in str(path) or "}" in str(path):
        raise BadRequest(
            f"{clean(path)} holds a brace, which stands for a parameter in settings",
            remedy="rename the file or folder",
        )
    pattern = str(path.absolute())
    matches = find(_place(path), pattern if _is_pattern(path) else glob.escape(pattern), Format.AUTO)
    heads: list[Head] = []
    failed: list[str] = []
    for found in matches.files[:MAX_LOOKED]:
        say(f"reading the beginning of {found.shown}")
        try:
            heads.append(_head(found))
        except SourceError as error:
            if len(matches.files) == 1:
                raise
            failed.append(error.message)
    if not heads:
        raise UpstreamInvalid(failed[0], remedy="name a file that can be read")
    own = settings_path(path, base_dir)
    own = own if _is_pattern(path) else glob.escape(own)
    datasets, left = _datasets(own, path, heads, failed, max_datasets)
    notes = [f"read from {clean(own)}"]
    notes += [f"left out: {text}" for text in failed[:10]]
    if len(matches.files) > MAX_LOOKED:
        notes.append(f"only the first {MAX_LOOKED} of {len(matches.files)} files were looked at")
    if left:
        notes.append(f"{left} more files have other columns and are left out; --max-datasets takes more")
    inside = path.absolute().is_relative_to(base_dir.absolute())
    options = {} if inside else {"root": _root(path).as_posix()}
    return SourceGuess(name or plain_name(_stem(path), "files"), "files", options, tuple(datasets), tuple(notes))


def _root(path: Path) -> Path:
    """The folder that holds everything a path or pattern names."""
    whole = path.absolute()
    if _is_pattern(path):
        first = next(i for i, part in enumerate(whole.parts) if glob.has_magic(part))
        return Path(*whole.parts[:first])
    return whole if whole.is_dir() else whole.parent


def _is_pattern(path: Path) -> bool:
    """Whether the path is meant as one: what exists under just this name is no pattern."""
    return glob.has_magic(str(path)) and not path.exists()


def _place(path: Path) -> Place:
    root = _root(path)
    return Place(root, root)


def _stem(path: Path) -> str:
    if _is_pattern(path):
        return _root(path).name
    if path.is_dir():
        return path.absolute().name
    return _file_stem(path.name)


def _file_stem(name: str) -> str:
    return re.sub(r"(\.[A-Za-z]+)(\.gz)?$", "", name)


def _datasets(
    own: str, path: Path, heads: list[Head], failed: list[str], max_datasets: int
) -> tuple[list[DatasetGuess], int]:
    """One dataset where all files are alike, else one for each file that differs from the others."""
    names = Names()
    if len({head.likeness for head in heads}) == 1 and not failed:
        label = plain_name(_stem(path), "rows")
        return [_dataset(names.take(label), own, heads)], 0
    kept = heads[:max_datasets]
    files = [(head, _file_path(own, path, head)) for head in kept]
    return [
        _dataset(names.take(plain_name(_file_stem(head.found.path.name), "rows")), file, [head])
        for head, file in files
    ], len(heads) - len(kept)


def _file_path(own: str, path: Path, head: Head) -> str:
    """One file of a folder or a pattern, as it stands in the settings."""
    depth = len(path.absolute().parts) - len(_root(path).parts)
    parts = Path(own).parts
    below = glob.escape(head.found.path.relative_to(_root(path).resolve()).as_posix())
    return Path(*parts[: len(parts) - depth], below).as_posix()


def _dataset(name: str, path: str, heads: list[Head]) -> DatasetGuess:
    first = heads[0]
    guessed = guess(first.fields, first.rows)
    if not guessed.columns:
        raise UpstreamInvalid(
            f"`{first.found.shown}` has nothing to read columns from", remedy="write data into it, or declare columns"
        )
    notes = (f"{len(heads)} files with the same columns",) if len(heads) > 1 else ()
    rows = (f"{first.rows} rows of `{clean(first.found.shown, 80)}` were seen",)
    return DatasetGuess(
        name,
        {"path": path, **dict(first.options)},
        guessed.columns,
        notes=(*notes, *rows, *first.notes, *guessed.notes),
        remarks=guessed.remarks,
    )


def _head(found: Found) -> Head:
    match found.format:
        case Format.CSV:
            return _csv(found)
        case Format.NDJSON:
            return _lines(found)
        case Format.JSON:
            return _document(found)
        case _:
            return _table(found, parquet.sample_piece(found).table)


def _content(found: Found, *, whole: bool = False) -> Iterator[bytes]:
    return blocks(found, Budget(MAX_DOCUMENT_BYTES), streamed=not whole, block_bytes=BLOCK_BYTES)


def _first(pieces: Iterator[Piece]) -> pl.DataFrame:
    table = pl.DataFrame()
    for piece in pieces:
        table = piece.table
        if table.height:
            break
    return table.head(SAMPLE_ROWS)


def _csv(found: Found) -> Head:
    dialect = csv_text.Dialect(None, False, ("", "null", "NA"))
    texts = _first(csv_text.pieces(_content(found), found, dialect, None))
    if not texts.width:
        raise UpstreamInvalid(f"`{found.shown}` is empty", remedy="write a header and rows into it")
    separator = _separator(found, texts.width)
    comma = _commas(texts, thousands=separator == ",")
    values = csv_text.sharpened(texts, decimal_comma=bool(comma))
    if comma:
        # The option is the file's: where commas mean something else, the texts are left as they are.
        other = [name for name in texts.columns if name not in comma and texts[name].str.contains(",").any()]
        values = values.with_columns(texts.select(other))
    options: dict[str, Any] = {"separator": separator} if separator != "," else {}
    options |= {"decimal_comma": True} if comma else {}
    notes = (f"decimal commas are read as such: {listed(comma)}",) if comma else ()
    head = _table(found, values)
    return replace(head, options=tuple(options.items()), notes=notes)


def _commas(texts: pl.DataFrame, *, thousands: bool) -> list[str]:
    """Columns whose values are numbers once a comma is a decimal one.

    Shape: where commas part the columns, one before just three digits more likely groups thousands.
    """
    found = []
    for column in texts.get_columns():
        there = column.drop_nulls()
        commas = there.str.contains(",", literal=True)
        grouped = thousands and there.filter(commas).str.contains(r",\d{3}\s*$").all()
        if len(there) and commas.any() and not grouped and there.str.contains(_COMMA_NUMBER).all():
            found.append(column.name)
    return found


def _separator(found: Found, width: int) -> str:
    """What parts the header's cells, as many of them as the table has columns."""
    start = without_bom(next(iter(_content(found)), b""), found).lstrip(b"\r\n").decode("utf-8", "replace")
    for separator in csv_text.SEPARATORS:
        row = next(csv.reader(io.StringIO(start, newline=""), delimiter=separator), [])
        if len(row) == width and width > 1:
            return separator
    return ","


def _table(found: Found, table: pl.DataFrame) -> Head:
    fields = tuple(Field((name,), table[name]) for name in table.columns if name and _writable(name))
    return Head(found, fields, table.height)


def _lines(found: Found) -> Head:
    rows: list[dict[str, Any]] = []
    number = 0
    for block in _whole_lines(found):
        for text in block:
            number += 1
            if text.strip():
                rows.append(_object(text, number, found))
            if len(rows) >= SAMPLE_ROWS:
                return _rows(found, rows)
    return _rows(found, rows)


def _object(text: bytes, number: int, found: Found) -> dict[str, Any]:
    try:
        row = json_text.loads(text)
    except ValueError as error:
        raise _no_object(found, f"line {number} is no complete JSON") from error
    if not isinstance(row, dict):
        raise _no_object(found, f"line {number} holds no JSON object")
    return row


def _whole_lines(found: Found) -> Iterator[list[bytes]]:
    rest, started = b"", False
    for block in _content(found):
        data = rest + (block if started else without_bom(block, found))
        started = True
        *lines, rest = data.split(b"\n")
        if len(rest) > MAX_DOCUMENT_BYTES:
            raise _no_object(found, "a line is too long")
        yield lines
    yield [rest]


def _no_object(found: Found, why: str) -> UpstreamInvalid:
    return UpstreamInvalid(f"`{found.shown}`: {why}", remedy="write one JSON object on each line")


def _document(found: Found) -> Head:
    data = without_bom(b"".join(_content(found, whole=True)), found)
    try:
        document = json_text.loads(data)
    except ValueError:
        # Its own reader says what is wrong and where.
        list(json_text.document_pieces([data], found, None, None))
        raise
    rows = find_rows(document, f"`{found.shown}`")
    path = "[@]" if rows.single else rows.path
    head = _rows(found, list(rows.rows[:SAMPLE_ROWS]))
    options = (("rows", path),) if path else ()
    return replace(head, options=options, notes=(*head.notes, *remarks_of(rows)))


def _rows(found: Found, rows: list[dict[str, Any]]) -> Head:
    fields = [item for item in fields_of(rows, dotted_select) if all(map(_writable, item.keys))]
    whole = [item for item in fields if not any("." in key for key in item.keys) or len(item.keys) == 1]
    notes = () if len(whole) == len(fields) else ("nested keys that hold a dot are left out",)
    return Head(found, tuple(whole), len(rows), notes=notes)


def _writable(name: str) -> bool:
    """A lone surrogate can stand in JSON and in no settings file."""
    return bool(name) and not any("\ud800" <= char <= "\udfff" for char in name)
