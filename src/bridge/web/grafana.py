"""From what a Grafana panel sends to Queries, and from Answers back to what it draws."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from itertools import product
from typing import Any

from bridge.errors import AnswerTooLarge, BadQuery, BadRequest
from bridge.model.filters import Filter, Op, parse_filter, parse_op
from bridge.model.query import Agg, AsOf, Query, parse_as_of
from bridge.model.schema import Column, ColumnType, Param, Role, Schema, Shape
from bridge.model.series import complete_graph
from bridge.model.span import EARLIEST, Span, parse_instant
from bridge.model.wire import wire_frame
from bridge.sources.ask import Answer, Desk
from bridge.sources.base import DatasetSpec
from bridge.web.body import loads
from bridge.web.handlers.json_bodies import AdHoc, QueryBody, Target, TimeRange
from bridge.web.payload import alternatives, parts, text_of, texts, unescaped, wholes

RESERVED = ("columns", "series", "filter", "agg", "as_of")
# Panels that draw one line, bar or tile per series; every other panel is given one table.
SERIES_PANELS = frozenset(
    {
        *("timeseries", "graph", "stat", "singlestat", "gauge", "bargauge"),
        *("state-timeline", "status-history", "trend", "heatmap", "candlestick"),
    }
)
MAX_EXPANDED = 50
MAX_TARGET_CHARS = 16_384
MAX_NAME_CHARS = 256
# A filter costs a pass over all rows, and a pattern its compilation, before anything can be refused.
MAX_FILTERS = 100
MAX_PATTERNS = 10
MAX_REQUEST_PATTERNS = 20
MAX_HINTS = 10
MAX_STEP_MS = 10**13
_CHOICE = re.compile(r"\\.|\(((?:\\.|[^\\()])+)\)|\{([^{}]+)\}", re.S)


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


def step_ms_of(value: float | None) -> int | None:
    """Milliseconds between two points of a panel; None where the request does not say."""
    if value is None or not value >= 1:
        return None
    return int(min(value, MAX_STEP_MS)) if math.isfinite(value) else MAX_STEP_MS


def adhoc(items: Iterable[AdHoc] | None) -> tuple[Filter, ...]:
    """The dashboard's ad-hoc filters; one that is not filled in yet is left out.

    Errors: BadQuery for an operator that is none, or a value that is an object or a list.
    """
    found = []
    for item in items or ():
        op = parse_op(item.operator)
        several = item.values if item.values and op in (Op.EQ, Op.NE) else [item.value]
        values = tuple(dict.fromkeys(_text(value, item.key) for value in several))
        if item.key and (values != ("",) or op in (Op.EQ, Op.NE)):
            found.append(Filter(item.key, op, values))
    return bounded(tuple(found))


def bounded(filters: tuple[Filter, ...]) -> tuple[Filter, ...]:
    """The same filters, when they are no more than a request may have.

    Errors: BadQuery.
    """
    _refuse_many(len(filters))
    patterns = sum(item.op in (Op.RE, Op.NRE) for item in filters)
    if patterns > MAX_PATTERNS:
        raise BadQuery(
            f"{patterns} patterns are more than the {MAX_PATTERNS} one dataset can be asked with",
            remedy="join them with `|`, or use `=` with several values",
        )
    return filters


def _refuse_many(filters: int) -> None:
    if filters > MAX_FILTERS:
        raise BadQuery(f"{filters} filters are more than the {MAX_FILTERS} one dataset can be asked with")


def _text(value: Any, name: str) -> str:
    if value is None:
        return ""
    if isinstance(value, (bool, int, float, str)):
        return text_of(value)
    raise BadQuery(f"`{name[:80]}` must be compared with a value, not with a list or an object")


def targets_of(item: Target) -> list[str]:
    """The dataset names a target stands for; a variable with several values stands for several.

    Errors: BadQuery when it expands to too many, or to what cannot be a name.
    """
    text = item.target
    if isinstance(text, dict):
        text = text.get("value")
    if not isinstance(text, str) or not text.strip():
        return []
    text = text.strip()
    if len(text) > MAX_TARGET_CHARS:
        raise BadQuery(f"the target {text[:80]!r}… has {len(text)} characters; at most {MAX_TARGET_CHARS} are read")
    pieces = _pieces(text)
    if math.prod(map(len, pieces)) > MAX_EXPANDED:
        raise BadQuery(
            f"the target {text[:80]!r} stands for more than {MAX_EXPANDED} datasets", remedy="choose fewer values"
        )
    names = [unescaped("".join(chosen)) for chosen in product(*pieces)]
    if any(len(name) > MAX_NAME_CHARS for name in names):
        raise BadQuery(f"the target {text[:80]!r} is longer than any dataset's name")
    return list(dict.fromkeys(names))


def _pieces(text: str) -> list[list[str]]:
    """The text in pieces, each with what it may be: itself, or the alternatives in its brackets."""
    out: list[list[str]] = []
    end = 0
    for match in _CHOICE.finditer(text):
        if match[1] or match[2]:
            out += [[text[end : match.start()]], alternatives(match[1]) if match[1] else match[2].split(",")]
            end = match.end()
    return [*out, [text[end:]]]


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
    lines = _lines(payload.get("filter"))
    _refuse_many(len(lines))
    filters = [item for text in lines if (item := _written_filter(text))]
    taken = {param.name for param in spec.params} | set(RESERVED)
    columns = {column.name: column for column in schema.columns} if schema else {}
    for key, value in payload.items():
        column = None if key in taken else columns.get(key)
        if column is not None and column.role is not Role.TIME and (found := _compared(value, column)):
            filters.append(Filter(key, Op.EQ, found))
    series = parts(payload.get("series"), "series")
    return Query(
        dataset=target,
        filters=bounded(tuple(filters)),
        columns=parts(payload.get("columns"), "columns"),
        series=None if not series else () if series == ("none",) else series,
        agg=agg_of(payload.get("agg")),
        as_of=_as_of(payload.get("as_of")),
        params=tuple((param.name, values) for param in spec.params if (values := _param(param, payload))),
    )


def _param(param: Param, payload: dict[str, Any]) -> tuple[str, ...]:
    """The values of one parameter of the dataset's own, or its default."""
    value = payload.get(param.name)
    values = parts(value, param.name, param.options) if param.multi else wholes(value, param.name)
    if odd := [text for text in values if param.options and text not in param.options]:
        raise BadQuery(f"`{param.name}` cannot be {odd[0][:80]!r}", remedy=f"use one of {', '.join(param.options)}")
    if len(values) > 1 and not param.multi:
        raise BadQuery(f"`{param.name}` takes one value and was given {len(values)}", remedy="choose one of them")
    return values or ((param.default,) if param.default is not None else ())


