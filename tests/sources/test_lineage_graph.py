"""The graph of where data comes from can always be drawn, and shows what is wrong where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
import pytest

from bridge.edge.meters import DatasetStatus
from bridge.model.frame import DTYPES, Frame
from bridge.model.schema import Column, ColumnType, Schema, Shape
from bridge.model.series import complete_graph, to_edges, to_nodes
from bridge.model.wire import wire_frame
from bridge.sources.lineage_graph import EDGE_COLUMNS, NODE_COLUMNS, edge_rows, node_rows
from bridge.sources.quality.options import Check
from bridge.sources.registry import Plugin, Registry, SourceConfig
from bridge.sources.transform.options import Step
from support import COLUMNS, dataset, make_desk

ARCS = ("arc__ok", "arc__stale", "arc__failed", "arc__unknown")
BROKEN = {"broken": Plugin("broken", "tests", None, "ImportError: no such thing")}


def steps(*given: dict[str, Any]) -> tuple[Step, ...]:
    """Steps as the settings have them."""
    return tuple(Step.model_validate(item) for item in given)


def house() -> Registry:
    """`lab.best` is made of `lab.runs` and `far.owners`, `all.runs` of `lab.best`; `gone` does not run."""
    join = {"join": {"with": "far.owners", "on": ["model"], "columns": ["owner"]}}
    lab = (
        dataset("runs"),
        dataset("best", steps=steps({"filter": "value > 1"}, join, {"union": ["lab.runs"]})),
        dataset("apart"),
    )
    owner = (*COLUMNS, Column("owner", ColumnType.STRING))
    above = dataset("runs", steps=steps({"union": ["lab.best", "gone.runs"]}))
    configs = [
        SourceConfig("lab", "stub", {}, lab),
        SourceConfig("far", "stub", {}, (dataset("owners", columns=owner),)),
        SourceConfig("all", "stub", {}, (above,)),
        SourceConfig("gone", "broken", {}, (dataset("runs"),)),
        SourceConfig("_bridge", "stub", {}, (dataset("status"),)),
    ]
    return make_desk(sources=configs, plugins=BROKEN).registry


def nodes(
    registry: Registry | None = None, only: str | None = None, *statuses: DatasetStatus
) -> dict[str, dict[str, Any]]:
    """The node rows by id."""
    known: Mapping[str, DatasetStatus] = {status.dataset: status for status in statuses}
    kept = None if only is None else {only}
    return {row["id"]: row for row in node_rows(registry or house(), known, {"lab.runs": Schema(COLUMNS)}, kept)}


def edges(only: str | None = None, registry: Registry | None = None) -> set[tuple[str, str, str]]:
    """The edges as source, target and kind."""
    kept = None if only is None else {only}
    return {(row["source"], row["target"], row["detail__kind"]) for row in edge_rows(registry or house(), kept)}


def frame(rows: list[dict[str, Any]], columns: tuple[Column, ...]) -> Frame:
    """Rows as the system source makes a frame of them."""
    schema = {column.name: DTYPES[column.type] for column in columns}
    return Frame(pl.DataFrame(rows, schema=schema, orient="row"), Schema(columns), "_lineage")


def test_sources_and_datasets_are_nodes_also_those_that_do_not_run_but_not_bridge_s_own() -> None:
    assert list(nodes()) == [
        *("lab", "lab.runs", "lab.best", "lab.apart", "far", "far.owners", "all", "all.runs", "gone", "gone.runs")
    ]


def test_what_is_read_is_an_edge_of_its_kind() -> None:
    assert edges() == {
        ("lab", "lab.runs", "reads"),
        ("lab", "lab.best", "reads"),
        ("lab", "lab.apart", "reads"),
        ("far", "far.owners", "reads"),
        ("all", "all.runs", "reads"),
        ("gone", "gone.runs", "reads"),
        ("far.owners", "lab.best", "joins"),
        ("lab.runs", "lab.best", "unites"),
        ("lab.best", "all.runs", "unites"),
        ("gone.runs", "all.runs", "unites"),
    }


def test_a_dataset_that_checks_compare_with_is_a_dashed_edge() -> None:
    """Its rows do not come into the answer."""
    given = ({"reference": {"dataset": "lab.truth", "on": "model", "compare": "value"}}, {"complete": "value"})
    checks = tuple(Check.model_validate(item) for item in given)
    registry = make_desk(dataset("truth"), dataset("runs", checks=checks)).registry
    dashed = {
        (row["source"], row["target"], row["detail__kind"]): row["strokeDasharray"] for row in edge_rows(registry)
    }
    assert dashed == {
        ("lab", "lab.truth", "reads"): None,
        ("lab", "lab.runs", "reads"): None,
        ("lab.truth", "lab.runs", "checks"): "6 4",
    }
    assert nodes(registry)["lab.runs"]["detail__checks"] == "reference, complete"


def test_each_edge_stands_once_under_an_id_of_its_own() -> None:
    twice = steps({"union": ["lab.runs"]}, {"union": ["lab.runs"]}, {"join": {"with": "lab.runs", "on": ["model"]}})
    registry = make_desk(dataset("runs"), dataset("all", steps=twice)).registry
    rows = edge_rows(registry)
    assert [row["id"] for row in rows] == [
        *("lab→lab.runs reads", "lab→lab.all reads", "lab.runs→lab.all unites", "lab.runs→lab.all joins")
    ]


def test_a_dataset_alone_is_shown_with_all_it_is_made_of_and_all_made_of_it() -> None:
    assert set(nodes(None, "lab.best")) == {"lab", "lab.runs", "lab.best", "far", "far.owners", "all.runs"}
    assert ("lab", "lab.apart", "reads") not in edges("lab.best")
    assert ("all", "all.runs", "reads") not in edges("lab.best")
    assert set(nodes(None, "lab.apart")) == {"lab", "lab.apart"}
    assert edges("lab.apart") == {("lab", "lab.apart", "reads")}


@pytest.mark.parametrize("only", [None, "lab.best", "lab.runs", "all.runs", "gone.runs", "lab", "nowhere.at_all"])
def test_no_edge_leads_to_a_node_that_is_not_there(only: str | None) -> None:
    """Grafana's panel would show nothing at all."""
    rows = edge_rows(house(), None if only is None else {only})
    known = nodes(None, only)
    assert {row["source"] for row in rows} | {row["target"] for row in rows} <= set(known)


