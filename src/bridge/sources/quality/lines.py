"""Checks of rows as a whole: how many there are, how they follow one another, and how new they are."""

from __future__ import annotations

from collections.abc import Sequence
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
_Rows = npt.NDArray[np.intp]
_Bits = npt.NDArray[np.uint64]
_Truths = npt.NDArray[np.bool_]
_Values = npt.NDArray[Any]


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
    timed = [name for name in keys if must_have(schema, name).type is ColumnType.TIME]
    # As the other checks have them, so that they share what was found.
    by = tuple(name for name in schema.names if name in keys and name not in timed[:1])

    def numbers(scene: Scene) -> tuple[pl.Expr, ...]:
        if timed and _differ(scene, by, timed[0]):
            return ()
        key = pl.col(keys[0]) if len(keys) == 1 else _hashed(keys)
        return key.n_unique(), empty.sum()

    def verdict(scene: Scene, found: tuple[Any, ...]) -> Verdict:
        if not found:
            return Verdict(0.0)
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


def _differ(scene: Scene, by: tuple[str, ...], time: str) -> bool:
    """Whether no two rows of a series have one time, as far as that is seen without looking at all keys."""
    # Those that are empty count as one time: they are looked at again.
    times = _numbers(scene, time)[0]
    if bool((times[1:] > times[:-1]).all()):
        return True
    at, follows = _standing(scene, by, time)
    times = times[at]
    return not bool(((times[1:] == times[:-1]) & follows).any())


def _hashed(keys: Sequence[str]) -> pl.Expr:
    """One number for the values of several columns; the sum wraps around."""
    return reduce(add, (pl.col(name).hash(seed) for seed, name in enumerate(keys, 1)))


def _numbers(scene: Scene, name: str) -> tuple[_Values, _Truths | None]:
    """The values of a column as numbers, and which of them are there, None where all are; a NaN is not."""
    column = scene.data.get_column(name)
    if not (column.dtype.is_integer() or column.dtype.is_temporal()):
        values = column.cast(pl.Float64).to_numpy()
        there = ~np.isnan(values)
        return values, None if there.all() else there
    whole = column.cast(pl.Int64) if column.dtype.is_temporal() else column
    if not whole.null_count():
        return whole.to_numpy(), None
    return whole.fill_null(0).to_numpy(), whole.is_not_null().to_numpy()


def _walked(scene: Scene, by: tuple[str, ...], name: str, order: str | None) -> tuple[_Rows, _Values, _Truths]:
    """Rows that have an order and a value, series by series in that order, their values, and which follow another.

    Shape: the third says of each row but the first whether the one before it is of its series.
    """
    at, follows = _standing(scene, by, order)
    values, there = _numbers(scene, name)
    timed = None if order is None or order == name else _numbers(scene, order)[1]
    known = [mask for mask in (there, timed) if mask is not None]
    if known:
        kept = np.logical_and.reduce(known)[at]
        # Of what was left out nothing remains but the bounds between series.
        number = np.append(0, np.cumsum(~follows))[: len(at)][kept]
        at, follows = at[kept], number[1:] == number[:-1]
    return at, values[at], follows


def _standing(scene: Scene, by: tuple[str, ...], order: str | None) -> tuple[_Rows, _Truths]:
    """All rows series by series in that order, and which follow one of their series; found once for all checks."""
    memo = ("standing", by, order)
    if memo not in scene.memo:
        scene.memo[memo] = _stood(scene, by, order)
    at, follows = scene.memo[memo]
    return at, follows


def _stood(scene: Scene, by: tuple[str, ...], order: str | None) -> tuple[_Rows, _Truths]:
    at, follows = np.arange(scene.data.height), np.ones(max(scene.data.height - 1, 0), dtype=bool)
    series = scene.data.select(_hashed(by)).to_series().to_numpy() if by else None
    if series is not None:
        at, follows = _grouped(series)
    if order is None:
        return at, follows
    times = _numbers(scene, order)[0]
    if not _falls(times) or not _falls(times[at], follows):
        return at, follows
    at = _sorted((times - times.min()).view(np.uint64))
    return at if series is None else at[_grouped(series[at])[0]], follows


def _falls(values: _Values, follows: _Truths | None = None) -> bool:
    """Whether a value is less than the one before it, of all or of those that follow one of their series."""
    less = values[1:] < values[:-1]
    return bool((less if follows is None else less & follows).any())


