"""The dashboard of the data's state, and the table of it above the data, asked as Infinity's backend asks."""

from __future__ import annotations

import json
from typing import Any

import aiohttp

from bridge.model.schema import Column, ColumnType, Schema, Shape
from bridge.provision.catalogue import Catalogue, Dataset
from bridge.provision.files import documents, target
from bridge.provision.queries import MAX_VALUES, states_model
from bridge.sources.lineage_graph import EDGE_COLUMNS, NODE_COLUMNS
from bridge.sources.system import FINDING_COLUMNS, STATUS_COLUMNS
from bridge.web import payload
from servers.boards import STATUS_BOARD, choices, opened, panels, pickers, provisioned, shown, variables
from servers.house import NOW, START, YAML, House, Start, ms
from servers.infinity import Frame, Infinity, View

SETTINGS = YAML[: YAML.index("      - name: missing")]
STATUS = Dataset("_status", Schema(STATUS_COLUMNS), Shape.TABLE)
SYSTEM = {
    "_status": STATUS,
    "_findings": Dataset("_findings", Schema(FINDING_COLUMNS)),
    "_lineage": Dataset("_lineage", Schema(NODE_COLUMNS), Shape.NODES),
    "_lineage_edges": Dataset("_lineage_edges", Schema(EDGE_COLUMNS), Shape.EDGES),
}
DATA = Catalogue((Dataset("lab.x", Schema((Column("n", ColumnType.NUMBER),))),))


def board_of(uid: str = "bridge-infinity") -> dict[str, Any]:
    files = {file.path: file.text for file in documents(DATA, target("http://b", uid, "/d", 1), SYSTEM)}
    found: dict[str, Any] = json.loads(files[STATUS_BOARD])
    return found


async def status_board(bridge: House) -> dict[str, Any]:
    """The dashboard that the command writes for a running bridge."""
    words = (bridge.folder / "bridge.yaml", bridge.folder / "g", "--url", bridge.url)
    return await provisioned(*words, board=STATUS_BOARD)


def view_of(board: dict[str, Any]) -> View:
    return opened(board, ms(START), ms(NOW) + 1)


def rows(frame: Frame) -> list[dict[str, Any]]:
    names = [field.name for field in frame.fields]
    return [dict(zip(names, row, strict=True)) for row in zip(*(f.values for f in frame.fields), strict=True)]


def looks(panel: dict[str, Any], column: str) -> dict[str, Any]:
    """What Grafana is told of one column."""
    [found] = [o for o in panel["fieldConfig"]["overrides"] if o["matcher"]["options"] == column]
    return {item["id"]: item["value"] for item in found["properties"]}


def test_it_has_a_panel_for_state_findings_times_and_lineage() -> None:
    board = board_of()
    assert [(panel["type"], panel["title"]) for panel in board["panels"]] == [
        ("table", "Datasets"),
        ("table", "Findings"),
        ("barchart", "Fetch time, 95th percentile"),
        ("nodeGraph", "Lineage"),
    ]
    assert (board["uid"], board["title"]) == ("bridge-infinity-status", "bridge: data status")
    assert (board_of("b-2")["uid"], board_of("b-2")["title"]) == ("b-2-status", "bridge: data status (b-2)")
    assert list(variables(board)) == ["dataset", "source"]
    assert board == board_of()


def test_what_is_wrong_stands_out() -> None:
    table = panels(board_of())["/Datasets"]
    [mapping] = looks(table, "state")["mappings"]
    assert {value: item["color"] for value, item in mapping["options"].items()} == {
        "ok": "green",
        "unknown": "transparent",
        **dict.fromkeys(("needs_auth", "held_back", "schema_changed"), "orange"),
        **dict.fromkeys(("down", "failed"), "red"),
    }
    for column, color in (("findings_warn", "orange"), ("findings_block", "red")):
        assert looks(table, column)["thresholds"]["steps"] == [
            {"color": "transparent", "value": None},
            {"color": color, "value": 1},
        ]
        assert looks(table, column)["custom.cellOptions"]["type"] == "color-background"
    assert looks(table, "age_s")["thresholds"]["steps"][-1] == {"color": "orange", "value": 3600}
    [mapping] = looks(panels(board_of())["/Findings"], "level")["mappings"]
    assert mapping["options"]["block"]["color"] == "red"


def test_without_the_system_datasets_there_is_no_board() -> None:
    paths = [file.path for file in documents(DATA, target("http://b", "b", "/d", 1))]
    assert STATUS_BOARD not in paths


