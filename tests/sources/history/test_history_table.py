"""What a history took is there: after a crash, on a full disk, with a broken table, under new columns."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from tables import DAY_S, KEEP, opened, plain, rows_of, run, times, without_dimension, written
from tests.edge.disks import common_user, open_folder, run_mounted, swap
from tests.support import COLUMNS, at, frame_of

from bridge.edge.lake import Lake
from bridge.edge.segment import Segment
from bridge.errors import SchemaChanged, StoreBroken, StoreError, StoreNewer
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.sources.history import table as tables_module
from bridge.sources.history import upkeep
from bridge.sources.history.migration import plan
from bridge.sources.history.schema_file import SchemaFile
from bridge.sources.history.stored import DataFile, stored_kinds
from bridge.sources.history.table import MAX_FILES, MAX_PENDING_BYTES, Table
from bridge.sources.registry import Keeping

NOTE = Column("note", ColumnType.STRING)
STATE = (COLUMNS[2], COLUMNS[1])
ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent


def log_of(table: Table, generation: int = 1) -> Path:
    return table.folder / f"g{generation}" / "_delta_log"


def commits(table: Table, generation: int = 1) -> list[Path]:
    return sorted(log_of(table, generation).glob("*.json"))


def filled(tmp_path: Path, flushes: int = 3) -> Table:
    """A history with a data file for each of these rows, and one row in the segment."""
    table = opened(tmp_path)
    for second in range(flushes):
        table.record(run(second), at(second))
        table.flush()
    table.record(run(flushes), at(flushes))
    return table


# ---- what is there again


def test_samples_are_found_again_wherever_they_are(tmp_path: Path) -> None:
    """In the open segment, in a sealed one, in the table: once, with their numbers and the time of the last."""
    table = filled(tmp_path)
    assert table.view.pending_rows == 1
    assert table.view.rows == 4
    assert table.view.size_bytes > 0
    table.close()
    again = opened(tmp_path)
    assert times(rows_of(again)) == [0, 1, 2, 3]
    assert (again.view.seq, again.view.last_at) == (3, at(3))
    assert [len(again.view.files), len(again.view.chunks)] == [3, 1]
    again.record(run(4), at(4))
    assert again.view.seq == 4
    assert times(rows_of(again, as_of=2)) == [0, 1, 2]
    assert times(rows_of(again, as_of=at(3))) == [0, 1, 2, 3]


def test_a_sample_counts_only_what_is_new_of_it(tmp_path: Path) -> None:
    """The same frame, one that holds the same, and none cost nothing on the disk."""
    table = opened(tmp_path)
    frame = run(0, 1)
    assert table.record(frame, at(1)) == 2
    size_bytes = table.view.pending_bytes
    assert [table.record(item, at(2)) for item in (frame, run(0, 1), run(), frame)] == [0, 0, 0, 0]
    assert table.view.pending_bytes == size_bytes
    assert table.view.last_at == at(2)
    assert table.view.seq == 0


def test_nothing_is_flushed_where_nothing_was_recorded(tmp_path: Path) -> None:
    """Neither before the first sample nor without a new one."""
    table = opened(tmp_path)
    assert table.flush() == 0
    table.record(run(0), at(0))
    assert table.flush() == 1
    assert table.flush() == 0
    assert len(table.view.files) == 1


def test_a_sealed_segment_that_is_in_the_table_already_is_not_read_again(tmp_path: Path) -> None:
    """The commit has the number of its last sample: a crash behind it loses and doubles nothing."""
    table = filled(tmp_path, flushes=1)
    table._journal.seal()
    (sealed,) = table.folder.glob("sealed-*")
    kept = sealed.read_bytes()
    table.flush()
    sealed.write_bytes(kept)
    again = opened(tmp_path)
    assert times(rows_of(again)) == [0, 1]
    assert not list(table.folder.glob("*.segment"))
    assert not again.view.chunks


def test_a_segment_that_cannot_be_deleted_does_no_harm() -> None:
    """It is known to be done with, and deleted when that can be."""
    with open_folder() as folder:
        table = filled(folder, flushes=1)
        table._journal.seal()
        (sealed,) = table.folder.glob("sealed-*")
        for path in [table.folder, *table.folder.rglob("*")]:
            os.chown(path, 65_534, 65_534) if os.geteuid() == 0 else None
        with common_user():
            table.folder.chmod(0o555)
            assert table.flush() == 1
            assert sealed.exists()
            table.folder.chmod(0o755)
            assert table.flush() == 0
        assert not sealed.exists()
        assert sum(written(table).values()) == 2


def test_a_closed_history_takes_nothing_any_more(tmp_path: Path) -> None:
    """A thread that was left behind must not write where another process may be by now."""
    table = filled(tmp_path)
    files = list(table.view.files)
    table.close()
    before = sorted(path.name for path in table.folder.rglob("*"))
    with pytest.raises(StoreError, match=r"the history of `lab.runs` is closed"):
        table.record(run(9), at(9))
    assert table.flush() == 0
    assert not table.exchange(1, files, [])
    assert table.sweep(1, at(0) + timedelta(days=9_999)) == 0
    assert sorted(path.name for path in table.folder.rglob("*")) == before


# ---- disks that refuse


FULL = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(HERE)!r}]
from pathlib import Path
from tables import opened, rows_of, run, times, written
from tests.edge.disks import fill
from tests.support import at
from bridge.errors import StoreError
from bridge.sources.history import upkeep
folder = Path(sys.argv[1])

def said(act):
    try:
        print(act())
    except StoreError as error:
        print(error.sentence.replace(sys.argv[1], ""))

table = opened(folder)
"""
NO_ROOM = "the disk is full (make room there, or give bridge another `data_dir`)"


