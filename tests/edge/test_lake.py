"""The list of a Delta table's files changes as a whole or not at all, and says so when it cannot be understood."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from tests.edge.disks import common_user, file_bound, open_folder, run_mounted

from bridge.edge import lake_log
from bridge.edge.lake import GRACE_HOURS, MISSING, Lake, LakeFile, available, outlived
from bridge.errors import StoreBroken, StoreError, StoreNewer
from bridge.model.frame import TIME_DTYPE
from bridge.model.span import to_us

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
SAMPLE = pl.DataFrame({"time": [AT], "value": [1.0], "seq": [7]}, schema_overrides={"time": TIME_DTYPE})


def put(lake: Lake, name: str, data: pl.DataFrame = SAMPLE) -> LakeFile:
    """A data file that is on no list yet."""
    path = lake.folder / name
    data.write_parquet(path)
    us = to_us(AT)
    return LakeFile(
        name, data.height, path.stat().st_size, {"time": us + 1, "seq": 7}, {"time": us + 1_000_001, "seq": 7}
    )


def begun(folder: Path, commits: int = 0) -> Lake:
    """A table with so many files, one for each commit."""
    lake = Lake(folder)
    lake.create(SAMPLE)
    for number in range(commits):
        lake.commit([put(lake, f"s-{number}.parquet")], last_seq=number)
    return lake


def files_of(lake: Lake) -> list[LakeFile]:
    return sorted(lake.load()[0], key=lambda file: file.path)


def names(lake: Lake) -> list[str]:
    return [file.path for file in files_of(lake)]


def log_of(lake: Lake) -> Path:
    return lake.folder / "_delta_log"


def commit_of(lake: Lake, number: int) -> Path:
    return lake_log.commit_path(log_of(lake), number)


# ---- what is there


def test_a_table_holds_what_was_committed(tmp_path: Path) -> None:
    """With the number of the last rows, for us and for every other reader of Delta tables."""
    lake = Lake(tmp_path / "deep" / "g1")
    assert not lake.exists
    assert lake.load() == ([], -1)
    assert lake.sweep(AT) == 0
    lake.create(SAMPLE)
    assert lake.exists
    assert lake.load() == ([], -1)
    first, second = put(lake, "s-1.parquet"), put(lake, "s-2.parquet")
    lake.commit([first], last_seq=4)
    lake.commit([second], last_seq=9)
    found, last = Lake(lake.folder).load()
    assert sorted(file.path for file in found) == ["s-1.parquet", "s-2.parquet"]
    assert last == 9
    assert pl.scan_delta(str(lake.folder)).collect().height == 2


def test_bounds_are_kept_rounded_outwards(tmp_path: Path) -> None:
    """The format has milliseconds only: a row must never lie outside its file's bounds."""
    lake = begun(tmp_path / "g1", commits=1)
    ((file,), _) = lake.load()
    assert file.rows == 1
    assert file.low == {"time": to_us(AT), "seq": 7}
    assert file.high == {"time": to_us(AT) + 1_001_000, "seq": 7}


def test_bounds_in_early_and_late_years_are_read_back(tmp_path: Path) -> None:
    """Those that a wrong clock gives."""
    lake = Lake(tmp_path / "g1")
    lake.create(SAMPLE)
    low, high = to_us(datetime(33, 4, 3, tzinfo=UTC)), to_us(datetime(9998, 1, 1, tzinfo=UTC))
    file = put(lake, "s-1.parquet")
    lake.commit([LakeFile(file.path, 1, file.size_bytes, {"time": low}, {"time": high})], last_seq=0)
    ((found,), _) = lake.load()
    assert (found.low, found.high) == ({"time": low}, {"time": high})


def test_files_are_exchanged_in_one_commit(tmp_path: Path) -> None:
    """The same rows stand elsewhere then; the number of the last rows stays."""
    lake = begun(tmp_path / "g1", commits=3)
    files = files_of(lake)
    lake.commit([put(lake, "c-1.parquet")], files[:2])
    assert (names(lake), lake.load()[1]) == (["c-1.parquet", "s-2.parquet"], 2)
    lake.commit([], files[2:])
    assert names(lake) == ["c-1.parquet"]


def test_a_column_is_added_once(tmp_path: Path) -> None:
    """What is there already is not written anew."""
    lake = begun(tmp_path / "g1", commits=1)
    before = len(os.listdir(log_of(lake)))
    lake.widen(SAMPLE)
    assert len(os.listdir(log_of(lake))) == before
    wider = SAMPLE.with_columns(pl.lit("x").alias("note"))
    lake.widen(wider)
    lake.widen(SAMPLE)
    lake.commit([put(lake, "s-9.parquet", wider)], last_seq=5)
    assert pl.scan_delta(str(lake.folder)).sort("note").collect()["note"].to_list() == [None, "x"]


