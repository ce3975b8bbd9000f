"""What a history tells of itself: what it has, what it could not do, and when it can again."""

from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from past_rig import KEEP_S, Kept, keeping, kept_dataset

from bridge.errors import StoreError
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.sources.history.history import MAX_PAUSE_S, SWEEP_S, UPKEEP_S, HistoryStatus
from bridge.sources.registry import Keeping
from support import at, frame_of

FLUSH_S = Keeping(1.0, 1.0).flush_s


async def test_a_history_tells_what_it_has(tmp_path: Path) -> None:
    async with keeping(tmp_path) as rig:
        assert rig.history().status() == HistoryStatus()
        assert (rig.history().schema, rig.history().schema_version) == (None, 1)
        await rig.sample(frame_of())
        rig.flush()
        await rig.sample([(9, 1.0, "svm")])
        status = rig.history().status()
        assert (status.rows, status.pending_rows, status.files, status.version) == (4, 1, 1, 1)
        assert (status.last_at, status.error) == (at(120), None)
        assert status.size_bytes > 0
        whole = rig.keeper().status()
        assert (whole.history_rows, whole.history_pending_rows, whole.history_error) == (4, 1, None)
        assert whole.history_last == at(120).isoformat()


async def later(rig: Kept, seconds: float) -> None:
    rig.clock.advance(seconds)
    await rig.history().tend()


async def test_samples_are_moved_on_once_a_minute_at_most(tmp_path: Path) -> None:
    async with keeping(tmp_path) as rig:
        await rig.sample(frame_of())
        await rig.history().tend()
        assert rig.history().status().files == 1
        await rig.sample([(9, 1.0, "svm")])
        rig.clock.passed_s -= 1
        await rig.history().tend()
        assert rig.history().status().files == 1
        await later(rig, 1)
        assert (rig.history().status().files, rig.history().status().pending_rows) == (2, 0)


async def test_a_flush_that_fails_is_told_until_one_does_not_and_tried_ever_more_rarely(tmp_path: Path) -> None:
    """A sample that is taken in between does not hide it."""
    async with keeping(tmp_path) as rig:
        await rig.sample(frame_of())
        place = tmp_path / "history" / "lab.runs" / "g1"
        place.write_text("in the place of the table's folder")
        tries, waited_s = [], 0.0
        while waited_s < 8 * FLUSH_S:
            try:
                await later(rig, 10)
            except StoreError:
                tries.append(waited_s)
            waited_s += 10
        assert [b - a for a, b in pairwise(tries)] == [FLUSH_S, 2 * FLUSH_S, 4 * FLUSH_S]
        await rig.sample([(9, 1.0, "svm")])
        error = rig.history().status().error
        assert error is not None
        assert "lab.runs" in error
        assert rig.history().status().remedy
        place.unlink()
        await later(rig, MAX_PAUSE_S)
        assert rig.history().status().error is None
        assert (rig.history().status().rows, rig.history().status().pending_rows) == (4, 0)


async def test_a_history_that_cannot_be_opened_says_why_and_takes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "history" / "lab.runs"
    folder.mkdir(parents=True)
    (folder / "schema.json").write_text('{"format": 99}')
    async with keeping(tmp_path) as rig:
        closed = rig.history().closed
        assert closed is not None
        assert rig.history().status().error == closed.message
        with pytest.raises(StoreError):
            await rig.sample(frame_of())
        await later(rig, UPKEEP_S)
    assert [path.name for path in folder.iterdir()] == ["schema.json"]


async def test_old_rows_are_dropped_and_files_deleted_while_samples_go_on(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset(keeping=Keeping(2 * 86_400.0, 60.0))) as rig:
        for day in range(4):
            await rig.sample([(rig.clock.passed_s, float(day), "svm")])
            rig.compact()
            await later(rig, 86_400)
            await later(rig, UPKEEP_S)
        held = {file.file.path for file in rig.history().view.files}
        assert len(held) < 4
        folder = tmp_path / "history" / "lab.runs" / "g1"
        assert len(list(folder.glob("*.parquet"))) >= len(held)
        await later(rig, SWEEP_S)
        assert {path.name for path in folder.glob("*.parquet")} >= held


async def test_nothing_is_asked_of_a_past_that_is_not_there(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset(keeping=Keeping(KEEP_S, 60.0))) as rig:
        frame = await rig.desk.rows(Query("lab.runs"))
        assert frame.rows == 3
        assert "history" not in frame.meta.custom["lineage"]


async def test_how_columns_are_stored_is_not_asked_on_the_loop(tmp_path: Path) -> None:
    """Of thousands of them that takes a while."""
    asked_on: list[threading.Thread] = []

    class Watched(Frame):
        @property
        def data(self) -> pl.DataFrame:  # type: ignore[override]
            asked_on.append(threading.current_thread())
            return frame_of().data

    async with keeping(tmp_path) as rig:
        await rig.sample(frame_of())
        watched = Watched.__new__(Watched)
        object.__setattr__(watched, "schema", frame_of().schema)
        await rig.history().admit(watched)
    assert asked_on
    assert threading.main_thread() not in asked_on
