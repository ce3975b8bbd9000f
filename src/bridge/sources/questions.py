"""Questions that a source's own data can answer, to try what it pushes down."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import cast

import polars as pl

from bridge.model.filters import Filter, Op
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.schema import ColumnType, Role
from bridge.model.span import Span


def questions(query: Query, frame: Frame) -> Iterator[Query]:
    """Questions about some of the rows: a time range, columns, and filters by values the data has."""
    span = _middle(frame)
    filters = [*_text_filters(frame), *_number_filters(frame)]
    if span is not None:
        yield replace(query, span=span)
    for item in filters:
        yield replace(query, filters=(item,))
    measures = tuple(column.name for column in frame.schema.with_role(Role.MEASURE))[:1]
    if filters or measures:
        yield replace(query, span=span, filters=tuple(filters[:1]), columns=measures)


def _middle(frame: Frame) -> Span | None:
    """From the time of one row to that of a later one, so that both ends lie where rows are."""
    time = frame.schema.time
    times = frame.data[time.name].drop_nulls().sort() if time else pl.Series([])
    if not len(times):
        return None
    first, last = (cast("datetime", times[len(times) * part // 4]) for part in (1, 3))
    return Span(first, last + timedelta(microseconds=1))


def _text_filters(frame: Frame) -> Iterator[Filter]:
    for column in frame.schema.with_role(Role.DIMENSION):
        values = frame.data[column.name].drop_nulls().unique(maintain_order=True).head(2).to_list()
        if column.type is ColumnType.STRING and values:
            yield Filter(column.name, Op.EQ, (values[0],))
            yield Filter(column.name, Op.EQ, tuple(values))
            yield Filter(column.name, Op.NE, (values[0],))
            yield Filter(column.name, Op.RE, (re.escape(values[-1]),))
            return


def _number_filters(frame: Frame) -> Iterator[Filter]:
    for column in frame.schema.with_role(Role.MEASURE):
        values = frame.data[column.name].drop_nulls().sort()
        if len(values):
            yield Filter(column.name, Op.GE, (str(values[len(values) // 2]),))
            return


def missing_rows(wanted: pl.DataFrame, given: pl.DataFrame) -> pl.DataFrame:
    """The rows of one table that the other does not have, or has less often, by the columns both have."""
    shared = [name for name in wanted.columns if name in given.columns]
    if not shared:
        return wanted
    want, have = "\x00want", "\x00have"
    counts = (
        wanted.group_by(shared)
        .len(want)
        .join(given.group_by(shared).len(have), on=shared, how="left", nulls_equal=True)
    )
    return counts.filter(pl.col(have).fill_null(0) < pl.col(want)).select(shared)
