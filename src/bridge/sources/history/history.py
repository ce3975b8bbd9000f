"""The history of one dataset at work: what a sample may be, when it is written, and what the past says."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from bridge.errors import StoreError
from bridge.model.clock import Clock
from bridge.model.frame import Frame
from bridge.model.schema import Schema
from bridge.sources.history import reading, upkeep
from bridge.sources.history.reading import Asked, Past
from bridge.sources.history.stored import stored_kinds
from bridge.sources.history.table import Table
from bridge.sources.history.versions import schema_of
from bridge.sources.history.view import View

log = logging.getLogger("bridge.history")

T = TypeVar("T")

UPKEEP_S = 600.0
SWEEP_S = 6 * 3_600.0
# After a flush that failed the next is tried later and later.
MAX_PAUSE_S = 900.0


@dataclass(frozen=True, slots=True)
class HistoryStatus:
    """How the history of one dataset is doing.

    Units: rows, bytes; `pending_rows` are in the segments only.
    """

    rows: int = 0
    size_bytes: int = 0
    pending_rows: int = 0
    files: int = 0
    version: int = -1
    last_at: datetime | None = None
    error: str | None = None
    remedy: str | None = None

    def told(self) -> dict[str, Any]:
        """What the status of the dataset says of it."""
        return {
            "history_rows": self.rows,
            "history_bytes": self.size_bytes,
            "history_pending_rows": self.pending_rows,
            "history_error": self.error,
            "history_last": self.last_at.isoformat() if self.last_at else None,
        }


class History:
    """What one dataset keeps of its past."""

    def __init__(
        self, table: Table, clock: Clock, *, steady: Callable[[], bool], threads: Executor | None = None
    ) -> None:
        self.table = table
        self._threads = threads
        self._clock = clock
        self._steady = steady
        # What could not be done the last time it was tried, by what it was.
        self._errors: dict[str, StoreError] = {}
        # Why the history cannot be used at all, such as that a newer version of bridge wrote it.
        self.closed: StoreError | None = None
        # Beyond so many rows a panel is drawn from fewer.
        self.raw_rows = reading.RAW_ROWS
        # Who takes its samples: while one house follows another there are two who could.
        self.sampler: object | None = None
        now_s = clock.monotonic_s()
        self._flush_due_s = now_s + table.keeping.flush_s
        self._pause_s = table.keeping.flush_s
        self._tended_s = now_s
        self._swept_s = now_s - SWEEP_S

    async def open(self) -> None:
        """Finds what was recorded before; where that cannot be read, `status` says why and nothing is recorded."""
        try:
            await self._apart(self.table.open)
        except StoreError as error:
            log.error("history cannot be opened", extra={"dataset": self.table.name, "error": error.message})  # noqa: TRY400
            self.closed = error

    @property
    def view(self) -> View:
        """What is recorded, as of now."""
        return self.table.view

    @property
    def schema(self) -> Schema | None:
        """The columns of the current version, None before the first sample."""
        versions = self.view.versions
        return schema_of(versions.current) if versions else None

    @property
    def schema_version(self) -> int:
        """The number of the current version of the columns, 1 before the first sample."""
        versions = self.view.versions
        return versions.current.version if versions else 1

    def status(self) -> HistoryStatus:
        """How it is doing."""
        view = self.view
        error = self.closed or next(iter(self._errors.values()), None) or view.problem
        return HistoryStatus(
            rows=view.rows,
            size_bytes=view.size_bytes,
            pending_rows=view.pending_rows,
            files=len(view.files),
            version=view.seq,
            last_at=view.last_at,
            error=error.message if error else None,
            remedy=error.remedy if error else None,
        )

    async def admit(self, frame: Frame) -> None:
        """Nothing, where the columns are those of the history, or can become them by themselves.

        Errors: SchemaChanged when a person must say what the change means.
        """
        # Looked at each time: another process may have said meanwhile what a change means.
        if self.view.versions is not None:
            # How thousands of columns are stored is not asked on the loop either.
            await self._apart(lambda: self.table.admit(frame.schema, stored_kinds(frame.data, frame.schema)))

    async def record(self, frame: Frame) -> int:
        """Takes what is new of a sample; how many rows, which are on the disk when this returns.

        Errors: SchemaChanged; StoreError, which `status` tells until the same is done well again.
        """
        if self.closed is not None:
            raise self.closed
        return await self._told("record", lambda: self.table.record(frame, self._clock.now()))

    async def tend(self) -> None:
        """Moves samples on, merges, drops and deletes, as far as it is time to.

        Errors: StoreError, which `status` tells; nothing is lost, it is tried again.
        """
        if self.closed is not None:
            return
        now_s = self._clock.monotonic_s()
        if now_s >= self._flush_due_s and self.view.chunks:
            # Counted from now: a flush that fails must not be tried with every sample.
            self._flush_due_s = now_s + self._pause_s
            self._pause_s = min(self._pause_s * 2, MAX_PAUSE_S)
            await self._told("flush", lambda: upkeep.move_on(self.table))
            self._pause_s = self.table.keeping.flush_s
            self._flush_due_s = now_s + self._pause_s
        if now_s - self._tended_s >= UPKEEP_S:
            self._tended_s = now_s
            steady = self._steady()
            await self._told("expire", lambda: upkeep.expire(self.table, self._clock.now() if steady else None))
            if now_s - self._swept_s >= SWEEP_S:
                self._swept_s = now_s
                await self._told("sweep", lambda: upkeep.sweep(self.table, self._clock.now()))

    async def _told(self, what: str, work: Callable[[], T]) -> T:
        known = {"dataset": self.table.name, "work": what}
        try:
            made = await self._apart(work)
        except StoreError as error:
            if what not in self._errors:
                log.error("history stalls", extra={**known, "error": error.message})  # noqa: TRY400
            self._errors[what] = error
            raise
        if self._errors.pop(what, None) is not None:
            log.info("history goes on", extra=known)
        return made

    async def read(self, view: View, wanted: Asked, live: Frame | None) -> Past | None:
        """What the past says to a question, live rows among it; None where there is none.

        Errors: StoreError when its files cannot be read; AnswerTooLarge.
        """
        if not (view.files or view.chunks):
            return None
        return await self._apart(lambda: self.table.read(view, wanted, live))

    async def _apart(self, work: Callable[[], T]) -> T:
        """`work()` on a thread for histories only: a disk that hangs takes none of those that panels need."""
        told = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: told.run(work))
