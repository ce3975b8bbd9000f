"""The write-ahead segment of one dataset's history: what `append` has returned for survives kill -9 and power loss.

The file is a line that names its version, then records: u32 length of the payload, u32 CRC-32 of what follows,
u64 sequence number, payload; all little-endian.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from bridge.edge.disk import in_words, make_folder, store_error, sync_folder
from bridge.errors import StoreBroken, StoreError, StoreNewer

VERSION = 1
MAGIC = b"bridge-segment %d\n" % VERSION
MAX_PAYLOAD_BYTES = 256 * 2**20
_NAMED = re.compile(rb"bridge-segment ([1-9][0-9]{0,5})(?:\n|$)")
_HEADER = struct.Struct("<IIQ")
_SEQ = struct.Struct("<Q")
_MAX_SEQ = 2**64 - 1
# So many damaged records in a row are stepped over by their lengths; zeros would else be a long row of empty ones.
_MAX_BAD_RECORDS = 64
_CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Record:
    """One sample batch; `seq` ascends within a segment."""

    seq: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Damage:
    """What of a file was no good: bytes at its end, records before that, and the copies kept of both."""

    torn_bytes: int = 0
    dropped_records: int = 0
    copies: tuple[Path, ...] = ()

    @property
    def sentence(self) -> str:
        """What was found and where it is kept; empty where nothing was."""
        found = [f"{self.torn_bytes} bytes at its end are no whole record"] if self.torn_bytes else []
        found += [f"records damaged or out of order: {self.dropped_records}"] if self.dropped_records else []
        kept = ", ".join(f"`{path.name}`" for path in self.copies)
        return f"{'; '.join(found)}; kept in {kept}" if found else ""


@dataclass(frozen=True, slots=True)
class Recovered:
    """The whole records of a file, their `seq` ascending."""

    records: list[Record]
    damage: Damage


@dataclass(slots=True)
class _Scan:
    """`good_bytes` is the end of the last whole record, `damaged_bytes` that of the last one left out."""

    records: list[Record]
    good_bytes: int
    file_bytes: int
    damaged_bytes: int = 0
    dropped_records: int = 0


class Segment:
    """One open segment, written by one process only.

    Errors: StoreError with file, reason and remedy whenever the system refuses; ValueError for a `seq` that does
            not ascend.
    """

    def __init__(self, handle: int, path: Path, scan: _Scan, damage: Damage) -> None:
        self._handle = handle
        self._path = path
        self._end_bytes = scan.good_bytes
        self._last_seq = scan.records[-1].seq if scan.records else None
        self._damage = damage
        self._unusable: tuple[str, str] | None = None
        # A caller that is cancelled leaves its thread inside `append`; whoever comes next waits for it.
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> tuple[Segment, list[Record]]:
        """Makes the file, or recovers what is in it; a torn end is copied to `NAME.torn` before it is cut off.

        Errors: StoreNewer for a newer version's file and StoreBroken for one that is no segment, both untouched;
                StoreError.
        """
        with _translated(path, "opened"):
            make_folder(path.parent)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            with _translated(path, "opened"):
                scan = _scan(handle, path)
                damage = _set_aside(handle, path, scan)
                os.ftruncate(handle, scan.good_bytes)
                if not scan.good_bytes:
                    scan.good_bytes = _write_all(handle, MAGIC, 0)
                # What a killed process left may be in memory only, the file's name too.
                os.fsync(handle)
                sync_folder(path.parent)
        except BaseException:
            os.close(handle)
            raise
        return cls(handle, path, scan, damage), scan.records

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._path

    @property
    def bytes_held(self) -> int:
        """Length of the file up to its last acknowledged record."""
        return self._end_bytes

    @property
    def last_seq(self) -> int | None:
        """The number of the last record; None where there is none."""
        return self._last_seq

    @property
    def damage(self) -> Damage:
        """What `open` found to be no good."""
        return self._damage

    def append(self, seq: int, payload: bytes) -> None:
        """Writes one record and returns when it is on the disk; blocks as long as the disk does."""
        with self._lock:
            self._check_usable()
            if not (-1 if self._last_seq is None else self._last_seq) < seq <= _MAX_SEQ:
                raise ValueError(f"record {seq} does not come after {self._last_seq}")
            if len(payload) > MAX_PAYLOAD_BYTES:
                raise StoreError(
                    f"a record of {len(payload)} bytes is too large for `{self._path}`",
                    remedy=f"write at most {MAX_PAYLOAD_BYTES} bytes at once",
                )
            head = _HEADER.pack(len(payload), _crc(seq, payload), seq)
            try:
                end_bytes = _write_all(self._handle, head + payload, self._end_bytes)
                os.fdatasync(self._handle)
            except OSError as error:
                raise self._taken_back(error) from error
            self._end_bytes, self._last_seq = end_bytes, seq

    def seal(self, to: Path) -> None:
        """Ends the file under another name in the same file system; nothing can be appended after that."""
        with self._lock:
            self._check_usable()
            folders = {self._path.parent, to.parent}
            with _translated(self._path, f"renamed to `{to.name}`"):
                os.fsync(self._handle)
                # Tried again after a failure, it may have its new name already.
                if self._path != to:
                    if to.exists():
                        raise StoreError(f"`{to}` exists already, nothing is written over it", remedy="move it away")
                    self._path.rename(to)
                    self._path = to
                for folder in folders:
                    sync_folder(folder)
            self._close()

    def close(self) -> None:
        """Closes the file, which stays what it is; once more does nothing."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _check_usable(self) -> None:
        if self._handle < 0:
            raise StoreError(f"`{self._path}` is closed", remedy="open it again")
        if self._unusable is not None:
            message, remedy = self._unusable
            raise StoreError(message, remedy=remedy)

    def _taken_back(self, error: OSError) -> StoreError:
        """The file as it was before the record, and what is to be said."""
        what = f"`{self._path}` could not be appended to"
        try:
            os.ftruncate(self._handle, self._end_bytes)
            os.fdatasync(self._handle)
        except OSError as again:
            # What a later record would come after is not known any more.
            (reason, remedy), (why_not, _) = in_words(error), in_words(again)
            self._unusable = (
                f"{what}: {reason}, and the half-written record could not be cut off: {why_not}",
                f"{remedy}; then start bridge again, which recovers the file",
            )
            return StoreError(self._unusable[0], remedy=self._unusable[1])
        return store_error(error, what)


