"""Grafana's JSON datasource and its older sibling get from `/json` what they can draw."""

from __future__ import annotations

import json
from typing import Any

import pytest

from servers.house import FILES, MODELS, NOW, START, SYSTEM, YAML, House, Start, ms, runs

POSTS = [
    "metrics",
    "metric-payload-options",
    "query",
    "variable",
    "tag-keys",
    "tag-values",
    "search",
    "annotations",
]
RANGE = {"from": "2026-01-31T10:00:00.000Z", "to": "2026-01-31T12:00:00.000Z"}


async def query(bridge: House, *targets: dict[str, Any], status: int = 200, **body: Any) -> Any:
    """The answer of /json/query."""
    reply = await bridge.post("/json/query", {"targets": list(targets), **body})
    assert reply.status == status, reply.text
    return reply.json


def target(name: str = "lab.runs", ref_id: str = "A", **more: Any) -> dict[str, Any]:
    return {"refId": ref_id, "target": name, **more}


def columns(frame: dict[str, Any]) -> dict[str, list[Any]]:
    names = [field["name"] for field in frame["schema"]["fields"]]
    return dict(zip(names, frame["data"]["values"], strict=True))


def notices(frame: dict[str, Any]) -> list[str]:
    return [notice["text"] for notice in frame["schema"]["meta"].get("notices", ())]


