"""What a step is once it is bound to the columns before it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import polars as pl

from bridge.errors import AnswerTooLarge
from bridge.model.frame import Frame, Notice
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.model.span import Span
from bridge.sources.base import Limits

MAX_SHOWN = 40
Loc = tuple[str | int, ...]


class StepError(ValueError):
    """A step that does not fit the columns before it; `loc` is the place below `steps`."""

    def __init__(self, text: str, *loc: str | int) -> None:
        super().__init__(text)
        self.loc: Loc = loc


@dataclass(slots=True)
class Work:
    """One answer on its way through the steps: the other datasets' frames, the bounds, and what is to be told."""

    limits: Limits
    others: Mapping[str, Frame] = field(default_factory=dict)
    notices: list[Notice] = field(default_factory=list)

    def refuse_rows(self, rows: int, what: str) -> None:
        """Refuses a table before it is made.

        Errors: AnswerTooLarge.
        """
        if rows > self.limits.max_rows:
            raise AnswerTooLarge(
                f"{what} would have {rows} rows, more than the {self.limits.max_rows} allowed",
                remedy="filter or aggregate in a step before it, or raise limits.rows",
            )


Run = Callable[[pl.DataFrame, Work], pl.DataFrame]
Widen = Callable[[Span], Span]
Ask = Callable[[Query], Query]


def same_span(span: Span) -> Span:
    """The span as it is: every row stands for itself."""
    return span


@dataclass(frozen=True, slots=True)
class Bound:
    """One step between two schemas.

    Shape: `reads` are columns it cannot do without; `back` leads from a column after it to the same column before
           it; `pushes` are columns after it whose filters may as well be applied before it; `span` is what it must
           be given to answer a span, None where that is everything; `asks` makes the question to another dataset of
           what is asked of this one.
    """

    schema: Schema
    run: Run
    back: Mapping[str, str]
    reads: frozenset[str] = frozenset()
    pushes: frozenset[str] | None = None
    span: Widen | None = same_span
    asks: Mapping[str, Ask] = field(default_factory=lambda: MappingProxyType({}))

    def push(self, query: Query) -> Query:
        """What must be asked before the step to answer a question after it; it may be more, never less."""
        kept = self.back if self.pushes is None else {name: self.back[name] for name in self.pushes}
        filters = tuple(replace(f, column=kept[f.column]) for f in query.filters if f.column in kept)
        columns: tuple[str, ...] = ()
        if query.columns:
            named = [self.back[name] for name in query.columns if name in self.back]
            columns = tuple(dict.fromkeys([*named, *sorted(self.reads)]))
        return replace(query, filters=filters, columns=columns, span=self._span(query.span))

    def _span(self, span: Span | None) -> Span | None:
        return self.span(span) if span is not None and self.span is not None else None


def must_have(schema: Schema, name: str, *loc: str | int) -> Column:
    """The column of that name.

    Errors: StepError that says which there are.
    """
    if column := schema.get(name):
        return column
    near = difflib.get_close_matches(name, schema.names, n=1)
    hint = f"did you mean `{near[0]}`? " if near else ""
    shown = ", ".join(schema.names[:MAX_SHOWN]) + (", …" if len(schema.names) > MAX_SHOWN else "")
    raise StepError(f"there is no column `{name[:80]}` at this step ({hint}the columns are {shown})", *loc)


def time_of(schema: Schema, what: str, *loc: str | int) -> Column:
    """The column of role time.

    Errors: StepError.
    """
    if (time := schema.time) is not None and time.type is ColumnType.TIME:
        return time
    raise StepError(f"{what} needs a column of role time, and there is none at this step", *loc)


def unchanged(schema: Schema, *without: str) -> dict[str, str]:
    """Every column but these leads back to itself."""
    return {name: name for name in schema.names if name not in without}


def put(schema: Schema, column: Column) -> Schema:
    """The schema with this column in the place of the one of its name, or at the end."""
    if schema.get(column.name) is None:
        return replace(schema, columns=(*schema.columns, column))
    return replace(schema, columns=tuple(column if c.name == column.name else c for c in schema.columns))


def role_for(schema: Schema, type_: ColumnType) -> Role | None:
    """The role of a new column of this type: numbers are measures, texts dimensions, the first time is the time."""
    match type_:
        case ColumnType.NUMBER:
            return Role.MEASURE
        case ColumnType.STRING:
            return Role.DIMENSION
        case ColumnType.TIME:
            return Role.TIME if schema.time is None else None
        case _:
            return None
