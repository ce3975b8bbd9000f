"""What an operator and a monitoring system see of bridge from outside."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from servers.house import YAML, House, Start


async def test_the_process_is_alive(bridge: House) -> None:
    reply = await bridge.get("/healthz")
    assert reply.status == 200
    assert reply.json["status"] == "ok"
    assert reply.json["version"]


async def test_readiness_says_how_the_datasets_and_the_last_reload_are_doing(bridge: House) -> None:
    bridge.world.state.reload_error = "sources[0]: no such kind"
    await bridge.get("/api/v1/datasets/lab.runs")
    await bridge.get("/api/v1/datasets/lab.missing")
    reply = await bridge.get("/readyz")
    assert reply.status == 200
    assert reply.json["status"] == "ready"
    assert reply.json["datasets"] == {"ok": 1, "down": 1, "unknown": 8}
    assert reply.json["reload_error"] == "sources[0]: no such kind"


WANTED = {
    "bridge_requests",
    "bridge_request_seconds",
    "bridge_requests_in_flight",
    "bridge_source_fetches",
    "bridge_cache_requests",
    "bridge_dataset_up",
    "bridge_dataset_age_seconds",
    "bridge_dataset_stale",
    "bridge_breaker_open",
    "bridge_rows_sent",
    "bridge_build",
}


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("text/plain;version=0.0.4", "text/plain"),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", "application/openmetrics-text"),
    ],
)
async def test_metrics_come_in_the_form_that_is_asked_for(bridge: House, accept: str, content_type: str) -> None:
    await bridge.get("/api/v1/datasets/lab.runs")
    await bridge.get("/api/v1/datasets/lab.runs")
    reply = await bridge.get("/metrics", headers={"Accept": accept})
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith(content_type)
    assert "charset=utf-8" in reply.headers["Content-Type"]
    parse = openmetrics if content_type.startswith("application") else prometheus
    families = {family.name: family for family in parse(reply.text)}
    names = {name.removesuffix("_total").removesuffix("_info") for name in families}
    assert names >= WANTED
    assert all(name.startswith("bridge_") for name in names)
    hits = {
        sample.labels["result"]: sample.value
        for sample in families["bridge_cache_requests"].samples
        if sample.name.endswith("_total")
    }
    assert hits == {"miss": 1, "hit": 1}
    assert reply.text.endswith("# EOF\n") is (parse is openmetrics)


async def test_the_api_is_described_and_every_path_of_it_is_answered(bridge: House) -> None:
    document = (await bridge.get("/openapi.json")).json
    assert document["openapi"].startswith("3.1")
    for path in document["paths"]:
        reply = await bridge.get(path.replace("{name}", "lab.runs"), method="OPTIONS")
        assert reply.status == 204, path


async def test_the_pages_for_people_are_there(bridge: House) -> None:
    for path in ("/", "/docs"):
        reply = await bridge.get(path)
        assert reply.status == 200
        assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "lab" in reply.text or path == "/docs"


async def test_the_pages_speak_of_the_public_url(start: Start) -> None:
    bridge = await start("server: {public_url: 'https://portal.example/bridge'}\n" + YAML)
    assert (await bridge.get("/openapi.json")).json["servers"] == [{"url": "https://portal.example/bridge"}]
