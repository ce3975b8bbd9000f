"""The time column that a history gives to a dataset without one: when its rows were sampled."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import polars as pl

from bridge.errors import SchemaMismatch
from bridge.model.frame import TIME_DTYPE, Frame
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.sources.registry import Keeping


def stamped_schema(schema: Schema, keeping: Keeping | None) -> Schema:
    """The columns with the time column before them, where the history gives one."""
    if keeping is None or keeping.time is None or schema.get(keeping.time) is not None:
        return schema
    return replace(schema, columns=(_column(keeping.time), *schema.columns))


def _column(name: str) -> Column:
    return Column(name, ColumnType.TIME, role=Role.TIME, description="when the row was sampled")


def stamped(frame: Frame, keeping: Keeping | None, at: datetime) -> Frame:
    """The frame with the time column before its own, where the history gives one.

    Errors: SchemaMismatch when the dataset has a time, or a column of that name, already.
    """
    if keeping is None or keeping.time is None:
        return frame
    taken = frame.schema.time or frame.schema.get(keeping.time)
    if taken is not None:
        raise SchemaMismatch(
            f"`{frame.name}` has the column `{taken.name}`, so `history.time` cannot give it `{keeping.time}`",
            remedy="leave out `history.time`" if taken is frame.schema.time else "choose another name",
        )
    stamp = pl.lit(at).cast(TIME_DTYPE).alias(keeping.time)
    return replace(frame, data=frame.data.select(stamp, pl.all()), schema=stamped_schema(frame.schema, keeping))


def unstamped(query: Query, keeping: Keeping | None) -> Query:
    """The question as it is asked of the source, which does not know the time column."""
    if keeping is None or keeping.time is None:
        return query
    name = keeping.time
    return replace(
        query,
        span=None,
        columns=tuple(column for column in query.columns if column != name),
        series=query.series and tuple(column for column in query.series if column != name),
        filters=tuple(item for item in query.filters if item.column != name),
        adhoc=tuple(item for item in query.adhoc if item.column != name),
    )
