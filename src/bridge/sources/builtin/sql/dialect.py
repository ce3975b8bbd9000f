"""How each database system writes what bridge asks: names, values, instants, and conditions that lose no row.

A condition may let more rows through than were asked for, never fewer: bridge filters again. Where the database and
bridge may disagree about a value, the condition is widened or left out.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, ClassVar

from bridge.errors import BadQuery
from bridge.model.filters import Filter, Op
from bridge.model.schema import Column, ColumnType
from bridge.model.span import EARLIEST, EPOCH, LATEST, Span, to_us
from bridge.sources.builtin.sql.engine import FarColumn, Kind
from bridge.sources.builtin.sql.options import TimeAs
from bridge.sources.builtin.sql.place import System

# Below it every whole number is a float of its own, so that no conversion makes two of them equal.
EXACT = 2.0**53
# Magnitudes at which bridge changes the unit of an epoch number, written out because they stand in SQL.
_SECONDS_END, _MILLIS_END = "1e11", "1e14"
_COMPARED = (Op.EQ, Op.NE, Op.LT, Op.LE, Op.GT, Op.GE)


@dataclass(slots=True)
class Args:
    """The bound values of one statement, in the order in which they were met."""

    values: dict[str, Any] = field(default_factory=dict)

    def add(self, value: Any) -> str:
        """The name under which the value is bound."""
        name = f"p{len(self.values)}"
        self.values[name] = value
        return name


class Dialect(ABC):
    """What all systems have in common."""

    system: ClassVar[System]
    before_name: ClassVar[str] = "$"
    after_name: ClassVar[str] = ""

    def mark(self, args: Args, value: Any) -> str:
        """The place of a bound value."""
        return f"{self.before_name}{args.add(value)}{self.after_name}"

    def literal(self, text: str) -> str:
        """SQL that stands for itself."""
        return text

    def quoted(self, name: str) -> str:
        """A name that means exactly this column or table."""
        return self.literal('"' + name.replace('"', '""') + '"')

    def picked(self, column: FarColumn) -> str:
        """The column in the form in which its values are read."""
        return f"q.{self.quoted(column.name)}"

    def text(self, args: Args, value: str | None, *, tested: bool) -> str:
        """A parameter's value."""
        return self.mark(args, value)

    def number(self, args: Args, value: float | None) -> str:
        """A number bridge gives."""
        return self.mark(args, value)

    def instant(self, args: Args, at: datetime, time_as: TimeAs | None) -> str:
        """An end of the time range, as the dataset stores times."""
        if time_as is None:
            return self.native(args, at)
        return self.mark(args, stored(at, time_as))

    @abstractmethod
    def native(self, args: Args, at: datetime) -> str:
        """An instant in the database's own type."""

    @abstractmethod
    def within(self, args: Args, column: FarColumn, span: Span, time_as: TimeAs | None) -> str | None:
        """The condition that the time lies in the span; None when that cannot be said."""

    def where(self, args: Args, item: Filter, column: Column, far: FarColumn) -> str | None:
        """The condition of a filter; None when only bridge can apply it."""
        if not pushable(item, column):
            return None
        if column.type is ColumnType.STRING:
            return self.equal_text(args, item, far)
        if column.type is ColumnType.BOOLEAN:
            return self.equal_truth(args, item, far)
        return self.compared(args, item, far)

    @abstractmethod
    def equal_text(self, args: Args, item: Filter, far: FarColumn) -> str | None:
        """`=` or `!=` of a text column."""

    def equal_truth(self, args: Args, item: Filter, far: FarColumn) -> str | None:
        """`=` of a column of truth values."""
        if far.kind is not Kind.BOOLEAN:
            return None
        values = {value.lower() in ("true", "1") for value in item.values}
        name = f"q.{self.quoted(far.name)}"
        return " OR ".join(name if value else f"NOT {name}" for value in sorted(values))

    @abstractmethod
    def compared(self, args: Args, item: Filter, far: FarColumn) -> str | None:
        """A comparison of a number column."""

    def ranges(self, args: Args, item: Filter, name: str, *, whole: bool) -> str:
        """The comparison as ranges around each value, wide enough for whatever the numbers are converted to."""
        parts = []
        for low, high in (bounds(item.op, float(value), whole=whole) for value in item.values):
            ends = [f"{name} >= {self.bound(args, low, whole=whole)}"] if low is not None else []
            ends += [f"{name} <= {self.bound(args, high, whole=whole)}"] if high is not None else []
            parts.append(f"({' AND '.join(ends)})")
        return " OR ".join(parts)

    def bound(self, args: Args, value: float, *, whole: bool) -> str:
        """One end of such a range."""
        return self.mark(args, int(value) if whole else value)

    def epoch(self, args: Args, name: str, span: Span, time_as: TimeAs | None) -> str | None:
        """The span for a column of epoch numbers; what has another size has another unit, and is left to bridge."""
        if time_as is TimeAs.EPOCH_S:
            odd, per_s = f"{name} >= {_SECONDS_END} OR {name} <= -{_SECONDS_END}", 1
        elif time_as is TimeAs.EPOCH_MS:
            seconds = f"({name} < {_SECONDS_END} AND {name} > -{_SECONDS_END})"
            odd, per_s = f"{name} >= {_MILLIS_END} OR {name} <= -{_MILLIS_END} OR {seconds}", 1_000
        else:
            return None
        us = 1_000_000 // per_s
        low, high = to_us(span.start) // us - 1, -(-to_us(span.end) // us) + 1
        inside = f"({name} >= {self.bound(args, low, whole=True)} AND {name} <= {self.bound(args, high, whole=True)})"
        return f"{odd} OR {inside}"


