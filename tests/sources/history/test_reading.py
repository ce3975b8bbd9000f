"""What was recorded is read back as if all rows had been kept in one table, however it stands on the disk."""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from past_rig import Kept, as_of, in_order, keeping, kept_dataset, told

from bridge.errors import AnswerTooLarge
from bridge.model.filters import Filter, Op
from bridge.model.frame import Frame
from bridge.model.query import Agg, Query
from bridge.model.schema import Column, ColumnType, Kind, Role, Schema, Shape
from bridge.sources.history.migration import plan
from bridge.sources.history.reading import asked
from bridge.sources.history.schema_file import SchemaFile
from bridge.sources.history.view import View
from bridge.sources.present import bind, distinct, long_rows, present, select_rows, without
from support import COLUMNS, frame_of, span, texts, where

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
    """Equal, numbers that were worked out in another order about so; what is no number is a gap like any other."""
    one, other = (None if side == "NaN" else side for side in (one, other))
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
def test_any_question_is_answered_as_from_all_rows_in_one_table(  # noqa: PLR0917 each is drawn
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


# Buckets


@pytest.mark.parametrize(
    ("agg", "shown"),
    [
        # At the instant at which the value was true, not where its bucket begins.
        (Agg.LAST, [(2, 3.0), (9, 5.0)]),
        (Agg.MEAN, [(0, 2.0), (5, 5.0)]),
        (Agg.SUM, [(0, 4.0), (5, 5.0)]),
        (Agg.COUNT, [(0, 2), (5, 1)]),
        (Agg.MIN, [(0, 1.0), (5, 5.0)]),
    ],
)
async def test_buckets_that_are_worked_out_on_disk_are_those_of_a_panel(
    tmp_path: Path, agg: Agg, shown: list[tuple[int, float]]
) -> None:
    async with keeping(tmp_path, passed_s=100) as rig:
        await rig.sample([(0, 1.0, "svm"), (2, 3.0, "svm"), (4, None, "svm"), (6, math.nan, "svm"), (9, 5.0, "svm")])
        rig.history().raw_rows = 0
        rig.source().data = frame_of([])
        [found] = await rig.desk.frames(Query("lab.runs", span=span(0, 10), max_points=2, agg=agg))
        assert told(found) == told(frame_of([(t, float(v)) for t, v in shown], found.schema.columns))
        lost = [text for text in texts(found) if "left out" in text]
        assert lost == [f"info: 3 points were left out to fit 2 per series (by {agg})"]


async def test_the_last_values_of_several_measures_have_each_their_own_instant(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset(columns=RUNS), passed_s=100) as rig:
        rig.source().data = frame({})
        values: Sample = {(0, "x", None): (1.0, None, None), (1, "x", None): (2.0, 7.0, None)}
        await rig.sample(frame({**values, (2, "x", None): (None, 8.0, None), (3, "x", None): (None, None, None)}))
        rig.history().raw_rows = 0
        query = Query("lab.runs", span=span(0, 4), max_points=1, agg=Agg.LAST)
        assert [told(one) for one in await rig.desk.frames(query)] == [
            told(frame_of([(1, 2.0)], one.schema.columns))
            if one.schema.get("value")
            else told(frame_of([(2, 8.0)], one.schema.columns))
            for one in await rig.desk.frames(query)
        ]
        # As one table a bucket has one row, at the latest of them.
        rows = await rig.desk.rows(query)
        assert rows.data.select("value", "other").rows() == [(2.0, 8.0)]
        assert rows.data["time"].to_list() == frame_of([(2, 0.0, "")]).data["time"].to_list()


async def test_a_sum_of_whole_numbers_does_not_wrap_around(tmp_path: Path) -> None:
    async with keeping(tmp_path, passed_s=100) as rig:
        large = frame_of([(t, 1.0, "svm") for t in range(4)])
        large = large.with_data(large.data.with_columns(pl.lit(2**62).alias("value")))
        await rig.sample(large)
        rig.source().data = large.with_data(large.data.clear())
        rig.history().raw_rows = 0
        query = Query("lab.runs", span=span(0, 4), max_points=1, agg=Agg.SUM)
        [found] = await rig.desk.frames(query)
        assert found.data["value"].to_list() == [2.0**64]
        await rig.sample(large.with_data(large.data.with_columns(pl.lit(2).alias("value"))))
        [found] = await rig.desk.frames(query)
        assert found.data["value"].to_list() == [8]
        assert found.data.schema["value"] == pl.Int64


@pytest.mark.parametrize("series", [("value",), ("time",)])
async def test_lines_told_apart_by_time_or_value_are_joined_from_all_rows(
    tmp_path: Path, series: tuple[str, ...]
) -> None:
    async with keeping(tmp_path, passed_s=100) as rig:
        await rig.sample([(0, 1.0, "svm"), (1, 1.0, "svm"), (2, 2.0, "svm")])
        query = Query("lab.runs", span=span(0, 4), max_points=1, agg=Agg.COUNT, series=series)
        expected = lines(await rig.desk.frames(query))
        rig.history().raw_rows = 0
        assert lines(await rig.desk.frames(query)) == expected


# Shapes that are not thinned out


@pytest.mark.parametrize("agg", [None, Agg.MEAN, Agg.MAX])
async def test_a_table_has_every_row_however_many_points_a_panel_could_draw(tmp_path: Path, agg: Agg | None) -> None:
    rows = [(t, float(t % 3), "svm") for t in range(50)]
    async with keeping(tmp_path, passed_s=100) as rig:
        await rig.sample(rows)
        rig.source().data, rig.history().raw_rows = frame_of([]), 0
        [found] = await rig.desk.frames(Query("lab.runs", span=span(0, 60), max_points=2, agg=agg, shape=Shape.TABLE))
        assert told(found) == told(frame_of(rows))


async def test_more_rows_than_one_answer_may_have_are_refused_not_cut_off(tmp_path: Path) -> None:
    rows = [(t, float(t % 3), "svm") for t in range(50)]
    async with keeping(tmp_path, passed_s=100, max_rows=60) as rig:
        await rig.sample(rows)
        rig.flush()
        await rig.sample([(t, 0.5, "svm") for t in range(50, 100)])
        rig.source().data = frame_of([])
        for query in (Query("lab.runs"), Query("lab.runs", filters=where("value>=0"), max_points=5)):
            with pytest.raises(AnswerTooLarge, match=r"lab\.runs: its history has more than 60 rows") as caught:
                await rig.desk.rows(query)
            assert "narrow the time range" in caught.value.remedy
        # Corrections are looked for among twice as many, and no more.
        await rig.sample([(t, 0.25, "svm") for t in range(50, 100)])
        rig.source().data = frame_of([])
        with pytest.raises(AnswerTooLarge):
            await rig.desk.rows(Query("lab.runs"))
        assert (await rig.desk.rows(Query("lab.runs", span=span(0, 55)))).rows == 55
        assert await rig.desk.values(Query("lab.runs"), "model") == ["svm"]


# Corrections and filters


@pytest.mark.parametrize("raw_rows", [0, 1_000])
@pytest.mark.parametrize("agg", [None, Agg.MAX, Agg.COUNT])
async def test_a_filter_never_brings_back_a_value_that_was_corrected(
    tmp_path: Path, raw_rows: int, agg: Agg | None
) -> None:
    async with keeping(tmp_path, passed_s=100) as rig:
        await rig.sample([(t, 9.0, "svm") for t in range(6)])
        await rig.sample([(t, 9.0 if t == 5 else 1.0, "svm") for t in range(6)])
        rig.flush()
        rig.source().data, rig.history().raw_rows = frame_of([]), raw_rows
        query = Query("lab.runs", span=span(0, 10), filters=where("value>5"), max_points=2, agg=agg)
        [found] = await rig.desk.frames(query)
        assert found.data["value"].to_list() == [1 if agg is Agg.COUNT else 9.0]
        # Nor does a live one that is not recorded yet.
        rig.source().data = frame_of([(5, 2.0, "svm")])
        [found] = await rig.desk.frames(query)
        assert found.data["value"].to_list() == []


async def test_a_corrected_row_stands_where_it_stood(tmp_path: Path) -> None:
    """Rows of one instant keep their order, so that an answer reads the same with each later correction."""
    async with keeping(tmp_path, passed_s=100) as rig:
        await rig.sample([(0, 1.0, "b"), (0, 2.0, "a"), (0, 3.0, "c")])
        await rig.sample([(0, 1.5, "b"), (0, 2.0, "a"), (0, 3.0, "c"), (1, 0.0, "a")])
        wanted = [(0, 1.5, "b"), (0, 2.0, "a"), (0, 3.0, "c"), (1, 0.0, "a")]
        for step in (rig.flush, rig.compact):
            assert told(await rig.desk.rows(as_of(1))) == told(frame_of(wanted))
            step()


# Log lines: several rows of one key


LOGS = (
    Column("time", ColumnType.TIME, role=Role.TIME),
    Column("host", ColumnType.STRING, role=Role.DIMENSION),
    Column("message", ColumnType.STRING),
    Column("size", ColumnType.NUMBER, role=Role.MEASURE),
)


@pytest.mark.parametrize("stored", ["segment", "table"])
@pytest.mark.parametrize(
    ("recorded", "live", "shown"),
    [
        # The far side remembers only the newest line of an instant.
        (["a", "b"], ["b"], ["a", "b"]),
        (["a", "b"], ["b", "c"], ["a", "b", "c"]),
        (["a"], ["a", "b"], ["a", "b"]),
        (["a", "a"], ["a", "a"], ["a", "a"]),
        (["a", "a"], ["a", "b"], ["a", "a", "b"]),
        # One line in place of one line is the same line, put right.
        (["a"], ["b"], ["b"]),
        (["a", "b"], [], ["a", "b"]),
    ],
)
async def test_lines_of_one_instant_are_told_apart_as_a_whole(
    tmp_path: Path, recorded: list[str], live: list[str], shown: list[str], stored: str
) -> None:
    async with keeping(tmp_path, kept_dataset(columns=LOGS), passed_s=100) as rig:
        rig.source().data = frame_of([], LOGS)
        await rig.sample(frame_of([(0, "h", text, 1.0) for text in recorded], LOGS))
        if stored == "table":
            rig.flush()
        rig.source().data = frame_of([(0, "h", text, 1.0) for text in live], LOGS)
        assert sorted((await rig.desk.rows(Query("lab.runs"))).data["message"]) == shown
        for raw_rows in (0, 100):
            rig.history().raw_rows = raw_rows
            counted = Query("lab.runs", span=span(0, 1), max_points=1, agg=Agg.COUNT)
            [found] = await rig.desk.frames(counted)
            assert found.data["size"].to_list() == [len(shown)]


async def test_a_line_that_came_after_a_correction_stays(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset(columns=LOGS), passed_s=100) as rig:
        rig.source().data = frame_of([], LOGS)
        for several in (["a"], ["b"], ["b", "c"]):
            await rig.sample(frame_of([(0, "h", text, 1.0) for text in several], LOGS))
        rig.source().data = frame_of([], LOGS)
        for step in (rig.flush, rig.compact, lambda: None):
            assert (await rig.desk.rows(Query("lab.runs"))).data["message"].to_list() == ["b", "c"]
            rig.history().raw_rows = 0
            [found] = await rig.desk.frames(
                Query("lab.runs", span=span(0, 1), max_points=1, agg=Agg.COUNT, series=("host",))
            )
            assert found.data["size"].to_list() == [2]
            step()


# Live rows that know more, or less


async def test_a_column_that_is_not_recorded_yet_is_shown_of_live_rows(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset(columns=()), passed_s=100) as rig:
        rig.source().data = frame_of([])
        await rig.sample(frame_of([(0, 1.0, "svm")]))
        more = (*frame_of([]).schema.columns, Column("new", ColumnType.NUMBER, role=Role.MEASURE))
        rig.source().data = frame_of([(5, 2.0, "svm", 7.0)], more)
        found = await rig.desk.rows(Query("lab.runs"))
        assert found.data["new"].to_list() == [None, 7.0]
        [_, drawn] = await rig.desk.frames(Query("lab.runs", span=span(0, 10), max_points=10))
        assert drawn.data["new"].to_list() == [None, 7.0]


async def test_of_several_series_one_is_pushed_down_and_recorded_rows_are_still_told_apart(tmp_path: Path) -> None:
    """Steps leave out the dimensions nobody asked for, but for those that name a row."""
    async with keeping(tmp_path, kept_dataset(columns=RUNS), passed_s=100) as rig:
        rig.source().data, rig.source().pushes = frame({}), frozenset({"columns"})
        rows: Sample = {(0, "x", 1.0): (1.0, 1.0, None), (0, "x", 2.0): (5.0, 5.0, None)}
        await rig.sample(frame(rows))
        await rig.desk.frames(
            Query("lab.runs", span=span(0, 1), columns=("value",), series=("a",), max_points=5, agg=Agg.SUM)
        )
        assert {"a", "b", "value"} <= set(rig.source().asked[-1].columns)


# Outlines: many rows, few of which are read


SECONDS = 30_000


def many(scale: float = 1.0, only: str | None = None) -> list[tuple[int, float, str]]:
    """Two series with a peak each, of enough rows that their file has an outline."""
    rows = []
    for name, phase in (("svm", 0), ("tree", 7)):
        if only in (None, name):
            rows += [(t, scale * math.sin((t + phase) / 500) + (t % 17) / 100, name) for t in range(SECONDS)]
    peaks = {(11_111, "svm"): 99.0, (11_112, "svm"): 98.0, (22_222, "tree"): -99.0, (22_230, "tree"): -98.0}
    return sorted((t, peaks.get((t, name), value), name) for t, value, name in rows)


async def outlined(rig: Kept) -> None:
    """A history in one file with an outline."""
    await rig.sample(many())
    rig.compact()
    rig.source().data, rig.history().raw_rows = frame_of([]), 5_000
    assert any(file.outline for file in rig.history().view.files)


PANEL = Query("lab.runs", span=span(-10, SECONDS + 10), max_points=100)


async def test_a_panel_of_many_rows_is_drawn_from_outlines_and_keeps_what_stands_out(tmp_path: Path) -> None:
    async with keeping(tmp_path, passed_s=40_000) as rig:
        await outlined(rig)
        svm, tree = await rig.desk.frames(PANEL)
        assert (svm.data["value"].max(), tree.data["value"].min()) == (99.0, -99.0)
        rows = many()
        for found, name in ((svm, "svm"), (tree, "tree")):
            own = {(t, v) for t, v, each in rows if each == name}
            seconds = [round((t - found.data["time"][0]).total_seconds()) for t in found.data["time"]]
            assert set(zip(seconds, found.data["value"], strict=True)) <= own
            assert 90 <= found.rows <= 100
            assert (seconds[0], seconds[-1]) == (0, SECONDS - 1)
        assert "info: Drawn from outlines that stand for about 60000 rows." in texts(svm)
        assert svm.meta.custom["lineage"]["history"] == {"version": 0, "rows": 60_000, "thinned": True}
        [only] = await rig.desk.frames(replace(PANEL, filters=where("model=tree")))
        assert only.data["value"].min() == -99.0


@pytest.mark.parametrize(
    "query",
    [
        replace(PANEL, filters=where("value<50")),
        replace(PANEL, max_points=20_000),
        replace(PANEL, span=span(11_000, 13_000)),
        replace(PANEL, agg=Agg.MAX),
        replace(PANEL, agg=Agg.MIN, series=()),
    ],
    ids=["a filter on values", "many points", "a short span", "largest values", "smallest of all series"],
)
async def test_outlines_are_not_used_where_all_rows_would_show_something_else(tmp_path: Path, query: Query) -> None:
    async with keeping(tmp_path, passed_s=40_000) as rig:
        await outlined(rig)
        kept = frame_of(many())
        bound, _ = bind(query, kept.schema)
        expected = lines(present(kept, bound, Shape.TIMESERIES, rig.limits))
        assert alike(lines(await rig.desk.frames(query)), expected)


@pytest.mark.parametrize("how", ["pending", "flushed", "compacted", "live"])
async def test_a_peak_that_was_corrected_is_gone_and_the_next_highest_stands_out(tmp_path: Path, how: str) -> None:
    async with keeping(tmp_path, passed_s=40_000) as rig:
        await outlined(rig)
        right = [(11_111, 0.5, "svm"), (22_222, 0.5, "tree")]
        if how == "live":
            rig.source().data = frame_of(right)
        else:
            await rig.sample(right)
            rig.source().data = frame_of([])
            {"pending": lambda: None, "flushed": rig.flush, "compacted": rig.compact}[how]()
        svm, tree = await rig.desk.frames(PANEL)
        assert (svm.data["value"].max(), tree.data["value"].min()) == (98.0, -98.0)
        before, _ = await rig.desk.frames(as_of(0, PANEL))
        assert before.data["value"].max() == 99.0


async def test_where_too_much_was_corrected_no_corrected_value_is_shown(tmp_path: Path) -> None:
    async with keeping(tmp_path, passed_s=40_000, max_rows=50_000) as rig:
        rig.source().data = frame_of([])
        for name in ("svm", "tree"):
            await rig.sample(many(only=name))
            rig.flush()
        rig.compact()
        await rig.sample([(11_111, 0.5, "svm"), (22_222, 0.5, "tree")])
        rig.source().data, rig.history().raw_rows = frame_of([]), 5_000
        svm, tree = await rig.desk.frames(PANEL)
        assert 99.0 not in svm.data["value"].to_list()
        assert -99.0 not in tree.data["value"].to_list()


async def test_rows_of_a_long_history_are_thinned_out_as_well(tmp_path: Path) -> None:
    async with keeping(tmp_path, passed_s=40_000) as rig:
        await outlined(rig)
        found = await rig.desk.rows(PANEL)
        assert 180 <= found.rows <= 200
        assert {99.0, -99.0} <= set(found.data["value"])


async def test_a_series_that_fits_the_panel_is_shown_as_it_is_beside_one_that_does_not(tmp_path: Path) -> None:
    rows = [(t, float(t), "dense") for t in range(40)] + [(7, 1.0, "rare"), (8, 3.0, "rare")]
    async with keeping(tmp_path, passed_s=100) as rig:
        await rig.sample(rows)
        rig.source().data, rig.history().raw_rows = frame_of([]), 0
        query = Query("lab.runs", span=span(0, 40), max_points=4, agg=Agg.MEAN)
        dense, rare = await rig.desk.frames(query)
        assert dense.data["value"].to_list() == [4.5, 14.5, 24.5, 34.5]
        assert told(rare) == told(frame_of([(7, 1.0), (8, 3.0)], rare.schema.columns))


@pytest.mark.parametrize("agg", [None, Agg.COUNT])
async def test_live_rows_without_a_time_hide_nothing(tmp_path: Path, agg: Agg | None) -> None:
    async with keeping(tmp_path, passed_s=100) as rig:
        await rig.sample([(t, 1.0, "svm") for t in range(9)])
        rig.source().data, rig.history().raw_rows = frame_of([(None, 2.0, "svm")]), 0
        [found] = await rig.desk.frames(Query("lab.runs", span=span(0, 10), max_points=1, agg=agg, series=()))
        assert found.data["value"].to_list() == ([1.0] if agg is None else [9])
        assert (await rig.desk.rows(Query("lab.runs"))).rows == 10


async def test_an_outline_is_not_that_of_a_part_of_its_file(tmp_path: Path) -> None:
    """Of a file that holds later samples as well, the rows that were known then are looked at one by one."""
    async with keeping(tmp_path, passed_s=40_000) as rig:
        await rig.sample(many(only="tree"))
        then = rig.clock.now()
        # So near to the peak that an outline of all has this one in its place.
        await rig.sample([(22_230, -500.0, "tree"), (11_111, 200.0, "late"), *many(only="svm")])
        rig.compact()
        rig.source().data, rig.history().raw_rows = frame_of([]), 5_000
        assert [file.outline is not None for file in rig.history().view.files] == [True]
        for query in (as_of(0, PANEL), replace(PANEL, as_of=then)):
            [tree] = await rig.desk.frames(query)
            assert tree.data["value"].min() == -99.0
            assert dict(tree.labels) == {"model": "tree"}
        assert len(await rig.desk.frames(as_of(1, PANEL))) == 3


async def test_where_nothing_was_recorded_there_is_no_past(tmp_path: Path) -> None:
    async with keeping(tmp_path) as rig:
        wanted = asked(Query("lab.runs"), frame_of([]).schema, 10, drawn=False, thin=False)
        assert rig.history().table.read(View(), wanted, None) is None
        assert await rig.history().read(View(), wanted, None) is None


async def test_after_a_migration_old_files_are_found_by_the_time_that_rows_have_now(
    tmp_path: Path,
) -> None:
    """Their bounds are those of the time of before: neither they nor the outlines say anything of this one."""
    later_s = 100_000
    then = (*COLUMNS, Column("done", ColumnType.TIME))
    now = (replace(COLUMNS[0], role=None), *COLUMNS[1:], Column("done", ColumnType.TIME, role=Role.TIME))

    def both(rows: list[tuple[int, float, str]], columns: tuple[Column, ...]) -> Frame:
        return frame_of([(*row, row[0] + later_s) for row in rows], columns)

    async with keeping(tmp_path, kept_dataset(columns=()), passed_s=140_000) as rig:
        rig.source().data = both([], then)
        await rig.sample(both(many(), then))
        rig.compact()
        file = SchemaFile(tmp_path / "history" / "lab.runs")
        known = file.load()
        assert known is not None
        kinds = {"time": "time", "value": "number", "model": "string", "done": "time"}
        file.migrate(plan(known, Schema(now), kinds, {}), rig.clock.now())
        await rig.sample(both([(11_111, 0.5, "svm"), (22_222, 0.5, "tree")], now))
        rig.source().data, rig.history().raw_rows = both([], now), 5_000
        query = Query("lab.runs", span=span(later_s, later_s + SECONDS), max_points=100)
        for asked_ in (query, replace(query, span=None)):
            svm, tree = await rig.desk.frames(asked_)
            assert (svm.data["value"].max(), tree.data["value"].min()) == (98.0, -98.0)
        counted = replace(query, agg=Agg.COUNT, max_points=1)
        assert [one.data["value"].to_list() for one in await rig.desk.frames(counted)] == [[SECONDS], [SECONDS]]
        early = replace(query, span=span(later_s + 11_110, later_s + 11_113), filters=where("model=svm"))
        [few] = await rig.desk.frames(early)
        assert few.data["value"].to_list()[1:] == [0.5, 98.0]
        assert (await rig.desk.rows(Query("lab.runs", span=span(0, 20)))).rows == 0
