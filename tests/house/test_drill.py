"""`make drill` works, and its judge sees what it is there to see."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import CommitProperties, Transaction

from bridge.edge.segment import Segment

ROOT = Path(__file__).parents[2]
AT = datetime(2026, 11, 25, tzinfo=UTC)
KEY = ("time", "sensor")


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The judge, as the drill has it."""
    return loaded("drill_judge", monkeypatch)


def loaded(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the drill."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module(name)


def rows(*items: tuple[int, str, float, int, int]) -> pl.DataFrame:
    """Rows as they stand on the disk: second, sensor, value, sample, and whether it replaces one."""
    return pl.DataFrame(
        [(AT + timedelta(seconds=at), sensor, value, AT, seq, rev) for at, sensor, value, seq, rev in items],
        schema={
            "time": pl.Datetime("us", "UTC"),
            "sensor": pl.String,
            "value": pl.Float64,
            "_bridge_at": pl.Datetime("us", "UTC"),
            "_bridge_seq": pl.Int64,
            "_bridge_rev": pl.Int32,
        },
        orient="row",
    )


def laid_down(folder: Path, table: pl.DataFrame, *samples: pl.DataFrame) -> Path:
    """A history whose table has these rows, and whose segment has these samples."""
    last = table.get_column("_bridge_seq").max()
    assert isinstance(last, int)
    marks = CommitProperties(app_transactions=[Transaction("bridge", last)])
    table.write_delta(str(folder / "g1"), delta_write_options={"commit_properties": marks})
    segment, _ = Segment.open(folder / "open-g1.segment")
    for sample in samples:
        segment.append(sample.get_column("_bridge_seq")[0], payload(sample))
    segment.close()
    return folder


def payload(sample: pl.DataFrame) -> bytes:
    """A sample as a record of the segment has it."""
    out = sample.write_ipc_stream(None)
    return out.getvalue()


TABLE = rows((0, "a", 1.0, 0, 0), (1, "a", 2.0, 1, 0), (0, "a", 1.5, 2, 1))
SAMPLE = rows((2, "a", 3.0, 3, 0))


def test_a_sample_stands_in_the_table_or_in_the_segment_and_is_counted_once(judge: Any, tmp_path: Path) -> None:
    """A segment that was not removed yet holds what the table has, which is no double; what is new in it counts."""
    disk = judge.on_disk(laid_down(tmp_path, TABLE, rows((0, "a", 1.5, 2, 1)), SAMPLE))
    assert (disk.recorded, disk.files) == (4, 1)
    assert judge.physical("here", disk, KEY).clean
    found = judge.plain_rows(judge.resolved(disk, ("sensor", "value"), KEY))
    assert sorted(found) == [("a", 1.5), ("a", 2.0), ("a", 3.0)]


def test_a_row_that_was_recorded_a_second_time_is_a_double(judge: Any, tmp_path: Path) -> None:
    """The same row under another number, as a replay would write it, is found on the disk."""
    disk = judge.on_disk(laid_down(tmp_path, TABLE, rows((1, "a", 2.0, 3, 0))))
    verdict = judge.physical("here", disk, KEY)
    assert (verdict.doubled, verdict.clean) == (1, False)
    assert "two first rows" in verdict.told[0]


def test_a_sample_that_is_in_the_table_twice_is_a_double(judge: Any, tmp_path: Path) -> None:
    """A flush that was made twice."""
    verdict = judge.physical("here", judge.on_disk(laid_down(tmp_path, pl.concat([TABLE, TABLE.tail(1)]))), KEY)
    assert verdict.doubled == 1
    assert "twice in one sample" in verdict.told[0]


def test_what_is_set_aside_as_torn_must_not_be_whole(judge: Any, tmp_path: Path) -> None:
    """A whole record behind half a one, or a whole commit, is a loss that nobody would see."""
    laid_down(tmp_path, TABLE, SAMPLE)
    record = (tmp_path / "open-g1.segment").read_bytes().partition(b"\n")[2]
    torn = tmp_path / "open-g1.segment.torn"
    torn.write_bytes(record[:-1])
    assert judge.on_disk(tmp_path).problems == ()
    torn.write_bytes(b"half" + record)
    assert "whole record 3" in judge.on_disk(tmp_path).problems[0]
    torn.unlink()
    commit = tmp_path / "g1" / "_delta_log" / "00000000000000000001.json.torn"
    commit.write_text('{"add": {}}\n{"rem')
    assert judge.on_disk(tmp_path).problems == ()
    commit.write_text('{"add": {}}\n')
    assert "whole commit" in judge.on_disk(tmp_path).problems[0]


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        ([(("k",), (2,)), (("l",), (7,))], {}),
        ([(("k",), (3,)), (("l",), (7,))], {}),
        ([(("k",), (2,))], {"lost": 1}),
        ([(("k",), (2,)), (("k",), (2,)), (("l",), (7,))], {"doubled": 1}),
        ([(("k",), (1,)), (("l",), (7,))], {"lost": 1}),
        ([(("k",), (9,)), (("l",), (7,))], {"foreign": 1}),
        ([(("k",), (2,)), (("l",), (7,)), (("m",), (0,))], {"foreign": 1}),
    ],
    ids=["as told", "corrected since", "lost", "doubled", "correction lost", "value never said", "key never said"],
)
def test_rows_with_a_key_are_there_once_and_not_older_than_told(judge: Any, found: Any, wrong: Any) -> None:
    """k was said as 1, 2, 3, and acknowledged as 2."""
    said = {("k",): [(1,), (2,), (3,)], ("l",): [(7,)]}
    verdict = judge.keyed("here", {("k",): (2,), ("l",): (7,)}, found, said)
    counts = {name: getattr(verdict, name) for name in ("lost", "doubled", "foreign") if getattr(verdict, name)}
    assert counts == wrong
    assert len(verdict.told) == len(wrong)


