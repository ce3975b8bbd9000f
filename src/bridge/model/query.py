"""What one panel target asks of one dataset."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum

from bridge.model.filters import Filter
from bridge.model.schema import Shape
from bridge.model.span import Span


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
           `adhoc` filters bind only where the dataset has their column, `filters` must bind.
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
    fresh: bool = False

    @property
    def source(self) -> str:
        """The source's name: the part before the dot."""
        return self.dataset.partition(".")[0]

    @property
    def table(self) -> str:
        """The dataset's name inside its source: the part after the dot."""
        return self.dataset.partition(".")[2]

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
        thinned = (self.step_ms, self.max_points, self.series, self.agg)
        parts = (self.dataset, span, thinned, filters, self.columns, sorted(self.params))
        return f"{self.dataset}|{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"

    def named(self, dataset: str) -> Query:
        """The same question to another dataset."""
        return replace(self, dataset=dataset)
