"""PostgreSQL, by psycopg."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from types import ModuleType
from typing import Any

from bridge.edge.address import check_address
from bridge.errors import (
    BridgeError,
    DataMissing,
    NeedsAuth,
    PluginFailed,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from bridge.sources.builtin.sql.engine import Engine, FarColumn, Kind, Session, Statement, refused, said
from bridge.sources.builtin.sql.place import ServerPlace, System

CONNECT_S = 5
CANCEL_S = 1.0
# After so many polite requests the connection is cut.
POLITE_ATTEMPTS = 3
_CURSOR = "bridge"
# Locks of the session and what it listens to outlive a transaction, and must not reach the next question.
_LEAVE = "ROLLBACK; SELECT pg_advisory_unlock_all(); UNLISTEN *"
_MISSING = ("42P01", "3D000", "3F000")
# While connecting there are words only.
_REFUSING = ("password authentication", "no password supplied", "pg_hba.conf", 'role "')
_NO_DATABASE = re.compile(r'database ".*" does not exist')
# Connection, resources, shutdown and the machine below it.
_PASSING = ("08", "53", "57", "58")
_SETUP = (
    "SET default_transaction_read_only = on",
    "SET standard_conforming_strings = on",
    "SET TIME ZONE 'UTC'",
    "SET DateStyle = 'ISO'",
    "SET bytea_output = 'hex'",
    "SET extra_float_digits = 1",
)
_KINDS = {
    **dict.fromkeys(("int2", "int4", "int8", "float4", "float8", "numeric", "interval", "oid"), Kind.NUMBER),
    **dict.fromkeys(("timestamptz", "timestamp", "date"), Kind.MICROS),
    **dict.fromkeys(("json", "jsonb", "record"), Kind.JSON),
    "bool": Kind.BOOLEAN,
    "bytea": Kind.BYTES,
}


class PostgresSession(Session):
    """One connection to a PostgreSQL server."""

    def __init__(self, psycopg: ModuleType, parameters: dict[str, Any]) -> None:
        self._types = psycopg.postgres.types
        self._fault = psycopg.Error
        self._db = psycopg.connect(**parameters)
        self._rows: Any = None
        try:
            for statement in _SETUP:
                self._db.execute(statement)
            self._db.commit()
            # From here on every transaction begins as READ ONLY, whatever a query did to the settings.
            self._db.read_only = True
        except BaseException:
            self._db.close()
            raise

    def begin(self, deadline_s: float) -> None:
        """A read-only transaction, in which the server itself gives up in time."""
        self._db.execute("SELECT set_config('statement_timeout', %s, true)", [str(max(1, round(deadline_s * 1_000)))])

    def describe(self, statement: Statement) -> tuple[FarColumn, ...]:
        """The columns, of which the planner knows all without a row being read."""
        with self._db.cursor() as cursor:
            # The protocol for binary results takes one statement only, also where no value is bound.
            cursor.execute(statement.sql, statement.args, binary=True)
            return tuple(self._column(item.name, item.type_code) for item in cursor.description or ())

    def _column(self, name: str, oid: int) -> FarColumn:
        known = self._types.get(oid)
        if known is not None and known.array_oid == oid:
            return FarColumn(name, Kind.JSON, "array")
        kind = known.name if known is not None else str(oid)
        return FarColumn(name, _KINDS.get(kind, Kind.TEXT), kind)

    def execute(self, statement: Statement) -> None:
        """Runs a statement behind a cursor of the server, so that no more than one batch is ever here."""
        if self._rows is not None:
            self._rows.close()
        self._rows = self._db.cursor(name=_CURSOR)
        self._rows.execute(statement.sql, statement.args)

    def fetch(self, max_rows: int) -> list[tuple[Any, ...]]:
        """The next rows."""
        rows: list[tuple[Any, ...]] = self._rows.fetchmany(max_rows)
        return rows

    def end(self) -> None:
        """Rolls back: what a function may have set or locked is as it was; where that fails, the connection ends."""
        try:
            if self._rows is not None:
                self._rows.close()
            self._db.execute(_LEAVE)
            self._rows = None
        except self._fault:
            self.close()

    def interrupt(self, attempt: int) -> None:
        """Asks the server to stop; one that does not answer is cut off."""
        if attempt < POLITE_ATTEMPTS:
            self._db.cancel_safe(timeout=CANCEL_S)
            return
        with suppress(OSError), socket.socket(fileno=os.dup(self._db.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes the connection, and then the cursor, which asks the server of an open one."""
        self._db.close()
        if self._rows is not None:
            with suppress(Exception):
                self._rows.close()

    def is_current(self) -> bool:
        """Whether nobody has noticed it to be closed."""
        return not self._db.closed


