"""What a function of the language takes and gives, and the Polars expression it becomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from bridge.model.schema import ColumnType

NUMBER = frozenset({ColumnType.NUMBER})
TEXT = frozenset({ColumnType.STRING, ColumnType.JSON})
BOOLEAN = frozenset({ColumnType.BOOLEAN})
TIME = frozenset({ColumnType.TIME})
ORDERED = NUMBER | TEXT | TIME
ANY = ORDERED | BOOLEAN

# The bound of a result's bytes from those of the operands, the written-out arguments and the number of rows.
Grows = Callable[[Sequence[int], Sequence[Any], int], int]
# A written-out argument (its value and its place in the text), once it is known to be a usable one.
Fixed = Callable[[Any, int], Any]


@dataclass(frozen=True, slots=True)
class Param:
    """One argument: the types it may have; `fixed` ones are written out, `many` and `optional` ones are last.

    Shape: all `same` arguments of a call share one type.
    """

    types: frozenset[ColumnType]
    fixed: Fixed | None = None
    optional: bool = False
    many: bool = False
    same: bool = False


def _sum(sizes_bytes: Sequence[int], _fixed: Sequence[Any], _rows: int) -> int:
    return sum(sizes_bytes)


@dataclass(frozen=True, slots=True)
class Function:
    """A function or an operator; `gives` None means the type its `same` arguments share.

    Shape: `build` gets the Polars expressions of the operands, and the values of the fixed arguments in their place.
           NaN and infinities are no values of the language. `carries` says that one in an operand always is one in
           the result, so that it need not be looked for before; `finite` that a result never is one.
           `grows` bounds the bytes of a text result. `misfit` says why written-out arguments do not fit together.
    """

    name: str
    params: tuple[Param, ...]
    gives: ColumnType | None
    build: Callable[..., pl.Expr]
    carries: bool = False
    finite: bool = False
    grows: Grows = _sum
    misfit: Callable[..., str] | None = None

    @property
    def least(self) -> int:
        """How many arguments there must be."""
        return sum(not param.optional for param in self.params)

    @property
    def most(self) -> int | None:
        """How many arguments there may be; None for any number."""
        return None if self.params[-1].many else len(self.params)

    def param(self, number: int) -> Param:
        """What the argument of that number, from 0, must be."""
        return self.params[min(number, len(self.params) - 1)]


def let(result: pl.Expr, **operands: pl.Expr) -> pl.Expr:
    """`result`, which speaks of the operands as `pl.field(name)`, however often.

    An operand that stood in a Polars expression twice would be computed twice, and twice that at every level above
    (`fill_nan` does so: ten of them in one another take ten seconds).
    """
    values = pl.struct(*(value.alias(name) for name, value in operands.items()))
    return values.struct.with_fields(result.alias("result")).struct.field("result")


def finite(value: pl.Expr) -> pl.Expr:
    """The number, or null where it is NaN or an infinity."""
    return let(pl.when(pl.field("value").is_finite()).then(pl.field("value")), value=value)
