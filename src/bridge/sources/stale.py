"""What stands in for a source that is down: the last good answer, marked as what it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from bridge.errors import BridgeError, HeldBack, NeedsAuth, SchemaChanged
from bridge.model.frame import Frame, Held, Notice
from bridge.model.query import Query
from bridge.model.span import Span

MAX_STEPS = 64


@dataclass(frozen=True, slots=True)
class _Step:
    question: str
    span: Span | None
    fetched_s: float


class Trail:
    """The last answers of one dataset: to which question, over which span, and when they were fetched."""

    def __init__(self) -> None:
        self._steps: dict[str, _Step] = {}

    def remember(self, query: Query, key: str, fetched_s: float) -> None:
        """Notes the answer that stands in the cache under `key`."""
        self._steps.pop(key, None)
        self._steps[key] = _Step(spanless(query), query.span, fetched_s)
        if len(self._steps) > MAX_STEPS:
            del self._steps[next(iter(self._steps))]

    def clear(self) -> None:
        """Forgets every answer."""
        self._steps.clear()

    def overlapping(self, query: Query) -> list[tuple[str, Span]]:
        """Keys and spans of answers to the same question over another span that share time with it.

        Shape: the one that shares most comes first, of equal ones the newest.
        """
        if query.span is None:
            return []
        question, asked = spanless(query), query.span
        found = [
            (_shared_s(step.span, asked), step.fetched_s, key, step.span)
            for key, step in self._steps.items()
            if step.span is not None and step.question == question and _shared_s(step.span, asked) > 0
        ]
        return [(key, span) for _, _, key, span in sorted(found, key=lambda item: item[:2], reverse=True)]

    def ages_s(self, now_s: float) -> Iterator[float]:
        """Seconds since each answer was fetched."""
        return (now_s - step.fetched_s for step in self._steps.values())


def spanless(query: Query) -> str:
    """Equal for the same question over other spans and at other resolutions."""
    return replace(query, span=None, step_ms=None, max_points=None).key


def _shared_s(one: Span, other: Span) -> float:
    return (min(one.end, other.end) - max(one.start, other.start)).total_seconds()


def state_of(error: BridgeError) -> str:
    """What a dataset is called after this failure."""
    for cls in (NeedsAuth, HeldBack, SchemaChanged):
        if isinstance(error, cls):
            return cls.code
    return "down"


def marked(
    held: Held,
    error: BridgeError,
    age_s: float,
    *,
    stale_after_s: float | None,
    asked: Span | None,
    covered: Span | None,
) -> Frame:
    """The last good answer with why it is shown, how old it is, and which part of the asked span it leaves out.

    Shape: a notice (a warning, after `stale_after_s` an error); in `custom` stale, age_s, last_updated, state, error.
    """
    severity = "error" if stale_after_s is not None and age_s > stale_after_s else "warning"
    text = (
        f"{error.message.rstrip('. ')}. Shown is the last good answer, "
        f"{_age(age_s)} old ({_instant(held.fetched_at)}){_part(held, asked, covered)}."
    )
    return held.frame.note(
        Notice(severity, f"{text} {error.remedy[:1].upper()}{error.remedy[1:]}".strip()),
        stale=True,
        age_s=round(age_s, 3),
        last_updated=held.fetched_at.isoformat(),
        state=state_of(error),
        error=error.code,
    )


def _part(held: Held, asked: Span | None, covered: Span | None) -> str:
    """Says what the answer covers where it misses time that had passed when it was fetched."""
    if asked is None or covered is None:
        return ""
    if covered.start <= asked.start and covered.end >= min(asked.end, held.fetched_at):
        return ""
    return f"; it covers only {_instant(covered.start)} to {_instant(covered.end)}"


def _instant(value: datetime) -> str:
    return value.strftime("%Y-%m-%d %H:%M:%S UTC")


def _age(age_s: float) -> str:
    if age_s < 120:
        return f"{age_s:.0f} s"
    return f"{age_s / 60:.0f} min" if age_s < 7200 else f"{age_s / 3600:.1f} h"
