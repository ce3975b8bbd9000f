"""The ready query of a dataset works in Infinity as it is: its parameters, its columns and its paging."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import BadQuery
from bridge.model.schema import Column, ColumnType, Param, Role, Schema, Shape
from bridge.provision.infinity import MAX_PAGES, PAGE_ROWS, query_model
from servers.house import FILES, START, YAML, House, Reply, Start, ms, runs

RECORDED = Path(__file__).parents[1] / "recordings" / "requests.jsonl"
TO = ms(START) + 7_200_000
# What Infinity's own defaults would fill in differently from parser to parser.
PAGING = {
    "pagination_mode": "cursor",
    "pagination_max_pages": MAX_PAGES,
    "pagination_param_size_field_name": "limit",
    "pagination_param_size_field_type": "query",
    "pagination_param_size_value": PAGE_ROWS,
    "pagination_param_offset_field_name": "offset",
    "pagination_param_offset_field_type": "query",
    "pagination_param_offset_value": 0,
    "pagination_param_page_field_name": "page",
    "pagination_param_page_field_type": "query",
    "pagination_param_page_value": 1,
    "pagination_param_cursor_field_name": "cursor",
    "pagination_param_cursor_field_type": "query",
    "pagination_param_cursor_extraction_path": "next_cursor",
    "pagination_param_list_field_name": "",
    "pagination_param_list_field_type": "query",
    "pagination_param_list_value": "",
}


def recorded_headers() -> dict[str, str]:
    """The headers of a recorded request of Infinity's Go backend, but for the host."""
    for line in RECORDED.read_text(encoding="utf-8").splitlines():
        request = json.loads(line)
        if request["label"] == "inf-dash" and request["method"] == "GET" and request["path"] == "/inf/ts":
            return {name: value for name, value in request["headers"] if name != "Host"}
    raise AssertionError("nothing was recorded")


async def model_of(bridge: House, name: str) -> dict[str, Any]:
    reply = await bridge.get(f"/api/v1/datasets/lab.{name}/infinity")
    assert reply.status == 200, reply.text
    found: dict[str, Any] = reply.json
    return found


async def ask(bridge: House, model: dict[str, Any], filled: dict[str, str]) -> list[Reply]:
    """What Infinity's backend sends for the model: parameters sorted, then page by page until the cursor is empty."""
    macros = {"${__timeFrom}": str(ms(START)), "${__timeTo}": str(TO), **filled}
    params = {item["key"]: macros.get(item["value"], item["value"]) for item in model["url_options"]["params"]}
    out: list[Reply] = []
    for _ in range(model["pagination_max_pages"] + 1):
        reply = await bridge.get(model["url"], params, headers=recorded_headers())
        assert reply.status == 200, reply.text
        if reply.headers.get("Content-Encoding") == "gzip":
            reply.body = gzip.decompress(reply.body)
        out.append(reply)
        cursor = reply.json[model["pagination_param_cursor_extraction_path"]]
        if cursor == "":
            break
        params[model["pagination_param_cursor_field_name"]] = cursor
    return out


def framed(model: dict[str, Any], replies: list[Reply]) -> dict[str, list[Any]]:
    """The fields Infinity's backend makes of the answers: only declared columns, of the declared type."""
    rows = [row for reply in replies for row in reply.json[model["root_selector"]]]
    # Infinity writes a number that is declared as text as text.
    wanted = {"number": (int, float), "string": (str, int, float), "timestamp_epoch": int, "boolean": bool}
    out: dict[str, list[Any]] = {}
    for column in model["columns"]:
        values = [row[column["selector"]] for row in rows]
        assert all(value is None or isinstance(value, wanted[column["type"]]) for value in values), column
        out[column["text"]] = values
    return out


@pytest.mark.parametrize(
    "name", ["runs", "empty", "guessed", "by_model", "events", "lines", "nodes", "edges", "choices"]
)
async def test_nothing_is_left_to_defaults(bridge: House, name: str) -> None:
    model = await model_of(bridge, name)
    assert {key: model[key] for key in PAGING} == PAGING
    assert model["type"] == "json"
    assert model["source"] == "url"
    assert model["parser"] == "backend"
    assert model["root_selector"] == "rows"
    assert model["url_options"]["method"] == "GET"
    assert model["columns"]


