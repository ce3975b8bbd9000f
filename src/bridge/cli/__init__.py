"""The command line."""

from __future__ import annotations

import logging
from typing import Annotated

import stamina
import typer

from bridge import __version__
from bridge.cli import check, demo, describe, provision, serve, sources

app = typer.Typer(
    name="bridge",
    help="Datasource backend between Grafana and a research platform.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"bridge {__version__}")
        raise typer.Exit


def _has_traceback(record: logging.LogRecord) -> bool:
    return bool(record.exc_info)


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="The version, and nothing else.")
    ] = False,
) -> None:
    """Datasource backend between Grafana and a research platform."""
    # Each retry would print a line of its own on standard output; what is worth knowing of one is counted and logged.
    stamina.instrumentation.set_on_retry_hooks([])
    # What a command finds it says itself. Python would print the first words of a log line beside it, which say
    # nothing; a traceback is worth seeing. `serve` and `demo` log in their own way.
    if logging.lastResort is not None:
        logging.lastResort.addFilter(_has_traceback)


app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("check")(check.check)
app.command("routes")(describe.routes)
app.command("openapi")(describe.openapi)
app.add_typer(sources.app, name="sources")
app.add_typer(provision.app, name="provision")


def main() -> None:
    """Runs the command line."""
    app()
