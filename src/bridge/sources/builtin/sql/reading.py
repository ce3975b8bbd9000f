"""One question, from a connection to a typed table. All of it blocks: it runs in a thread of the source's own."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import polars as pl

from bridge.errors import AnswerTooLarge, BridgeError, UpstreamInvalid, UpstreamRefused, UpstreamUnavailable
from bridge.model.frame import Notice, empty_frame
from bridge.model.query import Query
from bridge.model.schema import Column, Role
from bridge.sources.builtin.sql.engine import MAX_CELL_CHARS, Engine, FarColumn, Kind, Session, Statement
from bridge.sources.builtin.sql.inferred import Known, check_far, check_kept, settled
from bridge.sources.builtin.sql.plan import Plan
from bridge.sources.builtin.sql.runner import GivenUp, Handle
from bridge.sources.builtin.sql.values import raw_table
from bridge.sources.table import SAMPLE_ROWS, Losses, check_has, convert

# Rows of the first batch, of the largest, and the bytes that decide between them.
FIRST_ROWS = 64
MOST_ROWS = 8_192
BATCH_BYTES = 4 * 1024 * 1024
# What one fetch may bring at worst, as far as a single row does not bring more; and the worst of a plain value.
FETCH_BYTES = 128 * 1024 * 1024
PLAIN_BYTES = 64
_LONG = (Kind.TEXT, Kind.JSON, Kind.BYTES, Kind.ANY)


class Connections:
    """Open connections that nobody uses at the moment."""

    def __init__(self, engine: Engine, max_idle: int) -> None:
        self._engine = engine
        self._max_idle = max_idle
        self._idle: list[Session] = []
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def one(self, handle: Handle, deadline_s: float, *, fresh: bool) -> Iterator[Session]:
        """A connection for one reading; after an error, or a stop, it is not used again."""
        session = (None if fresh else self._taken()) or self._engine.connect(deadline_s)
        kept = False
        try:
            handle.hold(session)
            session.begin(deadline_s)
            yield session
            session.end()
            kept = session.reusable and not handle.is_stopped
        finally:
            handle.let_go()
            if not (kept and self._kept(session)):
                # It is broken already, and says so once more.
                with suppress(Exception):
                    session.close()

    def has_idle(self) -> bool:
        """Whether the next reading would use a connection that was used before."""
        return bool(self._idle)

    def close(self) -> None:
        """Closes those that are idle; those in use are closed when they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for session in idle:
            session.close()

    def _taken(self) -> Session | None:
        with self._lock:
            session = self._idle.pop() if self._idle else None
        if session is not None and not session.is_current():
            session.close()
            return self._taken()
        return session

    def _kept(self, session: Session) -> bool:
        with self._lock:
            if self._closed or len(self._idle) >= self._max_idle:
                return False
            self._idle.append(session)
            return True


