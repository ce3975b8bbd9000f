"""The service itself: alive, ready, measured, described."""

from __future__ import annotations

from dataclasses import asdict

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from bridge.web import openapi, pages, reply
from bridge.web.keys import CONFIG, DESK, METERS, ROUTES, STATE
from bridge.web.views import plugins_view, source_view


async def healthz(request: web.Request) -> web.Response:
    """200 while the process answers at all."""
    return reply.json({"status": "ok", "version": request.app[CONFIG].version})


async def readyz(request: web.Request) -> web.Response:
    """200 when requests are served; says how the datasets and the last reload are doing."""
    states: dict[str, int] = {}
    for status in request.app[DESK].statuses():
        states[status.state] = states.get(status.state, 0) + 1
    return reply.json({"status": "ready", "datasets": states, **asdict(request.app[STATE])})


async def metrics(request: web.Request) -> web.Response:
    """bridge's own metrics: Prometheus text, or OpenMetrics where it is asked for."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    body = encode(request.app[METERS].registry)
    return await reply.send(request, body, headers={"Content-Type": content_type})


async def openapi_json(request: web.Request) -> web.Response:
    """This API, described."""
    document = openapi.document(request.app[ROUTES], request.app[CONFIG].version, request.app[CONFIG].public_url)
    return reply.json(document)


async def docs(request: web.Request) -> web.Response:
    """This API, to read."""
    document = openapi.document(request.app[ROUTES], request.app[CONFIG].version, request.app[CONFIG].public_url)
    return pages.page("docs.html", document=document, base=request.app[CONFIG].public_url)


async def start(request: web.Request) -> web.Response:
    """The first page: what is there, how it is doing, and how to add it to Grafana."""
    desk = request.app[DESK]
    sources = [source_view(desk, name) for name in desk.registry.entries]
    values = {"sources": sources, "plugins": plugins_view(desk), "state": asdict(request.app[STATE])}
    return pages.page("start.html", base=request.app[CONFIG].public_url, **values)
