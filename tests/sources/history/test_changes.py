"""Which changes of a schema a history takes by itself, and which stop it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.errors import SchemaChanged
from bridge.model.schema import Column, ColumnType, Kind, Role, Schema
from bridge.sources.history.changes import Verdict, compare, evolved, first, guesses
from bridge.sources.history.versions import Versions

N, S, B, T, J = ColumnType.NUMBER, ColumnType.STRING, ColumnType.BOOLEAN, ColumnType.TIME, ColumnType.JSON
AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
LATER = AT + timedelta(days=2)
TIME = Column("time", T, role=Role.TIME)
LOAD = Column("load", N, unit="s", role=Role.MEASURE)
SEEDS = Column("seeds", N)
MODEL = Column("model", S, role=Role.DIMENSION)
OTHER = Column("started_at", T)
COLUMNS = (TIME, LOAD, SEEDS, MODEL, OTHER)
STORED = {"load": "number", "seeds": "integer"}


def begun(*columns: Column) -> Versions:
    """A history of these columns."""
    return first("lab.runs", Schema(columns or COLUMNS), STORED, AT)


def changed(**columns: Any) -> tuple[Column, ...]:
    """The columns with some replaced, or left out where None is given."""
    return tuple(
        column
        for old in COLUMNS
        if (column := columns.get(old.name, old) if old.name in columns else old) is not None
    )


SAME = [
    (COLUMNS, STORED),
    (tuple(reversed(COLUMNS)), STORED),
    (changed(load=Column("load", N, unit="s", role=Role.MEASURE, description="of the machine", decimals=2)), STORED),
    # Whole numbers in a column of fractions are numbers still; a unit that nobody says any more is still known.
    (COLUMNS, {"load": "integer", "seeds": "integer"}),
    (COLUMNS, {}),
    (changed(load=Column("load", N, role=Role.MEASURE)), STORED),
]


@pytest.mark.parametrize(("columns", "stored"), SAME)
def test_what_changes_nothing_recorded_is_no_new_version(columns: tuple[Column, ...], stored: dict[str, str]) -> None:
    """Order, descriptions, and numbers that happen to be whole."""
    versions = begun()
    assert compare(versions, Schema(columns), stored).verdict is Verdict.SAME
    assert evolved(versions, Schema(columns), stored, LATER) is versions


COMPATIBLE = [
    (
        (*COLUMNS, Column("loss", N)),
        STORED,
        1,
        "`loss` (type number) is new; it is empty in what was recorded before",
    ),
    (COLUMNS, {"seeds": "number"}, 2, "`seeds` is recorded as number from now on, as integer before"),
    (changed(seeds=Column("seeds", N, unit="short")), STORED, 1, "`seeds` has the unit `short`"),
    (changed(model=Column("model", S)), STORED, 1, "`model` has the role of an attribute"),
    (changed(seeds=Column("seeds", N, role=Role.MEASURE)), STORED, 1, "`seeds` has the role measure"),
    (changed(seeds=Column("seeds", N, kind=Kind.COUNTER)), STORED, 1, "`seeds` is a counter"),
]


@pytest.mark.parametrize(("columns", "stored", "generation", "sentence"), COMPATIBLE)
def test_a_compatible_change_becomes_a_version_by_itself(
    columns: tuple[Column, ...], stored: dict[str, str], generation: int, sentence: str
) -> None:
    """Files of their own begin only where the values are stored otherwise."""
    versions = begun()
    change = compare(versions, Schema(columns), stored)
    assert (change.verdict, change.sentences) == (Verdict.COMPATIBLE, (f"`lab.runs`: {sentence}",))
    after = evolved(versions, Schema(columns), stored, LATER)
    assert (after.current.version, after.current.generation, after.current.why) == (2, generation, "evolved")
    assert compare(after, Schema(columns), stored).verdict is Verdict.SAME
    for column in versions.current.columns:
        now = after.current.by_id(column.id)
        assert now is not None
        assert now.name == column.name


BREAKING = [
    (changed(load=None), "`lab.runs` no longer has `load` (type number), which its history has since 2026-01-31"),
    (
        (TIME, Column("load_s", N), *COLUMNS[2:]),
        "`lab.runs` no longer has `load` (type number), which its history has since 2026-01-31 "
        "(`load_s`, of the same type, is new: it may be the same under another name)",
    ),
    (changed(load=Column("load", S)), "`lab.runs` has `load` as string now, its history as number"),
    (changed(model=Column("model", J)), "`lab.runs` has `model` as json now, its history as string"),
    (changed(load=Column("load", N, unit="ms")), "`lab.runs` has `load` in `ms` now, its history in `s`"),
    (
        changed(time=Column("time", T), started_at=Column("started_at", T, role=Role.TIME)),
        "`lab.runs` has `started_at` as its time column now, its history `time`",
    ),
    (changed(time=Column("time", T)), "`lab.runs` has none as its time column now, its history `time`"),
    (changed(time=None), "`lab.runs` no longer has `time` (type time), which its history has since 2026-01-31"),
]


@pytest.mark.parametrize(("columns", "sentence"), BREAKING)
def test_a_breaking_change_stops_the_dataset_with_a_sentence(columns: tuple[Column, ...], sentence: str) -> None:
    """It says what, since when, and which command helps; no version is made."""
    versions = begun()
    change = compare(versions, Schema(columns), STORED)
    assert (change.verdict, change.sentences) == (Verdict.BREAKING, (sentence,))
    with pytest.raises(SchemaChanged) as raised:
        evolved(versions, Schema(columns), STORED, LATER)
    assert raised.value.message == f"{sentence}; nothing was changed"
    assert raised.value.remedy == "`bridge sources migrate lab.runs` shows what would happen and applies it"


def test_a_time_that_comes_to_a_dataset_without_one_stops_it() -> None:
    """Its rows were kept as snapshots, which is another history."""
    versions = begun(LOAD)
    change = compare(versions, Schema((TIME, LOAD)), STORED)
    assert change.sentences == ("`lab.runs` has `time` as its time column now, its history none",)


def test_a_breaking_change_is_told_before_a_compatible_one() -> None:
    """A column that comes along with it is not recorded by itself: it may be the old one."""
    change = compare(begun(), Schema((*changed(load=None), Column("x", S))), STORED)
    assert change.verdict is Verdict.BREAKING


def test_many_changes_are_told_in_few_words() -> None:
    """The first three, and how many more."""
    text = compare(begun(), Schema((TIME,)), STORED).error().message
    assert text.count("no longer has") == 3
    assert text.endswith("; and 1 more; nothing was changed")


def test_the_date_is_that_of_the_column_not_of_the_history() -> None:
    """A column that came later has been there since then."""
    versions = evolved(begun(), Schema((*COLUMNS, Column("loss", N))), STORED, LATER)
    change = compare(versions, Schema(COLUMNS), STORED)
    assert change.sentences == (
        "`lab.runs` no longer has `loss` (type number), which its history has since 2026-02-02",
    )


def test_a_name_that_comes_back_is_another_column() -> None:
    """Its number is one that no column had; only going back, or a person, brings the old one back."""
    versions = evolved(begun(), Schema((*COLUMNS, Column("loss", N))), STORED, LATER)
    ids = [column.id for column in versions.current.columns]
    assert ids == [1, 2, 3, 4, 5, 6]


def test_renames_are_guessed_by_type_and_name() -> None:
    """The only pair of its type, or names that are alike; each name once."""
    gone = begun().current.columns
    assert guesses(gone[1:2], [Column("x", N)]) == {"load": "x"}
    assert guesses(gone[1:2], [Column("x", S)]) == {}
    assert guesses(gone[1:3], [Column("load_s", N), Column("seed", N)]) == {"load": "load_s", "seeds": "seed"}
    assert guesses(gone[1:3], [Column("x", N), Column("y", N)]) == {}
    assert guesses(gone[:1], [Column("x", T)]) == {}, "a time that is the time of the rows is not any time"


def test_so_many_columns_that_every_pair_would_take_long_are_not_guessed() -> None:
    """Thousands of columns that are all renamed at once are told without a guess, and at once."""
    many = tuple(Column(f"c{number}", N) for number in range(3_000))
    versions = begun(TIME, *many)
    renamed = tuple(Column(f"d{number}", N) for number in range(3_000))
    change = compare(versions, Schema((TIME, *renamed)), {})
    assert len(change.sentences) == 3_000
    assert "another name" not in change.sentences[0]
