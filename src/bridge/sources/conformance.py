"""The suite that judges a source plug-in. One line in the plug-in's tests runs all of it:

TestMine = conformance(MySource, {"options": {...}, "datasets": [{"name": "runs", "options": {...}}]})
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import polars as pl
import pytest
from pydantic import ValidationError

from bridge.edge.upstream import UpstreamPool
from bridge.errors import BridgeError
from bridge.model.clock import SystemClock
from bridge.model.filters import Filter, Op
from bridge.model.frame import DTYPES, Frame
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Kind, Param, Role, Shape
from bridge.model.span import Span
from bridge.sources.base import DataSource, Ping, Tools
from bridge.sources.present import select_rows
from bridge.sources.registry import DatasetConfig, Plugin, SourceConfig, build

T = TypeVar("T")
Config = Mapping[str, Any]
DEADLINE_S = 30.0


def conformance(
    cls: type[DataSource],
    config: Config | Callable[[], AbstractContextManager[Config]],
    *,
    base_dir: Path | None = None,
) -> type[Conformance]:
    """A test class that judges `cls`, configured as a source of the settings file is.

    Shape: `config` holds `options` and `datasets` as under `sources` in `bridge.yaml`, or is a function whose
           context gives them while a server they need is running.
    """
    name = f"Test{cls.__name__}Conformance"
    return type(name, (Conformance,), {"plugin": cls, "given": staticmethod(_opener(config)), "base_dir": base_dir})


def _opener(
    config: Config | Callable[[], AbstractContextManager[Config]],
) -> Callable[[], AbstractContextManager[Config]]:
    if isinstance(config, Mapping):
        fixed = config
        return lambda: nullcontext(fixed)
    return config


class Conformance:
    """What bridge relies on, of every source."""

    plugin: type[DataSource]
    given: Callable[[], AbstractContextManager[Config]]
    base_dir: Path | None = None

    def _judge(self, work: Callable[[DataSource], Awaitable[T]]) -> T:
        """Builds the source as the service does, opens it, lets `work` look at it, and closes it."""

        async def run(config: Config) -> T:
            pool = UpstreamPool()
            tools = Tools(pool.upstream, SystemClock(), self.base_dir or Path.cwd())
            source = _built(self.plugin, config, tools)
            try:
                async with asyncio.timeout(DEADLINE_S):
                    await source.open()
                    return await work(source)
            finally:
                await source.aclose()
                await source.aclose()
                await pool.aclose()

        with type(self).given() as config:
            return asyncio.run(run(config))

    def _each(self, check: Callable[[DataSource, str, Frame], Awaitable[None]]) -> None:
        async def work(source: DataSource) -> None:
            assert source.datasets, "the configuration under test names no dataset"
            for table in source.datasets:
                await check(source, table, await _collected(source, _query(source, table)))

        self._judge(work)

    def test_says_what_it_is(self) -> None:
        """It has a kind, a version and a description that people can read in a list."""
        assert self.plugin.kind.isidentifier(), "`kind` must be a plain name"
        assert self.plugin.version, "`version` is empty"
        assert (self.plugin.description or self.plugin.__doc__ or "").strip(), "say in the docstring what it reads"

    def test_refuses_options_it_does_not_know(self) -> None:
        """A mistyped option stops the start instead of being ignored."""
        for model in (self.plugin.SourceOptions, self.plugin.DatasetOptions):
            with pytest.raises(ValidationError, match="no_such_option"):
                model.model_validate({"no_such_option": 1})

    def test_lists_its_datasets(self) -> None:
        """Its metadata names every configured dataset."""

        async def work(source: DataSource) -> None:
            meta = source.metadata
            assert meta.kind == self.plugin.kind
            assert set(meta.datasets) == set(source.datasets)

        self._judge(work)

    def test_answers_a_ping(self) -> None:
        """It can tell whether the far side is there."""

        async def work(source: DataSource) -> None:
            ping = await source.ping()
            assert isinstance(ping, Ping)
            assert ping.ok, f"the far side of the configuration under test does not answer: {ping.text}"

        self._judge(work)

    def test_gives_the_columns_it_publishes(self) -> None:
        """Every dataset's frame has exactly the columns of its schema, in order and typed."""

        async def check(source: DataSource, table: str, frame: Frame) -> None:
            schema = source.schema(table) or frame.schema
            assert frame.schema.names == schema.names, f"{table}: the frame's schema differs from the published one"
            assert tuple(frame.data.columns) == schema.names, f"{table}: data and schema differ"
            for column in schema.columns:
                dtype = frame.data.schema[column.name]
                good = dtype.is_numeric() if column.type is ColumnType.NUMBER else dtype == DTYPES[column.type]
                assert good, f"{table}.{column.name} is declared {column.type} but holds {dtype}"

        self._each(check)

    def test_passes_its_own_checks(self) -> None:
        """What it gives is not held back by its own validation, before and after its transform."""

        async def check(source: DataSource, table: str, frame: Frame) -> None:
            assert not source.validate(frame).blocked, f"{table}: {source.validate(frame).blockers}"
            assert not source.validate(source.transform(frame)).blocked, f"{table}: the transform breaks the frame"

        self._each(check)

    def test_gives_the_same_columns_again(self) -> None:
        """A second question gets the same columns."""

        async def check(source: DataSource, table: str, frame: Frame) -> None:
            again = await _collected(source, _query(source, table))
            assert again.schema.fingerprint == frame.schema.fingerprint, f"{table} changes its columns"

        self._each(check)

    def test_narrows_only_what_it_was_asked(self) -> None:
        """`narrow` keeps dataset and parameters, adds nothing, and is stable."""

        async def check(source: DataSource, table: str, frame: Frame) -> None:
            asked = _narrowed(source, table, frame)
            kept = source.narrow(asked)
            assert kept.dataset == asked.dataset
            assert kept.params == asked.params
            assert set(kept.filters) <= set(asked.filters)
            assert kept.span in (None, asked.span)
            assert source.narrow(kept) == kept, f"{table}: narrowing twice gives another query"

        self._each(check)

    def test_a_narrowed_answer_loses_no_row(self) -> None:
        """Rows that match span and filters are the same whether the source filters or bridge does."""

        async def check(source: DataSource, table: str, frame: Frame) -> None:
            asked = _narrowed(source, table, frame)
            pushed = select_rows(await _collected(source, source.narrow(asked)), asked)
            local = select_rows(frame, asked)
            shared = [name for name in local.data.columns if name in pushed.data.columns]
            missing = local.data.select(shared).join(
                pushed.data.select(shared), on=shared, how="anti", nulls_equal=True
            )
            assert missing.is_empty(), f"{table}: pushing down loses {missing.height} rows, e.g. {missing.head(1)}"

        self._each(check)

    def test_can_be_cancelled(self) -> None:
        """When the client goes, the work stops: a cancelled collect ends."""

        async def work(source: DataSource) -> None:
            table = next(iter(source.datasets))
            task = asyncio.create_task(_collected(source, _query(source, table)))
            await asyncio.sleep(0)
            task.cancel()
            done, _ = await asyncio.wait({task}, timeout=DEADLINE_S / 2)
            assert done, "a cancelled collect goes on: do not swallow CancelledError"

        self._judge(work)

    def test_tags_are_texts(self) -> None:
        """Tag keys and values, where the source has its own, are columns and texts."""

        async def check(source: DataSource, table: str, frame: Frame) -> None:
            query = _query(source, table)
            keys = await source.tag_keys(query)
            assert keys is None or set(keys) <= set(frame.schema.names), f"{table}: tag keys are no columns: {keys}"
            for key in keys or [column.name for column in frame.schema.with_role(Role.DIMENSION)]:
                values = await source.tag_values(query, key)
                assert values is None or all(isinstance(value, str) for value in values)

        self._each(check)

    def test_streams_frames_if_it_streams(self) -> None:
        """`subscribe` either gives frames with the dataset's columns or says that there is no stream."""

        async def work(source: DataSource) -> None:
            table = next(iter(source.datasets))
            if not source.metadata.streams:
                with pytest.raises(NotImplementedError):
                    source.subscribe(_query(source, table))
                return
            async for frame in source.subscribe(_query(source, table)):
                assert frame.schema.names == (source.schema(table) or frame.schema).names
                break

        self._judge(work)


