"""`bridge serve` as an operator uses it."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.cli.rig import run, serving, settings
from tests.web.test_tls import write_pair

pytestmark = pytest.mark.slow


async def get(url: str, **options: Any) -> tuple[int, Any]:
    """Status and JSON of one request."""
    async with aiohttp.ClientSession() as client, client.get(url, **options) as response:
        return response.status, await response.json()


async def until(url: str, good: Any) -> Any:
    """Asks until the answer is good; the test's own time limit bounds it."""
    while True:
        _, answer = await get(url)
        if good(answer):
            return answer
        await asyncio.sleep(0.05)


async def test_a_settings_file_is_served(tmp_path: Path) -> None:
    """The dataset of the file answers."""
    with serving("--config", str(settings(tmp_path))) as service:
        status, rows = await get(f"{service.url}/api/v1/datasets/lab.runs?model=mlp")
        assert (status, rows) == (200, [{"time": 1767225660000, "accuracy": 0.75, "model": "mlp"}])
        log = service.stop()
    assert "Traceback" not in log


async def test_reload_drops_no_request(tmp_path: Path) -> None:
    """SIGHUP puts the new settings in force while clients keep asking over open connections."""
    file = settings(tmp_path)
    with serving("--config", str(file)) as service:
        failed: list[str] = []
        stop = asyncio.Event()

        async def keep_asking(client: aiohttp.ClientSession) -> int:
            count = 0
            while not stop.is_set():
                async with client.get(f"{service.url}/api/v1/datasets/lab.runs") as response:
                    if response.status != 200:
                        failed.append(await response.text())
                    count += 1
            return count

        async with aiohttp.ClientSession() as client:
            askers = [asyncio.create_task(keep_asking(client)) for _ in range(4)]
            for number in range(5):
                file.write_text(file.read_text() + f"      - {{name: more{number}, options: {{path: runs.csv}}}}\n")
                service.hup()
                name = f"lab.more{number}"
                await until(
                    f"{service.url}/api/v1/datasets", lambda a, n=name: n in [item["name"] for item in a["datasets"]]
                )
            stop.set()
            counts = await asyncio.gather(*askers)
        assert not failed
        assert all(counts)


async def test_a_broken_file_changes_nothing_and_is_said(tmp_path: Path) -> None:
    """The old settings stay in force; readiness, metrics and log name the mistake and its line."""
    file = settings(tmp_path)
    good = file.read_text()
    with serving("--config", str(file)) as service:
        file.write_text(good.replace("kind: files", "kind: flies"))
        service.hup()
        ready = await until(f"{service.url}/readyz", lambda answer: answer["reload_error"])
        assert "bridge.yaml:4:" in ready["reload_error"]
        assert "flies" in ready["reload_error"]
        assert (await get(f"{service.url}/api/v1/datasets/lab.runs"))[0] == 200
        async with aiohttp.ClientSession() as client, client.get(f"{service.url}/metrics") as response:
            assert "bridge_config_last_reload_successful 0.0" in await response.text()
        file.write_text(good)
        service.hup()
        await until(f"{service.url}/readyz", lambda answer: answer["reload_error"] is None)
        log = [json.loads(line) for line in service.stop().splitlines()]
    failures = [line for line in log if line["event"].startswith("reload failed")]
    assert len(failures) == 1
    assert "flies" in failures[0]["problems"][0]


async def test_the_certificate_follows_its_file(tmp_path: Path) -> None:
    """After SIGHUP new connections see the new certificate."""
    file = settings(tmp_path)
    files = write_pair(tmp_path, "first")
    pair = f"tls: {{cert_file: {files.cert_file}, key_file: {files.key_file}}}"
    file.write_text(file.read_text().replace("{port: 0}", f"{{port: 0, {pair}}}"))
    with serving("--config", str(file)) as service:
        assert service.url.startswith("https://")
        port = int(service.url.rpartition(":")[2])
        before = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
        write_pair(tmp_path, "second", files=files)
        service.hup()
        after = before
        while after == before:
            after = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
        assert after.strip() == Path(files.cert_file).read_text().strip()


def test_a_wrong_file_stops_the_start(tmp_path: Path) -> None:
    """Every mistake is told with its place, and the exit code is 2."""
    file = settings(tmp_path)
    file.write_text(
        file.read_text().replace("path: runs.csv", "pth: runs.csv").replace("{port: 0}", "{port: 0, hots: x}")
    )
    done = run("serve", "--config", str(file))
    assert done.returncode == 2
    assert "bridge.yaml:1:" in done.stderr
    assert "hots" in done.stderr


def test_listening_beyond_the_machine_is_refused(tmp_path: Path) -> None:
    """Without credentials only loopback is served."""
    done = run("serve", "--config", str(settings(tmp_path)), "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "credentials" in done.stderr


async def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    """The second service on a port ends with a sentence."""
    file = settings(tmp_path)
    with serving("--config", str(file)) as service:
        done = await asyncio.to_thread(run, "serve", "--config", str(file), "--port", service.url.rpartition(":")[2])
    assert done.returncode == 2
    assert "in use" in done.stderr


async def test_a_foreign_host_is_refused(tmp_path: Path) -> None:
    """On loopback too: a web page could point its own name at it."""
    with serving("--config", str(settings(tmp_path))) as service:
        status, answer = await get(f"{service.url}/api/v1/datasets", headers={"Host": "evil.example"})
    assert (status, answer["code"]) == (421, "misdirected")


async def test_the_environment_is_respected(tmp_path: Path) -> None:
    """BRIDGE_… variables override the file."""
    with serving("--config", str(settings(tmp_path)), env={"BRIDGE_LIMITS__ROWS": "1"}) as service:
        status, answer = await get(f"{service.url}/api/v1/datasets/lab.runs")
    assert (status, answer["code"]) == (422, "answer_too_large")
