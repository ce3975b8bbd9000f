"""`bridge sources history`: what is recorded below `data_dir`, and of which dataset."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from bridge.cli.check import JSON_OPTION
from bridge.cli.migrate import configured
from bridge.cli.output import fail, write_json, write_table
from bridge.cli.serve import CONFIG_OPTION
from bridge.edge.disk import store_error
from bridge.errors import BridgeError, StoreError
from bridge.settings import load_settings
from bridge.sources.history.schema_file import NAME, SchemaFile, folder_of

_COLUMNS = ("dataset", "state", "versions", "generations", "files", "bytes", "since", "written", "said")
_KEPT = "the dataset keeps no history any more"
_ORPHAN = "no dataset of that name: renamed? `bridge sources migrate NEW --from {}`"


def history(config: Annotated[Path, CONFIG_OPTION], as_json: Annotated[bool, JSON_OPTION] = False) -> None:
    """List the histories below `data_dir`: how much there is, and whether a dataset still has it."""
    try:
        loaded = load_settings(config, env=os.environ)
        names = configured(loaded)
        keeping = {f"{s.name}.{d.name}" for s in loaded.settings.sources for d in s.datasets if d.history}
        data_dir = loaded.settings.data_dir
        rows = [_described(data_dir, name, _state(name, keeping, names)) for name in _recorded(data_dir)]
        found = [row for row in rows if row["versions"] or row["files"] or row["said"]]
    except BridgeError as error:
        fail(error)
    if as_json:
        write_json(found)
        return
    write_table(f"Histories in {data_dir}", _COLUMNS, [[row[column] for column in _COLUMNS] for row in found])


def _recorded(data_dir: Path) -> list[str]:
    """Names of the folders."""
    folder = folder_of(data_dir, "")
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise store_error(error, f"`{folder}` cannot be read") from error


def _state(name: str, keeping: Container[str], names: Container[str]) -> tuple[str, str]:
    if name in keeping:
        return "recorded", ""
    return ("kept", _KEPT) if name in names else ("orphan", _ORPHAN.format(name))


def _described(data_dir: Path, name: str, stands: tuple[str, str]) -> dict[str, Any]:
    folder = folder_of(data_dir, name)
    try:
        files = [found for path, found in _files(folder) if not path.name.startswith(NAME.partition(".")[0] + ".")]
        versions = SchemaFile(folder).load()
        state, said = stands if versions else (stands[0], "")
    except StoreError as error:
        # One that cannot be read must not hide the others.
        files, versions, state, said = [], None, error.code, error.sentence
    written = max((found.st_mtime for found in files), default=None)
    return {
        "dataset": name,
        "state": state,
        "versions": len(versions.items) if versions else None,
        "generations": len(versions.generations) if versions else None,
        "files": len(files),
        "bytes": sum(found.st_size for found in files),
        "since": _shown(versions.items[0].at) if versions else None,
        "written": _shown(datetime.fromtimestamp(written, UTC)) if written is not None else None,
        "said": said,
    }


def _shown(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """All files below the folder; the service may take some away meanwhile.

    Errors: StoreError.
    """

    def failed(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise store_error(error, f"`{folder}` cannot be read") from error

    for parent, _, names in os.walk(folder, onerror=failed):
        for name in names:
            path = Path(parent) / name
            try:
                yield path, path.lstat()
            except FileNotFoundError:
                continue
