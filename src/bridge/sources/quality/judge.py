"""All checks of one dataset: bound once to its columns, then made of every frame in one go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

import polars as pl
from polars.exceptions import PanicException

from bridge.model.finding import Finding, Level
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.schema import Schema
from bridge.model.span import Span
from bridge.sources.quality import lines, values
from bridge.sources.quality.bound import CheckError, Key, Made, NotMade, Probe, Scene, Verdict
from bridge.sources.quality.options import Check
from bridge.sources.quality.reference import reference
from bridge.sources.quality.words import cut, finite, names

log = logging.getLogger("bridge.sources")

# Of one check over many columns, so that a panel is not buried in sentences.
MAX_FINDINGS = 20
_MAX_REASON_CHARS = 200
_OWN: Mapping[str, Callable[[Any, Schema], Made]] = MappingProxyType(
    {
        "complete": values.complete,
        "range": values.range_,
        "one_of": values.one_of,
        "matches": values.matches,
        "types": values.types,
        "rule": values.rule,
        "rows": lines.rows,
        "gaps": lines.gaps,
        "unique": lines.unique,
        "ordered": lines.ordered,
        "fresh": lines.fresh,
    }
)


@dataclass(frozen=True, slots=True)
class BoundCheck:
    """One check bound to the published columns; a `DataValidator`.

    Shape: `name` is unique among a dataset's checks as far as they measure the same columns; `other` is the dataset
           it compares with.
    """

    name: str
    level: Level
    probes: tuple[Probe, ...]
    other: str | None = None
    by_time: bool = False

    def check(self, frame: Frame) -> tuple[Finding, ...]:
        """What can be said by a whole frame alone: nothing of the clock or of other datasets."""
        return _judge((self,), _scene(frame, {}, None, whole=True, span=None)).findings


@dataclass(frozen=True, slots=True)
class Judged:
    """What the checks say of one frame.

    Shape: `values` are the numbers that were measured, also where all is well, by check and column (empty for the
           whole frame); `made` are those about which something can be said; `skipped` are the others.
    """

    findings: tuple[Finding, ...] = ()
    values: Mapping[Key, float] = field(default_factory=dict)
    made: frozenset[Key] = frozenset()
    skipped: tuple[Key, ...] = ()

    @property
    def blocked(self) -> bool:
        """Whether the frame must not reach a consumer."""
        return any(finding.level is Level.BLOCK for finding in self.findings)


def bind_check(check: Check, schema: Schema, known: Mapping[str, Schema]) -> BoundCheck:
    """One check bound to the published columns.

    Errors: CheckError whose `loc` begins with the check's key.
    """
    given = getattr(check, check.kind)
    try:
        made = reference(given, schema, known) if check.reference else _OWN[check.kind](given, schema)
    except CheckError as error:
        raise CheckError(str(error), check.kind, *error.loc) from error
    return BoundCheck(check.title, check.level, made.probes, made.other, made.by_time)


def bind_checks(
    checks: Iterable[Check], schema: Schema, known_schemas: Mapping[str, Schema]
) -> tuple[BoundCheck, ...]:
    """The checks bound to the columns after the steps; a second one of the same name and column gets a number.

    Errors: CheckError whose `loc` begins with the number of the check. A reference to a dataset whose columns are not
            in `known_schemas` is looked at when its frame is there.
    """
    bound: list[BoundCheck] = []
    taken: set[Key] = set()
    for index, check in enumerate(checks):
        try:
            made = bind_check(check, schema, known_schemas)
        except CheckError as error:
            raise CheckError(str(error), index, *error.loc) from error
        name, number = made.name, 1
        while not taken.isdisjoint(_keys(name, made)):
            number += 1
            name = f"{made.name}_{number}"
        taken.update(_keys(name, made))
        bound.append(replace(made, name=name))
    return tuple(bound)


def _keys(name: str, made: BoundCheck) -> list[Key]:
    return [(name, probe.column) for probe in made.probes]


def asked(bound: Iterable[BoundCheck], span: Span | None) -> dict[str, Query]:
    """What must be asked of other datasets to judge the rows of a span; all of it where time is no key."""
    spans: dict[str, set[Span | None]] = {}
    for check in bound:
        if check.other is not None:
            spans.setdefault(check.other, set()).add(span if check.by_time else None)
    return {name: Query(name, span=None if None in found else span) for name, found in spans.items()}


def judge(
    bound: Sequence[BoundCheck],
    frame: Frame,
    others: Mapping[str, Frame],
    now: datetime,
    *,
    whole: bool = True,
    span: Span | None = None,
) -> Judged:
    """What the checks say of a frame in the order in which its rows came.

    Shape: `whole` is False where the source was asked to leave rows out by filters; `span` is the one it was asked
           for. What such a part cannot tell (the fewest rows, a gap between filtered rows, the age of a past span)
           is skipped, as is a check whose columns are not there. A check that fails is a finding, of level block
           where the check blocks.
    """
    return _judge(bound, _scene(frame, others, now, whole=whole, span=span))


def _scene(
    frame: Frame, others: Mapping[str, Frame], now: datetime | None, *, whole: bool, span: Span | None
) -> Scene:
    # Asked for once: Polars makes the whole mapping anew each time.
    return Scene(frame, dict(frame.data.schema), others, now, whole, span)


_Pair = tuple[BoundCheck, Probe]


def _judge(bound: Sequence[BoundCheck], scene: Scene) -> Judged:
    pairs = [(check, probe) for check in bound for probe in check.probes]
    there = [pair for pair in pairs if pair[1].reads <= scene.dtypes.keys()]
    skipped = [(check.name, probe.column) for check, probe in pairs if not probe.reads <= scene.dtypes.keys()]
    found: dict[str, list[Finding]] = {}
    measured: dict[Key, float] = {}
    made: set[Key] = set()
    for (check, probe), numbers in zip(there, _measured(there, scene), strict=True):
        key, verdict = (check.name, probe.column), _verdict(check, probe, numbers, scene)
        if verdict is None:
            skipped.append(key)
            continue
        made.add(key)
        if isinstance(verdict, Finding):
            found.setdefault(check.name, []).append(verdict)
            continue
        if verdict.value is not None and (value := finite(float(verdict.value))) is not None:
            measured[key] = value
        if verdict.text:
            finding = Finding(
                check.name, check.level, verdict.text, probe.column or None, verdict.rows, measured.get(key)
            )
            found.setdefault(check.name, []).append(finding)
    findings = [finding for several in found.values() for finding in _bounded(several)]
    made.update((check.name, "") for check in bound if len(check.probes) > MAX_FINDINGS)
    return Judged(tuple(findings), measured, frozenset(made), tuple(skipped))


def _bounded(findings: list[Finding]) -> list[Finding]:
    """Of one check over many columns the first findings, and one for all the rest."""
    if len(findings) <= MAX_FINDINGS:
        return findings
    kept, rest = findings[: MAX_FINDINGS - 1], findings[MAX_FINDINGS - 1 :]
    level = max((finding.level for finding in rest), key=list(Level).index)
    text = f"the same is wrong with {len(rest)} more columns: {names([f.column or '' for f in rest])}"
    return [*kept, Finding(rest[0].check, level, text, None, max(f.rows for f in rest))]


_Numbers = tuple[Any, ...] | BaseException


def _measured(pairs: Sequence[_Pair], scene: Scene) -> list[_Numbers]:
    """The numbers of all probes by one pass over the table; of each by itself where that fails."""
    expressions: list[tuple[pl.Expr, ...] | BaseException] = [_expressions(probe, scene) for _, probe in pairs]
    plain = [several for several in expressions if isinstance(several, tuple)]
    try:
        row = iter(_selected([one for several in plain for one in several], scene))
        return [tuple(next(row) for _ in item) if isinstance(item, tuple) else item for item in expressions]
    except (Exception, PanicException):  # noqa: BLE001 whatever the data does to Polars, it is a finding
        return [_alone(item, scene) if isinstance(item, tuple) else item for item in expressions]


def _expressions(probe: Probe, scene: Scene) -> tuple[pl.Expr, ...] | BaseException:
    try:
        return probe.numbers(scene)
    except (Exception, PanicException) as error:  # noqa: BLE001 as above
        return error


def _alone(several: tuple[pl.Expr, ...], scene: Scene) -> _Numbers:
    try:
        return _selected(several, scene)
    except (Exception, PanicException) as error:  # noqa: BLE001 as above
        return error


def _selected(several: Sequence[pl.Expr], scene: Scene) -> tuple[Any, ...]:
    if not several:
        return ()
    return scene.data.select(one.alias(str(number)) for number, one in enumerate(several)).row(0)


def _verdict(check: BoundCheck, probe: Probe, numbers: _Numbers, scene: Scene) -> Verdict | Finding | None:
    try:
        if isinstance(numbers, BaseException):
            raise numbers
        return probe.verdict(scene, numbers)
    except (Exception, PanicException) as error:
        if not isinstance(error, NotMade):
            log.debug("check %s of %s could not be made", check.name, scene.frame.name, exc_info=error)
        level = Level.BLOCK if check.level is Level.BLOCK else Level.WARN
        said = str(error) if isinstance(error, NotMade) else f"{type(error).__name__}: {error}"
        reason = said.splitlines()[0][:_MAX_REASON_CHARS] if said else type(error).__name__
        what = f" of `{cut(probe.column)}`" if probe.column else ""
        return Finding(
            check.name, level, f"the check `{check.name}`{what} could not be made: {reason}", probe.column or None
        )
