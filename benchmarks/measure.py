"""Two ways of doing one thing, measured turn by turn in the same run."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

Work = Callable[[], Awaitable[object]]
CpuClock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Taken:
    """What one piece of work took.

    Units: seconds; `cpu_s` of all threads of the measured process.
    """

    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Side:
    """One of two competitors: what it does, and whose CPU time counts."""

    work: Work
    cpu: CpuClock
    # Not measured: puts things where they were before the work.
    before: Work | None = None


@dataclass(slots=True)
class Pairs:
    """Rounds in which both sides did the same, side by side."""

    ours: list[Taken] = field(default_factory=list)
    theirs: list[Taken] = field(default_factory=list)

    @property
    def rounds(self) -> str:
        """How many there were, in words."""
        return "1 round" if len(self.ours) == 1 else f"{len(self.ours)} rounds"

    def cpu_s(self) -> tuple[float, float]:
        """The median CPU seconds of either side."""
        return _median([t.cpu_s for t in self.ours]), _median([t.cpu_s for t in self.theirs])

    def wall_s(self) -> tuple[float, float]:
        """The median wall seconds of either side."""
        return _median([t.wall_s for t in self.ours]), _median([t.wall_s for t in self.theirs])

    def cpu_ratio(self) -> float:
        """The median of the rounds' own ratios, as a load that comes and goes hits both sides of a round."""
        return _median([a.cpu_s / b.cpu_s for a, b in zip(self.ours, self.theirs, strict=True) if b.cpu_s])

    def wall_ratio(self) -> float:
        """As `cpu_ratio`, by the clock on the wall."""
        return _median([a.wall_s / b.wall_s for a, b in zip(self.ours, self.theirs, strict=True) if b.wall_s])


def cpu_of(pid: int) -> CpuClock:
    """The CPU clock of another process and its children, ended threads included, with the resolution of our own.

    Source: clock_getcpuclockid(3): the id of a process's clock is its inverted pid, shifted, and CPUCLOCK_SCHED.
    """

    def now_s() -> float:
        return sum(time.clock_gettime((~one << 3) | 2) for one in _family(pid))

    return now_s


def _family(pid: int) -> list[int]:
    """The process and all that descend from it. No measured server ends a child while it answers."""
    lists = [task.read_text().split() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    return [pid, *(one for child in (int(word) for words in lists for word in words) for one in _family(child))]


async def alternate(ours: Side, theirs: Side, *, rounds: int, budget_s: float) -> Pairs:
    """Rounds of both, each side first in every other one; no new round begins once the budget is spent."""
    return Pairs(*await in_turn([ours, theirs], rounds=rounds, budget_s=budget_s))


async def in_turn(sides: list[Side], *, rounds: int, budget_s: float) -> list[list[Taken]]:
    """Rounds of several sides, each beginning with another one; what each side took, round by round."""
    for side in sides:
        await _take(side)  # the first time builds connections and warms caches
    found: list[list[Taken]] = [[] for _ in sides]
    began_s = time.perf_counter()
    for number in range(rounds):
        if number and time.perf_counter() - began_s > budget_s:
            break
        for place in range(len(sides)):
            which = (place + number) % len(sides)
            found[which].append(await _take(sides[which]))
    return found


async def _take(side: Side) -> Taken:
    if side.before is not None:
        await side.before()
    wall_s, cpu_s = time.perf_counter(), side.cpu()
    await side.work()
    return Taken(time.perf_counter() - wall_s, side.cpu() - cpu_s)


def here(work: Callable[[], object], *, times: int = 1) -> Side:
    """A side that is a function of this process."""

    async def run() -> None:
        for _ in range(times):
            work()

    return Side(run, time.process_time)


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else float("nan")


def load() -> float:
    """Processes that wanted a core in the last minute, on average."""
    return os.getloadavg()[0]
