"""Steps on numbers that are empty, very large, or of unlike kinds."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from bridge.errors import AnswerTooLarge
from bridge.model.frame import TIME_DTYPE, Frame
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.model.span import EARLIEST, LATEST, to_us
from bridge.sources.base import Limits
from bridge.sources.transform.options import Step
from bridge.sources.transform.pipeline import bind
from support import frame_of

NAN = float("nan")
X = Column("x", ColumnType.NUMBER, role=Role.MEASURE)
LOSS = Column("loss", ColumnType.NUMBER, role=Role.MEASURE)
RUNS = (
    Column("time", ColumnType.TIME, role=Role.TIME),
    Column("run", ColumnType.STRING),
    Column("accuracy", ColumnType.NUMBER, role=Role.MEASURE),
)
OTHERS = {"o.theirs": Schema(RUNS)}


def made(step: dict[str, Any], rows: Any) -> Frame:
    """The table after one step."""
    bound = bind((Step.model_validate(step),), Schema(RUNS), OTHERS)
    return bound.run(frame_of(rows, RUNS), {(0, "o.theirs"): frame_of(rows, RUNS)}, Limits())


def test_a_nan_is_as_empty_as_a_null() -> None:
    """It neither leads a list nor counts, and is filled like any gap; as a key it has no partner."""
    data = ((0, "a", NAN), (60, "b", 0.5), (120, "c", NAN))
    best = made({"limit": {"rows": 1, "by": "accuracy"}}, data)
    assert best.data["run"].to_list() == ["b"]
    values = {"n": "count(accuracy)", "d": "count_distinct(accuracy)", "a": "first(accuracy)", "z": "last(accuracy)"}
    assert made({"aggregate": {"values": values}}, data).data.rows() == [(1, 1, 0.5, 0.5)]
    filled = {"every_s": 60, "how": {"accuracy": "last"}, "by": [], "fill": "previous"}
    assert made({"resample": filled}, data).data["accuracy"].to_list() == [None, 0.5, 0.5]


def test_whole_numbers_as_keys_are_compared_to_the_last_digit() -> None:
    """Also those without a sign, and a row that only the other side has keeps its own key."""
    mine, theirs = (Column("k", ColumnType.NUMBER), X), (Column("k", ColumnType.NUMBER), LOSS)
    big = 2**53

    def keys(dtype: Any, left: list[int], right: pl.Series) -> list[Any]:
        own = Frame(pl.DataFrame({"k": pl.Series(left, dtype=dtype), "x": [1.0] * len(left)}), Schema(mine))
        other = Frame(pl.DataFrame({"k": right, "loss": [5.0] * len(right)}), Schema(theirs))
        step = Step.model_validate({"join": {"with": "o.theirs", "on": ["k"], "how": "full"}})
        pipeline = bind((step,), Schema(mine), {"o.theirs": Schema(theirs)})
        return pipeline.run(own, {(0, "o.theirs"): other}, Limits()).data.rows()

    near = pl.Series([big], dtype=pl.UInt64)
    assert keys(pl.UInt64, [big + 1], near) == [(big + 1, 1.0, None), (big, None, 5.0)]
    assert keys(pl.Int64, [big + 1], near) == [(big + 1, 1.0, None), (big, None, 5.0)]
    assert keys(pl.Int64, [1], pl.Series([1.5])) == [(1.0, 1.0, None), (1.5, None, 5.0)]
    assert keys(pl.Int8, [1], pl.Series([1_000])) == [(1, 1.0, None), (1_000, None, 5.0)]
    assert keys(pl.Float64, [1], pl.Series([NAN])) == [(1.0, 1.0, None), (None, None, 5.0)]


def test_a_union_of_whole_numbers_with_and_without_a_sign_can_be_drawn() -> None:
    column = (Column("k", ColumnType.NUMBER),)
    pipeline = bind((Step.model_validate({"union": ["o.theirs"]}),), Schema(column), {"o.theirs": Schema(column)})
    own = Frame(pl.DataFrame({"k": [2**53 + 1]}), Schema(column))
    for other, dtype in ((2**53, pl.Int64), (2**63 + 1, pl.Float64)):
        theirs = Frame(pl.DataFrame({"k": pl.Series([other], dtype=pl.UInt64)}), Schema(column))
        data = pipeline.run(own, {(0, "o.theirs"): theirs}, Limits()).data
        assert (data["k"].dtype, int(data["k"][1])) == (dtype, other // 2048 * 2048)


def test_a_filled_table_that_is_larger_than_any_whole_number_is_refused() -> None:
    """Thirty thousand series from the year 1 to the year 9999: their sum wraps around to less than nothing."""
    ends = [to_us(EARLIEST), to_us(LATEST)]
    names = [f"r{number}" for number in range(30_000)]
    time = pl.Series([end for end in ends for _ in names]).cast(TIME_DTYPE)
    data = pl.DataFrame({"time": time, "run": names * 2, "x": [1.0] * len(time)})
    schema = Schema((Column("time", ColumnType.TIME, role=Role.TIME), Column("run", ColumnType.STRING), X))
    step = Step.model_validate({"resample": {"every_s": 0.001, "by": ["run"], "fill": "zero"}})
    with pytest.raises(AnswerTooLarge, match="the filled table would have 9"):
        bind((step,), schema, {}).run(Frame(data, schema), {}, Limits())


def test_the_row_nearest_in_time_may_also_be_found_by_its_time() -> None:
    given = {"with": "o.theirs", "on": {"time": "time"}, "how": "nearest", "prefix": "o_"}
    assert "o_time" not in made({"join": given}, ((0, "a", 1.0),)).schema.names