async def test_every_query_of_it_is_answered(start: Start, session: aiohttp.ClientSession) -> None:
    bridge = await start(SETTINGS)
    board = await status_board(bridge)
    await bridge.get("/api/v1/datasets/lab.runs")
    infinity, view, found = Infinity(bridge.url, session), view_of(board), panels(board)
    [datasets] = await shown(infinity, found["/Datasets"], view)
    states = {row["dataset"]: row["state"] for row in rows(datasets)}
    assert (len(states), states["lab.runs"], states["lab.empty"]) == (9, "ok", "unknown")
    assert {field.name: field.type for field in datasets.fields}.items() >= {
        "last_success": "time",
        "age_s": "number",
        "stale": "boolean",
    }.items()
    [findings] = await shown(infinity, found["/Findings"], view)
    assert (findings.rows, findings.meta) == (0, "")
    [times] = await shown(infinity, found["/Fetch time, 95th percentile"], view)
    assert {field.name: field.type for field in times.fields} == {"dataset": "string", "latency_p95_s": "number"}
    nodes, edges = await shown(infinity, found["/Lineage"], view)
    assert [nodes.meta, edges.meta] == ["nodeGraph", "nodeGraph"]
    assert {*edges.field("source").values, *edges.field("target").values} <= set(nodes.field("id").values)
    offered = {item["name"]: await choices(infinity, item, view) for item in pickers(board)}
    assert offered["source"] == ["lab"]
    assert sorted(offered["dataset"]) == sorted(states)


async def test_a_choice_narrows_all_of_it(start: Start, session: aiohttp.ClientSession) -> None:
    bridge = await start(SETTINGS)
    board = await status_board(bridge)
    infinity, view, found = Infinity(bridge.url, session), view_of(board), panels(board)
    for chosen in (["lab.runs"], ["lab.runs", "lab.lines"]):
        one = view.choosing(dataset=chosen)
        for name in ("/Datasets", "/Fetch time, 95th percentile"):
            [frame] = await shown(infinity, found[name], one)
            assert frame.field("dataset").values == chosen
        nodes, edges = await shown(infinity, found["/Lineage"], one)
        assert sorted(nodes.field("id").values) == sorted(["lab", *chosen])
        assert sorted(edges.field("target").values) == sorted(chosen)


async def test_above_the_data_stands_whether_it_is_new(start: Start, session: aiohttp.ClientSession) -> None:
    """Infinity shows no notice: the user of a panel of the last good answer reads it here."""
    bridge = await start(SETTINGS)
    board = await provisioned(bridge.folder / "bridge.yaml", bridge.folder / "g", "--url", bridge.url)
    first = board["panels"][0]
    assert (first["title"], first["gridPos"]["y"], first["type"]) == ("State of this data", 0, "table")
    await bridge.get("/api/v1/datasets/lab.runs")
    (bridge.folder / "runs.csv").unlink()
    bridge.clock.passed_s += 30
    infinity = Infinity(bridge.url, session)
    view = opened(board, ms(START), ms(NOW) + 1, model_file="svm")
    [lines] = await shown(infinity, panels(board)["lab/runs: loss"], view)
    assert lines.rows
    [frame] = await shown(infinity, first, view)
    found = {row["dataset"]: row for row in rows(frame)}
    assert list(found) == [f"lab.{name}" for name in _names()]
    assert (found["lab.runs"]["state"], found["lab.runs"]["stale"], found["lab.runs"]["age_s"]) == ("down", True, 30)
    assert "runs.csv" in found["lab.runs"]["error"]
    assert (found["lab.lines"]["state"], found["lab.lines"]["stale"]) == ("unknown", False)
    assert set(found["lab.runs"]) == {
        *("dataset", "state", "stale", "age_s", "findings_warn", "findings_block", "error", "remedy")
    }


def _names() -> list[str]:
    return ["runs", "empty", "guessed", "by_model", "events", "lines", "nodes", "edges", "choices"]


async def test_it_tells_of_the_datasets_shown_only(start: Start, session: aiohttp.ClientSession) -> None:
    """One that was left out of the dashboard is no part of its state."""
    bridge = await start(YAML.replace("        columns: [{name: host, type: string, role: dimension}]\n", ""))
    words = (bridge.folder / "bridge.yaml", bridge.folder / "g", "--url", bridge.url, "--skip-failing")
    board = await provisioned(*words)
    [frame] = await shown(
        Infinity(bridge.url, session), board["panels"][0], opened(board, ms(START), ms(NOW) + 1, model_file="svm")
    )
    assert frame.field("dataset").values == [f"lab.{name}" for name in _names()]


def test_more_datasets_than_one_question_can_name_are_all_shown() -> None:
    assert MAX_VALUES == payload.MAX_VALUES

    def asked(count: int) -> dict[str, Any]:
        model = states_model(STATUS, [f"lab.d{index}" for index in range(count)], ["dataset", "state"])
        found: dict[str, Any] = json.loads(model["url_options"]["data"])
        return found

    assert len(asked(MAX_VALUES)["dataset"]) == MAX_VALUES
    assert "dataset" not in asked(MAX_VALUES + 1)
