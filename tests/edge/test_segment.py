"""What was acknowledged to the segment is there after any end of the process, the file or the disk."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.edge.disks import common_user, file_bound, no_more_files, open_folder, run_mounted, swap

from bridge.edge.segment import MAX_PAYLOAD_BYTES, Damage, Record, Segment, read
from bridge.errors import StoreBroken, StoreError, StoreNewer

MAGIC = b"bridge-segment 1\n"
HEADER_BYTES = 16
THREE = [Record(1, b"first"), Record(2, b""), Record(7, b"the third one")]


def encoded(record: Record) -> bytes:
    """A record as the format says, written down a second time."""
    body = struct.pack("<Q", record.seq) + record.payload
    return struct.pack("<II", len(record.payload), zlib.crc32(body)) + body


def written(*records: Record) -> bytes:
    return MAGIC + b"".join(map(encoded, records))


def ends(records: list[Record]) -> list[int]:
    """The offset behind each record."""
    at, out = len(MAGIC), []
    for record in records:
        at += len(encoded(record))
        out.append(at)
    return out


def reopened(path: Path) -> tuple[list[Record], Damage]:
    segment, records = Segment.open(path)
    segment.close()
    return records, segment.damage


@contextmanager
def held(data: bytes) -> Iterator[Path]:
    """A file of these bytes in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wal"
        path.write_bytes(data)
        yield path


@st.composite
def batches(draw: st.DrawFn) -> list[Record]:
    seqs = sorted(draw(st.sets(st.integers(0, 2**64 - 1), max_size=6)))
    return [Record(seq, draw(st.binary(max_size=40))) for seq in seqs]


def is_part(found: list[Record], of: list[Record]) -> bool:
    """Whether the records are some of these, in their order, and nothing else."""
    rest = iter(of)
    return all(record in rest for record in found)


def test_the_file_is_what_the_format_says(tmp_path: Path) -> None:
    """Also in a folder that is not there yet; another version of bridge must be able to read it."""
    path = tmp_path / "a" / "b" / "wal"
    segment, records = Segment.open(path)
    assert (records, segment.last_seq, segment.bytes_held, segment.path) == ([], None, len(MAGIC), path)
    for record in THREE:
        segment.append(record.seq, record.payload)
    assert path.read_bytes() == written(*THREE)
    assert (segment.last_seq, segment.bytes_held) == (7, len(written(*THREE)))
    segment.close()
    segment.close()


def test_what_is_appended_after_a_restart_comes_behind_what_was_there(tmp_path: Path) -> None:
    """A segment goes on where it was."""
    path = tmp_path / "wal"
    path.write_bytes(written(*THREE))
    segment, records = Segment.open(path)
    assert (records, segment.last_seq, segment.damage.sentence) == (THREE, 7, "")
    segment.append(8, b"more")
    segment.close()
    assert reopened(path) == ([*THREE, Record(8, b"more")], Damage())


@pytest.mark.parametrize("seq", [7, 6, 0, -1, 2**64])
def test_a_number_that_does_not_ascend_is_refused(tmp_path: Path, seq: int) -> None:
    """It would be acknowledged, and then taken for a repetition when the file is read."""
    path = tmp_path / "wal"
    path.write_bytes(written(*THREE))
    segment, _ = Segment.open(path)
    with pytest.raises(ValueError, match="does not come after 7"):
        segment.append(seq, b"x")
    segment.close()
    assert path.read_bytes() == written(*THREE)


def test_a_record_that_no_reader_would_take_is_refused(tmp_path: Path) -> None:
    """Over 256 MiB in one piece."""
    segment, _ = Segment.open(tmp_path / "wal")
    with pytest.raises(StoreError, match="too large for"):
        segment.append(1, bytes(MAX_PAYLOAD_BYTES + 1))
    assert segment.path.read_bytes() == MAGIC
    segment.close()


# ---- torn and damaged files


