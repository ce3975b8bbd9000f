"""The files of a provisioning: their texts, how they differ from what is there, and how they are written."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import yaml

from bridge.errors import BadRequest
from bridge.provision.catalogue import Catalogue, Dataset
from bridge.provision.queries import PLUGIN

UID = "bridge-infinity"
DASHBOARDS_PATH = "/var/lib/grafana/dashboards"
MARK = "# Written by `bridge provision infinity`: changes made here are lost."
FOLDER = "bridge"
SCAN_S = 30
NONE: Mapping[str, Dataset] = MappingProxyType({})
_UID = re.compile(r"[A-Za-z0-9_-]{1,30}")


class State(StrEnum):
    """How a file is compared with what would be written."""

    SAME = "unchanged"
    MISSING = "missing"
    DIFFERS = "differs"
    FOREIGN = "not written by this command"
    WRITTEN = "written"


@dataclass(frozen=True, slots=True)
class File:
    """One file: its path below the folder, and its text."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Target:
    """The Grafana the files are for.

    Shape: `url` is where Grafana reaches bridge, without a slash at the end; `dashboards_path` is where Grafana
           finds the dashboards.
    """

    url: str
    uid: str = UID
    dashboards_path: str = DASHBOARDS_PATH
    wait_s: int = 30


def target(url: str, uid: str, dashboards_path: str, wait_s: int) -> Target:
    """A target whose parts are such as Grafana takes.

    Errors: BadRequest that says which is not.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or any(sign in url for sign in "?#@ \n"):
        raise BadRequest(
            f"{url[:200]!r} is no address at which Grafana could reach bridge",
            remedy="give it with --url, such as http://bridge:8000",
        )
    if not _UID.fullmatch(uid):
        raise BadRequest(f"{uid[:80]!r} is no uid", remedy="use at most 30 letters, digits, - and _")
    return Target(url.rstrip("/"), uid, dashboards_path, wait_s)


def documents(catalogue: Catalogue, to: Target, system: Mapping[str, Dataset] = NONE) -> tuple[File, ...]:
    """All files: the datasource, where the dashboards are, the dashboard of the data and that of its state.

    Shape: `system` holds the datasets that tell how the others are doing; without them nothing does.
    """
    # On use: its library takes memory that only this command needs.
    from bridge.provision.dashboard import dashboard_json
    from bridge.provision.status import STATUS, status_json

    mark = "" if to.uid == UID else f" ({to.uid})"
    data = dashboard_json(
        catalogue,
        uid=f"{to.uid}-datasets",
        title=f"bridge datasets{mark}",
        datasource_uid=to.uid,
        status=system.get(STATUS),
    )
    files = (
        File("provisioning/datasources/bridge-infinity.yaml", _datasource(to)),
        File("provisioning/dashboards/bridge.yaml", _provider(to)),
        File("dashboards/bridge-datasets.json", data),
    )
    if not system:
        return files
    board = status_json(system, uid=f"{to.uid}-status", title=f"bridge: data status{mark}", datasource_uid=to.uid)
    return (*files, File("dashboards/bridge-status.json", board))


def _datasource(to: Target) -> str:
    settings = {
        "auth_method": "none",
        "allowedHosts": [to.url],
        "timeoutInSeconds": to.wait_s,
        # Without it, *Save & test* asks nothing and is always content.
        "customHealthCheckEnabled": True,
        "customHealthCheckUrl": f"{to.url}/healthz",
    }
    one = {"name": to.uid, "uid": to.uid, "type": PLUGIN, "access": "proxy", "url": to.url, "jsonData": settings}
    return _yaml({"apiVersion": 1, "datasources": [one]})


def _provider(to: Target) -> str:
    one = {
        "name": to.uid,
        "type": "file",
        "folder": FOLDER,
        "updateIntervalSeconds": SCAN_S,
        "allowUiUpdates": False,
        "options": {"path": to.dashboards_path, "foldersFromFilesStructure": False},
    }
    return _yaml({"apiVersion": 1, "providers": [one]})


def _yaml(value: object) -> str:
    # Grafana takes `$NAME` in these files for a variable of its environment.
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True).replace("$", "$$")
    return f"{MARK}\n{text}"


def compared(files: Iterable[File], folder: Path) -> dict[Path, State]:
    """How each file stands to what is there.

    Errors: BadRequest for one that cannot be read.
    """
    return {folder / file.path: _state(folder / file.path, file.text) for file in files}


def _state(path: Path, text: str) -> State:
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            # A pipe would be waited for without end.
            raise BadRequest(f"{path} is no file", remedy="name another folder with --into")
        there = path.read_bytes()
    except FileNotFoundError:
        return State.MISSING
    except OSError as error:
        raise BadRequest(
            f"{path} cannot be read: {error.strerror}", remedy="name another folder with --into"
        ) from error
    if there == text.encode():
        return State.SAME
    return State.DIFFERS if _ours(there, path) else State.FOREIGN


def _ours(there: bytes, path: Path) -> bool:
    """Whether this command wrote the file: its first line says so, or the dashboard's tag."""
    if path.suffix != ".json":
        return there.startswith(MARK.encode())
    try:
        found = json.loads(there)
    except (ValueError, RecursionError):
        return False
    from bridge.provision.dashboard import MARK as TAG

    tags = found.get("tags") if isinstance(found, dict) else None
    return isinstance(tags, list) and TAG in tags


def write(files: Iterable[File], folder: Path, *, force: bool) -> dict[Path, State]:
    """Writes the files that differ, each as a whole or not at all; none where one is not this command's own.

    Errors: BadRequest naming the files of others, unless `force`, or a file that cannot be written.
    """
    files = tuple(files)
    found = compared(files, folder)
    foreign = [str(path) for path, state in found.items() if state is State.FOREIGN]
    if foreign and not force:
        raise BadRequest(
            f"{', '.join(foreign)}: not written by this command, so it is left as it is",
            remedy="name another folder with --into, or replace it with --force",
        )
    for file in files:
        path = folder / file.path
        if found[path] is not State.SAME:
            _replace(path, file.text.encode())
            found[path] = State.WRITTEN
    return found


def _replace(path: Path, content: bytes) -> None:
    """Grafana looks at the folder at any time: it sees the old file or the new one, never half of one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # A new file, never what a link of this name leads to.
            beside.unlink(missing_ok=True)
            with beside.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise BadRequest(
            f"{path} cannot be written: {error.strerror}", remedy="name another folder with --into"
        ) from error
