"""`bridge sources infer`: what it prints, what it writes, and that what it wrote answers."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from tests.servers import tracking
from typer.testing import CliRunner

from bridge.cli import app

ROWS = [
    {
        "started_at": f"2026-01-01T00:{n:02d}:00Z",
        "model": ("svm", "mlp")[n % 2],
        "loss": n / 4,
        "yes": n,
        "{x}": "a b",
    }
    for n in range(12)
]


class Api:
    """A server in a thread whose answers a test may change."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {"/runs": ROWS}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            """Answers from the table."""

            def do_GET(self) -> None:
                """JSON, or bytes as they are; 404 for the rest."""
                found = outer.answers.get(urlsplit(self.path).path)
                found = found(self.path) if callable(found) else found
                status, body = (200, found) if found is not None else (404, {})
                if isinstance(body, tuple):
                    status, body = body
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET  # noqa: N815 the base class names it so

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def far() -> Iterator[Api]:
    """A running server."""
    api = Api()
    thread = threading.Thread(target=api.server.serve_forever, daemon=True)
    thread.start()
    yield api
    api.server.shutdown()
    api.server.server_close()
    thread.join()


def invoke(*words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command."""
    done = CliRunner(env={"NO_COLOR": "1", "TERM": "dumb"}).invoke(app, list(words))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def infer(*words: str) -> tuple[int, str, str]:
    """One guess."""
    return invoke("sources", "infer", *words)


def test_the_printed_settings_are_accepted_and_answer(far: Api, tmp_path: Path) -> None:
    """Standard output is a settings file as it stands; what was looked at and the first row stand beside it."""
    code, out, err = infer(f"{far.url}/runs", "--name", "lab")
    assert code == 0, err
    assert "the time axis by its name" in out
    assert f"GET {far.url}/runs" in err
    assert "lab.runs: 12 rows, first [{" in err
    assert "1 of 1 datasets answer" in err
    file = tmp_path / "bridge.yaml"
    file.write_text(out)
    assert invoke("check", "--config", str(file))[0] == 0
    code, out, _ = invoke("sources", "sample", "lab.runs", "--config", str(file), "--rows", "1", "--json")
    assert (code, json.loads(out)[0]["yes"], json.loads(out)[0]["x"]) == (0, 0, "a b")


def test_machines_get_json(far: Api) -> None:
    """The source, each dataset's trial, and the YAML as text."""
    code, out, _ = infer(f"{far.url}/runs", "--name", "lab", "--json")
    said = json.loads(out)
    assert code == 0
    assert said["source"]["datasets"][0]["name"] == "runs"
    assert said["datasets"][0] | {"notes": 0, "remarks": 0, "first": 0} == {
        "name": "lab.runs", "ok": True, "rows": 12, "reason": "", "notes": 0, "remarks": 0, "first": 0,
    }  # fmt: skip
    assert said["datasets"][0]["first"]["model"] == "svm"
    assert yaml.safe_load(said["yaml"])["sources"] == [said["source"]]
    assert said["written"] is None


def test_a_source_is_added_to_a_file_that_keeps_its_comments(far: Api, tmp_path: Path) -> None:
    """A new file is made where there is none; the name of a source stands once."""
    file = tmp_path / "bridge.yaml"
    assert infer(f"{far.url}/runs", "--name", "lab", "--write", str(file))[0] == 0
    file.write_text(f"# mine\nserver: {{port: 0}} # free\n{file.read_text()}# the end\n")
    file.chmod(0o600)
    code, _, err = infer(f"{far.url}/runs", "--name", "lab2", "--write", str(file))
    assert code == 0, err
    assert f"added to {file}" in err
    text = file.read_text()
    for kept in ("# mine\n", "# free\n", "# the end\n"):
        assert kept in text
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    code, out, _ = invoke("check", "--config", str(file), "--json")
    assert json.loads(out)["datasets"] == ["lab.runs", "lab2.runs"]
    code, _, err = infer(f"{far.url}/runs", "--name", "lab", "--write", str(file))
    assert code == 1
    assert "has a source `lab` already" in err
    assert file.read_text() == text
    assert os.listdir(tmp_path) == ["bridge.yaml"]


def test_a_name_that_was_guessed_and_is_taken_is_refused(far: Api, tmp_path: Path) -> None:
    """After it is known."""
    file = tmp_path / "bridge.yaml"
    assert infer(f"{far.url}/runs", "--write", str(file))[0] == 0
    code, _, err = infer(f"{far.url}/runs", "--write", str(file))
    assert code == 1
    assert "already" in err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("sources: [", "not YAML"),
        ("server: {prt: 1}", "prt"),
        ("{server: {port: 0}}", "by hand"),
        ("a: {}\n", "no known key"),
        ("sources: [{name: a, kind: nothing}]\n", "bridge.yaml:1:"),
    ],
)
def test_a_file_that_is_broken_or_has_no_place_stays_as_it_is(
    text: str, sentence: str, far: Api, tmp_path: Path
) -> None:
    """The sentence says which."""
    file = tmp_path / "bridge.yaml"
    file.write_text(text)
    code, _, err = infer(f"{far.url}/runs", "--write", str(file))
    assert code in (1, 2)
    assert sentence in err
    assert file.read_text() == text
    assert os.listdir(tmp_path) == ["bridge.yaml"]


