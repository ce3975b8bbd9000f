"""A frame must have the columns its dataset publishes, with their types."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from bridge.model.finding import Level
from bridge.model.frame import Frame
from bridge.model.schema import Column, ColumnType, Schema
from bridge.sources.checks import SchemaValidator
from support import COLUMNS, frame_of

TIME, VALUE, MODEL = COLUMNS


def found(frame: Frame, columns: tuple[Column, ...] = COLUMNS) -> list[tuple[str | None, str]]:
    findings = list(SchemaValidator(columns).check(frame))
    assert all(finding.level is Level.BLOCK and finding.check == "schema" for finding in findings)
    return [(finding.column, finding.text) for finding in findings]


@pytest.mark.parametrize("columns", [COLUMNS, ()], ids=["declared", "the frame's own"])
def test_a_frame_as_it_was_declared_passes(columns: tuple[Column, ...]) -> None:
    assert found(frame_of(), columns) == []


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (ColumnType.TIME, pl.Datetime("us", "UTC"), [pl.Datetime("us"), pl.Datetime("ms", "UTC"), pl.Date, pl.Int64]),
        (ColumnType.NUMBER, pl.Float64, [pl.String, pl.Boolean, pl.Datetime("us", "UTC"), pl.Null]),
        (ColumnType.NUMBER, pl.UInt8, []),
        (ColumnType.STRING, pl.String, [pl.Categorical, pl.Int64, pl.Object]),
        (ColumnType.BOOLEAN, pl.Boolean, [pl.Int64, pl.String]),
        (ColumnType.JSON, pl.String, [pl.Struct({"a": pl.Int64}), pl.List(pl.Int64)]),
    ],
)
def test_each_type_of_column_has_its_own_kinds_of_data(kind: ColumnType, good: Any, bad: list[Any]) -> None:
    column = Column("x", kind)

    def frame(dtype: Any) -> Frame:
        return Frame(pl.DataFrame(schema={"x": dtype}), Schema((column,)))

    assert found(frame(good), (column,)) == []
    for dtype in bad:
        ((name, text),) = found(frame(dtype), (column,))
        assert name == "x"
        assert text.startswith(f"column `x` is declared {kind} but holds ")


def test_a_column_that_is_missing_is_named() -> None:
    data = frame_of().data.drop("value")
    assert found(Frame(data, Schema(COLUMNS))) == [("value", "column `value` is missing from the data")]
    assert found(Frame(data, Schema((TIME, MODEL)))) == [("value", "column `value` is missing from the data")]


def test_a_frame_whose_own_schema_says_something_else_than_its_data_is_blocked() -> None:
    data = frame_of().data
    assert found(Frame(data, Schema((TIME, MODEL)))) == [
        ("value", "column `value` is missing from the frame's schema")
    ]
    assert found(Frame(data.drop("model"), Schema(COLUMNS)), COLUMNS[:2]) == [
        ("model", "column `model` is missing from the data")
    ]


def test_the_declared_type_counts_where_the_frame_claims_another() -> None:
    frame = Frame(frame_of().data, Schema((TIME, replace(VALUE, type=ColumnType.STRING), MODEL)))
    assert found(frame) == []
    assert found(frame, ()) == [("value", "column `value` is declared string but holds Float64")]


def test_columns_nobody_declared_do_not_block() -> None:
    frame = frame_of([(0, 1.0, "a", "b")], (*COLUMNS, Column("more", ColumnType.STRING)))
    assert found(frame) == []
