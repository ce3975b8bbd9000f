"""Every row of every sample is recorded once, corrections beside it, whatever comes twice, late, or again."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import DAY_S, opened, rows_of, times, written
from tests.support import at, frame_of

from bridge.model.schema import Column, ColumnType, Role
from bridge.sources.history import upkeep
from bridge.sources.history.novelty import digest, novel, snapshot
from bridge.sources.history.stored import NOTHING, REV
from bridge.sources.registry import Keeping

COLUMNS = (
    Column("time", ColumnType.TIME, role=Role.TIME),
    Column("host", ColumnType.STRING, role=Role.DIMENSION),
    Column("level", ColumnType.NUMBER, role=Role.DIMENSION),
    Column("value", ColumnType.NUMBER, role=Role.MEASURE),
    Column("text", ColumnType.STRING),
)
Row = tuple[Any, ...]
TIMES, HOSTS = st.integers(0, 8), st.sampled_from(["a", "b", None])
LEVELS = st.sampled_from([1.0, None, math.nan])
VALUES = st.sampled_from([0.0, -1.5, 7.0, math.nan, None])
ROWS = st.tuples(TIMES, HOSTS, LEVELS, VALUES, st.sampled_from(["x", "y", None]))


def told(row: Row) -> Row:
    """A row that can be compared."""
    return tuple("NaN" if isinstance(cell, float) and math.isnan(cell) else cell for cell in row)


@dataclass
class Model:
    """What should be there: of each key its rows, and how often."""

    keys: dict[Row, Counter[Row]] = field(default_factory=dict)
    # After each sample that brought something new.
    versions: list[Counter[Row]] = field(default_factory=list)

    def record(self, sample: list[Row]) -> int:
        by_key: dict[Row, Counter[Row]] = {}
        for row in map(told, sample):
            by_key.setdefault(row[:3], Counter())[row] += 1
        new = 0
        for key, rows in by_key.items():
            held = self.keys.get(key, Counter())
            if rows.total() == 1 and held.total() == 1:
                after = rows
                new += rows != held
            else:
                after = held | rows
                new += after.total() - held.total()
            self.keys[key] = after
        if new:
            self.versions.append(self.now)
        return new

    @property
    def now(self) -> Counter[Row]:
        return sum(self.keys.values(), Counter())


STEPS = st.lists(
    st.tuples(
        st.lists(ROWS, max_size=7), st.sampled_from(["", "", "flush", "restart", "compact", "flush restart", "again"])
    ),
    min_size=1,
    max_size=7,
)


@given(steps=STEPS, whole=st.booleans())
@settings(max_examples=120, deadline=None)
def test_the_newest_rows_of_every_key_are_there_and_those_of_every_moment(
    steps: list[tuple[list[Row], str]], whole: bool
) -> None:
    """Duplicates, late rows, corrections there and back, log lines of one key, nulls and NaN, windows of any size."""
    model = Model()
    with tempfile.TemporaryDirectory() as name:
        # Whole numbers first, then others: a generation of its own.
        table = opened(Path(name))
        for number, (drawn, then) in enumerate(steps):
            sample, frame = drawn, frame_of(drawn, COLUMNS)
            if whole and number < 2:
                data = frame.data.with_columns(pl.col("value").fill_nan(None).cast(pl.Int64))
                frame = frame.with_data(data)
                sample = [(*row[:3], value, row[4]) for row, value in zip(drawn, data["value"], strict=True)]
            moment = at(100 + number)
            assert table.record(frame, moment) == model.record(sample)
            if "again" in then:
                assert table.record(frame, moment) == 0
            if "flush" in then or "compact" in then:
                table.flush()
            if "compact" in then:
                upkeep.compact(table)
            if "restart" in then:
                table.close()
                table = opened(Path(name))
        assert rows_of(table) == model.now
        for version, rows in enumerate(model.versions):
            assert rows_of(table, as_of=version) == rows
        table.close()


@pytest.mark.parametrize("then", ["", "flush", "restart"])
def test_a_row_that_is_put_back_to_what_it_was_is_a_correction_each_time(tmp_path: Path, then: str) -> None:
    """There and back, as often as it comes."""
    table = opened(tmp_path)
    for number, value in enumerate((1.0, 2.0, 1.0, 1.0, 3.0, 2.0, 1.0)):
        table.record(frame_of([(0, "a", 1.0, value, "x")], COLUMNS), at(number))
        if then:
            table.flush()
        if then == "restart":
            table.close()
            table = opened(tmp_path)
    for version, value in enumerate((1.0, 2.0, 1.0, 3.0, 2.0, 1.0)):
        assert list(rows_of(table, as_of=version)) == [(0.0, "a", 1.0, value, "x")]
    assert table.view.seq == 5


def column(*rows: tuple[float, float], names: tuple[str, ...] = ("time", "value")) -> pl.DataFrame:
    return frame_of(rows, (COLUMNS[0], COLUMNS[3])).data


def no_store(low_us: int, high_us: int) -> pl.DataFrame:
    raise AssertionError("the store was asked")


def test_what_is_later_than_all_that_is_recorded_is_new_without_a_look() -> None:
    """A usual sample costs no reading: its rows are those of the sample before, and later ones."""
    first, known = novel(column((0, 1), (1, 1)), ("time",), None, None, no_store)
    assert first[REV].to_list() == [0, 0]
    frontier_us = int(at(1).timestamp() * 1e6)
    new, known = novel(column((0, 1), (1, 5), (2, 1)), ("time",), known, frontier_us, no_store)
    assert new.rows() == [(at(1), 5.0, 1), (at(2), 1.0, 0)]
    new, again = novel(column((0, 1), (1, 5), (2, 1)), ("time",), known, frontier_us, no_store)
    assert not new.height
    assert again is known or len(again.rows) == 3


def test_only_the_time_of_doubtful_rows_is_looked_at() -> None:
    """Not all of the past."""
    _, known = novel(column((50, 1)), ("time",), None, None, no_store)
    asked: list[tuple[int, int]] = []

    def recorded(low_us: int, high_us: int) -> pl.DataFrame:
        asked.append((low_us, high_us))
        return column((20, 1), (21, 9))

    us = int(at(0).timestamp() * 1e6)
    sample = column((20, 1), (21, 1), (22, 1), (50, 1), (60, 1))
    new, _ = novel(sample, ("time",), known, us + 55_000_000, recorded)
    assert asked == [(us + 20_000_000, us + 22_000_000)]
    assert [(row[0], row[2]) for row in new.rows()] == [(at(21), 1), (at(22), 0), (at(60), 0)]


def test_large_samples_are_told_apart_as_small_ones_are() -> None:
    """Beyond some thousand rows it is done another way."""
    rows = [(second, float(second % 7)) for second in range(9_000)]
    _, known = novel(column(*rows), ("time",), None, None, no_store)
    rows[17] = (17, 99.0)
    new, _ = novel(column(*rows, (9_001, 1.0)), ("time",), known, int(at(9_000).timestamp() * 1e6), no_store)
    assert [(row[1], row[2]) for row in new.rows()] == [(99.0, 1), (1.0, 0)]


def test_all_rows_of_a_first_sample_are_taken_as_they_stand() -> None:
    """A million rows are not copied to be recorded."""
    data = column(*((second, 1.0) for second in range(1_000)))
    new, _ = novel(data, ("time",), None, None, no_store)
    assert new["value"].to_numpy().ctypes.data == data["value"].to_numpy().ctypes.data


def test_a_sample_without_rows_changes_nothing(tmp_path: Path) -> None:
    """And what was known of the keys of the sample before is looked up again."""
    table = opened(tmp_path)
    table.record(frame_of([(0, "a", 1.0, 1.0, "x")], COLUMNS), at(1))
    assert table.record(frame_of([], COLUMNS), at(2)) == 0
    assert table.record(frame_of([(0, "a", 1.0, 1.0, "x")], COLUMNS), at(3)) == 0
    assert table.record(frame_of([(0, "a", 1.0, 2.0, "x")], COLUMNS), at(4)) == 1
    assert list(rows_of(table)) == [(0.0, "a", 1.0, 2.0, "x")]
    assert table.view.last_at == at(4)


def test_rows_that_are_too_old_or_have_no_time_are_left_out(tmp_path: Path) -> None:
    """They would be dropped at once, or never be asked for."""
    table = opened(tmp_path, Keeping(10 * DAY_S, 5.0))
    rows = [(second, "a", 1.0, 1.0, "x") for second in (-11 * DAY_S, -9 * DAY_S, 0, None)]
    assert table.record(frame_of(rows, COLUMNS), at(0)) == 2
    assert table.record(frame_of(rows[1:], COLUMNS), at(0)) == 0
    assert table.record(frame_of(rows[3:], COLUMNS), at(0)) == 0
    assert times(rows_of(table)) == [-9 * DAY_S, 0]


@pytest.mark.parametrize("years", [9, -9])
def test_no_row_is_left_out_as_too_old_by_a_clock_that_is_years_wrong(tmp_path: Path, years: int) -> None:
    """What the source itself says of the time counts as well."""
    table = opened(tmp_path, Keeping(10 * DAY_S, 5.0))
    rows = [(-9 * DAY_S, "a", 1.0, 1.0, "x"), (0, "a", 1.0, 1.0, "x")]
    assert table.record(frame_of(rows, COLUMNS), at(years * 365 * DAY_S)) == 2


def test_a_snapshot_of_no_rows_says_that_there_were_none() -> None:
    """In place of a row, as there is none that could say when."""
    data = column((0, 1.0))
    assert snapshot(data)[REV].to_list() == [0]
    assert snapshot(data.clear()).rows() == [(None, None, NOTHING)]


def test_snapshots_are_the_same_when_their_rows_and_their_order_are() -> None:
    """NaN is NaN, and null is not zero."""
    data = column((0, math.nan), (1, 2.0))
    assert digest(data) == digest(column((0, math.nan), (1, 2.0)))
    others = [column((1, 2.0), (0, math.nan)), column((0, math.nan)), column((0, None), (1, 2.0)), data.clear()]  # type: ignore[arg-type]
    assert len({digest(other) for other in [data, *others]}) == 5


def test_a_column_that_moves_makes_no_row_new(tmp_path: Path) -> None:
    """A source that gives its columns in another order, also where the rows are looked up in the store."""
    table = opened(tmp_path)
    table.record(frame_of([(0, "a", 1.0, 2.0, "x")], COLUMNS), at(1))
    moved = (COLUMNS[4], COLUMNS[0], COLUMNS[3], COLUMNS[2], COLUMNS[1])
    assert table.record(frame_of([("x", 0, 2.0, 1.0, "a")], moved), at(2)) == 0
    table.flush()
    assert opened(tmp_path).record(frame_of([("x", 0, 2.0, 1.0, "a")], moved), at(2)) == 0
    assert sum(written(table, ("time", "text")).values()) == 1
