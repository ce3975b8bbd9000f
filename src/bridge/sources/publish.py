"""From what a source collected to the frame that is kept and given: transformed, checked, after the steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bridge.errors import AnswerTooLarge, PluginFailed, SchemaMismatch
from bridge.model.finding import Level, ValidationResult
from bridge.model.frame import Frame, Notice
from bridge.model.schema import Schema
from bridge.sources.base import MAX_COLUMNS, Limits
from bridge.sources.checks import SchemaValidator
from bridge.sources.present import in_time_order
from bridge.sources.recipe import Errand, Recipe, lineage
from bridge.sources.registry import DatasetEntry
from bridge.sources.work import cells, run


def received(entry: DatasetEntry, frame: Frame | None, limits: Limits) -> Frame:
    """What a source collected, as its plug-in leaves it.

    Errors: PluginFailed when it is none, AnswerTooLarge over the limits, SchemaMismatch when a check refuses it.
    """
    source, name = entry.source, entry.name
    if not isinstance(frame, Frame):
        raise PluginFailed(f"`{name}`: its plug-in gave {type(frame).__name__} instead of a frame")
    _refuse_large(frame, name, limits)
    frame = replace(source.transform(replace(frame, name=name)), name=name)
    _refuse_large(frame, name, limits)
    return _checked(frame, source.validate(frame))


async def publish(
    entry: DatasetEntry,
    frame: Frame,
    limits: Limits,
    recipe: Recipe | None,
    errand: Errand,
    others: Mapping[tuple[int, str], Frame],
) -> tuple[Frame, Schema | None]:
    """The frame in the order of time, with where it came from; and its columns before the steps, if it has them all.

    Errors: AnswerTooLarge over the limits, SchemaMismatch when a step, or a check after the steps, refuses it.
    """
    source, name = entry.source, entry.name
    own = None
    if recipe is not None:
        own = None if errand.own.columns else frame.schema
        frame = await recipe.apply(frame, errand, others, limits)
        _refuse_large(frame, name, limits)
        frame = _checked(frame, ValidationResult(tuple(SchemaValidator(()).check(frame))))
    traced = lineage(frame, {"source": source.name, "kind": source.kind, "adapter": source.version}, others)
    # Once for all who will be given the frame.
    return await run(cells(traced), lambda: in_time_order(traced)), own


def _checked(frame: Frame, result: ValidationResult) -> Frame:
    if result.blocked:
        texts = "; ".join(finding.text for finding in result.blockers)
        raise SchemaMismatch(f"`{frame.name}` is held back: {texts}", remedy="compare the data with `columns`")
    return frame.note(*(Notice("warning", item.text) for item in result.findings if item.level is Level.WARN))


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
