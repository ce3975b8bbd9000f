"""Lineage events reach their file or endpoint; one that is full, slow or dead holds nobody up and is told once."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from tests.edge.conftest import Serve

from bridge.edge.meters import Meters
from bridge.edge.openlineage import MAX_BYTES, MAX_EVENTS, FileSink, HttpSink, Outbox, Sink
from bridge.edge.upstream import UpstreamPool
from bridge.errors import BridgeError, NeedsAuth, StoreError, UpstreamRefused, UpstreamUnavailable

CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"
FULL = StoreError("no space left")


class Script:
    """A sink that plays one step for each attempt: an error is raised, an event waited for, None takes the events."""

    name = "script"

    def __init__(self, *steps: BridgeError | Exception | asyncio.Event | None, events_at_once: int = 1) -> None:
        self.steps = list(steps)
        self.events_at_once = events_at_once
        self.taken: list[bytes] = []
        self.attempts = 0
        self.tried = asyncio.Event()

    async def send(self, events: Sequence[bytes]) -> None:
        self.attempts += 1
        self.tried.set()
        step = self.steps.pop(0) if self.steps else None
        if isinstance(step, Exception):
            raise step
        if step is not None:
            await step.wait()
        self.taken.extend(events)


class Rig:
    """An outbox and what it counts."""

    def __init__(self, sink: Sink, *, first_wait_s: float = 0.001, farewell_s: float = 30.0) -> None:
        self.sink = sink
        self.meters = Meters()
        self.outbox = Outbox(sink, self.meters, jitter=lambda: 0.0, first_wait_s=first_wait_s, farewell_s=farewell_s)

    def counted(self, result: str) -> float:
        return self.meters.registry.get_sample_value("bridge_lineage_events_total", {"result": result}) or 0.0

    @property
    def counts(self) -> tuple[float, float, float]:
        """Sent, dropped and failed."""
        return self.counted("sent"), self.counted("dropped"), self.counted("failed")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.outbox.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(done: Callable[[], bool]) -> None:
    """Waits for what other tasks and threads bring about."""
    async with asyncio.timeout(30):
        while not done():
            await asyncio.sleep(0.001)


def words(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged, a line per record."""
    return [f"{record.levelname} {record.message}" for record in caplog.records if record.name == "bridge.lineage"]


# Order and bounds


async def test_events_are_sent_in_order_and_counted() -> None:
    sink = Script(events_at_once=2)
    rig = Rig(sink)
    for number in range(5):
        rig.outbox.put(b"%d" % number)
    async with rig.running():
        await until(lambda: len(sink.taken) == 5)
        rig.outbox.put(b"5")
        await until(lambda: len(sink.taken) == 6)
    assert sink.taken == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert rig.counts == (6, 0, 0)


async def test_when_too_many_wait_the_oldest_give_way_and_are_counted() -> None:
    sink = Script()
    rig = Rig(sink)
    for number in range(MAX_EVENTS + 3):
        rig.outbox.put(b"%d" % number)
    assert rig.counts == (0, 3, 0)
    async with rig.running():
        await until(lambda: len(sink.taken) == MAX_EVENTS)
    assert sink.taken[0] == b"3"


