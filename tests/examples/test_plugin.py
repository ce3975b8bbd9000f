"""The example of a plug-in in a package of its own is installed, found, judged and used."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.model.query import Query
from bridge.sources.base import DatasetSpec, DataSource, NoOptions
from servers.packages import Installed, installed
from support import ManualClock, tools_of

FOLDER = Path(__file__).parents[2] / "examples" / "plugin"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return installed(FOLDER, tmp_path_factory.mktemp("plugin") / "site")


@pytest.mark.slow
def test_it_is_found_by_its_entry_point(package: Installed) -> None:
    found = package.plugin("machine")
    assert (found["ok"], found["error"], found["package"]) == (True, None, "bridge-source-machine")


@pytest.mark.slow
def test_it_passes_its_own_tests(package: Installed) -> None:
    assert "12 passed" in package.own_tests()


@pytest.mark.slow
def test_it_answers_from_a_settings_file(package: Installed, tmp_path: Path) -> None:
    config = tmp_path / "bridge.yaml"
    config.write_text("sources: [{name: host, kind: machine, datasets: [{name: load}]}]")
    command = ("bridge", "sources", "sample", "host.load", "--config", str(config), "--json")
    (row,) = json.loads(package.run(*command))
    assert set(row) == {"time", "load1", "load5", "load15", "host"}
    assert row["load1"] >= 0


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER / "src"))
    monkeypatch.delitem(sys.modules, "bridge_source_machine", raising=False)
    import bridge_source_machine

    cls: type[DataSource] = bridge_source_machine.MachineSource
    clock = ManualClock()
    options = cls.SourceOptions.model_validate({"samples": 3, "every_s": 0.001})
    found = cls("host", options, {"load": DatasetSpec("load", NoOptions())}, tools_of(clock))
    yield found, clock
    sys.modules.pop("bridge_source_machine", None)


async def test_it_keeps_as_many_samples_as_it_is_told(source: Any) -> None:
    machine, clock = source
    for _ in range(5):
        frame = await machine.collect(Query("host.load"))
        clock.advance(1)
    assert frame.rows == 3
    assert frame.data["time"][-1] == clock.now().replace(second=4)


async def test_it_streams_one_sample_at_a_time(source: Any) -> None:
    machine, clock = source
    stream: AsyncIterator[Any] = machine.subscribe(Query("host.load"))
    async with asyncio.timeout(30):
        first = await anext(stream)
        clock.advance(1)
        second = await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert (first.rows, second.rows) == (1, 1)
    assert second.data["time"][0] > first.data["time"][0]
