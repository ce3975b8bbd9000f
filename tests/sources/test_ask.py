"""Several datasets at once, under one deadline; one that fails never fails its neighbours."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from bridge.errors import (
    AnswerTooLarge,
    BadQuery,
    BridgeError,
    NeedsAuth,
    PluginFailed,
    UnknownDataset,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Param, Role, Schema, Shape
from bridge.sources.ask import MAX_DISTINCT, TOGETHER, Answer, Desk
from bridge.sources.base import DataSource
from bridge.sources.keeper import Kit
from bridge.sources.registry import Plugin, SourceConfig
from bridge.sources.work import THREAD_CELLS, run
from support import (
    COLUMNS,
    ROWS,
    Rig,
    StubSource,
    dataset,
    frame_of,
    make_desk,
    settle,
    span,
    texts,
    where,
)

DOWN = UpstreamUnavailable("GET http://far: cannot connect")
Q = Query("lab.runs")


def two(**limits: Any) -> Rig:
    """Two sources with one dataset each."""
    names = ("good", "bad")
    return make_desk(sources=[SourceConfig(name, "stub", {}, (dataset(),)) for name in names], **limits)


def with_source(cls: type[DataSource], *datasets: Any, **limits: Any) -> Rig:
    return make_desk(*datasets, plugins={"stub": Plugin("stub", "tests", cls)}, **limits)


@pytest.fixture
async def stubborn() -> AsyncIterator[Callable[..., Any]]:
    """Work that swallows its cancellation until the test is over."""
    end = asyncio.Event()

    async def work(*_: Any) -> Any:
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue

    yield work
    end.set()
    await settle()


async def test_answers_come_in_the_order_of_the_questions_with_their_ref_ids() -> None:
    rig = make_desk(dataset("runs"), dataset("curves"))
    asked = [Query("lab.curves", "B"), Query("lab.runs", "A"), Query("curves", "C")]
    answers = await rig.desk.ask(asked)
    assert [answer.query for answer in answers] == asked
    assert [{frame.ref_id for frame in answer.frames} for answer in answers] == [{"B"}, {"A"}, {"C"}]
    assert [answer.frames[0].name for answer in answers] == ["lab.curves", "lab.runs", "lab.curves"]


async def test_no_questions_have_no_answers() -> None:
    assert await make_desk().desk.ask([]) == []


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (DOWN, UpstreamUnavailable),
        (NeedsAuth("401"), NeedsAuth),
        (BadQuery("no"), BadQuery),
        (KeyError("bug"), PluginFailed),
        (RecursionError("bug"), PluginFailed),
        (MemoryError(), PluginFailed),
        (ExceptionGroup("several", [ValueError("a")]), PluginFailed),
        (TimeoutError("its own"), PluginFailed),
        (asyncio.Event(), UpstreamTimeout),
        (asyncio.CancelledError, UpstreamUnavailable),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
async def test_one_that_fails_in_any_way_never_fails_its_neighbours(step: Any, error: type[BridgeError]) -> None:
    rig = two(deadline_s=0.2)

    async def cancelled(_: Query) -> Frame:
        raise asyncio.CancelledError

    rig.source("bad").always = cancelled if step is asyncio.CancelledError else step
    async with asyncio.timeout(30):
        bad, good, unknown = await rig.desk.ask([Query("bad.runs"), Query("good.runs"), Query("nope")])
    assert type(bad.error) is error
    assert bad.frames == ()
    assert good.error is None
    assert sum(frame.rows for frame in good.frames) == len(ROWS)
    assert type(unknown.error) is UnknownDataset


async def test_a_frame_that_breaks_the_work_on_it_fails_alone_and_its_error_stays_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Lying(StubSource):
        """Its checks pass everything, so what it gives breaks later."""

        def validators(self, table: str) -> tuple[Any, ...]:
            return ()

    rig = with_source(Lying, dataset("runs"), dataset("curves"))
    wrong = frame_of([(0, "x", "a")], (COLUMNS[0], replace(COLUMNS[1], type=ColumnType.STRING), COLUMNS[2]))

    async def answer(query: Query) -> Frame:
        return Frame(wrong.data, Schema(COLUMNS)) if query.table == "runs" else frame_of()

    rig.source().always = answer
    bad, good = await rig.desk.ask([replace(Q, filters=where("value>1")), Query("lab.curves")])
    assert good.error is None
    assert bad.error is not None
    assert (bad.error.code, bad.error.status) == ("internal", 500)
    assert bad.error.message == "`lab.runs` could not be answered: something went wrong inside bridge"
    assert "Traceback" in caplog.text


async def test_all_questions_share_one_deadline_and_what_is_there_is_given() -> None:
    rig = two(deadline_s=0.3)
    rig.source("bad").always = asyncio.Event()
    began_s = time.monotonic()
    bad, good = await rig.desk.ask([Query("bad.runs"), Query("good.runs")])
    assert time.monotonic() - began_s < 30
    assert isinstance(bad.error, UpstreamTimeout)
    assert good.error is None


async def test_the_deadline_counts_from_the_question_and_not_from_when_its_turn_comes() -> None:
    rig = make_desk(deadline_s=0.05)
    loop = asyncio.get_running_loop()
    seen: list[float | None] = []

    async def watched(_: Query) -> Frame:
        seen.append(loop.time())
        return frame_of()

    rig.source().always = watched

    def late() -> Any:
        # The second question is made when the time of all is already over.
        yield Q
        time.sleep(0.06)
        yield replace(Q, dataset="lab.runs", ref_id="B")

    answers = await rig.desk.ask(late())
    assert [type(answer.error) for answer in answers] == [UpstreamTimeout, UpstreamTimeout]


async def test_a_plugin_that_swallows_its_cancellation_is_left_behind(stubborn: Any) -> None:
    rig = two(deadline_s=0.1)
    rig.source("bad").always = stubborn
    async with asyncio.timeout(30):
        bad, good = await rig.desk.ask([Query("bad.runs"), Query("good.runs")])
        assert isinstance(bad.error, UpstreamTimeout)
        assert good.error is None
        for ask in (rig.desk.frames, rig.desk.rows):
            with pytest.raises(UpstreamTimeout):
                await ask(Query("bad.runs"))


@pytest.fixture
async def busy_threads() -> AsyncIterator[None]:
    """Every thread the loop may use is taken until the test is over."""
    executor, end = ThreadPoolExecutor(1), threading.Event()
    asyncio.get_running_loop().set_default_executor(executor)
    executor.submit(end.wait)
    yield
    end.set()


@pytest.mark.parametrize("method", ["frames", "rows", "values", "schema", "ask"])
@pytest.mark.usefixtures("busy_threads")
async def test_every_way_to_ask_has_the_deadline_also_for_the_work_on_the_answer(method: str) -> None:
    rig = make_desk(dataset(columns=()), deadline_s=0.05)
    rig.source().data = frame_of([(n, float(n), "a") for n in range(THREAD_CELLS // 2)])

    async def ask() -> None:
        (answer,) = await rig.desk.ask([Q])
        assert answer.error is not None
        raise answer.error

    calls: dict[str, Callable[[], Any]] = {
        "frames": lambda: rig.desk.frames(Q),
        "rows": lambda: rig.desk.rows(Q),
        "values": lambda: rig.desk.values(Q, "model"),
        "schema": lambda: rig.desk.schema("lab.runs"),
        "ask": ask,
    }
    async with asyncio.timeout(30):
        with pytest.raises(UpstreamTimeout, match=r"`lab.runs` did not answer within 0.05 s"):
            await calls[method]()


async def test_a_client_that_goes_cancels_what_it_asked() -> None:
    rig = two()
    for name in ("good", "bad"):
        rig.source(name).always = asyncio.Event()
    task = asyncio.create_task(rig.desk.ask([Query("bad.runs"), Query("good.runs")]))
    for name in ("good", "bad"):
        await rig.source(name).started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for name in ("good", "bad"):
        await asyncio.wait_for(rig.source(name).cancelled.wait(), 30)


# What a question becomes


async def test_a_dashboard_filter_the_dataset_does_not_know_is_told_and_the_others_count() -> None:
    rig = make_desk()
    query = replace(Q, adhoc=where("host=a", "model=svm"))
    frames = await rig.desk.frames(query)
    assert [frame.rows for frame in frames] == [2]
    assert texts(frames[0]) == ["info: the dashboard filter `host=a` is not applied: lab.runs has no such column"]
    rows = await rig.desk.rows(query)
    assert rows.data["value"].to_list() == [1.0, 3.0]
    assert texts(rows) == texts(frames[0])


async def test_rows_carry_their_ref_id_and_stay_one_table() -> None:
    frame = await make_desk().desk.rows(replace(Q, ref_id="Z", span=span(1, 3)))
    assert (frame.ref_id, frame.name, frame.data["value"].to_list()) == ("Z", "lab.runs", [2.0, 3.0])


async def test_where_no_columns_are_declared_the_first_answer_tells_them() -> None:
    rig = make_desk(dataset(columns=()))
    rig.source().pushes = frozenset({"filters", "columns"})
    with pytest.raises(BadQuery, match="`columns` names `nope`"):
        await rig.desk.frames(replace(Q, columns=("nope",)))
    first = rig.source().asked[0]
    assert (first.columns, first.filters) == ((), ())
    rig = make_desk(dataset(columns=()))
    frames = await rig.desk.frames(replace(Q, filters=where("model=tree"), adhoc=where("host=a")))
    assert [frame.rows for frame in frames] == [1]
    assert "host=a" in texts(frames[0])[0]


async def test_the_schema_of_a_dataset_is_the_declared_one_or_read_from_the_data_once() -> None:
    rig = make_desk(dataset("runs"), dataset("curves", columns=()))
    assert await rig.desk.schema("runs") == Schema(COLUMNS)
    assert rig.source().asked == []
    assert await rig.desk.schema("curves") == Schema(COLUMNS)
    assert await rig.desk.schema("lab.curves") == Schema(COLUMNS)
    assert len(rig.source().asked) == 1
    with pytest.raises(UnknownDataset):
        await rig.desk.schema("nope")


async def test_the_schema_is_that_of_the_data_even_where_the_answer_is_not_kept() -> None:
    rig = make_desk(dataset(columns=()))
    go = asyncio.Event()
    rig.source().script = [go]
    asking = asyncio.create_task(rig.desk.schema("runs"))
    await rig.source().started.wait()
    await rig.desk.invalidate("*")
    go.set()
    assert await asking == Schema(COLUMNS)


PARAMS = (Param("run", required=True), Param("fold", default="1"), Param("seed"))


async def test_a_parameter_that_must_be_given_is_named_when_it_is_missing() -> None:
    rig = make_desk(dataset(columns=(), params=PARAMS))
    calls: list[Callable[[], Any]] = [
        lambda: rig.desk.frames(Q),
        lambda: rig.desk.rows(replace(Q, params=(("run", ()),))),
        lambda: rig.desk.values(Q, "model"),
        lambda: rig.desk.schema("runs"),
    ]
    for call in calls:
        with pytest.raises(BadQuery, match=r"lab.runs needs the parameter `run`") as caught:
            await call()
        assert "give `run`" in caught.value.remedy
    assert rig.source().asked == []


async def test_parameters_that_are_not_given_have_their_defaults_wherever_the_question_comes_from() -> None:
    rig = make_desk(dataset(columns=(), params=PARAMS[1:]))
    await rig.desk.schema("runs")
    await rig.desk.frames(Q)
    await rig.desk.values(replace(Q, params=(("fold", ()),)), "model")
    assert [query.params for query in rig.source().asked] == [(("fold", ("1",)),)]
    await rig.desk.rows(replace(Q, params=(("fold", ("2",)), ("seed", ("7",)))))
    assert rig.source().asked[-1].params == (("fold", ("2",)), ("seed", ("7",)))


@pytest.mark.parametrize(
    ("own", "panel", "given"),
    [
        (Shape.AUTO, Shape.AUTO, Shape.TIMESERIES),
        (Shape.AUTO, Shape.TABLE, Shape.TABLE),
        (Shape.AUTO, Shape.ANNOTATIONS, Shape.ANNOTATIONS),
        (Shape.TABLE, Shape.TIMESERIES, Shape.TABLE),
        (Shape.LOGS, Shape.TIMESERIES, Shape.LOGS),
        (Shape.LOGS, Shape.ANNOTATIONS, Shape.ANNOTATIONS),
    ],
)
async def test_the_panel_decides_the_shape_unless_the_settings_do(own: Shape, panel: Shape, given: Shape) -> None:
    columns = (*COLUMNS[:2], Column("message", ColumnType.STRING))
    rig = make_desk(dataset(shape=own, columns=columns))
    rig.source().data = frame_of([(0, 1.0, "a")], columns)
    frames = await rig.desk.frames(replace(Q, shape=panel))
    assert {frame.shape for frame in frames} == {given}


async def test_limits_on_rows_and_series_are_told_with_a_remedy() -> None:
    rig = make_desk(dataset(retries=0), max_rows=3, max_series=1)
    with pytest.raises(AnswerTooLarge, match="2 series, 1 are allowed") as caught:
        await rig.desk.frames(Q)
    assert caught.value.remedy
    rig.source().data = frame_of([*ROWS, (3, 4.0, "svm")])
    rig.clock.advance(60)
    with pytest.raises(AnswerTooLarge, match="more than 3 rows") as caught:
        await rig.desk.rows(Q)
    assert caught.value.remedy


# Values for pickers


async def test_values_are_narrowed_by_span_and_other_filters_but_not_by_their_own() -> None:
    rig = make_desk()
    assert await rig.desk.values(Q, "model") == ["svm", "tree"]
    assert await rig.desk.values(replace(Q, span=span(0, 1)), "model") == ["svm"]
    assert await rig.desk.values(replace(Q, filters=where("value>1"), adhoc=where("value<3")), "model") == ["tree"]
    own = replace(Q, filters=where("model=tree"), adhoc=where("model=tree"))
    assert await rig.desk.values(own, "model") == ["svm", "tree"]


@pytest.mark.parametrize("columns", [COLUMNS, ()], ids=["declared", "inferred"])
async def test_values_of_a_column_that_is_none_say_which_there_are(columns: tuple[Column, ...]) -> None:
    rig = make_desk(dataset(columns=columns))
    with pytest.raises(BadQuery, match=r"`column` names `host`, which lab.runs does not have") as caught:
        await rig.desk.values(Q, "host")
    assert caught.value.remedy == "its columns are time, value, model"


class Listing(StubSource):
    """Lists the values of its columns itself."""

    listed: Any = ()

    async def tag_values(self, query: Query, key: str) -> Any:
        self.asked.append(query)
        if isinstance(self.listed, Exception):
            raise self.listed
        if callable(self.listed):
            return await self.listed()
        return self.listed


async def test_a_source_s_own_list_of_values_is_taken_as_texts_and_bounded() -> None:
    rig = with_source(Listing, dataset(params=PARAMS[1:]))
    rig.source().listed = tuple(range(MAX_DISTINCT + 5))
    found = await rig.desk.values(replace(Q, filters=where("model=a", "value>1")), "model")
    assert found[:2] == ["0", "1"]
    assert len(found) == MAX_DISTINCT
    (asked,) = rig.source().asked
    assert (asked.filters, asked.params) == (where("value>1"), (("fold", ("1",)),))


async def test_a_source_that_lists_nothing_leaves_it_to_the_data() -> None:
    rig = with_source(Listing)
    rig.source().listed = None
    assert await rig.desk.values(Q, "model") == ["svm", "tree"]


@pytest.mark.parametrize(
    ("listed", "error"),
    [(DOWN, UpstreamUnavailable), (KeyError("x"), PluginFailed), (7, PluginFailed)],
    ids=["down", "bug", "no list"],
)
async def test_a_list_of_values_that_cannot_be_had_is_told(listed: Any, error: type[BridgeError]) -> None:
    rig = with_source(Listing)
    rig.source().listed = listed
    with pytest.raises(error):
        await rig.desk.values(Q, "model")
    assert rig.keeper().status().state == "unknown"


async def test_a_list_of_values_that_never_comes_ends_with_the_deadline(stubborn: Any) -> None:
    rig = with_source(Listing, deadline_s=0.05)
    rig.source().listed = stubborn
    async with asyncio.timeout(30):
        with pytest.raises(UpstreamTimeout):
            await rig.desk.values(Q, "model")


# Invalidation


async def test_a_pattern_forgets_the_datasets_it_matches_and_says_how_many_answers_went() -> None:
    configs = [SourceConfig(name, "stub", {}, (dataset("a"), dataset("b"))) for name in ("one", "two")]
    rig = make_desk(sources=configs)
    names = list(rig.desk.keepers)
    await rig.desk.ask([Query(name) for name in names])
    assert await rig.desk.invalidate("one.*") == 2
    assert await rig.desk.invalidate("one.*") == 0
    assert await rig.desk.invalidate("*.b") == 1
    assert await rig.desk.invalidate("two") == 0
    with pytest.raises(BadQuery, match="a pattern has at most"):
        await rig.desk.invalidate("x" * 1_000)
    kept = {name: keeper.status().rows for name, keeper in rig.desk.keepers.items()}
    assert kept == {"one.a": None, "one.b": None, "two.a": len(ROWS), "two.b": None}
    asked = len(rig.source("two").asked)
    await rig.desk.ask([Query("two.a"), Query("two.b")])
    assert [query.table for query in rig.source("two").asked[asked:]] == ["b"]


# Sources that do not run


async def test_a_source_that_does_not_start_after_the_desk_was_built_is_offered_no_more() -> None:
    class Broken(StubSource):
        async def open(self) -> None:
            raise OSError("no such device")

    configs = [SourceConfig("good", "stub", {}, (dataset(),)), SourceConfig("bad", "broken", {}, (dataset(),))]
    rig = make_desk(sources=configs, plugins={"broken": Plugin("broken", "tests", Broken)})
    assert list(rig.desk.keepers) == ["good.runs", "bad.runs"]
    await rig.registry.open()
    assert list(rig.desk.keepers) == ["good.runs"]
    assert [(status.dataset, status.state) for status in rig.desk.statuses()] == [
        ("good.runs", "unknown"),
        ("bad.runs", "failed"),
    ]
    good, bad = await rig.desk.ask([Query("good.runs"), Query("bad.runs")])
    assert good.error is None
    assert isinstance(bad.error, PluginFailed)
    for call in (rig.desk.entry, rig.desk.keeper):
        with pytest.raises(PluginFailed, match="OSError: no such device"):
            call("bad.runs")


async def test_statuses_tell_every_dataset_once_with_its_error() -> None:
    configs = [
        SourceConfig("good", "stub", {}, (dataset("a"), dataset("b"))),
        SourceConfig("bad", "gone", {}, (dataset("a"),)),
    ]
    rig = make_desk(sources=configs, plugins={"gone": Plugin("gone", "some-package", error="ImportError: no luck")})
    await rig.desk.frames(Query("good.a"))
    found = {status.dataset: (status.state, status.error) for status in rig.desk.statuses()}
    assert found == {
        "good.a": ("ok", None),
        "good.b": ("unknown", None),
        "bad.a": ("failed", "plug-in `gone` of some-package: ImportError: no luck"),
    }


# Where the work is done


async def test_few_cells_are_worked_on_at_once_and_many_on_a_thread() -> None:
    here = threading.get_ident()
    assert await run(THREAD_CELLS, threading.get_ident) == here
    assert await run(THREAD_CELLS + 1, threading.get_ident) != here


async def test_an_answer_without_rows_still_has_its_columns() -> None:
    rig = make_desk()
    rig.source().data = frame_of([])
    (frame,) = await rig.desk.frames(replace(Q, adhoc=where("host=a")))
    assert (frame.rows, frame.schema.names) == (0, ("time", "value"))
    assert len(frame.meta.notices) == 1


def test_an_answer_is_empty_until_it_is_filled() -> None:
    answer = Answer(Q)
    assert (answer.frames, answer.error) == ((), None)


async def test_a_stale_mark_reaches_every_series_and_its_notice_the_first() -> None:
    rig = make_desk()
    await rig.desk.frames(Q)
    rig.clock.advance(10)
    rig.source().always = DOWN
    first, second = await rig.desk.frames(Q)
    assert [frame.meta.custom["stale"] for frame in (first, second)] == [True, True]
    assert (len(first.meta.notices), len(second.meta.notices)) == (1, 0)
    rows = await rig.desk.rows(Q)
    assert rows.meta.custom["stale"] is True
    assert "last good answer" in texts(rows)[0]


async def test_a_source_may_name_the_columns_to_filter_by_itself() -> None:
    rig = make_desk(plugins={"stub": Plugin("stub", "tests", NamesItsTags)})
    assert [column.name for column in await rig.desk.tag_keys(Q)] == ["model"]
    rig.source().tags = None
    assert {column.role for column in await rig.desk.tag_keys(Q)} == {Role.DIMENSION, Role.MEASURE}


async def test_tag_keys_of_a_plugin_that_fails_are_an_error_of_bridges() -> None:
    rig = make_desk(plugins={"stub": Plugin("stub", "tests", NamesItsTags)})
    rig.source().tags = RuntimeError("no")
    with pytest.raises(PluginFailed, match="RuntimeError"):
        await rig.desk.tag_keys(Q)


class NamesItsTags(StubSource):
    """Lists its filter columns itself."""

    tags: Any = ("model", "nope")

    async def tag_keys(self, query: Query) -> tuple[str, ...] | None:
        if isinstance(self.tags, Exception):
            raise self.tags
        return self.tags


async def test_what_another_desk_invalidated_does_not_come_back() -> None:
    """The cache outlives a reload: the old house's fetch must not put old data in after the new house forgot it."""
    old = make_desk()
    new = Desk(old.registry, Kit(old.cache, old.clock, old.meters, old.limits, jitter=lambda: 0.0))
    go = asyncio.Event()
    old.source().script = [go]
    asking = asyncio.create_task(old.desk.frames(Q))
    await old.source().started.wait()
    await new.invalidate("lab.*")
    go.set()
    await asking
    assert old.cache.stats.entries == 0


async def test_what_is_asked_of_all_datasets_waits_for_none_beyond_the_deadline() -> None:
    """Those that answer are used, and the work of the others ends."""
    rig = make_desk(deadline_s=0.05)
    ended = asyncio.Event()

    async def quick() -> int:
        return 1

    async def hangs() -> int:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return 2

    assert await rig.desk.together([quick, hangs, quick], 0) == [1, 0, 1]
    await ended.wait()
    assert await rig.desk.together([], 0) == []


async def test_only_some_datasets_are_asked_at_once() -> None:
    rig = make_desk()
    running = most = 0

    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    await rig.desk.together([work] * 200, None)
    assert most == TOGETHER


async def test_patterns_are_compiled_beside_the_loop() -> None:
    """One that takes long to compile holds up the one who sent it, not the service."""
    rig = make_desk()
    seen: list[str] = []
    turns = 0

    async def others() -> None:
        nonlocal turns
        while not seen:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    pattern = r"model=~(?:\w{1,20}\pL{1,10}){1,3}" + "x" * 10
    await rig.desk.rows(replace(Q, filters=where(pattern)))
    seen.append("done")
    await task
    # The loop went on turning while the pattern was compiled, which takes far longer than a turn.
    assert turns > 50
