"""The bytes of a file: opened once and safely, unzipped within a bound, and looked at before they are parsed."""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

import polars as pl

from bridge.errors import SourceError, UpstreamInvalid, UpstreamTooLarge
from bridge.sources.builtin.files.paths import Found, reason

BLOCK_BYTES = 16 * 1024 * 1024
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
class Budget:
    """What may still be read into memory; shared by the files of one answer that is held as a whole."""

    cap_bytes: int
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
    Errors: SourceError when the file cannot be read, UpstreamTooLarge over the budget, UpstreamInvalid for bad gzip.
    """
    try:
        with _opened(found) as file:
            zipped = _is_gzip(file)
            stream = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if zipped else file
            while block := stream.read(block_bytes):
                if zipped or not streamed:
                    budget.spend(len(block), found)
                yield block
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UpstreamInvalid(
            f"`{found.shown}` is no complete gzip file",
            remedy="write the file again, to another name first and then renamed",
        ) from error
    except OSError as error:
        raise unreadable(found, error) from error


def unreadable(found: Found, error: OSError) -> SourceError:
    """The system's refusal as a sentence."""
    return SourceError(
        f"`{found.shown}` cannot be read: {reason(error)}", remedy="check that bridge's user may read the file"
    )


def _opened(found: Found) -> BinaryIO:
    # The path was resolved before: a link that stands there now was put there to lead elsewhere. A pipe put there
    # would block for ever.
    handle = os.open(found.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise SourceError(f"`{found.shown}` is not a regular file any more", remedy="put the file back")
    return os.fdopen(handle, "rb")


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
