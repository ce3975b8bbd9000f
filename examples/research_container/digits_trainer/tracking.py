"""Ended runs, also written to an MLflow tracking server: from a thread of its own, so that training never waits."""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

from digits_trainer import NAME
from digits_trainer.store import Item
from digits_trainer.versions import epoch_ms

EXPERIMENT = "digits"
REQUEST_DEADLINE_S = 10.0
RETRY_S = 3.0
# Runs that wait for MLflow to come back; beyond it the oldest are given up.
MAX_WAITING_RUNS = 200
MAX_ANSWER_BYTES = 1024 * 1024
# Metrics with a value for every step, and the place of the value in a point of the learning curve.
STEPS = {"accuracy": "validation_accuracy", "train_accuracy": "train_accuracy", "loss": "loss"}


class Rejected(Exception):
    """MLflow understood the request and will not have it; asking again would not help."""


@dataclass(slots=True)
class Ended:
    """A run that ended, as it is remembered; `run_id` is its name at MLflow once it has one."""

    run: Item
    curve: list[Item]
    run_id: str | None = field(default=None)


class Tracker:
    """Logs runs to MLflow one after the other; while it is away they wait, within a bound."""

    def __init__(self, url: str, *, say: Callable[[str], None] | None = None, retry_s: float = RETRY_S) -> None:
        self._server = _Server(url)
        self._say = say or (lambda text: print(text, file=sys.stderr, flush=True))
        self._retry_s = retry_s
        self._waiting: queue.Queue[Ended] = queue.Queue(MAX_WAITING_RUNS)
        self._told = False
        # A daemon: it may be in the middle of a request when the container ends.
        threading.Thread(target=self._work, daemon=True, name="mlflow").start()

    def ended(self, run: Item, curve: list[Item]) -> None:
        """Hand over a run; returns at once."""
        while True:
            try:
                self._waiting.put_nowait(Ended(run, curve))
            except queue.Full:
                with suppress(queue.Empty):
                    self._waiting.get_nowait()
            else:
                return

    def _work(self) -> None:
        # At once, so that who reads MLflow finds the experiment before the first run has ended.
        self._until_done(self._server.begin, f"the experiment {EXPERIMENT}")
        while True:
            ended = self._waiting.get()
            self._until_done(partial(self._server.log, ended), f"run {ended.run['id']}")

    def _until_done(self, work: Callable[[], None], what: str) -> None:
        idle = threading.Event()
        while not self._done(work, what):
            idle.wait(self._retry_s)

    def _done(self, work: Callable[[], None], what: str) -> bool:
        """Whether there is nothing more to try."""
        try:
            work()
        except Rejected as error:
            self._tell(f"refuses {what} ({error}); training goes on")
        # Whatever stands at the address may answer anything: ValueError and LookupError are an answer not of MLflow.
        except (OSError, HTTPException, ValueError, LookupError, TypeError) as error:
            why = getattr(error, "reason", None) or error
            self._tell(f"takes no runs now ({why}); training goes on, and ended runs are logged when it does")
            return False
        return True

    def _tell(self, text: str) -> None:
        """Once: the log of a container that trains for days is not to fill with it."""
        if not self._told:
            self._told = True
            self._say(f"MLflow at {self._server.url} {text}")


class _Server:
    """MLflow's REST API, version 2.0."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        # The address is meant as it stands; a proxy of the environment is for others.
        self._opener = build_opener(ProxyHandler({}))
        self._experiment_id: str | None = None

    def begin(self) -> None:
        """Make the experiment where it is missing."""
        if self._experiment_id is None:
            self._experiment_id = self._experiment()

    def log(self, ended: Ended) -> None:
        """Write one run; called again for the same run, it goes on where it was."""
        try:
            self._log(ended)
        except HTTPError as error:
            if error.code == 404:
                # Another MLflow stands there by now, which knows neither the experiment nor the run.
                self._experiment_id = ended.run_id = None
            error.close()
            raise

    def _log(self, ended: Ended) -> None:
        run = ended.run
        if ended.run_id is None:
            ended.run_id = self._started(run)
        metrics = [*_steps(ended.curve), *_totals(run)]
        params = [{"key": key, "value": str(value)} for key, value in (run["params"] | {"seed": run["seed"]}).items()]
        self._post("runs/log-batch", {"run_id": ended.run_id, "metrics": metrics, "params": params})
        status = "FINISHED" if run["status"] == "finished" else "FAILED"
        self._post("runs/update", {"run_id": ended.run_id, "status": status, "end_time": epoch_ms(run["ended_at"])})

    def _started(self, run: Item) -> str:
        self.begin()
        tags = {"model": run["model"], "mlflow.source.name": NAME}
        made = self._post(
            "runs/create",
            {
                "experiment_id": self._experiment_id,
                "run_name": run["id"],
                "start_time": epoch_ms(run["started_at"]),
                "tags": [{"key": key, "value": value} for key, value in tags.items()],
            },
        )
        return str(made["run"]["info"]["run_id"])

    def _experiment(self) -> str:
        """The experiment's id; it is made where it is missing."""
        try:
            found = self._send(f"experiments/get-by-name?{urlencode({'experiment_name': EXPERIMENT})}", None)
            return str(found["experiment"]["experiment_id"])
        except HTTPError as error:
            if error.code != 404:
                raise
            error.close()
        return str(self._post("experiments/create", {"name": EXPERIMENT})["experiment_id"])

    def _post(self, path: str, body: Item) -> Item:
        try:
            return self._send(path, body)
        except HTTPError as error:
            # 4xx but for "not now" and what a proxy says while the server behind it starts.
            if 400 <= error.code < 500 and error.code not in (404, 408, 429):
                raise Rejected(f"HTTP {error.code}: {_words(error)}") from error
            raise

    def _send(self, path: str, body: Item | None) -> Item:
        data = None if body is None else json.dumps(body).encode()
        request = Request(  # noqa: S310 - the command line takes http and https only
            f"{self.url}/api/2.0/mlflow/{path}", data=data, headers={"Content-Type": "application/json"}
        )
        with self._opener.open(request, timeout=REQUEST_DEADLINE_S) as answer:
            found: Any = json.loads(answer.read(MAX_ANSWER_BYTES))
        if not isinstance(found, dict):
            raise TypeError("its answer is no object")
        return found


def _words(error: HTTPError) -> str:
    try:
        with error:
            return str(json.loads(error.read(MAX_ANSWER_BYTES))["message"])[:200]
    except (OSError, ValueError, LookupError, TypeError):
        return error.reason


def _steps(curve: list[Item]) -> list[Item]:
    return [
        {"key": key, "value": point[name], "timestamp": epoch_ms(point["time"]), "step": point["epoch"]}
        for point in curve
        for key, name in STEPS.items()
        if point[name] is not None
    ]


def _totals(run: Item) -> list[Item]:
    """What has one value; the accuracy of a run is that of its last step."""
    return [
        {"key": key, "value": run[key], "timestamp": epoch_ms(run["ended_at"]), "step": 0}
        for key in ("f1_macro", "duration_s", "train_size")
        if run[key] is not None
    ]
