"""Steps that bring in the rows or columns of other datasets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Literal

import polars as pl

from bridge.model.filters import Filter
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.model.span import EARLIEST, LATEST, Span
from bridge.sources.transform.bound import (
    Ask,
    Bound,
    StepError,
    Widen,
    Work,
    must_have,
    same_span,
    time_of,
    unchanged,
)
from bridge.sources.transform.options import Join, JoinHow, Union

# No published column can be named so, as names from outside are printable.
_KEY, _ROWS, _OTHER_ROWS, _TIME = "\x00key", "\x00rows", "\x00others", "\x00time"
_WIDEST = pl.Int128()


def union(given: Union, schema: Schema, others: Mapping[str, Schema]) -> Bound:
    """The rows of other datasets below the own ones, column by column by their names."""
    after = schema
    for index, name in enumerate(given.with_):
        for column in others[name].columns:
            after = _matched(after, column, name, index)
    if given.tag:
        if after.get(given.tag):
            raise StepError(f"there is a column `{given.tag}` already", "tag")
        after = replace(after, columns=(*after.columns, Column(given.tag, ColumnType.STRING, role=Role.DIMENSION)))

    def run(data: pl.DataFrame, work: Work) -> pl.DataFrame:
        frames = [work.others[name] for name in given.with_]
        work.refuse_rows(data.height + sum(frame.rows for frame in frames), "the union")
        parts = [_tagged(data, given.tag, "")]
        parts += [_tagged(frame.data, given.tag, name) for name, frame in zip(given.with_, frames, strict=True)]
        there = {name for part in parts for name in part.columns}
        joined = pl.concat(parts, how="diagonal_relaxed").select([name for name in after.names if name in there])
        return _storable(joined)

    asks = {name: _narrowed(schema, others[name]) for name in given.with_}
    return Bound(after, run, unchanged(schema), asks=asks)


def _matched(after: Schema, column: Column, name: str, index: int) -> Schema:
    mine = after.get(column.name)
    if mine is None:
        if column.role is Role.TIME and (time := after.time) is not None:
            raise StepError(
                f"the time of `{name}` is called `{column.name}`, here it is `{time.name}`; rename one of them",
                "with",
                index,
            )
        return replace(after, columns=(*after.columns, column))
    if mine.type is not column.type:
        raise StepError(
            f"`{column.name}` is a {mine.type} here and a {column.type} in `{name}`; `cast` one of them",
            "with",
            index,
        )
    return after


def _tagged(data: pl.DataFrame, tag: str | None, name: str) -> pl.DataFrame:
    return data.with_columns(pl.lit(name).alias(tag)) if tag else data


def _narrowed(mine: Schema, other: Schema) -> Ask:
    """A union is asked for the same span and filters on either side, as far as the other knows them."""

    def ask(query: Query) -> Query:
        span = query.span if mine.time is not None and other.time is not None else None
        return Query("", span=span, filters=tuple(f for f in query.filters if _known(f, mine, other)))

    return ask


def _known(item: Filter, mine: Schema, other: Schema) -> bool:
    here, there = mine.get(item.column), other.get(item.column)
    return here is not None and there is not None and here.type is there.type


def join(given: Join, schema: Schema, others: Mapping[str, Schema]) -> Bound:
    """Columns of another dataset beside the own ones."""
    other = others[given.with_]
    nearest = given.how is JoinHow.NEAREST
    for mine, theirs in given.on.items():
        here, there = must_have(schema, mine, "on", mine), must_have(other, theirs, "on", mine)
        if here.type is not there.type:
            raise StepError(
                f"`{mine}` is a {here.type}, `{theirs}` of `{given.with_}` a {there.type}; `cast` one of them",
                "on",
                mine,
            )
    taken = _taken(given, schema, other)
    after = replace(schema, columns=(*schema.columns, *taken.values()))
    back = unchanged(schema)
    pushes = None if given.how in (JoinHow.LEFT, JoinHow.INNER, JoinHow.NEAREST) else frozenset[str]()
    span: Widen | None = None if given.how is JoinHow.FULL else same_span
    reads = frozenset(given.on)
    if nearest:
        time, their_time = time_of(schema, "`how: nearest`", "how"), time_of(other, f"`{given.with_}`", "with")
        reads |= {time.name}

        def run_nearest(data: pl.DataFrame, work: Work) -> pl.DataFrame:
            return _nearest(data, work.others[given.with_].data, given, taken, time.name, their_time.name)

        return Bound(after, run_nearest, back, reads, span=span, asks={given.with_: _around(given.within_s)})

    def run(data: pl.DataFrame, work: Work) -> pl.DataFrame:
        return _equal(data, work.others[given.with_].data, given, taken, work)

    return Bound(after, run, back, reads, pushes=pushes, span=span, asks={given.with_: _whole})


def _whole(_: Query) -> Query:
    return Query("")


def _around(within_s: float | None) -> Ask:
    """What may lie near to the rows of a span."""

    def ask(query: Query) -> Query:
        if query.span is None or within_s is None:
            return Query("")
        apart, start, end = timedelta(seconds=within_s), query.span.start, query.span.end
        # The calendar ends somewhere, and a range may reach up to there.
        start = start - apart if start - EARLIEST > apart else min(start, EARLIEST)
        end = end + apart if LATEST - end > apart else max(end, LATEST)
        return Query("", span=Span(start, end))

    return ask


def _taken(given: Join, schema: Schema, other: Schema) -> dict[str, Column]:
    """The columns that come over, under their names there."""
    keys = set(given.on.values())
    if given.columns is None:
        if given.how is JoinHow.NEAREST and other.time is not None:
            keys.add(other.time.name)
        names = [name for name in other.names if name not in keys]
    else:
        names = [must_have(other, name, "columns", index).name for index, name in enumerate(given.columns)]
    taken = {}
    for name in names:
        column = must_have(other, name)
        role = None if column.role is Role.TIME and schema.time is not None else column.role
        taken[name] = replace(column, name=given.prefix + name, role=role)
        if schema.get(given.prefix + name) is not None:
            raise StepError(
                f"both sides have a column `{given.prefix}{name}`; give a `prefix`, or list the `columns` to take"
            )
    if not taken:
        raise StepError(f"`{given.with_}` has no column but those of `on`", "with")
    return taken


def _sides(
    data: pl.DataFrame, other: pl.DataFrame, given: Join, taken: Mapping[str, Column]
) -> tuple[pl.DataFrame, pl.DataFrame, list[str]]:
    """Both tables with their keys under common names and types, the other's columns under their new names."""
    names = [f"{_KEY}{index}" for index in range(len(given.on))]
    left = data.with_columns(_keys(data, list(given.on)))
    right = other.select(
        *_keys(other, list(given.on.values())), *[pl.col(name).alias(column.name) for name, column in taken.items()]
    )
    shared: dict[str, pl.DataType] = {
        name: _WIDEST if left.schema[name].is_integer() and right.schema[name].is_integer() else pl.Float64()
        for name in names
        if left.schema[name] != right.schema[name]
    }
    return left.cast(shared), right.cast(shared), names  # type: ignore[arg-type]


