"""From one table to what a panel draws: one frame per series, log lines, annotations, nodes and edges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import polars as pl

from bridge.errors import AnswerTooLarge, BadQuery
from bridge.model.filters import text_of
from bridge.model.frame import EMPTY, Frame, Meta, Notice, empty_frame, micros
from bridge.model.schema import Column, ColumnType, Role, Schema, Shape

_BODIES = ("body", "message", "line", "text", "msg")
_SEVERITIES = ("severity", "level", "loglevel")
_NODE_ORDER = ("id", "title", "subtitle", "mainstat", "secondarystat")
_EDGE_ORDER = ("id", "source", "target", "mainstat", "secondarystat")
# No published column can be named so, as names from outside are printable.
_LABEL = "\x00"
_TEXTS = (ColumnType.STRING, ColumnType.JSON)


def line_meta(frame: Frame) -> Meta:
    """What is told with every line of a frame: whether it is still true, but not again where it came from."""
    return Meta(custom={key: value for key, value in frame.meta.custom.items() if key != "lineage"} or EMPTY)


def split(frame: Frame, by: tuple[str, ...], measures: tuple[str, ...], *, max_series: int) -> list[Frame]:
    """One frame per combination of `by` values and measure, ordered by labels, each ascending in time.

    Shape:  time and the measure; labels are texts, a null is the empty one. Notices stand on the first frame only.
            Without rows one frame per measure remains, so that the panel knows the columns.
    Errors: AnswerTooLarge over `max_series`; BadQuery for unknown columns or a dataset without a time column.
    """
    by, measures = tuple(dict.fromkeys(by)), tuple(dict.fromkeys(measures))
    time = _time_of(frame, "a time series")
    columns = {column.name: column for column in frame.schema.columns}
    values = [_column(frame, name, columns, ColumnType.NUMBER) for name in measures]
    if not values:
        raise BadQuery(f"{_called(frame)} has no number to draw over time", remedy="ask for it as a table")
    keys = [_LABEL + name for name in by]
    labels = [text_of(_column(frame, name, columns)).alias(key) for name, key in zip(by, keys, strict=True)]
    names = [*dict.fromkeys((time.name, *measures))]
    # A list of names is looked up; `select` builds and runs a query plan, which a panel's few rows do not repay.
    data = frame.data.select(*names, *labels) if labels else frame.data[:, names]
    data, notices = _in_time(data, time.name)
    _check_count(data, by, keys, len(values), max_series)
    parts = sorted(_parts(data, keys), key=lambda part: part[0]) or [(tuple("" for _ in by), data)]
    if any(_repeats(part.get_column(time.name)) for _, part in parts):
        text = f"several rows share one time in {_called(frame)}: choose `series` or `agg`"
        notices.append(Notice("info", text))
    marks = line_meta(frame)
    out = [
        replace(
            frame,
            data=part[:, [time.name, value.name]],
            schema=replace(frame.schema, columns=(time, value)),
            labels=dict(zip(by, key, strict=True)) if part.height else EMPTY,
            meta=marks,
            shape=Shape.TIMESERIES,
        )
        for key, part in parts
        for value in values
    ]
    out[0] = replace(out[0], meta=replace(frame.meta, notices=frame.meta.notices + tuple(notices)))
    return out


def _check_count(data: pl.DataFrame, by: tuple[str, ...], keys: list[str], measures: int, max_series: int) -> None:
    series = measures * (data.select(keys).n_unique() if keys and data.height else 1)
    if series <= max_series:
        return
    where = ""
    if by:
        counts = [data.get_column(key).n_unique() for key in keys]
        most = max(counts)
        where = f"; `{by[counts.index(most)]}` alone has {most} values"
    raise AnswerTooLarge(
        f"the answer would have {series} series, {max_series} are allowed{where}",
        remedy="choose fewer `series`, or filter",
    )


def _in_time(data: pl.DataFrame, time: str) -> tuple[pl.DataFrame, list[Notice]]:
    """The rows that have a time, in its order; rows of one instant keep theirs."""
    lost = data.get_column(time).null_count()
    notices = [Notice("warning", f"{_rows(lost)} without a `{time}` left out")] if lost else []
    data = data.drop_nulls(time) if lost else data
    if not data.get_column(time).is_sorted():
        data = data.sort(time, maintain_order=True)
    return data, notices


def _parts(data: pl.DataFrame, keys: list[str]) -> Iterator[tuple[tuple[str, ...], pl.DataFrame]]:
    if not keys:
        yield (), data
        return
    parts = data.partition_by(keys, as_dict=True, maintain_order=True, include_key=False)
    for key, part in parts.items():
        yield tuple(map(str, key)), part


def _repeats(time: pl.Series) -> bool:
    """Whether two rows of a sorted column are equal."""
    us = micros(time)
    return bool((us[1:] == us[:-1]).any())


def to_logs(frame: Frame) -> Frame:
    """The frame as log lines: `timestamp`, `body`, and where there are any `severity`, `id` and `labels`.

    Shape:  `labels` is the dataset's own json column of that name, or made of the dimensions that are left.
    Errors: BadQuery without a time column, or without a text that can be the line.
    """
    time = _time_of(frame, "log lines")
    body = _named(frame, _BODIES, ColumnType.STRING)
    if body is None:
        raise BadQuery(
            f"{_called(frame)} has no text column that can be a log line",
            remedy=f"name it one of {', '.join(_BODIES)}",
        )
    severity, ident = _named(frame, _SEVERITIES), _named(frame, ("id",))
    columns = [_as(time, "timestamp"), _as(body, "body")]
    columns += [_as_text(severity, "severity")] if severity else []
    columns += [_as_text(ident, "id")] if ident else []
    labels = _named(frame, ("labels",), ColumnType.JSON)
    used = {column.name for column in (time, body, severity, ident) if column}
    rest = [column for column in frame.schema.with_role(Role.DIMENSION) if column.name not in used]
    if labels:
        columns.append(_as(labels, "labels"))
    elif rest:
        texts = [text_of(column).alias(column.name) for column in rest]
        columns.append((pl.struct(texts).struct.json_encode().alias("labels"), _made("labels", ColumnType.JSON)))
    return _shaped(frame, columns, Shape.LOGS)


def to_annotations(frame: Frame) -> Frame:
    """The frame as annotations: `time`, `timeEnd`, `title`, `text`, `tags`, `id`, as far as it has them.

    Shape:  without a column `text` the first other text column serves, else a text is made of the measures.
    Errors: BadQuery without a time column.
    """
    time = _named(frame, ("time",), ColumnType.TIME) or _time_of(frame, "annotations")
    end = _named(frame, ("timeend", "time_end", "end"), ColumnType.TIME)
    title, tags, ident = (_named(frame, (name,)) for name in ("title", "tags", "id"))
    taken = {column.name for column in (title, tags, ident) if column}
    text = _named(frame, ("text",)) or next(
        (c for c in frame.schema.columns if c.type is ColumnType.STRING and c.name not in taken), None
    )
    columns = [_as(time, "time")]
    columns += [_as(end, "timeEnd")] if end else []
    columns += [_as_text(title, "title")] if title else []
    columns.append(_as_text(text, "text") if text else (_told(frame), _made("text")))
    if tags:
        columns.append(_as(tags, "tags") if tags.type in _TEXTS else _as_text(tags, "tags"))
    columns += [_as_text(ident, "id")] if ident else []
    return _shaped(frame, columns, Shape.ANNOTATIONS)


def _told(frame: Frame) -> pl.Expr:
    """`accuracy=0.9 percentunit, loss=0.1` for each row; the dataset's name where it has no measure."""
    measures = [column for column in frame.schema.columns if column.type is ColumnType.NUMBER]
    if not measures:
        return pl.lit(frame.name).alias("text")
    texts = [
        # A null stays one, so that the sentence leaves it out.
        pl.when(pl.col(column.name).is_not_null()).then(
            pl.format(
                "{}={}{}", pl.lit(column.name), text_of(column), pl.lit(f" {column.unit}" if column.unit else "")
            )
        )
        for column in measures
    ]
    return pl.concat_str(texts, separator=", ", ignore_nulls=True).alias("text")


