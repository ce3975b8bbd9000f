"""What it costs to record, and to read a long past."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml
from cases import WIDTH, Sizes
from container import MODELS
from measure import Side, alternate, here
from page import Goal, Row, row, short
from processes import BRIDGE, Client, Server, new_session, panel, running

from bridge.edge.lake import Lake
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.sources.history import stored
from bridge.sources.history.schema_file import SchemaFile, folder_of

EVERY_S = 5
# Of a value each second, so many: every sample brings some that are new, and most that are not.
LIVE_ROWS = 60
MOST_CPU_RATIO = 0.05
MOST_ADDED_MB = 50
SETTLED_S = 10.0
DAYS = 30
FILES = 30
SERIES = 20
MOST_PANEL_S = 0.15
_COLUMNS = [{"name": "time", "type": "time", "role": "time"}, {"name": "value", "type": "number", "role": "measure"}]
_MODEL = {"name": "model", "type": "string", "role": "dimension"}


@dataclass(frozen=True, slots=True)
class Held:
    """What a process held and had used at one moment.

    Units: seconds and MB.
    """

    cpu_s: float
    rss_mb: float
    own_mb: float


async def sampled(folder: Path, container: Server, sizes: Sizes) -> list[Row]:
    """Two services beside each other: one polls its datasets, one records them at the same pace."""
    histories, polls = (_many(folder, container.url, sizes, kind) for kind in ("history", "poll"))
    with running(folder, *BRIDGE, str(histories)) as recording, running(folder, *BRIDGE, str(polls)) as polling:
        servers = (recording, polling)
        await asyncio.sleep(min(SETTLED_S, sizes.recording_s))
        before = [_held(server) for server in servers]
        await asyncio.sleep(sizes.recording_s)
        after = [_held(server) for server in servers]
        rows = await _recorded_rows(recording)
    shares = [(b.cpu_s - a.cpu_s) / sizes.recording_s for a, b in zip(before, after, strict=True)]
    added, own_mb = shares[0] - shares[1], after[0].own_mb - after[1].own_mb
    what = f"{sizes.sources[-1]} datasets recorded every {EVERY_S} s for {sizes.recording_s:g} s ({rows:,} rows)"
    note = "the same datasets polled at that pace, at the same time; the share is of one core (once)"
    rss_mb = after[0].rss_mb - after[1].rss_mb
    return [
        Row(
            f"{what}: CPU",
            f"{shares[0]:.1%}",
            f"{shares[1]:.1%}",
            f"{added:.1%} more",
            note,
            Goal(f"{what}: CPU", f"below {MOST_CPU_RATIO:.0%} more", f"{added:.1%} more", added < MOST_CPU_RATIO),
        ),
        Row(
            f"{what}: memory of its own, and RSS",
            f"{after[0].own_mb:.0f} MB, RSS {after[0].rss_mb:.0f} MB",
            f"{after[1].own_mb:.0f} MB, RSS {after[1].rss_mb:.0f} MB",
            f"{own_mb:.0f} MB more, RSS {rss_mb:.0f} MB",
            f"{note}; RSS counts the pages of `deltalake`'s code as well, which the kernel may drop",
            Goal(
                f"{what}: memory of its own",
                f"below {MOST_ADDED_MB} MB more",
                f"{own_mb:.0f} MB more",
                own_mb < MOST_ADDED_MB,
            ),
        ),
    ]


def _held(server: Server) -> Held:
    status = Path(f"/proc/{server.pid}/status").read_text()
    own = re.search(r"RssAnon:\s+(\d+) kB", status)
    return Held(server.cpu(), server.rss_bytes() / 1e6, int(own[1]) / 1e3 if own else 0.0)


async def _recorded_rows(server: Server) -> int:
    """How many rows were recorded; none at all would make the comparison a lie."""
    async with new_session() as session:
        said = (await Client(session).get(f"{server.url}/metrics")).decode()
    rows = int(sum(float(n) for n in re.findall(r"^bridge_history_rows_total\{.+\} (\S+)$", said, re.M)))
    if not rows:
        raise SystemExit("nothing was recorded")
    return rows


def _many(folder: Path, container: str, sizes: Sizes, kind: str) -> Path:
    sources = []
    for number in range(sizes.sources[-1]):
        name = f"live{number:02}"
        dataset: dict[str, Any] = {"name": "rows", "refresh_s": 1, "columns": _COLUMNS}
        dataset["options"] = {"path": f"/live/{name}", "params": {"rows": str(LIVE_ROWS)}}
        dataset |= {kind: {"every_s": EVERY_S}}
        options = {"url": container, "allow_private": True}
        sources.append({"name": name, "kind": "rest", "options": options, "datasets": [dataset]})
    path = folder / f"{kind}.yaml"
    path.write_text(yaml.safe_dump({"sources": sources, "data_dir": str(folder / f"{kind}-data")}))
    return path


async def long_past(folder: Path, container: Server, sizes: Sizes) -> list[Row]:
    """Panels over a month of one line and of twenty, and over its last day."""
    end = datetime.now(UTC).replace(microsecond=0)
    data_dir = folder / "past-data"
    names = {1: "one", SERIES: "twenty"}
    for lines, name in names.items():
        await asyncio.to_thread(_write, data_dir, f"past.{name}", sizes.past_rows, lines, end)
    with running(folder, *BRIDGE, str(_past_settings(folder, container.url, data_dir, names))) as bridge:
        async with new_session() as session:
            client = Client(session)
            return [
                await _panel(bridge, client, data_dir, Asked(name, lines, days, end, agg), sizes)
                for lines, name in names.items()
                for days, agg in ((DAYS, None), (DAYS, "mean"), (1, None))
            ]


@dataclass(frozen=True, slots=True)
class Asked:
    """One kind of panel: which history, how many lines it has, over how many days until when, joined how."""

    name: str
    lines: int
    days: int
    end: datetime
    agg: str | None

    @property
    def said(self) -> str:
        """What is drawn, in words."""
        span = f"{self.days} days" if self.days > 1 else "its last day"
        of = "1 series" if self.lines == 1 else f"{self.lines} series"
        return f"{span}, {of}, {WIDTH:,} points each: {'means' if self.agg else 'extremes kept'}"


async def _panel(bridge: Server, client: Client, data_dir: Path, asked: Asked, sizes: Sizes) -> Row:
    start, target = asked.end - timedelta(days=asked.days), f"past.{asked.name}"
    span = {"from": start.isoformat(), "to": asked.end.isoformat()}
    payload = {"agg": asked.agg} if asked.agg else {}
    body = panel(target, points=1, rows=WIDTH, **payload) | {"range": {**span, "raw": span}}
    ask = Side(lambda: client.post(f"{bridge.url}/json/query", body), bridge.cpu)
    plain_polars = here(lambda: _by_hand(folder_of(data_dir, target) / "g1", start, asked.end))
    pairs = await alternate(ask, plain_polars, rounds=sizes.rounds, budget_s=sizes.budget_s)
    drawn = await _drawn(client, bridge, body, asked.lines)
    what = f"Panel of a past of {sizes.past_rows:,} rows in {DAYS} days: {asked.said}"
    own, _ = pairs.cpu_s()
    goal = Goal(what, f"below {short(MOST_PANEL_S)} CPU", f"{short(own)} CPU", own < MOST_PANEL_S)
    note = f"`pl.scan_delta` on the same table, means of {WIDTH:,} buckets for each series, nothing answered"
    return row(what, pairs, f"{note}; {drawn:,} points drawn", goal=None if asked.agg else goal)


async def _drawn(client: Client, bridge: Server, body: dict[str, Any], lines: int) -> int:
    """How many points the answer has, all series together; far from what was asked for it is none."""
    found = json.loads(await client.post(f"{bridge.url}/json/query", body))
    points = sum(len(frame["data"]["values"][0]) for frame in found)
    if len(found) != lines or not 0.5 * WIDTH * lines <= points <= 1.1 * WIDTH * lines:
        raise SystemExit(f"a panel of {lines} series was answered with {len(found)}, {points} points in all")
    return points


def _by_hand(table: Path, start: datetime, end: datetime) -> pl.DataFrame:
    width = (end - start) / WIDTH
    bucket = ((pl.col("time") - start).dt.total_microseconds() // int(width.total_seconds() * 1e6)).alias("bucket")
    inside = pl.scan_delta(str(table)).filter(pl.col("time") >= start, pl.col("time") < end)
    return inside.group_by("model", bucket).agg(pl.col("value").mean()).collect(engine="streaming")


def _schema() -> Schema:
    return Schema(
        (
            Column("time", ColumnType.TIME, role=Role.TIME),
            Column("value", ColumnType.NUMBER, role=Role.MEASURE),
            Column("model", ColumnType.STRING, role=Role.DIMENSION),
        )
    )


def _write(data_dir: Path, name: str, rows: int, lines: int, end: datetime) -> None:
    """A history as merges leave it: sorted files of a day each, with their outlines."""
    folder, schema = folder_of(data_dir, name), _schema()
    folder.mkdir(parents=True)
    start = end - timedelta(days=DAYS)
    SchemaFile(folder).begin(schema, {"time": "time", "value": "number", "model": "string"}, start)
    lake, files = Lake(folder / "g1"), []
    for number in range(FILES):
        data = _some(rows // FILES, number, lines, start)
        if not number:
            lake.create(data)
        file = stored.write(lake.folder, data, "time", prefix="c")
        whole = stored.DataFile(1, file, lake.folder, "time")
        stored.outlined(whole, data, schema, folder / "g1-outlines")
        files.append(file)
    lake.commit(files, last_seq=FILES - 1)


def _some(rows: int, number: int, lines: int, start: datetime) -> pl.DataFrame:
    """One day of the past: waves with noise, each line a little higher than the one before."""
    dice = np.random.default_rng(number)
    at = np.arange(rows)
    step_us = 86_400_000_000 * DAYS // FILES * lines // rows
    line = at % lines
    values = np.round(line + 5 * np.sin((at + rows * number) / 9_000) + dice.normal(0, 0.3, rows), 3)
    first_us = int((start + timedelta(days=number * DAYS / FILES)).timestamp() * 1e6)
    data = pl.DataFrame({"n": at, "value": values, "line": line})
    names = MODELS if lines <= len(MODELS) else [f"m{n:02}" for n in range(lines)]
    return stored.marked(
        data.select(
            (pl.col("n") // lines * step_us + first_us).cast(pl.Datetime("us", "UTC")).alias("time"),
            "value",
            pl.lit(pl.Series(names)).gather(pl.col("line")).alias("model"),
            pl.lit(0, pl.Int32).alias(stored.REV),
        ),
        first_us,
        number,
    )


def _past_settings(folder: Path, container: str, data_dir: Path, names: dict[int, str]) -> Path:
    datasets = [
        {
            "name": name,
            "options": {"path": f"/live/{name}", "params": {"rows": "1"}},
            "columns": [*_COLUMNS, _MODEL],
            "refresh_s": 3600,
            "history": {"keep": "90d", "every_s": 3600},
        }
        for name in names.values()
    ]
    source = {
        "name": "past",
        "kind": "rest",
        "options": {"url": container, "allow_private": True},
        "datasets": datasets,
    }
    path = folder / "past.yaml"
    path.write_text(yaml.safe_dump({"sources": [source], "data_dir": str(data_dir)}))
    return path
