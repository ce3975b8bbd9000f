"""From a dataset's rows to the frames one panel is given: filter, choose columns, shape, thin out."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from bridge.errors import AnswerTooLarge, BadQuery
from bridge.model.downsample import downsample
from bridge.model.filters import Filter, expression
from bridge.model.frame import Frame, Notice
from bridge.model.query import Agg, Query
from bridge.model.schema import Column, ColumnType, Role, Schema, Shape
from bridge.model.series import split, to_annotations, to_edges, to_logs, to_nodes
from bridge.sources.base import Limits


def bind(query: Query, schema: Schema) -> tuple[Query, tuple[Notice, ...]]:
    """The query with its ad-hoc filters bound to the columns the dataset has, and a notice for each it has not.

    Errors: BadQuery when a column, series or filter that must exist does not.
    """
    notices = tuple(
        Notice("info", f"the dashboard filter `{item}` is not applied: {query.dataset} has no such column")
        for item in query.adhoc
        if schema.get(item.column) is None
    )
    bound = tuple(item for item in query.adhoc if schema.get(item.column) is not None)
    for name in query.columns:
        _must_exist(name, schema, query, "columns")
    for name in query.series or ():
        _must_exist(name, schema, query, "series")
    filters = query.filters + bound
    for item in filters:
        expression(item, schema)
    return replace(query, filters=filters, adhoc=()), notices


def _must_exist(name: str, schema: Schema, query: Query, where: str) -> None:
    if schema.get(name) is None:
        raise BadQuery(
            f"`{where}` names `{name[:80]}`, which {query.dataset} does not have",
            remedy=f"its columns are {', '.join(schema.names)}",
        )


def present(frame: Frame, query: Query, shape: Shape, limits: Limits) -> list[Frame]:
    """The frames that answer a bound query.

    Shape:  one frame per series for time series, otherwise one frame.
    Errors: AnswerTooLarge over the limits; BadQuery when the data cannot take the shape.
    """
    named = replace(select_rows(frame, query), ref_id=query.ref_id)
    shape = resolve_shape(shape, named.schema)
    match shape:
        case Shape.TIMESERIES:
            return _timeseries(named, query, limits)
        case Shape.LOGS:
            return [_capped(to_logs(named), limits)]
        case Shape.ANNOTATIONS:
            return [_capped(to_annotations(named), limits)]
        case Shape.NODES:
            return [_capped(to_nodes(named), limits)]
        case Shape.EDGES:
            return [_capped(to_edges(named), limits)]
        case _:
            return [_capped(table(named, query), limits)]


def resolve_shape(shape: Shape, schema: Schema) -> Shape:
    """The shape the data can take: a time series needs a time and a measure, everything else is a table."""
    if shape in (Shape.AUTO, Shape.TIMESERIES):
        drawable = schema.time is not None and schema.with_role(Role.MEASURE)
        return Shape.TIMESERIES if drawable else Shape.TABLE
    return shape


def select_rows(frame: Frame, query: Query) -> Frame:
    """The rows inside the span that pass all filters."""
    conditions = [expression(item, frame.schema) for item in query.filters]
    time = frame.schema.time
    if query.span is not None and time is not None:
        column = pl.col(time.name)
        conditions.append((column >= query.span.start) & (column < query.span.end))
    return frame.with_data(frame.data.filter(*conditions)) if conditions else frame


def table(frame: Frame, query: Query) -> Frame:
    """The wanted columns as one table, in time order where there is a time."""
    time = frame.schema.time
    if time is not None and not frame.data[time.name].is_sorted():
        frame = frame.with_data(frame.data.sort(time.name, maintain_order=True))
    if not query.columns:
        return frame
    kept = dict.fromkeys(([time.name] if time else []) + list(query.series or ()) + list(query.columns))
    return frame.select(tuple(kept))


def long_rows(frame: Frame, query: Query, limits: Limits) -> Frame:
    """One table in time order, each series thinned out to `max_points`; what row formats are made from."""
    chosen = table(frame, query)
    schema = chosen.schema
    if query.max_points is None and query.agg in (None, Agg.NONE):
        return chosen
    if resolve_shape(Shape.AUTO, schema) is not Shape.TIMESERIES:
        return chosen
    time, measures = schema.time, _measures(schema, query)
    by = _series_columns(schema, query)
    parts: dict[tuple[tuple[str, str], ...], pl.DataFrame] = {}
    notices: tuple[Notice, ...] = chosen.meta.notices
    for item in _timeseries(chosen, query, limits):
        data = item.data.with_columns(pl.lit(value).alias(name) for name, value in item.labels.items())
        key = tuple(item.labels.items())
        keys = [time.name, *item.labels] if time else []
        parts[key] = parts[key].join(data, on=keys, how="full", coalesce=True) if key in parts else data
        notices += tuple(notice for notice in item.meta.notices if notice not in notices)
    wanted = [time, *(schema.get(name) for name in by), *measures]
    columns = tuple(column for column in wanted if column is not None)
    names = [column.name for column in columns]
    if not parts:
        return replace(chosen.select(tuple(names)), data=chosen.data.select(names).clear())
    joined = pl.concat([part.select(names) for part in parts.values()], how="vertical_relaxed")
    ordered = joined.sort(names[0], maintain_order=True)
    return replace(
        chosen, data=ordered, schema=replace(schema, columns=columns), meta=replace(chosen.meta, notices=notices)
    )


def _timeseries(frame: Frame, query: Query, limits: Limits) -> list[Frame]:
    measures = tuple(column.name for column in _measures(frame.schema, query))
    if not measures:
        raise BadQuery(
            f"{query.dataset} has no measure among the wanted columns",
            remedy=f"its measures are {', '.join(c.name for c in frame.schema.with_role(Role.MEASURE))}",
        )
    series = split(frame, _series_columns(frame.schema, query), measures, max_series=limits.max_series)
    if query.max_points is None:
        return _capped_all(series, limits)
    thinned, dropped = [], 0
    for item in series:
        smaller, lost = downsample(item, query.max_points, agg=query.agg, span=query.span)
        thinned.append(smaller)
        dropped += lost
    if dropped and thinned:
        how = f"by {query.agg}" if query.agg else "keeping extremes and last values"
        text = f"{dropped} points were left out to fit {query.max_points} per series ({how})"
        thinned[0] = thinned[0].note(Notice("info", text))
    return _capped_all(thinned, limits)


def _measures(schema: Schema, query: Query) -> tuple[Column, ...]:
    wanted = [column for column in schema.with_role(Role.MEASURE) if column.type is ColumnType.NUMBER]
    if query.columns:
        wanted = [column for column in wanted if column.name in query.columns]
    return tuple(wanted)


def _series_columns(schema: Schema, query: Query) -> tuple[str, ...]:
    if query.series is not None:
        return query.series
    return tuple(column.name for column in schema.with_role(Role.DIMENSION))


def _capped_all(frames: list[Frame], limits: Limits) -> list[Frame]:
    _refuse_rows(sum(frame.rows for frame in frames), limits)
    return frames


def _capped(frame: Frame, limits: Limits) -> Frame:
    _refuse_rows(frame.rows, limits)
    return frame


def _refuse_rows(rows: int, limits: Limits) -> None:
    if rows > limits.max_rows:
        raise AnswerTooLarge(
            f"the answer has {rows} rows, more than the {limits.max_rows} allowed",
            remedy="narrow the time range, add filters, or ask for fewer points",
        )


def distinct(frame: Frame, column: str, query: Query, max_values: int) -> list[str]:
    """Values of one column among the rows the query selects, sorted, as texts."""
    rows = select_rows(frame, query).data
    values = rows[column].drop_nulls().unique().sort().head(max_values)
    return [_text(value) for value in values.to_list()]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def without(query: Query, column: str) -> Query:
    """The query without filters on one column: what the column's own picker must not be narrowed by."""

    def keep(items: tuple[Filter, ...]) -> tuple[Filter, ...]:
        return tuple(item for item in items if item.column != column)

    return replace(query, filters=keep(query.filters), adhoc=keep(query.adhoc))
