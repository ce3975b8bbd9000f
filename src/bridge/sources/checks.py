"""Checks of a frame against its schema."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from bridge.model.finding import Finding, Level
from bridge.model.frame import DTYPES, Frame
from bridge.model.schema import Column, ColumnType


class SchemaValidator:
    """The frame has the columns its dataset publishes, with their types."""

    name = "schema"

    def __init__(self, columns: tuple[Column, ...]) -> None:
        self.columns = columns

    def check(self, frame: Frame) -> Iterator[Finding]:
        """A blocking finding for each column that is missing or of another type, in the data or in its own schema."""
        # Asked for once: Polars makes the whole mapping anew each time.
        dtypes = frame.data.schema
        said = {column.name: column for column in frame.schema.columns}
        for column in {**said, **{column.name: column for column in self.columns}}.values():
            dtype = dtypes.get(column.name)
            if dtype is None:
                yield self._block(column, "is missing from the data")
            elif not _fits(dtype, column.type):
                yield self._block(column, f"is declared {column.type} but holds {dtype}")
            elif column.name not in said:
                yield self._block(column, "is missing from the frame's schema")

    def _block(self, column: Column, what: str) -> Finding:
        return Finding(self.name, Level.BLOCK, f"column `{column.name}` {what}", column=column.name)


def _fits(dtype: pl.DataType, wanted: ColumnType) -> bool:
    return dtype.is_numeric() if wanted is ColumnType.NUMBER else dtype == DTYPES[wanted]
