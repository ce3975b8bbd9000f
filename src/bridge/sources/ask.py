"""Asks several datasets at once under one deadline; one that fails never fails its neighbours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import TypeVar

from bridge.edge.meters import CheckStatus, DatasetStatus
from bridge.errors import BadQuery, BridgeError, UpstreamTimeout
from bridge.model.frame import Frame, Notice
from bridge.model.query import Query
from bridge.model.schema import Column, Role, Schema, Shape
from bridge.sources.base import Limits
from bridge.sources.history.history import History
from bridge.sources.history.recall import WHOLE, Recall, Want, refuse_as_of
from bridge.sources.keeper import Keeper, Kit
from bridge.sources.outlines import Outlines
from bridge.sources.present import bind, distinct, long_rows, must_exist, present, select_rows, without
from bridge.sources.quality.ledger import check_status
from bridge.sources.registry import DatasetEntry, Registry
from bridge.sources.system import system_keepers
from bridge.sources.work import THREAD_CELLS, cells, compiled, run

log = logging.getLogger("bridge.sources")

T = TypeVar("T")

MAX_DISTINCT = 5_000
# Datasets that are asked at once where a request names none and so means all.
TOGETHER = 32


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one query: its frames, or why there are none."""

    query: Query
    frames: tuple[Frame, ...] = ()
    error: BridgeError | None = None


