"""A `rest` source as the settings would build it, over real connections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bridge.edge.upstream import UpstreamPool
from bridge.model.clock import SystemClock
from bridge.model.schema import Column, ColumnType, Param
from bridge.sources.base import DatasetSpec, Limits, Tools
from bridge.sources.builtin.rest import RestSource


class HandClock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(1_700_000_000 + self.seconds, UTC)

    def monotonic_s(self) -> float:
        return self.seconds


def columns(*texts: str) -> tuple[Column, ...]:
    """Columns from `name:type` or `name:type=select`."""
    out = []
    for item in texts:
        head, _, select = item.partition("=")
        name, _, kind = head.partition(":")
        out.append(Column(name, ColumnType(kind or "string"), select=select or None))
    return tuple(out)


def build(
    tools: Tools,
    url: str,
    dataset: Mapping[str, Any] | None = None,
    cols: Sequence[str] = ("name", "value:number"),
    *,
    params: tuple[Param, ...] = (),
    **options: Any,
) -> RestSource:
    """A source `far` with one dataset `runs`."""
    spec = DatasetSpec(
        "runs",
        RestSource.DatasetOptions.model_validate({"path": "/runs", **(dataset or {})}),
        columns(*cols),
        params,
    )
    settings = RestSource.SourceOptions.model_validate({"url": url, "allow_private": True, **options})
    return RestSource("far", settings, {"runs": spec}, tools)


@asynccontextmanager
async def tools(clock: HandClock | None = None, **limits: Any) -> AsyncIterator[Tools]:
    """What a plug-in is given, closed afterwards."""
    async with UpstreamPool() as pool:
        yield Tools(pool.upstream, clock or SystemClock(), Path(), Limits(**limits))


@asynccontextmanager
async def rest(
    url: str,
    dataset: Mapping[str, Any] | None = None,
    cols: Sequence[str] = ("name", "value:number"),
    *,
    params: tuple[Param, ...] = (),
    clock: HandClock | None = None,
    limits: Mapping[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[RestSource]:
    """A source `far` with one dataset `runs`, opened and closed."""
    async with tools(clock, **(limits or {})) as given:
        yield build(given, url, dataset, cols, params=params, **options)
