"""The steps of one dataset at work: bound to the columns as they are known, fed with other datasets' rows."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from bridge.errors import AnswerTooLarge, BridgeError, SchemaMismatch, StepMisfit
from bridge.model.frame import Frame, Notice
from bridge.model.query import Query
from bridge.model.schema import Schema
from bridge.sources.base import Limits
from bridge.sources.transform.bound import Loc, StepError
from bridge.sources.transform.options import Step
from bridge.sources.transform.pipeline import Pipeline, bind


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
        # The last attempt, a failed one by its words: the columns are asked for far more often than they change.
        self._bound: tuple[Schema, dict[str, Schema], Pipeline | tuple[str, Loc]] | None = None
        self._fitted: Pipeline | None = None

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
        try:
            pipeline = self._pipeline(own)
        except SchemaMismatch:
            if self._fitted is None:
                raise
            # Asked for as before, so that the last good answer is found when what comes does not fit either.
            asked = self._fitted.asked(query)
            return Errand(narrow(asked.own), asked.others)
        if pipeline is None:
            everything = {
                (index, name): Query(name) for index, step in enumerate(self._steps) for name in step.others
            }
            return Errand(narrow(query.whole()), everything)
        asked = pipeline.asked(query)
        return Errand(narrow(asked.own), asked.others, pipeline)

    async def fetch(self, errand: Errand) -> dict[tuple[int, str], Frame]:
        """The other datasets' rows.

        Errors: SourceError of the first that fails, with the dataset's name.
        """
        frames = await both(*(self._other(query) for query in errand.others.values()))
        return dict(zip(errand.others, frames, strict=True))

    async def _other(self, query: Query) -> Frame:
        try:
            return await self._reach.get(query)
        except BridgeError as error:
            raise _told_of(query.dataset, error) from error

    async def apply(
        self, frame: Frame, errand: Errand, others: Mapping[tuple[int, str], Frame], limits: Limits
    ) -> Frame:
        """The frame after all steps, with what is to be said of the others.

        Errors: SchemaMismatch when the steps do not fit the data; AnswerTooLarge.
        """
        # However few the rows are: to compile a pattern, or a thousand expressions, takes long.
        made = await asyncio.to_thread(self._applied, frame, errand, others, limits)
        told = [
            Notice(notice.severity, f"{name}: {notice.text}")
            for name, other in {name: other for (_, name), other in others.items()}.items()
            for notice in other.meta.notices
        ]
        return made.note(*told)

    def _applied(
        self, frame: Frame, errand: Errand, others: Mapping[tuple[int, str], Frame], limits: Limits
    ) -> Frame:
        pipeline = errand.pipeline
        came = {name: other.schema for (_, name), other in others.items()}
        changed = pipeline is not None and not errand.own.columns and _differ(pipeline.before, frame.schema)
        if pipeline is None or changed:
            # Bound to what came: a column that is gone is then told by its name.
            pipeline = self._bind(frame.schema, came)
        try:
            return pipeline.run(frame, others, limits)
        except (AnswerTooLarge, SchemaMismatch) as error:
            if isinstance(error, SchemaMismatch) and not errand.own.columns:
                self._bind(frame.schema, came)
            raise type(error)(f"`{self._name}`: {error.message}", remedy=error.remedy) from error

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
            try:
                self._fitted = self._bind(own, known)
                self._bound = (own, known, self._fitted)
            except StepMisfit as error:
                # Its words only: the error itself would keep alive all its traceback refers to.
                self._bound = (own, known, (error.text, error.loc))
        if isinstance(pipeline := self._bound[2], tuple):
            raise StepMisfit(self._name, *pipeline)
        return pipeline

    def _bind(self, own: Schema, known: Mapping[str, Schema]) -> Pipeline:
        try:
            return bind(self._steps, own, known)
        except StepError as error:
            raise StepMisfit(self._name, str(error), error.loc) from error


async def both(*works: Coroutine[Any, Any, Any]) -> list[Any]:
    """What each of them gives, all begun at once; none goes on when one has failed."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _told_of(name: str, error: BridgeError) -> BridgeError:
    """The same error, as who asks for another dataset is told of it; others may be given the first."""
    told = type(error).__new__(type(error))
    told.__dict__.update(error.__dict__)
    told.message = f"{name}: {error.message}"
    told.args = (told.message,)
    return told


def _differ(one: Schema, other: Schema) -> bool:
    return one is not other and one.fingerprint != other.fingerprint
