"""`bridge demo`: a real research container and bridge in front of it, with nothing to install or configure."""

from __future__ import annotations

import importlib.resources
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bridge.app import Service
from bridge.cli import serve, tracking

_TRACKED = """
    {url}/api/v1/datasets/digits.tracked_runs
                                            the same runs, each with its MLflow run beside it
    {tracked_at:<40}MLflow itself"""


def examples() -> Path:
    """The folder of examples: inside the installed package, or beside the sources in a checkout."""
    inside = Path(str(importlib.resources.files("bridge"))) / "_examples"
    return inside if inside.is_dir() else Path(__file__).parents[3] / "examples"


@contextmanager
def container(folder: Path, *words: str) -> Iterator[str]:
    """Runs the research container on a free port while the block runs; gives its URL."""
    # The container ends when its standard input closes, so that it never outlives this process.
    command = [sys.executable, "-P", str(folder), "--port", "0", "--exit-on-stdin-close", *words]
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
    mlflow: Annotated[
        bool, typer.Option("--mlflow", help="Run an MLflow server too, and join its runs with the container's.")
    ] = False,
    mlflow_command: Annotated[
        str | None,
        typer.Option(help="What runs MLflow, over the one that is found; with it, --mlflow goes without saying."),
    ] = None,
) -> None:
    """Train small models on the digits data and serve their runs and curves to Grafana."""
    if importlib.util.find_spec("sklearn") is None:
        typer.echo('the demo trains models with scikit-learn, which is missing: pip install "bridge[demo]"', err=True)
        raise typer.Exit(1)
    root = examples()
    overrides: dict[str, object] = {} if port is None else {"server.port": port}
    with ExitStack() as running:
        settings, words, tracked_at = "bridge.yaml", [], None
        if mlflow or mlflow_command is not None:
            tracked_at = running.enter_context(tracking.server(tracking.find(mlflow_command)))
            settings, words = "mlflow.yaml", ["--mlflow", tracked_at]
            overrides["sources.1.options.url"] = tracked_at
        trainer = running.enter_context(container(root / "research_container", *words))
        overrides["sources.0.options.url"] = trainer
        os.environ.setdefault("BRIDGE_DATA_DIR", str(Path.cwd() / "data"))
        ready = partial(_ready, trainer=trainer, tracked_at=tracked_at)
        serve.run(root / "demo" / settings, overrides, log_level=log_level, ready=ready)


def _ready(url: str, service: Service, *, trainer: str, tracked_at: str | None) -> None:
    names = [f"{s.name}.{d.name}" for s in service.loaded.settings.sources for d in s.datasets]
    more = _TRACKED.format(url=url, tracked_at=tracked_at) if tracked_at else ""
    typer.echo(
        f"""
  bridge demo is running. Open:

    {url}/                                  what is there, and how to add it to Grafana
    {url}/docs                              the API, to read and try
    {url}/api/v1/datasets/digits.runs       runs of the models being trained right now{more}
    {f"{trainer}/runs":<40}the container itself; `bridge sources infer` reads such URLs

  In Grafana: JSON datasource with URL {url}/json, or Infinity with base URL {url}
  Datasets: {", ".join(names)}
  Stop with Ctrl-C.
"""
    )
