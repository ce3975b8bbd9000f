"""All histories of one `data_dir`: one process writes them, however often its settings are read again."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from bridge.edge import lake
from bridge.edge.hold import Hold
from bridge.errors import StoreError
from bridge.model.clock import Clock
from bridge.model.schema import Schema
from bridge.sources.history.changes import Verdict, compare
from bridge.sources.history.history import History
from bridge.sources.history.schema_file import SchemaFile
from bridge.sources.history.table import Table
from bridge.sources.history.versions import Versions
from bridge.sources.registry import DatasetEntry, Keeping

log = logging.getLogger("bridge.history")

FOLDER = "history"
# How far the wall clock may drift from the one that only goes forward, and how long it must not have.
DRIFT_S = 60.0
STEADY_S = 600.0


class Steadiness:
    """Whether the machine's clock has gone on evenly: nothing is dropped for its age while it jumps."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._mark()

    def _mark(self) -> None:
        self._since_s, self._since = self._clock.monotonic_s(), self._clock.now()

    def __call__(self) -> bool:
        """Whether the clock has been even for long enough."""
        passed_s = self._clock.monotonic_s() - self._since_s
        shown_s = (self._clock.now() - self._since).total_seconds()
        if abs(shown_s - passed_s) > DRIFT_S:
            log.warning(
                "the clock jumped, nothing is dropped for its age for a while", extra={"by_s": shown_s - passed_s}
            )
            self._mark()
            return False
        return passed_s >= STEADY_S


class Store:
    """The histories below one folder.

    Errors: StoreHeld from `open` when another process writes there.
    """

    def __init__(self, data_dir: Path, clock: Clock) -> None:
        self.data_dir = data_dir
        self._clock = clock
        self._hold: Hold | None = None
        self._users = 0
        self._histories: dict[str, History] = {}
        self._steady = Steadiness(clock)
        self._lock = asyncio.Lock()

    async def open(self, entries: Iterable[DatasetEntry]) -> dict[str, History]:
        """The histories of these datasets, found again or begun; each `open` is answered by a `close`.

        Errors: StoreHeld, StoreError. A history that cannot be read is left out of what is given, and logged.
        """
        keeping = {entry.name: entry.history for entry in entries if entry.history is not None}
        async with self._lock:
            if not lake.available():
                raise StoreError(lake.MISSING)
            if self._hold is None:
                self._hold = await asyncio.to_thread(Hold.take, self.data_dir)
            self._users += 1
            found = {}
            for name, kept in keeping.items():
                found[name] = await self._one(name, kept)
            await asyncio.to_thread(self._tell_orphans, set(keeping))
        return found

    async def _one(self, name: str, keeping: Keeping) -> History:
        if history := self._histories.get(name):
            history.table.keeping = keeping
            return history
        folder = self.data_dir / FOLDER / name
        table = Table(name, folder, keeping, _Fit(name, SchemaFile(folder)))
        history = History(table, self._clock, steady=self._steady)
        await history.open()
        self._histories[name] = history
        return history

    async def close(self) -> None:
        """Lets go of the folder when all who opened it have closed it."""
        async with self._lock:
            self._users -= 1
            if self._users > 0:
                return
            for history in self._histories.values():
                await asyncio.to_thread(history.table.close)
            self._histories.clear()
            if self._hold is not None:
                self._hold.release()
                self._hold = None

    def _tell_orphans(self, known: set[str]) -> None:
        for name in orphans(self.data_dir, known):
            log.warning(
                "a history belongs to no dataset: renamed? `bridge sources migrate NEW --from OLD` takes it over",
                extra={"history": name},
            )


def orphans(data_dir: Path, known: set[str]) -> list[str]:
    """Recorded datasets that no configured one is called like."""
    folder = data_dir / FOLDER
    if not folder.is_dir():
        return []
    return sorted(
        name for name in os.listdir(folder) if (folder / name / "schema.json").exists() and name not in known
    )


class _Fit:
    """The versions of one dataset's columns, as its schema file has them."""

    def __init__(self, name: str, file: SchemaFile) -> None:
        self._name = name
        self._file = file
        self._versions: Versions | None = None

    def load(self) -> Versions | None:
        self._versions = self._file.load()
        return self._versions

    def admit(self, schema: Schema, stored: dict[str, str]) -> None:
        self._compared(schema, stored)

    def _compared(self, schema: Schema, stored: dict[str, str]) -> bool:
        """Whether the columns are those of the current version; they can become them where not."""
        if self._versions is not None and self._file.changed():
            # `bridge sources migrate` was there.
            self.load()
        if self._versions is None:
            return False
        change = compare(self._versions, schema, stored)
        if change.verdict is Verdict.BREAKING:
            raise change.error()
        return change.verdict is Verdict.SAME

    def fit(self, schema: Schema, stored: dict[str, str], at: datetime) -> Versions:
        if self._versions is None:
            self._versions = self._file.begin(schema, stored, at)
        elif not self._compared(schema, stored):
            self._versions = self._file.evolve(schema, stored, at)
            log.info("schema evolves", extra={"dataset": self._name, "version": self._versions.current.version})
        return self._versions
