"""What quality checks add to a panel whose rows are fetched for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import yaml
from cases import WIDTH, Sizes
from container import MODELS
from measure import Side, alternate
from page import Goal, Row, plain, row
from processes import BRIDGE, START, Client, Server, new_session, panel, running

MOST_ADDED_RATIO = 0.1
CHECKS: list[dict[str, Any]] = [
    {"complete": {"columns": ["time", "value", "model"]}},
    {"gaps": 60},
    {"rows": {"min": 1, "max": 10_000_000}},
    {"range": {"column": "value", "min": 0, "max": 1000}},
    {"one_of": {"column": "model", "values": list(MODELS)}},
    {"unique": ["time", "model"]},
    {"ordered": {}},
    {"rule": "value >= 0 or model == 'none'"},
]
_COLUMNS = [
    {"name": "time", "type": "time", "role": "time"},
    {"name": "value", "type": "number", "role": "measure"},
    {"name": "model", "type": "string", "role": "dimension"},
]
SOURCES = {"rest": "`rest`, JSON", "csv": "`files`, CSV", "parquet": "`files`, Parquet"}


async def checked(folder: Path, container: Server, sizes: Sizes) -> list[Row]:
    """The same dataset with and without eight checks, fetched anew and drawn, over HTTP."""
    rows = []
    with running(folder, *BRIDGE, str(_settings(folder, container.url, sizes.table_rows))) as bridge:
        async with new_session() as session:
            client = Client(session)
            for name, title in SOURCES.items():
                rows.append(await _pair(bridge, client, name, title, sizes))
    return rows


async def _pair(bridge: Server, client: Client, name: str, title: str, sizes: Sizes) -> Row:
    async def forget(dataset: str) -> None:
        await client.delete(f"{bridge.url}/api/v1/cache?pattern={dataset}")

    def side(dataset: str) -> Side:
        body = panel(dataset, points=sizes.table_rows, rows=WIDTH)
        ask = lambda: client.post(f"{bridge.url}/json/query", body)  # noqa: E731
        return Side(ask, bridge.cpu, lambda: forget(dataset))

    with_checks, without = f"{name}_checked.runs", f"{name}_plain.runs"
    pairs = await alternate(side(with_checks), side(without), rounds=2 * sizes.rounds, budget_s=sizes.budget_s / 2)
    await _made(bridge, client, with_checks)
    what = f"Panel of {sizes.table_rows:,} rows, fetched anew ({title}), with {len(CHECKS)} checks"
    added = pairs.cpu_ratio() - 1
    goal = Goal(
        f"what {len(CHECKS)} checks add to a panel of {sizes.table_rows:,} rows ({title})",
        f"below {MOST_ADDED_RATIO:.0%} CPU",
        f"{plain(100 * added)} %",
        added < MOST_ADDED_RATIO,
    )
    return row(what, pairs, "the same dataset without checks, in the same bridge", goal=goal)


async def _made(bridge: Server, client: Client, dataset: str) -> None:
    """Each check measured something, or the comparison would say nothing."""
    said = (await client.get(f"{bridge.url}/metrics")).decode()
    made = sum("bridge_check_value{" in line and f'dataset="{dataset}"' in line for line in said.splitlines())
    if made < len(CHECKS):
        raise SystemExit(f"only {made} numbers were measured by the {len(CHECKS)} checks of {dataset}")


def _settings(folder: Path, container: str, rows: int) -> Path:
    start_ms = int(START.timestamp() * 1000)
    table = pl.select(pl.int_range(rows).alias("n")).select(
        (pl.col("n") * 1000 + start_ms).cast(pl.Datetime("ms", "UTC")).alias("time"),
        (pl.col("n") % 997 / 8).alias("value"),
        pl.lit(pl.Series(MODELS)).gather(pl.col("n") % len(MODELS)).alias("model"),
    )
    table.write_parquet(folder / "runs.parquet")
    table.write_csv(folder / "runs.csv")
    sources = []
    for name in SOURCES:
        for suffix, checks in (("checked", CHECKS), ("plain", [])):
            options = (
                {"path": f"/runs/{name}", "params": {"rows": str(rows)}}
                if name == "rest"
                else {"path": f"runs.{name}"}
            )
            dataset = {"name": "runs", "refresh_s": 3600, "options": options, "columns": _COLUMNS, "checks": checks}
            source: dict[str, Any] = {"name": f"{name}_{suffix}", "kind": "files", "datasets": [dataset]}
            if name == "rest":
                source |= {"kind": "rest", "options": {"url": container, "allow_private": True}}
            sources.append(source)
    path = folder / "checked.yaml"
    path.write_text(yaml.safe_dump({"sources": sources}))
    return path
