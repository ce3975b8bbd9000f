"""The demo's research container, run as its users run it: a process on a free port."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from servers.research import (
    DEADLINE_S,
    FOLDER,
    SMALL_GRID_RUNS,
    Container,
    command,
    gone,
    read_url,
    running,
    training_process,
    wait_until,
)

pytestmark = pytest.mark.slow

# Runs the same grid points again, in a process of its own, with nothing of the service around them.
RERUN = """
import json, sys
sys.path.insert(0, sys.argv[1])
from itertools import islice
from digits_trainer.grid import jobs
from digits_trainer.training import train
for job in islice(jobs("small"), int(sys.argv[2])):
    done = train(job)
    print(json.dumps([job.run, done.accuracy, done.f1_macro, done.confusion,
                      [[p.epoch, p.train_accuracy, p.validation_accuracy, p.loss] for p in done.curve]]))
"""
# Starts a container as a program would that must not leave it behind, tells its number, and waits to be killed.
PARENT = """
import os, subprocess, sys, time
option, *command = sys.argv[1:]
more = [option, str(os.getpid())] if option == "--parent-pid" else [option]
stdin = None if option == "--parent-pid" else subprocess.PIPE
child = subprocess.Popen([*command, *more], stdin=stdin, stdout=subprocess.PIPE, text=True)
print(child.pid, child.stdout.readline(), sep="\\n", end="", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def still() -> Iterator[Container]:
    """A container that has trained the small grid twice (the second seed only in part) and rests."""
    with running("--stop-after", str(SMALL_GRID_RUNS + 1), "--pause-s", "0") as container:
        wait_until(lambda: container.ended_runs() == SMALL_GRID_RUNS + 1)
        wait_until(lambda: "stops" in container.items("/events")[-1]["body"])
        yield container


class TestTraining:
    def test_results_equal_a_re_run_with_the_same_parameters_and_seed(self, still: Container) -> None:
        count = SMALL_GRID_RUNS + 1
        again = subprocess.run(
            [sys.executable, "-c", RERUN, str(FOLDER), str(count)], capture_output=True, text=True, check=True
        )
        expected = [json.loads(line) for line in again.stdout.splitlines()]
        served = [
            [
                run["id"],
                run["accuracy"],
                run["f1_macro"],
                _matrix(still.items("/confusion", run=run["id"])),
                [
                    [point["epoch"], point["train_accuracy"], point["validation_accuracy"], point["loss"]]
                    for point in still.items("/curves", run=run["id"])
                ],
            ]
            for run in still.items("/runs")
        ]
        assert len(served) == count
        assert served == expected

    def test_results_differ_over_the_grid_and_over_seeds(self, still: Container) -> None:
        runs = still.items("/runs")
        first_pass = [run["accuracy"] for run in runs[:SMALL_GRID_RUNS]]
        assert len(set(first_pass)) == SMALL_GRID_RUNS
        assert max(first_pass) - min(first_pass) > 0.1
        repeated = runs[SMALL_GRID_RUNS]
        assert (repeated["model"], repeated["params"]) == (runs[0]["model"], runs[0]["params"])
        assert (runs[0]["seed"], repeated["seed"]) == (0, 1)
        assert _matrix(still.items("/confusion", run=repeated["id"])) != _matrix(
            still.items("/confusion", run=runs[0]["id"])
        )

    def test_a_run_has_the_documented_fields_and_real_times(self, still: Container) -> None:
        for run in still.items("/runs"):
            assert " ".join(run) == (
                "id started_at ended_at duration_s model params seed accuracy f1_macro train_size status"
            )
            started_at, ended_at = (datetime.fromisoformat(run[name]) for name in ("started_at", "ended_at"))
            assert run["started_at"].endswith("Z")
            assert run["ended_at"].endswith("Z")
            assert 0 < run["duration_s"] < DEADLINE_S
            assert abs((ended_at - started_at).total_seconds() - run["duration_s"]) < 1
            assert abs(ended_at.timestamp() - time.time()) < 300
            assert run["status"] == "finished"
            assert run["train_size"] == 1257
            assert still.ask(f"/runs/{run['id']}") == (200, run)

    def test_a_learning_curve_grows_step_by_step_and_ends_at_the_accuracy_of_its_run(self, still: Container) -> None:
        for run in still.items("/runs"):
            curve = still.items("/curves", run=run["id"])
            assert [point["epoch"] for point in curve] == list(range(1, len(curve) + 1))
            assert curve[-1]["validation_accuracy"] == run["accuracy"]
            assert {point["amount_unit"] for point in curve} == {
                {"svm": "samples", "forest": "trees", "mlp": "epochs"}[run["model"]]
            }
            amounts = [point["amount"] for point in curve]
            assert amounts == sorted(set(amounts))
            assert all((point["loss"] is None) == (run["model"] == "svm") for point in curve)
            assert run["started_at"] <= curve[0]["time"] <= curve[-1]["time"] <= run["ended_at"]

    def test_confusion_counts_are_ten_by_ten_and_add_up_to_the_accuracy(self, still: Container) -> None:
        for run in still.items("/runs"):
            matrix = _matrix(still.items("/confusion", run=run["id"]))
            total = sum(map(sum, matrix))
            assert [len(row) for row in matrix] == [10] * 10
            assert total == 540
            assert sum(matrix[digit][digit] for digit in range(10)) / total == run["accuracy"]

    def test_confusion_counts_of_a_model_are_those_of_its_best_run(self, still: Container) -> None:
        runs = still.items("/runs")
        for model in ("svm", "forest", "mlp"):
            best = max((run for run in runs if run["model"] == model), key=lambda run: run["accuracy"])
            assert {row["run"] for row in still.items("/confusion", model=model)} == {best["id"]}
        assert len(still.items("/confusion")) == 300
        assert still.items("/confusion", model="nothing") == []
        assert still.items("/confusion", run="nothing") == []
        assert still.items("/confusion", run=runs[0]["id"], model="mlp") == []

    def test_the_log_tells_the_start_and_end_of_every_run(self, still: Container) -> None:
        lines = still.items("/events")
        for run in still.items("/runs"):
            told = [line["body"] for line in lines if line["run"] == run["id"] and line["severity"] == "info"]
            assert told[0].startswith(f"{run['id']} started: {run['model']} ")
            assert told[1].startswith(f"{run['id']} finished: accuracy {run['accuracy']:.4f} ")
        assert [line["timestamp"] for line in lines] == sorted(line["timestamp"] for line in lines)
        assert [line["id"] for line in lines] == [f"e{number:06d}" for number in range(1, len(lines) + 1)]

    def test_a_network_that_still_learns_at_its_last_epoch_is_warned_of(self, still: Container) -> None:
        losses = {
            run["id"]: [point["loss"] for point in still.items("/curves", run=run["id"])]
            for run in still.items("/runs", model="mlp")
        }
        unconverged = {run for run, loss in losses.items() if 1 - loss[-1] / loss[-2] > 0.01}
        assert unconverged
        assert {line["run"] for line in still.items("/events", severity="warning")} == unconverged

    def test_the_lineage_graph_reaches_every_grid_point(self, still: Container) -> None:
        nodes, edges = still.items("/lineage/nodes"), still.items("/lineage/edges")
        names = [node["id"] for node in nodes]
        assert len(set(names)) == len(names) == 2 + 3 + SMALL_GRID_RUNS
        assert {edge["source"] for edge in edges} | {edge["target"] for edge in edges} == set(names)
        assert {edge["target"] for edge in edges} == set(names) - {"digits"}
        best = {model: max(run["accuracy"] for run in still.items("/runs", model=model)) for model in ("svm", "mlp")}
        assert {node["id"]: node["mainstat"] for node in nodes if node["id"] in best} == best


class TestPaging:
    @pytest.mark.parametrize("rows", [1, 4, 7, 200])
    @pytest.mark.parametrize("path", ["/runs", "/curves", "/events"])
    def test_pages_of_any_size_hold_the_same_items(self, still: Container, path: str, rows: int) -> None:
        assert still.items(path, limit=rows) == still.items(path)

    def test_a_walk_while_training_goes_on_gives_each_run_once_and_in_order(self) -> None:
        with running("--pause-s", "0") as container:
            walked: list[str] = []
            cursor: dict[str, str] = {}
            # One run per page, and no page before a later run was stored: every page is taken from a longer list.
            for page_number in range(1, 2 * SMALL_GRID_RUNS):
                wait_until(lambda wanted=page_number + 1: container.ended_runs() >= wanted)
                status, page = container.ask("/runs", limit=1, **cursor)
                assert status == 200
                walked += [run["id"] for run in page["items"]]
                cursor = {"cursor": page["next"]}
            assert walked == [f"r{number:06d}" for number in range(1, 2 * SMALL_GRID_RUNS)]

    def test_a_page_is_never_larger_than_two_hundred(self, still: Container) -> None:
        assert len(still.items("/curves")) < 200
        with running("--pause-s", "0") as container:
            wait_until(lambda: len(container.items("/curves")) > 200)
            assert len(container.ask("/curves", limit=100_000)[1]["items"]) == 200
            assert len(container.ask("/curves")[1]["items"]) == 50

    def test_only_the_newest_runs_are_remembered_with_all_that_belongs_to_them(self) -> None:
        with running("--pause-s", "0", "--max-runs", "2", "--stop-after", "5") as container:
            wait_until(lambda: "stops" in (container.items("/events") or [{"body": ""}])[-1]["body"])
            kept = ["r000004", "r000005"]
            assert [run["id"] for run in container.items("/runs")] == kept
            assert list(dict.fromkeys(point["run"] for point in container.items("/curves"))) == kept
            assert container.items("/confusion", run="r000001") == []
            assert container.ask("/runs/r000001")[0] == 404
            assert len(container.items("/events")) <= 8

    def test_forgetting_a_run_frees_all_it_held(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(str(FOLDER))
        grid, outcome, memory = (import_module(f"digits_trainer.{name}") for name in ("grid", "outcome", "store"))
        at = datetime(2026, 1, 1, tzinfo=UTC)
        point = outcome.CurvePoint(at, 1, 1, "epochs", 0.5, 0.5, None)
        result = outcome.Outcome(at, at, 0.0, 0.5, 0.5, 1, (point, point), ((1,),), ())
        store = memory.Store(max_runs=3)
        for job in islice(grid.jobs("small"), 20):
            store.started(job, at)
            store.finished(job, result)
        held = (len(store.runs), len(store.curves), len(store.confusion), len(store.events))
        assert held == (3, 6, 3, 12)

    def test_filters_narrow_and_unknown_values_give_an_empty_page(self, still: Container) -> None:
        runs = still.items("/runs")
        assert still.items("/runs", model="svm") == [run for run in runs if run["model"] == "svm"]
        assert still.items("/runs", model=["svm", "mlp"], limit=1) == [r for r in runs if r["model"] != "forest"]
        assert still.items("/runs", model="nothing") == []
        assert still.items("/runs", since=runs[3]["started_at"]) == runs[3:]
        assert still.items("/runs", since=runs[3]["started_at"].replace("Z", "")) == runs[3:]
        shifted = datetime.fromisoformat(runs[3]["started_at"]).astimezone(_zone(5)).isoformat()
        assert still.items("/runs", since=shifted) == runs[3:]
        curves = still.items("/curves")
        assert still.items("/curves", since=curves[9]["time"]) == curves[9:]


class TestBadInput:
    @pytest.mark.parametrize(
        ("path", "params", "status", "says"),
        [
            ("/runs", {"limit": "0"}, 400, "`limit`"),
            ("/runs", {"limit": "-1"}, 400, "`limit`"),
            ("/runs", {"limit": "ten"}, 400, "`limit`"),
            ("/runs", {"limit": "١"}, 400, "`limit`"),
            ("/runs", {"limit": "9" * 5000}, 400, "`limit`"),
            ("/runs", {"since": "yesterday"}, 400, "`since`"),
            ("/runs", {"since": "0001-01-01T00:00:00+23:00"}, 400, "`since`"),
            ("/runs", {"cursor": "zz"}, 400, "`cursor`"),
            ("/runs", {"cursor": "é"}, 400, "`cursor`"),
            ("/runs", {"cursor": "L3J1bnM6LTE"}, 400, "`cursor`"),  # /runs:-1
            ("/runs", {"cursor": "L2V2ZW50czox"}, 400, "`cursor`"),  # /events:1
            ("/runs", {"colour": "red"}, 400, "takes: cursor, limit, model, since"),
            ("/runs/r000001", {"colour": "red"}, 400, "takes: none"),
            ("/confusion", {"limit": "5"}, 400, "takes: model, run"),
            ("/lineage/nodes", {"limit": "5"}, 400, "takes: none"),
            ("/runs/r999999", {}, 404, "r999999"),
            ("/runs/", {}, 404, "/runs/"),
            ("/nothing", {}, 404, "/nothing"),
        ],
    )
    def test_a_mistake_is_told_in_json(
        self, still: Container, path: str, params: dict[str, str], status: int, says: str
    ) -> None:
        found, answer = still.ask(path, **params)
        assert found == status
        assert says in answer["message"]
        assert len(answer["message"]) < 200

    def test_it_can_only_be_read(self, still: Container) -> None:
        status, answer = still.ask("/runs", method="POST")
        assert (status, "POST" in answer["message"]) == (405, True)

    @pytest.mark.parametrize(
        "args", [["--port", "70000"], ["--max-runs", "0"], ["--pause-s", "-1"], ["--pause-s", "nan"], ["--grid", "x"]]
    )
    def test_a_wrong_option_stops_the_start(self, args: list[str]) -> None:
        done = subprocess.run(command(*args), capture_output=True, text=True, check=False, timeout=DEADLINE_S)
        assert done.returncode == 2
        assert args[0] in done.stderr
        assert done.stdout == ""

    def test_a_port_in_use_is_told(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            done = subprocess.run(
                command("--port", port), capture_output=True, text=True, check=False, timeout=DEADLINE_S
            )
        assert done.returncode == 2
        assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr
        assert "Traceback" not in done.stderr


class TestSeenFromOutside:
    def test_it_tells_its_name_and_version(self, still: Container) -> None:
        assert still.ask("/version") == (200, {"api": "1.0", "name": "digits-trainer"})
        assert still.ask("/healthz") == (200, {"status": "ok", "runs": SMALL_GRID_RUNS + 1})

    def test_its_metrics_are_prometheus_text_that_agrees_with_the_runs(self, still: Container) -> None:
        with urlopen(f"{still.url}/metrics", timeout=DEADLINE_S) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=")
            families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}
        samples = {
            (sample.name, sample.labels.get("model")): sample.value
            for family in families.values()
            for sample in family.samples
        }
        runs = still.items("/runs")
        for model in ("svm", "forest", "mlp"):
            mine = [run for run in runs if run["model"] == model]
            assert samples["digits_runs_total", model] == len(mine)
            assert samples["digits_train_seconds_count", model] == len(mine)
            assert samples["digits_train_seconds_sum", model] == pytest.approx(sum(run["duration_s"] for run in mine))
            assert samples["digits_last_accuracy", model] == mine[-1]["accuracy"]
            assert samples["digits_runs_failed_total", model] == 0
        assert samples["digits_in_progress", None] == 0


class TestProcess:
    def test_the_service_does_not_load_scikit_learn_and_trains_in_a_nicer_process(self, still: Container) -> None:
        pid = still.process.pid
        assert "sklearn" not in Path(f"/proc/{pid}/maps").read_text()
        with running() as container:
            wait_until(lambda: container.ended_runs() >= 1)
            pid = container.process.pid
            assert "sklearn" not in Path(f"/proc/{pid}/maps").read_text()
            worker = training_process(pid)
            assert "sklearn" in Path(f"/proc/{worker}/maps").read_text()
            assert os.getpriority(os.PRIO_PROCESS, worker) >= min(19, os.getpriority(os.PRIO_PROCESS, pid) + 10)

    def test_a_killed_training_process_costs_one_run(self) -> None:
        with running("--pause-s", "0") as container:
            wait_until(lambda: container.ended_runs() >= 1)
            os.kill(training_process(container.process.pid), signal.SIGKILL)
            wait_until(lambda: any(run["status"] == "failed" for run in container.items("/runs")))
            failed = next(run for run in container.items("/runs") if run["status"] == "failed")
            assert failed["accuracy"] is None
            assert failed["ended_at"] >= failed["started_at"]
            assert any(line["run"] == failed["id"] for line in container.items("/events", severity="error"))
            wait_until(lambda: container.items("/runs")[-1]["status"] == "finished")
            assert [run["id"] for run in container.items("/runs") if run["status"] == "failed"] == [failed["id"]]

    def test_a_run_in_progress_can_be_looked_at(self) -> None:
        with running() as container:
            wait_until(lambda: container.ended_runs() >= 1)
            worker = training_process(container.process.pid)
            os.kill(worker, signal.SIGSTOP)
            try:
                wait_until(lambda: " started: " in container.items("/events")[-1]["body"])
                name = container.items("/events")[-1]["run"]
                status, run = container.ask(f"/runs/{name}")
                assert (status, run["status"], run["ended_at"]) == (200, "running", None)
                assert name not in [ended["id"] for ended in container.items("/runs")]
            finally:
                os.kill(worker, signal.SIGCONT)

    @pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it_in_order_and_its_training_with_it(self, name: signal.Signals) -> None:
        with running("--pause-s", "0", stderr=subprocess.PIPE, start_new_session=True) as container:
            wait_until(lambda: container.ended_runs() >= 1)
            worker = training_process(container.process.pid)
            os.killpg(container.process.pid, name)  # as Ctrl-C in a terminal does
            _, errors = container.process.communicate(timeout=DEADLINE_S)
            assert (container.process.returncode, errors) == (0, "")
            wait_until(lambda: gone(worker))

    def test_it_ends_when_its_standard_input_is_closed(self) -> None:
        with running("--exit-on-stdin-close", stdin=subprocess.PIPE) as container:
            assert container.process.stdin
            assert container.ask("/healthz")[0] == 200
            container.process.stdin.close()
            assert container.process.wait(timeout=DEADLINE_S) == 0

    @pytest.mark.parametrize("option", ["--parent-pid", "--exit-on-stdin-close"])
    def test_it_ends_when_its_parent_is_killed(self, option: str) -> None:
        """Also when nobody has noticed the parent's death yet: a dead parent keeps its number until then."""
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, option, *command()], stdout=subprocess.PIPE, text=True
        )
        try:
            assert parent.stdout
            container, url = int(parent.stdout.readline()), read_url(parent.stdout.readline())
            wait_until(lambda: Container(parent, url).ended_runs() >= 1)
            worker = training_process(container)
            parent.kill()
            wait_until(lambda: gone(container) and gone(worker))
        finally:
            parent.kill()
            parent.communicate()

    def test_it_ends_at_once_when_its_parent_is_already_gone(self) -> None:
        with subprocess.Popen([sys.executable, "-c", ""]) as ended:
            ended.wait()
        done = subprocess.run(
            command("--parent-pid", str(ended.pid)), capture_output=True, check=False, timeout=DEADLINE_S
        )
        assert done.returncode == 0

    def test_a_killed_service_leaves_no_training_behind(self) -> None:
        with running("--pause-s", "0") as container:
            wait_until(lambda: container.ended_runs() >= 1)
            worker = training_process(container.process.pid)
            container.process.kill()
            wait_until(lambda: gone(worker))


def _matrix(rows: list[dict[str, Any]]) -> list[list[int]]:
    """The counts as rows of actual digits."""
    counts = {(row["actual"], row["predicted"]): row["count"] for row in rows}
    return [[counts[actual, predicted] for predicted in range(10)] for actual in range(10)]


def _zone(hours: int) -> timezone:
    return timezone(timedelta(hours=hours))