def read(path: Path) -> Recovered:
    """The records of a sealed segment; the file stays as it is, damage in it is copied beside it.

    Errors: StoreNewer, StoreBroken, StoreError.
    """
    with _translated(path, "read"):
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            scan = _scan(handle, path)
            return Recovered(scan.records, _set_aside(handle, path, scan))
        finally:
            os.close(handle)


@contextmanager
def _translated(path: Path, done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise store_error(error, f"`{path}` could not be {done}") from error


def _write_all(handle: int, data: bytes, at_bytes: int) -> int:
    """Writes the bytes, and gives the offset behind them."""
    rest = memoryview(data)
    # A full disk takes a part, and says what it is only when it is asked to take the rest.
    while rest:
        written_bytes = os.pwrite(handle, rest, at_bytes)
        at_bytes, rest = at_bytes + written_bytes, rest[written_bytes:]
    return at_bytes


def _scan(handle: int, path: Path) -> _Scan:
    """Every whole record, whatever stands between and behind them."""
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        raise StoreBroken(f"`{path}` is not a file", remedy="move it away")
    scan = _Scan([], len(MAGIC) if _has_magic(handle, path) else 0, found.st_size)
    if not scan.good_bytes:
        return scan
    at_bytes, bad = scan.good_bytes, 0
    while bad <= _MAX_BAD_RECORDS and (look := _look(handle, at_bytes, scan.file_bytes)):
        at_bytes, record = look
        if record is None:
            bad += 1
            continue
        scan.good_bytes = at_bytes
        repeats = bool(scan.records) and record.seq <= scan.records[-1].seq
        if bad or repeats:
            scan.dropped_records += bad + repeats
            scan.damaged_bytes = at_bytes
        if not repeats:
            scan.records.append(record)
        bad = 0
    return scan


def _look(handle: int, at_bytes: int, file_bytes: int) -> tuple[int, Record | None] | None:
    """Where the record here ends, and the record if its checksum is right; None where no whole one can be."""
    if at_bytes + _HEADER.size > file_bytes:
        return None
    length_bytes, crc, seq = _HEADER.unpack(os.pread(handle, _HEADER.size, at_bytes))
    end_bytes = at_bytes + _HEADER.size + length_bytes
    if length_bytes > MAX_PAYLOAD_BYTES or end_bytes > file_bytes:
        return None
    payload = os.pread(handle, length_bytes, at_bytes + _HEADER.size)
    return end_bytes, Record(seq, payload) if _crc(seq, payload) == crc else None


def _crc(seq: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_SEQ.pack(seq)))