def test_a_full_disk_takes_no_sample_and_loses_none(tmp_path: Path) -> None:
    """It is said in words, and goes on when there is room; a sample that was refused comes with the next one."""
    script = f"""{FULL}
table.record(run(0), at(0))
big = run(*range(1, 2_000))
ballast = fill(folder)
said(lambda: table.record(big, at(1)))
print(times(rows_of(table)))
ballast.unlink()
said(lambda: table.record(run(*range(0, 3)), at(2)))
print(times(rows_of(table)), times(rows_of(opened(folder))))
"""
    assert run_mounted("size=1m", script, tmp_path) == [
        f"`/lab.runs/open-g1.segment` could not be appended to: {NO_ROOM}",
        "[0.0]",
        "2",
        "[0.0, 1.0, 2.0] [0.0, 1.0, 2.0]",
    ]


def test_a_disk_that_is_full_while_samples_are_moved_keeps_them_in_the_segments(tmp_path: Path) -> None:
    """While the table is begun, while a data file is written, while it is put on the list; no file is left of it."""
    script = f"""{FULL}
import os
table.record(run(0), at(0))
ballast = fill(folder)
said(table.flush)
ballast.unlink()
said(table.flush)
table.record(run(*range(1, 3_000)), at(1))
for left_bytes in range(0, 80_000, 4_096):
    ballast = fill(folder)
    os.truncate(ballast, ballast.stat().st_size - left_bytes)
    said(table.flush)
    if not table.view.chunks:
        break
    print(len(times(rows_of(table))), times(rows_of(opened(folder)))[-1])
ballast.unlink()
table.flush()
print(len(times(rows_of(table))), len(times(written(opened(folder)))), len(table.view.files))
listed = {{file.file.path for file in table.view.files}}
print(len([path for path in (table.folder / "g1").glob("*.parquet") if path.name not in listed]) <= 1)
"""
    lines = run_mounted("size=2m", script, tmp_path)
    assert lines[0] == f"the Delta log in `/lab.runs/g1` could not be written: {NO_ROOM}"
    assert lines[1] == "1"
    refused = [line for line in lines if line.endswith(NO_ROOM)]
    assert f"`lab.runs`: a data file could not be written: {NO_ROOM}" in refused
    assert f"the Delta log in `/lab.runs/g1` could not be written: {NO_ROOM}" in refused[1:]
    assert {line for line in lines if line.startswith("3000 2999")} == {"3000 2999.0"}
    assert lines[-2:] == ["3000 3000 2", "True"]


def test_a_disk_that_is_full_while_files_are_merged_keeps_them_as_they_are(tmp_path: Path) -> None:
    """What was begun is deleted at once; it is merged when there is room."""
    script = f"""{FULL}
for number in range(4):
    table.record(run(*range(number * 1_000, number * 1_000 + 1_000), value=number / 7), at(number))
    table.flush()
ballast = fill(folder)
said(lambda: upkeep.compact(table))
print(len(table.view.files), len(list((table.folder / "g1").glob("*.parquet"))), len(rows_of(table)))
said(table.flush)
ballast.unlink()
said(lambda: upkeep.compact(table))
print(len(table.view.files), len(rows_of(table)), len(written(opened(folder))))
"""
    assert run_mounted("size=2m", script, tmp_path) == [
        f"`lab.runs`: its data files could not be merged: {NO_ROOM}",
        "4 4 4000",
        "0",
        "4",
        "1 4000 4000",
    ]


def test_a_folder_that_is_read_only_is_said_in_words(tmp_path: Path) -> None:
    """What was recorded before stays readable."""
    script = f"""{FULL}
import subprocess
table.record(run(0), at(0))
table.flush()
table.record(run(1), at(1))
table._journal.close()
subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
said(lambda: table.record(run(2), at(2)))
said(table.flush)
print(times(rows_of(table)))
said(lambda: opened(folder, name="other"))
said(lambda: opened(folder))
subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
table = opened(folder)
said(lambda: table.record(run(0, 1, 2), at(3)))
print(times(rows_of(table)))
"""
    remedy = "the folder is read-only (mount it for writing, or give bridge another `data_dir`)"
    lines = run_mounted("size=2m", script, tmp_path)
    assert lines[:2] == [f"`/lab.runs/open-g1.segment` could not be opened: {remedy}"] * 2
    assert lines[2] == "[0.0, 1.0]"
    assert lines[3] == f"the history of `other` has no folder: {remedy}"
    assert lines[4].endswith(remedy)
    assert lines[-1] == "[0.0, 1.0, 2.0]"


