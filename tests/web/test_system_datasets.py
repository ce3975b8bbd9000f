"""What tells of the others answers in every dialect, and an answer that is not new says so in each of them."""

from __future__ import annotations

import csv as csv_text
import io
import json
from typing import Any

import pytest

from servers.house import NOW, START, SYSTEM, House, Reply, Start, iso, ms

STATUS = "/api/v1/datasets/_status"
RANGE = {"from": iso(ms(START)), "to": iso(ms(NOW) + 60_000)}
EVENTS = "/api/v1/datasets/lab.events"


async def query(bridge: House, name: str, **more: Any) -> list[dict[str, Any]]:
    """The frames of a panel of the JSON datasource."""
    body = {"targets": [{"refId": "A", "target": name}], "range": RANGE, **more}
    reply = await bridge.post("/json/query", body)
    assert reply.status == 200, reply.text
    found: list[dict[str, Any]] = reply.json
    return found


def table(frame: dict[str, Any]) -> list[dict[str, Any]]:
    names = [field["name"] for field in frame["schema"]["fields"]]
    return [dict(zip(names, row, strict=True)) for row in zip(*frame["data"]["values"], strict=True)]


def said(reply: Reply) -> list[str]:
    return [notice["text"] for notice in json.loads(reply.headers.get("X-Bridge-Notices", "[]"))]


async def states(bridge: House) -> dict[str, str]:
    """What `_status` says now."""
    reply = await bridge.get(STATUS, {"fresh": "1"})
    return {row["dataset"]: row["state"] for row in reply.json}


async def test_status_is_a_table_in_the_json_datasource(bridge: House) -> None:
    await bridge.get("/api/v1/datasets/lab.runs")
    [frame] = await query(bridge, "_status", panelPluginId="table", maxDataPoints=10)
    rows = {row["dataset"]: row for row in table(frame)}
    assert (len(rows), rows["lab.runs"]["state"], rows["lab.runs"]["rows"]) == (10, "ok", 12)
    assert rows["lab.runs"]["last_success"] == ms(NOW)
    units = {field["name"]: field.get("config", {}).get("unit") for field in frame["schema"]["fields"]}
    assert (units["age_s"], units["latency_p95_s"], units["history_bytes"]) == ("s", "s", "bytes")


async def test_a_payload_narrows_it(bridge: House) -> None:
    body = {"targets": [{"refId": "A", "target": "_status", "payload": {"dataset": ["lab.runs", "lab.lines"]}}]}
    [frame] = (await bridge.post("/json/query", body)).json
    assert [row["dataset"] for row in table(frame)] == ["lab.runs", "lab.lines"]


@pytest.mark.parametrize("form", ["rows", "page", "csv", "ndjson", "arrow", "frame"])
@pytest.mark.parametrize("name", SYSTEM)
async def test_every_format_is_given(bridge: House, name: str, form: str) -> None:
    reply = await bridge.get(f"/api/v1/datasets/{name}", {"format": form})
    assert reply.status == 200, reply.text
    assert reply.body or form == "ndjson"


async def test_a_page_of_status_is_what_infinity_reads(bridge: House) -> None:
    page = (await bridge.get(STATUS, {"format": "page", "limit": 4})).json
    assert [row["dataset"] for row in page["rows"]] == ["lab.runs", "lab.empty", "lab.guessed", "lab.by_model"]
    again = (await bridge.get(STATUS, {"format": "page", "limit": 50, "cursor": page["next_cursor"]})).json
    assert (len(again["rows"]), again["next_cursor"]) == (6, "")
    model = (await bridge.get(f"{STATUS}/infinity")).json
    assert (model["url"], model["format"]) == (STATUS, "table")
    assert {column["text"]: column["type"] for column in model["columns"]}["last_success"] == "timestamp_epoch"


