"""What is measured inside one process: the functions under the answers."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import polars as pl
from cases import Sizes
from measure import alternate, here
from page import Row, row
from processes import START

from bridge.model.downsample import downsample
from bridge.model.frame import Frame
from bridge.model.render import frames_json, rows_json
from bridge.model.schema import Column, ColumnType, Role, Schema

TIME = Column("time", ColumnType.TIME, role=Role.TIME)
VALUE = Column("value", ColumnType.NUMBER, role=Role.MEASURE)
NAMES = ("svm", "mlp", "forest", "ridge")


def series(rows: int) -> Frame:
    """A time series with a value every second."""
    end = START + timedelta(seconds=rows - 1)
    times = pl.datetime_range(START, end, "1s", time_unit="us", eager=True).alias("time")
    number = pl.int_range(rows, eager=True)
    return Frame(pl.DataFrame({"time": times, "value": ((number * 37 % 1009) / 8).round(4)}), Schema((TIME, VALUE)))


def table(rows: int) -> Frame:
    """Four columns of three types."""
    model, run = Column("model", ColumnType.STRING), Column("run", ColumnType.NUMBER)
    data = series(rows).data.with_columns(
        pl.Series("model", [NAMES[n % 4] for n in range(rows)]), pl.int_range(rows).alias("run")
    )
    return Frame(data, Schema((TIME, VALUE, model, run)))


async def rows_as_json(sizes: Sizes) -> list[Row]:
    """Records."""
    frame = table(sizes.table_rows)
    records = frame.data.with_columns(pl.col("time").dt.epoch("ms")).to_dicts()
    if json.loads(rows_json(frame)) != records:
        raise SystemExit("rows_json and json.dumps write different rows")
    return [await _row(f"`rows_json`, {frame.rows:,} rows × 4", sizes, lambda: rows_json(frame), _dumps(records))]


async def frame_as_json(sizes: Sizes) -> list[Row]:
    """Columns."""
    frame = series(sizes.table_rows)
    columns = [frame.data["time"].dt.epoch("ms").to_list(), frame.data["value"].to_list()]
    if json.loads(frames_json([frame]))[0]["data"]["values"] != columns:
        raise SystemExit("frames_json and json.dumps write different values")
    what = f"`wire_frame` and orjson, {frame.rows:,} rows × 2"
    return [await _row(what, sizes, lambda: frames_json([frame]), _dumps({"data": {"values": columns}}))]


async def thinned(sizes: Sizes) -> list[Row]:
    """Fewer points, keeping extremes."""
    frame = series(sizes.points)
    times, values = frame.data["time"].dt.epoch("ms").to_list(), frame.data["value"].to_list()
    pairs = await alternate(
        here(lambda: downsample(frame, 1000, agg=None, span=None)),
        here(lambda: _extremes(times, values, 1000)),
        rounds=sizes.rounds,
        budget_s=sizes.budget_s,
    )
    note = "a Python loop that keeps the smallest and largest value of each of 500 buckets"
    return [row(f"`downsample`, {frame.rows:,} points to 1,000", pairs, note)]


def _extremes(times: list[int], values: list[float], points: int) -> list[tuple[int, float]]:
    width = max(1, len(times) // (points // 2))
    out = []
    for begin in range(0, len(times), width):
        low = high = begin
        for at in range(begin, min(begin + width, len(times))):
            if values[at] < values[low]:
                low = at
            elif values[at] > values[high]:
                high = at
        out += [(times[at], values[at]) for at in sorted({low, high})]
    return out


def _dumps(value: Any) -> Any:
    return lambda: json.dumps(value).encode()


async def _row(what: str, sizes: Sizes, ours: Any, theirs: Any) -> Row:
    pairs = await alternate(here(ours), here(theirs), rounds=sizes.rounds, budget_s=sizes.budget_s)
    return row(what, pairs, "`json.dumps` of Python lists and dictionaries that are there already")


IN_PROCESS = (rows_as_json, frame_as_json, thinned)