def _has_magic(handle: int, path: Path) -> bool:
    """Whether the first line is whole; false for a file whose making broke off."""
    head = os.pread(handle, 32, 0)
    if head.startswith(MAGIC):
        return True
    named = _NAMED.match(head)
    if named and int(named[1]) > VERSION:
        raise StoreNewer(
            f"`{path}` was written by a newer version of bridge (format {int(named[1])}, this one knows {VERSION})",
            remedy="start that version, or give this one another `data_dir`",
        )
    if not MAGIC.startswith(head):
        raise StoreBroken(f"`{path}` is not a segment of a history", remedy="move it away")
    return False


def _set_aside(handle: int, path: Path, scan: _Scan) -> Damage:
    """Copies what is left out, durably, before anything is cut off."""
    torn_bytes, copies = scan.file_bytes - scan.good_bytes, []
    if torn_bytes:
        copies.append(_copy(handle, scan, path.with_name(f"{path.name}.torn"), whole=False))
    if scan.dropped_records:
        copies.append(_copy(handle, scan, path.with_name(f"{path.name}.corrupt"), whole=True))
    if copies:
        sync_folder(path.parent)
    return Damage(torn_bytes, scan.dropped_records, tuple(copies))


def _copy(handle: int, scan: _Scan, target: Path, *, whole: bool) -> Path:
    """Copies the file or its torn end to the first free of `target`, `target.1`, …, unless one has it already."""
    start_bytes = 0 if whole else scan.good_bytes
    # A file that has only grown since its damage was copied is not copied again.
    needed_bytes = scan.damaged_bytes if whole else scan.file_bytes
    for number in count():
        path = target.with_name(f"{target.name}.{number}") if number else target
        try:
            copy = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            if _holds(path, handle, start_bytes, needed_bytes):
                break
            continue
        try:
            at_bytes = 0
            for chunk in _chunks(handle, start_bytes, scan.file_bytes):
                at_bytes = _write_all(copy, chunk, at_bytes)
            os.fsync(copy)
        except OSError:
            # Half a copy, at every start anew, would fill what is left of the disk.
            path.unlink()
            raise
        finally:
            os.close(copy)
        break
    return path


def _holds(path: Path, handle: int, start_bytes: int, end_bytes: int) -> bool:
    """Whether a copy begins with this part of the file."""
    with path.open("rb") as copy:
        return all(copy.read(len(chunk)) == chunk for chunk in _chunks(handle, start_bytes, end_bytes))


def _chunks(handle: int, start_bytes: int, end_bytes: int) -> Iterator[bytes]:
    for at_bytes in range(start_bytes, end_bytes, _CHUNK_BYTES):
        yield os.pread(handle, min(_CHUNK_BYTES, end_bytes - at_bytes), at_bytes)
