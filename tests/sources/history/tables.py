"""What the tests of the storage of histories share: tables in a folder, samples, and what is there in the end."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
from tests.support import COLUMNS, at, frame_of

from bridge.model.frame import Frame
from bridge.model.query import AsOf, Query
from bridge.model.schema import Column
from bridge.sources.history import reading
from bridge.sources.history.schema_file import SchemaFile
from bridge.sources.history.stored import REV
from bridge.sources.history.table import Table
from bridge.sources.history.versions import schema_of
from bridge.sources.registry import Keeping

DAY_S = 86_400.0
KEEP = Keeping(30 * DAY_S, 5.0)
Row = tuple[Any, ...]


def opened(folder: Path, keeping: Keeping = KEEP, name: str = "lab.runs") -> Table:
    """The history of one dataset, found again or begun."""
    table = Table(name, folder / name, keeping, SchemaFile(folder / name))
    table.open()
    return table


def run(*seconds: float, value: float = 1.0, model: str | None = "svm") -> Frame:
    """A frame with a row for each of these seconds after noon."""
    return frame_of([(second, value, model) for second in seconds])


def rows_of(table: Table, as_of: AsOf | None = None) -> Counter[Row]:
    """The rows that a reader gets, times as seconds after noon, and how often."""
    versions = table.view.versions
    assert versions is not None
    schema = schema_of(versions.current)
    query = Query(table.name, as_of=as_of)
    past = table.read(table.view, reading.asked(query, schema, 10**7, drawn=False, thin=False), None)
    return Counter() if past is None else plain(past.frame.data)


def plain(data: pl.DataFrame) -> Counter[Row]:
    """Rows that can be compared: a time as seconds after noon, NaN as a word."""
    return Counter(tuple(map(_cell, row)) for row in data.iter_rows())


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value - at(0)).total_seconds()
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def written(table: Table, names: Sequence[str] = ("time", "value", "model")) -> Counter[Row]:
    """Every row that is written anywhere, corrected ones too, and how often."""
    parts = [pl.read_parquet(file.path) for file in table.view.files]
    parts += [chunk.data for chunk in table.view.chunks]
    found: Counter[Row] = Counter()
    for part in parts:
        found += plain(part.filter(pl.col(REV) >= 0).select(names))
    return found


def times(rows: Iterable[Row]) -> list[float]:
    """The seconds of rows, in order."""
    return sorted(row[0] for row in rows)


def without_dimension(rows: Iterable[Row], columns: Sequence[Column] = COLUMNS[:2]) -> Frame:
    """A frame of a time and a value."""
    return frame_of(rows, columns)