@pytest.mark.parametrize("path", ["/json", "/json/"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_test_button_is_answered_with_and_without_a_slash(bridge: House, path: str, method: str) -> None:
    reply = await bridge.get(path, method=method, headers={"Content-Type": "application/json"})
    assert reply.status == 200
    assert method == "HEAD" or "lab.runs" in reply.json["datasets"]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("body", [b"", b"  \n", b"{}"])
async def test_an_empty_body_is_never_a_fault(bridge: House, path: str, body: bytes) -> None:
    reply = await bridge.post(f"/json/{path}", body)
    wanted = {"variable": 400, "tag-values": 400, "metric-payload-options": 404}
    assert reply.status == wanted.get(path, 200), reply.text
    if reply.status == 200:
        assert isinstance(reply.json, list)
    else:
        assert reply.json["message"]
        assert reply.json["error"]


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", ""])
async def test_the_content_type_of_a_query_does_not_matter(bridge: House, content_type: str) -> None:
    body = json.dumps({"targets": [target()]}).encode()
    reply = await bridge.post("/json/query", body, headers={"Content-Type": content_type})
    assert len(reply.json) == 12


async def test_unknown_keys_are_ignored(bridge: House) -> None:
    found = await query(
        bridge, target(newKey=1, datasource={"uid": "x"}), app="dashboard", futureKey={"a": [1]}, scopedVars=None
    )
    assert len(found) == 12


async def test_a_series_per_dimension_and_measure_carries_ref_id_labels_units_and_times(bridge: House) -> None:
    found = await query(bridge, target(ref_id="B"), range=RANGE, maxDataPoints=500)
    assert {frame["schema"]["refId"] for frame in found} == {"B"}
    first = found[0]
    fields = first["schema"]["fields"]
    assert first["schema"]["meta"]["type"] == "timeseries-multi"
    assert [field["type"] for field in fields] == ["time", "number"]
    assert fields[1]["labels"] == {"model": "knn", "size": "10"}
    assert fields[1]["config"]["unit"] == "percentunit"
    chosen = [row for row in runs() if row["model"] == "knn" and row["size"] == 10]
    assert columns(first) == {
        "time": [row["time"] for row in chosen],
        "accuracy": [row["accuracy"] for row in chosen],
    }


async def test_the_range_is_half_open(bridge: House) -> None:
    edge = START.replace(minute=10)
    found = await query(bridge, target("lab.runs"), range={"from": ms(START), "to": ms(edge)}, panelPluginId="table")
    assert columns(found[0])["time"] == [ms(START)]


async def test_hidden_and_empty_targets_are_left_out(bridge: House) -> None:
    found = await query(
        bridge,
        target(ref_id="A", hide=True),
        target("", "B"),
        {"refId": "C"},
        target("lab.guessed", "D", hide=None),
        target("nope", "E", hide=True, payload="{"),
    )
    assert {frame["schema"]["refId"] for frame in found} == {"D"}


async def test_no_targets_are_an_empty_list(bridge: House) -> None:
    assert await query(bridge) == []


@pytest.mark.parametrize("key", ["filters", "adhocFilters"])
async def test_ad_hoc_filters_are_applied_under_both_names(bridge: House, key: str) -> None:
    found = await query(
        bridge, target(), panelPluginId="table", **{key: [{"key": "model", "operator": "=", "value": "svm"}]}
    )
    assert set(columns(found[0])["model"]) == {"svm"}


async def test_a_filter_on_a_column_the_dataset_lacks_is_said_in_a_notice(bridge: House) -> None:
    found = await query(
        bridge,
        target("lab.guessed"),
        target("lab.runs", "B"),
        panelPluginId="table",
        filters=[{"key": "model", "operator": "=~", "value": "s.*"}],
    )
    assert "is not applied" in notices(found[0])[0]
    assert notices(found[1]) == []
    assert set(columns(found[1])["model"]) == {"svm"}


@pytest.mark.parametrize("old", ["timeserie", "timeseries"])
async def test_the_older_word_for_a_series_is_understood(bridge: House, old: str) -> None:
    found = await query(bridge, target(type=old), panelPluginId="table")
    assert found[0]["schema"]["meta"]["type"] == "timeseries-multi"


async def test_the_older_word_for_a_table_is_understood(bridge: House) -> None:
    found = await query(bridge, target(type="table"))
    assert len(found) == 1
    assert found[0]["schema"]["meta"]["type"] == "table"
    assert found[0]["schema"]["refId"] == "A"


@pytest.mark.parametrize(
    "payload",
    [
        {"model": "(svm|mlp)"},
        {"model": "{svm,mlp}"},
        {"model": '["svm","mlp"]'},
        {"model": ["svm", "mlp"]},
        {"model": "svm,mlp"},
        {"model": "svm|mlp"},
        {"filter": "model=(svm|mlp)"},
        {"filter": "model=~svm|mlp"},
        {"model": "(svm|mlp)", "size": "$__all"},
        '{"model": ["svm", "mlp"]}',
    ],
)
@pytest.mark.parametrize("key", ["payload", "data"])
async def test_every_encoding_of_two_values_gives_both(bridge: House, payload: Any, key: str) -> None:
    found = await query(bridge, target(**{key: payload}), panelPluginId="table")
    assert set(columns(found[0])["model"]) == {"svm", "mlp"}


async def test_numbers_are_chosen_by_number_or_text(bridge: House) -> None:
    for sizes in (10, 10.0, "10", [10], "(10)"[1:3], "10,30"):
        found = await query(bridge, target(payload={"size": sizes}), panelPluginId="table")
        assert set(columns(found[0])["size"]) == {10}, sizes


async def test_one_target_stands_for_several_datasets(bridge: House) -> None:
    found = await query(bridge, target("lab.(guessed|events)"), panelPluginId="table")
    assert [(frame["schema"]["name"], frame["schema"]["refId"]) for frame in found] == [
        ("lab.guessed", "A"),
        ("lab.events", "A"),
    ]


async def test_one_bad_target_of_three_is_a_notice_and_the_others_answer(bridge: House) -> None:
    bad: list[dict[str, Any]] = [
        target("lab.nope", "B"),
        target("lab.missing", "B"),
        target(ref_id="B", payload="{"),
        target("(a|b)" * 20, "B"),
        target(ref_id="B", payload={"filter": "nope=1"}),
        target(ref_id="B", payload={"size": "x"}),
        target("lab.by_model", "B"),
    ]
    for item in bad:
        found = await query(
            bridge, target("lab.guessed", "A"), item, target("lab.events", "C"), panelPluginId="table"
        )
        assert [frame["schema"]["refId"] for frame in found] == ["A", "B", "C"], item
        assert found[0]["data"]["values"][0] == ["a", "b"]
        [notice] = found[1]["schema"]["meta"]["notices"]
        assert notice["severity"] == "error"
        assert notice["text"]
        assert found[2]["data"]["values"][3] == ["new model", "by hand"]


async def test_all_bad_targets_are_the_first_ones_error(bridge: House) -> None:
    found = await query(bridge, target("lab.nope"), target("lab.runs", "B", payload="{"), status=404)
    assert found["code"] == "unknown_dataset"
    assert "did you mean" in found["message"]
    assert found["error"] in found["message"]
    assert found["remedy"]
    assert found["request_id"]


async def test_a_missing_parameter_is_named(bridge: House) -> None:
    good, bad = target("lab.guessed"), target("lab.by_model", "B", payload={})
    found = await query(bridge, good, bad, panelPluginId="table")
    assert "needs the parameter `model_file`" in notices(found[1])[0]


async def test_a_parameter_reaches_the_source(bridge: House) -> None:
    found = await query(bridge, target("lab.by_model", payload={"model_file": "svm"}), panelPluginId="table")
    assert set(columns(found[0])["model"]) == {"svm"}


async def test_columns_filter_in_the_first_question_to_a_dataset_without_declared_columns(bridge: House) -> None:
    found = await query(bridge, target("lab.guessed", payload={"host": "a"}), panelPluginId="table")
    assert columns(found[0])["host"] == ["a"]


async def test_an_alias_names_the_frame(bridge: House) -> None:
    found = await query(bridge, target("lab.guessed", alias="Machines"))
    assert found[0]["schema"]["name"] == "Machines"


async def test_points_left_out_are_said(bridge: House) -> None:
    found = await query(bridge, target(payload={"series": "none", "columns": "accuracy"}), maxDataPoints=5)
    assert len(found[0]["data"]["values"][0]) <= 5
    assert "points were left out" in notices(found[0])[-1]


async def test_more_datasets_than_a_request_may_ask_for_are_refused(bridge: House) -> None:
    wide = "lab.(" + "|".join(f"r{number}" for number in range(50)) + ")"
    found = await query(bridge, *[target(wide, str(number)) for number in range(11)], status=400)
    assert "550 datasets" in found["error"]


async def test_the_rows_of_one_request_are_bounded(start: Start) -> None:
    bridge = await start("limits: {rows: 20}\n" + YAML)
    assert len(await query(bridge, target(), panelPluginId="table")) == 1
    found = await query(bridge, target(), target(ref_id="B"), panelPluginId="table", status=422)
    assert "24 rows, more than the 20 allowed" in found["error"]


async def test_annotations_of_a_dashboard_have_the_names_grafana_looks_for(bridge: House) -> None:
    [found] = await query(bridge, target("lab.events", "Anno"), requestId="AQ1")
    assert list(columns(found)) == ["time", "timeEnd", "title", "text", "tags"]
    assert columns(found)["timeEnd"] == [ms(START.replace(minute=15)), None]
    [other] = await query(bridge, target("lab.events", "X"), scopedVars={"__annotation": {"text": "a", "value": 1}})
    assert columns(other) == columns(found)


async def test_without_a_text_column_annotations_show_the_first_that_is_one(bridge: House) -> None:
    [found] = await query(bridge, target("lab.runs", "Anno", payload={"model": "svm", "size": "10"}))
    assert columns(found)["text"] == ["svm", "svm"]


@pytest.mark.parametrize("panel", ["logs", "table", "timeseries"])
async def test_logs_are_log_lines_on_every_panel(bridge: House, panel: str) -> None:
    [found] = await query(bridge, target("lab.lines"), panelPluginId=panel)
    assert found["schema"]["meta"]["type"] == "log-lines"
    assert found["schema"]["meta"]["preferredVisualisationType"] == "logs"
    assert columns(found) == {
        "timestamp": [ms(START), ms(START) + 1000],
        "body": ["started", "failed to read"],
        "severity": ["info", "error"],
        "labels": [{"host": "a"}, {"host": "b"}],
    }


async def test_an_ordinary_dataset_is_shown_as_logs_on_a_logs_panel(bridge: House) -> None:
    [found] = await query(bridge, target("lab.events"), panelPluginId="logs")
    assert columns(found)["body"] == ["new model", "by hand"]


async def test_the_node_graph_has_a_node_for_every_end(bridge: House) -> None:
    nodes, edges = await query(bridge, target("lab.nodes"), target("lab.edges", "B"), panelPluginId="nodeGraph")
    assert columns(nodes)["id"] == ["1", "2", "3"]
    assert columns(edges)["target"] == ["2", "3"]
    assert nodes["schema"]["meta"]["preferredVisualisationType"] == "nodeGraph"


async def test_the_metric_picker_offers_every_dataset_with_its_form(bridge: House) -> None:
    for body in ({}, {"metric": "lab.runs", "payload": {"model": "svm"}}, {"metric": {"a": 1}, "payload": "x"}):
        reply = await bridge.post("/json/metrics", body)
        found = {item["value"]: item for item in reply.json}
        assert list(found) == [*(f"lab.{name}" for name in names()), *SYSTEM]
    form = {field["name"]: field for field in found["lab.runs"]["payloads"]}
    assert list(form) == ["model", "size", "columns", "series", "agg", "filter"]
    assert form["model"]["type"] == "multi-select"
    assert "options" not in form["model"]
    assert form["columns"]["options"][0] == {"label": "accuracy (percentunit)", "value": "accuracy"}
    assert {"label": "one line for all", "value": "none"} in form["series"]["options"]
    own = {field["name"]: field for field in found["lab.by_model"]["payloads"]}
    assert own["model_file"]["type"] == "input"
    assert own["mode"]["type"] == "select"
    assert own["tags"]["type"] == "multi-select"
    assert own["tags"]["options"][0] == {"label": "x", "value": "x"}
    assert [field["name"] for field in found["lab.guessed"]["payloads"]][:1] == ["host"]


def names() -> list[str]:
    return ["runs", "empty", "guessed", "by_model", "events", "lines", "nodes", "edges", "choices", "missing"]


async def options(bridge: House, name: str, payload: Any = None, metric: str = "lab.runs") -> list[str]:
    reply = await bridge.post("/json/metric-payload-options", {"metric": metric, "name": name, "payload": payload})
    assert reply.status == 200, reply.text
    assert all(item["label"] for item in reply.json)
    return [item["value"] for item in reply.json]


async def test_choices_cascade(bridge: House) -> None:
    assert await options(bridge, "model") == sorted(MODELS)
    assert await options(bridge, "model", {"size": ["20"], "filter": "accuracy<0.62"}) == ["svm"]
    assert await options(bridge, "size", {"model": "svm", "size": "10"}) == ["10", "20"]
    assert await options(bridge, "model", '{"filter": "accuracy>=0.8"}') == ["knn", "mlp"]
    # What is chosen in the field itself must not narrow it.
    assert await options(bridge, "model", {"model": ["svm"]}) == sorted(MODELS)


async def test_choices_of_other_fields_are_their_own(bridge: House) -> None:
    assert await options(bridge, "agg") == ["auto", "mean", "min", "max", "sum", "last", "count", "none"]
    assert await options(bridge, "filter") == []
    assert await options(bridge, "mode", {}, "lab.by_model") == ["fast", "slow"]
    assert await options(bridge, "model_file", {}, "lab.by_model") == []
    assert await options(bridge, "free", {}, "lab.by_model") == []
    assert await options(bridge, "model", {"model_file": "mlp"}, "lab.by_model") == ["mlp"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"metric": "lab.nope", "name": "model"}, 404),
        ({"metric": "lab.runs", "name": "nope"}, 400),
        ({"metric": "lab.runs", "name": "model", "payload": "{"}, 400),
        ({"metric": "lab.runs", "name": "model", "payload": {"size": "x"}}, 400),
        ({"metric": "lab.missing", "name": "host"}, 502),
    ],
)
async def test_choices_that_cannot_be_given_are_an_error(bridge: House, body: Any, status: int) -> None:
    reply = await bridge.post("/json/metric-payload-options", body)
    assert reply.status == status
    assert reply.json["message"]


