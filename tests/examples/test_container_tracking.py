"""The research container also logs its runs to MLflow, and never waits for it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from typing import Any

import pytest

from servers.research import FOLDER, SMALL_GRID_RUNS, command, parsed_ms, running, training_process, wait_until
from servers.tracking import Tracking
from servers.tracking import running as mlflow_running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

Reply = tuple[int, str]


@pytest.fixture(scope="module")
def mlflow() -> Iterator[Tracking]:
    """An MLflow server that knows nothing yet."""
    with mlflow_running() as server:
        yield server


def logged(server: Tracking, status: str) -> list[dict[str, Any]]:
    """The runs of that status at MLflow, oldest first."""
    experiment = server.ask("experiments/get-by-name?experiment_name=digits")["experiment"]["experiment_id"]
    asked = {"experiment_ids": [experiment], "filter": f"attributes.status = '{status}'", "max_results": 1000}
    return sorted(server.ask("runs/search", asked).get("runs", []), key=lambda run: run["info"]["start_time"])


def pairs(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Keys and values of metrics, params or tags."""
    return {item["key"]: item["value"] for item in items}


class TestRealServer:
    def test_every_ended_run_is_found_in_mlflow_with_its_curve(self, mlflow: Tracking) -> None:
        with running("--stop-after", str(SMALL_GRID_RUNS), "--mlflow", f"{mlflow.url}/") as container:
            wait_until(lambda: container.ended_runs() == SMALL_GRID_RUNS)
            wait_until(lambda: len(logged(mlflow, "FINISHED")) == SMALL_GRID_RUNS)
            for own, theirs in zip(container.items("/runs"), logged(mlflow, "FINISHED"), strict=True):
                info, data = theirs["info"], theirs["data"]
                assert (info["run_name"], pairs(data["tags"])["model"]) == (own["id"], own["model"])
                assert (info["start_time"], info["end_time"]) == (
                    parsed_ms(own["started_at"]),
                    parsed_ms(own["ended_at"]),
                )
                expected = {**own["params"], "seed": own["seed"]}
                assert pairs(data["params"]) == {key: str(value) for key, value in expected.items()}
                metrics = pairs(data["metrics"])
                for name in ("accuracy", "f1_macro", "duration_s", "train_size"):
                    assert metrics[name] == own[name]
                assert ("loss" in metrics) == (own["model"] != "svm")
                curve = container.items("/curves", run=own["id"])
                for key, name in (("accuracy", "validation_accuracy"), ("loss", "loss")):
                    asked = f"metrics/get-history?run_id={info['run_id']}&metric_key={key}"
                    history = mlflow.ask(asked).get("metrics", [])
                    assert [(point["step"], point["value"], point["timestamp"]) for point in history] == [
                        (point["epoch"], point[name], parsed_ms(point["time"]))
                        for point in curve
                        if point[name] is not None
                    ]

    def test_a_failed_run_is_a_failed_run_there(self, mlflow: Tracking) -> None:
        with running("--pause-s", "0", "--mlflow", mlflow.url) as container:
            wait_until(lambda: container.ended_runs() >= 1)
            os.kill(training_process(container.process.pid), signal.SIGKILL)
            wait_until(lambda: len(logged(mlflow, "FAILED")) == 1)
            (failed,) = (run for run in container.items("/runs") if run["status"] == "failed")
            (theirs,) = logged(mlflow, "FAILED")
            assert theirs["info"]["run_name"] == failed["id"]
            assert theirs["info"]["end_time"] == parsed_ms(failed["ended_at"])