@pytest.mark.parametrize("cut", range(len(written(*THREE)) + 1))
def test_a_file_cut_at_any_byte_keeps_every_whole_record(tmp_path: Path, cut: int) -> None:
    """What is cut off is copied first, and the file goes on behind the last whole record."""
    path, data = tmp_path / "wal", written(*THREE)[:cut]
    path.write_bytes(data)
    segment, records = Segment.open(path)
    whole = [record for record, end in zip(THREE, ends(THREE), strict=True) if end <= cut]
    assert records == whole
    torn = len(data) - (len(written(*whole)) if cut >= len(MAGIC) else 0)
    assert segment.damage.torn_bytes == torn
    copy = tmp_path / "wal.torn"
    assert (copy.read_bytes() if torn else b"") == data[len(data) - torn :]
    assert copy.exists() is bool(torn)
    segment.append(9, b"next")
    segment.close()
    assert path.read_bytes() == written(*whole, Record(9, b"next"))


@given(batches(), st.binary(min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_garbage_behind_the_records_costs_none_of_them(records: list[Record], garbage: bytes) -> None:
    """Whatever a crashed file system leaves there."""
    with held(written(*records) + garbage) as path:
        found, damage = reopened(path)
        assert found == records
        assert damage.torn_bytes == len(garbage)
        assert path.with_name("wal.torn").read_bytes() == garbage
        assert path.read_bytes() == written(*records)


@given(batches(), st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_byte_costs_no_record_before_it_and_invents_none(
    records: list[Record], data: st.DataObject
) -> None:
    """Where only number, checksum or payload are hit, it costs that one record."""
    raw = bytearray(written(*records))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with held(bytes(raw)) as path:
        if at < len(MAGIC):
            with pytest.raises((StoreBroken, StoreNewer)):
                Segment.open(path)
            assert path.read_bytes() == raw
            return
        found, damage = reopened(path)
        before = [record for record, end in zip(records, ends(records), strict=True) if end <= at]
        hit = len(before)
        assert found[:hit] == before
        assert is_part(found, records)
        assert damage.torn_bytes or damage.dropped_records == 1
        kept = path.with_name(path.name + (".torn" if damage.torn_bytes else ".corrupt")).read_bytes()
        assert kept in raw
        if at - len(written(*before)) >= 4:  # behind the length
            assert found == records[:hit] + records[hit + 1 :]


@given(batches(), st.data())
@settings(max_examples=100, deadline=None)
def test_damage_and_a_cut_together_invent_nothing(records: list[Record], data: st.DataObject) -> None:
    """The end is where both meet, most of the time."""
    raw = bytearray(written(*records))
    at = data.draw(st.integers(len(MAGIC) - 1, len(raw) - 1))
    cut = data.draw(st.integers(len(MAGIC), len(raw)))
    if at >= len(MAGIC):
        raw[at] ^= data.draw(st.integers(1, 255))
    with held(bytes(raw[:cut])) as path:
        found, _ = reopened(path)
        good = min(at if at >= len(MAGIC) else len(raw), cut)
        before = [record for record, end in zip(records, ends(records), strict=True) if end <= good]
        assert found[: len(before)] == before
        assert is_part(found, records)
        again, damage = reopened(path)
        assert again == found
        assert damage.torn_bytes == 0


def test_records_damaged_in_the_middle_cost_none_behind_them(tmp_path: Path) -> None:
    """Two in a row; the file is copied once, however often it is opened and goes on, and again for more damage."""
    path, records = tmp_path / "wal", [Record(seq, b"payload %d" % seq) for seq in range(6)]
    raw = bytearray(written(*records))
    raw[ends(records)[1] + 5] ^= 1
    raw[ends(records)[3] - 1] ^= 1
    path.write_bytes(raw)
    found, damage = reopened(path)
    copy = tmp_path / "wal.corrupt"
    assert found == [*records[:2], *records[4:]]
    assert (damage.dropped_records, damage.copies) == (2, (copy,))
    assert damage.sentence == "records damaged or out of order: 2; kept in `wal.corrupt`"
    assert copy.read_bytes() == raw
    segment, _ = Segment.open(path)
    segment.append(6, b"more")
    segment.close()
    assert path.read_bytes() == raw + encoded(Record(6, b"more"))
    assert reopened(path)[1].copies == (copy,)
    raw[len(MAGIC) + HEADER_BYTES] ^= 1
    path.write_bytes(raw)
    assert reopened(path)[1].copies == (tmp_path / "wal.corrupt.1",)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_copy_of_an_earlier_crash_is_not_written_over(tmp_path: Path) -> None:
    """Each torn end is kept; the same one only once."""
    path = tmp_path / "wal"
    for torn in (b"one", b"two", b"longer", b"two"):
        path.write_bytes(written(*THREE) + torn)
        damage = reopened(path)[1]
    assert damage.sentence == "3 bytes at its end are no whole record; kept in `wal.torn.1`"
    assert [(tmp_path / f"wal.torn{number}").read_bytes() for number in ("", ".1", ".2")] == [
        b"one",
        b"two",
        b"longer",
    ]
    assert len(list(tmp_path.iterdir())) == 4


def test_a_number_that_stands_twice_counts_once(tmp_path: Path) -> None:
    """The first stays; what is left out is copied."""
    path = tmp_path / "wal"
    path.write_bytes(written(Record(1, b"a"), Record(2, b"b"), Record(2, b"other"), Record(1, b"a"), Record(3, b"c")))
    records, damage = reopened(path)
    assert records == [Record(1, b"a"), Record(2, b"b"), Record(3, b"c")]
    assert damage.dropped_records == 2
    assert (tmp_path / "wal.corrupt").read_bytes() == path.read_bytes()


def test_an_absurd_length_is_not_believed(tmp_path: Path) -> None:
    """Nothing of that size is read, even where the file is as large; a copy that cannot be made costs nothing."""
    path = tmp_path / "wal"
    data = written(*THREE) + struct.pack("<IIQ", MAX_PAYLOAD_BYTES + 1, 0, 8)
    path.write_bytes(data)
    os.truncate(path, MAX_PAYLOAD_BYTES + 2**20)
    tracemalloc.start()
    try:
        with file_bound(2**20), pytest.raises(StoreError, match="larger than the system allows"):
            Segment.open(path)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2**24
    assert path.stat().st_size == MAX_PAYLOAD_BYTES + 2**20
    assert [file.name for file in tmp_path.iterdir()] == ["wal"]


def test_a_length_beyond_the_end_is_not_read_for(tmp_path: Path) -> None:
    """A small file costs little memory, whatever it says."""
    path = tmp_path / "wal"
    path.write_bytes(written(*THREE) + struct.pack("<IIQ", MAX_PAYLOAD_BYTES, 0, 8) + b"x")
    tracemalloc.start()
    try:
        assert read(path).records == THREE
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_zeros_behind_the_records_are_no_records(tmp_path: Path) -> None:
    """As some file systems leave them after a power loss; they are not walked through 16 bytes at a time."""
    path = tmp_path / "wal"
    path.write_bytes(written(*THREE) + bytes(70 * HEADER_BYTES) + encoded(Record(9, b"far behind")))
    records, damage = reopened(path)
    assert records == THREE
    assert damage.torn_bytes == 70 * HEADER_BYTES + len(encoded(Record(9, b"far behind")))


@pytest.mark.parametrize(
    ("data", "kind", "said"),
    [
        (b"bridge-segment 2\nwhatever", StoreNewer, r"newer version of bridge \(format 2, this one knows 1\)"),
        (b"bridge-segment 12", StoreNewer, "format 12"),
        (b"bridge-segment 0\n", StoreBroken, "is not a segment"),
        (b"PAR1 something else entirely", StoreBroken, "is not a segment"),
        (b"\0", StoreBroken, "is not a segment"),
    ],
)
def test_a_file_of_another_kind_is_left_as_it_is(
    tmp_path: Path, data: bytes, kind: type[StoreError], said: str
) -> None:
    """A newer version's file, and one that is no segment; nor is it kept open."""
    path = tmp_path / "wal"
    path.write_bytes(data)
    handles = len(os.listdir("/proc/self/fd"))
    for ask in (Segment.open, read):
        with pytest.raises(kind, match=said) as caught:
            ask(path)
        assert str(path) in caught.value.message
        assert caught.value.remedy
    assert path.read_bytes() == data
    assert len(os.listdir("/proc/self/fd")) == handles
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    """A pipe would else be waited for."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for ask in (Segment.open, read):
        with pytest.raises(StoreBroken, match="pipe` is not a file"):
            ask(tmp_path / "pipe")
    with pytest.raises(StoreError, match="folder` could not be opened: a folder stands in its place"):
        Segment.open(tmp_path / "folder")


# ---- a killed process

APPENDER = """
import sys
from pathlib import Path
from bridge.edge.segment import Segment
segment, records = Segment.open(Path(sys.argv[1]))
seq = segment.last_seq or 0
while True:
    seq += 1
    segment.append(seq, b"%d|" % seq * (seq * 7919 % 9000))
    print(seq, flush=True)
"""


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path: Path) -> None:
    """Several lives of one segment, each ended at another moment."""
    path, acknowledged = tmp_path / "wal", 0
    for lines in (7, 1, 40, 23, 2, 58):
        child = subprocess.Popen([sys.executable, "-c", APPENDER, str(path)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        for _ in range(lines):
            assert int(child.stdout.readline()) > acknowledged
        child.send_signal(signal.SIGKILL)
        # Also what was printed between the last line read and the end.
        rest = re.findall(rb"([0-9]+)\n", child.stdout.read())
        child.stdout.close()
        child.wait()
        records = reopened(path)[0]
        acknowledged = int(rest[-1]) if rest else acknowledged
        assert [record.seq for record in records] == list(range(1, len(records) + 1))
        assert len(records) >= acknowledged
        assert all(record.payload == b"%d|" % record.seq * (record.seq * 7919 % 9000) for record in records)
        acknowledged = len(records)


# ---- a disk that refuses


def test_a_disk_that_is_full_costs_nothing_acknowledged_and_heals(tmp_path: Path) -> None:
    """The record is taken back whole; with room there again, the segment goes on."""
    script = """
import sys
from pathlib import Path
from bridge.edge.segment import Segment
from bridge.errors import StoreError
folder = Path(sys.argv[1])
ballast = folder / "ballast"
ballast.write_bytes(bytes(40_000))
segment, _ = Segment.open(folder / "wal")
refused = 0
for seq in range(1, 200):
    try:
        segment.append(seq, bytes(3000))
    except StoreError as error:
        refused += 1
        if refused == 1:
            print(error.message.replace(sys.argv[1], ""), "|", error.remedy)
            assert segment.path.stat().st_size == segment.bytes_held
        if refused == 2:
            ballast.unlink()
        if refused == 4:
            break
    else:
        print(seq)
segment.close()
print(*[record.seq for record in Segment.open(folder / "wal")[1]])
try:
    Segment.open(folder / "other")
except StoreError as error:
    print(error.message.replace(sys.argv[1], ""))
"""
    first, *lines, recovered, other = [line for line in run_mounted("size=128k", script, tmp_path) if line]
    # The first lines are numbers until the disk was full.
    said = next(line for line in (first, *lines) if "|" in line)
    assert (
        said
        == "`/wal` could not be appended to: the disk is full | make room there, or give bridge another `data_dir`"
    )
    numbers = [line for line in (first, *lines) if "|" not in line]
    assert recovered.split() == numbers
    assert int(numbers[-1]) > len(numbers), "there was a hole, and more behind it"
    assert other == "`/other` could not be opened: the disk is full"


def test_a_record_that_a_limit_cuts_in_two_is_taken_back(tmp_path: Path) -> None:
    """Part of it was in the file already."""
    segment, _ = Segment.open(tmp_path / "wal")
    segment.append(1, b"a" * 100)
    held_bytes = segment.bytes_held
    with file_bound(held_bytes + 50), pytest.raises(StoreError, match="larger than the system allows") as caught:
        segment.append(2, b"b" * 100)
    assert "ulimit -f" in caught.value.remedy
    assert (segment.path.stat().st_size, segment.bytes_held, segment.last_seq) == (held_bytes, held_bytes, 1)
    segment.append(2, b"c")
    segment.close()
    assert reopened(segment.path)[0] == [Record(1, b"a" * 100), Record(2, b"c")]


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("/dev/full", "the disk is full"),
        # It takes the bytes, but cannot say that they are safe.
        ("/dev/null", "the system refuses it: Invalid argument"),
    ],
)
def test_a_segment_that_cannot_be_mended_says_so_on_each_append(tmp_path: Path, device: str, said: str) -> None:
    """Neither is the record acknowledged nor any after it; opened again, the file is what it was."""
    segment, _ = Segment.open(tmp_path / "wal")
    segment.append(1, b"safe")
    swap(segment.path, device)
    for _ in range(3):
        with pytest.raises(
            StoreError, match=f"`{segment.path}` could not be appended to: {said}, and the half-"
        ) as caught:
            segment.append(2, b"lost")
        assert "start bridge again" in caught.value.remedy
    swap(Path(device), str(segment.path))
    with pytest.raises(StoreError, match="could not be cut off"):
        segment.append(2, b"lost")
    with pytest.raises(StoreError, match="could not be cut off"):
        segment.seal(tmp_path / "sealed")
    segment.close()
    assert reopened(segment.path) == ([Record(1, b"safe")], Damage())


def test_a_file_whose_name_cannot_be_made_durable_is_not_used(tmp_path: Path) -> None:
    """A record in a file that a power loss removes from its folder would be lost."""
    path = tmp_path / "wal"
    path.write_bytes(MAGIC)
    handle = os.open(path, os.O_RDWR)
    try:
        # The same file, in a folder of the kernel's that knows no fsync.
        with pytest.raises(StoreError, match="could not be opened"):
            Segment.open(Path(f"/proc/self/fd/{handle}"))
    finally:
        os.close(handle)


def test_a_folder_whose_name_cannot_be_made_durable_is_not_used() -> None:
    """It can be made there, but where the names cannot be read, they cannot be written to the disk either."""
    with open_folder() as folder:
        (folder / "drop").mkdir()
        (folder / "drop").chmod(0o333)
        with common_user(), pytest.raises(StoreError, match="could not be opened: there is no permission"):
            Segment.open(folder / "drop" / "new" / "wal")
        (folder / "drop").chmod(0o777)


def test_a_read_only_folder_is_said_in_words(tmp_path: Path) -> None:
    """With the file's name and what helps."""
    script = """
import subprocess, sys
from pathlib import Path
from bridge.edge.segment import Segment, read
from bridge.errors import StoreError
folder = Path(sys.argv[1])
segment, _ = Segment.open(folder / "wal")
segment.close()
subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
for name in ("wal", "new", "deeper/new"):
    try:
        Segment.open(folder / name)
    except StoreError as error:
        print(error.sentence.replace(sys.argv[1], ""))
print(read(folder / "wal").records)
"""
    remedy = "(mount it for writing, or give bridge another `data_dir`)"
    assert run_mounted("size=128k", script, tmp_path) == [
        f"`/wal` could not be opened: the folder is read-only {remedy}",
        f"`/new` could not be opened: the folder is read-only {remedy}",
        f"`/deeper/new` could not be opened: the folder is read-only {remedy}",
        "[]",
    ]


def test_missing_permission_is_said_in_words() -> None:
    """For the file and for the folder it should be made in."""
    with open_folder() as folder:
        (folder / "wal").write_bytes(MAGIC)
        (folder / "wal").chmod(0o000)
        (folder / "shut").mkdir(mode=0o555)
        with common_user():
            for path in (folder / "wal", folder / "shut" / "wal", folder / "shut" / "deeper" / "wal"):
                with pytest.raises(
                    StoreError, match=f"`{path}` could not be opened: there is no permission"
                ) as caught:
                    Segment.open(path)
                assert caught.value.remedy.startswith("give the user that bridge runs as the right to write there")
        (folder / "wal").chmod(0o600)


@pytest.mark.parametrize("place", ["file/wal", "file/deeper/wal"])
def test_a_path_below_a_file_is_said_in_words(tmp_path: Path, place: str) -> None:
    """Nothing is put in the file's place."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="a part of its path is a file, not a folder"):
        Segment.open(tmp_path / place)
    assert (tmp_path / "file").read_text() == "mine"


# ---- sealing and reading


def test_a_sealed_segment_is_read_as_it_was_written(tmp_path: Path) -> None:
    """It has its new name only, and takes nothing any more."""
    (tmp_path / "done").mkdir()
    path, to = tmp_path / "wal", tmp_path / "done" / "wal-7"
    path.write_bytes(written(*THREE))
    segment, _ = Segment.open(path)
    segment.seal(to)
    assert segment.path == to
    assert not path.exists()
    assert read(to).records == THREE
    for act in (lambda: segment.append(9, b""), lambda: segment.seal(path)):
        with pytest.raises(StoreError, match="wal-7` is closed"):
            act()
    assert to.read_bytes() == written(*THREE)


def test_a_name_that_cannot_be_had_leaves_the_segment_in_use(tmp_path: Path) -> None:
    """Nothing is written over, and the sealing can be tried again."""
    (tmp_path / "taken").write_text("mine")
    segment, _ = Segment.open(tmp_path / "wal")
    with pytest.raises(StoreError, match="taken` exists already, nothing is written over it"):
        segment.seal(tmp_path / "taken")
    with pytest.raises(StoreError, match="could not be renamed to `sealed`: it does not exist"):
        segment.seal(tmp_path / "nowhere" / "sealed")
    segment.append(1, b"still here")
    segment.seal(tmp_path / "sealed")
    assert (tmp_path / "taken").read_text() == "mine"
    assert read(tmp_path / "sealed").records == [Record(1, b"still here")]


def test_a_sealing_that_failed_behind_the_renaming_can_be_tried_again(tmp_path: Path) -> None:
    """The file has its new name already, which is not in its way."""
    segment, _ = Segment.open(tmp_path / "wal")
    segment.append(1, b"x")
    with no_more_files(), pytest.raises(StoreError, match="too many files are open"):
        segment.seal(tmp_path / "sealed")
    assert segment.path == tmp_path / "sealed"
    segment.seal(tmp_path / "sealed")
    assert read(tmp_path / "sealed").records == [Record(1, b"x")]


def test_reading_changes_nothing_but_keeps_what_is_damaged(tmp_path: Path) -> None:
    """Whoever deletes a sealed segment after reading it destroys nothing."""
    path, raw = tmp_path / "sealed", bytearray(written(*THREE) + b"torn")
    raw[len(MAGIC) + HEADER_BYTES] ^= 1
    path.write_bytes(raw)
    for _ in range(2):
        found = read(path)
        assert found.records == THREE[1:]
        assert found.damage == Damage(4, 1, (tmp_path / "sealed.torn", tmp_path / "sealed.corrupt"))
    assert path.read_bytes() == raw
    assert (tmp_path / "sealed.torn").read_bytes() == b"torn"
    with pytest.raises(StoreError, match="nowhere` could not be read: it does not exist"):
        read(tmp_path / "nowhere")


def test_closing_waits_for_the_append_that_is_under_way(tmp_path: Path) -> None:
    """A cancelled caller leaves its thread behind; the handle it writes to is not closed under it."""
    entered, go = threading.Event(), threading.Event()

    class Slow(bytes):
        """Bytes that are looked at slowly."""

        def __len__(self) -> int:
            entered.set()
            assert go.wait(30)
            return super().__len__()

    segment, _ = Segment.open(tmp_path / "wal")
    outcome: list[BaseException] = []

    def append() -> None:
        try:
            segment.append(1, Slow(b"under way"))
        except StoreError as error:
            outcome.append(error)

    writer, closer = threading.Thread(target=append), threading.Thread(target=segment.close)
    writer.start()
    assert entered.wait(30)
    closer.start()
    closer.join(0.2)
    go.set()
    writer.join()
    closer.join()
    assert not outcome
    assert reopened(segment.path)[0] == [Record(1, b"under way")]
