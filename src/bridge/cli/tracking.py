"""An MLflow tracking server for the demo: found, started on a free port, and ended with the demo."""

from __future__ import annotations

import http.client
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

START_S = 180.0
POLL_S = 0.2
TELL_EVERY_S = 5.0
REQUEST_DEADLINE_S = 5.0
TOLD_BYTES = 4096
# The server is the demo's own: what the user's shell says of Python and of another MLflow is not for it.
FOREIGN = ("PYTHON", "MLFLOW_")
# Telemetry off; jobs, which this server has none of, would be eight more processes.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
MISSING = """\
the demo with MLflow runs MLflow's server, and there is no `mlflow` in .venv-mlflow or on PATH. Install it apart \
from bridge, since it pins what bridge does not:

    python3 -m venv .venv-mlflow && .venv-mlflow/bin/pip install mlflow

(in a checkout `make run-mlflow` does it), or name a command that runs it: bridge demo --mlflow-command "uvx mlflow"\
"""


def find(given: str | None) -> list[str]:
    """The command that runs MLflow: the given one, that of `.venv-mlflow` beside this venv, or that on PATH.

    Errors: typer.Exit after a sentence that says what to install.
    """
    if given is not None:
        command = shlex.split(given)
        if command and (found := shutil.which(command[0])):
            return [found, *command[1:]]
        typer.echo(f"`{given}` is no command that can be run; give one that runs MLflow", err=True)
        raise typer.Exit(1)
    beside = Path(sys.prefix).parent / ".venv-mlflow" / "bin"
    for path in (str(beside), None):
        if found := shutil.which("mlflow", path=path):
            return [found]
    typer.echo(MISSING, err=True)
    raise typer.Exit(1)


@contextmanager
def server(command: list[str]) -> Iterator[str]:
    """Runs an MLflow server over an empty store while the block runs; gives its URL once it answers.

    Errors: typer.Exit after its own last words when it ends early or does not answer in time.
    """
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="bridge-mlflow-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        words = [
            *command,
            "server",
            *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *(
                "--backend-store-uri",
                f"sqlite:///{folder}/mlflow.db",
                "--artifacts-destination",
                f"{folder}/artifacts",
            ),
        ]
        ward = [sys.executable, "-P", str(Path(__file__).with_name("ward.py")), "--folder", name, *words]
        kept = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
        log = folder / "log"
        with (
            log.open("wb") as out,
            subprocess.Popen(  # noqa: S603
                ward, stdin=subprocess.PIPE, stdout=out, stderr=out, cwd=folder, env={**kept, **ENVIRONMENT}
            ) as process,
        ):
            try:
                _wait(process, port, log)
                yield f"http://127.0.0.1:{port}"
            finally:
                if process.stdin:
                    process.stdin.close()
                process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    typer.echo("starting MLflow …", err=True)
    began_s = told_s = time.monotonic()
    while not _answers(port):
        waited_s = time.monotonic() - began_s
        if process.poll() is not None or waited_s > START_S:
            what = "does not answer" if process.poll() is None else "did not start"
            tail = log.read_bytes()[-TOLD_BYTES:].decode("utf-8", "replace").strip()
            typer.echo(f"{tail}\nMLflow {what}; its last words are above", err=True)
            raise typer.Exit(1)
        if time.monotonic() - told_s >= TELL_EVERY_S:
            told_s = time.monotonic()
            typer.echo(f"  still starting ({waited_s:.0f} s; the first start takes longest)", err=True)
        time.sleep(POLL_S)
    typer.echo(f"MLflow is ready after {time.monotonic() - began_s:.0f} s", err=True)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_DEADLINE_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port
