"""`bridge demo`, from the checkout and from a wheel."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from servers.tracking import command as mlflow_command

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@contextmanager
def demo(command: list[str], folder: Path, *words: str, **env: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Runs a demo until the block ends; its URL."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **env}
    process = subprocess.Popen(
        [*command, "demo", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if match := re.search(r"(http://\S+?)/ ", line):
                yield match[1], process
                break
    finally:
        process.terminate()
        process.communicate(timeout=30)


def get(url: str, body: Any = None) -> Any:
    """JSON of one request."""
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data=data), timeout=30) as response:
        return json.load(response)


def rows_of(url: str, dataset: str, wanted: int = 1) -> list[dict[str, Any]]:
    """Rows of a dataset, asked until there are enough: training goes on meanwhile."""
    while len(rows := get(f"{url}/api/v1/datasets/{dataset}?fresh=1")) < wanted:
        pass
    return list(rows)


def test_the_demo_gives_real_runs(tmp_path: Path) -> None:
    """Runs, curves and the shown answer of README, and the container ends with the demo."""
    with demo([sys.executable, "-m", "bridge"], tmp_path, BRIDGE_SERVER__PORT="0") as (url, process):
        rows = rows_of(url, "digits.runs", 3)
        assert all(0 < row["accuracy"] <= 1 for row in rows)
        assert len({row["accuracy"] for row in rows}) > 1
        shown = json.loads(
            re.search(r"<!-- answer -->\n```json\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
        )
        short = get(f"{url}/api/v1/datasets/digits.runs?columns=accuracy,model,seed&limit=2")
        assert [list(row) for row in short] == [list(row) for row in shown]
        assert [(row["accuracy"], row["model"]) for row in short] == [
            (row["accuracy"], row["model"]) for row in shown
        ]
        frames = get(f"{url}/json/query", {"targets": [{"refId": "A", "target": "digits.curves"}]})
        assert {frame["schema"]["refId"] for frame in frames} == {"A"}
        assert len(get(f"{url}/api/v1/datasets/samples.iris")) == 150
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert children
        assert process.stdout is not None
        container = next(line.split()[0] for line in process.stdout if "the container itself" in line)
        assert get(container)["items"]
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_the_demo_works_from_a_wheel(tmp_path: Path) -> None:
    """Nothing of the checkout is needed: the container and its settings are in the package."""
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(build, check=True)
    wheel = next(tmp_path.glob("bridge-*.whl"))
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    site = next(home.glob("lib/python*/site-packages"))
    own = [path for path in sys.path if path.endswith("site-packages")]
    unpack = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(unpack, check=True)
    # The dependencies come from this environment; its own editable bridge is hidden by the wheel, which stands first.
    (site / "dependencies.pth").write_text("\n".join(own))
    python = [str(home / "bin" / "python"), "-m", "bridge"]
    with demo(python, tmp_path, "--port", "0") as (url, _):
        assert rows_of(url, "digits.runs")[0]["model"] in ("svm", "forest", "mlp")
    where = subprocess.run(
        [*python[:1], "-c", "import bridge; print(bridge.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert str(site) in where.stdout


HIDDEN = """
import sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "sklearn":
            sys.meta_path.remove(self)
            sys.path[:] = [item for item in sys.path if not item.endswith("site-packages")]
        return None

