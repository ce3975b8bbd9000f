"""Steps at work: a dataset publishes what its steps make, and keeps its promises while others fail."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest

from bridge.errors import (
    AnswerTooLarge,
    BadQuery,
    BreakerOpen,
    DataMissing,
    NeedsAuth,
    SchemaMismatch,
    UnknownDataset,
    UpstreamUnavailable,
)
from bridge.model.filters import Filter, Op
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Param, Role
from bridge.sources.registry import DatasetConfig, SourceConfig
from bridge.sources.transform.options import Step
from support import COLUMNS, ROWS, Rig, dataset, frame_of, make_desk, settle, span, texts, where

DOWN = UpstreamUnavailable("GET http://far: cannot connect")
OWNERS = (Column("model", ColumnType.STRING, role=Role.DIMENSION), Column("owner", ColumnType.STRING))
OWNED = frame_of((("svm", "ann"), ("tree", "bob")), OWNERS)


def steps(*given: dict[str, Any]) -> tuple[Step, ...]:
    """Steps as the settings have them."""
    return tuple(Step.model_validate(item) for item in given)


def stepped(*given: dict[str, Any], **options: Any) -> DatasetConfig:
    """The dataset `runs` with these steps."""
    return dataset(steps=steps(*given), **options)


JOIN = {"join": {"with": "other.owners", "on": ["model"], "columns": ["owner"]}}


def joined(*more: dict[str, Any], columns: Any = COLUMNS, theirs: Any = OWNERS, **options: Any) -> Rig:
    """Runs joined with the owners of their models, which another source has."""
    rig = make_desk(
        sources=[
            SourceConfig("lab", "stub", {}, (stepped(JOIN, *more, columns=columns, **options),)),
            SourceConfig("other", "stub", {}, (dataset("owners", columns=theirs, refresh_s=5),)),
        ]
    )
    rig.source("other").data = OWNED
    return rig


async def rows(rig: Rig, query: Query | None = None) -> list[tuple[Any, ...]]:
    """The dataset's rows without their times."""
    frame = await rig.desk.rows(query or Query("lab.runs"))
    return frame.data.drop("time", strict=False).rows()


async def test_what_is_published_is_what_the_steps_make() -> None:
    rig = make_desk(
        stepped({"rename": {"model": "family"}}, {"derive": {"double": "value * 2"}}, {"drop": ["value"]})
    )
    assert (await rig.desk.schema("lab.runs")).names == ("time", "family", "double")
    assert await rows(rig) == [("svm", 2.0), ("tree", 4.0), ("svm", 6.0)]
    assert [c.name for c in await rig.desk.tag_keys(Query("lab.runs"))] == ["family", "double"]
    assert await rig.desk.values(Query("lab.runs"), "family") == ["svm", "tree"]


async def test_filters_and_columns_speak_of_what_is_published() -> None:
    rig = make_desk(stepped({"rename": {"model": "family"}}, {"derive": {"double": "value * 2"}}))
    rig.source().pushes = frozenset({"filters", "columns", "span"})
    query = Query("lab.runs", filters=where("family=svm", "double>2"), columns=("double",), span=span(0, 60))
    assert await rows(rig, query) == [(6.0,)]
    asked = rig.source().asked[0]
    assert asked.filters == (Filter("model", Op.EQ, ("svm",)),)
    assert set(asked.columns) == {"time", "value", "model"}
    with pytest.raises(BadQuery, match="there is no column `model` to filter by"):
        await rows(rig, Query("lab.runs", filters=where("model=svm")))


async def test_a_panel_that_shows_some_columns_does_not_narrow_what_is_published() -> None:
    rig = make_desk(stepped({"derive": {"double": "value * 2"}}, columns=()))
    rig.source().pushes = frozenset({"columns"})
    await rows(rig)
    await rows(rig, Query("lab.runs", columns=("double",)))
    assert (await rig.desk.schema("lab.runs")).names == ("time", "value", "model", "double")


async def test_steps_of_undeclared_columns_are_bound_to_the_first_answer() -> None:
    rig = make_desk(stepped({"derive": {"double": "value * 2"}}, columns=()))
    assert rig.keeper().schema is None
    assert await rows(rig, Query("lab.runs", columns=("double",), filters=where("model=tree"))) == [(4.0,)]
    schema = rig.keeper().schema
    assert schema is not None
    assert schema.names == ("time", "value", "model", "double")


