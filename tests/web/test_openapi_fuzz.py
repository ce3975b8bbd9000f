"""Nothing that is sent to a path of `/openapi.json` makes bridge fail."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import Case, GenerationMode

from bridge import __version__
from bridge.web import openapi
from bridge.web.routes import TABLE
from servers.house import HANG_S, house

EXAMPLES = 20
# Every dataset can be read, so that no answer of 502 has a reason outside bridge.
YAML = """
sources:
  - name: lab
    kind: files
    datasets:
      - name: runs
        options: {path: runs.csv}
        params:
          - {name: mode, options: [fast, slow], default: fast}
          - {name: tags, multi: true}
        columns:
          - {name: time, type: time, role: time}
          - {name: model, type: string, role: dimension}
          - {name: size, type: number, role: dimension}
          - {name: accuracy, type: number, unit: percentunit, role: measure}
          - {name: loss, type: number, role: measure}
          - {name: note, type: string}
      - {name: guessed, options: {path: guessed.csv}}
      - name: lines
        shape: logs
        options: {path: lines.csv}
        columns:
          - {name: time, type: time, role: time}
          - {name: message, type: string}
          - {name: level, type: string, role: dimension}
"""
OPERATIONS = [
    result.ok()
    for result in schemathesis.openapi.from_dict(
        dict(openapi.document(TABLE, __version__, "http://127.0.0.1:8000"))
    ).get_all_operations()
]


class Running:
    """A bridge in a thread of its own, as schemathesis waits for each answer."""

    def __init__(self, folder: Path) -> None:
        self.url = ""
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(folder),))

    async def _serve(self, folder: Path) -> None:
        async with house(folder, YAML) as bridge:
            self.url = bridge.url
            self._ready.set()
            await self._stop.wait()

    def __enter__(self) -> str:
        self._thread.start()
        assert self._ready.wait(HANG_S)
        return self.url

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(HANG_S)
        self._loop.close()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Running(tmp_path_factory.mktemp("fuzz")) as found:
        yield found


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as found:
        yield found


def kinds(operation: Any) -> list[str]:
    """How an operation can be asked: without query and body there is nothing to get wrong."""
    named = ["known name"] if "{name}" in operation.path else []
    wrong = ["wrong"] if operation.body or operation.query else []
    return ["right", *named, *wrong]


CASES = [pytest.param(item, kind, id=f"{item.label} {kind}") for item in OPERATIONS for kind in kinds(item)]


@pytest.mark.parametrize(("operation", "kind"), CASES)
def test_no_request_makes_bridge_fail(url: str, session: requests.Session, operation: Any, kind: str) -> None:
    mode = GenerationMode.NEGATIVE if kind == "wrong" else GenerationMode.POSITIVE
    name = "lab" if "sources" in operation.path else "lab.runs"
    fixed = {"path_parameters": {"name": name}} if kind == "known name" else {}
    cases = operation.as_strategy(generation_mode=mode, **fixed)

    @seed(1)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    @given(case=cases)
    def ask(case: Case) -> None:
        response = case.call(base_url=url, session=session)
        assert response.status_code < 500, f"{case.as_curl_command()}\n{response.text}"
        if response.status_code >= 400:
            found = response.json()
            assert found["message"]
            assert found["error"]

    ask()


def test_every_operation_was_asked() -> None:
    assert len(OPERATIONS) == len(TABLE)
