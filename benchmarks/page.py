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
KEPT_DRILLS = 10
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


DRILL_TITLE = "# Drills\n"
DRILL_HEAD = f"""{DRILL_TITLE}
Each line is one `make drill`, the newest first: the demo and a source that knows what it said, recorded every second
and flushed every second, while bridge is killed with SIGKILL at random, in its first moments, in the middle of
flushes and merges, or stopped and then killed, and started again. A row is acknowledged when bridge answered with it,
or counted it as recorded, before a kill. In the end all are looked for, through bridge and in the Delta tables and
segments; each version that was ever told must say the same again.

| when | commit | seconds | seed | lives, kills | rows acknowledged, recorded | lost | doubled | never said \
| else wrong | slowest start | most files | memory |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Drilled:
    """What a drill found."""

    seed: int
    took_s: float
    kills: int
    ends: str
    lives: int
    answers: int
    acknowledged: int
    recorded: int
    lost: int
    doubled: int
    foreign: int
    other: int
    slowest_start_s: float
    most_files: int
    memory: str

    def cells(self) -> dict[str, str]:
        """Name and value of each figure."""
        return {
            "seconds": f"{self.took_s:g}",
            "seed": str(self.seed),
            "lives, kills": f"{self.lives}, {self.kills} ({self.ends})",
            "rows acknowledged, recorded": f"{self.acknowledged}, {self.recorded}",
            "lost": str(self.lost),
            "doubled": str(self.doubled),
            "never said": str(self.foreign),
            "else wrong": str(self.other),
            "slowest start": f"{self.slowest_start_s:.1f} s",
            "most files": str(self.most_files),
            "memory": self.memory,
        }

    def table(self) -> str:
        """The figures for a terminal."""
        return "\n".join(f"{name:>28}  {value}" for name, value in self.cells().items())


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
    """The page with this run on top of those it already has, and its drills below."""
    runs, drills = _parts(path)
    _put(path, [newest, *runs][:KEPT_RUNS], drills)


def _parts(path: Path) -> tuple[list[str], str]:
    """The runs of a page, newest first, and all of its drills."""
    runs, mark, drills = (path.read_text() if path.exists() else "").partition(DRILL_TITLE)
    return re.split(r"(?m)^(?=## )", runs)[1:], mark + drills


def _put(path: Path, runs: list[str], drills: str) -> None:
    parts = [HEAD, *(run.rstrip("\n") + "\n" for run in runs), *([drills] if drills else [])]
    path.write_text("\n".join(parts))


def write_drill(path: Path, found: Drilled) -> None:
    """The page with a line for this drill on top of those before."""
    runs, drills = _parts(path)
    older = [line for line in drills.splitlines() if re.match(r"\| \d{4}-", line)]
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    line = f"| {' | '.join((when, _commit(), *found.cells().values()))} |"
    _put(path, runs, DRILL_HEAD + "\n".join([line, *older[: KEPT_DRILLS - 1]]) + "\n")


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
