"""Checks that count rows: each looks at one row at a time, and a share of bad ones is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import polars as pl

from bridge.errors import BadQuery
from bridge.model.filters import anchored
from bridge.model.schema import Column, ColumnType, Schema
from bridge.model.span import parse_instant
from bridge.sources.convert import converted
from bridge.sources.quality.bound import (
    WORDS,
    CheckError,
    Made,
    NotMade,
    Probe,
    Scene,
    Verdict,
    must_have,
    of_type,
)
from bridge.sources.quality.options import Complete, Matches, OneOf, Range, Rule, ValueType
from bridge.sources.quality.words import allowed, are, cut, examples, plain, quoted, rows_where, share
from bridge.sources.transform.expression import Compiled, ExpressionError, compile_condition

# What a rule's texts may take: as much as an answer may have by default.
MAX_TEXT_BYTES = 64 * 1024 * 1024
_TEXTS = (ColumnType.STRING, ColumnType.JSON)
Bad = Callable[[pl.DataType], pl.Expr]


def complete(given: Complete, schema: Schema) -> Made:
    """Values are there."""
    names = schema.names if given.columns is None else given.columns
    columns = [must_have(schema, name, "columns", index) for index, name in enumerate(names)]
    return Made(tuple(_complete(name, given.max_null_ratio) for name in dict.fromkeys(c.name for c in columns)))


def _complete(name: str, most: float) -> Probe:
    def bad(dtype: pl.DataType) -> pl.Expr:
        return pl.col(name).is_null() | pl.col(name).is_nan() if dtype.is_float() else pl.col(name).is_null()

    def numbers(scene: Scene) -> tuple[pl.Expr, ...]:
        nan = pl.col(name).is_nan().sum() if scene.dtypes[name].is_float() else pl.lit(0)
        return pl.col(name).null_count(), nan

    def verdict(scene: Scene, found: tuple[Any, ...]) -> Verdict:
        return _judged(scene, sum(found), scene.data.height, most, lambda: (
            f"{quoted(name)}: {share(sum(found), scene.data.height, 'value')} {are(sum(found))} empty"
            + examples(scene, rows_where(scene, bad(scene.dtypes[name])))
        ))  # fmt: skip

    return Probe(name, frozenset({name}), verdict, numbers)


def _judged(scene: Scene, bad: int, seen: int, most: float, text: Callable[[], str]) -> Verdict:
    """A share of bad rows against the share that is still well; of nothing there is no share."""
    if seen == 0:
        return Verdict()
    ratio = bad / seen
    return Verdict(ratio, text() + allowed(most), bad) if ratio > most else Verdict(ratio)


def _outside(column: Column, bad: Bad, what: Callable[[int], str], most: float) -> Probe:
    """A probe of one column's values, the empty ones left out; `bad` is true of those that are not well."""
    name = column.name

    def numbers(scene: Scene) -> tuple[pl.Expr, ...]:
        dtype = scene.dtypes[name]
        seen = pl.col(name).count() - (pl.col(name).is_nan().sum() if dtype.is_float() else 0)
        return bad(dtype).sum(), seen

    def verdict(scene: Scene, found: tuple[Any, ...]) -> Verdict:
        count, seen = found
        return _judged(scene, count, seen, most, lambda: (
            f"{quoted(name)}: {share(count, seen, 'value')} {what(count)}"
            + examples(scene, rows_where(scene, bad(scene.dtypes[name])), name)
        ))  # fmt: skip

    return Probe(name, frozenset({name}), verdict, numbers)


def _value(name: str, dtype: pl.DataType) -> pl.Expr:
    """The column, a NaN as empty as a null: in Polars it is greater than every number."""
    return pl.col(name).fill_nan(None) if dtype.is_float() else pl.col(name)


