"""Every panel and every picker of the written dashboard is asked of bridge as Infinity's backend asks it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.app import World
from servers.boards import choices, opened, panels, pickers, provisioned, shown, variables
from servers.house import FILES, NOW, START, YAML, Start, csv, ms, runs
from servers.infinity import Failed, Frame, Infinity, View
from servers.research import SMALL_GRID_RUNS, Container, running, wait_until

DEMO = Path(__file__).parents[2] / "examples" / "demo"
MISSING = YAML[YAML.index("      - name: missing") :]
SETTINGS = YAML.replace(MISSING, "").replace(
    "shape: auto\n        options: {path: events.csv}", "shape: annotations\n        options: {path: events.csv}"
)
# The types a panel of each kind draws; a table takes all.
NEEDED = {
    "timeseries": {"time", "number"},
    "logs": {"time", "string"},
    "nodeGraph": {"string"},
    "table": set[str](),
}


def view_of(board: dict[str, Any], **typed: str) -> View:
    return opened(board, ms(START), ms(NOW) + 1, **typed)


def check(name: str, panel: dict[str, Any], frames: list[Frame], *, empty: bool = False) -> None:
    """Rows, and fields of the types the panel draws."""
    if empty:
        assert [frame.fields for frame in frames] == [[]]
        return
    for frame in frames:
        types = {item.type for item in frame.fields}
        assert frame.rows, f"{name} shows nothing"
        assert types >= NEEDED[panel["type"]], f"{name} has {types}"
    metas = [frame.meta for frame in frames]
    match panel["type"]:
        case "timeseries":
            assert metas == ["timeseries-wide"]
            assert "string" not in {item.type for item in frames[0].fields}
        case "logs":
            assert metas == ["log-lines"]
        case "nodeGraph":
            assert [frame.ref_id for frame in frames] == ["nodes", "edges"]
            assert metas == ["nodeGraph", "nodeGraph"]
            assert {"id", "source", "target"} <= {item.name for item in frames[1].fields}


async def test_every_panel_has_rows_and_no_error(start: Start, session: aiohttp.ClientSession) -> None:
    bridge = await start(SETTINGS)
    board = await provisioned(bridge.folder / "bridge.yaml", bridge.folder / "g", "--url", bridge.url)
    infinity, view = Infinity(bridge.url, session), view_of(board, model_file="svm")
    found = panels(board)
    assert sorted(panel["type"] for panel in found.values()) == [
        *("logs", "nodeGraph", "table", "table", "table", "table", "table"),
        *("timeseries", "timeseries", "timeseries", "timeseries"),
    ]
    for name, panel in found.items():
        check(name, panel, await shown(infinity, panel, view), empty=name == "lab/empty")


async def test_a_line_for_every_series_and_measure(start: Start, session: aiohttp.ClientSession) -> None:
    bridge = await start(SETTINGS)
    board = await provisioned(bridge.folder / "bridge.yaml", bridge.folder / "g", "--url", bridge.url)
    infinity, view = Infinity(bridge.url, session), view_of(board)
    found = panels(board)
    [frame] = await shown(infinity, found["lab/runs: accuracy"], view)
    lines = {tuple(item.labels.values()): [v for v in item.values if v is not None] for item in frame.fields[1:]}
    assert lines == {
        (model, str(size)): [row["accuracy"] for row in runs() if (row["model"], row["size"]) == (model, size)]
        for model in ("knn", "mlp", "svm")
        for size in (10, 20)
    }
    [rows] = await shown(infinity, found["lab/runs: rows"], view)
    assert rows.field("note").values == [row["note"] for row in runs()]
    assert rows.field("size").type == "number"


async def test_annotations_are_marks_on_all_panels(start: Start, session: aiohttp.ClientSession) -> None:
    bridge = await start(SETTINGS)
    board = await provisioned(bridge.folder / "bridge.yaml", bridge.folder / "g", "--url", bridge.url)
    [annotation] = board["annotations"]["list"]
    frame = await Infinity(bridge.url, session).frames(annotation["target"], view_of(board))
    types = {item.name: item.type for item in frame.fields}
    assert types == {"time": "time", "timeEnd": "time", **dict.fromkeys(("title", "text", "tags"), "string")}
    assert frame.field("text").values == ["new model", "by hand"]


async def test_a_picker_offers_the_values_of_all_datasets_that_have_the_dimension(
    start: Start, session: aiohttp.ClientSession
) -> None:
    files = {**FILES, "empty.csv": "time,model,accuracy\n2026-01-31T10:00:00Z,forest,0.5\n"}
    bridge = await start(SETTINGS, files=files)
    board = await provisioned(bridge.folder / "bridge.yaml", bridge.folder / "g", "--url", bridge.url)
    infinity, view = Infinity(bridge.url, session), view_of(board)
    found = {item["name"]: await choices(infinity, item, view) for item in pickers(board)}
    assert sorted(found.pop("model")) == ["forest", "knn", "mlp", "svm"]
    assert found.pop("size") == ["10", "20"]
    assert found.pop("text") == ["Mlp", "Svm"]
    assert found == {"level": ["error", "info"], "host": ["a", "b"], "value": ["1", "2", "3"]}


async def test_a_choice_narrows_every_panel_of_its_source_and_all_narrows_none(
    start: Start, session: aiohttp.ClientSession
) -> None:
    bridge = await start(SETTINGS)
    board = await provisioned(bridge.folder / "bridge.yaml", bridge.folder / "g", "--url", bridge.url)
    infinity, panel = Infinity(bridge.url, session), panels(board)["lab/runs: rows"]

    async def models(**chosen: list[str]) -> set[tuple[str, float]]:
        [frame] = await shown(infinity, panel, view_of(board).choosing(**chosen))
        if not frame.fields:
            return set()
        return set(zip(frame.field("model").values, frame.field("size").values, strict=True))

    everything = {(model, size) for model in ("svm", "mlp", "knn") for size in (10.0, 20.0)}
    assert await models() == everything
    assert await models(model=["svm"]) == {("svm", 10.0), ("svm", 20.0)}
    assert await models(model=["svm", "mlp"], size=["20"]) == {("svm", 20.0), ("mlp", 20.0)}
    assert await models(model=["$__all"], size=["10", "20"]) == everything
    assert await models(model=["nobody"]) == set()


ODD = ["a,b", "a", "b", "(a|b)", "x.y", "xzy", 'say "hi"', "back\\slash", "{a,b}", "$5", "ü ß"]


async def test_values_are_taken_as_they_are_whatever_signs_they_hold(
    start: Start, session: aiohttp.ClientSession
) -> None:
    lines = "\n".join(f'{index},"{value.replace(chr(34), chr(34) * 2)}"' for index, value in enumerate(ODD))
    text = """
