"""Half-open spans of UTC time, and the many spellings of an instant."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bridge.errors import BadQuery

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Years that every later stage (Polars, JSON in a browser, Grafana) can hold; beyond them a number is a mistake.
EARLIEST = datetime(1, 1, 2, tzinfo=UTC)
LATEST = datetime(9999, 12, 30, tzinfo=UTC)

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
_US = timedelta(microseconds=1)
# Digits decide the unit: 10^11 s is the year 5138, 10^11 ms is 1973; the same factor separates ms, µs and ns.
_UNITS_US = ((1e11, 1e6), (1e14, 1e3), (1e17, 1.0))
_NANOSECOND_US = 1e-3
_ABSURD = 1e30
_MAX_CHARS = 64


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open UTC time `[start, end)`."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise BadQuery(
                f"the time range is empty or reversed: from {self.start.isoformat()} to {self.end.isoformat()}",
                remedy="give a `from` that lies before `to`",
            )

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return (self.end - self.start).total_seconds()

    def widened(self, step_s: float) -> Span:
        """The span from the last whole step before its start to the first one after its end, since the epoch."""
        # Whole microseconds: a product of floats may lie on the wrong side of the instant it was rounded from.
        step_us = round(step_s * 1e6)
        if step_us <= 0:
            return self
        return Span(_floor(self.start, step_us), _ceil(self.end, step_us))

    def contains(self, other: Span) -> bool:
        """Whether all of `other` lies in this span."""
        return self.start <= other.start and other.end <= self.end


def to_ms(instant: datetime) -> int:
    """Whole milliseconds since the epoch, rounded down."""
    return (instant - EPOCH) // timedelta(milliseconds=1)


def to_us(instant: datetime) -> int:
    """Whole microseconds since the epoch."""
    return (instant - EPOCH) // timedelta(microseconds=1)


def from_us(value_us: float) -> datetime:
    """The instant that lies `value_us` microseconds after the epoch.

    Errors: BadQuery outside the years 1 to 9999.
    """
    try:
        instant = EPOCH + timedelta(microseconds=value_us)
    except (OverflowError, ValueError) as error:
        raise BadQuery(f"{value_us / 1e6:g} s since 1970 is no usable date") from error
    if not EARLIEST <= instant <= LATEST:
        raise BadQuery(f"{instant.isoformat()} lies outside the years that can be stored")
    return instant


def epoch_scale_us(magnitude: float) -> float:
    """Microseconds per unit of an epoch number of this size (seconds, ms, µs or ns).

    Source: the unit is read from the number of digits, as no wire format of Grafana names it.
    """
    return next((scale for bound, scale in _UNITS_US if abs(magnitude) < bound), _NANOSECOND_US)


def parse_instant(value: object, *, name: str = "time") -> datetime:
    """An instant from epoch s, ms, µs or ns, or ISO 8601 with or without a zone (none means UTC).

    Errors: BadQuery that names `name` when it is none of these.
    """
    if isinstance(value, str) and len(value) > _MAX_CHARS:
        raise BadQuery(f"`{name}` is not a time: {value[:40]!r}… has {len(value)} characters")
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        text = value.strip()
        value = int(text) if text.lstrip("+-").isdigit() else float(text)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return from_us(_epoch_us(value, name))
    if isinstance(value, str):
        with suppress(ValueError):
            value = datetime.fromisoformat(value.strip())
    if isinstance(value, datetime):
        instant = value if value.tzinfo else value.replace(tzinfo=UTC)
        # Compared before it is converted, as the conversion overflows at the ends of the calendar.
        if not EARLIEST <= instant.replace(tzinfo=UTC) <= LATEST:
            raise BadQuery(f"`{name}` lies outside the years that can be stored: {value.isoformat()}")
        return instant.astimezone(UTC)
    shown = repr(value if isinstance(value, str) else type(value).__name__)
    raise BadQuery(
        f"`{name}` is not a time: {shown}",
        remedy="send milliseconds or seconds since 1970, or ISO 8601 such as 2026-01-31T12:00:00Z",
    )


def _epoch_us(value: float, name: str) -> float:
    """Whole numbers stay whole: a float cannot hold every microsecond of the later years."""
    if not abs(value) < _ABSURD:
        raise BadQuery(f"`{name}` is not a usable number", remedy="send milliseconds since 1970")
    scale_us = epoch_scale_us(value)
    if isinstance(value, int):
        return value * int(scale_us) if scale_us >= 1 else value // 1_000
    return value * scale_us


def _floor(instant: datetime, step_us: int) -> datetime:
    """The last whole step that is not after the instant; the calendar's beginning where there is none."""
    try:
        return EPOCH + (instant - EPOCH) // _US // step_us * step_us * _US
    except OverflowError:
        return min(instant, EARLIEST)


def _ceil(instant: datetime, step_us: int) -> datetime:
    """The first whole step that is not before the instant; the calendar's end where there is none."""
    try:
        return EPOCH - (EPOCH - instant) // _US // step_us * step_us * _US
    except OverflowError:
        return max(instant, LATEST)
