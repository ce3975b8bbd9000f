"""Which files of a history a question meets, and their rows before they are read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import polars as pl

from bridge.model.query import AsOf
from bridge.model.span import Span, to_us
from bridge.sources.history.stored import AT, MARKS, SEQ, DataFile
from bridge.sources.history.versions import Versions, expressions, same_axis, stored_schema
from bridge.sources.history.view import Chunk, View

_FAR_US = 2**62


def same_time(file: DataFile, versions: Versions) -> bool:
    """Whether the bounds of the file are those of the time that rows have now."""
    return same_axis(versions.of_generation(file.generation), versions.current)


def meets(file: DataFile, versions: Versions, low_us: int, high_us: int) -> bool:
    """Whether rows of the file may lie between two instants."""
    return (file.low_us < high_us and file.high_us >= low_us) or not same_time(file, versions)


def all_later(file: DataFile, as_of: AsOf | None) -> bool:
    """Whether all of the file was recorded after that moment."""
    match as_of:
        case None:
            return False
        case int():
            return file.file.low.get(SEQ, -1) > as_of
        case _:
            return file.file.low.get(AT, -_FAR_US) > to_us(as_of)


def partly_later(file: DataFile, as_of: AsOf | None) -> bool:
    """Whether some of the file was recorded after that moment."""
    match as_of:
        case None:
            return False
        case int():
            return file.file.high.get(SEQ, _FAR_US) > as_of
        case _:
            return file.file.high.get(AT, _FAR_US) > to_us(as_of)


def known_by(as_of: AsOf | None) -> list[pl.Expr]:
    """Conditions on when rows were recorded."""
    if as_of is None:
        return []
    return [pl.col(SEQ) <= as_of if isinstance(as_of, int) else pl.col(AT) <= as_of]


def version_at(view: View, as_of: AsOf) -> int:
    """The number of the last sample that was recorded by then, -1 before the first."""
    if isinstance(as_of, int) or view.versions is None:
        return min(as_of, view.seq) if isinstance(as_of, int) else -1
    files = [file for file in view.files if not all_later(file, as_of)]
    whole = [file.file.high.get(SEQ, -1) for file in files if not partly_later(file, as_of)]
    parts = [file for file in files if partly_later(file, as_of)]
    found = (
        scan(view.versions, parts, view.chunks, ())
        .filter(*known_by(as_of))
        .select(pl.col(SEQ).max())
        .collect()
        .item()
    )
    return max((*whole, -1 if found is None else int(found)))


def estimated_rows(file: DataFile, span: Span | None) -> int:
    """Rows of the file inside the span, as if they were spread evenly."""
    if span is None or file.high_us <= file.low_us:
        return file.file.rows
    inside_us = min(file.high_us, to_us(span.end)) - max(file.low_us, to_us(span.start))
    return int(file.file.rows * min(1.0, max(0, inside_us) / (file.high_us - file.low_us)))


def scan(
    versions: Versions, files: Sequence[DataFile], chunks: Sequence[Chunk], names: Sequence[str]
) -> pl.LazyFrame:
    """All rows of these files and samples, read as the current version has them, with their marks."""
    parts: list[pl.LazyFrame] = []
    for generation, group in groupby(sorted(files, key=_generation), key=_generation):
        then = versions.of_generation(generation)
        lazy = pl.scan_parquet(
            [file.path for file in group],
            schema={**stored_schema(then), **MARKS},
            missing_columns="insert",
            extra_columns="ignore",
            glob=False,
            hive_partitioning=False,
        )
        parts.append(lazy.select(*expressions(then, versions.current, names), *MARKS))
    for generation, chunk_group in groupby(
        sorted(chunks, key=lambda chunk: chunk.generation), lambda c: c.generation
    ):
        then = versions.of_generation(generation)
        blank = pl.DataFrame(schema={**stored_schema(then), **MARKS})
        rows = pl.concat([blank, *(chunk.data for chunk in chunk_group)], how="diagonal_relaxed")
        parts.append(rows.lazy().select(*expressions(then, versions.current, names), *MARKS))
    if not parts:
        kinds = stored_schema(versions.current)
        return pl.LazyFrame(schema={**{name: kinds[name] for name in names}, **MARKS})
    return pl.concat(parts, how="vertical_relaxed") if len(parts) > 1 else parts[0]


def _generation(file: DataFile) -> int:
    return file.generation
