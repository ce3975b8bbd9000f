"""`bridge check`: what is wrong with a settings file, before it is served."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from bridge.app import Sources, World, build_cache, build_desk, build_sources
from bridge.cli.output import fail, progress, say, write_json
from bridge.cli.serve import CONFIG_OPTION
from bridge.errors import SettingsError, StepMisfit
from bridge.settings import Loaded, load_settings

JSON_OPTION = typer.Option("--json", help="JSON for machines.")


async def _proven(loaded: Loaded, sources: Sources, world: World) -> tuple[list[str], list[str]]:
    """What does not fit, and what could not be read, of the steps whose columns stand in the data only."""
    desk = build_desk(sources, world, build_cache(loaded, world))
    if not desk.unproven:
        return [], []
    with progress("reading columns", 1) as step:
        async with sources.running():
            failed = await desk.prove()
        step()
    places = {
        f"{source.name}.{dataset.name}": ("sources", i, "datasets", k, "steps")
        for i, source in enumerate(loaded.settings.sources)
        for k, dataset in enumerate(source.datasets)
    }
    misfits = [
        loaded.problem((*places[error.dataset], *error.loc), error.text)
        for error in failed.values()
        if isinstance(error, StepMisfit)
    ]
    unread = [f"the steps of {k}: {e.sentence}" for k, e in failed.items() if not isinstance(e, StepMisfit)]
    return misfits, unread


def check(
    config: Annotated[Path, CONFIG_OPTION],
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Say everything that is wrong with a settings file, with its line and what to do."""
    world = World()
    try:
        loaded = load_settings(config, env=os.environ)
        sources = build_sources(loaded, world)
    except SettingsError as error:
        if as_json:
            write_json({"ok": False, "problems": error.problems})
            raise typer.Exit(2) from error
        fail(error)
    broken = [
        f"source {name} would not run: {entry.error}"
        for name, entry in sources.registry.entries.items()
        if entry.source is None
    ]
    misfits, unread = asyncio.run(_proven(loaded, sources, world))
    broken += misfits
    datasets = list(sources.registry.datasets)
    if as_json:
        write_json({"ok": not broken, "problems": broken, "unread": unread, "datasets": datasets})
    else:
        for line in broken:
            say(line, err=True)
        for line in unread:
            say(f"not checked: {line}", err=True)
    if broken:
        raise typer.Exit(2)
    if not as_json:
        typer.echo(
            f"{config}: {len(sources.registry.entries)} sources, {len(datasets)} datasets: {', '.join(datasets)}"
        )