@pytest.mark.parametrize(
    "text", ["server: {trusted_proxies: &none []}\nsources: *none\n", "sources: [{name: a, kind: files},]\n"]
)
def test_a_place_that_was_misread_changes_nothing(text: str, far: Api, tmp_path: Path) -> None:
    """What would be written is read back: unless it says what was said and the new source, the file is left alone."""
    file = tmp_path / "bridge.yaml"
    file.write_text(text)
    code, _, err = infer(f"{far.url}/runs", "--name", "lab", "--write", str(file))
    assert code == 1
    assert "by hand" in err
    assert file.read_text() == text


def test_folders_and_permissions_are_told(far: Api, tmp_path: Path) -> None:
    """Before anything is asked, where that can be known."""
    code, _, err = infer(f"{far.url}/runs", "--write", str(tmp_path / "none" / "bridge.yaml"))
    assert code == 1
    assert "no folder" in err
    code, _, err = infer(f"{far.url}/runs", "--write", str(tmp_path))
    assert code == 1
    assert "cannot be read" in err


def test_nothing_is_written_when_no_dataset_answers(far: Api, tmp_path: Path) -> None:
    """The settings are printed with the reason, and the code is 1."""
    paths = {"/runs/{run}": {"get": {"parameters": [{"name": "run", "in": "path", "required": True}],
             "responses": {"200": {"content": {"application/json": {"schema": {
                 "type": "array", "items": {"properties": {"x": {"type": "number"}}}}}}}}}}}  # fmt: skip
    far.answers["/openapi.json"] = {"openapi": "3.0.0", "paths": paths}
    file = tmp_path / "bridge.yaml"
    code, out, err = infer(far.url, "--write", str(file))
    assert code == 1
    assert "# not asked: it needs run" in out
    assert "0 of 1 datasets answer" in err
    assert "left as it was" in err
    assert not file.exists()


def test_a_dataset_that_does_not_answer_is_kept_with_the_reason(far: Api) -> None:
    """As long as another one answers, all is well."""
    rows = {"type": "array", "items": {"properties": {"x": {"type": "number"}}}}
    get = {"get": {"responses": {"200": {"content": {"application/json": {"schema": rows}}}}}}
    far.answers["/openapi.json"] = {"openapi": "3.0.0", "paths": {"/good": get, "/broken": get}}
    far.answers |= {"/good": [{"x": 1}], "/broken": (500, {"error": "boom"})}
    code, out, err = infer(far.url, "--name", "lab")
    assert code == 0
    assert "# does not answer: " in out
    assert "500" in out
    assert "lab.broken: does not answer" in err
    assert "1 of 2 datasets answer" in err


def test_a_dataset_that_needs_a_time_range_is_asked_for_the_last_day(far: Api) -> None:
    """And the comment says so."""
    rows = {"type": "array", "items": {"properties": {"x": {"type": "number"}}}}
    since = {"name": "since", "in": "query", "required": True, "schema": {"type": "string", "format": "date-time"}}
    get = {"parameters": [since], "responses": {"200": {"content": {"application/json": {"schema": rows}}}}}
    far.answers["/openapi.json"] = {"openapi": "3.0.0", "paths": {"/runs": {"get": get}}}
    far.answers["/runs"] = lambda path: [{"x": 1}] if "since=" in path else (422, {"detail": "since is missing"})
    code, out, _ = infer(far.url)
    assert code == 0
    assert "asked for the last day only" in out


