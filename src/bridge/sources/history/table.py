"""The recorded past of one dataset: samples go to a segment first, and from there into Delta tables.

What `record` returned for is on the disk. A flush seals the segment, writes one data file, puts it on the table's
list together with the number of its last sample, and only then removes the sealed segment: after a crash at any point
the samples are in the segment, in the table, or in both, and the number tells which.
"""

from __future__ import annotations

import io
import logging
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import polars as pl

from bridge.edge import segment as segments
from bridge.edge.lake import Lake, LakeFile
from bridge.edge.segment import Record, Segment
from bridge.errors import StoreBroken, StoreError
from bridge.model.frame import Frame
from bridge.model.schema import Schema
from bridge.model.span import from_us, to_us
from bridge.sources.history import reading, stored
from bridge.sources.history.novelty import Known, novel
from bridge.sources.history.reading import Asked, Past
from bridge.sources.history.stored import AT, NOTHING, REV, DataFile, marked, normal, stored_kinds
from bridge.sources.history.versions import Version, Versions, axis_of, kinds_of, schema_of
from bridge.sources.history.view import Chunk, View
from bridge.sources.registry import Keeping

log = logging.getLogger("bridge.history")

# Samples that cannot be moved on stay in memory as well: beyond this no more are taken.
MAX_PENDING_BYTES = 64 * 1024 * 1024
# A snapshot that does not change is recorded again after this part of what is kept, so that age does not lose it.
REPEAT_RATIO = 0.1
_OPEN = re.compile(r"open-g(\d+)\.segment")
_SEALED = re.compile(r"sealed-g(\d+)-(\d+)\.segment")