def to_nodes(frame: Frame) -> Frame:
    """The frame as nodes of a graph: `id` first, as text, then what else Grafana draws, then the rest.

    Errors: BadQuery when there is no column `id`.
    """
    return _graph(frame, _NODE_ORDER, ("id",), Shape.NODES)


def to_edges(frame: Frame) -> Frame:
    """The frame as edges of a graph: `id`, `source` and `target` first, as texts, then the rest.

    Errors: BadQuery that names the columns which are missing.
    """
    return _graph(frame, _EDGE_ORDER, ("id", "source", "target"), Shape.EDGES)


def _graph(frame: Frame, order: tuple[str, ...], required: tuple[str, ...], shape: Shape) -> Frame:
    found = {name: column for name in order if (column := _named(frame, (name,)))}
    if missing := [name for name in required if name not in found]:
        raise BadQuery(
            f"{_called(frame)} cannot be shown as {shape}: it has no column {', '.join(f'`{m}`' for m in missing)}",
            remedy=f"{shape} need {', '.join(required)}",
        )
    columns = [(_as_text if name in required else _as)(column, name) for name, column in found.items()]
    taken = {column.name for column in found.values()}
    columns += [_as(column, column.name) for column in frame.schema.columns if column.name not in taken]
    whole = frame.data.drop_nulls([found[name].name for name in required])
    lost = frame.rows - whole.height
    out = _shaped(frame.with_data(whole), columns, shape)
    told = f"{_rows(lost)} without {' or '.join(f'`{name}`' for name in required)} left out"
    return out.note(Notice("warning", told)) if lost else out


