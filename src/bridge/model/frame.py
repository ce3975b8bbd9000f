"""The one answer shape: a Polars table that knows its columns, its labels and what must be said with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from bridge.model.schema import Column, ColumnType, Schema, Shape

TIME_DTYPE = pl.Datetime("us", "UTC")
EMPTY: Mapping[str, Any] = MappingProxyType({})

DTYPES: Mapping[ColumnType, pl.DataType] = MappingProxyType(
    {
        ColumnType.TIME: TIME_DTYPE,
        ColumnType.NUMBER: pl.Float64(),
        ColumnType.STRING: pl.String(),
        ColumnType.BOOLEAN: pl.Boolean(),
        ColumnType.JSON: pl.String(),
    }
)


@dataclass(frozen=True, slots=True)
class Notice:
    """One sentence shown on the panel; severity is info, warning or error."""

    severity: str
    text: str


@dataclass(frozen=True, slots=True)
class Meta:
    """What is told about a frame beside its values."""

    notices: tuple[Notice, ...] = ()
    custom: Mapping[str, Any] = field(default_factory=lambda: EMPTY)
    executed: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Named, typed, equal-length columns.

    Shape: `data` has exactly the columns of `schema`, in order; time columns are `Datetime("us", "UTC")`,
           number columns any numeric dtype, string and json columns `String`.
    Units: per column, in the schema.
    """

    data: pl.DataFrame
    schema: Schema
    name: str = ""
    ref_id: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    meta: Meta = field(default_factory=Meta)
    shape: Shape = Shape.TABLE

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.data.height

    def with_data(self, data: pl.DataFrame) -> Frame:
        """The same frame over other rows."""
        return replace(self, data=data)

    def note(self, *notices: Notice, **custom: Any) -> Frame:
        """The same frame with more to say."""
        if not notices and not custom:
            return self
        meta = replace(self.meta, notices=self.meta.notices + notices, custom={**self.meta.custom, **custom})
        return replace(self, meta=meta)

    def select(self, names: tuple[str, ...]) -> Frame:
        """The named columns only, each once, in the order given."""
        known = {column.name: column for column in self.schema.columns}
        columns = tuple(known[name] for name in dict.fromkeys(names) if name in known)
        return replace(
            self,
            data=self.data.select([column.name for column in columns]),
            schema=replace(self.schema, columns=columns),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A frame as it was fetched: when, and whether it is still the truth."""

    frame: Frame
    fetched_at: datetime
    fetched_s: float
    fingerprint: str | None = None


def micros(time: pl.Series) -> npt.NDArray[np.int64]:
    """Microseconds since the epoch of a time column without nulls, looked at where they are."""
    # `to_physical` says the same, by a query plan that costs ten times as much.
    return time.cast(pl.Int64).to_numpy()


def empty_frame(columns: tuple[Column, ...]) -> pl.DataFrame:
    """A table of these columns without rows."""
    return pl.DataFrame(schema={column.name: DTYPES[column.type] for column in columns})
