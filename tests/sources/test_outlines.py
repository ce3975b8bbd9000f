"""A long panel answers as it would if every row were looked at."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from bridge.model.filters import parse_filter
from bridge.model.frame import TIME_DTYPE, Frame, Notice
from bridge.model.query import Agg, Query
from bridge.model.schema import Column, ColumnType, Kind, Role, Schema, Shape
from bridge.model.span import Span
from bridge.sources.base import Limits
from bridge.sources.outlines import Outlines
from bridge.sources.present import in_time_order, present

ROWS = 240_000
START = datetime(2026, 1, 1, tzinfo=UTC)
TIME = Column("time", ColumnType.TIME, role=Role.TIME)
VALUE = Column("value", ColumnType.NUMBER, role=Role.MEASURE, unit="s")
COUNT = Column("count", ColumnType.NUMBER, role=Role.MEASURE)
MODEL = Column("model", ColumnType.STRING, role=Role.DIMENSION)


def frame(*columns: Column) -> Frame:
    """A wave and whole numbers, a row a second."""
    number = np.arange(ROWS)
    data = pl.DataFrame(
        {
            "time": pl.Series(1_767_225_600_000_000 + 1_000_000 * number).cast(TIME_DTYPE),
            "value": np.sin(number / 900),
            "count": number % 1_000,
            "model": ["svm"] * ROWS,
        }
    )
    return in_time_order(Frame(data.select(c.name for c in columns), Schema(columns), name="a.b"))


def met(outlines: Outlines, whole: Frame, asked: Query, shape: Shape) -> tuple[Column, tuple[Column, ...]]:
    """What is drawn of a table that is asked for again; the first time every row is looked at."""
    assert outlines.wanted(whole, asked, shape) is None
    wanted = outlines.wanted(whole, asked, shape)
    assert wanted is not None
    return wanted


ASKED = Query("a.b", ref_id="A", span=Span(START, START + timedelta(seconds=200_000)), max_points=300)


@pytest.mark.parametrize("agg", [Agg.MEAN, Agg.MIN, Agg.MAX])
@pytest.mark.parametrize("seconds", [(0, ROWS), (17, 200_003), (-5_000, 150_000), (100_000, 900_000)])
def test_buckets_are_those_of_all_rows(agg: Agg, seconds: tuple[int, int]) -> None:
    """The same instants and values, whatever part of the data the range covers."""
    whole = frame(TIME, VALUE, COUNT)
    span = Span(*(START + timedelta(seconds=second) for second in seconds))
    asked, outlines = replace(ASKED, agg=agg, span=span), Outlines()
    wanted = met(outlines, whole, asked, Shape.AUTO)
    made = outlines.draw(whole, asked, *wanted, Limits())
    assert made is not None
    for ours, theirs in zip(made, present(whole, asked, Shape.AUTO, Limits()), strict=True):
        assert ours.data["time"].to_list() == theirs.data["time"].to_list()
        measure = ours.data.columns[1]
        assert ours.data.schema == theirs.data.schema
        assert ours.data[measure].to_list() == pytest.approx(theirs.data[measure].to_list(), rel=1e-12, abs=1e-12)
        assert (ours.schema, ours.meta, ours.labels, ours.ref_id, ours.shape, ours.name) == (
            theirs.schema,
            theirs.meta,
            theirs.labels,
            theirs.ref_id,
            theirs.shape,
            theirs.name,
        )


def test_shapes_say_the_same_beside_the_rows() -> None:
    """Columns, notices and refIds are those of the long way; whole numbers stay whole."""
    whole = frame(TIME, VALUE, COUNT).note(Notice("info", "said before"), stale=True, lineage={"source": "a"})
    outlines = Outlines()
    wanted = met(outlines, whole, ASKED, Shape.AUTO)
    assert not outlines.ready(whole, wanted[1])
    made = outlines.draw(whole, ASKED, *wanted, Limits())
    assert made is not None
    assert outlines.ready(whole, wanted[1])
    for ours, theirs in zip(made, present(whole, ASKED, Shape.AUTO, Limits()), strict=True):
        assert ours.data.schema == theirs.data.schema
        assert (ours.schema, ours.labels, ours.ref_id, ours.shape) == (
            theirs.schema,
            theirs.labels,
            "A",
            theirs.shape,
        )
        assert ours.rows <= 300
    before, left_out = (notice.text for notice in made[0].meta.notices)
    assert before == "said before"
    assert "points were left out to fit 300 per series" in left_out
    assert made[1].meta.notices == ()
    assert [dict(item.meta.custom) for item in made] == [{"stale": True, "lineage": {"source": "a"}}, {"stale": True}]


@pytest.mark.parametrize(
    ("columns", "asked", "shape"),
    [
        pytest.param((TIME, VALUE, MODEL), ASKED, Shape.AUTO, id="several series"),
        pytest.param((TIME, VALUE), replace(ASKED, filters=(parse_filter("value>0"),)), Shape.AUTO, id="filter"),
        pytest.param((TIME, VALUE), replace(ASKED, max_points=None), Shape.AUTO, id="all rows"),
        pytest.param((TIME, VALUE), replace(ASKED, agg=Agg.SUM), Shape.AUTO, id="sum"),
        pytest.param((TIME, VALUE), replace(ASKED, agg=Agg.NONE), Shape.AUTO, id="not thinned"),
        pytest.param((TIME, VALUE), ASKED, Shape.TABLE, id="table"),
        pytest.param((TIME, replace(VALUE, kind=Kind.COUNTER)), ASKED, Shape.AUTO, id="counter"),
    ],
)
def test_other_questions_go_the_long_way(columns: tuple[Column, ...], asked: Query, shape: Shape) -> None:
    """What an outline does not know of is answered from the rows."""
    whole, outlines = frame(*columns), Outlines()
    outlines.wanted(whole, asked, shape)
    assert outlines.wanted(whole, asked, shape) is None


def test_whole_numbers_that_are_no_floats_go_the_long_way() -> None:
    """Their neighbours would be drawn in their place."""
    whole, outlines = frame(TIME, COUNT), Outlines()
    whole = whole.with_data(whole.data.with_columns(pl.col("count") + 2**53))
    assert outlines.draw(whole, ASKED, *met(outlines, whole, ASKED, Shape.AUTO), Limits()) is None


def test_a_short_range_goes_the_long_way() -> None:
    """All its rows are looked at, which are few."""
    whole, outlines = frame(TIME, VALUE), Outlines()
    asked = replace(ASKED, span=Span(START, START + timedelta(seconds=5_000)))
    wanted = met(outlines, whole, asked, Shape.AUTO)
    assert outlines.draw(whole, asked, *wanted, Limits()) is None


@pytest.mark.parametrize("points", range(1, 9))
def test_a_panel_that_is_a_few_points_wide_is_answered(points: int) -> None:
    """The library that chooses the rows cannot choose just one or two."""
    whole, outlines = frame(TIME, VALUE), Outlines()
    asked = replace(ASKED, max_points=points)
    wanted = met(outlines, whole, asked, Shape.AUTO)
    made = outlines.draw(whole, asked, *wanted, Limits())
    assert made is None or made[0].rows <= points


def test_outlines_go_with_the_table() -> None:
    """Nothing of a table is kept when whoever kept it has let it go."""
    outlines, whole = Outlines(), frame(TIME, VALUE)
    wanted = met(outlines, whole, ASKED, Shape.AUTO)
    outlines.draw(whole, ASKED, *wanted, Limits())
    assert len(outlines._known) == 1
    del whole, wanted
    assert not outlines._known
