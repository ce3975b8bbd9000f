"""Row filters: parsed once from `column<op>value` or Grafana's ad-hoc objects, applied as Polars expressions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import polars as pl

from bridge.errors import BadQuery
from bridge.model.schema import Column, ColumnType, Schema
from bridge.model.span import parse_instant


class Op(StrEnum):
    """How a column is compared; `=` and `!=` with several values mean any of and none of."""

    EQ = "="
    NE = "!="
    RE = "=~"
    NRE = "!~"
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="


# Grafana's multi-value spellings of the same two comparisons.
_ALIASES = {"=|": Op.EQ, "!=|": Op.NE, "==": Op.EQ, "<>": Op.NE}
_TEXT = re.compile(
    r"\s*(?P<column>[A-Za-z_][A-Za-z0-9_.]*)\s*(?P<op>=~|!~|!=\||=\||!=|<=|>=|<>|==|=|<|>)(?P<value>.*)", re.S
)
MAX_VALUES = 1_000
MAX_PATTERN_CHARS = 512
# Below it every whole number is a float of its own; at it two of them share one.
_EXACT = 2**53
_WHOLE = re.compile(r"[+-]?\d{1,19}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Filter:
    """`column op values`; one value for all but `=` and `!=`."""

    column: str
    op: Op
    values: tuple[str, ...]

    @property
    def is_pattern(self) -> bool:
        """Whether it has a regular expression, which costs its compilation."""
        return self.op in (Op.RE, Op.NRE)

    def __str__(self) -> str:
        return f"{self.column}{self.op}{','.join(self.values)}"


def parse_op(text: str) -> Op:
    """The comparison a client spelled.

    Errors: BadQuery for any other text.
    """
    try:
        return _ALIASES.get(text) or Op(text)
    except ValueError as error:
        raise BadQuery(f"unknown filter operator {text[:20]!r}", remedy=f"use one of {' '.join(Op)}") from error


def parse_filter(text: str) -> Filter:
    """A filter from `column<op>value`, for example `model=svm` or `accuracy>=0.9`.

    Errors: BadQuery when no operator can be found.
    """
    match = _TEXT.fullmatch(text) if len(text) <= 8_192 else None
    if match is None:
        raise BadQuery(
            f"cannot read the filter {text[:80]!r}", remedy="write `column<op>value`, for example `model=svm`"
        )
    return Filter(match["column"], parse_op(match["op"]), (match["value"].strip(),))


def expression(item: Filter, schema: Schema) -> pl.Expr:
    """The filter as a boolean Polars expression over the dataset's published columns.

    Errors: BadQuery for an unknown column, a value of the wrong type, or a pattern that does not compile.
    Source: patterns are anchored at both ends, as in Prometheus; the engine is linear in time.
    """
    column = schema.get(item.column)
    if column is None:
        raise BadQuery(
            f"there is no column `{item.column}` to filter by",
            remedy=f"the columns are {', '.join(schema.names)}",
        )
    if len(item.values) > MAX_VALUES:
        raise BadQuery(f"a filter takes at most {MAX_VALUES} values, `{item.column}` got {len(item.values)}")
    col = pl.col(column.name)
    if item.op in (Op.RE, Op.NRE):
        return _pattern(column, item)
    values = [_typed(value, column) for value in item.values]
    match item.op:
        case Op.EQ:
            return _any_of(col, values)
        case Op.NE:
            return ~_any_of(col, values).fill_null(value=False)
        case Op.LT:
            return col < _one(values, item)
        case Op.LE:
            return col <= _one(values, item)
        case Op.GT:
            return col > _one(values, item)
        case _:
            return col >= _one(values, item)


def text_of(column: Column) -> pl.Expr:
    """The column as people read it, in labels and option lists: null is empty, 5.0 is `5`, times are ISO 8601."""
    col = pl.col(column.name)
    if column.type is ColumnType.TIME:
        col = col.dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
    elif column.type is ColumnType.NUMBER:
        col = col.cast(pl.String).str.strip_suffix(".0")
    return col.cast(pl.String).fill_null("")


def _any_of(col: pl.Expr, values: list[object]) -> pl.Expr:
    known = [value for value in values if value is not None]
    if any(isinstance(value, (int, float)) and not isinstance(value, bool) for value in known):
        found = _any_number(col, [value for value in known if isinstance(value, (int, float))])
    else:
        found = col == pl.lit(known[0]) if len(known) == 1 else col.is_in(known)
    return found if len(known) == len(values) else found | col.is_null()


def _any_number(col: pl.Expr, values: list[int | float]) -> pl.Expr:
    """Numbers are compared in the column's own type: `is_in` refuses integers against floats, and a cast of
    large integers to floats makes neighbours equal. Only small whole numbers are safe in one set.
    """
    small = [float(value) for value in values if isinstance(value, int) and abs(value) < _EXACT]
    single = [value for value in values if not (isinstance(value, int) and abs(value) < _EXACT)]
    found = [col == pl.lit(value) for value in single]
    return pl.any_horizontal(*found, col.cast(pl.Float64).is_in(small)) if small else pl.any_horizontal(*found)


def _one(values: list[object], item: Filter) -> pl.Expr:
    if len(values) != 1 or values[0] is None:
        raise BadQuery(f"`{item.column} {item.op}` takes exactly one value")
    return pl.lit(values[0])


def _pattern(column: Column, item: Filter) -> pl.Expr:
    if len(item.values) != 1 or len(item.values[0]) > MAX_PATTERN_CHARS:
        raise BadQuery(f"`{item.column} {item.op}` takes one pattern of at most {MAX_PATTERN_CHARS} characters")
    found = text_of(column).str.contains(anchored(item.values[0]))
    return found if item.op is Op.RE else ~found


@lru_cache(maxsize=256)
def anchored(given: str) -> str:
    """The pattern between anchors, once it is known to compile; that may take longer than all rows do to match."""
    pattern = f"^(?s:{given})$"
    try:
        # The empty probe compiles the pattern now, so that a bad one is the caller's error and not a failed query;
        # bare as well, as `a)|(b` would compile only inside the brackets and undo the anchors.
        for text in (given, pattern):
            pl.Series([""]).str.contains(text)
    except pl.exceptions.PolarsError as error:
        raise BadQuery(
            f"the pattern {given[:80]!r} does not compile: {str(error).splitlines()[0][:200]}",
            remedy="write a regular expression without look-around or back-references",
        ) from error
    return pattern


def _typed(value: str, column: Column) -> object:
    """The value in the column's own type; an empty value means null except for texts."""
    if column.type in (ColumnType.STRING, ColumnType.JSON):
        return value
    if value == "":
        return None
    if column.type is ColumnType.TIME:
        return parse_instant(value, name=column.name)
    if column.type is ColumnType.BOOLEAN:
        if value.lower() in ("true", "1"):
            return True
        if value.lower() in ("false", "0"):
            return False
        raise BadQuery(f"`{column.name}` is true or false, not {value[:40]!r}")
    try:
        # A whole number stays one: identifiers over 2^53 are not floats.
        return int(value) if _WHOLE.fullmatch(value) else float(value)
    except ValueError as error:
        raise BadQuery(f"`{column.name}` is a number, {value[:40]!r} is none") from error
