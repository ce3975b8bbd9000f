"""Where lineage events go: a file that turns over, or an HTTP endpoint; what is slow or dead holds nobody up."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from bridge.edge.meters import Meters
from bridge.edge.upstream import Upstream
from bridge.errors import BridgeError, Retry, StoreError

log = logging.getLogger("bridge.lineage")

MAX_EVENTS = 1_000
MAX_BYTES = 16 * 1024 * 1024
MAX_FILE_BYTES = 64 * 1024 * 1024
FIRST_WAIT_S = 1.0
MAX_WAIT_S = 60.0
FAREWELL_S = 2.0
DEADLINE_S = 10.0
MAX_ANSWER_BYTES = 64 * 1024
# Without waiting: a pipe that nobody reads would hold its thread, and with it the end of the service.
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK


class Sink(Protocol):
    """Takes events away."""

    name: str
    events_at_once: int

    async def send(self, events: Sequence[bytes]) -> None:
        """All of the events, or an error and none of them.

        Errors: BridgeError.
        """
        ...


class FileSink:
    """One event per line, in a file that turns over to `.1` before it grows beyond `max_bytes`."""

    events_at_once = 100

    def __init__(self, path: Path, *, max_bytes: int = MAX_FILE_BYTES) -> None:
        self.name = str(path)
        self._path = path
        self._max_bytes = max_bytes

    async def send(self, events: Sequence[bytes]) -> None:
        """Appends the events on a thread.

        Errors: StoreError; what was written of them is taken back.
        """
        data = b"".join(event + b"\n" for event in events)
        try:
            await asyncio.to_thread(self._append, data)
        except OSError as error:
            text = f"{self._path} cannot be written: {error.strerror or error}"
            raise StoreError(text, remedy="make room or the folder writable; it is tried again by itself") from error

    def _append(self, data: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            if self._path.stat().st_size + len(data) > self._max_bytes:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        file = os.open(self._path, _FLAGS, 0o640)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(0, "it is no regular file")
            _add(file, found.st_size, data)
        finally:
            os.close(file)


def _add(file: int, end: int, data: bytes) -> None:
    """Adds whole lines at the end; a piece of one, left there by a process that died, stays a line of its own."""
    whole = end == 0 or os.pread(file, 1, end - 1) == b"\n"
    view = memoryview(data if whole else b"\n" + data)
    try:
        while view:
            view = view[os.write(file, view) :]
    except OSError:
        # A disk that is full in the middle of a line leaves a piece that no reader can use.
        with suppress(OSError):
            os.ftruncate(file, end)
        raise


class HttpSink:
    """An endpoint that takes one event per POST, as OpenLineage's HTTP API does."""

    events_at_once = 1

    def __init__(self, upstream: Upstream, token: str | None = None) -> None:
        self.name = f"{upstream.base.origin}{upstream.base.path}"
        self._upstream = upstream
        self._credentials = {"authorization": f"Bearer {token}"} if token else None

    async def send(self, events: Sequence[bytes]) -> None:
        """Posts each event.

        Errors: SourceError.
        """
        for event in events:
            await self._upstream.request(
                "POST",
                "",
                headers={"content-type": "application/json"},
                credentials=self._credentials,
                body=event,
                deadline_s=DEADLINE_S,
                max_bytes=MAX_ANSWER_BYTES,
            )


class Outbox:
    """Events on their way to one sink: bounded, the oldest give way, and an outage is told once.

    Units: `first_wait_s` is before the second attempt, and doubles up to a minute; `farewell_s` is at the end of the
           service, for what is left.
    """

    def __init__(
        self,
        sink: Sink,
        meters: Meters,
        *,
        jitter: Callable[[], float],
        first_wait_s: float = FIRST_WAIT_S,
        farewell_s: float = FAREWELL_S,
    ) -> None:
        self._sink = sink
        self._counter = meters.lineage_events
        self._jitter = jitter
        self._first_wait_s = first_wait_s
        self._farewell_s = farewell_s
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._filled = asyncio.Event()
        self._ending = asyncio.Event()
        self._outage = False

    def put(self, event: bytes) -> None:
        """Takes an event; never waits. Where too many wait already, the oldest is dropped."""
        self._waiting.append(event)
        self._waiting_bytes += len(event)
        while len(self._waiting) > MAX_EVENTS or self._waiting_bytes > MAX_BYTES:
            self._count("dropped", len(self._take(1)))
        if self._waiting:
            self._filled.set()

    def lost(self) -> None:
        """Counts an event that could not even be written."""
        self._count("failed", 1)

    async def run(self) -> None:
        """Sends until it is cancelled, and then for a moment what is left."""
        delivery: asyncio.Task[None] | None = None
        try:
            while True:
                await self._filled.wait()
                delivery = asyncio.create_task(self._deliver(self._take(self._sink.events_at_once)))
                # An event that is being sent when the service ends is sent once, not half and then again.
                await asyncio.shield(delivery)
        finally:
            await self._farewell(delivery)

    async def _farewell(self, delivery: asyncio.Task[None] | None) -> None:
        self._ending.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._farewell_s):
                if delivery is not None:
                    await delivery
                while self._waiting:
                    await self._deliver(self._take(self._sink.events_at_once))
        if self._waiting:
            log.warning("lineage events are left unsent", extra={"to": self._sink.name, "events": len(self._waiting)})
            self._count("dropped", len(self._take(len(self._waiting))))

    def _take(self, count: int) -> list[bytes]:
        taken = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
        self._waiting_bytes -= sum(map(len, taken))
        if not self._waiting:
            self._filled.clear()
        return taken

    async def _deliver(self, events: list[bytes]) -> None:
        """Sends these events, again and again where that may help."""
        failures = 0
        try:
            while (asked_s := await self._sent(events, last=self._ending.is_set())) is not None:
                wait_s = max(asked_s, self._first_wait_s * 2.0 ** min(failures, 32))
                failures += 1
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), min(wait_s, MAX_WAIT_S) * (1 + 0.1 * self._jitter()))
        except asyncio.CancelledError:
            self._count("dropped", len(events))
            raise

    async def _sent(self, events: list[bytes], *, last: bool) -> float | None:
        """None when these events need no further attempt, else the seconds that were asked for before the next."""
        try:
            await self._sink.send(events)
        except BridgeError as error:
            self._tell(error)
            if error.retry is not Retry.NEVER and not last:
                return getattr(error, "retry_after_s", None) or 0.0
            self._count("failed", len(events))
        except Exception:
            # One event that nobody foresaw must not end the telling of all others.
            log.exception("lineage events cannot be sent", extra={"to": self._sink.name})
            self._count("failed", len(events))
        else:
            if self._outage:
                log.info("lineage events are sent again", extra={"to": self._sink.name})
            self._outage = False
            self._count("sent", len(events))
        return None

    def _tell(self, error: BridgeError) -> None:
        if not self._outage:
            log.warning("lineage events cannot be sent", extra={"to": self._sink.name, "error": error.message})
        self._outage = True

    def _count(self, result: str, events: int) -> None:
        self._counter.labels(result).inc(events)
