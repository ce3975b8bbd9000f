"""What is measured over HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from measure import Pairs, Side, alternate
from page import Goal, Row, plain, row, short
from processes import (
    BRIDGE,
    HERE,
    SHARED_MS,
    SLOW_MS,
    SLOW_SOURCES,
    Client,
    Server,
    new_session,
    panel,
    running,
    write_one_source,
)

LANES = 32
AT_ONCE = 50
WIDTH = 1000


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything.

    Units: `budget_s` seconds per pair of competitors, after which no new round begins.
    """

    points: int = 1_000_000
    table_rows: int = 100_000
    rounds: int = 7
    requests: int = 640
    budget_s: float = 9.0
    idle_s: float = 10.0
    sources: tuple[int, ...] = (5, 10, 20, 40)
    # Long enough for two moves from the segments to the tables.
    recording_s: float = 125.0
    past_rows: int = 10_000_000


TINY = Sizes(
    points=50_000,
    table_rows=2_000,
    rounds=1,
    requests=32,
    budget_s=0.5,
    idle_s=0.5,
    sources=(2, 4),
    recording_s=6.0,
    past_rows=600_000,
)


@dataclass(frozen=True, slots=True)
class Bench:
    """The servers of one run."""

    client: Client
    bridge: Server
    plain: Server
    container: Server
    sizes: Sizes

    async def versus(self, ours: Side, theirs: Side) -> Pairs:
        """The two, turn by turn."""
        return await alternate(ours, theirs, rounds=self.sizes.rounds, budget_s=self.sizes.budget_s)

    def asks(self, body: dict[str, Any]) -> Side:
        """One panel request to bridge."""
        return Side(lambda: self.client.post(f"{self.bridge.url}/json/query", body), self.bridge.cpu)

    def asks_plain(self, path: str, body: dict[str, Any] | None = None) -> Side:
        """One request to a plain handler."""
        return Side(lambda: self.client.post(f"{self.plain.url}{path}", body), self.plain.cpu)

    async def forget(self, pattern: str) -> None:
        """Empties bridge's cache of these datasets."""
        await self.client.delete(f"{self.bridge.url}/api/v1/cache?pattern={pattern}")


async def first_read(bench: Bench) -> list[Row]:
    """The file, from disk."""
    points, url = bench.sizes.points, f"{bench.bridge.url}/json/query"
    body = panel("points.big", points=points, rows=WIDTH)
    ours = Side(lambda: bench.client.post(url, body), bench.bridge.cpu, lambda: bench.forget("points.big"))
    pairs = await alternate(ours, bench.asks_plain("/load"), rounds=3, budget_s=bench.sizes.budget_s)
    what = f"First read of a Parquet file of {points:,} points, and its first panel"
    return [row(what, pairs, "`pl.read_parquet` and `to_list` into Python lists, nothing answered")]


async def panel_query(bench: Bench) -> list[Row]:
    """A panel over all points, which are in memory on both sides."""
    points = bench.sizes.points
    shape = panel("points.big", points=points, rows=WIDTH)
    mean = panel("points.big", points=points, rows=WIDTH, agg="mean")
    await _same(bench, mean, "/loop", "/slices", "/numpy_mean")
    what = f"Panel of {points:,} points in memory, {WIDTH:,} drawn"
    return [
        row(
            f"{what}: means",
            await bench.versus(bench.asks(mean), bench.asks_plain("/loop", mean)),
            "lists, a loop over the points into buckets, `json.dumps`",
        ),
        row(
            f"{what}: means",
            await bench.versus(bench.asks(mean), bench.asks_plain("/slices", mean)),
            "lists, `bisect` and `sum` of slices, `json.dumps`: Python at its best",
        ),
        row(
            f"{what}: means",
            await bench.versus(bench.asks(mean), bench.asks_plain("/numpy_mean", mean)),
            "numpy arrays, `searchsorted` and `add.reduceat`, `json.dumps`",
        ),
        row(
            f"{what}: extremes kept (bridge's default)",
            await bench.versus(bench.asks(shape), bench.asks_plain("/loop", mean)),
            "means, as in the first row: it loses the spikes",
        ),
        row(
            f"{what}: extremes kept (bridge's default)",
            await bench.versus(bench.asks(shape), bench.asks_plain("/numpy_lttb", shape)),
            "numpy arrays straight into tsdownsample's MinMaxLTTB, `json.dumps`: no gaps, no extremes for sure",
        ),
    ]