def test_a_sample_that_could_not_be_acknowledged_is_taken_once_all_the_same(tmp_path: Path) -> None:
    """Where it is on the disk after all, it is neither recorded again nor forgotten."""
    table = opened(tmp_path)
    table.record(run(0), at(0))
    table.close()
    other = opened(tmp_path)
    other.record(run(0, 1), at(1))
    other._journal.close()
    # As after a failure behind the writing: the view knows nothing of what the segment holds.
    lost = opened(tmp_path / "elsewhere")
    shutil.copytree(other.folder, lost.folder, dirs_exist_ok=True)
    lost.open()
    (kept, missed) = lost.view.chunks
    lost.view = tables_module.replace(lost.view, chunks=(kept,), seq=kept.seq)
    for path in lost.folder.glob("*.segment"):
        path.unlink()
    segment, _ = Segment.open(lost.folder / "open-g1.segment")
    for chunk in (kept, missed):
        segment.append(chunk.seq, tables_module.packed(chunk.data))
    segment.close()
    lost._journal._sealed.clear()
    assert lost.record(run(0, 1, 2), at(2)) == 1
    assert lost.view.seq == missed.seq + 1
    assert times(rows_of(lost)) == [0, 1, 2]
    lost.flush()
    assert times(written(opened(tmp_path / "elsewhere"))) == [0, 1, 2]


def test_a_segment_that_can_neither_be_written_nor_cut_off_is_opened_anew(tmp_path: Path) -> None:
    """A disk that fails for a moment stops the recording for that moment only."""
    table = opened(tmp_path)
    table.record(run(0), at(0))
    swap(table.folder / "open-g1.segment", "/dev/full")
    with pytest.raises(StoreError, match="the half-written record could not be cut off"):
        table.record(run(1), at(1))
    assert times(rows_of(table)) == [0]
    assert table.record(run(0, 1), at(2)) == 1
    assert times(rows_of(opened(tmp_path))) == [0, 1]


def test_a_segment_shut_after_a_failure_is_moved_on_all_the_same(tmp_path: Path) -> None:
    """Also when the next sample is of another generation."""
    table = opened(tmp_path)
    table.record(frame_of([(0, 1, "svm")]).with_data(run(0).data.with_columns(pl.col("value").cast(pl.Int64))), at(0))
    table._journal.close()
    table.record(run(1, value=1.5), at(1))
    table._journal.close()
    assert table.flush() == 2
    assert [len(table.view.of_generation(generation)) for generation in (1, 2)] == [1, 1]
    assert times(written(opened(tmp_path))) == [0, 1]


def test_samples_that_cannot_be_moved_on_are_bounded(tmp_path: Path) -> None:
    """They stand in memory as well; beyond some megabytes no more are taken, and it is said why."""
    table = opened(tmp_path)
    table.record(run(0), at(0))
    chunk = table.view.chunks[0]
    big = tables_module.replace(table.view, chunks=(chunk, _of_size(chunk, MAX_PENDING_BYTES)))
    table.view = big
    with pytest.raises(StoreError, match="2 rows wait to be moved to the table, no more are taken"):
        table.record(run(1), at(1))


def _of_size(chunk: tables_module.Chunk, size_bytes: int) -> tables_module.Chunk:
    return tables_module.Chunk(chunk.generation, chunk.seq, chunk.data, size_bytes)


def test_no_more_files_are_written_than_a_table_bears(tmp_path: Path) -> None:
    """Where merging fails for long, samples wait in the segments; below 100 files the list stays quick to read."""
    table = filled(tmp_path, flushes=2)
    some = table.view.files[0]
    table.view = tables_module.replace(table.view, files=(some,) * MAX_FILES)
    with pytest.raises(StoreError, match=f"{MAX_FILES} data files wait to be merged, no more are written"):
        table.flush()
    assert len(table.view.chunks) == 1


# ---- a commit of which nobody knows whether it was made


def failing(lake: Lake, *, made: bool) -> Callable[..., None]:
    """A disk that fails behind a commit, or before it: what the system does, not what bridge does."""
    commit = lake.commit

    def fail(*args: object, **kwargs: object) -> None:
        lake.commit = commit  # type: ignore[method-assign]
        if made:
            commit(*args, **kwargs)  # type: ignore[arg-type]
        raise StoreError("the disk failed")

    return fail


