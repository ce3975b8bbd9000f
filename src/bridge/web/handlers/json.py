"""The JSON datasource of Grafana, under `/json`, and its older sibling SimpleJson."""

from __future__ import annotations

from aiohttp import web

from bridge.errors import BadRequest
from bridge.model.query import Query
from bridge.model.schema import Shape
from bridge.sources.ask import Answer
from bridge.sources.work import cells
from bridge.web import body, forms, grafana, notices, panel, reply, simplejson, variables
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
    answers = [_shown(answer) for answer in await grafana.ask(desk, prepared)]
    aliases = {item.refId: item.alias for item in asked.targets if item.alias}
    grafana.refuse_rows(answers, desk.limits.max_rows)
    size = cells(*(frame for answer in answers for frame in answer.frames))
    return await reply.send_json(request, lambda: grafana.wire(answers, aliases), size)


def _shown(answer: Answer) -> Answer:
    return notices.annotated(answer) if answer.query.shape is Shape.ANNOTATIONS else answer


def _note_panel(request: web.Request, asked: QueryBody) -> None:
    """Panels are told apart by the body where the headers, which the guard has read, say nothing."""
    if asked.dashboardUID and PANEL not in request:
        request[PANEL] = (asked.dashboardUID, str(asked.panelId if asked.panelId is not None else "0"))


async def variable(request: web.Request) -> web.Response:
    """Values of a dashboard variable."""
    asked = await body.parsed(request, VariableBody)
    span = grafana.span_of(asked.range, request.app[CLOCK].now())
    return reply.json(await variables.values(request.app[DESK], asked.payload, span))


async def search(request: web.Request) -> web.Response:
    """SimpleJson's picker and variables: names that hold the text, or the values of `dataset.column`."""
    asked = await body.parsed(request, SearchBody)
    return reply.json(await variables.search(request.app[DESK], asked.target))


async def tag_keys(request: web.Request) -> web.Response:
    """Columns the dashboard's datasets can be filtered by."""
    asked = await body.parsed(request, TagsBody)
    found = await variables.tag_keys(request.app[DESK], asked)
    return reply.json([{"type": kind, "text": name, "value": name} for name, kind in found])


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
    names = grafana.targets_of(Target(target=asked.annotation.query))
    span = grafana.span_of(asked.range, request.app[CLOCK].now())
    base = Query("", span=span, shape=Shape.ANNOTATIONS, ref_id="Anno")
    answers = [_shown(answer) for answer in await request.app[DESK].ask(base.named(name) for name in names)]
    if failed := next((answer.error for answer in answers if answer.error is not None), None):
        # This protocol has no place for a word beside the annotations.
        raise failed
    frames = [frame for answer in answers for frame in answer.frames]
    grafana.refuse_rows(answers, request.app[DESK].limits.max_rows)
    return await reply.send_json(request, lambda: simplejson.listed(frames, asked.annotation), cells(*frames))
