"""What may be written under `checks` of a dataset."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from bridge.model.finding import Level
from bridge.sources.transform.options import MAX_NAMES, Column, Dataset, Expression, Names

MAX_CHECKS = 64
MAX_VALUES = 10_000
_MAX_S = 366 * 86_400 * 100.0


def _short(key: str, *kinds: type) -> BeforeValidator:
    """A plain value stands for a mapping that has only this key."""

    def widen(given: Any) -> Any:
        return {key: given} if isinstance(given, kinds) and not isinstance(given, bool) else given

    return BeforeValidator(widen)


def _no_flag(given: Any) -> Any:
    if isinstance(given, bool):
        raise ValueError(f"must be a number, not {str(given).lower()}")  # noqa: TRY004 pydantic tells a ValueError
    return given


def _pairs(given: Any) -> Any:
    if isinstance(given, str):
        return {given: given}
    if isinstance(given, (list, tuple)) and all(isinstance(name, str) for name in given):
        return {name: name for name in given}
    return given


Title = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
Ratio = Annotated[float, Field(ge=0, le=1), BeforeValidator(_no_flag)]
Number = Annotated[float, BeforeValidator(_no_flag)]
Seconds = Annotated[float, Field(gt=0, le=_MAX_S), BeforeValidator(_no_flag)]
Count = Annotated[int, Field(ge=0), BeforeValidator(_no_flag)]
Edge = Annotated[float | Annotated[str, StringConstraints(max_length=64)], BeforeValidator(_no_flag)]
Value = Annotated[bool | int | float | str, Field(union_mode="smart")]
Pairs = Annotated[dict[Column, Column], Field(min_length=1, max_length=16), BeforeValidator(_pairs)]


class ValueType(StrEnum):
    """What all values of a column must be, beyond the column's own type."""

    INTEGER = "integer"
    JSON = "json"
    TIME = "time"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=65_536, allow_inf_nan=False)


class Complete(_Part):
    """Values are there; a NaN is as empty as none."""

    columns: Names | None = Field(
        None, min_length=1, max_length=MAX_NAMES, description="Columns that are looked at; unset: all."
    )
    max_null_ratio: Ratio = Field(0.0, description="Share of empty values, from 0 to 1, that is still well.")


class Gaps(_Part):
    """No hole in time between two rows of a series."""

    max_gap_s: Seconds = Field(description="Seconds that two rows next to each other may be apart.")
    by: Names | None = Field(
        None, max_length=MAX_NAMES, description="Columns that tell series apart; unset: all dimensions, []: none."
    )


