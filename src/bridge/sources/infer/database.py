"""Databases: one dataset for each table or view, asked through the `sql` source and so under its guards."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bridge.errors import AddressRefused, BadRequest, NeedsAuth, SourceError, UpstreamInvalid
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.schema import ColumnType, Role
from bridge.sources.base import DatasetSpec, DataSource, Tools
from bridge.sources.infer.columns import Field, guess
from bridge.sources.infer.fetch import Target, settings_path
from bridge.sources.infer.names import Names, host_name, plain_name
from bridge.sources.infer.secrets import refuse_userinfo
from bridge.sources.infer.stanza import DatasetGuess, SourceGuess, clean, listed
from bridge.sources.table import SAMPLE_ROWS

MAX_TABLES = 10_000
# Seconds reach it in the year 5138, milliseconds passed it in 1973.
EPOCH_MS_FROM = 1e11
_LIST = {
    "sqlite": "SELECT '' AS space, name FROM sqlite_master WHERE type IN ('table', 'view') "
    "AND substr(name, 1, 7) <> 'sqlite_' ORDER BY rowid",
    "duckdb": "SELECT table_schema AS space, table_name AS name FROM information_schema.tables "
    "WHERE table_schema NOT IN ('information_schema', 'pg_catalog') ORDER BY 1, 2",
    "postgresql": "SELECT table_schema AS space, table_name AS name FROM information_schema.tables "
    "WHERE table_schema NOT IN ('information_schema', 'pg_catalog') ORDER BY 1, 2",
}
_MAIN = ("", "main", "public")
_PASSWORD = re.compile(r"://[^/?#@]*:[^/?#]*@|[?&](?:password|passfile)=", re.I)


def database_file(system: str, path: Path, base_dir: Path) -> str:
    """The URL of a database file, as it stands in the settings."""
    text = settings_path(path, base_dir)
    return f"{system}:///{text.replace('%', '%25').replace('?', '%3F').replace('#', '%23')}"


async def look_at_database(url: str, target: Target, tools: Tools, say: Callable[[str], None]) -> SourceGuess:
    """The tables and views of a database.

    Errors: BadRequest for a URL with a password or a table that is not there; SourceError when it cannot be read.
    """
    if _PASSWORD.search(url):
        refuse_userinfo(url)
        raise BadRequest("the URL holds a password", remedy="write it into a file and give --token-file FILE")
    if target.headers:
        raise BadRequest("a database is asked with no header", remedy="leave --header out")
    system = url.partition(":")[0].replace("postgres", "postgresql").replace("postgresqlql", "postgresql")
    desk = _Desk(url, target, tools)
    say(f"listing the tables of {clean(url, 100)}")
    tables = await desk.tables(_LIST[system])
    wanted = _wanted(tables, target)
    names, datasets, failed = Names(), [], []
    for space, table in wanted[: target.max_datasets]:
        say(f"reading the beginning of {clean(table, 100)}")
        try:
            datasets.append(await desk.dataset(space, table, names))
        except (NeedsAuth, AddressRefused):
            raise
        except SourceError as error:
            failed.append(f"left out: {clean(table, 60)}: {error.message}")
    if not datasets:
        raise UpstreamInvalid(
            f"the database has {len(tables)} tables and none that can be read{f': {failed[0]}' if failed else ''}",
            remedy="make a table with columns, or grant the right to read it",
        )
    left = len(wanted) - target.max_datasets
    more = (f"{left} more tables are left out; --max-datasets takes more, --table T one",) if left > 0 else ()
    return SourceGuess(target.name or _name(system, url), "sql", desk.options, tuple(datasets), (*failed[:10], *more))


def _name(system: str, url: str) -> str:
    if system == "postgresql":
        database = re.split(r"[/?#]", url.partition("://")[2])[1:2]
        return plain_name(database[0], "database") if database and database[0] else host_name(url)
    return plain_name(Path(url.partition(":///")[2]).stem, "database")


def _wanted(tables: list[tuple[str, str]], target: Target) -> list[tuple[str, str]]:
    if target.table is None:
        return tables
    found = [item for item in tables if target.table in (item[1], f"{item[0]}.{item[1]}")]
    if not found:
        raise BadRequest(
            f"there is no table `{clean(target.table, 60)}`",
            remedy=f"it has {listed([name for _, name in tables]) or 'none'}",
        )
    return found[:1]


class _Desk:
    """Questions to one database, each through a source that is made for it."""

    def __init__(self, url: str, target: Target, tools: Tools) -> None:
        self.options: dict[str, Any] = {"url": url}
        if target.token_file is not None:
            self.options["password_file"] = settings_path(target.token_file, target.base_dir)
        self._target = target
        self._tools = tools

    def _source(self, query: dict[str, Any]) -> DataSource:
        from bridge.sources.builtin.sql import SqlSource

        try:
            context = {"base_dir": self._target.base_dir}
            options = SqlSource.SourceOptions.model_validate(self.options, context=context)
            spec = DatasetSpec("t", SqlSource.DatasetOptions.model_validate(query))
            return SqlSource("infer", options, {"t": spec}, replace(self._tools, base_dir=self._target.base_dir))
        except ValidationError as error:
            said = "; ".join(
                item["msg"].removeprefix("Value error, ")
                for item in error.errors(include_url=False, include_input=False)
            )
            raise BadRequest(f"the database cannot be asked: {said}") from None

    async def _ask(self, query: dict[str, Any]) -> Frame:
        try:
            return await self._answered(query)
        except AddressRefused as error:
            # The user named this host; that it stands in a private network has to be said in the settings as well.
            if "allow_private" not in error.remedy or self.options.get("allow_private"):
                raise
        self.options["allow_private"] = True
        return await self._answered(query)

    async def _answered(self, query: dict[str, Any]) -> Frame:
        source = self._source(query)
        await source.open()
        try:
            return await source.collect(Query("infer.t"))
        except NeedsAuth as error:
            error.remedy = "check the user in the URL, and give the password with --token-file FILE"
            raise
        except SourceError as error:
            # The dataset that was asked is made up, and its name helps nobody.
            error.message = error.message.replace("`infer.t`: ", "", 1)
            raise
        finally:
            await source.aclose()

    async def tables(self, sql: str) -> list[tuple[str, str]]:
        """Schema and name of all tables and views."""
        frame = await self._ask({"query": f"{sql} LIMIT {MAX_TABLES}"})
        return [(str(space or ""), str(name)) for space, name in frame.data.rows()]

    async def _stored(self, quoted: str, column: str) -> str | None:
        """How times are stored that are numbers; None for those the database or ISO 8601 tells."""
        own = '"' + column.replace('"', '""') + '"'
        rows = f"SELECT {own} AS n FROM {quoted} WHERE {own} IS NOT NULL LIMIT {SAMPLE_ROWS}"  # noqa: S608 quoted
        frame = await self._ask({"query": f"SELECT max(n) AS top FROM ({rows}) AS r"})  # noqa: S608 quoted
        top = frame.data["top"]
        if frame.schema.columns[0].type is not ColumnType.NUMBER or top[0] is None:
            return None
        return "epoch_ms" if float(top[0]) > EPOCH_MS_FROM else "epoch_s"

    async def dataset(self, space: str, table: str, names: Names) -> DatasetGuess:
        """One table as a dataset."""
        named = table if space in _MAIN else f"{space}.{table}"
        plain = "." not in table and "." not in space
        quoted = ".".join('"' + part.replace('"', '""') + '"' for part in (space, table) if part)
        frame = await self._ask({"query": f"SELECT * FROM {quoted} LIMIT {SAMPLE_ROWS}"})  # noqa: S608 quoted
        fields = [
            Field((column.select or column.name,), frame.data[column.name], type=column.type)
            for column in frame.schema.columns
        ]
        guessed = guess(fields, frame.rows)
        options = {"table": named} if plain else {"query": f"SELECT * FROM {quoted}"}  # noqa: S608 quoted
        axis = next((column for column in guessed.columns if column.role is Role.TIME), None)
        if axis is not None and (stored := await self._stored(quoted, axis.select or axis.name)):
            options["time_as"] = stored
        return DatasetGuess(
            names.take(plain_name(named, "table")),
            options,
            guessed.columns,
            notes=(f"{frame.rows} rows of {clean(named, 80)} were seen", *guessed.notes),
            remarks=guessed.remarks,
        )
