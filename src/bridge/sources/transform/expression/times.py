"""Functions over times, all in UTC, and the conversions from one type to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from bridge.model.frame import DTYPES, TIME_DTYPE
from bridge.model.schema import ColumnType
from bridge.model.span import EARLIEST, LATEST, to_us
from bridge.sources.convert import converted
from bridge.sources.transform.expression.fault import fail, nearest, shown
from bridge.sources.transform.expression.numbers import exactly
from bridge.sources.transform.expression.signature import (
    ANY,
    BOOLEAN,
    NUMBER,
    TEXT,
    TIME,
    Function,
    Param,
    finite,
    let,
)

_FIRST_US, _LAST_US = to_us(EARLIEST), to_us(LATEST)
_UNITS = {
    "second": "1s",
    "minute": "1m",
    "hour": "1h",
    "day": "1d",
    "week": "1w",
    "month": "1mo",
    "quarter": "1q",
    "year": "1y",
}
# The longest number and the longest time as text.
_WRITTEN_BYTES = 32

_TIME = Param(TIME)


def usable(time: pl.Expr) -> pl.Expr:
    """The time, or null outside the years that can be stored: Polars panics when it writes or truncates others."""
    us = pl.field("us")
    inside = pl.when(us.is_between(_FIRST_US, _LAST_US)).then(us)
    return let(inside, us=time.cast(pl.Int64)).cast(TIME_DTYPE)


def _later(time: pl.Expr, seconds: pl.Expr) -> pl.Expr:
    """In a function of its own: a chain of a hundred of these would take Polars ten seconds to plan."""

    def apply(operands: pl.Series) -> pl.Series:
        us, more = pl.col("us"), (pl.col("seconds") * 1e6).round(0)
        later = us + more.cast(pl.Int64, strict=False)
        # A sum that wraps around lies at the other end of the 64 bits, far from every time.
        inside = pl.when(later.is_between(_FIRST_US, _LAST_US)).then(later)
        return operands.struct.unnest().select(inside.cast(TIME_DTYPE)).to_series()

    both = pl.struct(us=time.cast(pl.Int64), seconds=seconds)
    return both.map_batches(apply, return_dtype=TIME_DTYPE, is_elementwise=True)


def _earlier(time: pl.Expr, seconds: pl.Expr) -> pl.Expr:
    return _later(time, -seconds)


def _between(end: pl.Expr, start: pl.Expr) -> pl.Expr:
    return _seconds(end.cast(pl.Int64) - start.cast(pl.Int64))


def _seconds(us: pl.Expr) -> pl.Expr:
    return exactly(np.true_divide, us, pl.lit(1e6))


def _part(name: str, read: Callable[[pl.Expr], pl.Expr]) -> Function:
    return Function(name, (_TIME,), ColumnType.NUMBER, lambda time: read(time).cast(pl.Float64), finite=True)


def _unit(value: Any, at: int) -> str:
    if value not in _UNITS:
        fail(f"{shown(str(value))} is no unit of time", at, nearest(str(value), _UNITS) or f"use {', '.join(_UNITS)}")
    return _UNITS[value]


def _conversion(wanted: ColumnType, *types: frozenset[ColumnType], grows: Any = None) -> Function:
    """A conversion by the rules that columns are read by."""
    dtype = DTYPES[wanted]

    def convert(values: pl.Series) -> pl.Series:
        if wanted is ColumnType.STRING:
            return _written(values)
        if wanted is ColumnType.NUMBER and values.dtype == pl.Boolean:
            return values.cast(dtype)
        return converted(values, wanted)[0].cast(dtype)

    def build(value: pl.Expr) -> pl.Expr:
        result = value.map_batches(convert, return_dtype=dtype, is_elementwise=True)
        return finite(result) if wanted is ColumnType.NUMBER else result

    name = "text" if wanted is ColumnType.STRING else str(wanted)
    kinds = frozenset[ColumnType]().union(*types)
    bound = {"grows": grows} if grows else {}
    return Function(name, (Param(kinds),), wanted, build, finite=True, **bound)


def _written(values: pl.Series) -> pl.Series:
    """As people read it: 5.0 is `5`, and minus nothing is nothing."""
    if values.dtype == pl.Float64:
        return values.cast(pl.String).str.strip_suffix(".0").str.replace("^-0$", "0")
    return converted(values, ColumnType.STRING)[0]


def _text_bytes(sizes_bytes: Sequence[int], _fixed: Sequence[Any], rows: int) -> int:
    return max(sizes_bytes[0], _WRITTEN_BYTES * rows)


TIMES = (
    _part("year", lambda time: time.dt.year()),
    _part("month", lambda time: time.dt.month()),
    _part("day", lambda time: time.dt.day()),
    _part("hour", lambda time: time.dt.hour()),
    _part("minute", lambda time: time.dt.minute()),
    _part("second", lambda time: time.dt.second()),
    _part("weekday", lambda time: time.dt.weekday()),
    _part("epoch_s", lambda time: _seconds(time.cast(pl.Int64))),
    Function(
        "truncate",
        (_TIME, Param(TEXT, fixed=_unit)),
        ColumnType.TIME,
        lambda time, unit: usable(time.dt.truncate(unit)),
    ),
)
CONVERSIONS = (
    _conversion(ColumnType.NUMBER, NUMBER, TEXT, BOOLEAN),
    _conversion(ColumnType.STRING, ANY, grows=_text_bytes),
    _conversion(ColumnType.BOOLEAN, BOOLEAN, NUMBER, TEXT),
    _conversion(ColumnType.TIME, TIME, NUMBER, TEXT),
)
OPERATORS = (
    Function("+", (_TIME, Param(NUMBER)), ColumnType.TIME, _later),
    Function("+", (Param(NUMBER), _TIME), ColumnType.TIME, lambda seconds, time: _later(time, seconds)),
    Function("-", (_TIME, Param(NUMBER)), ColumnType.TIME, _earlier),
    Function("-", (_TIME, _TIME), ColumnType.NUMBER, _between, finite=True),
)