def test_files_are_read_where_the_settings_will_stand(tmp_path: Path) -> None:
    """Paths in the settings are relative to their folder."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "m.csv").write_text("time;load\n2026-01-01T00:00:00Z;1,5\n")
    file = tmp_path / "bridge.yaml"
    code, out, err = infer(str(tmp_path / "data" / "m.csv"), "--write", str(file))
    assert code == 0, err
    assert "path: data/m.csv" in out
    code, out, _ = invoke("sources", "sample", "m.m", "--config", str(file), "--json")
    assert json.loads(out)[0]["load"] == 1.5


def test_an_api_that_changes_afterwards_is_told_by_its_column(far: Api, tmp_path: Path) -> None:
    """A field that is gone and one that holds something else: the sentence names it."""
    file = tmp_path / "bridge.yaml"
    assert infer(f"{far.url}/runs", "--name", "lab", "--write", str(file))[0] == 0
    far.answers["/runs"] = [{key: value for key, value in row.items() if key != "loss"} for row in ROWS]
    code, _, err = invoke("sources", "sample", "lab.runs", "--config", str(file))
    assert code == 1
    assert "column `loss` is gone" in err
    far.answers["/runs"] = [{**row, "loss": "high"} for row in ROWS]
    code, _, err = invoke("sources", "sample", "lab.runs", "--config", str(file))
    assert code == 1
    assert "column `loss` holds no number" in err
    far.answers["/runs"] = [{**row, "new": 1} for row in ROWS]
    assert invoke("sources", "sample", "lab.runs", "--config", str(file))[0] == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["http://u:hunter2@127.0.0.1/"], "--token-file"),
        (["http://127.0.0.1/", "--header", "hunter2"], "form K=V"),
        (["http://127.0.0.1/", "--header", "X-Api-Key=hunter2"], "--token-header"),
        (["http://127.0.0.1/", "--name", "Bad Name"], "no name for a source"),
        (["none.csv"], "no file"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(words: list[str], sentence: str) -> None:
    """No traceback and no secret."""
    code, out, err = infer(*words)
    assert code == 1
    assert sentence in err
    assert "hunter2" not in out + err


def test_headers_are_sent_and_written(far: Api) -> None:
    """As K=V, where V may hold an `=`."""
    code, out, _ = infer(f"{far.url}/runs", "--header", "X-Site=a=b")
    assert code == 0
    assert "X-Site: a" in out or '"a=b"' in out


def test_pages_are_tried_and_not_all_read(far: Api) -> None:
    """A trial asks for two pages; the settings keep their own bound."""
    asked: list[str] = []

    def endless(path: str) -> Any:
        asked.append(path)
        return {"items": ROWS, "next": f"page{len(asked)}"}

    far.answers["/runs"] = endless
    code, out, _ = infer(f"{far.url}/runs")
    assert code == 0
    assert "max_pages" not in out
    assert len(asked) == 3


def test_a_file_that_changes_meanwhile_is_left_alone(far: Api, tmp_path: Path) -> None:
    """Whoever wrote to it would lose what was written."""
    file = tmp_path / "bridge.yaml"
    file.write_text("server: {port: 0}\n")
    far.answers["/runs"] = lambda _: file.write_text("server: {port: 1}\n") and ROWS
    code, _, err = infer(f"{far.url}/runs", "--write", str(file))
    assert code == 0, err
    assert "port: 1" in file.read_text()
    assert "port: 0" not in file.read_text()
    assert json.loads(invoke("check", "--config", str(file), "--json")[1])["ok"]


def test_a_file_that_cannot_be_written_is_told(far: Api, tmp_path: Path) -> None:
    """And is as it was."""
    file = tmp_path / "bridge.yaml"
    draft = tmp_path / f".bridge.yaml.{os.getpid()}.new"
    draft.mkdir()
    code, _, err = infer(f"{far.url}/runs", "--write", str(file))
    assert code == 1
    assert "cannot be written" in err
    assert not file.exists()
    assert draft.is_dir()


def test_metrics_answer_at_once(far: Api) -> None:
    """As samples, families and histograms."""
    far.answers = {
        "/metrics": b'# TYPE up gauge\nup 1\n# TYPE t histogram\nt_bucket{le="+Inf"} 2\nt_sum 3\nt_count 2\n'
    }
    code, out, err = infer(far.url, "--name", "lab")
    assert code == 0, err
    assert "kind: exposition" in out
    assert "3 of 3 datasets answer" in err


def test_a_database_answers_at_once(tmp_path: Path) -> None:
    """Times that are numbers are asked for as such."""
    with sqlite3.connect(tmp_path / "lab.db") as db:
        db.execute("CREATE TABLE runs (time INTEGER, model TEXT, loss REAL)")
        db.executemany("INSERT INTO runs VALUES (?, 'svm', 0.5)", [(1_767_225_600 + n,) for n in range(20)])
        db.execute('CREATE TABLE "a.b" (x REAL)')
    db.close()
    file = tmp_path / "bridge.yaml"
    code, out, err = infer(str(tmp_path / "lab.db"), "--write", str(file))
    assert code == 0, err
    assert "time_as: epoch_s" in out
    assert "2 of 2 datasets answer" in err
    code, out, _ = invoke("sources", "sample", "lab.runs", "--config", str(file), "--rows", "1", "--json")
    assert json.loads(out) == [{"time": 1_767_225_600_000, "model": "svm", "loss": 0.5}]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_real_mlflow_server_answers_at_once() -> None:
    """Its experiments, runs and metrics."""
    code, out, err = infer(tracking.shared().url, "--name", "ml")
    assert code == 0, err
    assert "kind: mlflow" in out
    assert "3 of 3 datasets answer" in err


def test_the_environment_of_a_service_does_not_matter_to_a_look(far: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """It belongs to a settings file, and there is none."""
    monkeypatch.setenv("BRIDGE_SERVER__PORT", "nonsense")
    assert infer(f"{far.url}/runs")[0] == 0
