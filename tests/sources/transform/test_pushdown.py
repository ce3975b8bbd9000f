"""What is left out at the source because of a question never changes its answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.model.frame import Frame
from bridge.model.query import Agg, Query
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.model.span import EARLIEST, LATEST, Span
from bridge.sources.base import Limits
from bridge.sources.present import bind as bind_query
from bridge.sources.present import in_time_order, select_rows
from bridge.sources.transform.bound import StepError
from bridge.sources.transform.options import Step
from bridge.sources.transform.pipeline import Pipeline, bind
from support import frame_of, span, where

MINE = (
    Column("time", ColumnType.TIME, role=Role.TIME),
    Column("model", ColumnType.STRING, role=Role.DIMENSION),
    Column("run", ColumnType.STRING),
    Column("x", ColumnType.NUMBER, unit="ms", role=Role.MEASURE),
    Column("n", ColumnType.NUMBER, role=Role.MEASURE),
)
THEIRS = (
    Column("time", ColumnType.TIME, role=Role.TIME),
    Column("run", ColumnType.STRING),
    Column("model", ColumnType.STRING, role=Role.DIMENSION),
    Column("loss", ColumnType.NUMBER, role=Role.MEASURE),
)
KNOWN = {"o.theirs": Schema(THEIRS)}
NUMBERS = st.none() | st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0, 7.0])
MODELS, NAMES = st.sampled_from(["svm", "mlp", None]), st.sampled_from(["r1", "r2", "r3", None])
TIMES = st.integers(0, 20)
MINE_ROWS = st.lists(st.tuples(TIMES, MODELS, NAMES, NUMBERS, NUMBERS), max_size=12)
THEIR_ROWS = st.lists(st.tuples(TIMES, NAMES, MODELS, NUMBERS), max_size=8)
STEPS: list[dict[str, Any]] = [
    {"rename": {"model": "family"}},
    {"rename": {"x": "n", "n": "x"}},
    {"rename": {"time": "at"}},
    {"keep": ["time", "model", "x", "n"]},
    {"drop": ["run"]},
    {"cast": {"n": "string"}},
    {"convert": {"x": "s"}},
    {"derive": {"y": "x + n", "model": "upper(model)"}},
    {"derive": {"z": "coalesce(x, 0) * 2"}},
    {"filter": "x >= 0.5 or n is null"},
    {"aggregate": {"by": ["model"], "values": {"x": "mean(x)", "n": "count()"}}},
    {"aggregate": {"by": ["model"], "every_s": 5, "values": {"x": "last(x)", "n": "sum(n)"}}},
    {"resample": {"every_s": 4}},
    {"resample": {"every_s": 4, "by": ["model"], "fill": "previous"}},
    {"union": ["o.theirs"]},
    {"union": {"with": ["o.theirs"], "tag": "origin"}},
    {"join": {"with": "o.theirs", "on": ["run"], "columns": ["loss"]}},
    {"join": {"with": "o.theirs", "on": ["run"], "columns": ["loss"], "how": "inner"}},
    {"join": {"with": "o.theirs", "on": ["run"], "columns": ["loss"], "how": "full"}},
    {"join": {"with": "o.theirs", "on": ["model"], "how": "nearest", "within_s": 3, "columns": ["loss"]}},
    {"format": {"x": {"decimals": 0}}},
    {"drop": ["time"]},
    {"cast": {"time": "string"}},
    {"derive": {"time": "time + 3"}},
    {"limit": {"rows": 3, "by": "x"}},
    {"limit": 2},
]
FILTERS = st.sampled_from(
    [
        *("model=svm", "model!=svm", "model=~s.*", "model=SVM", "model!=", "family=svm", "family!=mlp", "run=r1"),
        *("run!=r2", "x>=0.5", "x=", "n<2", "loss>0", "origin=o.theirs", "z>1"),
    ]
)
SPANS = st.none() | st.tuples(st.integers(0, 19), st.integers(1, 8)).map(
    lambda pair: span(pair[0], pair[0] + pair[1])
)


def bound(chosen: list[dict[str, Any]]) -> Pipeline:
    """The steps that fit, in their order."""
    steps: list[Step] = []
    for item in chosen:
        try:
            bind((*steps, Step.model_validate(item)), Schema(MINE), KNOWN)
        except StepError:
            continue
        steps.append(Step.model_validate(item))
    return bind(tuple(steps), Schema(MINE), KNOWN)


def narrowed(frame: Frame, query: Query) -> Frame:
    """What a source gives that leaves out all it may leave out."""
    kept = select_rows(frame, replace(query, adhoc=()))
    return kept.select(query.columns) if query.columns else kept


def answer(pipeline: Pipeline, mine: Frame, others: dict[tuple[int, str], Frame], query: Query) -> list[Any]:
    """The rows of the published columns that the query asks for, in a fixed order."""
    made = select_rows(in_time_order(pipeline.run(mine, others, Limits())), query)
    names = query.columns or made.schema.names
    rows = made.data.select([pl.col(name) for name in names]).rows()
    return sorted(rows, key=repr)


@given(
    st.lists(st.sampled_from(STEPS), max_size=4),
    MINE_ROWS,
    THEIR_ROWS,
    SPANS,
    st.lists(FILTERS, max_size=2),
    st.data(),
)
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_narrowed_fetch_gives_the_same_answer_as_a_whole_one(
    chosen: list[dict[str, Any]],
    mine: list[Any],
    theirs: list[Any],
    over: Span | None,
    filters: list[str],
    data: st.DataObject,
) -> None:
    pipeline = bound(chosen)
    names = pipeline.schema.names
    wanted = tuple(data.draw(st.lists(st.sampled_from(names), unique=True, max_size=3))) if names else ()
    # Rows of one instant have no order of their own: which of them is last is not promised.
    mine = [(index, *row[1:]) for index, row in zip(sorted({row[0] for row in mine}), mine, strict=False)]
    theirs = [(index, *row[1:]) for index, row in zip(sorted({row[0] for row in theirs}), theirs, strict=False)]
    known = [item for item in filters if where(item)[0].column in names]
    types = {column.name: column.type for column in pipeline.schema.columns}
    fits = [f for f in where(*known) if not (types[f.column] is ColumnType.STRING and f.op in ("<", ">=", ">"))]
    query = Query("m.mine", span=over, filters=tuple(fits), columns=wanted, max_points=5, agg=Agg.MEAN)
    query, _ = bind_query(query, pipeline.schema)
    frame, other = frame_of(mine, MINE), frame_of(theirs, THEIRS)
    asked = pipeline.asked(query)
    assert (asked.own.max_points, asked.own.agg, asked.own.series) == (None, None, None)
    whole = dict.fromkeys(asked.others, other)
    less = {key: narrowed(other, question) for key, question in asked.others.items()}
    assert answer(pipeline, narrowed(frame, asked.own), less, query) == answer(pipeline, frame, whole, query)


def pushed(*steps: dict[str, Any], columns: tuple[str, ...] = (), over: Span | None = None) -> Query:
    """What is asked of the source for `model=svm` and `x>1`."""
    query = Query("m.mine", span=over or span(7, 13), filters=where("model=svm", "x>1"), columns=columns)
    return bound(list(steps)).asked(query).own


def test_steps_on_rows_leave_the_question_as_it_is() -> None:
    for step in ({"drop": ["run"]}, {"derive": {"y": "x + 1"}}, {"filter": "n > 0"}, {"format": {"x": "s"}}):
        assert pushed(step) == pushed()


def test_a_renamed_column_is_asked_for_by_its_old_name() -> None:
    own = bound([{"rename": {"model": "family"}}]).asked(
        Query("m.mine", filters=where("family=svm"), columns=("family",))
    )
    assert (own.own.filters, own.own.columns) == (where("model=svm"), ("time", "model"))


def test_a_computed_column_is_asked_for_by_what_it_is_made_of() -> None:
    assert set(pushed({"derive": {"y": "x + n"}}, columns=("y",)).columns) == {"time", "model", "x", "n"}
    assert pushed({"convert": {"x": "s"}}).filters == where("model=svm")


def test_groups_are_filtered_at_the_source_and_their_values_are_not() -> None:
    own = pushed({"aggregate": {"by": ["model"], "values": {"x": "max(x)"}}})
    assert (own.filters, own.span) == (where("model=svm"), None)


def test_buckets_of_time_are_asked_for_whole() -> None:
    assert pushed({"resample": {"every_s": 5}}).span == span(5, 15)
    assert pushed({"aggregate": {"by": ["model"], "every_s": 10, "values": {"x": "max(x)"}}}).span == span(0, 20)
    # What is filled in depends on the rows before.
    assert pushed({"resample": {"every_s": 5, "fill": "previous"}}).span is None


def test_a_span_is_asked_for_only_where_the_time_is_still_the_same() -> None:
    """Where it is shifted, made of another column or gone, other rows are inside."""
    for step in ({"derive": {"time": "time + 3600"}}, {"cast": {"time": "string"}}, {"drop": ["time"]}):
        assert pushed(step).span is None
        assert pushed({"rename": {"time": "at"}}, {"rename": {"at": "time"}}, step, {"drop": ["run"]}).span is None
    assert pushed({"rename": {"time": "at"}}).span == span(7, 13)
    bare = (Column("model", ColumnType.STRING, role=Role.DIMENSION), Column("x", ColumnType.NUMBER))
    asked = Query("m.mine", span=span(7, 13))
    for step, kept in (({"cast": {"model": "time"}}, None), ({"drop": ["model"]}, asked.span)):
        assert bind((Step.model_validate(step),), Schema(bare), KNOWN).asked(asked).own.span == kept


def test_what_may_be_near_ends_with_the_calendar() -> None:
    given = {"with": "o.theirs", "on": [], "how": "nearest", "prefix": "o_", "within_s": 86_400.0}
    always = Span(EARLIEST, LATEST)
    near = bound([{"join": given}]).asked(Query("m.mine", span=always))
    assert near.others == {(0, "o.theirs"): Query("o.theirs", span=always)}


def test_the_first_of_all_rows_are_chosen_from_all_rows() -> None:
    own = pushed({"limit": 3})
    assert (own.filters, own.span) == ((), None)


def test_a_join_asks_the_other_for_everything_and_a_nearest_one_for_what_may_be_near() -> None:
    query = Query("m.mine", span=span(10, 20), filters=where("model=svm"))
    left = bound([{"join": {"with": "o.theirs", "on": ["run"], "columns": ["loss"]}}]).asked(query)
    assert left.own == replace(query, columns=())
    assert left.others == {(0, "o.theirs"): Query("o.theirs")}
    given = {"with": "o.theirs", "on": ["model"], "how": "nearest", "columns": ["loss"]}
    near = bound([{"join": given | {"within_s": 5}}]).asked(query)
    assert near.others == {(0, "o.theirs"): Query("o.theirs", span=span(5, 25))}
    assert bound([{"join": given}]).asked(query).others == {(0, "o.theirs"): Query("o.theirs")}


def test_a_union_asks_both_sides_the_same() -> None:
    asked = bound([{"union": ["o.theirs"]}]).asked(
        Query("m.mine", span=span(1, 2), filters=where("model=svm", "x>1"))
    )
    assert asked.own.filters == where("model=svm", "x>1")
    assert asked.others == {(0, "o.theirs"): Query("o.theirs", span=span(1, 2), filters=where("model=svm"))}
