"""What a dataset publishes: columns with type, unit and role, as a versioned schema."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum


class ColumnType(StrEnum):
    """The five column types; `json` is a text column whose values are JSON."""

    TIME = "time"
    NUMBER = "number"
    STRING = "string"
    BOOLEAN = "boolean"
    JSON = "json"


class Role(StrEnum):
    """What a column is for: when, by what, or how much. None of them: an attribute shown in tables."""

    TIME = "time"
    DIMENSION = "dimension"
    MEASURE = "measure"


class Kind(StrEnum):
    """How a measure may be thinned out: a gauge keeps its extremes, a counter its last value."""

    GAUGE = "gauge"
    COUNTER = "counter"


class Shape(StrEnum):
    """What a panel is to be given."""

    AUTO = "auto"
    TIMESERIES = "timeseries"
    TABLE = "table"
    LOGS = "logs"
    NODES = "nodes"
    EDGES = "edges"
    ANNOTATIONS = "annotations"


@dataclass(frozen=True, slots=True)
class Column:
    """One published column. `select` says where a source finds it (a path, or the far name)."""

    name: str
    type: ColumnType
    unit: str | None = None
    role: Role | None = None
    description: str = ""
    kind: Kind = Kind.GAUGE
    select: str | None = None
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of the dataset's own: it reaches the source through its templates."""

    name: str
    description: str = ""
    default: str | None = None
    options: tuple[str, ...] = ()
    required: bool = False
    multi: bool = False


@dataclass(frozen=True, slots=True)
class Schema:
    """Columns of a dataset, in order.

    Shape: unique names; at most one column of role time.
    """

    columns: tuple[Column, ...]
    version: int = 1
    _by_name: dict[str, Column] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Of names that stand twice, which a check refuses, the first counts.
        object.__setattr__(self, "_by_name", {column.name: column for column in reversed(self.columns)})

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(column.name for column in self.columns)

    def get(self, name: str) -> Column | None:
        """The column of that name."""
        return self._by_name.get(name)

    @property
    def time(self) -> Column | None:
        """The column of role time."""
        return next((column for column in self.columns if column.role is Role.TIME), None)

    def with_role(self, role: Role) -> tuple[Column, ...]:
        """All columns of one role."""
        return tuple(column for column in self.columns if column.role is role)

    @property
    def fingerprint(self) -> str:
        """Equal for schemas that publish the same columns, whatever their version number."""
        text = "\n".join(f"{c.name}\t{c.type}\t{c.unit}\t{c.role}" for c in self.columns)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