async def test_a_series_is_asked_for_over_the_panels_time_in_its_step(bridge: House) -> None:
    model = await model_of(bridge, "runs")
    assert model["format"] == "timeseries"
    assert model["url_options"]["params"] == [
        {"key": "format", "value": "page"},
        {"key": "from", "value": "${__timeFrom}"},
        {"key": "limit", "value": str(PAGE_ROWS)},
        {"key": "step", "value": "${__interval_ms}"},
        {"key": "to", "value": "${__timeTo}"},
    ]
    # The attribute `note` would become a label of the series, and a numeric dimension a line of its own.
    assert model["columns"] == [
        {"selector": "time", "text": "time", "type": "timestamp_epoch"},
        {"selector": "model", "text": "model", "type": "string"},
        {"selector": "size", "text": "size", "type": "string"},
        {"selector": "accuracy", "text": "accuracy", "type": "number"},
        {"selector": "loss", "text": "loss", "type": "number"},
    ]
    found = framed(model, await ask(bridge, model, {"${__interval_ms}": "60000"}))
    assert found["time"] == sorted(found["time"]) == [row["time"] for row in runs()]
    assert found["accuracy"] == [row["accuracy"] for row in runs()]


async def test_a_step_an_alert_rule_leaves_unfilled_is_no_error(bridge: House) -> None:
    model = await model_of(bridge, "runs")
    for macro in ("${__interval_ms}", "$__interval_ms"):
        found = framed(model, await ask(bridge, model, {"${__interval_ms}": macro}))
        assert found["loss"] == [row["loss"] for row in runs()]


async def test_a_wider_step_gives_fewer_points(bridge: House) -> None:
    model = await model_of(bridge, "runs")
    found = framed(model, await ask(bridge, model, {"${__interval_ms}": "7200000"}))
    # One point for each of the six series.
    assert len(found["time"]) == 6


async def test_pages_are_followed_to_the_end(start: Start) -> None:
    lines = "\n".join(f"{ms(START) + index},m,1,0.5,{index},n" for index in range(25_000))
    bridge = await start(files={**FILES, "runs.csv": f"time,model,size,accuracy,loss,note\n{lines}\n"})
    model = await model_of(bridge, "runs")
    replies = await ask(bridge, model, {"${__interval_ms}": "$__interval_ms"})
    assert [len(reply.json["rows"]) for reply in replies] == [10_000, 10_000, 5_000]
    assert framed(model, replies)["loss"] == list(range(25_000))


async def test_an_empty_dataset_is_an_empty_page(bridge: House) -> None:
    model = await model_of(bridge, "empty")
    [reply] = await ask(bridge, model, {"${__interval_ms}": "1000"})
    assert (reply.json["rows"], reply.json["next_cursor"]) == ([], "")


async def test_logs_come_under_the_names_infinity_looks_for(bridge: House) -> None:
    model = await model_of(bridge, "lines")
    assert model["format"] == "logs"
    assert "step" not in {item["key"] for item in model["url_options"]["params"]}
    assert framed(model, await ask(bridge, model, {})) == {
        "timestamp": [ms(START), ms(START) + 1000],
        "body": ["started", "failed to read"],
        "severity": ["info", "error"],
    }


async def test_a_graph_is_two_queries_with_the_formats_of_its_halves(bridge: House) -> None:
    nodes, edges = await model_of(bridge, "nodes"), await model_of(bridge, "edges")
    assert (nodes["format"], edges["format"]) == ("node-graph-nodes", "node-graph-edges")
    assert framed(nodes, await ask(bridge, nodes, {})) == {
        "id": ["1", "2"],
        "title": ["one", "two"],
        "mainstat": [0.5, 0.25],
    }
    assert framed(edges, await ask(bridge, edges, {}))["source"] == ["1", "2"]


async def test_what_is_neither_is_a_table(bridge: House) -> None:
    for name in ("events", "guessed", "choices"):
        model = await model_of(bridge, name)
        assert model["format"] == "table"
        assert framed(model, await ask(bridge, model, {}))


