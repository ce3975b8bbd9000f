"""What keeps a history small and quick to read: many small files become few, and what is too old or too much goes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from bridge.edge.disk import library_error, store_error
from bridge.edge.lake import outlived
from bridge.errors import StoreBroken, StoreError
from bridge.model.span import to_us
from bridge.sources.history import stored
from bridge.sources.history.stored import MARKS, SEQ, DataFile
from bridge.sources.history.table import Table
from bridge.sources.history.versions import Version, axis_of, schema_of, stored_schema

log = logging.getLogger("bridge.history")

# Each commit reads the list of files: measured, an append costs 10 ms with 50 of them and 132 ms with 1,200.
LOOSE_FILES = 48
LOOSE_ROWS = 1_000_000
# Merged files of one generation, and how many they may be for the moment of a merge: with the loose ones never 100.
MERGED_FILES = 40
_MOST_FILES = 48
_FEWER_FILES = 20
# A file of so many rows is left alone, or of a larger part of all where there are very many.
FULL_ROWS = 1_000_000
_FULL_PART = 8
_PERIODS_S = (3_600, 21_600, 86_400, 604_800, 2_592_000, 7_776_000, 31_536_000)
_PARTS = 30
_PERIOD = "\x00period"


def due(table: Table) -> bool:
    """Whether the table has many small files, or many rows in them."""
    loose = [file for file in table.view.files if _loose(file)]
    return len(loose) >= LOOSE_FILES or sum(file.file.rows for file in loose) >= LOOSE_ROWS


def move_on(table: Table) -> None:
    """Moves samples out of the segments, and merges before that where there are many small files.

    Errors: StoreError; of merging only after the samples were moved.
    """
    failed: StoreError | None = None
    if due(table):
        try:
            compact(table)
        except StoreError as error:
            failed = error
    table.flush()
    if failed is not None:
        raise failed


def compact(table: Table) -> int:
    """Merges what flushes wrote into files of one period each; how many small files went.

    Errors: StoreError; of the files that could not be merged all are as they were.
    """
    versions, gone = table.view.versions, 0
    for generation in versions.generations if versions else ():
        loose = [file for file in table.view.of_generation(generation) if _loose(file)]
        for batch in _batches(loose):
            merging = _Merging(table, generation)
            gone += merging.merge(batch)
            merging.coarsen()
    return gone


def _loose(file: DataFile) -> bool:
    return file.loose and not file.broken


def _batches(files: Iterable[DataFile]) -> Iterator[list[DataFile]]:
    """So many at a time that their rows fit into memory."""
    batch: list[DataFile] = []
    rows = 0
    for file in sorted(files, key=lambda item: item.low_us):
        if batch and rows + file.file.rows > 2 * LOOSE_ROWS:
            yield batch
            batch, rows = [], 0
        batch.append(file)
        rows += file.file.rows
    if batch:
        yield batch


class _Merging:
    """Puts files of one generation together."""

    def __init__(self, table: Table, generation: int) -> None:
        versions = table.view.versions
        assert versions is not None  # noqa: S101
        self._table = table
        self._generation = generation
        self._version: Version = versions.of_generation(generation)
        self._axis = axis_of(self._version)
        self._made: list[DataFile] = []
        self._touched: list[DataFile] = []

    @property
    def _merged(self) -> list[DataFile]:
        files = self._table.view.of_generation(self._generation)
        return sorted((f for f in files if not f.loose and not f.broken), key=lambda file: file.low_us)

    @property
    def _full_rows(self) -> int:
        rows = sum(file.file.rows for file in self._table.view.of_generation(self._generation))
        return max(FULL_ROWS, rows // _FULL_PART)

    def merge(self, loose: list[DataFile]) -> int:
        """Lays the rows of these files into files of one period each; how many there were."""
        return len(loose) if self._exchanged(self._laid(loose), loose) else 0

    def coarsen(self) -> None:
        """Joins neighbours where there are too many files: late rows, long years and wrong clocks make many."""
        merged = self._merged
        if len(merged) <= MERGED_FILES:
            return
        for group in self._neighbours(merged):
            if len(group) > 1:
                self._exchanged(self._joined(group), group)

    def _neighbours(self, merged: list[DataFile]) -> Iterator[list[DataFile]]:
        most_files, most_rows = -(-len(merged) // _FEWER_FILES), self._full_rows
        group: list[DataFile] = []
        for file in merged:
            if group and (len(group) == most_files or sum(f.file.rows for f in group) + file.file.rows > most_rows):
                yield group
                group = []
            group.append(file)
        yield group

    def _exchanged(self, work: Iterator[list[DataFile]], gone: Sequence[DataFile]) -> bool:
        """Does the work, which says what else goes, and puts what it made in the place of both."""
        self._made, self._touched = [], []
        all_gone = list(gone)
        try:
            for more in work:
                all_gone += more
        except (OSError, pl.exceptions.PolarsError) as error:
            stored.discard(self._made)
            # Those that cannot be read are left out the next time.
            self._table.sound(self._touched)
            raise library_error(error, f"`{self._table.name}`: its data files could not be merged") from error
        if self._table.exchange(self._generation, all_gone, self._made):
            return True
        stored.discard(self._made)
        return False

    def _laid(self, loose: list[DataFile]) -> Iterator[list[DataFile]]:
        data, merged = self._read(loose), self._merged
        period_us = self._period_us(data)
        numbers = (data.get_column(self._axis).to_physical() // period_us).alias(_PERIOD)
        parts = data.with_columns(numbers).partition_by(_PERIOD, as_dict=True, include_key=False)
        del data
        for number in sorted(key for (key,) in parts):
            part, grown = parts.pop((number,)), self._unfull(merged, number, period_us)
            self._write(pl.concat([part, self._read(grown)]) if grown else part)
            yield grown

    def _joined(self, group: list[DataFile]) -> Iterator[list[DataFile]]:
        self._write(self._read(group))
        yield []

    def _period_us(self, data: pl.DataFrame) -> int:
        """The period of a file, doubled until there are few enough of them."""
        merged, times = self._merged, data.get_column(self._axis).to_physical()
        period_us = period_s(self._table.keeping.keep_s) * 1_000_000
        while True:
            numbers = (times // period_us).unique().to_list()
            grown = sum(len(self._unfull(merged, number, period_us)) for number in numbers)
            if len(numbers) == 1 or len(numbers) + len(merged) - grown <= _MOST_FILES:
                return period_us
            period_us *= 2

    def _unfull(self, merged: list[DataFile], number: int, period_us: int) -> list[DataFile]:
        """The merged files of the period that can take more."""
        low_us, full_rows = number * period_us, self._full_rows
        inside = (file for file in merged if low_us <= file.low_us and file.high_us < low_us + period_us)
        return [file for file in inside if file.file.rows < full_rows]

    def _write(self, rows: pl.DataFrame) -> None:
        folder, outlines = self._table.lake(self._generation).folder, self._table.outlines(self._generation)
        for piece in rows.sort(self._axis, SEQ, maintain_order=True).iter_slices(self._full_rows):
            file = stored.write(folder, piece, self._axis, prefix="c")
            self._made.append(DataFile(self._generation, file, folder, self._axis))
            self._made[-1] = stored.outlined(self._made[-1], piece, schema_of(self._version), outlines)

    def _read(self, files: list[DataFile]) -> pl.DataFrame:
        self._touched += files
        lazy = pl.scan_parquet(
            [file.path for file in files],
            schema={**stored_schema(self._version), **MARKS},
            missing_columns="insert",
            extra_columns="ignore",
            glob=False,
            hive_partitioning=False,
        )
        return lazy.collect()


def period_s(keep_s: float) -> int:
    """How much time a file holds the rows of."""
    return next((period for period in _PERIODS_S if period >= keep_s / _PARTS), _PERIODS_S[-1])


def expire(table: Table, now: datetime | None) -> int:
    """Drops files whose rows are all too old, and the oldest where there are too many bytes; how many went.

    Shape:  None for `now` drops nothing for its age. Of age, files of one period go at a time: a clock that is wrong
            for an hour must not cost a month. The newest file, and that of the newest sample, stay.
    Errors: StoreError.
    """
    files = sorted(table.view.files, key=lambda file: file.high_us)
    if not files:
        return 0
    newest = max(files, key=lambda file: file.file.high.get(SEQ, -1))
    files = [file for file in files[:-1] if file is not newest]
    gone = _too_old(files, table.keeping.keep_s, now) if now is not None else []
    left_bytes = table.view.size_bytes - sum(file.size_bytes for file in gone)
    for file in files:
        if left_bytes <= table.keeping.max_bytes:
            break
        if file not in gone:
            gone.append(file)
            left_bytes -= file.size_bytes
    for generation in sorted({file.generation for file in gone}):
        table.exchange(generation, [file for file in gone if file.generation == generation], [])
    if gone:
        log.info("history dropped", extra={"dataset": table.name, "files": len(gone)})
    return len(gone)


def _too_old(files: Sequence[DataFile], keep_s: float, now: datetime) -> list[DataFile]:
    oldest_us, period_us = to_us(now - timedelta(seconds=keep_s)), period_s(keep_s) * 1_000_000
    old = [file for file in files if file.high_us < oldest_us]
    return [file for file in old if file.high_us // period_us == old[0].high_us // period_us]


def sweep(table: Table, now: datetime) -> int:
    """Deletes what left the table hours ago, and outlines of files that are gone; how many files went.

    Errors: StoreError.
    """
    versions, gone = table.view.versions, 0
    for generation in versions.generations if versions else ():
        kept = {file.file.path for file in table.view.of_generation(generation)}
        try:
            gone += table.sweep(generation, now)
            gone += _sweep_outlines(table.outlines(generation), kept, now)
        except StoreBroken:
            # Of what cannot be understood nothing is deleted.
            continue
        except OSError as error:
            raise store_error(error, f"`{table.name}`: what is old could not be deleted") from error
    return gone


def _sweep_outlines(folder: Path, kept: set[str], now: datetime) -> int:
    if not folder.is_dir():
        return 0
    return sum(outlived(path, now) for path in folder.iterdir() if path.name not in kept)