async def variable(bridge: House, payload: Any, **more: Any) -> list[tuple[str, str]]:
    reply = await bridge.post("/json/variable", {"payload": payload, **more})
    assert reply.status == 200, reply.text
    return [(item["__text"], item["__value"]) for item in reply.json]


def same(*values: str) -> list[tuple[str, str]]:
    return [(value, value) for value in values]


@pytest.mark.parametrize(
    "payload",
    [
        {"target": "lab.runs.model"},
        {"target": "runs.model"},
        {"target": r"lab\.runs\.model"},
        {"target": "lab.runs"},
        "lab.runs.model",
        {"dataset": "lab.runs", "column": "model"},
        {"metric": "lab.runs", "column": "model"},
        {"type": "lab.runs"},
        '{"dataset": "lab.runs", "column": "model"}',
    ],
)
async def test_a_variable_is_the_values_of_a_column(bridge: House, payload: Any) -> None:
    assert await variable(bridge, payload) == same("knn", "mlp", "svm")


async def test_a_variable_is_narrowed_by_filters_and_range(bridge: House) -> None:
    narrow = {"dataset": "lab.runs", "column": "model", "size": "10", "filter": "loss<0.7"}
    assert await variable(bridge, narrow) == same("knn", "mlp")
    early = {"from": ms(START), "to": ms(START.replace(minute=15))}
    assert await variable(bridge, {"target": "lab.runs.model"}, range=early) == same("mlp", "svm")
    assert await variable(bridge, {"target": "lab.by_model.model", "model_file": "mlp"}) == same("mlp")
    assert await variable(bridge, {"target": "lab.runs.size"}) == same("10", "20")