class TestAway:
    def test_training_goes_on_without_mlflow_and_one_line_says_so(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with running("--pause-s", "0", "--mlflow", url, stderr=subprocess.PIPE) as container:
            wait_until(lambda: container.ended_runs() > SMALL_GRID_RUNS)
            assert {run["status"] for run in container.items("/runs")} == {"finished"}
            container.process.terminate()
            _, errors = container.process.communicate(timeout=20)
        assert container.process.returncode == 0
        (line,) = errors.splitlines()
        assert line == (
            f"MLflow at {url} takes no runs now ([Errno 111] Connection refused); "
            "training goes on, and ended runs are logged when it does"
        )

    def test_an_mlflow_that_never_answers_delays_neither_training_nor_the_end(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            with running("--pause-s", "0", "--mlflow", url) as container:
                wait_until(lambda: container.ended_runs() > SMALL_GRID_RUNS)
                container.process.terminate()
                assert container.process.wait(timeout=20) == 0

    @pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:5000", "http://"])
    def test_an_address_that_is_none_is_told(self, url: str) -> None:
        done = subprocess.run(command("--mlflow", url), capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 2
        assert "is no address such as http://127.0.0.1:5000" in done.stderr


@dataclass
class Fake:
    """A server in the place of MLflow: what it was sent, and how it answers each request."""

    answer: Callable[[str], Reply | None]
    url: str = ""
    seen: list[tuple[str, Any]] = field(default_factory=list)

    def names(self) -> list[str]:
        """Names of the runs that were created, in order."""
        return [body["run_name"] for path, body in self.seen if path == "runs/create"]

    def sent(self, path: str) -> list[Any]:
        """The bodies sent to one path."""
        return [body for seen, body in self.seen if seen == path]


def good(path: str) -> Reply:
    """As MLflow answers."""
    answers: dict[str, Any] = {
        "experiments/get-by-name": {"experiment": {"experiment_id": "7"}},
        "runs/create": {"run": {"info": {"run_id": "abc"}}},
    }
    return 200, json.dumps(answers.get(path, {}))


@contextmanager
def fake(answer: Callable[[str], Reply | None]) -> Iterator[Fake]:
    """A running fake; None in place of an answer closes the connection."""
    state = Fake(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            path = self.path.partition("?")[0].removeprefix("/api/2.0/mlflow/")
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            state.seen.append((path, json.loads(sent or b"null")))
            reply = state.answer(path)
            if reply is None:
                return
            self.send_response(reply[0])
            self.end_headers()
            self.wfile.write(reply[1].encode())

        do_GET = do_POST  # noqa: N815 the name that http.server looks for

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def tracking(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The container's own module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return import_module("digits_trainer.tracking")


def run(number: int) -> dict[str, Any]:
    """A run as the container remembers it."""
    return {
        "id": f"r{number:06d}",
        "started_at": "2026-01-01T00:00:00.000000Z",
        "ended_at": "2026-01-01T00:00:01.500000Z",
        "duration_s": 1.5,
        "model": "svm",
        "params": {"C": 1},
        "seed": 0,
        "accuracy": 0.5,
        "f1_macro": 0.5,
        "train_size": 10,
        "status": "finished",
    }


class TestStrangeServer:
    def test_the_experiment_is_there_before_the_first_run_ended(self, tracking: Any) -> None:
        missing = (404, '{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}')
        made = (200, '{"experiment_id": "7"}')
        with fake(lambda path: missing if path == "experiments/get-by-name" else made) as server:
            tracking.Tracker(server.url)
            wait_until(lambda: server.sent("experiments/create") == [{"name": "digits"}])

    @pytest.mark.parametrize(
        ("reply", "says"),
        [
            ((503, "busy"), "Service Unavailable"),
            ((429, "slower"), "Too Many Requests"),
            ((500, "<html>"), "Internal Server Error"),
            ((404, "not here"), "Not Found"),
            ((200, "<html>sign in</html>"), "Expecting value"),
            ((200, '{"experiment": {}, "run": {}}'), "_id"),
            ((200, "[]"), "its answer is no object"),
            (None, "closed connection"),
        ],
    )
    def test_runs_wait_until_it_takes_them_and_none_is_lost_or_told_of_twice(
        self, tracking: Any, reply: Reply | None, says: str
    ) -> None:
        lines: list[str] = []
        with fake(lambda path: reply) as server:
            tracker = tracking.Tracker(server.url, say=lines.append, retry_s=0.01)
            for number in (1, 2, 3):
                tracker.ended(run(number), [])
            wait_until(lambda: len(server.seen) > 3)
            server.seen.clear()
            server.answer = good
            wait_until(lambda: len(server.sent("runs/update")) == 3)
            assert list(dict.fromkeys(server.names())) == ["r000001", "r000002", "r000003"]
        (line,) = lines
        assert says in line
        assert line.startswith(f"MLflow at {server.url} takes no runs now (")

    @pytest.mark.parametrize("status", [408, 429, 500, 503])
    def test_a_run_that_was_begun_there_is_gone_on_with_not_begun_again(self, tracking: Any, status: int) -> None:
        lines: list[str] = []
        with fake(lambda path: (status, "") if path == "runs/log-batch" else good(path)) as server:
            tracker = tracking.Tracker(server.url, say=lines.append, retry_s=0.01)
            tracker.ended(run(1), [])
            wait_until(lambda: len(server.sent("runs/log-batch")) > 2)
            server.answer = good
            wait_until(lambda: len(server.sent("runs/update")) == 1)
            assert server.names() == ["r000001"]
        assert len(lines) == 1

    def test_what_it_refuses_is_told_and_the_next_run_is_logged(self, tracking: Any) -> None:
        lines: list[str] = []
        first = threading.Event()

        def picky(path: str) -> Reply:
            if path == "runs/log-batch" and not first.is_set():
                first.set()
                return 400, '{"error_code": "INVALID_PARAMETER_VALUE", "message": "too long"}'
            return good(path)

        with fake(picky) as server:
            tracker = tracking.Tracker(server.url, say=lines.append, retry_s=0.01)
            for number in (1, 2):
                tracker.ended(run(number), [])
            wait_until(lambda: len(server.sent("runs/update")) == 1)
            assert server.names() == ["r000001", "r000002"]
        assert lines == [f"MLflow at {server.url} refuses run r000001 (HTTP 400: too long); training goes on"]

    def test_an_mlflow_that_was_emptied_is_given_the_experiment_and_the_run_anew(self, tracking: Any) -> None:
        emptied = threading.Event()

        def forgetful(path: str) -> Reply:
            if emptied.is_set() and path == "experiments/get-by-name":
                return 404, '{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}'
            if path == "experiments/create":
                emptied.clear()
                return 200, '{"experiment_id": "8"}'
            return (404, "{}") if emptied.is_set() else good(path)

        with fake(forgetful) as server:
            tracker = tracking.Tracker(server.url, say=lambda text: None, retry_s=0.01)
            tracker.ended(run(1), [])
            wait_until(lambda: len(server.sent("runs/update")) == 1)
            emptied.set()
            tracker.ended(run(2), [])
            wait_until(lambda: len(server.sent("runs/update")) == 2)
            assert server.sent("experiments/create") == [{"name": "digits"}]
            assert [body["experiment_id"] for body in server.sent("runs/create")] == ["7", "7", "8"]

    def test_what_waits_is_bounded_and_the_newest_are_kept(self, tracking: Any) -> None:
        most, more = tracking.MAX_WAITING_RUNS, 50
        with fake(lambda path: (503, "") if path == "runs/create" else good(path)) as server:
            tracker = tracking.Tracker(server.url, say=lambda text: None, retry_s=0.01)
            tracker.ended(run(0), [])
            wait_until(lambda: server.names() != [])
            for number in range(1, most + more + 1):
                tracker.ended(run(number), [])
            server.seen.clear()
            server.answer = good
            wait_until(lambda: len(server.sent("runs/update")) == 1 + most)
            kept = [f"r{number:06d}" for number in (0, *range(more + 1, most + more + 1))]
            assert list(dict.fromkeys(server.names())) == kept
