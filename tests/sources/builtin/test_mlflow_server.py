"""The `mlflow` source over a real MLflow server."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.request import urlopen

import pytest
from blockbuster import BlockBuster

from bridge.errors import DataMissing, UpstreamRefused
from bridge.model.filters import Filter, Op
from bridge.model.query import Query
from bridge.model.schema import ColumnType, Role
from bridge.model.span import Span
from bridge.sources.builtin.mlflow import MlflowSource
from bridge.sources.conformance import conformance
from bridge.sources.present import select_rows
from servers.mlflow_rig import mlflow
from servers.tracking import MODELS, ODD, RUNS, STEPS, T0_MS, Tracking, accuracy, shared

# The first test that needs the server waits for its start.
pytestmark = pytest.mark.timeout(240)

Q = Query("lab.data")
T0 = datetime.fromtimestamp(T0_MS / 1000, UTC)
DIGITS: dict[str, Any] = {"experiments": ["digits"]}
COLUMNS = (
    "time:time=start_time",
    "accuracy:number:measure=metrics.accuracy",
    "val_loss:number:measure=metrics.val/loss",
    "model:string:dimension=params.model",
    "lr:number=params.lr",
    "owner=tags.owner",
    "run_name",
    "status",
    "experiment",
)


@pytest.fixture
def tracking() -> Tracking:
    return shared()


@contextmanager
def settings() -> Iterator[dict[str, Any]]:
    declared = [
        {"name": "time", "type": "time", "select": "start_time"},
        {"name": "accuracy", "type": "number", "role": "measure", "select": "metrics.accuracy"},
        {"name": "model", "type": "string", "role": "dimension", "select": "params.model"},
        {"name": "owner", "type": "string", "role": "dimension", "select": "tags.owner"},
        {"name": "status", "type": "string", "role": "dimension"},
    ]
    yield {
        "options": {"url": shared().url, "allow_private": True},
        "datasets": [
            {"name": "experiments", "options": {"kind": "experiments"}},
            {"name": "runs", "options": {"kind": "runs"}},
            {"name": "declared", "options": {"kind": "runs", **DIGITS}, "columns": declared},
            {"name": "metrics", "options": {"kind": "metrics", "experiments": ["digits", ODD]}},
            {"name": "params", "options": {"kind": "params"}},
        ],
    }


TestMlflow = conformance(MlflowSource, settings)


async def test_runs_are_rows_with_their_last_metrics_params_and_tags(
    tracking: Tracking, no_blocking: BlockBuster
) -> None:
    async with mlflow(tracking.url, {"kind": "runs", **DIGITS}) as source:
        frame = await source.collect(Q)
    rows = frame.data.sort("time").rows(named=True)
    assert len(rows) == RUNS
    assert rows[4] == {
        "time": T0 + timedelta(minutes=40),
        "end_time": T0 + timedelta(minutes=45, milliseconds=500),
        "duration_s": 300.5,
        "run_id": tracking.runs["run-4"],
        "run_name": "run-4",
        "experiment": "digits",
        "status": "FINISHED",
        "user": None,
        "metric_accuracy": accuracy(4, STEPS - 1),
        "metric_val_loss": 1 / STEPS,
        "param_lr": "0.5",
        "param_model": MODELS[1],
        "tag_owner": "bob",
    }
    assert [row["status"] for row in rows].count("FAILED") == 1
    assert frame.meta.notices == ()
    assert source.schema("data") == frame.schema


async def test_a_line_per_run_is_never_drawn_and_the_units_are_said(tracking: Tracking) -> None:
    async with mlflow(tracking.url, {"kind": "runs", **DIGITS}) as source:
        schema = (await source.collect(Q)).schema
    assert [column.name for column in schema.with_role(Role.DIMENSION)] == ["experiment", "status"]
    assert [column.name for column in schema.with_role(Role.MEASURE)] == [
        "duration_s",
        "metric_accuracy",
        "metric_val_loss",
    ]
    duration = schema.get("duration_s")
    assert duration is not None
    assert duration.unit == "s"


async def test_the_version_of_the_server_stands_in_the_meta_of_every_frame(tracking: Tracking) -> None:
    async with mlflow(tracking.url, {"kind": "experiments"}) as source:
        frame = await source.collect(Q)
        ping = await source.ping()
    assert ping.ok
    with urlopen(f"{tracking.url}/version", timeout=10) as answer:
        assert ping.far_version == answer.read().decode()
    assert frame.meta.custom["far_version"] == source.far_version == source.metadata.far_version == ping.far_version


async def test_experiments_are_listed_without_the_deleted_ones(tracking: Tracking) -> None:
    async with mlflow(tracking.url, {"kind": "experiments"}) as source:
        frame = await source.collect(Q)
    assert {"Default", "digits", "many", ODD} <= set(frame.data["experiment"])
    assert "old" not in frame.data["experiment"]
    assert frame.schema.time is None
    assert frame.schema.names[:4] == ("created", "updated", "experiment_id", "experiment")


async def test_histories_hold_every_logged_point(tracking: Tracking) -> None:
    async with mlflow(tracking.url, {"kind": "metrics", **DIGITS, "metrics": ["accuracy"]}) as source:
        frame = await source.collect(Q)
    assert frame.rows == RUNS * STEPS
    row = frame.data.filter(frame.data["run_name"] == "run-3", frame.data["step"] == 2)
    assert row.row(0, named=True) == {
        "time": T0 + timedelta(minutes=32),
        "step": 2,
        "run_id": tracking.runs["run-3"],
        "run_name": "run-3",
        "experiment": "digits",
        "metric": "accuracy",
        "value": accuracy(3, 2),
    }


async def test_histories_can_carry_the_params_and_tags_of_their_runs(tracking: Tracking) -> None:
    cols = ("time:time", "value:number:measure", "model:string:dimension=params.model", "lr:number=params.lr")
    async with mlflow(tracking.url, {"kind": "metrics", **DIGITS, "metrics": ["accuracy"]}, cols) as source:
        frame = await source.collect(Q)
    assert set(frame.data["model"]) == set(MODELS)
    assert frame.data.filter(frame.data["value"] == accuracy(8, 4)).select("model", "lr").rows() == [("knn", 0.9)]


async def test_what_is_no_finite_number_arrives_as_it_was_logged(tracking: Tracking) -> None:
    async with mlflow(tracking.url, {"kind": "metrics", "experiments": [ODD]}) as source:
        frame = await source.collect(Q)
    values = frame.data.sort("step")["value"].to_list()
    assert math.isnan(values[1])
    assert (values[0], *values[2:]) == (1.0, math.inf, -math.inf, 2.0)
    assert frame.meta.notices == ()


async def test_long_histories_come_whole_from_several_answers(tracking: Tracking) -> None:
    async with mlflow(tracking.url, {"kind": "metrics", "experiments": ["many"]}) as source:
        frame = await source.collect(Q)
    counts = frame.data.group_by("run_name").len().sort("run_name").rows()
    assert counts == [("long-0", 13_000), ("long-1", 13_000)]
    assert frame.data.n_unique(["run_id", "step"]) == 26_000


async def test_params_are_rows(tracking: Tracking) -> None:
    async with mlflow(tracking.url, {"kind": "params", "experiments": ["digits", ODD]}) as source:
        frame = await source.collect(Q)
    assert frame.rows == 2 * RUNS + 2
    assert ("run-0", "digits", "lr", "0.1") in frame.data.select("run_name", "experiment", "param", "value").rows()
    assert ('it\'s "odd"', ODD, "mo del", "Ünï") in frame.data.select(
        "run_name", "experiment", "param", "value"
    ).rows()


async def test_mlflows_own_filter_chooses_runs(tracking: Tracking) -> None:
    chosen = {"kind": "runs", **DIGITS, "filter": "attributes.status = 'FAILED'"}
    async with mlflow(tracking.url, chosen) as source:
        assert (await source.collect(Q)).data["run_name"].to_list() == ["run-8"]


async def test_a_filter_mlflow_does_not_read_is_said_with_its_own_words(tracking: Tracking) -> None:
    async with mlflow(tracking.url, {"kind": "runs", **DIGITS, "filter": "bogus"}) as source:
        with pytest.raises(UpstreamRefused, match="Invalid clause") as error:
            await source.collect(Q)
    assert "`filter`" in error.value.remedy


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("digit", "there is no experiment `digit`; the server has `Default`, `digits`"),
        ("old", "the experiment `old` is deleted; the server has `Default`, `digits`"),
    ],
)
async def test_an_experiment_that_is_not_there_is_said_with_those_that_are(
    tracking: Tracking, name: str, sentence: str
) -> None:
    async with mlflow(tracking.url, {"kind": "runs", "experiments": [name]}) as source:
        with pytest.raises(DataMissing) as error:
            await source.collect(Q)
    assert sentence in error.value.message
    assert "`experiments`" in error.value.remedy


async def test_more_runs_than_wanted_are_left_out_and_said(tracking: Tracking) -> None:
    async with mlflow(tracking.url, {"kind": "runs", **DIGITS, "max_runs": 4}) as source:
        frame = await source.collect(Q)
    assert sorted(frame.data["run_name"]) == ["run-5", "run-6", "run-7", "run-8"]
    assert [notice.text for notice in frame.meta.notices] == [
        "only the 4 newest runs are read (`max_runs`); there are more"
    ]


async def test_the_bound_on_runs_says_nothing_when_it_is_just_kept(tracking: Tracking) -> None:
    async with mlflow(tracking.url, {"kind": "runs", **DIGITS, "max_runs": RUNS}) as source:
        frame = await source.collect(Q)
    assert frame.rows == RUNS
    assert frame.meta.notices == ()


async def test_a_time_range_is_searched_by_the_server(tracking: Tracking) -> None:
    start = T0 + timedelta(minutes=20)
    query = replace(Q, span=Span(start, T0 + timedelta(minutes=40)))
    async with mlflow(tracking.url, {"kind": "runs", **DIGITS}, COLUMNS) as source:
        assert source.narrow(query) == query
        frame = await source.collect(source.narrow(query))
    assert sorted(frame.data["run_name"]) == ["run-2", "run-3"]
    ms = round(start.timestamp() * 1000)
    assert frame.meta.executed == f"attributes.start_time >= {ms} AND attributes.start_time < {ms + 20 * 60_000}"


async def test_points_of_a_run_that_began_before_the_time_range_are_found(tracking: Tracking) -> None:
    span = Span(T0 + timedelta(minutes=3), T0 + timedelta(minutes=11))
    query = replace(Q, span=span)
    async with mlflow(tracking.url, {"kind": "metrics", **DIGITS, "metrics": ["accuracy"]}) as source:
        whole = await source.collect(Q)
        part = await source.collect(source.narrow(query))
    assert part.data.select("run_name", "step").sort("run_name", "step").rows() == [
        ("run-0", 3),
        ("run-0", 4),
        ("run-1", 0),
    ]
    assert select_rows(whole, query).rows == part.rows


@pytest.mark.parametrize(
    ("column", "value", "pushed"),
    [
        ("run_name", "run-3", True),
        ("status", "FAILED", True),
        ("status", "failed", True),
        ("experiment", "digits", True),
        ("experiment", "nothing", True),
        ("model", "svm", True),
        ("model", "SVM", True),
        ("owner", "ann b", True),
        ("owner", "ann b ", False),
        ("owner", "o'brien", False),
        ("owner", 'the "boss"', False),
        ("owner", "100%", False),
        ("lr", "0.5", False),
    ],
)
async def test_a_filter_gives_the_same_rows_whoever_applies_it(
    tracking: Tracking, column: str, value: str, pushed: bool
) -> None:
    query = replace(Q, filters=(Filter(column, Op.EQ, (value,)),))
    async with mlflow(tracking.url, {"kind": "runs", **DIGITS}, COLUMNS) as source:
        narrowed = source.narrow(query)
        assert (narrowed.filters == query.filters) is pushed
        whole, part = select_rows(await source.collect(Q), query), select_rows(await source.collect(narrowed), query)
    assert part.data.sort("time").equals(whole.data.sort("time"))


@pytest.mark.parametrize("value", ["a--b", "a AND b", "select x", "a/b:c.d-e+f", "žluť", "x  y", "1.5", "NULL", "_"])
async def test_every_value_that_is_sent_finds_its_rows(tracking: Tracking, value: str) -> None:
    home = tracking.experiment(f"values {value}")
    tracking.run(home, value, T0_MS, tags={"some key": value}, params={"a/b.c-d e": value})
    cols = ("run_name", "tag=tags.some key", "param=params.a/b.c-d e")
    async with mlflow(tracking.url, {"kind": "params", "experiments": [f"values {value}"]}, cols) as source:
        for column in ("run_name", "tag", "param"):
            query = replace(Q, filters=(Filter(column, Op.EQ, (value,)),))
            assert source.narrow(query).filters
            frame = await source.collect(source.narrow(query))
            assert frame.data.rows() == [(value, value, value)], frame.meta.executed


async def test_filters_on_experiment_and_metric_choose_what_is_fetched(tracking: Tracking) -> None:
    filters = (
        Filter("experiment", Op.EQ, ("digits", "none")),
        Filter("metric", Op.EQ, ("val/loss", "other")),
        Filter("run_name", Op.EQ, ("run-1",)),
    )
    async with mlflow(tracking.url, {"kind": "metrics"}) as source:
        query = source.narrow(replace(Q, filters=filters))
        assert query.filters == filters
        frame = await source.collect(query)
    assert frame.rows == STEPS
    assert set(frame.data["metric"]) == {"val/loss"}


async def test_new_metrics_become_columns_as_they_come_and_gone_ones_stay(tracking: Tracking) -> None:
    home = tracking.experiment("growing")
    first = tracking.run(home, "first", T0_MS, metrics=[("b", 1.0, T0_MS, 0)], params={"p": "1"})
    async with mlflow(tracking.url, {"kind": "runs", "experiments": ["growing"]}) as source:
        assert source.schema("data") is None
        names = (await source.collect(Q)).schema.names
        assert names[8:] == ("metric_b", "param_p")
        tracking.ask("runs/delete", {"run_id": first})
        tracking.run(home, "second", T0_MS, metrics=[("a", 2.0, T0_MS, 0)])
        frame = await source.collect(Q)
    assert frame.schema.names == (*names, "metric_a")
    assert frame.data.select("metric_b", "param_p", "metric_a").rows() == [(None, None, 2.0)]
    assert frame.schema.columns[8].type is ColumnType.NUMBER


async def test_system_tags_are_columns_only_when_asked_for(tracking: Tracking) -> None:
    async with mlflow(tracking.url, {"kind": "runs", **DIGITS, "system_tags": True}) as source:
        names = (await source.collect(Q)).schema.names
    assert "tag_mlflow_runName" in names
    async with mlflow(tracking.url, {"kind": "runs", **DIGITS}, ("name=tags.mlflow.runName",)) as source:
        assert "run-1" in (await source.collect(Q)).data["name"]


async def test_the_server_gives_no_cheap_sign_of_change_so_none_is_claimed(tracking: Tracking) -> None:
    """MLflow's `last_update_time` of an experiment stands still while runs are logged to it."""
    home = tracking.experiment("still")
    before = tracking.ask(f"experiments/get?experiment_id={home}")["experiment"]["last_update_time"]
    tracking.run(home, "one", T0_MS, metrics=[("m", 1.0, T0_MS, 0)], end_ms=T0_MS)
    after = tracking.ask(f"experiments/get?experiment_id={home}")["experiment"]["last_update_time"]
    assert before == after
    async with mlflow(tracking.url, {"kind": "runs"}) as source:
        assert await source.fingerprint(Q) is None