def test_an_end_that_no_setting_names_is_a_node_all_the_same() -> None:
    registry = make_desk(dataset("all", steps=steps({"union": ["else.where"]}))).registry
    row = nodes(registry)["else.where"]
    assert (row["title"], row["secondarystat"], row["arc__unknown"]) == ("else.where", "unknown", 1)


@pytest.mark.parametrize(
    ("status", "arc", "said"),
    [
        (DatasetStatus("lab.runs", "ok", rows=1234), "arc__ok", "ok"),
        (DatasetStatus("lab.runs", "unknown"), "arc__unknown", "unknown"),
        (DatasetStatus("lab.runs", "down", error="no route"), "arc__failed", "down"),
        (DatasetStatus("lab.runs", "down", stale=True), "arc__stale", "down (stale)"),
        (DatasetStatus("lab.runs", "held_back", stale=True), "arc__stale", "held_back (stale)"),
        (DatasetStatus("lab.runs", "needs_auth"), "arc__failed", "needs_auth"),
    ],
)
def test_the_circle_of_a_dataset_shows_its_state(status: DatasetStatus, arc: str, said: str) -> None:
    row = nodes(None, None, status)["lab.runs"]
    assert {name: row[name] for name in ARCS} == {name: float(name == arc) for name in ARCS}
    assert (row["secondarystat"], row["detail__error"]) == (said, status.error)


