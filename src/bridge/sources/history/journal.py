"""The segments of one dataset: the one that samples go to, and those that wait to be moved into the table."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bridge.edge import segment as segments
from bridge.edge.disk import store_error
from bridge.edge.segment import Damage, Record, Segment

log = logging.getLogger("bridge.history")

_NAMED = re.compile(r"(?:open-g(\d+)|sealed-g(\d+)-\d+)\.segment")
Taken = tuple[int, Record]


@dataclass(frozen=True, slots=True)
class _Sealed:
    path: Path
    generation: int
    last_seq: int


class Journal:
    """The samples that are in no table yet, on the disk; used by one thread at a time.

    Errors: StoreError, StoreBroken, StoreNewer, as segments have them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: tuple[int, Segment] | None = None
        self._sealed: list[_Sealed] = []

    def generations(self) -> set[int]:
        """The generations that there are segments of."""
        return {int(match[1] or match[2]) for _, match in self._found()}

    def replayed(self) -> list[Taken]:
        """Every sample that is there, with its generation, in order; from now on all of them wait to be moved on."""
        taken: list[Taken] = []
        for path, match in self._found():
            if match[2]:
                found = segments.read(path)
                _tell(path, found.damage)
                last = found.records[-1].seq if found.records else -1
                self._sealed.append(_Sealed(path, int(match[2]), last))
                taken += [(int(match[2]), record) for record in found.records]
        # What comes next may be of another generation, and must not be mixed with what was open.
        taken += self.seal()
        return sorted(taken, key=lambda item: item[1].seq)

    def _found(self) -> list[tuple[Path, re.Match[str]]]:
        paths = sorted(self._folder.glob("*.segment"))
        return [(path, match) for path in paths if (match := _NAMED.fullmatch(path.name))]

    def begin(self, generation: int) -> list[Taken]:
        """Makes ready for samples of a generation; gives those that were found in segments shut after a failure."""
        if self._open is not None and self._open[0] == generation:
            return []
        return [*self.seal(), *self._reopened(generation)]

    def _reopened(self, generation: int) -> list[Taken]:
        opened, records = Segment.open(self._folder / f"open-g{generation}.segment")
        _tell(opened.path, opened.damage)
        self._open = (generation, opened)
        return [(generation, record) for record in records]

    def append(self, seq: int, payload: bytes) -> None:
        """Takes a sample of the generation that was begun; it is on the disk when this returns."""
        assert self._open is not None  # noqa: S101
        opened = self._open[1]
        try:
            opened.append(seq, payload)
        except BaseException:
            # It may not be whole any more, or hold the sample all the same: it is read again before the next one.
            self._open = None
            opened.close()
            raise

    def seal(self) -> list[Taken]:
        """Ends every segment that samples went to, so that it can be moved on; gives what `begin` gives."""
        taken: list[Taken] = []
        self._seal()
        for _, match in self._found():
            if match[1]:
                taken += self._reopened(int(match[1]))
                self._seal()
        return taken

    def _seal(self) -> None:
        if self._open is None:
            return
        generation, opened = self._open
        last = opened.last_seq
        if last is not None:
            path = self._folder / f"sealed-g{generation}-{last:016d}.segment"
            opened.seal(path)
            self._sealed.append(_Sealed(path, generation, last))
        else:
            opened.close()
            _delete(opened.path)
        self._open = None

    @property
    def waiting(self) -> dict[int, int]:
        """Generations with sealed segments, and the number of the last sample in them."""
        found: dict[int, int] = {}
        for item in self._sealed:
            found[item.generation] = max(item.last_seq, found.get(item.generation, -1))
        return found

    def forget(self, done: Mapping[int, int]) -> None:
        """Deletes the segments whose samples are all in a table: of each generation, up to that number."""
        for item in [item for item in self._sealed if item.last_seq <= done.get(item.generation, -1)]:
            # One that cannot be deleted is found to be done again, whenever that is.
            if _delete(item.path):
                self._sealed.remove(item)

    def close(self) -> None:
        """Lets go of the segment; what is in it is found again."""
        if self._open is not None:
            self._open[1].close()
            self._open = None


def _delete(path: Path) -> bool:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("a segment stays", extra={"error": store_error(error, f"`{path}` could not be deleted").message})
        return False
    return True


def _tell(path: Path, damage: Damage) -> None:
    if damage.sentence:
        log.warning("a segment is damaged", extra={"segment": str(path), "damage": damage.sentence})
