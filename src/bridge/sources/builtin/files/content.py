"""The bytes of a file: opened once and safely, unzipped within a bound, and looked at before they are parsed."""

from __future__ import annotations

import gzip
import os
import stat
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

import polars as pl

from bridge.errors import SourceError, UpstreamInvalid, UpstreamTooLarge, UpstreamUnavailable
from bridge.sources.builtin.files.paths import Found, reason

BLOCK_BYTES = 16 * 1024 * 1024
# Tables seldom shrink to a twentieth. Beyond the first bytes, gzip that unfolds further than this was made to.
MAX_RATIO = 100
FREE_BYTES = 64 * 1024 * 1024
# Where the system can, folders are opened for passing through only: bridge's user need not be able to list them.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GZIP_MAGIC = b"\x1f\x8b"
_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_HTML = (b"<!doctype", b"<html", b"<?xml")


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a file.

    Shape: `names` are all columns the file has, `table` holds those that were wanted, and all rows even without any.
    """

    names: tuple[str, ...]
    table: pl.DataFrame


@dataclass(slots=True)
class Pool:
    """What all readings of one source hold unzipped at a time; they run in threads."""

    cap_bytes: int
    held_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)


@dataclass(slots=True)
class Held:
    """One reading's part of the pool, given back when the reading ends."""

    pool: Pool
    taken_bytes: int = 0

    def take(self, size_bytes: int, found: Found) -> None:
        """Takes from the pool.

        Errors: UpstreamUnavailable when the other readings have left too little.
        """
        with self.pool.lock:
            if self.pool.held_bytes + size_bytes > self.pool.cap_bytes:
                raise UpstreamUnavailable(
                    f"`{found.shown}` has to wait: the gzip files that are being read hold "
                    f"{self.pool.cap_bytes:,} bytes together, and no more may be held at once",
                    remedy="ask again, split the files, or write them as Parquet or as plain CSV or NDJSON",
                )
            self.pool.held_bytes += size_bytes
            self.taken_bytes += size_bytes

    def give_back(self) -> None:
        """Everything that was taken is let go of."""
        with self.pool.lock:
            self.pool.held_bytes -= self.taken_bytes
            self.taken_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()


@dataclass(slots=True)
class Budget:
    """What may still be read into memory; shared by the files of one answer that is held as a whole."""

    cap_bytes: int
    held: Held | None = None
    spent_bytes: int = 0

    def spend(self, size_bytes: int, found: Found) -> None:
        """Takes from the budget.

        Errors: UpstreamTooLarge when nothing is left of it.
        """
        self.spent_bytes += size_bytes
        if self.spent_bytes > self.cap_bytes:
            raise UpstreamTooLarge(
                f"`{found.shown}` holds more than the {self.cap_bytes:,} bytes that may be read at once",
                remedy="split the file, or write it as Parquet or as plain CSV or NDJSON",
            )


def blocks(found: Found, budget: Budget, *, streamed: bool, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The file's content in order, unzipped where it is gzip.

    Shape:  plain files that are `streamed` are not held, and so cost nothing; gzip always does, as it can unfold
            to a thousand times its size.
    Errors: SourceError when the file cannot be read, UpstreamTooLarge over the budget or for gzip that unfolds too
            far, UpstreamUnavailable while others hold too much, UpstreamInvalid for bad gzip.
    """
    try:
        with opened(found) as file:
            zipped = _is_gzip(file)
            stream = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if zipped else file
            fair_bytes = max(FREE_BYTES, MAX_RATIO * os.fstat(file.fileno()).st_size)
            total_bytes = 0
            while block := stream.read(block_bytes):
                total_bytes += len(block)
                if zipped or not streamed:
                    budget.spend(len(block), found)
                if zipped and not streamed:
                    _check_ratio(total_bytes, fair_bytes, found)
                    if budget.held is not None:
                        budget.held.take(len(block), found)
                yield block
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UpstreamInvalid(
            f"`{found.shown}` is no complete gzip file",
            remedy="write the file again, to another name first and then renamed",
        ) from error
    except OSError as error:
        raise unreadable(found, error) from error


def _check_ratio(total_bytes: int, fair_bytes: int, found: Found) -> None:
    if total_bytes > fair_bytes:
        raise UpstreamTooLarge(
            f"`{found.shown}` unfolds to more than {FREE_BYTES:,} bytes and to more than {MAX_RATIO} times its size",
            remedy="write it as Parquet or as plain CSV or NDJSON, if it is what it should be",
        )


def unreadable(found: Found, error: OSError) -> SourceError:
    """The system's refusal as a sentence."""
    return SourceError(
        f"`{found.shown}` cannot be read: {reason(error)}", remedy="check that bridge's user may read the file"
    )


def opened(found: Found) -> BinaryIO:
    """The file that was found, open for reading.

    Errors: OSError from the system, also where a link stands in the path by now; SourceError for a pipe or a device.
    """
    handle = _unlinked(found.path)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise SourceError(f"`{found.shown}` is not a regular file any more", remedy="put the file back")
    return os.fdopen(handle, "rb")


def _unlinked(path: Path) -> int:
    """Opens the path part by part.

    The path was resolved before: a link that stands anywhere in it now was put there to lead elsewhere, and
    `O_NOFOLLOW` guards the last part alone. A file that was replaced by another one, as good writers do, is fine.
    """
    folder = os.open(path.anchor, _FOLDER)
    try:
        for part in path.parts[1:-1]:
            inner = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        # A pipe put there would block for ever.
        return os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)


def _is_gzip(file: BinaryIO) -> bool:
    start = file.read(2)
    file.seek(0)
    return start == _GZIP_MAGIC


def without_bom(start: bytes, found: Found) -> bytes:
    """The first bytes of a text without a byte order mark.

    Errors: UpstreamInvalid for UTF-16, and for a web page where data should be.
    """
    if start.startswith(_UTF16_BOMS):
        raise UpstreamInvalid(f"`{found.shown}` is written in UTF-16", remedy="save it as UTF-8")
    start = start.removeprefix(_UTF8_BOM)
    if start[:256].lstrip().lower().startswith(_HTML):
        raise UpstreamInvalid(
            f"`{found.shown}` holds a web page (HTML or XML), not {found.format} data",
            remedy="look at what wrote the file: it probably saved an error page or a login page",
        )
    return start


def check_text(data: bytes, line: int, found: Found) -> None:
    """The bytes are UTF-8 text; `line` is the number of their first line.

    Errors: UpstreamInvalid naming the line.
    """
    at = data.find(b"\0")
    if at >= 0:
        where = line + data.count(b"\n", 0, at)
        raise UpstreamInvalid(
            f"`{found.shown}` holds binary data in line {where}, not {found.format}",
            remedy="check `path` and `format`",
        )
    try:
        data.decode()
    except UnicodeDecodeError as error:
        where = line + data.count(b"\n", 0, error.start)
        raise UpstreamInvalid(f"`{found.shown}` is not UTF-8 in line {where}", remedy="save it as UTF-8") from error
