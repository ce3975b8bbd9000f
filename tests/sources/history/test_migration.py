"""What a person decides of a changed schema, and that every decision can be taken back without losing a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import BadRequest, StoreError
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.sources.history.changes import Verdict, compare, evolved, first
from bridge.sources.history.migration import Plan, adopted, applied, plan, plan_back
from bridge.sources.history.schema_text import parsed, written
from bridge.sources.history.versions import Version, Versions, expressions, schema_of, stored_schema

N, S, B, T = ColumnType.NUMBER, ColumnType.STRING, ColumnType.BOOLEAN, ColumnType.TIME
AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
TIME = Column("time", T, role=Role.TIME)
LOAD = Column("load", N, unit="s", role=Role.MEASURE)
SEEDS = Column("seeds", N)
MODEL = Column("model", S, role=Role.DIMENSION)
STORED = {"load": "number", "seeds": "integer"}
PER_SECOND = {"s": 1.0, "ms": 1_000.0, "m": 1 / 60}


def begun(*columns: Column) -> Versions:
    """A history of these columns."""
    return first("lab.runs", Schema(columns or (TIME, LOAD, SEEDS, MODEL)), STORED, AT)


def planned(*columns: Column, stored: Mapping[str, str] = STORED, **renames: str) -> Plan:
    """A migration of the usual history to these columns."""
    return plan(begun(), Schema(columns), stored, renames)


def told(made: Plan) -> dict[str, str]:
    """How each column is read."""
    return {item.column.name: item.how for item in made.columns}


def test_a_plan_says_where_every_column_comes_from() -> None:
    """Renamed with its unit converted, as it was, new, and what is not shown any more."""
    made = planned(TIME, Column("duration", N, unit="ms"), Column("seeds", S), Column("loss", N), load="duration")
    assert told(made) == {
        "time": "as before",
        "duration": "was `load`, `s` × 1000 = `ms`",
        "seeds": "number read as string",
        "loss": "new, empty before",
    }
    assert [column.name for column in made.hidden] == ["model"]
    assert [item.column.id for item in made.columns] == [1, 2, 3, 5]
    assert not any(item.may_lose for item in made.columns)


@pytest.mark.parametrize(
    ("before", "now", "how", "may_lose"),
    [
        (Column("x", S), Column("x", N), "string read as number, what is no number becomes empty", True),
        (Column("x", S), Column("x", T), "string read as time, what is no time becomes empty", True),
        (
            Column("x", N),
            Column("x", B),
            "number read as boolean, what is neither true nor false becomes empty",
            True,
        ),
        (Column("x", N, unit="celsius"), Column("x", N, unit="kelvin"), "`celsius` × 1 + 273.15 = `kelvin`", False),
        (Column("x", N, unit="kelvin"), Column("x", N, unit="celsius"), "`kelvin` × 1 - 273.15 = `celsius`", False),
        (Column("x", N, unit="laps"), Column("x", N, unit="rounds"), "unit was `laps`, values as they are", False),
        (Column("x", N), Column("x", N, unit="s"), "as before", False),
    ],
)
def test_a_plan_says_how_values_are_read_and_which_are_lost(
    before: Column, now: Column, how: str, *, may_lose: bool
) -> None:
    """In words for the person who decides."""
    made = plan(begun(before), Schema((now,)), {}, {})
    (item,) = made.columns
    assert (item.how, item.may_lose, item.column.id) == (how, may_lose, 1)


@pytest.mark.parametrize(
    ("before", "now", "other"),
    [
        (Column("x", T), Column("x", N), "`x` (time)"),
        (Column("x", N, unit="s"), Column("x", N, unit="bytes"), "`x` (number in s)"),
    ],
)
def test_what_cannot_be_read_as_the_new_column_is_another_column(before: Column, now: Column, other: str) -> None:
    """Seconds are no bytes: the old values are kept aside, and come back when it is taken back."""
    versions = begun(before)
    made = plan(versions, Schema((now,)), {}, {})
    assert told(made) == {"x": f"new, empty before; it is another column than {other}"}
    assert [column.id for column in made.hidden] == [1]
    after = applied(versions, made, AT)
    assert applied(after, plan_back(after), AT).current.columns == versions.current.columns


def test_values_of_a_detour_are_told_when_they_cannot_be_read() -> None:
    """From seconds over a unit that is only a word to bytes: what was in seconds is not bytes."""
    versions = begun(Column("x", N, unit="s"))
    versions = applied(versions, plan(versions, Schema((Column("x", N, unit="laps"),)), {}, {}), AT)
    (item,) = plan(versions, Schema((Column("x", N, unit="bytes"),)), {}, {}).columns
    assert item.may_lose
    assert "some of its older values measure something else and become empty" in item.how


def test_a_rename_that_was_forgotten_is_suggested() -> None:
    """With the option to add; it is never assumed, as a wrong guess would mix two columns."""
    made = planned(TIME, Column("load_s", N, unit="s"), SEEDS, MODEL)
    assert made.notes == ("if `load` is called `load_s` now, add --rename load=load_s",)
    assert told(made)["load_s"] == "new, empty before"
    assert planned(TIME, Column("load_s", N, unit="s"), SEEDS, MODEL, load="load_s").notes == ()
    assert planned(TIME, Column("used", N, unit="bytes"), SEEDS, MODEL).notes == (), "seconds cannot become bytes"


def test_a_new_time_column_that_was_never_recorded_is_warned_of() -> None:
    """No time range would show the rows that have none."""
    made = planned(Column("ended_at", T, role=Role.TIME), LOAD, SEEDS, MODEL)
    assert "what was recorded before has no `ended_at`, so no time range shows it" in made.notes
    assert planned(Column("at", T, role=Role.TIME), LOAD, SEEDS, MODEL, time="at").notes == ()


def test_a_former_column_can_be_shown_again() -> None:
    """It is suggested, and named by --rename like one that is still there."""
    versions = begun()
    versions = applied(versions, plan(versions, Schema((TIME, SEEDS, MODEL)), STORED, {}), AT)
    schema = Schema((TIME, LOAD, MODEL))
    made = plan(versions, schema, STORED, {})
    assert "`load` was recorded before: add --rename load=load to show that again" in made.notes
    again = plan(versions, schema, STORED, {"load": "load"})
    assert told(again)["load"] == "shown again"
    assert [item.column.id for item in again.columns] == [1, 2, 4]


def test_two_names_can_be_swapped() -> None:
    """Each column keeps its values under the other's name."""
    made = planned(TIME, Column("load", N), Column("seeds", N, unit="s"), MODEL, load="seeds", seeds="load")
    assert {item.column.name: item.column.id for item in made.columns} == {
        "time": 1,
        "load": 3,
        "seeds": 2,
        "model": 4,
    }


