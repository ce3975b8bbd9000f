"""The files of a Delta table's log: which commits are whole, what a crash left, and what nobody needs any more.

The log is kept by the number of its commits, not by their age: a clock that was wrong for an hour must not keep it
from ever being shortened again.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from bridge.edge.disk import sync_folder
from bridge.errors import StoreBroken

log = logging.getLogger("bridge.history")

FOLDER = "_delta_log"
HINT = "_last_checkpoint"
# Says in the first line of a commit how many lines follow: one that ends early looks like a whole one without it.
ACTIONS = "bridgeActions"
CHECKPOINT_COMMITS = 20
# Hours of commits, at one a minute.
KEPT_COMMITS = 400
_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")
_LEFT = re.compile(r"_commit_.*\.tmp|.*\.torn")
_NUMBER = re.compile(rb'"txn":\{"appId":"bridge","version":(\d+)')
# Operations of ours that say what the columns are, and nothing after that.
_SHAPING = ("CREATE TABLE", "ADD COLUMN")
REMEDY = (
    "new samples stay in the segments beside it; restore the folder from a backup, "
    "or move it away to begin a new history"
)


@dataclass(frozen=True, slots=True)
class Listing:
    """The numbers of the commits and of the checkpoints, ascending."""

    commits: list[int]
    checkpoints: list[int]


def listed(folder: Path) -> Listing:
    """What there is; nothing where there is no log.

    Errors: OSError.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        names = []
    return Listing(_numbers(names, _COMMIT), _numbers(names, _CHECKPOINT))


def _numbers(names: list[str], pattern: re.Pattern[str]) -> list[int]:
    return sorted(int(match[1]) for name in names if (match := pattern.fullmatch(name)))


def commit_path(folder: Path, number: int) -> Path:
    """Where a commit stands."""
    return folder / f"{number:020d}.json"


def checkpoint_path(folder: Path, number: int) -> Path:
    """Where a checkpoint stands."""
    return folder / f"{number:020d}.checkpoint.parquet"


def mend(folder: Path) -> None:
    """Sets aside what a crash cut short: the newest commit, whose samples are still in the segments, and checkpoints.

    Errors: StoreBroken where older commits are damaged or missing; OSError.
    """
    found = listed(folder)
    since = _sound_checkpoint(folder, found.checkpoints)
    if since is None and not found.commits:
        return
    later = [number for number in found.commits if since is None or number > since]
    wanted = range(0 if since is None else since + 1, later[-1] + 1 if later else 0)
    if gaps := sorted(set(wanted).difference(later)):
        raise StoreBroken(f"commit {gaps[0]} of the Delta log in `{folder.parent}` is missing", remedy=REMEDY)
    torn = [number for number in later if not _whole(commit_path(folder, number))]
    # Of the first commit nothing can have come before, so with data there it was whole once.
    old = [number for number in torn if number != later[-1] or (not number and has_data(folder.parent))]
    if old:
        raise StoreBroken(f"commit {old[0]} of the Delta log in `{folder.parent}` is damaged", remedy=REMEDY)
    for number in torn:
        _set_aside(commit_path(folder, number))


def has_data(folder: Path) -> bool:
    """Whether there are data files in a table's folder."""
    return next(folder.glob("*.parquet"), None) is not None


def _sound_checkpoint(folder: Path, numbers: list[int]) -> int | None:
    """The newest checkpoint that can be read; what newer ones sum up still stands in the commits."""
    sound = None
    for number in reversed(numbers):
        path = checkpoint_path(folder, number)
        try:
            pl.read_parquet(path)
        except (pl.exceptions.PolarsError, OSError):
            _set_aside(path)
            continue
        sound = number
        break
    hint = folder / HINT
    # It only spares a look at the folder, but one that names a checkpoint that is gone stops every reader.
    if hint.exists() and _hinted(hint) != sound:
        hint.unlink()
    return sound


def _hinted(hint: Path) -> int | None:
    try:
        said = json.loads(hint.read_bytes())
    except ValueError:
        return None
    return said.get("version") if isinstance(said, dict) else None


def _set_aside(path: Path) -> None:
    log.warning("a file of the history was cut short and is set aside", extra={"file": str(path)})
    path.rename(path.with_name(f"{path.name}.torn"))
    sync_folder(path.parent)


def _whole(path: Path) -> bool:
    """Whether a commit has every line it should have."""
    try:
        lines = [json.loads(line) for line in path.read_bytes().splitlines() if line.strip()]
    except ValueError:
        return False
    if not lines or not all(isinstance(line, dict) for line in lines):
        return False
    info: Any = lines[0].get("commitInfo", {})
    if ACTIONS in info:
        return str(info[ACTIONS]) == str(len(lines) - 1)
    return info.get("operation") not in _SHAPING or any("metaData" in line for line in lines)


def settle(folder: Path) -> None:
    """The newest commit is on the disk, not only in the system's memory, and what was made of it.

    Errors: OSError.
    """
    newest = listed(folder).commits[-1]
    sync_file(commit_path(folder, newest))
    for path in (checkpoint_path(folder, newest), folder / HINT):
        with suppress(FileNotFoundError):
            sync_file(path)
    sync_folder(folder)


def sync_file(path: Path) -> None:
    """Waits until what a file holds is on the disk.

    Errors: OSError.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def trim(folder: Path) -> None:
    """Deletes commits that a checkpoint sums up, except the latest hundreds.

    Errors: OSError.
    """
    found = listed(folder)
    if len(found.commits) <= KEPT_COMMITS + CHECKPOINT_COMMITS:
        return
    base = max((n for n in found.checkpoints if n <= found.commits[-1] - KEPT_COMMITS), default=None)
    if base is None:
        return
    # From the oldest on: whatever is left after a crash is without a gap.
    for number in found.commits:
        if number < base:
            commit_path(folder, number).unlink(missing_ok=True)
    for number in found.checkpoints:
        if number < base:
            checkpoint_path(folder, number).unlink(missing_ok=True)


def left_over(folder: Path) -> Iterator[Path]:
    """Drafts of commits that were never made, and what was set aside."""
    return (path for path in folder.glob("*") if _LEFT.fullmatch(path.name))


def highest_number(folder: Path) -> int:
    """The highest number of samples that some commit speaks of, whatever state the log is in; -1 where none does."""
    found = [-1]
    for path in folder.glob("*.json*"):
        with suppress(OSError):
            found += map(int, _NUMBER.findall(path.read_bytes()))
    return max(found)