class Desk:
    """Where questions are asked; each is answered or refused within `limits.deadline_s`."""

    def __init__(self, registry: Registry, kit: Kit) -> None:
        self.registry = registry
        self.limits: Limits = kit.limits
        self._cache = kit.cache
        self._clock = kit.clock
        self._outlines = Outlines()
        self._offered = registry.datasets
        reach = _Reach(self)
        self._keepers = {name: Keeper(entry, kit, reach) for name, entry in registry.datasets.items()}
        # What tells of the others stands apart: it is not listed, polled, counted or invalidated with them.
        self.system: dict[str, Keeper] = system_keepers(self, kit)

    def remember(self, histories: Mapping[str, History]) -> None:
        """From now on these datasets answer with their past as well."""
        for name, history in histories.items():
            self._keepers[name].history = history

    @property
    def keepers(self) -> dict[str, Keeper]:
        """The keepers of all datasets whose source runs, by name."""
        if self._offered is not self.registry.datasets:
            # A source that failed to start was taken out after the desk was built.
            self._offered = self.registry.datasets
            self._keepers = {name: self._keepers[name] for name in self._offered}
        return self._keepers

    def keeper(self, target: str) -> Keeper:
        """The keeper of the dataset a target names.

        Errors: UnknownDataset; PluginFailed when its source does not run.
        """
        return self.system.get(target) or self.keepers[self.registry.resolve(target).name]

    def entry(self, target: str) -> DatasetEntry:
        """The dataset a target names.

        Errors: UnknownDataset; PluginFailed when its source does not run.
        """
        own = self.system.get(target)
        return own.entry if own else self.registry.resolve(target)

    async def ask(self, queries: Iterable[Query]) -> list[Answer]:
        """One answer per query, in order; all are fetched at the same time, under one deadline.

        Errors: none of a query's own: they are in its answer.
        """
        until_s = asyncio.get_running_loop().time() + self.limits.deadline_s
        tasks: list[asyncio.Task[Answer]] = []
        async with asyncio.TaskGroup() as group:
            tasks.extend(group.create_task(self._one(query, until_s)) for query in queries)
        return [task.result() for task in tasks]

    async def _one(self, query: Query, until_s: float) -> Answer:
        try:
            return Answer(query, tuple(await self._in_time(query.dataset, self._frames(query), until_s)))
        except BridgeError as error:
            return Answer(query, error=error)
        except Exception:
            # Raised further it would cancel the neighbours.
            log.exception("a query failed inside bridge", extra={"dataset": query.dataset[:200]})
            text = f"`{query.dataset[:80]}` could not be answered: something went wrong inside bridge"
            return Answer(query, error=BridgeError(text, remedy="the service's log has the traceback"))

    async def _in_time(self, dataset: str, work: Awaitable[T], until_s: float | None = None) -> T:
        if until_s is None:
            until_s = asyncio.get_running_loop().time() + self.limits.deadline_s
        try:
            async with asyncio.timeout_at(until_s):
                return await work
        except TimeoutError as error:
            raise UpstreamTimeout(
                f"`{dataset[:80]}` did not answer within {self.limits.deadline_s:g} s",
                remedy="narrow the time range or the filters",
            ) from error

    async def together(self, works: Iterable[Callable[[], Awaitable[T]]], late: T) -> list[T]:
        """What each of them gives, in order, some at a time; `late` for what is not there at the deadline."""
        slots = asyncio.Semaphore(TOGETHER)

        async def one(work: Callable[[], Awaitable[T]]) -> T:
            async with slots:
                return await work()

        tasks = [asyncio.create_task(one(work)) for work in works]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=self.limits.deadline_s)
            return [task.result() if task.done() else late for task in tasks]
        finally:
            for task in tasks:
                task.cancel()

    async def frames(self, query: Query) -> list[Frame]:
        """The frames of one query, shaped for its panel.

        Errors: any BridgeError.
        """
        return await self._in_time(query.dataset, self._frames(query))

    async def _frames(self, query: Query) -> list[Frame]:
        entry = self.entry(query.dataset)
        shape = _shape(query, entry)
        frame, bound, notices = await self._fetch(_complete(query, entry), Want(shape))
        first, *others = await self._presented(frame, bound, shape)
        return [first.note(*notices), *others]

    async def _presented(self, frame: Frame, bound: Query, shape: Shape) -> list[Frame]:
        drawn = self._outlines.wanted(frame, bound, shape)
        if drawn is None:
            return await run(_effort(frame, bound), lambda: present(frame, bound, shape, self.limits))
        time, measures = drawn
        effort = 0 if self._outlines.ready(frame, measures) else _effort(frame, bound)
        made = await run(effort, lambda: self._outlines.draw(frame, bound, time, measures, self.limits))
        if made is None:
            return await run(_effort(frame, bound), lambda: present(frame, bound, shape, self.limits))
        return made

    async def rows(self, query: Query) -> Frame:
        """The rows of one query as a single table in time order.

        Errors: any BridgeError.
        """
        return await self._in_time(query.dataset, self._rows(query))

    async def _rows(self, query: Query) -> Frame:
        entry = self.entry(query.dataset)
        frame, bound, notices = await self._fetch(_complete(query, entry), Want(None))
        chosen = await run(_effort(frame, bound), lambda: long_rows(select_rows(frame, bound), bound, self.limits))
        return replace(chosen, ref_id=query.ref_id).note(*notices)

    async def fetched(self, query: Query, *, alone: bool = False) -> Frame:
        """The dataset's rows before any panel's shape: what is kept of them serves the questions that follow.

        Shape:  what the steps read of other datasets is as fresh as the query wants it, unless `alone`.
        Errors: any BridgeError.
        """
        keeper = self.keeper(query.dataset)
        return await self._in_time(query.dataset, keeper.get(_complete(query, keeper.entry), alone=alone))

    async def values(self, query: Query, column: str) -> list[str]:
        """Distinct values of one column, narrowed by the query's other filters and its span.

        Errors: BadQuery for an unknown column.
        """
        return await self._in_time(query.dataset, self._values(query, column))

    async def _values(self, query: Query, column: str) -> list[str]:
        keeper = self.keeper(query.dataset)
        asked = without(_complete(query, keeper.entry), column)
        if known := keeper.schema:
            must_exist(column, known, asked, "column")
        # What a source lists of itself is of the present only.
        own = await keeper.tag_values(asked, column) if asked.as_of is None else None
        if own is not None:
            return list(own[:MAX_DISTINCT])
        frame, bound, _ = await self._fetch(asked, Want(column=column))
        return await run(_effort(frame, bound), lambda: distinct(frame, column, bound, MAX_DISTINCT))

    async def tag_keys(self, query: Query) -> list[Column]:
        """The columns a dataset can be filtered by: those its source names, else its dimensions and measures.

        Errors: any BridgeError.
        """
        schema = await self.schema(query.dataset)
        own = await self._in_time(query.dataset, self.keeper(query.dataset).tag_keys(query))
        if own is None:
            return [column for column in schema.columns if column.role in (Role.DIMENSION, Role.MEASURE)]
        return [column for column in schema.columns if column.name in own]

    async def schema(self, target: str) -> Schema:
        """The dataset's schema; an undeclared one is read from the data.

        Errors: any BridgeError of that read.
        """
        keeper = self.keeper(target)
        if known := keeper.schema:
            return known
        frame = await self.fetched(Query(dataset=keeper.entry.name))
        return keeper.schema or frame.schema

    async def _fetch(self, query: Query, want: Want = WHOLE) -> tuple[Frame, Query, tuple[Notice, ...]]:
        keeper = self.keeper(query.dataset)
        if keeper.history is not None:
            recall = Recall(keeper.entry, keeper.history, self._clock, self.limits.max_rows)
            return await recall.answer(query, want, self._live)
        if query.as_of is not None:
            raise refuse_as_of(keeper.entry.name)
        return await self._live(query)

    async def _live(self, query: Query) -> tuple[Frame, Query, tuple[Notice, ...]]:
        keeper = self.keeper(query.dataset)
        if known := keeper.schema:
            bound, notices = await _bound(query, known)
            return await keeper.get(_keyed(bound, known) if keeper.history else bound), bound, notices
        # Nothing is known of the columns yet: fetch first, then bind to what came.
        frame = await keeper.get(replace(query, filters=(), adhoc=(), columns=()))
        bound, notices = await _bound(query, frame.schema)
        return frame, bound, notices

    @property
    def unproven(self) -> list[str]:
        """The datasets whose steps cannot be judged before their columns are read from the data."""
        return [name for name, keeper in self.keepers.items() if keeper.entry.steps and keeper.schema is None]

    async def prove(self) -> dict[str, BridgeError]:
        """Asks each unproven dataset once, as its first panel would; why those have none that could not answer."""
        failed: dict[str, BridgeError] = {}

        async def one(name: str) -> None:
            try:
                await self.schema(name)
            except BridgeError as error:
                failed[name] = error

        await self.together([partial(one, name) for name in self.unproven], late=None)
        return failed

    async def invalidate(self, pattern: str) -> int:
        """Forgets all answers of the datasets whose name matches the glob, and of those whose steps read them.

        Shape:  how many entries went.
        Errors: BadQuery for an overlong pattern.
        """
        matched = {name for name in self.keepers if fnmatchcase(name, pattern)}
        readers = self._readers(matched)
        for name in matched | readers:
            self.keepers[name].forget()
        gone = await self._cache.invalidate(f"{pattern}|*")
        for name in readers:
            gone += await self._cache.invalidate(f"{name}|*")
            await asyncio.sleep(0)  # each looks at every key
        return gone

    def _readers(self, names: set[str]) -> set[str]:
        """The other datasets whose steps read these, or what reads them."""
        found = set(names)
        while more := {
            name
            for name, keeper in self.keepers.items()
            if name not in found and any(other in found for step in keeper.entry.steps for other in step.others)
        }:
            found |= more
        return found - names

    def check_statuses(self) -> list[CheckStatus]:
        """What the checks of every dataset found last."""
        return [check_status(name, keeper.ledger) for name, keeper in self.keepers.items()]

    def statuses(self) -> list[DatasetStatus]:
        """How every dataset is doing, those of sources that could not start included."""
        known = [keeper.status() for keeper in self.keepers.values()]
        broken = [
            DatasetStatus(f"{entry.config.name}.{dataset.name}", "failed", error=entry.error)
            for entry in self.registry.entries.values()
            if entry.source is None
            for dataset in entry.config.datasets
        ]
        return known + broken


