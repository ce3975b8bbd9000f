"""One table in each of the three databases, and `sql` sources over it."""

# ruff: noqa: S608  the SQL is made of names of the tests themselves

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from bridge.edge.upstream import UpstreamPool
from bridge.model.clock import SystemClock
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Param, Role
from bridge.sources.base import DatasetSpec, Limits, Tools
from bridge.sources.builtin.sql import SqlSource
from servers.postgres import running

SYSTEMS = ("sqlite", "duckdb", "postgres")
_NUMBERS = itertools.count()


def columns(*texts: str) -> tuple[Column, ...]:
    """Columns from `name:type`, `name:type:role` or with `=select` at the end."""
    out = []
    for item in texts:
        head, _, select = item.partition("=")
        name, kind, role = [*head.split(":"), "", ""][:3]
        out.append(Column(name, ColumnType(kind), role=Role(role) if role else None, select=select or None))
    return tuple(out)


RUNS = columns("time:time:time=started_at", "model:string:dimension", "loss:number:measure")


@dataclass
class Lab:
    """A database of one system, with the test's own tables."""

    system: str
    folder: Path
    made: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """How a source names it."""
        if self.system == "postgres":
            return running().url()
        return f"{self.system}:///lab.{self.system}"

    @property
    def file(self) -> Path:
        """The database file, where there is one."""
        return self.folder / f"lab.{self.system}"

    def run(self, *statements: str) -> None:
        """Runs statements that may write."""
        if self.system == "postgres":
            running().execute(*statements)
            return
        connect: Any = sqlite3.connect if self.system == "sqlite" else duckdb.connect
        db = connect(str(self.file))
        try:
            for statement in statements:
                db.execute(statement)
            db.commit() if self.system == "sqlite" else None
        finally:
            db.close()

    def table(self, columns_sql: str, rows: Sequence[Sequence[Any]] = ()) -> str:
        """Makes a table with these rows, and gives its name."""
        name = f"t{next(_NUMBERS)}"
        self.made.append(name)
        if self.system == "postgres":
            running().fill(name, columns_sql, rows)
            return name
        connect: Any = sqlite3.connect if self.system == "sqlite" else duckdb.connect
        db = connect(str(self.file))
        try:
            db.execute(f"CREATE TABLE {name} ({columns_sql})")
            if rows:
                db.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(rows[0]))})", list(map(tuple, rows)))
            db.commit() if self.system == "sqlite" else None
        finally:
            db.close()
        return name

    def drop(self) -> None:
        """Takes away what was made on the shared server."""
        if self.system == "postgres" and self.made:
            running().execute(*(f"DROP TABLE IF EXISTS {name} CASCADE" for name in self.made))

    def source(
        self,
        columns: Sequence[Column] = (),
        *,
        params: Sequence[Param] = (),
        limits: Mapping[str, Any] | None = None,
        source: Mapping[str, Any] | None = None,
        **dataset: Any,
    ) -> SqlSource:
        """A source `s` with one dataset `d`."""
        options = SqlSource.SourceOptions.model_validate({"url": self.url, **(source or {})})
        own = SqlSource.DatasetOptions.model_validate(dataset)
        spec = DatasetSpec("d", own, tuple(columns), tuple(params))
        tools = Tools(UpstreamPool().upstream, SystemClock(), self.folder, Limits(**(limits or {})))
        return SqlSource("s", options, {"d": spec}, tools)

    @asynccontextmanager
    async def open(self, columns: Sequence[Column] = (), **given: Any) -> AsyncIterator[SqlSource]:
        """The source, closed afterwards."""
        source = self.source(columns, **given)
        await source.open()
        try:
            yield source
        finally:
            await source.aclose()

    async def ask(self, columns: Sequence[Column] = (), *, asked: Query | None = None, **given: Any) -> Frame:
        """One answer of a source that is then closed."""
        async with self.open(columns, **given) as source:
            return await source.collect(asked or Query("s.d"))
