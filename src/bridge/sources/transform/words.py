"""What a step does, in a few words: for those who look where an answer came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from bridge.sources.transform.options import Aggregate, Join, LimitRows, Resample, Step

MAX_CHARS = 80
# A step may speak of a thousand columns: the first ones say what it is about.
MAX_NAMES = 4


def words(step: Step) -> str:
    """One short line, such as `filter accuracy > 0.5` or `join tracking.runs on run`."""
    text = f"{step.name} {_what(step)}"
    return text if len(text) <= MAX_CHARS else f"{text[: MAX_CHARS - 1]}…"


def _what(step: Step) -> str:
    match getattr(step, step.name):
        case str() as expression:
            return " ".join(expression.split())
        case tuple() as names:
            return _listed(names)
        case Aggregate() as made:
            return _aggregated(made)
        case Resample() as made:
            return f"every {made.every_s:g} s" + (f" by {_listed(made.by)}" if made.by else "")
        case Join() as join:
            return f"{join.with_} on {_listed(join.on)}" if join.on else f"{join.with_} {join.how}"
        case LimitRows() as kept:
            return f"{kept.rows}" + (f" by {kept.by} {kept.order}" if kept.by else "")
        case Mapping() as changes:
            return _listed(map(_changed, islice(changes.items(), MAX_NAMES)), len(changes))
        case united:
            return _listed(united.with_)


def _aggregated(made: Aggregate) -> str:
    values = (f"{name} = {value.how}({value.of or ''})" for name, value in islice(made.values.items(), MAX_NAMES))
    by = f" by {_listed(made.by)}" if made.by else ""
    every = f" every {made.every_s:g} s" if made.every_s else ""
    return _listed(values, len(made.values)) + by + every


def _changed(item: tuple[str, Any]) -> str:
    """One entry of a step that names its columns; a format says only which."""
    name, change = item
    if isinstance(change, str):
        return f"{name} to {change}"
    if (to := getattr(change, "to", None)) is not None:
        return f"{name} to {to}"
    expr = getattr(change, "expr", None)
    return name if expr is None else f"{name} = {expr}"


def _listed(names: Iterable[str], count: int | None = None) -> str:
    first = [*islice(names, MAX_NAMES + 1)]
    count = len(first) if count is None else count
    return ", ".join(first[:MAX_NAMES]) + (", …" if count > MAX_NAMES else "")
