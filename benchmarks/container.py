"""A container that takes its time: `/slow/NAME?ms=…` answers with rows, `/calls` says how often a name was asked."""

from __future__ import annotations

import asyncio
from collections import Counter

from aiohttp import web
from serving import serve

ROWS = [{"time": 1_767_225_600_000 + 60_000 * n, "value": n / 8} for n in range(20)]


def make() -> web.Application:
    """The application."""
    calls: Counter[str] = Counter()

    async def slow(request: web.Request) -> web.Response:
        calls[request.match_info["name"]] += 1
        await asyncio.sleep(float(request.query["ms"]) / 1000)
        return web.json_response(ROWS)

    async def counts(_: web.Request) -> web.Response:
        return web.json_response(calls)

    app = web.Application()
    app.add_routes([web.get("/slow/{name}", slow), web.get("/calls", counts)])
    return app


if __name__ == "__main__":
    serve(make())
