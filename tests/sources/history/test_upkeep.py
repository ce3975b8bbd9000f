"""A history stays small and quick to read, whatever comes in, and drops nothing that it should keep."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from tables import DAY_S, KEEP, opened, rows_of, run, times, without_dimension, written
from tests.edge.disks import common_user, open_folder
from tests.support import COLUMNS, at, frame_of

from bridge.edge.lake import GRACE_HOURS, LakeFile
from bridge.edge.lake_log import KEPT_COMMITS
from bridge.errors import StoreError
from bridge.sources.history import upkeep
from bridge.sources.history.stored import DataFile
from bridge.sources.history.table import Table
from bridge.sources.history.upkeep import LOOSE_FILES, LOOSE_ROWS, MERGED_FILES, period_s
from bridge.sources.registry import Keeping

HOUR_S = 3_600.0
YEAR_S = 365 * DAY_S


def flushed(table: Table, *seconds: float, now_s: float | None = None, value: float = 1.0) -> None:
    """One flush of these rows."""
    table.record(run(*seconds, value=value), at(max(seconds) if now_s is None else now_s))
    table.flush()


def file_of(table: Table, name: str, rows: int) -> DataFile:
    """A data file that is said to have so many rows."""
    return DataFile(1, LakeFile(name, rows, 10, {"time": 0}, {"time": 1}), table.folder / "g1", "time")


# ---- many small files become few


def test_small_files_are_merged_by_periods(tmp_path: Path) -> None:
    """The rows are the same, in order, for every reader; a later merge grows the file of the period."""
    table = opened(tmp_path)
    for second in (0, 5, 3, DAY_S, DAY_S + 7):
        flushed(table, second, now_s=2 * DAY_S)
    assert upkeep.compact(table) == 5
    assert sorted(file.file.rows for file in table.view.files) == [2, 3]
    assert not any(file.loose for file in table.view.files)
    flushed(table, 9, now_s=2 * DAY_S)
    assert upkeep.compact(table) == 1
    assert sorted(file.file.rows for file in table.view.files) == [2, 4]
    expected = [0, 3, 5, 9, DAY_S, DAY_S + 7]
    assert times(written(table)) == times(rows_of(opened(tmp_path))) == expected
    assert pl.scan_delta(str(table.folder / "g1")).collect().height == 6
    for file in table.view.files:
        assert pl.read_parquet(file.path)["time"].is_sorted()
    assert upkeep.compact(table) == 0
    assert upkeep.compact(opened(tmp_path, name="lab.other")) == 0


def test_merging_is_due_by_files_and_by_rows(tmp_path: Path) -> None:
    """Those that cannot be read do not count, as nothing can be done about them."""
    table = opened(tmp_path)
    assert not upkeep.due(table)
    small = [file_of(table, f"s-{number}.parquet", 1) for number in range(LOOSE_FILES)]
    table.view = replace(table.view, files=tuple(small[1:]))
    assert not upkeep.due(table)
    table.view = replace(table.view, files=tuple(small))
    assert upkeep.due(table)
    table.view = replace(table.view, files=(replace(small[0], broken=True), *small[1:]))
    assert not upkeep.due(table)
    table.view = replace(table.view, files=(file_of(table, "s-1.parquet", LOOSE_ROWS),))
    assert upkeep.due(table)
    table.view = replace(table.view, files=(file_of(table, "c-1.parquet", LOOSE_ROWS),))
    assert not upkeep.due(table)


def test_so_many_files_are_merged_at_once_as_fit_into_memory(tmp_path: Path) -> None:
    """One alone, however large, is a batch of its own."""
    table = opened(tmp_path)
    rows = (3 * LOOSE_ROWS, LOOSE_ROWS, LOOSE_ROWS, 1)
    files = [file_of(table, f"s-{number}.parquet", count) for number, count in enumerate(rows)]
    assert [[file.file.rows for file in batch] for batch in upkeep._batches(files)] == [
        [3 * LOOSE_ROWS],
        [LOOSE_ROWS, LOOSE_ROWS],
        [1],
    ]
    assert not list(upkeep._batches([]))


def lives(table: Table, samples: Iterable[tuple[float, list[float]]]) -> tuple[int, int]:
    """The most data files and files of the log there were while these samples were recorded and flushed."""
    most_files = most_log = 0
    for number, (now_s, seconds) in enumerate(samples):
        table.record(run(*seconds), at(now_s))
        upkeep.move_on(table)
        most_files = max(most_files, len(table.view.files))
        if number % 10 == 0:
            upkeep.expire(table, at(now_s))
            upkeep.sweep(table, at(now_s))
            most_log = max(most_log, len(os.listdir(table.folder / "g1" / "_delta_log")))
    return most_files, most_log


@pytest.mark.slow
def test_there_are_never_100_files_in_a_week_of_flushes(tmp_path: Path) -> None:
    """Nor does the log grow without end; rows of the last days are all there, each once."""
    table = opened(tmp_path, Keeping(2 * DAY_S, 5.0))
    step_s = 1_200.0
    week = [step_s * number for number in range(int(7 * DAY_S / step_s))]
    files, log = lives(table, ((second, [second - step_s, second]) for second in week))
    assert files <= LOOSE_FILES + MERGED_FILES + 2 < 100
    assert log < KEPT_COMMITS + 100
    found = times(written(table))
    assert len(found) == len(set(found))
    assert set(found) >= {second for second in week if second >= week[-1] - 2 * DAY_S}
    assert len(found) < 3 * DAY_S / step_s
    assert times(rows_of(opened(tmp_path))) == found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keep_s", "spread_s", "ahead_s"),
    [(30 * DAY_S, 30 * DAY_S, 0.0), (30 * YEAR_S, 30 * YEAR_S, 0.0), (DAY_S, 0.0, 3_000 * YEAR_S)],
    ids=["late rows", "long years", "rows of the far future"],
)
def test_there_are_never_100_files_however_far_apart_the_rows_lie(
    tmp_path: Path, keep_s: float, spread_s: float, ahead_s: float
) -> None:
    """Each sample has rows of everywhere that is kept, and of years to come."""
    table = opened(tmp_path, Keeping(keep_s, 5.0))

    def sample(number: int) -> tuple[float, list[float]]:
        now_s = number * HOUR_S
        late = [now_s - spread_s * part / 150 + number for part in range(150)] if spread_s else [now_s]
        return now_s, [*late, *(now_s + ahead_s * part / 150 for part in range(1, 150) if ahead_s)]

    files, _ = lives(table, map(sample, range(2 * LOOSE_FILES + 5)))
    assert files <= LOOSE_FILES + MERGED_FILES + 1 < 100
    merged = [file for file in table.view.files if not file.loose]
    assert 1 < len(merged) <= MERGED_FILES
    assert set(written(table).values()) == {1}
    assert rows_of(table) == rows_of(opened(tmp_path))


def test_neighbours_are_joined_evenly(tmp_path: Path) -> None:
    """So that what is too old can still be dropped a part at a time; full files are left alone."""
    table = opened(tmp_path)
    table.record(run(0), at(0))
    merging = upkeep._Merging(table, 1)
    small = [file_of(table, f"c-{number}.parquet", 10) for number in range(45)]
    assert [len(group) for group in merging._neighbours(small)] == [3] * 15
    large = [file_of(table, f"c-{number}.parquet", rows) for number, rows in enumerate([900_000, 200_000] * 13)]
    assert [len(group) for group in merging._neighbours(large)] == [1] * 26


def test_rows_of_very_many_periods_are_not_laid_into_as_many_files(tmp_path: Path) -> None:
    """Not even for the moment until neighbours are joined."""
    table = opened(tmp_path)
    table.record(run(*(day * DAY_S for day in range(300))), at(0))
    table.flush()
    merging = upkeep._Merging(table, 1)
    assert merging.merge(list(table.view.files)) == 1
    assert 20 < len(table.view.files) <= 48


def test_files_of_too_many_periods_are_joined(tmp_path: Path) -> None:
    """Neighbours with each other, and every row stays."""
    table = opened(tmp_path)
    days = [day * DAY_S for day in range(MERGED_FILES + 5)]
    table.record(run(*days), at(0))
    table.flush()
    assert upkeep.compact(table) == 1
    assert len(table.view.files) == 15
    assert {file.file.rows for file in table.view.files} == {3}
    assert times(written(table)) == times(rows_of(opened(tmp_path))) == days


def test_files_grow_with_a_very_long_history(tmp_path: Path) -> None:
    """Else a hundred million rows would be a hundred files."""
    table = opened(tmp_path)
    table.record(run(0), at(0))
    assert upkeep._Merging(table, 1)._full_rows == 1_000_000
    table.view = replace(table.view, files=(file_of(table, "c-1.parquet", 80_000_000),))
    assert upkeep._Merging(table, 1)._full_rows == 10_000_000


@pytest.mark.slow
def test_a_period_of_very_many_rows_stands_in_several_files(tmp_path: Path) -> None:
    """A full one is not written again with every merge."""
    table = opened(tmp_path)
    times_s = pl.int_range(1_100_000, eager=True) / 100
    frame = without_dimension([(0.0, 1.0)])
    data = pl.DataFrame({"time": times_s * 1e6, "value": times_s})
    start_us = int(at(0).timestamp() * 1e6)
    data = data.with_columns((pl.col("time").cast(pl.Int64) + start_us).cast(frame.data.schema["time"]))
    table.record(frame.with_data(data), at(11_000))
    table.flush()
    assert upkeep.due(table)
    upkeep.compact(table)
    full, rest = sorted(table.view.files, key=lambda file: file.low_us)
    assert (full.file.rows, rest.file.rows) == (1_000_000, 100_000)
    assert full.outline is not None
    table.record(without_dimension([(5.005, 7.0)]), at(11_000))
    table.flush()
    upkeep.compact(table)
    assert full in table.view.files
    assert sorted(file.file.rows for file in table.view.files) == [100_001, 1_000_000]


def test_a_merge_that_fails_does_not_hold_up_the_samples(tmp_path: Path) -> None:
    """They are moved on, and then it is said why merging failed."""
    table = opened(tmp_path)
    for second in range(LOOSE_FILES):
        flushed(table, second)
    table.view.files[3].path.write_bytes(b"damaged")
    table.record(run(LOOSE_FILES), at(LOOSE_FILES))
    with pytest.raises(StoreError, match="could not be merged"):
        upkeep.move_on(table)
    assert not table.view.chunks
    assert len(table.view.files) == LOOSE_FILES + 1
    table.record(run(LOOSE_FILES + 1), at(LOOSE_FILES + 1))
    upkeep.move_on(table)
    assert len(table.view.files) == 3, "what can be read is merged without it"


def test_a_missing_file_does_not_stop_the_merging_of_others(tmp_path: Path) -> None:
    """It is said once, in words."""
    table = opened(tmp_path)
    for second in range(3):
        flushed(table, second)
    table.view.files[0].path.unlink()
    with pytest.raises(StoreError, match="could not be merged: it does not exist"):
        upkeep.compact(table)
    assert upkeep.compact(table) == 2


def test_a_merge_that_fails_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    """What it wrote until then is on no list."""
    table = opened(tmp_path)
    flushed(table, 0, DAY_S)
    upkeep.compact(table)
    later = max(table.view.files, key=lambda file: file.low_us)
    later.path.write_bytes(b"damaged")
    flushed(table, 5, DAY_S + 5)
    before = sorted(table.lake(1).folder.glob("*.parquet"))
    with pytest.raises(StoreError, match="could not be merged"):
        upkeep.compact(table)
    assert sorted(table.lake(1).folder.glob("*.parquet")) == before
    unlisted = {path.name for path in before}.difference(file.file.path for file in table.view.files)
    upkeep.compact(table)
    assert len(unlisted) == 1, "the first flush"
    assert sorted(file.broken for file in table.view.files) == [False, False, True]


# ---- what is too old, or too much


def test_what_is_too_old_goes_one_period_at_a_time(tmp_path: Path) -> None:
    """However far ahead the clock is; the newest file stays in any case."""
    table = opened(tmp_path)
    for day in range(5):
        flushed(table, day * DAY_S, now_s=5 * DAY_S)
        flushed(table, day * DAY_S + 60, now_s=5 * DAY_S)
    upkeep.compact(table)
    flushed(table, 5 * DAY_S)
    assert upkeep.expire(table, at(29 * DAY_S)) == 0
    assert upkeep.expire(table, at(31.1 * DAY_S)) == 1
    assert times(rows_of(table))[0] == DAY_S
    far = at(9 * YEAR_S)
    assert [upkeep.expire(table, far) for _ in range(7)] == [1, 1, 1, 1, 0, 0, 0]
    assert times(rows_of(opened(tmp_path))) == [5 * DAY_S]
    assert upkeep.expire(opened(tmp_path, name="lab.other"), far) == 0


def test_nothing_goes_for_its_age_where_the_clock_is_not_to_be_trusted(tmp_path: Path) -> None:
    """What is too much goes all the same."""
    table = opened(tmp_path)
    for day in range(4):
        flushed(table, day * DAY_S, now_s=5 * DAY_S)
    assert upkeep.expire(table, None) == 0
    table.keeping = replace(KEEP, max_bytes=table.view.size_bytes - 1)
    assert upkeep.expire(table, None) == 1
    assert times(rows_of(table)) == [DAY_S, 2 * DAY_S, 3 * DAY_S]
    table.keeping = replace(KEEP, max_bytes=0)
    assert upkeep.expire(table, None) == 2
    assert times(rows_of(table)) == [3 * DAY_S]
    assert upkeep.expire(table, None) == 0


def test_age_and_bytes_together_drop_each_file_once(tmp_path: Path) -> None:
    """The oldest first."""
    table = opened(tmp_path, replace(KEEP, max_bytes=1))
    for day in range(4):
        flushed(table, day * DAY_S, now_s=3 * DAY_S)
    assert upkeep.expire(table, at(31.5 * DAY_S)) == 3
    assert times(rows_of(opened(tmp_path))) == [3 * DAY_S]


def test_the_latest_rows_stay_when_late_ones_come(tmp_path: Path) -> None:
    """Both what is latest and what was sampled last."""
    table = opened(tmp_path, replace(KEEP, max_bytes=0))
    for day in (2, 5, 1):
        flushed(table, day * DAY_S, now_s=5 * DAY_S)
    assert upkeep.expire(table, at(99 * DAY_S)) == 1
    assert times(rows_of(table)) == [DAY_S, 5 * DAY_S]


@pytest.mark.parametrize("years", [9, -9])
def test_the_newest_sample_stays_when_the_clock_jumped(tmp_path: Path, years: int) -> None:
    """A snapshot is laid out by the time of sampling, which then says nothing of what is newest."""
    table = opened(tmp_path, replace(KEEP, max_bytes=1))
    for number, moment in enumerate((at(0), at(0) + timedelta(days=365 * years), at(1), at(2))):
        table.record(frame_of([("a", float(number))], (COLUMNS[2], COLUMNS[1])), moment)
        table.flush()
    upkeep.expire(table, at(3))
    assert list(rows_of(table)) == [("a", 3.0)]
    table.record(frame_of([("a", 9.0)], (COLUMNS[2], COLUMNS[1])), at(3) - timedelta(days=365 * abs(years)))
    table.flush()
    upkeep.expire(table, None)
    assert list(rows_of(opened(tmp_path))) == [("a", 9.0)]


def test_every_generation_is_dropped_from(tmp_path: Path) -> None:
    """Each in its own table."""
    table = opened(tmp_path)
    whole = run(0).data.with_columns(pl.col("value").cast(pl.Int64))
    table.record(run(0).with_data(whole), at(0))
    table.flush()
    flushed(table, 60, value=0.5)
    flushed(table, 9 * DAY_S, value=0.5)
    assert upkeep.expire(table, at(35 * DAY_S)) == 2
    assert [file.generation for file in table.view.files] == [2]
    assert times(rows_of(opened(tmp_path))) == [9 * DAY_S]


def test_files_that_left_the_table_are_deleted_hours_later(tmp_path: Path) -> None:
    """Whoever reads at that moment still has them; outlines go with them."""
    table = opened(tmp_path)
    rows = [(second / 2, float(second % 50)) for second in range(60_000)]
    table.record(without_dimension(rows), at(30_000))
    table.flush()
    upkeep.compact(table)
    table.record(without_dimension([(30_001.0, 1.0)]), at(30_001))
    table.flush()
    before = table.view
    upkeep.compact(table)
    assert len(list(table.outlines(1).iterdir())) == 2
    moved = max(path.stat().st_mtime for path in (table.folder / "g1").glob("*.parquet"))
    now = at(0).fromtimestamp(moved, at(0).tzinfo)
    assert upkeep.sweep(table, now) == 0
    assert all(file.path.exists() for file in before.files)
    later = now + timedelta(hours=GRACE_HOURS, minutes=1)
    assert upkeep.sweep(table, later) == 3 + 1, "three data files and an outline"
    assert [file.path.exists() for file in table.view.files] == [True]
    assert len(list(table.outlines(1).iterdir())) == 1
    assert len(rows_of(table)) == 60_001
    assert upkeep.sweep(opened(tmp_path, name="lab.other"), later) == 0


def test_what_cannot_be_deleted_is_said_in_words() -> None:
    """The history is as it was."""
    with open_folder() as folder:
        table = opened(folder)
        flushed(table, 0)
        table.outlines(1).mkdir()
        (table.outlines(1) / "c-1.parquet").touch()
        later = at(0).fromtimestamp((table.outlines(1) / "c-1.parquet").stat().st_mtime, at(0).tzinfo) + timedelta(
            days=1
        )
        table.outlines(1).chmod(0o555)
        with (
            common_user(),
            pytest.raises(StoreError, match="what is old could not be deleted: there is no permission"),
        ):
            upkeep.sweep(table, later)
        assert times(rows_of(table)) == [0]


def test_what_expires_now_is_still_read_by_who_began_before(tmp_path: Path) -> None:
    """It left the list now, however long ago it was written."""
    table = opened(tmp_path)
    flushed(table, 0)
    flushed(table, 9 * DAY_S)
    old = table.view.files[0].path
    long_ago = at(0).timestamp()
    os.utime(old, (long_ago, long_ago))
    assert upkeep.expire(table, at(35 * DAY_S)) == 1
    now = at(0).fromtimestamp(old.stat().st_mtime, at(0).tzinfo)
    upkeep.sweep(table, now)
    assert old.exists()


@pytest.mark.parametrize(
    ("keep_s", "wanted_s"),
    [(60, 3_600), (30 * DAY_S, DAY_S), (7 * DAY_S, 21_600), (400 * DAY_S, 2_592_000), (99 * YEAR_S, 31_536_000)],
)
def test_a_file_holds_a_thirtieth_of_what_is_kept_about(keep_s: float, wanted_s: int) -> None:
    """At most a year, at least an hour."""
    assert period_s(keep_s) == wanted_s
