"""A Delta table in a folder: which files it has, and changes to that list as single commits.

Data files are written by whoever owns the table; here they are only put on the list and taken off it, so that a file
can be sorted and cut as its reader wants it. `deltalake` is imported on use: it is an extra.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from bridge.errors import StoreBroken, StoreError
from bridge.model.span import EPOCH, to_us

if TYPE_CHECKING:
    from deltalake import DeltaTable

# Names the rows a commit brings, so that a flush that is tried again after a crash is known to be done.
WRITER = "bridge"
# Readers of the folder (Spark, DuckDB) see a version for at least so long after it was replaced.
GRACE_HOURS = 6
_CONFIGURATION = {
    "delta.checkpointInterval": "20",
    "delta.enableExpiredLogCleanup": "true",
    "delta.logRetentionDuration": f"interval {GRACE_HOURS} hours",
    "delta.deletedFileRetentionDuration": f"interval {GRACE_HOURS} hours",
}
MISSING = "history needs the package deltalake (install bridge with the extra `lake`)"


@dataclass(frozen=True, slots=True)
class LakeFile:
    """One data file of a table.

    Shape: `low` and `high` bound the values of columns that have such statistics.
    Units: instants in microseconds since 1970.
    """

    path: str
    rows: int
    size_bytes: int
    low: Mapping[str, int]
    high: Mapping[str, int]


def available() -> bool:
    """Whether Delta tables can be written here."""
    try:
        import deltalake  # noqa: F401
    except ImportError:
        return False
    return True


class Lake:
    """The list of files of one Delta table.

    Errors: StoreBroken when the table's log cannot be read; StoreError when it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def exists(self) -> bool:
        """Whether a first commit was made."""
        log = self.folder / "_delta_log"
        return log.is_dir() and any(name.endswith((".json", ".parquet")) for name in os.listdir(log))

    def create(self, sample: pl.DataFrame) -> None:
        """An empty table with the columns of `sample`."""
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            DeltaTable.create(self.folder, schema=_arrow_schema(sample), configuration=_CONFIGURATION)
        except (DeltaError, OSError) as error:
            raise self._unwritten(error) from error
        self._settle()

    def widen(self, sample: pl.DataFrame) -> None:
        """Adds the columns of `sample` that the table does not have; older files have none of their values."""
        from deltalake import Schema
        from deltalake.exceptions import DeltaError

        table = self._open()
        known = {field.name for field in table.schema().fields}
        added = [field for field in Schema.from_arrow(_arrow_schema(sample)).fields if field.name not in known]
        if not added:
            return
        try:
            table.alter.add_columns(added)
        except (DeltaError, OSError) as error:
            raise self._unwritten(error) from error
        self._settle()

    def load(self) -> tuple[list[LakeFile], int]:
        """The files, and the number of the last rows that were committed; -1 before the first.

        A last commit that was cut short is set aside: what it brought is still in the segments.
        """
        table = self._open()
        return _files(table), self._last(table)

    def commit(
        self,
        add: Sequence[LakeFile],
        remove: Sequence[LakeFile] = (),
        *,
        last_seq: int | None = None,
    ) -> None:
        """Puts files on the list and takes others off, all at once; they survive a loss of power from then on.

        Shape: `last_seq` is the number of the last rows that `add` brings; None when the same rows are only moved.
        """
        from deltalake import CommitProperties, Transaction
        from deltalake.exceptions import DeltaError
        from deltalake.transaction import AddAction, RemoveAction

        now_ms = int(max((self._stat(file.path).st_mtime for file in (*add, *remove)), default=0.0) * 1_000)
        new = last_seq is not None
        table = self._open()
        times = {field.name for field in table.schema().fields if "timestamp" in str(field.type)}
        actions: list[Any] = [
            AddAction(
                path=file.path,
                size=file.size_bytes,
                partition_values={},
                modification_time=int(self._stat(file.path).st_mtime * 1_000),
                data_change=new,
                stats=json.dumps(
                    {
                        "numRecords": file.rows,
                        "minValues": _said(file.low, times, up=False),
                        "maxValues": _said(file.high, times, up=True),
                    }
                ),
            )
            for file in add
        ]
        actions += [
            RemoveAction(file.path, data_change=not new and not add, deletion_timestamp=now_ms, size=file.size_bytes)
            for file in remove
        ]
        marks = [Transaction(WRITER, last_seq)] if last_seq is not None else None
        try:
            table.create_write_transaction(
                actions, "append", table.schema(), commit_properties=CommitProperties(app_transactions=marks)
            )
        except (DeltaError, OSError) as error:
            raise self._unwritten(error) from error
        self._settle()

    def sweep(self) -> int:
        """Deletes files that left the list, or never came onto it, hours ago; how many they were."""
        from deltalake.exceptions import DeltaError

        try:
            gone = self._open().vacuum(
                retention_hours=GRACE_HOURS, dry_run=False, enforce_retention_duration=False, full=True
            )
        except (DeltaError, OSError) as error:
            raise self._unwritten(error) from error
        return len(gone)

    def _open(self) -> DeltaTable:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        try:
            return DeltaTable(self.folder)
        except (DeltaError, OSError, ValueError) as error:
            if not self._set_aside_torn():
                raise StoreBroken(
                    f"the Delta log in {self.folder} cannot be read: {_first_line(error)}",
                    remedy="new samples stay in the segments beside it; restore the folder from a backup, or move it "
                    "away to begin a new history",
                ) from error
        return self._open()

    def _last(self, table: DeltaTable) -> int:
        last = table.transaction_version(WRITER)
        return -1 if last is None else int(last)

    def _set_aside_torn(self) -> bool:
        """Whether the newest commit was cut short, and is out of the way now."""
        log = self.folder / "_delta_log"
        try:
            commits = sorted(name for name in os.listdir(log) if name.endswith(".json") and name[:1].isdigit())
        except OSError:
            return False
        # The first commit creates the table: without it there is nothing to go back to.
        if len(commits) < 2:
            return False
        if not _whole(log / commits[-1]):
            (log / commits[-1]).rename(log / f"{commits[-1]}.torn")
            return True
        return self._set_aside_checkpoint(log)

    def _set_aside_checkpoint(self, log: Path) -> bool:
        """Whether the newest checkpoint was cut short; what it sums up still stands in the commits."""
        found = sorted(log.glob("*.checkpoint.parquet"))
        if not found:
            return False
        try:
            pl.read_parquet(found[-1])
        except (pl.exceptions.PolarsError, OSError):
            found[-1].rename(found[-1].with_suffix(".torn"))
            (log / "_last_checkpoint").unlink(missing_ok=True)
            return True
        return False

    def _stat(self, path: str) -> os.stat_result:
        return (self.folder / path).stat()

    def _settle(self) -> None:
        """The newest commit is on the disk, not only in the system's memory."""
        log = self.folder / "_delta_log"
        commits = [name for name in os.listdir(log) if name.endswith(".json") and name[:1].isdigit()]
        settle(log / max(commits))
        settle(log)

    def _unwritten(self, error: Exception) -> StoreError:
        return StoreError(
            f"the Delta log in {self.folder} cannot be written: {_first_line(error)}",
            remedy="samples stay in the segments and are tried again; see whether the disk is full or read-only",
        )


