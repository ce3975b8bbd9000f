"""Whether a dataset's columns are still those of its history, and the changes that need nobody's word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from bridge.errors import SchemaChanged
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.sources.history.versions import NATURAL, StoredColumn, Version, Versions, Why, widest

MAX_SENTENCES = 3
# Each pair of names is compared: among more of them nobody would look for a guess.
MAX_PAIRS = 400
# Of several columns that came and went, those are taken for one whose names are so much alike.
_ALIKE = 0.5


class Verdict(StrEnum):
    """What a change means: nothing, a new version, or that a person must say."""

    SAME = "same"
    COMPATIBLE = "compatible"
    BREAKING = "breaking"


@dataclass(frozen=True, slots=True)
class Change:
    """How the columns of a dataset differ from those of its history, a sentence for each difference."""

    dataset: str
    verdict: Verdict
    sentences: tuple[str, ...] = ()

    def error(self) -> SchemaChanged:
        """What is said where the change stops the dataset."""
        more = len(self.sentences) - MAX_SENTENCES
        text = "; ".join(self.sentences[:MAX_SENTENCES]) + (f"; and {more} more" if more > 0 else "")
        remedy = f"`bridge sources migrate {self.dataset}` shows what would happen and applies it"
        return SchemaChanged(f"{text}; nothing was changed", remedy=remedy)


def first(dataset: str, schema: Schema, stored: Mapping[str, str], at: datetime) -> Versions:
    """The first version of a dataset."""
    columns = tuple(fresh(column, id_, stored) for id_, column in enumerate(schema.columns, 1))
    return Versions(dataset, (Version(1, at, Why.FIRST, 1, columns),))


def compare(versions: Versions, schema: Schema, stored: Mapping[str, str]) -> Change:
    """What these columns are to the current version.

    Shape: `stored` says of number columns whether they hold whole numbers; one it leaves out is as it was.
    """
    breaking = (*_gone(versions, schema), *_other(versions, schema), *_axis(versions, schema))
    if breaking:
        return Change(versions.dataset, Verdict.BREAKING, breaking)
    sentences = tuple(_eased(versions, fitted(versions, schema, stored)))
    return Change(versions.dataset, Verdict.COMPATIBLE if sentences else Verdict.SAME, sentences)


def evolved(versions: Versions, schema: Schema, stored: Mapping[str, str], at: datetime) -> Versions:
    """The versions with one for these columns; the same object where they are the current ones.

    Errors: SchemaChanged where a person must say what the change means.
    """
    change = compare(versions, schema, stored)
    if change.verdict is Verdict.BREAKING:
        raise change.error()
    if change.verdict is Verdict.SAME:
        return versions
    current, columns = versions.current, fitted(versions, schema, stored)
    before = {column.id: column.stored for column in current.columns}
    rewritten = any(before.get(column.id, column.stored) != column.stored for column in columns)
    generation = next_generation(versions) if rewritten else current.generation
    return versions.added(Why.EVOLVED, at, columns, generation=generation)


def next_generation(versions: Versions) -> int:
    """The number of a generation that has no files yet."""
    return versions.generations[-1] + 1


def fitted(versions: Versions, schema: Schema, stored: Mapping[str, str]) -> tuple[StoredColumn, ...]:
    """The columns as a version has them, each the one of its name, a new name with a number of its own."""
    out: list[StoredColumn] = []
    id_ = versions.next_id
    for column in schema.columns:
        before = versions.current.get(column.name)
        if before is None:
            out.append(fresh(column, id_, stored))
            id_ += 1
        else:
            out.append(continued(versions, before, column, stored))
    return tuple(out)


def continued(versions: Versions, before: StoredColumn, column: Column, stored: Mapping[str, str]) -> StoredColumn:
    """`before` as the column has it now; what was a number stays one, and a unit stands until another is said."""
    same = before.type is column.type
    kind = before.stored if same else NATURAL[column.type]
    if column.type is ColumnType.NUMBER:
        kind = stored.get(column.name, kind)
    unit = column.unit or (before.unit if same else None)
    return widest(versions, StoredColumn(before.id, column.name, column.type, unit, column.role, column.kind, kind))


def fresh(column: Column, id_: int, stored: Mapping[str, str]) -> StoredColumn:
    """A column that was not there before."""
    kind = NATURAL[column.type]
    if column.type is ColumnType.NUMBER:
        kind = stored.get(column.name, kind)
    return StoredColumn(id_, column.name, column.type, column.unit, column.role, column.kind, kind)


def guesses(gone: Sequence[StoredColumn], new: Sequence[Column]) -> dict[str, str]:
    """Which column that is gone may be which new one: by type, and by name where there are several."""
    if len(gone) * len(new) > MAX_PAIRS:
        return {}
    pairs = [
        (difflib.SequenceMatcher(None, old.name, column.name).ratio(), old.name, column.name)
        for old in gone
        for column in new
        if old.type is column.type and (old.role is Role.TIME) is (column.role is Role.TIME)
    ]
    found: dict[str, str] = {}
    for ratio, old_name, name in sorted(pairs, reverse=True):
        rivals = sum(pair[1] == old_name or pair[2] == name for pair in pairs)
        if old_name not in found and name not in found.values() and (ratio >= _ALIKE or rivals == 1):
            found[old_name] = name
    return found


def gone_and_new(version: Version, schema: Schema) -> tuple[list[StoredColumn], list[Column]]:
    """The columns whose names are no more, and those whose names were not there."""
    gone = [column for column in version.columns if schema.get(column.name) is None]
    return gone, [column for column in schema.columns if version.get(column.name) is None]


def _gone(versions: Versions, schema: Schema) -> Iterator[str]:
    gone, new = gone_and_new(versions.current, schema)
    renamed = guesses(gone, new)
    for column in gone:
        since = versions.since(column.id).date()
        was = f"`{column.name}` (type {column.type}), which its history has since {since}"
        text = f"`{versions.dataset}` no longer has {was}"
        name = renamed.get(column.name)
        yield text + (f" (`{name}`, of the same type, is new: it may be the same under another name)" if name else "")


def _other(versions: Versions, schema: Schema) -> Iterator[str]:
    """Columns of the same name that hold something else."""
    for before in versions.current.columns:
        column = schema.get(before.name)
        if column is None:
            continue
        where = f"`{versions.dataset}` has `{column.name}`"
        if column.type is not before.type:
            yield f"{where} as {column.type} now, its history as {before.type}"
        elif column.unit and before.unit and column.unit != before.unit:
            yield f"{where} in `{column.unit}` now, its history in `{before.unit}`"


def _axis(versions: Versions, schema: Schema) -> Iterator[str]:
    then = next((column.name for column in versions.current.columns if column.role is Role.TIME), None)
    now = schema.time.name if schema.time else None
    if then == now or (then is not None and schema.get(then) is None):
        # A time column that is gone was told with the columns that are gone.
        return
    was = f"`{then}`" if then else "none"
    yield (
        f"`{versions.dataset}` has " + (f"`{now}`" if now else "none") + f" as its time column now, its history {was}"
    )


def _eased(versions: Versions, columns: Iterable[StoredColumn]) -> Iterator[str]:
    """What a next version of these columns would change."""
    for now in columns:
        then = versions.current.by_id(now.id)
        where = f"`{versions.dataset}`: `{now.name}`"
        if then is None:
            yield f"{where} (type {now.type}) is new; it is empty in what was recorded before"
            continue
        if then.stored != now.stored:
            yield f"{where} is recorded as {now.stored} from now on, as {then.stored} before"
        if then.unit != now.unit:
            yield f"{where} has the unit `{now.unit}`"
        if then.role != now.role:
            yield f"{where} has the role {now.role or 'of an attribute'}"
        if then.kind != now.kind:
            yield f"{where} is a {now.kind}"
