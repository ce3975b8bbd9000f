"""`bridge sources lineage`: where one dataset's rows come from, asked once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.app import World, build_cache, build_desk, build_sources
from bridge.cli.check import JSON_OPTION
from bridge.cli.output import fail, progress, say, write_json
from bridge.cli.serve import CONFIG_OPTION
from bridge.errors import BridgeError, UpstreamRefused
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.span import Span
from bridge.settings import load_settings


@dataclass(frozen=True, slots=True)
class _Branch:
    text: str
    inner: Sequence[_Branch] = ()


def lineage(
    name: Annotated[str, typer.Argument(help="`source.dataset`.")],
    config: Annotated[Path, CONFIG_OPTION],
    hours: Annotated[
        float | None, typer.Option(min=0.001, help="Only the last hours, for sources that need a time range.")
    ] = None,
    as_json: Annotated[bool, JSON_OPTION] = False,
) -> None:
    """Where a dataset's rows come from: its steps, the datasets they read, and the sources of them all."""
    try:
        frame = asyncio.run(_asked(name, config, hours))
    except BridgeError as error:
        fail(error)
    for notice in frame.meta.notices:
        say(f"{notice.severity}: {notice.text}", err=True)
    told = frame.meta.custom["lineage"]
    if as_json:
        write_json(told)
        return
    say(tree(told))


async def _asked(name: str, config: Path, hours: float | None) -> Frame:
    """The dataset's answer, asked as a panel would.

    Errors: any BridgeError.
    """
    world = World()
    loaded = load_settings(config, env=os.environ)
    sources = build_sources(loaded, world)
    desk = build_desk(sources, world, build_cache(loaded, world))
    now = world.clock.now()
    span = Span(now - timedelta(hours=hours), now) if hours else None
    async with sources.running():
        with progress(f"asking {name}", 1) as step:
            try:
                frame = await desk.fetched(Query(desk.entry(name).name, span=span))
            except UpstreamRefused as error:
                if span is None and error.far_status in (400, 422):
                    error.remedy = f"{error.remedy}; if it needs a time range, add --hours 1".removeprefix("; ")
                raise
            step()
        return frame


def tree(told: Mapping[str, Any]) -> str:
    """One dataset's lineage as lines for people, those of its parents below it."""
    return "\n".join([told["dataset"], *_drawn(_branches(told))])


def _branches(told: Mapping[str, Any]) -> Iterator[_Branch]:
    """What is said of one dataset, from its rows down to where they came from."""
    if "rows" in told:
        schema = told["schema"]
        yield _Branch(f"fetched {told['fetched_at']}, {told['rows']} row{'' if told['rows'] == 1 else 's'}")
        yield _Branch(f"schema version {schema['version']}, fingerprint {schema['fingerprint']}")
        span = " to ".join(told["span"]) if told["span"] else "all times"
        yield _Branch(f"query {told['query']}, {span}")
    if told.get("checks"):
        yield _Branch(f"checks: {', '.join(told['checks'])}")
    if told.get("history"):
        yield _Branch("history: " + ", ".join(f"{key} {value}" for key, value in told["history"].items()))
    for number, text in enumerate(told.get("steps", ()), 1):
        yield _Branch(f"step {number}: {text}")
    for parent in told.get("parents", ()):
        stale = " (stale: its source is down)" if parent.get("stale") else ""
        yield _Branch(f"from {parent['dataset']}{stale}", tuple(_branches(parent)))
    if told.get("more"):
        yield _Branch(f"from {told['more']} more datasets")
    if "source" in told:
        far = f", far version {told['far_version']}" if "far_version" in told else ""
        yield _Branch(f"source {told['source']}: {told['kind']}, adapter {told['adapter']}{far}")


def _drawn(branches: Iterator[_Branch] | Sequence[_Branch]) -> Iterator[str]:
    """A line per branch, with the lines of a tree before it."""
    listed = list(branches)
    for index, branch in enumerate(listed):
        last = index == len(listed) - 1
        yield f"{'└─' if last else '├─'} {branch.text}"
        for line in _drawn(branch.inner):
            yield f"{'  ' if last else '│ '} {line}"
