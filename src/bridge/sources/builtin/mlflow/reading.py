"""One question to the tracking server, from its experiments to a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import polars as pl

from bridge.errors import DataMissing
from bridge.model.frame import Notice
from bridge.model.query import Query
from bridge.model.schema import Column
from bridge.sources.builtin.mlflow import tables
from bridge.sources.builtin.mlflow.answers import Experiment, Run
from bridge.sources.builtin.mlflow.api import PAGE_ITEMS, Api
from bridge.sources.builtin.mlflow.histories import Histories
from bridge.sources.builtin.mlflow.names import Names
from bridge.sources.builtin.mlflow.plan import Plan
from bridge.sources.table import shown_names
from bridge.sources.work import run

SYSTEM = "mlflow."
Keys = Mapping[str, set[str]]


class Reading:
    """What is read for one query; `notices` are what must be said of it."""

    def __init__(self, plan: Plan, api: Api, query: Query, names: Names | None, *, max_rows: int) -> None:
        self._plan = plan
        self._options = plan.options
        self._api = api
        self._query = query
        # Where undeclared columns are learned; None where the columns are known.
        self._names = names
        self._max_rows = max_rows
        self.asked = plan.asked(query)
        self.notices: list[Notice] = []

    async def table(self) -> tuple[pl.DataFrame, tuple[Column, ...]]:
        """All rows, and the columns they have.

        Errors: SourceError, see `MlflowSource.collect`.
        """
        experiments = await self._api.experiments()
        if self._options.kind == "experiments":
            here = [item for item in experiments if not item.deleted]
            columns = self._columns({"tags": self._tags(here)})
            return await self._made(len(here), columns, partial(tables.of_experiments, here))
        wanted = self._wanted(experiments)
        runs = await self._runs(wanted) if wanted else []
        match self._options.kind:
            case "runs":
                columns = self._columns(self._keys(runs))
                return await self._made(len(runs), columns, partial(tables.of_runs, runs))
            case "params":
                count = sum(len(item.params) for item in runs)
                make = partial(tables.of_params, runs, dataset=self._plan.name, max_rows=self._max_rows)
                return await self._made(count, self._columns({}), make)
            case _:
                return await self._points(runs)

    async def _points(self, runs: Sequence[Run]) -> tuple[pl.DataFrame, tuple[Column, ...]]:
        most = self._options.max_points
        metrics = self.asked.metrics
        points = await Histories(self._api, runs, span=self._query.span, max_points=most).gather(metrics)
        if points.cut:
            text = f"only {most} points are shown (`max_points`), those of the newest runs; there are more"
            self.notices.append(Notice("warning", text))
        logged = set[str]().union(*(item.metrics for item in runs))
        if runs and (unknown := (metrics or frozenset()) - logged):
            text = f"none of these runs has the metrics {shown_names(sorted(unknown))}; they have "
            self.notices.append(Notice("warning", text + shown_names(sorted(logged))))
        return await self._made(len(points.run), self._columns({}), partial(tables.of_points, points, runs))

    async def _made(
        self, rows: int, columns: tuple[Column, ...], make: partial[tables.Table]
    ) -> tuple[pl.DataFrame, tuple[Column, ...]]:
        data, notices = await run(rows * len(columns), lambda: make(columns=columns))
        self.notices += notices
        return data, columns

    def _wanted(self, experiments: Sequence[Experiment]) -> dict[str, str]:
        """Names of the experiments to read, by id.

        Errors: DataMissing when the settings name one that is not there.
        """
        here = {item.name: item.id for item in experiments if not item.deleted}
        named = self._options.experiments
        gone = [name for name in named or () if name not in here]
        if gone:
            deleted = any(item.name == gone[0] for item in experiments)
            what = (
                f"the experiment {shown_names(gone[:1])} is deleted"
                if deleted
                else (f"there is no experiment {shown_names(gone[:1])}")
            )
            raise DataMissing(
                f"`{self._plan.name}`: {what}; the server has {shown_names(sorted(here)) if here else 'none'}",
                remedy="correct `experiments`, or leave it out to read all of them",
            )
        asked = self.asked.experiments
        return {here[name]: name for name in (here if named is None else named) if asked is None or name in asked}

    async def _runs(self, wanted: dict[str, str]) -> list[Run]:
        """The newest runs of these experiments, each once, as far as they may be read."""
        most = self._options.max_runs
        pages = self._api.runs(tuple(wanted), self.asked.text, min(PAGE_ITEMS, most + 1))
        found: dict[str, Run] = {}
        # One more than is wanted: MLflow 2 sends a token with every full page, also with the last.
        while pages.more and len(found) <= most:
            # A run that starts meanwhile moves the others on, so that one may come twice.
            found |= {item.id: item for item in self._api.read_runs(await pages.next(), wanted)}
            if self._names is not None:
                self._names.check(self._keys(found.values()))
        if len(found) > most:
            text = f"only the {most} newest runs are read (`max_runs`); there are more"
            self.notices.append(Notice("warning", text))
        return list(found.values())[:most]

    def _columns(self, keys: Keys) -> tuple[Column, ...]:
        if self._names is None:
            return self._plan.columns or ()
        self._names.learn(keys)
        self.notices += self._names.notices()
        return self._names.columns

    def _keys(self, runs: Iterable[Run]) -> Keys:
        """The keys of which undeclared columns are made."""
        keys: dict[str, set[str]] = {"metrics": set(), "params": set()}
        items = list(runs)
        for item in items:
            keys["metrics"].update(item.metrics)
            keys["params"].update(item.params)
        return {**keys, "tags": self._tags(items)}

    def _tags(self, items: Iterable[Experiment | Run]) -> set[str]:
        found = set[str]().union(*(item.tags for item in items))
        return found if self._options.system_tags else {key for key in found if not key.startswith(SYSTEM)}
