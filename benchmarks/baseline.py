"""Plain aiohttp handlers, as people write them for Grafana: no cache, no checks, no types, one dataset each."""

from __future__ import annotations

import json
import sys
from bisect import bisect_left
from datetime import datetime
from typing import Any

import aiohttp
import numpy as np
import orjson
import polars as pl
from aiohttp import web
from serving import serve
from tsdownsample import MinMaxLTTBDownsampler


class Points:
    """One series in memory: as Python lists, and as numpy arrays."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.load()
        small = {"name": "value", "type": "number"}
        values = [self.times[:1000], self.values[:1000]]
        fields = [{"name": "time", "type": "time"}, small]
        self.small = orjson.dumps([{"schema": {"refId": "A", "fields": fields}, "data": {"values": values}}])

    def load(self) -> None:
        """Reads the file."""
        table = pl.read_parquet(self._path)
        times = table.get_column("time").dt.epoch("ms")
        self.np_times, self.np_values = times.to_numpy(), table.get_column("value").to_numpy()
        self.times: list[int] = times.to_list()
        self.values: list[float] = table.get_column("value").to_list()


POINTS = web.AppKey("points", Points)
CONTAINER = web.AppKey("container", str)
SESSION = web.AppKey("session", aiohttp.ClientSession)


def asked(body: dict[str, Any]) -> tuple[int, int, int]:
    """Start and end in milliseconds, and the panel's width."""
    start, end = (datetime.fromisoformat(body["range"][key]).timestamp() for key in ("from", "to"))
    return int(start * 1000), int(end * 1000), int(body.get("maxDataPoints", 1000))


async def loop(request: web.Request) -> web.Response:
    """The mean of each bucket, point by point."""
    points, (start, end, count) = request.app[POINTS], asked(await request.json())
    width = max(1, (end - start) // count)
    buckets: dict[int, list[float]] = {}
    for t, v in zip(points.times, points.values, strict=True):
        if start <= t < end:
            buckets.setdefault((t - start) // width, []).append(v)
    data = [[sum(vs) / len(vs), start + n * width] for n, vs in sorted(buckets.items())]
    return web.json_response([{"target": "value", "datapoints": data}])


async def slices(request: web.Request) -> web.Response:
    """The mean of each bucket, where someone thought of bisect and slices."""
    points, (start, end, count) = request.app[POINTS], asked(await request.json())
    width = max(1, (end - start) // count)
    data = []
    low = bisect_left(points.times, start)
    for edge in range(start + width, end + width, width):
        high = bisect_left(points.times, min(edge, end))
        if high > low:
            data.append([sum(points.values[low:high]) / (high - low), edge - width])
        low = high
    return web.json_response([{"target": "value", "datapoints": data}])


async def numpy_mean(request: web.Request) -> web.Response:
    """The same means by numpy, written by the standard library."""
    points, (start, end, count) = request.app[POINTS], asked(await request.json())
    width = max(1, (end - start) // count)
    low, high = np.searchsorted(points.np_times, [start, end])
    times, values = points.np_times[low:high], points.np_values[low:high]
    first = np.unique(np.searchsorted(times, np.arange(start, end, width)))
    means = np.add.reduceat(values, first) / np.diff(first, append=len(values))
    data = {"values": [times[first].tolist(), means.tolist()]}
    return web.Response(text=json.dumps(data), content_type="application/json")


async def numpy_lttb(request: web.Request) -> web.Response:
    """The library call bridge makes too, and nothing around it."""
    points, (start, end, count) = request.app[POINTS], asked(await request.json())
    low, high = np.searchsorted(points.np_times, [start, end])
    times, values = points.np_times[low:high], points.np_values[low:high]
    kept = MinMaxLTTBDownsampler().downsample(times, values, n_out=count)  # type: ignore[no-untyped-call]
    data = {"values": [times[kept].tolist(), values[kept].tolist()]}
    return web.Response(text=json.dumps(data), content_type="application/json")


async def raw(request: web.Request) -> web.Response:
    """All points of the range, from lists, by the standard library."""
    points, (start, end, _) = request.app[POINTS], asked(await request.json())
    low, high = bisect_left(points.times, start), bisect_left(points.times, end)
    values = [points.times[low:high], points.values[low:high]]
    return web.json_response([{"schema": {"refId": "A"}, "data": {"values": values}}])


async def prebuilt(request: web.Request) -> web.Response:
    """Bytes that were made before: the least an aiohttp handler can do."""
    await request.read()
    return web.Response(body=request.app[POINTS].small, content_type="application/json")


async def honest(request: web.Request) -> web.Response:
    """The same thousand points, cut out of the lists and written for each request."""
    points, (start, end, _) = request.app[POINTS], asked(orjson.loads(await request.read()))
    low, high = bisect_left(points.times, start), bisect_left(points.times, end)
    frame = {"schema": {"refId": "A"}, "data": {"values": [points.times[low:high], points.values[low:high]]}}
    return web.Response(body=orjson.dumps([frame]), content_type="application/json")


async def load(request: web.Request) -> web.Response:
    """Reads the file again, in the handler."""
    request.app[POINTS].load()
    return web.json_response(len(request.app[POINTS].times))


async def forwarded(request: web.Request) -> web.Response:
    """Asks the container for each request anew."""
    url = f"{request.app[CONTAINER]}{request.query['path']}"
    async with request.app[SESSION].get(url) as response:
        return web.json_response(await response.json())


def make(path: str, container: str) -> web.Application:
    """The application over one Parquet file and one container."""
    app = web.Application()
    app[POINTS], app[CONTAINER] = Points(path), container
    handlers = (loop, slices, numpy_mean, numpy_lttb, raw, prebuilt, honest, load, forwarded)
    app.add_routes([web.post(f"/{handler.__name__}", handler) for handler in handlers])

    async def session(app: web.Application) -> Any:
        async with aiohttp.ClientSession() as app[SESSION]:
            yield

    app.cleanup_ctx.append(session)
    return app


if __name__ == "__main__":
    serve(make(*sys.argv[1:3]))