async def test_parameters_that_must_be_given_are_dashboard_variables(bridge: House) -> None:
    model = await model_of(bridge, "by_model")
    params = {item["key"]: item["value"] for item in model["url_options"]["params"]}
    assert params["model_file"] == "${model_file}"
    assert params["mode"] == "fast"
    assert "tags" not in params
    found = framed(model, await ask(bridge, model, {"${model_file}": "svm", "${__interval_ms}": "60000"}))
    assert set(found["model"]) == {"svm"}


def test_annotations_come_under_the_names_grafana_looks_for() -> None:
    schema = Schema(
        (
            Column("At", ColumnType.TIME, role=Role.TIME, select="far.at"),
            Column("END", ColumnType.TIME),
            Column("Text", ColumnType.STRING),
            Column("ID", ColumnType.NUMBER),
        )
    )
    model = query_model("a.b", schema, Shape.ANNOTATIONS)
    assert model["format"] == "table"
    assert model["columns"] == [
        {"selector": "At", "text": "time", "type": "timestamp_epoch"},
        {"selector": "END", "text": "timeEnd", "type": "timestamp_epoch"},
        {"selector": "Text", "text": "text", "type": "string"},
        {"selector": "ID", "text": "id", "type": "number"},
    ]


def test_every_type_of_column_has_one_that_infinity_knows() -> None:
    schema = Schema(tuple(Column(kind.value, kind) for kind in ColumnType))
    types = {column["text"]: column["type"] for column in query_model("a.b", schema, Shape.TABLE)["columns"]}
    assert types == {
        "time": "timestamp_epoch",
        "number": "number",
        "string": "string",
        "boolean": "boolean",
        "json": "string",
    }


def test_a_measure_that_is_no_number_is_not_drawn_and_ids_are_texts() -> None:
    when = Column("time", ColumnType.TIME, role=Role.TIME)
    flag = Column("flag", ColumnType.BOOLEAN, role=Role.MEASURE)
    value = Column("value", ColumnType.NUMBER, role=Role.MEASURE)
    alone = query_model("a.b", Schema((when, flag)), Shape.AUTO)
    assert alone["format"] == "table"
    beside = query_model("a.b", Schema((when, flag, value)), Shape.TIMESERIES)
    assert beside["format"] == "timeseries"
    assert [column["text"] for column in beside["columns"]] == ["time", "value"]
    graph = Schema((Column("id", ColumnType.NUMBER), Column("mainstat", ColumnType.NUMBER)))
    nodes = query_model("a.b", graph, Shape.NODES)
    assert [column["type"] for column in nodes["columns"]] == ["string", "number"]


def test_a_name_with_signs_of_a_path_is_written_so_that_it_is_found() -> None:
    [column] = query_model("a.b", Schema((Column("a.b|c", ColumnType.STRING),)), Shape.TABLE)["columns"]
    assert column == {"selector": r"a\.b\|c", "text": "a.b|c", "type": "string"}


def test_a_dataset_that_lacks_what_its_shape_needs_says_so() -> None:
    with pytest.raises(BadQuery, match="no column `id`, `source`, `target`"):
        query_model("a.b", Schema((Column("x", ColumnType.NUMBER),)), Shape.EDGES)


def test_an_optional_parameter_without_a_default_is_left_out() -> None:
    schema = Schema((Column("x", ColumnType.STRING),))
    own = (Param("a"), Param("b", default=""), Param("c", required=True, default="1"))
    params = query_model("a.b", schema, Shape.AUTO, own)["url_options"]["params"]
    assert params == [
        {"key": "b", "value": ""},
        {"key": "c", "value": "1"},
        {"key": "format", "value": "page"},
        {"key": "limit", "value": str(PAGE_ROWS)},
    ]


async def test_the_schema_of_a_dataset_that_cannot_be_read_is_an_error(start: Start) -> None:
    bridge = await start(YAML.replace("columns: [{name: host, type: string, role: dimension}]", ""))
    assert (await bridge.get("/api/v1/datasets/lab.missing/infinity")).status == 502
    assert (await bridge.get("/api/v1/datasets/lab.missing/schema")).status == 502
