"""The `mlflow` source."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.model.frame import Frame, Meta
from bridge.model.query import Query
from bridge.model.schema import Schema
from bridge.sources.base import DatasetSpec, DataSource, Options, Ping, Tools
from bridge.sources.builtin.http.client import Client
from bridge.sources.builtin.mlflow.api import Api, Server
from bridge.sources.builtin.mlflow.names import Names
from bridge.sources.builtin.mlflow.options import MlflowDataset, MlflowOptions
from bridge.sources.builtin.mlflow.plan import FIXED, compile_plan
from bridge.sources.builtin.mlflow.reading import Reading


class MlflowSource(DataSource):
    """Experiments, runs, parameters and metric histories of an MLflow tracking server."""

    kind = "mlflow"
    description = "Experiments, runs, parameters and metric histories of an MLflow tracking server."
    SourceOptions = MlflowOptions
    DatasetOptions = MlflowDataset
    infers_schema = True
    default_refresh_s = 10.0

    def __init__(self, name: str, options: Options, datasets: Mapping[str, DatasetSpec], tools: Tools) -> None:
        super().__init__(name, options, datasets, tools)
        if not isinstance(options, MlflowOptions):
            raise TypeError(f"{name}: options of {type(options).__name__}")
        self._options = options
        self._client = Client(options, tools)
        self._server = Server(self._client, tools.clock)
        self._plans = {table: compile_plan(name, spec) for table, spec in datasets.items()}
        self._names = {
            table: Names(plan.name, FIXED[plan.options.kind])
            for table, plan in self._plans.items()
            if plan.columns is None
        }

    def narrow(self, query: Query) -> Query:
        """The time range, and the filters that MLflow understands as bridge does."""
        return self._plans[query.table].narrow(query)

    def schema(self, table: str) -> Schema | None:
        """The declared columns, those the kind always has, or those met so far."""
        names = self._names.get(table)
        if names is not None:
            return Schema(names.columns) if names.settled else None
        return Schema(self._plans[table].columns or ())

    async def ping(self) -> Ping:
        """Whether MLflow answers at this address."""
        ping = await self._server.ping()
        self.far_version = ping.far_version
        return ping

    async def collect(self, query: Query) -> Frame:
        """All rows, typed.

        Errors: SourceError when the server fails or is no MLflow, DataMissing for an experiment it does not have,
                AnswerTooLarge when undeclared columns are too many.
        """
        self.far_version = await self._server.version()
        plan = self._plans[query.table]
        api = Api(self._client, plan.name, max_bytes=self._options.max_bytes)
        reading = Reading(plan, api, query, self._names.get(query.table), max_rows=self.tools.limits.max_rows)
        data, columns = await reading.table()
        custom = {"far_version": self.far_version} if self.far_version else {}
        meta = Meta(notices=tuple(reading.notices), custom=custom, executed=reading.asked.text or None)
        return Frame(data, Schema(columns), name=query.dataset, meta=meta)
