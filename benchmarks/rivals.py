"""bridge and what a user would else pick, on the same requests: each answers over HTTP from points it holds."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cases import WIDTH, Bench, Sizes, columns_of
from measure import Pairs, Side, Taken, in_turn
from page import Row, fewer, left_out, plain, row
from processes import HERE, START, Client, NotStarted, Server, panel, running

VENVS = HERE.parent / ".venv-peers"
START_MS = int(START.timestamp() * 1000)
# How many requests one turn has: a panel is short, and a load that comes and goes should hit all sides.
PANELS = 5
RAW_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that a user would run instead of bridge, and what it calls the points."""

    name: str
    title: str
    target: str


PANDAS = Peer(
    "grafana_pandas", "grafana-pandas-datasource 0.3.0, pandas 1.5, Flask's own server as documented", "points:a"
)
FASTAPI = Peer("fastapi_pandas", "FastAPI and pandas 3.1, uvicorn with one worker", "a")


@dataclass(frozen=True, slots=True)
class Rivals:
    """The running peers, and why each of the others is not there."""

    bench: Bench
    running: dict[str, Server]
    absent: dict[str, str]

    def side(self, peer: Peer, path: str, times: int, **asked: Any) -> Side | None:
        """Requests to a peer; None where it is not there."""
        server = self.running.get(peer.name)
        return server and _side(
            self.bench.client, server, path, _bodies(self.bench.sizes, peer.target, **asked), times
        )

    def ours(self, times: int, *, rows: int, **payload: Any) -> Side:
        """The same requests to bridge."""
        bodies = _bodies(self.bench.sizes, "points.big", rows=rows, **payload)
        return _side(self.bench.client, self.bench.bridge, "/json/query", bodies, times)

    def row(self, what: str, peer: Peer, pairs: Pairs | None, note: str, times: float | None, per: int = 1) -> Row:
        """A line against one peer."""
        if pairs is None:
            return left_out(f"{what}: {peer.title}", self.absent[peer.name])
        goal = fewer(f"{what}, against {peer.name}", pairs, times) if times else None
        return row(what, pairs, f"{peer.title}: {note}", per=per, goal=goal)


@contextmanager
def started(bench: Bench, folder: Path, venvs: Path = VENVS) -> Iterator[Rivals]:
    """The peers that were built and start; what is missing is named in the table."""
    found, absent = {}, {}
    with ExitStack() as stack:
        for peer in (PANDAS, FASTAPI):
            python, failed = venvs / peer.name / "bin" / "python", venvs / f"{peer.name}.failed"
            if not python.is_file():
                absent[peer.name] = failed.read_text().strip() if failed.is_file() else "not built: `make peers` does"
                continue
            script, points = str(HERE / "peers" / f"{peer.name}.py"), str(folder / "big.npz")
            try:
                found[peer.name] = stack.enter_context(running(folder, script, points, python=str(python)))
            except NotStarted as error:
                print(error, file=sys.stderr)
                absent[peer.name] = "it does not start"
        yield Rivals(bench, found, absent)


