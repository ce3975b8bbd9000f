"""The commands that look and write."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.cli.rig import run, settings
from typer.testing import CliRunner

from bridge import __version__
from bridge.cli import app
from bridge.web.routes import TABLE


def invoke(*words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command."""
    done = CliRunner(env={"NO_COLOR": "1", "TERM": "dumb"}).invoke(app, list(words))
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A settings file over one CSV file."""
    return str(settings(tmp_path))


def test_check_says_a_good_file_is_good(config: str) -> None:
    """It names the datasets."""
    code, out, _ = invoke("check", "--config", config)
    assert code == 0
    assert "lab.runs" in out
    code, out, _ = invoke("check", "--config", config, "--json")
    assert (code, json.loads(out)) == (0, {"ok": True, "problems": [], "unread": [], "datasets": ["lab.runs"]})


def test_check_names_line_key_and_remedy(config: str) -> None:
    """Mistakes in the tree and in a plug-in's options alike."""
    file = Path(config)
    file.write_text(file.read_text().replace("path: runs.csv", "pth: runs.csv"))
    code, _, err = invoke("check", "--config", config)
    assert code == 2
    assert "bridge.yaml:8:" in err
    assert "pth" in err
    assert "path" in err
    code, out, _ = invoke("check", "--config", config, "--json")
    assert code == 2
    assert not json.loads(out)["ok"]


def test_check_judges_steps_by_declared_columns_and_by_those_in_the_data(config: str) -> None:
    """A column that no step has before it is told, wherever the columns are written."""
    file = Path(config)
    bare = file.read_text()
    columns = "\n        columns: [{name: time, type: time}, {name: accuracy, type: number}]"
    for declared, place in ((columns, "bridge.yaml:10:"), ("", "bridge.yaml:9:")):
        file.write_text(f"{bare.rstrip()}{declared}\n        steps: [{{rename: {{acuracy: a}}}}]\n")
        code, _, err = invoke("check", "--config", config)
        assert code == 2, err
        assert place in err
        assert "did you mean `accuracy`?" in err
    file.write_text(f"{bare.rstrip()}\n        steps: [{{rename: {{accuracy: a}}}}]\n")
    assert invoke("check", "--config", config)[0] == 0


def test_check_says_which_steps_it_could_not_judge(config: str) -> None:
    """Data that is not there yet is no mistake of the settings."""
    file = Path(config)
    file.write_text(f"{file.read_text().rstrip()}\n        steps: [{{drop: [model]}}]\n")
    Path(file.parent / "runs.csv").unlink()
    code, out, err = invoke("check", "--config", config)
    assert (code, "lab.runs" in out) == (0, True)
    assert "not checked: the steps of lab.runs: no file matches" in err
    assert json.loads(invoke("check", "--config", config, "--json")[1])["unread"]


def test_sample_takes_a_datasets_own_parameters(config: str) -> None:
    """A required one is given by name; one that is not there is told with those that are."""
    file = Path(config)
    text = file.read_text().replace("path: runs.csv", 'path: "{param.site}.csv"')
    columns = "columns: [{name: time, type: time}, {name: accuracy, type: number}]"
    file.write_text(f"{text.rstrip()}\n        params: [{{name: site, required: true}}]\n        {columns}\n")
    command = ("sources", "sample", "lab.runs", "--config", config, "--json")
    code, out, _ = invoke(*command, "--param", "site=runs")
    assert (code, [row["accuracy"] for row in json.loads(out)]) == (0, [0.5, 0.75])
    for words, said in (
        ((), "needs the parameter `site`"),
        (("--param", "sit=runs"), "lab.runs has no parameter `sit` (its parameters: site)"),
        (("--param", "site"), "--param 'site' names no value (write --param NAME=VALUE)"),
    ):
        code, _, err = invoke(*command, *words)
        assert code == 1
        assert said in err


def test_check_without_a_file_says_so(tmp_path: Path) -> None:
    """A missing file is a sentence, not a traceback."""
    code, _, err = invoke("check", "--config", str(tmp_path / "none.yaml"))
    assert code == 2
    assert "no such file" in err


def test_list_shows_plugins_and_sources(config: str) -> None:
    """Without a file the plug-ins, with one its sources and whether they answer."""
    code, out, _ = invoke("sources", "list", "--json")
    kinds = {item["kind"]: item["ok"] for item in json.loads(out)}
    assert code == 0
    assert kinds["files"]
    assert kinds["rest"]
    code, out, _ = invoke("sources", "list", "--config", config, "--json")
    assert json.loads(out)[0] | {"said": ""} == {
        "source": "lab",
        "kind": "files",
        "state": "ok",
        "datasets": "runs",
        "said": "",
    }
    assert "lab" in invoke("sources", "list", "--config", config)[1]


