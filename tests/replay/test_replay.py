"""Every recorded request of Grafana's JSON and Infinity plug-ins gets the answer a user would expect."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from bridge.app import World, create_app
from bridge.settings import load_settings
from bridge.web.front import Front

HERE = Path(__file__).parent
RECORDED = HERE.parent / "recordings" / "requests.jsonl"
GOLDEN = HERE / "golden.jsonl"
# Names that no client sends again, or that differ from run to run.
SENT = ("accept", "content-type", "user-agent", "x-grafana-org-id", "x-grafana-referer", "x-forwarded-for")
VOLATILE = ("request_id",)


class RecordedDay:
    """The clock of the recording."""

    def now(self) -> datetime:
        """An hour after the last recorded request."""
        return datetime(2026, 11, 22, 13, 0, tzinfo=UTC)

    def monotonic_s(self) -> float:
        """Time does not pass."""
        return 1000.0


def recorded(prefix: str) -> list[dict[str, Any]]:
    """All recorded requests of the plug-in whose scenarios or paths begin so."""
    rows = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    return [row for row in rows if row["label"].startswith(prefix) or row["path"].startswith(prefix)]


def address(row: dict[str, Any]) -> str:
    """Where bridge answers what the recorded path asked."""
    url = urlsplit(row["raw_path"])
    query = f"?{url.query}" if url.query else ""
    if row["label"].startswith(("simpod", "api-json", "-")):
        return f"/json{'' if url.path == '/' else url.path}{query}"
    name = url.path.removeprefix("/inf/")
    if name == "health":
        return "/healthz"
    if name == "csv":
        return f"/api/v1/datasets/inf.csv?format=csv&{url.query}"
    if name in ("401", "429", "500", "redirect"):
        return f"/api/v1/datasets/far.{name if name == 'redirect' else 's' + name}"
    return f"/api/v1/datasets/inf.{'post' if name == 'graphql' else name}{query}"


async def far_status(request: web.Request) -> web.Response:
    """A far server that answers with the status its path names."""
    name = request.match_info["name"]
    if name == "redirect":
        raise web.HTTPFound("http://127.0.0.2:1/elsewhere")
    return web.Response(status=int(name), text="no", headers={"Retry-After": "7"} if name == "429" else {})


@pytest.fixture
async def base() -> AsyncIterator[str]:
    """The service over the files with known values."""
    far = web.Application()
    far.router.add_get("/{name}", far_status)
    async with TestServer(far) as server:
        url = str(server.make_url("/")).rstrip("/")
        loaded = load_settings(HERE / "bridge.yaml", env={}, overrides={"sources.2.options.url": url})
        front = Front()
        await front.swap(create_app(loaded, World(clock=RecordedDay())))
        bound = await front.listen("127.0.0.1", 0)
        yield f"http://127.0.0.1:{bound[0][1]}"
        await front.aclose()


async def ask(client: ClientSession, base: str, row: dict[str, Any]) -> dict[str, Any]:
    """Sends one recorded request and gives what a golden keeps of the answer."""
    headers = {name: value for name, value in row["headers"] if name.lower() in SENT}
    body = (row["body"] or "").encode() or None
    async with client.request(row["method"], base + address(row), data=body, headers=headers) as response:
        text = await response.text()
        kept: dict[str, Any] = {
            "seq": row["seq"],
            "label": row["label"],
            "asked": address(row),
            "status": response.status,
        }
        if response.content_type == "application/json" and text:
            answer = json.loads(text)
            if isinstance(answer, dict):
                answer = {key: value for key, value in answer.items() if key not in VOLATILE}
            kept["answer"] = answer
        else:
            kept["answer"] = text
        if notices := response.headers.get("X-Bridge-Notices"):
            kept["notices"] = json.loads(notices)
        return kept


async def replay(base: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All answers, in the recorded order."""
    async with ClientSession(auto_decompress=True) as client:
        return [await ask(client, base, row) for row in rows]


