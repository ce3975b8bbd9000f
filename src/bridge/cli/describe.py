"""`bridge routes` and `bridge openapi`: what the service answers."""

from __future__ import annotations

from typing import Annotated

import typer

from bridge import __version__
from bridge.cli.check import JSON_OPTION
from bridge.cli.output import write_json, write_table
from bridge.web import openapi as api
from bridge.web.routes import TABLE


def routes(as_json: Annotated[bool, JSON_OPTION] = False) -> None:
    """Every path with its method and the scope it needs."""
    rows = [(route.method, route.path, route.scope, route.summary) for route in TABLE]
    if as_json:
        write_json([dict(zip(("method", "path", "scope", "summary"), row, strict=True)) for row in rows])
    else:
        write_table("Routes", ("method", "path", "scope", "what it gives"), rows)


def openapi(
    public_url: Annotated[str, typer.Option(help="Where the service is reached.")] = "http://127.0.0.1:8000",
) -> None:
    """The OpenAPI description of the service."""
    write_json(api.document(TABLE, __version__, public_url))