async def drawn(rivals: Rivals) -> list[Row]:
    """A panel over all points, which every side holds: never the same range twice."""
    sizes = rivals.bench.sizes
    what = f"{sizes.points:,} points in memory, {WIDTH:,} drawn, no range twice, per request"
    sides = {
        "kept": rivals.ours(PANELS, rows=WIDTH),
        "means": rivals.ours(PANELS, rows=WIDTH, agg="mean"),
        PANDAS.name: rivals.side(PANDAS, "/query", PANELS, rows=WIDTH),
        FASTAPI.name: rivals.side(FASTAPI, "/query", PANELS, rows=WIDTH),
    }
    # A gauge keeps its extremes in bridge unless means are asked for; bins of fixed width may have one more edge.
    sized = await _real(sides, sizes, least=WIDTH * 9 // 10, most=WIDTH + 1)
    taken = await _taken(sides, sizes.rounds, sizes)
    rows = []
    for ours, kind in (("kept", "extremes kept (bridge's default)"), ("means", "means")):
        for peer, times, note in (
            (PANDAS, 10.0, "a slice of the frame, `resample().mean()`, `zip` and `jsonify`"),
            (FASTAPI, 5.0, "a mask, `resample().mean()`, `values.tolist()`, no return type"),
        ):
            told = f"{note}{_bytes(sized, ours, peer.name)}"
            pairs = _pairs(taken, ours, peer.name)
            rows.append(rivals.row(f"{what}: {kind}", peer, pairs, told, times, PANELS))
    return rows


async def raw(rivals: Rivals) -> list[Row]:
    """All points as they are."""
    sizes = rivals.bench.sizes
    count = sizes.points
    sides = {
        "frame": _frames(rivals.bench),
        "panel": rivals.ours(1, rows=count),
        PANDAS.name: rivals.side(PANDAS, "/query", 1, rows=count, interval=False),
        FASTAPI.name: rivals.side(FASTAPI, "/query", 1, rows=count),
        "typed": rivals.side(FASTAPI, "/typed", 1, rows=count),
        "records": rivals.side(FASTAPI, "/records", 1, rows=count),
    }
    sized = await _real(sides, sizes, least=count - 1, most=count)
    taken = await _taken(sides, min(RAW_ROUNDS, sizes.rounds), sizes)
    rows = []
    for ours, theirs, peer, times, note in (
        ("frame", PANDAS.name, PANDAS, 10.0, "`datapoints`, made by `zip` and `jsonify`; no interval sent"),
        ("frame", FASTAPI.name, FASTAPI, 40.0, "`datapoints` by `values.tolist()`, no return type"),
        ("frame", "records", FASTAPI, 40.0, '`to_dict(orient="records")`, no return type'),
        ("frame", "typed", FASTAPI, None, "`datapoints`, with a return type, so that pydantic writes the JSON"),
        ("panel", PANDAS.name, PANDAS, 10.0, "`datapoints`, made by `zip` and `jsonify`; no interval sent"),
        ("panel", FASTAPI.name, FASTAPI, 40.0, "`datapoints` by `values.tolist()`, no return type"),
    ):
        way = "`format=frame`" if ours == "frame" else "the JSON plug-in's query"
        what = f"{count:,} raw points as a frame, {way}"
        what += ", against records" if theirs == "records" else ""
        pairs = _pairs(taken, ours, theirs)
        rows.append(rivals.row(what, peer, pairs, f"{note}{_bytes(sized, ours, theirs)}", times))
    return rows


def _bodies(
    sizes: Sizes, target: str, *, rows: int, interval: bool = True, **payload: Any
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Requests of a panel, each over one second less, and how many points that are."""
    for less in itertools.cycle(range(sizes.points // 100)):
        points = sizes.points - less
        body = panel(target, points=points, rows=rows, **payload) | {
            "intervalMs": max(1, sizes.points // rows) * 1000
        }
        if not interval:
            del body["intervalMs"]
        yield points, body


def _side(
    client: Client, server: Server, path: str, bodies: Iterator[tuple[int, dict[str, Any]]], times: int
) -> Side:
    async def work() -> tuple[int, bytes]:
        points, answer = 0, b""
        for _ in range(times):
            points, body = next(bodies)
            answer = await client.post(f"{server.url}{path}", body)
        return points, answer

    return Side(work, server.cpu)


def _frames(bench: Bench) -> Side:
    lesses = itertools.cycle(range(bench.sizes.points // 100))

    async def work() -> tuple[int, bytes]:
        points = bench.sizes.points - next(lesses)
        span = f"from={START_MS}&to={START_MS + 1000 * points}"
        return points, await bench.client.get(f"{bench.bridge.url}/api/v1/datasets/points.big?format=frame&{span}")

    return Side(work, bench.bridge.cpu)


async def _real(sides: dict[str, Side | None], sizes: Sizes, *, least: int, most: int) -> dict[str, int]:
    """The size of an answer of each side in bytes, once it was seen to hold what was asked for."""
    sized = {}
    for name, side in sides.items():
        if side is None:
            continue
        points, answer = await side.work()  # type: ignore[misc]
        times, values = columns_of(json.loads(answer))
        end_ms = START_MS + 1000 * points
        apart = max(b - a for a, b in itertools.pairwise(times))
        right = (
            least - sizes.points + points <= len(times) <= most
            and START_MS <= times[0] <= START_MS + apart
            and end_ms - 2 * apart <= times[-1] <= end_ms + apart
            and 10 < min(values) < max(values) < 60
        )
        if not right:
            raise SystemExit(f"{name} answers {len(times)} points from {times[0]} to {times[-1]}, asked for {points}")
        sized[name] = len(answer)
    return sized


async def _taken(sides: dict[str, Side | None], rounds: int, sizes: Sizes) -> dict[str, list[Taken]]:
    present = {name: side for name, side in sides.items() if side is not None}
    taken = await in_turn(list(present.values()), rounds=rounds, budget_s=6 * sizes.budget_s)
    return dict(zip(present, taken, strict=True))


def _pairs(taken: dict[str, list[Taken]], ours: str, theirs: str) -> Pairs | None:
    return Pairs(taken[ours], taken[theirs]) if theirs in taken else None


def _bytes(sized: dict[str, int], ours: str, theirs: str) -> str:
    if theirs not in sized:
        return ""
    return f"; answers of {plain(sized[ours] / 1e3)} and {plain(sized[theirs] / 1e3)} kB"


AGAINST_PEERS = (drawn, raw)
