"""Asks several datasets at once under one deadline; one that fails never fails its neighbours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from bridge.edge.meters import DatasetStatus
from bridge.errors import BadQuery, BridgeError, UpstreamTimeout
from bridge.model.frame import Frame, Notice
from bridge.model.query import Query
from bridge.model.schema import Schema, Shape
from bridge.sources.base import Limits
from bridge.sources.keeper import Keeper, Kit
from bridge.sources.present import bind, distinct, long_rows, present, select_rows, without
from bridge.sources.registry import DatasetEntry, Registry

T = TypeVar("T")

# Below this many rows the work is shorter than a hop to a thread and back.
THREAD_ROWS = 20_000
MAX_DISTINCT = 5_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one query: its frames, or why there are none."""

    query: Query
    frames: tuple[Frame, ...] = ()
    error: BridgeError | None = None


class Desk:
    """Where questions are asked."""

    def __init__(self, registry: Registry, kit: Kit) -> None:
        self.registry = registry
        self.limits: Limits = kit.limits
        self._cache = kit.cache
        self.keepers = {name: Keeper(entry, kit) for name, entry in registry.datasets.items()}

    def keeper(self, target: str) -> Keeper:
        """The keeper of the dataset a target names.

        Errors: UnknownDataset.
        """
        return self.keepers[self.registry.resolve(target).name]

    def entry(self, target: str) -> DatasetEntry:
        """The dataset a target names.

        Errors: UnknownDataset.
        """
        return self.registry.resolve(target)

    async def ask(self, queries: Iterable[Query]) -> list[Answer]:
        """One answer per query, in order; all are fetched at the same time.

        Errors: none of a query's own: they are in its answer.
        """
        tasks: list[asyncio.Task[Answer]] = []
        async with asyncio.TaskGroup() as group:
            tasks.extend(group.create_task(self._one(query)) for query in queries)
        return [task.result() for task in tasks]

    async def _one(self, query: Query) -> Answer:
        try:
            async with asyncio.timeout(self.limits.deadline_s):
                return Answer(query, tuple(await self.frames(query)))
        except TimeoutError:
            text = f"`{query.dataset}` did not answer within {self.limits.deadline_s:g} s"
            return Answer(query, error=UpstreamTimeout(text, remedy="narrow the time range or the filters"))
        except BridgeError as error:
            return Answer(query, error=error)

    async def frames(self, query: Query) -> list[Frame]:
        """The frames of one query, shaped for its panel.

        Errors: any BridgeError.
        """
        entry = self.entry(query.dataset)
        shape = _shape(query, entry)
        frame, bound, notices = await self._fetch(query.named(entry.name))
        frames = await run(frame.rows, lambda: present(frame, bound, shape, self.limits))
        return [frames[0].note(*notices), *frames[1:]] if frames else frames

    async def rows(self, query: Query) -> Frame:
        """The rows of one query as a single table in time order.

        Errors: any BridgeError.
        """
        entry = self.entry(query.dataset)
        frame, bound, notices = await self._fetch(query.named(entry.name))
        chosen = await run(frame.rows, lambda: long_rows(select_rows(frame, bound), bound, self.limits))
        return replace(chosen, ref_id=query.ref_id).note(*notices)

    async def values(self, query: Query, column: str) -> list[str]:
        """Distinct values of one column, narrowed by the query's other filters and its span.

        Errors: BadQuery for an unknown column.
        """
        entry = self.entry(query.dataset)
        asked = without(query.named(entry.name), column)
        own = await entry.source.tag_values(asked, column)
        if own is not None:
            return list(own)
        frame, bound, _ = await self._fetch(asked)
        if frame.schema.get(column) is None:
            raise BadQuery(
                f"{entry.name} has no column `{column[:80]}`",
                remedy=f"its columns are {', '.join(frame.schema.names)}",
            )
        return await run(frame.rows, lambda: distinct(frame, column, bound, MAX_DISTINCT))

    async def schema(self, target: str) -> Schema:
        """The dataset's schema; an undeclared one is read from the data.

        Errors: any BridgeError of that read.
        """
        keeper = self.keeper(target)
        if known := keeper.schema:
            return known
        async with asyncio.timeout(self.limits.deadline_s):
            return (await keeper.get(Query(dataset=keeper.entry.name))).schema

    async def _fetch(self, query: Query) -> tuple[Frame, Query, tuple[Notice, ...]]:
        keeper = self.keepers[query.dataset]
        missing = [p.name for p in keeper.entry.spec.params if p.required and not query.param(p.name)]
        if missing:
            raise BadQuery(
                f"{query.dataset} needs the parameter `{missing[0]}`",
                remedy=f"give `{missing[0]}`; a variable that Grafana could not fill arrives as an empty payload",
            )
        if known := keeper.schema:
            bound, notices = bind(query, known)
            return await keeper.get(bound), bound, notices
        # Nothing is known of the columns yet: fetch first, then bind to what came.
        frame = await keeper.get(replace(query, filters=(), adhoc=(), columns=()))
        bound, notices = bind(query, frame.schema)
        return frame, bound, notices

    async def invalidate(self, pattern: str) -> int:
        """Forgets all answers of the datasets whose name matches the glob; says how many entries went."""
        from fnmatch import fnmatchcase

        for name, keeper in self.keepers.items():
            if fnmatchcase(name, pattern):
                keeper.forget()
        return await self._cache.invalidate(f"{pattern}|*")

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


def _shape(query: Query, entry: DatasetEntry) -> Shape:
    """What the panel asks for; a dataset that is logs or a graph stays one on any panel but annotations."""
    own = entry.spec.shape
    if query.shape is Shape.ANNOTATIONS or own is Shape.AUTO:
        return query.shape
    return own


async def run(rows: int, work: Callable[[], T]) -> T:
    """`work()` here, or on a thread when it has many rows to go through, so that the loop stays free."""
    return await asyncio.to_thread(work) if rows > THREAD_ROWS else work()
