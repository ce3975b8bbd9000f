"""Long series are drawn from what was worked out of them once, and nothing of their shape is lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from bridge.model.frame import TIME_DTYPE
from bridge.model.outline import MIN_ROWS, Outline, outline
from bridge.model.span import Span

START = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = MIN_ROWS + 37


def times(rows: int = ROWS) -> pl.Series:
    """One row a second."""
    return pl.Series("time", 1_767_225_600_000_000 + 1_000_000 * np.arange(rows)).cast(TIME_DTYPE)


def wave(rows: int = ROWS) -> pl.Series:
    """A wave, which has its extremes in many places."""
    number = np.arange(rows)
    return pl.Series("value", np.sin(number / 900) + np.cos(number / 7))


def known(values: pl.Series) -> Outline:
    """The outline of a series that has one."""
    found = outline(times(len(values)), values)
    assert found is not None
    return found


@pytest.mark.parametrize("low", [0, 1, 63, 64, 65, 5_000])
@pytest.mark.parametrize("cut", [0, 1, 63, 64, 65, 5_000])
@pytest.mark.parametrize("spike", [0, 1, 30, 64, 50_000, ROWS - 70, ROWS - 2, ROWS - 1])
def test_first_last_smallest_and_largest_value_of_any_range_are_drawn(low: int, cut: int, spike: int) -> None:
    """Also where the range begins or ends inside a block, and where the spike stands beside its ends."""
    values = wave().to_numpy().copy()
    values[spike], values[ROWS - 1 - spike] = 50.0, -50.0
    high = ROWS - cut
    rows = known(pl.Series("value", values)).shape(low, high, 200)
    assert rows is not None
    part = values[low:high]
    assert len(rows) <= 200
    assert (np.diff(rows) > 0).all()
    assert {low, high - 1} <= set(rows.tolist())
    assert values[rows].max() == part.max()
    assert values[rows].min() == part.min()


def test_too_few_rows_to_choose_from_are_left_to_those_who_look_at_all() -> None:
    """A short range, or a wide panel."""
    found = known(wave())
    assert found.shape(0, 2_000, 200) is None
    assert found.shape(0, ROWS, 2_000) is None
    assert found.shape(0, ROWS, 4) is None


@pytest.mark.parametrize(
    ("when", "values"),
    [
        pytest.param(times(1_000), wave(1_000), id="short"),
        pytest.param(times(), wave().scatter(7, None), id="gap"),
        pytest.param(times(), wave().scatter(7, float("nan")), id="NaN"),
        pytest.param(times(), wave().scatter(7, float("inf")), id="infinity"),
        pytest.param(times(), wave().scatter(7, 1e200), id="too large for areas"),
        pytest.param(times().scatter(8, times()[7]), wave(), id="two rows of one instant"),
    ],
)
def test_series_that_need_a_look_at_every_row_have_no_outline(when: pl.Series, values: pl.Series) -> None:
    """Gaps must be drawn, repeats be said, and infinities not hide the rest."""
    assert outline(when, values) is None


def test_a_span_is_a_range_of_rows() -> None:
    """Half open, and no further than the rows there are."""
    found = known(wave())
    span = Span(START + timedelta(seconds=10), START + timedelta(seconds=20))
    assert found.rows_in(span) == (10, 20)
    assert found.rows_in(None) == (0, ROWS)
    assert found.rows_in(Span(START - timedelta(days=9), START + timedelta(days=99))) == (0, ROWS)
