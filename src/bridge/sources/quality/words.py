"""Numbers, values and rows as they may stand in a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import polars as pl

from bridge.errors import BadQuery
from bridge.model.schema import Role, Schema
from bridge.model.span import from_us
from bridge.sources.quality.bound import Scene

MAX_CHARS = 80
MAX_EXAMPLES = 3
MAX_DIMENSIONS = 2


def cut(text: str) -> str:
    """The beginning of a text, without characters that would break a line or a terminal."""
    short = text if len(text) <= MAX_CHARS else f"{text[: MAX_CHARS - 1]}…"
    return "".join(char if char.isprintable() else f"<U+{ord(char):04X}>" for char in short)


def quoted(name: str) -> str:
    """A name as it stands in a sentence."""
    return f"`{cut(name)}`"


def plain(number: float) -> str:
    """A number without digits that say nothing: 3, not 3.0."""
    if abs(number) < 1e17 and number == int(number):
        return str(int(number))
    return "NaN" if number != number else str(number)  # noqa: PLR0124 the one number that is not itself


def seconds(value_s: float) -> str:
    """Seconds, rounded to what a person reads."""
    return f"{plain(round(value_s, 3 if abs(value_s) < 100 else 0))} s"


def percent(ratio: float) -> str:
    """A share that is not said to be none or all where it is neither."""
    if 0.9995 <= ratio < 1:
        return "more than 99.9 %"
    return f"{float(f'{100 * ratio:.3g}'):g} %"


def share(bad: int, seen: int, noun: str) -> str:
    """`12 of 100 values (12 %)`, as the beginning of a sentence."""
    return f"{bad} of {seen} {noun}{'s' * (seen != 1)} ({percent(bad / seen)})"


def are(bad: int) -> str:
    """The verb to a number of things."""
    return "is" if bad == 1 else "are"


def allowed(ratio: float) -> str:
    """What would still have been well."""
    return f"; {percent(ratio)} {'is' if ratio == 0.01 else 'are'} allowed" if ratio else ""


def names(known: Sequence[str]) -> str:
    """Column names in a sentence."""
    more = f" and {len(known) - 5} more" if len(known) > 5 else ""
    return ", ".join(map(quoted, known[:5])) + more


def instant(value_us: int) -> str:
    """A time as people read it; the number itself where no calendar has it."""
    try:
        when = from_us(value_us)
    except BadQuery:
        return f"{value_us} µs since 1970"
    fraction = f"{when:.%f}".rstrip("0") if when.microsecond else ""
    return f"{when:%Y-%m-%d %H:%M:%S}{fraction} UTC"


def shown(value: Any) -> str:
    """A value in a sentence: texts in quotes."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return f"'{cut(value)}'"
        case int() | float():
            return cut(plain(value))
        case _:
            return cut(str(value))


def cell(data: pl.DataFrame, name: str, row: int) -> str:
    """One value of a table in a sentence."""
    series = data.get_column(name)
    if isinstance(series.dtype, pl.Datetime):
        # Polars panics on a date that Python's calendar does not have.
        value_us = series.slice(row, 1).cast(pl.Int64).item()
        return "nothing" if value_us is None else instant(value_us)
    return shown(series[row])


def place(scene: Scene, row: int, *told: str) -> str:
    """Which row it is: its time and what tells its series apart, or its number."""
    schema: Schema = scene.frame.schema
    time = schema.time.name if schema.time else None
    there = scene.dtypes
    out = ""
    if time in there and time is not None and time not in told and not _empty(scene.data, time, row):
        out = f" at {cell(scene.data, time, row)}"
    known = [c.name for c in schema.with_role(Role.DIMENSION) if c.name in there and c.name not in told]
    if known:
        out += f" ({', '.join(f'{cut(name)} {cell(scene.data, name, row)}' for name in known[:MAX_DIMENSIONS])})"
    return out or f" in row {row + 1}"


def _empty(data: pl.DataFrame, name: str, row: int) -> bool:
    return data.get_column(name).slice(row, 1).null_count() == 1


def rows_where(scene: Scene, bad: pl.Expr) -> list[int]:
    """The first few rows for which it is true."""
    return scene.data.select(bad.arg_true().head(MAX_EXAMPLES)).to_series().to_list()


def examples(scene: Scene, rows: Sequence[int], *columns: str, named: bool = False) -> str:
    """The values of a few rows and where they stand, as the end of a sentence."""
    shown_columns = columns[:MAX_EXAMPLES]

    def one(row: int) -> str:
        values = (
            f"{cut(name)} {cell(scene.data, name, row)}" if named else cell(scene.data, name, row)
            for name in shown_columns
        )
        return (" and ".join(values) + place(scene, row, *shown_columns)).strip()

    return f", first {', '.join(map(one, rows))}" if rows else ""


def finite(value: float) -> float | None:
    """The number, None where it is none that could be followed."""
    return value if math.isfinite(value) else None
