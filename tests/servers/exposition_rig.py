"""An `exposition` source as the settings would build it, over real connections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import polars as pl
from aiohttp import web

from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.sources.base import DatasetSpec
from bridge.sources.builtin.exposition import ExpositionSource
from servers.far import far, text
from servers.rest_rig import HandClock, columns, tools

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
Q = Query("node.rows")


def page(body: str | bytes, content_type: str = TEXT, **headers: str) -> web.Response:
    """A page of metrics as a server sends it."""
    return text(body, content_type, **headers)


@asynccontextmanager
async def exposition(
    url: str, dataset: Mapping[str, Any] | None = None, *cols: str, clock: HandClock | None = None, **options: Any
) -> AsyncIterator[ExpositionSource]:
    """A source `node` with one dataset `rows`."""
    spec = DatasetSpec("rows", ExpositionSource.DatasetOptions.model_validate(dataset or {}), columns(*cols))
    settings = ExpositionSource.SourceOptions.model_validate({"url": url, **options})
    async with tools(clock) as given:
        source = ExpositionSource("node", settings, {"rows": spec}, given)
        try:
            yield source
        finally:
            await source.aclose()


async def collected(
    body: str | bytes, dataset: Mapping[str, Any] | None = None, *cols: str, kind: str = TEXT, **options: Any
) -> Frame:
    """The frame of one page, which the source holds valid."""
    clock = HandClock()
    async with (
        far(lambda seen: page(body, kind)) as there,
        exposition(there.url, dataset, *cols, clock=clock, **options) as source,
    ):
        frame = await source.collect(Q)
        assert source.validate(frame).findings == ()
        assert source.schema("rows") == frame.schema
        return frame


def rows(frame: Frame, *names: str) -> list[tuple[Any, ...]]:
    """The frame's rows, or those columns of them."""
    data: pl.DataFrame = frame.data.select(names) if names else frame.data
    return data.rows()


def sentences(frame: Frame) -> list[str]:
    """What the frame says beside its rows."""
    return [notice.text for notice in frame.meta.notices]