async def test_a_variable_of_several_datasets_joins_their_values(bridge: House) -> None:
    found = await variable(bridge, {"target": "lab.(runs|guessed)", "column": ""})
    assert found == same("knn", "mlp", "svm", "a", "b")
    assert await variable(bridge, {"target": "lab.{runs,runs}.model"}) == same("knn", "mlp", "svm")


async def test_texts_and_values_come_in_pairs_with_texts_of_their_own(bridge: House) -> None:
    pairs = [("Svm", "1"), ("Mlp", "2"), ("Svm (3)", "3")]
    assert await variable(bridge, {"target": "lab.choices"}) == pairs
    assert await variable(bridge, {"dataset": "lab.choices", "text": "text", "value": "value"}) == pairs
    assert await variable(
        bridge, {"dataset": "lab.choices", "text": "text", "value": "value", "filter": "text=Mlp"}
    ) == [("Mlp", "2")]
    assert await variable(bridge, {"target": "lab.choices.text"}) == same("Mlp", "Svm")
    # With one of the two alone it is a filter.
    assert await variable(bridge, {"dataset": "lab.choices", "column": "value", "text": "Svm"}) == same("1", "3")
    numbers = await variable(bridge, {"dataset": "lab.runs", "text": "note", "value": "size", "model": "svm"})
    assert numbers == [("run 0", "10"), ("run 3", "20"), ("run 6", "10"), ("run 9", "20")]


