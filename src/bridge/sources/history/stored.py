"""How samples stand on disk: the marks beside the published columns, and data files in the order of time."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from bridge.edge.disk import make_folder, sync_folder
from bridge.edge.lake import LakeFile
from bridge.edge.lake_log import sync_file
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
    # Whether it was found that it cannot be read: merging leaves it alone.
    broken: bool = False

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


def unfit(names: Sequence[str]) -> tuple[str, str] | None:
    """Why columns of these names cannot be stored, and what helps; None where they can."""
    if taken := next((name for name in names if name in MARKS), None):
        return f"`{taken}` is a name that histories need for themselves", "rename the column"
    seen: dict[str, str] = {}
    for name in names:
        # Delta tables do not tell them apart.
        if (other := seen.setdefault(name.lower(), name)) != name:
            return f"`{other}` and `{name}` differ in case only, which a history cannot keep apart", "rename one"
    return None


def stored_kinds(data: pl.DataFrame, schema: Schema) -> dict[str, str]:
    """How each published column is stored: integer, number, string, boolean or time.

    Shape: a number column without a single value is left out, as it says nothing of what its numbers are.
    """
    # Asked for once: Polars makes the whole mapping anew each time.
    dtypes = data.schema
    return {
        column.name: _kind(dtypes[column.name])
        for column in schema.columns
        if not dtypes[column.name].is_numeric() or data.get_column(column.name).null_count() < data.height
    }


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
    if list(data.schema.items()) == list(wanted.items()):
        return data
    return data.select(list(wanted)).cast(wanted)  # type: ignore[arg-type]


def marked(data: pl.DataFrame, at_us: int, seq: int) -> pl.DataFrame:
    """Rows that have their `REV` with the other marks."""
    # Expressions would cost more than the few rows of a usual sample.
    numbers = ((AT, at_us), (SEQ, seq))
    return data.hstack([pl.Series(n, np.full(data.height, v)).cast(MARKS[n]) for n, v in numbers])


def together(parts: Iterable[pl.DataFrame], kinds: Mapping[str, str]) -> pl.DataFrame:
    """Rows written under different versions of one generation, as one table; what one has not is null."""
    wanted = {**{name: STORED[kind] for name, kind in kinds.items()}, **MARKS}
    blank = pl.DataFrame(schema=wanted)
    return pl.concat([blank, *parts], how="diagonal_relaxed").select(list(wanted)).cast(wanted)  # type: ignore[arg-type]


def write(folder: Path, data: pl.DataFrame, axis: str, *, prefix: str) -> LakeFile:
    """A data file with these rows, in the order of their time, that survives a loss of power.

    Shape:  its name begins with `prefix`; nobody has it on a list yet.
    Errors: OSError, PolarsError; no part of a file is left then.
    """
    data = data.sort(axis, SEQ, maintain_order=True, nulls_last=True)
    path = f"{prefix}-{secrets.token_hex(8)}.parquet"
    _write(folder / path, data)
    sync_folder(folder)
    low, high = bounds(data, axis)
    return LakeFile(path, data.height, (folder / path).stat().st_size, low, high)


def _write(path: Path, data: pl.DataFrame) -> None:
    try:
        data.write_parquet(path, compression="zstd", compression_level=1, row_group_size=_ROW_GROUP_ROWS)
        sync_file(path)
    except BaseException:
        # On a full disk half a file at each try would take what room there is left.
        path.unlink(missing_ok=True)
        raise


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
    make_folder(folder)
    path = folder / data_file.file.path
    _write(path, thin)
    return replace(data_file, outline=path, outline_rows=thin.height, outline_bytes=path.stat().st_size)


def with_outline(data_file: DataFile, folder: Path) -> DataFile:
    """The file with the outline that stands in the folder, if there is one that can be read."""
    outline = folder / data_file.file.path
    if data_file.loose or not outline.exists():
        return data_file
    try:
        rows = pl.scan_parquet(outline, glob=False).select(pl.len()).collect().item()
        size_bytes = outline.stat().st_size
    except (pl.exceptions.PolarsError, OSError):
        # Cut short: the rows themselves are elsewhere, so that a panel is only slower without it.
        with suppress(OSError):
            outline.unlink()
        return data_file
    return replace(data_file, outline=outline, outline_rows=rows, outline_bytes=size_bytes)


def discard(made: Iterable[DataFile]) -> None:
    """Deletes files that nobody has on a list, with their outlines."""
    for file in made:
        for path in (file.path, file.outline):
            if path is not None:
                with suppress(OSError):
                    path.unlink()


def readable(file: DataFile) -> bool:
    """Whether every row of it can be read."""
    try:
        pl.read_parquet(file.path)
    except (OSError, pl.exceptions.PolarsError):
        return False
    return True


def generations(folder: Path) -> set[int]:
    """The generations of a history that have a folder."""
    return {int(path.name[1:]) for path in folder.glob("g*") if path.name[1:].isdecimal() and path.is_dir()}


def highest_number(folder: Path) -> int:
    """The highest number of a sample in the data files of a folder, on a list or not; -1 where there is none."""
    found = [-1]
    for path in folder.glob("*.parquet"):
        with suppress(OSError, pl.exceptions.PolarsError):
            highest = pl.scan_parquet(path, glob=False).select(pl.col(SEQ).max()).collect().item()
            found.append(-1 if highest is None else highest)
    return max(found)
