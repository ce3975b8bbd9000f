"""Files that must outlive a crash: folders whose entries are durable, and the system's errors in words."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from bridge.errors import StoreError

_ROOM = "make room there, or give bridge another `data_dir`"
_RIGHT = "give the user that bridge runs as the right to write there, or give bridge another `data_dir`"
_PATH = "correct `data_dir`, or move what stands in its way"
# As libraries in Rust end what they say.
_NUMBER = re.compile(r"\(os error (\d+)\)")
_MOST_CHARS = 300
_WORDS: Mapping[int, tuple[str, str]] = MappingProxyType(
    {
        errno.ENOSPC: ("the disk is full", _ROOM),
        errno.EDQUOT: ("the disk quota is used up", _ROOM),
        errno.EFBIG: (
            "the file would be larger than the system allows",
            "raise the limit on file sizes (`ulimit -f`)",
        ),
        errno.EROFS: ("the folder is read-only", "mount it for writing, or give bridge another `data_dir`"),
        errno.EACCES: ("there is no permission", _RIGHT),
        errno.EPERM: ("there is no permission", _RIGHT),
        errno.EIO: ("the disk reports an error", "look at the system's log; the disk may be failing"),
        errno.ENOENT: ("it does not exist", _PATH),
        errno.ENOTDIR: ("a part of its path is a file, not a folder", _PATH),
        errno.EEXIST: ("a part of its path is a file, not a folder", _PATH),
        errno.EISDIR: ("a folder stands in its place", _PATH),
        errno.ENAMETOOLONG: ("its name is too long", "shorten the names of the source and the dataset"),
        errno.EMFILE: ("too many files are open", "raise the limit on open files (`ulimit -n`)"),
        errno.ENFILE: ("too many files are open", "raise the system's limit on open files"),
        errno.ENOLCK: ("the file system has no locks", "give bridge a `data_dir` on a local disk"),
    }
)


def in_words(error: OSError) -> tuple[str, str]:
    """What the system refused, and what helps."""
    said = f"the system refuses it: {error.strerror}" if error.strerror else "the system refuses it"
    return _WORDS.get(error.errno or 0, (said, "look at the system's log"))


def store_error(error: OSError, what: str) -> StoreError:
    """The system's error as one of ours; `what` says which file could not be what: "`x` could not be read"."""
    reason, remedy = in_words(error)
    return StoreError(f"{what}: {reason}", remedy=remedy)


def library_error(error: Exception, what: str) -> StoreError:
    """The same for the error of a library, which may have the system's number in its text only."""
    found = _NUMBER.search(str(error))
    number = int(found[1]) if found else error.errno if isinstance(error, OSError) else None
    said = next(iter(str(error).strip().splitlines()), type(error).__name__)[:_MOST_CHARS]
    if number is not None:
        said, remedy = in_words(OSError(number, os.strerror(number)))
    if number in (None, errno.ENOENT):
        remedy = "see whether files below `data_dir` were taken away or damaged"
    return StoreError(f"{what}: {said}", remedy=remedy)


def make_folder(folder: Path) -> None:
    """Makes the folder and those above it, such that they are still there after a power loss.

    Errors: OSError.
    """
    missing = [part for part in (folder, *folder.parents) if not part.is_dir()]
    for part in reversed(missing):
        # Another process may have made it in this moment; a file in its place is an error.
        part.mkdir(exist_ok=True)
        sync_folder(part.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable, as `fsync` of a file says nothing of its name.

    Errors: OSError.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