def test_a_name_that_was_given_away_is_a_new_column() -> None:
    """The old values went to the new name; another column now has the old one."""
    made = planned(TIME, LOAD, Column("load_before", N, unit="s"), SEEDS, MODEL, load="load_before")
    assert {item.column.name: item.column.id for item in made.columns} == {
        "time": 1,
        "load": 5,
        "load_before": 2,
        "seeds": 3,
        "model": 4,
    }


@pytest.mark.parametrize(
    ("renames", "text", "remedy"),
    [
        ({"loda": "x"}, "the history of `lab.runs` has no column `loda`", "did you mean load?"),
        ({"zzz": "x"}, "the history of `lab.runs` has no column `zzz`", "it has time, load, seeds, model"),
        ({"load": "xx"}, "`lab.runs` has no column `xx` now", "did you mean x?"),
        ({"load": "x", "seeds": "x"}, "two columns cannot both be `x`", "give each new name once"),
        ({"time": "x"}, "`time` (time) cannot be read as `x` (number in s)", "leave out that --rename"),
    ],
)
def test_a_rename_that_cannot_be_is_refused(renames: dict[str, str], text: str, remedy: str) -> None:
    """With the names that were meant."""
    with pytest.raises(BadRequest) as raised:
        planned(TIME, Column("x", N, unit="s"), **renames)
    assert raised.value.message == text
    assert remedy in raised.value.remedy


def test_a_column_is_not_given_to_two_new_names() -> None:
    """By its old and by its older name."""
    versions = begun(Column("a", N))
    versions = applied(versions, plan(versions, Schema((Column("b", N),)), {}, {"a": "b"}), AT)
    versions = applied(versions, plan(versions, Schema((Column("c", S),)), {}, {}), AT)
    with pytest.raises(BadRequest, match="`b` is given two new names"):
        plan(versions, Schema((Column("x", N), Column("y", N))), {}, {"a": "x", "b": "y"})