async def test_an_empty_variable_query_lists_the_datasets(bridge: House) -> None:
    assert await variable(bridge, {"target": ""}) == same(*(f"lab.{name}" for name in names()))
    assert await variable(bridge, "") == same(*(f"lab.{name}" for name in names()))


@pytest.mark.parametrize(
    ("payload", "status", "text"),
    [
        (None, 400, "names no dataset"),
        ({}, 400, "names no dataset"),
        ([], 400, "names no dataset"),
        (5, 400, "names no dataset"),
        ({"target": 5}, 400, "names no dataset"),
        ({"target": "lab.nope.model"}, 404, "there is no dataset"),
        ({"target": "nope"}, 404, "there is no dataset"),
        ('{"target": ', 404, "there is no dataset"),
        ({"target": "lab.runs.nope"}, 400, "`nope`"),
        ({"dataset": "lab.choices", "text": "text", "value": "nope"}, 400, "`nope`"),
        ({"target": "lab.missing.host"}, 502, "none.csv"),
        ({"target": "(a|b)" * 9}, 400, "more than 50"),
    ],
)
async def test_a_variable_that_cannot_be_answered_says_why(
    bridge: House, payload: Any, status: int, text: str
) -> None:
    reply = await bridge.post("/json/variable", {"payload": payload})
    assert reply.status == status, reply.text
    assert text in reply.json["message"]


async def test_a_dataset_of_numbers_over_time_has_nothing_to_choose_from(start: Start) -> None:
    text = "sources: [{name: s, kind: files, datasets: [{name: d, options: {path: runs.csv}, columns: [" + (
        "{name: time, type: time, role: time}, {name: loss, type: number, role: measure}]}]}]"
    )
    bridge = await start(text)
    reply = await bridge.post("/json/variable", {"payload": {"target": "s.d"}})
    assert reply.status == 400
    assert "no dimension to choose from" in reply.json["error"]
    assert reply.json["remedy"] == "write `s.d.COLUMN`"


async def test_tag_keys_are_the_columns_of_the_dashboards_datasets(bridge: House) -> None:
    async def keys(**body: Any) -> dict[str, str]:
        reply = await bridge.post("/json/tag-keys", body)
        assert all(item["value"] == item["text"] for item in reply.json)
        return {item["text"]: item["type"] for item in reply.json}

    assert await keys(queries=[target("lab.guessed")]) == {"host": "string", "cores": "number"}
    assert await keys(queries=[target("lab.runs"), target("$unfilled", "B")]) == {
        "model": "string",
        "size": "number",
        "accuracy": "number",
        "loss": "number",
    }
    everything = await keys(filters=[], timeRange=RANGE)
    assert {"host", "model", "level", "cores"} <= everything.keys()
    # What cannot be told apart yet does not narrow, and neither does what cannot be read.
    assert await keys(queries=[target("$unfilled")]) == everything
    assert await keys(queries=[target("(a|b)" * 20)]) == everything


