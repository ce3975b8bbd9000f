"""What is remembered: the newest runs with their curves, confusion counts and log lines."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from digits_trainer.grid import Job
from digits_trainer.outcome import Outcome

Item = dict[str, Any]
EVENTS_PER_RUN = 4


def iso(instant: datetime) -> str:
    """ISO 8601 in UTC, ending in Z, to the microsecond."""
    return instant.isoformat(timespec="microseconds").replace("+00:00", "Z")


class Log:
    """Items in the order they came, each under a number that never changes, so that a page can go on from it."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._items: list[Item] = []
        self.last = 0

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def append(self, item: Item) -> None:
        """Remember one more."""
        self.last += 1
        self._numbers.append(self.last)
        self._items.append(item)

    def forget(self, count: int) -> None:
        """Drop the `count` oldest."""
        del self._numbers[:count], self._items[:count]

    def page(self, after: int, limit_rows: int, wanted: Callable[[Item], bool]) -> tuple[list[Item], int | None]:
        """The next items that came after number `after`, and the number to go on from; None at the end."""
        found: list[Item] = []
        reached = after
        for index in range(bisect_right(self._numbers, after), len(self._items)):
            if not wanted(self._items[index]):
                continue
            if len(found) == limit_rows:
                return found, reached
            found.append(self._items[index])
            reached = self._numbers[index]
        return found, None


class Store:
    """The memory of the container, bounded by a number of runs: the oldest go first."""

    def __init__(self, max_runs: int, on_ended: Callable[[Item, list[Item]], None] | None = None) -> None:
        self.max_runs = max_runs
        # Given every run that ended, with its learning curve.
        self._on_ended = on_ended
        self.runs = Log()
        self.curves = Log()
        self.events = Log()
        self.confusion: dict[str, tuple[tuple[int, ...], ...]] = {}
        self.current: Item | None = None

    def say(
        self, at: datetime, severity: str, body: str, *, run: str | None = None, model: str | None = None
    ) -> None:
        """Write a line of the training log."""
        line = {"id": f"e{self.events.last + 1:06d}", "timestamp": iso(at), "severity": severity, "body": body}
        self.events.append(line | {"run": run, "model": model})
        self.events.forget(max(0, len(self.events) - EVENTS_PER_RUN * self.max_runs))

    def started(self, job: Job, at: datetime) -> None:
        """A run begins."""
        self.current = _run_item(job, iso(at), "running")
        text = f"{job.run} started: {job.point.model} {job.point.text} seed={job.seed}"
        self.say(at, "info", text, run=job.run, model=job.point.model)

    def finished(self, job: Job, outcome: Outcome) -> None:
        """A run gave its result."""
        model = job.point.model
        item = _run_item(job, iso(outcome.started_at), "finished")
        curve = [
            {"run": job.run, "model": model}
            | {name: getattr(point, name) for name in point.__slots__}
            | {"time": iso(point.time)}
            for point in outcome.curve
        ]
        self._keep(
            item
            | {
                "ended_at": iso(outcome.ended_at),
                "duration_s": outcome.duration_s,
                "accuracy": outcome.accuracy,
                "f1_macro": outcome.f1_macro,
                "train_size": outcome.train_size,
            },
            curve,
        )
        self.confusion[job.run] = outcome.confusion
        for point in curve:
            self.curves.append(point)
        for text in outcome.warnings:
            self.say(outcome.ended_at, "warning", f"{job.run}: {text}", run=job.run, model=model)
        text = f"{job.run} finished: accuracy {outcome.accuracy:.4f} in {outcome.duration_s:.2f} s"
        self.say(outcome.ended_at, "info", text, run=job.run, model=model)

    def failed(self, job: Job, at: datetime, why: str) -> None:
        """A run gave no result."""
        started_at = self.current["started_at"] if self.current else iso(at)
        self._keep(_run_item(job, started_at, "failed") | {"ended_at": iso(at)}, [])
        self.say(at, "error", f"{job.run} failed: {why}", run=job.run, model=job.point.model)

    def run(self, name: str) -> Item | None:
        """The run of that name, also while it is in progress."""
        if self.current and self.current["id"] == name:
            return self.current
        return next((item for item in self.runs if item["id"] == name), None)

    def best(self, model: str, params: object = None) -> Item | None:
        """The run of a model (of one grid point when `params` is given) that guessed best; the first of equals."""
        done = [
            item
            for item in self.runs
            if item["model"] == model
            and item["status"] == "finished"
            and (params is None or item["params"] == params)
        ]
        return max(done, key=lambda item: (item["accuracy"], item["f1_macro"]), default=None)

    def _keep(self, item: Item, curve: list[Item]) -> None:
        self.current = None
        self.runs.append(item)
        while len(self.runs) > self.max_runs:
            oldest = next(iter(self.runs))["id"]
            self.runs.forget(1)
            self.confusion.pop(oldest, None)
            self.curves.forget(sum(point["run"] == oldest for point in self.curves))
        if self._on_ended:
            self._on_ended(item, curve)


def _run_item(job: Job, started_at: str, status: str) -> Item:
    return {
        "id": job.run,
        "started_at": started_at,
        "ended_at": None,
        "duration_s": None,
        "model": job.point.model,
        "params": dict(job.point.params),
        "seed": job.seed,
        "accuracy": None,
        "f1_macro": None,
        "train_size": None,
        "status": status,
    }
