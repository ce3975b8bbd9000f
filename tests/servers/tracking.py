"""A real MLflow tracking server, from a venv of its own, and what the tests log to it."""

from __future__ import annotations

import atexit
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

REPO = Path(__file__).parents[2]
COMMAND = REPO / ".venv-mlflow" / "bin" / "mlflow"
START_S = 120.0
ASK_S = 20.0
STOP_S = 10.0
API = "/api/2.0/mlflow"

T0_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
MINUTE_MS = 60_000
MODELS = ("svm", "mlp", "knn")
RUNS = 9
STEPS = 5
ODD = "naïve \"quotes\" & 'ticks'"


@dataclass
class Tracking:
    """A running server; `runs` are the ids of the runs that were logged, by name."""

    url: str
    process: subprocess.Popen[bytes]
    folder: Path
    runs: dict[str, str] = field(default_factory=dict)

    def ask(self, path: str, body: Any = None) -> Any:
        """The JSON of one call of the REST API; without a body it is a GET."""
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}{API}/{path}", data=data, headers={"Content-Type": "application/json"})
        try:
            with urlopen(request, timeout=ASK_S) as answer:
                return json.load(answer)
        except HTTPError as error:
            with error:
                raise AssertionError(f"{path}: {error.code} {error.read().decode()[:500]}") from error

    def experiment(self, name: str) -> str:
        """A new experiment's id."""
        return str(self.ask("experiments/create", {"name": name})["experiment_id"])

    def run(
        self,
        experiment: str,
        name: str,
        start_ms: int,
        *,
        end_ms: int | None = None,
        status: str = "FINISHED",
        metrics: list[tuple[str, Any, int, int]] = [],  # noqa: B006 only read
        params: dict[str, str] = {},  # noqa: B006 only read
        tags: dict[str, str] = {},  # noqa: B006 only read
    ) -> str:
        """A new run's id; metrics are key, value, time in ms and step."""
        made = {"experiment_id": experiment, "run_name": name, "start_time": start_ms, "tags": _pairs(tags)}
        ident = str(self.ask("runs/create", made)["run"]["info"]["run_id"])
        self.ask("runs/log-batch", {"run_id": ident, "params": _pairs(params)})
        points = [{"key": key, "value": spelled(value), "timestamp": ms, "step": n} for key, value, ms, n in metrics]
        for start in range(0, len(points), 1_000):
            self.ask("runs/log-batch", {"run_id": ident, "metrics": points[start : start + 1_000]})
        if end_ms is not None:
            self.ask("runs/update", {"run_id": ident, "status": status, "end_time": end_ms})
        self.runs[name] = ident
        return ident


def spelled(value: float) -> Any:
    """A number as protobuf's JSON writes it."""
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


def _pairs(values: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in values.items()]


def command() -> str:
    """The server's command.

    Errors: AssertionError that says how to get it.
    """
    found = os.environ.get("BRIDGE_TEST_MLFLOW") or str(COMMAND)
    assert shutil.which(found), (
        f"the tests of the mlflow source run a real server, and {found} is not there: "
        "`make .venv-mlflow/done` installs it, or BRIDGE_TEST_MLFLOW names another"
    )
    return found


@contextmanager
def running() -> Iterator[Tracking]:
    """A server without any data but MLflow's own experiment `Default`."""
    name = command()
    folder = Path(tempfile.mkdtemp(prefix="bridge-mlflow-"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COVERAGE", "MLFLOW"))}
    env |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    args = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--no-serve-artifacts"]
    args += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--default-artifact-root",
        str(folder / "artifacts"),
    ]
    with (folder / "log").open("wb") as log:
        # A session of its own, so that the server's children can be ended with it.
        process = subprocess.Popen([name, *args], cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True)
    server = Tracking(f"http://127.0.0.1:{port}", process, folder)
    try:
        _wait(server)
        yield server
    finally:
        _stop(process)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(server: Tracking) -> None:
    end_s = time.monotonic() + START_S
    while True:
        with suppress(URLError, ConnectionError, TimeoutError), urlopen(f"{server.url}/health", timeout=1) as answer:
            if answer.status == 200:
                return
        waits = server.process.poll() is None and time.monotonic() < end_s
        assert waits, f"MLflow does not start: {(server.folder / 'log').read_text()[-2_000:]}"
        time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the server and its children: they are a process group of their own."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sent)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)


@cache
def _started() -> Tracking | AssertionError:
    stack = running()
    try:
        server = stack.__enter__()
    except AssertionError as error:
        # Remembered, so that the tests that need it fail at once and not one after the other.
        return error
    atexit.register(stack.__exit__, None, None, None)
    fill(server)
    return server


def shared() -> Tracking:
    """The one server of a test session, filled; it ends with the process.

    Errors: AssertionError with the end of the server's log when it does not start.
    """
    found = _started()
    if isinstance(found, AssertionError):
        raise found
    return found


def accuracy(number: int, step: int) -> float:
    """The accuracy that run `number` had after a step."""
    return round(0.5 + 0.04 * number + 0.02 * step, 4)


def fill(server: Tracking) -> None:
    """Nine runs of three models ten minutes apart, odd ones, deleted ones, and two of very many points."""
    digits = server.experiment("digits")
    for number in range(RUNS):
        start = T0_MS + 10 * number * MINUTE_MS
        server.run(
            digits, f"run-{number}", start,
            end_ms=start + 300_500, status="FAILED" if number == 8 else "FINISHED",
            metrics=[
                *(("accuracy", accuracy(number, step), start + step * MINUTE_MS, step) for step in range(STEPS)),
                *(("val/loss", 1.0 / (1 + step), start + step * MINUTE_MS, step) for step in range(STEPS)),
            ],
            params={"model": MODELS[number % 3], "lr": f"{0.1 * (number + 1):.1f}"},
            tags={"owner": "ann b" if number % 2 else "bob"},
        )  # fmt: skip
    odd = server.experiment(ODD)
    inf, nan = math.inf, math.nan
    server.run(
        odd, "it's \"odd\"", T0_MS,
        metrics=[("score", value, T0_MS + step, step) for step, value in enumerate((1.0, nan, inf, -inf, 2.0))],
        params={"mo del": "Ünï", "quote": "it's"},
    )  # fmt: skip
    gone = server.run(digits, "deleted", T0_MS, end_ms=T0_MS + 1)
    server.ask("runs/delete", {"run_id": gone})
    server.ask("experiments/delete", {"experiment_id": server.experiment("old")})
    many = server.experiment("many")
    for number in range(2):
        points = [("loss", 1.0 / (1 + step), T0_MS + step * 1_000, step) for step in range(13_000)]
        server.run(many, f"long-{number}", T0_MS + number, end_ms=T0_MS + 10**9, metrics=points)
