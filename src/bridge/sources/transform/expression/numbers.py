"""Functions and operators over numbers and truths, and those over values of any type."""

from __future__ import annotations

from functools import partial, reduce
from operator import or_
from typing import Any

import numpy as np
import polars as pl

from bridge.model.schema import ColumnType
from bridge.sources.transform.expression.fault import fail
from bridge.sources.transform.expression.signature import ANY, BOOLEAN, NUMBER, ORDERED, TIME, Function, Param, let

MAX_DECIMALS = 15

_NUMBER = Param(NUMBER)
_TRUTH = Param(BOOLEAN)
_SAME = Param(ANY, same=True)


def whole(least: int, most: int) -> Any:
    """The check of a written-out whole number."""

    def check(value: Any, at: int) -> int:
        if not isinstance(value, float) or not value.is_integer() or not least <= value <= most:
            fail(f"a whole number from {least} to {most} must stand here", at)
        return int(value)

    return check


def _number(name: str, build: Any, *params: Param, carries: bool = False, finite: bool = False) -> Function:
    return Function(name, params or (_NUMBER,), ColumnType.NUMBER, build, carries=carries, finite=finite)


def _truth(name: str, build: Any, *params: Param) -> Function:
    return Function(name, params, ColumnType.BOOLEAN, build)


def _round(value: pl.Expr, decimals: int = 0) -> pl.Expr:
    return value.round(decimals, mode="half_away_from_zero")


def _log(base: float, value: pl.Expr) -> pl.Expr:
    """The logarithm, whole where the value is a whole power: Polars makes 2.9999999999999996 of 1000."""
    power = pl.field("value").log(base).round(0)
    exact = pl.lit(base) ** power == pl.field("value")
    return let(pl.when(exact).then(power).otherwise(pl.field("value").log(base)), value=value)


def exactly(operation: np.ufunc, left: pl.Expr, right: pl.Expr) -> pl.Expr:
    """A quotient or a remainder that is rounded once, null where it is none.

    Polars multiplies by the reciprocal of a literal (3 / 10 would be 0.30000000000000004), and makes a remainder of
    the rounded quotient (9077816610887674 % 3 would be 2).
    """

    def apply(operands: pl.Series) -> pl.Series:
        sides = [operands.struct.field(name).to_numpy() for name in ("left", "right")]
        with np.errstate(all="ignore"):
            values = pl.Series(operation(*sides), dtype=pl.Float64)
        return values.set(~values.is_finite(), None)

    both = pl.struct(left=left, right=right)
    return both.map_batches(apply, return_dtype=pl.Float64, is_elementwise=True)


def _clip(value: pl.Expr, low: pl.Expr, high: pl.Expr) -> pl.Expr:
    within = pl.field("value").clip(pl.field("low"), pl.field("high"))
    crossed = pl.field("low") > pl.field("high")
    return let(pl.when(crossed).then(None).otherwise(within), value=value, low=low, high=high)


def _choice(condition: pl.Expr, yes: pl.Expr, no: pl.Expr) -> pl.Expr:
    return pl.when(condition).then(yes).otherwise(no)


def _member(value: pl.Expr, *items: pl.Expr) -> pl.Expr:
    operands = {f"item{number}": item for number, item in enumerate(items)}
    return let(reduce(or_, (pl.field("value") == pl.field(name) for name in operands)), value=value, **operands)


NUMBERS = (
    _number("abs", pl.Expr.abs, carries=True),
    _number("round", _round, _NUMBER, Param(NUMBER, fixed=whole(0, MAX_DECIMALS), optional=True), carries=True),
    _number("floor", pl.Expr.floor, carries=True),
    _number("ceil", pl.Expr.ceil, carries=True),
    _number("sqrt", pl.Expr.sqrt),
    _number("exp", pl.Expr.exp),
    _number("ln", pl.Expr.log),
    _number("log", pl.Expr.log),
    _number("log10", partial(_log, 10.0)),
    _number("log2", partial(_log, 2.0)),
    _number("sign", pl.Expr.sign, finite=True),
    _number("clip", _clip, _NUMBER, _NUMBER, _NUMBER, finite=True),
)
GENERAL = (
    Function("min", (Param(NUMBER | TIME, same=True, many=True),), None, pl.min_horizontal, finite=True),
    Function("max", (Param(NUMBER | TIME, same=True, many=True),), None, pl.max_horizontal, finite=True),
    Function("if", (_TRUTH, _SAME, _SAME), None, _choice, carries=True),
    Function("coalesce", (Param(ANY, same=True, many=True),), None, pl.coalesce, finite=True),
    _truth("is_null", pl.Expr.is_null, Param(ANY)),
)
OPERATORS = (
    _number("+", pl.Expr.add, _NUMBER, _NUMBER, carries=True),
    _number("-", pl.Expr.sub, _NUMBER, _NUMBER, carries=True),
    _number("*", pl.Expr.mul, _NUMBER, _NUMBER, carries=True),
    _number("/", partial(exactly, np.true_divide), _NUMBER, _NUMBER, finite=True),
    _number("%", partial(exactly, np.mod), _NUMBER, _NUMBER, finite=True),
    _number("^", pl.Expr.pow, _NUMBER, _NUMBER),
    _number("negative", pl.Expr.neg, carries=True),
    _truth("and", pl.Expr.and_, _TRUTH, _TRUTH),
    _truth("or", pl.Expr.or_, _TRUTH, _TRUTH),
    _truth("not", pl.Expr.not_, _TRUTH),
    _truth("=", pl.Expr.eq, _SAME, _SAME),
    _truth("!=", pl.Expr.ne, _SAME, _SAME),
    _truth("<", pl.Expr.lt, Param(ORDERED, same=True), Param(ORDERED, same=True)),
    _truth("<=", pl.Expr.le, Param(ORDERED, same=True), Param(ORDERED, same=True)),
    _truth(">", pl.Expr.gt, Param(ORDERED, same=True), Param(ORDERED, same=True)),
    _truth(">=", pl.Expr.ge, Param(ORDERED, same=True), Param(ORDERED, same=True)),
    _truth("in", _member, _SAME, Param(ANY, same=True, many=True)),
    _truth("is null", pl.Expr.is_null, Param(ANY)),
)