def range_(given: Range, schema: Schema) -> Made:
    """Numbers or times between two edges."""
    loc = ("column",)
    column = of_type(schema, given.column, ColumnType.NUMBER, ColumnType.TIME, what="`range`", loc=loc)
    low, high = (_edge(getattr(given, key), column, key) for key in ("min", "max"))
    if low is not None and high is not None and low > high:
        raise CheckError("`min` is more than `max`; no value could pass", "min")

    def bad(dtype: pl.DataType) -> pl.Expr:
        value = _value(column.name, dtype)
        below, above = value < pl.lit(low), value > pl.lit(high)
        if low is None or high is None:
            return below if high is None else above
        return below | above

    def what(count: int) -> str:
        first, last = (_shown_edge(edge) for edge in (given.min, given.max))
        if first and last:
            return f"{are(count)} outside {first} to {last}"
        return f"{are(count)} below {first}" if first else f"{are(count)} above {last}"

    return Made((_outside(column, bad, what, given.max_outside_ratio),))


def _edge(given: float | str | None, column: Column, key: str) -> Any:
    if given is None:
        return None
    if column.type is ColumnType.NUMBER:
        if isinstance(given, str):
            raise CheckError(f"`{column.name}` is a number, {given[:40]!r} is none", key)
        # A whole number stays one: in a float those over 2^53 are not told apart.
        return int(given) if given.is_integer() and abs(given) < 2**63 else given
    try:
        return parse_instant(given, name=key)
    except BadQuery as error:
        raise CheckError(f"{error.message} (write it as 2026-01-31T12:00:00Z)", key) from error


def _shown_edge(edge: float | str | None) -> str:
    return "" if edge is None else plain(edge) if isinstance(edge, float) else edge


def one_of(given: OneOf, schema: Schema) -> Made:
    """Values among those listed."""
    kinds = (ColumnType.STRING, ColumnType.NUMBER, ColumnType.BOOLEAN, ColumnType.JSON)
    column = of_type(schema, given.column, *kinds, what="`one_of`", loc=("column",))
    for index, value in enumerate(given.values):
        _must_be(value, column, index)
    known = dict.fromkeys(given.values)

    def bad(dtype: pl.DataType) -> pl.Expr:
        value = _value(column.name, dtype)
        return ~value.is_in(_listed(list(known), dtype).implode())

    def what(count: int) -> str:
        return f"{are(count)} none of the {len(known)} that are known"

    return Made((_outside(column, bad, what, given.max_outside_ratio),))


def _must_be(value: Any, column: Column, index: int) -> None:
    kind = ColumnType.BOOLEAN if isinstance(value, bool) else ColumnType.NUMBER
    kind = ColumnType.STRING if isinstance(value, str) else kind
    if kind is not (ColumnType.STRING if column.type is ColumnType.JSON else column.type):
        hint = " (put it in quotes)" if column.type in _TEXTS else ""
        text = f"`{column.name}` is {WORDS[column.type]}, {str(value)[:40]!r} is {WORDS[kind]}{hint}"
        raise CheckError(text, "values", index)
    if kind is ColumnType.NUMBER and abs(value) >= 2**64 and isinstance(value, int):
        raise CheckError("a whole number of more than 64 bits stands in no column", "values", index)


def _listed(known: list[Any], dtype: pl.DataType) -> pl.Series:
    """The listed values in the column's own type: whole numbers are not told apart as floats."""
    if dtype.is_integer():
        whole = [int(value) for value in known if abs(value) < 2**64 and value == int(value)]
        return pl.Series(whole, dtype=pl.Int128).cast(dtype, strict=False).drop_nulls()
    if dtype.is_numeric():
        return pl.Series([float(value) for value in known], dtype=pl.Float64).cast(dtype)
    return pl.Series(known, dtype=dtype)


