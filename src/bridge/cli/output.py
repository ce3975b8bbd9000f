"""How commands speak: tables for people, JSON for machines, sentences for what is wrong."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from bridge.edge.faults import printable
from bridge.errors import BridgeError, SettingsError

# Control characters that JSON lets stand, and those that turn the direction of a text.
_STEERING = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def say(text: str, *, err: bool = False) -> None:
    """Lines for people; what a far side put into them is shown, and does not steer the terminal."""
    typer.echo("\n".join(map(printable, text.split("\n"))), err=err)


def write_json(value: Any) -> None:
    """The value as indented JSON on standard output."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    sys.stdout.write(json_text(text.decode()) + "\n")


def json_text(text: str) -> str:
    """JSON that says the same, with escapes in place of the characters that a terminal obeys."""
    return _STEERING.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def write_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table on standard output, as wide as the terminal or the pipe's reader needs."""
    table = Table(title=title, title_justify="left", header_style="bold", expand=False)
    for index, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=index == 0)
    for row in rows:
        table.add_row(*(escape("" if cell is None else printable(str(cell))) for cell in row))
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def fail(error: BridgeError, code: int = 1) -> NoReturn:
    """Says what is wrong on standard error and ends the command."""
    if isinstance(error, SettingsError):
        for line in error.problems:
            say(line, err=True)
        count = len(error.problems)
        typer.echo(f"{count} problem{'s' if count != 1 else ''} in the settings", err=True)
        raise typer.Exit(2)
    say(error.sentence, err=True)
    raise typer.Exit(code)


@contextmanager
def progress(text: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error while work goes on; call what it gives once per step."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(text, total=total)
        yield lambda: bar.advance(task)
