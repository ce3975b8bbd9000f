"""DuckDB, by its Python package."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from bridge.errors import AnswerTooLarge, BridgeError, DataMissing, PluginFailed, UpstreamInvalid, UpstreamUnavailable
from bridge.sources.builtin.sql.engine import (
    MAX_CELL_CHARS,
    Engine,
    FarColumn,
    Kind,
    Session,
    Statement,
    refused,
    said,
)
from bridge.sources.builtin.sql.place import System
from bridge.sources.builtin.sql.sqlite_engine import check_file, file_token

_MEMORY = "512MB"
_CONFIG = {
    "threads": "2",
    "memory_limit": _MEMORY,
    "max_temp_directory_size": "0KiB",
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
}
_MICROS = ("date", "timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns", "timestamp with time zone")
_NUMBERS = (
    *(
        "tinyint",
        "smallint",
        "integer",
        "bigint",
        "hugeint",
        "utinyint",
        "usmallint",
        "uinteger",
        "ubigint",
        "uhugeint",
    ),
    *("float", "double", "decimal", "interval"),
)
_NESTED = ("list", "array", "struct", "map", "union", "json")


def _kind(name: str) -> Kind:
    if name in _MICROS:
        return Kind.MICROS
    if name in _NUMBERS:
        return Kind.NUMBER
    if name in _NESTED:
        return Kind.JSON
    return {"boolean": Kind.BOOLEAN, "blob": Kind.BYTES}.get(name, Kind.TEXT)


class DuckdbSession(Session):
    """One opening of a DuckDB file: it shows the file as it was then, and keeps writers out, so it is not kept."""

    reusable = False

    def __init__(self, duckdb: ModuleType, path: Path) -> None:
        check_file(path, System.DUCKDB)
        self._db = duckdb.connect(str(path), read_only=True, config=_CONFIG)
        try:
            self._settle(duckdb)
        except BaseException:
            self._db.close()
            raise

    def _settle(self, duckdb: ModuleType) -> None:
        try:
            self._db.execute("SET GLOBAL TimeZone = 'UTC'")
            self._db.execute("SET lock_configuration = true")
        except duckdb.InvalidInputException:
            # Openings of one file in one process share their settings, and another one has locked them already.
            found = self._db.execute("SELECT current_setting('TimeZone'), current_setting('lock_configuration')")
            if found.fetchone() != ("UTC", True):
                raise

    def begin(self, deadline_s: float) -> None:
        """One transaction around all statements."""
        self._db.execute("BEGIN TRANSACTION READ ONLY")

    def describe(self, statement: Statement) -> tuple[FarColumn, ...]:
        """The columns, which the binder knows without a row being read."""
        found = self._db.execute(statement.sql, dict(statement.args)).description or ()
        names = [str(item[0]) for item in found]
        if statement.inner:
            # Outside of its brackets, as inside of them the second of two equal names is numbered.
            listed = self._db.execute(f"FROM (DESCRIBE\n{statement.inner}\n)", dict(statement.args)).fetchall()
            names = [str(row[0]) for row in listed]
        kinds = [_type_name(item[1]) for item in found]
        return tuple(FarColumn(name, _kind(kind), kind) for name, kind in zip(names, kinds, strict=True))

    def execute(self, statement: Statement) -> None:
        """Runs a statement."""
        self._db.execute(statement.sql, dict(statement.args))

    def fetch(self, max_rows: int) -> list[tuple[Any, ...]]:
        """The next rows."""
        rows: list[tuple[Any, ...]] = self._db.fetchmany(max_rows)
        return rows

    def end(self) -> None:
        """The file is closed with the connection."""

    def interrupt(self, attempt: int) -> None:
        """Ends the running statement."""
        self._db.interrupt()

    def close(self) -> None:
        """Closes the file."""
        self._db.close()


def _type_name(far: Any) -> str:
    return "json" if str(far) == "JSON" else str(far.id)


class DuckdbEngine(Engine):
    """A DuckDB file."""

    system = System.DUCKDB
    title = "DuckDB"
    version_sql = "SELECT version()"

    def __init__(self, path: Path) -> None:
        self.path = path

    def connect(self, deadline_s: float) -> Session:
        """A read-only opening of the file."""
        try:
            import duckdb
        except ImportError as error:
            raise PluginFailed(
                "the package `duckdb` is not installed", remedy='pip install "bridge[duckdb]"'
            ) from error
        return DuckdbSession(duckdb, self.path)

    def fingerprint(self) -> str | None:
        """Size and time of the file, and of its write-ahead log."""
        return file_token(self.path, self.system, ".wal")

    def translate(self, error: Exception, where: str) -> BridgeError | None:
        """By the class of the error, which DuckDB keeps well apart."""
        import duckdb

        if not isinstance(error, duckdb.Error):
            return None
        text = said(error)
        if isinstance(error, duckdb.OutOfMemoryException):
            return AnswerTooLarge(
                f"{where}: the query needs more than {_MEMORY} of memory",
                remedy="sort and join less: narrow the time range, or filter in the `query`",
            )
        if isinstance(error, duckdb.IOException):
            return _file_fault(where, text)
        if isinstance(error, duckdb.CatalogException) and "Table" in text:
            return DataMissing(f"{where}: {text}", remedy="correct the dataset's `table` or `query`")
        if "too long" in text and isinstance(error, duckdb.InvalidInputException):
            return AnswerTooLarge(
                f"{where}: a value is longer than {MAX_CELL_CHARS:,} bytes", remedy="leave the column out"
            )
        if isinstance(error, duckdb.PermissionException):
            return refused(f"{where}: only the database file itself is read", text)
        if isinstance(error, (duckdb.SerializationException, duckdb.FatalException, duckdb.InternalException)):
            return UpstreamInvalid(f"{where}: the file cannot be read: {text}", remedy="check the file")
        return refused(where, text)


def _file_fault(where: str, text: str) -> BridgeError:
    if "lock" in text.lower():
        return UpstreamUnavailable(
            f"{where}: another program writes to the DuckDB file, and DuckDB lets nobody else in meanwhile",
            remedy="it is asked again by itself; let the writer close the file, or have it write a copy to read from",
        )
    return UpstreamInvalid(f"{where}: the file cannot be read as a DuckDB database: {text}", remedy="check the file")
