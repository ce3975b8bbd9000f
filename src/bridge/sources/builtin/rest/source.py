"""The `rest` source."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.edge.upstream import Answer
from bridge.errors import (
    AddressRefused,
    NeedsAuth,
    SchemaMismatch,
    SourceError,
    UpstreamInvalid,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from bridge.model.frame import Frame, Meta
from bridge.model.query import Query
from bridge.model.schema import Schema
from bridge.sources.base import DatasetSpec, DataSource, Options, Ping, Tools
from bridge.sources.builtin.http.client import Call, Client
from bridge.sources.builtin.rest.harvest import Harvest
from bridge.sources.builtin.rest.options import RestDataset, RestOptions
from bridge.sources.builtin.rest.plan import BadSetting, Plans, compile_plans
from bridge.sources.builtin.rest.templates import values_of
from bridge.sources.builtin.rest.version import VersionReader

PROBE_BYTES = 1024 * 1024
# A version or a sign of life comes at once or not at all; the questions behind it must still have time.
PROBE_S = 5.0


class RestSource(DataSource):
    """Any container's HTTP API: JSON, NDJSON or CSV, mapped by configuration."""

    kind = "rest"
    description = "any container's HTTP API, mapped by configuration"
    SourceOptions = RestOptions
    DatasetOptions = RestDataset

    def __init__(self, name: str, options: Options, datasets: Mapping[str, DatasetSpec], tools: Tools) -> None:
        super().__init__(name, options, datasets, tools)
        if not isinstance(options, RestOptions):
            raise TypeError(f"{name}: options of {type(options).__name__}")
        self._options = options
        self._client = Client(options, tools)
        self._version = VersionReader(options.version, self._probe, tools.clock) if options.version else None
        self._plans = {table: compile_plans(name, spec) for table, spec in datasets.items()}
        if self._version is None and (table := next((key for key, p in self._plans.items() if p.by_version), None)):
            raise BadSetting(f"{name}.{table}: `by_version` needs `version` in the source's options", ("options",))

    def narrow(self, query: Query) -> Query:
        """What the dataset's templates carry to the far API."""
        return self._plans[query.table].narrow(query)

    async def ping(self) -> Ping:
        """Whether the far API answers; any answer but a refused credential will do."""
        try:
            if self._version is not None:
                self._version.forget()
                self.far_version = await self._version.current()
            else:
                await self._probe("")
        except (NeedsAuth, UpstreamTimeout, UpstreamUnavailable, AddressRefused) as error:
            return Ping(ok=False, text=error.message, far_version=self.far_version)
        except SourceError as error:
            return Ping(ok=True, text=error.message, far_version=self.far_version)
        return Ping(ok=True, far_version=self.far_version)

    async def collect(self, query: Query) -> Frame:
        """The rows of all pages, typed.

        Errors: SourceError when the far API fails or no longer fits, BadQuery for a value its path cannot take,
                AnswerTooLarge over the row limit.
        """
        plan = self._plans[query.table].pick(await self._far_version(self._plans[query.table]))
        values = values_of(
            query, [column for column, _ in plan.columns], plan.declared, max_rows=self.tools.limits.max_rows
        )
        harvest = Harvest(plan, max_rows=self.tools.limits.max_rows, max_bytes=self._options.max_bytes)
        try:
            await harvest.gather(self._client, values)
            data, notices = await harvest.table()
        except (UpstreamRefused, UpstreamInvalid, SchemaMismatch):
            # The far side may have been replaced by another version.
            if self._version is not None:
                self._version.forget()
            raise
        meta = Meta(notices=(*harvest.notices, *notices), executed=harvest.executed)
        return Frame(data, Schema(tuple(column for column, _ in plan.columns)), name=query.dataset, meta=meta)

    async def _far_version(self, plans: Plans) -> str | None:
        """The version by which adapters are chosen; where none depends on it, it is only noted."""
        if self._version is not None:
            self.far_version = await (self._version.current() if plans.by_version else self._version.known())
        return self.far_version

    async def _probe(self, path: str) -> Answer:
        return await self._client.send(Call(path=path), max_bytes=PROBE_BYTES, most_s=PROBE_S)
