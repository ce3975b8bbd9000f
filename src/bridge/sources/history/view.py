"""The past as it is known at one moment: what is in data files, and what is in the segments only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from bridge.errors import StoreError
from bridge.sources.history.stored import REV, DataFile
from bridge.sources.history.versions import Versions


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """One recorded sample that is not in a data file yet."""

    generation: int
    seq: int
    data: pl.DataFrame
    size_bytes: int

    @property
    def revises(self) -> bool:
        """Whether some row takes the place of an earlier one."""
        highest = self.data.get_column(REV).max()
        return isinstance(highest, int) and highest > 0


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The past at one moment; nothing in it changes.

    Shape: `seq` is the number of the last sample, -1 before the first; `problem` says why older rows cannot be read.
    """

    versions: Versions | None = None
    files: tuple[DataFile, ...] = ()
    chunks: tuple[Chunk, ...] = ()
    seq: int = -1
    last_at: datetime | None = None
    problem: StoreError | None = None

    @property
    def rows(self) -> int:
        """Rows recorded, corrected ones included."""
        return sum(file.file.rows for file in self.files) + self.pending_rows

    @property
    def pending_rows(self) -> int:
        """Rows that are in the segments only."""
        return sum(chunk.data.height for chunk in self.chunks)

    @property
    def pending_bytes(self) -> int:
        """Memory of the rows that are in the segments only."""
        return sum(chunk.size_bytes for chunk in self.chunks)

    @property
    def size_bytes(self) -> int:
        """Bytes of the data files and their outlines."""
        return sum(file.size_bytes for file in self.files)