def test_going_back_restores_the_columns_and_keeps_what_came_since() -> None:
    """The old columns by their numbers, and those that came by themselves after the migration."""
    versions = begun()
    renamed = (TIME, Column("duration", N, unit="ms"), SEEDS, MODEL)
    versions = applied(versions, plan(versions, Schema(renamed), STORED, {"load": "duration"}), AT)
    versions = evolved(versions, Schema((*renamed, Column("loss", N))), {"seeds": "number"}, AT)
    made = plan_back(versions)
    assert told(made) == {
        "time": "as before",
        "load": "was `duration`, `ms` × 0.001 = `s`",
        "seeds": "as before",
        "model": "as before",
        "loss": "as before",
    }
    after = applied(versions, made, AT)
    assert (after.current.why, after.current.version, after.generations) == ("reverted", 4, (1, 2, 3, 4))
    seeds = after.current.get("seeds")
    assert seeds is not None
    assert seeds.stored == "number", "what was recorded since has fractions"


def test_a_unit_that_was_said_since_stands() -> None:
    """Going back takes back the migration, not what was learnt after it."""
    versions = begun(TIME, SEEDS, MODEL)
    versions = applied(versions, plan(versions, Schema((TIME, SEEDS)), STORED, {}), AT)
    said = Schema((TIME, Column("seeds", N, unit="short")))
    versions = evolved(versions, said, STORED, AT)
    after = applied(versions, plan_back(versions), AT).current
    assert [(column.name, column.unit) for column in after.columns] == [
        ("time", None),
        ("seeds", "short"),
        ("model", None),
    ]


def test_an_old_column_wins_its_name_back() -> None:
    """What was recorded under the same name meanwhile is another column; it is kept, and said to be hidden."""
    versions = begun()
    versions = applied(versions, plan(versions, Schema((TIME, SEEDS, MODEL)), STORED, {}), AT)
    versions = evolved(versions, Schema((TIME, LOAD, SEEDS, MODEL)), STORED, AT)
    made = plan_back(versions)
    assert [(column.id, column.name) for column in made.hidden] == [(5, "load")]
    assert [item.column.id for item in made.columns] == [1, 2, 3, 4]
    assert told(made)["load"] == "shown again"


def test_migrations_are_taken_back_one_after_the_other() -> None:
    """The last one first, and none twice."""
    versions = begun(Column("a", N))
    for name, before in (("b", "a"), ("c", "b")):
        versions = applied(versions, plan(versions, Schema((Column(name, N),)), {}, {before: name}), AT)
    versions = adopted(versions, AT)
    for name in ("b", "a"):
        versions = applied(versions, plan_back(versions), AT)
        assert [column.name for column in versions.current.columns] == [name]
    with pytest.raises(BadRequest, match="no migration that could be taken back"):
        plan_back(versions)


def test_a_plan_is_not_applied_to_another_version() -> None:
    """Who looked at a plan decided on what it showed."""
    versions = begun()
    made = plan(versions, Schema((TIME,)), {}, {})
    with pytest.raises(StoreError, match="was made for version 1, not 2"):
        applied(adopted(versions, AT), made, AT)


# -- any sequence of changes --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Thing:
    """What a column really is: one identity under changing names, types and units."""

    identity: int
    type: ColumnType
    unit: str | None


Snapshot = dict[str, Thing]


