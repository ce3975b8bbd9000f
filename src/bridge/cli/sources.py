"""`bridge sources`: look at sources without starting the service."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from bridge.app import Sources, World, build_cache, build_desk, build_sources
from bridge.cli import history, infer, lineage, migrate
from bridge.cli.check import JSON_OPTION
from bridge.cli.output import fail, json_text, progress, say, write_json, write_table
from bridge.cli.serve import CONFIG_OPTION
from bridge.errors import BadQuery, BadRequest, BridgeError, UpstreamRefused
from bridge.model.query import Query
from bridge.model.render import rows_json
from bridge.model.schema import Schema
from bridge.model.span import Span
from bridge.settings import load_settings
from bridge.sources.ask import Desk
from bridge.sources.registry import discover
from bridge.sources.skeleton import write_plugin
from bridge.sources.stale import state_of

app = typer.Typer(help="List, describe and try sources; write a new plug-in.", no_args_is_help=True)
app.command("infer")(infer.infer)
app.command("migrate")(migrate.migrate)
app.command("lineage")(lineage.lineage)
app.command("history")(history.history)
T = TypeVar("T")


def _with_desk(config: Path, work: Callable[[Desk, Sources, World], Awaitable[T]]) -> T:
    """Builds the sources of a settings file, asks them, and closes them again."""

    async def run() -> T:
        world = World()
        loaded = load_settings(config, env=os.environ)
        sources = build_sources(loaded, world)
        desk = build_desk(sources, world, build_cache(loaded, world))
        async with sources.running():
            return await work(desk, sources, world)

    try:
        return asyncio.run(run())
    except BridgeError as error:
        fail(error)


@app.command("list")
def list_(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The settings file.")] = None,
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Sources of a settings file, asked whether they are there; without one, the installed plug-ins."""
    if config is None:
        plugins = [plugin.listed() for plugin in discover().values()]
        _show("Plug-ins", ("kind", "package", "ok", "error"), plugins, as_json=as_json)
        return
    found = _with_desk(config, _pinged)
    _show("Sources", ("source", "kind", "state", "datasets", "said"), found, as_json=as_json)


async def _pinged(desk: Desk, _: Sources, __: World) -> list[dict[str, Any]]:
    entries = desk.registry.entries
    with progress("asking the sources", len(entries)) as step:

        async def one(name: str) -> dict[str, Any]:
            entry = entries[name]
            state, said = "failed", entry.error or ""
            if entry.source is not None:
                try:
                    async with asyncio.timeout(10):
                        ping = await entry.source.ping()
                    state, said = ("ok" if ping.ok else "down"), ping.text
                except BridgeError as error:
                    state, said = state_of(error), error.sentence
                except TimeoutError:
                    state, said = "down", "no answer within 10 s"
                except Exception as error:  # noqa: BLE001 a plug-in may raise anything; the others are listed
                    state, said = "failed", f"its plug-in failed with {type(error).__name__}: {error}"
            step()
            names = ", ".join(dataset.name for dataset in entry.config.datasets)
            return {"source": name, "kind": entry.config.kind, "state": state, "datasets": names, "said": said}

        return list(await asyncio.gather(*(one(name) for name in entries)))


@app.command()
def describe(
    dataset: Annotated[str, typer.Argument(help="`source.dataset`, or `source` for all of its datasets.")],
    config: Annotated[Path, CONFIG_OPTION],
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Columns of a dataset: type, unit, role and meaning."""

    async def work(desk: Desk, _: Sources, __: World) -> dict[str, Schema]:
        names = [name for name in desk.keepers if name.startswith(f"{dataset}.")] or [desk.entry(dataset).name]
        with progress("reading schemas", len(names)) as step:
            found = {}
            for name in names:
                found[name] = await desk.schema(name)
                step()
            return found

    for name, schema in _with_desk(config, work).items():
        rows = [
            {"column": c.name, "type": c.type, "unit": c.unit, "role": c.role, "description": c.description}
            for c in schema.columns
        ]
        if as_json:
            write_json({"dataset": name, "version": schema.version, "columns": rows})
        else:
            _show(name, ("column", "type", "unit", "role", "description"), rows, as_json=False)


@app.command()
def sample(
    dataset: Annotated[str, typer.Argument(help="`source.dataset`.")],
    config: Annotated[Path, CONFIG_OPTION],
    rows: Annotated[int, typer.Option(min=1, max=1_000, help="How many rows.")] = 10,
    hours: Annotated[
        float | None, typer.Option(help="Only the last hours, for sources that need a time range.")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE, one of the dataset's own parameters; may be repeated.")
    ] = None,
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """The first rows of a dataset, as they would be published."""
    given = _params(param or [])

    async def work(desk: Desk, _: Sources, world: World) -> Any:
        now = world.clock.now()
        span = Span(now - timedelta(hours=hours), now) if hours else None
        with progress(f"asking {dataset}", 1) as step:
            try:
                entry = desk.entry(dataset)
                if unknown := [name for name, _ in given if name not in {known.name for known in entry.spec.params}]:
                    names = ", ".join(known.name for known in entry.spec.params) or "none"
                    raise BadQuery(f"{entry.name} has no parameter `{unknown[0]}`", remedy=f"its parameters: {names}")
                frame = await desk.rows(Query(entry.name, span=span, params=given))
            except UpstreamRefused as error:
                if span is None and error.far_status in (400, 422):
                    error.remedy = f"{error.remedy}; if it needs a time range, add --hours 1".removeprefix("; ")
                raise
            step()
        return frame.with_data(frame.data.head(rows))

    frame = _with_desk(config, work)
    for notice in frame.meta.notices:
        say(f"{notice.severity}: {notice.text}", err=True)
    if as_json:
        typer.echo(json_text(rows_json(frame).decode()))
        return
    write_table(frame.name, frame.schema.names, frame.data.rows())


def _params(given: list[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Parameters by name; one that is repeated has several values."""
    found: dict[str, tuple[str, ...]] = {}
    for item in given:
        name, sign, value = item.partition("=")
        if not sign:
            fail(BadQuery(f"--param {item!r} names no value", remedy="write --param NAME=VALUE"))
        found[name] = (*found.get(name, ()), value)
    return tuple(found.items())


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Kind of the new plug-in, e.g. `weather`.")],
    folder: Annotated[Path, typer.Option("--into", help="Where its package is written.")] = Path(),
) -> None:
    """Write a documented plug-in package that passes the conformance suite."""
    try:
        written = write_plugin(name, folder)
    except BadRequest as error:
        fail(error)
    for path in written:
        typer.echo(str(path))
    package = written[0].parent
    typer.echo(f"next: pip install -e '{package}[test]' && python -m pytest {package}", err=True)


def _show(title: str, columns: tuple[str, ...], rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        write_json(rows)
    else:
        write_table(title, columns, [[row[column] for column in columns] for row in rows])
