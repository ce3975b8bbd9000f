"""`bridge sources migrate`: what a changed schema means for a dataset's history, decided by a person."""

from __future__ import annotations

import asyncio
import difflib
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.app import World, build_cache, build_desk, build_sources
from bridge.cli.check import JSON_OPTION
from bridge.cli.output import fail, progress, say, write_json, write_table
from bridge.cli.serve import CONFIG_OPTION
from bridge.errors import BadRequest, BridgeError, SourceError, UnknownDataset
from bridge.model.query import Query
from bridge.model.schema import Schema
from bridge.model.span import Span
from bridge.settings import Loaded, load_settings
from bridge.sources.history.adopt import adopt, adoptable
from bridge.sources.history.changes import Change, Verdict, compare
from bridge.sources.history.migration import Plan, plan, plan_back
from bridge.sources.history.schema_file import SchemaFile, folder_of
from bridge.sources.history.stamp import stamped_schema
from bridge.sources.history.stored import stored_kinds
from bridge.sources.history.versions import Versions
from bridge.sources.table import shown_names

_DATASET = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class _Task:
    """What would be done: how it is shown, how it is told to machines, and the doing; None when there is nothing."""

    show: Callable[[], None]
    told: Mapping[str, Any]
    do: Callable[[datetime], Versions] | None = None


