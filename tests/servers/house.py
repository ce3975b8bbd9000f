"""The real application, built from a settings file in a folder of its own, behind the real front on a free port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from bridge.app import World, create_app
from bridge.settings import load_settings
from bridge.web.front import Front

# Long enough that only a hang reaches it.
HANG_S = 30.0
NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
START = datetime(2026, 1, 31, 10, 0, tzinfo=UTC)
MODELS = ("svm", "mlp", "knn")
SIZES = (10, 20)
# The datasets that tell of the others.
SYSTEM = ["_status", "_findings", "_lineage", "_lineage_edges"]


def ms(instant: datetime) -> int:
    """Milliseconds since the epoch."""
    return round(instant.timestamp() * 1000)


class Clock:
    """A clock that stands still until the test moves it."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.passed_s)

    def monotonic_s(self) -> float:
        return 1_000.0 + self.passed_s


def runs() -> list[dict[str, Any]]:
    """Twelve runs: three models by two sizes, ten minutes apart, twice."""
    out = []
    for index in range(12):
        model, size = MODELS[index % 3], SIZES[(index // 3) % 2]
        out.append(
            {
                "time": ms(START + timedelta(minutes=10 * index)),
                "model": model,
                "size": size,
                "accuracy": round(0.5 + 0.03 * index, 2),
                "loss": round(1.0 - 0.05 * index, 2),
                "note": f"run {index}",
            }
        )
    return out


def iso(stamp_ms: int) -> str:
    """ISO 8601 of milliseconds."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=stamp_ms)).isoformat().replace("+00:00", "Z")


def csv(rows: list[dict[str, Any]], columns: list[str] | None = None) -> str:
    """Rows as CSV without quotes; times as ISO 8601."""
    names = columns or list(rows[0])
    lines = [",".join(names)]
    for row in rows:
        shown = {**row, **({"time": iso(row["time"])} if "time" in row else {})}
        lines.append(",".join(str(shown[name]) for name in names))
    return "\n".join(lines) + "\n"


FILES: dict[str, str] = {
    "runs.csv": csv(runs()),
    "empty.csv": "time,model,accuracy\n",
    "guessed.csv": "host,cores\na,4\nb,8\n",
    "by/svm.csv": csv([row for row in runs() if row["model"] == "svm"]),
    "by/mlp.csv": csv([row for row in runs() if row["model"] == "mlp"]),
    "events.csv": (
        "time,timeEnd,title,text,tags\n"
        "2026-01-31T10:05:00Z,2026-01-31T10:15:00Z,deploy,new model,a;b\n"
        "2026-01-31T10:30:00Z,,restart,by hand,\n"
    ),
    "lines.csv": (
        "time,message,level,host\n2026-01-31T10:00:00Z,started,info,a\n2026-01-31T10:00:01Z,failed to read,error,b\n"
    ),
    "nodes.csv": "id,title,mainstat\n1,one,0.5\n2,two,0.25\n",
    "edges.csv": "id,source,target\ne1,1,2\ne2,2,3\n",
    "choices.csv": "text,value\nSvm,1\nMlp,2\nSvm,3\nSvm,1\n",
}

YAML = """
sources:
  - name: lab
    kind: files
    datasets:
      - name: runs
        description: Training runs.
        options: {path: runs.csv}
        refresh_s: 5
        columns:
          - {name: time, type: time, role: time}
          - {name: model, type: string, role: dimension}
          - {name: size, type: number, role: dimension}
          - {name: accuracy, type: number, unit: percentunit, role: measure}
          - {name: loss, type: number, role: measure}
          - {name: note, type: string}
      - name: empty
        options: {path: empty.csv}
        columns:
          - {name: time, type: time, role: time}
          - {name: model, type: string, role: dimension}
          - {name: accuracy, type: number, role: measure}
      - name: guessed
        options: {path: guessed.csv}
      - name: by_model
        options: {path: "by/{param.model_file}.csv"}
        params:
          - {name: model_file, required: true, description: whose runs}
          - {name: mode, options: [fast, slow], default: fast}
          - {name: tags, multi: true, options: [x, y, z]}
          - {name: free, multi: true}
        columns:
          - {name: time, type: time, role: time}
          - {name: model, type: string, role: dimension}
          - {name: accuracy, type: number, role: measure}
      - name: events
        shape: auto
        options: {path: events.csv}
        columns:
          - {name: time, type: time, role: time}
          - {name: timeEnd, type: time}
          - {name: title, type: string}
          - {name: text, type: string}
          - {name: tags, type: string}
      - name: lines
        shape: logs
        options: {path: lines.csv}
        columns:
          - {name: time, type: time, role: time}
          - {name: message, type: string}
          - {name: level, type: string, role: dimension}
          - {name: host, type: string, role: dimension}
      - name: nodes
        shape: nodes
        options: {path: nodes.csv}
        columns:
          - {name: id, type: string}
          - {name: title, type: string}
          - {name: mainstat, type: number}
      - name: edges
        shape: edges
        options: {path: edges.csv}
        columns:
          - {name: id, type: string}
          - {name: source, type: string}
          - {name: target, type: string}
      - name: choices
        options: {path: choices.csv}
        columns:
          - {name: text, type: string, role: dimension}
          - {name: value, type: string, role: dimension}
      - name: missing
        options: {path: none.csv}
        retries: 0
        columns: [{name: host, type: string, role: dimension}]
"""


@dataclass
class Reply:
    """An answer that was read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class House:
    """A running bridge and a client that speaks to it."""

    folder: Path
    front: Front
    world: World
    app: web.Application
    url: str
    port: int
    session: aiohttp.ClientSession
    clock: Clock = field(default_factory=Clock)

    async def get(self, path: str, params: Any = None, *, method: str = "GET", **more: Any) -> Reply:
        """One request; `path` is sent as it stands, `params` are encoded as Go does, sorted by key."""
        url = URL(self.url + path, encoded=True)
        if params is not None:
            pairs = params.items() if isinstance(params, dict) else params
            url = URL(f"{self.url}{path}?{go_query(pairs)}", encoded=True)
        more.setdefault("allow_redirects", False)
        headers = {"Accept-Encoding": "identity", **more.pop("headers", {})}
        async with self.session.request(method, url, headers=headers, **more) as response:
            return Reply(response.status, response.headers, await response.read())

    async def post(self, path: str, body: Any = None, **more: Any) -> Reply:
        """A POST of JSON, or of exactly these bytes."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **more.pop("headers", {})}
        return await self.get(path, method="POST", data=data, headers=headers, **more)

    async def raw(self, sent: bytes) -> tuple[int, dict[str, str], bytes]:
        """Exactly these bytes on a connection of their own; status, headers and body of the answer."""
        async with asyncio.timeout(HANG_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(sent)
                await writer.drain()
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.strip().split("\r\n")
                headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                return int(first.split(" ")[1]), headers, body
            finally:
                writer.close()


def go_query(pairs: Any) -> str:
    """A query string as Go's `url.Values.Encode` writes it: sorted by key, blanks as `+`."""
    from urllib.parse import urlencode

    return urlencode(sorted(((key, str(value)) for key, value in pairs), key=lambda pair: pair[0]))


def write(folder: Path, files: Mapping[str, str]) -> None:
    """The files into the folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@asynccontextmanager
async def house(
    folder: Path,
    text: str = YAML,
    *,
    files: Mapping[str, str] | None = None,
    world: World | None = None,
    extend: Callable[[web.Application], None] | None = None,
) -> AsyncIterator[House]:
    """A running bridge with these settings; the clock stands still unless a world with another is given."""
    write(folder, FILES if files is None else files)
    (folder / "bridge.yaml").write_text(text, encoding="utf-8")
    clock = Clock()
    world = world or World(clock=clock)
    app = create_app(load_settings(folder / "bridge.yaml", env={}), world)
    if extend is not None:
        extend(app)
    front = Front()
    await front.swap(app)
    host, port = (await front.listen("127.0.0.1", 0))[0]
    try:
        # The largest head that bridge may send, so that a larger one is a failure here.
        async with aiohttp.ClientSession(auto_decompress=False, max_field_size=8190) as session:
            found = clock if world.clock is clock else Clock()
            yield House(folder, front, world, app, f"http://{host}:{port}", port, session, found)
    finally:
        await front.aclose()


# Starts a house from the text of its settings; the fixture `start` is one.
Start = Callable[..., Awaitable[House]]
