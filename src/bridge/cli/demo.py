"""`bridge demo`: a real research container and bridge in front of it, with nothing to install or configure."""

from __future__ import annotations

import importlib.resources
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from bridge.app import Service
from bridge.cli import serve


def examples() -> Path:
    """The folder of examples: inside the installed package, or beside the sources in a checkout."""
    inside = Path(str(importlib.resources.files("bridge"))) / "_examples"
    return inside if inside.is_dir() else Path(__file__).parents[3] / "examples"


@contextmanager
def container(folder: Path) -> Iterator[str]:
    """Runs the research container on a free port while the block runs; gives its URL."""
    # The container ends when its standard input closes, so that it never outlives this process.
    command = [sys.executable, "-P", str(folder), "--port", "0", "--exit-on-stdin-close"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            line = process.stdout.readline() if process.stdout else ""
            url = line.rpartition(" ")[2].strip()
            if not url.startswith("http"):
                typer.echo("the research container did not start; its own words are above", err=True)
                raise typer.Exit(1)
            yield url
        finally:
            process.terminate()


def demo(
    port: Annotated[int | None, typer.Option(help="Port to listen on; BRIDGE_SERVER__PORT works too.")] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "warning",
) -> None:
    """Train small models on the digits data and serve their runs and curves to Grafana."""
    if importlib.util.find_spec("sklearn") is None:
        typer.echo('the demo trains models with scikit-learn, which is missing: pip install "bridge[demo]"', err=True)
        raise typer.Exit(1)
    root = examples()
    with container(root / "research_container") as url:
        overrides: dict[str, object] = {"sources.0.options.url": url}
        if port is not None:
            overrides["server.port"] = port
        os.environ.setdefault("BRIDGE_DATA_DIR", str(Path.cwd() / "data"))
        serve.run(root / "demo" / "bridge.yaml", overrides, log_level=log_level, ready=_ready)


def _ready(url: str, service: Service) -> None:
    names = [f"{s.name}.{d.name}" for s in service.loaded.settings.sources for d in s.datasets]
    typer.echo(
        f"""
  bridge demo is running. Open:

    {url}/                                  what is there, and how to add it to Grafana
    {url}/docs                              the API, to read and try
    {url}/api/v1/datasets/digits.runs       runs of the models being trained right now

  In Grafana: JSON datasource with URL {url}/json, or Infinity with base URL {url}
  Datasets: {", ".join(names)}
  Stop with Ctrl-C.
"""
    )
