"""What the tests of the checks share: a table of runs, and checks as the settings have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from bridge.model.frame import Frame
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.sources.quality.judge import BoundCheck, Judged, bind_checks, judge
from bridge.sources.quality.options import Check
from support import at, table

RUNS = (
    Column("time", ColumnType.TIME, role=Role.TIME),
    Column("model", ColumnType.STRING, role=Role.DIMENSION),
    Column("accuracy", ColumnType.NUMBER, role=Role.MEASURE),
    Column("run", ColumnType.STRING),
    Column("done", ColumnType.BOOLEAN),
    Column("config", ColumnType.JSON),
)
SCHEMA = Schema(RUNS)
ROWS = (
    (0, "svm", 0.5, "r1", True, "{}"),
    (60, "tree", 0.75, "r2", False, "[1]"),
    (120, "svm", 0.25, "r3", True, "null"),
    (180, "tree", 1.0, "r4", None, '"x"'),
)
NOW = at(200)


def checks(*given: Mapping[str, Any]) -> tuple[Check, ...]:
    """Checks as the settings have them."""
    return tuple(Check.model_validate(item) for item in given)


def bound(
    *given: Mapping[str, Any], schema: Schema = SCHEMA, known: Mapping[str, Schema] | None = None
) -> tuple[BoundCheck, ...]:
    """The checks bound to the columns."""
    return bind_checks(checks(*given), schema, known or {})


def frame(rows: Sequence[Sequence[Any]] = ROWS, columns: tuple[Column, ...] = RUNS) -> Frame:
    """Rows as a frame of `lab.runs`."""
    return Frame(table(rows, columns), Schema(columns), "lab.runs")


def column(type_: ColumnType, values: Sequence[Any] | pl.Series, role: Role | None = None) -> Frame:
    """A frame of one column `x`."""
    schema = Schema((Column("x", type_, role=role),))
    series = values.alias("x") if isinstance(values, pl.Series) else None
    data = table([(value,) for value in values], schema.columns) if series is None else pl.DataFrame([series])
    return Frame(data, schema, "lab.x")


def judged(*given: Mapping[str, Any], on: Frame | None = None, **options: Any) -> Judged:
    """What the checks say of a frame."""
    found = frame() if on is None else on
    others: Mapping[str, Frame] = options.pop("others", {})
    known = {name: other.schema for name, other in others.items()}
    now = options.pop("now", NOW)
    return judge(bound(*given, schema=found.schema, known=known), found, others, now, **options)


def told(*given: Mapping[str, Any], on: Frame | None = None, **options: Any) -> list[str]:
    """The texts of the findings."""
    return [finding.text for finding in judged(*given, on=on, **options).findings]