def _compared(value: Any, column: Column) -> tuple[str, ...]:
    """The values a column is to equal; only in a text may a comma or pipe be part of one."""
    texts_ = column.type in (ColumnType.STRING, ColumnType.JSON)
    return texts(value, column.name) if texts_ else parts(value, column.name)


def _as_of(value: Any) -> AsOf | None:
    found = wholes(value, "as_of")
    if len(found) > 1:
        raise BadQuery(f"`as_of` takes one value and was given {len(found)}", remedy="choose one of them")
    return parse_as_of(found[0]) if found else None


def _lines(value: Any) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [line for item in items for line in _text(item, "filter").splitlines() if line.strip()]


def _written_filter(text: str) -> Filter | None:
    """A filter of the payload, in whose value Grafana has filled in a variable; None where that means "all"."""
    item = parse_filter(text)
    if item.op in (Op.RE, Op.NRE) or item.values == ("",):
        return item
    values = wholes(item.values[0], item.column)
    return replace(item, values=values) if values else None


def agg_of(value: Any) -> Agg | None:
    """The way to join points; unset or `auto` leaves it to the column's kind.

    Errors: BadQuery for an unknown one, or several.
    """
    found = ",".join(wholes(value, "agg"))
    if found in ("", "auto"):
        return None
    try:
        return Agg(found)
    except ValueError as error:
        raise BadQuery(f"`agg` cannot be {found[:40]!r}", remedy=f"use one of auto, {', '.join(Agg)}") from error


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
    """Answers in the order of the targets; those that failed before asking keep their place.

    Errors: BadQuery when the request has too many patterns.
    """
    queries = [item for item in prepared if isinstance(item, Query)]
    _refuse_patterns(queries)
    answers = iter(await desk.ask(queries))
    return [item if isinstance(item, Answer) else next(answers) for item in prepared]


def _refuse_patterns(queries: Iterable[Query]) -> None:
    """Bounds what one request can make the regex engine compile."""
    patterns = {item.values for query in queries for item in (*query.filters, *query.adhoc) if item.is_pattern}
    if len(patterns) > MAX_REQUEST_PATTERNS:
        raise BadQuery(
            f"the request has {len(patterns)} different patterns, {MAX_REQUEST_PATTERNS} are allowed",
            remedy="use fewer of them, or `=` with several values",
        )


def refuse_rows(answers: list[Answer], max_rows: int) -> int:
    """The rows of all answers together.

    Errors: AnswerTooLarge when they are more than one request may be given.
    """
    rows = sum(frame.rows for answer in answers for frame in answer.frames)
    if rows > max_rows:
        raise AnswerTooLarge(
            f"the queries together have {rows} rows, more than the {max_rows} allowed",
            remedy="narrow the time range, add filters, or ask for fewer points",
        )
    return rows


def wire(answers: list[Answer], aliases: dict[str, str]) -> list[dict[str, Any]]:
    """All frames of a request; a failed target becomes an empty frame whose notice says why.

    Errors: the first error when every target failed.
    """
    failed = [answer.error for answer in answers if answer.error is not None]
    if failed and len(failed) == len(answers):
        raise failed[0]
    answers = _joined_graph(answers)
    out: list[dict[str, Any]] = []
    failures = 0
    for answer in answers:
        if answer.error is not None:
            # Looking for near misses takes a while: a panel of unknown names gets some of them.
            failures += 1
            out.append(error_frame(answer, hinted=failures <= MAX_HINTS))
            continue
        for frame in answer.frames:
            alias = aliases.get(answer.query.ref_id)
            out.append(wire_frame(replace(frame, name=alias) if alias else frame))
    return out


def error_frame(answer: Answer, *, hinted: bool = True) -> dict[str, Any]:
    """An empty frame that carries the error of its target."""
    error = answer.error
    if error is None:
        raise ValueError("the answer has no error")
    meta = {
        "notices": [{"severity": "error", "text": error.sentence if hinted else error.message}],
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
