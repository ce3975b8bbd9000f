"""What the tests of the sources share: a clock by hand, a source in memory, and a desk as the service builds it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from bridge.edge.cache import Cache
from bridge.edge.meters import Meters
from bridge.edge.upstream import UpstreamPool
from bridge.model.filters import Filter, parse_filter
from bridge.model.frame import DTYPES, Frame
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.model.span import Span
from bridge.sources.ask import Desk
from bridge.sources.base import DatasetSpec, DataSource, Limits, Options, Tools
from bridge.sources.keeper import Keeper, Kit
from bridge.sources.registry import DatasetConfig, Freshness, Plugin, Registry, SourceConfig, build

T0 = datetime(2026, 1, 31, 12, tzinfo=UTC)
COLUMNS = (
    Column("time", ColumnType.TIME, role=Role.TIME),
    Column("value", ColumnType.NUMBER, unit="short", role=Role.MEASURE),
    Column("model", ColumnType.STRING, role=Role.DIMENSION),
)
ROWS = ((0, 1.0, "svm"), (1, 2.0, "tree"), (2, 3.0, "svm"))


def at(seconds: float) -> datetime:
    """The instant so many seconds after noon."""
    return T0 + timedelta(seconds=seconds)


def span(start_s: float, end_s: float) -> Span:
    """A span in seconds after noon."""
    return Span(at(start_s), at(end_s))


def where(*texts: str) -> tuple[Filter, ...]:
    """Filters as `column<op>value`."""
    return tuple(map(parse_filter, texts))


def table(rows: Iterable[Sequence[Any]], columns: Sequence[Column] = COLUMNS) -> pl.DataFrame:
    """Rows as a typed table; times are seconds after noon."""
    times = [index for index, column in enumerate(columns) if column.type is ColumnType.TIME]
    made = [
        [at(cell) if index in times and cell is not None else cell for index, cell in enumerate(row)] for row in rows
    ]
    return pl.DataFrame(made, schema={column.name: DTYPES[column.type] for column in columns}, orient="row")


def frame_of(rows: Iterable[Sequence[Any]] = ROWS, columns: Sequence[Column] = COLUMNS, name: str = "") -> Frame:
    """Rows as a frame."""
    return Frame(table(rows, columns), Schema(tuple(columns)), name)


class ManualClock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def now(self) -> datetime:
        return at(self.passed_s)

    def monotonic_s(self) -> float:
        return 1_000.0 + self.passed_s

    def advance(self, seconds: float) -> None:
        self.passed_s += seconds


Step = Exception | Frame | asyncio.Event | Callable[[Query], Awaitable[Any]]


class StubDataset(Options):
    """Nothing is needed to read from memory; what is here tries the settings' own rules."""

    rows: int = 0


class StubSource(DataSource):
    """Rows in memory, given as the test scripts it."""

    kind = "stub"
    DatasetOptions = StubDataset
    infers_schema = True
    default_refresh_s = 5.0

    def __init__(self, name: str, options: Options, datasets: Mapping[str, DatasetSpec], tools: Tools) -> None:
        super().__init__(name, options, datasets, tools)
        self.data = frame_of()
        self.script: list[Step] = []
        self.always: Step | None = None
        self.token: str | None = None
        self.pushes: frozenset[str] = frozenset()
        self.asked: list[Query] = []
        self.probes = 0
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()

    def narrow(self, query: Query) -> Query:
        return replace(query.whole(), **{name: getattr(query, name) for name in self.pushes})

    async def fingerprint(self, query: Query) -> str | None:
        self.probes += 1
        return self.token

    async def collect(self, query: Query) -> Frame:
        """Plays the next step: an error is raised, a frame given, an event waited for, a function called."""
        self.asked.append(query)
        self.started.set()
        step = self.script.pop(0) if self.script else self.always
        try:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif callable(step):
                return await step(query)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return step if isinstance(step, Frame) else self.data


@dataclass
class Rig:
    """A desk and what it stands on."""

    desk: Desk
    registry: Registry
    cache: Cache
    meters: Meters
    clock: ManualClock
    limits: Limits = field(default_factory=Limits)

    def source(self, name: str = "lab") -> Any:
        found = self.registry.source(name).source
        assert found is not None
        return found

    def keeper(self, name: str = "lab.runs") -> Keeper:
        return self.desk.keepers[name]

    def counted(self, metric: str, **labels: str) -> float:
        """The present value of one sample; 0 where it was never counted."""
        return self.meters.registry.get_sample_value(metric, labels) or 0.0


def tools_of(clock: ManualClock | None = None, limits: Limits | None = None, base_dir: Path = Path()) -> Tools:
    """What a plug-in is given."""
    return Tools(UpstreamPool().upstream, clock or ManualClock(), base_dir, limits or Limits())


def dataset(name: str = "runs", *, columns: Sequence[Column] = COLUMNS, **options: Any) -> DatasetConfig:
    """A dataset of the stub source; freshness is given by its own names."""
    own = {
        key: options.pop(key) for key in ("refresh_s", "stale_after_s", "min_refresh_s", "retries") if key in options
    }
    freshness = Freshness(**{"retries": 0, **own})
    return DatasetConfig(name, columns=tuple(columns), freshness=freshness, **options)


def make_desk(
    *datasets: DatasetConfig,
    sources: Sequence[SourceConfig] | None = None,
    plugins: Mapping[str, Plugin] | None = None,
    max_bytes: int = 2**30,
    **limits: Any,
) -> Rig:
    """A desk over sources in memory: `lab` with the datasets given, or `runs`."""
    clock, bounds = ManualClock(), Limits(**limits)
    configs = sources or [SourceConfig("lab", "stub", {}, datasets or (dataset(),))]
    known = {"stub": Plugin("stub", "tests", StubSource), **(plugins or {})}
    registry, problems = build(configs, known, tools_of(clock, bounds))
    assert not problems, problems
    cache = Cache.in_memory(max_bytes=max_bytes, size_of=lambda held: held.frame.data.estimated_size(), clock=clock)
    meters = Meters()
    kit = Kit(cache, clock, meters, bounds, jitter=lambda: 0.0, retry_wait_s=0.001)
    return Rig(Desk(registry, kit), registry, cache, meters, clock, bounds)


async def settle(turns: int = 20) -> None:
    """Lets everything that can go on without waiting go on."""
    for _ in range(turns):
        await asyncio.sleep(0)


def texts(frame: Frame) -> list[str]:
    """The frame's notices as `severity: text`."""
    return [f"{notice.severity}: {notice.text}" for notice in frame.meta.notices]
