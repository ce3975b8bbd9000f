"""The query model with which Grafana's Infinity datasource reads a dataset."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from bridge.model.frame import Frame, empty_frame
from bridge.model.schema import Column, ColumnType, Param, Role, Schema, Shape
from bridge.model.series import to_annotations, to_edges, to_logs, to_nodes

PAGE_ROWS = 10_000
# Infinity asks for one page more than this; rows beyond are cut without a word.
MAX_PAGES = 5
_PATH_SIGNS = re.compile(r"([\\.|*?#@!{}\[\]])")
_TYPES = {
    ColumnType.TIME: "timestamp_epoch",
    ColumnType.NUMBER: "number",
    ColumnType.BOOLEAN: "boolean",
    ColumnType.STRING: "string",
    ColumnType.JSON: "string",
}
_FORMATS = {Shape.LOGS: "logs", Shape.NODES: "node-graph-nodes", Shape.EDGES: "node-graph-edges"}
_SHAPERS: dict[Shape, Callable[[Frame], Frame]] = {
    Shape.LOGS: to_logs,
    Shape.NODES: to_nodes,
    Shape.EDGES: to_edges,
    Shape.ANNOTATIONS: to_annotations,
}


def query_model(name: str, schema: Schema, shape: Shape, own: tuple[Param, ...] = ()) -> dict[str, Any]:
    """A query for the backend parser: typed columns, the right format, every paging field written.

    Errors: BadQuery when the dataset lacks a column its shape needs.
    Source: Infinity's backend types only declared columns, never finds a time by itself, and defaults unset
            paging fields differently per parser; so nothing is left to defaults.
    """
    series = is_series(schema, shape)
    params = {"format": "page", "limit": str(PAGE_ROWS)}
    # A parameter that must be given is asked of a dashboard variable of its name.
    params |= {p.name: p.default if p.default is not None else f"${{{p.name}}}" for p in own if _written(p)}
    if schema.time:
        params |= {"from": "${__timeFrom}", "to": "${__timeTo}"}
    if series:
        # One page holds every point a panel can draw, and alert rules may leave the macro unfilled.
        params |= {"step": "${__interval_ms}"}
    return {
        "refId": "A",
        "type": "json",
        "source": "url",
        "parser": "backend",
        "format": "timeseries" if series else _FORMATS.get(shape, "table"),
        "url": f"/api/v1/datasets/{name}",
        "url_options": {
            "method": "GET",
            "data": "",
            "params": [{"key": key, "value": value} for key, value in sorted(params.items())],
            "headers": [],
            "body_type": "none",
        },
        "root_selector": "rows",
        "columns": _columns(schema, shape, series=series),
        "filters": [],
        "filterExpression": "",
        "computed_columns": [],
        **_paging(),
    }


def is_series(schema: Schema, shape: Shape) -> bool:
    """Whether the dataset is drawn as lines over time: it has a time and a number to draw."""
    return shape in (Shape.AUTO, Shape.TIMESERIES) and schema.time is not None and any(map(drawn, schema.columns))


def _written(param: Param) -> bool:
    return param.required or param.default is not None


def _columns(schema: Schema, shape: Shape, *, series: bool) -> list[dict[str, str]]:
    """Declared columns; of a series only its time, its numbers and what tells its lines apart.

    Source: Infinity turns every text of a time series into a label and every number into a line, so a numeric
            dimension goes as text and a measure that is no number stays out; ids of a graph are texts.
    """
    kept = (
        [c for c in schema.columns if c.role in (Role.TIME, Role.DIMENSION) or drawn(c)] if series else schema.columns
    )
    return [
        {
            "selector": _selector(c.select or c.name),
            "text": c.name,
            "type": "string" if (series and c.role is Role.DIMENSION) or c.name in _ids(shape) else _TYPES[c.type],
        }
        for c in _shaped(kept, shape)
    ]


def drawn(column: Column) -> bool:
    """Whether the column is a line of its own."""
    return column.role is Role.MEASURE and column.type is ColumnType.NUMBER


def _ids(shape: Shape) -> tuple[str, ...]:
    return ("id", "source", "target") if shape in (Shape.NODES, Shape.EDGES) else ()


def _selector(name: str) -> str:
    """The name as a GJSON path that means exactly this key."""
    return _PATH_SIGNS.sub(r"\\\1", name)


def _shaped(columns: Iterable[Column], shape: Shape) -> list[Column]:
    """The columns under the names by which a panel knows them; `select` is the published name.

    Source: Infinity takes `timestamp` and `body`, `id`, `source` and `target` by their names alone.
    """
    published = tuple(replace(column, select=column.name) for column in columns)
    shaper = _SHAPERS.get(shape)
    if shaper is None:
        return list(published)
    shown = shaper(Frame(empty_frame(published), Schema(published))).schema.columns
    # What is made of other columns, as labels are, stands in no row.
    return [replace(column, type=_type(column, published)) for column in shown if column.select is not None]


def _type(column: Column, published: tuple[Column, ...]) -> ColumnType:
    """The type in which the rows hold the column: Grafana's texts may be numbers there."""
    return next(item.type for item in published if item.name == column.select)


def _paging() -> dict[str, Any]:
    return {
        "pagination_mode": "cursor",
        "pagination_max_pages": MAX_PAGES,
        "pagination_param_size_field_name": "limit",
        "pagination_param_size_field_type": "query",
        "pagination_param_size_value": PAGE_ROWS,
        "pagination_param_offset_field_name": "offset",
        "pagination_param_offset_field_type": "query",
        "pagination_param_offset_value": 0,
        "pagination_param_page_field_name": "page",
        "pagination_param_page_field_type": "query",
        "pagination_param_page_value": 1,
        "pagination_param_cursor_field_name": "cursor",
        "pagination_param_cursor_field_type": "query",
        "pagination_param_cursor_extraction_path": "next_cursor",
        "pagination_param_list_field_name": "",
        "pagination_param_list_field_type": "query",
        "pagination_param_list_value": "",
    }