class _Reach:
    """How a dataset's steps reach other datasets: as any question does, but for the shaping of a panel."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def schema(self, name: str) -> Schema | None:
        """The columns the dataset publishes, None while its source does not run or has not been asked."""
        keeper = self._desk.keepers.get(name)
        return keeper.schema if keeper else None

    def tag(self, name: str) -> str:
        """Differs between settings of the dataset that could give another answer; empty while it does not run."""
        keeper = self._desk.keepers.get(name)
        return keeper.tag if keeper else ""

    async def get(self, query: Query) -> Frame:
        """Its rows.

        Errors: any BridgeError.
        """
        return await self._desk.fetched(query)


def _complete(query: Query, entry: DatasetEntry) -> Query:
    """The query under the dataset's full name, with the defaults of the parameters it does not give.

    Errors: BadQuery when a required one is missing.
    """
    given = dict(query.params)
    for param in entry.spec.params:
        if given.get(param.name):
            continue
        if param.default is not None:
            given[param.name] = (param.default,)
        elif param.required:
            raise BadQuery(
                f"{entry.name} needs the parameter `{param.name}`",
                remedy=f"give `{param.name}`; a variable that Grafana could not fill arrives as an empty payload",
            )
    return replace(query, dataset=entry.name, params=tuple(given.items()))


def _keyed(query: Query, schema: Schema) -> Query:
    """The query for all that names a row as well: recorded rows are told from live ones by it."""
    dimensions = (column.name for column in schema.with_role(Role.DIMENSION))
    return replace(query, columns=(*query.columns, *dimensions)) if query.columns else query


def _shape(query: Query, entry: DatasetEntry) -> Shape:
    """What the panel asks for, unless the settings name the dataset's shape; annotations are made of any dataset."""
    own = entry.spec.shape
    if query.shape is Shape.ANNOTATIONS or own is Shape.AUTO:
        return query.shape
    return own


async def _bound(query: Query, schema: Schema) -> tuple[Query, tuple[Notice, ...]]:
    return await compiled(query, lambda: bind(query, schema))


def _effort(frame: Frame, bound: Query) -> int:
    """Cells to go through; a pattern counts as many, as each pass compiles it again."""
    return THREAD_CELLS + 1 if any(item.is_pattern for item in bound.filters) else cells(frame)