def test_a_machine_without_the_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name and how it is installed."""
    assert available()
    monkeypatch.setitem(sys.modules, "deltalake", None)
    assert not available()
    assert "the extra `lake`" in MISSING


# ---- a log that was cut short


@pytest.mark.parametrize("moved", [False, True], ids=["flush", "exchange"])
def test_a_newest_commit_cut_at_any_byte_never_was(tmp_path: Path, moved: bool) -> None:
    """Neither a part of its files nor its number counts; the table goes on from the commit before."""
    lake = begun(tmp_path / "g1", commits=3)
    if moved:
        lake.commit([put(lake, "c-1.parquet"), put(lake, "c-2.parquet")], files_of(lake)[:2])
    else:
        lake.commit([put(lake, "s-3.parquet")], last_seq=3)
    newest = 4
    whole = commit_of(lake, newest).read_bytes()
    lines = [index for index, byte in enumerate(whole) if byte == 10]
    cuts = {0, 1, len(whole) // 2, len(whole) - 1, *lines, *(at + 1 for at in lines)}
    for cut in sorted(cuts):
        shutil.rmtree(tmp_path / "cut", ignore_errors=True)
        shutil.copytree(lake.folder, tmp_path / "cut")
        torn = Lake(tmp_path / "cut")
        os.truncate(commit_of(torn, newest), cut)
        assert (names(torn), torn.load()[1]) == (["s-0.parquet", "s-1.parquet", "s-2.parquet"], 2), cut
        assert commit_of(torn, newest).with_suffix(".json.torn").stat().st_size == cut
        torn.commit([put(torn, "s-8.parquet")], last_seq=8)
        assert pl.scan_delta(str(torn.folder)).collect().height == 4


def test_a_newest_commit_of_new_columns_cut_short_never_was(tmp_path: Path) -> None:
    """The column is added again with the next rows."""
    lake = begun(tmp_path / "g1", commits=1)
    wider = SAMPLE.with_columns(pl.lit("x").alias("note"))
    lake.widen(wider)
    whole = commit_of(lake, 2).read_bytes()
    commit_of(lake, 2).write_bytes(whole[: whole.index(b"\n")])
    assert names(lake) == ["s-0.parquet"]
    lake.widen(wider)
    assert pl.scan_delta(str(lake.folder)).collect()["note"].to_list() == [None]


@pytest.mark.parametrize("lines", [0, 1, 2])
def test_a_first_commit_cut_short_is_made_again(tmp_path: Path, lines: int) -> None:
    """As long as no data has come after it."""
    lake = begun(tmp_path / "g1")
    whole = commit_of(lake, 0).read_bytes().splitlines(keepends=True)
    commit_of(lake, 0).write_bytes(b"".join(whole[:lines]))
    assert lake.load() == ([], -1)
    assert not lake.exists
    lake.create(SAMPLE)
    assert lake.load() == ([], -1)


def test_a_first_commit_damaged_with_data_behind_it_is_left_alone(tmp_path: Path) -> None:
    """It was whole when the data came."""
    lake = begun(tmp_path / "g1")
    put(lake, "s-0.parquet")
    os.truncate(commit_of(lake, 0), 10)
    with pytest.raises(StoreBroken, match="commit 0 of the Delta log"):
        lake.load()
    assert commit_of(lake, 0).stat().st_size == 10


def test_commits_of_other_programs_are_taken_as_they_are(tmp_path: Path) -> None:
    """Nobody else says how many lines they should have."""
    lake = begun(tmp_path / "g1", commits=2)
    commit_of(lake, 3).write_text('{"commitInfo":{"operation":"OPTIMIZE"}}\n')
    assert names(lake) == ["s-0.parquet", "s-1.parquet"]
    assert commit_of(lake, 3).exists()


def damaged(number: int, text: str = "{nope") -> Callable[[Lake], object]:
    return lambda lake: commit_of(lake, number).write_text(text)


def gone(number: int) -> Callable[[Lake], object]:
    return lambda lake: commit_of(lake, number).unlink()


OLDER = {
    "damaged": (damaged(2), "commit 2 of the Delta log in `.*` is damaged"),
    "emptied": (damaged(2, ""), "commit 2 of the Delta log in `.*` is damaged"),
    "a list": (damaged(2, "[1]"), "commit 2 of the Delta log in `.*` is damaged"),
    "missing": (gone(2), "commit 2 of the Delta log in `.*` is missing"),
    "first missing": (gone(0), "commit 0 of the Delta log in `.*` is missing"),
    "first damaged": (damaged(0, ""), "commit 0 of the Delta log in `.*` is damaged"),
    "senseless": (
        damaged(1, '{"commitInfo":{"bridgeActions":"1"}}\n{"add":{"path":5}}'),
        "the Delta log in `.*` cannot be read: ",
    ),
    "all": (
        lambda lake: shutil.rmtree(log_of(lake)),
        "the Delta log in `.*` is missing, though data files are there",
    ),
    "all but the folder": (
        lambda lake: [path.unlink() for path in log_of(lake).iterdir()],
        "the Delta log in `.*` is missing, though data files are there",
    ),
}


@pytest.mark.parametrize("case", OLDER)
def test_an_older_commit_destroyed_is_told_and_nothing_is_touched(tmp_path: Path, case: str) -> None:
    """What is still there may be mended by a person."""
    lake = begun(tmp_path / "g1", commits=4)
    harm, sentence = OLDER[case]
    harm(lake)
    before = {path: path.stat().st_mtime_ns for path in sorted(lake.folder.rglob("*"))}
    for act in (lake.load, lambda: Lake(lake.folder).load(), lambda: lake.sweep(AT + timedelta(days=9_999))):
        with pytest.raises(StoreBroken, match=sentence) as caught:
            act()
        assert caught.value.remedy.startswith("new samples stay in the segments beside it")
    assert {path: path.stat().st_mtime_ns for path in sorted(lake.folder.rglob("*"))} == before


def test_data_files_without_a_log_are_not_begun_anew(tmp_path: Path) -> None:
    """They would be on no list, and deleted as what nobody needs."""
    lake = begun(tmp_path / "g1", commits=1)
    shutil.rmtree(log_of(lake))
    with pytest.raises(StoreBroken, match="is missing, though data files are there"):
        lake.create(SAMPLE)
    assert not log_of(lake).exists()


@pytest.mark.parametrize("cut", [0, 100, 3_000])
@pytest.mark.parametrize("hint", [True, False])
def test_a_torn_checkpoint_is_not_needed(tmp_path: Path, cut: int, hint: bool) -> None:
    """The commits that it sums up are still there."""
    lake = begun(tmp_path / "g1", commits=44)
    checkpoint = lake_log.checkpoint_path(log_of(lake), 39)
    assert lake_log.listed(log_of(lake)).checkpoints == [19, 39]
    os.truncate(checkpoint, cut)
    if not hint:
        (log_of(lake) / "_last_checkpoint").unlink()
    assert len(names(lake)) == 44
    assert lake.load()[1] == 43
    assert not checkpoint.exists()
    lake.commit([put(lake, "s-99.parquet")], last_seq=99)
    assert pl.scan_delta(str(lake.folder)).collect().height == 45


@pytest.mark.parametrize("said", ["", "{", "[]", '{"version":99}', '{"version":19}'])
def test_a_torn_or_wrong_hint_at_the_checkpoint_is_not_followed(tmp_path: Path, said: str) -> None:
    """It only spares a look at the folder."""
    lake = begun(tmp_path / "g1", commits=44)
    (log_of(lake) / "_last_checkpoint").write_text(said)
    assert len(names(lake)) == 44
    assert pl.scan_delta(str(lake.folder)).collect().height == 44


def test_the_highest_number_is_found_in_whatever_is_left(tmp_path: Path) -> None:
    """Though the log cannot be read as a whole."""
    lake = begun(tmp_path / "g1", commits=4)
    assert Lake(tmp_path / "none").highest_number() == -1
    commit_of(lake, 1).unlink()
    assert lake.highest_number() == 3


# ---- newer programs


NEWER = {
    "reader": '{"protocol":{"minReaderVersion":4,"minWriterVersion":2}}',
    "feature": '{"protocol":{"minReaderVersion":3,"minWriterVersion":7,'
    '"readerFeatures":["x"],"writerFeatures":["x"]}}',
    "column mapping": '{"protocol":{"minReaderVersion":2,"minWriterVersion":5}}',
    "writer": '{"protocol":{"minReaderVersion":1,"minWriterVersion":8}}',
}


@pytest.mark.parametrize("case", NEWER)
def test_a_table_of_a_newer_program_is_left_as_it_is(tmp_path: Path, case: str) -> None:
    """It may say that rows are deleted, or that columns have other names."""
    lake = begun(tmp_path / "g1", commits=2)
    commit_of(lake, 3).write_text(NEWER[case])
    before = sorted(path.name for path in lake.folder.rglob("*"))
    for act in (lake.load, lambda: lake.commit([put(lake, "s-0.parquet")], last_seq=9)):
        with pytest.raises(StoreNewer, match="was written by a newer version of bridge, or by another program"):
            act()
    assert sorted(path.name for path in lake.folder.rglob("*")) == before


# ---- room and time


@pytest.mark.slow
def test_the_log_stays_short_whatever_the_clock_says(tmp_path: Path) -> None:
    """Commits that a checkpoint sums up go by their number; those of hours stay."""
    lake = begun(tmp_path / "g1")
    files = [put(lake, "s-0.parquet"), put(lake, "s-1.parquet")]
    lake.commit(files[:1], last_seq=0)
    most = 0
    for number in range(1, 521):
        lake.commit([files[number % 2]], [files[1 - number % 2]], last_seq=number)
        most = max(most, len(os.listdir(log_of(lake))))
    assert most < lake_log.KEPT_COMMITS + 100
    found = lake_log.listed(log_of(lake))
    assert len(found.commits) >= lake_log.KEPT_COMMITS
    assert found.checkpoints[0] == found.commits[0]
    assert (names(lake), lake.load()[1]) == (["s-0.parquet"], 520)
    os.truncate(lake_log.checkpoint_path(log_of(lake), found.checkpoints[-1]), 10)
    assert (names(lake), lake.load()[1]) == (["s-0.parquet"], 520), "an older checkpoint and the commits since then"


def test_no_commit_is_deleted_that_no_checkpoint_sums_up(tmp_path: Path) -> None:
    """However many there are."""
    for number in range(lake_log.KEPT_COMMITS + 50):
        lake_log.commit_path(tmp_path, number).touch()
    lake_log.checkpoint_path(tmp_path, lake_log.KEPT_COMMITS).touch()
    lake_log.trim(tmp_path)
    assert len(lake_log.listed(tmp_path).commits) == lake_log.KEPT_COMMITS + 50


def test_a_file_that_left_the_list_stays_for_hours(tmp_path: Path) -> None:
    """Whoever reads an older version has it open; what is on the list stays for good."""
    lake = begun(tmp_path / "g1", commits=2)
    for path in lake.folder.glob("*.parquet"):
        os.utime(path, (AT.timestamp(), AT.timestamp()))
    files = files_of(lake)
    lake.commit([], files[:1])
    now = datetime.fromtimestamp((lake.folder / "s-0.parquet").stat().st_mtime, UTC)
    assert now > AT + timedelta(days=1), "it counts from when it left, not from when it was made"
    assert lake.sweep(now + timedelta(hours=GRACE_HOURS, seconds=-5)) == 0
    assert lake.sweep(now + timedelta(hours=GRACE_HOURS, seconds=5)) == 1
    assert names(lake) == ["s-1.parquet"]
    assert [path.name for path in lake.folder.glob("*.parquet")] == ["s-1.parquet"]


def test_what_never_came_onto_the_list_is_deleted_after_hours(tmp_path: Path) -> None:
    """Data files and drafts of commits of a process that was killed, and what was set aside."""
    lake = begun(tmp_path / "g1", commits=1)
    put(lake, "c-9.parquet")
    (log_of(lake) / "_commit_77.json.tmp").write_text("{")
    (log_of(lake) / "00000000000000000002.json.torn").write_text("{")
    (log_of(lake) / "00000000000000000001.crc").write_text("of another program")
    now = datetime.fromtimestamp((lake.folder / "c-9.parquet").stat().st_mtime, UTC)
    assert lake.sweep(now) == 0
    assert lake.sweep(now + timedelta(hours=GRACE_HOURS, minutes=1)) == 3
    assert sorted(os.listdir(log_of(lake))) == [
        "00000000000000000000.json",
        "00000000000000000001.crc",
        "00000000000000000001.json",
    ]
    assert names(lake) == ["s-0.parquet"]


def test_a_file_of_a_clock_that_was_ahead_is_deleted_some_hours_later(tmp_path: Path) -> None:
    """Not when that clock would be right."""
    path = tmp_path / "file"
    path.touch()
    ahead = AT + timedelta(days=4_000)
    os.utime(path, (ahead.timestamp(), ahead.timestamp()))
    assert not outlived(path, AT)
    assert not outlived(path, AT + timedelta(hours=GRACE_HOURS - 1))
    assert outlived(path, AT + timedelta(hours=GRACE_HOURS + 1))
    assert not outlived(path, AT), "it is gone"


def test_a_file_deleted_by_hand_can_be_taken_off_the_list(tmp_path: Path) -> None:
    """And is not needed for that."""
    lake = begun(tmp_path / "g1", commits=2)
    files = files_of(lake)
    (lake.folder / files[0].path).unlink()
    lake.commit([], files[:1])
    assert names(lake) == ["s-1.parquet"]


def test_a_file_that_is_not_there_is_not_put_on_the_list(tmp_path: Path) -> None:
    """The list is as it was."""
    lake = begun(tmp_path / "g1", commits=1)
    file = put(lake, "s-7.parquet")
    (lake.folder / file.path).unlink()
    with pytest.raises(StoreError, match="could not be written: it does not exist"):
        lake.commit([file], last_seq=5)
    assert (names(lake), lake.load()[1]) == (["s-0.parquet"], 0)


# ---- disks that refuse


def test_a_full_disk_is_said_in_words_and_the_list_is_as_it_was(tmp_path: Path) -> None:
    """It goes on when there is room again."""
    script = """
