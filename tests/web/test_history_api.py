"""What was said before is answered as what is said now: in every dialect, and the same whenever it is asked."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bridge.app import Service, World, create_app
from bridge.edge.hold import Hold
from bridge.errors import StoreHeld
from bridge.model.query import Query
from bridge.settings import load_settings
from bridge.sources.history import upkeep
from bridge.sources.history.history import History
from bridge.web.keys import CACHE, DESK
from servers.house import HANG_S, NOW, SYSTEM, Clock, House, Reply, house, iso, ms

RUNS = "/api/v1/datasets/lab.runs"
YAML = """
sources:
  - name: lab
    kind: files
    datasets:
      - name: runs
        options: {path: runs.csv}
        refresh_s: 5
        retries: 0
        history: {keep: 30d, every_s: 86000}
        columns:
          - {name: time, type: time, role: time}
          - {name: loss, type: number, role: measure}
          - {name: model, type: string, role: dimension}
      - name: state
        options: {path: state.csv}
        refresh_s: 5
        history: {keep: 30d, every_s: 86000, time: seen}
        columns: [{name: service, type: string, role: dimension}, {name: load, type: number, role: measure}]
      - name: table
        options: {path: state.csv}
        refresh_s: 5
        history: {keep: 30d, every_s: 86000}
        columns: [{name: service, type: string, role: dimension}, {name: load, type: number, role: measure}]
      - name: plain
        options: {path: state.csv}
        columns: [{name: service, type: string, role: dimension}, {name: load, type: number, role: measure}]