@pytest.mark.parametrize("made", [True, False])
def test_a_commit_that_failed_and_may_have_been_made_is_looked_up(tmp_path: Path, made: bool) -> None:
    """Its rows are there once, now and after the next flush."""
    table = filled(tmp_path, flushes=1)
    lake = table.lake(1)
    lake.commit = failing(lake, made=made)  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="the disk failed"):
        table.flush()
    assert times(rows_of(table)) == [0, 1]
    table.record(run(2), at(2))
    assert table.flush() == (1 if made else 2)
    assert times(written(table)) == [0, 1, 2]
    assert times(written(opened(tmp_path))) == [0, 1, 2]


@pytest.mark.parametrize("made", [True, False])
def test_an_exchange_that_failed_and_may_have_been_made_is_looked_up(tmp_path: Path, made: bool) -> None:
    """Before anything else is exchanged."""
    table = filled(tmp_path)
    lake = table.lake(1)
    lake.commit = failing(lake, made=made)  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="the disk failed"):
        upkeep.compact(table)
    assert times(rows_of(table)) == [0, 1, 2, 3]
    assert upkeep.compact(table) == 3 if not made else True
    upkeep.compact(table)
    assert [file.loose for file in table.view.files] == [False]
    assert times(written(table)) == times(written(opened(tmp_path))) == [0, 1, 2, 3]


def test_files_that_another_exchange_took_are_not_exchanged_again(tmp_path: Path) -> None:
    """As when settings are read anew while files are merged: the same rows would be there twice."""
    table = filled(tmp_path)
    files = list(table.view.files)
    merging = upkeep._Merging(table, 1)
    upkeep.compact(table)
    before = sorted(path.name for path in (table.folder / "g1").glob("*.parquet"))
    assert merging.merge(files) == 0
    assert sorted(path.name for path in (table.folder / "g1").glob("*.parquet")) == before
    assert times(written(table)) == [0, 1, 2, 3]


# ---- a table that is broken


def test_a_newest_commit_cut_short_is_moved_again_from_the_segment(tmp_path: Path) -> None:
    """A loss of power behind a flush: the segment is deleted only when the commit is on the disk."""
    table = filled(tmp_path)
    table._journal.seal()
    (sealed,) = table.folder.glob("sealed-*")
    kept = sealed.read_bytes()
    table.flush()
    newest = commits(table)[-1]
    whole = newest.read_bytes()
    for cut in (0, 10, whole.index(b"\n") + 1, whole.rindex(b"\n"), len(whole) - 1):
        shutil.rmtree(tmp_path / "cut", ignore_errors=True)
        shutil.copytree(table.folder, tmp_path / "cut" / "lab.runs")
        torn = tmp_path / "cut" / "lab.runs"
        (torn / sealed.name).write_bytes(kept)
        os.truncate(torn / "g1" / "_delta_log" / newest.name, cut)
        again = opened(tmp_path / "cut")
        assert times(written(again)) == [0, 1, 2, 3], cut
        assert again.flush() == 1
        assert times(written(opened(tmp_path / "cut"))) == [0, 1, 2, 3]
        assert pl.scan_delta(str(torn / "g1")).collect().height == 4


