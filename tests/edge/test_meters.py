"""What is counted stays bounded, is read when it is asked for, and is what Prometheus understands."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from bridge.edge.meters import MAX_CHECK_VALUES, MAX_PANELS, CheckStatus, DatasetStatus, Meters


@pytest.fixture
def meters() -> Meters:
    return Meters("1.2.3")


def value(meters: Meters, name: str, **labels: str) -> float | None:
    return meters.registry.get_sample_value(name, labels)


def panels(meters: Meters) -> dict[tuple[str, str], float]:
    return {
        (sample.labels["dashboard"], sample.labels["panel"]): sample.value
        for family in meters.registry.collect()
        for sample in family.samples
        if sample.name == "bridge_panel_requests_total"
    }


# Panels


def test_a_panel_s_requests_and_seconds_add_up(meters: Meters) -> None:
    meters.panel("abc", "7", 0.5)
    meters.panel("abc", "7", 0.25)
    assert value(meters, "bridge_panel_requests_total", dashboard="abc", panel="7") == 2
    assert value(meters, "bridge_panel_seconds_total", dashboard="abc", panel="7") == 0.75


def test_after_two_hundred_panels_the_rest_counts_as_other_and_nothing_is_lost(meters: Meters) -> None:
    for number in range(MAX_PANELS + 50):
        meters.panel("d", str(number), 1)
    found = panels(meters)
    assert len(found) == MAX_PANELS + 1
    assert found["other", "other"] == 50
    meters.panel("d", "0", 1)
    meters.panel("d", "240", 1)
    found = panels(meters)
    assert (found["d", "0"], found["other", "other"], len(found)) == (2, 51, MAX_PANELS + 1)


@pytest.mark.parametrize(
    ("dashboard", "panel"),
    [
        ("", "1"),
        ("d", ""),
        ("x" * 65, "1"),
        ("d", "1" * 65),
        ('a"} 1\nevil_total{x="', "1"),
        ("d", "1\n"),
        ("a b", "1"),
        ("<script>", "1"),
        ("größe", "1"),
        ("d", "\x00"),
        ("d", "٣"),
    ],
)
def test_names_that_clients_make_up_count_as_other_and_take_no_place(
    meters: Meters, dashboard: str, panel: str
) -> None:
    meters.panel(dashboard, panel, 1)
    assert panels(meters) == {("other", "other"): 1}
    for number in range(MAX_PANELS):
        meters.panel("d", str(number), 1)
    assert panels(meters)["other", "other"] == 1


@pytest.mark.parametrize("name", ["x" * 64, "a-b_c.d:e", "0"])
def test_names_as_grafana_makes_them_are_kept(meters: Meters, name: str) -> None:
    meters.panel(name, "1", 1)
    assert panels(meters) == {(name, "1"): 1}


# Datasets


def test_the_state_of_datasets_is_read_when_it_is_asked_for(meters: Meters) -> None:
    ages = iter([1.0, 61.0])
    meters.watch(lambda: [DatasetStatus("lab.runs", "ok", age_s=next(ages))])
    generate_latest(meters.registry)
    assert value(meters, "bridge_dataset_age_seconds", source="lab", dataset="lab.runs") == 61


def test_before_anything_runs_and_after_a_reload_only_what_is_there_now_is_told(meters: Meters) -> None:
    assert b"bridge_dataset_up{" not in generate_latest(meters.registry)
    meters.watch(lambda: [DatasetStatus("old.runs", "ok")])
    meters.watch(lambda: [DatasetStatus("new.runs", "ok")])
    text = generate_latest(meters.registry)
    assert b"new.runs" in text
    assert b"old.runs" not in text


@pytest.mark.parametrize(
    ("status", "up", "age", "stale", "opened"),
    [
        (DatasetStatus("lab.runs", "unknown"), None, None, 0, 0),
        (DatasetStatus("lab.runs", "ok", age_s=2.5), 1, 2.5, 0, 0),
        (DatasetStatus("lab.runs", "ok", age_s=0.0), 1, 0, 0, 0),
        (DatasetStatus("lab.runs", "down", age_s=9.0, stale=True, breaker="open"), 0, 9, 1, 1),
        (DatasetStatus("lab.runs", "needs_auth", breaker="half_open"), 0, None, 0, 0.5),
        (DatasetStatus("lab.runs", "failed", error="ImportError"), 0, None, 0, 0),
    ],
)
def test_each_state_has_its_numbers(
    meters: Meters, status: DatasetStatus, up: float | None, age: float | None, stale: float, opened: float
) -> None:
    meters.watch(lambda: [status])
    labels = {"source": "lab", "dataset": "lab.runs"}
    assert value(meters, "bridge_dataset_up", **labels) == up
    assert value(meters, "bridge_dataset_age_seconds", **labels) == age
    assert value(meters, "bridge_dataset_stale", **labels) == stale
    assert value(meters, "bridge_breaker_open", **labels) == opened


# Quality checks


def test_findings_that_stand_and_numbers_that_were_measured_are_read_when_asked_for(meters: Meters) -> None:
    meters.watch_checks(lambda: [CheckStatus("old.runs", {("rows", "warn"): 1}, {("rows", ""): 1.0})])
    meters.watch_checks(
        lambda: [
            CheckStatus("lab.runs", {("complete", "block"): 2}, {("complete", "accuracy"): 0.25, ("rows", ""): 4})
        ]
    )
    labels = {"dataset": "lab.runs", "check": "complete"}
    assert value(meters, "bridge_findings_active", **labels, level="block") == 2
    assert value(meters, "bridge_check_value", **labels, column="accuracy") == 0.25
    assert value(meters, "bridge_check_value", dataset="lab.runs", check="rows", column="") == 4
    assert b"old.runs" not in generate_latest(meters.registry)


def test_datasets_of_thousands_of_columns_leave_room_in_the_scrape(meters: Meters) -> None:
    wide = {("complete", f"c{number}"): 0.0 for number in range(MAX_CHECK_VALUES - 1)}
    meters.watch_checks(lambda: [CheckStatus(f"lab.{name}", {}, wide) for name in "abc"])
    assert generate_latest(meters.registry).count(b"bridge_check_value{") == MAX_CHECK_VALUES


# The service


def test_the_version_that_runs_is_told(meters: Meters) -> None:
    assert value(meters, "bridge_build_info", version="1.2.3") == 1


def test_requests_under_way_are_told_as_they_are(meters: Meters) -> None:
    meters.busy = 3
    assert value(meters, "bridge_requests_in_flight") == 3
    meters.busy = 0
    assert value(meters, "bridge_requests_in_flight") == 0


def test_settings_count_as_good_until_a_reload_fails(meters: Meters) -> None:
    assert value(meters, "bridge_config_last_reload_successful") == 1


def test_two_services_in_one_process_count_apart(meters: Meters) -> None:
    meters.panel("d", "1", 1)
    assert panels(Meters()) == {}


# What Prometheus reads


@pytest.fixture
def full(meters: Meters) -> Meters:
    """Every metric with a value, and labels as hostile as they can get."""
    meters.requests.labels("/json/query", "POST", "200").inc()
    meters.request_seconds.labels("/json/query").observe(0.01)
    meters.fetches.labels("lab", "lab.runs", "ok").inc()
    meters.polls.labels("lab.runs", "ok").inc()
    meters.fetch_seconds.labels("lab", "lab.runs").observe(30)
    meters.cache.labels("lab.runs", "hit").inc()
    meters.rows.labels("lab.runs").inc(10)
    meters.samples.labels("lab.runs", "ok").inc()
    meters.sampled_rows.labels("lab.runs").inc(10)
    meters.panel('a"\\\n', "1", 0.1)
    meters.panel("abc", "1", 0.1)
    meters.lineage_events.labels("sent").inc()
    meters.reloads.labels("ok").inc()
    meters.findings.labels("lab.runs", "complete", "warn").inc()
    meters.watch_checks(
        lambda: [
            CheckStatus(
                "lab.runs",
                {("complete", "warn"): 2, ("truth", "block"): 1},
                {("complete", 'a"\\\n'): 0.5, ("rows", ""): 3.0},
            )
        ]
    )
    meters.watch(
        lambda: [
            DatasetStatus("lab.runs", "ok", age_s=1.0),
            DatasetStatus("lab.curves", "down", age_s=99.0, stale=True, breaker="open"),
            DatasetStatus("gone.runs", "failed"),
        ]
    )
    return meters


def samples(meters: Meters) -> Iterator[str]:
    for family in meters.registry.collect():
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                yield sample.name


def test_promtool_accepts_every_metric(full: Meters) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.fail("promtool is missing; it comes with the Debian package prometheus: sh tests/system_packages.sh")
    text = generate_latest(full.registry)
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False, timeout=50)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_openmetrics_readers_accept_every_metric(full: Meters) -> None:
    text = generate_openmetrics(full.registry).decode()
    assert {family.name for family in text_string_to_metric_families(text)} >= {"bridge_requests", "bridge_build"}


def test_names_and_units_follow_prometheus(full: Meters) -> None:
    for name in samples(full):
        assert name.startswith("bridge_")
        assert not any(word in name for word in ("_ms", "milliseconds", "minutes"))
    counters = {family.name for family in full.registry.collect() if family.type == "counter"}
    assert {name for name in samples(full) if name.endswith("_total")} == {f"{name}_total" for name in counters}
