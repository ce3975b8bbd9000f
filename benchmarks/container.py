"""A container that takes its time: `/slow/NAME?ms=…` and `/rows/NAME?rows=…` answer, `/calls` counts them by name."""

from __future__ import annotations

import asyncio
from collections import Counter

from aiohttp import web
from serving import serve


def rows(count: int) -> list[dict[str, float]]:
    """A value each minute."""
    return [{"time": 1_767_225_600_000 + 60_000 * n, "value": n % 997 / 8} for n in range(count)]


ROWS = rows(20)


def make() -> web.Application:
    """The application."""
    calls: Counter[str] = Counter()

    async def slow(request: web.Request) -> web.Response:
        calls[request.match_info["name"]] += 1
        await asyncio.sleep(float(request.query["ms"]) / 1000)
        return web.json_response(ROWS)

    async def many(request: web.Request) -> web.Response:
        calls[request.match_info["name"]] += 1
        return web.json_response(rows(int(request.query["rows"])))

    async def counts(_: web.Request) -> web.Response:
        return web.json_response(calls)

    app = web.Application()
    app.add_routes([web.get("/slow/{name}", slow), web.get("/rows/{name}", many), web.get("/calls", counts)])
    return app


if __name__ == "__main__":
    serve(make())