def test_a_broken_table_keeps_no_sample_from_being_recorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is told, its files are left alone, and once it is put back from a backup everything is there."""
    table = filled(tmp_path)
    table.close()
    backup = tmp_path / "backup"
    shutil.copytree(log_of(table), backup)
    commits(table)[1].write_text("{nope")
    with caplog.at_level(logging.ERROR, "bridge.history"):
        broken = opened(tmp_path)
    assert "history is unreadable" in caplog.text
    assert isinstance(broken.view.problem, StoreBroken)
    assert "commit 1 of the Delta log" in broken.view.problem.message
    assert broken.view.seq == 3, "numbers go on behind those of the table that nobody can read"
    for second in (4, 5):
        assert broken.record(run(second), at(second)) == 1
        with pytest.raises(StoreBroken, match="commit 1 of the Delta log"):
            broken.flush()
    upkeep.sweep(broken, at(0) + timedelta(days=9_999))
    assert times(rows_of(broken)) == [3, 4, 5]
    broken.close()
    assert times(rows_of(opened(tmp_path))) == [3, 4, 5]
    shutil.rmtree(log_of(table))
    shutil.copytree(backup, log_of(table))
    assert broken.view.problem is not None
    whole = opened(tmp_path)
    assert whole.view.problem is None
    assert whole.flush() == 3
    assert times(written(whole)) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("all_of_it", [False, True])
def test_numbers_go_on_behind_those_of_a_table_that_nobody_can_read(tmp_path: Path, all_of_it: bool) -> None:
    """Else its own would be taken for new ones, once it is put back: no sample would be moved to it."""
    table = filled(tmp_path)
    table.flush()
    table.close()
    shutil.copytree(log_of(table), tmp_path / "backup")
    for path in commits(table)[0 if all_of_it else 2 :]:
        path.write_text("{nope") if not all_of_it else path.unlink()
    broken = opened(tmp_path)
    assert broken.view.seq >= 2
    broken.record(run(9), at(9))
    broken.close()
    shutil.rmtree(log_of(table))
    shutil.copytree(tmp_path / "backup", log_of(table))
    whole = opened(tmp_path)
    assert whole.flush() == 1
    assert times(written(whole)) == [0, 1, 2, 3, 9]


def test_a_table_put_back_while_bridge_runs_is_found_by_the_next_flush(tmp_path: Path) -> None:
    """No restart is needed."""
    table = filled(tmp_path)
    table.close()
    kept = commits(table)[1].read_bytes()
    commits(table)[1].unlink()
    broken = opened(tmp_path)
    with pytest.raises(StoreBroken):
        broken.flush()
    (log_of(table) / f"{1:020d}.json").write_bytes(kept)
    assert broken.flush() == 1
    assert broken.view.problem is None
    assert times(written(broken)) == [0, 1, 2, 3]


def test_a_broken_generation_does_not_hold_up_another(tmp_path: Path) -> None:
    """Its samples wait; those of the others are moved on."""
    table = opened(tmp_path)
    whole = run(0).data.with_columns(pl.col("value").cast(pl.Int64))
    table.record(run(0).with_data(whole), at(0))
    table.flush()
    table.record(run(0, 1).with_data(pl.concat([whole, run(1).data.cast({"value": pl.Int64})])), at(1))
    table.close()
    commits(table)[0].write_text("{nope")
    broken = opened(tmp_path)
    broken.record(run(2, value=0.5), at(2))
    with pytest.raises(StoreBroken):
        broken.flush()
    assert [file.generation for file in broken.view.files] == [2]
    assert [chunk.generation for chunk in broken.view.chunks] == [1]


def test_a_lost_log_is_not_begun_anew(tmp_path: Path) -> None:
    """The data files would be on no list, and be deleted."""
    table = filled(tmp_path)
    shutil.rmtree(log_of(table))
    with pytest.raises(StoreError):
        table.flush()
    table.close()
    broken = opened(tmp_path)
    assert isinstance(broken.view.problem, StoreBroken)
    assert broken.view.seq == 3
    upkeep.sweep(broken, at(0) + timedelta(days=9_999))
    assert len(list((table.folder / "g1").glob("*.parquet"))) == 3


def test_a_data_file_that_is_missing_is_told_and_recording_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Readers are told; late rows are compared with what is left; the others are merged without it."""
    table = filled(tmp_path)
    lost = min(table.view.files, key=lambda file: file.low_us)
    lost.path.unlink()
    with pytest.raises(StoreError, match=r"the history of `lab.runs` cannot be read: it does not exist"):
        rows_of(table)
    again = opened(tmp_path)
    with caplog.at_level(logging.ERROR, "bridge.history"):
        assert again.record(run(0, 1, 2, 3, 4), at(4)) == 2, "what was lost comes again, and what is new"
    assert "data files cannot be read" in caplog.text
    again.flush()
    upkeep.compact(again)
    assert [file.broken for file in again.view.files].count(True) == 1
    assert len(again.view.files) == 2
    again.exchange(1, [file for file in again.view.files if file.broken], [])
    assert times(written(again)) == [0, 1, 2, 3, 4]


def test_a_data_file_that_is_damaged_holds_up_the_merging_once(tmp_path: Path) -> None:
    """It is left out then, whatever it holds is not touched, and the number of files stays bounded."""
    table = filled(tmp_path)
    damaged = table.view.files[1]
    damaged.path.write_bytes(damaged.path.read_bytes()[:-50])
    with pytest.raises(StoreError, match=r"`lab.runs`: its data files could not be merged"):
        upkeep.compact(table)
    assert upkeep.compact(table) == 2
    assert sorted((file.loose, file.broken) for file in table.view.files) == [(False, False), (True, True)]
    assert damaged.path.exists()


def test_a_table_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    """Nothing is recorded beside it either: it is the whole history that was written by a newer version."""
    table = filled(tmp_path)
    table.close()
    (log_of(table) / f"{9:020d}.json").unlink(missing_ok=True)
    newest = commits(table)[-1]
    text = '{"protocol":{"minReaderVersion":3,"minWriterVersion":7,"readerFeatures":["x"],"writerFeatures":["x"]}}'
    newest.with_name(f"{int(newest.stem) + 1:020d}.json").write_text(text)
    with pytest.raises(StoreNewer):
        opened(tmp_path)
    assert list(table.folder.glob("open-*"))


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("open-g1.segment", b"bridge-segment 2\n", StoreNewer),
        ("sealed-g1-0000000000000009.segment", b"bridge-segment 2\n", StoreNewer),
        ("open-g1.segment", b"what is this", StoreBroken),
        ("open-g7.segment", b"bridge-segment 1\n", StoreBroken),
        ("g7", None, StoreBroken),
    ],
)
def test_what_is_not_understood_in_the_folder_stops_it(
    tmp_path: Path, name: str, text: bytes | None, kind: type[StoreError]
) -> None:
    """A segment of a newer version, one that is none, and generations that schema.json does not know."""
    table = filled(tmp_path)
    table.flush()
    table.close()
    path = table.folder / name
    if text is None:
        path.mkdir()
    else:
        path.write_bytes(text)
    with pytest.raises(kind):
        opened(tmp_path)
    assert path.exists()


