"""The drill's judge: what was acknowledged, what the far side said, what is there in the end.

It reads the folder by the published formats alone: Delta, and the segment as its module describes it. Nothing of how
bridge reads its own history is used here.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import DeltaTable

Row = tuple[Any, ...]
MAX_FILES = 100
MAX_TOLD = 3
AT, SEQ, REV = "_bridge_at", "_bridge_seq", "_bridge_rev"
_MAGIC = b"bridge-segment 1\n"
_HEADER = struct.Struct("<IIQ")


@dataclass(slots=True)
class Verdict:
    """What is wrong, in sentences, and how much of it."""

    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    foreign: int = 0
    other: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.foreign or self.other)

    def add(self, other: Verdict) -> None:
        """Takes over what another says."""
        self.acknowledged += other.acknowledged
        self.lost += other.lost
        self.doubled += other.doubled
        self.foreign += other.foreign
        self.other += other.other
        self.told += other.told

    def say(self, what: str, rows: Collection[object]) -> int:
        """Notes a sentence with some examples; how many there are."""
        if rows:
            shown = ", ".join(map(str, list(rows)[:MAX_TOLD]))
            self.told.append(f"{what}: {len(rows)}, such as {shown}")
        return len(rows)


@dataclass(frozen=True, slots=True)
class Disk:
    """What stands in the folder of one dataset.

    Shape: `rows` are those of all generations and of what is in segments only, with their marks.
    """

    rows: pl.DataFrame
    files: int
    problems: tuple[str, ...] = ()

    @property
    def recorded(self) -> int:
        """Rows that were ever recorded, marks of empty snapshots left out."""
        return self.rows.filter(pl.col(REV) != -1).height if self.rows.width else 0


def keyed(
    where: str,
    acknowledged: Mapping[Row, Row],
    found: Sequence[tuple[Row, Row]],
    said: Mapping[Row, Sequence[Row]] | Collection[Row],
) -> Verdict:
    """Rows that have a key: each there once, with a value that is not older than the acknowledged one.

    Shape: `said` has the values of each key in their order, or only the keys where values never change.
    """
    verdict = Verdict(acknowledged=len(acknowledged))
    counts = Counter(key for key, _ in found)
    values = dict(found)
    verdict.lost = verdict.say(f"{where}: acknowledged rows are lost", [k for k in acknowledged if k not in counts])
    verdict.doubled = verdict.say(f"{where}: keys stand twice", [key for key, count in counts.items() if count > 1])
    verdict.foreign = verdict.say(
        f"{where}: rows of keys that nobody said", [key for key in counts if key not in said]
    )
    old, never = [], []
    for key, value in values.items():
        before = acknowledged.get(key)
        if not isinstance(said, Mapping):
            # Nothing is corrected there.
            if before is not None and value != before:
                never.append((key, value))
        elif key in said:
            history = list(said[key])
            if value not in history:
                never.append((key, value))
            elif before is not None and _last(history, value) < history.index(before):
                old.append((key, value, before))
    verdict.foreign += verdict.say(f"{where}: values that nobody said", never)
    verdict.lost += verdict.say(f"{where}: acknowledged corrections are lost", old)
    return verdict


def newest(where: str, found: Sequence[tuple[Row, Row]], now: Mapping[Row, Row]) -> Verdict:
    """Whether corrections came to rest at what the far side says now, of the keys it still says."""
    verdict, values = Verdict(), dict(found)
    wrong = [(key, values.get(key), value) for key, value in now.items() if values.get(key) != value]
    verdict.lost = verdict.say(f"{where}: keys that are not as they were said last", wrong)
    return verdict


def counted(where: str, acknowledged: Counter[Row], found: Sequence[Row], said: Counter[Row]) -> Verdict:
    """Rows without a key, such as log lines: each as often as it was said."""
    verdict, counts = Verdict(acknowledged=acknowledged.total()), Counter(found)
    lost, more = acknowledged - counts, counts - said
    foreign = {row for row in more if row not in said}
    verdict.lost = verdict.say(f"{where}: acknowledged rows are lost", list(lost.elements()))
    verdict.foreign = verdict.say(f"{where}: rows that nobody said", foreign)
    verdict.doubled = verdict.say(f"{where}: rows stand more often than said", [r for r in more if r not in foreign])
    return verdict


def on_disk(folder: Path) -> Disk:
    """Everything that was recorded of one dataset."""
    parts: list[pl.DataFrame] = []
    files, done = 0, {}
    for table in sorted(path for path in folder.glob("g*") if (path / "_delta_log").is_dir()):
        opened = DeltaTable(table)
        files += len(opened.file_uris())
        last = opened.transaction_version("bridge")
        done[int(table.name[1:])] = -1 if last is None else int(last)
        parts.append(pl.scan_delta(str(table)).collect())
    for path in sorted(folder.glob("*.segment")):
        generation = re.search(r"-g(\d+)", path.name)
        last = done.get(int(generation[1]) if generation else 0, -1)
        parts += [pl.read_ipc_stream(payload) for seq, payload in records(path.read_bytes()) if seq > last]
    torn = [(path, _whole(path)) for path in sorted(folder.rglob("*.torn*"))]
    problems = [f"`{path.name}` of {folder.name} holds {said}" for path, said in torn if said]
    problems += [f"`{path.name}` of {folder.name} holds damaged records" for path in folder.rglob("*.corrupt*")]
    rows = pl.concat(parts, how="diagonal_relaxed") if parts else pl.DataFrame()
    return Disk(rows, files, tuple(problems))


def records(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The whole records of a segment, up to the first that is not."""
    at = len(_MAGIC)
    while at + _HEADER.size <= len(data):
        length, crc, seq = _HEADER.unpack_from(data, at)
        payload = data[at + _HEADER.size : at + _HEADER.size + length]
        if len(payload) < length or zlib.crc32(payload, zlib.crc32(struct.pack("<Q", seq))) != crc:
            return
        yield seq, payload
        at += _HEADER.size + length


