"""The terms of the wanted lines as values, by the library's parsers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TextIO, cast

from prometheus_client import parser as text_parser
from prometheus_client.openmetrics import parser as open_parser
from prometheus_client.samples import Sample

from bridge.edge.faults import printable
from bridge.errors import SourceError
from bridge.model.frame import Notice
from bridge.model.span import EARLIEST, EPOCH, LATEST
from bridge.sources.builtin.exposition.form import Form
from bridge.sources.builtin.exposition.scan import MAX_SHOWN_CHARS, Family, Line, broken

_FIRST_S, _LAST_S = ((edge - EPOCH).total_seconds() for edge in (EARLIEST, LATEST))


@dataclass(frozen=True, slots=True)
class Exemplar:
    """One observation that stands for many.

    Units: `at_us` microseconds since 1970, None without a time of its own.
    """

    labels: Mapping[str, str]
    value: float
    at_us: int | None


@dataclass(frozen=True, slots=True)
class Point:
    """One sample of a page.

    Shape: labels with an empty value are left out, as Prometheus has it: they say the same as none.
    Units: `at_us` microseconds since 1970, None for the moment of the scrape.
    """

    name: str
    family: Family
    labels: Mapping[str, str]
    value: float
    at_us: int | None
    exemplar: Exemplar | None = None

    @property
    def text(self) -> str:
        """The series as Prometheus writes it, cut to what a sentence takes."""
        labels = ",".join(f'{key}="{value}"' for key, value in self.labels.items())
        return printable(f"{self.name}{{{labels}}}"[:MAX_SHOWN_CHARS])


@dataclass(slots=True)
class _Feed:
    """Gives the library one line after the other, and knows where it is.

    Each line is a family of its own: of whole families the library renames counters, drops duplicates without a
    word, and refuses what Prometheus reads (families in two places, types that a name does not fit).

    Shape: `at` is the line the library reads, `given` the one whose values it has just given.
    """

    lines: Sequence[Line]
    form: Form
    stop: threading.Event
    at: int = 0
    given: int | None = None

    def __iter__(self) -> Iterator[str]:
        for at, line in enumerate(self.lines):
            self.at = at
            if self.stop.is_set():
                raise SourceError("the reading was given up, as nobody waits for it any more")
            parts = line.parts
            if parts.native:
                yield f"# TYPE m{at} histogram\n"
            yield f"m{at}{parts.labels} {parts.native or parts.value}\n"
            if parts.exemplar:
                yield f"e{at}{parts.exemplar}\n"
        if self.form.is_open:
            yield "# EOF\n"


def points(lines: Sequence[Line], form: Form, stop: threading.Event, what: str) -> list[Point]:
    """The samples of the lines.

    Errors: UpstreamInvalid with the number and text of a line that cannot be read; SourceError once `stop` is set.
    """
    feed = _Feed(lines, form, stop)
    parse = (open_parser if form.is_open else text_parser).text_fd_to_metric_families
    found: list[Point] = []
    try:
        for family in parse(cast("TextIO", feed)):
            for sample in family.samples:
                # Of OpenMetrics the library gives a line when it has read the next one.
                feed.given = int(sample.name[1:])
                _take(sample, lines[feed.given], found)
            feed.given = None
    except (ValueError, OverflowError, IndexError, KeyError) as error:
        line = lines[feed.at if feed.given is None else feed.given]
        text = f"{line.name}{line.parts.labels} {line.parts.value or line.parts.native} {line.parts.exemplar}"
        raise broken(what, line.number, text, _reason(error)) from error
    return found


def _take(sample: Sample, line: Line, found: list[Point]) -> None:
    """Adds the sample to those found, or to the last of them what it is the exemplar of."""
    labels = {name: value for name, value in (sample.labels or {}).items() if value}
    at_us = _micros(sample)
    if sample.native_histogram is not None:
        # Its buckets are not read: the library loses those below 1. Sum and count are what every reader has.
        whole = sample.native_histogram
        found.append(Point(f"{line.name}_count", line.family, labels, float(whole.count_value), at_us))
        found.append(Point(f"{line.name}_sum", line.family, labels, float(whole.sum_value), at_us))
    elif sample.name[0] == "e":
        found[-1] = replace(found[-1], exemplar=Exemplar(labels, float(sample.value), at_us))
    else:
        found.append(Point(line.name, line.family, labels, float(sample.value), at_us))


def _micros(sample: Sample) -> int | None:
    if sample.timestamp is None:
        return None
    at_s = float(sample.timestamp)
    if not _FIRST_S <= at_s <= _LAST_S:
        raise ValueError("has a time outside of the years that can be stored")
    return round(at_s * 1e6)


def _reason(error: Exception) -> str:
    text = str(error)
    return text if text.startswith("has ") else "is no sample that can be read"


def distinct(found: Sequence[Point]) -> tuple[list[Point], tuple[Notice, ...]]:
    """The samples without those that stand there again, and a notice of them.

    Source: of samples of one series and time Prometheus keeps the first.
    """
    seen: set[tuple[str, frozenset[tuple[str, str]], int | None]] = set()
    kept: list[Point] = []
    first = ""
    for point in found:
        key = (point.name, frozenset(point.labels.items()), point.at_us)
        if key in seen:
            first = first or point.text
            continue
        seen.add(key)
        kept.append(point)
    if not first:
        return kept, ()
    count = len(found) - len(kept)
    they = "1 sample repeats a series" if count == 1 else f"{count} samples repeat a series"
    return kept, (Notice("warning", f"{they} of the page (first: `{first}`); the first of each is taken"),)