sys.meta_path.insert(0, Hide())
"""


def test_without_scikit_learn_the_demo_says_what_to_install(tmp_path: Path) -> None:
    """One sentence with the command that helps, and no process left behind."""
    (tmp_path / "sitecustomize.py").write_text(HIDDEN)
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "demo", "--port", "0"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "bridge[demo]" in done.stderr
    assert "Traceback" not in done.stderr


def descendants(pid: int) -> set[int]:
    """Everything that a process started, and what that started."""
    found: set[int] = set()
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found |= {int(child)} | descendants(int(child))
    return found


def none_left(pids: set[int]) -> bool:
    """Whether all of these processes ended."""

    def gone(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    return all(map(gone, pids))


def until(true: Callable[[], bool]) -> None:
    """Returns as soon as it holds, and fails when it never does."""
    end_s = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.timeout(300)
def test_the_demo_joins_the_containers_runs_with_those_of_a_real_mlflow(tmp_path: Path) -> None:
    """By settings alone; and a demo that is killed leaves no MLflow behind."""
    words = ["--port", "0", "--mlflow-command", mlflow_command()]
    # What a killed process leaves on disk goes with the test.
    with demo([sys.executable, "-m", "bridge"], tmp_path, *words, TMPDIR=str(tmp_path)) as (url, process):
        assert process.stdout is not None
        at = next(match[1] for line in process.stdout if (match := re.search(r"(http://\S+) +MLflow itself", line)))

        def both() -> list[dict[str, Any]]:
            try:
                rows = get(f"{url}/api/v1/datasets/digits.tracked_runs?fresh=1")
            except HTTPError as error:
                with error:
                    code = json.load(error)["code"]
                # bridge may be quicker than the container, which makes the experiment as soon as it runs.
                rows = [] if code == "data_missing" else pytest.fail(code)
            return [row for row in rows if row["run_id"] and row["val_loss"] is not None]

        until(lambda: len(both()) >= 2)
        for row in both()[:2]:
            theirs = get(f"{at}/api/2.0/mlflow/runs/get?run_id={row['run_id']}")["run"]
            metrics = {item["key"]: item["value"] for item in theirs["data"]["metrics"]}
            assert theirs["info"]["run_name"] == row["run"]
            assert (metrics["accuracy"], metrics["loss"]) == (row["accuracy"], row["val_loss"])
        assert row["model"] in ("forest", "mlp")
        started = descendants(process.pid)
        assert any(b"mlflow" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in started)
        process.kill()
        process.wait()
        until(lambda: none_left(started))


# Answers as a server does that is up, and starts a child that would outlive it.
ANSWERS = """\
#!{python}
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open("{folder}/child", "w").write(str(child.pid))
port = int(sys.argv[sys.argv.index("--port") + 1])
assert sys.argv[1] == "server"
import os
assert (os.environ["MLFLOW_DISABLE_TELEMETRY"], os.environ["DO_NOT_TRACK"]) == ("true", "true")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
DIES = "#!{python}\nprint('the database is full')\nraise SystemExit(3)\n"


def script(folder: Path, text: str, place: str = "bin") -> str:
    """An executable in the place of MLflow's."""
    path = folder / place / "mlflow"
    path.parent.mkdir(parents=True)
    path.write_text(text.format(python=sys.executable, folder=folder))
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("place", ["on_path", ".venv-mlflow/bin"])
def test_mlflow_is_found_and_ends_with_the_demo_and_all_it_started(tmp_path: Path, place: str) -> None:
    """On PATH, or in a venv of its own beside bridge's; a terminated demo waits until it has ended."""
    script(tmp_path, ANSWERS, place)
    with demo(elsewhere(tmp_path), tmp_path, "--mlflow", "--port", "0", PATH=str(tmp_path / "on_path")) as (
        url,
        process,
    ):
        names = [item["name"] for item in get(f"{url}/api/v1/datasets")["datasets"]]
        assert {"digits.runs", "digits.tracked_runs", "tracking.runs"} <= set(names)
        started = descendants(process.pid)
        assert int((tmp_path / "child").read_text()) in started
        process.terminate()
        process.communicate(timeout=30)
        assert none_left(started)


def elsewhere(folder: Path) -> list[str]:
    """bridge as if it ran in a venv beside which nothing stands."""
    start = (
        f"import sys; sys.prefix = {str(folder / 'venv')!r}; sys.argv[0] = 'bridge'; import bridge.cli as c; c.main()"
    )
    return [sys.executable, "-c", start]


def refused(command: list[str], folder: Path, *words: str) -> str:
    """What a demo says that cannot start."""
    done = subprocess.run(
        [*command, "demo", "--port", "0", *words],
        cwd=folder,
        env={"PATH": str(folder / "bin"), "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_without_mlflow_the_demo_says_what_to_install(tmp_path: Path) -> None:
    """The command itself, to be copied."""
    said = refused(elsewhere(tmp_path), tmp_path, "--mlflow")
    assert "    python3 -m venv .venv-mlflow && .venv-mlflow/bin/pip install mlflow\n" in said
    assert "--mlflow-command" in said


@pytest.mark.parametrize("given", ["no-such-mlflow server", ""])
def test_a_command_that_is_none_is_said_so(tmp_path: Path, given: str) -> None:
    """Rather than another one that is found."""
    said = refused([sys.executable, "-m", "bridge"], tmp_path, "--mlflow-command", given)
    assert f"`{given}` is no command that can be run" in said


def test_an_mlflow_that_does_not_start_is_shown_with_its_last_words(tmp_path: Path) -> None:
    """And the demo ends."""
    said = refused([sys.executable, "-m", "bridge"], tmp_path, "--mlflow-command", script(tmp_path, DIES))
    assert "the database is full" in said
    assert "MLflow did not start; its last words are above" in said
