"""Tables with thousands of columns: answered in good time, or refused with a sentence; never a standstill."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.render import frames_json, rows_json
from bridge.model.schema import Column, ColumnType, Schema
from bridge.sources.base import MAX_COLUMNS
from bridge.sources.builtin.files.content import Piece
from bridge.sources.builtin.files.inferred import settled
from bridge.sources.checks import SchemaValidator
from bridge.sources.present import bind
from bridge.sources.table import typed
from bridge.sources.work import COLUMN_ROWS, THREAD_CELLS, cells
from servers.house import House, Reply, house

COLUMNS, ROWS = 4_000, 20
# Many times what it takes; work that grows with the square of the columns takes many times this.
CPU_S = 5.0
LAG_S = 1.0

TEXT = """
limits: {deadline_s: 50}
sources:
  - name: lab
    kind: files
    datasets:
      - {name: wide, options: {path: wide.csv}, refresh_s: 600}
      - {name: wider, options: {path: wider.csv}, refresh_s: 600, retries: 0}
"""


def table(columns: int, rows: int = ROWS) -> str:
    """A time, a host and numbers."""
    names = ["time", "host", *(f"value_{n}" for n in range(columns - 2))]
    values = [
        [f"2026-01-31T11:{row:02}:00Z", f"host{row}", *map(str, range(row, row + columns - 2))] for row in range(rows)
    ]
    lines = [",".join(line) for line in (names, *values)]
    return "\n".join(lines) + "\n"


FILES = {"wide.csv": table(COLUMNS), "wider.csv": table(2 * MAX_COLUMNS)}


async def watched(house: House, work: Awaitable[Reply]) -> tuple[Reply, float, float]:
    """The answer, the CPU seconds it took, and the longest that a turn of the loop and `/healthz` took meanwhile."""
    lags_s = [0.0]
    done = asyncio.Event()

    async def watch() -> None:
        while not done.is_set():
            began_s = time.monotonic()
            assert (await house.get("/healthz")).status == 200
            lags_s.append(time.monotonic() - began_s)
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    began_s = time.process_time()
    reply = await work
    used_s = time.process_time() - began_s
    done.set()
    await watching
    return reply, used_s, max(lags_s)


def panel(kind: str) -> dict[str, Any]:
    return {
        "targets": [{"refId": "A", "target": "lab.wide", "payload": {"series": "none"}}],
        "range": {"from": "2026-01-31T11:00:00Z", "to": "2026-01-31T12:00:00Z"},
        "maxDataPoints": 1_000,
        "panelPluginId": kind,
    }


Ask = Callable[[House], Awaitable[Reply]]
DATA = "/api/v1/datasets/lab.wide"
WAYS: dict[str, Ask] = {
    "rows": lambda bridge: bridge.get(DATA),
    "page": lambda bridge: bridge.get(DATA, {"format": "page", "limit": 5}),
    "frame": lambda bridge: bridge.get(DATA, {"format": "frame", "series": "none"}),
    "frame as a table": lambda bridge: bridge.get(DATA, {"format": "frame", "shape": "table"}),
    "csv": lambda bridge: bridge.get(DATA, {"format": "csv"}),
    "arrow": lambda bridge: bridge.get(DATA, {"format": "arrow"}),
    "table panel": lambda bridge: bridge.post("/json/query", panel("table")),
    "time series panel": lambda bridge: bridge.post("/json/query", panel("timeseries")),
    "batch": lambda bridge: bridge.post(
        "/api/v1/batch", {"queries": [{"dataset": "lab.wide", "params": {"shape": "table"}}]}
    ),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_table_of_thousands_of_columns_answers_in_every_format(tmp_path: Path, way: str) -> None:
    async with house(tmp_path, TEXT, files=FILES) as bridge:
        await bridge.get(f"{DATA}/schema")
        reply, used_s, lag_s = await watched(bridge, WAYS[way](bridge))
        assert reply.status == 200, reply.text[:500]
        assert f"value_{COLUMNS - 3}".encode() in reply.body
        assert used_s < CPU_S
        assert lag_s < LAG_S


class Counted(ThreadPoolExecutor):
    """A pool that says how often it was used."""

    used = 0

    def submit(self, *args: Any, **more: Any) -> Any:
        self.used += 1
        return super().submit(*args, **more)


@pytest.mark.parametrize("way", WAYS)
async def test_a_wide_answer_is_chosen_and_written_on_threads_however_few_its_rows(tmp_path: Path, way: str) -> None:
    async with house(tmp_path, TEXT, files=FILES) as bridge:
        await bridge.get(DATA)
        with Counted(4) as pool:
            asyncio.get_running_loop().set_default_executor(pool)
            assert (await WAYS[way](bridge)).status == 200
            assert pool.used == 2


async def test_reading_such_a_table_leaves_the_service_free(tmp_path: Path) -> None:
    async with house(tmp_path, TEXT, files=FILES) as bridge:
        reply, used_s, lag_s = await watched(bridge, bridge.get(f"{DATA}/schema"))
        assert len(reply.json["columns"]) == COLUMNS
        assert used_s < 2 * CPU_S
        assert lag_s < LAG_S


async def test_more_columns_than_an_answer_may_have_are_refused_with_what_to_do(tmp_path: Path) -> None:
    async with house(tmp_path, TEXT, files=FILES) as bridge:
        reply, _, lag_s = await watched(bridge, bridge.get("/api/v1/datasets/lab.wider"))
        assert reply.json["code"] == "answer_too_large"
        assert f"{2 * MAX_COLUMNS} columns, more than the {MAX_COLUMNS} allowed" in reply.json["error"]
        assert "declare the `columns` you need" in reply.json["remedy"]
        assert lag_s < LAG_S


def wide_frame(kind: ColumnType, columns: int = COLUMNS) -> Frame:
    value = {"number": 1.5, "string": "a"}[kind]
    names = [f"c{n}" for n in range(columns)]
    data = pl.DataFrame([pl.Series(name, [value] * ROWS) for name in names])
    return Frame(data, Schema(tuple(Column(name, kind) for name in names)))


MANY = 5 * COLUMNS


def asked_by_name(frame: Frame) -> None:
    bound, _ = bind(Query("lab.wide", columns=frame.schema.names, series=frame.schema.names), frame.schema)
    assert frame.select(bound.columns).schema == frame.schema


def checked(frame: Frame) -> None:
    assert [*SchemaValidator(frame.schema.columns).check(frame)] == []


def typed_as_declared(frame: Frame) -> None:
    assert typed(frame.data.head(0), frame.schema.columns)[0].width == MANY


def inferred_again(frame: Frame) -> None:
    # Booleans, as their values say at once what they are.
    table = frame.data.head(1).select(pl.all() > 0)
    known, _ = settled("wide", [], None, [Piece(frame.schema.names, table)])
    assert settled("wide", [], known, [Piece(frame.schema.names, table)]) == (known, ())


def written(frame: Frame) -> None:
    assert len(rows_json(frame)) > MANY
    assert len(frames_json([frame])) > MANY


@pytest.mark.parametrize(
    ("step", "most_s"),
    [(asked_by_name, 1.0), (checked, CPU_S), (typed_as_declared, CPU_S), (inferred_again, CPU_S), (written, CPU_S)],
)
def test_no_step_costs_more_than_in_proportion_to_the_columns(step: Callable[[Frame], None], most_s: float) -> None:
    frame = wide_frame(ColumnType.NUMBER, MANY)
    began_s = time.thread_time()
    step(frame)
    assert time.thread_time() - began_s < most_s


def test_a_frame_counts_its_columns_also_where_it_has_hardly_a_row() -> None:
    frame = wide_frame(ColumnType.NUMBER, 100)
    assert cells(frame) == 100 * COLUMN_ROWS
    assert cells(frame, frame) == 2 * cells(frame)
    assert cells(wide_frame(ColumnType.NUMBER)) > THREAD_CELLS
    assert cells(frame.with_data(pl.concat([frame.data] * 10))) == 100 * 10 * ROWS
