"""Checks of rows as a whole: number, order, holes, repetition and age."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from quality_rig import NOW, RUNS, bound, column, frame, judged, told

from bridge.model.frame import Frame
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.model.span import Span
from bridge.sources.quality.bound import CheckError
from support import at, span, table

N, S, T = ColumnType.NUMBER, ColumnType.STRING, ColumnType.TIME
SERIES = (
    Column("time", T, role=Role.TIME),
    Column("model", S, role=Role.DIMENSION),
    Column("step", N, role=Role.MEASURE),
)


def series(*rows: tuple[Any, ...], dtype: Any = pl.Float64) -> Frame:
    """Rows of time, model and step."""
    return Frame(table(rows, SERIES).with_columns(pl.col("step").cast(dtype)), Schema(SERIES), "lab.steps")


# Rows


@pytest.mark.parametrize(
    ("check", "count", "texts"),
    [
        ({"rows": 1}, 0, ["there are no rows, fewer than the 1 expected"]),
        ({"rows": 2}, 1, ["there is 1 row, fewer than the 2 expected"]),
        ({"rows": {"max": 1}}, 2, ["there are 2 rows, more than the 1 expected"]),
        ({"rows": {"min": 1, "max": 2}}, 2, []),
        ({"rows": {"max": 0}}, 0, []),
    ],
)
def test_too_few_and_too_many_rows_are_told(check: dict[str, Any], count: int, texts: list[str]) -> None:
    on = series(*[(number, "a", 1.0) for number in range(count)])
    assert told(check, on=on) == texts
    assert judged(check, on=on).values == {("rows", ""): count}


@pytest.mark.parametrize("part", [{"whole": False}, {"span": span(0, 60)}])
def test_of_a_part_of_the_rows_only_too_many_can_be_told(part: dict[str, Any]) -> None:
    on = series((0, "a", 1.0))
    found = judged({"rows": 5}, on=on, **part)
    assert (found.findings, found.skipped, found.values) == ((), (("rows", ""),), {})
    assert told({"rows": {"max": 0}}, on=on, **part) == ["there is 1 row, more than the 0 expected"]


# Repetition


@pytest.mark.parametrize(
    ("check", "rows", "texts"),
    [
        ({"unique": {}}, [(0, "a", 1), (0, "b", 1), (1, "a", 1)], []),
        (
            {"unique": {}},
            [(0, "a", 1), (0, "a", 2), (0, "a", 3), (1, "b", 4)],
            [
                "2 of 4 rows (50 %) repeat the `time`, `model` of another, first 2026-01-31 12:00:00 UTC and 'a' "
                "in row 2, 2026-01-31 12:00:00 UTC and 'a' in row 3"
            ],
        ),
        ({"unique": {}}, [(0, None, 1), (0, None, 2)], ["1 of 2 rows (50 %) repeats the `time`, `model` of another"]),
        ({"unique": {}}, [(None, None, 1), (None, None, 2)], []),
        ({"unique": "step"}, [(0, "a", None), (1, "a", None), (2, "a", 1)], []),
        (
            {"unique": "step"},
            [(0, "a", None), (1, "a", None), (2, "a", 1), (3, "a", 1)],
            ["1 of 2 rows (50 %) repeats"],
        ),
        (
            {"unique": "step"},
            [(0, "a", 1), (1, "b", 1)],
            ["1 of 2 rows (50 %) repeats the `step` of another, first 1 at 2026-01-31 12:00:01 UTC (model 'b')"],
        ),
        ({"unique": ["step", "model"]}, [(0, "a", 0.0), (1, "a", -0.0)], ["1 of 2 rows (50 %) repeats"]),
        ({"unique": ["step", "step"]}, [(0, "a", 1.0), (1, "a", 2.0)], []),
    ],
)
def test_rows_with_the_same_key_are_told(check: dict[str, Any], rows: list[Any], texts: list[str]) -> None:
    found = told(check, on=series(*rows))
    assert len(found) == len(texts)
    assert all(text in one for text, one in zip(texts, found, strict=True))


# Holes


def test_the_longest_hole_of_each_series_is_told() -> None:
    on = series((0, "a", 1), (10, "b", 1), (600, "a", 1), (20, "b", 1), (601, "a", 1), (300, "b", 1), (None, "a", 1))
    assert told({"gaps": 60}, on=on) == [
        "`time`: 2 gaps are longer than 60 s, the longest of 600 s from 2026-01-31 12:00:00 UTC to "
        "2026-01-31 12:10:00 UTC (model 'a')"
    ]
    assert told({"gaps": {"max_gap_s": 290, "by": []}}, on=on) == [
        "`time`: a gap is longer than 290 s, the longest of 300 s from 2026-01-31 12:05:00 UTC to 2026-01-31 "
        "12:10:00 UTC"
    ]
    assert judged({"gaps": 1000}, on=on).values == {("gaps", "time"): 600}


def test_a_hole_of_exactly_what_is_allowed_is_none() -> None:
    on = series((0, "a", 1), (0.3, "a", 1), (0.4, "a", 1))
    assert told({"gaps": 0.3}, on=on) == []
    assert told({"gaps": 0.2999}, on=on) != []


@pytest.mark.parametrize("rows", [[], [(0, "a", 1)], [(None, "a", 1), (None, "a", 2)], [(0, "a", 1), (9e6, "b", 1)]])
def test_without_two_rows_of_a_series_there_is_no_hole(rows: list[Any]) -> None:
    assert judged({"gaps": 1}, on=series(*rows)).values == {("gaps", "time"): 0}


def test_holes_that_a_filter_made_are_not_told_but_those_in_a_span_are() -> None:
    on = series((0, "a", 1), (600, "a", 1))
    assert judged({"gaps": 60}, on=on, whole=False).skipped == (("gaps", "time"),)
    assert len(told({"gaps": 60}, on=on, span=span(0, 900))) == 1


# Order


@pytest.mark.parametrize(
    ("check", "rows", "texts"),
    [
        ({"ordered": {}}, [(0, "a", 1), (1, "a", 1), (0.5, "b", 1), (1, "a", 1)], []),
        (
            {"ordered": {"strictly": True}},
            [(0, "a", 1), (1, "a", 1), (1, "a", 1)],
            ["`time` does not rise once, first from 2026-01-31 12:00:01 UTC to 2026-01-31 12:00:01 UTC (model 'a')"],
        ),
        (
            {"ordered": {"by": []}},
            [(5, "a", 1), (3, "b", 1), (4, "a", 1), (2, "b", 1)],
            [
                "`time` goes back 2 times, first from 2026-01-31 12:00:05 UTC to 2026-01-31 12:00:03 UTC (model 'b')"
                ", from 2026-01-31 12:00:04 UTC to 2026-01-31 12:00:02 UTC (model 'b')"
            ],
        ),
        ({"ordered": "step"}, [(1, "a", 7), (0, "a", 3), (2, "b", 1), (3, "b", None), (4, "b", float("nan"))], []),
        (
            {"ordered": "step"},
            [(0, "a", 7), (1, "b", 5), (2, "a", None), (3, "a", 3)],
            [
                "`step` goes back once in the order of time, first from 7 to 3 at 2026-01-31 12:00:03 UTC "
                "(model 'a')",
            ],
        ),
        ({"ordered": "step"}, [], []),
    ],
)
def test_a_time_that_goes_back_and_a_counter_that_falls_are_told(
    check: dict[str, Any], rows: list[Any], texts: list[str]
) -> None:
    assert told(check, on=series(*rows)) == texts


def test_a_large_unsigned_counter_falls_and_does_not_wrap() -> None:
    assert len(told({"ordered": "step"}, on=series((0, "a", 7), (1, "a", 3), dtype=pl.UInt64))) == 1
    assert told({"ordered": "step"}, on=series((0, "a", 3), (1, "a", 7), dtype=pl.UInt64)) == []


def test_a_counter_is_followed_over_what_is_empty_and_to_its_last_digit() -> None:
    for empty in (None, float("nan")):
        assert len(told({"ordered": "step"}, on=series((0, "a", 7.0), (1, "a", empty), (2, "a", 3.0)))) == 1
    assert len(told({"ordered": "x"}, on=column(N, pl.Series([2**53 + 1, 2**53])))) == 1


def test_without_a_time_a_counter_is_followed_in_the_order_of_the_rows() -> None:
    assert told({"ordered": "x"}, on=column(N, [1.0, 3.0, 2.0])) == ["`x` goes back once, first from 3 to 2 in row 3"]


# Age


def aged(age_s: float, **options: Any) -> list[str]:
    """What is said of a newest row so many seconds old, where 100 are allowed."""
    return told({"fresh": 100}, on=series((-9000, "a", 1), (200 - age_s, "a", 1), (None, "a", 1)), **options)


def test_a_newest_row_that_is_too_old_is_told() -> None:
    assert aged(100) == []
    assert aged(100.5) == [
        "`time`: the newest row is of 2026-01-31 12:01:39.5 UTC, 100 s before now; at most 100 s are allowed"
    ]
    found = judged({"fresh": 100}, on=series((-9800, "a", 1)))
    assert found.values == {("fresh", "time"): 10_000}
    assert found.findings[0].value == 10_000


@pytest.mark.parametrize("part", [{}, {"whole": False}, {"span": span(0, 10)}])
def test_a_row_in_the_future_is_told_of_any_part(part: dict[str, Any]) -> None:
    assert aged(-60) == []
    assert aged(-61, **part) == [
        "`time`: the newest row, of 2026-01-31 12:04:21 UTC, lies 61 s after now (compare the clocks of the source "
        "and of this machine)"
    ]


def test_a_clock_that_was_set_back_makes_all_rows_come_from_the_future() -> None:
    [text] = told({"fresh": 100}, on=frame(), now=at(-86_400))
    assert "lies 86580 s after now" in text


@pytest.mark.parametrize(
    ("age_s", "start_s", "end_s", "found"),
    [
        (150, -1000, 200, 1),  # all of the last 100 s was asked for, and nothing was there
        (150, -1000, 9999, 1),  # an end in the future is now
        (150, 150, 9999, 0),  # less than what may be old was asked for, however far the end is
        (150, 150, 200, 0),  # less than what may be old was asked for
        (150, -1000, 120, 0),  # a row of the last 80 s would not have been seen, and 70 s before the end is well
        (250, -1000, 120, 1),  # the age was passed when the span ended, a moment ago
        (5000, -9000, -5000, 0),  # a panel that shows yesterday says nothing of today
    ],
)
def test_the_age_is_told_only_where_newer_rows_would_have_been_seen(
    age_s: float, start_s: float, end_s: float, found: int
) -> None:
    on = series((200 - age_s, "a", 1))
    assert len(told({"fresh": 100}, on=on, span=span(start_s, end_s))) == found


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        ({}, ["`time`: no row has a time, so nothing says how old they are"]),
        ({"span": span(-1000, 200)}, ["`time`: no row has a time, so nothing says how old they are"]),
        ({"span": span(150, 200)}, []),
        ({"span": span(-9000, -5000)}, []),
        ({"whole": False}, []),
    ],
)
def test_an_empty_answer_is_not_fresh_unless_it_is_of_a_part(options: dict[str, Any], texts: list[str]) -> None:
    assert told({"fresh": 100}, on=series(), **options) == texts
    assert told({"fresh": 100}, on=series((None, "a", 1)), **options) == texts


def test_a_filtered_answer_says_nothing_of_the_age() -> None:
    found = judged({"fresh": 100}, on=series((-9000, "a", 1)), whole=False)
    assert (found.findings, found.skipped) == ((), (("fresh", "time"),))


def test_a_span_that_ended_does_not_take_a_finding_back() -> None:
    """What was well then need not be so now."""
    found = judged({"fresh": 100}, on=series((110, "a", 1)), span=Span(at(0), at(120)))
    assert found.skipped == (("fresh", "time"),)


def test_another_column_may_tell_the_age() -> None:
    schema = Schema((*SERIES, Column("loaded", T)))
    on = Frame(series((0, "a", 1)).data.with_columns(loaded=pl.lit(NOW - timedelta(seconds=5))), schema, "lab.x")
    assert judged({"fresh": {"max_age_s": 10, "column": "loaded"}}, on=on).values == {("fresh", "loaded"): 5}


# What does not fit

NO_TIME = Schema((Column("x", N), Column("y", S)))
MISFITS = {
    "no time for gaps": ({"gaps": 1}, ("gaps",), "`gaps` needs a column of role time, and the dataset has none"),
    "no time for fresh": ({"fresh": 1}, ("fresh", "column"), "`fresh` without `column` needs a column of role time"),
    "no time for ordered": (
        {"ordered": {}},
        ("ordered", "column"),
        "`ordered` without `column` needs a column of role",
    ),
    "no time for unique": ({"unique": {}}, ("unique",), "`unique` without `columns` needs a column of role time"),
    "an order of texts": (
        {"ordered": "y"},
        ("ordered", "column"),
        "`y` is a text, `ordered` is for a number or a time",
    ),
    "the age of a number": (
        {"fresh": {"max_age_s": 1, "column": "x"}},
        ("fresh", "column"),
        "`x` is a number, `fresh` is for a time",
    ),
    "a key that is not there": ({"unique": ["x", "z"]}, ("unique", "columns", 1), "there is no column `z`"),
    "series that are not there": ({"ordered": {"column": "x", "by": ["z"]}}, ("ordered", "by", 0), "no column `z`"),
}


@pytest.mark.parametrize(("check", "loc", "text"), MISFITS.values(), ids=MISFITS)
def test_a_check_of_rows_that_does_not_fit_is_told_with_its_place(
    check: dict[str, Any], loc: tuple[str | int, ...], text: str
) -> None:
    with pytest.raises(CheckError) as caught:
        bound(check, schema=NO_TIME)
    assert caught.value.loc == (0, *loc)
    assert text in str(caught.value)


def test_a_million_rows_of_as_many_series_are_judged() -> None:
    rows = 1_000_000
    numbers = pl.int_range(rows, eager=True)
    data = pl.DataFrame(
        {
            "time": (numbers * 1_000_000).cast(pl.Datetime("us", "UTC")),
            "model": numbers.cast(pl.String),
            "accuracy": numbers / rows,
        }
    )
    on = Frame(data, Schema(RUNS[:3]), "lab.runs")
    checks = ({"gaps": 1}, {"unique": {}}, {"ordered": "accuracy"}, {"complete": {}}, {"rows": {"max": rows}})
    assert told(*checks, on=on) == []
    assert judged({"gaps": {"max_gap_s": 1, "by": []}}, on=on).values == {("gaps", "time"): 1}
