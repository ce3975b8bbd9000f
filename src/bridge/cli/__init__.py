"""The command line."""

from __future__ import annotations

import typer

from bridge.cli import check, demo, describe, serve, sources

app = typer.Typer(
    name="bridge",
    help="Datasource backend between Grafana and a research platform.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("check")(check.check)
app.command("routes")(describe.routes)
app.command("openapi")(describe.openapi)
app.add_typer(sources.app, name="sources")


def main() -> None:
    """Runs the command line."""
    app()