class Rows(_Part):
    """Neither too few rows nor too many."""

    min: Count | None = Field(None, description="The fewest rows that are well, of the whole dataset.")
    max: Count | None = Field(None, description="The most rows that are well.")

    @model_validator(mode="after")
    def _fits(self) -> Rows:
        if self.min is None and self.max is None:
            raise ValueError("say `min`, `max` or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("`min` is more than `max`; no answer could pass")
        return self


class Range(_Part):
    """Numbers or times lie between two edges, both of which belong to it."""

    column: Column = Field(description="A column of type number or time.")
    min: Edge | None = Field(None, description="The smallest value that is well: a number, or a time as ISO 8601.")
    max: Edge | None = Field(None, description="The largest value that is well.")
    max_outside_ratio: Ratio = Field(0.0, description="Share of values outside, from 0 to 1, that is still well.")

    @model_validator(mode="after")
    def _fits(self) -> Range:
        if self.min is None and self.max is None:
            raise ValueError("say `min`, `max` or both")
        return self


class OneOf(_Part):
    """Values are among those listed; an empty one is none."""

    column: Column = Field(description="A column of type string, number, boolean or json.")
    values: tuple[Value, ...] = Field(min_length=1, max_length=MAX_VALUES, description="The values that are well.")
    max_outside_ratio: Ratio = Field(0.0, description="Share of other values, from 0 to 1, that is still well.")


class Matches(_Part):
    """Texts match a pattern from their first to their last character."""

    column: Column = Field(description="A column of type string or json.")
    pattern: Annotated[str, StringConstraints(min_length=1, max_length=512)] = Field(
        description="A regular expression without look-around and back-references."
    )
    max_outside_ratio: Ratio = Field(0.0, description="Share of other texts, from 0 to 1, that is still well.")


class Unique(_Part):
    """No two rows have the same values in these columns."""

    columns: Names | None = Field(
        None, min_length=1, max_length=MAX_NAMES, description="The columns; unset: the time and all dimensions."
    )


class Ordered(_Part):
    """A time that never goes back, or a counter that never falls in the order of time."""

    column: Column | None = Field(None, description="A column of type number or time; unset: the time.")
    by: Names | None = Field(
        None, max_length=MAX_NAMES, description="Columns that tell series apart; unset: all dimensions, []: none."
    )
    strictly: bool = Field(False, description="Whether it must not stay the same either.")


class Rule(_Part):
    """A condition that is true of every row; one that is empty is not broken."""

    that: Expression = Field(description="A condition in the language of steps, such as `loss >= 0`.")
    max_failed_ratio: Ratio = Field(0.0, description="Share of rows that break it, from 0 to 1, that is still well.")


class Reference(_Part):
    """Values agree with those of another dataset."""

    dataset: Dataset = Field(description="The dataset that is taken as the truth.")
    on: Pairs = Field(
        description="Columns that tell which rows belong together: a list of names, or a mapping from mine to theirs."
    )
    compare: Pairs = Field(description="Columns that must agree: a list of names, or a mapping from mine to theirs.")
    tolerance: Annotated[Number, Field(ge=0)] = Field(0.0, description="How far numbers may be apart.")
    tolerance_ratio: Annotated[Number, Field(ge=0)] = Field(
        0.0, description="How far they may be apart as a share of theirs; added to `tolerance`."
    )
    max_differing_ratio: Ratio = Field(0.0, description="Share of differing rows, from 0 to 1, that is still well.")
    missing: Literal["ok", "fail"] = Field(
        "ok", description="Whether a row that has no partner there counts as differing."
    )


class Fresh(_Part):
    """The newest row is young enough, and no row lies in the future."""

    max_age_s: Seconds = Field(description="Seconds that the newest row may be old.")
    column: Column | None = Field(None, description="A column of type time; unset: the one of role time.")
    ahead_s: Annotated[Number, Field(ge=0, le=_MAX_S)] = Field(
        60.0, description="Seconds that the newest row may lie after the clock of this machine."
    )


_Some = Field(min_length=1, max_length=MAX_NAMES)
_WORDS = ("level", "name")


class Check(BaseModel):
    """One check; exactly one of the keys beside `level` and `name`."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=65_536, allow_inf_nan=False)

    complete: Annotated[Complete | None, _short("columns", str, list, tuple)] = Field(
        None, description="Values are there: names of columns, or a mapping; `{}` looks at all columns."
    )
    gaps: Annotated[Gaps | None, _short("max_gap_s", int, float)] = Field(
        None, description="No hole in time between two rows of a series: seconds, or a mapping."
    )
    rows: Annotated[Rows | None, _short("min", int)] = Field(
        None, description="Neither too few rows nor too many: the fewest, or a mapping."
    )
    range: Range | None = Field(None, description="Numbers or times lie between two edges.")
    one_of: OneOf | None = Field(None, description="Values are among those listed.")
    matches: Matches | None = Field(None, description="Texts match a pattern from end to end.")
    unique: Annotated[Unique | None, _short("columns", str, list, tuple)] = Field(
        None, description="No two rows have the same values in these columns: names, or a mapping."
    )
    ordered: Annotated[Ordered | None, _short("column", str)] = Field(
        None, description="A time never goes back, or a counter never falls: its name, or a mapping."
    )
    types: Annotated[dict[Column, ValueType], _Some] | None = Field(
        None, description="What all values of a column must be: `{epoch: integer, config: json, started: time}`."
    )
    rule: Annotated[Rule | None, _short("that", str)] = Field(
        None, description="A condition that is true of every row: an expression, or a mapping with `that`."
    )
    reference: Reference | None = Field(None, description="Values agree with those of another dataset.")
    fresh: Annotated[Fresh | None, _short("max_age_s", int, float)] = Field(
        None, description="The newest row is young enough, and none lies in the future: seconds, or a mapping."
    )
    level: Level = Field(
        Level.WARN, description="info is noted, warn is shown on the panel, block keeps the answer from everyone."
    )
    name: Title | None = Field(None, description="What the check is called in metrics and findings; unset: its key.")

    @model_validator(mode="after")
    def _one(self) -> Check:
        if len(self.said) != 1:
            named = ", ".join(self.said) or "none"
            raise ValueError(f"a check has exactly one key beside `level` and `name`, this one has {named}")
        return self

    @property
    def said(self) -> tuple[str, ...]:
        """The checks that are given."""
        return tuple(key for key in type(self).model_fields if key not in _WORDS and getattr(self, key) is not None)

    @property
    def kind(self) -> str:
        """Which check it is."""
        return self.said[0]

    @property
    def title(self) -> str:
        """What it is called: its name, or else which check it is."""
        return self.name or self.kind

    @property
    def others(self) -> tuple[str, ...]:
        """The other datasets it reads."""
        return (self.reference.dataset,) if self.reference is not None else ()
