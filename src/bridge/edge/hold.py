"""One process writes to a `data_dir`: a lock that the kernel drops with the process, however that ends."""

from __future__ import annotations

import fcntl
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from bridge.edge.disk import make_folder, store_error
from bridge.errors import StoreHeld

_LOCK = "lock"
# No process has a longer number; the file is bridge's own, but may hold anything.
_PID = re.compile(rb"([1-9][0-9]{0,8})\n?")
_TRIES = 50
_PAUSE_S = 0.01


class Hold:
    """The right to write to a folder, until `release`, or until the process ends.

    Shape: a child made by `fork` alone, without a program of its own, shares it.
    """

    def __init__(self, folder: Path, handle: int) -> None:
        self._folder = folder
        self._handle = handle

    @classmethod
    def take(cls, folder: Path) -> Self:
        """Takes the folder, which is made where it is missing.

        Errors: StoreHeld where another process, or this one, has it; StoreError where it cannot be written to.
        """
        path = folder / _LOCK
        try:
            make_folder(folder)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise store_error(error, f"data_dir `{folder}` cannot be used") from error
        try:
            _lock(handle, folder)
            os.ftruncate(handle, 0)
            os.pwrite(handle, b"%d\n" % os.getpid(), 0)
            os.fsync(handle)
        except OSError as error:
            os.close(handle)
            raise store_error(error, f"data_dir `{folder}` cannot be used, as `{path}` cannot be written") from error
        except BaseException:
            os.close(handle)
            raise
        return cls(folder, handle)

    @staticmethod
    def holder(folder: Path) -> int | None:
        """The number of the live process that has the folder, which this does not take; None where none has it.

        Errors: StoreError where the lock cannot be looked at.
        """
        path = folder / _LOCK
        try:
            handle = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise store_error(error, f"`{path}` cannot be read") from error
        try:
            pid = _pid(handle)
            # Of a lock without a number the process is not known; it is not touched for nothing.
            return pid if pid is not None and not _free(handle) else None
        except OSError as error:
            raise store_error(error, f"`{path}` cannot be read") from error
        finally:
            os.close(handle)

    @property
    def folder(self) -> Path:
        """What is held."""
        return self._folder

    def release(self) -> None:
        """Gives the folder back; once more does nothing."""
        if self._handle < 0:
            return
        # The file stays: who deletes it lets two processes lock two files of one name.
        with suppress(OSError):
            os.ftruncate(self._handle, 0)
        os.close(self._handle)
        self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _lock(handle: int, folder: Path) -> None:
    for _ in range(_TRIES):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = _pid(handle)
        else:
            return
        if pid is not None and _lives(pid):
            break
        # The holder may not have written its number yet, or `holder` looks at the lock of a dead one.
        time.sleep(_PAUSE_S)
    raise StoreHeld(
        f"data_dir `{folder}` is in use by " + ("another process" if pid is None else f"process {pid}"),
        pid=pid,
        remedy="stop that process, or give this one another data_dir",
    )


def _free(handle: int) -> bool:
    """Whether no process has the lock; closing the handle gives back what this takes of it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _pid(handle: int) -> int | None:
    found = _PID.fullmatch(os.pread(handle, 64, 0))
    return int(found[1]) if found else None


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
