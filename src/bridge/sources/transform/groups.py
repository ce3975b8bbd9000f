"""Steps that make one row of many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from bridge.model.frame import TIME_DTYPE, Notice
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.sources.transform.bound import Bound, StepError, Widen, Work, must_have, time_of, unchanged
from bridge.sources.transform.options import Aggregate, Fill, How, LimitRows, Resample, Value

_ANY_TYPE = frozenset({How.COUNT, How.DISTINCT, How.FIRST, How.LAST})
_ORDERED = frozenset({How.MIN, How.MAX})
# No published column can be named so, as names from outside are printable.
_FIRST, _LAST, _ROWS = "\x00first", "\x00last", "\x00rows"


def limit(given: LimitRows, schema: Schema) -> Bound:
    """The first rows by a column, else by time, else as they come."""
    by = must_have(schema, given.by, "by").name if given.by else (schema.time.name if schema.time else None)
    descending = given.order == "desc"

    def run(data: pl.DataFrame, _: Work) -> pl.DataFrame:
        if by is not None:
            # Polars takes a NaN for the largest number of all.
            order = pl.col(by).fill_nan(None) if data.schema[by].is_float() else pl.col(by)
            data = data.sort(order, descending=descending, nulls_last=True, maintain_order=True)
        return data.head(given.rows)

    reads = frozenset({by}) if by else frozenset[str]()
    # The first of some rows are others than the first of all.
    return Bound(schema, run, unchanged(schema), reads, pushes=frozenset(), span=None)


def aggregate(given: Aggregate, schema: Schema) -> Bound:
    """One row for each group, and for each bucket of time where `every_s` is given."""
    time = time_of(schema, "`every_s`", "every_s") if given.every_s else None
    by = [must_have(schema, name, "by", index) for index, name in enumerate(dict.fromkeys(given.by))]
    if time is not None and time in by:
        raise StepError(f"`{time.name}` makes the buckets already; take it out of `by`", "by")
    if problem := next((c.name for c in by if c.role is Role.TIME), None):
        raise StepError(f"to group by `{problem}`, give `every_s`, the seconds of a bucket", "by")
    made = {name: _value(name, value, schema) for name, value in given.values.items()}
    keys = ([time] if time else []) + by
    taken = {column.name for column in keys}
    if twice := next((name for name in made if name in taken), None):
        raise StepError(f"`{twice}` is the name of a group's column already", "values", twice)
    expressions = [_joined(value, schema).alias(name) for name, value in given.values.items()]
    names = [column.name for column in keys]
    width_us = _us(given.every_s) if given.every_s else 0

    def run(data: pl.DataFrame, work: Work) -> pl.DataFrame:
        data = _in_order(data, schema)
        if time is not None:
            data = _bucketed(data, time.name, width_us, work)
        if not names:
            return data.select(expressions)
        return data.group_by(names, maintain_order=True).agg(expressions)

    reads = {column.name for column in keys} | {v.of for v in given.values.values() if v.of} | _time_name(schema)
    return Bound(
        Schema((*keys, *made.values()), schema.version),
        run,
        {column.name: column.name for column in keys},
        frozenset(reads),
        pushes=frozenset(column.name for column in by),
        span=_whole_buckets(given.every_s) if given.every_s else None,
    )


def _time_name(schema: Schema) -> set[str]:
    """The order of rows decides what is first and last."""
    return {schema.time.name} if schema.time else set()


def _whole_buckets(every_s: float) -> Widen:
    """A span of whole buckets: one that is cut would hold another value."""
    return lambda span: span.widened(every_s)


def _us(every_s: float) -> int:
    return round(every_s * 1e6)


def _value(name: str, value: Value, schema: Schema) -> Column:
    column = must_have(schema, value.of, "values", name) if value.of else None
    if column is None or value.how in (How.COUNT, How.DISTINCT):
        return Column(name, ColumnType.NUMBER, value.unit, Role.MEASURE, value.description)
    comparable = value.how in _ORDERED and column.type in (ColumnType.TIME, ColumnType.STRING, ColumnType.BOOLEAN)
    if column.type is not ColumnType.NUMBER and value.how not in _ANY_TYPE and not comparable:
        raise StepError(f"`{value.how}` takes numbers, `{column.name}` is a {column.type}", "values", name)
    role = Role.MEASURE if column.type is ColumnType.NUMBER else None
    return Column(name, column.type, value.unit or column.unit, role, value.description, decimals=column.decimals)


def _joined(value: Value, schema: Schema) -> pl.Expr:
    column = schema.get(value.of) if value.of else None
    return _how(value.how, column)


def _how(how: How, column: Column | None) -> pl.Expr:
    if column is None:
        return pl.len().cast(pl.Int64)
    col = pl.col(column.name)
    if column.type is ColumnType.NUMBER:
        # A NaN is as empty as a null; numbers of any width stay what they are.
        col = pl.when(col.is_not_nan()).then(col)
    if how is How.COUNT:
        return col.count().cast(pl.Int64)
    if how is How.DISTINCT:
        return col.drop_nulls().n_unique().cast(pl.Int64)
    if how in (How.FIRST, How.LAST):
        known = col.drop_nulls()
        return known.first() if how is How.FIRST else known.last()
    if column.type is not ColumnType.NUMBER:
        return col.min() if how is How.MIN else col.max()
    return _number(how, col)


def _number(how: How, col: pl.Expr) -> pl.Expr:
    # As floats: sums of integers wrap around in silence.
    known = col.cast(pl.Float64).drop_nulls()
    match how:
        case How.SUM:
            return pl.when(known.len() > 0).then(known.sum())
        case How.MEAN:
            return known.mean()
        case How.MEDIAN:
            return known.median()
        case How.MIN:
            return known.min()
        case How.MAX:
            return known.max()
        case How.STD:
            return known.std()
        case _:
            return known.quantile(int(how.value[1:]) / 100, interpolation="linear")


def _in_order(data: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    time = schema.time
    return data if time is None or data[time.name].is_sorted() else data.sort(time.name, maintain_order=True)


def _bucketed(data: pl.DataFrame, time: str, width_us: int, work: Work) -> pl.DataFrame:
    if lost := data[time].null_count():
        work.notices.append(Notice("warning", f"{lost} rows without a `{time}` left out"))
        data = data.drop_nulls(time)
    return data.with_columns((pl.col(time).to_physical() // width_us * width_us).cast(TIME_DTYPE))


def resample(given: Resample, schema: Schema) -> Bound:
    """One row for each series and bucket."""
    time = time_of(schema, "`resample`")
    dimensions = [column.name for column in schema.with_role(Role.DIMENSION)]
    by = list(dict.fromkeys(dimensions if given.by is None else given.by))
    keys = [must_have(schema, name, "by", index) for index, name in enumerate(by)]
    hows = _hows(given, schema, {time.name, *by})
    if not hows:
        raise StepError("`resample` needs a measure, and there is none at this step")
    values = [_resampled(name, how, schema) for name, how in hows.items()]
    expressions = [_how(how, must_have(schema, name)).alias(name) for name, how in hows.items()]
    width_us = _us(given.every_s)

    def run(data: pl.DataFrame, work: Work) -> pl.DataFrame:
        data = _bucketed(_in_order(data, schema), time.name, width_us, work)
        thin = data.group_by([time.name, *by], maintain_order=True).agg(expressions)
        if given.fill is Fill.NONE or not thin.height:
            return thin
        return _filled(thin, time.name, by, [column.name for column in values], given.fill, width_us, work)

    names = {time.name, *by}
    return Bound(
        Schema((time, *keys, *values), schema.version),
        run,
        {name: name for name in names},
        frozenset({*names, *hows}),
        pushes=frozenset(by),
        # What is filled depends on rows outside of the span.
        span=_whole_buckets(given.every_s) if given.fill is Fill.NONE else None,
    )


def _hows(given: Resample, schema: Schema, taken: set[str]) -> Mapping[str, How]:
    if isinstance(given.how, How):
        measures = (column.name for column in schema.with_role(Role.MEASURE))
        return {name: given.how for name in measures if name not in taken}
    for name in given.how:
        must_have(schema, name, "how", name)
        if name in taken:
            raise StepError(f"`{name}` tells rows apart and cannot be joined as well", "how", name)
    return given.how


def _resampled(name: str, how: How, schema: Schema) -> Column:
    made = _value(name, Value(how=how, of=name), schema)
    column = must_have(schema, name)
    return replace(column, type=made.type, role=made.role, unit=made.unit)


def _filled(
    data: pl.DataFrame, time: str, by: list[str], values: list[str], fill: Fill, width_us: int, work: Work
) -> pl.DataFrame:
    when = pl.col(time).to_physical()
    ends = [when.min().alias(_FIRST), when.max().alias(_LAST)]
    series = data.group_by(by, maintain_order=True).agg(ends) if by else data.select(ends)
    # As floats: a sum of whole numbers wraps around, and then is less than any bound.
    rows = series.select(((pl.col(_LAST) - pl.col(_FIRST)) // width_us + 1).cast(pl.Float64).sum().alias(_ROWS))
    work.refuse_rows(int(rows[_ROWS][0]), "the filled table")
    steps = pl.int_ranges(pl.col(_FIRST), pl.col(_LAST) + width_us, width_us)
    grid = series.select(*by, steps.alias(time)).explode(time).with_columns(pl.col(time).cast(TIME_DTYPE))
    data = grid.join(data, on=[time, *by], how="left", nulls_equal=True, maintain_order="left")
    filled = [_fill(pl.col(name), fill, data.schema[name]) for name in values]
    return data.with_columns([value.over(by) for value in filled] if by else filled)


def _fill(col: pl.Expr, fill: Fill, dtype: pl.DataType) -> pl.Expr:
    match fill:
        case Fill.PREVIOUS:
            return col.forward_fill()
        case Fill.LINEAR if dtype.is_numeric():
            return col.cast(pl.Float64).interpolate()
        case Fill.ZERO if dtype.is_numeric():
            return col.fill_null(0)
        case _:
            return col
