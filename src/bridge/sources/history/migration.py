"""What a person decides of a changed schema: which old column a new one continues, and how to take that back."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from bridge.errors import BadRequest, StoreError
from bridge.model.schema import ColumnType, Schema
from bridge.sources.history.changes import continued, fresh, gone_and_new, guesses, next_generation
from bridge.sources.history.versions import (
    AS_IT_IS,
    Fit,
    StoredColumn,
    Version,
    Versions,
    Why,
    fit,
    scale,
    widest,
)

_LOST = {
    ColumnType.NUMBER: "what is no number becomes empty",
    ColumnType.TIME: "what is no time becomes empty",
    ColumnType.BOOLEAN: "what is neither true nor false becomes empty",
}


@dataclass(frozen=True, slots=True)
class PlannedColumn:
    """One column of the next version.

    Shape: `before` is the column whose values it goes on with, None where there is none; `how` they are read is a
           text for people.
    """

    column: StoredColumn
    before: StoredColumn | None
    how: str
    may_lose: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A next version: it is shown to a person before it is written.

    Shape: `base` is the version it was made for; `hidden` are columns whose values are kept and not shown any more.
    """

    dataset: str
    base: int
    why: Why
    columns: tuple[PlannedColumn, ...]
    hidden: tuple[StoredColumn, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def stored(self) -> tuple[StoredColumn, ...]:
        """The columns of the next version."""
        return tuple(item.column for item in self.columns)


def plan(versions: Versions, schema: Schema, stored: Mapping[str, str], renames: Mapping[str, str]) -> Plan:
    """What a migration to these columns would do; `renames` gives the new name of an old column.

    Shape:  an old name may also be that of a former column: its values are shown again.
    Errors: BadRequest for a rename that cannot be.
    """
    current = versions.current
    sources = _sources(versions, schema, renames)
    taken = {column.id for column in sources.values()}
    id_ = versions.next_id
    planned: list[PlannedColumn] = []
    for column in schema.columns:
        before = sources.get(column.name) or current.get(column.name)
        if before is not None and before.id in taken and column.name not in sources:
            before = None
        made = continued(versions, before, column, stored) if before is not None else None
        if before is None or made is None or fit(before, made) is Fit.NONE:
            other = "" if before is None else f"; it is another column than `{before.name}` ({_type(before)})"
            planned.append(PlannedColumn(fresh(column, id_, stored), None, f"new, empty before{other}"))
            id_ += 1
        else:
            planned.append(_planned(versions, before, made))
    hidden = _hidden(current, planned)
    notes = tuple(_notes(versions, schema, planned, set(renames)))
    return Plan(versions.dataset, current.version, Why.MIGRATED, tuple(planned), hidden, notes)


def _sources(versions: Versions, schema: Schema, renames: Mapping[str, str]) -> dict[str, StoredColumn]:
    """The old column for each new name that the renames give.

    Errors: BadRequest.
    """
    found: dict[str, StoredColumn] = {}
    for old, new in renames.items():
        before = versions.current.get(old) or versions.former(old)
        column = schema.get(new)
        if before is None:
            names = [item.name for version in reversed(versions.items) for item in version.columns]
            raise BadRequest(f"the history of `{versions.dataset}` has no column `{old}`", remedy=_near(old, names))
        if column is None:
            raise BadRequest(f"`{versions.dataset}` has no column `{new}` now", remedy=_near(new, schema.names))
        if new in found:
            raise BadRequest(f"two columns cannot both be `{new}`", remedy="give each new name once")
        if before.id in {column.id for column in found.values()}:
            raise BadRequest(
                f"`{old}` is given two new names", remedy="give each old column once, under one of its names"
            )
        if fit(before, continued(versions, before, column, {})) is Fit.NONE:
            raise BadRequest(
                f"`{old}` ({_type(before)}) cannot be read as `{new}` ({column.type}{_unit(column.unit)})",
                remedy="leave out that --rename; the values stay in the history",
            )
        found[new] = before
    return found


def _near(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, dict.fromkeys(names), n=3, cutoff=0.5)
    return f"did you mean {', '.join(near)}?" if near else f"it has {', '.join(dict.fromkeys(names))}"


def _planned(versions: Versions, before: StoredColumn, now: StoredColumn) -> PlannedColumn:
    fits = {fit(then, now) for then in (before, *versions.spellings(before.id))}
    parts = []
    if versions.current.by_id(before.id) is None:
        parts.append("shown again")
    if before.name != now.name:
        parts.append(f"was `{before.name}`")
    if before.type is not now.type:
        parts.append(f"{before.type} read as {now.type}")
    parts += _conversion(before, now)
    if Fit.SOME in fits:
        parts.append(_LOST[now.type])
    if Fit.NONE in fits:
        parts.append("some of its older values measure something else and become empty")
    return PlannedColumn(now, before, ", ".join(parts) or "as before", may_lose=fits != {Fit.ALL})


def _conversion(before: StoredColumn, now: StoredColumn) -> Iterator[str]:
    if before.unit == now.unit:
        return
    factor, offset = scale(before, now) or AS_IT_IS
    if (factor, offset) != AS_IT_IS:
        plus = f" {'+' if offset > 0 else '-'} {abs(offset):g}" if offset else ""
        yield f"`{before.unit}` × {factor:g}{plus} = `{now.unit}`"
    elif before.unit is not None:
        yield f"unit was `{before.unit}`, values as they are"


def _hidden(current: Version, planned: Sequence[PlannedColumn]) -> tuple[StoredColumn, ...]:
    shown = {item.column.id for item in planned}
    return tuple(column for column in current.columns if column.id not in shown)


def _notes(versions: Versions, schema: Schema, planned: Sequence[PlannedColumn], renamed: set[str]) -> Iterator[str]:
    """What a person may have forgotten."""
    gone, new = gone_and_new(versions.current, schema)
    empty = {item.column.name for item in planned if item.before is None}
    left = [column for column in gone if column.name not in renamed]
    for old, name in guesses(left, [column for column in new if column.name in empty]).items():
        before, column = versions.current.get(old), schema.get(name)
        if before and column and fit(before, continued(versions, before, column, {})) is not Fit.NONE:
            yield f"if `{old}` is called `{name}` now, add --rename {old}={name}"
    for column in schema.columns:
        former = versions.former(column.name) if column.name in empty else None
        if former is not None and fit(former, fresh(column, former.id, {})) is not Fit.NONE:
            yield f"`{column.name}` was recorded before: add --rename {column.name}={column.name} to show that again"
    if schema.time is not None and schema.time.name in empty:
        yield f"what was recorded before has no `{schema.time.name}`, so no time range shows it"


def plan_back(versions: Versions) -> Plan:
    """What taking back the last migration would do: the columns before it, and those that came by themselves since.

    Errors: BadRequest where there is none to take back.
    """
    current = versions.current
    before, after = _last_migration(versions)
    old, names = {column.id for column in before.columns}, {column.name for column in before.columns}
    planned = []
    for column in before.columns:
        here, there = current.by_id(column.id), after.by_id(column.id)
        unit = column.unit
        if unit is None and here is not None and there is not None and there.unit is None:
            # Said since, and not by the migration.
            unit = here.unit
        planned.append(_planned(versions, here or column, widest(versions, replace(column, unit=unit))))
    planned += [
        PlannedColumn(column, column, "as before")
        for column in current.columns
        if column.id not in old and column.name not in names and after.by_id(column.id) is None
    ]
    made = tuple(planned)
    return Plan(versions.dataset, current.version, Why.REVERTED, made, _hidden(current, made))


def _last_migration(versions: Versions) -> tuple[Version, Version]:
    """The versions before and after the last migration that is in force."""
    open_: list[int] = []
    for index, version in enumerate(versions.items):
        if version.why is Why.MIGRATED:
            open_.append(index)
        elif version.why is Why.REVERTED:
            del open_[-1:]
    if not open_:
        raise BadRequest(f"the history of `{versions.dataset}` has no migration that could be taken back")
    return versions.items[open_[-1] - 1], versions.items[open_[-1]]


def applied(versions: Versions, made: Plan, at: datetime) -> Versions:
    """The versions with the planned one, which has files of its own.

    Errors: StoreError where the plan was made for another version.
    """
    if versions.current.version != made.base:
        raise StoreError(
            f"the plan for `{versions.dataset}` was made for version {made.base}, not {versions.current.version}",
            remedy="run the command again",
        )
    return versions.added(made.why, at, made.stored, generation=next_generation(versions))


def adopted(versions: Versions, at: datetime) -> Versions:
    """The same columns under the dataset's new name."""
    current = versions.current
    return versions.added(Why.ADOPTED, at, current.columns, generation=current.generation)


def _type(column: StoredColumn) -> str:
    return f"{column.type}{_unit(column.unit)}"


def _unit(unit: str | None) -> str:
    return f" in {unit}" if unit else ""
