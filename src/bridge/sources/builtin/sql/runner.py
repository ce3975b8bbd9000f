"""Threads of a source's own, which come back: what runs in them ends when nobody waits for it any more."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from bridge.errors import UpstreamTimeout, UpstreamUnavailable
from bridge.sources.builtin.sql.engine import Session

T = TypeVar("T")

MAX_THREADS = 4
FIRST_WAIT_S = 0.02
LAST_WAIT_S = 1.0
CLOSE_S = 3.0


class GivenUp(Exception):
    """Nobody waits for the work any more."""


class Handle:
    """What stops the work of one thread, wherever in the database it is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._stopped = threading.Event()
        self._ended = threading.Event()

    def hold(self, session: Session) -> None:
        """From now on a stop interrupts this session.

        Errors: GivenUp when it has come already.
        """
        with self._lock:
            self._session = session
        self.check()

    def let_go(self) -> None:
        """A session that others may use next is not interrupted any more."""
        with self._lock:
            self._session = None

    def check(self) -> None:
        """Between two steps.

        Errors: GivenUp after a stop.
        """
        if self._stopped.is_set():
            raise GivenUp

    @property
    def is_stopped(self) -> bool:
        """Whether nobody waits any more."""
        return self._stopped.is_set()

    def ended(self) -> None:
        """The thread is through."""
        self._ended.set()

    def stop(self) -> None:
        """Interrupts the session until the thread has come back."""
        if not self._stopped.is_set() and not self._ended.is_set():
            self._stopped.set()
            threading.Thread(target=self._chase, name="sql interrupt", daemon=True).start()

    def _chase(self) -> None:
        # Again and again: an interrupt that comes just before a statement begins is forgotten by the drivers.
        wait_s, attempt = FIRST_WAIT_S, 0
        while True:
            with self._lock:
                if self._session is not None:
                    # A driver may raise anything on a connection that is closing at this moment.
                    with suppress(Exception):
                        self._session.interrupt(attempt)
                    attempt += 1
            if self._ended.wait(wait_s):
                return
            wait_s = min(wait_s * 2, LAST_WAIT_S)


class Runner:
    """Runs blocking work, each in a thread of its own, a few at a time."""

    def __init__(self, name: str, max_threads: int = MAX_THREADS) -> None:
        self._name = name
        self._slots = asyncio.Semaphore(max_threads)
        self._running: dict[Handle, asyncio.Future[None]] = {}
        self._closed = False

    @property
    def count(self) -> int:
        """How many threads there are."""
        return len(self._running)

    async def run(self, work: Callable[[Handle], T], deadline_s: float, what: str = "") -> T:
        """What `work` gives for `what`; it is interrupted when the caller is cancelled, or when its time is over.

        Errors: UpstreamTimeout after `deadline_s`, the wait for a thread included; whatever `work` raises.
        """
        try:
            async with asyncio.timeout(deadline_s):
                await self._slots.acquire()
                if self._closed:
                    self._slots.release()
                    raise UpstreamUnavailable(f"`{self._name}` is closed", remedy="ask again")
                return await self._in_thread(work)
        except TimeoutError:
            raise UpstreamTimeout(
                f"`{what or self._name}`: the database did not answer within {deadline_s:g} s and was interrupted",
                remedy="narrow the time range or the filters, index what is filtered by, or raise `deadline_s`",
            ) from None

    async def _in_thread(self, work: Callable[[Handle], T]) -> T:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        landed: asyncio.Future[None] = loop.create_future()
        handle = Handle()
        self._running[handle] = landed

        def land(found: T | None, error: BaseException | None) -> None:
            # The slot belongs to the thread, not to whoever waits for it.
            del self._running[handle]
            self._slots.release()
            landed.set_result(None)
            if answer.done():
                return
            if handle.is_stopped:
                # Only a closing source stops what somebody waits for; what the driver said of it explains nothing.
                error = UpstreamUnavailable(f"`{self._name}` is closed", remedy="ask again")
            if error is None:
                answer.set_result(found)  # type: ignore[arg-type]
            else:
                answer.set_exception(error)

        def call() -> None:
            found: T | None = None
            failed: Exception | None = None
            try:
                found = work(handle)
            except Exception as error:  # noqa: BLE001
                failed = error
            except BaseException as error:  # noqa: BLE001
                # A native library that panics raises what no `except Exception` sees.
                failed = RuntimeError(f"{type(error).__name__}: {error}")
            handle.ended()
            # The loop may have been closed since.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(land, found, failed)

        # A daemon: a database that hangs beyond every interrupt must not hold up the end of the process.
        try:
            threading.Thread(target=call, name=f"sql {self._name}", daemon=True).start()
        except RuntimeError as error:
            handle.ended()
            land(
                None, UpstreamUnavailable(f"`{self._name}`: no thread could be started: {error}", remedy="ask again")
            )
        try:
            return await answer
        finally:
            handle.stop()

    async def aclose(self) -> None:
        """Interrupts what runs, and waits a moment for it to end."""
        self._closed = True
        waiting = set(self._running.values())
        for handle in self._running:
            handle.stop()
        if waiting:
            await asyncio.wait(waiting, timeout=CLOSE_S)