def settled(line: str) -> str:
    """The line without what differs from run to run: free ports, and the jitter of a breaker."""
    return re.sub(r"again in \d+ s", "again in N s", re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", line))


async def test_every_recorded_request_gets_its_golden_answer(base: str, update_golden: bool) -> None:
    """Frames, refIds, values and errors are those that were read and found right."""
    rows = recorded("simpod-") + recorded("/inf/") + [row for row in recorded("api-json") if row["path"] != "/nope"]
    lines = [settled(json.dumps(item, sort_keys=True, ensure_ascii=False)) for item in await replay(base, rows)]
    if update_golden:
        GOLDEN.write_text("\n".join(lines) + "\n")
    golden = GOLDEN.read_text().splitlines()
    assert len(lines) == len(golden)
    for line, wanted in zip(lines, golden, strict=True):
        assert json.loads(line) == json.loads(wanted)


def golden() -> Iterator[dict[str, Any]]:
    """The golden answers."""
    for line in GOLDEN.read_text().splitlines():
        yield json.loads(line)


def frames(label: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Golden wire frames of the scenarios that begin so, each with the request body it answers."""
    bodies = {row["seq"]: row["body_json"] for row in recorded(label)}
    for item in golden():
        if item["label"].startswith(label) and item["asked"].endswith("/query") and item["status"] == 200:
            for frame in item["answer"]:
                yield frame, bodies[item["seq"]]


def test_golden_values_are_those_of_the_files() -> None:
    """Each point of each golden series stands in its file, inside the asked range, and none is missing."""
    checked = 0
    for frame, body in frames("simpod-"):
        if frame["schema"]["meta"].get("type") != "timeseries-multi":
            continue
        target = next(item for item in body["targets"] if item["refId"] == frame["schema"]["refId"])
        rows = file_rows(target["target"], body, frame["schema"]["fields"][1].get("labels", {}))
        measure = frame["schema"]["fields"][1]["name"]
        wanted = [(instant_ms(row["time"]), float(row[measure])) for row in rows]
        values = frame["data"]["values"]
        if len(wanted) <= body["maxDataPoints"]:
            assert list(zip(values[0], values[1], strict=True)) == wanted
        checked += len(wanted)
    assert checked > 500


def file_rows(name: str, body: dict[str, Any], labels: dict[str, str]) -> list[dict[str, str]]:
    """Rows of the file behind a target, with the range and labels of its frame."""
    start, end = (instant_ms(body["range"][key]) for key in ("from", "to"))
    with (HERE / "data" / f"{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [
        row
        for row in rows
        if start <= instant_ms(row["time"]) < end and all(row[key] == value for key, value in labels.items())
    ]


def instant_ms(text: str) -> int:
    """Milliseconds since the epoch."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def test_every_frame_carries_the_ref_id_of_its_target() -> None:
    """Overrides and legends of a panel are keyed by refId."""
    for frame, body in frames("simpod-"):
        assert frame["schema"]["refId"] in {target["refId"] for target in body["targets"]}


def test_dashboard_filters_narrow_the_series() -> None:
    """`City = Prague and Country =~ C.*` leaves only Prague; what has no such column says so."""
    seen = set()
    for frame, body in frames("simpod-"):
        keys = {item["key"]: item for item in body.get("filters") or []}
        labels = next((field["labels"] for field in frame["schema"]["fields"] if field.get("labels")), {})
        if keys.get("City", {}).get("value") == "Prague" and "City" in labels:
            assert labels["City"] == "Prague"
            seen.add(frame["schema"]["name"])
    assert len(seen) >= 2


def test_error_cases_stay_error_cases() -> None:
    """What failed when it was recorded fails here too, with a sentence."""
    failing = [
        item
        for item in golden()
        if item["asked"].endswith(("s401", "s429", "s500", "redirect")) or item["label"] == "api-json-query-err"
    ]
    assert len(failing) >= 6
    for item in failing:
        assert item["status"] >= 400
        assert item["answer"]["message"]
        assert item["answer"]["error"]


def test_no_recorded_request_breaks_the_service() -> None:
    """No answer is an internal error."""
    for item in golden():
        assert item["status"] != 500, item
