"""FastAPI endpoints over pandas for Grafana's JSON plug-in, as people write them.

Runs in a virtual environment of its own, by uvicorn with one worker: `python fastapi_pandas.py POINTS.npz`.
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import pandas as pd
import uvicorn
from fastapi import FastAPI
from held import frame
from pydantic import BaseModel, Field

app = FastAPI()
df = frame(sys.argv[1])


class Range(BaseModel):
    """The dashboard's time range."""

    start: datetime = Field(alias="from")
    end: datetime = Field(alias="to")


class Target(BaseModel):
    """One query of a panel."""

    target: str


class Panel(BaseModel):
    """A panel's request, as far as it is looked at."""

    range: Range
    targets: list[Target]
    interval_ms: int = Field(1000, alias="intervalMs")
    points: int = Field(1000, alias="maxDataPoints")


def between(span: Range) -> pd.DataFrame:
    """The rows of the range."""
    return df[(df["time"] >= span.start) & (df["time"] < span.end)]


def datapoints(panel: Panel) -> list[dict[str, Any]]:
    """`[value, milliseconds]` of each row; of too many rows the means."""
    rows = between(panel.range).set_index("time")
    if len(rows) > panel.points:
        rows = rows.resample(f"{panel.interval_ms}ms").mean()
    rows = rows.dropna().reset_index()
    rows["time"] = rows["time"].astype("datetime64[ms, UTC]").astype("int64")
    return [{"target": item.target, "datapoints": rows[["value", "time"]].values.tolist()} for item in panel.targets]


@app.post("/query")
def query(panel: Panel):
    """What the guides do: plain values are returned, and FastAPI encodes them."""
    return datapoints(panel)


@app.post("/typed")
def typed(panel: Panel) -> list[dict[str, Any]]:
    """The same with a return type, by which FastAPI lets pydantic write the JSON at once."""
    return datapoints(panel)


@app.post("/records")
def records(panel: Panel):
    """Row by row, as the guides do it for tables."""
    return between(panel.range).to_dict(orient="records")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=0)
