"""The `exposition` plug-in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from bridge.edge.upstream import Answer
from bridge.errors import SourceError, UpstreamTooLarge
from bridge.model.frame import Frame, Meta, Notice
from bridge.model.query import Query
from bridge.model.schema import Column, Schema
from bridge.model.span import to_us
from bridge.sources.base import DatasetSpec, DataSource, Options, Ping, Tools
from bridge.sources.builtin.exposition.columns import Table, tabled
from bridge.sources.builtin.exposition.form import ACCEPT, Form, form_of
from bridge.sources.builtin.exposition.options import ExpositionDataset, ExpositionOptions, Rows
from bridge.sources.builtin.exposition.points import distinct, points
from bridge.sources.builtin.exposition.scan import Scanner
from bridge.sources.builtin.exposition.tables import sheet
from bridge.sources.builtin.http.client import Call, Client
from bridge.sources.table import shown_names

# A sign of life comes at once or not at all; the questions behind it must still have time.
PING_S = 5.0
MAX_THREADS = 2


@dataclass(frozen=True, slots=True)
class Job:
    """How one page is read.

    Shape: `declared` empty means inferred; `known` are labels seen before.
    """

    what: str
    options: ExpositionDataset
    declared: tuple[Column, ...]
    known: tuple[str, ...]
    at: datetime
    stop: threading.Event


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of a page."""

    table: Table
    form: Form
    notices: tuple[Notice, ...]


class ExpositionSource(DataSource):
    """A container's page of metrics: the Prometheus text format and OpenMetrics."""

    kind: ClassVar[str] = "exposition"
    description = "A container's /metrics: Prometheus text and OpenMetrics."
    SourceOptions = ExpositionOptions
    DatasetOptions = ExpositionDataset
    infers_schema: ClassVar[bool] = True

    def __init__(self, name: str, options: Options, datasets: Mapping[str, DatasetSpec], tools: Tools) -> None:
        super().__init__(name, options, datasets, tools)
        if not isinstance(options, ExpositionOptions):
            raise TypeError(f"{name}: options of {type(options).__name__}")
        self._max_bytes = options.max_bytes
        self._client = Client(options, tools)
        # Its own: a page that takes long would hold the threads of every other source.
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix=f"exposition-{name}")
        self._labels: dict[str, tuple[str, ...]] = {}
        self._schemas: dict[str, Schema] = {}

    async def aclose(self) -> None:
        """Lets its threads go; one that still reads a page sees at its next line that nobody waits."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def collect(self, query: Query) -> Frame:
        """The rows of the page as it is now.

        Errors: SourceError and its subclasses when the page cannot be had, is not whole, or is too large.
        """
        spec = self.datasets[query.table]
        options = self._dataset(spec)
        at = self.tools.clock.now()
        call = self._call(options)
        answer = await self._client.send(call, max_bytes=self._max_bytes)
        known = self._labels.get(query.table, ())
        job = Job(self._what(query.table, answer), options, spec.columns, known, at, threading.Event())
        try:
            # On a thread: the interpreter hands over between two of its lines, so the loop waits for none of them.
            reading = await asyncio.get_running_loop().run_in_executor(self._threads, read, answer, job)
        finally:
            # A thread cannot be cancelled; it looks at this with every line.
            job.stop.set()
        self._keep(query.table, reading)
        meta = Meta(reading.notices, {"far_version": self.far_version}, executed=call.text)
        return Frame(reading.table.data, Schema(reading.table.columns), name=query.dataset, meta=meta)

    def schema(self, table: str) -> Schema | None:
        """The declared schema, or the one of the last page."""
        return super().schema(table) or self._schemas.get(table)

    async def ping(self) -> Ping:
        """Whether the first dataset's page can be had, and is one of metrics."""
        options = next((self._dataset(spec) for spec in self.datasets.values()), ExpositionDataset())
        try:
            answer = await self._client.send(self._call(options), max_bytes=self._max_bytes, most_s=PING_S)
            self.far_version = form_of(answer, f"{self.name}: GET {options.path}").text
        except UpstreamTooLarge as error:
            return Ping(ok=True, text=error.message, far_version=self.far_version)
        except SourceError as error:
            return Ping(ok=False, text=error.message, far_version=self.far_version)
        return Ping(ok=True, far_version=self.far_version)

    def _what(self, table: str, answer: Answer) -> str:
        return f"{self.name}.{table}: GET {answer.url.partition('?')[0]}"

    def _keep(self, table: str, reading: Reading) -> None:
        self.far_version = reading.form.text
        self._labels[table] = reading.table.labels
        self._schemas[table] = Schema(reading.table.columns)

    @staticmethod
    def _call(options: ExpositionDataset) -> Call:
        return Call(
            path=options.path, params=tuple(options.params.items()), headers={"Accept": ACCEPT[options.format]}
        )

    @staticmethod
    def _dataset(spec: DatasetSpec) -> ExpositionDataset:
        assert isinstance(spec.options, ExpositionDataset)  # noqa: S101
        return spec.options


def read(answer: Answer, job: Job) -> Reading:
    """The rows of a page. Takes long: call it on a thread.

    Errors: SourceError and its subclasses.
    """
    options = job.options
    form = form_of(answer, job.what)
    scanner = Scanner(
        form,
        options.metrics,
        max_samples=options.max_samples,
        by_stem=options.kind in (Rows.HISTOGRAM, Rows.BUCKETS),
        keep=options.kind is not Rows.FAMILIES,
        what=job.what,
    )
    scan = scanner.scan(answer.body, job.stop)
    found, repeated = distinct(points(scan.lines, form, job.stop, job.what))
    rows = sheet(options.kind, found, scan.families, options.quantiles, to_us(job.at))
    table = tabled(rows, job.declared, job.known, job.what)
    notices: tuple[Notice, ...] = (*repeated, *table.notices)
    if scan.unmatched:
        notices += (Notice("warning", f"the page has no metric called {shown_names(scan.unmatched)}"),)
    return Reading(table, form, notices)
