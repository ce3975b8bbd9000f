"""The processes that are measured, and a client that asks them."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import polars as pl
import yaml
from measure import CpuClock, cpu_of

HERE = Path(__file__).parent
START = datetime(2026, 1, 1, tzinfo=UTC)
BRIDGE = ("-m", "bridge", "serve", "--log-level", "error", "--port", "0", "--config")
STARTS_WITHIN_S = 60.0
SLOW_SOURCES = 12
SLOW_MS = 100
SHARED_MS = 50
_COLUMNS = [{"name": "time", "type": "time", "role": "time"}, {"name": "value", "type": "number", "role": "measure"}]


@dataclass(frozen=True, slots=True)
class Server:
    """A running process and its address."""

    url: str
    pid: int

    @property
    def cpu(self) -> CpuClock:
        """Its CPU clock."""
        return cpu_of(self.pid)

    def rss_bytes(self) -> int:
        """Memory it holds now."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(found[1]) * 1024 if found else 0


class NotStarted(Exception):
    """A server that did not say where it listens, with the end of its log."""


@contextmanager
def running(folder: Path, *words: str, python: str = sys.executable) -> Iterator[Server]:
    """`python WORDS` until the block ends; ready when it has written where it listens.

    Errors: NotStarted.
    """
    log = folder / f"{Path(words[0]).stem.strip('-')}.{time.monotonic_ns()}.log"
    with log.open("wb") as sink, subprocess.Popen([python, *words], stdout=sink, stderr=sink) as process:
        try:
            yield Server(_address(log, process), process.pid)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    until_s = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < until_s and process.poll() is None:
        # Flask and uvicorn say `running on`.
        if match := re.search(r"(?:listens|[Rr]unning) on (http://[^\s/]+)/?\s", log.read_text()):
            return match[1]
        time.sleep(0.002)
    raise NotStarted(f"{process.args!r} did not start:\n{log.read_text()[-2000:]}")


def write_points(folder: Path, points: int) -> None:
    """Parquet files of one series each: all the points, one a second, and the first thousand; all for numpy too."""
    number = np.arange(points)
    # A slow wave with a fast one on it and a spike now and then: the shape a panel must not lose.
    values = np.round(20 + 5 * np.sin(number / 9_000) + np.cos(number / 7) + 30 * (number % 77_777 == 0), 4)
    times = pl.Series("time", np.datetime64(START.replace(tzinfo=None), "us") + number * np.timedelta64(1, "s"))
    table = pl.DataFrame({"time": times.dt.replace_time_zone("UTC"), "value": values})
    table.write_parquet(folder / "big.parquet")
    table.head(1000).write_parquet(folder / "small.parquet")
    np.savez(folder / "big.npz", time_ms=times.dt.epoch("ms").to_numpy(), value=values)


def write_settings(folder: Path, container: str) -> Path:
    """The settings of the measured bridge."""
    files = [
        {"name": name, "refresh_s": 3600, "options": {"path": f"{name}.parquet"}, "columns": _COLUMNS}
        for name in ("big", "small")
    ]
    slow = [_rest(f"slow{n:02}", container, f"/slow/slow{n:02}", SLOW_MS, 0) for n in range(SLOW_SOURCES)]
    shared = _rest("shared", container, "/slow/shared", SHARED_MS, 3600)
    sources = [{"name": "points", "kind": "files", "datasets": files}, *slow, shared]
    return _settings(folder / "bridge.yaml", sources)


def write_one_source(folder: Path, container: str) -> Path:
    """The settings of a bridge with a single `rest` source."""
    return _settings(folder / "one.yaml", [_rest("shared", container, "/slow/shared", 0, 3600)])


def write_many_sources(folder: Path, container: str, count: int, rows: int) -> Path:
    """The settings of a bridge with so many `rest` sources, each of a dataset of its own."""
    sources = [_rest(f"many{n:02}", container, f"/rows/many{n:02}", 0, 3600, rows=rows) for n in range(count)]
    return _settings(folder / f"many{count}.yaml", sources)


def _settings(path: Path, sources: list[dict[str, Any]]) -> Path:
    path.write_text(yaml.safe_dump({"sources": sources}))
    return path


def _rest(name: str, container: str, path: str, wait_ms: int, refresh_s: int, *, rows: int = 20) -> dict[str, Any]:
    options = {"path": path, "params": {"ms": str(wait_ms), "rows": str(rows)}}
    dataset = {"name": "rows", "refresh_s": refresh_s, "options": options, "columns": _COLUMNS}
    return {
        "name": name,
        "kind": "rest",
        "options": {"url": container, "allow_private": True},
        "datasets": [dataset],
    }


def panel(*targets: str, points: int, rows: int | None, **payload: Any) -> dict[str, Any]:
    """What Grafana's JSON plug-in posts for a panel over the first `points` seconds."""
    edges = (START, START + timedelta(seconds=points))
    start, end = (edge.isoformat(timespec="milliseconds").replace("+00:00", "Z") for edge in edges)
    body: dict[str, Any] = {
        "app": "dashboard",
        "requestId": "SQR100",
        "timezone": "browser",
        "range": {"from": start, "to": end, "raw": {"from": start, "to": end}},
        "interval": "30s",
        "intervalMs": 30000,
        "targets": [
            {
                "datasource": {"type": "simpod-json-datasource", "uid": "json"},
                "editorMode": "builder",
                "payload": payload,
                "refId": chr(65 + number),
                "target": target,
            }
            for number, target in enumerate(targets)
        ],
        "scopedVars": {
            "__interval": {"text": "30s", "value": "30s"},
            "__interval_ms": {"text": "30000", "value": 30000},
        },
        "startTime": 1_767_225_600_000,
        "dashboardUID": "bench",
        "panelId": 4,
        "panelPluginId": "timeseries",
        "filters": [],
    }
    return body if rows is None else body | {"maxDataPoints": rows}


class Client:
    """Asks servers on this machine; any status but 200 ends the benchmark."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def post(self, url: str, body: dict[str, Any] | None = None) -> bytes:
        """The body of the answer."""
        return await self._ask("POST", url, json.dumps(body).encode() if body is not None else None)

    async def get(self, url: str) -> bytes:
        """The body of the answer."""
        return await self._ask("GET", url, None)

    async def delete(self, url: str) -> bytes:
        """The body of the answer."""
        return await self._ask("DELETE", url, None)

    async def at_once(self, url: str, body: dict[str, Any] | None, count: int) -> None:
        """The same question so many times, all at the same time."""
        await asyncio.gather(*(self.post(url, body) for _ in range(count)))

    async def many(self, url: str, body: dict[str, Any], count: int, lanes: int) -> None:
        """So many questions on `lanes` connections, one after the other on each."""

        async def lane() -> None:
            for _ in range(count // lanes):
                await self.post(url, body)

        await asyncio.gather(*(lane() for _ in range(lanes)))

    async def _ask(self, method: str, url: str, body: bytes | None) -> bytes:
        try:
            return await self._once(method, url, body)
        except aiohttp.ServerDisconnectedError:
            # The server closed a connection that had been idle, uvicorn after 5 s, while this process was busy.
            return await self._once(method, url, body)

    async def _once(self, method: str, url: str, body: bytes | None) -> bytes:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        async with self._session.request(method, url, data=body, headers=headers) as response:
            answer = await response.read()
            if response.status != 200:
                raise SystemExit(f"{method} {url} answered {response.status}: {answer[:500]!r}")
            return answer


def new_session() -> aiohttp.ClientSession:
    """A client session that asks for uncompressed answers on as many connections as it needs."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        headers={"Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(total=60),
    )
