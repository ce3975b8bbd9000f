"""`schema.json`: all versions of one dataset's schema, in the folder of its history.

The running service and the command line both write it. Whoever writes takes `schema.lock`, looks whether the file is
still the one that was read, and puts a whole new file in its place, so that a reader and a crash find either version.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from bridge.edge.disk import make_folder, store_error, sync_folder
from bridge.errors import StoreBroken, StoreError, StoreHeld
from bridge.model.schema import Schema
from bridge.sources.history.changes import Verdict, compare, evolved, first
from bridge.sources.history.migration import Plan, adopted, applied, plan_back
from bridge.sources.history.schema_text import BACKUP, parsed, written
from bridge.sources.history.versions import Versions

NAME, LOCK = "schema.json", "schema.lock"
# A writer holds the lock for some milliseconds.
_TRIES = 50
_PAUSE_S = 0.02
_AGAIN = "run the command again"
Signature = tuple[int, int, int] | None


def folder_of(data_dir: Path, dataset: str) -> Path:
    """Where the history of a dataset stands."""
    return data_dir / "history" / dataset


class _Outdated(StoreError):
    """Somebody else wrote the file since it was read."""


class SchemaFile:
    """The versions of the dataset whose history stands in `folder`; used by one thread at a time.

    Errors: StoreNewer, StoreBroken when the file cannot be understood, which is then left as it is; StoreHeld while
            another process writes it; StoreError when it cannot be written, and the file is then as it was.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dataset = folder.name
        self.path = folder / NAME
        self._bytes: bytes | None = None
        self._signature: Signature = None
        self._versions: Versions | None = None
        # What fitted last: most samples have the columns of the one before.
        self._fitted: tuple[Schema, Mapping[str, str], Versions] | None = None

    def load(self) -> Versions | None:
        """The versions in the file, None before the first; the same object as long as the file says the same."""
        content, signature = self._read()
        if content is None:
            self._refuse_lost()
            self._versions = None
        elif content != self._bytes or self._versions is None:
            self._versions = parsed(content, self.path, self.dataset)
        self._bytes, self._signature = content, signature
        return self._versions

    def changed(self) -> bool:
        """Whether the file is another one than was read or written last; one look at its size and time."""
        try:
            return _signature(self.path.stat()) != self._signature
        except FileNotFoundError:
            return self._signature is not None
        except OSError:
            return True

    def admit(self, schema: Schema, stored: Mapping[str, str]) -> Versions | None:
        """The versions as the file has them now; the columns are the current ones, or can become them by themselves.

        Errors: SchemaChanged.
        """
        versions = self._latest()
        if versions is None or self._fits(schema, stored):
            return versions
        change = compare(versions, schema, stored)
        if change.verdict is Verdict.BREAKING:
            raise change.error()
        return versions

    def begin(self, schema: Schema, stored: Mapping[str, str], at: datetime) -> Versions:
        """Writes the first version.

        Errors: StoreError where there is one already.
        """

        def begun(known: Versions | None) -> Versions:
            if known is not None:
                raise _Outdated(f"`{self.path}` is there already", remedy="read it first")
            return first(self.dataset, schema, stored, at)

        return self._change(begun)

    def evolve(self, schema: Schema, stored: Mapping[str, str], at: datetime) -> Versions:
        """Writes a version for these columns where they are not the current ones.

        Errors: SchemaChanged where a person must say what the change means; nothing is written then.
        """
        return self._change(lambda known: evolved(self._some(known), schema, stored, at))

    def fit(self, schema: Schema, stored: Mapping[str, str], at: datetime) -> Versions:
        """The versions of which the last has these columns: begun, evolved, or the same object as before.

        Errors: SchemaChanged where a person must say what the change means; nothing is written then.
        """

        def fitting(known: Versions | None) -> Versions:
            return evolved(known, schema, stored, at) if known else first(self.dataset, schema, stored, at)

        known = self._latest()
        if known is not None and self._fits(schema, stored):
            return known
        try:
            made = self._change(fitting)
        except _Outdated:
            # A migration, in this very moment.
            self.load()
            made = self._change(fitting)
        self._fitted = (schema, dict(stored), made)
        return made

    def migrate(self, plan: Plan, at: datetime) -> Versions:
        """Writes the planned version.

        Errors: StoreError when the plan was made for another version than the current one.
        """
        return self._change(lambda known: applied(self._some(known), plan, at))

    def back(self, at: datetime) -> Versions:
        """Writes a version that takes back the last migration.

        Errors: BadRequest where there is none.
        """
        return self._change(lambda known: applied(self._some(known), plan_back(self._some(known)), at))

    def adopt(self, at: datetime) -> Versions:
        """Writes a version that says that the folder came from a dataset of another name."""
        return self._change(lambda known: adopted(self._some(known), at))

    def _latest(self) -> Versions | None:
        """The versions, read again where somebody wrote them."""
        return self.load() if self._versions is None or self.changed() else self._versions

    def _fits(self, schema: Schema, stored: Mapping[str, str]) -> bool:
        """Whether these are the columns that were found to fit last."""
        return self._fitted is not None and self._fitted == (schema, stored, self._versions)

    def _some(self, known: Versions | None) -> Versions:
        if known is None:
            raise StoreError(f"`{self.dataset}` has no history in `{self.folder}`", remedy="it begins with a sample")
        return known

    def _change(self, change: Callable[[Versions | None], Versions]) -> Versions:
        """What `change` makes of the versions that were read last, once that is written."""
        known = self._versions if self._versions is not None else self.load()
        after = change(known)
        if after is known:
            return after
        content = written(after)
        try:
            make_folder(self.folder)
            with _locked(self.folder / LOCK):
                self._replace(content)
        except OSError as error:
            raise store_error(error, f"`{self.path}` cannot be written") from error
        self._versions = after
        return after

    def _replace(self, content: bytes) -> None:
        before, _ = self._read()
        if before != self._bytes:
            raise _Outdated(f"`{self.path}` was changed by another process meanwhile", remedy=_AGAIN)
        if before is not None:
            _put(self.folder / BACKUP, before)
        _put(self.path, content)
        self._bytes, self._signature = content, _signature(self.path.stat())

    def _read(self) -> tuple[bytes | None, Signature]:
        try:
            with self.path.open("rb") as file:
                return file.read(), _signature(os.fstat(file.fileno()))
        except FileNotFoundError:
            return None, None
        except OSError as error:
            raise store_error(error, f"`{self.path}` cannot be read") from error

    def _refuse_lost(self) -> None:
        """A file that is gone while samples are there is not begun anew: they would be read as what they are not.

        Errors: StoreBroken.
        """
        left = next(
            (item for pattern in (BACKUP, "g[0-9]*", "*.segment") for item in self.folder.glob(pattern)), None
        )
        if left is not None:
            raise StoreBroken(
                f"`{self.path}` is missing, though `{left.name}` is there",
                remedy=f"put it back from a backup or from {BACKUP}, or move the folder away to begin anew",
            )


def _signature(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_mtime_ns, found.st_size, found.st_ino


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """The right to write, for the time of the block.

    Errors: StoreHeld with the number of the process that has it for too long; OSError.
    """
    # Closing it gives the lock back; deleted it must not be, or two processes could lock two files of one name.
    with path.open("a+b", buffering=0) as file:
        for _ in range(_TRIES):
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(_PAUSE_S)
        else:
            raise _held(path, file.fileno())
        os.ftruncate(file.fileno(), 0)
        file.write(b"%d\n" % os.getpid())
        yield


def _held(path: Path, handle: int) -> StoreHeld:
    said = os.pread(handle, 32, 0).strip()
    pid = int(said) if said.isdigit() else None
    who = "another process" if pid is None else f"process {pid}"
    return StoreHeld(f"{who} holds `{path}`", pid=pid, remedy="wait until it is done, or see why it hangs")


def _put(path: Path, content: bytes) -> None:
    """A whole file in the place of another: a crash leaves one of the two."""
    draft = path.with_name(f"{path.name}.new")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)