async def test_variables_filters_batch_and_schema_know_them(bridge: House) -> None:
    found = (await bridge.post("/json/variable", {"payload": {"target": "_status.source"}})).json
    assert found == [{"__text": "lab", "__value": "lab"}]
    queries = [{"refId": "A", "target": "_status"}]
    keys = (await bridge.post("/json/tag-keys", {"queries": queries})).json
    assert {"state", "dataset", "age_s"} <= {item["value"] for item in keys}
    values = (await bridge.post("/json/tag-values", {"key": "kind", "queries": queries})).json
    assert values == [{"text": "files", "value": "files"}]
    batch = {"queries": [{"dataset": "_status"}, {"dataset": "_lineage", "params": {"dataset": "lab.runs"}}]}
    results = (await bridge.post("/api/v1/batch", batch)).json["results"]
    assert [item["status"] for item in results.values()] == [200, 200]
    assert len(table(results["Q1"]["frames"][0])) == 2
    schema = (await bridge.get("/api/v1/datasets/_findings/schema")).json
    assert (schema["name"], schema["refresh_s"]) == ("_findings", 1)
    assert (await bridge.post("/json/search", {"target": "_line"})).json == ["_lineage", "_lineage_edges"]
    options = {"metric": "_status", "name": "state", "payload": {}}
    assert (await bridge.post("/json/metric-payload-options", options)).json == [
        {"label": "unknown", "value": "unknown"}
    ]


async def test_lineage_is_a_graph_that_grafana_draws(bridge: House) -> None:
    targets = [{"refId": "A", "target": "_lineage"}, {"refId": "B", "target": "_lineage_edges"}]
    body = {"targets": targets, "panelPluginId": "nodeGraph"}
    nodes, edges = (await bridge.post("/json/query", body)).json
    for frame in (nodes, edges):
        assert frame["schema"]["meta"]["preferredVisualisationType"] == "nodeGraph"
        assert "notices" not in frame["schema"]["meta"]
    ids = {row["id"] for row in table(nodes)}
    assert {"lab", "lab.runs"} <= ids
    assert {end for row in table(edges) for end in (row["source"], row["target"])} <= ids


async def test_lineage_of_what_there_is_not_is_a_bad_question(bridge: House) -> None:
    reply = await bridge.get("/api/v1/datasets/_lineage", {"dataset": "lab.rums"})
    assert (reply.status, reply.json["code"]) == (400, "bad_query")
    assert "lab.runs" in reply.json["remedy"]


async def test_no_list_of_data_holds_them(bridge: House) -> None:
    """Neither the first page, nor the sources, nor the test button, nor a variable over all datasets."""
    await bridge.get(STATUS)
    sources = (await bridge.get("/api/v1/sources")).json["sources"]
    assert [item["name"] for item in sources] == ["lab"]
    assert (await bridge.get("/api/v1/sources/_bridge")).status == 404
    for path in ("/", "/json", "/readyz", "/api/v1/sources"):
        assert "_status" not in (await bridge.get(path)).text
    metrics = (await bridge.get("/metrics")).text
    told = [line for line in metrics.splitlines() if "_status" in line and not line.startswith("#")]
    assert [line for line in told if line.startswith(("bridge_dataset", "bridge_source", "bridge_cache"))] == []
    assert (await bridge.post("/json/variable", {"payload": {"target": ""}})).json[-1]["__value"] == "lab.missing"
    assert (await bridge.get("/api/v1/datasets")).json["datasets"][-1]["system"] is True


ONE = f"time,value,text\n{iso(ms(START))},1,one\n"
SETTINGS = """
sources:
  - name: far
    kind: files
    datasets:
      - name: runs
        retries: 0
        refresh_s: 5
        stale_after_s: 600
        options: {path: one.csv}
        columns:
          - {name: time, type: time, role: time}
          - {name: value, type: number, role: measure}
          - {name: text, type: string}
"""


async def stale(start: Start) -> House:
    """A bridge whose only source answered once, half a minute ago, and answers no more."""
    bridge = await start(SETTINGS, files={"one.csv": ONE})
    assert (await bridge.get("/api/v1/datasets/far.runs")).status == 200
    (bridge.folder / "one.csv").unlink()
    bridge.clock.passed_s += 30
    return bridge


