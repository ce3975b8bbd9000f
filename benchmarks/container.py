"""A container that takes its time: `/slow/NAME?ms=…` and `/rows/NAME?rows=…` answer, `/calls` counts them by name.

`/runs/NAME?rows=…` has texts in its rows too, made once; `/live/NAME?rows=…` a value for each of the last seconds.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from functools import cache

from aiohttp import web
from serving import serve


def rows(count: int) -> list[dict[str, float]]:
    """A value each minute."""
    return [{"time": 1_767_225_600_000 + 60_000 * n, "value": n % 997 / 8} for n in range(count)]


ROWS = rows(20)
MODELS = ("svm", "forest", "mlp")


@cache
def runs(count: int) -> bytes:
    """A row each second, of three models in turn."""
    return json.dumps(
        [{"time": 1_767_225_600_000 + 1_000 * n, "value": n % 997 / 8, "model": MODELS[n % 3]} for n in range(count)]
    ).encode()


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

    async def of_models(request: web.Request) -> web.Response:
        return web.Response(body=runs(int(request.query["rows"])), content_type="application/json")

    async def live(request: web.Request) -> web.Response:
        newest = int(time.time())
        seconds = range(newest - int(request.query["rows"]) + 1, newest + 1)
        return web.json_response([{"time": 1_000 * at, "value": at % 997 / 8} for at in seconds])

    async def counts(_: web.Request) -> web.Response:
        return web.json_response(calls)

    app = web.Application()
    app.add_routes([web.get("/slow/{name}", slow), web.get("/rows/{name}", many), web.get("/calls", counts)])
    app.add_routes([web.get("/runs/{name}", of_models), web.get("/live/{name}", live)])
    return app


if __name__ == "__main__":
    serve(make())
