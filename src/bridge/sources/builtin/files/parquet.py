"""Parquet: whole from memory, or scanned with what the question rules out left unread."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

import polars as pl

from bridge.errors import UpstreamInvalid, UpstreamTooLarge
from bridge.model.filters import Filter, expression
from bridge.model.frame import DTYPES
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.model.span import EPOCH, Span
from bridge.sources.builtin.files.content import Piece, opened, unreadable
from bridge.sources.builtin.files.paths import Found
from bridge.sources.table import SAMPLE_ROWS, far_name

BATCH_ROWS = 200_000
_MAGIC = b"PAR1"
_PER_SECOND = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_INT64 = 2**63 - 1


def whole_piece(
    blocks: Iterable[bytes], found: Found, wanted: Sequence[str] | None, *, cap_bytes: int
) -> Iterator[Piece]:
    """The one table of a file that is read into memory.

    Errors: UpstreamInvalid when it is no complete Parquet file, UpstreamTooLarge when it would unfold beyond the cap.
    """
    data = b"".join(blocks)
    if not (data.startswith(_MAGIC) and data.endswith(_MAGIC)):
        raise _broken(found)
    try:
        scan = pl.scan_parquet(io.BytesIO(data), hive_partitioning=False)
        there = tuple(scan.collect_schema().names())
        names = [name for name in there if wanted is None or name in wanted]
        rows = int(scan.select(pl.len()).collect().item())
        # Repeated values take next to no bytes in the file and eight or more each in memory.
        if rows * max(1, len(names)) * 8 > cap_bytes:
            raise UpstreamTooLarge(
                f"`{found.shown}` unfolds to {rows:,} rows, more than {cap_bytes:,} bytes",
                remedy="declare fewer `columns`, split the file, or lower `hold_bytes` so that it is scanned",
            )
        table = scan.select(names).collect() if names else pl.DataFrame(height=rows)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise _broken(found) from error
    yield Piece(there, table)


def scanned_pieces(
    found: Found,
    wanted: Sequence[str] | None,
    columns: Sequence[Column],
    span: Span | None,
    filters: Sequence[Filter],
) -> Iterator[Piece]:
    """The rows of a large file, batch by batch, without most of those that span and filters rule out.

    Errors: UpstreamInvalid when it is no complete Parquet file, SourceError when it cannot be read.
    """
    try:
        # Polars gets the open file: by its path it would follow links.
        with opened(found) as file:
            scan = pl.scan_parquet(file, glob=False, hive_partitioning=False)
            schema = scan.collect_schema()
            there = tuple(schema.names())
            names = [name for name in there if wanted is None or name in wanted]
            keep = _pushed(schema, columns, span, filters)
            scan = scan.select(names) if keep is None else scan.filter(keep).select(names)
            yield Piece(there, pl.DataFrame(schema={name: schema[name] for name in names}))
            if names:
                yield from (Piece(there, batch) for batch in scan.collect_batches(chunk_size=BATCH_ROWS))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise _broken(found) from error
    except OSError as error:
        raise unreadable(found, error) from error


def sample_piece(found: Found) -> Piece:
    """The first rows of a file that is not read whole.

    Errors: as `scanned_pieces`.
    """
    try:
        with opened(found) as file:
            table = pl.scan_parquet(file, glob=False, hive_partitioning=False).head(SAMPLE_ROWS).collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise _broken(found) from error
    except OSError as error:
        raise unreadable(found, error) from error
    return Piece(tuple(table.columns), table)


def _broken(found: Found) -> UpstreamInvalid:
    return UpstreamInvalid(
        f"`{found.shown}` is no complete Parquet file",
        remedy="write the file again, to another name first and then renamed",
    )


def _pushed(
    schema: pl.Schema, columns: Sequence[Column], span: Span | None, filters: Sequence[Filter]
) -> pl.Expr | None:
    """The part of the question that raw columns can answer, as their types are those of the contract.

    The whole question is asked again of the typed rows, so that a part left out here costs time only.
    """
    parts = []
    for column in columns:
        dtype = schema.get(far_name(column))
        if column.role is Role.TIME and span is not None and isinstance(dtype, pl.Datetime):
            parts.append(_in_span(pl.col(far_name(column)), dtype, span))
        if dtype is not None and _same(dtype, column.type):
            raw = Schema((Column(far_name(column), column.type),))
            mine = (item for item in filters if item.column == column.name)
            parts += [expression(Filter(far_name(column), item.op, item.values), raw) for item in mine]
    return pl.all_horizontal(parts) if parts else None


def _same(dtype: pl.DataType, wanted: ColumnType) -> bool:
    if wanted is ColumnType.NUMBER:
        return dtype in (pl.Int64, pl.UInt64, pl.Float64)
    return wanted in (ColumnType.STRING, ColumnType.BOOLEAN) and dtype == DTYPES[wanted]


def _in_span(value: pl.Expr, dtype: pl.Datetime, span: Span) -> pl.Expr:
    """The span in the column's own unit and zone, widened to whole units, so that row groups can be left out."""
    per_second = _PER_SECOND[dtype.time_unit]
    start_us, end_us = ((edge - EPOCH) // timedelta(microseconds=1) for edge in (span.start, span.end))
    first, last = start_us * per_second // 1_000_000, -(-end_us * per_second // 1_000_000)
    low, high = (pl.lit(max(-_INT64, min(_INT64, edge)), dtype=pl.Int64).cast(dtype) for edge in (first, last))
    return (value >= low) & (value < high)