SHOWN = "Shown is the last good answer, 30 s old"


async def test_a_stale_answer_says_so_in_each_dialect(start: Start) -> None:
    """Frames by notice and mark, pages by key, all other rows by a header; and `_status` in all of them."""
    bridge = await stale(start)
    [frame] = await query(bridge, "far.runs")
    [notice] = frame["schema"]["meta"]["notices"]
    assert notice["severity"] == "warning"
    assert SHOWN in notice["text"]
    assert frame["schema"]["meta"]["custom"]["stale"] is True

    page = (await bridge.get("/api/v1/datasets/far.runs", {"format": "page"})).json
    assert page["stale"] is True
    assert [item["severity"] for item in page["notices"]] == ["warning"]
    assert SHOWN in page["notices"][0]["text"]
    assert [row["value"] for row in page["rows"]] == [1]

    for form in ("rows", "csv", "ndjson", "arrow"):
        [text] = said(await bridge.get("/api/v1/datasets/far.runs", {"format": form}))
        assert SHOWN in text

    assert await states(bridge) == {"far.runs": "down"}
    reply = await bridge.get(STATUS, {"format": "csv", "fresh": "1"})
    [row] = csv_text.DictReader(io.StringIO(reply.text))
    assert (row["stale"], row["age_s"], row["state"]) == ("true", "30.0", "down")


async def test_stale_annotations_have_one_more_from_the_last_good_answer_to_the_end(start: Start) -> None:
    """Grafana shows no notice of annotations, and without a mark a missing one looks like one that never was."""
    bridge = await stale(start)
    old = {"annotation": {"query": "far.runs", "name": "a"}, "range": RANGE}
    first, mark = (await bridge.post("/json/annotations", old)).json
    assert first["text"] == "one"
    assert (mark["time"], mark["timeEnd"], mark["isRegion"]) == (ms(NOW), ms(NOW) + 60_000, True)
    assert SHOWN in mark["text"]
    assert mark["title"] == "far.runs: no newer annotations"

    scoped = {"__annotation": {"value": {}}}
    [frame] = await query(bridge, "far.runs", scopedVars=scoped)
    assert [row["time"] for row in table(frame)] == [ms(START), ms(NOW)]
    assert [row["timeEnd"] for row in table(frame)] == [None, ms(NOW) + 60_000]

    past = {**old, "range": {"from": iso(ms(START)), "to": iso(ms(NOW) - 1)}}
    assert len((await bridge.post("/json/annotations", past)).json) == 1, "of that time all is known"
    later = {**old, "range": {"from": iso(ms(NOW) + 5_000), "to": iso(ms(NOW) + 60_000)}}
    [mark] = (await bridge.post("/json/annotations", later)).json
    assert mark["time"] == ms(NOW) + 5_000
    endless = {"annotation": {"query": "far.runs"}}
    assert [item.get("timeEnd") for item in (await bridge.post("/json/annotations", endless)).json] == [None, None]


async def test_good_annotations_have_no_mark(bridge: House) -> None:
    found = (await bridge.post("/json/annotations", {"annotation": {"query": "lab.events"}, "range": RANGE})).json
    assert [item["text"] for item in found] == ["new model", "by hand"]


async def test_a_good_answer_is_not_stale_and_a_failed_one_is_an_error_in_its_page(bridge: House) -> None:
    page = (await bridge.get(EVENTS, {"format": "page"})).json
    assert (page["stale"], page["notices"]) == (False, [])
    missing = {"format": "page", "on_error": "frame"}
    page = (await bridge.get("/api/v1/datasets/lab.missing", missing)).json
    assert [item["severity"] for item in page["notices"]] == ["error"]
    assert "none.csv" in page["notices"][0]["text"]


async def test_what_the_question_itself_makes_bridge_say_stands_in_the_page_too(bridge: House) -> None:
    params = {"format": "page", "step": "$__interval"}
    page = (await bridge.get("/api/v1/datasets/lab.runs", params)).json
    assert [item["severity"] for item in page["notices"]] == ["info"]
