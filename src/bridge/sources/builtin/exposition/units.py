"""What the numbers of a sample mean: their unit, and whether they only grow."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.model.schema import Kind
from bridge.sources.builtin.exposition.points import Point
from bridge.sources.builtin.exposition.scan import Family

# Base units of Prometheus and the usual others, as Grafana calls them.
UNITS = {
    "seconds": "s",
    "milliseconds": "ms",
    "microseconds": "µs",
    "nanoseconds": "ns",
    "minutes": "m",
    "hours": "h",
    "days": "d",
    "bytes": "bytes",
    "bits": "bits",
    "ratio": "percentunit",
    "percent": "percent",
    "celsius": "celsius",
    "fahrenheit": "fahrenheit",
    "kelvin": "kelvin",
    "meters": "lengthm",
    "grams": "massg",
    "joules": "joule",
    "watts": "watt",
    "volts": "volt",
    "amperes": "amp",
    "hertz": "hertz",
}
_COUNTS = ("_bucket", "_count", "_gcount")
_GROWING = {
    "counter": ("",),
    "histogram": ("_bucket", "_count", "_sum"),
    "summary": ("_count", "_sum"),
}
_NO_ENDING: tuple[str, ...] = ()
_PLAIN_TYPES = ("info", "stateset")


def unit_of(family: Family) -> str | None:
    """The unit a family measures in: what UNIT says, else what its name ends in.

    Source: https://prometheus.io/docs/practices/naming/; a unit that Grafana has no name for is shown as it is.
    """
    if family.type in _PLAIN_TYPES:
        return None
    if family.unit:
        return UNITS.get(family.unit, family.unit)
    stem = family.name.removesuffix("_total")
    if not family.declared:
        stem = stem.removesuffix("_sum")
    return UNITS.get(stem.rpartition("_")[2]) if "_" in stem else None


def shared_unit(families: Iterable[Family]) -> str | None:
    """The unit of all of them; None when they have several."""
    units = {unit_of(family) for family in families}
    return units.pop() if len(units) == 1 else None


def sample_unit(points: Iterable[Point]) -> str | None:
    """The unit of all samples; the buckets and counts of a histogram are numbers without one."""
    pairs = {(point.family.name, point.name): point for point in points}
    units = {None if _counts(point) else _moment_or_unit(point) for point in pairs.values()}
    return units.pop() if len(units) == 1 else None


def sample_kind(points: Iterable[Point]) -> Kind:
    """Counter when there are samples, and all of them only grow."""
    pairs = {(point.family.name, point.name): point for point in points}
    return Kind.COUNTER if pairs and all(map(_grows, pairs.values())) else Kind.GAUGE


def _counts(point: Point) -> bool:
    return point.name != point.family.name and point.name.endswith(_COUNTS)


def _moment_or_unit(point: Point) -> str | None:
    created = point.name != point.family.name and point.name.endswith("_created")
    return "s" if created else unit_of(point.family)


def _grows(point: Point) -> bool:
    if point.name.endswith("_created") and point.name != point.family.name:
        return False
    return point.name.endswith(_GROWING.get(point.family.type, _NO_ENDING))