class Fitting(Protocol):
    """Decides which version of the schema a sample is recorded under."""

    def load(self) -> Versions | None:
        """The versions so far, None before the first.

        Errors: StoreNewer, StoreBroken.
        """
        ...

    def admit(self, schema: Schema, stored: dict[str, str]) -> None:
        """Nothing, where the columns fit the current version or can become one by themselves.

        Errors: SchemaChanged.
        """
        ...

    def fit(self, schema: Schema, stored: dict[str, str], at: datetime) -> Versions:
        """The versions with one, the current, that the columns fit.

        Errors: SchemaChanged when a person must say what the change means.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Sealed:
    path: Path
    generation: int
    last_seq: int


class Table:
    """The past of one dataset.

    Its methods block: they run on a thread, one at a time. `view` may be read at any time.
    """

    def __init__(self, name: str, folder: Path, keeping: Keeping, fitting: Fitting) -> None:
        self.name = name
        self.folder = folder
        self.keeping = keeping
        self.view = View()
        self._fitting = fitting
        self._segment: tuple[int, Segment] | None = None
        self._sealed: list[_Sealed] = []
        self._lakes: dict[int, Lake] = {}
        self._known: Known | None = None
        # When a snapshot was last recorded whole.
        self._said_at: datetime | None = None
        # Generations whose last commit may or may not have come through.
        self._unsure: set[int] = set()
        self._lock = threading.RLock()

    # -- opening -------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Finds everything that was recorded before.

        Errors: StoreNewer, StoreBroken, StoreError; nothing is changed then.
        """
        with self._lock:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(
                    f"the history of `{self.name}` has no folder: {error}",
                    remedy="make the folder writable, or set another `data_dir`",
                ) from error
            versions = self._fitting.load()
            self.view = View(versions)
            if versions is not None:
                self._recover(versions)

    def _recover(self, versions: Versions) -> None:
        files: list[DataFile] = []
        done: dict[int, int] = {}
        problem: StoreError | None = None
        for generation in versions.generations:
            try:
                found, done[generation] = self._loaded(versions, generation)
                files += found
            except StoreBroken as error:
                log.error("history is unreadable", extra={"dataset": self.name, "error": error.message})  # noqa: TRY400
                problem = error
        chunks = self._replayed(done)
        last = max((*done.values(), *(chunk.seq for chunk in chunks)), default=-1)
        at_us = [file.file.high[AT] for file in files if AT in file.file.high] + [_at_us(chunk) for chunk in chunks]
        last_at = from_us(max(at_us)) if at_us else None
        self.view = View(versions, tuple(files), tuple(chunks), last, last_at, problem)

    def _loaded(self, versions: Versions, generation: int) -> tuple[list[DataFile], int]:
        lake, axis = self.lake(generation), axis_of(versions.of_generation(generation))
        if not lake.exists:
            return [], -1
        found, last = lake.load()
        return [self._file(generation, axis, file) for file in found], last

    def _file(self, generation: int, axis: str, file: LakeFile) -> DataFile:
        made = DataFile(generation, file, self.lake(generation).folder, axis)
        outline = self.outlines(generation) / file.path
        if not outline.exists():
            return made
        try:
            rows = pl.scan_parquet(outline).select(pl.len()).collect().item()
        except pl.exceptions.PolarsError:
            # Cut short: the rows themselves are elsewhere, so that a panel is only slower without it.
            outline.unlink(missing_ok=True)
            return made
        return replace(made, outline=outline, outline_rows=rows, outline_bytes=outline.stat().st_size)

    def _replayed(self, done: dict[int, int]) -> list[Chunk]:
        """The samples in the segments that are in no table; segments that are done with are removed."""
        chunks: list[Chunk] = []
        for path in sorted(self.folder.glob("*.segment")):
            if match := _SEALED.fullmatch(path.name):
                generation, records = int(match[1]), segments.read(path).records
                self._sealed.append(_Sealed(path, generation, int(match[2])))
            elif match := _OPEN.fullmatch(path.name):
                generation = int(match[1])
                opened, records = Segment.open(path)
                self._segment = (generation, opened)
                if opened.last_seq is not None and records:
                    # A segment of another generation than the next sample's must not be mixed with it.
                    self._seal()
            else:
                continue
            last = done.get(generation, -1)
            chunks += [_chunk(generation, record) for record in records if record.seq > last]
        self._forget_done(done)
        return sorted(chunks, key=lambda chunk: chunk.seq)

    def _forget_done(self, done: dict[int, int]) -> None:
        for item in [item for item in self._sealed if item.last_seq <= done.get(item.generation, -1)]:
            item.path.unlink(missing_ok=True)
            self._sealed.remove(item)

    def close(self) -> None:
        """Lets go of the segment; what is in it is found again."""
        with self._lock:
            if self._segment is not None:
                self._segment[1].close()
                self._segment = None

    # -- reading -------------------------------------------------------------------------------------------------

    def read(self, view: View, wanted: Asked, live: Frame | None) -> Past | None:
        """What the past says to a question.

        Errors: StoreError when its files cannot be read.
        """
        try:
            return reading.read(view, wanted, live)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise StoreError(
                f"the history of `{self.name}` cannot be read: {error}",
                remedy="see whether files below data_dir were taken away or damaged",
            ) from error

    # -- recording -----------------------------------------------------------------------------------------------

    def admit(self, schema: Schema, kinds: dict[str, str]) -> None:
        """Nothing, where the columns are those of the history, or can become them by themselves.

        Errors: SchemaChanged when a person must say what the change means.
        """
        self._fitting.admit(schema, kinds)

    def record(self, frame: Frame, at: datetime) -> int:
        """Takes what is new of a sample; how many rows that were. They are on the disk when it returns.

        Errors: SchemaChanged; StoreError when they cannot be written, and nothing of the sample is taken.
        """
        with self._lock:
            if self.view.pending_bytes > MAX_PENDING_BYTES:
                raise StoreError(
                    f"`{self.name}`: {self.view.pending_rows} rows wait to be moved to the table, no more are taken",
                    remedy="see the error of the last flush in the log",
                )
            versions = self._fitting.fit(frame.schema, stored_kinds(frame.data, frame.schema), at)
            if self.view.versions is not versions:
                # Read as the new columns say; what was known of the sample before had others.
                self.view, self._known = replace(self.view, versions=versions), None
            current = versions.current
            # Before it is known what is new: the segment may hold more than was acknowledged.
            self._opened(current.generation)
            data = normal(frame.data, kinds_of(current))
            new, known = self._new(data, current, at)
            if not new.height:
                self._known, self.view = known, replace(self.view, last_at=at)
                return 0
            self._append(new, current.generation, at)
            self._known = known
            return new.filter(pl.col(REV) != NOTHING).height

    def _new(self, data: pl.DataFrame, current: Version, at: datetime) -> tuple[pl.DataFrame, Known | None]:
        schema = schema_of(current)
        if schema.time is None:
            return self._snapshot(data, at)
        axis = schema.time.name
        oldest = at - timedelta(seconds=self.keeping.keep_s)
        if self._known is not None and data is self._known.data:
            return _none_of(data), self._known
        # Rows without a time would never be asked for, older ones would be dropped at once.
        kept = data.filter(pl.col(axis) >= oldest)
        new, known = novel(kept, reading.key_of(schema), self._known, self._frontier_us(), self._recorded)
        return new, replace(known, data=data)

    def _snapshot(self, data: pl.DataFrame, at: datetime) -> tuple[pl.DataFrame, Known]:
        """All rows, unless they are those of the sample before; of none, a mark that says so."""
        known, said_at = self._known, self._said_at
        if known is not None and said_at is not None:
            young = (at - said_at).total_seconds() < self.keeping.keep_s * REPEAT_RATIO
            if young and known.data.equals(data):
                return _none_of(data), known
        self._said_at = at
        if not data.height:
            return data.clear(1).with_columns(pl.lit(NOTHING, pl.Int32).alias(REV)), Known(data, data)
        return data.with_columns(pl.lit(0, pl.Int32).alias(REV)), Known(data, data)

    def _frontier_us(self) -> int | None:
        view = self.view
        assert view.versions is not None  # noqa: S101
        highs = [file.high_us for file in view.files]
        for chunk in view.chunks:
            axis = axis_of(view.versions.of_generation(chunk.generation))
            highest = chunk.data.get_column(axis).max()
            if isinstance(highest, datetime):
                highs.append(to_us(highest))
        return max(highs, default=None)

    def _recorded(self, low_us: int, high_us: int) -> pl.DataFrame:
        return reading.between(self.view, low_us, high_us)

    def _append(self, new: pl.DataFrame, generation: int, at: datetime) -> None:
        opened, view = self._opened(generation), self.view
        seq = view.seq + 1
        data = marked(new, to_us(at), seq)
        payload = _payload(data)
        try:
            opened.append(seq, payload)
        except StoreError:
            # It may not even be whole any more: what is in it is read again before the next sample.
            self._segment = None
            opened.close()
            raise
        chunk = Chunk(generation, seq, data, len(payload))
        self.view = replace(view, chunks=(*view.chunks, chunk), seq=seq, last_at=at)

    def _opened(self, generation: int) -> Segment:
        if self._segment is not None and self._segment[0] != generation:
            self._seal()
        if self._segment is None:
            opened, records = Segment.open(self.folder / f"open-g{generation}.segment")
            self._segment = (generation, opened)
            # A sample that could not be acknowledged, and is on the disk after all.
            missed = tuple(_chunk(generation, record) for record in records if record.seq > self.view.seq)
            if missed:
                self.view = replace(self.view, chunks=(*self.view.chunks, *missed), seq=missed[-1].seq)
                self._known = None
        return self._segment[1]

    # -- moving on -----------------------------------------------------------------------------------------------

    def _seal(self) -> None:
        assert self._segment is not None  # noqa: S101
        generation, opened = self._segment
        last = opened.last_seq
        if last is None:
            self._segment = None
            opened.close()
            opened.path.unlink(missing_ok=True)
            return
        path = self.folder / f"sealed-g{generation}-{last:016d}.segment"
        opened.seal(path)
        self._sealed.append(_Sealed(path, generation, last))
        self._segment = None

    def flush(self) -> int:
        """Moves the samples of the segments into their table; how many rows that were.

        Errors: StoreError; the samples stay where they are.
        """
        with self._lock:
            if self._segment is not None:
                self._seal()
            moved = 0
            for generation in dict.fromkeys(item.generation for item in self._sealed):
                moved += self._flush(generation)
            return moved

    def _flush(self, generation: int) -> int:
        versions = self.view.versions
        assert versions is not None  # noqa: S101
        if generation in self._unsure:
            self._reread(versions, generation)
        chunks = [chunk for chunk in self.view.chunks if chunk.generation == generation]
        rows = sum(chunk.data.height for chunk in chunks)
        if chunks:
            self._commit(versions.of_generation(generation), chunks)
        self._forget_done({generation: max(item.last_seq for item in self._sealed if item.generation == generation)})
        return rows

    def _commit(self, version: Version, chunks: list[Chunk]) -> None:
        lake, axis, last = self.lake(version.generation), axis_of(version), chunks[-1].seq
        data = stored.together((chunk.data for chunk in chunks), kinds_of(version))
        try:
            if not lake.exists:
                lake.create(data)
            lake.widen(data)
            file = stored.write(lake.folder, data, axis, prefix="s")
        except (OSError, pl.exceptions.PolarsError) as error:
            raise StoreError(
                f"`{self.name}`: a data file cannot be written: {error}",
                remedy="samples stay in the segments and are tried again; see whether the disk is full or read-only",
            ) from error
        # Whether a commit that fails was made after all is read from the log before the next one.
        self._unsure.add(version.generation)
        lake.commit([file], last_seq=last)
        self._unsure.discard(version.generation)
        made = self._file(version.generation, axis, file)
        left = tuple(c for c in self.view.chunks if c.generation != version.generation or c.seq > last)
        self.view = replace(self.view, files=(*self.view.files, made), chunks=left)

    def _reread(self, versions: Versions, generation: int) -> None:
        files, last = self._loaded(versions, generation)
        others = tuple(file for file in self.view.files if file.generation != generation)
        left = tuple(c for c in self.view.chunks if c.generation != generation or c.seq > last)
        self.view = replace(self.view, files=(*others, *files), chunks=left)
        self._unsure.discard(generation)

    def exchange(self, generation: int, gone: Iterable[DataFile], made: Iterable[DataFile]) -> None:
        """Puts files in the place of others that hold the same rows, or of rows that are not kept any longer.

        Errors: StoreError; nothing has changed then.
        """
        gone, made = list(gone), list(made)
        with self._lock:
            if generation in self._unsure:
                raise StoreError(f"`{self.name}`: whether the last commit came through is not known yet")
            self._unsure.add(generation)
            self.lake(generation).commit([item.file for item in made], [item.file for item in gone])
            self._unsure.discard(generation)
            left = tuple(file for file in self.view.files if file not in gone)
            self.view = replace(self.view, files=(*left, *made))

    def lake(self, generation: int) -> Lake:
        """The Delta table of one generation."""
        if generation not in self._lakes:
            self._lakes[generation] = Lake(self.folder / f"g{generation}")
        return self._lakes[generation]

    def outlines(self, generation: int) -> Path:
        """Where the outlines of its files stand: beside the table, whose folder holds what is on its list only."""
        return self.folder / f"g{generation}-outlines"


def _none_of(data: pl.DataFrame) -> pl.DataFrame:
    return data.clear().with_columns(pl.lit(0, pl.Int32).alias(REV))


def _payload(data: pl.DataFrame) -> bytes:
    out = io.BytesIO()
    data.write_ipc_stream(out, compression="uncompressed")
    return out.getvalue()


def _chunk(generation: int, record: Record) -> Chunk:
    return Chunk(generation, record.seq, pl.read_ipc_stream(record.payload), len(record.payload))


def _at_us(chunk: Chunk) -> int:
    highest = chunk.data.get_column(AT).max()
    return to_us(highest) if isinstance(highest, datetime) else 0
