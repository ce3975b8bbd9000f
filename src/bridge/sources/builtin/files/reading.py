"""A question to a set of files: what is read of them, in which types, and how much may come of it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl

from bridge.errors import AnswerTooLarge, SourceError
from bridge.model.filters import Filter, expression
from bridge.model.frame import Notice, empty_frame
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.model.span import Span
from bridge.sources.builtin.files import csv_text, json_text, parquet
from bridge.sources.builtin.files.content import BLOCK_BYTES, Budget, Held, Piece, blocks
from bridge.sources.builtin.files.inferred import Known, settled
from bridge.sources.builtin.files.paths import Format, Found, Matches
from bridge.sources.table import Losses, check_has, convert, far_name, shown_names

SAMPLE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Job:
    """One reading.

    Shape: `declared` empty means inferred; `narrowed` says whether span, filters and `columns` are applied.
    Units: `cap_bytes` of content for what is read whole, `max_rows` of a narrowed answer.
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
    stop: threading.Event
    held: Held


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of a job; `known` is set when the columns were inferred, `names` are all that the files have."""

    data: pl.DataFrame
    columns: tuple[Column, ...]
    notices: tuple[Notice, ...]
    names: tuple[str, ...] = ()
    known: Known | None = None


def read(job: Job) -> Reading:
    """All rows of the files that the job asks for. Blocks: call it in a thread.

    Errors: SourceError and its subclasses naming the file, AnswerTooLarge over the row limit.
    """
    # Here and not where it is awaited: who asked may be gone while the thread still reads.
    with job.held:
        return _read(job)


def _read(job: Job) -> Reading:
    notices = tuple(_link_notice(name) for name in job.matches.links[:1])
    if job.declared:
        answer = _gathered(job, job.declared, _streams(job, job.declared))
        return replace(answer, notices=notices + answer.notices)
    if job.narrowed:
        heads = [piece for found in job.matches.files for piece in _sampled(job, found)]
    else:
        # Read once: types are settled over all files before the first value is converted.
        budget = Budget(job.cap_bytes, job.held)
        wholes = [(found, list(_pieces(job, found, budget, ()))) for found in job.matches.files]
        heads = [piece for _, pieces in wholes for piece in pieces]
    known, changed = settled(job.dataset, job.matches.files, job.known, heads)
    answer = _gathered(job, known.columns, _streams(job, known.columns) if job.narrowed else wholes)
    late = () if changed else _late(known.columns, answer.names)
    return replace(answer, notices=notices + changed + late + answer.notices, known=known)


def _streams(job: Job, columns: tuple[Column, ...]) -> Iterator[tuple[Found, Iterator[Piece]]]:
    """Each file with its pieces. What is streamed is let go of before the next file is opened, and so has a budget
    of its own; what is held adds up.
    """
    shown = _shown(job, columns)
    budget = Budget(job.cap_bytes, job.held)
    for found in job.matches.files:
        yield found, _pieces(job, found, Budget(job.cap_bytes, job.held) if job.narrowed else budget, shown)
        if job.narrowed:
            job.held.give_back()


def _late(columns: Sequence[Column], names: Sequence[str]) -> tuple[Notice, ...]:
    """Of large files only the beginning decides on the columns; what comes later is said."""
    known = {far_name(column) for column in columns}
    late = [name for name in names if name not in known]
    text = f"columns that the beginning of the files does not have are left out: {shown_names(late)}"
    return (Notice("info", text),) if late else ()


def _link_notice(name: str) -> Notice:
    return Notice("info", f"symbolic links are passed over (first: `{name}`); `follow_symlinks: true` reads them")


def _pieces(
    job: Job, found: Found, budget: Budget, columns: tuple[Column, ...], *, sample: bool = False
) -> Iterator[Piece]:
    """The file's rows as raw tables; without `columns` all of them in one piece, or a first one as a `sample`."""
    wanted = [far_name(column) for column in columns] or None
    if job.narrowed and found.format is Format.PARQUET:
        yield from parquet.scanned_pieces(found, wanted, columns, job.span, job.filters)
        return
    streamed = job.narrowed and found.format in (Format.CSV, Format.NDJSON)
    size = SAMPLE_BYTES if sample else BLOCK_BYTES
    content: Iterable[bytes] = blocks(found, budget, streamed=streamed, block_bytes=size)
    if not job.narrowed:
        # All of it before the first record is looked at: the file may be written to while it is parsed.
        content = list(content)
    if not job.narrowed and wanted is None:
        # A last record without a line end would come as a piece of its own.
        end = b"\n" if found.format in (Format.CSV, Format.NDJSON) else b""
        content = [b"".join([*content, end])]
    if found.format is Format.CSV:
        raw = csv_text.pieces(content, found, job.dialect, wanted)
        yield from (_numbered(piece, columns, job) for piece in raw)
    elif found.format is Format.NDJSON:
        yield from json_text.line_pieces(content, found, wanted)
    elif found.format is Format.JSON:
        yield from json_text.document_pieces(content, found, job.rows_path, wanted)
    else:
        yield from parquet.whole_piece(content, found, wanted, cap_bytes=job.cap_bytes)


def _sampled(job: Job, found: Found) -> Iterator[Piece]:
    """The first rows of a file, with all of its columns; nothing where it has none."""
    if found.format is Format.PARQUET:
        yield parquet.sample_piece(found)
        return
    head = None
    for piece in _pieces(job, found, Budget(job.cap_bytes, job.held), (), sample=True):
        head = piece
        if piece.table.height:
            break
    job.held.give_back()
    if head is not None:
        yield head


def _shown(job: Job, columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """The columns that the answer needs: those asked for, when it is narrowed, and those that decide on rows."""
    if not (job.narrowed and job.columns):
        return columns
    needed = {*job.columns, *(item.column for item in job.filters)}
    return tuple(column for column in columns if column.name in needed or column.role is Role.TIME) or columns


def _numbered(piece: Piece, columns: Sequence[Column], job: Job) -> Piece:
    """CSV has texts only: those that are numbers are known by the declared columns, or by all of their values."""
    comma = job.dialect.decimal_comma
    if not columns:
        return replace(piece, table=csv_text.sharpened(piece.table, decimal_comma=comma))
    numbers = [far_name(column) for column in columns if column.type is ColumnType.NUMBER] if comma else []
    there = [csv_text.with_point(piece.table[name]) for name in numbers if name in piece.table.columns]
    return replace(piece, table=piece.table.with_columns(there)) if there else piece


def _gathered(job: Job, columns: tuple[Column, ...], sources: Iterable[tuple[Found, Iterable[Piece]]]) -> Reading:
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
    every = dict.fromkeys(name for there in names.values() for name in sorted(there))
    return Reading(_joined(parts, shown), shown, notices, tuple(every))


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