@dataclass(frozen=True, slots=True)
class Job:
    """One reading; `far` is what is known of the columns, None to ask for them.

    Units: `max_bytes` of values, as read or as converted, whichever are more.
    """

    plan: Plan
    query: Query
    far: tuple[FarColumn, ...] | None
    known: Known | None
    max_rows: int
    max_bytes: int
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of a job; `known` where the columns were inferred."""

    data: pl.DataFrame
    columns: tuple[Column, ...]
    notices: tuple[Notice, ...]
    far: tuple[FarColumn, ...]
    known: Known | None
    executed: str


def read(job: Job, engine: Engine, connections: Connections, handle: Handle) -> Reading:
    """All rows the job asks for.

    Errors: SourceError and its subclasses naming the dataset, AnswerTooLarge over a limit.
    """
    where = f"`{job.plan.name}`"
    fresh = not connections.has_idle()
    far = job.far
    while True:
        handle.check()
        try:
            with connections.one(handle, job.deadline_s, fresh=fresh) as session:
                return _read(job, where, session, far, handle)
        except Exception as error:
            mine = error if isinstance(error, BridgeError) else engine.translate(error, where)
            if mine is None or handle.is_stopped:
                raise
            # A connection may have died since, a column may be gone: looked at once more before it is said.
            dead = isinstance(mine, UpstreamUnavailable) and not fresh
            outdated = isinstance(mine, (UpstreamRefused, UpstreamInvalid)) and far is not None
            if not dead and not outdated:
                if mine is error:
                    raise
                raise mine from error
            fresh, far = True, None


def _read(job: Job, where: str, session: Session, far: tuple[FarColumn, ...] | None, handle: Handle) -> Reading:
    if far is None:
        far = session.describe(job.plan.described(job.query))
        check_far(where, far)
        _check_declared(job, where, far)
    known = _settled(job, where, session, far)
    columns = job.plan.declared or (known.columns if known is not None else ())
    shown = _shown(job.query, columns)
    statement, picked = job.plan.rows(job.query, far, shown, job.max_rows)
    session.execute(statement)
    handle.check()
    data, notices = _gathered(job, where, session, picked, shown, handle)
    return Reading(data, shown, notices, far, known, statement.sql)


def _check_declared(job: Job, where: str, far: tuple[FarColumn, ...]) -> None:
    names = [column.name for column in far]
    for column in job.plan.declared:
        check_has(names, column, f"{where}: ")
    if job.known is not None:
        check_kept(where, job.known, far)


def _settled(job: Job, where: str, session: Session, far: tuple[FarColumn, ...]) -> Known | None:
    """The inferred columns; looked at again while one of them has had no value."""
    if job.plan.declared or (job.known is not None and not job.known.open):
        return job.known
    statement, picked = job.plan.rows(job.query, far, (), SAMPLE_ROWS - 1)
    session.execute(statement)
    # Fewer when they are long.
    rows = _batch(session, picked, SAMPLE_ROWS)
    return settled(where, job.known, raw_table(rows, picked, (), where), picked)


def _shown(query: Query, columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """The columns that the answer needs: those asked for, and those that decide on rows."""
    if not query.columns:
        return columns
    needed = {*query.columns, *(item.column for item in query.filters)}
    return tuple(column for column in columns if column.name in needed or column.role is Role.TIME) or columns


def _gathered(
    job: Job, where: str, session: Session, far: tuple[FarColumn, ...], columns: tuple[Column, ...], handle: Handle
) -> tuple[pl.DataFrame, tuple[Notice, ...]]:
    parts: list[pl.DataFrame] = []
    losses = Losses()
    rows = held_bytes = 0
    batch_rows = FIRST_ROWS
    while batch := _batch(session, far, batch_rows):
        handle.check()
        rows += len(batch)
        if rows > job.max_rows:
            raise AnswerTooLarge(
                f"{where}: more than {job.max_rows:,} rows answer the question",
                remedy="ask for a shorter time range, filter more, or aggregate in a `query`",
            )
        raw = raw_table(batch, far, columns, where)
        part = convert(raw, columns, losses)
        size_bytes = int(max(raw.estimated_size(), part.estimated_size()))
        held_bytes += size_bytes
        if held_bytes > job.max_bytes:
            raise AnswerTooLarge(
                f"{where}: the rows have more than {job.max_bytes:,} bytes",
                remedy="ask for fewer columns or a shorter time range, or aggregate in a `query`",
            )
        parts.append(part)
        batch_rows = min(batch_rows * 2, MOST_ROWS) if size_bytes < BATCH_BYTES else max(1, batch_rows // 2)
    if job.query.span is None and not job.query.filters:
        # A few rows of a good column may all be its odd ones.
        losses.check(f"{where}: ")
    return _joined(parts, columns), losses.notices()


def _batch(session: Session, far: tuple[FarColumn, ...], max_rows: int) -> list[tuple[Any, ...]]:
    """The next rows, fewer when their values turn out to be long."""
    worst_bytes = sum(MAX_CELL_CHARS if column.kind in _LONG else PLAIN_BYTES for column in far)
    step_rows = max(1, FETCH_BYTES // worst_bytes)
    rows: list[tuple[Any, ...]] = []
    held_bytes = 0
    while len(rows) < max_rows and held_bytes < BATCH_BYTES:
        part = session.fetch(min(step_rows, max_rows - len(rows)))
        if not part:
            break
        rows += part
        if step_rows < max_rows:
            held_bytes += sum(map(sys.getsizeof, itertools.chain.from_iterable(part)))
    return rows


def _joined(parts: list[pl.DataFrame], columns: tuple[Column, ...]) -> pl.DataFrame:
    if not parts:
        return empty_frame(columns)
    # A batch without a value has no number type of its own, and must not make floats of the other batches' integers.
    data = pl.concat([_untyped(part) for part in parts], how="vertical_relaxed")
    # Nor is there one for signed and unsigned integers together that every consumer knows.
    wide = [name for name, dtype in data.schema.items() if dtype in (pl.Int128, pl.Null)]
    return data.with_columns(pl.col(wide).cast(pl.Float64)) if wide else data


def _untyped(part: pl.DataFrame) -> pl.DataFrame:
    empty = [item for item in part if item.dtype.is_numeric() and item.null_count() == part.height]
    return part.with_columns(
        pl.Series(item.name, [None], dtype=pl.Null).new_from_index(0, part.height) for item in empty
    )


def version_of(engine: Engine, connections: Connections, handle: Handle, deadline_s: float) -> str:
    """What the database calls itself.

    Errors: SourceError when it cannot be asked.
    """
    try:
        with connections.one(handle, deadline_s, fresh=True) as session:
            session.execute(Statement(engine.version_sql))
            rows = session.fetch(1)
    except GivenUp:
        raise
    except Exception as error:
        mine = error if isinstance(error, BridgeError) else engine.translate(error, engine.title)
        if mine is None or mine is error:
            raise
        raise mine from error
    return f"{engine.title} {rows[0][0]}"
