"""`bridge sources infer`: settings for an API, a file or a database, guessed, tried and written."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from bridge.app import World, build_cache, build_desk, build_sources
from bridge.cli.check import JSON_OPTION
from bridge.cli.output import fail, say, write_json
from bridge.errors import (
    AnswerTooLarge,
    BadRequest,
    BridgeError,
    SettingsError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamTooLarge,
)
from bridge.model.query import Query
from bridge.model.render import rows_json
from bridge.model.span import Span
from bridge.settings import Loaded, load_settings
from bridge.settings.yaml_text import Unreadable, read_yaml
from bridge.sources.ask import Desk
from bridge.sources.infer import DatasetGuess, SourceGuess, Target, look
from bridge.sources.infer.splice import spliced

MAX_SHOWN_CHARS = 400
# A trial shows that pages are read, and need not read them all.
TRIAL_PAGES = 2
TRIALS_AT_ONCE = 4
TRIAL_SPAN = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Trial:
    """How one dataset answered; `ok` None when it could not be asked."""

    dataset: DatasetGuess
    ok: bool | None
    rows: int = 0
    first: str = ""
    reason: str = ""


def infer(  # noqa: PLR0913, PLR0917 one parameter for each option
    what: Annotated[
        str, typer.Argument(help="A URL, a file, a folder, a pattern or a database.", metavar="URL|FILE")
    ],
    name: Annotated[str | None, typer.Option(help="Name of the source; unset: from the host or the file.")] = None,
    header: Annotated[list[str] | None, typer.Option(help="A header to send, as K=V; no secrets.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with a bearer token, or with a database's password.")
    ] = None,
    token_header: Annotated[str | None, typer.Option(help="Header that the token goes into instead.")] = None,
    table: Annotated[str | None, typer.Option(help="Only this table of a database.")] = None,
    write: Annotated[Path | None, typer.Option(help="Settings file to add the source to.")] = None,
    as_json: Annotated[bool, JSON_OPTION] = False,
    max_datasets: Annotated[int, typer.Option(min=1, max=200, help="Most datasets to write.")] = 20,
) -> None:
    """Look at an API, a file or a database and write its settings, with the reasons as comments."""
    try:
        file = write.expanduser().resolve() if write is not None else None
        folder = file.parent if file else Path.cwd()
        target = Target(what, folder, _checked(name), _headers(header or []), token_file, token_header)
        target = replace(target, table=table, max_datasets=max_datasets)
        if file:
            _before(file, name)
        source, trials = asyncio.run(_looked(target))
        answers = any(trial.ok for trial in trials)
        if file and answers:
            _write(file, source)
    except BridgeError as error:
        fail(error)
    if as_json:
        write_json(_said(source, trials, str(file) if file and answers else None))
    else:
        typer.echo(source.yaml(), nl=False)
    _tell(trials, file, answers=answers)
    if not answers:
        raise typer.Exit(1)


def _checked(name: str | None) -> str | None:
    if name is not None and not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise BadRequest(f"{name[:40]!r} is no name for a source", remedy="write it as [a-z][a-z0-9_]*")
    return name


def _headers(texts: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            # Its text is not repeated: it may be a secret in another form.
            raise BadRequest("a --header is not of the form K=V", remedy="write it as --header X-Site=lab")
        found[key.strip()] = value
    return found


async def _looked(target: Target) -> tuple[SourceGuess, list[Trial]]:
    """The source, and how each of its datasets answered; what the trials showed stands in its notes."""
    world = World()
    empty = replace(load_settings(None, env={}), base_dir=target.base_dir)
    sources = build_sources(empty, world)
    async with sources.running():
        source = await look(target, sources.tools, partial(say, err=True))
    trials = await _tried(source, target.base_dir, world)
    noted = tuple(_noted(trial) for trial in trials)
    return replace(source, datasets=noted), trials


def _noted(trial: Trial) -> DatasetGuess:
    if not trial.reason:
        return trial.dataset
    word = "not asked" if trial.ok is None else "note" if trial.ok else "does not answer"
    return replace(trial.dataset, notes=(*trial.dataset.notes, f"{word}: {trial.reason}"))


async def _tried(source: SourceGuess, base_dir: Path, world: World) -> list[Trial]:
    """Every dataset asked once, as the service would from these settings.

    Errors: SettingsError when the settings would be refused.
    """
    loaded = replace(_loaded(source), base_dir=base_dir)
    sources = build_sources(loaded, world)
    desk = build_desk(sources, world, build_cache(loaded, world))
    turn = asyncio.Semaphore(TRIALS_AT_ONCE)

    async def one(dataset: DatasetGuess) -> Trial:
        async with turn:
            trial = await _trial(desk, f"{source.name}.{dataset.name}", dataset, world)
        say(_line(source.name, trial), err=True)
        return trial

    async with sources.running():
        broken = next((entry.error for entry in sources.registry.entries.values() if entry.source is None), None)
        if broken:
            return [Trial(dataset, ok=False, reason=broken) for dataset in source.datasets]
        return list(await asyncio.gather(*map(one, source.datasets)))


def _loaded(source: SourceGuess) -> Loaded:
    """The YAML, read back as settings; trials are not repeated and read few pages."""
    document = read_yaml(source.yaml().encode())
    if document.problems:
        raise SettingsError([text for _, _, text in document.problems])
    value = deepcopy(document.value["sources"])
    for dataset in value[0]["datasets"]:
        dataset["retries"] = 0
        if "paging" in dataset.get("options", {}):
            dataset["options"]["paging"]["max_pages"] = TRIAL_PAGES
    return load_settings(None, env={}, overrides={"sources": value})


async def _trial(desk: Desk, name: str, dataset: DatasetGuess, world: World) -> Trial:
    if dataset.untried:
        return Trial(dataset, ok=None, reason=f"it needs {', '.join(dataset.untried)}")
    query = Query(name, params=dataset.trial)
    try:
        try:
            return await _rows(desk, query, dataset)
        except (AnswerTooLarge, UpstreamTooLarge, UpstreamTimeout, UpstreamRefused) as error:
            if not _may_need_a_span(dataset, error):
                raise
            now = world.clock.now()
            found = await _rows(desk, replace(query, span=Span(now - TRIAL_SPAN, now)), dataset)
            return replace(found, reason=f"asked for the last day only, as the whole was refused: {error.message}")
    except BridgeError as error:
        return Trial(dataset, ok=False, reason=error.sentence)


def _may_need_a_span(dataset: DatasetGuess, error: BridgeError) -> bool:
    refused = isinstance(error, UpstreamRefused)
    if refused and getattr(error, "far_status", 0) not in (400, 422):
        return False
    return dataset.spans or (not refused and any(column.role == "time" for column in dataset.columns))


async def _rows(desk: Desk, query: Query, dataset: DatasetGuess) -> Trial:
    frame = await desk.rows(query)
    first = rows_json(frame.with_data(frame.data.head(1))).decode()
    return Trial(dataset, ok=True, rows=frame.rows, first=first)


def _line(source: str, trial: Trial) -> str:
    name = f"{source}.{trial.dataset.name}"
    if trial.ok is None:
        return f"{name}: not asked, {trial.reason}"
    if not trial.ok:
        return f"{name}: does not answer: {trial.reason}"
    first = trial.first if len(trial.first) <= MAX_SHOWN_CHARS else f"{trial.first[:MAX_SHOWN_CHARS]}…"
    return f"{name}: {trial.rows} rows, first {first}" + (f" ({trial.reason})" if trial.reason else "")


def _tell(trials: Sequence[Trial], file: Path | None, *, answers: bool) -> None:
    good = sum(bool(trial.ok) for trial in trials)
    typer.echo(f"{good} of {len(trials)} datasets answer", err=True)
    if file:
        typer.echo(f"added to {file}" if answers else f"{file} is left as it was, as no dataset answers", err=True)


def _said(source: SourceGuess, trials: Sequence[Trial], written: str | None) -> dict[str, Any]:
    return {
        "source": source.settings(),
        "notes": source.notes,
        "datasets": [
            {
                "name": f"{source.name}.{trial.dataset.name}",
                "ok": trial.ok,
                "rows": trial.rows,
                "first": (orjson.loads(trial.first) or [None])[0] if trial.first else None,
                "reason": trial.reason,
                "notes": trial.dataset.notes,
                "remarks": dict(trial.dataset.remarks),
            }
            for trial in trials
        ],
        "yaml": source.yaml(),
        "written": written,
    }


def _before(file: Path, name: str | None) -> bytes | None:
    """The settings file as it is; None when there is none yet.

    Errors: SettingsError for one that is broken before anything is added, BadRequest when the name is taken.
    """
    try:
        content = file.read_bytes()
        # Also for those whom the system would let: the mode is what somebody has said of the file.
        if not file.stat().st_mode & 0o222:
            raise BadRequest(f"{file} is read-only", remedy="name another file, or make it writable")
    except FileNotFoundError:
        if not file.parent.is_dir():
            raise BadRequest(f"there is no folder {file.parent}", remedy="make it first") from None
        return None
    except OSError as error:
        raise BadRequest(f"{file} cannot be read: {error.strerror}", remedy="name another file") from error
    _free(load_settings(file, env=os.environ), name)
    return content


def _free(loaded: Loaded, name: str | None) -> None:
    if name in {source.name for source in loaded.settings.sources}:
        raise BadRequest(
            f"{loaded.path} has a source `{name}` already",
            remedy="choose another name with --name, or remove that one",
        )


def _write(file: Path, source: SourceGuess) -> None:
    """Adds the source to the file, which is replaced at once and only by settings that `bridge check` accepts.

    Errors: BadRequest and SettingsError; the file is then as it was.
    """
    # Read again: looking takes a while, and somebody may have written to it.
    before = _before(file, source.name)
    content = before or b""
    mark = b"\xef\xbb\xbf" if content.startswith(b"\xef\xbb\xbf") else b""
    after = mark + spliced(content.removeprefix(mark).decode(), source).encode()
    _same_otherwise(content, after, source)
    try:
        _replace(file, before, after)
    except OSError as error:
        raise BadRequest(f"{file} cannot be written: {error.strerror}", remedy="name another file") from error


def _replace(file: Path, before: bytes | None, after: bytes) -> None:
    """Another text in the place of the one that was read, once it is checked.

    Errors: BadRequest when somebody wrote to the file meanwhile; SettingsError; OSError.
    """
    draft = file.with_name(f".{file.name}.{os.getpid()}.new")
    # It holds what the file holds, so nobody else may read it either; a new file is as readable as others are.
    mode = 0o666 if before is None else 0o600
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
        try:
            out.write(after)
            out.flush()
            os.fsync(out.fileno())
            _check(draft, file)
            if before is not None:
                shutil.copymode(file, draft)
            if (file.read_bytes() if file.exists() else None) != before:
                raise BadRequest(f"{file} was changed meanwhile, so it is left alone", remedy="run the command again")
            draft.replace(file)
        finally:
            draft.unlink(missing_ok=True)


def _same_otherwise(before: bytes, after: bytes, source: SourceGuess) -> None:
    """The text says what it said, and the new source: a place that was misread must not change other settings."""
    old = read_yaml(before).value or {}
    wanted = {**old, "sources": [*(old.get("sources") or []), source.settings()]}
    try:
        found = read_yaml(after)
        same = not found.problems and found.value == wanted
    except Unreadable:
        same = False
    if not same:
        raise BadRequest(
            "the source cannot be put into the file without changing other settings in it",
            remedy="leave --write out and put the source in by hand",
        )


def _check(draft: Path, file: Path) -> None:
    try:
        sources = build_sources(load_settings(draft, env=os.environ), World())
    except SettingsError as error:
        raise SettingsError([text.replace(str(draft), str(file)) for text in error.problems]) from None
    broken = [f"source {n}: {e.error}" for n, e in sources.registry.entries.items() if e.source is None]
    if broken:
        raise SettingsError(broken)
