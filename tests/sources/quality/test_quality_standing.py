"""Order, holes and repetition are those a plain loop finds, however the rows stand and whatever is empty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import isnan
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quality_rig import judged

from bridge.model.frame import Frame
from bridge.model.schema import Column, ColumnType, Role, Schema

COLUMNS = (
    Column("time", ColumnType.TIME, role=Role.TIME),
    Column("model", ColumnType.STRING, role=Role.DIMENSION),
    Column("step", ColumnType.NUMBER, role=Role.MEASURE),
)
Row = tuple[int | None, str | None, float | None]
CHECKS: dict[str, dict[str, Any]] = {
    "gaps": {"gaps": 3},
    "gaps_of_all": {"gaps": {"max_gap_s": 3, "by": []}},
    "unique": {"unique": {}},
    "unique_time": {"unique": "time"},
    "unique_pair": {"unique": ["step", "time"]},
    "ordered": {"ordered": {}},
    "strictly": {"ordered": {"strictly": True}},
    "ordered_of_all": {"ordered": {"by": []}},
    "step": {"ordered": "step"},
    "step_strictly": {"ordered": {"column": "step", "strictly": True}},
    "step_of_all": {"ordered": {"column": "step", "by": []}},
}
STANDINGS: dict[str, Callable[[Sequence[Row]], Sequence[Row]]] = {
    "as it comes": list,
    "by time": lambda rows: sorted(rows, key=_time),
    "newest first": lambda rows: sorted(rows, key=_time, reverse=True),
    "series by series": lambda rows: sorted(rows, key=lambda row: (row[1] or "", _time(row))),
    "series by series, newest first": lambda rows: sorted(rows, key=lambda row: (row[1] or "", -_time(row))),
}


def _time(row: Row) -> int:
    return -1 if row[0] is None else row[0]


def on(rows: Sequence[Row], unit_us: int = 1_000_000) -> Frame:
    """Rows of time (in `unit_us`), model and step."""
    times = [None if time is None else time * unit_us for time, _, _ in rows]
    data = pl.DataFrame(
        {
            "time": pl.Series(times, dtype=pl.Int64).cast(pl.Datetime("us", "UTC")),
            "model": pl.Series([model for _, model, _ in rows], dtype=pl.String),
            "step": pl.Series([step for *_, step in rows], dtype=pl.Float64),
        }
    )
    return Frame(data, Schema(COLUMNS), "lab.steps")


def found(rows: Sequence[Row], unit_us: int = 1_000_000) -> dict[str, float]:
    """What all checks measure of the rows at once, as they share what they find out."""
    given_names = [{**check, "name": name} for name, check in CHECKS.items()]
    return {name: value for (name, _), value in judged(*given_names, on=on(rows, unit_us)).values.items()}


def reckoned(rows: Sequence[Row]) -> dict[str, float]:
    """The same by plain loops, in units of the time."""
    lines = [[row for row in rows if row[1] == model] for model in dict.fromkeys(row[1] for row in rows)]
    timed = [sorted((row for row in line if row[0] is not None), key=_time) for line in lines]
    all_timed = sorted((row for row in rows if row[0] is not None), key=_time)
    return {
        "gaps": _longest(timed),
        "gaps_of_all": _longest([all_timed]),
        "unique": _repeated([row[:2] for row in rows]),
        "unique_time": _repeated([row[:1] for row in rows]),
        "unique_pair": _repeated(
            [("nan" if row[2] is not None and isnan(row[2]) else row[2], row[0]) for row in rows]
        ),
        "ordered": _back(lines, 0),
        "strictly": _back(lines, 0, strictly=True),
        "ordered_of_all": _back([rows], 0),
        "step": _back(timed, 2),
        "step_strictly": _back(timed, 2, strictly=True),
        "step_of_all": _back([all_timed], 2),
    }


def _longest(lines: Sequence[Sequence[Row]]) -> float:
    return max((_time(two) - _time(one) for line in lines for one, two in pairwise(line)), default=0)


def _repeated(keys: list[tuple[Any, ...]]) -> int:
    there = [key for key in keys if any(value is not None for value in key)]
    return len(there) - len(set(there))


def _back(lines: Sequence[Sequence[Row]], index: int, *, strictly: bool = False) -> int:
    count = 0
    for line in lines:
        cells: list[Any] = [row[index] for row in line]
        values = [value for value in cells if value is not None and not isnan(value)]
        count += sum(two < one or (strictly and two == one) for one, two in pairwise(values))
    return count


ROWS = st.lists(
    st.tuples(
        st.integers(0, 12) | st.integers(0, 12) | st.none(),
        st.sampled_from(["a", "b", None]),
        st.sampled_from([0.0, -0.0, 1.0, 2.0, 3.0, None, float("nan"), float("inf")]),
    ),
    max_size=14,
)
FULL_ROWS = st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["a", "b"]), st.integers(0, 9)), max_size=14)


@pytest.mark.parametrize("standing", STANDINGS.values(), ids=STANDINGS)
@given(ROWS | FULL_ROWS)
@settings(max_examples=120, deadline=None)
def test_however_rows_stand_the_checks_say_what_a_loop_says(
    standing: Callable[[Sequence[Row]], Sequence[Row]], rows: Sequence[Row]
) -> None:
    stood = standing(rows)
    assert found(stood) == reckoned(stood)


EDGES: dict[str, list[Row]] = {
    "nothing": [],
    "one row": [(5, "a", 1)],
    "one row without a time": [(None, "a", 1)],
    "only empty times": [(None, "a", 2), (None, "a", 1), (None, None, None)],
    "only empty steps": [(0, "a", None), (1, "a", float("nan"))],
    "ties in time": [(0, "a", 1), (0, "b", 2), (0, "a", 0), (1, "b", 2)],
    "ties in time, newest first": [(9, "a", 1), (9, "a", 2), (9, "b", 0), (0, "a", 3), (0, "b", 7)],
    "ties whose steps rise only as they stand": [(1, "a", 1), (1, "a", 2), (0, "a", 0)],
    "newest first": [(9, "a", 9), (8, "b", 8), (4, "a", 7), (1, "b", 6)],
    "in order in each series alone": [(0, "a", 5), (7, "a", 6), (1, "b", 1), (5, "b", 2)],
    "out of order in one series": [(0, "a", 5), (7, "a", 6), (5, "b", 1), (1, "b", 2)],
    "an empty time between others": [(0, "a", 1), (None, "a", 0), (9, "a", 2), (None, "b", 2), (10, "b", 1)],
    "an empty time where another row would repeat": [(0, "a", 1), (None, "a", 1), (0, "a", 1)],
    "an empty step between others": [(0, "a", 3), (1, "a", None), (2, "b", 1), (3, "a", 2)],
    "the first of a series left out": [(0, "a", 3), (0, "b", None), (1, "b", 1), (2, "b", 0)],
    "all of a series left out": [(0, "a", 3), (None, "b", 2), (None, "b", 1), (1, "c", 2)],
    "a time before 1970": [(-9, "a", 1), (-20, "a", 2), (3, "b", 0), (-1, "b", 5)],
}


@pytest.mark.parametrize("rows", EDGES.values(), ids=EDGES)
def test_rows_at_the_edge_of_a_short_way_are_judged_as_by_a_loop(rows: list[Row]) -> None:
    assert found(rows) == reckoned([row if row[0] is None else (row[0] + 100, *row[1:]) for row in rows])


@pytest.mark.parametrize("standing", STANDINGS.values(), ids=STANDINGS)
def test_more_series_than_16_bits_tell_apart_stay_apart(
    standing: Callable[[Sequence[Row]], Sequence[Row]],
) -> None:
    """Of 1,500 numbers of 16 bits some are the same; a series that got another's rows would have no holes."""
    rows = [(number * 7919 % 6000, f"m{number % 1500}", float(number)) for number in range(6000)]
    stood = standing(rows)
    assert found(stood) == reckoned(stood)


@pytest.mark.parametrize("unit_us", [1, 2**16, 2**30, 2**45, 2**56])
def test_times_are_put_in_order_to_their_last_digit(unit_us: int) -> None:
    rows: list[Row] = [(number * 37 % 101, "ab"[number % 2], float(number)) for number in range(101)]
    of_units = {
        name: value * 1e6 / unit_us if name[:4] == "gaps" else value for name, value in found(rows, unit_us).items()
    }
    assert of_units == pytest.approx(reckoned(rows))
