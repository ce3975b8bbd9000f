"""`make drill`: the demo under random kill -9, from which every acknowledged sample must come back exactly once.

A far side that never dies serves rows; `bridge serve` records them and is killed, at random moments and in the middle
of its flushes and merges, and started again. What it told before a death is compared with what it has in the end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from deltalake import DeltaTable
from drill_bridge import NOW, WATCHED, Answer, Asker, Died, Life, Refused, Watched, write_settings
from drill_end import judged
from drill_far import Far, serving
from drill_judge import Row, Verdict
from drill_ledger import Ledger
from drill_plan import Planner, carry_out, folders_of
from page import Drilled, write_drill

from bridge.cli.demo import container, examples

MOST_START_S = 10.0
# A life is weighed when it is so old, so that all have done about the same.
WEIGHED_AT_S = 3.0
GROWTH_RATIO = 1.3
MERGES_FROM = 36
READ_PAUSE_S = 0.15
FOLLOW_PAUSE_S = 0.05
FOLLOWED = tuple(watched for watched in WATCHED if watched.name in ("drill.load", "drill.state"))
SETTLES_WITHIN_S = 40.0
GONE = (aiohttp.ClientError, OSError, TimeoutError)
# bridge says so while it ends in order.
ENDING = 503


@dataclass(slots=True)
class Course:
    """How a drill goes.

    Units: seconds and bytes; `most_files` live files of one table.
    """

    until_s: float
    ends: Counter[str] = field(default_factory=Counter)
    starts_s: list[float] = field(default_factory=list)
    weights_bytes: list[int] = field(default_factory=list)
    most_files: int = 0
    lives: int = 0
    verdict: Verdict = field(default_factory=Verdict)

    def wrong(self, text: str) -> None:
        """Something that must not be."""
        self.verdict.other.append(text.splitlines()[0])
        self.verdict.told.append(text)

    @property
    def kills(self) -> int:
        """Lives that did not end in order."""
        return self.ends.total() - self.ends["term"]

    def growth(self) -> tuple[float, float]:
        """Memory of the first and of the last third of the lives, in MB."""
        third = max(1, len(self.weights_bytes) // 3)
        first, last = self.weights_bytes[:third] or [0], self.weights_bytes[-third:] or [0]
        return statistics.median(first) / 1e6, statistics.median(last) / 1e6


class Drill:
    """One drill."""

    def __init__(self, folder: Path, settings: Path, seconds: float, seed: int) -> None:
        self.folder, self.settings = folder, settings
        self.history = folder / "state" / "history"
        self.ledger = Ledger()
        self.course = Course(time.monotonic() + seconds)
        self._planner = Planner(random.Random(seed))
        self._dice = random.Random(seed + 1)
        self.life: Life | None = None
        self.final: dict[str, Answer] = {}

    def start(self) -> Life:
        """The next life."""
        self.course.lives += 1
        for old in sorted(self.folder.glob("life-*.log"))[:-20]:
            old.unlink()
        self.life = Life(self.settings, self.folder / f"life-{self.course.lives:04}.log")
        return self.life

    def stop(self) -> None:
        """No process is left behind, a stopped one neither."""
        if self.life is not None:
            self.life.kill()

    async def run(self) -> None:
        """Life after life until the time is over."""
        while time.monotonic() < self.course.until_s:
            self._progress()
            await self._one()
        self._progress()

    async def _one(self) -> None:
        plan = self._planner.next(merges=self._nearly_merged())
        life = self.start()
        folders = [item for watched in WATCHED for item in folders_of(self.history / watched.name)]
        readers: list[asyncio.Task[None]] = []
        try:
            if not plan.early:
                await life.listens()
                works = (self._read(life), self._follow(life), self._weigh(life))
                readers = [asyncio.create_task(work) for work in works]
                await self._first_answer(life)
            end = await carry_out(plan, life, folders, self.course.until_s)
            self.course.ends[end] += 1
        except (Died, Refused) as error:
            self.course.wrong(f"life {self.course.lives} ({plan.kind}): {error}")
            self.course.ends["by itself"] += 1
        finally:
            life.kill()
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            self.ledger.died()
            self._look_at(life)

    async def _first_answer(self, life: Life) -> None:
        """From the start of the process to what it says of the past."""
        async with aiohttp.ClientSession() as session:
            await self._ask(Asker(session, life.url), WATCHED[0])
        took_s = time.monotonic() - life.began_s
        self.course.starts_s.append(took_s)
        if took_s > MOST_START_S:
            self.course.wrong(f"life {self.course.lives} took {took_s:.1f} s to answer")

    async def _read(self, life: Life) -> None:
        """Asks for one thing after another, new and old, until the process is gone."""

        async def work(asker: Asker) -> None:
            await self._ask(asker, self._dice.choice(WATCHED))
            self.ledger.count(await asker.counted())
            await asyncio.sleep(READ_PAUSE_S)

        await self._until_gone(life, work)

    async def _follow(self, life: Life) -> None:
        """Hears of the newest samples as soon as they are told: those that a flush may be moving when it is killed.

        They are of what no far side would say again.
        """

        async def work(asker: Asker) -> None:
            for watched in FOLLOWED:
                if answer := await asker.recorded(watched.name):
                    self.ledger.take(watched, answer, f"life {self.course.lives}")
            await asyncio.sleep(FOLLOW_PAUSE_S)

        await self._until_gone(life, work)

    async def _until_gone(self, life: Life, work: Callable[[Asker], Awaitable[None]]) -> None:
        async with aiohttp.ClientSession() as session:
            asker = Asker(session, life.url)
            try:
                while True:
                    await work(asker)
            except GONE:
                return  # killed while it answered: nothing was acknowledged
            except Refused as error:
                if error.status != ENDING:
                    self.course.wrong(f"life {self.course.lives}: {error}")

    async def _ask(self, asker: Asker, watched: Watched) -> None:
        when = f"life {self.course.lives}"
        if answer := await asker.recorded(watched.name):
            self.ledger.take(watched, answer, when)
        known = list(self.ledger.versions[watched.name])
        if known:
            version = self._dice.choice(known)
            if again := await asker.recorded(watched.name, f"v{version}"):
                self.ledger.repeated(watched, version, again, when)

    async def _weigh(self, life: Life) -> None:
        await asyncio.sleep(WEIGHED_AT_S)
        with contextlib.suppress(OSError):
            self.course.weights_bytes.append(life.private_bytes())

    def _nearly_merged(self) -> bool:
        """Whether some table has nearly so many small files that they are merged."""
        most = 0
        for watched in WATCHED:
            table = self.history / watched.name / "g1"
            if (table / "_delta_log").is_dir():
                with contextlib.suppress(Exception):  # killed while it was made, it is no table yet
                    files = DeltaTable(table).file_uris()
                    self.course.most_files = max(self.course.most_files, len(files))
                    most = max(most, sum("/s-" in uri for uri in files))
        return most >= MERGES_FROM

    def _look_at(self, life: Life) -> None:
        said = life.log
        if "Traceback" in said or "inside bridge" in said:
            self.course.wrong(f"life {self.course.lives} says:\n{said[-3000:]}")

    def _progress(self) -> None:
        course, ledger = self.course, self.ledger
        left_s = max(0.0, course.until_s - time.monotonic())
        wrong = len(course.verdict.told) + len(ledger.verdict.told)
        text = (
            f"{left_s:4.0f} s left, {course.lives} lives, {course.kills} kills, {ledger.answers} answers, "
            f"{ledger.acknowledged} rows acknowledged, {wrong} wrong"
        )
        print(f"\r{text}" if sys.stdout.isatty() else text, end="" if sys.stdout.isatty() else "\n", flush=True)

    async def settle(self, far: Far) -> None:
        """Lets the far side rest until all it said is recorded, kills once more, and asks for the last time."""
        far.frozen = True
        await self._living(self._recorded)
        await self._living(self._all)

    async def _living(self, work: Callable[[Asker], Awaitable[None]]) -> None:
        """One more life, for this work alone."""
        life = self.start()
        try:
            await life.listens()
            async with aiohttp.ClientSession() as session:
                await work(Asker(session, life.url))
        finally:
            life.kill()
            self.ledger.died()
            self._look_at(life)

    async def _recorded(self, asker: Asker) -> None:
        until_s = time.monotonic() + SETTLES_WITHIN_S
        while time.monotonic() < until_s:
            told = await asker.counted()
            self.ledger.count(told)
            if all(told.get((watched.name, "ok"), 0) >= 2 for watched in WATCHED):
                return
            await asyncio.sleep(0.2)
        self.course.wrong("not every dataset was sampled at the end")

    async def _all(self, asker: Asker) -> None:
        """What every dataset and every version that was ever told says now."""
        for watched in WATCHED:
            for version in sorted(self.ledger.versions[watched.name]):
                if again := await asker.recorded(watched.name, f"v{version}"):
                    self.ledger.repeated(watched, version, again, "at the end")
            if answer := await asker.recorded(watched.name, NOW):
                self.ledger.take(watched, answer, "at the end")
                self.final[watched.name] = answer
        self.ledger.count(await asker.counted())

    async def known_to(self, container: str) -> dict[str, set[Row]]:
        """What the research container said in all that time; it forgets nothing so soon."""
        async with aiohttp.ClientSession() as session:
            return {
                "digits.runs": {(item["id"],) for item in await everything(session, f"{container}/runs")},
                "digits.events": {(item["id"],) for item in await everything(session, f"{container}/events")},
            }


async def everything(session: aiohttp.ClientSession, url: str) -> list[dict[str, Any]]:
    """All items of all pages."""
    items, cursor = [], None
    while True:
        params = {"limit": "200", **({"cursor": cursor} if cursor else {})}
        async with session.get(url, params=params) as response:
            page = await response.json()
        items += page["items"]
        cursor = page["next"]
        if not cursor:
            return items


async def drilled(folder: Path, seconds: float, seed: int) -> tuple[Drill, Verdict]:
    """A whole drill."""
    far = Far(seed)
    words = ("--grid", "small", "--pause-s", "1", "--max-runs", "100000")
    with container(examples() / "research_container", *words) as trainer:
        async with serving(far) as url:
            drill = Drill(folder, write_settings(folder, trainer, url), seconds, seed)
            try:
                await drill.run()
                await drill.settle(far)
                known = await drill.known_to(trainer)
            finally:
                drill.stop()
    return drill, judged(drill.history, drill.ledger, drill.final, far, known)


def told(drill: Drill, verdict: Verdict, seconds: float, seed: int) -> Drilled:
    """The figures of a drill; adds what is wrong of its course to the verdict."""
    course = drill.course
    first_mb, last_mb = course.growth()
    if len(course.weights_bytes) >= 9 and last_mb > first_mb * GROWTH_RATIO:
        course.wrong(f"memory grew from {first_mb:.0f} to {last_mb:.0f} MB over the lives")
    verdict.add(course.verdict)
    early = drill.ledger.verdict
    # What was missing in an answer before is mostly missing in the end as well: the same rows.
    early.lost, early.doubled = max(0, early.lost - verdict.lost), max(0, early.doubled - verdict.doubled)
    verdict.add(early)
    return Drilled(
        seed=seed,
        took_s=seconds,
        kills=course.kills,
        ends=", ".join(f"{kind} {count}" for kind, count in course.ends.most_common()),
        lives=course.lives,
        answers=drill.ledger.answers,
        acknowledged=drill.ledger.acknowledged,
        recorded=sum(drill.ledger.on_disk.values()),
        lost=verdict.lost,
        doubled=verdict.doubled,
        foreign=verdict.foreign,
        other=len(verdict.other),
        slowest_start_s=max(course.starts_s, default=0.0),
        most_files=course.most_files,
        memory=f"{first_mb:.0f} → {last_mb:.0f} MB",
    )


def main() -> int:
    """Reads the command line and drills; 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long kills go on (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="the same seed draws the same plans")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "RESULTS.md", help="the page that gets the figures"
    )
    parser.add_argument("--keep", type=Path, default=None, help="leave all files here, for a look")
    asked = parser.parse_args()
    seed = random.randrange(10**6) if asked.seed is None else asked.seed
    # As Ctrl-C does: the children go first.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    print(f"seed {seed}, {asked.seconds:g} s", flush=True)
    with contextlib.ExitStack() as stack:
        if asked.keep is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bridge-drill-")))
        else:
            folder = asked.keep.resolve()
            folder.mkdir(parents=True, exist_ok=False)
        drill, verdict = asyncio.run(drilled(folder, asked.seconds, seed))
        found = told(drill, verdict, asked.seconds, seed)
    print("\n" + found.table())
    for line in verdict.told[:40]:
        print(f"WRONG: {line}")
    samples = ", ".join(f"{outcome} {count}" for outcome, count in drill.ledger.outcomes.most_common())
    print(f"samples by outcome: {samples}")
    write_drill(asked.out, found)
    print(f"written: {asked.out}")
    return 0 if verdict.clean else 1


if __name__ == "__main__":
    sys.exit(main())
