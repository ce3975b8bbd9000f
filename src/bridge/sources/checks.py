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
        """A blocking finding for each missing column or foreign type."""
        data = frame.data
        for column in self.columns or frame.schema.columns:
            if column.name not in data.columns:
                yield Finding(
                    self.name, Level.BLOCK, f"column `{column.name}` is missing from the data", column=column.name
                )
            elif not _fits(data.schema[column.name], column.type):
                yield Finding(
                    self.name,
                    Level.BLOCK,
                    f"column `{column.name}` is declared {column.type} but holds {data.schema[column.name]}",
                    column=column.name,
                )


def _fits(dtype: pl.DataType, wanted: ColumnType) -> bool:
    return dtype.is_numeric() if wanted is ColumnType.NUMBER else dtype == DTYPES[wanted]
