"""The suite that judges a source plug-in. One line in the plug-in's tests runs all of it:

TestMine = conformance(MySource, {"options": {...}, "datasets": [{"name": "runs", "options": {...}}]})
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import ValidationError

from bridge.edge.upstream import UpstreamPool
from bridge.errors import BridgeError
from bridge.model.clock import SystemClock
from bridge.model.frame import DTYPES, Frame
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Kind, Param, Role, Shape
from bridge.sources.base import DataSource, Ping, Tools
from bridge.sources.leash import Leash
from bridge.sources.present import select_rows
from bridge.sources.questions import missing_rows, questions
from bridge.sources.registry import DatasetConfig, Plugin, SourceConfig, build

T = TypeVar("T")
Config = Mapping[str, Any]
DEADLINE_S = 30.0
# What goes on after a test gets this long to end.
GRACE_S = 0.5
# Turns of the loop after which a collect is cancelled: at once, and when it is deeper in its work.
CANCEL_AFTER_TURNS = (1, 3, 10, 30)


def conformance(
    cls: type[DataSource],
    config: Config | Callable[[], AbstractContextManager[Config]],
    *,
    base_dir: Path | None = None,
    deadline_s: float = DEADLINE_S,
) -> type[Conformance]:
    """A test class that judges `cls`, configured as a source of the settings file is.

    Shape: `config` holds `options` and `datasets` as under `sources` in `bridge.yaml`, or is a function whose
           context gives them while a server they need is running.
    """
    own = {"plugin": cls, "given": staticmethod(_opener(config)), "base_dir": base_dir, "deadline_s": deadline_s}
    return type(f"Test{cls.__name__}Conformance", (Conformance,), own)


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
    deadline_s: float = DEADLINE_S

    def _judge(self, work: Callable[[DataSource], Awaitable[T]]) -> T:
        """Builds the source as the service does, opens it, lets `work` look at it, and closes it."""

        async def run(config: Config) -> T:
            pool = UpstreamPool()
            tools = Tools(pool.upstream, SystemClock(), self.base_dir or Path.cwd())
            source = _built(self.plugin, config, tools)
            leash = Leash(source.name)
            try:
                await leash.run(source.open, self.deadline_s)
                return await work(source)
            finally:
                await leash.run(source.aclose, self.deadline_s)
                await leash.run(source.aclose, self.deadline_s)
                await pool.aclose()

        with type(self).given() as config:
            return _on_a_loop(run(config))

    def _each(self, check: Callable[[DataSource, str, Frame], Awaitable[None]]) -> None:
        async def work(source: DataSource) -> None:
            assert source.datasets, "the configuration under test names no dataset"
            for table in source.datasets:
                await check(source, table, await self._collected(source, _query(source, table)))

        self._judge(work)

    async def _collected(self, source: DataSource, query: Query) -> Frame:
        try:
            frame = await Leash(query.dataset).run(lambda: source.collect(query), self.deadline_s)
        except BridgeError as error:
            raise AssertionError(f"{query.dataset} cannot be collected: {error.message} {error.remedy}") from error
        assert isinstance(frame, Frame), f"{query.dataset}: collect gives {type(frame).__name__} and not a Frame"
        return Frame(frame.data, frame.schema, query.dataset, meta=frame.meta)

    def test_says_what_it_is(self) -> None:
        """It has a kind, a version and a description that people can read in a list."""
        assert str(getattr(self.plugin, "kind", "")).isidentifier(), "`kind` must be a plain name"
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
            ping = await Leash(source.name).run(source.ping, self.deadline_s)
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
            again = await self._collected(source, _query(source, table))
            assert again.schema.fingerprint == frame.schema.fingerprint, f"{table} changes its columns"

        self._each(check)

    def test_narrows_only_what_it_was_asked(self) -> None:
        """`narrow` keeps dataset and parameters, adds nothing, and is stable."""

        async def check(source: DataSource, table: str, frame: Frame) -> None:
            for asked in questions(_query(source, table), frame):
                kept = source.narrow(asked)
                assert kept.dataset == asked.dataset, f"{table}: narrowing asks another dataset"
                assert kept.params == asked.params, f"{table}: narrowing changes the parameters"
                assert set(kept.filters) <= set(asked.filters), f"{table}: narrowing adds a filter"
                assert kept.span in (None, asked.span), f"{table}: narrowing changes the span"
                assert source.narrow(kept) == kept, f"{table}: narrowing twice gives another query"

        self._each(check)

    def test_a_narrowed_answer_loses_no_row(self) -> None:
        """Rows that match span and filters are the same whether the source filters or bridge does."""

        async def check(source: DataSource, table: str, frame: Frame) -> None:
            for asked in questions(_query(source, table), frame):
                pushed = select_rows(await self._collected(source, source.narrow(asked)), asked)
                gone = set(asked.columns) - set(pushed.data.columns)
                assert not gone, f"{table}: pushing down loses the wanted columns {', '.join(sorted(gone))}"
                lost = missing_rows(select_rows(frame, asked).data, pushed.data)
                what = ", ".join(map(str, asked.filters)) or "a time range or columns"
                assert lost.is_empty(), (
                    f"{table}: pushing down {what} loses {lost.height} rows, e.g. {lost.row(0, named=True)}"
                )

        self._each(check)

    def test_can_be_cancelled(self) -> None:
        """When the client goes, the work stops: a cancelled collect ends as cancelled."""

        async def work(source: DataSource) -> None:
            query = _query(source, next(iter(source.datasets)))

            async def call() -> Frame:
                return await source.collect(query)

            for turns in CANCEL_AFTER_TURNS:
                task = asyncio.create_task(call())
                for _ in range(turns):
                    await asyncio.sleep(0)
                if task.done():
                    task.exception()
                    continue
                task.cancel()
                done, _ = await asyncio.wait({task}, timeout=self.deadline_s / 2)
                assert done, "a cancelled collect goes on: do not swallow CancelledError"
                assert task.cancelled(), "a cancelled collect ends as something else: let CancelledError through"

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
            stream = source.subscribe(_query(source, table))
            frame = await Leash(source.name).run(lambda: anext(stream), self.deadline_s)
            assert frame.schema.names == (source.schema(table) or frame.schema).names

        self._judge(work)


def _on_a_loop(work: Coroutine[Any, Any, T]) -> T:
    """Runs `work` on a loop of its own, and leaves behind what does not end: asyncio.run would wait for it."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        if left := asyncio.all_tasks(loop):
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.wait(left, timeout=GRACE_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


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
            description=item.get("description", ""),
            select=item.get("select"),
        )
        for item in given.get("columns", ())
    )
    times = [column for column in columns if column.type is ColumnType.TIME]
    if len(times) == 1 and times[0].role is None:
        # As in the settings: the only time column has the role time by itself.
        columns = tuple(replace(column, role=Role.TIME) if column is times[0] else column for column in columns)
    params = tuple(Param(**item) for item in given.get("params", ()))
    shape = Shape(given.get("shape", "auto"))
    return DatasetConfig(given["name"], given.get("options", {}), columns, params, shape)


def _query(source: DataSource, table: str) -> Query:
    params = tuple((p.name, (p.default,)) for p in source.datasets[table].params if p.default is not None)
    return Query(f"{source.name}.{table}", params=params)
