"""What one panel target asks of one dataset."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from bridge.errors import BadQuery
from bridge.model.filters import Filter
from bridge.model.schema import Shape
from bridge.model.span import Span, parse_instant

# The number of a sample, or an instant: what was recorded until then.
AsOf = int | datetime


# Of a plain number so small nobody means an instant of 1970.
_SMALL = re.compile(r"\d{1,7}", re.ASCII)
_VERSION = re.compile(r"v(\d{1,15})", re.ASCII)


def parse_as_of(text: str) -> AsOf | None:
    """`v123` is a version, anything else an instant; None of an empty text.

    Errors: BadQuery when it is neither.
    """
    text = text.strip()
    if not text:
        return None
    if version := _VERSION.fullmatch(text):
        return int(version[1])
    if _SMALL.fullmatch(text):
        raise BadQuery(f"`as_of` cannot be {text}, as that is neither a time nor a version", remedy=f"write v{text}")
    try:
        return parse_instant(text, name="as_of")
    except BadQuery as error:
        remedy = "send a version such as v120, milliseconds since 1970, or ISO 8601 such as 2026-01-31T12:00:00Z"
        raise BadQuery(error.message, remedy=remedy) from error


class Agg(StrEnum):
    """How points are joined when there are more than the panel can draw; unset: by the column's kind."""

    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    SUM = "sum"
    LAST = "last"
    COUNT = "count"
    NONE = "none"

    @property
    def adds_up(self) -> bool:
        """Whether the joined value is another quantity than the values, and must not depend on how many there are."""
        return self in (Agg.SUM, Agg.COUNT)


@dataclass(frozen=True, slots=True)
class Query:
    """One question to one dataset.

    Shape: `columns` empty means all; `series` None means by the dataset's dimensions, empty means not split;
           `adhoc` filters bind only where the dataset has their column, `filters` must bind; `as_of` asks what
           was recorded until a sample or an instant, None what is true now.
    Units: `step_ms` milliseconds; `max_points` points per series, None for full resolution.
    """

    dataset: str
    ref_id: str = "A"
    span: Span | None = None
    step_ms: int | None = None
    max_points: int | None = None
    filters: tuple[Filter, ...] = ()
    adhoc: tuple[Filter, ...] = ()
    columns: tuple[str, ...] = ()
    series: tuple[str, ...] | None = None
    agg: Agg | None = None
    params: tuple[tuple[str, tuple[str, ...]], ...] = ()
    shape: Shape = Shape.AUTO
    as_of: AsOf | None = None
    fresh: bool = False

    @property
    def source(self) -> str:
        """The source's name: the part before the dot; none of a system dataset."""
        return self.dataset.rpartition(".")[0]

    @property
    def table(self) -> str:
        """The dataset's name inside its source: the part after the dot, all of a system dataset's name."""
        return self.dataset.rpartition(".")[2]

    def param(self, name: str) -> tuple[str, ...]:
        """Values of one of the dataset's own parameters; empty when it was not given."""
        return next((values for key, values in self.params if key == name), ())

    def whole(self) -> Query:
        """The same dataset and parameters, with nothing narrowed: what a source without pushdown answers."""
        return Query(dataset=self.dataset, params=self.params)

    @property
    def key(self) -> str:
        """Equal for queries that must give the same answer, whoever asks."""
        span = (self.span.start.timestamp(), self.span.end.timestamp()) if self.span else None
        # Apart, not as text: `a = "x,y"` and `a = x or y` read the same but are two questions.
        filters = sorted((item.column, item.op.value, item.values) for item in self.filters)
        thinned = (self.step_ms, self.max_points, self.series, self.agg, self.as_of)
        parts = (self.dataset, span, thinned, filters, self.columns, sorted(self.params))
        return f"{self.dataset}|{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"

    def named(self, dataset: str) -> Query:
        """The same question to another dataset."""
        return replace(self, dataset=dataset)
