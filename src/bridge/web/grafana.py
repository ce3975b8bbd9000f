"""From what a Grafana panel sends to Queries, and from Answers back to what it draws."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from bridge.errors import BadQuery, BadRequest
from bridge.model.filters import Filter, Op, parse_filter, parse_op
from bridge.model.query import Agg, Query
from bridge.model.schema import Role, Schema, Shape
from bridge.model.series import complete_graph
from bridge.model.span import EARLIEST, Span, parse_instant
from bridge.model.wire import wire_frame
from bridge.sources.ask import Answer, Desk
from bridge.sources.base import DatasetSpec
from bridge.web.body import loads
from bridge.web.handlers.json_bodies import AdHoc, QueryBody, Target, TimeRange
from bridge.web.payload import texts, unescaped

RESERVED = ("columns", "series", "filter", "agg")
# Panels that draw one line, bar or tile per series; every other panel is given one table.
SERIES_PANELS = frozenset(
    ("timeseries", "graph", "stat", "singlestat", "gauge", "bargauge")
    + ("state-timeline", "status-history", "trend", "heatmap", "candlestick")
)
MAX_EXPANDED = 50
_ALTERNATIVES = re.compile(r"\(([^()]+)\)|\{([^{}]+)\}")


def span_of(given: TimeRange | None, now: datetime) -> Span | None:
    """The time range of a request; a missing end is now, a missing start is the beginning of time.

    Errors: BadQuery when it is reversed or no time.
    """
    if given is None or (given.from_ is None and given.to is None):
        return None
    start = EARLIEST if given.from_ is None else parse_instant(given.from_, name="range.from")
    end = now if given.to is None else parse_instant(given.to, name="range.to")
    return Span(start, end)


def points(value: float | None, max_rows: int) -> int | None:
    """Points per series a panel can draw; None where it does not say.

    Errors: BadQuery for zero, a negative or a broken number.
    """
    if value is None:
        return None
    if not value >= 1:
        raise BadQuery(
            f"maxDataPoints is {value:g}; it must be at least 1", remedy="give the panel's width in pixels"
        )
    return int(min(value, max_rows))


def adhoc(items: Iterable[AdHoc] | None) -> tuple[Filter, ...]:
    """The dashboard's ad-hoc filters; one that is not filled in yet is left out.

    Errors: BadQuery for an operator that is none.
    """
    found = []
    for item in items or ():
        op = parse_op(item.operator)
        values = texts(item.values, item.key) if item.values and op in (Op.EQ, Op.NE) else (_text(item.value),)
        if item.key and (values != ("",) or op in (Op.EQ, Op.NE)):
            found.append(Filter(item.key, op, values))
    return tuple(found)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else "" if value is None else str(value)


def targets_of(item: Target) -> list[str]:
    """The dataset names a target stands for; a variable with several values stands for several.

    Errors: BadQuery when it expands to too many.
    """
    text = item.target
    if isinstance(text, dict):
        text = text.get("value")
    if not isinstance(text, str) or not text.strip():
        return []
    found = [text.strip()]
    while match := next((m for name in found if (m := _ALTERNATIVES.search(name))), None):
        choices = re.split(r"(?<!\\)\|", match[1]) if match[1] else match[2].split(",")
        found = [
            name.replace(match[0], choice, 1)
            for name in found
            for choice in (choices if match[0] in name else [match[0]])
        ]
        if len(found) > MAX_EXPANDED:
            raise BadQuery(f"the target {text[:80]!r} stands for more than {MAX_EXPANDED} datasets")
    return [unescaped(name) for name in dict.fromkeys(found)]


def payload_of(item: Target) -> dict[str, Any]:
    """The target's payload as an object; the plug-in's text form is parsed.

    Errors: BadQuery when it is neither.
    """
    payload = item.payload if item.payload is not None else item.data
    if isinstance(payload, str):
        try:
            payload = loads(payload.encode())
        except BadRequest as error:
            raise BadQuery(f"the payload of {item.refId} is not valid JSON") from error
    if payload is None:
        return {}
    if not isinstance(payload, dict):
        raise BadQuery(f"the payload of {item.refId} must be a JSON object")
    return payload


def query_of(target: str, payload: dict[str, Any], spec: DatasetSpec, schema: Schema | None) -> Query:
    """One target's question: reserved keys, the dataset's own parameters, and filters named after its columns.

    Errors: BadQuery for a value that cannot be used. Keys that mean nothing here are ignored, as Grafana keeps
            sending those of the metric chosen before.
    """
    filters = [parse_filter(text) for text in _lines(payload.get("filter"))]
    params = []
    for param in spec.params:
        values = texts(payload.get(param.name), param.name) or ((param.default,) if param.default is not None else ())
        if param.options and (odd := [value for value in values if value not in param.options]):
            raise BadQuery(
                f"`{param.name}` cannot be {odd[0][:80]!r}", remedy=f"use one of {', '.join(param.options)}"
            )
        if len(values) > 1 and not param.multi:
            values = values[:1]
        if values:
            params.append((param.name, values))
    names = {param.name for param in spec.params}
    for key, value in payload.items():
        column = schema.get(key) if schema and key not in RESERVED and key not in names else None
        if column is not None and column.role is not Role.TIME and (found := texts(value, key)):
            filters.append(Filter(key, Op.EQ, found))
    chosen = texts(payload.get("series"), "series")
    return Query(
        dataset=target,
        filters=tuple(filters),
        columns=_names(texts(payload.get("columns"), "columns"), schema),
        series=None if not chosen else () if chosen == ("none",) else _names(chosen, schema),
        agg=agg_of(payload.get("agg")),
        params=tuple(params),
    )


def _lines(value: Any) -> list[str]:
    items = value if isinstance(value, list) else [] if value is None else [value]
    return [line for item in items for line in re.split(r"[\n;]", _text(item)) if line.strip()]


def _names(values: tuple[str, ...], schema: Schema | None) -> tuple[str, ...]:
    """Column names; a joined text such as `a,b` was split beside its whole, which is then no column."""
    if schema is None or len(values) < 2:
        return values
    joined = values[0]
    rest = values[1:]
    return rest if schema.get(joined) is None and ("," in joined or "|" in joined) else values


def agg_of(value: Any) -> Agg | None:
    """The way to join points; unset or `auto` leaves it to the column's kind.

    Errors: BadQuery for an unknown one.
    """
    found = texts(value, "agg")
    if not found or found[0] == "auto":
        return None
    try:
        return Agg(found[0])
    except ValueError as error:
        raise BadQuery(f"`agg` cannot be {found[0][:40]!r}", remedy=f"use one of auto, {', '.join(Agg)}") from error


def shape_of(body: QueryBody, item: Target) -> Shape:
    """What the asking panel draws."""
    if item.refId == "Anno" or "__annotation" in (body.scopedVars or {}):
        return Shape.ANNOTATIONS
    if item.type == "table":
        return Shape.TABLE
    if body.panelPluginId is None or body.panelPluginId in SERIES_PANELS or item.type in ("timeserie", "timeseries"):
        return Shape.TIMESERIES
    return Shape.LOGS if body.panelPluginId == "logs" else Shape.TABLE


async def ask(desk: Desk, prepared: list[Query | Answer]) -> list[Answer]:
    """Answers in the order of the targets; those that failed before asking keep their place."""
    answers = iter(await desk.ask([item for item in prepared if isinstance(item, Query)]))
    return [item if isinstance(item, Answer) else next(answers) for item in prepared]


def wire(answers: list[Answer], aliases: dict[str, str]) -> list[dict[str, Any]]:
    """All frames of a request; a failed target becomes an empty frame whose notice says why.

    Errors: the first error when every target failed.
    """
    failed = [answer.error for answer in answers if answer.error is not None]
    if failed and len(failed) == len(answers):
        raise failed[0]
    answers = _joined_graph(answers)
    out = []
    for answer in answers:
        if answer.error is not None:
            out.append(error_frame(answer))
            continue
        for frame in answer.frames:
            alias = aliases.get(answer.query.ref_id)
            out.append(wire_frame(replace(frame, name=alias) if alias else frame))
    return out


def error_frame(answer: Answer) -> dict[str, Any]:
    """An empty frame that carries the error of its target."""
    error = answer.error
    if error is None:
        raise ValueError("the answer has no error")
    text = f"{error.message} ({error.remedy})" if error.remedy else error.message
    meta = {
        "notices": [{"severity": "error", "text": text}],
        "custom": {"error": error.code, "status": error.status},
    }
    return {
        "schema": {"name": answer.query.dataset, "refId": answer.query.ref_id, "meta": meta, "fields": []},
        "data": {"values": []},
    }


def _joined_graph(answers: list[Answer]) -> list[Answer]:
    """Edges whose ends are missing among the nodes of the same request crash Grafana's panel: they are added."""
    edges = [frame for answer in answers for frame in answer.frames if frame.shape is Shape.EDGES]
    out = []
    for answer in answers:
        frames = answer.frames
        for edge in edges:
            frames = tuple(complete_graph(f, edge) if f.shape is Shape.NODES else f for f in frames)
        out.append(replace(answer, frames=frames))
    return out