async def test_a_step_that_does_not_fit_undeclared_columns_stops_the_dataset_at_start() -> None:
    rig = make_desk(stepped({"derive": {"double": "valeu * 2"}}, columns=()), dataset("fine"))
    await rig.desk.prove()
    status = rig.keeper().status()
    assert (status.state, status.error) == (
        "down",
        "`lab.runs`: steps[0].derive.double: at character 1: there is no column `valeu` (did you mean `value`?; "
        "the columns are `time`, `value`, `model`)",
    )
    assert rig.keeper("lab.fine").status().state == "unknown"
    assert rig.keeper().schema is None


async def test_only_what_could_not_be_judged_before_is_asked_at_start() -> None:
    rig = make_desk(stepped({"drop": ["value"]}))
    await rig.desk.prove()
    assert rig.source().asked == []


async def test_columns_that_change_under_the_steps_keep_the_last_good_answer() -> None:
    rig = make_desk(stepped({"derive": {"double": "value * 2"}}, columns=()))
    await rows(rig)
    rig.clock.advance(10)
    rig.source().data = frame_of(((0, "svm"),), (COLUMNS[0], COLUMNS[2]))
    frame = await rig.desk.rows(Query("lab.runs"))
    assert frame.data["double"].to_list() == [2.0, 4.0, 6.0]
    assert "steps[0].derive.double: at character 1: there is no column `value`" in texts(frame)[0]
    rig.clock.advance(10)
    assert "there is no column `value`" in texts(await rig.desk.rows(Query("lab.runs")))[0]
    rig.source().data = frame_of()
    rig.clock.advance(100)
    assert texts(await rig.desk.rows(Query("lab.runs"))) == []


async def test_a_frame_that_lacks_a_declared_column_is_held_back_before_the_steps() -> None:
    rig = make_desk(stepped({"drop": ["value"]}))
    rig.source().data = frame_of(((0, "svm"),), (COLUMNS[0], COLUMNS[2]))
    with pytest.raises(SchemaMismatch, match=r"`lab\.runs` is held back: column `value` is missing from the data"):
        await rows(rig)


async def test_rows_of_another_source_are_joined_and_each_is_asked_once() -> None:
    rig = joined()
    assert await rows(rig) == [(1.0, "svm", "ann"), (2.0, "tree", "bob"), (3.0, "svm", "ann")]
    await rows(rig)
    assert (len(rig.source().asked), len(rig.source("other").asked)) == (1, 1)


async def test_a_joined_dataset_of_undeclared_columns_answers_too() -> None:
    rig = joined(columns=(), theirs=())
    assert await rows(rig, Query("lab.runs", filters=where("owner=ann"))) == [
        (1.0, "svm", "ann"),
        (3.0, "svm", "ann"),
    ]
    assert (await rig.desk.schema("lab.runs")).names == ("time", "value", "model", "owner")


async def test_new_rows_of_the_other_dataset_come_through_though_the_own_ones_are_unchanged() -> None:
    rig = joined(refresh_s=5)
    rig.source().token = "same"
    await rows(rig)
    rig.clock.advance(6)
    rig.source("other").data = frame_of((("svm", "eve"),), OWNERS)
    assert await rows(rig) == [(1.0, "svm", "eve"), (2.0, "tree", None), (3.0, "svm", "eve")]


async def test_an_other_dataset_that_is_down_leaves_the_last_good_answer_and_says_so() -> None:
    rig = joined(refresh_s=5)
    await rows(rig)
    rig.clock.advance(6)
    rig.source("other").always = DOWN
    frame = await rig.desk.rows(Query("lab.runs"))
    # It has a last good answer of its own, so the join goes on with it, marked.
    assert frame.data["owner"].to_list() == ["ann", "bob", "ann"]
    assert texts(frame)[0].startswith("warning: other.owners: GET http://far: cannot connect. Shown is the last good")
    assert rig.keeper().status().state == "ok"
    (parent,) = frame.meta.custom["lineage"]["parents"]
    assert (parent["dataset"], parent["stale"]) == ("other.owners", True)


async def test_an_other_dataset_that_never_answered_is_named_in_the_error() -> None:
    rig = joined()
    rig.source("other").always = NeedsAuth("GET http://far: HTTP 401")
    with pytest.raises(NeedsAuth, match="HTTP 401"):
        await rows(rig)
    assert rig.keeper().status().state == "needs_auth"


