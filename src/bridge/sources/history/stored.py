"""How samples stand on disk: the marks beside the published columns, and data files in the order of time."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from bridge.edge.lake import LakeFile, settle
from bridge.model.frame import TIME_DTYPE
from bridge.model.schema import Schema
from bridge.model.span import to_us
from bridge.model.thin import representative

# When a row was sampled, in which sample, and whether it takes the place of an earlier row of its key.
AT, SEQ, REV = "_bridge_at", "_bridge_seq", "_bridge_rev"
MARKS: Mapping[str, pl.DataType] = {AT: TIME_DTYPE, SEQ: pl.Int64(), REV: pl.Int32()}
# In place of a row: a snapshot that had none.
NOTHING = -1
STORED: Mapping[str, pl.DataType] = {
    "integer": pl.Int64(),
    "number": pl.Float64(),
    "string": pl.String(),
    "boolean": pl.Boolean(),
    "time": TIME_DTYPE,
}
_ROW_GROUP_ROWS = 131_072
# An outline costs its reader a file of its own: below this a panel may as well read every row.
OUTLINE_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class DataFile:
    """A data file of one generation, where its outline stands if it has one, and how many rows that has."""

    generation: int
    file: LakeFile
    folder: Path
    axis: str
    outline: Path | None = None
    outline_rows: int = 0
    outline_bytes: int = 0

    @property
    def size_bytes(self) -> int:
        """Bytes on disk, those of the outline included."""
        return self.file.size_bytes + self.outline_bytes

    @property
    def path(self) -> Path:
        """Where the rows stand."""
        return self.folder / self.file.path

    @property
    def loose(self) -> bool:
        """Whether it is a flush's own, not merged with others yet."""
        return self.file.path.startswith("s-")

    @property
    def low_us(self) -> int:
        """The earliest instant of its rows, about."""
        return self.file.low.get(self.axis, -(2**62))

    @property
    def high_us(self) -> int:
        """The latest instant of its rows, about."""
        return self.file.high.get(self.axis, 2**62)

    @property
    def revises(self) -> bool:
        """Whether some row takes the place of an earlier one."""
        return self.file.high.get(REV, 1) > 0


def stored_kinds(data: pl.DataFrame, schema: Schema) -> dict[str, str]:
    """How each published column is stored: integer, number, string, boolean or time."""
    return {column.name: _kind(data.schema[column.name]) for column in schema.columns}


def _kind(dtype: pl.DataType) -> str:
    if dtype.is_integer() and dtype != pl.UInt64 and dtype not in (pl.Int128, pl.UInt128):
        return "integer"
    if dtype.is_numeric():
        return "number"
    if dtype == pl.Boolean:
        return "boolean"
    return "time" if dtype.is_temporal() else "string"


def normal(data: pl.DataFrame, kinds: Mapping[str, str]) -> pl.DataFrame:
    """The columns as they are stored, in that order."""
    wanted = {name: STORED[kind] for name, kind in kinds.items()}
    if dict(data.schema) == wanted:
        return data
    return data.select(list(wanted)).cast(wanted)  # type: ignore[arg-type]


def marked(data: pl.DataFrame, at_us: int, seq: int) -> pl.DataFrame:
    """Rows that have their `REV` with the other marks."""
    return data.with_columns(
        pl.lit(at_us, pl.Int64).cast(TIME_DTYPE).alias(AT),
        pl.lit(seq, pl.Int64).alias(SEQ),
        pl.col(REV).cast(pl.Int32),
    )


def together(parts: Iterable[pl.DataFrame], kinds: Mapping[str, str]) -> pl.DataFrame:
    """Rows written under different versions of one generation, as one table; what one has not is null."""
    wanted = {**{name: STORED[kind] for name, kind in kinds.items()}, **MARKS}
    blank = pl.DataFrame(schema=wanted)
    return pl.concat([blank, *parts], how="diagonal_relaxed").select(list(wanted)).cast(wanted)  # type: ignore[arg-type]


def write(folder: Path, data: pl.DataFrame, axis: str, *, prefix: str) -> LakeFile:
    """A data file with these rows, in the order of their time, that survives a loss of power.

    Shape: its name begins with `prefix`; nobody has it on a list yet.
    """
    data = data.sort(axis, SEQ, maintain_order=True, nulls_last=True)
    path = f"{prefix}-{secrets.token_hex(8)}.parquet"
    _write(folder / path, data)
    low, high = bounds(data, axis)
    return LakeFile(path, data.height, (folder / path).stat().st_size, low, high)


def _write(path: Path, data: pl.DataFrame) -> None:
    data.write_parquet(path, compression="zstd", compression_level=1, row_group_size=_ROW_GROUP_ROWS)
    settle(path)


def bounds(data: pl.DataFrame, axis: str) -> tuple[dict[str, int], dict[str, int]]:
    """Smallest and largest of the time and the marks; what the list of files is pruned by."""
    names = list(dict.fromkeys((axis, *MARKS)))
    low, high = (
        data.select(pl.col(names).min()).row(0, named=True),
        data.select(pl.col(names).max()).row(0, named=True),
    )
    return _plain(low), _plain(high)


def _plain(row: Mapping[str, object]) -> dict[str, int]:
    return {
        name: value if isinstance(value, int) else to_us(value)  # type: ignore[arg-type]
        for name, value in row.items()
        if value is not None
    }


def outlined(data_file: DataFile, data: pl.DataFrame, schema: Schema, folder: Path) -> DataFile:
    """The file with an outline beside it, where that is worth it: rows that show its shape to a panel."""
    if data.height < OUTLINE_ROWS or schema.time is None:
        return data_file
    thin = representative(data, schema)
    if thin is None:
        return data_file
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / data_file.file.path
    _write(path, thin)
    return replace(data_file, outline=path, outline_rows=thin.height, outline_bytes=path.stat().st_size)