def test_a_sample_that_polars_cannot_read_is_told(tmp_path: Path) -> None:
    """Its segment is left where it is."""
    table = filled(tmp_path, flushes=1)
    table.close()
    path = table.folder / "open-g1.segment"
    segment, _ = Segment.open(path)
    segment.append(7, b"not what it was")
    segment.close()
    with pytest.raises(StoreBroken, match="sample 7 in a segment cannot be read"):
        opened(tmp_path)
    assert list(table.folder.glob("*.segment"))


def test_a_torn_segment_keeps_what_was_acknowledged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And the log says what was cut off and where it is kept."""
    table = filled(tmp_path, flushes=1)
    table.close()
    with (table.folder / "open-g1.segment").open("ab") as file:
        file.write(b"half a record")
    with caplog.at_level(logging.WARNING, "bridge.history"):
        again = opened(tmp_path)
    assert "a segment is damaged" in caplog.text
    assert times(rows_of(again)) == [0, 1]


def test_an_outline_cut_short_is_taken_away(tmp_path: Path) -> None:
    """The rows are elsewhere; a panel is only slower without it."""
    table = opened(tmp_path)
    table.record(without_dimension((second / 2, float(second % 50)) for second in range(60_000)), at(60_000))
    table.flush()
    upkeep.compact(table)
    (file,) = table.view.files
    assert file.outline is not None
    assert 0 < file.outline_rows < 15_000
    (again,) = opened(tmp_path).view.files
    assert (again.outline_rows, again.size_bytes) == (file.outline_rows, file.size_bytes)
    for size_bytes in (500, 0):
        file.outline.write_bytes(b"x" * size_bytes)
        (torn,) = opened(tmp_path).view.files
        assert torn.outline is None
        assert torn.size_bytes == file.file.size_bytes
        assert not file.outline.exists()


def test_an_outline_that_would_be_no_smaller_is_not_written(tmp_path: Path) -> None:
    """Rows of so many series that each stands for itself."""
    table = opened(tmp_path)
    table.record(frame_of((second / 2, 1.0, f"m{second}") for second in range(60_000)), at(30_000))
    table.flush()
    upkeep.compact(table)
    assert [file.outline for file in table.view.files] == [None]
    assert not table.outlines(1).exists()


# ---- new columns


def test_every_kind_of_column_is_stored_as_what_it_is(tmp_path: Path) -> None:
    """In the segment, in the table, and merged."""
    columns = (COLUMNS[0], Column("done", ColumnType.BOOLEAN), Column("at", ColumnType.TIME), *COLUMNS[1:], NOTE)
    rows = [(0, True, 5, 1.5, "svm", "x"), (1, None, None, None, None, None), (2, False, 7, float("nan"), "", "")]
    table = opened(tmp_path)
    table.record(frame_of(rows, columns), at(9))
    before = rows_of(table)
    table.flush()
    assert rows_of(table) == before
    upkeep.compact(table)
    assert rows_of(opened(tmp_path)) == before
    assert opened(tmp_path).record(frame_of(rows, columns), at(9)) == 0


def test_a_new_column_is_empty_in_what_was_recorded_before(tmp_path: Path) -> None:
    """It is one table all the same."""
    table = filled(tmp_path, flushes=1)
    wider = (*COLUMNS, NOTE)
    assert table.record(frame_of([(0, 1.0, "svm", None), (2, 1.0, "svm", "x")], wider), at(3)) == 1
    table.flush()
    assert rows_of(table) == Counter([(0, 1, "svm", None), (1, 1, "svm", None), (2, 1, "svm", "x")])
    assert {file.generation for file in table.view.files} == {1}
    upkeep.compact(table)
    assert rows_of(opened(tmp_path)) == rows_of(table)
    assert len(table.view.files) == 1


def test_numbers_that_stop_being_whole_begin_a_generation(tmp_path: Path) -> None:
    """Samples of the one before are moved to its own table; rows are the same rows."""
    table = opened(tmp_path)
    whole = frame_of([(0, 5, "svm"), (1, 6, "svm")])
    whole = whole.with_data(whole.data.with_columns(pl.col("value").cast(pl.Int64)))
    table.record(whole, at(1))
    assert table.record(frame_of([(0, 5.0, "svm"), (1, 6.5, "svm"), (2, 7.0, "svm")]), at(2)) == 2
    assert [chunk.generation for chunk in table.view.chunks] == [1, 2]
    table.close()
    again = opened(tmp_path)
    assert [chunk.generation for chunk in again.view.chunks] == [1, 2]
    assert again.flush() == 4
    assert sorted(file.generation for file in again.view.files) == [1, 2]
    assert rows_of(again) == rows_of(table) == Counter([(0, 5, "svm"), (1, 6.5, "svm"), (2, 7, "svm")])
    assert upkeep.compact(again) == 2
    assert rows_of(opened(tmp_path)) == rows_of(table)
    assert opened(tmp_path).record(whole, at(3)) == 1, "back to what it was is a correction"


def test_what_was_recorded_before_a_migration_is_read_through_it(tmp_path: Path) -> None:
    """From the table and from the segments; the other process that wrote it is noticed."""
    table = filled(tmp_path, flushes=1)
    renamed = (COLUMNS[0], Column("loss", ColumnType.NUMBER, unit="short", role=Role.MEASURE), COLUMNS[2])
    frame = frame_of([(1, 1.0, "svm"), (2, 4.0, "svm")], renamed)
    with pytest.raises(SchemaChanged):
        table.admit(frame.schema, stored_kinds(frame.data, frame.schema))
    with pytest.raises(SchemaChanged):
        table.record(frame, at(2))
    file = SchemaFile(table.folder)
    versions = file.load()
    assert versions is not None
    file.migrate(plan(versions, Schema(renamed), {"loss": "number"}, {"value": "loss"}), at(2))
    table.admit(frame.schema, stored_kinds(frame.data, frame.schema))
    assert table.record(frame, at(2)) == 1
    table.flush()
    expected = Counter([(0, 1, "svm"), (1, 1, "svm"), (2, 4, "svm")])
    assert rows_of(table) == expected
    assert upkeep.compact(table) == 3
    assert rows_of(opened(tmp_path)) == expected


def test_rows_under_another_time_column_are_not_taken_for_late_ones(tmp_path: Path) -> None:
    """After a migration to another time the old bounds say nothing of the new instants."""
    both = (COLUMNS[0], Column("done", ColumnType.TIME), COLUMNS[1])
    table = opened(tmp_path)
    table.record(frame_of([(0, 50, 1.0)], both), at(60))
    table.flush()
    moved = (Column("time", ColumnType.TIME), Column("done", ColumnType.TIME, role=Role.TIME), COLUMNS[1])
    file = SchemaFile(table.folder)
    versions = file.load()
    assert versions is not None
    file.migrate(plan(versions, Schema(moved), {"value": "number"}, {}), at(60))
    assert table.record(frame_of([(0, 50, 1.0), (3, 55, 1.0)], moved), at(61)) == 1
    assert len(rows_of(table)) == 2


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (("loss", "Loss"), "`loss` and `Loss` differ in case only, which a history cannot keep apart"),
        (("loss", "_bridge_at"), "`_bridge_at` is a name that histories need for themselves"),
    ],
)
def test_columns_that_a_table_cannot_have_are_refused_before_anything_is_taken(
    tmp_path: Path, names: tuple[str, str], sentence: str
) -> None:
    """They would wait in the segments for ever."""
    table = opened(tmp_path)
    columns = (COLUMNS[0], *(Column(name, ColumnType.NUMBER) for name in names))
    with pytest.raises(StoreError, match=sentence):
        table.record(frame_of([(0, 1.0, 2.0)], columns), at(0))
    assert table.view.versions is None


# ---- snapshots


def snapshot(*rows: tuple[str, float]) -> Counter[tuple[str, float]]:
    return Counter(rows)


def test_a_snapshot_is_recorded_whole_when_it_changes(tmp_path: Path) -> None:
    """And is what its last sample until a moment had, also when that was nothing."""
    table = opened(tmp_path)
    assert table.record(frame_of([("a", 1.0), ("b", 2.0)], STATE), at(0)) == 2
    assert table.record(frame_of([("a", 1.0), ("b", 2.0)], STATE), at(1)) == 0
    assert table.record(frame_of([("a", 1.0)], STATE), at(2)) == 1
    assert table.record(frame_of([], STATE), at(3)) == 0
    table.flush()
    upkeep.compact(table)
    assert table.record(frame_of([("a", 1.0)], STATE), at(4)) == 1
    assert table.record(frame_of([], STATE), at(5)) == 0
    for where in (table, opened(tmp_path)):
        assert rows_of(where) == Counter()
        assert rows_of(where, as_of=at(1)) == snapshot(("a", 1.0), ("b", 2.0))
        assert rows_of(where, as_of=1) == snapshot(("a", 1.0))
        assert rows_of(where, as_of=at(3)) == Counter()
        assert rows_of(where, as_of=at(4)) == snapshot(("a", 1.0))
        assert rows_of(where, as_of=at(-1)) == Counter()


def test_a_snapshot_that_stays_the_same_is_recorded_again_before_age_takes_it(tmp_path: Path) -> None:
    """The same frame, and another that holds the same."""
    table = opened(tmp_path, Keeping(100.0, 5.0))
    frame = frame_of([("a", 1.0)], STATE)
    assert [table.record(frame, at(second)) for second in (0, 5, 9.9, 10, 15, 21)] == [1, 0, 0, 1, 0, 1]
    assert table.record(frame_of([("a", 1.0)], STATE), at(22)) == 0


def test_a_snapshot_after_the_clock_went_back_is_recorded_again(tmp_path: Path) -> None:
    """Said at a moment that is yet to come, no moment until then would find it."""
    table = opened(tmp_path)
    frame = frame_of([("a", 1.0)], STATE)
    table.record(frame, at(0))
    assert table.record(frame, at(-3_650 * DAY_S)) == 1
    assert rows_of(table, as_of=at(-3_649 * DAY_S)) == snapshot(("a", 1.0))


# ---- clocks


@pytest.mark.parametrize("years", [9, -9])
def test_samples_keep_their_order_when_the_clock_jumps(tmp_path: Path, years: int) -> None:
    """Corrections go by the number of the sample, not by what the clock said."""
    table = opened(tmp_path)
    moments = (at(0), at(1) + timedelta(days=365 * years), at(2) + timedelta(days=365 * years), at(3))
    for value, moment in enumerate(moments):
        assert table.record(run(0, value=float(value)), moment) == 1
        table.flush() if value % 2 else None
    assert rows_of(table) == Counter([(0, 3, "svm")])
    again = opened(tmp_path)
    assert [list(rows_of(again, as_of=number)) for number in range(4)] == [[(0, n, "svm")] for n in range(4)]
    upkeep.compact(again)
    assert rows_of(opened(tmp_path)) == Counter([(0, 3, "svm")])


# ---- threads and memory


def test_readers_see_whole_samples_while_others_write(tmp_path: Path) -> None:
    """Every view has the first samples up to some number, each once, whatever is moved meanwhile."""
    table = opened(tmp_path)
    faults: list[object] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            before = table.view.seq
            try:
                found = times(rows_of(table)) if table.view.versions and table.view.seq >= 0 else []
            except Exception as error:  # noqa: BLE001
                faults.append(error)
                return
            if found != [float(n) for n in range(len(found))] or len(found) < before + 1:
                faults.append((before, found))

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    for second in range(60):
        table.record(run(second), at(second))
        if second % 2:
            table.flush()
        if second % 10 == 9:
            upkeep.compact(table)
            upkeep.expire(table, at(second))
            upkeep.sweep(table, datetime.now(UTC))
    done.set()
    for reader in readers:
        reader.join()
    assert not faults


def test_several_threads_record_and_flush_one_after_the_other(tmp_path: Path) -> None:
    """Two houses share a history while settings are read anew."""
    table = opened(tmp_path)

    def work(own: int) -> None:
        for number in range(12):
            second = own * 100 + number
            table.record(run(second, model=f"m{own}"), at(second))
            table.flush()
            upkeep.compact(table)

    workers = [threading.Thread(target=work, args=(own,)) for own in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    expected = sorted(float(own * 100 + number) for own in range(3) for number in range(12))
    assert times(written(table)) == times(written(opened(tmp_path))) == expected


def test_what_waits_to_be_moved_does_not_hold_the_frames_it_came_from(tmp_path: Path) -> None:
    """Forty datasets of a hundred rows cost some kilobytes each, not their sources' answers."""
    table = opened(tmp_path)
    frames = [run(*range(second, second + 1_000)) for second in range(0, 50, 5)]
    for number, frame in enumerate(frames):
        table.record(frame, at(2_000 + number))
    held = sum(chunk.data.estimated_size() for chunk in table.view.chunks[1:])
    assert held < 9 * 5 * 100
    seen = table._seen
    assert seen is not None
    assert seen.known is not None
    assert seen.known.rows.nbytes + seen.known.keys.nbytes == 16 * 1_000
    last = frames.pop()
    assert seen.data() is last.data
    del last, frame, frames
    assert seen.data() is None