def migrate(
    name: Annotated[str, typer.Argument(help="`source.dataset`.")],
    config: Annotated[Path, CONFIG_OPTION],
    rename: Annotated[
        list[str] | None, typer.Option(help="OLD=NEW, a column that has another name now; may be repeated.")
    ] = None,
    back: Annotated[bool, typer.Option("--back", help="Take back the last migration.")] = False,
    old_name: Annotated[
        str | None, typer.Option("--from", help="Take over the history of a dataset that was called so before.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show it, and change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Apply it without asking.")] = False,
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Say what a dataset's changed columns are to its history; no data is rewritten, and it can be taken back."""
    try:
        renames = _renames(rename or [])
        if sum(map(bool, (renames, back, old_name))) > 1:
            raise BadRequest("--rename, --back and --from exclude each other", remedy="give one of them")
        loaded = load_settings(config, env=os.environ)
        name = _full_name(loaded, name)
        if old_name is not None:
            task = _adoption(loaded, old_name, name)
        elif back:
            task = _way_back(loaded, name)
        else:
            task = asyncio.run(_migration(loaded, name, renames))
        made = _settle(task, dry_run=dry_run, yes=yes, as_json=as_json)
    except BridgeError as error:
        fail(error)
    if as_json:
        write_json({**task.told, "applied": made is not None})
    elif made is not None:
        typer.echo(f"{made.dataset}: version {made.current.version} is in force")
    if made is None and task.do is not None and not dry_run:
        say("nothing was changed: add --yes to apply it", err=True)
        raise typer.Exit(2)


def _settle(task: _Task, *, dry_run: bool, yes: bool, as_json: bool) -> Versions | None:
    """Shows it, and does it where somebody says yes."""
    if not as_json:
        task.show()
    if task.do is None or dry_run:
        return None
    if not yes:
        if as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            return None
        if not typer.confirm("apply it?"):
            typer.echo("nothing was changed", err=True)
            raise typer.Exit(1)
    return task.do(World().clock.now())


def _renames(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in given:
        old, sign, new = item.partition("=")
        if not sign or not old or not new:
            raise BadRequest(f"--rename {item!r} is not of the form OLD=NEW", remedy="write --rename accuracy=acc")
        if old in found:
            raise BadRequest(f"--rename gives `{old}` two new names", remedy="give it one")
        found[old] = new
    return found


def _full_name(loaded: Loaded, name: str) -> str:
    """The configured dataset of that name, whether its source runs or not; the part after the dot may do.

    Errors: UnknownDataset.
    """
    known = configured(loaded)
    found = [item for item in known if name in (item, item.partition(".")[2])]
    if len(found) == 1 or name in found:
        return name if name in found else found[0]
    if found:
        raise UnknownDataset(f"`{name}` could mean {', '.join(found)}", remedy="write `source.dataset`")
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "`bridge check` lists them"
    raise UnknownDataset(f"there is no dataset `{name[:80]}` in the settings", remedy=hint)


def configured(loaded: Loaded) -> list[str]:
    """The names of all datasets of the settings."""
    return [f"{source.name}.{dataset.name}" for source in loaded.settings.sources for dataset in source.datasets]


def _opened(loaded: Loaded, name: str) -> tuple[SchemaFile, Versions]:
    """The dataset's schema file and what it says.

    Errors: BadRequest where there is none; StoreNewer, StoreBroken.
    """
    file = SchemaFile(folder_of(loaded.settings.data_dir, name))
    versions = file.load()
    if versions is None:
        raise BadRequest(
            f"`{name}` has no history in `{file.folder}`",
            remedy="`bridge sources history` lists what there is; --from takes over that of another name",
        )
    return file, versions


def _adoption(loaded: Loaded, old: str, new: str) -> _Task:
    data_dir = loaded.settings.data_dir
    if not _DATASET.fullmatch(old):
        raise BadRequest(f"--from {old[:80]!r} is no name of a dataset", remedy="write --from source.dataset")
    if old in configured(loaded):
        raise BadRequest(
            f"`{old}` is still in the settings, so its history stays its own",
            remedy="--from is for a dataset that has another name now",
        )
    versions = adoptable(data_dir, old, new)
    count, columns = len(versions.items), [column.name for column in versions.current.columns]

    def show() -> None:
        say(f"{folder_of(data_dir, old)} becomes {folder_of(data_dir, new)}")
        say(f"with {count} version{'s' if count != 1 else ''}; the last has {shown_names(columns)}")

    told = {"dataset": new, "from": old, "version": versions.current.version}
    return _Task(show, told, lambda at: adopt(data_dir, old, new, at))


def _way_back(loaded: Loaded, name: str) -> _Task:
    file, versions = _opened(loaded, name)
    made = plan_back(versions)

    def show() -> None:
        _show(versions, made)
        say("the dataset's settings must go back as well, or it stops for its columns again")

    return _Task(show, _told(made, None), lambda at: file.migrate(made, at))


async def _migration(loaded: Loaded, name: str, renames: Mapping[str, str]) -> _Task:
    file, versions = _opened(loaded, name)
    schema, stored = await _present(loaded, name, versions)
    change = compare(versions, schema, stored)
    made = plan(versions, schema, stored, renames)
    needless = set(made.stored) == set(versions.current.columns)
    if needless or (change.verdict is not Verdict.BREAKING and not renames):
        return _Task(
            lambda: _idle(change, versions), {**_told(made, change), "columns": [], "hidden": [], "notes": []}
        )

    def show() -> None:
        for sentence in change.sentences:
            say(sentence)
        _show(versions, made)
        say(f"no data is rewritten; `bridge sources migrate {name} --back` takes it back")

    return _Task(show, _told(made, change), lambda at: file.migrate(made, at))


def _idle(change: Change, versions: Versions) -> None:
    for sentence in change.sentences:
        say(sentence)
    if change.sentences:
        say("the service records this by itself; there is nothing to migrate")
    else:
        version = versions.current.version
        say(f"{change.dataset} has the columns of version {version} of its history; there is nothing to migrate")


async def _present(loaded: Loaded, name: str, versions: Versions) -> tuple[Schema, dict[str, str]]:
    """The columns the dataset has now, and how their values would be stored.

    Errors: SourceError when its source does not answer and its settings do not name the columns.
    """
    world = World()
    sources = build_sources(loaded, world)
    desk = build_desk(sources, world, build_cache(loaded, world))
    async with sources.running():
        keeping = desk.entry(name).history
        if keeping is None:
            raise BadRequest(
                f"`{name}` has no `history` in its settings, so nothing of it is recorded",
                remedy="put it back before its columns are migrated",
            )
        now = world.clock.now()
        span = Span(now - timedelta(seconds=keeping.window_s), now) if keeping.window_s else None
        with progress(f"asking {name}", 1) as step:
            try:
                frame = await desk.fetched(Query(name, span=span))
            except SourceError as error:
                known = desk.keeper(name).schema
                if known is None:
                    raise
                say(f"{error.sentence}; its columns are those of the settings", err=True)
                return stamped_schema(known, keeping), {}
            step()
    kinds = stored_kinds(frame.data, frame.schema)
    # Of a column without values its dtype says nothing.
    empty = {column.name for column in frame.data.get_columns() if column.null_count() == frame.rows}
    return stamped_schema(frame.schema, keeping), {key: kind for key, kind in kinds.items() if key not in empty}


def _show(versions: Versions, made: Plan) -> None:
    current = versions.current
    since = current.at.isoformat(timespec="seconds").replace("+00:00", "Z")
    say(f"{made.dataset}: version {current.version} (since {since}) becomes version {current.version + 1}")
    rows = [(item.column.name, item.column.type, item.column.unit, item.how) for item in made.columns]
    write_table("", ("column", "type", "unit", "what was recorded"), rows)
    for column in made.hidden:
        say(f"`{column.name}` (type {column.type}) is kept and not shown any more")
    for note in made.notes:
        say(f"note: {note}")


def _told(made: Plan, change: Change | None) -> dict[str, Any]:
    return {
        "dataset": made.dataset,
        "version": made.base,
        "change": change.verdict if change else made.why,
        "sentences": list(change.sentences) if change else [],
        "columns": [
            {
                "name": item.column.name,
                "type": item.column.type,
                "unit": item.column.unit,
                "from": item.before.name if item.before else None,
                "how": item.how,
                "may_lose": item.may_lose,
            }
            for item in made.columns
        ],
        "hidden": [column.name for column in made.hidden],
        "notes": list(made.notes),
    }