def _keys(data: pl.DataFrame, keys: list[str]) -> list[pl.Expr]:
    return [_comparable(data, key).alias(f"{_KEY}{index}") for index, key in enumerate(keys)]


def _comparable(data: pl.DataFrame, key: str) -> pl.Expr:
    """Numbers of any width are compared as one type: as whole ones where they are, as a float has not all digits."""
    dtype = data.schema[key]
    if dtype.is_integer():
        return pl.col(key) if dtype in (pl.UInt64, _WIDEST) else pl.col(key).cast(pl.Int64)
    # A NaN is as empty as a null, and has no partner either.
    return pl.col(key).cast(pl.Float64).fill_nan(None) if dtype.is_numeric() else pl.col(key)


def _equal(
    data: pl.DataFrame, other: pl.DataFrame, given: Join, taken: Mapping[str, Column], work: Work
) -> pl.DataFrame:
    mine = list(given.on)
    left, right, names = _sides(data, other, given, taken)
    _refuse_explosion(left, right, names, work)
    how: Literal["left", "inner", "full"] = "left"
    if given.how is not JoinHow.LEFT:
        how = "inner" if given.how is JoinHow.INNER else "full"
    joined = left.join(right, on=names, how=how, coalesce=True, maintain_order="left_right")
    if how == "full":
        # A row that only the other side has is known by its keys.
        for key, name in zip(mine, names, strict=True):
            theirs = joined[name].cast(data.schema[key], strict=False)
            # 1.5 among whole numbers would become 1.
            same = theirs.cast(joined.schema[name], strict=False).equals(joined[name])
            joined = joined.with_columns(pl.coalesce(key, pl.lit(theirs) if same else name).alias(key))
    return _storable(joined.drop(names))


def _storable(data: pl.DataFrame) -> pl.DataFrame:
    """Whole numbers with and without a sign are joined as 128 bits, which nothing after the steps can read."""
    made = []
    for column in data.select(pl.col(_WIDEST)).iter_columns():
        whole = column.cast(pl.Int64, strict=False)
        made.append(whole if whole.null_count() == column.null_count() else column.cast(pl.Float64))
    return data.with_columns(made)


def _refuse_explosion(left: pl.DataFrame, right: pl.DataFrame, names: list[str], work: Work) -> None:
    """Refuses a join whose keys meet many times on both sides before its rows are made."""
    matches = right.group_by(names).agg(pl.len().cast(pl.Float64).alias(_OTHER_ROWS))
    if matches.height == right.height:
        return
    mine = left.group_by(names).agg(pl.len().cast(pl.Float64).alias(_ROWS))
    met = mine.join(matches, on=names, how="inner").select((pl.col(_ROWS) * pl.col(_OTHER_ROWS)).sum())
    work.refuse_rows(int(met.item() or 0), "the join")


def _nearest(
    data: pl.DataFrame, other: pl.DataFrame, given: Join, taken: Mapping[str, Column], time: str, their_time: str
) -> pl.DataFrame:
    left, right, names = _sides(data, other, given, taken)
    right = right.with_columns(other[their_time].alias(_TIME)).drop_nulls(_TIME).sort(_TIME, maintain_order=True)
    timed, untimed = left.drop_nulls(time), left.filter(pl.col(time).is_null())
    joined = timed.sort(time, maintain_order=True).join_asof(
        right,
        left_on=time,
        right_on=_TIME,
        by=names or None,
        strategy="nearest",
        tolerance=timedelta(seconds=given.within_s) if given.within_s else None,
        check_sortedness=False,
    )
    joined = pl.concat([joined, untimed], how="diagonal_relaxed")
    return joined.drop([*names, _TIME], strict=False)
