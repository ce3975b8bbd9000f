"""A Delta table in a folder: which files it has, and changes to that list as single commits.

Data files are written by whoever owns the table; here they are only put on the list and taken off it, so that a file
can be sorted and cut as its reader wants it. `deltalake` is imported on use: it is an extra.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from bridge.edge import lake_log
from bridge.edge.disk import library_error, make_folder, sync_folder
from bridge.edge.lake_log import ACTIONS, CHECKPOINT_COMMITS
from bridge.errors import StoreBroken, StoreNewer
from bridge.model.span import EPOCH, to_us

if TYPE_CHECKING:
    from deltalake import DeltaTable

# Names the rows a commit brings, so that a flush that is tried again after a crash is known to be done.
WRITER = "bridge"
# Readers of the folder (Spark, DuckDB) see a version for at least so long after it was replaced.
GRACE_HOURS = 6
_CONFIGURATION = {
    "delta.checkpointInterval": str(CHECKPOINT_COMMITS),
    # The log is shortened here, by number: by age, a clock that was once ahead would stop it for good.
    "delta.enableExpiredLogCleanup": "false",
    "delta.deletedFileRetentionDuration": f"interval {GRACE_HOURS} hours",
}
MISSING = "history needs the package deltalake (install bridge with the extra `lake`)"
# Newer protocols may say that rows of a file are deleted, or that its columns have other names.
_READER, _WRITER = 1, 2


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
    """The list of files of one Delta table, changed by one process only and by one thread at a time.

    Errors: StoreBroken when the table's log cannot be understood, StoreNewer when it needs another bridge; both leave
            it as it is. StoreError when it cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = folder / lake_log.FOLDER
        self._table: DeltaTable | None = None

    @property
    def exists(self) -> bool:
        """Whether a first commit was made."""
        with self._translated("read"):
            found = lake_log.listed(self._log)
        return bool(found.commits or found.checkpoints)

    def create(self, sample: pl.DataFrame) -> None:
        """An empty table with the columns of `sample`."""
        from deltalake import DeltaTable

        self._refuse_lost()
        with self._translated("written"):
            make_folder(self.folder)
            DeltaTable.create(self.folder, schema=_arrow_schema(sample), configuration=_CONFIGURATION)
            lake_log.settle(self._log)
            sync_folder(self.folder)

    def widen(self, sample: pl.DataFrame) -> None:
        """Adds the columns of `sample` that the table does not have; older files have none of their values."""
        from deltalake import Schema

        table = self._opened()
        known = {field.name for field in table.schema().fields}
        if known.issuperset(sample.columns):
            return
        with self._changing():
            fields = Schema.from_arrow(_arrow_schema(sample)).fields
            table.alter.add_columns([field for field in fields if field.name not in known])

    def load(self) -> tuple[list[LakeFile], int]:
        """The files, and the number of the last rows that were committed; -1 before the first.

        A last commit that was cut short is set aside: what it brought is still in the segments.
        """
        self._table = None
        with self._translated("read"):
            lake_log.mend(self._log)
        if not self.exists:
            self._refuse_lost()
            return [], -1
        table = self._opened()
        last = table.transaction_version(WRITER)
        return _files(table), -1 if last is None else int(last)

    def commit(
        self,
        add: Sequence[LakeFile],
        remove: Sequence[LakeFile] = (),
        *,
        last_seq: int | None = None,
    ) -> None:
        """Puts files on the list and takes others off, all at once; they survive a loss of power from then on.

        Shape:  `last_seq` is the number of the last rows that `add` brings; None when the same rows are only moved.
        Errors: StoreError, after which the change may have been made all the same; `load` tells.
        """
        from deltalake import CommitProperties, Transaction

        table, new = self._opened(), last_seq is not None
        with self._changing():
            times = {field.name for field in table.schema().fields if "timestamp" in str(field.type)}
            actions = [self._added(file, times, new=new) for file in add]
            actions += [self._removed(file, moved=bool(add)) for file in remove]
            marks = [Transaction(WRITER, last_seq)] if last_seq is not None else []
            said = CommitProperties(
                custom_metadata={ACTIONS: str(len(actions) + len(marks))}, app_transactions=marks or None
            )
            table.create_write_transaction(actions, "append", table.schema(), commit_properties=said)
        # It only takes room: the next commit tries again.
        with suppress(OSError):
            lake_log.trim(self._log)

    def _added(self, file: LakeFile, times: Collection[str], *, new: bool) -> Any:
        from deltalake.transaction import AddAction

        stats = {
            "numRecords": file.rows,
            "minValues": _said(file.low, times, up=False),
            "maxValues": _said(file.high, times, up=True),
        }
        modified_ms = int((self.folder / file.path).stat().st_mtime * 1_000)
        return AddAction(file.path, file.size_bytes, {}, modified_ms, new, json.dumps(stats))

    def _removed(self, file: LakeFile, *, moved: bool) -> Any:
        from deltalake.transaction import RemoveAction

        path, left_ms = self.folder / file.path, 0
        # Deleted by hand it can still be taken off the list.
        with suppress(FileNotFoundError):
            # From now on nobody needs it, which is what `sweep` goes by.
            os.utime(path)
            left_ms = int(path.stat().st_mtime * 1_000)
        return RemoveAction(file.path, data_change=not moved, deletion_timestamp=left_ms, size=file.size_bytes)

    def sweep(self, now: datetime) -> int:
        """Deletes files that left the list, or never came onto it, hours ago; how many they were."""
        kept = {file.path for file in self.load()[0]}
        with self._translated("written"):
            left = [path for path in self.folder.glob("*.parquet") if path.name not in kept]
            left += lake_log.left_over(self._log)
            return sum(outlived(path, now) for path in left)

    def highest_number(self) -> int:
        """The highest number of rows that the log speaks of, also where it cannot be understood as a whole."""
        return lake_log.highest_number(self._log)

    def _opened(self) -> DeltaTable:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        try:
            if self._table is None:
                self._table = DeltaTable(self.folder)
            else:
                self._table.update_incremental()
        except (DeltaError, OSError, ValueError) as error:
            self._table = None
            if "Unsupported" in str(error):
                raise self._newer(_first_line(error)) from error
            raise StoreBroken(
                f"the Delta log in `{self.folder}` cannot be read: {_first_line(error)}", remedy=lake_log.REMEDY
            ) from error
        needed = self._table.protocol()
        if needed.min_reader_version > _READER or needed.min_writer_version > _WRITER:
            self._table = None
            raise self._newer(f"its protocol is {needed.min_reader_version}, {needed.min_writer_version}")
        return self._table

    def _newer(self, reason: str) -> StoreNewer:
        return StoreNewer(
            f"the Delta table in `{self.folder}` was written by a newer version of bridge, or by another program: "
            f"{reason} (this one knows {_READER}, {_WRITER})",
            remedy="start that version, or give this one another `data_dir`",
        )

    def _refuse_lost(self) -> None:
        """Data files without a log are not begun anew: nobody would have them on a list, and they would be swept."""
        if lake_log.has_data(self.folder):
            raise StoreBroken(
                f"the Delta log in `{self.folder}` is missing, though data files are there", remedy=lake_log.REMEDY
            )

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """A change of the log that is on the disk afterwards."""
        try:
            with self._translated("written"):
                yield
                lake_log.settle(self._log)
        except BaseException:
            # What it knows may not be what is there.
            self._table = None
            raise

    @contextmanager
    def _translated(self, done: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not isinstance(error, OSError) and not _of_delta(error):
                raise
            raise library_error(error, f"the Delta log in `{self.folder}` could not be {done}") from error


def outlived(path: Path, now: datetime) -> bool:
    """Deletes a file that nobody needs, if it has been so for long enough; whether that was done.

    Errors: OSError.
    """
    now_s = now.timestamp()
    try:
        age_s = now_s - path.stat().st_mtime
    except FileNotFoundError:
        return False
    if age_s > GRACE_HOURS * 3_600:
        path.unlink(missing_ok=True)
        return True
    if age_s < -GRACE_HOURS * 3_600:
        # Of a clock that was ahead: it would stay for as long as that was.
        os.utime(path, (now_s, now_s))
    return False


def _of_delta(error: Exception) -> bool:
    from deltalake.exceptions import DeltaError

    # Of columns that it cannot have it says so without a class of its own.
    return isinstance(error, DeltaError) or type(error) is Exception


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
    return f"{instant.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
