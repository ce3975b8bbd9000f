from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bridge.model.filters import Filter, Op
from bridge.model.query import Agg, Query
from bridge.model.schema import Shape
from bridge.model.span import Span

T0 = datetime(2026, 1, 31, 12, tzinfo=UTC)
SPAN = Span(T0, T0 + timedelta(hours=1))
QUERY = Query(
    "digits.runs",
    span=SPAN,
    step_ms=1000,
    filters=(Filter("model", Op.EQ, ("svm",)), Filter("score", Op.GT, ("0.5",))),
    columns=("time", "score"),
    params=(("seed", ("1", "2")), ("tag", ("x",))),
)


def test_a_dataset_name_is_source_dot_table_and_a_system_dataset_has_no_source() -> None:
    assert (QUERY.source, QUERY.table) == ("digits", "runs")
    assert (Query("_status").source, Query("_status").table) == ("", "_status")


def test_a_parameter_that_was_not_given_has_no_values() -> None:
    assert QUERY.param("seed") == ("1", "2")
    assert QUERY.param("nosuch") == ()


def test_the_whole_dataset_keeps_only_name_and_parameters() -> None:
    assert QUERY.whole() == Query("digits.runs", params=QUERY.params)


def test_a_question_can_be_put_to_another_dataset() -> None:
    assert QUERY.named("a.b") == replace(QUERY, dataset="a.b")


@pytest.mark.parametrize(
    "change",
    [
        {"ref_id": "B"},
        {"shape": Shape.TABLE},
        {"fresh": True},
        {"filters": QUERY.filters[::-1]},
        {"params": QUERY.params[::-1]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_questions_with_one_answer_share_a_key(change: dict[str, object]) -> None:
    assert replace(QUERY, **change).key == QUERY.key  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"dataset": "digits.curves"},
        {"span": None},
        {"span": Span(T0, T0 + timedelta(hours=2))},
        {"span": Span(T0 + timedelta(microseconds=1), SPAN.end)},
        {"step_ms": None},
        # A source that thins out by itself gives another answer for each.
        {"max_points": 10},
        {"series": ("model",)},
        {"agg": Agg.MEAN},
        {"filters": ()},
        {"filters": (QUERY.filters[0],)},
        {"columns": ()},
        {"columns": ("score", "time")},
        {"params": ()},
        {"params": (("seed", ("2", "1")), ("tag", ("x",)))},
    ],
    ids=str,
)
def test_questions_with_different_answers_never_share_a_key(change: dict[str, object]) -> None:
    assert replace(QUERY, **change).key != QUERY.key  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Filter("a", Op.EQ, ("x,y",)), Filter("a", Op.EQ, ("x", "y"))),
        (Filter("a", Op.EQ, ("~x",)), Filter("a", Op.RE, ("x",))),
        (Filter("a", Op.LT, ("=1",)), Filter("a", Op.LE, ("1",))),
    ],
)
def test_filters_that_read_alike_but_differ_never_share_a_key(one: Filter, other: Filter) -> None:
    assert str(one) == str(other)
    assert Query("a.b", filters=(one,)).key != Query("a.b", filters=(other,)).key
