"""The history of a dataset that was given another name in the settings: its folder goes to the new name."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from bridge.edge.disk import store_error, sync_folder
from bridge.edge.hold import Hold
from bridge.errors import BadRequest, StoreHeld
from bridge.sources.history.schema_file import LOCK, SchemaFile, folder_of
from bridge.sources.history.versions import Versions


def adoptable(data_dir: Path, old: str, new: str) -> Versions:
    """The versions of the old name's history, which the new name may take over.

    Errors: BadRequest when there is none, or the new name has one; StoreHeld while a process works in `data_dir`;
            StoreNewer, StoreBroken.
    """
    folder = folder_of(data_dir, old)
    versions = SchemaFile(folder).load()
    if versions is None:
        raise BadRequest(
            f"`{old}` has no history in `{folder}`", remedy="`bridge sources history` lists what there is"
        )
    if _entries(folder_of(data_dir, new)):
        raise BadRequest(
            f"`{new}` has a history of its own in `{folder_of(data_dir, new)}`",
            remedy="move that folder away first; the two cannot be joined",
        )
    pid = Hold.holder(data_dir)
    if pid is not None:
        raise _busy(data_dir, pid)
    return versions


def adopt(data_dir: Path, old: str, new: str, at: datetime) -> Versions:
    """Gives the history of the old name to the new one, and says so in a version of its own.

    Errors: as of `adoptable`; StoreError when the folder cannot be moved.
    """
    adoptable(data_dir, old, new)
    before, after = folder_of(data_dir, old), folder_of(data_dir, new)
    try:
        hold = Hold.take(data_dir)
    except StoreHeld as error:
        raise _busy(data_dir, error.pid) from error
    with hold:
        try:
            # An empty folder gives way to one that is moved to its place, the lock of nothing with it.
            (after / LOCK).unlink(missing_ok=True)
            before.rename(after)
            sync_folder(after.parent)
        except OSError as error:
            raise store_error(error, f"`{before}` cannot be moved to `{after}`") from error
        file = SchemaFile(after)
        file.load()
        return file.adopt(at)


def _entries(folder: Path) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name != LOCK]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise store_error(error, f"`{folder}` cannot be read") from error


def _busy(data_dir: Path, pid: int | None) -> StoreHeld:
    who = "another process" if pid is None else f"process {pid}"
    return StoreHeld(
        f"{who} works in `{data_dir}`, so no history can be moved there",
        pid=pid,
        remedy="stop it, run this command, and start it again",
    )
