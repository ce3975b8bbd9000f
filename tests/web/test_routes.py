"""Every path stands in one table, with who may call it and what it is for."""

from __future__ import annotations

import pytest
from aiohttp import web

from bridge.web.routes import PUBLIC, TABLE, Route, mount
from servers.house import House

# The paths and scopes other parts and other people rely on.
CONTRACT = {
    ("GET", "/json", "sources:query"),
    ("GET", "/json/", "sources:query"),
    ("POST", "/json/metrics", "sources:query"),
    ("POST", "/json/metric-payload-options", "sources:query"),
    ("POST", "/json/query", "sources:query"),
    ("POST", "/json/variable", "sources:query"),
    ("POST", "/json/tag-keys", "sources:query"),
    ("POST", "/json/tag-values", "sources:query"),
    ("POST", "/json/search", "sources:query"),
    ("POST", "/json/annotations", "sources:query"),
    ("GET", "/api/v1/sources", "sources:query"),
    ("GET", "/api/v1/sources/{name}", "sources:query"),
    ("POST", "/api/v1/sources/{name}/ping", "sources:query"),
    ("GET", "/api/v1/datasets", "sources:query"),
    ("GET", "/api/v1/datasets/{name}", "sources:query"),
    ("POST", "/api/v1/datasets/{name}", "sources:query"),
    ("GET", "/api/v1/datasets/{name}/schema", "sources:query"),
    ("GET", "/api/v1/datasets/{name}/infinity", "sources:query"),
    ("POST", "/api/v1/batch", "sources:query"),
    ("DELETE", "/api/v1/cache", "cache:purge"),
    ("GET", "/healthz", PUBLIC),
    ("GET", "/readyz", PUBLIC),
    ("GET", "/metrics", "metrics:read"),
    ("GET", "/openapi.json", "docs:read"),
    ("GET", "/docs", "docs:read"),
    ("GET", "/", "docs:read"),
}


def test_the_table_holds_every_path_of_the_contract_with_its_scope() -> None:
    assert {(route.method, route.path, route.scope) for route in TABLE} >= CONTRACT


def test_a_path_and_method_stand_once() -> None:
    keys = [(route.method, route.path) for route in TABLE]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("route", TABLE, ids=lambda route: f"{route.method} {route.path}")
def test_every_row_says_who_may_and_what_for(route: Route) -> None:
    assert route.scope
    assert route.summary.endswith(".") or route.summary.endswith("?")
    assert set(route.required) <= route.params.keys()


async def _nothing(_: web.Request) -> web.Response:
    return web.Response()


def test_a_row_without_a_scope_cannot_be_written() -> None:
    with pytest.raises(TypeError, match="scope"):
        Route("GET", "/x", _nothing)  # type: ignore[call-arg]


def test_mounting_adds_head_and_options() -> None:
    app = web.Application()
    mount(app, (Route("GET", "/x", _nothing, "docs:read", "X."), Route("POST", "/x", _nothing, "docs:read", "X.")))
    assert {route.method for route in app.router.routes()} == {"GET", "HEAD", "POST", "OPTIONS"}


@pytest.mark.parametrize("route", TABLE, ids=lambda route: f"{route.method} {route.path}")
async def test_every_row_is_served(bridge: House, route: Route) -> None:
    reply = await bridge.get(route.path.replace("{name}", "lab.runs"), method="OPTIONS")
    assert reply.status == 204
    assert route.method in reply.headers["Allow"].split(", ")
