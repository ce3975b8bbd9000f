"""A fetch as an OpenLineage event is what the specification asks for, and says no more than panels are told."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from tests.sources.openlineage_schema import problems

from bridge.errors import BridgeError, HeldBack, NeedsAuth
from bridge.model.finding import Finding, Level
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.schema import Schema
from bridge.sources.openlineage import Teller, completed, failed, run_id
from support import COLUMNS, T0, frame_of

TELLER = Teller("lab-bridge", "1.2.3")
RUN = run_id(T0, bytes(10))


def lineage(**more: Any) -> dict[str, Any]:
    """The lineage of `lab.runs`, joined with `other.owners`."""
    return {
        "dataset": "lab.runs",
        "source": "lab",
        "kind": "rest",
        "adapter": "1",
        "schema": {"version": 1, "fingerprint": Schema(COLUMNS).fingerprint},
        "query": Query("lab.runs").key,
        "span": None,
        "fetched_at": T0.isoformat(),
        "rows": 3,
        "steps": [],
        "parents": [{"dataset": "other.owners", "source": "other", "parents": [{"dataset": "deep.down"}]}],
        **more,
    }


def good(frame: Frame | None = None, **more: Any) -> dict[str, Any]:
    """The event of a good fetch as a consumer reads it."""
    told = completed(TELLER, (frame or frame_of()).note(lineage=lineage()), RUN, **more)
    read: dict[str, Any] = orjson.loads(orjson.dumps(told))
    return read


def bad(error: BridgeError, **more: Any) -> dict[str, Any]:
    """The event of a failed fetch as a consumer reads it."""
    told = failed(TELLER, "lab.runs", ("other.owners",), error, T0, RUN, **more)
    read: dict[str, Any] = orjson.loads(orjson.dumps(told))
    return read


def names(items: list[dict[str, Any]]) -> list[str]:
    """Names of datasets, all of which stand under the namespace."""
    assert {item["namespace"] for item in items} == {"lab-bridge"}
    return [item["name"] for item in items]


FINDINGS = (
    Finding("complete", Level.WARN, "3 of 9 values are empty", column="value", rows=3),
    Finding("fresh", Level.INFO, "all is well"),
    Finding("unique", Level.BLOCK, "2 rows are the same"),
)


@pytest.mark.parametrize(
    "event",
    [
        good(),
        good(findings=FINDINGS, checks=("complete", "gaps")),
        good(frame_of((), ())),
        bad(NeedsAuth("GET http://far: the server answered 401", remedy="check the credential")),
        bad(HeldBack("`lab.runs` is held back"), findings=FINDINGS),
    ],
    ids=["plain", "checked", "no columns", "failed", "held back"],
)
def test_events_are_what_the_specification_asks_for(event: dict[str, Any]) -> None:
    assert problems(event) == []


def test_the_schema_of_the_tests_sees_what_is_wrong() -> None:
    for path, value in (
        (("run", "runId"), "7"),
        (("eventTime",), "yesterday"),
        (("producer",), "bridge"),
        (("eventType",), "DONE"),
        (
            ("outputs", 0, "facets", "schema", "_schemaURL"),
            "https://openlineage.io/spec/facets/SchemaDatasetFacet.json",
        ),
        (("outputs", 0, "outputFacets", "outputStatistics", "rowCount"), "3"),
    ):
        event = good()
        here: Any = event
        for part in path[:-1]:
            here = here[part]
        here[path[-1]] = value
        assert len(problems(event)) == 1, path


def test_a_good_fetch_says_what_was_read_and_what_came_out() -> None:
    event = good()
    assert (event["eventType"], event["eventTime"]) == ("COMPLETE", "2026-01-31T12:00:00+00:00")
    assert (event["job"]["namespace"], event["job"]["name"]) == ("lab-bridge", "lab.runs")
    assert names(event["inputs"]) == ["lab", "other.owners"]
    assert event["inputs"][0]["facets"]["dataSource"]["name"] == "lab"
    assert names(event["outputs"]) == ["lab.runs"]
    fields = event["outputs"][0]["facets"]["schema"]["fields"]
    assert fields == [
        {"name": "time", "type": "time"},
        {"name": "value", "type": "number", "description": "(short)"},
        {"name": "model", "type": "string"},
    ]
    assert event["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 3
    engine = event["run"]["facets"]["processing_engine"]
    assert (engine["name"], engine["version"], event["producer"]) == ("bridge", "1.2.3", "urn:bridge:1.2.3")


def test_a_column_s_meaning_stands_in_the_schema() -> None:
    columns = (replace(COLUMNS[1], description="on unseen digits"),)
    event = good(frame_of((), columns))
    assert event["outputs"][0]["facets"]["schema"]["fields"][0]["description"] == "on unseen digits (short)"


def test_columns_that_a_panel_needed_alone_are_not_told_as_the_schema() -> None:
    told = lineage(schema={"version": 1, "fingerprint": "x", "partial": True})
    event = completed(TELLER, frame_of().note(lineage=told), RUN)
    assert "schema" not in event["outputs"][0]["facets"]
    assert problems(event) == []


def test_a_failed_fetch_says_why_and_whose_columns_are_not_known() -> None:
    event = bad(NeedsAuth("GET http://far: the server answered 401", remedy="check the credential"))
    assert (event["eventType"], event["eventTime"]) == ("FAIL", "2026-01-31T12:00:00+00:00")
    error = event["run"]["facets"]["errorMessage"]
    assert error["message"] == "GET http://far: the server answered 401 (check the credential)"
    assert error["programmingLanguage"] == "PYTHON"
    assert names(event["inputs"]) == ["lab", "other.owners"]
    assert (names(event["outputs"]), event["outputs"][0]["facets"]) == (["lab.runs"], {})


def test_checks_are_assertions_those_without_a_finding_passed() -> None:
    event = good(findings=FINDINGS, checks=("complete", "gaps", "gaps"))
    assert event["outputs"][0]["facets"]["dataQualityAssertions"]["assertions"] == [
        {"assertion": "complete", "success": False, "column": "value", "severity": "warn"},
        {"assertion": "fresh", "success": True, "severity": "info"},
        {"assertion": "unique", "success": False, "severity": "error"},
        {"assertion": "gaps", "success": True},
    ]


def test_where_nothing_was_checked_nothing_is_claimed() -> None:
    assert "dataQualityAssertions" not in good()["outputs"][0]["facets"]


def test_a_run_id_is_a_uuid_of_version_7_in_the_order_of_time() -> None:
    ids = [run_id(datetime(year, 1, 1, tzinfo=UTC), bytes(range(n, n + 10))) for n, year in ((7, 2026), (1, 2027))]
    for text in ids:
        made = uuid.UUID(text)
        assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert ids == sorted(ids)
    assert uuid.UUID(ids[0]).int >> 80 == 1_767_225_600_000


def test_all_of_the_randomness_counts() -> None:
    """But for the bits that say which version it is; ids that differ in nothing else would meet."""
    ids = {run_id(T0, (1 << bit).to_bytes(10)) for bit in range(80)}
    assert len(ids) == 75