def _built(cls: type[DataSource], config: Config, tools: Tools) -> DataSource:
    datasets = tuple(_dataset(item) for item in config.get("datasets", ()))
    source = SourceConfig("under_test", cls.kind, config.get("options", {}), datasets)
    registry, problems = build([source], {cls.kind: Plugin(cls.kind, "under test", cls)}, tools)
    assert not problems, "; ".join(f"{'.'.join(map(str, problem.loc))}: {problem.text}" for problem in problems)
    entry = registry.source("under_test")
    assert entry.source is not None, f"the source does not start: {entry.error}"
    return entry.source


def _dataset(given: Mapping[str, Any]) -> DatasetConfig:
    columns = tuple(
        Column(
            name=item["name"],
            type=ColumnType(item["type"]),
            unit=item.get("unit"),
            role=Role(item["role"]) if item.get("role") else None,
            kind=Kind(item.get("kind", "gauge")),
            select=item.get("select"),
        )
        for item in given.get("columns", ())
    )
    params = tuple(Param(**item) for item in given.get("params", ()))
    shape = Shape(given.get("shape", "auto"))
    return DatasetConfig(given["name"], given.get("options", {}), columns, params, shape)


def _query(source: DataSource, table: str) -> Query:
    params = tuple((p.name, (p.default,)) for p in source.datasets[table].params if p.default is not None)
    return Query(f"{source.name}.{table}", params=params)


def _narrowed(source: DataSource, table: str, frame: Frame) -> Query:
    """A question about some of the rows: the middle of the time they span, and one value of one dimension."""
    query = _query(source, table)
    time = frame.schema.time
    times = frame.data[time.name].drop_nulls() if time else pl.Series([])
    span = None
    if len(times):
        first, last = cast("datetime", times.min()), cast("datetime", times.max())
        quarter = (last - first) / 4
        span = Span(first + quarter, last - quarter + timedelta(microseconds=1))
    filters = []
    for column in frame.schema.with_role(Role.DIMENSION):
        values = frame.data[column.name].drop_nulls()
        if len(values) and column.type is ColumnType.STRING:
            filters.append(Filter(column.name, Op.EQ, (values[0],)))
            break
    return Query(query.dataset, params=query.params, span=span, filters=tuple(filters))


async def _collected(source: DataSource, query: Query) -> Frame:
    try:
        frame = await source.collect(query)
    except BridgeError as error:
        raise AssertionError(f"{query.dataset} cannot be collected: {error.message} {error.remedy}") from error
    return Frame(frame.data, frame.schema, query.dataset, meta=frame.meta)
