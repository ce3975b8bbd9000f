"""The versions of a dataset's schema, and how what was recorded under one of them is read as another.

Every column has a number that stays its own: under another name it is the same column, and going back brings the same
one back. Old files are never rewritten. Each is read as the current version by these numbers alone, straight from the
version it was written under, so that no detour through other versions can lose a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from types import MappingProxyType

import polars as pl

from bridge.errors import StoreBroken
from bridge.model.schema import Column, ColumnType, Kind, Role, Schema
from bridge.sources.convert import converted
from bridge.sources.history.stored import AT, STORED
from bridge.sources.transform.units import UNITS, factors

Scale = tuple[float, float]
AS_IT_IS: Scale = (1.0, 0.0)
# How the values of a column are stored where its data says nothing else.
NATURAL: Mapping[ColumnType, str] = MappingProxyType(
    {
        ColumnType.TIME: "time",
        ColumnType.NUMBER: "number",
        ColumnType.STRING: "string",
        ColumnType.BOOLEAN: "boolean",
        ColumnType.JSON: "string",
    }
)
_TEXTS = (ColumnType.STRING, ColumnType.JSON)
_BITS = (ColumnType.BOOLEAN, ColumnType.NUMBER)
_NEVER = {
    (ColumnType.BOOLEAN, ColumnType.TIME),
    (ColumnType.TIME, ColumnType.NUMBER),
    (ColumnType.TIME, ColumnType.BOOLEAN),
}


class Why(StrEnum):
    """What made a version."""

    FIRST = "first"
    EVOLVED = "evolved"
    MIGRATED = "migrated"
    REVERTED = "reverted"
    ADOPTED = "adopted"


class Fit(StrEnum):
    """How many of a column's values can be read as another column's."""

    ALL = "all"
    SOME = "some"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """One column of one version.

    Shape: `id` is its own for good; `stored` is integer, number, string, boolean or time.
    """

    id: int
    name: str
    type: ColumnType
    unit: str | None = None
    role: Role | None = None
    kind: Kind = Kind.GAUGE
    stored: str = "number"


@dataclass(frozen=True, slots=True)
class Version:
    """The columns of a dataset from one moment on; `generation` numbers the folder its files stand in."""

    version: int
    at: datetime
    why: Why
    generation: int
    columns: tuple[StoredColumn, ...]
    _by_name: dict[str, StoredColumn] = field(init=False, repr=False, compare=False)
    _by_id: dict[int, StoredColumn] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {column.name: column for column in self.columns})
        object.__setattr__(self, "_by_id", {column.id: column for column in self.columns})

    def get(self, name: str) -> StoredColumn | None:
        """The column of that name."""
        return self._by_name.get(name)

    def by_id(self, id_: int) -> StoredColumn | None:
        """The column of that number."""
        return self._by_id.get(id_)


@dataclass(frozen=True, slots=True)
class Versions:
    """All versions of one dataset, oldest first; there is at least one."""

    dataset: str
    items: tuple[Version, ...]

    @property
    def current(self) -> Version:
        """The version that is recorded now, and that everything is read as."""
        return self.items[-1]

    @property
    def generations(self) -> tuple[int, ...]:
        """The numbers of the generations, oldest first."""
        return tuple(dict.fromkeys(version.generation for version in self.items))

    def of_generation(self, generation: int) -> Version:
        """The last version of that generation: its columns are those of all files of the generation.

        Errors: StoreBroken where no version has it.
        """
        for version in reversed(self.items):
            if version.generation == generation:
                return version
        raise StoreBroken(
            f"the history of `{self.dataset}` has samples of generation {generation}, which its schema.json does "
            "not know",
            remedy="schema.json is older than the samples: put back the newer one",
        )

    @property
    def next_id(self) -> int:
        """A number that no column has had."""
        return 1 + max((column.id for version in self.items for column in version.columns), default=0)

    def since(self, id_: int) -> datetime:
        """When the column came."""
        return next((version.at for version in self.items if version.by_id(id_)), self.current.at)

    def spellings(self, id_: int) -> tuple[StoredColumn, ...]:
        """The column as it is in each version that has it."""
        return tuple(column for version in self.items if (column := version.by_id(id_)))

    def former(self, name: str) -> StoredColumn | None:
        """The column that last had this name and is not one of the current version."""
        now = {column.id for column in self.current.columns}
        for version in reversed(self.items):
            column = version.get(name)
            if column is not None and column.id not in now:
                return column
        return None

    def added(self, why: Why, at: datetime, columns: tuple[StoredColumn, ...], *, generation: int) -> Versions:
        """These versions and a next one."""
        version = Version(self.current.version + 1, at, why, generation, columns)
        return replace(self, items=(*self.items, version))


@dataclass(frozen=True, slots=True)
class Mapped:
    """How one column of a version is read from files of another.

    Shape: `then` None where those files have it not: it is null; `value = stored * scale[0] + scale[1]`.
    """

    now: StoredColumn
    then: StoredColumn | None
    scale: Scale = AS_IT_IS

    @property
    def expression(self) -> pl.Expr:
        """The column's values; where it is null, one null that takes the height of the columns beside it."""
        dtype = STORED[self.now.stored]
        if self.then is None:
            return pl.lit(None, dtype).alias(self.now.name)
        value = pl.col(self.then.name)
        if self.scale != AS_IT_IS:
            value = value.cast(pl.Float64) * self.scale[0] + self.scale[1]
        if self.then.type is not self.now.type:
            value = _cast(value, self.then.type, self.now.type, dtype)
        elif self.then.stored != self.now.stored:
            value = value.cast(dtype, strict=False)
        return value.alias(self.now.name)


