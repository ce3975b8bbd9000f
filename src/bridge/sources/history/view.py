"""The past as it is known at one moment: what is in data files, and what is in the segments only."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from bridge.errors import StoreBroken, StoreError
from bridge.model.span import to_us
from bridge.sources.history.journal import Taken
from bridge.sources.history.stored import REV, DataFile
from bridge.sources.history.versions import Versions, axis_of, same_axis

FAR_US = 2**62


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """One recorded sample that is not in a data file yet."""

    generation: int
    seq: int
    data: pl.DataFrame
    size_bytes: int
    revises: bool = field(init=False)

    def __post_init__(self) -> None:
        highest = self.data.get_column(REV).max()
        # Whether some row takes the place of an earlier one: asked with every reading.
        object.__setattr__(self, "revises", isinstance(highest, int) and highest > 0)


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

    def of_generation(self, generation: int) -> tuple[DataFile, ...]:
        """The data files of one generation."""
        return tuple(file for file in self.files if file.generation == generation)

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


def frontier_us(view: View) -> int | None:
    """The latest instant recorded; as late as can be where earlier samples were laid out by another time."""
    versions = view.versions
    assert versions is not None  # noqa: S101
    found = [(file.generation, file.high_us) for file in view.files]
    found += [(c.generation, highest_us(c, axis_of(versions.of_generation(c.generation)))) for c in view.chunks]
    same = {g for g in versions.generations if same_axis(versions.of_generation(g), versions.current)}
    return max((high_us if generation in same else FAR_US for generation, high_us in found), default=None)


def packed(data: pl.DataFrame) -> bytes:
    """Rows as they stand in a segment."""
    out = io.BytesIO()
    data.write_ipc_stream(out, compression="uncompressed")
    return out.getvalue()


def unpacked(item: Taken) -> Chunk:
    """A sample out of a segment.

    Errors: StoreBroken.
    """
    generation, record = item
    try:
        return Chunk(generation, record.seq, pl.read_ipc_stream(record.payload), len(record.payload))
    except pl.exceptions.PolarsError as error:
        raise StoreBroken(
            f"sample {record.seq} in a segment cannot be read: {error}", remedy="move the segment away"
        ) from error


def highest_us(chunk: Chunk, axis: str) -> int:
    """The latest instant in one of its columns."""
    highest = chunk.data.get_column(axis).max()
    return to_us(highest) if isinstance(highest, datetime) else -FAR_US
