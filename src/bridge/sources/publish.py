"""From what a source collected to the frame that is kept and given: transformed, checked, after the steps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from bridge.errors import AnswerTooLarge, PluginFailed, SchemaMismatch
from bridge.model.finding import Finding, Level, ValidationResult
from bridge.model.frame import Frame
from bridge.model.schema import Schema
from bridge.sources.base import MAX_COLUMNS, Limits
from bridge.sources.checks import SchemaValidator
from bridge.sources.history.stamp import stamped
from bridge.sources.lineage import traced
from bridge.sources.present import in_time_order
from bridge.sources.recipe import Errand, Recipe
from bridge.sources.registry import DatasetEntry
from bridge.sources.work import cells, run

Accept = Callable[[Frame, Errand], Awaitable[tuple[Frame, int]]]

# Of one plug-in about one frame: each is a sentence on the panel.
MAX_FINDINGS = 50


def received(entry: DatasetEntry, frame: Frame | None, limits: Limits) -> tuple[Frame, tuple[Finding, ...]]:
    """What a source collected, as its plug-in leaves it, and what the plug-in's checks say of it.

    Errors: PluginFailed when it is none, or what the checks say are no findings; AnswerTooLarge over the limits;
            SchemaMismatch when a check refuses it.
    """
    source, name = entry.source, entry.name
    if not isinstance(frame, Frame):
        raise PluginFailed(f"`{name}`: its plug-in gave {type(frame).__name__} instead of a frame")
    _refuse_large(frame, name, limits)
    frame = replace(source.transform(replace(frame, name=name)), name=name)
    _refuse_large(frame, name, limits)
    found = _plain(name, tuple(source.validate(frame).findings))
    _refuse_blocked(frame, ValidationResult(found))
    return frame, found


async def publish(
    entry: DatasetEntry,
    frame: Frame,
    limits: Limits,
    recipe: Recipe | None,
    errand: Errand,
    others: Mapping[tuple[int, str], Frame],
    *,
    fetched_at: datetime,
    accept: Accept | None = None,
) -> tuple[Frame, Schema | None]:
    """The frame in the order of time, with where it came from; and its columns before the steps, if it has them all.

    Shape:  `accept` judges the frame as it would be published, may add notices, and knows the version of its columns.
    Errors: AnswerTooLarge over the limits, SchemaMismatch when a step, or a check after the steps, refuses it;
            those of `accept`.
    """
    name = entry.name
    own = None
    if recipe is not None:
        own = None if errand.own.columns else frame.schema
        frame = await recipe.apply(frame, errand, others, limits)
        _refuse_large(frame, name, limits)
        _refuse_blocked(frame, ValidationResult(tuple(SchemaValidator(()).check(frame))))
    frame = stamped(frame, entry.history, fetched_at)
    frame, version = await accept(frame, errand) if accept is not None else (frame, 1)
    told = traced(frame, entry, errand, others, fetched_at=fetched_at, schema_version=version)
    # Once for all who will be given the frame.
    return await run(cells(told), lambda: in_time_order(told)), own


def _plain(name: str, found: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The findings of a plug-in's own checks; of very many the first, and one for all the rest.

    They are told of together with those of all other datasets: one that is none would take all of them along.
    """
    if odd := next((item for item in found if not _sound(item)), None):
        raise PluginFailed(f"`{name}`: its plug-in's checks gave {ascii(odd)[:200]}, which is no finding")
    if len(found) <= MAX_FINDINGS:
        return found
    kept, rest = found[: MAX_FINDINGS - 1], found[MAX_FINDINGS - 1 :]
    level = max((item.level for item in rest), key=list(Level).index)
    return (*kept, Finding("more", level, f"{len(rest)} more findings, such as: {rest[0].text}"))


def _sound(item: Any) -> bool:
    if not isinstance(item, Finding):
        return False
    said: list[tuple[Any, type | tuple[type, ...]]] = [
        (item.level, Level),
        (item.rows, int),
        (item.value or 0.0, (int, float)),
        *((word, str) for word in (item.check, item.text, item.column or "")),
    ]
    return all(isinstance(what, kind) for what, kind in said) and not _broken(f"{item.check}{item.text}{item.column}")


def _broken(text: str) -> bool:
    """Whether it has a lone surrogate, which no encoder further on would take."""
    return text.encode("utf-8", "replace").decode() != text


def _refuse_blocked(frame: Frame, result: ValidationResult) -> None:
    if result.blocked:
        texts = "; ".join(finding.text for finding in result.blockers)
        error = SchemaMismatch(f"`{frame.name}` is held back: {texts}", remedy="compare the data with `columns`")
        error.findings = result.findings
        raise error


def _refuse_large(frame: Frame, name: str, limits: Limits) -> None:
    columns = max(frame.data.width, len(frame.schema.columns))
    if columns > MAX_COLUMNS:
        raise AnswerTooLarge(
            f"`{name}` has {columns} columns, more than the {MAX_COLUMNS} allowed",
            remedy="declare the `columns` you need",
        )
    if frame.rows > limits.max_rows:
        raise AnswerTooLarge(
            f"`{name}` has more than {limits.max_rows} rows",
            remedy="narrow the time range or the filters, or raise limits.rows",
        )
