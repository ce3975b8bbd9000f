"""The recorded past of one dataset: samples go to a segment first, and from there into Delta tables.

What `record` returned for is on the disk. A flush seals the segment, writes one data file, puts it on the table's
list together with the number of its last sample, and only then removes the sealed segment: after a crash at any point
the samples are in the segment, in the table, or in both, and the number tells which.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from bridge.edge.disk import library_error, make_folder, store_error
from bridge.edge.lake import Lake, LakeFile
from bridge.errors import StoreBroken, StoreError
from bridge.model.frame import Frame
from bridge.model.schema import Schema
from bridge.model.span import from_us, to_us
from bridge.sources.history import novelty, reading, stored
from bridge.sources.history.journal import Journal, Taken
from bridge.sources.history.novelty import Known
from bridge.sources.history.reading import Asked, Past
from bridge.sources.history.scanning import meets
from bridge.sources.history.schema_file import SchemaFile
from bridge.sources.history.stored import AT, NOTHING, REV, DataFile, marked, normal, stored_kinds
from bridge.sources.history.versions import Version, Versions, axis_of, kinds_of, schema_of
from bridge.sources.history.view import FAR_US, Chunk, View, frontier_us, highest_us, packed, unpacked
from bridge.sources.registry import Keeping

log = logging.getLogger("bridge.history")

# Samples that cannot be moved on stay in memory as well: beyond this no more are taken.
MAX_PENDING_BYTES = 64 * 1024 * 1024
# Merging comes long before that, so there must be a reason why it fails.
MAX_FILES = 96
# A snapshot that does not change is recorded again after this part of what is kept, so that age does not lose it.
REPEAT_RATIO = 0.1


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is remembered of the sample before: the very table it was, and what of it is recorded."""

    data: weakref.ref[pl.DataFrame]
    known: Known | None = None
    digest: bytes = b""
    # When a snapshot was last recorded whole.
    said_at: datetime | None = None


