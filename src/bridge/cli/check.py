"""`bridge check`: what is wrong with a settings file, before it is served."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from bridge.app import World, build_sources
from bridge.cli.output import fail, write_json
from bridge.cli.serve import CONFIG_OPTION
from bridge.errors import SettingsError
from bridge.settings import load_settings

JSON_OPTION = typer.Option("--json", help="JSON for machines.")


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
    broken = {name: entry.error for name, entry in sources.registry.entries.items() if entry.source is None}
    datasets = list(sources.registry.datasets)
    if as_json:
        write_json({"ok": not broken, "problems": [f"{k}: {v}" for k, v in broken.items()], "datasets": datasets})
    else:
        for name, error_text in broken.items():
            typer.echo(f"source {name} would not run: {error_text}", err=True)
        typer.echo(
            f"{config}: {len(sources.registry.entries)} sources, {len(datasets)} datasets: {', '.join(datasets)}"
        )
    if broken:
        raise typer.Exit(2)
