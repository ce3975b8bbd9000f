"""A question to a set of files: what is read of them, in which types, and how much may come of it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import polars as pl

from bridge.errors import AnswerTooLarge, BridgeError, SchemaMismatch, SourceError, UpstreamInvalid
from bridge.model.filters import Filter, expression
from bridge.model.frame import Notice, empty_frame
from bridge.model.schema import Column, ColumnType, Schema
from bridge.model.span import Span
from bridge.sources.builtin.files import csv_text, json_text, parquet
from bridge.sources.builtin.files.content import Piece, blocks
from bridge.sources.builtin.files.paths import Format, Found, Matches
from bridge.sources.table import Losses, check_has, convert, far_name, infer, shown_names


@dataclass(frozen=True, slots=True)
class Known:
    """Inferred columns; those that had no value yet are `open`, and take the type of the first that comes."""

    columns: tuple[Column, ...]
    open: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Job:
    """One reading.

    Shape: `declared` empty means inferred; `narrowed` says whether span, filters and `columns` are applied.
    Units: `cap_bytes` of unzipped content for what is read whole, `max_rows` of a narrowed answer.
    """

    dataset: str
    matches: Matches
    declared: tuple[Column, ...]
    known: Known | None
    dialect: csv_text.Dialect
    rows_path: str | None
    narrowed: bool
    span: Span | None
    filters: tuple[Filter, ...]
    columns: tuple[str, ...]
    cap_bytes: int
    max_rows: int
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of a job; `known` is set when the columns were inferred."""

    data: pl.DataFrame
    columns: tuple[Column, ...]
    notices: tuple[Notice, ...]
    known: Known | None = None


def read(job: Job) -> Reading:
    """All rows of the files that the job asks for. Blocks: call it in a thread.

    Errors: SourceError and its subclasses naming the file, AnswerTooLarge over the row limit.
    """
    linked = tuple(_link_notice(name) for name in job.matches.links[:1])
    if job.declared:
        answer = _gathered(job, job.declared, ((found, _pieces(job, found)) for found in job.matches.files))
        return replace(answer, notices=linked + answer.notices)
    if job.narrowed:
        heads = [(found, _sampled(job, found)) for found in job.matches.files]
        known, notices = _settled(job, [(found, head) for found, head in heads if head is not None])
        sources: Iterable[tuple[Found, Iterable[Piece]]] = (
            (found, _pieces(job, found, known.columns)) for found in job.matches.files
        )
    else:
        # Read once: types are settled over all files before the first value is converted.
        wholes = [(found, piece) for found in job.matches.files for piece in _pieces(job, found, whole=True)]
        known, notices = _settled(job, wholes)
        sources = ((found, [piece]) for found, piece in wholes)
    answer = _gathered(job, known.columns, sources)
    return replace(answer, notices=linked + notices + answer.notices, known=known)


def _link_notice(name: str) -> Notice:
    return Notice("info", f"symbolic links are passed over (first: `{name}`); `follow_symlinks: true` reads them")


def _pieces(
    job: Job, found: Found, columns: tuple[Column, ...] | None = None, *, whole: bool = False
) -> Iterator[Piece]:
    """The file's rows as raw tables; `whole` gives them as one."""
    shown = _shown(job, columns or job.declared)
    wanted = None if whole else [far_name(column) for column in shown]
    scanned = job.narrowed and found.format is Format.PARQUET
    if scanned:
        yield from parquet.scanned_pieces(found, wanted, shown, job.span, job.filters)
        return
    content: Iterable[bytes] = blocks(found, cap_bytes=_cap_bytes(job, found))
    if not job.narrowed:
        # All of it before the first record is looked at: the file may be written to while it is parsed.
        held = list(content)
        content = [b"".join(held)] if whole else held
    if found.format is Format.CSV:
        raw = csv_text.pieces(content, found, job.dialect, wanted)
        yield from (_sharpened(piece, job) if whole else _pointed(piece, shown, job) for piece in raw)
    elif found.format is Format.NDJSON:
        yield from json_text.line_pieces(content, found, wanted)
    elif found.format is Format.JSON:
        yield from json_text.document_pieces(content, found, job.rows_path, wanted)
    else:
        yield from parquet.whole_piece(content, found, wanted, cap_bytes=job.cap_bytes)