class Table:
    """The past of one dataset.

    Its methods block: they run on a thread, one at a time. `view` may be read at any time.
    """

    def __init__(self, name: str, folder: Path, keeping: Keeping, fitting: SchemaFile) -> None:
        self.name = name
        self.folder = folder
        self.keeping = keeping
        self.view = View()
        self._fitting = fitting
        self._fitting_lock = threading.Lock()
        self._journal = Journal(folder)
        self._lakes: dict[int, Lake] = {}
        self._seen: _Seen | None = None
        # The latest instant that was recorded; what comes after it is new for sure.
        self._frontier_us: int | None = None
        # Generations whose list of files may be another than the view's, and why.
        self._unsure: set[int] = set()
        self._problems: dict[int, StoreBroken] = {}
        self._shut = False
        self._lock = threading.RLock()

    def open(self) -> None:
        """Finds everything that was recorded before.

        Errors: StoreNewer, StoreBroken, StoreError; nothing is changed then.
        """
        with self._lock:
            try:
                make_folder(self.folder)
            except OSError as error:
                raise store_error(error, f"the history of `{self.name}` has no folder") from error
            versions = self._fitting.load()
            self.view = View(versions)
            if versions is not None:
                self._recover(versions)

    def _recover(self, versions: Versions) -> None:
        for generation in self._journal.generations() | stored.generations(self.folder):
            versions.of_generation(generation)
        files: list[DataFile] = []
        done: dict[int, int] = {}
        last = -1
        for generation in versions.generations:
            try:
                found, done[generation] = self._loaded(versions, generation)
                files += found
            except StoreBroken as error:
                log.error("history is unreadable", extra={"dataset": self.name, "error": error.message})  # noqa: TRY400
                self._unsure.add(generation)
                self._problems[generation] = error
                # Put back from a backup, it must not take new samples for those that it has.
                lake = self.lake(generation)
                last = max(last, lake.highest_number(), stored.highest_number(lake.folder))
        chunks = [unpacked(item) for item in self._journal.replayed() if item[1].seq > done.get(item[0], -1)]
        self._journal.forget(done)
        last = max((last, *done.values(), *(chunk.seq for chunk in chunks)))
        at_us = [file.file.high[AT] for file in files if AT in file.file.high]
        at_us += [highest_us(chunk, AT) for chunk in chunks]
        last_at = from_us(max(at_us)) if at_us else None
        self.view = View(versions, tuple(files), tuple(chunks), last, last_at, _first(self._problems))
        self._frontier_us = frontier_us(self.view)

    def _loaded(self, versions: Versions, generation: int) -> tuple[list[DataFile], int]:
        lake, axis = self.lake(generation), axis_of(versions.of_generation(generation))
        found, last = lake.load()
        files = (DataFile(generation, file, lake.folder, axis) for file in found)
        return [stored.with_outline(file, self.outlines(generation)) for file in files], last

    def close(self) -> None:
        """Lets go of the segment; what is in it is found again. Nothing is taken from then on."""
        with self._lock:
            self._shut = True
            self._journal.close()

    def read(self, view: View, wanted: Asked, live: Frame | None) -> Past | None:
        """What the past says to a question.

        Errors: StoreError when its files cannot be read.
        """
        try:
            return reading.read(view, wanted, live)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise library_error(error, f"the history of `{self.name}` cannot be read") from error

    def admit(self, schema: Schema, kinds: dict[str, str]) -> None:
        """Nothing, where the columns are those of the history, or can become them by themselves.

        Errors: SchemaChanged when a person must say what the change means.
        """
        with self._fitting_lock:
            versions = self._fitting.admit(schema, kinds)
        if versions is not None and versions is not self.view.versions:
            with self._lock:
                # Another process said what a change means: it holds from now on, not from the next sample on.
                self._show(versions)

    def record(self, frame: Frame, at: datetime) -> int:
        """Takes what is new of a sample; how many rows that were. They are on the disk when it returns.

        Errors: SchemaChanged; StoreError when they cannot be written, and nothing of the sample is taken.
        """
        with self._lock:
            self._check_room()
            current = self._fitted(frame, at).current
            # Before it is known what is new: a segment may hold more than was acknowledged.
            self._adopt(self._journal.begin(current.generation))
            new, seen = self._new(frame.data, current, at)
            if new.height:
                self._append(new, current, at)
            else:
                self.view = replace(self.view, last_at=at)
            self._seen = seen
            return new.filter(pl.col(REV) != NOTHING).height if new.height else 0

    def _check_room(self) -> None:
        if self._shut:
            raise StoreError(f"the history of `{self.name}` is closed", remedy="bridge is about to end")
        if self.view.pending_bytes > MAX_PENDING_BYTES:
            raise StoreError(
                f"`{self.name}`: {self.view.pending_rows} rows wait to be moved to the table, no more are taken",
                remedy="see the error of the last flush in the log",
            )

    def _fitted(self, frame: Frame, at: datetime) -> Versions:
        if problem := stored.unfit(frame.schema.names):
            raise StoreError(f"`{self.name}`: {problem[0]}", remedy=problem[1])
        with self._fitting_lock:
            versions = self._fitting.fit(frame.schema, stored_kinds(frame.data, frame.schema), at)
        before = self.view.versions
        if before is not versions:
            if before is not None:
                log.info("schema evolves", extra={"dataset": self.name, "version": versions.current.version})
            self._show(versions)
        return versions

    def _show(self, versions: Versions) -> None:
        """Reads all as the new columns say; what was known of the sample before had others."""
        self.view, self._seen = replace(self.view, versions=versions), None
        self._frontier_us = frontier_us(self.view)

    def _new(self, data: pl.DataFrame, current: Version, at: datetime) -> tuple[pl.DataFrame, _Seen]:
        schema, seen = schema_of(current), self._seen
        same = seen is not None and seen.data() is data
        if schema.time is None:
            return self._snapshot(data, current, at, same=same)
        if seen is not None and same:
            return _none_of(), seen
        kept = self._young(normal(data, kinds_of(current)), schema.time.name, at)
        known = seen.known if seen is not None else None
        new, known = novelty.novel(kept, reading.key_of(schema), known, self._frontier_us, self._recorded)
        return new, _Seen(weakref.ref(data), known)

    def _young(self, data: pl.DataFrame, axis: str, at: datetime) -> pl.DataFrame:
        """The rows that are not so old that they would be dropped at once; those without a time never come back."""
        times = data.get_column(axis)
        newest, first = times.max(), times.min()
        # A clock that is years ahead says of every row that it is old.
        until = min(at, newest) if isinstance(newest, datetime) else at
        oldest = until - timedelta(seconds=self.keeping.keep_s)
        if isinstance(first, datetime) and first >= oldest and not times.null_count():
            return data
        return data.filter(times >= oldest)

    def _snapshot(
        self, data: pl.DataFrame, current: Version, at: datetime, *, same: bool
    ) -> tuple[pl.DataFrame, _Seen]:
        """All rows, unless they are those of the sample before."""
        seen, rows = self._seen, normal(data, kinds_of(current))
        told = seen.digest if seen is not None and same else novelty.digest(rows)
        if seen is not None and seen.said_at is not None and told == seen.digest:
            age_s = (at - seen.said_at).total_seconds()
            # Said by a clock that was ahead, it would not be found by any moment until then.
            if 0 <= age_s < self.keeping.keep_s * REPEAT_RATIO:
                return _none_of(), replace(seen, data=weakref.ref(data))
        return novelty.snapshot(rows), _Seen(weakref.ref(data), digest=told, said_at=at)

    def _recorded(self, low_us: int, high_us: int) -> pl.DataFrame:
        versions = self.view.versions
        assert versions is not None  # noqa: S101
        files = [f for f in self.view.files if not f.broken and meets(f, versions, low_us, high_us + 1)]
        try:
            return reading.between(replace(self.view, files=tuple(files)), low_us, high_us)
        except (OSError, pl.exceptions.PolarsError):
            # What cannot be read is as good as lost, and recorded again if it comes again.
            return reading.between(replace(self.view, files=tuple(self.sound(files))), low_us, high_us)

    def _append(self, new: pl.DataFrame, current: Version, at: datetime) -> None:
        view = self.view
        seq = view.seq + 1
        data = marked(new, to_us(at), seq)
        payload = packed(data)
        try:
            self._journal.append(seq, payload)
        except StoreError:
            self._seen = None
            raise
        chunk = Chunk(current.generation, seq, data, len(payload))
        self.view = replace(view, chunks=(*view.chunks, chunk), seq=seq, last_at=at)
        self._frontier_us = max(highest_us(chunk, axis_of(current)), self._frontier_us or -FAR_US)

    def _adopt(self, taken: Iterable[Taken]) -> None:
        """Samples that could not be acknowledged, and are on the disk after all."""
        missed = tuple(unpacked(item) for item in taken if item[1].seq > self.view.seq)
        if missed:
            self.view = replace(self.view, chunks=(*self.view.chunks, *missed), seq=missed[-1].seq)
            self._seen, self._frontier_us = None, frontier_us(self.view)

    def flush(self) -> int:
        """Moves the samples of the segments into their table; how many rows that were.

        Errors: StoreError; the samples stay where they are.
        """
        with self._lock:
            if self._shut or self.view.versions is None:
                return 0
            self._adopt(self._journal.seal())
            moved, failed = 0, None
            for generation, last in self._journal.waiting.items():
                try:
                    moved += self._flush(self.view.versions, generation, last)
                except StoreError as error:
                    # One generation that cannot be written must not hold up the samples of another.
                    failed = failed or error
            if failed is not None:
                raise failed
            return moved

    def _flush(self, versions: Versions, generation: int, last: int) -> int:
        self._make_sure(generation)
        chunks = [chunk for chunk in self.view.chunks if chunk.generation == generation]
        rows = sum(chunk.data.height for chunk in chunks)
        if chunks:
            self._commit(versions.of_generation(generation), chunks)
        self._journal.forget({generation: last})
        return rows

    def _commit(self, version: Version, chunks: list[Chunk]) -> None:
        generation, axis, last = version.generation, axis_of(version), chunks[-1].seq
        if len(self.view.of_generation(generation)) >= MAX_FILES:
            raise StoreError(
                f"`{self.name}`: {MAX_FILES} data files wait to be merged, no more are written",
                remedy="see why they could not be merged in the log",
            )
        lake = self.lake(generation)
        data = stored.together((chunk.data for chunk in chunks), kinds_of(version))
        # Whether a commit that fails was made after all is read from the log before the next one.
        self._unsure.add(generation)
        if not lake.exists:
            lake.create(data)
        lake.widen(data)
        file = self._written(lake.folder, data, axis)
        lake.commit([file], last_seq=last)
        self._unsure.discard(generation)
        made = DataFile(generation, file, lake.folder, axis)
        left = tuple(c for c in self.view.chunks if c.generation != generation or c.seq > last)
        self.view = replace(self.view, files=(*self.view.files, made), chunks=left)

    def _written(self, folder: Path, data: pl.DataFrame, axis: str) -> LakeFile:
        try:
            return stored.write(folder, data, axis, prefix="s")
        except (OSError, pl.exceptions.PolarsError) as error:
            raise library_error(error, f"`{self.name}`: a data file could not be written") from error

    def _make_sure(self, generation: int) -> None:
        """The view has the files that are on the list.

        Errors: StoreError, StoreBroken when that cannot be known now.
        """
        if generation not in self._unsure:
            return
        versions = self.view.versions
        assert versions is not None  # noqa: S101
        files, last = self._loaded(versions, generation)
        others = tuple(file for file in self.view.files if file.generation != generation)
        left = tuple(c for c in self.view.chunks if c.generation != generation or c.seq > last)
        self._unsure.discard(generation)
        self._problems.pop(generation, None)
        self.view = replace(self.view, files=(*others, *files), chunks=left, problem=_first(self._problems))
        self._frontier_us = frontier_us(self.view)

    def exchange(self, generation: int, gone: Iterable[DataFile], made: Iterable[DataFile]) -> bool:
        """Puts files in the place of others that hold the same rows, or of rows that are not kept any longer.

        Shape:  False, and nothing is done, where some of them have gone already.
        Errors: StoreError; what was made of it then is found out before the next change.
        """
        gone, made = list(gone), list(made)
        paths = {file.file.path for file in gone}
        with self._lock:
            self._make_sure(generation)
            if self._shut or not paths.issubset(file.file.path for file in self.view.of_generation(generation)):
                return False
            self._unsure.add(generation)
            self.lake(generation).commit([item.file for item in made], [item.file for item in gone])
            self._unsure.discard(generation)
            left = tuple(f for f in self.view.files if f.generation != generation or f.file.path not in paths)
            self.view = replace(self.view, files=(*left, *made))
            return True

    def sweep(self, generation: int, now: datetime) -> int:
        """Deletes data files that left the list hours ago; how many they were.

        Errors: StoreError.
        """
        with self._lock:
            return 0 if self._shut else self.lake(generation).sweep(now)

    def sound(self, files: Iterable[DataFile]) -> list[DataFile]:
        """Those of the files that can be read; the others are remembered to be broken."""
        files = list(files)
        good = [file for file in files if not file.broken and stored.readable(file)]
        bad = {file.file.path for file in files}.difference(file.file.path for file in good)
        with self._lock:
            if new := bad.difference(file.file.path for file in self.view.files if file.broken):
                log.error("data files cannot be read", extra={"dataset": self.name, "files": sorted(new)})
            marked_files = (replace(f, broken=True) if f.file.path in bad else f for f in self.view.files)
            self.view = replace(self.view, files=tuple(marked_files))
        return good

    def lake(self, generation: int) -> Lake:
        """The Delta table of one generation."""
        return self._lakes.setdefault(generation, Lake(self.folder / f"g{generation}"))

    def outlines(self, generation: int) -> Path:
        """Where the outlines of its files stand: beside the table, whose folder holds what is on its list only."""
        return self.folder / f"g{generation}-outlines"


def _first(problems: dict[int, StoreBroken]) -> StoreBroken | None:
    return next(iter(problems.values()), None)


def _none_of() -> pl.DataFrame:
    return pl.DataFrame(schema={REV: pl.Int32()})