def settle(path: Path) -> None:
    """Waits until the file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _whole(path: Path) -> bool:
    """Whether every line of a commit is a JSON object, the last one included."""
    try:
        text = path.read_bytes()
        return bool(text.strip()) and all(isinstance(json.loads(line), dict) for line in text.splitlines() if line)
    except ValueError:
        return False


def _arrow_schema(sample: pl.DataFrame) -> Any:
    from arro3.core import Table

    return Table.from_arrow(sample.clear()).schema


def _files(table: DeltaTable) -> list[LakeFile]:
    rows = pl.DataFrame(table.get_add_actions(flatten=True)).to_dicts()
    return [
        LakeFile(row["path"], row["num_records"] or 0, row["size_bytes"], _stats(row, "min."), _stats(row, "max."))
        for row in rows
    ]


def _stats(row: Mapping[str, Any], prefix: str) -> dict[str, int]:
    found = {key.removeprefix(prefix): value for key, value in row.items() if key.startswith(prefix)}
    return {
        key: to_us(value) if isinstance(value, datetime) else value
        for key, value in found.items()
        if isinstance(value, (int, datetime))
    }


def _said(bounds: Mapping[str, int], times: Collection[str], *, up: bool) -> dict[str, Any]:
    """Statistics as the format has them: instants in whole milliseconds, rounded outwards.

    Source: Delta transaction log protocol, per-file statistics.
    """
    return {key: _instant(value, up=up) if key in times else value for key, value in bounds.items()}


def _instant(value_us: int, *, up: bool) -> str:
    ms = -(-value_us // 1_000) if up else value_us // 1_000
    instant = EPOCH + timedelta(milliseconds=ms)
    return f"{instant:%Y-%m-%dT%H:%M:%S}.{ms % 1_000:03d}Z"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
