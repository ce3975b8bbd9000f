"""What the settings of an `mlflow` source may say, and what of a query the server is asked for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.model.filters import Filter, Op
from bridge.model.query import Query
from bridge.model.span import Span
from bridge.sources.base import BadSetting, DatasetSpec, NoOptions
from bridge.sources.builtin.mlflow import MlflowSource
from bridge.sources.builtin.mlflow.names import published
from servers.mlflow_rig import build
from servers.rest_rig import tools

URL = "http://127.0.0.1:1"
Q = Query("lab.data")
START = datetime(2026, 1, 31, tzinfo=UTC)
SPAN = Span(START, START + timedelta(hours=1))
START_MS = round(START.timestamp() * 1000)
COLUMNS = (
    "when:time=start_time",
    "model=params.model",
    "lr:number=params.lr",
    "owner=tags.own er",
    "run_name",
    "status",
)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({}, "kind"),
        ({"kind": "models"}, "'experiments', 'runs', 'metrics' or 'params'"),
        ({"kind": "runs", "metrics": ["a"]}, "`metrics` means nothing to kind `runs`; it belongs to `metrics`"),
        ({"kind": "params", "max_points": 5}, "`max_points` means nothing to kind `params`"),
        ({"kind": "metrics", "system_tags": True}, "`system_tags` means nothing to kind `metrics`"),
        ({"kind": "experiments", "filter": "a"}, "`filter` means nothing to kind `experiments`"),
        ({"kind": "experiments", "experiments": ["a"]}, "belongs to `runs` or `metrics` or `params`"),
        ({"kind": "runs", "experiments": []}, "experiments"),
        ({"kind": "runs", "max_runs": 0}, "max_runs"),
        ({"kind": "runs", "max_run": 1}, "max_run"),
    ],
)
def test_a_wrong_option_is_refused_with_its_name(options: dict[str, Any], part: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as error:
        MlflowSource.DatasetOptions.model_validate(options)
    assert part in str(error.value)


@pytest.mark.parametrize(
    ("kind", "column", "key", "part"),
    [
        (
            "runs",
            "accuracy:number",
            "name",
            "has no `accuracy`; `select` names metrics.NAME, params.NAME, tags.NAME",
        ),
        ("runs", "a=metric.accuracy", "select", "has no `metric.accuracy`"),
        ("runs", "a=metrics.", "select", "has no `metrics.`"),
        ("runs", "step:number", "name", "has no `step`"),
        ("experiments", "a:number=metrics.a", "select", "`select` names tags.NAME or one of created"),
        ("metrics", "param", "name", "has no `param`"),
    ],
)
async def test_a_column_no_run_can_have_is_refused_at_the_start_with_its_place(
    kind: str, column: str, key: str, part: str
) -> None:
    async with tools() as given:
        with pytest.raises(BadSetting) as error:
            build(given, URL, {"kind": kind}, ("run_id" if kind != "experiments" else "experiment", column))
    assert part in str(error.value)
    assert error.value.loc == ("datasets", "data", "columns", 1, key)


async def test_foreign_options_are_a_programming_error() -> None:
    async with tools() as given:
        with pytest.raises(TypeError, match="options of NoOptions"):
            MlflowSource("lab", NoOptions(), {}, given)
        options = MlflowSource.SourceOptions.model_validate({"url": URL})
        with pytest.raises(TypeError, match=r"lab\.data: options of NoOptions"):
            MlflowSource("lab", options, {"data": DatasetSpec("data", NoOptions())}, given)


@pytest.mark.parametrize(
    ("family", "key", "name"),
    [
        ("metrics", "accuracy", "metric_accuracy"),
        ("params", "val/loss.top-5 x:y", "param_val_loss_top_5_x_y"),
        ("tags", "größe", "tag_gr__e"),
        ("metrics", "5", "metric_5"),
    ],
)
def test_published_names_can_stand_in_filters(family: str, key: str, name: str) -> None:
    assert published(family, key) == name


@pytest.mark.parametrize("kind", ["experiments", "runs"])
async def test_undeclared_columns_do_not_depend_on_what_was_asked_so_nothing_is_pushed(kind: str) -> None:
    query = replace(Q, span=SPAN, filters=(Filter("experiment", Op.EQ, ("a",)),))
    async with tools() as given:
        assert build(given, URL, {"kind": kind}).narrow(query) == Q
        declared = ("created:time", "experiment") if kind == "experiments" else COLUMNS
        pushed = build(given, URL, {"kind": kind}, declared).narrow(query)
    assert pushed == (Q if kind == "experiments" else replace(Q, span=SPAN))


@pytest.mark.parametrize(
    ("filters", "text"),
    [
        ((Filter("model", Op.EQ, ("svm",)),), "params.`model` = 'svm'"),
        ((Filter("owner", Op.EQ, ("ann b",)),), "tags.`own er` = 'ann b'"),
        ((Filter("run_name", Op.EQ, ("a",)), Filter("status", Op.EQ, ("FAILED",))),
         "attributes.run_name = 'a' AND attributes.status = 'FAILED'"),
        ((Filter("model", Op.EQ, ("svm", "mlp")),), ""),
        ((Filter("model", Op.EQ, ("",)),), ""),
        ((Filter("model", Op.NE, ("svm",)),), ""),
        ((Filter("model", Op.RE, ("svm",)),), ""),
        ((Filter("model", Op.EQ, ("it's",)),), ""),
        ((Filter("model", Op.EQ, ("a`b",)),), ""),
        ((Filter("model", Op.EQ, ("a\\",)),), ""),
        ((Filter("model", Op.EQ, (" a",)),), ""),
        ((Filter("model", Op.EQ, ("a\n",)),), ""),
        ((Filter("lr", Op.EQ, ("0.1",)),), ""),
        ((Filter("nothing", Op.EQ, ("0.1",)),), ""),
        ((Filter("when", Op.EQ, ("2026-01-31",)),), ""),
    ],
)  # fmt: skip
async def test_only_filters_that_mean_the_same_to_mlflow_are_sent(filters: tuple[Filter, ...], text: str) -> None:
    query = replace(Q, filters=filters)
    async with tools() as given:
        plan = build(given, URL, {"kind": "runs"}, COLUMNS)._plans["data"]
    narrowed = plan.narrow(query)
    assert narrowed.filters == (filters if text else ())
    assert plan.asked(narrowed).text == text
    assert plan.asked(query).text == text


@pytest.mark.parametrize(
    ("kind", "cols", "text"),
    [
        ("runs", COLUMNS, f"attributes.start_time >= {START_MS} AND attributes.start_time < {START_MS + 3_600_001}"),
        ("runs", ("time:time", "run_id"),
         f"attributes.start_time >= {START_MS} AND attributes.start_time < {START_MS + 3_600_001}"),
        ("runs", ("end:time=end_time", "run_id"), ""),
        ("params", (), f"attributes.start_time >= {START_MS} AND attributes.start_time < {START_MS + 3_600_001}"),
        ("metrics", (), f"attributes.start_time < {START_MS + 3_600_001}"),
        ("metrics", ("start:time=start_time", "value:number"), ""),
    ],
)  # fmt: skip
async def test_a_time_range_is_rounded_outwards_and_sent_where_it_is_the_time_of_the_rows(
    kind: str, cols: tuple[str, ...], text: str
) -> None:
    odd = timedelta(microseconds=1)
    query = replace(Q, span=Span(SPAN.start + odd, SPAN.end + odd))
    async with tools() as given:
        plan = build(given, URL, {"kind": kind}, cols)._plans["data"]
    narrowed = plan.narrow(query)
    assert narrowed.span == (query.span if text else None)
    assert plan.asked(narrowed).text == text


async def test_the_settings_own_filter_and_metrics_are_joined_with_the_questions() -> None:
    options = {"kind": "metrics", "filter": "tags.a = 'x'", "metrics": ["loss", "accuracy"]}
    filters = (
        Filter("metric", Op.EQ, ("loss", "other")),
        Filter("experiment", Op.EQ, ("a", "b")),
        Filter("experiment", Op.EQ, ("b", "c")),
        Filter("run_id", Op.EQ, ("r",)),
    )
    async with tools() as given:
        plan = build(given, URL, options)._plans["data"]
    asked = plan.asked(plan.narrow(replace(Q, filters=filters)))
    assert asked.text == "tags.a = 'x' AND attributes.run_id = 'r'"
    assert (asked.experiments, asked.metrics) == (frozenset("b"), frozenset(["loss"]))
    assert plan.asked(Q).metrics == frozenset(["loss", "accuracy"])


async def test_a_metric_is_no_name_to_choose_params_by() -> None:
    async with tools() as given:
        source = build(given, URL, {"kind": "params"})
    assert source.narrow(replace(Q, filters=(Filter("param", Op.EQ, ("lr",)),))) == Q