def complete_graph(nodes: Frame | None, edges: Frame) -> Frame:
    """The nodes, with one more for each end of an edge that names none of them.

    Shape:  added rows have `id` and, where there is such a text column, `title`; all else is null.
    Source: Grafana's node graph panel fails as a whole on an edge to an unknown node.
    """
    edges = to_edges(edges)
    if nodes is None:
        schema = Schema((_made("id"), _made("title")))
        nodes = replace(edges, data=empty_frame(schema.columns), schema=schema, meta=Meta(), shape=Shape.NODES)
    else:
        nodes = to_nodes(nodes)
    ends = edges.data.select(pl.concat_list("source", "target").explode().unique(maintain_order=True).alias("id"))
    added = ends.join(nodes.data.select("id"), on="id", how="anti", maintain_order="left")
    if not added.height:
        return nodes
    title = nodes.schema.get("title")
    if title is not None and title.type is ColumnType.STRING:
        added = added.with_columns(pl.col("id").alias("title"))
    data = pl.concat([nodes.data, added], how="diagonal")
    count = f"{added.height} node{'s were' if added.height > 1 else ' was'}"
    return nodes.with_data(data).note(Notice("info", f"{count} added for ends of edges that no node names"))


_Choice = tuple[pl.Expr, Column]


def _as(column: Column, name: str) -> _Choice:
    return pl.col(column.name).alias(name), replace(column, name=name)


def _as_text(column: Column, name: str) -> _Choice:
    """The column as texts, as Grafana wants identifiers and titles; a null stays null."""
    text = pl.when(pl.col(column.name).is_not_null()).then(text_of(column))
    return text.alias(name), replace(column, name=name, type=ColumnType.STRING, unit=None)


def _made(name: str, kind: ColumnType = ColumnType.STRING) -> Column:
    return Column(name, kind)


def _shaped(frame: Frame, columns: Iterable[_Choice], shape: Shape) -> Frame:
    chosen = list(columns)
    schema = replace(frame.schema, columns=tuple(column for _, column in chosen))
    data = frame.data.select([expression for expression, _ in chosen])
    return replace(frame, data=data, schema=schema, shape=shape)


def _named(frame: Frame, names: tuple[str, ...], kind: ColumnType | None = None) -> Column | None:
    """The column of the first of these names that there is, whatever its capitals."""
    pool = [column for column in frame.schema.columns if kind in (None, column.type)]
    # Exact spellings last, so that they win over `ID` beside `id`.
    columns = {column.name.lower(): column for column in reversed(pool)} | {column.name: column for column in pool}
    return next((columns[name] for name in names if name in columns), None)


def _column(frame: Frame, name: str, columns: Mapping[str, Column], kind: ColumnType | None = None) -> Column:
    column = columns.get(name)
    if column is None:
        raise BadQuery(
            f"{_called(frame)} has no column `{name}`", remedy=f"its columns are {', '.join(frame.schema.names)}"
        )
    if kind not in (None, column.type):
        raise BadQuery(f"`{name}` of {_called(frame)} is a {column.type}, not a {kind}")
    return column


def _time_of(frame: Frame, what: str) -> Column:
    time = frame.schema.time
    if time is None or time.type is not ColumnType.TIME:
        raise BadQuery(
            f"{_called(frame)} has no column of role time, so it cannot be shown as {what}",
            remedy="ask for it as a table",
        )
    return time


def _called(frame: Frame) -> str:
    return f"`{frame.name}`" if frame.name else "the dataset"


def _rows(count: int) -> str:
    return f"{count} row{'s' if count > 1 else ''}"