def test_the_circle_of_a_source_is_shared_by_its_datasets() -> None:
    found = nodes(
        None,
        None,
        DatasetStatus("lab.runs", "ok"),
        DatasetStatus("lab.best", "ok"),
        DatasetStatus("lab.apart", "down"),
        DatasetStatus("far.owners", "ok"),
    )
    lab = found["lab"]
    assert [lab[name] for name in ARCS] == [pytest.approx(2 / 3), 0, pytest.approx(1 / 3), 0]
    assert (lab["mainstat"], lab["secondarystat"]) == ("3 datasets", "2 ok, 1 down")
    assert (found["far"]["mainstat"], found["far"]["secondarystat"]) == ("1 dataset", "ok")


def test_every_circle_is_full() -> None:
    for row in nodes(None, None, DatasetStatus("lab.runs", "ok"), DatasetStatus("lab.best", "down")).values():
        assert sum(row[name] for name in ARCS) == pytest.approx(1)


def test_a_source_that_does_not_run_says_why() -> None:
    row = nodes()["gone"]
    assert (row["secondarystat"], row["arc__failed"]) == ("failed", 1)
    assert "no such thing" in row["detail__error"]
    assert row["detail__adapter"] == "broken"


def test_a_source_without_datasets_is_drawn() -> None:
    row = nodes(make_desk(sources=[SourceConfig("bare", "stub")]).registry)["bare"]
    assert (row["mainstat"], row["secondarystat"], row["arc__unknown"]) == ("0 datasets", "unknown", 1)


def test_a_dataset_says_what_it_is_made_by() -> None:
    status = DatasetStatus("lab.runs", "ok", rows=1234, last_success="2026-01-31T12:00:00+00:00")
    registry = house()
    found = nodes(registry, None, status, DatasetStatus("lab.best", "ok", rows=1))
    runs, best = found["lab.runs"], found["lab.best"]
    assert (runs["title"], runs["subtitle"], runs["mainstat"]) == ("runs", "lab", "1,234 rows")
    assert best["mainstat"] == "1 row"
    assert (runs["detail__kind"], runs["detail__adapter"]) == ("dataset", "stub 1")
    assert runs["detail__schema"] == f"1 ({Schema(COLUMNS).fingerprint})"
    assert (runs["detail__fetched"], runs["detail__steps"], runs["detail__checks"]) == (
        status.last_success,
        None,
        None,
    )
    assert best["detail__steps"] == "filter value > 1; join far.owners on model; union lab.runs"
    assert (best["detail__schema"], found["lab.apart"]["mainstat"]) == (None, None)


def test_a_far_version_is_told_where_the_source_knows_it() -> None:
    registry = house()
    source = registry.source("far").source
    assert source is not None
    source.far_version = "2.1"
    found = nodes(registry)
    assert (found["far"]["detail__far_version"], found["lab"]["detail__far_version"]) == ("2.1", None)


def test_grafana_can_draw_what_the_rows_make() -> None:
    """Ids and ends are texts, arcs are numbers, and nothing has to be added or left out."""
    made = frame(node_rows(house(), {}, {}), NODE_COLUMNS)
    lines = frame(edge_rows(house()), EDGE_COLUMNS)
    drawn, drawn_lines = to_nodes(made), to_edges(lines)
    assert drawn.meta.notices == drawn_lines.meta.notices == ()
    assert complete_graph(drawn, drawn_lines).rows == drawn.rows == 10
    assert (drawn.shape, drawn_lines.shape) == (Shape.NODES, Shape.EDGES)
    fields = {field["name"]: field["type"] for field in wire_frame(drawn)["schema"]["fields"]}
    assert {fields[name] for name in ARCS} == {"number"}
    assert {kind for name, kind in fields.items() if not name.startswith("arc__")} == {"string"}


def test_rows_have_all_columns_and_no_others() -> None:
    for row in node_rows(house(), {}, {}):
        assert list(row) == [column.name for column in NODE_COLUMNS]
    for row in edge_rows(house()):
        assert list(row) == [column.name for column in EDGE_COLUMNS]
