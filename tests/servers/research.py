"""The demo's research container as a process on a free port."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

FOLDER = Path(__file__).parents[2] / "examples" / "research_container"
SMALL_GRID_RUNS = 6
DEADLINE_S = 40.0


class Container:
    """A running container and its answers."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    def ask(self, path: str, method: str = "GET", **params: Any) -> tuple[int, Any]:
        """Status and JSON of one request."""
        url = f"{self.url}{path}" + (f"?{urlencode(params, doseq=True)}" if params else "")
        try:
            with urlopen(Request(url, method=method), timeout=DEADLINE_S) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)

    def items(self, path: str, **params: Any) -> list[dict[str, Any]]:
        """All items of all pages."""
        rows, following, param = (
            ("data", "next_cursor", "after") if path[:4] == "/v2/" else ("items", "next", "cursor")
        )
        found: list[dict[str, Any]] = []
        while True:
            status, page = self.ask(path, **params)
            assert status == 200, page
            found += page[rows]
            if page[following] is None:
                return found
            params[param] = page[following]

    def ended_runs(self) -> int:
        """How many runs are remembered."""
        return int(self.ask("/healthz")[1]["runs"])


def wait_until(true: Callable[[], bool]) -> None:
    """Return as soon as `true()` holds, and fail when it never does."""
    end_s = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.02)


def command(*args: str) -> list[str]:
    return [sys.executable, str(FOLDER), "--port", "0", "--grid", "small", *args]


@contextmanager
def running(*args: str, **popen: Any) -> Iterator[Container]:
    """A container that is stopped at the end."""
    process = subprocess.Popen(command(*args), stdout=subprocess.PIPE, text=True, **popen)
    with process:
        try:
            assert process.stdout
            yield Container(process, read_url(process.stdout.readline()))
        finally:
            process.kill()


def read_url(line: str) -> str:
    head, _, url = line.strip().partition("listening on ")
    assert head == ""
    assert url.startswith("http://127.0.0.1:")
    return url


def children(pid: int) -> list[int]:
    """The processes that a process started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def training_process(pid: int) -> int:
    """The child that trains."""
    return next(child for child in children(pid) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes())


def gone(pid: int) -> bool:
    """Whether a process has ended (it may still wait for its parent to notice)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def parsed_ms(text: str) -> int:
    """A time of the container in whole milliseconds since 1970."""
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
