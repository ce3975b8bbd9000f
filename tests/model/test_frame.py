from __future__ import annotations

import polars as pl

from bridge.model.frame import DTYPES, Frame, Meta, Notice, empty_frame
from bridge.model.schema import Column, ColumnType, Schema

COLUMNS = (Column("a", ColumnType.NUMBER), Column("b", ColumnType.STRING))
FRAME = Frame(pl.DataFrame({"a": [1.0], "b": ["x"]}), Schema(COLUMNS, version=3))


def test_a_frame_says_nothing_more_until_it_is_told_to() -> None:
    assert FRAME.note() is FRAME
    told = FRAME.note(Notice("info", "one"), age_s=1).note(Notice("warning", "two"), age_s=2, stale=True)
    assert told.meta == Meta((Notice("info", "one"), Notice("warning", "two")), {"age_s": 2, "stale": True})
    assert FRAME.meta == Meta()


def test_columns_are_selected_once_each_in_the_order_asked_for_and_unknown_ones_ignored() -> None:
    out = FRAME.select(("b", "nosuch", "a", "b"))
    assert out.schema == Schema(COLUMNS[::-1], version=3)
    assert out.data.columns == ["b", "a"]


def test_a_frame_over_other_rows_keeps_its_schema() -> None:
    assert FRAME.with_data(FRAME.data.clear()).rows == 0
    assert FRAME.rows == 1


def test_an_empty_frame_has_the_types_of_its_columns() -> None:
    columns = tuple(Column(kind.value, kind) for kind in ColumnType)
    assert empty_frame(columns).schema == {kind.value: DTYPES[kind] for kind in ColumnType}
