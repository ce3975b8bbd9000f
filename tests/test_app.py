"""The service as a whole: what outlives a change of its settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from bridge.app import Service
from bridge.errors import SettingsError

YAML = """\
server: {{port: 0}}
sources:
  - name: lab
    kind: rest
    options: {{url: "{url}", auth: {{kind: bearer, token: {token}}}}}
    datasets:
      - name: runs
        refresh_s: {refresh_s}
        retries: 0
        options: {{path: /runs}}
        columns: [{{name: id, type: string}}, {{name: who, type: string, select: {select}}}]
"""


@asynccontextmanager
async def far() -> AsyncIterator[tuple[str, list[str]]]:
    """A container that names its caller; the calls it got."""
    calls: list[str] = []

    async def runs(request: web.Request) -> web.Response:
        calls.append(request.headers["Authorization"])
        return web.json_response([{"id": "r1", "who": calls[-1], "name": "other"}])

    app = web.Application()
    app.router.add_get("/runs", runs)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/"), calls


def write(folder: Path, url: str, *, token: str = "one", refresh_s: int = 600, select: str = "who") -> Path:
    """The settings file."""
    file = folder / "bridge.yaml"
    file.write_text(YAML.format(url=url, token=token, refresh_s=refresh_s, select=select))
    return file


async def rows(service: Service, base: str) -> tuple[int, Any, str]:
    """Status, rows and notices of the dataset."""
    async with aiohttp.ClientSession() as client, client.get(f"{base}/api/v1/datasets/lab.runs") as response:
        return response.status, await response.json(), response.headers.get("X-Bridge-Notices", "")


@asynccontextmanager
async def running(file: Path) -> AsyncIterator[tuple[Service, str]]:
    """The service over a settings file, and its URL."""
    service = Service(file, overrides={}, env={})
    (host, port), *_ = await service.start()
    try:
        yield service, f"http://{host}:{port}"
    finally:
        await service.front.aclose()


async def test_answers_of_unchanged_datasets_outlive_a_reload(tmp_path: Path) -> None:
    """A reload asks no source again, and the dataset's state is known at once."""
    async with far() as (url, calls), running(write(tmp_path, url)) as (service, base):
        before = await rows(service, base)
        assert await service.reload()
        assert await rows(service, base) == before
        async with aiohttp.ClientSession() as client, client.get(f"{base}/api/v1/sources/lab") as response:
            assert (await response.json())["state"] == "ok"
    assert len(calls) == 1


async def test_the_last_good_answer_outlives_a_reload_while_the_source_is_down(tmp_path: Path) -> None:
    """What a team saw before an operator touched the settings is still there, and marked."""
    async with far() as (url, _):
        file = write(tmp_path, url, refresh_s=0)
        async with running(file) as (service, base):
            assert (await rows(service, base))[0] == 200
    async with far() as (url, _):
        file = write(tmp_path, url, refresh_s=0)
        service = Service(file, overrides={}, env={})
        (host, port), *_ = await service.start()
        base = f"http://{host}:{port}"
        good = await rows(service, base)
    try:
        assert await service.reload()
        status, found, notices = await rows(service, base)
        assert (status, found) == (200, good[1])
        assert "last good answer" in notices
    finally:
        await service.front.aclose()


@pytest.mark.parametrize("change", [{"token": "two"}, {"select": "name"}])
async def test_a_dataset_whose_settings_changed_is_asked_again(tmp_path: Path, change: dict[str, str]) -> None:
    """Another credential may see other data, another column is another answer."""
    async with far() as (url, calls), running(write(tmp_path, url)) as (service, base):
        before = await rows(service, base)
        write(tmp_path, url, **change)  # type: ignore[arg-type]
        assert await service.reload()
        after = await rows(service, base)
    assert len(calls) == 2
    assert before[1] != after[1]


async def test_another_bound_on_the_cache_begins_with_an_empty_one(tmp_path: Path) -> None:
    """The new bound holds from the first answer on."""
    async with far() as (url, calls), running(write(tmp_path, url)) as (service, base):
        await rows(service, base)
        file = tmp_path / "bridge.yaml"
        file.write_text(file.read_text() + "limits: {cache_bytes: 1000000}\n")
        assert await service.reload()
        await rows(service, base)
    assert len(calls) == 2


async def test_a_free_port_stands_in_the_public_url_after_a_reload_too(tmp_path: Path) -> None:
    """Pages show the address that works, whatever port was taken."""
    async with far() as (url, _), running(write(tmp_path, url)) as (service, base):
        for _ in range(2):
            async with aiohttp.ClientSession() as client, client.get(f"{base}/openapi.json") as response:
                assert (await response.json())["servers"] == [{"url": base}]
            await service.reload()


async def test_a_moved_port_is_said_and_the_rest_of_the_reload_holds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A listening socket cannot move; the log says that a restart is needed."""
    async with far() as (url, _), running(write(tmp_path, url)) as (service, base):
        file = tmp_path / "bridge.yaml"
        file.write_text(file.read_text().replace("port: 0", "port: 1"))
        assert await service.reload()
        assert (await rows(service, base))[0] == 200
    assert "change with a restart only" in caplog.text


async def test_a_reload_that_fails_keeps_everything(tmp_path: Path) -> None:
    """Problems are kept for the operator, requests are answered as before."""
    async with far() as (url, _), running(write(tmp_path, url)) as (service, base):
        (tmp_path / "bridge.yaml").write_text("sources: 5\n")
        assert not await service.reload()
        assert "bridge.yaml:1:" in str(service.world.state.reload_error)
        assert (await rows(service, base))[0] == 200


async def test_a_start_that_fails_leaves_no_open_port(tmp_path: Path) -> None:
    """The settings are judged before the port is opened."""
    file = tmp_path / "bridge.yaml"
    file.write_text("sources: [{name: lab, kind: nothing}]\n")
    service = Service(file, overrides={}, env={})
    with pytest.raises(SettingsError, match="no plug-in offers kind `nothing`"):
        await service.start()
    assert service.front.connections == 0