def _whole(path: Path) -> str:
    """What is whole in a file that was set aside as torn; empty where nothing is."""
    data = path.read_bytes()
    if path.name.partition(".torn")[0].endswith(".json"):
        lines = data.splitlines()
        whole = bool(lines) and all(_is_json(line) for line in lines)
        return "a whole commit" if whole else ""
    for at in range(max(0, len(data) - _HEADER.size)):
        length, crc, seq = _HEADER.unpack_from(data, at)
        payload = data[at + _HEADER.size : at + _HEADER.size + length]
        if 0 < length == len(payload) and zlib.crc32(payload, zlib.crc32(struct.pack("<Q", seq))) == crc:
            return f"the whole record {seq}"
    return ""


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def physical(where: str, disk: Disk, key: Sequence[str]) -> Verdict:
    """What must hold of the rows as they stand: one first row for each key, no sample in two places.

    Shape: `key` empty for rows that have none.
    """
    verdict = Verdict(other=list(disk.problems), told=list(disk.problems))
    if disk.files >= MAX_FILES:
        verdict.other.append(f"{where}: {disk.files} live files")
    if key and disk.rows.width:
        first = disk.rows.filter(pl.col(REV) == 0).group_by(*key).len().filter(pl.col("len") > 1)
        verdict.doubled = verdict.say(f"{where}: keys have two first rows on the disk", first.drop("len").rows())
        again = disk.rows.group_by(*key, SEQ).len().filter(pl.col("len") > 1)
        verdict.doubled += verdict.say(f"{where}: keys stand twice in one sample", again.drop("len").rows())
    return verdict


def resolved(disk: Disk, columns: Sequence[str], key: Sequence[str]) -> pl.DataFrame:
    """The rows as they count: of each key that was corrected the newest; of a snapshot the last."""
    rows = disk.rows.filter(pl.col(REV) != -1)
    if key:
        rows = rows.sort(SEQ).unique([*key], keep="last", maintain_order=True)
    return rows.select(columns)


def last_snapshot(disk: Disk, columns: Sequence[str]) -> pl.DataFrame:
    """The rows of the last sample."""
    highest = disk.rows.get_column(SEQ).max()
    return disk.rows.filter((pl.col(SEQ) == highest) & (pl.col(REV) != -1)).select(columns)


def plain_rows(data: pl.DataFrame) -> list[Row]:
    """Rows as an answer has them: instants in whole milliseconds, every number as a number."""
    times = [name for name, dtype in data.schema.items() if dtype.is_temporal()]
    return data.with_columns(pl.col(name).dt.epoch("ms") for name in times).rows()


def _last(values: Sequence[Row], value: Row) -> int:
    return len(values) - 1 - list(reversed(values)).index(value)


def packed(rows: Sequence[Row]) -> bytes:
    """Rows in no order, small: equal bytes are equal rows."""
    return zlib.compress("\n".join(sorted(map(repr, rows))).encode(), 1)


def unpacked(data: bytes) -> Counter[str]:
    """The rows of `packed`, as texts."""
    return Counter(io.StringIO(zlib.decompress(data).decode()).read().splitlines())
