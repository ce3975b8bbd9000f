"""The steps of one dataset at work: bound to the columns as they are known, fed with other datasets' rows."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from bridge.errors import SchemaMismatch
from bridge.model.frame import Frame, Notice
from bridge.model.query import Query
from bridge.model.schema import Schema
from bridge.sources.base import Limits
from bridge.sources.transform.bound import StepError
from bridge.sources.transform.options import Step
from bridge.sources.transform.pipeline import Asked, Pipeline, bind
from bridge.sources.work import cells, run


class Reach(Protocol):
    """How a dataset reaches the others that its steps read."""

    def schema(self, name: str) -> Schema | None:
        """The columns another dataset publishes, None until they are known."""
        ...

    def tag(self, name: str) -> str:
        """Differs between settings of another dataset that could give another answer."""
        ...

    async def get(self, query: Query) -> Frame:
        """The rows of another dataset that answer the query, at least.

        Errors: SourceError as that dataset has it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Errand:
    """What is fetched to answer one question: of the own source, of other datasets, and how it is put together."""

    own: Query
    others: Mapping[tuple[int, str], Query] = field(default_factory=dict)
    pipeline: Pipeline | None = None

    @property
    def key(self) -> str:
        """Equal for errands that must bring the same rows."""
        if not self.others:
            return self.own.key
        asked = repr(sorted((step, name, query.key) for (step, name), query in self.others.items()))
        return f"{self.own.key}+{hashlib.sha256(asked.encode()).hexdigest()[:16]}"


class Recipe:
    """The steps of one dataset."""

    def __init__(self, name: str, steps: tuple[Step, ...], reach: Reach) -> None:
        self._name = name
        self._steps = steps
        self._reach = reach
        self._bound: tuple[Schema, dict[str, Schema], Pipeline] | None = None

    def tags(self) -> tuple[str, ...]:
        """The tags of the datasets that the steps read."""
        return tuple(self._reach.tag(name) for step in self._steps for name in step.others)

    def schema(self, own: Schema | None) -> Schema | None:
        """The published columns, None where they are not known yet or the steps do not fit."""
        try:
            pipeline = self._pipeline(own)
        except SchemaMismatch:
            return None
        return pipeline.schema if pipeline else None

    def errand(self, query: Query, own: Schema | None, narrow: Callable[[Query], Query]) -> Errand:
        """What to fetch for a query that speaks of published columns.

        Errors: SchemaMismatch when the steps do not fit the columns.
        """
        pipeline = self._pipeline(own)
        if pipeline is None:
            everything = {
                (index, name): Query(name) for index, step in enumerate(self._steps) for name in step.others
            }
            return Errand(narrow(query.whole()), everything)
        asked: Asked = pipeline.asked(query)
        return Errand(narrow(asked.own), asked.others, pipeline)

    async def fetch(self, errand: Errand) -> dict[tuple[int, str], Frame]:
        """The other datasets' rows.

        Errors: SourceError of the first that fails.
        """
        tasks = [asyncio.ensure_future(self._reach.get(query)) for query in errand.others.values()]
        try:
            frames = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return dict(zip(errand.others, frames, strict=True))

    async def apply(
        self, frame: Frame, errand: Errand, others: Mapping[tuple[int, str], Frame], limits: Limits
    ) -> Frame:
        """The frame after all steps, with what is to be said of the others.

        Errors: SchemaMismatch when the steps do not fit the data; AnswerTooLarge.
        """
        pipeline = errand.pipeline
        changed = pipeline is not None and not errand.own.columns and _differ(pipeline.before, frame.schema)
        if pipeline is None or changed:
            # Bound to what came: a column that is gone is then told by its name.
            pipeline = self._bind(frame.schema, {name: other.schema for (_, name), other in others.items()})
        made = await run(
            cells(frame, *others.values()) * len(self._steps), lambda: pipeline.run(frame, others, limits)
        )
        told = [
            Notice(notice.severity, f"{name}: {notice.text}")
            for name, other in {name: other for (_, name), other in others.items()}.items()
            for notice in other.meta.notices
        ]
        return made.note(*told)

    def _pipeline(self, own: Schema | None) -> Pipeline | None:
        if own is None:
            return None
        known: dict[str, Schema] = {}
        for step in self._steps:
            for name in step.others:
                schema = self._reach.schema(name)
                if schema is None:
                    return None
                known[name] = schema
        if self._bound is None or self._bound[:2] != (own, known):
            self._bound = (own, known, self._bind(own, known))
        return self._bound[2]

    def _bind(self, own: Schema, known: Mapping[str, Schema]) -> Pipeline:
        try:
            return bind(self._steps, own, known)
        except StepError as error:
            raise SchemaMismatch(
                f"`{self._name}`: {where(error.loc)}: {error}", remedy="correct the dataset's `steps`"
            ) from error


def _differ(one: Schema, other: Schema) -> bool:
    return one is not other and one.fingerprint != other.fingerprint


def where(loc: tuple[str | int, ...]) -> str:
    """A place below `steps` as people write it."""
    index, *rest = loc or (0,)
    return f"steps[{index}]" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)


def lineage(frame: Frame, source: Mapping[str, Any], others: Mapping[tuple[int, str], Frame]) -> Frame:
    """The frame with where it came from: source, adapter, the far version that answered, and its parents."""
    told: dict[str, Any] = {**source}
    if (version := frame.meta.custom.get("far_version")) is not None:
        told["far_version"] = version
    if others:
        parents = {name: other.meta.custom.get("lineage") for (_, name), other in others.items()}
        told["parents"] = [{"dataset": name, **(known or {})} for name, known in parents.items()]
    custom = {key: value for key, value in frame.meta.custom.items() if key != "far_version"}
    return replace(frame, meta=replace(frame.meta, custom={**custom, "lineage": told}))
