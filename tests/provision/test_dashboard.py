"""The dashboard is one that Grafana 12 reads, and has the panels and variables a user would have made."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.model.schema import Column, ColumnType, Param, Role, Schema, Shape
from bridge.provision.catalogue import Catalogue, Dataset
from bridge.provision.dashboard import MARK, dashboard_json
from bridge.provision.queries import RESERVED
from bridge.web.dataset_query import PARAMETERS
from servers.boards import panels, variables

TIME = Column("time", ColumnType.TIME, role=Role.TIME)
MODEL = Column("model", ColumnType.STRING, role=Role.DIMENSION, description="family")
ID, EDGE = Column("id", ColumnType.STRING), [Column(name, ColumnType.STRING) for name in ("id", "source", "target")]


def measure(name: str, unit: str | None = None, description: str = "") -> Column:
    return Column(name, ColumnType.NUMBER, unit=unit, role=Role.MEASURE, description=description)


def dimension(name: str) -> Column:
    return Column(name, ColumnType.STRING, role=Role.DIMENSION)


def dataset(name: str, *columns: Column, shape: Shape = Shape.AUTO, params: tuple[Param, ...] = ()) -> Dataset:
    return Dataset(name, Schema(columns), shape, params, f"all of {name}")


def board_of(*datasets: Dataset) -> dict[str, Any]:
    text = dashboard_json(Catalogue(datasets), uid="b-datasets", title="bridge", datasource_uid="b")
    found: dict[str, Any] = json.loads(text)
    return found


ACC = measure("acc", "percentunit", "on unseen")
LAB = (
    dataset("lab.runs", TIME, MODEL, ACC, measure("loss"), measure("f1", "percentunit")),
    dataset("lab.table", MODEL, measure("count", "short"), Column("note", ColumnType.STRING)),
    dataset("lab.lines", TIME, MODEL, Column("message", ColumnType.STRING), shape=Shape.LOGS),
    dataset("lab.g_nodes", ID, shape=Shape.NODES),
    dataset("lab.g_edges", *EDGE, shape=Shape.EDGES),
    dataset("lab.events", TIME, Column("text", ColumnType.STRING), shape=Shape.ANNOTATIONS),
    dataset("field.runs", TIME, MODEL, measure("acc")),
)


def references(value: Any) -> Iterator[Any]:
    """Every datasource that is named anywhere."""
    if isinstance(value, dict):
        if "datasource" in value:
            yield value["datasource"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_grafana_12_reads_it_as_it_stands() -> None:
    board = board_of(*LAB)
    assert board["schemaVersion"] in range(39, 43)
    assert board["uid"] == "b-datasets"
    assert board["tags"] == ["bridge", MARK]
    assert "id" not in board
    assert (board["time"], board["refresh"]) == ({"from": "now-6h", "to": "now"}, "10s")
    assert {json.dumps(item, sort_keys=True) for item in references(board)} == {
        '{"type": "yesoreyeram-infinity-datasource", "uid": "${datasource}"}'
    }
    for panel in board["panels"]:
        if panel["type"] == "row":
            assert (panel["collapsed"], panel["panels"]) == (False, [])
        else:
            names = [target["refId"] for target in panel["targets"]]
            assert len(set(names)) == len(names) > 0
            assert panel["title"]
            assert panel["description"]
    [first, *_] = board["templating"]["list"]
    assert (first["type"], first["query"]) == ("datasource", "yesoreyeram-infinity-datasource")
    assert first["current"]["value"] == "b"


def test_no_panel_covers_another_and_each_has_its_own_number() -> None:
    board = board_of(*LAB)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        columns, lines = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        cells = {(x, y) for x in columns for y in lines}
        assert not cells & taken
        taken |= cells
    # No holes: every line is full.
    assert len(taken) == 24 * (max(y for _, y in taken) + 1)
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    assert all(0 < number < 2**31 for number in ids)


def test_each_source_is_a_row_and_each_dataset_is_drawn_by_its_shape() -> None:
    assert [(panel["type"], panel["title"]) for panel in board_of(*LAB)["panels"]] == [
        ("row", "lab"),
        ("timeseries", "runs: acc, f1"),
        ("timeseries", "runs: loss"),
        ("table", "table"),
        ("logs", "lines"),
        ("nodeGraph", "g"),
        ("table", "events"),
        ("row", "field"),
        ("timeseries", "runs"),
    ]


def test_measures_of_one_unit_share_an_axis_and_say_what_they_are() -> None:
    found = panels(board_of(*LAB))
    one, other = found["lab/runs: acc, f1"], found["lab/runs: loss"]
    assert one["fieldConfig"]["defaults"]["unit"] == "percentunit"
    assert "unit" not in other["fieldConfig"]["defaults"]
    assert one["description"] == "all of lab.runs\n\n- acc: on unseen"
    # Infinity puts every series on the times of all, so a line that ends at a null would be points only.
    assert one["fieldConfig"]["defaults"]["custom"]["spanNulls"] is True
    texts = [[column["text"] for column in panel["targets"][0]["columns"]] for panel in (one, other)]
    assert texts == [["time", "model", "acc", "f1"], ["time", "model", "loss"]]
    params = {item["key"]: item["value"] for item in one["targets"][0]["url_options"]["params"]}
    assert params["columns"] == "model,acc,f1"


def test_many_measures_are_spread_over_panels() -> None:
    many = [measure(f"measure_number_{index}", "s") for index in range(30)]
    found = panels(board_of(dataset("lab.wide", TIME, *many)))
    assert [len(panel["targets"][0]["columns"]) - 1 for panel in found.values()] == [12, 12, 6]
    assert all(len(panel["title"]) <= 80 for panel in found.values())


def test_columns_that_no_line_shows_are_in_a_table_of_the_rows() -> None:
    note = Column("note", ColumnType.STRING, description="by hand")
    found = panels(board_of(dataset("lab.runs", TIME, MODEL, measure("loss", "s"), note)))
    assert list(found) == ["lab/runs", "lab/runs: rows"]
    rows = found["lab/runs: rows"]
    assert rows["options"]["sortBy"] == [{"desc": True, "displayName": "time"}]
    assert rows["maxDataPoints"] == 100
    assert {"key": "step", "value": "${__interval_ms}"} in rows["targets"][0]["url_options"]["params"]


def test_a_table_keeps_the_order_the_units_and_the_meanings_of_its_columns() -> None:
    table = panels(board_of(*LAB))["lab/table"]
    [order] = table["transformations"]
    assert (order["id"], order["options"]["indexByName"]) == ("organize", {"model": 0, "count": 1, "note": 2})
    assert [(item["matcher"]["options"], item["properties"]) for item in table["fieldConfig"]["overrides"]] == [
        ("model", [{"id": "description", "value": "family"}]),
        ("count", [{"id": "unit", "value": "short"}]),
    ]


def test_a_name_with_a_comma_is_not_asked_for_by_name() -> None:
    [panel] = panels(board_of(dataset("lab.odd", TIME, measure("a,b")))).values()
    assert "columns" not in {item["key"] for item in panel["targets"][0]["url_options"]["params"]}


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("a_nodes", "b_nodes", "b_edges", "a_edges"), {"a": "a_edges", "b": "b_edges"}),
        (("nodes", "edges"), {"lab": "edges"}),
        (("places_nodes", "roads_edges"), {"places": "roads_edges"}),
        (("node", "arrows_edge"), {"lab": "arrows_edge"}),
        (("a_nodes", "b_nodes", "c_edges"), {}),
        (("a_nodes",), {}),
        (("a_edges",), {}),
    ],
)
def test_nodes_and_edges_of_one_name_are_one_graph(names: tuple[str, ...], wanted: dict[str, str]) -> None:
    given = [
        dataset(f"lab.{name}", *EDGE, shape=Shape.EDGES)
        if "edge" in name
        else dataset(f"lab.{name}", ID, shape=Shape.NODES)
        for name in names
    ]
    found = panels(board_of(*given))
    graphs = {panel["title"]: panel for panel in found.values() if panel["type"] == "nodeGraph"}
    assert {title: panel["targets"][1]["url"].rpartition("lab.")[2] for title, panel in graphs.items()} == wanted
    assert len(found) == len(names) - len(wanted)
    assert all([target["refId"] for target in panel["targets"]] == ["nodes", "edges"] for panel in graphs.values())


def test_the_same_datasets_give_the_same_bytes_and_a_panel_keeps_its_number() -> None:
    def text(datasets: tuple[Dataset, ...]) -> str:
        return dashboard_json(Catalogue(datasets), uid="b", title="t", datasource_uid="b")

    assert text(LAB) == text(LAB)
    before = {name: panel["id"] for name, panel in panels(json.loads(text(LAB[2:]))).items()}
    after = {name: panel["id"] for name, panel in panels(json.loads(text(LAB))).items()}
    assert before.items() <= after.items()


def test_two_panels_never_share_a_number() -> None:
    # The checksums of these two names are the same.
    one, other = panels(board_of(dataset("lab.qainrup", MODEL), dataset("lab.eewnyig", MODEL))).values()
    assert other["id"] == one["id"] + 1


def test_a_dimension_is_one_picker_per_source() -> None:
    found = variables(board_of(*LAB))
    assert {name: item["label"] for name, item in found.items()} == {
        "lab_model": "model (lab)",
        "field_model": "model (field)",
    }
    picker = found["lab_model"]
    assert (picker["multi"], picker["includeAll"], picker["allValue"]) == (True, True, ".*")
    assert picker["current"]["value"] == ["$__all"]
    # On load, as a choice whose rows leave the time range would be dropped with the next refresh.
    assert picker["refresh"] == 1
    body = json.loads(picker["query"]["infinityQuery"]["url_options"]["data"])
    assert body["payload"] == {"dataset": "{lab.runs,lab.table,lab.lines}", "column": "model"}


def test_a_graph_is_not_narrowed_as_an_edge_without_its_node_breaks_it() -> None:
    nodes, edges = dataset("lab.nodes", ID, MODEL, shape=Shape.NODES), dataset("lab.edges", *EDGE, shape=Shape.EDGES)
    board = board_of(nodes, edges)
    assert variables(board) == {}
    [panel] = panels(board).values()
    keys = [item["key"] for target in panel["targets"] for item in target["url_options"]["params"]]
    assert "model" not in keys


def test_names_that_meet_are_kept_apart() -> None:
    day = Column("day", ColumnType.TIME, role=Role.DIMENSION)
    must, may = (Param("model", required=True),), (Param("o", required=True, default="1"),)
    given = (
        dataset("a.x", MODEL, dimension("datasource"), day),
        dataset("a.y", dimension("__of"), params=must),
        dataset("a.z", dimension("site 1"), params=must),
        dataset("a.w", dimension("__"), params=may),
    )
    found = Catalogue(given).variables
    assert {v.name: (v.word, v.param is not None, len(v.datasets)) for v in found} == {
        "a_model": ("model", True, 2),
        "a_model_": ("model", False, 1),
        "a_datasource": ("datasource", False, 1),
        "of": ("__of", False, 1),
        "site_1": ("site 1", False, 1),
        "value": ("__", False, 1),
    }


def test_the_words_of_a_request_are_those_of_the_service() -> None:
    assert set(PARAMETERS) == RESERVED


def test_the_service_does_not_load_what_writes_dashboards() -> None:
    script = "import sys, bridge.cli, bridge.web.routes; print([n for n in sys.modules if 'grafana_foundation' in n])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
