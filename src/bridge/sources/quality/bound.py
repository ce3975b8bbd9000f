"""What a check is once it is bound to the columns it meets."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import polars as pl

from bridge.model.frame import Frame
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.model.span import Span

MAX_SHOWN = 40
MAX_NAME_CHARS = 80
Loc = tuple[str | int, ...]
# A check and the column it measured; no column where the number is one of the whole frame.
Key = tuple[str, str]
WORDS = {
    ColumnType.NUMBER: "a number",
    ColumnType.STRING: "a text",
    ColumnType.JSON: "a text of kind json",
    ColumnType.BOOLEAN: "true or false",
    ColumnType.TIME: "a time",
}


class CheckError(ValueError):
    """A check that does not fit the published columns; `loc` is the place below `checks`."""

    def __init__(self, text: str, *loc: str | int) -> None:
        super().__init__(text)
        self.loc: Loc = loc


class NotMade(Exception):
    """A check that could not be made of one frame, with the reason."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What is judged.

    Shape: `whole` says that no row was left out but for the `span` that was asked for, None where all time was;
           `now` is None where nothing may be said of the clock or of other datasets.
    """

    frame: Frame
    dtypes: Mapping[str, pl.DataType]
    others: Mapping[str, Frame]
    now: datetime | None
    whole: bool
    span: Span | None
    memo: dict[Hashable, Any] = field(default_factory=dict)

    @property
    def data(self) -> pl.DataFrame:
        """The rows."""
        return self.frame.data


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was measured, what is wrong (empty where all is well) and how many rows that concerns."""

    value: float | None = None
    text: str = ""
    rows: int = 0


Numbers = Callable[[Scene], tuple[pl.Expr, ...]]
Judge = Callable[[Scene, tuple[Any, ...]], Verdict | None]


def no_numbers(_: Scene) -> tuple[pl.Expr, ...]:
    """Nothing that Polars could find out in one go."""
    return ()


@dataclass(frozen=True, slots=True)
class Probe:
    """One number of a frame and what it means.

    Shape: `numbers` are expressions of one value each, which are computed together with those of all other probes;
           `verdict` gets their values and says None where the frame cannot tell.
    """

    column: str
    reads: frozenset[str]
    verdict: Judge
    numbers: Numbers = no_numbers


@dataclass(frozen=True, slots=True)
class Made:
    """The probes of one check, and the question to another dataset where it has one."""

    probes: tuple[Probe, ...]
    other: str | None = None
    by_time: bool = False


def must_have(schema: Schema, name: str, *loc: str | int) -> Column:
    """The published column of that name.

    Errors: CheckError that says which there are.
    """
    if column := schema.get(name):
        return column
    near = difflib.get_close_matches(name[:MAX_NAME_CHARS], schema.names, n=1)
    hint = f"did you mean `{near[0]}`? " if near else ""
    shown = ", ".join(schema.names[:MAX_SHOWN]) + (", …" if len(schema.names) > MAX_SHOWN else "")
    raise CheckError(f"there is no column `{name[:MAX_NAME_CHARS]}` ({hint}the columns are {shown})", *loc)


def of_type(schema: Schema, name: str, *types: ColumnType, what: str, loc: Loc) -> Column:
    """The published column of that name, which has one of the types.

    Errors: CheckError.
    """
    column = must_have(schema, name, *loc)
    if column.type in types:
        return column
    wanted = " or ".join(WORDS[kind] for kind in types)
    raise CheckError(f"`{name}` is {WORDS[column.type]}, {what} is for {wanted}", *loc)


def time_of(schema: Schema, what: str, *loc: str | int) -> Column:
    """The column of role time.

    Errors: CheckError.
    """
    if (time := schema.time) is not None and time.type is ColumnType.TIME:
        return time
    raise CheckError(f"{what} needs a column of role time, and the dataset has none", *loc)


def series_by(schema: Schema, given: tuple[str, ...] | None, *loc: str | int) -> tuple[str, ...]:
    """The columns that tell series apart: those that are named, or all dimensions.

    Errors: CheckError.
    """
    if given is None:
        return tuple(column.name for column in schema.with_role(Role.DIMENSION))
    return tuple(dict.fromkeys(must_have(schema, name, *loc, index).name for index, name in enumerate(given)))
