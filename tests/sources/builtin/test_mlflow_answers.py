"""The `mlflow` source against answers that MLflow gives rarely, in another version, or never."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from bridge.edge.cache import Cache
from bridge.edge.meters import Meters
from bridge.errors import (
    AnswerTooLarge,
    NeedsAuth,
    Retry,
    SchemaMismatch,
    SourceError,
    UpstreamInvalid,
    UpstreamRefused,
    UpstreamTooLarge,
)
from bridge.model.filters import Filter, Op
from bridge.model.query import Query
from bridge.model.span import Span
from bridge.sources.ask import Desk
from bridge.sources.base import Limits
from bridge.sources.builtin.mlflow import MlflowSource, api
from bridge.sources.builtin.mlflow.answers import Page
from bridge.sources.keeper import Kit
from bridge.sources.registry import DatasetConfig, Freshness, Plugin, SourceConfig, build
from servers.far import Seen, js, text
from servers.mlflow_rig import API, BULK, asked, experiment, fake, mlflow, points, run
from servers.rest_rig import HandClock, tools
from support import settle

Q = Query("lab.data")
RUNS = {"kind": "runs"}
MIB = 1024 * 1024
T0_MS = 1767225600000
T0 = datetime.fromtimestamp(T0_MS / 1000, UTC)
LOGIN = text("<html><title>Sign in</title></html>", "text/html")


# ---------------------------------------------------------------- answers that are none of MLflow's


@pytest.mark.parametrize("place", ["experiments", "runs"])
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (LOGIN, "an HTML page (title “Sign in”)"),
        (text("OK", "application/json"), "unreadable JSON"),
        (text("", "application/json"), "holds nothing where MLflow sends an object"),
        (text("null"), "holds nothing where MLflow sends an object"),
        (js([]), "holds a list where MLflow sends an object"),
        (js({"message": "x"}), "has no `{place}`"),
        (js({"experiments": 1, "runs": 1}), "holds a int at `{place}`"),
        (js({"experiments": [1], "runs": [1]}), "holds something else than objects at `{place}`"),
        (js({"experiments": [{}], "runs": [{}]}), "holds a"),
        (js({"experiments": [], "runs": [], "next_page_token": 1}), "holds a int at `next_page_token`"),
        (text("[" * 100_000), "nested too deep"),
    ],
)
async def test_an_answer_of_another_shape_is_said_with_its_place_and_what_helps(
    place: str, answer: web.Response, says: str
) -> None:
    async with fake(**{place: answer}) as there, mlflow(there.url, RUNS) as source:
        with pytest.raises(UpstreamInvalid) as error:
            await source.collect(Q)
    assert says.format(place=place) in error.value.message
    assert error.value.message.startswith(f"`lab.data`: POST {API}/{place}/search")
    assert "`url`" in error.value.remedy


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ({"data": {}}, "a run without `info`"),
        ({"info": [], "data": {}}, "a run without `info`"),
        ({"info": {"run_id": "a"}, "data": 1}, "a run without `info`"),
        ({"info": {"run_name": "a"}}, "a run without an id"),
        ({"info": {"run_id": "a"}, "data": {"metrics": {"a": 1}}}, "metrics, params or tags that are no list"),
    ],
)
async def test_a_run_of_another_shape_is_said(item: dict[str, Any], says: str) -> None:
    async with fake(runs={"runs": [item]}) as there, mlflow(there.url, RUNS) as source:
        with pytest.raises(UpstreamInvalid, match=says):
            await source.collect(Q)


@pytest.mark.parametrize("kind", ["experiments", "runs", "metrics", "params"])
@pytest.mark.parametrize("empty", [(), None, [None]])
@pytest.mark.parametrize("place", ["experiments", "runs"])
async def test_a_server_without_anything_gives_a_table_without_rows(kind: str, place: str, empty: Any) -> None:
    nothing = {} if empty == () else {place: empty}
    async with fake(**{"experiments": {}, place: nothing}) as there, mlflow(there.url, {"kind": kind}) as source:
        frame = await source.collect(Q)
        assert frame.rows == 0
        assert source.schema("data") == frame.schema
        assert not source.validate(frame).blocked


@pytest.mark.parametrize(("kind", "place"), [("experiments", "experiments"), ("runs", "runs")])
async def test_a_page_of_more_than_was_asked_for_is_no_page_of_mlflows(kind: str, place: str) -> None:
    """A million of them would keep everybody else waiting."""
    many = {"experiments": [experiment(str(n)) for n in range(1_001)], "runs": [run(str(n)) for n in range(1_001)]}
    async with fake(**{place: js({place: many[place]})}) as there, mlflow(there.url, {"kind": kind}) as source:
        with pytest.raises(UpstreamInvalid, match=f"holds 1001 {place}, and 1000 were asked for"):
            await source.collect(Q)


async def test_a_run_that_lacks_everything_but_its_id_is_a_row() -> None:
    bare = {"runs": [{"info": {"run_uuid": "a"}, "data": None}, {"info": {"run_id": "b"}}]}
    async with fake(runs=bare) as there, mlflow(there.url, RUNS) as source:
        frame = await source.collect(Q)
    assert frame.data["run_id"].to_list() == ["a", "b"]
    assert frame.data.drop("run_id").null_count().row(0) == (2,) * (frame.data.width - 1)


async def test_no_experiment_left_to_ask_for_is_no_question_about_all_of_them() -> None:
    query = replace(Q, filters=(Filter("experiment", Op.EQ, ("other",)),))
    async with fake(runs={"runs": [run("a")]}) as there, mlflow(there.url, {"kind": "params"}) as source:
        assert (await source.collect(source.narrow(query))).rows == 0
    assert asked(there, "runs/search") == []


# ---------------------------------------------------------------- statuses


@pytest.mark.parametrize("place", ["experiments", "runs", "bulk", "history"])
async def test_too_many_requests_are_waited_for_as_long_as_the_server_says(place: str) -> None:
    answer = text("slow down", "text/plain", 429, Retry_After="7")
    runs = {"runs": [run(ident, metrics={"loss": 1.0}) for ident in ("ab" if place == "bulk" else "a")]}
    given = {"runs": runs, place: answer}
    async with fake(**given) as there, mlflow(there.url, {"kind": "metrics"}) as source:
        with pytest.raises(UpstreamRefused) as error:
            await source.collect(Q)
    assert (error.value.far_status, error.value.retry_after_s) == (429, 7.0)
    assert error.value.retry is Retry.LATER


@pytest.mark.parametrize("place", ["experiments", "runs", "bulk", "history"])
async def test_a_failing_server_is_one_error_and_never_half_an_answer(place: str) -> None:
    answer = js({"error_code": "INTERNAL_ERROR", "message": "database is locked"}, 500)
    runs = {"runs": [run(ident, metrics={"loss": 1.0}) for ident in ("ab" if place == "bulk" else "a")]}
    async with fake(**{"runs": runs, place: answer}) as there, mlflow(there.url, {"kind": "metrics"}) as source:
        with pytest.raises(UpstreamRefused, match="database is locked"):
            await source.collect(Q)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_credential_is_a_state_of_its_own(status: int) -> None:
    answer = text("You are not authenticated.", "text/plain", status)
    auth = {"kind": "basic", "username": "bridge", "password": "s3cret"}
    async with fake(experiments=answer) as there, mlflow(there.url, RUNS, auth=auth) as source:
        with pytest.raises(NeedsAuth) as error:
            await source.collect(Q)
    assert "s3cret" not in error.value.sentence
    assert there.last.headers["Authorization"].startswith("Basic ")


async def test_an_error_that_is_not_about_the_filter_does_not_blame_it() -> None:
    async with fake(runs=js({"message": "x"}, 404)) as there, mlflow(there.url, {**RUNS, "filter": "a"}) as source:
        with pytest.raises(UpstreamRefused) as error:
            await source.collect(Q)
    assert "`filter`" not in error.value.remedy


# ---------------------------------------------------------------- pages


async def test_pages_are_followed_and_a_run_that_comes_twice_is_one_row() -> None:
    def answer(seen: Seen) -> Any:
        if "page_token" not in seen.json:
            return {"runs": [run("c"), run("b")], "next_page_token": "2"}
        return {"runs": [run("b"), run("a")]}

    async with fake(runs=answer) as there, mlflow(there.url, RUNS) as source:
        frame = await source.collect(Q)
    assert frame.data["run_id"].to_list() == ["c", "b", "a"]
    first, second = asked(there, "runs/search")
    assert first.json == {
        "experiment_ids": ["1"],
        "run_view_type": "ACTIVE_ONLY",
        "order_by": ["attributes.start_time DESC"],
        "max_results": 1000,
    }
    assert second.json["page_token"] == "2"


@pytest.mark.parametrize("place", ["experiments", "runs", "history"])
async def test_a_page_token_that_comes_again_ends_with_a_sentence(place: str) -> None:
    key = {"history": "metrics"}.get(place, place)
    given = {"runs": {"runs": [run("a", metrics={"loss": 1.0})]}, place: {key: [], "next_page_token": "x"}}
    async with fake(**given) as there, mlflow(there.url, {"kind": "metrics"}) as source:
        with pytest.raises(UpstreamInvalid, match="the same page token again"):
            await source.collect(Q)
    assert len(there.seen) < 10


async def test_pages_without_end_end_with_a_sentence() -> None:
    tokens = iter(range(10**9))

    async def fetch(token: str | None) -> Page:
        return Page([], str(next(tokens)))

    pages = api.Pages(fetch, "POST /x")
    for _ in range(api.MAX_PAGES - 1):
        assert await pages.next() == []
    with pytest.raises(UpstreamInvalid, match="POST /x: there is no end after 1000 pages"):
        await pages.next()


async def test_all_experiments_are_found_behind_their_first_page() -> None:
    def answer(seen: Seen) -> Any:
        if "page_token" not in seen.json:
            return {"experiments": [experiment("1", "a")], "next_page_token": "x"}
        return {"experiments": [experiment("2", "b")]}

    async with fake(experiments=answer) as there, mlflow(there.url, {"kind": "experiments"}) as source:
        assert (await source.collect(Q)).data["experiment"].to_list() == ["a", "b"]


async def test_experiments_have_their_tags_as_columns_and_ids_may_be_numbers() -> None:
    tags = [{"key": "team", "value": "vision"}, {"key": "mlflow.note.content", "value": "x"}]
    known = {"experiments": [experiment(7, "a", tags=tags), experiment("8", "b")]}
    async with fake(experiments=known) as there, mlflow(there.url, {"kind": "experiments"}) as source:
        frame = await source.collect(Q)
    assert frame.data.select("experiment_id", "experiment", "tag_team").rows() == [
        ("7", "a", "vision"),
        ("8", "b", None),
    ]
    assert frame.data["created"].to_list() == [T0, T0]
    assert frame.data.width == 5


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("place", ["experiments", "runs"])
async def test_a_huge_answer_is_given_up_at_the_sources_bound(place: str) -> None:
    huge = (
        {place: [run("a", tags={"a": "x" * 5_000})]} if place == "runs" else {place: [experiment(name="x" * 5_000)]}
    )
    async with fake(**{place: huge}) as there, mlflow(there.url, RUNS, max_bytes=2_000) as source:
        with pytest.raises(UpstreamTooLarge, match="over 2000 bytes") as error:
            await source.collect(Q)
    assert "`max_bytes`" in error.value.remedy


async def test_an_answer_that_goes_on_and_on_is_not_waited_for() -> None:
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 80 * MIB:
            sent += MIB // 4
            yield b" " * (MIB // 4)

    def answer(seen: Seen) -> web.Response:
        return web.Response(body=pieces(), headers={"Content-Type": "application/json"})

    async with fake(runs=answer) as there, mlflow(there.url, RUNS, max_bytes=100_000) as source:
        with pytest.raises(UpstreamTooLarge):
            await source.collect(Q)
    # What the sockets in between hold is a few MiB.
    assert sent < 40 * MIB


async def test_one_history_may_not_take_the_room_of_all() -> None:
    given = {**histories({"a": 1}), "history": {"metrics": [], "next_page_token": "x" * 17 * MIB}}
    async with fake(**given) as there, mlflow(there.url, {"kind": "metrics"}) as source:
        with pytest.raises(UpstreamTooLarge, match="16777216"):
            await source.collect(Q)


async def test_answers_under_way_together_are_bound_together() -> None:
    runs = {"runs": [run(f"{n}", metrics={f"m{n}": 1.0}) for n in range(4)]}
    history = {"metrics": points(None, 40)}
    size = len(json.dumps(runs)) + len(json.dumps(history)) + 500
    async with fake(runs=runs, history=history) as there:
        async with mlflow(there.url, {"kind": "metrics"}, max_bytes=size) as source:
            with pytest.raises(UpstreamTooLarge):
                await source.collect(Q)
        async with mlflow(there.url, {"kind": "metrics"}, max_bytes=size * 4) as source:
            assert (await source.collect(Q)).rows == 160


@pytest.mark.parametrize("family", ["metrics", "params", "tags"])
async def test_undeclared_columns_that_are_too_many_are_refused_before_the_next_page(family: str) -> None:
    many: Any = {f"key {n}": 1.0 if family == "metrics" else "1" for n in range(100_000)}
    runs = {"runs": [run("a", **{family: many})], "next_page_token": "more"}
    async with fake(runs=runs) as there:
        async with mlflow(there.url, RUNS) as source:
            with pytest.raises(AnswerTooLarge, match=f"more than 5000 columns: .*100000 {family}") as error:
                await source.collect(Q)
        assert len(asked(there, "runs/search")) == 1
        assert "declare the `columns`" in error.value.remedy
        cols = ("run_id", f"one={family}.key 77")
        async with mlflow(there.url, {**RUNS, "max_runs": 1}, cols) as source:
            del runs["next_page_token"]
            assert (await source.collect(Q)).data["one"].to_list() == ["1.0" if family == "metrics" else "1"]


async def test_more_parameters_than_rows_are_refused() -> None:
    runs = {"runs": [run("a", params={f"p{n}": "1" for n in range(11)})]}
    async with fake(runs=runs) as there, mlflow(there.url, {"kind": "params"}, limits={"max_rows": 10}) as source:
        with pytest.raises(AnswerTooLarge, match="11 parameters, more than the 10 rows allowed"):
            await source.collect(Q)


async def test_a_large_answer_is_read_beside_the_loop_with_the_same_result() -> None:
    runs = {"runs": [run(f"{n}", params={"p": "x" * 500}) for n in range(300)]}
    async with fake(runs=runs) as there, mlflow(there.url, RUNS) as source:
        frame = await source.collect(Q)
    assert frame.data["run_id"].to_list() == [f"{n}" for n in range(300)]


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ('"NaN"', math.nan),
        ("NaN", math.nan),
        ('"Infinity"', math.inf),
        ("Infinity", math.inf),
        ('"-Infinity"', -math.inf),
        ("-Infinity", -math.inf),
        ("1.7976931348623157e308", math.inf),
        ("-1.7976931348623157e308", -math.inf),
        ("3", 3.0),
        ('"0.25"', 0.25),
        ("null", None),
    ],
)
async def test_every_way_to_write_a_number_is_read(written: str, value: float | None) -> None:
    body = json.dumps({"runs": [run("a", metrics={"m": 12321.0})]}).replace("12321.0", written)
    async with fake(runs=text(body)) as there, mlflow(there.url, RUNS) as source:
        frame = await source.collect(Q)
    found = frame.data["metric_m"][0]
    assert found == value or (found is not None and value is not None and math.isnan(found) and math.isnan(value))
    assert frame.meta.notices == ()


async def test_a_metric_that_is_no_number_any_more_stops_the_dataset_with_a_sentence() -> None:
    answers = [{"runs": [run("a", metrics={"m": 1.0})]}, {"runs": [run("a", metrics={"m": "high"})]}]
    async with fake(runs=lambda seen: answers.pop(0)) as there, mlflow(there.url, RUNS) as source:
        await source.collect(Q)
        with pytest.raises(SchemaMismatch, match="`metric_m` holds no number: its first value is 'high'"):
            await source.collect(Q)


async def test_single_values_that_cannot_be_read_are_counted() -> None:
    runs = [run("a", metrics={"m": 1.0}), run("b", metrics={"m": "high"}), run("c", "soon", metrics={"m": [1]})]
    async with fake(runs={"runs": runs}) as there, mlflow(there.url, RUNS) as source:
        frame = await source.collect(Q)
    assert frame.data["metric_m"].to_list() == [1.0, None, None]
    assert frame.data["time"].to_list() == [T0, T0, None]
    texts = [notice.text for notice in frame.meta.notices]
    assert any(said.startswith("2 of 3 values of `metric_m` are not numbers") for said in texts)
    assert any(said.startswith("1 of 3 values of `time` is not a time") for said in texts)


async def test_times_are_milliseconds_whatever_their_size() -> None:
    runs = {"runs": [run("a", 0), run("b", 1_000), run("c", str(T0_MS))]}
    async with fake(runs=runs) as there, mlflow(there.url, RUNS) as source:
        frame = await source.collect(Q)
    start = datetime(1970, 1, 1, tzinfo=UTC)
    assert frame.data["time"].to_list() == [start, start + timedelta(seconds=1), T0]
    assert frame.data["duration_s"].to_list() == [1.5, 1.5, None]


@pytest.mark.parametrize("ms", [2**62, -(2**62), 10**30])
async def test_a_time_beyond_every_calendar_is_empty_and_said(ms: int) -> None:
    runs = {"runs": [run("a", ms), run("b")]}
    async with fake(runs=runs) as there, mlflow(there.url, RUNS) as source:
        frame = await source.collect(Q)
    assert frame.data["time"].to_list() == [None, T0]
    assert any("of `time`" in notice.text for notice in frame.meta.notices)


async def test_pairs_that_are_none_are_passed_over() -> None:
    item = run("a", params={"p": None, "q": "1"})
    item["data"]["params"] += [None, "x", {"value": "1"}, {"key": 5, "value": "1"}]
    async with fake(runs={"runs": [item]}) as there, mlflow(there.url, {"kind": "params"}) as source:
        assert (await source.collect(Q)).data.select("param", "value").rows() == [("p", None), ("q", "1")]


async def test_texts_that_are_no_unicode_or_no_texts_are_shown_as_they_can_be() -> None:
    body = json.dumps({"runs": [run("a", params={"p": "x", "q": 5}, tags={"t": {"a": 1}})]})
    body = body.replace('"x"', '"\\ud800"')
    cols = ("param", "value", "tag=tags.t")
    async with fake(runs=text(body)) as there, mlflow(there.url, {"kind": "params"}, cols) as source:
        rows = (await source.collect(Q)).data.rows()
    assert rows == [("p", "?", '{"a":1}'), ("q", "5", '{"a":1}')]


# ---------------------------------------------------------------- names


async def test_keys_that_would_have_one_name_are_told_apart_with_a_sentence() -> None:
    runs = {"runs": [run("a", metrics={"val/loss": 1.0, "val.loss": 2.0, "val loss": 3.0})]}
    async with fake(runs=runs) as there:
        async with mlflow(there.url, RUNS) as source:
            frame = await source.collect(Q)
            again = await source.collect(Q)
        cols = ("slash:number=metrics.val/loss", "dot:number=metrics.val.loss")
        async with mlflow(there.url, RUNS, cols) as source:
            both = await source.collect(Q)
    assert frame.data["metric_val_loss"].to_list() == [3.0]
    said = frame.meta.notices[0].text
    assert said.startswith("left out because their names are taken: `metrics.val.loss`, `metrics.val/loss`")
    assert "declare `columns` with `select`" in said
    assert again.meta.notices == frame.meta.notices
    assert both.data.rows() == [(1.0, 2.0)]
    assert both.meta.notices == ()


async def test_metrics_params_and_tags_of_one_name_are_three_columns() -> None:
    runs = {"runs": [run("a", metrics={"x": 1.0}, params={"x": "2"}, tags={"x": "3", "mlflow.user": "bob"})]}
    async with fake(runs=runs) as there, mlflow(there.url, RUNS) as source:
        frame = await source.collect(Q)
    assert frame.data.select("metric_x", "param_x", "tag_x").rows() == [(1.0, "2", "3")]
    assert frame.data.columns[-1] == "tag_x"


async def test_a_declared_key_that_no_run_has_is_empty_and_said() -> None:
    runs = {"runs": [run("a", metrics={"accuracy": 1.0})]}
    cols = ("run_id", "acc:number=metrics.acuracy", "owner=tags.owner")
    async with fake(runs=runs) as there, mlflow(there.url, RUNS, cols) as source:
        frame = await source.collect(Q)
    assert frame.data.rows() == [("a", None, None)]
    assert [notice.text for notice in frame.meta.notices] == [
        "`acc` is empty: none of these runs has `metrics.acuracy`; they have `accuracy`",
        "`owner` is empty: none of these runs has `tags.owner`; they have no tags",
    ]


# ---------------------------------------------------------------- histories


def histories(counts: dict[str, int]) -> dict[str, Any]:
    """A server whose runs have so many points of `loss`; its bulk answers are cut as MLflow cuts them."""

    def bulk(seen: Seen) -> Any:
        ids = sorted(value for key, value in seen.params if key == "run_id")
        return {"metrics": [row for ident in ids for row in points(ident, counts[ident])][: api.HISTORY_POINTS]}

    def history(seen: Seen) -> Any:
        params = dict(seen.params)
        start = int(params.get("page_token", 0))
        rows = points(None, counts[params["run_id"]])
        token = {"next_page_token": str(start + api.HISTORY_POINTS)} if len(rows) > start + api.HISTORY_POINTS else {}
        return {"metrics": rows[start : start + api.HISTORY_POINTS], **token}

    return {
        "runs": {"runs": [run(ident, metrics={"loss": 1.0}) for ident in counts]},
        "bulk": bulk,
        "history": history,
    }


@pytest.mark.parametrize(
    "counts",
    [
        {"a": 24_999, "b": 1, "c": 5},
        {"a": 20_000, "b": 10_000, "c": 20_000},
        {"a": 60_000, "b": 3, "c": 25_000},
        {"a": 3, "b": 0, "c": 25_001},
        {"a": 25_000},
    ],
)
async def test_histories_are_whole_wherever_an_answer_is_cut(counts: dict[str, int]) -> None:
    async with fake(**histories(counts)) as there, mlflow(there.url, {"kind": "metrics"}) as source:
        frame = await source.collect(Q)
    found = dict(frame.data.group_by("run_id").len().rows())
    assert found == {ident: count for ident, count in counts.items() if count}
    assert frame.data.n_unique(["run_id", "step"]) == frame.rows
    assert frame.meta.notices == ()


async def test_many_runs_take_few_requests() -> None:
    counts = {f"{n:03}": 2 for n in range(250)}
    async with fake(**histories(counts)) as there, mlflow(there.url, {"kind": "metrics"}) as source:
        assert (await source.collect(Q)).rows == 500
    assert len(asked(there, BULK)) == 3
    assert asked(there, "metrics/get-history") == []


@pytest.mark.parametrize("status", [403, 404, 405])
async def test_a_server_or_proxy_without_the_bulk_question_is_asked_run_by_run(status: int) -> None:
    given = {**histories({"a": 3, "b": 2}), "bulk": text("no", "text/plain", status)}
    async with fake(**given) as there, mlflow(there.url, {"kind": "metrics"}) as source:
        frame = await source.collect(Q)
    assert frame.data["run_id"].to_list() == ["a"] * 3 + ["b"] * 2
    assert len(asked(there, BULK)) == 1


async def test_only_so_many_requests_are_under_way_at_once() -> None:
    counts = {f"{n:02}": 1 for n in range(30)}
    given = {**histories(counts), "bulk": text("no", status=404)}
    under_way, most = 0, 0
    history = given["history"]
    turn = asyncio.Event()

    async def slowly(seen: Seen) -> web.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == api.TOGETHER:
            # Time for one more to arrive, if it had been sent.
            await settle(200)
            turn.set()
        await turn.wait()
        under_way -= 1
        return js(history(seen))

    async with fake(**{**given, "history": slowly}) as there, mlflow(there.url, {"kind": "metrics"}) as source:
        assert (await source.collect(Q)).rows == 30
    assert most == api.TOGETHER


async def test_a_run_removed_for_good_in_the_meantime_has_no_points() -> None:
    given = {**histories({"a": 3}), "history": js({"error_code": "RESOURCE_DOES_NOT_EXIST"}, 404)}
    async with fake(**given) as there, mlflow(there.url, {"kind": "metrics"}) as source:
        assert (await source.collect(Q)).rows == 0


async def test_a_full_answer_about_other_runs_ends_with_a_sentence() -> None:
    given = {**histories({"a": 1, "b": 1}), "bulk": {"metrics": points("z", api.HISTORY_POINTS)}}
    async with fake(**given) as there, mlflow(there.url, {"kind": "metrics"}) as source:
        with pytest.raises(UpstreamInvalid, match="the history of `loss` is that of other runs"):
            await source.collect(Q)


@pytest.mark.parametrize("counts", [{"a": 60, "b": 60}, {"a": 1_000}, {f"{n:03}": 1 for n in range(1_000)}])
async def test_more_points_than_wanted_are_left_out_and_said(counts: dict[str, int]) -> None:
    dataset = {"kind": "metrics", "max_points": 100}
    async with fake(**histories(counts)) as there, mlflow(there.url, dataset) as source:
        frame = await source.collect(Q)
    assert frame.rows == 100
    assert frame.data["run_id"].to_list() == [ident for ident, count in counts.items() for _ in range(count)][:100]
    assert [notice.text for notice in frame.meta.notices] == [
        "only 100 points are shown (`max_points`), those of the newest runs; there are more"
    ]


async def test_the_bound_on_points_ends_the_questions() -> None:
    runs = {"runs": [run("a", metrics={f"m{n:04}": 1.0 for n in range(200)})]}
    dataset = {"kind": "metrics", "max_points": 20}
    async with fake(runs=runs, history={"metrics": points(None, 10)}) as there, mlflow(there.url, dataset) as source:
        frame = await source.collect(Q)
    assert frame.rows == 20
    assert frame.meta.notices
    assert len(asked(there, "metrics/get-history")) == api.TOGETHER


async def test_the_bound_on_points_says_nothing_when_it_is_just_kept() -> None:
    dataset = {"kind": "metrics", "max_points": 20}
    async with fake(**histories({"a": 12, "b": 8})) as there, mlflow(there.url, dataset) as source:
        frame = await source.collect(Q)
    assert frame.rows == 20
    assert frame.meta.notices == ()


async def test_a_history_without_end_is_read_no_further_than_the_bound() -> None:
    def history(seen: Seen) -> Any:
        return {"metrics": points(None, 50), "next_page_token": str(len(there.seen))}

    given = {**histories({"a": 1}), "history": history}
    dataset = {"kind": "metrics", "max_points": 100}
    async with fake(**given) as there, mlflow(there.url, dataset) as source:
        frame = await source.collect(Q)
    assert frame.rows == 100
    assert len(asked(there, "metrics/get-history")) == 3


async def test_metrics_that_no_run_has_are_said_with_those_they_have() -> None:
    dataset = {"kind": "metrics", "metrics": ["loss", "acuracy"]}
    async with fake(**histories({"a": 2})) as there, mlflow(there.url, dataset) as source:
        frame = await source.collect(Q)
    assert frame.rows == 2
    assert [notice.text for notice in frame.meta.notices] == [
        "none of these runs has the metrics `acuracy`; they have `loss`"
    ]


async def test_points_without_a_readable_time_or_step_are_kept_and_counted() -> None:
    rows = [*points(None, 2), {"key": "loss", "value": 1.0, "step": "x", "timestamp": "y"}, {"key": "loss"}]
    query = replace(Q, span=Span(T0, T0 + timedelta(days=1)))
    given = {**histories({"a": 1}), "history": {"metrics": rows}}
    async with fake(**given) as there, mlflow(there.url, {"kind": "metrics"}) as source:
        frame = await source.collect(query)
    assert frame.data["time"].to_list() == [T0, T0 + timedelta(milliseconds=1), None, None]
    assert frame.data["step"].to_list() == [0.0, 1.0, None, None]
    assert len(frame.meta.notices) == 2


# ---------------------------------------------------------------- versions, comings and goings


def as_mlflow_2(item: dict[str, Any]) -> dict[str, Any]:
    """A run as MLflow 2 wrote it: no models, nothing where there is nothing, whole numbers perhaps as texts."""
    info = {key: value for key, value in item["info"].items() if value is not None}
    info["start_time"] = str(info["start_time"])
    data = {key: value for key, value in item["data"].items() if value}
    return {"info": info, "data": data}


async def test_the_answers_of_mlflow_2_give_the_same_rows() -> None:
    runs = [run("a", metrics={"m": 1.0}, params={"p": "1"}), run("b", tags={"t": "x"})]
    async with fake(runs={"runs": runs}) as there, mlflow(there.url, RUNS) as source:
        three = await source.collect(Q)
    old = {"runs": [as_mlflow_2(item) for item in runs]}
    known = {"experiments": [{"experiment_id": "1", "name": "digits", "lifecycle_stage": "active"}]}
    async with (
        fake(experiments=known, runs=old, version="2.22.1") as there,
        mlflow(there.url, RUNS) as source,
    ):
        two = await source.collect(Q)
    assert two.data.equals(three.data)
    assert (two.meta.custom["far_version"], three.meta.custom["far_version"]) == ("2.22.1", "3.17.2")


async def test_a_full_last_page_with_a_token_as_mlflow_2_sends_it_is_not_taken_for_more() -> None:
    def answer(seen: Seen) -> Any:
        if "page_token" in seen.json:
            return {}
        return {"runs": [run("a"), run("b")], "next_page_token": "2"}

    async with fake(runs=answer) as there, mlflow(there.url, {**RUNS, "max_runs": 2}) as source:
        frame = await source.collect(Q)
    assert frame.rows == 2
    assert frame.meta.notices == ()


async def test_the_version_is_asked_for_once_a_minute() -> None:
    clock = HandClock()
    async with fake() as there, mlflow(there.url, RUNS, clock=clock) as source:
        for seconds in (0, 59, 2):
            clock.seconds += seconds
            await source.collect(Q)
    assert len([seen for seen in there.seen if seen.path == "/version"]) == 2


@pytest.mark.parametrize("version", [None, "<html>Sign in</html>", "", "x" * 1_000])
async def test_a_server_that_tells_no_version_is_read_all_the_same(version: str | None) -> None:
    async with fake(version=version, runs={"runs": [run("a")]}) as there, mlflow(there.url, RUNS) as source:
        frame = await source.collect(Q)
    assert frame.rows == 1
    assert source.far_version is None
    assert "far_version" not in frame.meta.custom


@pytest.mark.parametrize(
    ("health", "says"),
    [
        (LOGIN, "not as MLflow does"),
        (text("no", status=500), "answered 500"),
        (text("no", status=404), "answered 404"),
        (text("no", status=401), "answered 401"),
    ],
)
async def test_ping_says_when_what_answers_is_not_mlflow(health: web.Response, says: str) -> None:
    async with fake(health=health) as there, mlflow(there.url, RUNS) as source:
        ping = await source.ping()
    assert not ping.ok
    assert says in ping.text


async def test_a_path_before_the_api_is_kept() -> None:
    async with fake() as there, mlflow(f"{there.url}/mlflow", RUNS) as source:
        with pytest.raises(SourceError):
            await source.collect(Q)
    assert {seen.path for seen in there.seen} == {"/mlflow/version", f"/mlflow{API}/experiments/search"}


async def test_a_server_that_goes_leaves_its_last_answer_and_is_read_again_when_it_comes_back() -> None:
    state: dict[str, Any] = {"answer": {"runs": [run("a")]}}
    clock = HandClock()
    async with fake(runs=lambda seen: state["answer"]) as there, tools(clock) as given:
        dataset = DatasetConfig("data", {"kind": "runs"}, freshness=Freshness(retries=0))
        config = SourceConfig("lab", "mlflow", {"url": there.url, "allow_private": True}, (dataset,))
        registry, problems = build([config], {"mlflow": Plugin("mlflow", "tests", MlflowSource)}, given)
        assert not problems
        cache = Cache.in_memory(max_bytes=2**20, size_of=lambda held: held.frame.data.estimated_size(), clock=clock)
        desk = Desk(registry, Kit(cache, clock, Meters(), Limits(), jitter=lambda: 0.0))
        first = await desk.rows(Q)
        state["answer"] = js({"message": "gone"}, 503)
        clock.seconds += 60
        stale = await desk.rows(Q)
        state["answer"] = {"runs": [run("a"), run("b")]}
        clock.seconds += 60
        last = await desk.rows(Q)
    assert (first.rows, stale.rows, last.rows) == (1, 1, 2)
    assert stale.meta.custom["stale"] is True
    assert "stale" not in last.meta.custom


async def test_a_server_that_is_not_there_is_said() -> None:
    async with fake() as there:
        url = there.url
    async with mlflow(url, RUNS) as source:
        with pytest.raises(SourceError, match="cannot connect"):
            await source.collect(Q)
        assert not (await source.ping()).ok
