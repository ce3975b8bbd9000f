"""Pages under docs/ that are made from the code: `make docs` writes them, a test compares them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from typer.main import get_command
from typer.testing import CliRunner

from bridge import __version__
from bridge.cli import app
from bridge.edge.meters import Meters
from bridge.settings import NOT_SERVED, describe_settings
from bridge.sources.builtin.exposition import ExpositionSource
from bridge.sources.builtin.files import FilesSource
from bridge.sources.builtin.mlflow import MlflowSource
from bridge.sources.builtin.rest import RestSource
from bridge.sources.builtin.sql import SqlSource
from bridge.web.dataset_query import PARAMETERS
from bridge.web.routes import TABLE

DOCS = Path(__file__).parents[2] / "docs"
NOTE = "<!-- Written by `make docs` from the code. -->\n\n"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(value: object) -> str:
    """A value that cannot break its table."""
    return str("" if value is None else value).replace("|", "\\|").replace("\n", " ")


def settings_page() -> str:
    """Every setting, and every option of the built-in sources."""
    docs = describe_settings()
    served = [doc for doc in docs if not doc.path.startswith(NOT_SERVED)]
    rows = [(f"`{doc.path}`", f"`{doc.type}`", f"`{doc.default}`", doc.description) for doc in served]
    parts = [NOTE, "# Settings\n\n", table(("key", "type", "default", "meaning"), rows)]
    parts.append(
        "\n`bridge check` understands these keys too, and refuses them: this version does not serve them.\n\n"
    )
    parts.append(", ".join(f"`{path}`" for path in NOT_SERVED) + "\n")
    for source in (FilesSource, RestSource, SqlSource, MlflowSource, ExpositionSource):
        for title, model in (("source", source.SourceOptions), ("dataset", source.DatasetOptions)):
            parts.append(f"\n## `kind: {source.kind}`, options of a {title}\n\n")
            fields = [
                (
                    f"`{name}`",
                    "required" if field.is_required() else f"`{field.get_default(call_default_factory=True)}`",
                    field.description,
                )
                for name, field in model.model_fields.items()
            ]
            parts.append(table(("option", "default", "meaning"), fields))
    return "".join(parts)


def routes_page() -> str:
    """Every route, and the parameters of a dataset's URL."""
    rows = [(route.method, f"`{route.path}`", f"`{route.scope}`", route.summary) for route in TABLE]
    params = [(f"`{name}`", text) for name, text in PARAMETERS.items()]
    return (
        f"{NOTE}# Routes\n\n"
        + table(("method", "path", "scope", "what it gives"), rows)
        + "\nEvery path answers `OPTIONS` with its methods; every other path is 404.\n"
        + "\n## Parameters of `GET /api/v1/datasets/{name}`\n\n"
        + table(("parameter", "meaning"), params)
        + "\nA dataset's own parameters, and the names of its columns as filters (`model=svm`), go beside them.\n"
    )


def cli_page() -> str:
    """The help of every command."""
    runner = CliRunner(env={"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"})
    parts = [NOTE, "# Command line\n"]
    for words in commands():
        text = runner.invoke(app, [*words, "--help"], terminal_width=100).stdout
        lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
        parts.append(f"\n## `{' '.join(['bridge', *words])}`\n\n```\n{lines}\n```\n")
    return "".join(parts)


def commands() -> list[list[str]]:
    """The words of every command."""
    found: list[list[str]] = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        found += [[name, word] for word in inner] if inner else [[name]]
    return found


def metrics_page() -> str:
    """Every metric of the service."""
    # As they are asked in Prometheus: a counter's samples end in _total, those of an info in _info.
    ends = {"counter": "_total", "info": "_info"}
    rows = [
        (f"`{family.name}{ends.get(family.type, '')}`", family.type, family.documentation)
        for family in Meters(__version__).registry.collect()
    ]
    return f"{NOTE}# Metrics\n\n" + table(("name", "type", "meaning"), sorted(rows))


PAGES = {"settings.md": settings_page, "routes.md": routes_page, "cli.md": cli_page, "metrics.md": metrics_page}

if __name__ == "__main__" and "--write" in sys.argv:
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), encoding="utf-8")
