"""The page of results: the newest run on top, the last few below it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from measure import Pairs

ROOT = Path(__file__).parents[1]
KEPT_RUNS = 5
HEAD = """\
<!-- Written by `make bench`. -->

# Benchmarks

Every row is measured in one run, turn by turn with its baseline: over loopback, each server in a process of its own
and the client in another, or, where a function is named, in one process. CPU is that of the working process, all
threads. Figures are medians over the rounds; a ratio is the median of the rounds' ratios, bridge divided by baseline:
**below 1 bridge takes less**. Times hold for the machine and its load at that moment only. Where both sides are to
answer the same, the answers are compared first. Values have at most four decimals, as measured ones mostly do.

Against peers (`benchmarks/peers`, each in an environment of its own) all sides get the JSON plug-in's `POST /query`
and hold the points in memory before the first measured request; no range is asked for twice within a measurement, so
no answer can come from a cache of answers. The peers answer with lists of `[value, time]`, or with one object per row
where `records` is said; bridge with Grafana's wire frames, also as `format=frame` of its own API. What each sends is
checked for its number of points, range and values.
"""


@dataclass(frozen=True, slots=True)
class Goal:
    """What was to be reached, and what was."""

    what: str
    wanted: str
    found: str
    met: bool

    def line(self) -> str:
        """The line as Markdown."""
        return f"- {'met' if self.met else '**missed**'}: {self.what}: {self.found}, wanted {self.wanted}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; cells are texts."""

    what: str
    bridge: str
    baseline: str
    ratio: str
    note: str
    goal: Goal | None = None

    def line(self) -> str:
        """The line as Markdown."""
        cells = (self.what, self.bridge, self.baseline, self.ratio, self.note)
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def fewer(what: str, pairs: Pairs, times: float) -> Goal:
    """So many times fewer CPU seconds than the other side."""
    found = 1 / pairs.cpu_ratio()
    return Goal(what, f"{times:g} × fewer CPU seconds", f"{plain(found)} × fewer", found >= times)


def row(what: str, pairs: Pairs, note: str, *, per: int = 1, goal: Goal | None = None) -> Row:
    """A line of CPU and wall time, each for one of `per` equal pieces of the measured work."""
    (cpu, base_cpu), (wall, base_wall) = pairs.cpu_s(), pairs.wall_s()
    return Row(
        what,
        f"{short(cpu / per)} CPU, {short(wall / per)} wall",
        f"{short(base_cpu / per)} CPU, {short(base_wall / per)} wall",
        f"**{plain(pairs.cpu_ratio())}** CPU, {plain(pairs.wall_ratio())} wall",
        f"{note} ({pairs.rounds})",
        goal,
    )


def left_out(what: str, why: str) -> Row:
    """The line of what could not be measured."""
    return Row(what, "–", "–", "–", f"left out: {why}")


def short(seconds: float) -> str:
    """A duration with three digits and a fitting unit."""
    for unit, factor in (("µs", 1e6), ("ms", 1e3)):
        if seconds * factor < 1000:
            return f"{plain(seconds * factor)} {unit}"
    return f"{plain(seconds)} s"


def plain(value: float) -> str:
    """Three digits that count, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def section(rows: list[Row], *, load: float, took_s: float, quick: bool) -> str:
    """One run: where, when and under what load, and its table."""
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = [
        f"## {when}, commit {_commit()}",
        "",
        f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}, Python {platform.python_version()}; "
        f"load average before the run {load:.2f}; the run took {took_s:.0f} s.",
    ]
    if quick:
        lines.append("**Tiny sizes (`--quick`): this shows that the benchmark runs, and nothing about speed.**")
    if load > 1:
        lines.append(
            "**The machine was busy with other work: these figures are only indicative**, ratios less so than times."
        )
    lines += ["", "| what | bridge | baseline | ratio | how the baseline is written |", "|---|---|---|---|---|"]
    lines += [item.line() for item in rows]
    goals = [item.goal for item in rows if item.goal is not None and not quick]
    if goals:
        lines += ["", "What was to be reached:", "", *(goal.line() for goal in goals)]
    return "\n".join(lines) + "\n"


def write(path: Path, newest: str) -> None:
    """The page with this run on top of those it already has."""
    older = re.split(r"(?m)^(?=## )", path.read_text())[1:] if path.exists() else []
    runs = [newest, *older][:KEPT_RUNS]
    path.write_text("\n".join([HEAD, *(run.rstrip("\n") + "\n" for run in runs)]))


def _commit() -> str:
    short_hash = _git("rev-parse", "--short=10", "HEAD")
    if not short_hash:
        return "unknown"
    return f"{short_hash} with uncommitted changes" if _git("status", "--porcelain") else short_hash


def _git(*words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
