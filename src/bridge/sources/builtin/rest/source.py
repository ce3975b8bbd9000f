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
from bridge.sources.base import BadSetting, DatasetSpec, DataSource, Options, Ping, Tools
from bridge.sources.builtin.http.client import Call, Client
from bridge.sources.builtin.rest.harvest import Harvest
from bridge.sources.builtin.rest.options import RestDataset, RestOptions
from bridge.sources.builtin.rest.plan import Plans, compile_plans
from bridge.sources.builtin.rest.templates import values_of
from bridge.sources.builtin.rest.version import VersionReader

PROBE_BYTES = 1024 * 1024
# A version or a sign of life comes at once or not at all; the questions behind it must still have time.
PROBE_S = 5.0


class RestSource(DataSource):
    """Any container's HTTP API: JSON, NDJSON or CSV, mapped by configuration."""

    kind = "rest"
    description = "Any container's HTTP API, mapped by configuration."
    SourceOptions = RestOptions
    DatasetOptions = RestDataset

    def __init__(self, name: str, options: Options, datasets: Mapping[str, DatasetSpec], tools: Tools) -> None:
        super().__init__(name, options, datasets, tools)
        if not isinstance(options, RestOptions):
            raise TypeError(f"{name}: options of {type(options).__name__}")
        self._options = options
        self._client = Client(options, tools)
        self._version = VersionReader(options.version, self._probe, tools.clock) if options.version else None
        accept = options.version.accept if options.version else ()
        self._plans = {table: compile_plans(name, spec, accept) for table, spec in datasets.items()}
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
        plans, reader = self._plans[query.table], self._version
        asked = reader.asked if reader else 0
        version = await self._far_version(plans)
        # A version that this very question asked for is not in question when the answer does not fit.
        kept = reader if reader and plans.depend and reader.asked == asked else None
        try:
            frame, doubtful = await self._answer(query, plans, version)
        except (UpstreamRefused, UpstreamInvalid, UpstreamUnavailable, SchemaMismatch):
            if (newer := await self._replaced(kept, version)) is None:
                if reader:
                    reader.forget()
                raise
        else:
            if not doubtful or (newer := await self._replaced(kept, version)) is None:
                return frame
        return (await self._answer(query, plans, newer))[0]

    async def _answer(self, query: Query, plans: Plans, version: str | None) -> tuple[Frame, bool]:
        """The frame as this version of the far API gives it, and whether it looks like an answer of another."""
        plan = plans.pick(version)
        columns = tuple(column for column, _ in plan.columns)
        limit_rows = self.tools.limits.max_rows
        harvest = Harvest(
            plan,
            max_rows=limit_rows,
            max_bytes=self._options.max_bytes,
            version_of=self._version.of if self._version else lambda answer: None,
        )
        await harvest.gather(self._client, values_of(query, columns, plan.declared, max_rows=limit_rows))
        if plans.depend and any(said != version for said in harvest.versions):
            raise UpstreamInvalid(
                f"{plan.name}: the far API was asked as version {version}, and its answer says "
                f"{', '.join(harvest.versions)}",
                remedy="ask again; when it stays, servers of several versions stand behind the address",
            )
        data, notices = await harvest.table()
        # Of the answer itself, not of the source: by now another question may have met another version.
        answered_by = version if plans.depend or not harvest.versions else harvest.versions[-1]
        meta = Meta(
            notices=(*harvest.notices, *notices),
            custom={} if answered_by is None else {"far_version": answered_by},
            executed=harvest.executed,
        )
        return Frame(data, Schema(columns), name=query.dataset, meta=meta), harvest.doubtful

    async def _far_version(self, plans: Plans) -> str | None:
        """The version by which adapters are chosen; where none depends on it, it is only noted."""
        if self._version is None:
            return None
        found = await (self._version.current() if plans.depend else self._version.known())
        self.far_version = found
        return found

    async def _replaced(self, reader: VersionReader | None, version: str | None) -> str | None:
        """The version that took the place of `version` on the far side; None when none did, or it cannot be told."""
        if reader is None:
            return None
        try:
            found = await reader.anew()
        except SourceError:
            return None
        self.far_version = found
        return found if found != version else None

    async def _probe(self, path: str) -> Answer:
        return await self._client.send(Call(path=path), max_bytes=PROBE_BYTES, most_s=PROBE_S)
