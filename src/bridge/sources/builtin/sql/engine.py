"""What a database driver must offer to be read from a thread."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from bridge.edge.faults import printable
from bridge.errors import BridgeError, Retry, UpstreamRefused
from bridge.sources.builtin.sql.place import System

# Values longer than this are refused: one row of a batch must not fill the memory.
MAX_CELL_CHARS = 262_144
MAX_SAID_CHARS = 200


class Kind(StrEnum):
    """What the values of one far column are, as they arrive; `any` where each row may differ."""

    NUMBER = "number"
    BOOLEAN = "boolean"
    MICROS = "micros"
    TEXT = "text"
    JSON = "json"
    BYTES = "bytes"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class FarColumn:
    """One column of a result: its kind, and the database's name of its type as far as it can be compared."""

    name: str
    kind: Kind
    type: str = ""


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with its bound values; `inner` is the query alone, where its own column names are to be read."""

    sql: str
    args: Mapping[str, Any] = field(default_factory=dict)
    inner: str = ""


class Session(ABC):
    """One connection; all but `interrupt` is called from one thread at a time."""

    reusable: ClassVar[bool] = True

    @abstractmethod
    def begin(self, deadline_s: float) -> None:
        """Starts a reading of one moment's data."""

    @abstractmethod
    def describe(self, statement: Statement) -> tuple[FarColumn, ...]:
        """The columns of a statement."""

    @abstractmethod
    def execute(self, statement: Statement) -> None:
        """Runs a statement; its rows are then fetched."""

    @abstractmethod
    def fetch(self, max_rows: int) -> list[tuple[Any, ...]]:
        """The next rows; none at the end."""

    @abstractmethod
    def end(self) -> None:
        """Ends the reading, with nothing left behind in the connection."""

    @abstractmethod
    def interrupt(self, attempt: int) -> None:
        """Ends what the connection is doing; called from another thread, again and more roughly until it has."""

    @abstractmethod
    def close(self) -> None:
        """Closes the connection."""

    def is_current(self) -> bool:
        """Whether the connection still leads to the place."""
        return True


class Engine(ABC):
    """One kind of database at one place."""

    system: ClassVar[System]
    title: ClassVar[str]
    version_sql: ClassVar[str]

    @abstractmethod
    def connect(self, deadline_s: float) -> Session:
        """A new connection.

        Errors: SourceError, or one of the driver's own.
        """

    @abstractmethod
    def translate(self, error: Exception, where: str) -> BridgeError | None:
        """A driver's error as one of ours; None when it is none of the driver's."""

    def fingerprint(self) -> str | None:
        """A token that changes with the data, where that can be told from outside.

        Errors: DataMissing.
        """
        return None


def said(error: Exception) -> str:
    """The first line of a driver's message, fit for people."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return printable(" ".join(lines[0].split()))[:MAX_SAID_CHARS]


def refused(where: str, text: str, remedy: str = "correct the dataset's `table` or `query`") -> UpstreamRefused:
    """A statement the database does not take."""
    found = UpstreamRefused(f"{where}: the database refuses: {text}", far_status=400, remedy=remedy)
    found.retry = Retry.NEVER  # type: ignore[misc]
    return found
