"""From what a source collected to the frame that is kept and given: transformed, checked, after the steps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime

from bridge.errors import AnswerTooLarge, PluginFailed, SchemaMismatch
from bridge.model.finding import Finding, ValidationResult
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

Accept = Callable[[Frame, Errand], Awaitable[Frame]]


def received(entry: DatasetEntry, frame: Frame | None, limits: Limits) -> tuple[Frame, tuple[Finding, ...]]:
    """What a source collected, as its plug-in leaves it, and what the plug-in's checks say of it.

    Errors: PluginFailed when it is none, AnswerTooLarge over the limits, SchemaMismatch when a check refuses it.
    """
    source, name = entry.source, entry.name
    if not isinstance(frame, Frame):
        raise PluginFailed(f"`{name}`: its plug-in gave {type(frame).__name__} instead of a frame")
    _refuse_large(frame, name, limits)
    frame = replace(source.transform(replace(frame, name=name)), name=name)
    _refuse_large(frame, name, limits)
    result = source.validate(frame)
    _refuse_blocked(frame, result)
    return frame, result.findings


async def publish(  # noqa: PLR0913 each says one thing of the one answer
    entry: DatasetEntry,
    frame: Frame,
    limits: Limits,
    recipe: Recipe | None,
    errand: Errand,
    others: Mapping[tuple[int, str], Frame],
    *,
    fetched_at: datetime,
    accept: Accept | None = None,
    schema_version: int = 1,
) -> tuple[Frame, Schema | None]:
    """The frame in the order of time, with where it came from; and its columns before the steps, if it has them all.

    Shape:  `accept` judges the frame as it would be published, and may add notices.
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
    if accept is not None:
        frame = await accept(frame, errand)
    told = traced(frame, entry, errand, others, fetched_at=fetched_at, schema_version=schema_version)
    # Once for all who will be given the frame.
    return await run(cells(told), lambda: in_time_order(told)), own


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