sources:
  - name: lab
    kind: files
    datasets:
      - name: odd
        options: {path: odd.csv}
        columns: [{name: n, type: number}, {name: kind, type: string, role: dimension}]
"""
    bridge = await start(text, files={"odd.csv": f"n,kind\n{lines}\n"})
    board = await provisioned(bridge.folder / "bridge.yaml", bridge.folder / "g", "--url", bridge.url)
    infinity, view = Infinity(bridge.url, session), view_of(board)
    assert sorted(await choices(infinity, variables(board)["kind"], view)) == sorted(ODD)
    for chosen in [*([value] for value in ODD), ["a,b", "x.y"], ODD]:
        [frame] = await shown(infinity, panels(board)["lab/odd"], view.choosing(kind=chosen))
        assert frame.field("kind").values == [value for value in ODD if value in chosen]


async def test_all_shows_the_rows_whose_dimension_is_empty(start: Start, session: aiohttp.ClientSession) -> None:
    text = """
sources:
  - name: lab
    kind: files
    datasets:
      - name: rows
        options: {path: rows.json}
        columns:
          - {name: n, type: number}
          - {name: model, type: string, role: dimension}
          - {name: size, type: number, role: dimension}
          - {name: limit, type: string, role: dimension}
"""
    rows = '[{"n": 1, "model": "svm", "size": 1, "limit": "x"}, {"n": 2}]'
    bridge = await start(text, files={"rows.json": rows})
    board = await provisioned(bridge.folder / "bridge.yaml", bridge.folder / "g", "--url", bridge.url)
    infinity, view, panel = Infinity(bridge.url, session), view_of(board), panels(board)["lab/rows"]
    [frame] = await shown(infinity, panel, view)
    assert frame.field("n").values == [1.0, 2.0]
    for name, value in (("model", "svm"), ("size", "1"), ("limit", "x")):
        [frame] = await shown(infinity, panel, view.choosing(**{name: [value]}))
        assert frame.field("n").values == [1.0]


async def test_a_dimension_named_like_a_word_of_every_request_narrows_too(
    start: Start, session: aiohttp.ClientSession
) -> None:
    text = """
sources:
  - name: lab
    kind: files
    datasets:
      - name: rows
        options: {path: rows.csv}
        columns: [{name: n, type: number}, {name: from, type: string, role: dimension}]
"""
    bridge = await start(text, files={"rows.csv": "n,from\n1,a.b\n2,a|b\n3,axb\n"})
    board = await provisioned(bridge.folder / "bridge.yaml", bridge.folder / "g", "--url", bridge.url)
    infinity, panel = Infinity(bridge.url, session), panels(board)["lab/rows"]
    for chosen, wanted in ((["a.b"], [1.0]), (["a|b"], [2.0]), (["a.b", "axb"], [1.0, 3.0]), (["$__all"], [1, 2, 3])):
        [frame] = await shown(infinity, panel, view_of(board).choosing(**{"from": chosen}))
        assert frame.field("n").values == wanted


GIVEN = """
sources:
  - name: lab
    kind: files
    datasets:
      - name: by_model
        options: {path: "by/{param.model_file}.csv"}
        params:
          - {name: model_file, required: true, description: whose runs}
          - {name: mode, options: [fast, "slow, really"], required: true}
          - {name: tags, multi: true, options: [x, y], required: true}
        columns:
          - {name: time, type: time, role: time}
          - {name: model, type: string, role: dimension}
          - {name: accuracy, type: number, role: measure}
