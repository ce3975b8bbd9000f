"""`bridge sources lineage` says where rows come from, to people and to machines."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bridge.cli import app
from bridge.cli.lineage import tree

SETTINGS = """\
sources:
  - name: lab
    kind: files
    datasets:
      - name: runs
        options: {path: runs.csv}
      - name: best
        options: {path: runs.csv}
        steps:
          - filter: accuracy > 0.6
          - join: {with: other.owners, on: [model]}
          - join: {with: other.teams, on: [model]}
  - name: other
    kind: files
    datasets:
      - {name: owners, options: {path: owners.csv}}
      - {name: teams, options: {path: owners.csv}, steps: [{rename: {owner: team}}]}
"""


def invoke(*words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command."""
    done = CliRunner(env={"NO_COLOR": "1", "TERM": "dumb"}).invoke(app, ["sources", "lineage", *words])
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Runs, and the owners of their models."""
    (tmp_path / "runs.csv").write_text(
        "time,accuracy,model\n2026-01-01T00:00:00Z,0.5,svm\n2026-01-01T00:01:00Z,0.75,mlp\n"
    )
    (tmp_path / "owners.csv").write_text("model,owner\nsvm,ann\nmlp,bob\n")
    file = tmp_path / "bridge.yaml"
    file.write_text(SETTINGS)
    return str(file)


def shape(text: str) -> str:
    """The tree without what differs from run to run."""
    text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:.+]+", "TIME", text)
    return re.sub(r"\b[0-9a-f]{16,32}\b", "HASH", text)


def test_a_dataset_is_told_down_to_its_sources(config: str) -> None:
    code, out, err = invoke("lab.best", "--config", config)
    assert (code, err) == (0, "")
    assert shape(out) == (
        "lab.best\n"
        "├─ fetched TIME, 1 row\n"
        "├─ schema version 1, fingerprint HASH\n"
        "├─ query HASH, all times\n"
        "├─ step 1: filter accuracy > 0.6\n"
        "├─ step 2: join other.owners on model\n"
        "├─ step 3: join other.teams on model\n"
        "├─ from other.owners\n"
        "│  ├─ fetched TIME, 2 rows\n"
        "│  ├─ schema version 1, fingerprint HASH\n"
        "│  ├─ query HASH, all times\n"
        "│  └─ source other: files, adapter 1\n"
        "├─ from other.teams\n"
        "│  ├─ fetched TIME, 2 rows\n"
        "│  ├─ schema version 1, fingerprint HASH\n"
        "│  ├─ query HASH, all times\n"
        "│  ├─ step 1: rename owner to team\n"
        "│  └─ source other: files, adapter 1\n"
        "└─ source lab: files, adapter 1\n"
    )


def test_for_machines_it_is_the_object_that_answers_carry(config: str) -> None:
    code, out, _ = invoke("lab.best", "--config", config, "--json")
    told = json.loads(out)
    assert code == 0
    assert (told["dataset"], told["rows"], told["span"]) == ("lab.best", 1, None)
    assert [parent["dataset"] for parent in told["parents"]] == ["other.owners", "other.teams"]


def test_hours_are_accepted_for_sources_that_need_a_time_range(config: str) -> None:
    code, out, _ = invoke("lab.runs", "--config", config, "--hours", "2")
    assert (code, out.splitlines()[0]) == (0, "lab.runs")


def test_a_name_that_is_wrong_is_told_with_the_nearest(config: str) -> None:
    code, out, err = invoke("lab.beast", "--config", config)
    assert (code, out) == (1, "")
    assert "there is no dataset `lab.beast`" in err
    assert "lab.best" in err


def test_a_source_that_is_down_is_a_sentence(config: str) -> None:
    Path(config).with_name("owners.csv").unlink()
    code, out, err = invoke("lab.best", "--config", config)
    assert (code, out) == (1, "")
    assert re.match(r"other\.(owners|teams): no file matches", err)


def test_wrong_settings_are_told_with_their_line(config: str) -> None:
    Path(config).write_text("sources: [{name: lab}]")
    code, _, err = invoke("lab.best", "--config", config)
    assert code == 2
    assert "bridge.yaml:1:" in err


def test_notices_of_the_answer_are_told_beside_it(config: str) -> None:
    file = Path(config).with_name("runs.csv")
    file.write_text(file.read_text() + "2026-01-01T00:02:00Z,much,svm\n")
    columns = "columns: [{name: time, type: time}, {name: accuracy, type: number}, {name: model, type: string}]"
    Path(config).write_text(SETTINGS.replace("      - name: best", f"        {columns}\n      - name: best"))
    code, out, err = invoke("lab.runs", "--config", config)
    assert code == 0
    assert "warning: " in err
    assert "warning" not in out


def test_a_parent_that_is_stale_parents_left_out_and_what_is_recorded_are_told() -> None:
    told = {
        "dataset": "lab.best",
        "source": "lab",
        "kind": "rest",
        "adapter": "1",
        "far_version": "2.1",
        "schema": {"version": 3, "fingerprint": "abc"},
        "query": "def",
        "span": ["2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"],
        "fetched_at": "2026-01-02T00:00:01+00:00",
        "rows": 7,
        "steps": [],
        "checks": ["complete", "fresh"],
        "parents": [{"dataset": "other.owners", "stale": True, "more": 4}, {"dataset": "gone.runs"}],
        "more": 2,
        "history": {"rows": 50, "version": 4},
    }
    assert tree(told) == (
        "lab.best\n"
        "├─ fetched 2026-01-02T00:00:01+00:00, 7 rows\n"
        "├─ schema version 3, fingerprint abc\n"
        "├─ query def, 2026-01-01T00:00:00+00:00 to 2026-01-02T00:00:00+00:00\n"
        "├─ checks: complete, fresh\n"
        "├─ history: rows 50, version 4\n"
        "├─ from other.owners (stale: its source is down)\n"
        "│  └─ from 4 more datasets\n"
        "├─ from gone.runs\n"
        "├─ from 2 more datasets\n"
        "└─ source lab: rest, adapter 1, far version 2.1"
    )


class NeedsRange(BaseHTTPRequestHandler):
    """A far server that answers questions about a time range only."""

    def do_GET(self) -> None:
        good = "from=" in self.path and "from=&" not in self.path
        body = b'[{"time": "2026-01-01T00:00:00Z", "loss": 1}]' if good else b"give a time range"
        self.send_response(200 if good else 400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing."""


def test_a_source_that_needs_a_time_range_leads_to_the_option(config: str) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), NeedsRange)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        Path(config).write_text(
            f"""\
sources:
  - name: far
    kind: rest
    options: {{url: "http://127.0.0.1:{server.server_port}"}}
    datasets:
      - name: runs
        retries: 0
        options: {{path: /runs, params: {{from: "{{from_ms}}"}}}}
        columns: [{{name: time, type: time, role: time}}, {{name: loss, type: number, role: measure}}]
"""
        )
        code, _, err = invoke("far.runs", "--config", config)
        assert code == 1
        assert "add --hours 1" in err
        code, out, _ = invoke("far.runs", "--config", config, "--hours", "1")
        assert code == 0
        assert re.search(r"├─ query [0-9a-f]{32}, \S+ to \S+\n└─ source far: rest, adapter 1\n$", out)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