def _cap_bytes(job: Job, found: Found) -> int | None:
    """Plain CSV and NDJSON that are narrowed are streamed, whatever their size; all else is held, or can unfold."""
    streamed = job.narrowed and found.format in (Format.CSV, Format.NDJSON)
    return None if streamed and not found.zipped else job.cap_bytes


def _sampled(job: Job, found: Found) -> Piece | None:
    """The first rows of a file, with all of its columns."""
    if found.format is Format.PARQUET:
        return parquet.sample_piece(found)
    first = next(_pieces(replace(job, narrowed=True), found, whole=True), None)
    return first


def _shown(job: Job, columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """The columns that the answer needs: those asked for, when it is narrowed, and those that decide on rows."""
    if not (job.narrowed and job.columns):
        return columns
    needed = {*job.columns, *(item.column for item in job.filters)}
    return tuple(column for column in columns if column.name in needed or column.role == "time")


def _sharpened(piece: Piece, job: Job) -> Piece:
    return replace(piece, table=csv_text.sharpened(piece.table, decimal_comma=job.dialect.decimal_comma))


def _pointed(piece: Piece, columns: Sequence[Column], job: Job) -> Piece:
    if not job.dialect.decimal_comma:
        return piece
    numbers = [far_name(column) for column in columns if column.type is ColumnType.NUMBER]
    there = [csv_text.with_point(piece.table[name]) for name in numbers if name in piece.table.columns]
    return replace(piece, table=piece.table.with_columns(there))


def _settled(job: Job, heads: list[tuple[Found, Piece]]) -> tuple[Known, tuple[Notice, ...]]:
    """The columns of undeclared data: of all files together, and still those that were published before.

    Errors: UpstreamInvalid without any column, SchemaMismatch when a published column is gone or changed its type.
    """
    fresh = _inferred(piece.table for _, piece in heads)
    if not fresh.columns and job.known is None:
        raise UpstreamInvalid(
            f"{_files(job)} no rows to read the columns of `{job.dataset}` from",
            remedy="declare the dataset's `columns`, or write the data",
        )
    if job.known is None:
        return fresh, ()
    return _reconciled(job, job.known, fresh, any(piece.table.height for _, piece in heads))


def _files(job: Job) -> str:
    shown = shown_names(found.shown for found in job.matches.files[:3])
    return f"{shown} has" if len(job.matches.files) == 1 else f"the files ({shown}) have"


def _inferred(tables: Iterable[pl.DataFrame]) -> Known:
    columns: dict[str, Column] = {}
    undecided: set[str] = set()
    for table in tables:
        for column in infer(table):
            empty = table[column.name].null_count() == table.height
            if column.name not in columns or (column.name in undecided and not empty):
                columns[column.name] = column
                (undecided.add if empty else undecided.discard)(column.name)
    return Known(one_time(columns.values()), frozenset(undecided))


def one_time(columns: Iterable[Column]) -> tuple[Column, ...]:
    """The columns with the role of time given to the first of the type only."""
    out: list[Column] = []
    for column in columns:
        again = column.role == "time" and any(other.role == "time" for other in out)
        out.append(replace(column, role=None) if again else column)
    return tuple(out)


def _reconciled(job: Job, known: Known, fresh: Known, has_rows: bool) -> tuple[Known, tuple[Notice, ...]]:
    now = {column.name: column for column in fresh.columns}
    changes = []
    columns = []
    still_open = set(known.open)
    for column in known.columns:
        new = now.pop(column.name, None)
        decided = new is not None and new.name not in fresh.open
        if new is None and has_rows:
            changes.append(f"`{column.name}` is gone")
        elif new is not None and decided and column.name in known.open:
            column = new
            still_open.discard(column.name)
        elif new is not None and decided and new.type is not column.type:
            changes.append(f"`{column.name}` was {column.type} and is {new.type}")
        columns.append(column)
    if changes:
        raise SchemaMismatch(
            f"the columns of `{job.dataset}` have changed: {', '.join(changes)}",
            remedy="correct the files, declare the dataset's `columns`, or reload to publish the new columns",
        )
    notices = (
        (Notice("info", f"new columns are left out until the next reload: {shown_names(now)}"),) if now else ()
    )
    return Known(one_time(columns), frozenset(still_open)), notices


def _gathered(
    job: Job, columns: tuple[Column, ...], sources: Iterable[tuple[Found, Iterable[Piece]]]
) -> Reading:
    shown = _shown(job, columns)
    keep = _predicate(job, columns)
    parts: list[pl.DataFrame] = []
    losses = Losses()
    names: dict[str, set[str]] = {}
    rows = 0
    for found, pieces in sources:
        mine = Losses()
        there: set[str] = set()
        for piece in pieces:
            if job.stop.is_set():
                raise SourceError("the reading was given up, as nobody waits for it any more")
            there.update(piece.names)
            part = convert(piece.table, shown, mine)
            part = part if keep is None else part.filter(keep)
            rows += part.height
            if job.narrowed and rows > job.max_rows:
                raise _too_many(job)
            parts.append(part)
        mine.check(f"`{found.shown}`: ")
        losses.merge(mine)
        if there:
            names[found.shown] = there
    notices = _missing(shown, names) + losses.notices()
    return Reading(_joined(parts, shown), shown, notices)


def _too_many(job: Job) -> AnswerTooLarge:
    return AnswerTooLarge(
        f"more than {job.max_rows:,} rows of `{job.dataset}` answer the question",
        remedy="ask for a shorter time range or filter more, as the files are too large to be held as a whole",
    )


def _predicate(job: Job, columns: tuple[Column, ...]) -> pl.Expr | None:
    if not job.narrowed:
        return None
    schema = Schema(columns)
    parts = [expression(item, schema) for item in job.filters if schema.get(item.column)]
    if job.span is not None and schema.time is not None:
        time = pl.col(schema.time.name)
        parts.append((time >= pl.lit(job.span.start)) & (time < pl.lit(job.span.end)))
    return pl.all_horizontal(parts) if parts else None


def _missing(columns: Sequence[Column], names: dict[str, set[str]]) -> tuple[Notice, ...]:
    """A column that some files lack is said; one that all lack is an error, and so is a file that lacks them all."""
    notices = []
    for column in columns:
        lacking = [shown for shown, there in names.items() if far_name(column) not in there]
        if not lacking:
            continue
        where = f"`{lacking[0]}`: "
        if len(lacking) == len(names) or not any(far_name(item) in names[lacking[0]] for item in columns):
            check_has(sorted(names[lacking[0]]), column, where)
        notices.append(
            Notice(
                "warning",
                f"`{column.name}` is missing in {len(lacking)} of {len(names)} files (first: `{lacking[0]}`); "
                "it is shown as empty there",
            )
        )
    return tuple(notices)


def _joined(parts: list[pl.DataFrame], columns: tuple[Column, ...]) -> pl.DataFrame:
    filled = [part for part in parts if part.height]
    if not filled:
        return empty_frame(columns)
    data = pl.concat(filled, how="vertical_relaxed")
    # Signed and unsigned integers together have no dtype of their own that every consumer knows.
    wide = [name for name, dtype in data.schema.items() if dtype == pl.Int128]
    return data.with_columns(pl.col(wide).cast(pl.Float64)) if wide else data
