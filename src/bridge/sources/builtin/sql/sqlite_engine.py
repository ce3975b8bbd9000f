"""SQLite, by the standard library."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bridge.errors import AnswerTooLarge, BridgeError, DataMissing, SourceError, UpstreamInvalid, UpstreamUnavailable
from bridge.sources.builtin.sql.engine import Engine, FarColumn, Kind, Session, Statement, refused, said
from bridge.sources.builtin.sql.place import System

# SQLite's limit is on a whole row.
MAX_ROW_BYTES = 1024 * 1024
# A writer holds the file for the moment of its commit; a longer lock is an error that is tried again.
BUSY_S = 2.0
PROGRESS_STEPS = 10_000
# The time of a comparison is the product of both lengths, and nothing interrupts it.
MAX_PATTERN_BYTES = 1_000

_ALLOWED = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE)
_FORBIDDEN_FUNCTIONS = ("load_extension", "fts3_tokenizer", "readfile", "writefile", "edit")


def _authorize(action: int, first: str | None, second: str | None, _schema: str | None, _trigger: str | None) -> int:
    """Only what reading needs; everything SQLite may learn to do later is refused with the rest."""
    if action in _ALLOWED:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and second not in _FORBIDDEN_FUNCTIONS:
        return sqlite3.SQLITE_OK
    # How a table-valued function such as json_each declares its columns; no statement can write that table.
    if action == sqlite3.SQLITE_UPDATE and first == "sqlite_master":
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def check_file(path: Path, system: System) -> os.stat_result:
    """What the operating system says of the file.

    Errors: DataMissing when there is none, UpstreamInvalid when it cannot be a database.
    """
    try:
        there = path.stat()
    except OSError as error:
        raise DataMissing(
            f"the database file `{path.name}` cannot be read: {error.strerror or 'no such file'}",
            remedy="check the path in the source's `url`; a relative one begins at the settings file's folder",
        ) from None
    if not stat.S_ISREG(there.st_mode):
        raise UpstreamInvalid(f"`{path.name}` is no file", remedy=f"name a {system} file in the source's `url`")
    return there


def file_token(path: Path, system: System, beside: str) -> str:
    """Changes when the database file, or the log beside it, is written.

    Errors: DataMissing, UpstreamInvalid.
    """
    token = [_stamp(check_file(path, system))]
    with suppress(OSError):
        token.append(_stamp(path.with_name(path.name + beside).stat()))
    return "|".join(token)


def _stamp(there: os.stat_result) -> str:
    return f"{there.st_ino}.{there.st_size}.{there.st_mtime_ns}"


class SqliteSession(Session):
    """One connection to a SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _identity(check_file(path, System.SQLITE))
        self._stop = threading.Event()
        uri = f"file:{quote(str(path))}?mode=ro"
        self._db = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        self._db.text_factory = _text
        self._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_ROW_BYTES)
        self._db.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, MAX_PATTERN_BYTES)
        self._db.execute("PRAGMA query_only = ON")
        self._db.execute("PRAGMA trusted_schema = OFF")
        self._db.set_authorizer(_authorize)
        self._db.set_progress_handler(self._stop.is_set, PROGRESS_STEPS)
        self._rows: sqlite3.Cursor | None = None

    def begin(self, deadline_s: float) -> None:
        """Each statement reads one moment's data by itself."""

    def describe(self, statement: Statement) -> tuple[FarColumn, ...]:
        """The names only: in SQLite each value has its own type."""
        found = self._db.execute(statement.sql, dict(statement.args))
        names = [str(item[0]) for item in found.description or ()]
        found.close()
        return tuple(FarColumn(name, Kind.ANY) for name in names)

    def execute(self, statement: Statement) -> None:
        """Runs a statement."""
        self.end()
        self._rows = self._db.execute(statement.sql, dict(statement.args))

    def fetch(self, max_rows: int) -> list[tuple[Any, ...]]:
        """The next rows."""
        return self._rows.fetchmany(max_rows) if self._rows is not None else []

    def end(self) -> None:
        """Lets go of the file's lock."""
        if self._rows is not None:
            self._rows.close()
            self._rows = None

    def interrupt(self, attempt: int) -> None:
        """Now, and whatever it begins after."""
        self._stop.set()
        with suppress(sqlite3.ProgrammingError):
            self._db.interrupt()

    def close(self) -> None:
        """Closes the connection."""
        self._db.close()

    def is_current(self) -> bool:
        """Whether the path still leads to the file that is open."""
        with suppress(OSError):
            return _identity(self._path.stat()) == self._file
        return False


def _identity(there: os.stat_result) -> tuple[int, int]:
    return there.st_dev, there.st_ino


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


class SqliteEngine(Engine):
    """A SQLite file."""

    system = System.SQLITE
    title = "SQLite"
    version_sql = "SELECT sqlite_version(), (SELECT count(*) FROM sqlite_master)"

    def __init__(self, path: Path) -> None:
        self.path = path

    def connect(self, deadline_s: float) -> Session:
        """A read-only connection."""
        return SqliteSession(self.path)

    def fingerprint(self) -> str | None:
        """Size and time of the file, and of its write-ahead log."""
        return file_token(self.path, self.system, "-wal")

    def translate(self, error: Exception, where: str) -> BridgeError | None:
        """By what SQLite says: its codes are coarser than its words."""
        if not isinstance(error, (sqlite3.Error, sqlite3.Warning, OverflowError)):
            return None
        text = str(error)
        return next((make(where, error) for word, make in _MEANINGS if word in text), None) or refused(
            where, said(error)
        )


def _denied(where: str, error: Exception) -> SourceError:
    return refused(f"{where}: only reading is possible", said(error))


def _missing(where: str, error: Exception) -> SourceError:
    return DataMissing(f"{where}: {said(error)}", remedy="correct the dataset's `table` or `query`")


def _no_database(where: str, error: Exception) -> SourceError:
    return UpstreamInvalid(
        f"{where}: the file cannot be read as a SQLite database: {said(error)}", remedy="check the file"
    )


def _busy(where: str, error: Exception) -> SourceError:
    return UpstreamUnavailable(
        f"{where}: another program holds the file: {said(error)}", remedy="it is asked again by itself"
    )


def _too_big(where: str, error: Exception) -> BridgeError:
    return AnswerTooLarge(
        f"{where}: a row has more than {MAX_ROW_BYTES:,} bytes",
        remedy="leave large columns out, or cut them in a `query`",
    )


_MEANINGS: tuple[tuple[str, Callable[[str, Exception], BridgeError]], ...] = (
    ("no such table", _missing),
    ("not authorized", _denied),
    ("prohibited", _denied),
    ("readonly", _denied),
    ("locked", _busy),
    ("unable to open", _busy),
    ("disk I/O", _busy),
    ("not a database", _no_database),
    ("malformed", _no_database),
    ("unsupported file format", _no_database),
    ("too big", _too_big),
)
