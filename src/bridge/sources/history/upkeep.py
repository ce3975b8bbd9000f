"""What keeps a history small and quick to read: many small files become few, and what is too old or too much goes."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from bridge.edge.lake import GRACE_HOURS
from bridge.errors import StoreError
from bridge.model.span import to_us
from bridge.sources.history import stored
from bridge.sources.history.stored import MARKS, DataFile
from bridge.sources.history.table import Table
from bridge.sources.history.versions import axis_of, schema_of, stored_schema

log = logging.getLogger("bridge.history")

# Each commit reads the list of files: measured, an append costs 10 ms with 50 of them and 132 ms with 1,200.
LOOSE_FILES = 48
LOOSE_ROWS = 1_000_000
# A file of so many rows is left alone.
FULL_ROWS = 1_000_000
_PERIODS_S = (3_600, 21_600, 86_400, 604_800, 2_592_000)
_PARTS = 30


def due(table: Table) -> bool:
    """Whether the table has many small files, or many rows in them."""
    loose = [file for file in table.view.files if file.loose]
    return len(loose) >= LOOSE_FILES or sum(file.file.rows for file in loose) >= LOOSE_ROWS


def compact(table: Table) -> int:
    """Merges what flushes wrote into files of one period each; how many small files went.

    Errors: StoreError; the table is as it was then.
    """
    view, versions = table.view, table.view.versions
    if versions is None:
        return 0
    by_generation: dict[int, list[DataFile]] = defaultdict(list)
    for file in view.files:
        if file.loose:
            by_generation[file.generation].append(file)
    for generation, loose in by_generation.items():
        for batch in _batches(loose):
            _merge(table, generation, batch)
    return sum(map(len, by_generation.values()))


def _batches(files: list[DataFile]) -> Iterable[list[DataFile]]:
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


def _merge(table: Table, generation: int, loose: list[DataFile]) -> None:
    view, versions = table.view, table.view.versions
    assert versions is not None  # noqa: S101
    version = versions.of_generation(generation)
    axis, schema = axis_of(version), schema_of(version)
    period_us = _period_s(table.keeping.keep_s) * 1_000_000
    kinds = {**stored_schema(version), **MARKS}
    made: list[DataFile] = []
    gone = list(loose)
    try:
        data = _read(loose, kinds)
        numbers = data.get_column(axis).to_physical() // period_us
        for (number,), part in (
            data.with_columns(numbers.alias("\x00period"))
            .partition_by("\x00period", as_dict=True, include_key=False)
            .items()
        ):
            grown = _unfull(view.files, generation, number, period_us)
            gone += grown
            rows = pl.concat([part, _read(grown, kinds)]) if grown else part
            for piece in rows.sort(axis).iter_slices(FULL_ROWS):
                file = stored.write(table.lake(generation).folder, piece, axis, prefix="c")
                whole = DataFile(generation, file, table.lake(generation).folder, axis)
                made.append(stored.outlined(whole, piece.sort(axis), schema, table.outlines(generation)))
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StoreError(
            f"`{table.name}`: its data files cannot be merged: {error}",
            remedy="they stay as they are; see whether the disk is full or read-only",
        ) from error
    table.exchange(generation, gone, made)


def _read(files: list[DataFile], kinds: dict[str, pl.DataType]) -> pl.DataFrame:
    lazy = pl.scan_parquet(
        [file.path for file in files],
        schema=kinds,
        missing_columns="insert",
        extra_columns="ignore",
        glob=False,
        hive_partitioning=False,
    )
    return lazy.collect()


def _unfull(files: Iterable[DataFile], generation: int, number: object, period_us: int) -> list[DataFile]:
    """The merged file of the period, where it can take more."""
    assert isinstance(number, int)  # noqa: S101
    return [
        file
        for file in files
        if not file.loose
        and file.generation == generation
        and file.file.rows < FULL_ROWS
        and number * period_us <= file.low_us
        and file.high_us // period_us == number
    ]


def _period_s(keep_s: float) -> int:
    return next((period_s for period_s in _PERIODS_S if period_s >= keep_s / _PARTS), _PERIODS_S[-1])


def expire(table: Table, now: datetime) -> int:
    """Drops files whose rows are all too old, and the oldest where there are too many bytes; how many went.

    Shape:  of age, those of one period at a time: a clock that is wrong for an hour must not cost a month. The newest
            file stays.
    Errors: StoreError.
    """
    files = sorted(table.view.files, key=lambda file: file.high_us)
    if len(files) < 2:
        return 0
    cutoff_us = to_us(now - timedelta(seconds=table.keeping.keep_s))
    period_us = _period_s(table.keeping.keep_s) * 1_000_000
    old = [file for file in files[:-1] if file.high_us < cutoff_us]
    gone = [file for file in old if file.high_us // period_us == old[0].high_us // period_us]
    left_bytes = table.view.size_bytes - sum(file.size_bytes for file in gone)
    for file in files[:-1]:
        if left_bytes <= table.keeping.max_bytes:
            break
        if file not in gone:
            gone.append(file)
            left_bytes -= file.size_bytes
    for generation in {file.generation for file in gone}:
        table.exchange(generation, [file for file in gone if file.generation == generation], [])
    if gone:
        log.info("history dropped", extra={"dataset": table.name, "files": len(gone)})
    return len(gone)


def sweep(table: Table, now: datetime) -> int:
    """Deletes what left the table hours ago, and outlines of files that are gone; how many files went.

    Errors: StoreError.
    """
    view = table.view
    if view.versions is None:
        return 0
    gone = 0
    for generation in view.versions.generations:
        if not table.lake(generation).exists:
            continue
        gone += table.lake(generation).sweep()
        kept = {file.file.path for file in view.files if file.generation == generation}
        gone += _sweep_outlines(table.outlines(generation), kept, now)
    return gone


def _sweep_outlines(folder: Path, kept: set[str], now: datetime) -> int:
    if not folder.is_dir():
        return 0
    # Whoever reads an outline now began a moment ago.
    oldest_s = now.timestamp() - GRACE_HOURS * 3_600
    gone = [path for path in folder.iterdir() if path.name not in kept and path.stat().st_mtime < oldest_s]
    for path in gone:
        path.unlink(missing_ok=True)
    return len(gone)
