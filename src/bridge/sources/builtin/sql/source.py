"""The `sql` source."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from bridge.errors import BridgeError
from bridge.model.frame import Frame, Meta
from bridge.model.query import Query
from bridge.model.schema import Schema
from bridge.sources.base import DatasetSpec, Options, Ping, Tools
from bridge.sources.builtin.reading import ReadingSource
from bridge.sources.builtin.sql.duckdb_engine import DuckdbEngine
from bridge.sources.builtin.sql.engine import Engine, FarColumn
from bridge.sources.builtin.sql.inferred import Known
from bridge.sources.builtin.sql.options import SqlDataset, SqlOptions
from bridge.sources.builtin.sql.place import FilePlace, Place, System, read_place
from bridge.sources.builtin.sql.plan import compile_plan
from bridge.sources.builtin.sql.postgres_engine import PostgresEngine
from bridge.sources.builtin.sql.reading import Connections, Job, read, version_of
from bridge.sources.builtin.sql.runner import MAX_THREADS, Runner
from bridge.sources.builtin.sql.sqlite_engine import SqliteEngine

# Values unfold in memory: what is read may be this many times an answer.
CAP_RATIO = 4
# A sign of life comes at once or not at all.
PROBE_S = 5.0


class SqlSource(ReadingSource[Known]):
    """Tables and queries of a SQLite, DuckDB or PostgreSQL database, for reading only."""

    kind: ClassVar[str] = "sql"
    SourceOptions = SqlOptions
    DatasetOptions = SqlDataset

    def __init__(self, name: str, options: Options, datasets: Mapping[str, DatasetSpec], tools: Tools) -> None:
        super().__init__(name, options, datasets, tools)
        if not isinstance(options, SqlOptions):
            raise TypeError(f"{name}: options of {type(options).__name__}")
        self._deadline_s = options.deadline_s
        place = read_place(options.url, allow_private=options.allow_private)
        self._engine = _engine(place, options, tools.base_dir)
        self._plans = {table: compile_plan(name, spec, place.system) for table, spec in datasets.items()}
        self._connections = Connections(self._engine, MAX_THREADS)
        self._runner = Runner(name)
        self._far: dict[str, tuple[FarColumn, ...]] = {}

    async def aclose(self) -> None:
        """Interrupts what runs and closes the connections."""
        await self._runner.aclose()
        self._connections.close()

    def narrow(self, query: Query) -> Query:
        """Span, filters and columns, as far as the database surely compares as bridge does."""
        return self._plans[query.table].narrow(query, self.schema(query.table), self._far.get(query.table, ()))

    async def collect(self, query: Query) -> Frame:
        """All rows of the table or query that the database can tell the question from.

        Errors: SourceError and its subclasses naming the dataset, AnswerTooLarge over a limit, BadQuery for a
                parameter with too many values.
        """
        known = self._known.get(query.table)
        job = self._job(query, known)
        try:
            reading = await self._runner.run(
                lambda handle: read(job, self._engine, self._connections, handle), self._deadline_s, query.dataset
            )
        except BridgeError:
            # The database may have been changed: the next question looks at the columns anew.
            self._far.pop(query.table, None)
            raise
        self._far[query.table] = reading.far
        self._remember(query.table, known, reading.known)
        meta = Meta(notices=reading.notices, executed=reading.executed)
        return Frame(reading.data, Schema(reading.columns), name=query.dataset, meta=meta)

    def _job(self, query: Query, known: Known | None) -> Job:
        limits = self.tools.limits
        return Job(
            plan=self._plans[query.table],
            query=query,
            far=self._far.get(query.table),
            known=known,
            max_rows=limits.max_rows,
            max_bytes=limits.max_bytes * CAP_RATIO,
            deadline_s=self._deadline_s,
        )

    async def fingerprint(self, query: Query) -> str | None:
        """Changes when the database file is written; None for a server, and for queries that read the clock.

        Errors: DataMissing when there is no file.
        """
        if self._plans[query.table].is_volatile or self._engine.system is System.POSTGRES:
            return None
        return await self._runner.run(lambda handle: self._engine.fingerprint(), self._deadline_s)

    async def ping(self) -> Ping:
        """Whether a new connection can be made, and what the database calls itself."""
        deadline_s = min(PROBE_S, self._deadline_s)
        try:
            self.far_version = await self._runner.run(
                lambda handle: version_of(self._engine, self._connections, handle, deadline_s), deadline_s
            )
        except BridgeError as error:
            return Ping(ok=False, text=error.sentence, far_version=self.far_version)
        return Ping(ok=True, far_version=self.far_version)


def _engine(place: Place, options: SqlOptions, base_dir: Path) -> Engine:
    if not isinstance(place, FilePlace):
        return PostgresEngine(place, options.password.get_secret_value() if options.password else None)
    path = base_dir / place.path
    path = path if path.is_absolute() else Path(os.path.abspath(path))
    return SqliteEngine(path) if place.system is System.SQLITE else DuckdbEngine(path)
