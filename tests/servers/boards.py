"""A provisioned dashboard as Grafana opens it: its panels, its variables with their first values, its view."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from bridge.cli import app
from servers.infinity import Chosen, Frame, Infinity, View

BOARD = "dashboards/bridge-datasets.json"
STATUS_BOARD = "dashboards/bridge-status.json"


def invoke(*words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `bridge provision infinity …`."""
    runner = CliRunner(env={"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "160"})
    done = runner.invoke(app, ["provision", "infinity", *words], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


async def provisioned(config: Path, into: Path, *words: str, code: int = 0, board: str = BOARD) -> dict[str, Any]:
    """The dashboard that the command writes; that of all datasets, unless another is named."""
    done = await asyncio.to_thread(invoke, "--config", str(config), "--into", str(into), *words)
    assert done[0] == code, done
    found: dict[str, Any] = json.loads((into / board).read_text(encoding="utf-8"))
    return found


def panels(board: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The panels by row and title."""
    out: dict[str, dict[str, Any]] = {}
    row = ""
    for panel in board["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        else:
            out[f"{row}/{panel['title']}"] = panel
    return out


def variables(board: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The variables by name, but for the datasource."""
    return {item["name"]: item for item in board["templating"]["list"] if item["type"] != "datasource"}


def opened(board: dict[str, Any], from_ms: int, to_ms: int, **typed: str) -> View:
    """The view on the dashboard as it opens; `typed` is what the user writes into text boxes."""
    chosen = {name: Chosen(item["current"]["value"], item.get("allValue")) for name, item in variables(board).items()}
    return View(from_ms, to_ms, variables=chosen).choosing(**typed)


def narrowed(view: View, panel: dict[str, Any]) -> View:
    """The view with the width of a point that the panel asks for; Grafana's own number is 1,000 points or so."""
    points = panel.get("maxDataPoints", 1_000)
    interval_ms = max(1, (view.to_ms - view.from_ms) // points)
    return View(view.from_ms, view.to_ms, interval_ms, view.variables)


async def shown(infinity: Infinity, panel: dict[str, Any], view: View) -> list[Frame]:
    """The frames of all queries of a panel."""
    return [await infinity.frames(target, narrowed(view, panel)) for target in panel["targets"]]


async def choices(infinity: Infinity, variable: dict[str, Any], view: View) -> list[str]:
    """The values that a picker offers."""
    frame = await infinity.frames(variable["query"]["infinityQuery"], view)
    # The plug-in needs a field even where there are no values.
    return list(frame.field("__value").values)


def pickers(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The variables that read their values."""
    return (item for item in board["templating"]["list"] if item["type"] == "query")