def test_describe_shows_columns(config: str) -> None:
    """Types, units and roles, for a dataset and for all of a source."""
    for name in ("lab.runs", "lab", "runs"):
        code, out, _ = invoke("sources", "describe", name, "--config", config, "--json")
        assert code == 0
        columns = {item["column"]: (item["type"], item["role"]) for item in json.loads(out)["columns"]}
        assert columns == {
            "time": ("time", "time"),
            "accuracy": ("number", "measure"),
            "model": ("string", "dimension"),
        }
    assert "measure" in invoke("sources", "describe", "lab.runs", "--config", config)[1]


def test_sample_shows_rows(config: str) -> None:
    """The first rows, as they are published."""
    code, out, _ = invoke("sources", "sample", "lab.runs", "--config", config, "--rows", "1", "--json")
    assert (code, json.loads(out)) == (0, [{"time": 1767225600000, "accuracy": 0.5, "model": "svm"}])
    assert "svm" in invoke("sources", "sample", "lab.runs", "--config", config)[1]
    code, out, _ = invoke("sources", "sample", "lab.runs", "--config", config, "--hours", "1", "--json")
    assert json.loads(out) == []


def test_unknown_names_get_a_hint(config: str) -> None:
    """A near miss is named."""
    code, _, err = invoke("sources", "sample", "lab.run", "--config", config)
    assert code == 1
    assert "lab.runs" in err


def test_new_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    """No name, or a folder that is there."""
    assert invoke("sources", "new", "Weird-Name", "--into", str(tmp_path))[0] == 1
    code, out, _ = invoke("sources", "new", "weather", "--into", str(tmp_path))
    assert code == 0
    assert "pyproject.toml" in out
    code, _, err = invoke("sources", "new", "weather", "--into", str(tmp_path))
    assert code == 1
    assert "already" in err


def test_routes_lists_the_table() -> None:
    """Every row, with its scope."""
    code, out, _ = invoke("routes", "--json")
    assert code == 0
    assert len(json.loads(out)) == len(TABLE)
    assert "/json/query" in invoke("routes")[1]


def test_the_version_is_told() -> None:
    """One line, and nothing else."""
    code, out, _ = invoke("--version")
    assert (code, out) == (0, f"bridge {__version__}\n")


def test_a_refused_credential_is_told_as_such(tmp_path: Path) -> None:
    """`needs_auth` and the remedy, not just `down`."""

    class Refusing(BaseHTTPRequestHandler):
        """A server that knows nobody."""

        def do_GET(self) -> None:
            """401 for all."""
            self.send_response(401)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        file = tmp_path / "bridge.yaml"
        dataset = "{name: d, options: {path: /}, retries: 0, columns: [{name: id, type: string}]}"
        file.write_text(f'sources: [{{name: lab, kind: rest, options: {{url: "{url}"}}, datasets: [{dataset}]}}]\n')
        code, out, err = invoke("sources", "sample", "lab.d", "--config", str(file))
        server.shutdown()
    assert code == 1
    assert "401" in err
    assert "auth" in err
    assert out == ""


def test_openapi_is_json() -> None:
    """The document names its version of the standard."""
    code, out, _ = invoke("openapi")
    assert (code, json.loads(out)["openapi"][:3]) == (0, "3.1")


def test_a_broken_plugin_is_shown_by_check(config: str) -> None:
    """A source whose plug-in is not there is a problem with its line."""
    file = Path(config)
    file.write_text(file.read_text().replace("kind: files", "kind: nothing"))
    code, _, err = invoke("check", "--config", config)
    assert code == 2
    assert "no plug-in offers kind `nothing`" in err


def test_a_source_that_fails_is_told_in_one_sentence(tmp_path: Path) -> None:
    """The log is the service's: no line of it stands beside what a command says."""
    file = settings(tmp_path, path="none.csv")
    done = run("sources", "sample", "lab.runs", "--config", str(file))
    assert done.returncode == 1
    assert "none.csv" in done.stderr
    assert "dataset failed" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_fault_of_a_plug_in_keeps_its_traceback() -> None:
    """Who writes one finds the line in it."""
    code = (
        "import logging, sys\nfrom bridge.cli import common\ncommon()\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    logging.getLogger('bridge').exception('fault')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)
    assert "ZeroDivisionError" in done.stderr