def matches(given: Matches, schema: Schema) -> Made:
    """Texts that match a pattern; the engine is linear in time, and refuses patterns that would grow too large."""
    column = of_type(schema, given.column, *_TEXTS, what="`matches`", loc=("column",))
    try:
        pattern = anchored(given.pattern)
    except BadQuery as error:
        raise CheckError(error.sentence, "pattern") from error

    def bad(_: pl.DataType) -> pl.Expr:
        return ~pl.col(column.name).str.contains(pattern)

    def what(count: int) -> str:
        return f"{'does' if count == 1 else 'do'} not match `{cut(given.pattern)}`"

    return Made((_outside(column, bad, what, given.max_outside_ratio),))


_NOT = {
    ValueType.INTEGER: ("no whole number", "no whole numbers"),
    ValueType.JSON: ("no JSON", "no JSON"),
    ValueType.TIME: ("no time", "no times"),
}
_FOR = {
    ValueType.INTEGER: (ColumnType.NUMBER, ColumnType.STRING),
    ValueType.JSON: _TEXTS,
    ValueType.TIME: (ColumnType.STRING,),
}


def types(given: dict[str, ValueType], schema: Schema) -> Made:
    """All values of a column are of a kind that its type does not say."""
    return Made(tuple(_typed(name, kind, schema) for name, kind in given.items()))


def _typed(name: str, kind: ValueType, schema: Schema) -> Probe:
    column = of_type(schema, name, *_FOR[kind], what=f"`{kind}`", loc=(name,))

    def bad(dtype: pl.DataType) -> pl.Expr:
        value = _value(name, dtype)
        if kind is ValueType.INTEGER:
            if dtype == pl.String:
                return ~value.str.contains(r"^[+-]?[0-9]+$")
            # An infinity is its own floor.
            return (value != value.floor()) | value.is_infinite() if dtype.is_float() else value != value.floor()
        no = _no_json if kind is ValueType.JSON else _no_time
        return value.map_batches(no, return_dtype=pl.Boolean, is_elementwise=True)

    return _outside(column, bad, lambda count: f"{are(count)} {_NOT[kind][count != 1]}", 0.0)


def _no_json(texts: pl.Series) -> pl.Series:
    # Each text once: settings and labels repeat, and reading one costs far more than finding its like.
    broken = [text for text in texts.unique().drop_nulls().to_list() if not _is_json(text)]
    return texts.is_in(pl.Series(broken, dtype=pl.String).implode())


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except ValueError:
        return False
    return True


def _no_time(texts: pl.Series) -> pl.Series:
    return converted(texts, ColumnType.TIME)[0].is_null() & texts.is_not_null()


def rule(given: Rule, schema: Schema) -> Made:
    """A condition that is true of every row, or empty."""
    try:
        condition = compile_condition(given.that, schema)
    except ExpressionError as error:
        raise CheckError(str(error), "that") from error
    if not condition.columns:
        raise CheckError("the condition speaks of no column; it says nothing of any row", "that")
    shown_columns = [name for name in schema.names if name in condition.columns]

    def numbers(scene: Scene) -> tuple[pl.Expr, ...]:
        _refuse_text(condition, scene)
        return (condition.polars().not_().sum(),)

    def verdict(scene: Scene, found: tuple[Any, ...]) -> Verdict:
        bad, seen = found[0], scene.data.height
        return _judged(scene, bad, seen, given.max_failed_ratio, lambda: (
            f"{share(bad, seen, 'row')} {'breaks' if bad == 1 else 'break'} the rule `{cut(given.that)}`"
            + examples(scene, rows_where(scene, condition.polars().not_()), *shown_columns, named=True)
        ))  # fmt: skip

    return Made((Probe("", condition.columns, verdict, numbers),))


def _refuse_text(condition: Compiled, scene: Scene) -> None:
    sizes_bytes = {name: int(scene.data.get_column(name).estimated_size()) for name in condition.columns}
    if (made_bytes := condition.text_bytes(sizes_bytes, scene.data.height)) > MAX_TEXT_BYTES:
        raise NotMade(f"its texts could take {made_bytes} bytes, more than the {MAX_TEXT_BYTES} allowed")
