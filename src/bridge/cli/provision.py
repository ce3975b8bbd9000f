"""`bridge provision`: Grafana's configuration as files."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Collection
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from bridge.app import World, build_cache, build_desk, build_sources
from bridge.cli.check import JSON_OPTION
from bridge.cli.output import fail, progress, say, write_json
from bridge.cli.serve import CONFIG_OPTION
from bridge.errors import BridgeError
from bridge.provision.catalogue import Catalogue, Dataset
from bridge.provision.files import DASHBOARDS_PATH, UID, State, Target, compared, documents, target, write
from bridge.settings import Loaded, load_settings
from bridge.sources.ask import Desk

app = typer.Typer(help="Write Grafana's configuration as files.", no_args_is_help=True)
# What an answer takes on its way, beside the time bridge gives itself.
SPARE_S = 5
Failures = dict[str, str]


@app.callback()
def provision() -> None:
    """Write Grafana's configuration as files."""


@app.command()
def infinity(  # noqa: PLR0913, PLR0917 each is an option of the command line
    config: Annotated[Path, CONFIG_OPTION],
    into: Annotated[Path, typer.Option(help="Folder the files are written below.")] = Path("grafana"),
    url: Annotated[
        str | None, typer.Option(help="Where Grafana reaches bridge.", show_default="server.public_url")
    ] = None,
    uid: Annotated[str, typer.Option(help="Uid and name of the datasource.")] = UID,
    dashboards_path: Annotated[str, typer.Option(help="Where Grafana finds INTO/dashboards.")] = DASHBOARDS_PATH,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when a file would change.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that this command did not write.")] = False,
    skip_failing: Annotated[
        bool, typer.Option("--skip-failing", help="Leave out datasets whose source fails, without failing.")
    ] = False,
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Write an Infinity datasource, a dashboard over all datasets of a settings file, and one of their state."""
    try:
        loaded = load_settings(config, env=os.environ)
        to = _target(loaded, url, uid, dashboards_path)
        datasets, system, failures = asyncio.run(_described(loaded))
        files = documents(Catalogue(datasets), to, system)
        states = compared(files, into) if check else write(files, into, force=force)
    except BridgeError as error:
        fail(error)
    _tell(states, failures, as_json=as_json)
    if host := _unanswered(to.url, loaded.settings.server.allowed_hosts):
        say(f"bridge answers 421 for the host {host}: add it to server.allowed_hosts in the settings", err=True)
    differ = check and any(state is not State.SAME for state in states.values())
    if differ or (failures and not skip_failing):
        raise typer.Exit(1)


def _target(loaded: Loaded, url: str | None, uid: str, dashboards_path: str) -> Target:
    settings = loaded.settings
    wait_s = math.ceil(settings.limits.deadline_s) + SPARE_S
    return target(url or str(settings.server.public_url), uid, dashboards_path, wait_s)


def _unanswered(url: str, allowed_hosts: Collection[str]) -> str | None:
    """The host of a URL, where bridge would refuse requests that name it."""
    parts = urlsplit(url)
    named = {parts.netloc.rpartition("@")[2].lower(), (parts.hostname or "").lower()}
    return None if named & set(allowed_hosts) else parts.hostname


async def _described(loaded: Loaded) -> tuple[tuple[Dataset, ...], dict[str, Dataset], Failures]:
    """Every dataset with its schema, in the order of the settings; those that tell of them; why some have none."""
    world = World()
    sources = build_sources(loaded, world)
    desk = build_desk(sources, world, build_cache(loaded, world))
    names = [f"{source.name}.{dataset.name}" for source in loaded.settings.sources for dataset in source.datasets]
    async with sources.running():
        with progress("reading schemas", len(names)) as step:

            async def one(name: str) -> Dataset | str:
                try:
                    return await _dataset(desk, name)
                except BridgeError as error:
                    return error.sentence
                finally:
                    step()

            found = dict(zip(names, await asyncio.gather(*map(one, names)), strict=True))
    good = tuple(item for item in found.values() if isinstance(item, Dataset))
    system = {name: await _dataset(desk, name) for name in desk.system}
    return good, system, {name: item for name, item in found.items() if isinstance(item, str)}


async def _dataset(desk: Desk, name: str) -> Dataset:
    spec = desk.entry(name).spec
    dataset = Dataset(name, await desk.schema(name), spec.shape, spec.params, spec.description)
    dataset.refuse_misshapen()
    return dataset


def _tell(states: dict[Path, State], failures: Failures, *, as_json: bool) -> None:
    if as_json:
        files = [{"path": str(path), "state": state} for path, state in states.items()]
        write_json({"files": files, "left_out": [{"dataset": k, "error": v} for k, v in failures.items()]})
        return
    for path, state in states.items():
        say(f"{path}: {state}")
    for name, sentence in failures.items():
        say(f"{name} is left out: {sentence}", err=True)
