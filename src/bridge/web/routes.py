"""Every path bridge answers, in one table; a row without a scope cannot be written."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import HttpVersion11, web
from pydantic import BaseModel

from bridge.errors import BadRequest
from bridge.web import dataset_query, reply
from bridge.web.handlers import datasets, json, json_bodies, service, sources

PUBLIC = "public"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method and path: who may call it, what it takes and gives.

    Shape: `params` are query parameters with their meaning; those in `required` must be given.
    """

    method: str
    path: str
    handler: Handler
    scope: str
    summary: str
    body: type[BaseModel] | None = None
    params: dict[str, str] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    gives: str = "application/json"
    tag: str = "service"


def _json(path: str, handler: Handler, summary: str, body: type[BaseModel]) -> Route:
    return Route("POST", f"/json/{path}", handler, "sources:query", summary, body, tag="Grafana JSON datasource")


_TEST = "Health check of the datasource."
_DATASET = "/api/v1/datasets/{name}"

TABLE: tuple[Route, ...] = (
    Route("GET", "/json", json.health, "sources:query", _TEST, tag="Grafana JSON datasource"),
    Route("GET", "/json/", json.health, "sources:query", _TEST, tag="Grafana JSON datasource"),
    _json(
        "metrics", json.metrics, "Datasets for the metric picker, with their payload forms.", json_bodies.MetricsBody
    ),
    _json("metric-payload-options", json.payload_options, "Choices of one payload field.", json_bodies.OptionsBody),
    _json("query", json.query, "Data of a panel as wire frames.", json_bodies.QueryBody),
    _json("variable", json.variable, "Values of a dashboard variable.", json_bodies.VariableBody),
    _json("tag-keys", json.tag_keys, "Columns for ad-hoc filters.", json_bodies.TagsBody),
    _json("tag-values", json.tag_values, "Values for ad-hoc filters.", json_bodies.TagsBody),
    _json("search", json.search, "SimpleJson: metric picker and variables.", json_bodies.SearchBody),
    _json("annotations", json.annotation_list, "SimpleJson: annotations.", json_bodies.AnnotationsBody),
    Route("GET", "/api/v1/sources", sources.index, "sources:query", "Sources and plug-ins.", tag="Sources"),
    Route("GET", "/api/v1/sources/{name}", sources.one, "sources:query", "One source.", tag="Sources"),
    Route(
        "POST", "/api/v1/sources/{name}/ping", sources.ping, "sources:query", "Is the far side there?", tag="Sources"
    ),
    Route("GET", "/api/v1/datasets", datasets.index, "sources:query", "All datasets.", tag="Datasets"),
    Route(
        "GET",
        _DATASET,
        datasets.data,
        "sources:query",
        "A dataset's data.",
        params=dataset_query.PARAMETERS,
        gives="application/json",
        tag="Datasets",
    ),
    Route(
        "POST",
        _DATASET,
        datasets.data,
        "sources:query",
        "The same, with the parameters as a JSON object or form.",
        tag="Datasets",
        params=dataset_query.PARAMETERS,
    ),
    Route("GET", f"{_DATASET}/schema", datasets.schema, "sources:query", "A dataset's columns.", tag="Datasets"),
    Route(
        "GET",
        f"{_DATASET}/infinity",
        datasets.infinity_query,
        "sources:query",
        "The ready query model for Grafana's Infinity datasource.",
        tag="Datasets",
    ),
    Route(
        "POST",
        "/api/v1/batch",
        datasets.batch,
        "sources:query",
        "Several datasets in one request.",
        datasets.BatchBody,
        tag="Datasets",
    ),
    Route(
        "DELETE",
        "/api/v1/cache",
        sources.forget,
        "cache:purge",
        "Forget cached answers.",
        params={"pattern": "glob over dataset names"},
        required=("pattern",),
        tag="Sources",
    ),
    Route("GET", "/healthz", service.healthz, PUBLIC, "Is the process alive?"),
    Route("GET", "/readyz", service.readyz, PUBLIC, "Are requests served?"),
    Route("GET", "/metrics", service.metrics, "metrics:read", "bridge's own metrics.", gives="text/plain"),
    Route("GET", "/openapi.json", service.openapi_json, "docs:read", "This API, described."),
    Route("GET", "/docs", service.docs, "docs:read", "This API, to read.", gives="text/html"),
    Route("GET", "/", service.start, "docs:read", "What is there and how to add it to Grafana.", gives="text/html"),
)


def mount(app: web.Application, table: tuple[Route, ...] = TABLE) -> None:
    """Puts the table into an application, with OPTIONS telling the methods of each path."""
    methods: dict[str, list[str]] = {}
    for route in table:
        app.router.add_route(route.method, route.path, route.handler, expect_handler=_expected)
        methods.setdefault(route.path, []).append(route.method)
        if route.method == "GET":
            app.router.add_route("HEAD", route.path, route.handler)
            methods[route.path].append("HEAD")
    for path, found in methods.items():
        app.router.add_route("OPTIONS", path, _options(tuple(sorted({*found, "OPTIONS"}))))


async def _expected(request: web.Request) -> web.Response | None:
    """Answers `Expect: 100-continue`; any other expectation is refused in the shape of every error."""
    if request.headers.get("Expect", "").lower() != "100-continue":
        text = "the Expect header asks for something that is not done here"
        return reply.failure(BadRequest(text, remedy="send the body without it"), secrets.token_hex(8))
    if request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The answer's own head has not begun with these bytes.
        request.writer.output_size = 0
    return None


def _options(allowed: tuple[str, ...]) -> Handler:
    async def options(_: web.Request) -> web.Response:
        return web.Response(status=204, headers={"Allow": ", ".join(allowed)})

    return options
