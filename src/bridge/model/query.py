"""What one panel target asks of one dataset."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum

from bridge.model.filters import Filter
from bridge.model.schema import Shape
from bridge.model.span import Span, to_ms


class Agg(StrEnum):
    """How points are joined when there are more than the panel can draw; unset: by the column's kind."""

    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    SUM = "sum"
    LAST = "last"
    COUNT = "count"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Query:
    """One question to one dataset.

    Shape: `columns` empty means all; `series` None means by the dataset's dimensions, empty means not split.
    Units: `step_ms` milliseconds; `max_points` points per series, None for full resolution.
    """

    dataset: str
    ref_id: str = "A"
    span: Span | None = None
    step_ms: int | None = None
    max_points: int | None = None
    filters: tuple[Filter, ...] = ()
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
        span = (to_ms(self.span.start), to_ms(self.span.end)) if self.span else None
        parts = (self.dataset, span, self.step_ms, sorted(map(str, self.filters)), self.columns, self.params)
        return f"{self.dataset}|{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"

    def named(self, dataset: str) -> Query:
        """The same question to another dataset."""
        return replace(self, dataset=dataset)