"""


async def test_what_a_dataset_must_be_told_is_asked_of_the_user(start: Start, session: aiohttp.ClientSession) -> None:
    named = {**FILES, 'by/say "hi".csv': csv([row for row in runs() if row["model"] == "knn"])}
    bridge = await start(GIVEN, files=named)
    board = await provisioned(bridge.folder / "bridge.yaml", bridge.folder / "g", "--url", bridge.url)
    found = variables(board)
    types = {name: item["type"] for name, item in found.items()}
    assert types == {"model_file": "textbox", "mode": "custom", "tags": "custom", "model": "query"}
    assert found["model_file"]["description"] == "whose runs"
    assert found["mode"]["query"] == r"fast,slow\, really"
    assert (found["mode"]["current"]["value"], found["tags"]["current"]["value"]) == ("fast", ["x"])
    infinity, panel = Infinity(bridge.url, session), panels(board)["lab/by_model"]
    with pytest.raises(Failed, match="needs the parameter `model_file`"):
        await shown(infinity, panel, view_of(board))
    for file, model in (("svm", "svm"), ('say "hi"', "knn")):
        view = view_of(board, model_file=file).choosing(tags=["x", "y"], mode="slow, really")
        [frame] = await shown(infinity, panel, view)
        assert {item.labels["model"] for item in frame.fields[1:]} == {model}
        assert await choices(infinity, found["model"], view) == [model]


async def test_a_series_of_many_rows_is_shown_to_its_end(start: Start, session: aiohttp.ClientSession) -> None:
    lines = "\n".join(f"{ms(START) + 100 * index},m,1,0.5,{index},n" for index in range(70_000))
    bridge = await start(SETTINGS, files={**FILES, "runs.csv": f"time,model,size,accuracy,loss,note\n{lines}\n"})
    board = await provisioned(bridge.folder / "bridge.yaml", bridge.folder / "g", "--url", bridge.url)
    infinity, view = Infinity(bridge.url, session), view_of(board)
    [frame] = await shown(infinity, panels(board)["lab/runs: loss"], view)
    assert frame.rows <= 1_000
    assert frame.fields[0].values[-1] == ms(START) + 100 * 69_999
    [rows] = await shown(infinity, panels(board)["lab/runs: rows"], view)
    assert 10 < rows.rows <= 200
    assert rows.field("time").values[-1] == ms(START) + 100 * 69_999
    assert len(infinity.requests) == 2


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    """A container that has trained every model of the small grid and rests."""
    with running("--stop-after", str(SMALL_GRID_RUNS)) as container:
        wait_until(lambda: container.ended_runs() == SMALL_GRID_RUNS)
        yield container


@pytest.mark.slow
async def test_the_demos_dashboard_shows_what_its_container_says(
    start: Start, session: aiohttp.ClientSession, container: Container
) -> None:
    text = (DEMO / "bridge.yaml").read_text(encoding="utf-8").replace("http://127.0.0.1:8010", container.url)
    bridge = await start(text, files={"data/iris.csv": (DEMO / "data" / "iris.csv").read_text()}, world=World())
    board = await provisioned(bridge.folder / "bridge.yaml", bridge.folder / "g", "--url", bridge.url)
    now_ms = ms(World().clock.now())
    infinity, view = Infinity(bridge.url, session), opened(board, now_ms - 6 * 3_600_000, now_ms + 1_000)
    found = panels(board)
    assert list(found) == [
        "/State of this data",
        *("digits/runs: accuracy, f1_macro", "digits/runs: duration_s", "digits/runs: rows"),
        *("digits/curves: train_accuracy, validation_accuracy", "digits/curves: loss", "digits/curves: rows"),
        *("digits/confusion", "digits/events", "digits/lineage", "samples/iris"),
    ]
    for name, panel in found.items():
        check(name, panel, await shown(infinity, panel, view))
    values = {item["name"]: await choices(infinity, item, view) for item in pickers(board)}
    assert values["model"] == ["forest", "mlp", "svm"]
    assert len(values["run"]) == SMALL_GRID_RUNS
    assert values["species"] == ["setosa", "versicolor", "virginica"]
    [frame] = await shown(infinity, found["digits/confusion"], view.choosing(model=["svm", "mlp"]))
    assert set(frame.field("model").values) == {"svm", "mlp"}
    [frame] = await shown(infinity, found["digits/events"], view.choosing(run=values["run"][:1]))
    assert frame.rows < len(await asyncio.to_thread(container.items, "/events"))
    [frame] = await shown(infinity, found["digits/runs: rows"], view)
    assert frame.rows == SMALL_GRID_RUNS