class PostgresEngine(Engine):
    """A PostgreSQL server."""

    system = System.POSTGRES
    title = "PostgreSQL"
    version_sql = "SELECT current_setting('server_version')"

    def __init__(self, place: ServerPlace, password: str | None) -> None:
        self._place = place
        self._password = password

    def connect(self, deadline_s: float) -> Session:
        """A connection to an address that was checked."""
        try:
            import psycopg
        except ImportError as error:
            raise PluginFailed(
                "the package `psycopg` is not installed", remedy='pip install "bridge[postgres]"'
            ) from error
        addresses = list(dict.fromkeys(self._addresses()))
        parameters: dict[str, Any] = {
            **self._place.tls,
            # The name is what a certificate is checked against, the address is what was judged.
            "host": ",".join([self._place.host] * len(addresses)),
            "hostaddr": ",".join(addresses),
            "port": self._place.port,
            "dbname": self._place.database,
            "user": self._place.user,
            # Neither the environment nor a file of the machine's user gives another one.
            "password": self._password or "",
            "passfile": f"{os.devnull}/none",
            "connect_timeout": max(1, min(CONNECT_S, round(deadline_s))),
            "application_name": "bridge",
            # Settings of the machine's user must not reach into what is sent.
            "options": "",
            "gssencmode": "disable",
            "target_session_attrs": "any",
            "client_encoding": "utf-8",
            "keepalives_idle": 30,
            "prepare_threshold": None,
        }
        return PostgresSession(psycopg, {key: value for key, value in parameters.items() if value is not None})

    def _addresses(self) -> Iterator[str]:
        """The host's addresses, each of them one that may be connected to.

        Errors: AddressRefused, UpstreamUnavailable for a name without addresses.
        """
        host = self._place.host
        if host == "localhost":
            yield from ("127.0.0.1", "::1")
            return
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            raise UpstreamUnavailable(
                f"the host name `{host}` cannot be resolved", remedy="check the host in the source's `url`"
            ) from error
        for item in found:
            address = str(item[4][0])
            check_address(address, private_ok=self._place.private_ok)
            yield address

    def translate(self, error: Exception, where: str) -> BridgeError | None:
        """By the SQLSTATE; without one the connection failed."""
        import psycopg

        if not isinstance(error, psycopg.Error):
            return None
        state, text = error.sqlstate or "", self._redacted(said(error))
        said_text = f"{where}: {text}"
        if state == "57014":
            late = f"{where}: the database gave up after its time"
            return UpstreamTimeout(late, remedy="narrow the time range, or raise `deadline_s`")
        if state == "42501":
            return NeedsAuth(said_text, remedy="grant the user SELECT on what the dataset reads")
        if state[:2] == "28" or (not state and any(word in said_text for word in _REFUSING)):
            return NeedsAuth(said_text, remedy="check the user in `url`, and `password`")
        if state in _MISSING or (not state and _NO_DATABASE.search(said_text)):
            remedy = "correct the database in `url`, or the dataset's `table` or `query`"
            return DataMissing(said_text, remedy=remedy)
        if state == "25006":
            return refused(f"{where}: only reading is possible", text)
        lost = not state and not isinstance(error, (psycopg.ProgrammingError, psycopg.DataError))
        if lost or state[:2] in _PASSING or state in ("40001", "40P01"):
            return UpstreamUnavailable(said_text, remedy="check that the server runs; it is asked again by itself")
        return refused(where, text)

    def _redacted(self, text: str) -> str:
        return text.replace(self._password, "***") if self._password else text