async def _same(bench: Bench, body: dict[str, Any], *paths: str) -> None:
    """Competitors that answer differently would compare nothing."""
    ours = columns_of(json.loads(await bench.client.post(f"{bench.bridge.url}/json/query", body)))
    for path in paths:
        theirs = columns_of(json.loads(await bench.client.post(f"{bench.plain.url}{path}", body)))
        near = all(abs(a - b) < 1e-6 for a, b in zip(ours[1], theirs[1], strict=True))
        if not near or ours[0] != theirs[0]:
            raise SystemExit(f"bridge and the plain handler {path} answer differently")


def columns_of(answer: Any) -> list[list[float]]:
    """Times and values of an answer: a wire frame, the older list of points, or records."""
    item = answer[0] if isinstance(answer, list) else answer
    if "time" in item:
        return [
            [datetime.fromisoformat(one["time"]).timestamp() * 1000 for one in answer],
            [one["value"] for one in answer],
        ]
    if "datapoints" in item:
        return [[t for _, t in item["datapoints"]], [v for v, _ in item["datapoints"]]]
    found: list[list[float]] = item.get("data", item)["values"]
    return found


async def all_points(bench: Bench) -> list[Row]:
    """Everything, as one wire frame."""
    points = bench.sizes.points
    body = panel("points.big", points=points, rows=None)
    await _same(bench, body, "/raw")
    pairs = await bench.versus(bench.asks(body), bench.asks_plain("/raw", body))
    return [row(f"{points:,} points as they are, one wire frame", pairs, "slices of lists, `web.json_response`")]


async def small_panel(bench: Bench) -> list[Row]:
    """What a request costs that has next to nothing to do."""
    body = panel("points.small", points=WIDTH, rows=2 * WIDTH)
    await _same(bench, body, "/prebuilt", "/honest")
    url, out = f"{bench.bridge.url}/json/query", []
    for lanes in (1, LANES):
        count = bench.sizes.requests // lanes * lanes
        ours = _many(bench, bench.bridge, url, body, count, lanes)
        for path, note in (
            ("/prebuilt", "the body is read, bytes made at start are sent: the least aiohttp can do"),
            ("/honest", "orjson both ways, slices of lists: no guard, cache, schema or meters"),
        ):
            theirs = _many(bench, bench.plain, f"{bench.plain.url}{path}", body, count, lanes)
            pairs = await bench.versus(ours, theirs)
            own, base = pairs.cpu_s()
            added = f"bridge adds {short((own - base) / count)} CPU a request"
            what = f"Small panel ({WIDTH:,} rows, cached), per request, {lanes} at once"
            out.append(row(what, pairs, f"{note}; {added}", per=count))
    return out


def _many(bench: Bench, server: Server, url: str, body: dict[str, Any], count: int, lanes: int) -> Side:
    return Side(lambda: bench.client.many(url, body, count, lanes), server.cpu)


