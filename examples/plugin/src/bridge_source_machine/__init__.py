"""Load of the machine bridge runs on, sampled while it is asked for."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any

from pydantic import Field

from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.sources.base import DatasetSpec, DataSource, Options, Ping, Tools
from bridge.sources.table import from_rows

SCHEMA = Schema(
    (
        Column("time", ColumnType.TIME, role=Role.TIME),
        Column("load1", ColumnType.NUMBER, unit="short", role=Role.MEASURE, description="runnable tasks, 1 min mean"),
        Column("load5", ColumnType.NUMBER, unit="short", role=Role.MEASURE, description="runnable tasks, 5 min mean"),
        Column(
            "load15", ColumnType.NUMBER, unit="short", role=Role.MEASURE, description="runnable tasks, 15 min mean"
        ),
        Column("host", ColumnType.STRING, role=Role.DIMENSION),
    )
)


class MachineSource(DataSource):
    """Load averages of this machine; keeps the last samples in memory."""

    kind = "machine"
    version = "0.1.0"
    infers_schema = True
    default_refresh_s = 1.0

    class SourceOptions(Options):
        """How much is kept."""

        samples: int = Field(3600, ge=1, le=1_000_000, description="Samples kept in memory.")
        every_s: float = Field(1.0, gt=0, description="Seconds between two frames of the stream.")

    def __init__(self, name: str, options: Options, datasets: Mapping[str, DatasetSpec], tools: Tools) -> None:
        super().__init__(name, options, datasets, tools)
        assert isinstance(options, self.SourceOptions)
        self._own = options
        self._samples: deque[dict[str, Any]] = deque(maxlen=options.samples)

    def schema(self, table: str) -> Schema:
        """The same for every dataset."""
        return SCHEMA

    async def collect(self, query: Query) -> Frame:
        """The samples so far, with one of now."""
        self._samples.append(self._sample())
        return self._frame(list(self._samples), query)

    async def subscribe(self, query: Query) -> AsyncIterator[Frame]:
        """One frame of one row per sample, without end."""
        while True:
            yield self._frame([self._sample()], query)
            await asyncio.sleep(self._own.every_s)

    async def ping(self) -> Ping:
        """The machine is here by definition."""
        return Ping(ok=True, text=os.uname().nodename)

    def _sample(self) -> dict[str, Any]:
        load1, load5, load15 = os.getloadavg()
        now = self.tools.clock.now()
        return {
            "time": now.isoformat(),
            "load1": load1,
            "load5": load5,
            "load15": load15,
            "host": os.uname().nodename,
        }

    def _frame(self, rows: list[dict[str, Any]], query: Query) -> Frame:
        data, _ = from_rows(rows, SCHEMA.columns)
        return Frame(data, SCHEMA, query.dataset)