"""
SPAN = {"from": iso(ms(NOW) - 3_600_000), "to": iso(ms(NOW) + 3_600_000)}


def runs(*rows: tuple[int, float, str]) -> str:
    """The file of runs; times are seconds after now."""
    return "time,loss,model\n" + "".join(f"{iso(ms(NOW) + 1000 * t)},{loss},{model}\n" for t, loss, model in rows)


def state(*rows: tuple[str, float]) -> str:
    return "service,load\n" + "".join(f"{name},{load}\n" for name, load in rows)


FILES = {"runs.csv": runs((0, 1.0, "svm"), (1, 2.0, "knn")), "state.csv": state(("a", 1.0))}


def history(bridge: House, name: str = "lab.runs") -> History:
    found = bridge.app[DESK].keepers[name].history
    assert found is not None
    return found


async def sample(bridge: House, text: str | None = None, name: str = "lab.runs") -> None:
    """A minute later the dataset is sampled, with its file changed."""
    if text is not None:
        (bridge.folder / ("runs.csv" if name == "lab.runs" else "state.csv")).write_text(text)
    bridge.clock.advance(60)
    await history(bridge, name).record(await bridge.app[DESK].fetched(Query(name)))


class Moving(Clock):
    """A clock that the test moves."""

    def advance(self, seconds: float) -> None:
        self.passed_s += seconds


@asynccontextmanager
async def kept(folder: Path, text: str = YAML, passed_s: float = 0.0, files: Any = None) -> AsyncIterator[House]:
    """A bridge whose histories are below this folder."""
    clock = Moving()
    clock.passed_s = passed_s
    settings = f"data_dir: {folder / 'data'}\n{text}"
    async with house(folder, settings, files=FILES if files is None else files, world=World(clock=clock)) as bridge:
        bridge.clock = clock
        yield bridge


@pytest.fixture
async def bridge(tmp_path: Path) -> AsyncIterator[House]:
    """Two versions: in the second a row was corrected and one came."""
    async with kept(tmp_path) as made:
        await sample(made)
        await sample(made, runs((0, 1.5, "svm"), (1, 2.0, "knn"), (2, 3.0, "svm")))
        yield made


def said(reply: Reply) -> list[str]:
    return [f"{n['severity']}: {n['text']}" for n in json.loads(reply.headers.get("X-Bridge-Notices", "[]"))]


async def asked(bridge: House, payload: Any, **more: Any) -> list[dict[str, Any]]:
    """The frames of a table panel of the JSON datasource."""
    targets = [{"refId": "A", "target": "lab.runs", "payload": payload, **more}]
    reply = await bridge.post("/json/query", {"targets": targets, "range": SPAN, "panelPluginId": "table"})
    assert reply.status == 200, reply.text
    found: list[dict[str, Any]] = reply.json
    return found


THEN = [1.0, 2.0]
NOWADAYS = [1.5, 2.0, 3.0]


@pytest.mark.parametrize(
    ("as_of", "losses"),
    [
        ("v0", THEN),
        ("v1", NOWADAYS),
        (iso(ms(NOW) + 61_000), THEN),
        (str(ms(NOW) + 61_000), THEN),
        (iso(ms(NOW) + 120_000), NOWADAYS),
        (" v0 ", THEN),
        ("", NOWADAYS),
        ("$__from", NOWADAYS),
    ],
)
async def test_a_version_or_an_instant_may_be_asked_for(bridge: House, as_of: str, losses: list[float]) -> None:
    for form in ("rows", "page", "csv", "ndjson", "frame"):
        reply = await bridge.get(RUNS, {"as_of": as_of, "format": form, **SPAN})
        assert reply.status == 200, reply.text
        assert values(reply, form) == losses
    post = await bridge.post(RUNS, {"as_of": as_of, **SPAN})
    assert [row["loss"] for row in post.json] == losses


def values(reply: Reply, form: str) -> list[float]:
    match form:
        case "rows":
            return [row["loss"] for row in reply.json]
        case "page":
            return [row["loss"] for row in reply.json["rows"]]
        case "csv":
            return [float(row["loss"]) for row in csv.DictReader(io.StringIO(reply.text))]
        case "ndjson":
            return [json.loads(line)["loss"] for line in reply.text.splitlines()]
        case _:
            [*frames] = reply.json
            pairs = [pair for one in frames for pair in zip(*one["data"]["values"], strict=True)]
            return [pair[1] for pair in sorted(pairs)]


async def test_a_panel_s_payload_may_say_so_as_may_a_batch_and_a_variable(bridge: House) -> None:
    [frame] = await asked(bridge, {"as_of": "v0"})
    assert frame["data"]["values"][1] == THEN
    assert frame["schema"]["meta"]["notices"] == [{"severity": "info", "text": "As it was recorded until version 0."}]
    assert frame["schema"]["meta"]["custom"]["lineage"]["history"] == {"version": 0, "rows": 4, "as_of": 0}
    [frame] = await asked(bridge, json.dumps({"as_of": str(ms(NOW) + 61_000)}))
    assert frame["data"]["values"][1] == THEN
    batch = {"queries": [{"dataset": "lab.runs", "params": {"as_of": "v0"}}, {"dataset": "lab.runs"}]}
    results = (await bridge.post("/api/v1/batch", batch)).json["results"]
    assert [sum(len(f["data"]["values"][0]) for f in item["frames"]) for item in results.values()] == [2, 3]
    await sample(bridge, runs((5, 1.0, "new")))
    for payload, wanted in (({"as_of": "v1"}, ["knn", "svm"]), ({}, ["knn", "new", "svm"])):
        found = await bridge.post("/json/variable", {"payload": {"target": "lab.runs.model", **payload}})
        assert [item["__text"] for item in found.json] == wanted
    queries = [{"refId": "A", "target": "lab.runs"}]
    tags = (await bridge.post("/json/tag-values", {"key": "model", "queries": queries})).json
    assert [item["value"] for item in tags] == ["knn", "new", "svm"]


@pytest.mark.parametrize(
    ("name", "as_of", "message", "remedy"),
    [
        ("lab.runs", "v2", "lab.runs has no version 2 yet", "the newest is v1"),
        ("lab.runs", "v999999999999999", "has no version 999999999999999 yet", "the newest is v1"),
        ("lab.runs", "yesterday", "as_of", ""),
        ("lab.runs", "v-1", "as_of", ""),
        ("lab.runs", "v" + "9" * 16, "as_of", ""),
        ("lab.plain", "v0", "lab.plain keeps no history", "history"),
        ("lab.state", "v0", "nothing was recorded of lab.state yet", "every_s"),
        *((name, "v0", f"{name} tells of the present only", "leave out") for name in SYSTEM),
    ],
)
async def test_what_cannot_be_known_is_a_bad_question(
    bridge: House, name: str, as_of: str, message: str, remedy: str
) -> None:
    for form in ("rows", "page", "frame"):
        reply = await bridge.get(f"/api/v1/datasets/{name}", {"as_of": as_of, "format": form})
        assert (reply.status, reply.json["code"]) == (400, "bad_query")
        assert message in reply.json["message"]
        assert remedy in reply.json["remedy"]
    target = {"refId": "A", "target": name, "payload": {"as_of": as_of}}
    assert (await bridge.post("/json/query", {"targets": [target]})).status == 400
    frame = await bridge.get(f"/api/v1/datasets/{name}", {"as_of": as_of, "format": "page", "on_error": "frame"})
    assert (frame.status, frame.json["rows"][0]["code"]) == (200, "bad_query")


async def test_an_instant_before_all_samples_is_empty_and_says_so(bridge: House) -> None:
    early = iso(ms(NOW) - 86_400_000)
    reply = await bridge.get(RUNS, {"as_of": early, "format": "rows"})
    assert (reply.status, reply.json) == (200, [])
    assert said(reply) == ["info: Nothing was recorded until 2026-01-30 12:00:00 UTC."]
    [frame] = await asked(bridge, {"as_of": early})
    assert [field["name"] for field in frame["schema"]["fields"]] == ["time", "loss", "model"]


async def test_what_a_version_said_is_the_same_to_the_byte_for_ever(bridge: House) -> None:
    """After corrections, late rows, what moves samples on, and a restart."""
    version = history(bridge).view.seq
    forms = ("rows", "csv", "ndjson", "arrow")
    first = [await bridge.get(RUNS, {"as_of": f"v{version}", "format": form}) for form in forms]
    plain = await bridge.get(RUNS, {"format": "csv"})
    assert plain.body == first[1].body

    async def same() -> None:
        for form, before in zip(forms, first, strict=True):
            again = await bridge.get(RUNS, {"as_of": f"v{version}", "format": form})
            assert (again.body, again.headers["ETag"]) == (before.body, before.headers["ETag"])

    late = ((-5, 9.0, "svm"), (0, 7.0, "svm"), (0, 7.5, "late"), (1, 2.0, "knn"), (2, 3.5, "svm"), (3, 1.0, "svm"))
    await sample(bridge, runs(*late))
    await same()
    history(bridge).table.flush()
    await same()
    await sample(bridge, runs(*late[:3], (1, 0.0, "knn")))
    upkeep.compact(history(bridge).table)
    await same()
    history(bridge).table.flush()
    upkeep.compact(history(bridge).table)
    await same()


async def test_pages_and_validators_of_then_are_those_of_any_answer(bridge: House) -> None:
    first = await bridge.get(RUNS, {"as_of": "v1", "format": "page", "limit": 2})
    assert [row["loss"] for row in first.json["rows"]] == [1.5, 2.0]
    await sample(bridge, runs((0, 9.0, "svm")))
    cursor = first.json["next_cursor"]
    second = await bridge.get(RUNS, {"as_of": "v1", "format": "page", "limit": 2, "cursor": cursor})
    assert ([row["loss"] for row in second.json["rows"]], second.json["next_cursor"]) == ([3.0], "")
    then = await bridge.get(RUNS, {"as_of": "v1"})
    assert then.headers["Cache-Control"].startswith("private, max-age=")
    again = await bridge.get(RUNS, {"as_of": "v1"}, headers={"If-None-Match": then.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    now = await bridge.get(RUNS, headers={"If-None-Match": then.headers["ETag"]})
    assert now.status == 200


# The source is down, or its past cannot be read


async def test_a_source_that_is_down_from_the_start_answers_marked_in_all_dialects(tmp_path: Path) -> None:
    async with kept(tmp_path) as bridge:
        for name in ("lab.runs", "lab.table", "lab.state"):
            await sample(bridge, name=name)
    for name in FILES:
        (tmp_path / name).unlink()
    async with kept(tmp_path, passed_s=7_380, files={}) as bridge:
        for name, column, shown in (("runs", "loss", THEN), ("table", "load", [1.0]), ("state", "load", [1.0])):
            path = f"/api/v1/datasets/lab.{name}"
            page = (await bridge.get(path, {"format": "page"})).json
            assert page["stale"] is True
            assert [row[column] for row in page["rows"]] == shown
            assert "Shown is the last good answer, 2.0 h old" in page["notices"][0]["text"]
            rows = await bridge.get(path)
            assert [row[column] for row in rows.json] == shown
            assert rows.headers["Cache-Control"] == "private, max-age=0"
            for reply in (rows, await bridge.get(path, {"format": "csv"})):
                [notice] = said(reply)
                assert notice.startswith("warning: ")
                assert "2.0 h old" in notice
            target = {"refId": "A", "target": f"lab.{name}"}
            body = {"targets": [target], "range": SPAN, "panelPluginId": "table"}
            [frame] = (await bridge.post("/json/query", body)).json
            meta = frame["schema"]["meta"]
            assert meta["custom"]["stale"] is True
            assert meta["notices"][0]["severity"] == "warning"
            values_ = dict(zip((f["name"] for f in frame["schema"]["fields"]), frame["data"]["values"], strict=True))
            assert values_[column] == shown
        status = {row["dataset"]: row for row in (await bridge.get("/api/v1/datasets/_status")).json}
        assert (status["lab.runs"]["stale"], status["lab.runs"]["history_rows"]) == (True, 2)
        assert status["lab.plain"]["stale"] is False


async def test_files_that_were_damaged_leave_the_source_s_own_rows_and_a_warning(bridge: House) -> None:
    history(bridge).table.flush()
    shutil.rmtree(bridge.folder / "data" / "history" / "lab.runs" / "g1")
    await bridge.app[CACHE].invalidate("*")
    (bridge.folder / "runs.csv").write_text(runs((9, 9.0, "svm")))
    reply = await bridge.get(RUNS)
    assert [row["loss"] for row in reply.json] == [9.0]
    [notice] = said(reply)
    assert notice.startswith("warning: the history of `lab.runs` cannot be read")
    page = (await bridge.get(RUNS, {"format": "page"})).json
    assert page["notices"][0]["severity"] == "warning"
    [frame] = await asked(bridge, {})
    assert frame["schema"]["meta"]["notices"][0]["severity"] == "warning"


async def test_a_history_of_a_newer_version_is_a_warning(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "history" / "lab.runs"
    folder.mkdir(parents=True)
    (folder / "schema.json").write_text('{"format": 99}')
    async with kept(tmp_path) as bridge:
        reply = await bridge.get(RUNS)
        assert [row["loss"] for row in reply.json] == THEN
        assert said(reply)[0].startswith("warning: ")
        assert (await bridge.get(RUNS, {"as_of": "v0"})).status == 503
        [row] = (await bridge.get("/api/v1/datasets/_status", {"filter": "dataset=lab.runs"})).json
        assert "newer" in row["history_error"]


# A time that the history gives


async def test_a_table_becomes_a_series_everywhere(bridge: House) -> None:
    path = "/api/v1/datasets/lab.state"
    await sample(bridge, name="lab.state")
    await sample(bridge, state(("a", 2.0)), "lab.state")
    reply = await bridge.get(path, SPAN)
    assert [(row["seen"], row["load"]) for row in reply.json] == [
        (ms(NOW) + 180_000, 1.0),
        (ms(NOW) + 240_000, 2.0),
    ]
    schema = (await bridge.get(f"{path}/schema")).json
    assert schema["columns"][0] == {
        "name": "seen",
        "type": "time",
        "unit": None,
        "role": "time",
        "kind": "gauge",
        "description": "when the row was sampled",
    }
    model = (await bridge.get(f"{path}/infinity")).json
    assert {"selector": "seen", "text": "seen", "type": "timestamp_epoch"} in model["columns"]
    chosen = await bridge.get(path, {"filter": f"seen>{iso(ms(NOW) + 200_000)}", "columns": "load,seen"})
    assert [row["load"] for row in chosen.json] == [2.0]
    [frame] = (await bridge.get(path, {**SPAN, "format": "frame", "max_points": 5})).json
    assert frame["data"]["values"][1] == [1.0, 2.0]


# The settings change


async def reloaded(bridge: House, *changes: tuple[str, str], data: str = "data") -> None:
    """A house with other settings in the place of the one that is there."""
    text = YAML
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    file = bridge.folder / "bridge.yaml"
    file.write_text(f"data_dir: {bridge.folder / data}\n{text}")
    app = create_app(load_settings(file, env={}), bridge.world, bridge.app[CACHE])
    await bridge.front.swap(app)
    bridge.app = app
    async with asyncio.timeout(HANG_S):
        while bridge.front.houses > 1:
            await asyncio.sleep(0.01)


RUNS_HISTORY = "        retries: 0\n        history: {keep: 30d, every_s: 86000}\n"


async def test_a_reload_goes_on_with_the_histories_as_they_are(bridge: House) -> None:
    before = history(bridge)
    await reloaded(
        bridge, ("keep: 30d, every_s: 86000}\n        columns:\n", "keep: 7d, every_s: 3600}\n        columns:\n")
    )
    assert history(bridge) is before
    assert before.table.keeping.keep_s == 7 * 86_400
    await sample(bridge, runs((5, 5.0, "svm")))
    assert [row["loss"] for row in (await bridge.get(RUNS)).json] == [*NOWADAYS, 5.0]
    assert [row["loss"] for row in (await bridge.get(RUNS, {"as_of": "v0"})).json] == THEN
    # The folder is still held: nobody else may write there.
    with pytest.raises(StoreHeld):
        Hold.take(bridge.folder / "data")


async def test_a_history_may_be_left_out_and_taken_up_again(bridge: House) -> None:
    """Nothing is lost meanwhile, and nothing is recorded."""
    await reloaded(bridge, (RUNS_HISTORY, ""))
    assert bridge.app[DESK].keepers["lab.runs"].history is None
    assert (await bridge.get(RUNS, {"as_of": "v0"})).status == 400
    await reloaded(bridge)
    assert [row["loss"] for row in (await bridge.get(RUNS, {"as_of": "v0"})).json] == THEN
    assert (await bridge.get(RUNS, {"as_of": "v1"})).status == 200


async def test_a_dataset_that_comes_has_a_history_from_then_on(bridge: House) -> None:
    new = "      - name: more\n        options: {path: state.csv}\n        history: {keep: 30d, every_s: 86000}\n"
    await reloaded(bridge, ("      - name: plain\n", f"{new}      - name: plain\n"))
    await sample(bridge, name="lab.more")
    assert history(bridge, "lab.more").view.seq == 0
    await reloaded(bridge)
    assert "lab.more" not in bridge.app[DESK].keepers
    assert (bridge.folder / "data" / "history" / "lab.more").is_dir()


async def test_another_data_dir_begins_anew_and_the_one_of_before_is_let_go(bridge: House) -> None:
    await reloaded(bridge, data="elsewhere")
    assert history(bridge).view.seq == -1
    assert (await bridge.get(RUNS, {"as_of": "v0"})).status == 400
    await sample(bridge)
    Hold.take(bridge.folder / "data").release()
    with pytest.raises(StoreHeld):
        Hold.take(bridge.folder / "elsewhere")
    await reloaded(bridge)
    assert [row["loss"] for row in (await bridge.get(RUNS, {"as_of": "v0"})).json] == THEN


async def test_a_data_dir_that_another_process_holds_leaves_the_house_that_is_there(bridge: House) -> None:
    held = Hold.take(bridge.folder / "elsewhere")
    try:
        with pytest.raises(StoreHeld):
            await reloaded(bridge, data="elsewhere")
    finally:
        held.release()
    assert [row["loss"] for row in (await bridge.get(RUNS, {"as_of": "v0"})).json] == THEN


async def test_the_service_says_that_histories_begin_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    file = tmp_path / "bridge.yaml"
    file.write_text(f"server: {{port: 0}}\ndata_dir: {tmp_path / 'one'}\n{YAML}")
    service = Service(file, overrides={}, env={})
    await service.start()
    try:
        file.write_text(f"server: {{port: 0}}\ndata_dir: {tmp_path / 'two'}\n{YAML}")
        assert await service.reload()
        assert "histories begin anew there, and those of before stay where they are" in caplog.text
        caplog.clear()
        assert await service.reload()
        assert "data_dir" not in caplog.text
    finally:
        await service.front.aclose()


async def test_samples_are_taken_by_one_house_at_a_time_and_go_on_after_a_reload(tmp_path: Path) -> None:
    """The service by itself, by the machine's own clock."""
    text = YAML.replace("every_s: 86000", "every_s: 1").replace("refresh_s: 5", "refresh_s: 0")
    settings = f"data_dir: {tmp_path / 'data'}\n{text}"
    async with house(tmp_path, settings, files=FILES, world=World()) as bridge:
        state_ = history(bridge, "lab.state")

        async def until(version: int) -> None:
            async with asyncio.timeout(HANG_S):
                while state_.view.seq < version:
                    await asyncio.sleep(0.05)

        await until(1)
        app = create_app(load_settings(tmp_path / "bridge.yaml", env={}), bridge.world, bridge.app[CACHE])
        await bridge.front.swap(app)
        bridge.app = app
        assert history(bridge, "lab.state") is state_
        await until(state_.view.seq + 2)
        samples = (await bridge.get("/api/v1/datasets/lab.state", {"from": "0", "as_of": f"v{state_.view.seq}"})).json
        times = [row["seen"] for row in samples]
        assert times == sorted(set(times))
        # One beat from the first to the last, but for the one that the new house begins with.
        assert len([gap for gap in (b - a for a, b in pairwise(times)) if gap < 800]) <= 1
