"""The rows of each kind of dataset."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from bridge.model.frame import Notice
from bridge.model.schema import Column, ColumnType, Kind, Role
from bridge.sources.builtin.exposition.histograms import Histogram, counts, histograms
from bridge.sources.builtin.exposition.options import Rows, quantile_name
from bridge.sources.builtin.exposition.points import Point
from bridge.sources.builtin.exposition.scan import Family
from bridge.sources.builtin.exposition.units import sample_kind, sample_unit, shared_unit, unit_of

Values = list[Any]
_TIME = Column("time", ColumnType.TIME, role=Role.TIME)
_METRIC = Column("metric", ColumnType.STRING, role=Role.DIMENSION)
TRACE = "trace_id"


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows before their labels are columns.

    Shape: `before` and `after` are the columns around those of the labels, each with its values; `labels` has one
           set per row, `always` the labels that are columns in any case, `role` that of the labels' columns.
    Units: the values of time columns are microseconds since 1970.
    """

    before: Sequence[tuple[Column, Values]]
    labels: Sequence[Mapping[str, str]]
    after: Sequence[tuple[Column, Values]]
    role: Role | None = Role.DIMENSION
    always: tuple[str, ...] = ()
    notices: tuple[Notice, ...] = field(default=())


def sheet(
    kind: Rows, points: Sequence[Point], families: Sequence[Family], quantiles: Sequence[float], now_us: int
) -> Sheet:
    """The rows of a dataset of this kind."""
    match kind:
        case Rows.SAMPLES:
            return _samples(points, now_us)
        case Rows.EXEMPLARS:
            return _exemplars(points, now_us)
        case Rows.FAMILIES:
            return _families(families)
    found, notices = histograms(points)
    if points and not found:
        notices = (*notices, Notice("info", "the page has no histogram or summary among the chosen metrics"))
    if kind is Rows.BUCKETS:
        return _buckets(found, notices, now_us)
    return _histograms(found, notices, quantiles, now_us)


def _times(items: Sequence[Point] | Sequence[Histogram], now_us: int) -> Values:
    return [now_us if item.at_us is None else item.at_us for item in items]


def _measure(name: str, unit: str | None = None, kind: Kind = Kind.GAUGE) -> Column:
    return Column(name, ColumnType.NUMBER, unit=unit, role=Role.MEASURE, kind=kind)


def _samples(points: Sequence[Point], now_us: int) -> Sheet:
    value = _measure("value", sample_unit(points), sample_kind(points))
    return Sheet(
        before=((_TIME, _times(points, now_us)), (_METRIC, [point.name for point in points])),
        labels=[point.labels for point in points],
        after=((value, [point.value for point in points]),),
    )


def _histograms(
    found: Sequence[Histogram], notices: tuple[Notice, ...], quantiles: Sequence[float], now_us: int
) -> Sheet:
    unit = shared_unit({item.family.name: item.family for item in found}.values())
    counted = [item.observations for item in found]
    means = [_mean(item.total, count) for item, count in zip(found, counted, strict=True)]
    after = [
        (_measure("count", kind=Kind.COUNTER), counted),
        (_measure("sum", unit, Kind.COUNTER), [item.total for item in found]),
        (_measure("mean", unit), means),
    ]
    after += [
        (_measure(quantile_name(wanted), unit), [item.quantile(wanted) for item in found]) for wanted in quantiles
    ]
    before = ((_TIME, _times(found, now_us)), (_METRIC, [item.name for item in found]))
    return Sheet(before, [item.labels for item in found], after, notices=notices)


def _mean(total: float | None, count: float | None) -> float | None:
    return total / count if total is not None and count else None


def _buckets(found: Sequence[Histogram], notices: tuple[Notice, ...], now_us: int) -> Sheet:
    rows = [(item, bucket, inside) for item in found for bucket, inside in counts(item.buckets)]
    unit = shared_unit({item.family.name: item.family for item in found}.values())
    uppers = [None if math.isinf(bucket.upper) else bucket.upper for _, bucket, _ in rows]
    after = (
        (Column("le", ColumnType.STRING, role=Role.DIMENSION), [bucket.le for _, bucket, _ in rows]),
        (Column("upper", ColumnType.NUMBER, unit=unit), uppers),
        (_measure("count", kind=Kind.COUNTER), [inside for _, _, inside in rows]),
        (_measure("cumulative", kind=Kind.COUNTER), [bucket.cumulative for _, bucket, _ in rows]),
    )
    items = [item for item, _, _ in rows]
    before = ((_TIME, _times(items, now_us)), (_METRIC, [item.name for item in items]))
    return Sheet(before, [item.labels for item in items], after, notices=notices)


def _exemplars(points: Sequence[Point], now_us: int) -> Sheet:
    found = [(point, point.exemplar) for point in points if point.exemplar is not None]
    times = [next(at for at in (exemplar.at_us, point.at_us, now_us) if at is not None) for point, exemplar in found]
    unit = shared_unit({point.family.name: point.family for point, _ in found}.values())
    before = (
        (_TIME, times),
        (_METRIC, [point.name for point, _ in found]),
        (Column("labels", ColumnType.JSON), [orjson.dumps(dict(point.labels)).decode() for point, _ in found]),
        (_measure("value", unit), [exemplar.value for _, exemplar in found]),
    )
    return Sheet(before, [exemplar.labels for _, exemplar in found], (), role=None, always=(TRACE,))


def _families(families: Sequence[Family]) -> Sheet:
    before = (
        (_METRIC, [family.name for family in families]),
        (Column("type", ColumnType.STRING, role=Role.DIMENSION), [family.type for family in families]),
        (Column("unit", ColumnType.STRING), [unit_of(family) for family in families]),
        (Column("help", ColumnType.STRING), [family.help for family in families]),
        (_measure("series"), [family.samples for family in families]),
    )
    return Sheet(before, [{} for _ in families], ())
