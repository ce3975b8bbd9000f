"""Checks of rows as a whole: how many there are, how they follow one another, and how new they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from bridge.model.schema import ColumnType, Role, Schema
from bridge.model.span import to_us
from bridge.sources.quality.bound import (
    Made,
    Probe,
    Scene,
    Verdict,
    must_have,
    of_type,
    series_by,
    time_of,
)
from bridge.sources.quality.options import Fresh, Gaps, Ordered, Rows, Unique
from bridge.sources.quality.words import (
    MAX_EXAMPLES,
    cell,
    cut,
    examples,
    instant,
    names,
    place,
    quoted,
    seconds,
    share,
)

# A span that ended so small a part of the allowed age ago is taken as one that ends now.
END_RATIO = 0.1
# No published column can be named so, as names from outside are printable.
_AT = "\x00at"
_Whole = npt.NDArray[np.int64]


def rows(given: Rows, _: Schema) -> Made:
    """How many rows there are; of a part of the dataset nothing can be said of the fewest."""

    def verdict(scene: Scene, __: tuple[Any, ...]) -> Verdict | None:
        count, all_of_it = scene.data.height, scene.whole and scene.span is None
        there = "there is 1 row" if count == 1 else f"there are {count or 'no'} rows"
        if given.max is not None and count > given.max:
            return Verdict(count, f"{there}, more than the {given.max} expected", count)
        if not all_of_it:
            return None
        if given.min is not None and count < given.min:
            return Verdict(count, f"{there}, fewer than the {given.min} expected", count)
        return Verdict(count)

    return Made((Probe("", frozenset(), verdict),))


def unique(given: Unique, schema: Schema) -> Made:
    """Rows that differ; one whose values are all empty is none that could be told apart."""
    if given.columns is None:
        time = time_of(schema, "`unique` without `columns`")
        keys = [time.name, *(column.name for column in schema.with_role(Role.DIMENSION))]
    else:
        keys = [must_have(schema, name, "columns", index).name for index, name in enumerate(given.columns)]
    keys = list(dict.fromkeys(keys))
    empty = pl.all_horizontal(pl.col(name).is_null() for name in keys)

    def numbers(scene: Scene) -> tuple[pl.Expr, ...]:
        key = pl.col(keys[0]) if len(keys) == 1 else _hashed(keys)
        return key.n_unique(), empty.sum()

    def verdict(scene: Scene, found: tuple[Any, ...]) -> Verdict:
        distinct, without = found
        keyed = scene.data.height - without
        if keyed == distinct - bool(without):
            return Verdict(0.0)
        # Looked at again, as different keys may have one hash.
        key = pl.col(keys[0]) if len(keys) == 1 else pl.struct(keys)
        again = ~key.is_first_distinct() & ~empty
        surplus = int(scene.data.select(again.sum()).item())
        if not surplus:
            return Verdict(0.0)
        repeating = scene.data.select(again.arg_true().head(MAX_EXAMPLES)).to_series().to_list()
        what = (
            f"{share(surplus, keyed, 'row')} {'repeats' if surplus == 1 else 'repeat'} the {names(keys)} of another"
        )
        return Verdict(surplus, what + examples(scene, repeating, *keys), surplus)

    return Made((Probe(keys[0] if len(keys) == 1 else "", frozenset(keys), verdict, numbers),))


def _hashed(keys: Sequence[str]) -> pl.Expr:
    """One number for the values of several columns; the sum wraps around."""
    return reduce(add, (pl.col(name).hash(seed) for seed, name in enumerate(keys, 1)))


Walk = Callable[[_Whole, Any], list[int]]


def _walked(by: Sequence[str], order: pl.Expr | None, value: pl.Expr, walk: Walk) -> pl.Expr:
    """What `walk` finds in the rows that have an order and a value, series by series in that order.

    Sorted once for all series: a Polars window costs per series, and there may be as many as rows.
    """
    parts = {"value": value}
    if by:
        parts["series"] = _hashed(by)
    if order is not None:
        parts["order"] = order.cast(pl.Int64)

    def apply(given: pl.Series) -> pl.Series:
        table = given.struct.unnest().with_row_index(_AT).drop_nulls()
        columns = {name: table.get_column(name).to_numpy() for name in table.columns}
        at, values = columns[_AT].astype(np.int64), columns["value"]
        follows = np.ones(max(len(at) - 1, 0), dtype=bool)
        if (rank := _rank(columns.get("order"), columns.get("series"))) is not None:
            at, values = at[rank], values[rank]
        if by:
            series = columns["series"] if rank is None else columns["series"][rank]
            follows = series[1:] == series[:-1]
        return pl.Series([walk(at, (values, follows))], dtype=pl.List(pl.Int64))

    both = pl.struct(*(part.alias(name) for name, part in parts.items()))
    return both.map_batches(apply, return_dtype=pl.List(pl.Int64), returns_scalar=True)


def _rank(order: _Whole | None, series: Any) -> _Whole | None:
    """The rows series by series, each in its order; None where they stand so already."""
    if order is not None and not bool(np.all(order[1:] >= order[:-1])):
        return np.lexsort((order,) if series is None else (order, series))
    return None if series is None else np.argsort(series, kind="stable")


def gaps(given: Gaps, schema: Schema) -> Made:
    """No hole between two rows of a series; before its first and after its last row there is none."""
    time = time_of(schema, "`gaps`").name
    by = series_by(schema, given.by, "by")
    most_us = round(given.max_gap_s * 1e6)

    def walk(at: _Whole, found: Any) -> list[int]:
        times, follows = found
        apart = np.where(follows, times[1:] - times[:-1], 0)
        if not len(apart):
            return [0, 0, 0, 0]
        worst = int(apart.argmax())
        return [int((apart > most_us).sum()), int(apart[worst]), int(at[worst]), int(at[worst + 1])]

    def numbers(_: Scene) -> tuple[pl.Expr, ...]:
        us = pl.col(time).cast(pl.Int64)
        return (_walked(by, us, us, walk),)

    def verdict(scene: Scene, found: tuple[Any, ...]) -> Verdict | None:
        if not scene.whole:
            return None
        count, worst_us, before, after = found[0]
        if not count:
            return Verdict(worst_us / 1e6)
        many = "a gap is" if count == 1 else f"{count} gaps are"
        known = [f"{cut(name)} {cell(scene.data, name, before)}" for name in by[:2]]
        text = (
            f"{quoted(time)}: {many} longer than {seconds(given.max_gap_s)}, the longest of "
            f"{seconds(worst_us / 1e6)} from {cell(scene.data, time, before)} to {cell(scene.data, time, after)}"
        )
        return Verdict(worst_us / 1e6, text + (f" ({', '.join(known)})" if known else ""), count)

    return Made((Probe(time, frozenset({time, *by}), verdict, numbers),))


def ordered(given: Ordered, schema: Schema) -> Made:
    """A time in the order in which the rows came, or a counter in the order of time."""
    name = given.column or time_of(schema, "`ordered` without `column`", "column").name
    column = of_type(schema, name, ColumnType.NUMBER, ColumnType.TIME, what="`ordered`", loc=("column",))
    by = series_by(schema, given.by, "by")
    time = schema.time.name if schema.time is not None and schema.time.name != name else None
    less = np.less_equal if given.strictly else np.less

    def walk(at: _Whole, found: Any) -> list[int]:
        values, follows = found
        back = np.flatnonzero(less(values[1:], values[:-1]) & follows)
        pairs = [int(row) for step in back[:MAX_EXAMPLES] for row in (at[step], at[step + 1])]
        return [len(back), *pairs]

    def numbers(scene: Scene) -> tuple[pl.Expr, ...]:
        dtype, value = scene.dtypes[name], pl.col(name)
        if column.type is ColumnType.TIME:
            value = value.cast(pl.Int64)
        elif not dtype.is_integer():
            value = value.cast(pl.Float64).fill_nan(None)
        return (_walked(by, pl.col(time) if time else None, value, walk),)

    def verdict(scene: Scene, found: tuple[Any, ...]) -> Verdict:
        count, *pairs = found[0]
        if not count:
            return Verdict(0.0)
        goes = "does not rise" if given.strictly else "goes back"
        times = "once" if count == 1 else f"{count} times"
        told = [
            f"from {cell(scene.data, name, one)} to {cell(scene.data, name, two)}{place(scene, two, name)}"
            for one, two in zip(pairs[::2], pairs[1::2], strict=True)
        ]
        where = " in the order of time" if time else ""
        return Verdict(count, f"{quoted(name)} {goes} {times}{where}, first {', '.join(told)}", count)

    return Made((Probe(name, frozenset({name, *by} | ({time} if time else set())), verdict, numbers),))


def fresh(given: Fresh, schema: Schema) -> Made:
    """The newest time against the clock."""
    if given.column is None:
        name = time_of(schema, "`fresh` without `column`", "column").name
    else:
        name = of_type(schema, given.column, ColumnType.TIME, what="`fresh`", loc=("column",)).name

    def numbers(_: Scene) -> tuple[pl.Expr, ...]:
        return (pl.col(name).cast(pl.Int64).max(),)

    return Made((Probe(name, frozenset({name}), partial(_fresh, given, name), numbers),))


def _fresh(given: Fresh, name: str, scene: Scene, found: tuple[Any, ...]) -> Verdict | None:
    """Old rows are told only where newer ones would have been seen.

    That is not so of a frame whose rows were filtered, nor of a span that ended longer ago than the age that is
    allowed, or is shorter than it.
    """
    if scene.now is None:
        return None
    newest_us, now_us, most_us = found[0], to_us(scene.now), given.max_age_s * 1e6
    if newest_us is not None and newest_us - now_us > given.ahead_s * 1e6:
        lies = f"lies {seconds((newest_us - now_us) / 1e6)} after now"
        ahead = f"{quoted(name)}: the newest row, of {instant(newest_us)}, {lies}"
        return Verdict(
            (now_us - newest_us) / 1e6, f"{ahead} (compare the clocks of the source and of this machine)", 1
        )
    if not scene.whole:
        return None
    end_us = now_us if scene.span is None else min(now_us, to_us(scene.span.end))
    reaches = scene.span is None or (to_us(scene.span.start) <= end_us - most_us and end_us >= now_us - most_us)
    if newest_us is None:
        return (
            Verdict(None, f"{quoted(name)}: no row has a time, so nothing says how old they are") if reaches else None
        )
    age_s = (now_us - newest_us) / 1e6
    if age_s <= given.max_age_s:
        # Of a span that ended a while ago the newest row need not be that of the dataset.
        return Verdict(age_s) if now_us - end_us <= most_us * END_RATIO else None
    if not reaches or end_us - newest_us <= most_us:
        return None
    age = f"{seconds((end_us - newest_us) / 1e6)} before {'now' if end_us == now_us else instant(end_us)}"
    allowed = f"at most {seconds(given.max_age_s)} are allowed"
    text = f"{quoted(name)}: the newest row is of {instant(newest_us)}, {age}; {allowed}"
    return Verdict(age_s, text, 1)
