"""Rows of a time range."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from bridge.model.filters import Filter, Op
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.model.span import Span
from bridge.sources.present import in_time_order, select_rows

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SCHEMA = Schema((Column("time", ColumnType.TIME, role=Role.TIME), Column("value", ColumnType.NUMBER)))
ASCENDING = [0, 1, 1, 1, 2, 5, 9]


def frame(seconds: list[int | None]) -> Frame:
    times = [None if second is None else NOON + timedelta(seconds=second) for second in seconds]
    data = {"time": times, "value": list(range(len(seconds)))}
    return Frame(pl.DataFrame(data, schema={"time": pl.Datetime("us", "UTC"), "value": pl.Int64}), SCHEMA)


def span(start_s: float, end_s: float) -> Span:
    return Span(NOON + timedelta(seconds=start_s), NOON + timedelta(seconds=end_s))


@pytest.mark.parametrize("seconds", [ASCENDING, [9, 1, 0, 5, 1, 2, 1], [None, *ASCENDING], [*ASCENDING, None], []])
@pytest.mark.parametrize(
    "asked", [(1, 2), (1, 9), (0, 10), (-5, 0), (-5, 1), (9, 10), (10, 20), (3, 4), (1, 1.000001), (0.999999, 1)]
)
def test_the_start_belongs_to_a_range_and_the_end_does_not(
    seconds: list[int | None], asked: tuple[float, float]
) -> None:
    """This holds whether or not the rows are known to be in order; a row without a time is in no range."""
    start_s, end_s = asked
    wanted = [number for number, second in enumerate(seconds) if second is not None and start_s <= second < end_s]
    rows = frame(seconds)
    query = Query("lab.runs", span=span(start_s, end_s))
    assert select_rows(rows, query).data["value"].to_list() == wanted
    assert sorted(select_rows(in_time_order(rows), query).data["value"].to_list()) == wanted


def test_filters_narrow_a_range_further() -> None:
    """Only rows that are in the range and pass the filter remain."""
    query = Query("lab.runs", span=span(1, 9), filters=(Filter("value", Op.GE, ("4",)),))
    assert select_rows(in_time_order(frame(list(ASCENDING))), query).data["value"].to_list() == [4, 5]


def test_rows_of_a_range_are_still_known_to_be_in_order() -> None:
    """What is done with them next need not look at each again."""
    chosen = select_rows(in_time_order(frame(list(ASCENDING))), Query("lab.runs", span=span(1, 9)))
    assert chosen.data["time"].flags["SORTED_ASC"]
