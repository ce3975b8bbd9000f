"""The alert rules are what Prometheus reads, and each speaks when it should and only then."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.edge.meters import Meters

RULES = Path(__file__).parents[2] / "grafana/provisioning/prometheus/bridge-quality.rules.yml"
DATASET = 'source="lab", dataset="lab.runs"'
HOUR = "x60"


def promtool(*words: str) -> subprocess.CompletedProcess[str]:
    found = shutil.which("promtool")
    if found is None:
        pytest.fail("promtool is missing; it comes with the Debian package prometheus: sh tests/system_packages.sh")
    return subprocess.run([found, *words], capture_output=True, text=True, check=False, timeout=50)


def alerts(tmp_path: Path, series: dict[str, str], at: str, name: str) -> subprocess.CompletedProcess[str]:
    """Runs the rules over samples of one a minute, and compares what fires of one alert with `expected`."""
    expected = series.pop("expected", None)
    case: dict[str, Any] = {
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "alert_rule_test": [{"eval_time": at, "alertname": name, "exp_alerts": expected or []}],
    }
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [case]}))
    return promtool("test", "rules", str(file))


def fires(tmp_path: Path, series: dict[str, str], at: str, name: str) -> bool:
    """Whether the alert fires at that time; promtool is told that it does not, and says what there is instead."""
    done = alerts(tmp_path, dict(series), at, name)
    if done.returncode == 0:
        return False
    got = re.search(r"got:\[\s*(?P<labels>.*)", done.stdout + done.stderr, re.S)
    assert got is not None, done.stdout + done.stderr
    assert name in got["labels"]
    return True


def test_promtool_accepts_the_rules() -> None:
    done = promtool("check", "rules", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 rules found" in done.stdout


def test_the_rules_speak_of_metrics_that_there_are() -> None:
    known = {family.name for family in Meters().registry.collect()}
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            for name in re.findall(r"bridge_\w+", rule["expr"]):
                assert name.removesuffix("_total") in known, name


def active(level: str) -> str:
    return f'bridge_findings_active{{dataset="lab.runs", check="complete", level="{level}"}}'


def value(check: str, column: str = "accuracy") -> str:
    return f'bridge_check_value{{dataset="lab.runs", check="{check}", column="{column}"}}'


AGE = f"bridge_dataset_age_seconds{{{DATASET}}}"
POLLS = 'bridge_source_polls_total{dataset="lab.runs", outcome="ok"}'
SAMPLES = 'bridge_history_samples_total{{dataset="lab.runs", outcome="{}"}}'.format
UP, OPEN = f"bridge_dataset_up{{{DATASET}}}", f"bridge_breaker_open{{{DATASET}}}"
CASES = {
    "a blocking finding at once": ("BridgeDataHeldBack", {active("block"): "0 1 1"}, "1m", True),
    "a blocking finding that is gone": ("BridgeDataHeldBack", {active("block"): "1 1 stale _ _"}, "3m", False),
    "a warning is no block": ("BridgeDataHeldBack", {active("warn"): f"1+0{HOUR}"}, "60m", False),
    "a warning of a moment": ("BridgeDataDoubtful", {active("warn"): "1x10 stale"}, "20m", False),
    "a warning before its time": ("BridgeDataDoubtful", {active("warn"): f"1+0{HOUR}"}, "14m", False),
    "a warning that lasts": ("BridgeDataDoubtful", {active("warn"): f"1+0{HOUR}"}, "16m", True),
    "an information": ("BridgeDataDoubtful", {active("info"): f"1+0{HOUR}"}, "60m", False),
    "one failed fetch": ("BridgeDatasetDown", {UP: "1 0 1 1 1 1 1 1"}, "6m", False),
    "failed fetches for minutes": ("BridgeDatasetDown", {UP: f"0+0{HOUR}"}, "6m", True),
    "an old answer that is polled": ("BridgeDatasetOld", {AGE: f"0+60{HOUR}", POLLS: f"1+0{HOUR}"}, "20m", True),
    "a young answer that is polled": ("BridgeDatasetOld", {AGE: f"30+0{HOUR}", POLLS: f"1+1{HOUR}"}, "60m", False),
    "an old answer nobody asked for": ("BridgeDatasetOld", {AGE: f"0+60{HOUR}"}, "60m", False),
    "a breaker that closes again": ("BridgeBreakerOpen", {OPEN: "0 1 0 0"}, "3m", False),
    "a breaker between open and half open": ("BridgeBreakerOpen", {OPEN: "1 0.5 1 0.5 1"}, "4m", True),
    "samples that cannot be kept": ("BridgeHistoryStalls", {SAMPLES("store_failed"): f"0+1{HOUR}"}, "11m", True),
    "one that could not be kept": (
        "BridgeHistoryStalls",
        {SAMPLES("store_failed"): f"0 0 1 1+0{HOUR}"},
        "5m",
        False,
    ),
    "no samples, as the source is down": (
        "BridgeHistoryStalls",
        {SAMPLES("upstream_refused"): f"0+1{HOUR}"},
        "60m",
        False,
    ),
    "nulls that rise": ("BridgeEmptyValuesRise", {value("complete"): f"0+0.001{HOUR}"}, "60m", True),
    "nulls of a second check that rise": (
        "BridgeEmptyValuesRise",
        {value("complete_2"): f"0+0.001{HOUR}"},
        "60m",
        True,
    ),
    "many nulls, no more than before": ("BridgeEmptyValuesRise", {value("complete"): f"0.5+0{HOUR}"}, "60m", False),
    "nulls that rise slowly": ("BridgeEmptyValuesRise", {value("complete"): f"0+0.0001{HOUR}"}, "60m", False),
    "nulls that fall": ("BridgeEmptyValuesRise", {value("complete"): f"0.9-0.001{HOUR}"}, "60m", False),
    "values outside that rise": ("BridgeBadValuesRise", {value("range"): f"0+0.001{HOUR}"}, "60m", True),
    "a rule that is broken more often": ("BridgeBadValuesRise", {value("rule", ""): f"0+0.001{HOUR}"}, "60m", True),
    "gaps are no share": ("BridgeBadValuesRise", {value("gaps", "time"): f"0+60{HOUR}"}, "60m", False),
    "answers with nothing new": ("BridgeNothingNew", {value("fresh", "time"): f"5+60{HOUR}"}, "60m", True),
    "answers with new rows": ("BridgeNothingNew", {value("fresh", "time"): f"5+0{HOUR}"}, "60m", False),
}


@pytest.mark.parametrize(("name", "series", "at", "expected"), CASES.values(), ids=CASES)
def test_each_alert_speaks_when_it_should(
    tmp_path: Path, name: str, series: dict[str, str], at: str, expected: bool
) -> None:
    assert fires(tmp_path, series, at, name) is expected


def test_an_alert_names_the_dataset_and_what_to_look_at(tmp_path: Path) -> None:
    expected: Any = [
        {
            "exp_labels": {"dataset": "lab.runs", "check": "complete", "severity": "critical"},
            "exp_annotations": {
                "summary": "lab.runs is held back by its check complete",
                "description": "Panels show the last good answer. The dataset _findings says what is wrong with the "
                "new one.",
            },
        }
    ]
    done = alerts(tmp_path, {active("block"): "1 1", "expected": expected}, "1m", "BridgeDataHeldBack")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_has_a_case_in_which_it_speaks_and_one_in_which_it_does_not() -> None:
    names = {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    assert names == {case[0] for case in CASES.values() if case[3]}
    assert names == {case[0] for case in CASES.values() if not case[3]}
