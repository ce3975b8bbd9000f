"""Panels of long series that are kept: drawn from what was worked out of them once."""

from __future__ import annotations

import weakref
from dataclasses import replace

import polars as pl

from bridge.model.downsample import joined
from bridge.model.frame import EMPTY, TIME_DTYPE, Frame
from bridge.model.outline import MIN_ROWS, Outline, outline
from bridge.model.query import Agg, Query
from bridge.model.schema import Column, Kind, Shape
from bridge.model.series import line_meta
from bridge.sources.base import Limits
from bridge.sources.present import capped_all, left_out, measures_of, resolve_shape, series_columns, time_of


class Outlines:
    """The outlines of tables that others keep; gone with the table."""

    def __init__(self) -> None:
        self._known: dict[int, dict[str, Outline | None]] = {}

    def wanted(self, frame: Frame, query: Query, shape: Shape) -> tuple[Column, tuple[Column, ...]] | None:
        """Time and measures of a panel that can be drawn so; None for any other question."""
        time = time_of(frame.schema)
        if time is None or frame.rows < MIN_ROWS or query.filters or query.max_points is None:
            return None
        if resolve_shape(shape, frame.schema) is not Shape.TIMESERIES or series_columns(frame.schema, query):
            return None
        measures = measures_of(frame.schema, query)
        plain = query.agg in (Agg.MEAN, Agg.MIN, Agg.MAX) or query.agg is None
        if not measures or not plain or (query.agg is None and any(m.kind is Kind.COUNTER for m in measures)):
            return None
        series = frame.data.get_column(time.name)
        if not series.flags["SORTED_ASC"] or series.null_count() or not self._met(frame.data):
            return None
        return time, measures

    def _met(self, data: pl.DataFrame) -> bool:
        """Whether the table was asked for before: one that nobody keeps is not worth the work."""
        key = id(data)
        if key in self._known:
            return True
        self._known[key] = {}
        weakref.finalize(data, self._known.pop, key, None)
        return False

    def ready(self, frame: Frame, measures: tuple[Column, ...]) -> bool:
        """Whether all of them have been worked out, so that the panel costs next to nothing."""
        known = self._known.get(id(frame.data), {})
        return all(known.get(measure.name) is not None for measure in measures)

    def draw(
        self, frame: Frame, query: Query, time: Column, measures: tuple[Column, ...], limits: Limits
    ) -> list[Frame] | None:
        """The panel; None where a series has gaps, repeats, or too few rows inside the span."""
        out, dropped = [], 0
        for measure in measures:
            known = self._of(frame.data, time.name, measure.name)
            made = known and _thin(frame, known, query, time, measure)
            if not made:
                return None
            out.append(made[0])
            dropped += made[1]
        out[0] = replace(out[0], meta=frame.meta).note(left_out(dropped, query))
        return capped_all(out, limits)

    def _of(self, data: pl.DataFrame, time: str, measure: str) -> Outline | None:
        known = self._known[id(data)]
        if measure not in known:
            known[measure] = outline(data.get_column(time), data.get_column(measure))
        return known[measure]


def _thin(frame: Frame, known: Outline, query: Query, time: Column, measure: Column) -> tuple[Frame, int] | None:
    low, high = known.rows_in(query.span)
    points = query.max_points or 0
    if high - low < MIN_ROWS or high - low <= points:
        return None
    if query.agg is None:
        rows = known.shape(low, high, points)
        if rows is None:
            return None
        # By numpy: Polars would wake its threads for a thousand rows.
        when, values = pl.Series(time.name, known.us[rows]).cast(TIME_DTYPE), known.values[rows]
        data = pl.DataFrame([when, pl.Series(measure.name, values)])
    else:
        data = joined(known.us[low:high], known.y[low:high], query.agg, points, query.span, (time.name, measure.name))
        if query.agg is not Agg.MEAN:
            # The smallest of whole numbers is one.
            data = data.cast({measure.name: frame.data.schema[measure.name]}, strict=False)
    shaped = replace(
        frame,
        data=data,
        schema=replace(frame.schema, columns=(time, measure)),
        labels=EMPTY,
        meta=line_meta(frame),
        shape=Shape.TIMESERIES,
        ref_id=query.ref_id,
    )
    return shaped, high - low - data.height
