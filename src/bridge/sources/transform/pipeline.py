"""The steps of one dataset, bound to the columns they meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from bridge.errors import AnswerTooLarge, SchemaMismatch
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.schema import Role, Schema
from bridge.sources.base import Limits
from bridge.sources.transform import columns, groups, others
from bridge.sources.transform.bound import Bound, StepError, Work
from bridge.sources.transform.options import Step


@dataclass(frozen=True, slots=True)
class Asked:
    """What must be asked to answer one question: of the own source, and of other datasets, by step."""

    own: Query
    others: Mapping[tuple[int, str], Query]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Steps between two schemas."""

    steps: tuple[Bound, ...]
    before: Schema

    @property
    def schema(self) -> Schema:
        """The columns after the last step."""
        return self.steps[-1].schema if self.steps else self.before

    def asked(self, query: Query) -> Asked:
        """The questions whose answers hold everything the query asks for."""
        found: dict[tuple[int, str], Query] = {}
        # How a panel thins its points out says nothing of the rows before the steps.
        query = replace(query, columns=self._needed(query), step_ms=None, max_points=None, series=None, agg=None)
        for index in range(len(self.steps) - 1, -1, -1):
            step = self.steps[index]
            query = step.push(query)
            for name, ask in step.asks.items():
                found[index, name] = replace(ask(query), dataset=name)
        return Asked(query, found)

    def _needed(self, query: Query) -> tuple[str, ...]:
        """The published columns without which the answer cannot be selected, filtered and split; empty means all."""
        if not query.columns:
            return ()
        by = query.series if query.series is not None else [c.name for c in self.schema.with_role(Role.DIMENSION)]
        time = [self.schema.time.name] if self.schema.time else []
        return tuple(dict.fromkeys([*time, *query.columns, *by, *(item.column for item in query.filters)]))

    def run(self, frame: Frame, fetched: Mapping[tuple[int, str], Frame], limits: Limits) -> Frame:
        """The frame after all steps.

        Errors: SchemaMismatch when the data does not fit a step; AnswerTooLarge before a step that would outgrow
                the limits.
        """
        work = Work(limits)
        data = frame.data
        for index, step in enumerate(self.steps):
            work.others = {name: other for (at, name), other in fetched.items() if at == index}
            try:
                data = step.run(data, work)
            except (AnswerTooLarge, SchemaMismatch) as error:
                raise type(error)(f"steps[{index}]: {error.message}", remedy=error.remedy) from error
            except pl.exceptions.PolarsError as error:
                text = str(error).splitlines()[0][:200]
                raise SchemaMismatch(
                    f"steps[{index}] does not fit the data: {text}", remedy="compare the data with the step"
                ) from error
        there = set(data.columns)
        schema = replace(self.schema, columns=tuple(c for c in self.schema.columns if c.name in there))
        made = replace(frame, data=data.select(schema.names), schema=schema)
        return made.note(*work.notices)

    def origin(self, name: str) -> str | None:
        """The source's own column that a published one is, unchanged; None where steps made it."""
        found: str | None = name
        for step in reversed(self.steps):
            found = step.back.get(found) if found is not None else None
        return found


def bind(steps: tuple[Step, ...], before: Schema, known: Mapping[str, Schema]) -> Pipeline:
    """The steps bound to the columns of the source and of the other datasets they read.

    Errors: StepError whose `loc` begins with the number of the step.
    """
    bound: list[Bound] = []
    schema = before
    for index, step in enumerate(steps):
        try:
            made = _bound(step, schema, known)
        except StepError as error:
            raise StepError(str(error), index, step.name, *error.loc) from error
        bound.append(made if _same_time(schema, made) else replace(made, span=None))
        schema = bound[-1].schema
    return Pipeline(tuple(bound), before)


def _same_time(before: Schema, step: Bound) -> bool:
    """Whether a span means the same rows on either side: not where the time goes, comes or is computed."""
    then, now = before.time, step.schema.time
    if then is None or now is None:
        return then is now
    return step.back.get(now.name) == then.name


_OWN: Mapping[str, Callable[[Any, Schema], Bound]] = {
    "rename": columns.rename,
    "keep": columns.keep,
    "drop": columns.drop,
    "cast": columns.cast,
    "convert": columns.convert,
    "derive": columns.derive,
    "filter": columns.filter_,
    "format": columns.format_,
    "limit": groups.limit,
    "aggregate": groups.aggregate,
    "resample": groups.resample,
}
_WITH_OTHERS: Mapping[str, Callable[[Any, Schema, Mapping[str, Schema]], Bound]] = {
    "union": others.union,
    "join": others.join,
}


def _bound(step: Step, schema: Schema, known: Mapping[str, Schema]) -> Bound:
    given = getattr(step, step.name)
    if own := _OWN.get(step.name):
        return own(given, schema)
    return _WITH_OTHERS[step.name](given, schema, known)