def pushable(item: Filter, column: Column) -> bool:
    """Whether some database could apply the filter: by its operator, its values and the column's type."""
    if item.op not in _COMPARED or not item.values:
        return False
    if column.type is ColumnType.STRING:
        # A replacement character may stand for bytes that were no text.
        fit = not any(is_no_text(value) or "\ufffd" in value for value in item.values)
        return item.op in (Op.EQ, Op.NE) and fit
    if column.type is ColumnType.BOOLEAN:
        return item.op is Op.EQ and all(value.lower() in ("true", "1", "false", "0") for value in item.values)
    if column.type is ColumnType.NUMBER:
        one = len(item.values) == 1 or item.op is Op.EQ
        return item.op is not Op.NE and one and all(map(_plain, item.values))
    return False


def _plain(text: str) -> bool:
    """Whether a number can be compared without fear of how it is stored."""
    with suppress(ValueError):
        return text.isascii() and "_" not in text and abs(float(text)) < EXACT
    return False


def bounds(op: Op, value: float, *, whole: bool) -> tuple[float | None, float | None]:
    """The smallest and largest value that may satisfy the comparison, two steps of a float wider than it says."""
    low, high = float(math.floor(value)), float(math.ceil(value))
    if not whole:
        low = math.nextafter(math.nextafter(value, -math.inf), -math.inf)
        high = math.nextafter(math.nextafter(value, math.inf), math.inf)
    return (None if op in (Op.LT, Op.LE) else low), (None if op in (Op.GT, Op.GE) else high)


def stored(at: datetime, time_as: TimeAs) -> str | int:
    """An instant as text or number; one between two numbers is rounded to the earlier."""
    if time_as is TimeAs.ISO:
        return at.isoformat().replace("+00:00", "Z")
    unit = timedelta(seconds=1) if time_as is TimeAs.EPOCH_S else timedelta(milliseconds=1)
    return (at - EPOCH) // unit


def ends(span: Span | None, time_as: TimeAs | None) -> tuple[datetime, datetime]:
    """What `:from` and `:to` are: all of time where nothing was asked, so that all rows are given then."""
    if span is None:
        return EARLIEST, LATEST
    end = span.end
    if time_as in (TimeAs.EPOCH_S, TimeAs.EPOCH_MS):
        # Rounded up, so that no row of the last second is lost.
        unit = timedelta(seconds=1) if time_as is TimeAs.EPOCH_S else timedelta(milliseconds=1)
        end = min(EPOCH - (EPOCH - end) // unit * unit, LATEST)
    return span.start, end


def usable(name: str, micros: str) -> str:
    """The microseconds of an instant of our calendar; infinity and any other that is none are no value."""
    return f"CASE WHEN {name} BETWEEN '0001-01-01' AND '9999-12-31' THEN {micros} END"


def is_no_text(value: str) -> bool:
    """Whether some database refuses it: a NUL, or half of a character that is written as two."""
    return "\0" in value or any("\ud800" <= char <= "\udfff" for char in value)


def check_values(items: Sequence[str], name: str, *, most: int = 1_000) -> None:
    """A parameter may have so many values, each of them a text.

    Errors: BadQuery.
    """
    if len(items) > most:
        raise BadQuery(f"`{name}` has {len(items)} values; at most {most} are sent", remedy="choose fewer values")
    if any(map(is_no_text, items)):
        raise BadQuery(f"`{name}` holds a character that is none", remedy="choose another value")
