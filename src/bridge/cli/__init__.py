"""The command line."""

from __future__ import annotations

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


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="The version, and nothing else.")
    ] = False,
) -> None:
    """Datasource backend between Grafana and a research platform."""
    # Each retry would print a line of its own on standard output; what is worth knowing of one is counted and logged.
    stamina.instrumentation.set_on_retry_hooks([])


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