async def slow_sources(bench: Bench) -> list[Row]:
    """Several containers behind one panel."""
    names = [f"slow{number:02}" for number in range(SLOW_SOURCES)]
    body = panel(*(f"{name}.rows" for name in names), points=WIDTH, rows=WIDTH)

    async def direct() -> None:
        urls = [f"{bench.container.url}/slow/{name}?ms={SLOW_MS}" for name in names]
        await asyncio.gather(*map(bench.client.get, urls))

    pairs = await bench.versus(bench.asks(body), Side(direct, time.process_time))
    own, base = pairs.wall_s()
    note = f"the client asks the {SLOW_SOURCES} containers itself, all at once, and waits for the slowest"
    return [
        Row(
            f"{SLOW_SOURCES} `rest` sources of {SLOW_MS} ms in one panel, never cached",
            f"{short(own)} wall",
            f"{short(base)} wall",
            f"**{plain(pairs.wall_ratio())}** wall",
            f"{note} ({pairs.rounds})",
            Goal(
                f"{SLOW_SOURCES} sources of {SLOW_MS} ms in one panel",
                "1.3 × the slowest at most",
                f"{plain(own * 1000 / SLOW_MS)} ×",
                own * 1000 <= 1.3 * SLOW_MS,
            ),
        )
    ]


async def identical(bench: Bench) -> list[Row]:
    """The same panel on many screens at the moment the cache is empty."""
    body = panel("shared.rows", points=WIDTH, rows=WIDTH)
    url, path = f"{bench.bridge.url}/json/query", f"/slow/plain?ms={SHARED_MS}"
    ours = Side(lambda: bench.client.at_once(url, body, AT_ONCE), bench.bridge.cpu, lambda: bench.forget("shared.*"))
    far = f"{bench.plain.url}/forwarded?path={path}"
    theirs = Side(lambda: bench.client.at_once(far, None, AT_ONCE), bench.plain.cpu)
    before = await _calls(bench)
    pairs = await bench.versus(ours, theirs)
    after, rounds = await _calls(bench), len(pairs.ours) + 1  # one to warm up
    own, base = ((after.get(name, 0) - before.get(name, 0)) / rounds for name in ("shared", "plain"))
    if own != 1:
        raise SystemExit(f"{AT_ONCE} identical requests made {own:g} calls to the container instead of 1")
    what = f"{AT_ONCE} identical requests at once, cold cache, container of {SHARED_MS} ms"
    note = "each request asks the container with aiohttp's client"
    return [
        Row(f"{what}: calls to the container", f"{own:g}", f"{base:g}", f"**{plain(own / base)}**", note),
        row(what, pairs, f"the same; all {AT_ONCE} together"),
    ]


async def _calls(bench: Bench) -> dict[str, int]:
    found: dict[str, int] = json.loads(await bench.client.get(f"{bench.container.url}/calls"))
    return found


async def start(folder: Path, container: Server, sizes: Sizes) -> list[Row]:
    """From the command to the first answer, and what an idle service holds."""
    settings = str(write_one_source(folder, container.url))
    own, own_mb = await _started(folder, sizes, "/healthz", *BRIDGE, settings)
    base, base_mb = await _started(folder, sizes, "/calls", str(HERE / "container.py"))
    note = "an aiohttp application with two routes and nothing else; bridge carries Polars and pydantic"
    return [
        Row(
            "Start to first answer",
            short(own),
            short(base),
            f"{plain(own / base)}",
            f"{note} (once)",
            Goal("start to first answer", "below 2 s", short(own), own < 2),
        ),
        Row(
            f"Memory (RSS) {sizes.idle_s:g} s after the start, one `rest` source",
            f"{own_mb:.0f} MB",
            f"{base_mb:.0f} MB",
            plain(own_mb / base_mb),
            "the same (once)",
            Goal("memory with one `rest` source", "below 160 MB", f"{own_mb:.0f} MB", own_mb < 160),
        ),
    ]


async def _started(folder: Path, sizes: Sizes, path: str, *words: str) -> tuple[float, float]:
    began_s = time.perf_counter()
    with running(folder, *words) as server:
        async with new_session() as session:
            await Client(session).get(f"{server.url}{path}")
        took_s = time.perf_counter() - began_s
        await asyncio.sleep(max(0.0, sizes.idle_s - took_s))
        return took_s, server.rss_bytes() / 1e6


OVER_HTTP = (first_read, panel_query, all_points, small_panel, slow_sources, identical)
