"""One process keeps all histories of a folder, however often its settings are read, and trusts no jumping clock."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from tables import DAY_S, KEEP, rows_of, run, times
from tests.edge.disks import common_user, open_folder
from tests.support import ManualClock, at, dataset, make_desk, settle

from bridge.edge.hold import Hold
from bridge.edge.lake import MISSING
from bridge.errors import SchemaChanged, StoreError, StoreHeld
from bridge.model.schema import Column, ColumnType, Role
from bridge.sources.history import upkeep
from bridge.sources.history.history import SWEEP_S, UPKEEP_S, History
from bridge.sources.history.store import DRIFT_S, JUMPED_S, STEADY_S, Steadiness, Store, orphans
from bridge.sources.registry import DatasetEntry, Keeping

# Long enough that only a hang reaches it.
HANG_S = 10.0
HOLDER = """
import sys
from pathlib import Path
from bridge.edge.hold import Hold
hold = Hold.take(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def entries(*names: str, keeping: Keeping | None = KEEP) -> list[DatasetEntry]:
    """Datasets of the source `lab` with a history."""
    made = make_desk(*(dataset(name, history=keeping) for name in names or ("runs",)))
    return list(made.registry.datasets.values())


@contextmanager
def elsewhere(folder: Path) -> Iterator[int]:
    """Another process that works in the folder; its number."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.kill()


# ---- one writer


@pytest.mark.slow
async def test_a_second_process_is_refused_and_told_the_first(tmp_path: Path) -> None:
    """And may begin when that has ended."""
    store = Store(tmp_path, ManualClock())
    with elsewhere(tmp_path) as pid:
        with pytest.raises(StoreHeld, match=f"process {pid}") as caught:
            await store.open(entries())
        assert caught.value.pid == pid
        assert not (tmp_path / "history").exists()
    assert list(await store.open(entries())) == ["lab.runs"]
    await store.close()


async def test_settings_read_anew_share_what_is_open(tmp_path: Path) -> None:
    """The same history with what is kept now; the last who closes lets go of the folder."""
    store = Store(tmp_path, ManualClock())
    first = (await store.open(entries()))["lab.runs"]
    await first.record(run(0))
    found = await store.open(entries("runs", "more", keeping=replace(KEEP, keep_s=9.0)))
    assert found["lab.runs"] is first
    assert first.table.keeping.keep_s == 9.0
    assert set(found) == {"lab.runs", "lab.more"}
    await store.close()
    assert Hold.holder(tmp_path) == os.getpid()
    assert await first.record(run(1)) == 1
    await store.close()
    assert Hold.holder(tmp_path) is None
    with pytest.raises(StoreError, match="is closed"):
        await first.record(run(2))
    again = (await store.open(entries()))["lab.runs"]
    assert again is not first
    assert times(rows_of(again.table)) == [0, 1]
    await store.close()


async def test_datasets_without_a_history_have_none(tmp_path: Path) -> None:
    """Their folder is not made."""
    store = Store(tmp_path, ManualClock())
    assert await store.open(entries(keeping=None)) == {}
    await store.close()
    assert not (tmp_path / "history").exists()


@pytest.mark.parametrize("turns", [1, 2, 3, 4, 6, 9])
async def test_an_opening_that_is_cancelled_holds_nothing_for_good(tmp_path: Path, turns: int) -> None:
    """Wherever it was: the next one finds the folder free, and gives it back."""
    store = Store(tmp_path, ManualClock())
    opening = asyncio.create_task(store.open(entries("runs", "more")))
    await settle(turns)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert set(await store.open(entries("runs", "more"))) == {"lab.runs", "lab.more"}
    await store.close()
    assert Hold.holder(tmp_path) is None


async def test_an_opening_that_is_cancelled_while_a_history_is_read_lets_go_of_the_folder(tmp_path: Path) -> None:
    """Such as on a disk that hangs."""
    folder = tmp_path / "history" / "lab.runs"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "schema.json")
    store = Store(tmp_path, ManualClock())
    opening = asyncio.create_task(store.open(entries()))
    writing = await asyncio.to_thread(os.open, folder / "schema.json", os.O_WRONLY)
    assert Hold.holder(tmp_path) == os.getpid()
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    os.close(writing)
    assert Hold.holder(tmp_path) is None


async def read_by_somebody(path: Path) -> int:
    """The other end of a pipe, once somebody reads it."""
    while True:
        with suppress(OSError):
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        await settle()


async def test_a_disk_that_hangs_takes_no_thread_from_what_panels_need(tmp_path: Path) -> None:
    """It holds up the histories, and nobody else."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    store = Store(tmp_path, ManualClock())
    history = (await store.open(entries()))["lab.runs"]
    await history.record(run(0))
    path = tmp_path / "history" / "lab.runs" / "schema.json"
    content = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    recording = asyncio.create_task(history.record(run(1)))
    writing = await read_by_somebody(path)
    try:
        async with asyncio.timeout(HANG_S):
            assert await asyncio.to_thread(int) == 0
    finally:
        os.write(writing, content)
        path.unlink()
        path.write_bytes(content)
        os.close(writing)
    assert await recording == 1
    await store.close()


async def recorded_for_ever(history: History) -> None:
    while True:
        await history.record(run(0))


async def test_after_a_closing_that_is_cancelled_histories_are_opened_anew(tmp_path: Path) -> None:
    """Such as while a disk hangs: what was closed already takes no samples any more."""
    store = Store(tmp_path, ManualClock())
    names = ("first", "runs")
    found = await store.open(entries(*names))
    await found["lab.runs"].record(run(0))
    path = tmp_path / "history" / "lab.runs" / "schema.json"
    content = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    recording = asyncio.create_task(found["lab.runs"].record(run(1)))
    writing = await asyncio.to_thread(os.open, path, os.O_WRONLY)
    closing = asyncio.create_task(store.close())
    # The first of them lets go, the other is held by the thread that records.
    with pytest.raises(StoreError, match="is closed"):
        await recorded_for_ever(found["lab.first"])
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    path.unlink()
    path.write_bytes(content)
    os.write(writing, content)
    os.close(writing)
    await recording
    again = await store.open(entries(*names))
    assert [await again[f"lab.{name}"].record(run(2)) for name in names] == [1, 1]
    await store.close()
    assert Hold.holder(tmp_path) is None


async def test_a_machine_without_the_package_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is held."""
    monkeypatch.setitem(sys.modules, "deltalake", None)
    store = Store(tmp_path, ManualClock())
    with pytest.raises(StoreError) as caught:
        await store.open(entries())
    assert caught.value.message == MISSING
    assert Hold.holder(tmp_path) is None


async def test_a_read_only_folder_is_told() -> None:
    """With what helps."""
    with open_folder() as folder:
        folder.chmod(0o555)
        with common_user(), pytest.raises(StoreError, match="cannot be used: there is no permission"):
            await Store(folder, ManualClock()).open(entries())


# ---- what cannot be read


async def test_a_history_of_a_newer_version_stops_only_itself_and_is_tried_again(tmp_path: Path) -> None:
    """The others are recorded; once the file is put right, the next reading of the settings finds it."""
    store = Store(tmp_path, ManualClock())
    found = await store.open(entries("runs", "more"))
    await found["lab.runs"].record(run(0))
    await store.close()
    path = tmp_path / "history" / "lab.runs" / "schema.json"
    kept = path.read_text()
    path.write_text(json.dumps({**json.loads(kept), "format": 99}))
    found = await store.open(entries("runs", "more"))
    closed = found["lab.runs"].closed
    assert closed is not None
    assert closed.code == "store_newer"
    with pytest.raises(StoreError, match="has format 99, this bridge reads 1"):
        await found["lab.runs"].record(run(1))
    assert await found["lab.more"].record(run(1)) == 1
    assert json.loads(path.read_text())["format"] == 99
    path.write_text(kept)
    again = await store.open(entries("runs", "more"))
    assert again["lab.runs"].closed is None
    assert again["lab.more"] is found["lab.more"]
    assert await again["lab.runs"].record(run(0, 1)) == 1
    await store.close()
    await store.close()


async def test_a_changed_schema_stops_a_dataset_until_it_is_migrated(tmp_path: Path) -> None:
    """Nothing is written meanwhile."""
    store = Store(tmp_path, ManualClock())
    history = (await store.open(entries()))["lab.runs"]
    frame = run(0)
    await history.admit(frame)
    await history.record(frame)
    await history.admit(frame)
    text = (Column("time", ColumnType.TIME, role=Role.TIME), Column("value", ColumnType.STRING))
    other = replace(frame, schema=replace(frame.schema, columns=text))
    for act in (history.admit, history.record):
        with pytest.raises(SchemaChanged):
            await act(other)
    assert history.view.seq == 0
    await store.close()


async def test_the_history_of_a_dataset_that_was_renamed_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the command that takes it over."""
    store = Store(tmp_path, ManualClock())
    await (await store.open(entries("runs")))["lab.runs"].record(run(0))
    await store.close()
    assert orphans(tmp_path, {"lab.runs"}) == []
    assert orphans(tmp_path / "none", set()) == orphans(Path("/dev/null"), set()) == []
    with caplog.at_level(logging.WARNING, "bridge.history"):
        await store.open(entries("jobs"))
    assert "bridge sources migrate NEW --from OLD" in caplog.text
    assert orphans(tmp_path, {"lab.jobs"}) == ["lab.runs"]
    await store.close()


# ---- clocks


class JumpingClock(ManualClock):
    """A clock that shows another time than has passed."""

    ahead_s = 0.0

    def now(self) -> datetime:
        return at(self.passed_s + self.ahead_s)


def test_a_clock_is_trusted_after_it_has_gone_on_evenly() -> None:
    """For some minutes; for hours once it was seen to jump, and again after it jumped back."""
    clock = JumpingClock()
    steady = Steadiness(clock)
    assert not steady()
    clock.advance(STEADY_S - 1)
    assert not steady()
    clock.advance(1)
    clock.ahead_s = DRIFT_S - 1
    assert steady()
    for ahead_s in (9 * 365 * DAY_S, 0.0, -9 * 365 * DAY_S):
        clock.ahead_s = ahead_s
        assert not steady()
        clock.advance(JUMPED_S - 1)
        assert not steady()
        clock.advance(1)
        assert steady()


@pytest.mark.parametrize("years", [9, -9])
async def test_nothing_is_dropped_for_its_age_while_the_clock_is_years_wrong(tmp_path: Path, years: int) -> None:
    """Nor after it was put right; samples keep their order, and what is too old later goes."""
    clock = JumpingClock()
    store = Store(tmp_path, clock)
    history = (await store.open(entries()))["lab.runs"]
    table = history.table
    for day in range(3):
        clock.passed_s = day * DAY_S
        await history.record(run(day * DAY_S))
        table.flush()
    clock.ahead_s = years * 365 * DAY_S
    for number in range(1, 12):
        clock.advance(UPKEEP_S)
        assert await history.record(run(clock.passed_s)) == 1
        await history.tend()
        assert len(rows_of(table)) == 3 + number
    clock.ahead_s = 0
    for number in range(12, 24):
        clock.advance(UPKEEP_S)
        assert await history.record(run(clock.passed_s)) == 1
        await history.tend()
        assert len(rows_of(table)) == 3 + number
    assert sorted(history.view.seq for _ in "x") == [25]
    found = times(rows_of(table))
    for _ in range(40):
        clock.advance(DAY_S)
        await history.tend()
    assert found[0] == 0
    assert times(rows_of(table))[0] >= 2 * DAY_S
    await store.close()


async def test_samples_are_moved_on_merged_and_swept_in_time(tmp_path: Path) -> None:
    """A flush a minute at most; bytes are bounded also while the clock is not trusted yet."""
    clock = ManualClock()
    store = Store(tmp_path, clock)
    history = (await store.open(entries(keeping=replace(KEEP, max_bytes=1))))["lab.runs"]
    moved = []
    for number in range(130):
        clock.advance(10)
        await history.record(run(clock.passed_s))
        await history.tend()
        moved.append(len(history.view.files))
        assert number or not history.view.files
    assert max(moved) <= 11
    assert len(history.view.files) < 15
    assert moved[6] == 1
    assert history.status().error is None
    clock.advance(SWEEP_S)
    await history.tend()
    await store.close()


async def test_a_merge_that_fails_is_told_and_recording_goes_on(tmp_path: Path) -> None:
    """Until merging works again."""
    clock = ManualClock()
    store = Store(tmp_path, clock)
    history = (await store.open(entries()))["lab.runs"]
    for number in range(upkeep.LOOSE_FILES):
        await history.record(run(number))
        history.table.flush()
    history.view.files[0].path.unlink()
    clock.advance(100)
    await history.record(run(99))
    with pytest.raises(StoreError, match="could not be merged"):
        await history.tend()
    assert not history.view.chunks
    assert "could not be merged" in (history.status().error or "")
    clock.advance(10 * KEEP.flush_s)
    await history.record(run(100))
    await history.tend()
    assert history.status().error is None
    await store.close()