import sys
from pathlib import Path
from tests.edge.disks import fill
from tests.edge.test_lake import SAMPLE, Lake, put
from bridge.errors import StoreError
folder = Path(sys.argv[1])
lake = Lake(folder / "g1")
lake.create(SAMPLE)
lake.commit([put(lake, "s-0.parquet")], last_seq=0)
file = put(lake, "s-1.parquet")
fill(folder)
for act in (lambda: lake.commit([file], last_seq=1), lambda: Lake(folder / "g2").create(SAMPLE)):
    try:
        act()
    except StoreError as error:
        print(error.sentence.replace(sys.argv[1], ""))
(folder / "ballast").unlink()
print([f.path for f in lake.load()[0]])
lake.commit([file], last_seq=1)
print(sorted(f.path for f in lake.load()[0]), lake.load()[1])
"""
    full = "the disk is full (make room there, or give bridge another `data_dir`)"
    assert run_mounted("size=256k", script, tmp_path) == [
        f"the Delta log in `/g1` could not be written: {full}",
        f"the Delta log in `/g2` could not be written: {full}",
        "['s-0.parquet']",
        "['s-0.parquet', 's-1.parquet'] 1",
    ]


def test_a_bound_on_the_size_of_files_is_said_in_words(tmp_path: Path) -> None:
    """Whatever library it was that was refused."""
    lake = begun(tmp_path / "g1", commits=1)
    file = put(lake, "s-7.parquet")
    with file_bound(10), pytest.raises(StoreError, match=r"could not be written: .*larger than the system allows"):
        lake.commit([file], last_seq=5)
    assert names(lake) == ["s-0.parquet"]


def test_missing_permission_is_said_in_words() -> None:
    """To write, and to look."""
    with open_folder() as folder:
        lake = begun(folder / "g1", commits=1)
        file = put(lake, "s-7.parquet")
        log_of(lake).chmod(0o555)
        with common_user():
            with pytest.raises(StoreError, match="could not be written: there is no permission"):
                lake.commit([file], last_seq=5)
            with pytest.raises(StoreError, match="could not be written: there is no permission"):
                Lake(folder / "g1" / "deeper").create(SAMPLE)
            assert names(lake) == ["s-0.parquet"]
        log_of(lake).chmod(0o000)
        with common_user(), pytest.raises(StoreError, match="could not be read: there is no permission"):
            lake.load()
        log_of(lake).chmod(0o755)


def test_columns_that_a_table_cannot_have_are_told(tmp_path: Path) -> None:
    """As the library says it."""
    with pytest.raises(StoreError, match=r"could not be written: .*Duplicate field name") as caught:
        Lake(tmp_path / "g1").create(pl.DataFrame({"a": [1], "A": [2]}))
    assert "taken away or damaged" in caught.value.remedy
    lake = begun(tmp_path / "g2")
    with pytest.raises(StoreError, match="could not be written: "):
        lake.widen(SAMPLE.with_columns(pl.lit(1).alias("VALUE")))
    lake.widen(SAMPLE)


def test_faults_of_bridge_itself_are_not_dressed_up(tmp_path: Path) -> None:
    """Only what the library says is about the disk."""
    with pytest.raises(AttributeError):
        Lake(tmp_path / "g1").create(None)  # type: ignore[arg-type]
