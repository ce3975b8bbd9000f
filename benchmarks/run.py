"""`make bench`: bridge and plain baselines, turn by turn in one run, into RESULTS.md.

`--quick` runs everything at tiny sizes. `--profile small|panel|raw` measures nothing: it prints where bridge's own
process spends its time on that request.
"""

from __future__ import annotations

import argparse
import asyncio
import compileall
import pstats
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from cases import OVER_HTTP, TINY, WIDTH, Bench, Sizes, start
from checked import checked
from holding import memory
from library import IN_PROCESS
from measure import load
from page import Row, section, write
from processes import BRIDGE, HERE, Client, new_session, panel, running, write_points, write_settings
from recorded import long_past, sampled
from rivals import AGAINST_PEERS, VENVS, started
from steps import steps

PROFILED = {"small": ("points.small", WIDTH, 2 * WIDTH, 3000), "panel": ("points.big", 0, WIDTH, 60)}
PROFILED["raw"] = ("points.big", 0, 0, 5)


async def measured(folder: Path, sizes: Sizes, venvs: Path) -> list[Row]:
    """All rows of the table."""
    rows: list[Row] = []
    write_points(folder, sizes.points)
    with ExitStack() as stack:
        container = stack.enter_context(running(folder, str(HERE / "container.py")))
        settings = write_settings(folder, container.url)
        points = str(folder / "big.parquet")
        plain = stack.enter_context(running(folder, str(HERE / "baseline.py"), points, container.url))
        bridge = stack.enter_context(running(folder, *BRIDGE, str(settings)))
        async with new_session() as session:
            bench = Bench(Client(session), bridge, plain, container, sizes)
            for case in OVER_HTTP:
                _said(rows, await case(bench))
            with started(bench, folder, venvs) as rivals:
                for against in AGAINST_PEERS:
                    _said(rows, await against(rivals))
    for inside in (*IN_PROCESS, steps):
        _said(rows, await inside(sizes))
    with running(folder, str(HERE / "container.py")) as container:
        _said(rows, await start(folder, container, sizes))
        _said(rows, await memory(folder, container, sizes))
        for apart in (checked, long_past, sampled):
            _said(rows, await apart(folder, container, sizes))
    return rows


def compiled() -> None:
    """Bytecode for all that is ours: an installer does so for the rest, and no start shall pay for it."""
    for folder in (HERE, HERE.parent / "src"):
        compileall.compile_dir(folder, quiet=2)


def _said(rows: list[Row], new: list[Row]) -> None:
    rows += new
    for item in new:
        print(f"{item.what}: {item.bridge} | {item.baseline} | {item.ratio.replace('*', '')}", flush=True)


async def profile(folder: Path, name: str, sizes: Sizes) -> None:
    """Where the time goes in bridge's process while it answers one kind of request."""
    target, points, rows, count = PROFILED[name]
    write_points(folder, sizes.points)
    out = folder / "bridge.pstats"
    body = panel(target, points=points or sizes.points, rows=rows or None)
    with running(folder, str(HERE / "container.py")) as container:
        settings = write_settings(folder, container.url)
        with running(folder, str(HERE / "profiled.py"), str(out), *BRIDGE[2:], str(settings)) as bridge:
            async with new_session() as session:
                await Client(session).many(f"{bridge.url}/json/query", body, count, 1)
    stats = pstats.Stats(str(out))
    print(f"{count} requests")
    stats.sort_stats("tottime").print_stats(35)
    stats.sort_stats("cumulative").print_stats("bridge/|aiohttp/web_", 45)


def main() -> None:
    """Reads the command line and runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, nothing about speed")
    parser.add_argument("--out", type=Path, default=HERE / "RESULTS.md", help="the page to write")
    parser.add_argument("--peers", type=Path, default=VENVS, help="where the peers' environments are")
    parser.add_argument("--profile", choices=sorted(PROFILED), help="print a profile instead of measuring")
    asked = parser.parse_args()
    if not sys.platform.startswith("linux"):
        raise SystemExit("the benchmark reads the CPU clocks of other processes, which it can on Linux only")
    compiled()
    sizes, began_s, before = TINY if asked.quick else Sizes(), time.perf_counter(), load()
    with tempfile.TemporaryDirectory() as name:
        if asked.profile:
            asyncio.run(profile(Path(name), asked.profile, sizes))
            return
        rows = asyncio.run(measured(Path(name), sizes, asked.peers))
    write(asked.out, section(rows, load=before, took_s=time.perf_counter() - began_s, quick=asked.quick))
    print(f"written: {asked.out}")


if __name__ == "__main__":
    main()
