"""What checks find is said with the data; what they block reaches nobody, in no dialect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bridge.app import create_app
from bridge.model.query import Query
from bridge.settings import load_settings
from bridge.sources.guards import FAILURES
from bridge.web.keys import CACHE, DESK
from servers.house import NOW, START, House, Reply, Start, iso, ms

RUNS = "/api/v1/datasets/lab.runs"
RANGE = {"from": iso(ms(START)), "to": iso(ms(NOW) + 60_000)}


def settings(checks: str, **more: str) -> str:
    extra = "".join(f"        {key}: {value}\n" for key, value in more.items())
    return f"""
sources:
  - name: lab
    kind: files
    datasets:
      - name: runs
        options: {{path: runs.csv}}
        refresh_s: 1
        retries: 0
        checks: [{checks}]
{extra}        columns:
          - {{name: time, type: time, role: time}}
          - {{name: loss, type: number, role: measure}}
          - {{name: model, type: string, role: dimension}}
"""


def runs(*losses: float) -> dict[str, str]:
    rows = "".join(f"{iso(ms(START) + 1000 * t)},{loss},svm\n" for t, loss in enumerate(losses))
    return {"runs.csv": f"time,loss,model\n{rows}"}


def rewrite(bridge: House, *losses: float) -> None:
    """The file of the source says something else from now on."""
    for name, text in runs(*losses).items():
        (bridge.folder / name).write_text(text)
    bridge.clock.passed_s += 2


def said(reply: Reply) -> list[str]:
    return [f"{n['severity']}: {n['text']}" for n in json.loads(reply.headers.get("X-Bridge-Notices", "[]"))]


async def dialects(bridge: House) -> list[tuple[list[float], list[str], bool]]:
    """Losses, notices and whether they are marked as old: of rows, a page, wire frames and a panel."""
    rows = await bridge.get(RUNS, {"format": "rows"})
    page = (await bridge.get(RUNS, {"format": "page"})).json
    body = {"targets": [{"refId": "A", "target": "lab.runs"}], "range": RANGE, "panelPluginId": "table"}
    [frame] = (await bridge.post("/json/query", body)).json
    meta = frame["schema"]["meta"]
    told = [f"{n['severity']}: {n['text']}" for n in page.get("notices", [])]
    return [
        ([row["loss"] for row in rows.json], said(rows), any("last good answer" in text for text in said(rows))),
        ([row["loss"] for row in page["rows"]], told, page.get("stale", False)),
        (
            frame["data"]["values"][1],
            [f"{n['severity']}: {n['text']}" for n in meta.get("notices", [])],
            meta["custom"].get("stale", False),
        ),
    ]


async def findings(bridge: House) -> list[dict[str, Any]]:
    reply = await bridge.get("/api/v1/datasets/_findings", {"fresh": "1"})
    found: list[dict[str, Any]] = reply.json
    return found


async def status(bridge: House) -> dict[str, Any]:
    [row] = (await bridge.get("/api/v1/datasets/_status", {"fresh": "1"})).json
    found: dict[str, Any] = row
    return found


BLOCK = "{range: {column: loss, max: 10}, level: block}"


@pytest.mark.parametrize(("level", "severity"), [("info", "info"), ("warn", "warning")])
async def test_what_is_found_is_said_in_every_dialect(start: Start, level: str, severity: str) -> None:
    bridge = await start(settings(BLOCK.replace("block", level)), files=runs(1, 99))
    for losses, notices, stale in await dialects(bridge):
        assert (losses, stale) == ([1, 99], False)
        [text] = notices
        assert text.startswith(f"{severity}: ")
        assert "`loss`" in text
    [row] = await findings(bridge)
    assert (row["dataset"], row["check"], row["column"], row["level"]) == ("lab.runs", "range", "loss", level)
    assert (row["active"], row["rows"]) == (True, 1)
    metrics = (await bridge.get("/metrics")).text
    assert f'bridge_findings_total{{check="range",dataset="lab.runs",level="{level}"}} 1.0' in metrics
    assert f'bridge_findings_active{{check="range",dataset="lab.runs",level="{level}"}} 1.0' in metrics


async def test_what_is_blocked_reaches_nobody_and_the_last_good_answer_stays_marked(start: Start) -> None:
    bridge = await start(settings(BLOCK), files=runs(1, 2))
    assert [item[0] for item in await dialects(bridge)] == [[1, 2]] * 3
    rewrite(bridge, 1, 99)
    for losses, notices, stale in await dialects(bridge):
        assert (losses, stale) == ([1, 2], True)
        [text] = notices
        assert text.startswith("warning: `lab.runs` is held back: ")
        assert "Shown is the last good answer" in text
    row = await status(bridge)
    assert (row["state"], row["stale"], row["findings_block"]) == ("held_back", True, 1)
    listed = (await bridge.get("/api/v1/datasets")).json["datasets"]
    assert next(item for item in listed if item["name"] == "lab.runs")["state"] == "held_back"
    rewrite(bridge, 3)
    for losses, notices, stale in await dialects(bridge):
        assert (losses, notices, stale) == ([3], [], False)
    [row] = await findings(bridge)
    assert row["active"] is False


async def test_without_a_good_answer_before_it_is_an_error_that_says_what_is_wrong(start: Start) -> None:
    bridge = await start(settings(BLOCK), files=runs(99))
    reply = await bridge.get(RUNS)
    assert (reply.status, reply.json["code"]) == (502, "held_back")
    assert "`_findings` lists all" in reply.json["remedy"]
    assert "99" not in (await bridge.get(RUNS, {"format": "page", "on_error": "frame"})).json["rows"]


async def test_after_blocks_in_a_row_the_source_is_left_alone_and_tried_again(start: Start) -> None:
    bridge = await start(settings(BLOCK), files=runs(1))
    await bridge.get(RUNS)
    for number in range(FAILURES):
        rewrite(bridge, 100 + number)
        await bridge.get(RUNS)
    assert (await status(bridge))["breaker"] == "open"
    rewrite(bridge, 5)
    reply = await bridge.get(RUNS)
    assert [row["loss"] for row in reply.json] == [1]
    assert "answers in a row that checks held back" in said(reply)[0]
    bridge.clock.passed_s += 30
    reply = await bridge.get(RUNS)
    assert ([row["loss"] for row in reply.json], said(reply)) == ([5], [])
    assert (await status(bridge))["breaker"] == "closed"


async def test_checks_that_are_new_with_a_reload_judge_what_was_kept(start: Start) -> None:
    """No answer that other checks let through is given for one that these have seen."""
    bridge = await start(settings(""), files=runs(1, 99))
    assert [row["loss"] for row in (await bridge.get(RUNS)).json] == [1, 99]
    file = bridge.folder / "bridge.yaml"
    file.write_text(settings(BLOCK))
    app = create_app(load_settings(file, env={}), bridge.world, bridge.app[CACHE])
    await bridge.front.swap(app)
    reply = await bridge.get(RUNS)
    assert (reply.status, reply.json["code"]) == (502, "held_back")


async def test_age_is_found_though_the_file_did_not_change(start: Start) -> None:
    bridge = await start(settings("{fresh: 86400}"), files=runs(1))
    assert said(await bridge.get(RUNS)) == []
    bridge.clock.passed_s += 2 * 86_400
    [text] = said(await bridge.get(RUNS))
    assert text.startswith("warning: ")
    assert (await findings(bridge))[0]["check"] == "fresh"


async def test_the_checks_are_named_in_the_lineage(start: Start) -> None:
    bridge = await start(settings(BLOCK), files=runs(1))
    [frame] = (await bridge.get(RUNS, {"format": "frame"})).json
    assert frame["schema"]["meta"]["custom"]["lineage"]["checks"] == ["range"]


@pytest.mark.parametrize("held", [True, False], ids=["with a history", "without"])
async def test_what_is_held_back_is_not_recorded_and_the_record_stands_in(
    start: Start, tmp_path: Path, held: bool
) -> None:

    history = {"history": "{keep: 30d, every_s: 86000}"} if held else {}
    text = settings(BLOCK, **history)
    bridge = await start(f"data_dir: {tmp_path / 'data'}\n{text}", files=runs(1, 2))
    desk = bridge.app[DESK]
    await bridge.get(RUNS)
    if held:
        past = desk.keepers["lab.runs"].history
        assert past is not None
        await past.record(await desk.fetched(Query("lab.runs")))
    rewrite(bridge, 99)
    await desk.invalidate("*")
    reply = await bridge.get(RUNS)
    if not held:
        assert reply.status == 502
        return
    assert [row["loss"] for row in reply.json] == [1, 2]
    assert said(reply)[0].startswith("warning: `lab.runs` is held back")
    assert (await status(bridge))["history_rows"] == 2
