"""From a dataset's rows to the frames one panel is given: filter, choose columns, shape, thin out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from bridge.errors import AnswerTooLarge, BadQuery
from bridge.model.downsample import downsample
from bridge.model.filters import Filter, expression, text_of
from bridge.model.frame import Frame, Notice, micros
from bridge.model.query import Agg, Query
from bridge.model.schema import Column, ColumnType, Role, Schema, Shape
from bridge.model.series import split, to_annotations, to_edges, to_logs, to_nodes
from bridge.model.span import Span, to_us
from bridge.sources.base import Limits

# No published column can be named so, as names from outside are printable.
_ROW = "\x00row"


def bind(query: Query, schema: Schema) -> tuple[Query, tuple[Notice, ...]]:
    """The query with its ad-hoc filters bound to the columns the dataset has, and a notice for each it has not.

    Errors: BadQuery when a column, series or filter that must exist does not.
    """
    notices = tuple(
        Notice("info", f"the dashboard filter `{str(item)[:120]}` is not applied: {query.dataset} has no such column")
        for item in query.adhoc
        if schema.get(item.column) is None
    )
    bound = tuple(item for item in query.adhoc if schema.get(item.column) is not None)
    known = set(schema.names)
    for where, names in (("columns", query.columns), ("series", query.series or ())):
        for name in names:
            if name not in known:
                must_exist(name, schema, query, where)
    filters = query.filters + bound
    for item in filters:
        expression(item, schema)
    return replace(query, filters=filters, adhoc=()), notices


def must_exist(name: str, schema: Schema, query: Query, where: str) -> Column:
    """The dataset's column that `where` names.

    Errors: BadQuery that says which columns there are.
    """
    if column := schema.get(name):
        return column
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
    if shape is Shape.AUTO and not measures_of(named.schema, query):
        shape = Shape.TABLE
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
        return Shape.TIMESERIES if _drawable(schema) else Shape.TABLE
    return shape


def _drawable(schema: Schema) -> bool:
    return time_of(schema) is not None and any(c.type is ColumnType.NUMBER for c in schema.with_role(Role.MEASURE))


def time_of(schema: Schema) -> Column | None:
    """The column of role time, where it really holds times."""
    time = schema.time
    return time if time is not None and time.type is ColumnType.TIME else None


def select_rows(frame: Frame, query: Query) -> Frame:
    """The rows inside the span that pass all filters."""
    conditions = [expression(item, frame.schema) for item in query.filters]
    time, data = time_of(frame.schema), frame.data
    if query.span is not None and time is not None:
        data = _in_span(data, time.name, query.span)
    return frame.with_data(data.filter(*conditions) if conditions else data)


def _in_span(data: pl.DataFrame, time: str, span: Span) -> pl.DataFrame:
    series = data[time]
    if series.flags["SORTED_ASC"] and not series.null_count():
        # Two searches and a view of the rows between, where a filter would look at every row and copy.
        low, high = np.searchsorted(micros(series), [to_us(span.start), to_us(span.end)]).tolist()
        return data.slice(low, high - low)
    column = pl.col(time)
    return data.filter((column >= span.start) & (column < span.end))


def in_time_order(frame: Frame) -> Frame:
    """The frame with its rows in the order of their time, rows of one instant as they were.

    Shape:  the order is noted in the data, so that whoever asks for it again need not look at every row.
    """
    time = time_of(frame.schema)
    if time is None:
        return frame
    if frame.data[time.name].flags["SORTED_ASC"] and frame.data.n_chunks() == 1:
        return frame
    if frame.data[time.name].is_sorted():
        # In one piece: numpy looks at such a column where it is, and copies any other whenever it is asked.
        return frame.with_data(frame.data.with_columns(pl.col(time.name).set_sorted()).rechunk())
    return frame.with_data(frame.data.sort(time.name, maintain_order=True))


def table(frame: Frame, query: Query) -> Frame:
    """The wanted columns as one table, in time order where there is a time."""
    frame = in_time_order(frame)
    if not query.columns:
        return frame
    time = frame.schema.time
    return frame.select((*([time.name] if time else ()), *(query.series or ()), *query.columns))


def long_rows(frame: Frame, query: Query, limits: Limits) -> Frame:
    """One table in time order, each series thinned out to `max_points` rows; what row formats are made from.

    Shape:  whole rows, chosen by each measure in turn; with an `agg`, time, the series' columns and the measures.
    Errors: AnswerTooLarge over the limits.
    """
    frame = in_time_order(frame)
    time, measures = time_of(frame.schema), measures_of(frame.schema, query)
    if query.max_points is None or query.agg is Agg.NONE or time is None or not measures:
        return _capped(table(frame, query), limits)
    whole = frame.data.drop_nulls(time.name)
    known = set(frame.schema.names)
    by = [name for name in series_columns(frame.schema, query) if name in known]
    parts = _parts(whole, by, len(measures), limits)
    adds_up = query.agg is not None and query.agg.adds_up and whole.height > 0
    if not adds_up and max((part.height for part in parts), default=0) <= query.max_points:
        return _capped(table(frame, query), limits)
    thin = replace(frame, data=whole)
    if query.agg is None:
        data = pl.concat([_picked(part, time, measures, query) for part in parts])
    else:
        thin, data = _joined(thin, parts, by, time, measures, query)
    thin = thin.with_data(data.sort(time.name, maintain_order=True))
    if lost := frame.rows - whole.height:
        thin = thin.note(Notice("warning", f"{lost} rows without a `{time.name}` left out"))
    return _capped(table(thin.note(left_out(whole.height - data.height, query)), query), limits)


def _parts(data: pl.DataFrame, by: list[str], measures: int, limits: Limits) -> list[pl.DataFrame]:
    series = measures * (data.select(by).n_unique() if by else 1)
    if series > limits.max_series:
        raise AnswerTooLarge(
            f"the answer would have {series} series, {limits.max_series} are allowed",
            remedy="choose fewer `series`, or filter",
        )
    return data.partition_by(by, maintain_order=True) if by and data.height else [data]


def _picked(part: pl.DataFrame, time: Column, measures: tuple[Column, ...], query: Query) -> pl.DataFrame:
    """The rows of one series that show it best: each measure chooses its share of them."""
    points = query.max_points or part.height
    if part.height <= points:
        return part
    chosen: list[pl.Series] = []
    dtypes = part.schema
    for measure in measures[:points]:
        thin, _ = downsample(_line(part, time, measure), points // len(measures[:points]), agg=None, span=query.span)
        # Found again by time and value, as a row number would be lost on the way; a NaN has become a gap.
        value = pl.col(measure.name)
        rows = part.select(time.name, value.fill_nan(None) if dtypes[measure.name].is_float() else value)
        first = rows.with_row_index(_ROW).unique([time.name, measure.name], keep="first")
        chosen.append(first.join(thin.data, on=[time.name, measure.name], how="semi", nulls_equal=True)[_ROW])
    return part[pl.concat(chosen).unique().sort()]


def _joined(
    frame: Frame, parts: list[pl.DataFrame], by: list[str], time: Column, measures: tuple[Column, ...], query: Query
) -> tuple[Frame, pl.DataFrame]:
    """The buckets of every series, and the frame with the columns they have."""
    taken = {time.name, *(measure.name for measure in measures)}
    by = [name for name in by if name not in taken]
    columns = {column.name: column for column in frame.schema.columns}
    out = []
    for part in parts:
        points = query.max_points or part.height
        thin = [downsample(_line(part, time, m), points, agg=query.agg, span=query.span)[0] for m in measures]
        columns |= {column.name: column for item in thin for column in item.schema.columns}
        # The buckets are those of the rows, so they are the same for every measure; only `last` dates them by value.
        when = pl.DataFrame([item.data[time.name].alias(str(number)) for number, item in enumerate(thin)])
        latest = when.select(pl.max_horizontal(pl.all()).alias(time.name)).to_series()
        values = [item.data[measure.name] for item, measure in zip(thin, measures, strict=True)]
        labels = [part[name].head(1).new_from_index(0, when.height) if part.height else part[name] for name in by]
        out.append(pl.DataFrame([latest, *labels, *values]))
    data = pl.concat(out, how="vertical_relaxed")
    schema = replace(frame.schema, columns=tuple(columns[name] for name in data.columns))
    return replace(frame, schema=schema), data


def _line(part: pl.DataFrame, time: Column, measure: Column) -> Frame:
    return Frame(part.select(time.name, measure.name), Schema((time, measure)))


def left_out(dropped: int, query: Query) -> Notice:
    """What is said of points that were left out."""
    how = f"by {query.agg}" if query.agg else "keeping extremes and last values"
    return Notice("info", f"{dropped} points were left out to fit {query.max_points} per series ({how})")


def _timeseries(frame: Frame, query: Query, limits: Limits) -> list[Frame]:
    measures = tuple(column.name for column in measures_of(frame.schema, query))
    if not measures:
        raise BadQuery(
            f"{query.dataset} has no measure among the wanted columns",
            remedy=f"its measures are {', '.join(c.name for c in frame.schema.with_role(Role.MEASURE))}",
        )
    series = split(frame, series_columns(frame.schema, query), measures, max_series=limits.max_series)
    if query.max_points is None:
        return capped_all(series, limits)
    thinned, dropped = [], 0
    for item in series:
        smaller, lost = downsample(item, query.max_points, agg=query.agg, span=query.span)
        thinned.append(smaller)
        dropped += lost
    if dropped:
        thinned[0] = thinned[0].note(left_out(dropped, query))
    return capped_all(thinned, limits)


def measures_of(schema: Schema, query: Query) -> tuple[Column, ...]:
    """The number columns that are drawn."""
    wanted = [column for column in schema.with_role(Role.MEASURE) if column.type is ColumnType.NUMBER]
    if query.columns:
        names = set(query.columns)
        wanted = [column for column in wanted if column.name in names]
    return tuple(wanted)


def series_columns(schema: Schema, query: Query) -> tuple[str, ...]:
    """The columns that tell series apart."""
    if query.series is not None:
        return query.series
    return tuple(column.name for column in schema.with_role(Role.DIMENSION))


def capped_all(frames: list[Frame], limits: Limits) -> list[Frame]:
    """The frames, unless they are too many rows."""
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
    found = must_exist(column, frame.schema, query, "column")
    rows = select_rows(frame, query).data
    values = rows.select(pl.col(column).drop_nulls().unique()).sort(column).head(max_values)
    return values.select(text_of(found)).to_series().to_list()


def without(query: Query, column: str) -> Query:
    """The query without filters on one column: what the column's own picker must not be narrowed by."""

    def keep(items: tuple[Filter, ...]) -> tuple[Filter, ...]:
        return tuple(item for item in items if item.column != column)

    return replace(query, filters=keep(query.filters), adhoc=keep(query.adhoc))
