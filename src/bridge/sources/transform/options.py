"""What may be written under `steps` of a dataset."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from bridge.model.schema import ColumnType, Kind, Role

MAX_STEPS = 64
MAX_NAMES = 1_000
# The same rule as for declared columns: what can be written in a filter without quotes.
COLUMN_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
_DATASET = re.compile(r"[a-z][a-z0-9_]{0,127}\.[a-z][a-z0-9_]{0,127}", re.ASCII)
_CALL = re.compile(r"\s*(?P<how>[a-z][a-z0-9_]*)\s*\(\s*(?P<of>[^()]*?)\s*\)\s*")


def _dataset(given: str) -> str:
    if _DATASET.fullmatch(given) is None:
        raise ValueError(f"{given[:80]!r} is no dataset; write `source.dataset`")
    return given


def _short(given: Any, key: str) -> Any:
    """A plain value stands for a mapping that has only this key."""
    return {key: given} if isinstance(given, (str, int)) and not isinstance(given, bool) else given


def _listed(given: Any) -> Any:
    return {"with": given} if isinstance(given, (list, tuple)) else given


def _null_word(given: Any) -> Any:
    """YAML reads an unquoted `null` as nothing at all."""
    return "null" if given is None else given


def _one_name(given: Any) -> Any:
    return (given,) if isinstance(given, str) else given


def _pairs(given: Any) -> Any:
    if isinstance(given, str):
        return {given: given}
    if isinstance(given, (list, tuple)) and all(isinstance(name, str) for name in given):
        return {name: name for name in given}
    return given


def _call(given: Any) -> Any:
    """`max(accuracy)` as the mapping it stands for."""
    if not isinstance(given, str):
        return given
    match = _CALL.fullmatch(given)
    if match is None:
        raise ValueError(f"{given[:80]!r} is no aggregation; write for example `max(accuracy)` or `count()`")
    return {"how": match["how"]} | ({"of": match["of"].strip("`")} if match["of"] else {})


Column = Annotated[str, StringConstraints(min_length=1, max_length=512)]
NewColumn = Annotated[str, StringConstraints(pattern=COLUMN_PATTERN, max_length=128)]
Expression = Annotated[str, StringConstraints(min_length=1, max_length=2_048)]
Names = Annotated[tuple[Column, ...], BeforeValidator(_one_name)]
Dataset = Annotated[str, AfterValidator(_dataset)]
EverySeconds = Annotated[float, Field(ge=0.001, le=366 * 86_400)]


class How(StrEnum):
    """How many values become one; `p50` to `p99` are written as quantiles."""

    COUNT = "count"
    DISTINCT = "count_distinct"
    SUM = "sum"
    MEAN = "mean"
    MEDIAN = "median"
    MIN = "min"
    MAX = "max"
    FIRST = "first"
    LAST = "last"
    STD = "std"
    P50 = "p50"
    P75 = "p75"
    P90 = "p90"
    P95 = "p95"
    P99 = "p99"


class Fill(StrEnum):
    """What stands in a bucket without rows."""

    NONE = "none"
    NULL = "null"
    ZERO = "zero"
    PREVIOUS = "previous"
    LINEAR = "linear"


class JoinHow(StrEnum):
    """Which rows a join keeps."""

    LEFT = "left"
    INNER = "inner"
    FULL = "full"
    NEAREST = "nearest"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=65_536, allow_inf_nan=False)


class Convert(_Part):
    """From one unit to another of the same kind."""

    to: str = Field(min_length=1, description="Grafana unit id the values are converted to.")
    from_: str | None = Field(
        None, alias="from", description="Grafana unit id the values have; unset: the column's own."
    )


class Derive(_Part):
    """A column computed from others of its row."""

    expr: Expression = Field(description="An expression over the columns of the row.")
    unit: str | None = Field(None, description="Grafana unit id of the values.")
    role: Role | None = Field(None, description="Unset: numbers are measures, texts dimensions.")
    kind: Kind = Field(Kind.GAUGE, description="gauge or counter.")
    description: str = Field("", description="What the column means, for people.")


class Value(_Part):
    """One aggregated column."""

    how: How = Field(description="How the values of a group become one.")
    of: Column | None = Field(None, description="The column they are taken from; count needs none.")
    unit: str | None = Field(None, description="Grafana unit id; unset: that of the column.")
    description: str = Field("", description="What the column means, for people.")

    @model_validator(mode="after")
    def _complete(self) -> Value:
        if self.of is None and self.how is not How.COUNT:
            raise ValueError(f"`{self.how}` needs a column: write `{self.how}(column)`")
        return self


class Aggregate(_Part):
    """Groups of rows become one row each."""

    by: Names = Field((), max_length=MAX_NAMES, description="Columns whose values make the groups.")
    every_s: EverySeconds | None = Field(
        None, description="Seconds of a bucket of time, counted since 1970; unset: time makes no groups."
    )
    values: dict[NewColumn, Annotated[Value, BeforeValidator(_call)]] = Field(
        min_length=1, max_length=MAX_NAMES, description="New columns, such as `best: max(accuracy)`."
    )


class Resample(_Part):
    """Rows at equal steps of time, each series by itself."""

    every_s: EverySeconds = Field(description="Seconds of a bucket, counted since 1970.")
    how: How | dict[Column, How] = Field(
        How.MEAN, description="How the values of a bucket become one, for all measures or each by name."
    )
    by: Names | None = Field(
        None, max_length=MAX_NAMES, description="Columns that tell series apart; unset: all dimensions."
    )
    fill: Annotated[Fill, BeforeValidator(_null_word)] = Field(
        Fill.NONE, description="What stands in a bucket without rows, between a series' ends."
    )


class Union(_Part):
    """Rows of other datasets below the own ones."""

    with_: tuple[Dataset, ...] = Field(alias="with", max_length=32, description="The other datasets.")
    tag: NewColumn | None = Field(None, description="A new column that says which dataset a row is from.")

    @model_validator(mode="after")
    def _complete(self) -> Union:
        if not self.with_:
            raise ValueError("a union needs other datasets; list them under `with`")
        return self


class Join(_Part):
    """Columns of another dataset beside the own ones."""

    with_: Dataset = Field(alias="with", description="The other dataset.")
    on: Annotated[dict[Column, Column], BeforeValidator(_pairs)] = Field(
        max_length=16, description="Columns that must be equal: a list of names, or a mapping from mine to theirs."
    )
    how: JoinHow = Field(JoinHow.LEFT, description="Which rows are kept; nearest takes the row nearest in time.")
    columns: tuple[Column, ...] | None = Field(
        None, max_length=MAX_NAMES, description="Columns taken from the other; unset: all."
    )
    prefix: Annotated[str, StringConstraints(pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$", max_length=64)] = Field(
        "", description="Put before the names of the columns taken."
    )
    within_s: Annotated[float, Field(gt=0, le=366 * 86_400)] | None = Field(
        None, description="With nearest: seconds that the two times may be apart."
    )

    @model_validator(mode="after")
    def _complete(self) -> Join:
        nearest = self.how is JoinHow.NEAREST
        if not nearest and not self.on:
            raise ValueError("a join needs `on`, the columns that must be equal")
        if self.within_s is not None and not nearest:
            raise ValueError("`within_s` goes with `how: nearest`")
        return self


class Format(_Part):
    """How a column is shown."""

    unit: str | None = Field(None, description="Grafana unit id.")
    decimals: Annotated[int, Field(ge=0, le=15)] | None = Field(
        None, description="Digits after the point; the values are rounded to them."
    )
    duration: Literal["words", "clock"] | None = Field(
        None, description="Shown as a duration, `1.5 hours` or `01:30:00`; values in a unit of time become seconds."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Format:
        if self.unit is None and self.decimals is None and self.duration is None:
            raise ValueError("say `unit`, `decimals` or `duration`")
        if self.unit is not None and self.duration is not None:
            raise ValueError("`duration` sets the unit itself; keep one of the two")
        return self


class LimitRows(_Part):
    """The first rows only."""

    rows: Annotated[int, Field(ge=1, le=10_000_000)] = Field(description="How many rows are kept.")
    by: Column | None = Field(None, description="Column that orders them; unset: time.")
    order: Literal["asc", "desc"] = Field("desc", description="desc keeps the largest or latest.")


Conversions = dict[Column, Annotated[Convert, BeforeValidator(lambda given: _short(given, "to"))]]
Derivations = dict[NewColumn, Annotated[Derive, BeforeValidator(lambda given: _short(given, "expr"))]]
Formats = dict[Column, Annotated[Format, BeforeValidator(lambda given: _short(given, "unit"))]]
_Some = Field(min_length=1, max_length=MAX_NAMES)


class Step(BaseModel):
    """One change; exactly one of the keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=65_536, allow_inf_nan=False)

    rename: Annotated[dict[Column, NewColumn], _Some] | None = Field(None, description="New names by old names.")
    keep: Annotated[tuple[Column, ...], _Some] | None = Field(None, description="Columns that stay, in this order.")
    drop: Annotated[tuple[Column, ...], _Some] | None = Field(None, description="Columns that go.")
    cast: Annotated[dict[Column, ColumnType], _Some] | None = Field(None, description="New types by name.")
    convert: Annotated[Conversions, _Some] | None = Field(
        None, description="Unit conversion by name: `{duration: {from: ms, to: s}}`."
    )
    derive: Annotated[Derivations, _Some] | None = Field(
        None, description="New columns by name: an expression, or a mapping with `expr`."
    )
    filter: Expression | None = Field(None, description="Condition that rows must meet to stay.")
    aggregate: Aggregate | None = Field(None, description="Groups of rows become one row each.")
    resample: Resample | None = Field(None, description="Rows at equal steps of time, each series by itself.")
    union: Annotated[Union | None, BeforeValidator(_listed)] = Field(
        None, description="Rows of other datasets below the own ones."
    )
    join: Join | None = Field(None, description="Columns of another dataset beside the own ones.")
    format: Annotated[Formats, _Some] | None = Field(None, description="Unit, decimals or duration by name.")
    limit: Annotated[LimitRows | None, BeforeValidator(lambda given: _short(given, "rows"))] = Field(
        None, description="The first rows only: a number, or a mapping with `rows`, `by`, `order`."
    )

    @model_validator(mode="after")
    def _one(self) -> Step:
        if len(self.said) != 1:
            named = ", ".join(self.said) or "none"
            raise ValueError(f"a step has exactly one key, this one has {named}; steps run in the order of the list")
        return self

    @property
    def said(self) -> tuple[str, ...]:
        """The keys that are given."""
        return tuple(name for name in type(self).model_fields if getattr(self, name) is not None)

    @property
    def name(self) -> str:
        """Which change it is."""
        return self.said[0]

    @property
    def others(self) -> tuple[str, ...]:
        """The other datasets it reads."""
        if self.union is not None:
            return self.union.with_
        return (self.join.with_,) if self.join is not None else ()
