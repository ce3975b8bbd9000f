"""The points of many runs: some requests at a time, within one bound."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.errors import NeedsAuth, Retry, UpstreamInvalid, UpstreamRefused
from bridge.model.span import Span, to_us
from bridge.sources.builtin.mlflow.answers import REMEDY, Run, number, whole
from bridge.sources.builtin.mlflow.api import BULK_RUNS, HISTORY_POINTS, TOGETHER, Api

Rows = list[dict[str, Any]]


@dataclass(slots=True)
class Points:
    """Points of all runs, value by value; `run` says at which position their run stands."""

    run: list[int] = field(default_factory=list)
    time: list[Any] = field(default_factory=list)
    step: list[Any] = field(default_factory=list)
    metric: list[str] = field(default_factory=list)
    value: list[Any] = field(default_factory=list)
    # Whether there were more than were wanted.
    cut: bool = False

    def add(self, run: int, metric: str, rows: Rows, most: int) -> None:
        """Takes up one history as far as there is room."""
        room = most - len(self.run)
        self.cut = self.cut or len(rows) > room
        for row in rows[:room]:
            self.run.append(run)
            self.time.append(row.get("timestamp"))
            self.step.append(row.get("step"))
            self.metric.append(metric)
            self.value.append(number(row.get("value")))


@dataclass(frozen=True, slots=True)
class _Job:
    """One metric of some runs, given by their positions."""

    metric: str
    runs: tuple[int, ...]


class Histories:
    """The histories of the runs of one answer."""

    def __init__(self, api: Api, runs: Sequence[Run], *, span: Span | None, max_points: int) -> None:
        self._api = api
        self._runs = runs
        self._span = span
        self._max_points = max_points
        # Until the server says that it has no such question.
        self._bulk = True

    async def gather(self, metrics: frozenset[str] | None) -> Points:
        """All points of these metrics (of all where None), the newest runs' first, up to the bound.

        Errors: SourceError of the first request that fails; the others are given up.
        """
        points = Points()
        jobs = list(self._jobs(metrics))
        for start in range(0, len(jobs), TOGETHER):
            some = jobs[start : start + TOGETHER]
            for job, found in zip(some, await _together(self._job(job) for job in some), strict=True):
                for run in job.runs:
                    points.add(run, job.metric, self._inside(found.get(self._runs[run].id, [])), self._max_points)
            if len(points.run) >= self._max_points and start + TOGETHER < len(jobs):
                points.cut = True
            if points.cut:
                break
        return points

    def _jobs(self, metrics: frozenset[str] | None) -> Iterator[_Job]:
        for start in range(0, len(self._runs), BULK_RUNS):
            having: dict[str, list[int]] = {}
            for at, run in enumerate(self._runs[start : start + BULK_RUNS], start):
                for key in run.metrics:
                    if metrics is None or key in metrics:
                        having.setdefault(key, []).append(at)
            yield from (_Job(key, tuple(having[key])) for key in sorted(having))

    async def _job(self, job: _Job) -> Mapping[str, Rows]:
        ids = [self._runs[run].id for run in job.runs]
        if self._bulk and len(ids) > 1:
            try:
                return await self._in_bulk(ids, job.metric)
            except (UpstreamRefused, NeedsAuth) as error:
                if error.retry is not Retry.NEVER:
                    raise
                # A proxy may let only the API for programs through.
                self._bulk = False
        found = await _together(self._one(ident, job.metric) for ident in ids)
        return dict(zip(ids, found, strict=True))

    async def _in_bulk(self, ids: Sequence[str], metric: str) -> dict[str, Rows]:
        """The histories of many runs. An answer that is full was cut inside the history of its last run."""
        out: dict[str, Rows] = {}
        left = dict.fromkeys(ids)
        while left:
            rows = await self._api.bulk(list(left), metric)
            found = _by_run(rows, left)
            if len(rows) < HISTORY_POINTS:
                return out | found
            if not found:
                raise UpstreamInvalid(f"the history of `{metric[:80]}` is that of other runs", remedy=REMEDY)
            last = next(reversed(found))
            if len(found) == 1:
                found[last] = await self._one(last, metric)
            else:
                del found[last]
            out |= found
            for ident in found:
                del left[ident]
        return out

    async def _one(self, run_id: str, metric: str) -> Rows:
        """One history; that of a run which was removed for good in the meantime has no points."""
        rows: Rows = []
        pages = self._api.history(run_id, metric)
        try:
            while pages.more and len(rows) <= self._max_points:
                rows += await pages.next()
        except UpstreamRefused as error:
            if error.far_status != 404:
                raise
        return rows

    def _inside(self, rows: Rows) -> Rows:
        """The points within the span, and those that do not say when they were logged."""
        if self._span is None:
            return rows
        start_us, end_us = to_us(self._span.start), to_us(self._span.end)
        return [row for row in rows if (ms := whole(row.get("timestamp"))) is None or start_us <= ms * 1_000 < end_us]


def _by_run(rows: Rows, wanted: Mapping[str, Any]) -> dict[str, Rows]:
    out: dict[str, Rows] = {}
    for row in rows:
        if isinstance(ident := row.get("run_id"), str) and ident in wanted:
            out.setdefault(ident, []).append(row)
    return out


async def _together(works: Iterable[Any]) -> list[Any]:
    """What each gives, in order; the first that fails ends the others and is raised as itself."""
    tasks: list[asyncio.Task[Any]] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks.extend(group.create_task(work) for work in works)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