def _cast(value: pl.Expr, then: ColumnType, now: ColumnType, dtype: pl.DataType) -> pl.Expr:
    """As values of another type come from a source: what cannot be read is null."""
    if (then, now) == _BITS:
        return value.cast(dtype)
    # One value at a time decides, so Polars may push filters and slices past it.
    return value.map_batches(partial(_read_as, type_=now, dtype=dtype), return_dtype=dtype, is_elementwise=True)


def _read_as(values: pl.Series, type_: ColumnType, dtype: pl.DataType) -> pl.Series:
    return converted(values, type_)[0].cast(dtype, strict=False)


def read_map(then: Version, now: Version) -> tuple[Mapped, ...]:
    """How files of one version are read as another: each column of `now`, in order."""
    known = {column.id: column for column in then.columns}
    return tuple(_mapped(column, known.get(column.id)) for column in now.columns)


def _mapped(now: StoredColumn, then: StoredColumn | None) -> Mapped:
    if then is None or fit(then, now) is Fit.NONE:
        return Mapped(now, None)
    return Mapped(now, then, scale(then, now) or AS_IT_IS)


def expressions(then: Version, now: Version, names: Iterable[str]) -> list[pl.Expr]:
    """The named columns of `now`, read from files of `then`."""
    found = {item.now.name: item for item in read_map(then, now)}
    return [found[name].expression for name in names]


def fit(then: StoredColumn, now: StoredColumn) -> Fit:
    """How many values of `then` can be read as values of `now`."""
    if (then.type, now.type) in _NEVER or scale(then, now) is None:
        return Fit.NONE
    sure = then.type is now.type or now.type in _TEXTS or (then.type, now.type) == _BITS
    return Fit.ALL if sure else Fit.SOME


def scale(then: StoredColumn, now: StoredColumn) -> Scale | None:
    """Factor and offset between the units, None where they measure different things.

    Shape: a unit that nobody has said, or that is only a word behind the value, changes nothing.
    """
    numbers = then.type is ColumnType.NUMBER and now.type is ColumnType.NUMBER
    if not numbers or then.unit == now.unit or then.unit not in UNITS or now.unit not in UNITS:
        return AS_IT_IS
    try:
        return factors(then.unit, now.unit)
    except ValueError:
        return None


def widest(versions: Versions, column: StoredColumn) -> StoredColumn:
    """The column, stored as a number where its older values, read as whole numbers, would lose their fractions."""
    if column.stored != "integer":
        return column
    for then in versions.spellings(column.id):
        whole = then.stored == "integer" and scale(then, column) == AS_IT_IS
        if not whole and then.type is not ColumnType.BOOLEAN:
            return replace(column, stored="number")
    return column


def schema_of(version: Version) -> Schema:
    """The columns as they are published."""
    columns = (Column(item.name, item.type, item.unit, item.role, kind=item.kind) for item in version.columns)
    return Schema(tuple(columns), version.version)


def axis_of(version: Version) -> str:
    """The column that samples are laid out by: the time of the rows, or that of sampling where they have none."""
    return next((column.name for column in version.columns if column.role is Role.TIME), AT)


def same_axis(then: Version, now: Version) -> bool:
    """Whether both are laid out by the same instants, so that the bounds of old files hold for the current times."""
    old, new = (next((c for c in version.columns if c.role is Role.TIME), None) for version in (then, now))
    if old is None or new is None:
        return old is new
    return (old.id, old.type) == (new.id, new.type)


def kinds_of(version: Version) -> dict[str, str]:
    """How each column is stored, by name."""
    return {column.name: column.stored for column in version.columns}


def stored_schema(version: Version) -> dict[str, pl.DataType]:
    """The columns of the version's files."""
    return {column.name: STORED[column.stored] for column in version.columns}
