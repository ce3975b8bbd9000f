"""The query model with which Grafana's Infinity datasource reads a dataset."""

from __future__ import annotations

from typing import Any

from bridge.model.schema import Column, ColumnType, Role, Schema, Shape

PAGE_ROWS = 10_000
MAX_PAGES = 5
_TYPES = {
    ColumnType.TIME: "timestamp_epoch",
    ColumnType.NUMBER: "number",
    ColumnType.BOOLEAN: "boolean",
    ColumnType.STRING: "string",
    ColumnType.JSON: "string",
}
_FORMATS = {Shape.LOGS: "logs", Shape.NODES: "node-graph-nodes", Shape.EDGES: "node-graph-edges"}


def query_model(name: str, schema: Schema, shape: Shape) -> dict[str, Any]:
    """A query for the backend parser: typed columns, the right format, every paging field written.

    Source: Infinity's backend types only declared columns, never finds a time by itself, and defaults unset
            paging fields differently per parser; so nothing is left to defaults.
    """
    series = shape in (Shape.AUTO, Shape.TIMESERIES) and schema.time and schema.with_role(Role.MEASURE)
    columns = _columns(schema, series=bool(series))
    params = {"format": "page", "limit": str(PAGE_ROWS)}
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
        "columns": columns,
        "filters": [],
        "filterExpression": "",
        "computed_columns": [],
        **_paging(),
    }


def _columns(schema: Schema, *, series: bool) -> list[dict[str, str]]:
    """Declared columns in the order they are shown; attributes would become labels of a series and are left out."""
    kept: list[Column] = [c for c in schema.columns if c.role is not None] if series else list(schema.columns)
    return [{"selector": c.name, "text": c.name, "type": _TYPES[c.type]} for c in kept]


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
