"""Where an answer came from: its source, its columns, the question, the steps, and the datasets it was made of."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from bridge.model.frame import Frame
from bridge.sources.recipe import Errand
from bridge.sources.registry import DatasetEntry
from bridge.sources.transform.words import words

# It goes to the browser with every panel: of datasets that stand on very many others the nearest are named.
MAX_PARENTS = 100
MAX_STEPS = 20
MAX_VERSION_CHARS = 100


def traced(
    frame: Frame,
    entry: DatasetEntry,
    errand: Errand,
    others: Mapping[tuple[int, str], Frame],
    *,
    fetched_at: datetime,
    schema_version: int = 1,
) -> Frame:
    """The frame with where it came from under `meta.custom.lineage`: plain JSON values, and no option of a source.

    Shape: `frame` is as it is published, after the steps; `fetched_at` is when the rows before them arrived.
           `schema.partial` says that only the columns a panel needs were fetched.
    """
    custom = dict(frame.meta.custom)
    version = custom.pop("far_version", None)
    source, own = entry.source, errand.own
    told: dict[str, Any] = {
        "dataset": entry.name,
        "source": source.name,
        "kind": source.kind,
        "adapter": source.version,
    }
    if version is not None:
        told["far_version"] = str(version)[:MAX_VERSION_CHARS]
    told["schema"] = {"version": schema_version, "fingerprint": frame.schema.fingerprint}
    if own.columns:
        told["schema"]["partial"] = True
    told["query"] = own.key.rpartition("|")[2]
    told["span"] = [own.span.start.isoformat(), own.span.end.isoformat()] if own.span else None
    told["fetched_at"] = fetched_at.isoformat()
    told["rows"] = frame.rows
    told["steps"] = _steps(entry)
    if entry.checks:
        told["checks"] = list(dict.fromkeys(check.title for check in entry.checks[:MAX_STEPS]))
    told["parents"] = [_parent(name, other) for name, other in _named(others).items()]
    return replace(frame, meta=replace(frame.meta, custom={**custom, "lineage": _bounded(told)}))


def version_of(frame: Frame) -> int:
    """The version of the columns that a traced frame was published with."""
    told: Mapping[str, Any] = frame.meta.custom.get("lineage") or {}
    return int(told.get("schema", {}).get("version", 1))


def _steps(entry: DatasetEntry) -> list[str]:
    texts = [words(step) for step in entry.steps[:MAX_STEPS]]
    left = len(entry.steps) - len(texts)
    return [*texts, f"and {left} more"] if left else texts


def _named(others: Mapping[tuple[int, str], Frame]) -> dict[str, Frame]:
    """The other datasets, each once, whichever steps read them."""
    return {name: other for (_, name), other in others.items()}


def _parent(name: str, other: Frame) -> dict[str, Any]:
    """A parent's own lineage, and whether its rows were the last good ones of a source that is down."""
    custom = other.meta.custom
    stale = {"stale": True} if custom.get("stale") else {}
    return {"dataset": name, **(custom.get("lineage") or {}), **stale}


def _bounded(told: dict[str, Any]) -> dict[str, Any]:
    """The same, with so many parents as may be told, the nearest first; `more` counts those left out of a list."""
    if not told["parents"] or _count(told) <= MAX_PARENTS:
        return told
    left = MAX_PARENTS
    top = dict(told)
    level = deque([top])
    while level:
        here = level.popleft()
        parents = here.get("parents", [])
        kept = [dict(parent) for parent in parents[:left]]
        left -= len(kept)
        if len(kept) < len(parents):
            here["more"] = here.get("more", 0) + len(parents) - len(kept)
        if parents:
            here["parents"] = kept
        level.extend(kept)
    return top


def _count(told: Mapping[str, Any]) -> int:
    """How many parents there are in all; looking ends where there are too many."""
    found = 0
    level = deque([told])
    while level and found <= MAX_PARENTS:
        parents = level.popleft().get("parents", ())
        found += len(parents)
        level.extend(parents)
    return found