async def test_a_union_over_other_spans_is_another_question() -> None:
    union = {"union": ["other.runs"]}
    rig = make_desk(
        sources=[
            SourceConfig("lab", "stub", {}, (stepped(union, refresh_s=100),)),
            SourceConfig("other", "stub", {}, (dataset(refresh_s=100),)),
        ]
    )
    # The own source gives everything to any question, the other one only what is asked of it.
    rig.source("other").pushes = frozenset({"span"})

    async def over(query: Query) -> Frame:
        return frame_of(
            ROWS if query.span is None or query.span.start < span(50, 60).start else ((200, 9.0, "late"),)
        )

    rig.source("other").always = over
    assert len(await rows(rig, Query("lab.runs", span=span(0, 100)))) == 6
    assert await rows(rig, Query("lab.runs", span=span(200, 300))) == [(9.0, "late")]


async def test_the_other_dataset_is_asked_with_the_defaults_of_its_parameters() -> None:
    given = dataset("owners", columns=OWNERS, params=(Param("site", default="east"),))
    rig = make_desk(
        sources=[SourceConfig("lab", "stub", {}, (stepped(JOIN),)), SourceConfig("other", "stub", {}, (given,))]
    )
    rig.source("other").data = OWNED
    await rows(rig)
    assert rig.source("other").asked[0].param("site") == ("east",)


async def test_an_other_dataset_whose_source_does_not_run_is_told() -> None:
    rig = joined()
    keepers = dict(rig.desk.keepers)
    rig.registry.datasets = {"lab.runs": rig.registry.datasets["lab.runs"]}
    assert keepers.keys() == {"lab.runs", "other.owners"}
    with pytest.raises(UnknownDataset):
        await rows(rig)


async def test_steps_that_outgrow_the_limits_are_refused_and_the_process_is_well() -> None:
    rig = make_desk(stepped({"resample": {"every_s": 0.001, "fill": "zero"}}), dataset("fine"))
    rig.source().data = frame_of(((0, 1.0, "a"), (10_000_000, 1.0, "a")))
    with pytest.raises(AnswerTooLarge, match="the filled table would have"):
        await rows(rig)
    rig.source().data = frame_of()
    assert len(await rows(rig, Query("lab.fine"))) == 3


async def test_what_only_a_bounded_table_may_hold_is_refused_after_the_steps_as_well() -> None:
    rig = make_desk(stepped({"union": ["lab.fine"]}), dataset("fine"), max_rows=5)
    with pytest.raises(AnswerTooLarge, match="the union would have 6 rows"):
        await rows(rig)


async def test_answers_outlive_a_reload_unless_the_steps_or_a_parents_settings_changed() -> None:
    def tag(*given: dict[str, Any], theirs: DatasetConfig) -> str:
        lab = SourceConfig("lab", "stub", {}, (stepped(*given),))
        return make_desk(sources=[lab, SourceConfig("other", "stub", {}, (theirs,))]).keeper().tag

    owners = dataset("owners", columns=OWNERS)
    same = tag(JOIN, theirs=owners)
    assert tag(JOIN, theirs=owners) == same
    assert tag(JOIN, {"limit": 5}, theirs=owners) != same
    assert tag(JOIN, theirs=replace(owners, options={"rows": 3})) != same


async def test_a_fetch_of_the_other_dataset_ends_with_the_question() -> None:
    rig = joined()
    rig.source("other").always = asyncio.Event()
    task = asyncio.create_task(rig.desk.rows(Query("lab.runs")))
    await rig.source("other").started.wait()
    task.cancel()
    await settle()
    assert rig.source("other").cancelled.is_set()


async def test_a_data_error_of_an_other_dataset_is_no_crash() -> None:
    rig = joined()
    rig.source("other").script = [DataMissing("no file")]
    with pytest.raises(DataMissing):
        await rows(rig)
    assert len(await rows(rig)) == 3


async def test_own_rows_and_those_of_others_are_fetched_at_the_same_time() -> None:
    """One deadline is enough for all of them: what waits for the slowest need not wait again."""
    rig = joined()
    rig.source("other").always = waiting = asyncio.Event()
    task = asyncio.create_task(rows(rig))
    await rig.source("other").started.wait()
    await settle()
    assert len(rig.source().asked) == 1
    waiting.set()
    assert await task == [(1.0, "svm", "ann"), (2.0, "tree", "bob"), (3.0, "svm", "ann")]


