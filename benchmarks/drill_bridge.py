"""The bridge under the drill: its settings, its process, and what it answers."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from drill_judge import Row

ROOT = Path(__file__).parents[1]
STARTS_WITHIN_S = 60.0
STOPS_WITHIN_S = 30.0
ANSWERS_WITHIN_S = 30.0
# An instant that no sample is later than: what is recorded now, and nothing of the source's own rows.
NOW = "2100-01-01T00:00:00Z"
HISTORY = {"keep": "30d", "every_s": 1, "flush_s": 1}
_TIME = {"name": "time", "type": "time", "role": "time"}
_SERIES = [
    _TIME,
    {"name": "sensor", "type": "string", "role": "dimension"},
    {"name": "value", "type": "number", "role": "measure"},
]
_LINES = [_TIME, {"name": "host", "type": "string", "role": "dimension"}, {"name": "text", "type": "string"}]
_STATE = [
    {"name": "service", "type": "string", "role": "dimension"},
    {"name": "load", "type": "number", "role": "measure"},
]
WINDOW_S = 30


@dataclass(frozen=True, slots=True)
class Watched:
    """One dataset that is drilled.

    Shape: `key` are the columns that name a row for the judge, none where rows are counted; `stored` those that name
           it for bridge: its time and dimensions.
    """

    name: str
    key: tuple[str, ...] = ()
    stored: tuple[str, ...] = ()
    snapshot: bool = False


WATCHED = (
    Watched("drill.series", ("time", "sensor"), ("time", "sensor")),
    Watched("drill.window", ("time", "sensor"), ("time", "sensor")),
    Watched("drill.lines"),
    Watched("drill.load", ("sampled_at", "service"), ("sampled_at", "service")),
    Watched("drill.state", snapshot=True),
    Watched("digits.runs", ("run",), ("time", "model")),
    Watched("digits.events", ("id",)),
    Watched("digits.confusion", snapshot=True),
)


def write_settings(folder: Path, container: str, far: str) -> Path:
    """The demo's sources with histories, and the drill's own, in a folder with what they read."""
    demo = ROOT / "examples" / "demo"
    given = yaml.safe_load((demo / "bridge.yaml").read_text())
    shutil.copytree(demo / "data", folder / "data")
    given["server"] = {"host": "127.0.0.1", "port": 0}
    given["data_dir"] = str(folder / "state")
    names = {watched.name for watched in WATCHED}
    for source in given["sources"]:
        if source["kind"] == "rest":
            source["options"]["url"] = container
        for dataset in source["datasets"]:
            if f"{source['name']}.{dataset['name']}" in names:
                # As a table every column stands for itself; as logs the dimensions would be one of labels.
                dataset |= {"history": HISTORY, "shape": "table"}
    given["sources"].append(_drilled(far))
    path = folder / "bridge.yaml"
    path.write_text(yaml.safe_dump(given))
    return path


def _drilled(far: str) -> dict[str, Any]:
    options = {"path": "/series", "rows": "items"}
    checks = [{"complete": ["value"]}, {"gaps": 5}, {"range": {"column": "value", "min": -1000, "max": 1000}}]
    since = {"params": {"since": "{from_iso}"}}
    datasets = [
        {"name": "series", "options": options, "columns": _SERIES, "history": HISTORY, "checks": checks},
        {
            "name": "window",
            "options": {**options, **since},
            "columns": _SERIES,
            "history": {**HISTORY, "window_s": WINDOW_S},
            "checks": [*checks, {"unique": ["time", "sensor"]}],
        },
        {
            "name": "lines",
            "options": {**options, "path": "/lines", **since},
            "columns": _LINES,
            "shape": "table",
            "history": {**HISTORY, "window_s": WINDOW_S},
        },
        {
            "name": "load",
            "options": {**options, "path": "/state"},
            "columns": _STATE,
            "history": {**HISTORY, "time": "sampled_at"},
        },
        {"name": "state", "options": {**options, "path": "/state"}, "columns": _STATE, "history": HISTORY},
    ]
    return {
        "name": "drill",
        "kind": "rest",
        "options": {"url": far, "allow_private": True},
        "datasets": [{**dataset, "refresh_s": 0.5} for dataset in datasets],
    }


class Died(Exception):
    """bridge ended though nobody had ended it, or did not come up."""


class Refused(Exception):
    """An answer that is none."""

    def __init__(self, path: str, status: int, body: bytes) -> None:
        super().__init__(f"{path} answered {status}: {body[:400]!r}")
        self.status = status
        self.nothing = status == 400 and b"nothing was recorded" in body


class Life:
    """One process of bridge, from its start to its end."""

    def __init__(self, settings: Path, log: Path) -> None:
        self._log = log
        self.began_s = time.monotonic()
        with log.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bridge", "serve", "--log-level", "warning", "--config", str(settings)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                cwd=settings.parent,
            )
        self.url = ""

    async def listens(self) -> None:
        """Waits until it says where.

        Errors: Died.
        """
        while not self.url:
            if found := re.search(r"listens on (http://\S+)", self.log):
                self.url = found[1].rstrip("/")
                return
            if self.process.poll() is not None or time.monotonic() - self.began_s > STARTS_WITHIN_S:
                raise Died(f"bridge did not start:\n{self.log[-2000:]}")
            await asyncio.sleep(0.005)

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    def private_bytes(self) -> int:
        """Memory that is its own: no files, nothing shared."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"RssAnon:\s+(\d+) kB", status)
        return int(found[1]) * 1024 if found else 0

    def send(self, number: signal.Signals) -> None:
        """A signal to this process alone."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and its end."""
        self.send(signal.SIGKILL)
        self.process.wait()

    async def terminate(self) -> None:
        """SIGTERM, and an end in order.

        Errors: Died where it does not end, or not in order.
        """
        self.send(signal.SIGTERM)
        until_s = time.monotonic() + STOPS_WITHIN_S
        while self.process.poll() is None:
            if time.monotonic() > until_s:
                self.kill()
                raise Died(f"bridge did not end within {STOPS_WITHIN_S:g} s of SIGTERM:\n{self.log[-2000:]}")
            await asyncio.sleep(0.01)
        if self.process.returncode != 0:
            raise Died(f"bridge ended with {self.process.returncode} on SIGTERM:\n{self.log[-2000:]}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What was recorded of a dataset until a version."""

    version: int
    columns: tuple[str, ...]
    rows: list[Row]

    def split(self, key: tuple[str, ...]) -> list[tuple[Row, Row]]:
        """Each row as its key and the rest."""
        places = [self.columns.index(name) for name in key]
        others = [place for place, name in enumerate(self.columns) if name not in key]
        return [(tuple(row[p] for p in places), tuple(row[p] for p in others)) for row in self.rows]


class Asker:
    """Asks a bridge over HTTP."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def recorded(self, name: str, as_of: str = NOW) -> Answer | None:
        """The rows that were recorded until then; None where there are none yet.

        Errors: Refused.
        """
        try:
            found = await self._json(f"/api/v1/datasets/{name}?format=frame&shape=table&as_of={as_of}")
        except Refused as error:
            if error.nothing:
                return None
            raise
        meta, fields = found[0]["schema"].get("meta", {}), found[0]["schema"]["fields"]
        lineage = meta.get("custom", {}).get("lineage", {})
        if lineage.get("history", {}).get("version", -1) < 0:
            return None
        rows = list(zip(*found[0]["data"]["values"], strict=True))
        return Answer(lineage["history"]["version"], tuple(field["name"] for field in fields), rows)

    async def counted(self) -> dict[tuple[str, str], float]:
        """The counters of the histories: rows by dataset, and samples by dataset and outcome."""
        text = (await self._get("/metrics")).decode()
        rows = re.findall(r'^bridge_history_rows_total\{dataset="(.+?)"\} (\S+)$', text, re.M)
        samples = re.findall(r'^bridge_history_samples_total\{dataset="(.+?)",outcome="(.+?)"\} (\S+)$', text, re.M)
        return {**{(n, ""): float(v) for n, v in rows}, **{(n, outcome): float(v) for n, outcome, v in samples}}

    async def _json(self, path: str) -> Any:
        return json.loads(await self._get(path))

    async def _get(self, path: str) -> bytes:
        deadline = aiohttp.ClientTimeout(total=ANSWERS_WITHIN_S)
        async with self._session.get(f"{self._url}{path}", timeout=deadline) as response:
            body = await response.read()
            if response.status != 200:
                raise Refused(path, response.status, body)
            return body
