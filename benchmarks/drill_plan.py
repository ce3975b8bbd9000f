"""How a life of bridge ends: at random, in its first moments, in the middle of a flush or a merge, or in order."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from drill_bridge import Life

# The name whose first sight says how far a flush or a merge has come.
SIGHTS = {
    "sealed": re.compile(r"sealed-"),
    "data file": re.compile(r"s-\w+\.parquet"),
    "commit": re.compile(r"\d{20}\.json|_commit_|.*\.tmp"),
    "merged file": re.compile(r"c-\w+\.parquet"),
    "checkpoint": re.compile(r".*\.checkpoint\.parquet|_last_checkpoint"),
}
_WEIGHTS = {
    "random": 6.0,
    "start": 4.0,
    "sealed": 3.0,
    "data file": 3.0,
    "commit": 3.0,
    "merged file": 2.0,
    "checkpoint": 1.0,
    "stop": 2.0,
    "term": 1.5,
}
MOST_S = 15.0
LOOK_S = 0.001


@dataclass(frozen=True, slots=True)
class Plan:
    """One end.

    Units: `after_s` seconds after the start, or after the first answer; `lag_s` after what is waited for was seen.
    """

    kind: str
    after_s: float
    lag_s: float = 0.0

    @property
    def early(self) -> bool:
        """Whether it does not wait until bridge answers."""
        return self.kind == "start"


class Planner:
    """Draws plans; the first moments of a start are often hit several times in a row."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._left = 0

    def next(self, *, merges: bool) -> Plan:
        """The next plan; `merges` where some table is about to be merged."""
        dice = self._dice
        if self._left:
            self._left -= 1
            return Plan("start", dice.uniform(0.02, 1.5))
        weights = _WEIGHTS | ({"merged file": 20.0} if merges else {})
        kind = dice.choices(list(weights), list(weights.values()))[0]
        match kind:
            case "start":
                self._left = dice.randrange(4)
                return Plan("start", dice.uniform(0.02, 1.5))
            case "random":
                return Plan(kind, dice.uniform(0.2, MOST_S))
            case "stop" | "term":
                return Plan(kind, dice.uniform(0.5, 6.0), dice.uniform(1.0, 4.0))
            case _:
                # Mostly at once, now and then when the next step may have begun.
                return Plan(kind, dice.uniform(0.0, 3.0), dice.choice((0.0, 0.0, dice.uniform(0.0, 0.02))))


async def carry_out(plan: Plan, life: Life, folders: list[Path], until_s: float) -> str:
    """Waits as planned and ends the process; what hit it."""
    kind = plan.kind
    await asyncio.sleep(max(0.0, min(plan.after_s, until_s - time.monotonic())))
    if plan.kind in SIGHTS and not await _seen(SIGHTS[plan.kind], folders, min(until_s, time.monotonic() + MOST_S)):
        kind = "random"
    if plan.kind == "term":
        await life.terminate()
        return kind
    if plan.kind == "stop":
        life.send(signal.SIGSTOP)
    await asyncio.sleep(plan.lag_s)
    life.kill()
    return kind


async def _seen(pattern: re.Pattern[str], folders: list[Path], until_s: float) -> bool:
    before = set(_names(folders))
    while time.monotonic() < until_s:
        if any(pattern.match(name[1]) for name in _names(folders) if name not in before):
            return True
        await asyncio.sleep(LOOK_S)
    return False


def _names(folders: Iterable[Path]) -> Iterable[tuple[str, str]]:
    for folder in folders:
        try:
            yield from ((str(folder), name) for name in os.listdir(folder))
        except FileNotFoundError:
            continue


def folders_of(history: Path) -> list[Path]:
    """The folders of a dataset's history in which files come and go."""
    return [history, history / "g1", history / "g1" / "_delta_log"]