def test_a_large_first_sample_is_not_held_twice(tmp_path: Path) -> None:
    """Its rows are those of the frame it came from."""
    frame = without_dimension((float(second), 1.0) for second in range(100_000))
    table = opened(tmp_path)
    tracemalloc.start()
    table.record(frame, at(100_000))
    tracemalloc.stop()
    (chunk,) = table.view.chunks
    assert chunk.data["value"].to_numpy().ctypes.data == frame.data["value"].to_numpy().ctypes.data


def test_the_keeping_may_change_while_it_is_open(tmp_path: Path) -> None:
    """Settings are read anew."""
    table = filled(tmp_path)
    table.keeping = Keeping(1.0, 1.0)
    assert table.record(run(100), at(100)) == 1
    assert times(rows_of(table)) == [0, 1, 2, 3, 100]
    assert KEEP.keep_s == 30 * DAY_S


def test_a_data_file_knows_no_bounds_it_was_not_given(tmp_path: Path) -> None:
    """Then all of time may be in it, and corrections."""
    bare = DataFile(1, Lake(tmp_path) and tables_module.LakeFile("s-1.parquet", 1, 1, {}, {}), tmp_path, "time")
    assert bare.low_us < -(2**61)
    assert bare.high_us > 2**61
    assert bare.revises
    assert plain(pl.DataFrame({"x": [float("nan")]})) == Counter([("NaN",)])
    assert sys.maxsize > bare.high_us
