"""The `files` plug-in."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

import jmespath
from pydantic import Field, field_validator

from bridge.errors import BridgeError, SourceError
from bridge.model.frame import Frame, Meta
from bridge.model.query import Query
from bridge.model.schema import Role, Schema
from bridge.sources.base import DatasetSpec, Options, Ping, Tools
from bridge.sources.builtin.files.content import Held, Pool
from bridge.sources.builtin.files.csv_text import Dialect
from bridge.sources.builtin.files.inferred import Known
from bridge.sources.builtin.files.paths import Format, Matches, Place, check_template, filled, find, names_params
from bridge.sources.builtin.files.reading import Job, read
from bridge.sources.builtin.reading import ReadingSource

# Text unfolds in memory, and so does gzip: what is read as a whole may be this many times an answer.
CAP_RATIO = 16
MAX_MEASURED = 1_000
MAX_THREADS = 4
T = TypeVar("T")


class FilesOptions(Options):
    """Where the files of this source may be."""

    root: str = Field(".", description="Folder that no file may lie outside of, relative to the settings file.")


class FilesDataset(Options):
    """One dataset of files."""

    path: str = Field(
        description="A file, a folder or a pattern (`runs/*.csv`, `**` for all subfolders), relative to the settings "
        "file; {param.NAME} is one of the dataset's parameters, as one part of a name.",
        examples=["runs.csv"],
    )
    format: Format = Field(Format.AUTO, description="How the files are written; auto goes by their names.")
    rows: str | None = Field(None, description="JMESPath of the list of rows in a JSON document.", examples=["items"])
    separator: Literal["auto", ",", ";", "\t", "|"] = Field(
        "auto", description="What stands between the values of a CSV line; auto looks at the header."
    )
    decimal_comma: bool = Field(False, description="CSV numbers are written 1,5 and not 1.5.")
    null_values: tuple[str, ...] = Field(("", "null", "NA"), description="CSV values that mean no value.")
    hold_bytes: int = Field(
        64 * 1024 * 1024,
        ge=0,
        description="Files of up to this many bytes are read and kept whole; of larger ones only what is asked for.",
    )
    follow_symlinks: bool = Field(False, description="Read symbolic links too, as long as they stay below the root.")

    @field_validator("rows")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                jmespath.compile(value)
            except jmespath.exceptions.JMESPathError as error:
                raise ValueError(f"is no JMESPath: {error}") from error
        return value


class NeedsColumns(ValueError):
    """A dataset whose columns cannot be told from its files; `loc` is the place below the source."""

    def __init__(self, table: str) -> None:
        super().__init__("a path with parameters needs declared `columns`, since each file could have others")
        self.loc = ("datasets", table, "columns")


class FilesSource(ReadingSource[Known]):
    """A folder, a file or a pattern of CSV, TSV, JSON, NDJSON and Parquet files."""

    kind: ClassVar[str] = "files"
    SourceOptions = FilesOptions
    DatasetOptions = FilesDataset

    def __init__(self, name: str, options: Options, datasets: Mapping[str, DatasetSpec], tools: Tools) -> None:
        super().__init__(name, options, datasets, tools)
        self._measured_bytes: OrderedDict[tuple[object, ...], int] = OrderedDict()
        self._pool = Pool(self._cap_bytes)
        # Its own: a folder on a server that hangs would hold the threads of every other source.
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix=f"files-{name}")
        for table, spec in datasets.items():
            path = self._dataset(spec).path
            check_template(self._place(spec), path, spec.params)
            if names_params(path) and not spec.columns:
                raise NeedsColumns(table)

    async def open(self) -> None:
        """Looks at the files' sizes, which decide what `narrow` does."""
        for table, spec in self.datasets.items():
            if not names_params(self._dataset(spec).path):
                # What is missing now is told when it is asked for.
                with suppress(SourceError):
                    await self._find(Query(f"{self.name}.{table}"))

    async def aclose(self) -> None:
        """Lets its threads go; one that hangs in the file system is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def collect(self, query: Query) -> Frame:
        """All rows of the files; of large files those that the query asks for.

        Errors: SourceError and its subclasses naming the file, AnswerTooLarge over the row limit, BadQuery for a
                parameter that cannot be part of a file name.
        """
        known = self._known.get(query.table)
        matches = await self._find(query)
        job = self._job(query, matches, known)
        try:
            reading = await self._on_thread(partial(read, job))
        finally:
            # A thread cannot be cancelled; it looks at this between two pieces.
            job.stop.set()
        self._remember(query.table, known, reading.known)
        schema = Schema(reading.columns)
        return Frame(reading.data, schema, name=query.dataset, meta=Meta(notices=reading.notices))

    def narrow(self, query: Query) -> Query:
        """Nothing where the files are small enough to be held, else span, filters and columns."""
        size_bytes = self._measured_bytes.get((query.table, query.params))
        if size_bytes is not None and size_bytes <= self._dataset(self.datasets[query.table]).hold_bytes:
            return query.whole()
        schema = self.schema(query.table)
        if schema is None:
            return replace(query.whole(), span=query.span)
        filters = tuple(item for item in query.filters if schema.get(item.column))
        wanted = {*query.columns, *(query.series or ()), *(item.column for item in query.filters)}
        columns = tuple(c.name for c in schema.columns if c.name in wanted or c.role in (Role.TIME, Role.DIMENSION))
        return replace(query.whole(), span=query.span, filters=filters, columns=columns if query.columns else ())

    async def fingerprint(self, query: Query) -> str | None:
        """Changes when a file comes, goes or is written.

        Errors: SourceError when there is no file.
        """
        return (await self._find(query)).token

    async def ping(self) -> Ping:
        """Whether every dataset has files; one whose path needs parameters is left out."""
        count, missing = 0, []
        for table, spec in self.datasets.items():
            if names_params(self._dataset(spec).path):
                continue
            try:
                count += len((await self._find(Query(f"{self.name}.{table}"))).files)
            except BridgeError as error:
                missing.append(f"{table}: {error.message}")
        files = "1 file" if count == 1 else f"{count} files"
        return Ping(ok=not missing, text="; ".join([files, *missing]))

    async def _find(self, query: Query) -> Matches:
        spec = self.datasets[query.table]
        options = self._dataset(spec)
        pattern = filled(options.path, dict(query.params), spec.params)
        matches = await self._on_thread(partial(find, self._place(spec), pattern, options.format))
        key = (query.table, query.params)
        self._measured_bytes[key] = matches.size_bytes
        self._measured_bytes.move_to_end(key)
        if len(self._measured_bytes) > MAX_MEASURED:
            # Parameters come from outside: without a bound every new value would stay for ever.
            self._measured_bytes.popitem(last=False)
        return matches

    def _job(self, query: Query, matches: Matches, known: Known | None) -> Job:
        spec = self.datasets[query.table]
        options = self._dataset(spec)
        separator = None if options.separator == "auto" else options.separator
        return Job(
            dataset=query.dataset,
            matches=matches,
            declared=spec.columns,
            known=known,
            dialect=Dialect(separator, options.decimal_comma, options.null_values),
            rows_path=options.rows,
            narrowed=matches.size_bytes > options.hold_bytes,
            span=query.span,
            filters=query.filters,
            columns=query.columns,
            cap_bytes=self._cap_bytes,
            max_rows=self.tools.limits.max_rows,
            stop=threading.Event(),
            held=Held(self._pool),
        )

    @property
    def _cap_bytes(self) -> int:
        return self.tools.limits.max_bytes * CAP_RATIO

    def _place(self, spec: DatasetSpec) -> Place:
        assert isinstance(self.options, FilesOptions)  # noqa: S101
        base = (
            self.tools.base_dir if self.tools.base_dir.is_absolute() else Path(os.path.abspath(self.tools.base_dir))
        )
        root = Path(os.path.normpath(base / self.options.root))
        return Place(base, root, self._dataset(spec).follow_symlinks)

    @staticmethod
    def _dataset(spec: DatasetSpec) -> FilesDataset:
        assert isinstance(spec.options, FilesDataset)  # noqa: S101
        return spec.options