async def test_a_dead_parent_does_not_make_its_readers_leave_their_own_source_alone() -> None:
    rig = joined()
    rig.source("other").always = DOWN
    for _ in range(8):
        with pytest.raises((UpstreamUnavailable, BreakerOpen), match=r"^other\.owners: "):
            await rows(rig)
    assert (rig.keeper("other.owners").status().breaker, rig.keeper().status().breaker) == ("open", "closed")
    rig.source("other").always = None
    rig.clock.advance(31)
    assert len(await rows(rig)) == 3


async def test_the_rows_of_a_source_that_waits_are_given_up_when_a_parent_fails() -> None:
    rig = joined()
    rig.source().always = asyncio.Event()
    rig.source("other").always = DOWN
    with pytest.raises(UpstreamUnavailable):
        await rows(rig)
    await settle()
    assert rig.source().cancelled.is_set()


async def test_a_fresh_answer_is_fresh_in_all_its_parts_and_a_poll_in_its_own_only() -> None:
    rig = joined(refresh_s=60)
    await rows(rig)
    rig.clock.advance(2)
    await rig.desk.fetched(Query("lab.runs", fresh=True), alone=True)
    assert (len(rig.source().asked), len(rig.source("other").asked)) == (2, 1)
    rig.clock.advance(2)
    await rows(rig, Query("lab.runs", fresh=True))
    assert (len(rig.source().asked), len(rig.source("other").asked)) == (3, 2)


async def test_what_reads_a_dataset_forgets_with_it() -> None:
    """Also what reads it through others; what does not stays."""
    last = dataset("last", steps=steps({"union": ["lab.runs"]}), refresh_s=60)
    lab = SourceConfig("lab", "stub", {}, (stepped(JOIN, refresh_s=60), last, dataset("fine", refresh_s=60)))
    rig = make_desk(sources=[lab, SourceConfig("other", "stub", {}, (dataset("owners", columns=OWNERS),))])
    rig.source("other").data = OWNED
    for name in ("lab.last", "lab.fine"):
        await rows(rig, Query(name))
    rig.source("other").data = frame_of((("svm", "eve"),), OWNERS)
    assert await rig.desk.invalidate("other.*") == 3
    assert {row[-1] for row in await rows(rig, Query("lab.last"))} == {"eve", None}
    asked = len(rig.source().asked)
    await rows(rig, Query("lab.fine"))
    assert len(rig.source().asked) == asked


async def test_a_closed_range_is_kept_longer_only_where_the_other_rows_are_closed_too() -> None:
    rig = joined(refresh_s=5)
    rig.source().pushes = frozenset({"span"})
    rig.clock.advance(1_000)
    await rows(rig, Query("lab.runs", span=span(0, 60)))
    rig.clock.advance(6)
    rig.source("other").data = frame_of((("svm", "eve"),), OWNERS)
    assert (await rows(rig, Query("lab.runs", span=span(0, 60))))[0] == (1.0, "svm", "eve")


async def test_a_parent_whose_columns_change_leaves_the_last_good_answer() -> None:
    rig = joined(theirs=(), refresh_s=5)
    await rows(rig)
    rig.clock.advance(6)
    rig.source("other").data = frame_of((("svm", "ann"),), (OWNERS[0], replace(OWNERS[1], name="holder")))
    for _ in range(2):
        frame = await rig.desk.rows(Query("lab.runs"))
        assert frame.data["owner"].to_list() == ["ann", "bob", "ann"]
        assert "`lab.runs`: steps[0].join.columns[0]: there is no column `owner`" in texts(frame)[0]
        rig.clock.advance(6)
    rig.source("other").data = OWNED
    await rows(rig, Query("other.owners"))
    assert texts(await rig.desk.rows(Query("lab.runs"))) == []


async def test_a_step_that_refuses_the_data_is_told_with_its_place() -> None:
    rig = make_desk(stepped({"drop": ["model"]}, {"resample": {"every_s": 0.001, "fill": "zero"}}))
    rig.source().data = frame_of(((0, 1.0, "a"), (10_000_000, 1.0, "a")))
    with pytest.raises(AnswerTooLarge, match=r"^`lab\.runs`: steps\[1\]: the filled table would have"):
        await rows(rig)


async def test_steps_never_hold_up_the_loop() -> None:
    """A pattern takes long to compile however few the rows are."""
    rig = make_desk(stepped({"filter": "model =~ 's.*'"}))
    before = set(threading.enumerate())
    await rows(rig)
    assert set(threading.enumerate()) - before
