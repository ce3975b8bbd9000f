"""The JSON datasource of Grafana, under `/json`, and its older sibling SimpleJson."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from bridge.errors import BadRequest, UnknownDataset
from bridge.model.query import Query
from bridge.model.schema import Role, Shape
from bridge.model.span import Span
from bridge.model.wire import wire_frame
from bridge.web import body, forms, grafana, panel, reply, variables
from bridge.web.handlers.json_bodies import (
    AnnotationsBody,
    MetricsBody,
    OptionsBody,
    QueryBody,
    SearchBody,
    TagsBody,
    Target,
    VariableBody,
)
from bridge.web.keys import CLOCK, DESK, PANEL


async def health(request: web.Request) -> web.Response:
    """The datasource's test button: 200 means reachable."""
    names = list(request.app[DESK].keepers)
    return reply.json({"status": "ok", "message": f"bridge offers {len(names)} datasets", "datasets": names})


async def metrics(request: web.Request) -> web.Response:
    """The metric picker: every dataset and its payload form."""
    await body.parsed(request, MetricsBody)
    return reply.json(await forms.metrics(request.app[DESK]))


async def payload_options(request: web.Request) -> web.Response:
    """Choices of one payload field."""
    asked = await body.parsed(request, OptionsBody)
    payload = grafana.payload_of(Target(payload=asked.payload))
    return reply.json(await forms.options(request.app[DESK], asked.metric, asked.name, payload))


async def query(request: web.Request) -> web.Response:
    """A panel's data as wire frames, each with its refId."""
    asked = await body.parsed(request, QueryBody)
    _note_panel(request, asked)
    desk = request.app[DESK]
    prepared = await panel.prepare(desk, asked, request.app[CLOCK].now())
    answers = await grafana.ask(desk, prepared)
    aliases = {item.refId: item.alias for item in asked.targets if item.alias}
    rows = sum(frame.rows for answer in answers for frame in answer.frames)
    return await reply.send_json(request, lambda: grafana.wire(answers, aliases), rows)


def _note_panel(request: web.Request, asked: QueryBody) -> None:
    dashboard = request.headers.get("X-Dashboard-Uid") or asked.dashboardUID
    name = request.headers.get("X-Panel-Id") or asked.panelId
    if dashboard:
        request[PANEL] = (dashboard, str(name if name is not None else "0"))


async def variable(request: web.Request) -> web.Response:
    """Values of a dashboard variable."""
    asked = await body.parsed(request, VariableBody)
    span = grafana.span_of(asked.range, request.app[CLOCK].now())
    return reply.json(await variables.values(request.app[DESK], asked.payload, span))


async def search(request: web.Request) -> web.Response:
    """SimpleJson's picker and variables: names that hold the text, or the values of `dataset.column`."""
    asked = await body.parsed(request, SearchBody)
    text = asked.target if isinstance(asked.target, str) else ""
    desk = request.app[DESK]
    try:
        found = await variables.column_values(desk, text, None)
    except UnknownDataset:
        found = None
    if found is None:
        found = [name for name in desk.keepers if text.lower() in name.lower()]
    return reply.json(found)


async def tag_keys(request: web.Request) -> web.Response:
    """Columns the dashboard's datasets can be filtered by."""
    asked = await body.parsed(request, TagsBody)
    desk = request.app[DESK]
    found: dict[str, str] = {}
    for name in variables.datasets_in(desk, asked.queries):
        schema = await forms.known(desk, name)
        for column in schema.columns if schema else ():
            if column.role in (Role.DIMENSION, Role.MEASURE):
                found.setdefault(column.name, str(column.type))
    return reply.json([{"type": kind, "text": name, "value": name} for name, kind in sorted(found.items())])


async def tag_values(request: web.Request) -> web.Response:
    """Values of one column, narrowed by the other filters and the time range."""
    asked = await body.parsed(request, TagsBody)
    if not asked.key:
        raise BadRequest("`key` is missing", remedy="send the column whose values are wanted")
    span = grafana.span_of(asked.timeRange, request.app[CLOCK].now())
    found = await variables.tag_values(request.app[DESK], asked, span)
    return reply.json([{"text": value, "value": value} for value in found])


async def annotation_list(request: web.Request) -> web.Response:
    """SimpleJson's annotations: `query` names a dataset."""
    asked = await body.parsed(request, AnnotationsBody)
    item = Target(target=asked.annotation.query, refId="Anno")
    names = grafana.targets_of(item)
    if not names:
        return reply.json([])
    span: Span | None = grafana.span_of(asked.range, request.app[CLOCK].now())
    frames = await request.app[DESK].frames(Query(names[0], span=span, shape=Shape.ANNOTATIONS, ref_id="Anno"))
    shown = asked.annotation.model_dump(exclude_none=True)
    return reply.json([_annotation(row, shown) for frame in frames for row in _rows(wire_frame(frame))])


def _rows(frame: dict[str, Any]) -> list[dict[str, Any]]:
    names = [field["name"] for field in frame["schema"]["fields"]]
    columns = [values.tolist() if hasattr(values, "tolist") else values for values in frame["data"]["values"]]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _annotation(row: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
    tags = row.get("tags")
    out = {
        "annotation": shown,
        "time": row.get("time"),
        "title": row.get("title") or "",
        "text": row.get("text") or "",
    }
    out["tags"] = tags.split(",") if isinstance(tags, str) else tags or []
    if row.get("timeEnd") is not None:
        out |= {"timeEnd": row["timeEnd"], "isRegion": True}
    return out
