"""The system datasets tell of every dataset, and are none of those they tell of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from bridge.errors import BadQuery, HeldBack, NeedsAuth, SchemaChanged, UpstreamUnavailable
from bridge.model.finding import Finding, Level
from bridge.model.query import Query
from bridge.model.schema import Shape
from bridge.sources.ask import Desk
from bridge.sources.keeper import Kit
from bridge.sources.quality.judge import Judged
from bridge.sources.registry import DatasetConfig, Plugin, SourceConfig, discover
from support import Rig, at, dataset, make_desk, span, where

NAMES = ["_status", "_findings", "_lineage", "_lineage_edges"]
BROKEN = Plugin("broken", "tests", None, "it does not load")


async def status(rig: Rig, name: str = "lab.runs") -> Mapping[str, Any]:
    """What `_status` says of one dataset."""
    frame = await rig.desk.rows(Query("_status", filters=where(f"dataset={name}"), fresh=True))
    [row] = frame.data.to_dicts()
    return row


async def ids(rig: Rig, name: str, *only: str) -> list[str]:
    """The ids of a half of the graph."""
    params = (("dataset", only),) if only else ()
    return list((await rig.desk.rows(Query(name, params=params))).data["id"])


async def test_a_dataset_that_answers_is_ok_with_its_age_rows_and_times() -> None:
    rig = make_desk()
    source = rig.source()

    async def slow(_: Query) -> Any:
        rig.clock.advance(0.5)
        return source.data

    source.always = slow
    await rig.desk.rows(Query("lab.runs"))
    rig.clock.advance(7)
    row = await status(rig)
    wanted = {
        "dataset": "lab.runs",
        "source": "lab",
        "kind": "stub",
        "state": "ok",
        "stale": False,
        "last_success": at(0.5),
        "age_s": 7.0,
        "error": None,
        "remedy": None,
        "breaker": "closed",
        "rows": 3,
        "schema_version": 1,
        "latency_p50_s": 0.5,
        "latency_p95_s": 0.5,
        "latency_p99_s": 0.5,
        "findings_info": 0,
        "findings_warn": 0,
        "findings_block": 0,
        "history_rows": None,
        "history_last": None,
    }
    assert row.items() >= wanted.items()


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (UpstreamUnavailable("no answer", remedy="start it"), "down"),
        (NeedsAuth("not let in", remedy="start it"), "needs_auth"),
        (HeldBack("half of it is null", remedy="start it"), "held_back"),
        (SchemaChanged("a column is gone", remedy="start it"), "schema_changed"),
    ],
)
async def test_a_dataset_that_fails_says_why_and_that_its_last_good_answer_is_served(
    error: Exception, state: str
) -> None:
    rig = make_desk()
    await rig.desk.rows(Query("lab.runs"))
    rig.clock.advance(10)
    rig.source().always = error
    assert (await rig.desk.rows(Query("lab.runs"))).meta.custom["state"] == state
    row = await status(rig)
    assert (row["state"], row["stale"], row["error"], row["remedy"]) == (state, True, str(error), "start it")
    assert (row["age_s"], row["last_success"]) == (10, at(0))


async def test_every_dataset_has_a_row_in_the_order_of_the_settings_and_none_of_them_is_a_system_dataset() -> None:
    """A dataset that nobody asked for and those of a source that does not run are told as well."""
    sources = [
        SourceConfig("gone", "broken", {}, (DatasetConfig("a"), DatasetConfig("b"))),
        SourceConfig("lab", "stub", {}, (dataset(), dataset("quiet"))),
    ]
    rig = make_desk(sources=sources, plugins={"broken": BROKEN})
    await rig.desk.rows(Query("lab.runs"))
    rows = (await rig.desk.rows(Query("_status"))).data
    assert list(zip(rows["dataset"], rows["kind"], rows["state"], strict=True)) == [
        ("gone.a", "broken", "failed"),
        ("gone.b", "broken", "failed"),
        ("lab.runs", "stub", "ok"),
        ("lab.quiet", "stub", "unknown"),
    ]
    assert "it does not load" in rows["error"][0]


async def test_the_state_is_at_most_a_second_old_and_told_at_once_to_who_wants_it_fresh() -> None:
    rig = make_desk()
    assert (await rig.desk.rows(Query("_status"))).data["state"].to_list() == ["unknown"]
    await rig.desk.rows(Query("lab.runs"))
    rig.clock.advance(0.5)
    assert (await rig.desk.rows(Query("_status"))).data["state"].to_list() == ["unknown"]
    assert (await status(rig))["state"] == "ok"
    rig.clock.advance(10)
    rig.source().always = NeedsAuth("no")
    await rig.desk.rows(Query("lab.runs"))
    assert (await rig.desk.rows(Query("_status"))).data["state"].to_list() == ["needs_auth"]


async def test_the_state_is_that_of_now_whatever_time_range_a_panel_shows() -> None:
    rig = make_desk()
    await rig.desk.rows(Query("lab.runs"))
    [frame] = await rig.desk.frames(Query("_status", span=span(-3600, -1800), max_points=1, shape=Shape.TIMESERIES))
    assert (frame.shape, frame.rows) == (Shape.TABLE, 1)


@pytest.mark.parametrize(
    ("name", "asked", "shape"),
    [
        ("_status", Shape.TIMESERIES, Shape.TABLE),
        ("_status", Shape.LOGS, Shape.TABLE),
        ("_findings", Shape.AUTO, Shape.TABLE),
        ("_findings", Shape.TIMESERIES, Shape.TABLE),
        ("_findings", Shape.LOGS, Shape.LOGS),
        ("_findings", Shape.ANNOTATIONS, Shape.ANNOTATIONS),
        ("_lineage", Shape.TABLE, Shape.NODES),
        ("_lineage_edges", Shape.TABLE, Shape.EDGES),
    ],
)
async def test_each_comes_in_the_shape_that_shows_it(name: str, asked: Shape, shape: Shape) -> None:
    [frame] = await make_desk().desk.frames(Query(name, span=span(0, 60), shape=asked))
    assert frame.shape is shape


async def test_lineage_is_a_graph_of_sources_and_datasets() -> None:
    rig = make_desk(dataset(), dataset("other"))
    assert await ids(rig, "_lineage") == ["lab", "lab.runs", "lab.other"]
    edges = (await rig.desk.rows(Query("_lineage_edges"))).data
    assert list(zip(edges["source"], edges["target"], strict=True)) == [("lab", "lab.runs"), ("lab", "lab.other")]


async def test_lineage_may_be_that_of_some_datasets_each_node_once() -> None:
    rig = make_desk(dataset(), dataset("other"), dataset("third"))
    assert sorted(await ids(rig, "_lineage", "lab.runs")) == ["lab", "lab.runs"]
    assert sorted(await ids(rig, "_lineage", "lab.runs", "third")) == ["lab", "lab.runs", "lab.third"]
    assert len(await ids(rig, "_lineage_edges", "lab.runs", "lab.third")) == 2


async def test_lineage_of_a_dataset_that_does_not_run_is_told() -> None:
    sources = [SourceConfig("gone", "broken", {}, (DatasetConfig("a"),))]
    rig = make_desk(sources=sources, plugins={"broken": BROKEN})
    assert sorted(await ids(rig, "_lineage", "gone.a")) == ["gone", "gone.a"]
    assert sorted(await ids(rig, "_lineage", "gone")) == ["gone", "gone.a"]


async def test_lineage_of_what_there_is_not_is_a_wrong_question_and_no_failure_of_the_dataset() -> None:
    rig = make_desk()
    with pytest.raises(BadQuery, match=r"lab\.rums") as caught:
        await rig.desk.rows(Query("_lineage", params=(("dataset", ("lab.rums",)),)))
    assert "lab.runs" in caught.value.remedy
    assert rig.desk.system["_lineage"].status().state == "unknown"


async def test_they_are_in_no_list_of_data_and_no_count() -> None:
    """Neither listed, judged, forgotten nor measured with the datasets of the settings."""
    rig = make_desk()
    for name in NAMES:
        await rig.desk.rows(Query(name))
    assert list(rig.desk.keepers) == ["lab.runs"]
    assert [item.dataset for item in rig.desk.statuses()] == ["lab.runs"]
    assert (list(rig.registry.datasets), list(rig.registry.entries)) == (["lab.runs"], ["lab"])
    assert await rig.desk.invalidate("*") == 0
    assert rig.counted("bridge_source_fetches_total", source="_bridge", dataset="_status", outcome="ok") == 0
    assert rig.counted("bridge_cache_requests_total", dataset="_status", result="miss") == 0
    assert "system" not in discover()
    assert not any(plugin.cls is type(rig.desk.system["_status"].entry.source) for plugin in discover().values())


async def test_after_a_reload_they_tell_of_the_new_settings_at_once() -> None:
    """The cache of answers outlives a reload; what tells of the datasets does not stand in it."""
    old, new = make_desk(), make_desk(dataset("trials"))
    await old.desk.rows(Query("_status"))
    kit = Kit(old.cache, old.clock, old.meters, old.limits, jitter=lambda: 0.0)
    frame = await Desk(new.registry, kit).rows(Query("_status"))
    assert frame.data["dataset"].to_list() == ["lab.trials"]


async def test_they_ask_nobody_outside() -> None:
    source = make_desk().desk.system["_status"].entry.source
    with pytest.raises(ValueError, match="nobody outside"):
        source.tools.upstream("http://127.0.0.1:1")


async def test_a_schema_that_is_not_known_has_no_version() -> None:
    rig = make_desk(dataset(columns=()))
    assert (await status(rig))["schema_version"] is None
    await rig.desk.rows(Query("lab.runs"))
    assert (await status(rig))["schema_version"] == 1


def noted(rig: Rig, *findings: Finding, seconds: float = 0) -> None:
    """What the checks of the first dataset found."""
    made = frozenset((finding.check, finding.column or "") for finding in findings) | {("gone", "")}
    rig.keeper().ledger.note(Judged(findings, made=made), at(seconds))


WORSE = Finding("complete", Level.BLOCK, "half of it is null", column="value", rows=2, value=0.5)
BAD = Finding("range", Level.WARN, "1 row is out of range")


async def test_findings_are_told_with_when_and_how_often_and_whether_they_stand() -> None:
    rig = make_desk()
    noted(rig, WORSE, BAD, Finding("gone", Level.INFO, "soon gone"))
    noted(rig, WORSE, seconds=5)
    found = (await rig.desk.rows(Query("_findings"))).data.sort("check").to_dicts()
    assert [(row["check"], row["active"], row["times"]) for row in found] == [
        ("complete", True, 2),
        ("gone", False, 1),
        ("range", True, 1),
    ]
    assert found[0] == {
        "time": at(5),
        "dataset": "lab.runs",
        "source": "lab",
        "check": "complete",
        "column": "value",
        "level": "block",
        "text": "half of it is null",
        "rows": 2,
        "value": 0.5,
        "first_seen": at(0),
        "times": 2,
        "active": True,
    }


async def test_findings_that_stand_are_counted_in_the_status() -> None:
    rig = make_desk()
    noted(rig, WORSE, BAD, Finding("gone", Level.INFO, "soon gone"))
    noted(rig, WORSE, seconds=5)
    row = await status(rig)
    assert (row["findings_info"], row["findings_warn"], row["findings_block"]) == (0, 1, 1)


async def test_findings_are_log_lines_and_annotations_where_the_panel_wants_them() -> None:
    rig = make_desk()
    noted(rig, WORSE)
    [lines] = await rig.desk.frames(Query("_findings", span=span(0, 60), shape=Shape.LOGS))
    assert lines.data["body"].to_list() == ["half of it is null"]
    assert lines.data["severity"].to_list() == ["block"]
    [marks] = await rig.desk.frames(Query("_findings", span=span(0, 60), shape=Shape.ANNOTATIONS))
    assert (marks.data["time"].to_list(), marks.data["text"].to_list()) == ([at(0)], ["half of it is null"])
    [rows] = await rig.desk.frames(Query("_findings", span=span(10, 60), shape=Shape.AUTO))
    assert (rows.shape, rows.rows) == (Shape.TABLE, 0)


async def test_a_variable_that_names_every_dataset_costs_what_one_does() -> None:
    """Grafana's `All` fills it in; gone through once for each, the graph would hold the service up for minutes."""
    rig = make_desk(*(dataset(f"d{number}") for number in range(1_500)))
    every = [f"lab.d{number}" for number in range(1_500)]
    assert await ids(rig, "_lineage", *every) == ["lab", *every]
    assert len(await ids(rig, "_lineage_edges", *every)) == 1_500
