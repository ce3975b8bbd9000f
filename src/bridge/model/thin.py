"""The rows of a long table that show its shape: a subset, small enough to be read for a panel in place of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from bridge.model.schema import Column, ColumnType, Kind, Role, Schema

_Rows = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]
_Values = npt.NDArray[Any]
# No published column can be named so, as names from outside are printable.
_ROW = "\x00row"
# A subset of more than one row in so many is not worth being kept beside the rows themselves.
_WORTH = 4
# Integers that numpy knows; wider ones are compared as floats.
_EXACT = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64, pl.Float32, pl.Float64)


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """The rows series by series, each in time order.

    Shape: `order` leads from here to the table, None where it is the table's own; `series` and `blocks` are the
           first rows of each, `lengths_rows` the rows of each block, `block_of` the block of each row.
    """

    rows: int
    order: _Rows | None
    series: _Rows
    blocks: _Rows
    lengths_rows: _Rows
    block_of: _Rows

    @property
    def lasts(self) -> _Rows:
        """The last row of each series."""
        return np.append(self.series[1:], self.rows) - 1


def representative(frame_data: pl.DataFrame, schema: Schema, block_rows: int = 64) -> pl.DataFrame | None:
    """The rows that show the shape of every series, for a panel with fewer points than there are blocks.

    Shape:  real rows in their order, with all columns: per series (one per combination of dimensions, a null is a
            value) and block of `block_rows` rows those of each measure's smallest and largest value, the first and
            last row and value, of counters also the last value of a block and both rows of each reset. Of each run
            of nulls or NaN stands the first row, of each stretch between two at least one. None where that is more
            than a quarter, or the rows do not ascend in time. Means, sums and counts need all rows.
    Errors: ValueError for blocks of less than one row.
    """
    if block_rows < 1:
        raise ValueError(f"a block of {block_rows} rows")
    if not frame_data.height:
        return frame_data
    if not _ascends(frame_data, schema):
        return None
    order, series = _series(frame_data, schema)
    # Said at once of many short series, as each keeps a row at least.
    if len(series) * _WORTH > frame_data.height:
        return None
    layout = _layout(frame_data.height, order, series, block_rows)
    keep = np.zeros(layout.rows, dtype=np.bool_)
    keep[series] = keep[layout.lasts] = True
    for column in schema.with_role(Role.MEASURE):
        if column.type is ColumnType.NUMBER:
            _mark(keep, layout, frame_data.get_column(column.name), column)
    if np.count_nonzero(keep) * _WORTH > layout.rows:
        return None
    if order is not None:
        there = keep
        keep = np.empty_like(there)
        keep[order] = there
    return frame_data.filter(pl.Series(keep))


def _ascends(data: pl.DataFrame, schema: Schema) -> bool:
    if schema.time is None:
        return False
    time = data.get_column(schema.time.name)
    return not time.null_count() and time.is_sorted()


def _series(data: pl.DataFrame, schema: Schema) -> tuple[_Rows | None, _Rows]:
    """The rows series by series, None where there is one only, and where each series begins."""
    names = [column.name for column in schema.with_role(Role.DIMENSION)]
    if not names:
        return None, np.zeros(1, dtype=np.int64)
    groups = data.select(names).with_row_index(_ROW).group_by(names).agg(pl.col(_ROW)).get_column(_ROW)
    if len(groups) == 1:
        return None, np.zeros(1, dtype=np.int64)
    ends = np.cumsum(groups.list.len().to_numpy(), dtype=np.int64)
    return groups.explode().to_numpy(), np.concatenate(([0], ends[:-1]))


def _layout(rows: int, order: _Rows | None, series: _Rows, block_rows: int) -> _Layout:
    counts = -(-np.diff(series, append=rows) // block_rows)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    blocks = np.repeat(series, counts) + number * block_rows
    lengths_rows = np.diff(blocks, append=rows)
    return _Layout(rows, order, series, blocks, lengths_rows, np.repeat(np.arange(len(blocks)), lengths_rows))


def _mark(keep: _Flags, layout: _Layout, measure: pl.Series, column: Column) -> None:
    y, known = _values(measure)
    if layout.order is not None:
        y = y[layout.order]
        known = known if known is None else known[layout.order]
    _mark_peaks(keep, layout, y, known)
    if column.kind is Kind.COUNTER:
        _mark_counter(keep, layout, y, known)
    if known is not None:
        _mark_gaps(keep, layout, known)


def _values(measure: pl.Series) -> tuple[_Values, _Flags | None]:
    """The values, anything where there is none, and where there is one; None in place of that: everywhere."""
    if measure.dtype not in _EXACT:
        measure = measure.cast(pl.Float64)
    if measure.dtype.is_float():
        y = measure.to_numpy()  # a null is a NaN here
        known = ~np.isnan(y)
    else:
        known = measure.is_not_null().to_numpy()
        y = measure.fill_null(0).to_numpy()
    return y, None if known.all() else known


def _mark_peaks(keep: _Flags, layout: _Layout, y: _Values, known: _Flags | None) -> None:
    ends = (np.inf, -np.inf) if y.dtype.kind == "f" else (np.iinfo(y.dtype).max, np.iinfo(y.dtype).min)
    for best, worst in zip((np.minimum, np.maximum), ends, strict=True):
        values = y if known is None else np.where(known, y, np.asarray(worst, dtype=y.dtype))
        hits = y == np.repeat(best.reduceat(values, layout.blocks), layout.lengths_rows)
        rows = np.flatnonzero(hits if known is None else hits & known)
        keep[rows[np.diff(layout.block_of[rows], prepend=-1) != 0]] = True


def _mark_counter(keep: _Flags, layout: _Layout, y: _Values, known: _Flags | None) -> None:
    """Where one series begins below the end of another is no reset, but both rows are kept anyway."""
    if known is None:
        keep[layout.blocks[1:] - 1] = True
        drops = np.flatnonzero(y[1:] < y[:-1])
        keep[drops] = keep[drops + 1] = True
        return
    rows = np.flatnonzero(known)
    keep[rows[np.diff(layout.block_of[rows], append=-1) != 0]] = True
    values = y[rows]
    drops = np.flatnonzero(values[1:] < values[:-1])
    keep[rows[drops]] = keep[rows[drops + 1]] = True


def _mark_gaps(keep: _Flags, layout: _Layout, known: _Flags) -> None:
    """Both ends of the values of a series, where each gap begins, and something of every stretch between two."""
    # Nothing changes where series meet, but the first row of each is kept anyway.
    runs = np.flatnonzero(known[1:] != known[:-1]) + 1
    keep[runs[~known[runs]]] = True
    rows = np.flatnonzero(known)
    series = np.searchsorted(layout.series, rows, side="right")
    keep[rows[np.diff(series, prepend=-1) != 0]] = keep[rows[np.diff(series, append=-1) != 0]] = True
    # Two gaps would else become one, and the values between them would never have been.
    bare = ~np.logical_or.reduceat(keep, runs)
    keep[runs[bare]] = True
