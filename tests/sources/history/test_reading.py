"""What was recorded is read back as if all rows had been kept in one table, however it stands on the disk."""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import AnswerTooLarge
from bridge.model.filters import Filter, Op
from bridge.model.frame import Frame
from bridge.model.query import Agg, Query
from bridge.model.schema import Column, ColumnType, Kind, Role, Shape
from bridge.sources.present import bind, long_rows, present, select_rows
from bridge.sources.registry import Keeping
from past_rig import KEEP_S, Kept, as_of, in_order, kept_dataset, keeping, told
from support import frame_of, span, texts, where

RUNS = (
    Column("time", ColumnType.TIME, role=Role.TIME),
    Column("a", ColumnType.STRING, role=Role.DIMENSION),
    Column("value", ColumnType.NUMBER, unit="s", role=Role.MEASURE),
    Column("other", ColumnType.NUMBER, role=Role.MEASURE, kind=Kind.COUNTER),
    Column("b", ColumnType.NUMBER, role=Role.DIMENSION),
    Column("note", ColumnType.STRING),
)
Key = tuple[int, str | None, float | None]
Values = tuple[float | None, float | None, str | None]
Sample = Mapping[Key, Values]

SERIES = [("x", 1.0), ("x", None), (None, 1.0), ("y", 2.0)]
NUMBERS = st.one_of(st.integers(-5, 5).map(float), st.floats(-1e6, 1e6), st.sampled_from([None, math.nan]))
VALUES = st.tuples(NUMBERS, NUMBERS, st.sampled_from(["n", "m", None]))


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    """Rows of a stretch of time, of some series; stretches of several samples overlap, so that rows are corrected."""
    start, length = draw(st.integers(0, 19)), draw(st.integers(0, 20))
    few = draw(st.lists(VALUES, min_size=1, max_size=5))
    chosen = draw(st.lists(st.sampled_from(SERIES), min_size=1, max_size=2, unique=True))
    step = draw(st.integers(1, 3))
    keys = [(t, *pair) for t in range(start, min(20, start + length), step) for pair in chosen]
    return {key: few[index % len(few)] for index, key in enumerate(keys)}


SAMPLES = samples()
FILTERS = st.sampled_from(
    [
        (),
        where("a=x"),
        where("a!=x"),
        where("b=1"),
        where("value>0"),
        where("note=n"),
        (*where("a=y"), *where("other<=1")),
        (Filter("a", Op.RE, ("x|y",)),),
    ]
)


@dataclass
class Model:
    """All rows in memory, and what was known of them with each sample that brought something new."""

    rows: dict[Key, Values] = field(default_factory=dict)
    versions: list[dict[Key, Values]] = field(default_factory=list)

    def record(self, sample: Sample) -> None:
        if any(key not in self.rows or self.rows[key] != values for key, values in sample.items()):
            self.rows = {**self.rows, **sample}
            self.versions.append(self.rows)


def frame(rows: Sample) -> Frame:
    """The rows as a source gives them."""
    return frame_of([(t, a, v, o, b, n) for (t, a, b), (v, o, n) in rows.items()], RUNS, "lab.runs")


def lines(frames: list[Frame]) -> dict[tuple[Any, ...], list[tuple[Any, ...]]]:
    """The values of each series."""
    return {
        (*sorted(one.labels.items()), one.schema.columns[1].name, one.schema.columns[1].unit): told(one)
        for one in frames
        if one.rows
    }


def alike(one: Any, other: Any) -> bool:
    """Equal, numbers that were worked out in another order about so."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-6)
    return bool(one == other)


async def play(rig: Kept, model: Model, ops: list[Sample | str]) -> None:
    """Records, flushes and merges as the script says."""
    for op in ops:
        if op == "flush":
            rig.flush()
        elif op == "compact":
            rig.compact()
        elif not isinstance(op, str):
            await rig.sample(frame(op))
            model.record(op)


async def compared(rig: Kept, rows: Sample, query: Query) -> None:
    """The desk's frames and rows against those of the model's rows."""
    keeper = rig.keeper()
    assert keeper.schema is not None
    bound, _ = bind(query, keeper.schema)
    all_rows = frame(dict(sorted(rows.items(), key=lambda item: item[0][0])))
    shown = lines(present(all_rows, bound, Shape.TIMESERIES, rig.limits))
    assert alike(lines(await rig.desk.frames(replace(query, shape=Shape.TIMESERIES))), shown), query
    [table] = await rig.desk.frames(replace(query, shape=Shape.TABLE))
    [expected] = present(all_rows, bound, Shape.TABLE, rig.limits)
    assert in_order(table.data) == in_order(expected.data), query
    plain = replace(query, max_points=None)
    assert in_order((await rig.desk.rows(plain)).data) == in_order(
        long_rows(select_rows(all_rows, bound), replace(bound, max_points=None), rig.limits).data
    ), query
    long = long_rows(select_rows(all_rows, bound), bound, rig.limits)
    found = await rig.desk.rows(query)
    if query.agg is not None:
        names = found.data.columns
        assert alike(in_order(found.data), in_order(long.data.select(names))), query
    for column in ("a", "note", "b"):
        assert await rig.desk.values(query, column) == await _values(rig, all_rows, query, column), query


async def _values(rig: Kept, rows: Frame, query: Query, column: str) -> list[str]:
    from bridge.sources.present import distinct, without

    bound, _ = bind(without(query, column), rows.schema)
    return distinct(rows, column, bound, 5_000)


@settings(max_examples=60, deadline=None)
@given(
    ops=st.lists(st.one_of(SAMPLES, SAMPLES, st.sampled_from(["flush", "compact"])), min_size=1, max_size=7),
    live=st.one_of(st.none(), SAMPLES),
    filters=FILTERS,
    columns=st.sampled_from([(), ("value",), ("value", "note"), ("other",)]),
    series=st.sampled_from([None, None, ("a", "b"), ("b", "a")]),
    agg=st.sampled_from([None, *Agg]),
    max_points=st.integers(1, 6),
    bounds=st.sampled_from([span(0, 20), span(3, 15), span(5, 6), span(-100, 100), None]),
    raw_rows=st.sampled_from([0, 10**6]),
    version=st.integers(0, 6),
)
def test_any_question_is_answered_as_from_all_rows_in_one_table(  # noqa: PLR0913 what is drawn is what is asked
    ops: list[Sample | str],
    live: Sample | None,
    filters: tuple[Filter, ...],
    columns: tuple[str, ...],
    series: tuple[str, ...] | None,
    agg: Agg | None,
    max_points: int,
    bounds: Any,
    raw_rows: int,
    version: int,
) -> None:
    """Recorded, pending and live rows; corrections, late rows, empty dimensions; as lines, table, rows and values."""
    query = Query(
        "lab.runs", span=bounds, filters=filters, columns=columns, series=series, agg=agg, max_points=max_points
    )

    async def scenario(folder: Path) -> None:
        async with keeping(folder, kept_dataset(columns=RUNS), passed_s=100) as rig:
            model = Model()
            rig.source().data = frame({})
            await play(rig, model, ops)
            rig.history().raw_rows = raw_rows
            if live is not None:
                rig.source().data = frame(live)
            await compared(rig, {**model.rows, **(live or {})}, query)
            if version < len(model.versions):
                await compared(rig, model.versions[version], as_of(version, query))

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder)))