async def tag_values(bridge: House, key: str, **body: Any) -> list[str]:
    reply = await bridge.post("/json/tag-values", {"key": key, **body})
    assert reply.status == 200, reply.text
    assert all(item["value"] == item["text"] for item in reply.json)
    return [item["text"] for item in reply.json]


async def test_tag_values_are_narrowed_by_filters_range_and_queries(bridge: House) -> None:
    assert await tag_values(bridge, "model") == ["knn", "mlp", "svm"]
    early = {"from": ms(START), "to": ms(START.replace(minute=15))}
    assert await tag_values(bridge, "model", timeRange=early) == ["mlp", "svm"]
    chosen = [{"key": "loss", "operator": "<=", "value": "0.5"}, {"key": "model", "operator": "=", "value": "svm"}]
    assert await tag_values(bridge, "model", filters=chosen, queries=[target()]) == ["knn", "mlp"]
    # A filter on a column the dataset does not have narrows nothing.
    assert await tag_values(bridge, "host", filters=chosen, queries=[target("lab.guessed")]) == ["a", "b"]
    one = [target("lab.by_model", payload={"model_file": "svm"})]
    assert await tag_values(bridge, "model", queries=one) == ["svm"]


async def test_a_payload_whose_variables_are_not_filled_in_still_names_its_dataset(bridge: House) -> None:
    for payload in ("{", {"filter": "$unfilled"}, {"agg": "$unfilled"}, {"model": {"a": 1}}):
        queries = [target("lab.guessed", payload=payload)]
        assert await tag_values(bridge, "host", queries=queries) == ["a", "b"]
        reply = await bridge.post("/json/tag-keys", {"queries": queries})
        assert [item["text"] for item in reply.json] == ["cores", "host"]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({}, 400, "`key` is missing"),
        ({"key": "nope"}, 400, "no dataset of this dashboard has a column `nope`"),
        ({"key": "nope", "queries": [target()]}, 400, "no dataset of this dashboard"),
        (
            {"key": "model", "filters": [{"key": "size", "value": "x"}], "queries": [target()]},
            400,
            "`size` is a number",
        ),
        ({"key": "host", "queries": [target("lab.missing")]}, 502, "none.csv"),
        ({"key": "model", "timeRange": {"from": 2, "to": 1}}, 400, "reversed"),
        ({"key": "model", "filters": [{"key": "size", "operator": "?", "value": "x"}]}, 400, "operator"),
    ],
)
async def test_tag_values_that_cannot_be_given_say_why(bridge: House, body: Any, status: int, text: str) -> None:
    reply = await bridge.post("/json/tag-values", body)
    assert reply.status == status, reply.text
    assert text in reply.json["message"]


async def test_a_dashboard_of_endless_queries_is_looked_at_so_far(bridge: House) -> None:
    wide = ["x.(" + "|".join(f"q{number}_{index}" for index in range(50)) + ")" for number in range(10)]
    queries = [target(name) for name in wide]
    last = target("lab.guessed")
    assert await tag_values(bridge, "host", queries=[last, *queries]) == ["a", "b"]
    # Within the bound the one dataset that is known decides; beyond it none is, so all are looked at.
    assert await tag_values(bridge, "model", queries=[*queries, last]) == ["knn", "mlp", "svm"]


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        ("", [f"lab.{name}" for name in names()]),
        ("RUN", ["lab.runs"]),
        ("lab.runs", ["lab.runs"]),
        ("lab.runs.model", ["knn", "mlp", "svm"]),
        ("lab.(runs|guessed).nope_at_all", None),
        ("lab.guessed.host", ["a", "b"]),
        ("a.b.c", []),
        ("nothing like it", []),
        (None, [f"lab.{name}" for name in names()]),
        ({"a": 1}, [f"lab.{name}" for name in names()]),
    ],
)
async def test_the_older_search_finds_datasets_and_values(bridge: House, sent: Any, found: list[str] | None) -> None:
    reply = await bridge.post("/json/search", {"target": sent})
    if found is None:
        assert reply.status == 400
        assert "nope_at_all" in reply.json["error"]
    else:
        assert reply.json == found


