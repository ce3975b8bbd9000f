"""All histories of one `data_dir`: one process writes them, however often its settings are read again."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bridge.edge import lake
from bridge.edge.hold import Hold
from bridge.errors import StoreError
from bridge.model.clock import Clock
from bridge.sources.history.history import History
from bridge.sources.history.schema_file import NAME, SchemaFile
from bridge.sources.history.table import Table
from bridge.sources.registry import DatasetEntry, Keeping

log = logging.getLogger("bridge.history")

FOLDER = "history"
THREADS = 8
# How far the wall clock may drift from the one that only goes forward, and how long it must not have: longer once it
# was seen to jump, as it may jump back.
DRIFT_S = 60.0
STEADY_S = 600.0
JUMPED_S = 3 * 3_600.0


class Steadiness:
    """Whether the machine's clock has gone on evenly: nothing is dropped for its age while it jumps."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wait_s = STEADY_S
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
            self._wait_s = JUMPED_S
            return False
        return passed_s >= self._wait_s


class Store:
    """The histories below one folder.

    Errors: StoreHeld from `open` when another process writes there.
    """

    def __init__(self, data_dir: Path, clock: Clock) -> None:
        self.data_dir = data_dir
        self._clock = clock
        self._hold: Hold | None = None
        self._taking: asyncio.Task[Hold] | None = None
        self._users = 0
        self._histories: dict[str, History] = {}
        self._threads = ThreadPoolExecutor(THREADS, "history")
        self._steady = Steadiness(clock)
        self._lock = asyncio.Lock()

    async def open(self, entries: Iterable[DatasetEntry]) -> dict[str, History]:
        """The histories of those datasets that keep one, found again or begun; each `open` is answered by a `close`.

        Errors: StoreHeld, StoreError. A history that cannot be read is left out of what is given, and logged.
        """
        named = {entry.name: entry.history for entry in entries}
        keeping = {name: kept for name, kept in named.items() if kept is not None}
        async with self._lock:
            if not lake.available():
                raise StoreError(lake.MISSING)
            await self._take()
            self._users += 1
            try:
                found = {name: await self._one(name, kept) for name, kept in keeping.items()}
                await asyncio.to_thread(self._tell_orphans, set(named))
            except BaseException:
                await self._leave()
                raise
        return found

    async def _take(self) -> None:
        if self._hold is not None:
            return
        if self._taking is None:
            self._taking = asyncio.create_task(asyncio.to_thread(Hold.take, self.data_dir))
        taking = self._taking
        try:
            # Who is cancelled here leaves a thread that takes it all the same: for the next who comes.
            self._hold = await asyncio.shield(taking)
        finally:
            if taking.done():
                self._taking = None

    async def _one(self, name: str, keeping: Keeping) -> History:
        history = self._histories.get(name)
        # One that could not be opened is tried again: what was wrong with it may have been put right.
        if history is not None and history.closed is None:
            history.table.keeping = keeping
            return history
        if history is not None:
            history.table.close()
        folder = self.data_dir / FOLDER / name
        table = Table(name, folder, keeping, SchemaFile(folder))
        history = History(table, self._clock, steady=self._steady, threads=self._threads)
        await history.open()
        self._histories[name] = history
        return history

    async def close(self) -> None:
        """Lets go of the folder when all who opened it have closed it."""
        async with self._lock:
            await self._leave()

    async def _leave(self) -> None:
        self._users -= 1
        if self._users > 0:
            return
        # Also where this is cancelled half-way: what is closed must not be given to the next who opens.
        histories, self._histories = self._histories, {}
        for history in histories.values():
            await asyncio.to_thread(history.table.close)
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
    try:
        return sorted(name for name in os.listdir(folder) if name not in known and (folder / name / NAME).exists())
    except OSError:
        return []