async def test_events_of_wide_tables_are_bounded_by_their_bytes_too() -> None:
    rig = Rig(Script())
    for _ in range(5):
        rig.outbox.put(b"x" * (MAX_BYTES // 4))
    assert rig.counts == (0, 1, 0)
    rig.outbox.put(b"x" * (MAX_BYTES + 1))
    assert rig.counts == (0, 6, 0)


async def test_an_event_that_could_not_be_written_counts_as_failed() -> None:
    rig = Rig(Script())
    rig.outbox.lost()
    assert rig.counts == (0, 0, 1)


# Outages


async def test_an_event_is_kept_over_an_outage_which_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sink = Script(FULL, FULL, UpstreamUnavailable("GET http://far: cannot connect"), None)
    rig = Rig(sink)
    rig.outbox.put(b"a")
    async with rig.running():
        await until(lambda: sink.taken == [b"a"])
        await until(lambda: rig.counts == (1, 0, 0))
        sink.steps = [FULL]
        rig.outbox.put(b"b")
        await until(lambda: sink.taken == [b"a", b"b"])
    told = ["WARNING lineage events cannot be sent", "INFO lineage events are sent again"]
    assert words(caplog) == told * 2


@pytest.mark.parametrize("error", [NeedsAuth("POST http://far: the server answered 401"), ValueError("a bug")])
async def test_what_is_refused_for_good_is_not_sent_again_and_the_next_goes_on(error: Exception) -> None:
    sink = Script(error)
    rig = Rig(sink)
    rig.outbox.put(b"a")
    rig.outbox.put(b"b")
    async with rig.running():
        await until(lambda: sink.taken == [b"b"])
        await until(lambda: rig.counts == (1, 0, 1))
    assert sink.attempts == 2


async def test_an_endpoint_that_asks_to_be_left_alone_is() -> None:
    sink = Script(UpstreamRefused("busy", far_status=503, retry_after_s=3_600))
    rig = Rig(sink, first_wait_s=0.0)
    rig.outbox.put(b"a")
    async with rig.running():
        await sink.tried.wait()
        for _ in range(20):
            await asyncio.sleep(0)
        assert sink.attempts == 1
    # The end of the service is the last attempt.
    assert (sink.attempts, sink.taken) == (2, [b"a"])


# The end of the service


async def test_what_waits_at_the_end_is_still_sent_and_what_is_under_way_only_once() -> None:
    gate = asyncio.Event()
    sink = Script(gate)
    rig = Rig(sink)
    for name in (b"a", b"b", b"c"):
        rig.outbox.put(name)
    async with rig.running():
        await sink.tried.wait()
        asyncio.get_running_loop().call_soon(gate.set)
    assert (sink.taken, sink.attempts) == ([b"a", b"b", b"c"], 3)
    assert rig.counts == (3, 0, 0)


async def test_a_dead_endpoint_does_not_hold_up_the_end_and_what_is_lost_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink = Script(*(asyncio.Event() for _ in range(3)))
    rig = Rig(sink, farewell_s=0.01)
    for name in (b"a", b"b", b"c"):
        rig.outbox.put(name)
    async with asyncio.timeout(30), rig.running():
        await sink.tried.wait()
    assert rig.counts == (0, 3, 0)
    assert words(caplog) == ["WARNING lineage events are left unsent"]


async def test_an_endpoint_that_is_down_at_the_end_is_tried_once_more_for_each() -> None:
    sink = Script(*([FULL] * 5))
    rig = Rig(sink, first_wait_s=1_000)
    rig.outbox.put(b"a")
    rig.outbox.put(b"b")
    async with asyncio.timeout(30), rig.running():
        await sink.tried.wait()
    assert (sink.attempts, rig.counts) == (3, (0, 0, 2))


# The file


async def test_a_file_has_one_event_per_line(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "er" / "lineage.ndjson"
    sink = FileSink(file)
    await sink.send([b'{"a":1}', b'{"b":2}'])
    await sink.send([b'{"c":3}'])
    assert file.read_bytes() == b'{"a":1}\n{"b":2}\n{"c":3}\n'


async def test_a_full_file_turns_over_and_the_one_before_stays(tmp_path: Path) -> None:
    file = tmp_path / "lineage.ndjson"
    sink = FileSink(file, max_bytes=100)
    for number in range(25):
        await sink.send([b"%09d" % number])
    lines = (tmp_path / "lineage.ndjson.1").read_bytes().split() + file.read_bytes().split()
    assert lines == [b"%09d" % number for number in range(10, 25)]
    assert file.stat().st_size <= 100


async def test_a_line_that_a_dead_process_left_unfinished_spoils_no_other(tmp_path: Path) -> None:
    file = tmp_path / "lineage.ndjson"
    file.write_bytes(b'{"a":1}\n{"b":')
    await FileSink(file).send([b'{"c":3}'])
    assert file.read_bytes().split(b"\n") == [b'{"a":1}', b'{"b":', b'{"c":3}', b""]


@pytest.mark.parametrize("room_bytes", [0, 5, 13])
async def test_a_full_disk_leaves_whole_lines_only(tmp_path: Path, room_bytes: int) -> None:
    """What did not fit is not lost either: it is written when there is room."""
    file = tmp_path / "lineage.ndjson"
    file.write_bytes(b'{"a":1}\n')
    sink = FileSink(file)
    with file_size_limit(file.stat().st_size + room_bytes):
        with pytest.raises(StoreError, match=f"{file} cannot be written: File too large"):
            await sink.send([b'{"b":2}', b'{"c":3}'])
        assert file.read_bytes() == b'{"a":1}\n'
    await sink.send([b'{"b":2}', b'{"c":3}'])
    assert file.read_bytes() == b'{"a":1}\n{"b":2}\n{"c":3}\n'


@contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes: a write stops in its middle, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


async def test_what_is_no_file_is_refused_and_nobody_waits_for_it(tmp_path: Path) -> None:
    """A pipe without a reader would hold its thread for ever, and with it the end of the service."""
    pipe, folder = tmp_path / "pipe", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    for path, why in ((pipe, "it is no regular file"), (folder, "Is a directory")):
        async with asyncio.timeout(30):
            with pytest.raises(StoreError, match=why):
                await FileSink(path).send([b"{}"])


async def test_a_folder_that_cannot_be_made_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/lineage\.ndjson cannot be written: "):
        await FileSink(tmp_path / "file" / "lineage.ndjson").send([b"{}"])


async def test_a_slow_disk_does_not_hold_up_the_loop(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    await FileSink(tmp_path / "lineage.ndjson").send([b"{}"])
    assert set(threading.enumerate()) - before


async def test_events_outlive_a_place_that_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "lineage.ndjson"
    file.mkdir()
    rig = Rig(FileSink(file))
    rig.outbox.put(b"{}")
    async with rig.running():
        await until(lambda: bool(words(caplog)))
        file.rmdir()
        await until(lambda: rig.counts == (1, 0, 0))
    assert file.read_bytes() == b"{}\n"


# The endpoint


async def test_an_endpoint_is_given_each_event_with_its_credential(far: Serve, pool: UpstreamPool) -> None:
    server = far(CREATED)
    sink = HttpSink(pool.upstream(f"{server.url}/api/v1/lineage"), token="s3cr3t")
    await sink.send([b'{"a":1}', b'{"b":2}'])
    assert server.lines == ["POST /api/v1/lineage HTTP/1.1"] * 2
    assert server.header("Content-Type") == "application/json"
    assert server.header("Authorization") == "Bearer s3cr3t"
    assert [request.partition(b"\r\n\r\n")[2] for request in server.requests] == [b'{"a":1}', b'{"b":2}']
    assert sink.name == f"{server.url}/api/v1/lineage"


async def test_without_a_token_no_credential_is_sent(far: Serve, pool: UpstreamPool) -> None:
    server = far(CREATED)
    await HttpSink(pool.upstream(server.url)).send([b"{}"])
    assert server.header("Authorization") is None


async def test_an_endpoint_that_fails_is_asked_again_until_it_takes_the_event(far: Serve, pool: UpstreamPool) -> None:
    answers = [b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", CREATED]

    async def answer(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answers.pop(0))

    server = far(answer)
    rig = Rig(HttpSink(pool.upstream(server.url)))
    rig.outbox.put(b"{}")
    async with rig.running():
        await until(lambda: rig.counts == (1, 0, 0))
    assert len(server.requests) == 2


async def test_the_credential_and_what_the_endpoint_echoes_of_it_are_not_logged(
    far: Serve, pool: UpstreamPool, caplog: pytest.LogCaptureFixture
) -> None:
    body = b'{"said": "Bearer s3cr3t is wrong"}'
    head = b"HTTP/1.1 401 No\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    server = far(head + body)
    rig = Rig(HttpSink(pool.upstream(server.url), token="s3cr3t"))
    rig.outbox.put(b"{}")
    async with rig.running():
        await until(lambda: rig.counts == (0, 0, 1))
    (record,) = (record for record in caplog.records if record.name == "bridge.lineage")
    assert "401" in record.__dict__["error"]
    assert "s3cr3t" not in str(record.__dict__)