@pytest.mark.parametrize(
    ("found", "wrong"),
    [("aab", {}), ("ab", {"lost": 1}), ("aaab", {"doubled": 1}), ("aabz", {"foreign": 1}), ("aabc", {})],
    ids=["as told", "lost", "doubled", "never said", "one more that was said"],
)
def test_rows_without_a_key_are_there_as_often_as_said(judge: Any, found: str, wrong: Any) -> None:
    """Two lines `a`, one `b` and one `c` were said, `a`, `a` and `b` acknowledged."""
    as_rows = [(letter,) for letter in found]
    said, told = Counter([("a",), ("a",), ("b",), ("c",)]), Counter([("a",), ("a",), ("b",)])
    verdict = judge.counted("here", told, as_rows, said)
    assert {n: getattr(verdict, n) for n in ("lost", "doubled", "foreign") if getattr(verdict, n)} == wrong


def test_corrections_come_to_rest_at_what_was_said_last(judge: Any) -> None:
    """An older value in the end is a correction that is lost."""
    assert judge.newest("here", [(("k",), (3,))], {("k",): (3,)}).clean
    assert judge.newest("here", [(("k",), (2,))], {("k",): (3,)}).lost == 1


def test_a_version_says_for_good_what_it_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger sees versions that go back, that change, and rows that go between two answers."""
    bridge, ledgers = loaded("drill_bridge", monkeypatch), loaded("drill_ledger", monkeypatch)
    watched, columns = bridge.WATCHED[0], ("time", "sensor", "value")

    def heard(*answers: tuple[int, list[tuple[Any, ...]]]) -> Any:
        ledger = ledgers.Ledger()
        for version, said in answers:
            ledger.take(watched, bridge.Answer(version, columns, said), "life 1")
        return ledger.verdict

    one, two, other = [(1, "a", 1.0)], [(1, "a", 1.0), (2, "a", 1.0)], [(1, "a", 5.0)]
    assert heard((1, one), (1, one), (2, two)).clean
    assert "went back" in heard((2, two), (1, two)).told[0]
    assert "something else of version 1" in heard((1, one), (1, other)).told[0]
    assert heard((1, two), (2, one)).lost == 1


def test_the_counter_of_rows_is_added_up_over_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins at nought in each process."""
    ledger = loaded("drill_ledger", monkeypatch).Ledger()
    for told in (3.0, 5.0):
        ledger.count({("a.b", ""): 1.0})
        ledger.count({("a.b", ""): told, ("a.b", "ok"): 2.0})
        ledger.died()
    assert ledger.told_rows("a.b") == 8
    assert ledger.outcomes["ok"] == 4


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_a_short_drill_loses_nothing_and_leaves_its_figures(tmp_path: Path) -> None:
    """Fifteen seconds of kills; the page keeps the benchmark's runs, and a later run of it keeps the drill."""
    page = tmp_path / "RESULTS.md"
    page.write_text("# Benchmarks\n\n## old run\n\ntext\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "drill.py"), "--seconds", "15", "--seed", "7", "--out", str(page)],
        capture_output=True,
        text=True,
        timeout=140,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "rows acknowledged" in done.stdout
    text = page.read_text()
    assert "## old run" in text
    line = re.search(r"^\| \d{4}-.+\| 15 \| 7 \| \d+, \d+ \(.+\) \| (\d+), \d+ \| 0 \| 0 \| 0 \| 0 \|", text, re.M)
    assert line, text
    assert int(line[1]) > 0


def test_a_benchmark_keeps_the_drills_below_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both write the same page."""
    pages = loaded("page", monkeypatch)
    page = tmp_path / "RESULTS.md"
    figures = {
        "took_s": 600,
        "kills": 3,
        "ends": "random 3",
        "lives": 4,
        "answers": 9,
        "acknowledged": 5,
        "recorded": 6,
    }
    more = {
        "lost": 0,
        "doubled": 0,
        "foreign": 0,
        "other": 0,
        "slowest_start_s": 1,
        "most_files": 9,
        "memory": "1 MB",
    }
    for seed in (11, 12):
        pages.write_drill(page, pages.Drilled(seed=seed, **figures, **more))
    pages.write(page, "## new run\n\ntext\n")
    text = page.read_text()
    assert text.index("## new run") < text.index("# Drills") < text.index("| 12 |") < text.index("| 11 |")
    assert text.count("# Drills") == 1
