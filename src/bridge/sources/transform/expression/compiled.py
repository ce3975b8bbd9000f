"""An expression that is known to be sound over a schema, as a Polars expression and with the bound of its texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from bridge.model.frame import DTYPES
from bridge.model.schema import ColumnType, Schema
from bridge.sources.transform.expression.check import WORDS, Part, check
from bridge.sources.transform.expression.fault import fail, shown
from bridge.sources.transform.expression.parser import parse
from bridge.sources.transform.expression.signature import TEXT, finite, let
from bridge.sources.transform.expression.times import usable


@dataclass(frozen=True, slots=True)
class Compiled:
    """An expression over the columns of one schema: its type, and the columns it reads.

    Shape: numbers are Float64 and never NaN or infinite: where arithmetic makes such a one, the value is null.
    """

    text: str
    type: ColumnType
    columns: frozenset[str]
    _parts: tuple[Part, ...] = field(repr=False, compare=False)

    def polars(self) -> pl.Expr:
        """The expression, row by row: no value depends on another row. One that reads no column is a literal."""
        made: list[tuple[pl.Expr, bool]] = []
        for part in self._parts:
            made.append(_made(part, made, self._parts))
        value, sure = made[-1]
        if not sure and self.type is ColumnType.NUMBER:
            value = finite(value)
        return _filling(value, self.columns) if self._parts[-1].function else value

    def text_bytes(self, size_bytes: Mapping[str, int], rows: int) -> int:
        """Bytes that the largest text column made on the way can have, the result among them; 0 where none is made.

        Units: `size_bytes` are those of the whole column, for each text column in `columns`.
        """
        sizes: list[int] = []
        largest = 0
        for part in self._parts:
            sizes.append(_bytes(part, sizes, size_bytes, rows))
            largest = max(largest, sizes[-1] if part.function else 0)
        return max(largest, sizes[-1])


def compile_expression(text: str, schema: Schema) -> Compiled:
    """The expression, once it is known that it can be computed over every frame of the schema.

    Errors: ExpressionError with the place in the text, for anything that is wrong with it.
    """
    parts = check(text, parse(text), schema)
    if (kind := parts[-1].type) is None:
        fail("the expression always is null, of no type", 0, "write `number(null)`, `text(null)` or the like")
    return Compiled(text, kind, frozenset(part.name for part in parts if part.name is not None), parts)


def compile_condition(text: str, schema: Schema) -> Compiled:
    """The expression as a condition; null is not true.

    Errors: ExpressionError, also for one that is not true or false.
    """
    compiled = compile_expression(text, schema)
    if compiled.type is not ColumnType.BOOLEAN:
        fail(f"{shown(text)} is {WORDS[compiled.type]}, a condition is true or false", 0, "compare it with a value")
    return compiled


def _filling(value: pl.Expr, columns: frozenset[str]) -> pl.Expr:
    """The value with a row for every row: where all come out alike (a column is all null, a condition never true),
    Polars may make one row for all, and then refuse it as it is no literal.
    """
    return let(pl.field("value"), value=value, row=pl.col(min(columns))) if columns else value


def _made(part: Part, made: list[tuple[pl.Expr, bool]], parts: tuple[Part, ...]) -> tuple[pl.Expr, bool]:
    """The Polars expression of one part, and whether all of its values are sure to be finite."""
    if part.name is not None:
        return _column(part.name, part.type)
    if part.function is None:
        return pl.lit(part.value, dtype=DTYPES[part.type or ColumnType.STRING]), True
    values: list[pl.Expr] = []
    for number, wanted in part.operands:
        value, sure = made[number]
        if parts[number].type is None:
            value, sure = pl.lit(None, dtype=DTYPES[wanted]), True
        carried = sure or part.function.carries or wanted is not ColumnType.NUMBER
        values.append(value if carried else finite(value))
    return part.function.build(*values, *part.fixed), part.function.finite


def _column(name: str, kind: ColumnType | None) -> tuple[pl.Expr, bool]:
    if kind is ColumnType.NUMBER:
        return pl.col(name).cast(pl.Float64), False
    return usable(pl.col(name)) if kind is ColumnType.TIME else pl.col(name), True


def _bytes(part: Part, sizes: list[int], size_bytes: Mapping[str, int], rows: int) -> int:
    if part.type not in TEXT:
        return 0
    if part.name is not None:
        return size_bytes[part.name]
    if part.function is None:
        return len(str(part.value).encode()) * rows
    return part.function.grows([sizes[number] for number, _ in part.operands], part.fixed, rows)
