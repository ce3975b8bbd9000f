"""Steps that change columns: every row keeps its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import polars as pl

from bridge.errors import AnswerTooLarge
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.sources.convert import converted
from bridge.sources.table import Losses
from bridge.sources.transform.bound import Bound, StepError, Work, must_have, put, role_for, unchanged
from bridge.sources.transform.expression import Compiled, ExpressionError, compile_condition, compile_expression
from bridge.sources.transform.expression.numbers import exactly
from bridge.sources.transform.options import Convert, Derive, Format
from bridge.sources.transform.units import UNITS, factors

_DURATIONS = {"words": "dtdurations", "clock": "dthms"}


def rename(given: Mapping[str, str], schema: Schema) -> Bound:
    """New names; several columns may change names with each other."""
    for old in given:
        must_have(schema, old, old)
    new = [given.get(name, name) for name in schema.names]
    for old, name in given.items():
        if new.count(name) > 1:
            raise StepError(f"two columns would be called `{name}`", old)
    columns = tuple(replace(column, name=given.get(column.name, column.name)) for column in schema.columns)
    back = {given.get(name, name): name for name in schema.names}

    def run(data: pl.DataFrame, _: Work) -> pl.DataFrame:
        return data.rename(dict(given), strict=False)

    return Bound(replace(schema, columns=columns), run, back)


def keep(names: tuple[str, ...], schema: Schema) -> Bound:
    """Only these columns, in this order."""
    columns = tuple(must_have(schema, name, index) for index, name in enumerate(names))
    return _chosen(replace(schema, columns=tuple(dict.fromkeys(columns))))


def drop(names: tuple[str, ...], schema: Schema) -> Bound:
    """All but these columns."""
    gone = {must_have(schema, name, index).name for index, name in enumerate(names)}
    if len(gone) == len(schema.columns):
        raise StepError("no column would be left")
    return _chosen(replace(schema, columns=tuple(c for c in schema.columns if c.name not in gone)))


def _chosen(schema: Schema) -> Bound:
    def run(data: pl.DataFrame, _: Work) -> pl.DataFrame:
        there = set(data.columns)
        return data.select([name for name in schema.names if name in there])

    return Bound(schema, run, unchanged(schema))


def cast(given: Mapping[str, ColumnType], schema: Schema) -> Bound:
    """Other types; what cannot be converted is empty, and told."""
    after = schema
    for name, type_ in given.items():
        column = must_have(schema, name, name)
        others = replace(after, columns=tuple(c for c in after.columns if c.name != name))
        role = column.role if column.type is type_ else _role_cast(column, type_, others)
        after = put(after, replace(column, type=type_, role=role, unit=column.unit if role is Role.MEASURE else None))
    changed = [name for name, type_ in given.items() if must_have(schema, name).type is not type_]
    targets = [must_have(after, name) for name in changed]

    def run(data: pl.DataFrame, work: Work) -> pl.DataFrame:
        losses = Losses()
        there = set(data.columns)
        for column in targets:
            if column.name in there:
                raw = data.get_column(column.name)
                values, present = converted(raw, column.type)
                losses.add(column, raw, values, present)
                data = data.with_columns(values)
        losses.check("after `cast`: ")
        work.notices.extend(losses.notices())
        return data

    return Bound(after, run, unchanged(schema, *changed), frozenset(changed))


def _role_cast(column: Column, type_: ColumnType, others: Schema) -> Role | None:
    """An attribute stays one; what was drawn or told series apart goes on doing what its new type can."""
    return role_for(others, type_) if column.role is not None or type_ is ColumnType.TIME else None


def convert(given: Mapping[str, Convert], schema: Schema) -> Bound:
    """Other units."""
    after, expressions = schema, []
    for name, units in given.items():
        column = _number(schema, name)
        source = units.from_ or column.unit
        if source is None:
            raise StepError(f"`{name}` has no unit; say what it is in: `{{from: ms, to: {units.to}}}`", name)
        try:
            a, b = factors(source, units.to)
        except ValueError as error:
            raise StepError(str(error), name) from error
        after = put(after, replace(column, unit=units.to))
        expressions.append(_linear(name, a, b))
    return _computed(after, expressions, schema)


def _linear(name: str, a: float, b: float) -> pl.Expr:
    value = pl.col(name).cast(pl.Float64)
    # 3 ms are 0.003 s: a division by a whole number is exact to the last digit, a product with 0.001 is not.
    inverse = round(1 / a) if a < 1 else 0
    value = exactly(np.divide, value, pl.lit(float(inverse))) if abs(inverse * a - 1) < 1e-12 else value * a
    return (value + b if b else value).alias(name)


def _number(schema: Schema, name: str) -> Column:
    column = must_have(schema, name, name)
    if column.type is not ColumnType.NUMBER:
        raise StepError(f"`{name}` is a {column.type}, not a number (a `cast` before this step makes it one)", name)
    return column


def _computed(after: Schema, expressions: list[pl.Expr], before: Schema) -> Bound:
    changed = [expression.meta.output_name() for expression in expressions]

    def run(data: pl.DataFrame, _: Work) -> pl.DataFrame:
        there = set(data.columns)
        return data.with_columns([e for e, name in zip(expressions, changed, strict=True) if name in there])

    return Bound(after, run, unchanged(before, *changed), frozenset(changed))


def derive(given: Mapping[str, Derive], schema: Schema) -> Bound:
    """New columns, each of which may use the ones before it."""
    after, made = schema, []
    for name, derived in given.items():
        try:
            compiled = compile_expression(derived.expr, after)
        except ExpressionError as error:
            raise StepError(str(error), name) from error
        others = replace(after, columns=tuple(c for c in after.columns if c.name != name))
        role = derived.role or role_for(others, compiled.type)
        problem = _misfit(role, compiled.type, others)
        if problem:
            raise StepError(problem, name)
        column = Column(name, compiled.type, derived.unit, role, derived.description, derived.kind)
        after = put(after, column)
        made.append((name, compiled))
    reads = frozenset[str]().union(*(compiled.columns for _, compiled in made)) & frozenset(schema.names)
    back = unchanged(schema, *given)
    return Bound(after, partial(_derived, made), back, reads)


def _misfit(role: Role | None, type_: ColumnType, others: Schema) -> str:
    if role is Role.TIME and (type_ is not ColumnType.TIME or others.time is not None):
        return f"role time needs the only column of type time, this one is a {type_}"
    if role is Role.MEASURE and type_ is not ColumnType.NUMBER:
        return f"role measure needs a number, this one is a {type_}"
    return ""


def _derived(made: list[tuple[str, Compiled]], data: pl.DataFrame, work: Work) -> pl.DataFrame:
    for name, compiled in made:
        refuse_text(name, compiled, data, work)
        # A literal alone has one row, whatever the table has.
        value = compiled.polars() if compiled.columns else pl.repeat(compiled.polars(), pl.len())
        data = data.with_columns(value.alias(name))
    return data


def refuse_text(name: str, compiled: Compiled, data: pl.DataFrame, work: Work) -> None:
    """Refuses texts that would outgrow an answer before they are made, those made on the way included.

    Errors: AnswerTooLarge.
    """
    size_bytes = {column: int(data.get_column(column).estimated_size()) for column in compiled.columns}
    made_bytes = compiled.text_bytes(size_bytes, data.height)
    if made_bytes > work.limits.max_bytes:
        raise AnswerTooLarge(
            f"`{name}` could take {made_bytes} bytes, more than the {work.limits.max_bytes} allowed",
            remedy="shorten what it joins, or filter rows in a step before it",
        )


def filter_(text: str, schema: Schema) -> Bound:
    """Only the rows that meet a condition."""
    try:
        condition = compile_condition(text, schema)
    except ExpressionError as error:
        raise StepError(str(error)) from error

    def run(data: pl.DataFrame, work: Work) -> pl.DataFrame:
        refuse_text("filter", condition, data, work)
        return data.filter(condition.polars())

    return Bound(schema, run, unchanged(schema), condition.columns)


def format_(given: Mapping[str, Format], schema: Schema) -> Bound:
    """Units and decimals for the eye; durations in seconds."""
    after, expressions = schema, []
    for name, shown in given.items():
        column = must_have(schema, name, name)
        if shown.decimals is not None or shown.duration is not None:
            _number(schema, name)
        value = pl.col(name)
        if shown.duration is not None:
            value, column = _as_duration(name, column, _DURATIONS[shown.duration])
        if shown.decimals is not None:
            value = value.round(shown.decimals)
            column = replace(column, decimals=shown.decimals)
        after = put(after, replace(column, unit=shown.unit or column.unit))
        if shown.decimals is not None or shown.duration is not None:
            expressions.append(value)
    return _computed(after, expressions, schema)


def _as_duration(name: str, column: Column, unit: str) -> tuple[pl.Expr, Column]:
    source = column.unit or "s"
    if UNITS.get(source) is None or UNITS[source].family != "time":
        raise StepError(f"`{name}` is in `{source}`, which is no unit of time", name, "duration")
    a, b = factors(source, "s")
    return _linear(name, a, b), replace(column, unit=unit)