class World:
    """Versions as they were decided on, beside the truth that the code does not see."""

    def __init__(self, names: list[str]) -> None:
        self.count = 0
        self.truth: list[Snapshot] = [{name: self._thing() for name in names}]
        self.migrated: list[tuple[Snapshot, Snapshot]] = []
        schema = self.schema(self.now)
        self.versions = first("lab.runs", schema, self.kinds(self.now), AT)

    @property
    def now(self) -> Snapshot:
        """The columns of the last version."""
        return self.truth[-1]

    def _thing(self) -> Thing:
        self.count += 1
        return Thing(self.count, N, "s")

    @staticmethod
    def schema(snapshot: Snapshot) -> Schema:
        """The columns as they are published."""
        return Schema(tuple(Column(name, thing.type, thing.unit) for name, thing in snapshot.items()))

    @staticmethod
    def kinds(snapshot: Snapshot) -> dict[str, str]:
        """Columns of odd identity hold whole numbers, when they are numbers."""
        return {
            name: "integer" if thing.identity % 2 else "number" for name, thing in snapshot.items() if thing.type is N
        }

    def evolve(self, name: str) -> None:
        """A new column comes by itself."""
        if name in self.now:
            return
        after = self.now | {name: self._thing()}
        at = AT + timedelta(hours=len(self.truth))
        self.versions = evolved(self.versions, self.schema(after), self.kinds(after), at)
        self.truth.append(after)

    def migrate(
        self, drop: set[str], rename: dict[str, str], change: dict[str, tuple[ColumnType, str]], add: str
    ) -> None:
        """Some columns go, some have another name, some another type or unit, one may come."""
        before, after, renames = self.now, {}, {}
        for name, thing in before.items():
            if name in drop:
                continue
            new = rename.get(name, name)
            if new in after or (new != name and new in before and new not in drop):
                new = name
            if new != name:
                renames[name] = new
            type_, unit = change.get(name, (thing.type, thing.unit or "s"))
            after[new] = Thing(thing.identity, type_, unit if type_ is N else None)
        # A name that goes and comes in one step is the same column to everybody who looks at the names.
        if add not in after and (add not in before or add in renames):
            after[add] = self._thing()
        schema, stored = self.schema(after), self.kinds(after)
        made = plan(self.versions, schema, stored, renames)
        self.versions = applied(self.versions, made, AT + timedelta(hours=len(self.truth)))
        self.truth.append(after)
        self.migrated.append((before, after))

    def revert(self) -> None:
        """The last migration is taken back; columns that came after it by themselves stay."""
        if not self.migrated:
            return
        before, after = self.migrated.pop()
        known = {thing.identity for thing in (*before.values(), *after.values())}
        since = {k: v for k, v in self.now.items() if v.identity not in known and k not in before}
        self.versions = applied(self.versions, plan_back(self.versions), AT + timedelta(hours=len(self.truth)))
        self.truth.append(before | since)

    def expected(self, then: Snapshot, name: str, stored: Any) -> Any:
        """The value of a column of today in a row of that time, worked out from what the columns really are."""
        now = self.now[name]
        old = next((thing for thing in then.values() if thing.identity == now.identity), None)
        if old is None:
            return None
        if old.type is N and now.type is N:
            assert old.unit is not None
            assert now.unit is not None
            return stored * PER_SECOND[now.unit] / PER_SECOND[old.unit]
        if now.type is S:
            return str(stored)
        return float(stored)


NAMES = st.sampled_from("abcde")
CHANGES = st.one_of(
    st.tuples(st.just("evolve"), NAMES),
    st.tuples(
        st.just("migrate"),
        st.sets(NAMES, max_size=2),
        st.dictionaries(NAMES, NAMES, max_size=3),
        st.dictionaries(
            NAMES, st.tuples(st.sampled_from([N, N, S]), st.sampled_from(sorted(PER_SECOND))), max_size=3
        ),
        NAMES,
    ),
    st.tuples(st.just("revert")),
)


@settings(max_examples=200, deadline=None)
@given(st.sets(NAMES, min_size=1), st.lists(CHANGES, max_size=7))
def test_whatever_happened_every_version_reads_as_the_current_one(
    names: set[str], steps: list[tuple[Any, ...]]
) -> None:
    """Names come, go, are swapped and used again, there and back: each old value stands under what it really is."""
    world = World(sorted(names))
    for action, *arguments in steps:
        getattr(world, action)(*arguments)
    versions = world.versions
    current = versions.current
    assert len(versions.items) == len(world.truth)
    assert {column.name for column in current.columns} == set(world.now)
    assert compare(versions, world.schema(world.now), world.kinds(world.now)).verdict is Verdict.SAME
    for version, truth in zip(versions.items, world.truth, strict=True):
        rows = {column.name: _value(version, column.name) for column in version.columns}
        # Files of a generation are read with the columns of its last version.
        then = versions.of_generation(version.generation)
        layout = stored_schema(then)
        table = pl.DataFrame(
            {name: [rows.get(name)] for name in layout} | {"mark": [0]}, schema={**layout, "mark": pl.Int32}
        )
        seen = table.select(*expressions(then, current, list(world.now)), "mark").row(0, named=True)
        for name in world.now:
            own = next((k for k, v in truth.items() if v.identity == world.now[name].identity), None)
            expected = None if own is None else world.expected(truth, name, rows[own])
            assert seen[name] == (pytest.approx(expected) if isinstance(expected, float) else expected), (
                name,
                version,
            )
    assert parsed(written(versions), Path("schema.json"), "lab.runs") == versions


def _value(version: Version, name: str) -> Any:
    """A value that no other version or column has, of the type it is stored in."""
    column = version.get(name)
    assert column is not None
    number = 100 * version.version + column.id
    return {"integer": number, "number": number + 0.5, "string": f"{number}.25"}[column.stored]


def test_a_version_reads_as_the_schema_it_was_planned_for() -> None:
    """What is published after a migration are the columns that were asked for."""
    versions = begun()
    schema = Schema((TIME, Column("duration", N, unit="ms", role=Role.MEASURE), MODEL))
    after = applied(versions, plan(versions, schema, STORED, {"load": "duration"}), AT)
    assert schema_of(after.current).columns == schema.columns
