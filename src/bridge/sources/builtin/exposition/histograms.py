"""Histograms and summaries put together from their samples, and the quantiles Prometheus would give."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from bridge.model.frame import Notice
from bridge.sources.builtin.exposition.points import Point
from bridge.sources.builtin.exposition.scan import Family

_NO_LABELS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Bucket:
    """Observations up to and with `upper`; `le` is the bound as the page writes it."""

    le: str
    upper: float
    cumulative: float


@dataclass(slots=True)
class Histogram:
    """One series of a histogram or summary.

    Shape: `buckets` of a histogram and `quantiles` of a summary as they stand on the page; `count` and `total` are
           None where it has none.
    """

    name: str
    family: Family
    labels: Mapping[str, str]
    at_us: int | None
    buckets: list[Bucket] = field(default_factory=list)
    quantiles: dict[float, float] = field(default_factory=dict)
    count: float | None = None
    total: float | None = None

    @property
    def is_whole(self) -> bool:
        """Whether there is a last bucket that holds every observation."""
        return any(bucket.upper == math.inf for bucket in self.buckets)

    @property
    def observations(self) -> float | None:
        """How many observations there are."""
        if self.count is not None:
            return self.count
        return next((bucket.cumulative for bucket in self.buckets if bucket.upper == math.inf), None)

    def quantile(self, wanted: float) -> float | None:
        """The value that this part of the observations lies below; None where nobody can tell."""
        if self.family.type == "summary":
            found = self.quantiles.get(wanted)
            return None if found is None or math.isnan(found) else found
        return quantile(wanted, self.buckets)


def ascending(buckets: Iterable[Bucket]) -> tuple[list[Bucket], bool]:
    """The buckets in the order of their bounds, never falling, and whether they did not fall before either.

    Source: Prometheus raises a bucket that has less than the one below it, which a scrape in pieces can bring about.
    """
    out: list[Bucket] = []
    good = True
    for bucket in sorted(buckets, key=lambda item: item.upper):
        least = out[-1].cumulative if out else -math.inf
        if bucket.cumulative < least:
            good = False
            bucket = Bucket(bucket.le, bucket.upper, least)  # noqa: PLW2901
        out.append(bucket)
    return out, good


def quantile(wanted: float, buckets: Sequence[Bucket]) -> float | None:
    """The quantile by linear interpolation inside its bucket; None where Prometheus gives NaN.

    Source: bucketQuantile of Prometheus, promql/quantile.go: the lowest bucket begins at 0 when its bound is above,
            the one without an upper bound stands for the highest bound there is.
    """
    bounds: dict[float, float] = {}
    for bucket in buckets:
        bounds[bucket.upper] = bounds.get(bucket.upper, 0.0) + bucket.cumulative
    merged = [Bucket("", upper, total) for upper, total in bounds.items()]
    ordered, _ = ascending(merged)
    if len(ordered) < 2 or ordered[-1].upper != math.inf:
        return None
    observations = ordered[-1].cumulative
    if not observations > 0 or any(math.isnan(bucket.cumulative) for bucket in ordered):
        return None
    rank = wanted * observations
    at = next((i for i, bucket in enumerate(ordered[:-1]) if bucket.cumulative >= rank), len(ordered) - 1)
    if at == len(ordered) - 1:
        return ordered[-2].upper
    if at == 0 and ordered[0].upper <= 0:
        return ordered[0].upper
    below = ordered[at - 1] if at else Bucket("", 0.0, 0.0)
    inside = ordered[at].cumulative - below.cumulative
    if not inside:
        return None
    return below.upper + (ordered[at].upper - below.upper) * ((rank - below.cumulative) / inside)


def counts(buckets: Iterable[Bucket]) -> list[tuple[Bucket, float]]:
    """Each bucket, in order, with the observations that no bucket below it has."""
    ordered, _ = ascending(buckets)
    first = [(bucket, bucket.cumulative) for bucket in ordered[:1]]
    return first + [(here, here.cumulative - before.cumulative) for before, here in pairwise(ordered)]


def histograms(points: Iterable[Point]) -> tuple[list[Histogram], tuple[Notice, ...]]:
    """The histograms and summaries of a page, and what is wrong with them.

    Shape: without a TYPE, samples are a histogram when there are buckets among them.
    """
    found: dict[tuple[str, frozenset[tuple[str, str]], int | None], Histogram] = {}
    odd = 0
    for point in points:
        part = _part_of(point)
        if part is None:
            continue
        stem, suffix, drop = part
        labels = {name: value for name, value in point.labels.items() if name != drop}
        key = (stem, frozenset(labels.items()), point.at_us)
        if key not in found:
            found[key] = Histogram(stem, point.family, labels, point.at_us)
        odd += not _add(found[key], suffix, point)
    whole = [item for item in found.values() if item.family.declared or item.buckets]
    return whole, _notices(whole, odd)


def _part_of(point: Point) -> tuple[str, str, str] | None:
    """Which histogram a sample belongs to, as what, and which label is no label of it."""
    family, name = point.family, point.name
    if family.type == "summary" and name == family.name:
        return name, "quantile", "quantile"
    if family.type in ("summary", "histogram", "gaugehistogram") and name != family.name:
        return family.name, name[len(family.name) :], "le" if name.endswith("_bucket") else ""
    if family.declared:
        return None
    stem, _, suffix = name.rpartition("_")
    return (stem, f"_{suffix}", "le" if suffix == "bucket" else "") if suffix in ("bucket", "sum", "count") else None


def _add(histogram: Histogram, suffix: str, point: Point) -> bool:
    """Takes one sample in; whether it says what it must."""
    match suffix:
        case "_count" | "_gcount":
            histogram.count = point.value
        case "_sum" | "_gsum":
            histogram.total = point.value
        case "_bucket":
            le = point.labels.get("le", "")
            upper = _number(le)
            if upper is None:
                return False
            histogram.buckets.append(Bucket(le, upper, point.value))
        case "quantile":
            which = _number(point.labels.get("quantile", ""))
            if which is None:
                return False
            histogram.quantiles[which] = point.value
        case _:
            # The moment it began.
            return True
    return True


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return None if math.isnan(value) else value


def _notices(found: Sequence[Histogram], odd: int) -> tuple[Notice, ...]:
    made = [item for item in found if item.family.type != "summary"]
    native = [item for item in made if not item.buckets]
    open_ended = [item for item in made if item.buckets and not item.is_whole]
    falling = [item for item in made if not ascending(item.buckets)[1]]
    told = (
        ("samples without a usable `le` or `quantile`, which are left out", odd, ""),
        ("histograms without buckets, of which no quantiles are given", len(native), _first(native)),
        (
            "histograms without a `+Inf` bucket, of which no quantiles are given",
            len(open_ended),
            _first(open_ended),
        ),
        ("histograms with less in a bucket than below it, which is raised to that", len(falling), _first(falling)),
    )
    return tuple(Notice("warning", f"{text}: {count}{first}") for text, count, first in told if count)


def _first(found: Sequence[Histogram]) -> str:
    return f" (first: `{Point(found[0].name, found[0].family, found[0].labels, 0.0, None).text}`)" if found else ""