def _grouped(series: _Bits) -> tuple[_Rows, _Truths]:
    """The rows by their numbers, and which have that of the one before.

    The first 16 bits are enough where they tell all numbers apart: those are sorted by a count, which is far cheaper.
    """
    at = np.argsort((series >> 48).astype(np.uint16), kind="stable")
    numbers = series[at]
    follows = numbers[1:] == numbers[:-1]
    # In place, as memory that is asked for costs more than what is done with it.
    numbers >>= 48
    if np.count_nonzero(follows) == np.count_nonzero(numbers[1:] == numbers[:-1]):
        return at, follows
    at = _sorted(series)
    numbers = series[at]
    return at, numbers[1:] == numbers[:-1]


def _sorted(numbers: _Bits) -> _Rows:
    """The rows by their numbers, equal ones as they stand: 16 bits at a time, as those are sorted by a count."""
    at = np.argsort(numbers.astype(np.uint16), kind="stable")
    for shift in range(16, int(numbers.max()).bit_length(), 16):
        at = at[np.argsort((numbers[at] >> shift).astype(np.uint16), kind="stable")]
    return at


def gaps(given: Gaps, schema: Schema) -> Made:
    """No hole between two rows of a series; before its first and after its last row there is none."""
    time = time_of(schema, "`gaps`").name
    by = series_by(schema, given.by, "by")
    most_us = round(given.max_gap_s * 1e6)

    def verdict(scene: Scene, _: tuple[Any, ...]) -> Verdict | None:
        if not scene.whole:
            return None
        at, times, follows = _walked(scene, by, time, time)
        apart = times[1:] - times[:-1]
        apart *= follows
        if not len(apart):
            return Verdict(0.0)
        worst, count = int(apart.argmax()), int(np.count_nonzero(apart > most_us))
        worst_us, before, after = int(apart[worst]), int(at[worst]), int(at[worst + 1])
        if not count:
            return Verdict(worst_us / 1e6)
        many = "a gap is" if count == 1 else f"{count} gaps are"
        known = [f"{cut(name)} {cell(scene.data, name, before)}" for name in by[:2]]
        text = (
            f"{quoted(time)}: {many} longer than {seconds(given.max_gap_s)}, the longest of "
            f"{seconds(worst_us / 1e6)} from {cell(scene.data, time, before)} to {cell(scene.data, time, after)}"
        )
        return Verdict(worst_us / 1e6, text + (f" ({', '.join(known)})" if known else ""), count)

    return Made((Probe(time, frozenset({time, *by}), verdict),))


def ordered(given: Ordered, schema: Schema) -> Made:
    """A time in the order in which the rows came, or a counter in the order of time."""
    name = given.column or time_of(schema, "`ordered` without `column`", "column").name
    of_type(schema, name, ColumnType.NUMBER, ColumnType.TIME, what="`ordered`", loc=("column",))
    by = series_by(schema, given.by, "by")
    time = schema.time.name if schema.time is not None and schema.time.name != name else None
    less = np.less_equal if given.strictly else np.less

    def verdict(scene: Scene, _: tuple[Any, ...]) -> Verdict:
        if _rises(scene, name, time, less):
            return Verdict(0.0)
        at, values, follows = _walked(scene, by, name, time)
        back = np.flatnonzero(less(values[1:], values[:-1]) & follows)
        if not len(back):
            return Verdict(0.0)
        count, pairs = len(back), [(int(at[step]), int(at[step + 1])) for step in back[:MAX_EXAMPLES]]
        goes = "does not rise" if given.strictly else "goes back"
        times = "once" if count == 1 else f"{count} times"
        told = [
            f"from {cell(scene.data, name, one)} to {cell(scene.data, name, two)}{place(scene, two, name)}"
            for one, two in pairs
        ]
        where = " in the order of time" if time else ""
        return Verdict(count, f"{quoted(name)} {goes} {times}{where}, first {', '.join(told)}", count)

    return Made((Probe(name, frozenset({name, *by} | ({time} if time else set())), verdict),))


def _rises(scene: Scene, name: str, order: str | None, less: np.ufunc) -> bool:
    """Whether the values rise from row to row, and the rows stand in their order: then so it is in every series."""
    if order is not None and _falls(_numbers(scene, order)[0]):
        return False
    values, there = _numbers(scene, name)
    values = values if there is None else values[there]
    return not bool(less(values[1:], values[:-1]).any())


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