async def annotations(bridge: House, name: Any, **more: Any) -> Any:
    definition = {"name": "Deploys", "enable": True, "iconColor": "red", "query": name, **more}
    reply = await bridge.post("/json/annotations", {"range": RANGE, "annotation": definition})
    assert reply.status == 200, reply.text
    return reply.json


async def test_the_older_annotations_are_points_and_regions(bridge: House) -> None:
    first, second = await annotations(bridge, "lab.events", datasource={"uid": "x", "deep": {"a": 1}})
    shown = {"name": "Deploys", "datasource": {"uid": "x"}, "enable": True, "iconColor": "red", "query": "lab.events"}
    assert first == {
        "annotation": shown,
        "time": ms(START.replace(minute=5)),
        "timeEnd": ms(START.replace(minute=15)),
        "isRegion": True,
        "title": "deploy",
        "text": "new model",
        "tags": ["a;b"],
    }
    assert second == {
        "annotation": shown,
        "time": ms(START.replace(minute=30)),
        "title": "restart",
        "text": "by hand",
        "tags": [],
    }


async def test_the_older_annotations_keep_to_the_range_and_to_every_dataset_named(bridge: House) -> None:
    body = {"range": {"from": ms(START), "to": ms(START.replace(minute=10))}, "annotation": {"query": "lab.events"}}
    reply = await bridge.post("/json/annotations", body)
    assert [item["title"] for item in reply.json] == ["deploy"]
    found = await annotations(bridge, "lab.(events|lines)", datasource="JSON")
    assert [item["text"] for item in found] == ["new model", "by hand", "started", "failed to read"]
    assert {item["annotation"]["datasource"] for item in found} == {"JSON"}
    for empty in ("", None, {"a": 1}):
        assert await annotations(bridge, empty, datasource=5) == []


async def test_tags_are_a_list_and_rows_without_a_time_are_left_out(start: Start) -> None:
    files = {"t.csv": 'time,text,tags\n2026-01-31T10:00:00Z,x,"a, b"\n,y,c\n'}
    text = "sources: [{name: s, kind: files, datasets: [{name: t, options: {path: t.csv}, columns: [" + (
        "{name: time, type: time, role: time}, {name: text, type: string}, {name: tags, type: string}]}]}]"
    )
    bridge = await start(text, files=files)
    reply = await bridge.post("/json/annotations", {"annotation": {"query": "s.t"}})
    assert [(item["text"], item["tags"]) for item in reply.json] == [("x", ["a", "b"])]


async def test_the_older_annotations_have_no_place_for_half_an_answer(bridge: House) -> None:
    reply = await bridge.post("/json/annotations", {"annotation": {"query": "lab.(events|nope)"}})
    assert reply.status == 404
    reply = await bridge.post("/json/annotations", {"annotation": {"query": "lab.guessed"}})
    assert reply.status == 400
    assert "no column of role time" in reply.json["error"]


async def test_definitions_nested_beyond_what_json_can_be_written_are_cut(bridge: House) -> None:
    deep = b"[" * 900 + b"]" * 900
    for place in (b'"datasource": %b', b'"datasource": {"x": %b}', b'"iconColor": "red", "other": %b'):
        body = b'{"annotation": {"query": "lab.events", %b}}' % (place % deep)
        reply = await bridge.post("/json/annotations", body)
        assert reply.status == 200, reply.text
        assert len(reply.json) == 2
    reply = await bridge.post(
        "/json/annotations", b'{"annotation": {"query": {"value": "lab.events", "x": %b}}}' % deep
    )
    assert reply.status == 200
    assert "query" not in reply.json[0]["annotation"]


async def test_the_clock_ends_an_open_range(bridge: House) -> None:
    assert ms(NOW) > runs()[-1]["time"]
    found = await query(bridge, target(), range={"from": ms(START)}, panelPluginId="table")
    assert len(columns(found[0])["time"]) == 12


async def test_a_dataset_nobody_can_read_has_a_form_without_columns(start: Start) -> None:
    text = "sources: [{name: s, kind: files, datasets: [{name: d, options: {path: none.csv}, retries: 0}]}]"
    bridge = await start(text, files=dict(list(FILES.items())[:1]))
    reply = await bridge.post("/json/metrics", {})
    assert reply.json[0] == {"label": "s.d", "value": "s.d", "payloads": []}
    assert (await bridge.post("/json/tag-keys", {})).json == []
