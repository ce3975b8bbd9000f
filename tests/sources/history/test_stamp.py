"""A dataset without a time becomes a series by the time of its samples; its source never hears of that column."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from past_rig import KEEP_S, keeping, kept_dataset, told

from bridge.errors import SchemaMismatch
from bridge.model.query import Agg, Query
from bridge.model.schema import Column, ColumnType, Role, Schema, Shape
from bridge.sources.history.stamp import stamped, stamped_schema, unstamped
from bridge.sources.registry import Keeping, Plugin, SourceConfig
from bridge.sources.transform.options import Step
from support import StubSource, at, frame_of, span, texts, where

STATE = (
    Column("service", ColumnType.STRING, role=Role.DIMENSION),
    Column("load", ColumnType.NUMBER, role=Role.MEASURE),
)
HELD = Keeping(KEEP_S, 60.0, time="seen")
Q = Query("lab.runs")


def test_the_time_stands_before_the_other_columns() -> None:
    schema = stamped_schema(Schema(STATE, 3), HELD)
    assert (schema.names, schema.version) == (("seen", "service", "load"), 3)
    assert schema.time is not None
    assert (schema.time.name, schema.time.type) == ("seen", ColumnType.TIME)
    assert stamped_schema(schema, HELD) is schema
    made = stamped(frame_of([("a", 1.0)], STATE), HELD, at(5))
    assert told(made) == [(at(5), "a", 1.0)]
    assert made.schema == stamped_schema(Schema(STATE), HELD)


@pytest.mark.parametrize("keeping_", [None, Keeping(KEEP_S, 60.0)])
def test_without_it_nothing_changes(keeping_: Keeping | None) -> None:
    frame, query = frame_of([("a", 1.0)], STATE), replace(Q, filters=where("seen=1"))
    assert stamped(frame, keeping_, at(5)) is frame
    assert stamped_schema(frame.schema, keeping_) is frame.schema
    assert unstamped(query, keeping_) is query


@pytest.mark.parametrize(
    ("columns", "said", "remedy"),
    [
        ((Column("time", ColumnType.TIME, role=Role.TIME), *STATE), "`time`", "leave out `history.time`"),
        ((Column("seen", ColumnType.STRING), *STATE), "`seen`", "choose another name"),
    ],
)
def test_a_dataset_that_has_a_time_or_such_a_column_is_told_so(
    columns: tuple[Column, ...], said: str, remedy: str
) -> None:
    frame = frame_of([], columns, "lab.runs")
    with pytest.raises(SchemaMismatch, match=rf"`lab\.runs` has the column {said}, so `history\.time`") as caught:
        stamped(frame, HELD, at(0))
    assert caught.value.remedy == remedy


async def test_a_source_that_turns_out_to_have_a_time_is_told_so_as_well(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset(columns=(), keeping=HELD)) as rig:
        with pytest.raises(SchemaMismatch, match="has the column `time`"):
            await rig.desk.rows(Q)
        assert rig.keeper().status().state == "down"


async def test_a_table_becomes_a_series(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset(columns=STATE, keeping=HELD)) as rig:
        for load in (1.0, 2.0, 2.0):
            await rig.sample([("a", load), ("b", 0.0)])
        rig.clock.advance(60)
        one, two = await rig.desk.frames(replace(Q, span=span(0, 300), max_points=100))
        assert (dict(one.labels), dict(two.labels)) == ({"service": "a"}, {"service": "b"})
        # Three samples, and what is live now.
        assert told(one) == [(at(60), 1.0), (at(120), 2.0), (at(180), 2.0), (at(240), 2.0)]
        assert told((await rig.desk.frames(replace(Q, span=span(0, 200), max_points=1, agg=Agg.SUM)))[0]) == [
            (at(0), 5.0)
        ]
        assert rig.keeper().schema == stamped_schema(Schema(STATE), HELD)
        assert (await rig.desk.schema("lab.runs")).names == ("seen", "service", "load")


@pytest.mark.parametrize(
    "query",
    [
        replace(Q, span=span(0, 1_000)),
        replace(Q, filters=where("seen>2020-01-01", "service=a")),
        replace(Q, adhoc=where("seen>2020-01-01", "service=a")),
        replace(Q, columns=("seen", "load")),
        replace(Q, series=("seen", "service")),
        replace(Q, columns=("seen",), shape=Shape.TABLE),
    ],
)
async def test_the_source_never_hears_of_it(tmp_path: Path, query: Query) -> None:
    pushed = frozenset({"span", "filters", "adhoc", "columns", "series"})
    async with keeping(tmp_path, kept_dataset(columns=STATE, keeping=HELD)) as rig:
        await rig.sample([("a", 1.0)])
        rig.source().pushes = pushed
        for ask in (rig.desk.rows, rig.desk.frames):
            await ask(query)
        await rig.desk.values(query, "service")
        for asked in rig.source().asked:
            named = {item.column for item in (*asked.filters, *asked.adhoc)} | {*asked.columns, *(asked.series or ())}
            assert "seen" not in named
            assert asked.span is None


async def test_filters_by_it_choose_among_the_samples(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset(columns=STATE, keeping=HELD)) as rig:
        for load in (1.0, 2.0, 3.0):
            await rig.sample([("a", load)])
        found = await rig.desk.rows(replace(Q, filters=where(f"seen<{at(150).isoformat()}")))
        assert [row[2] for row in told(found)] == [1.0, 2.0]
        assert not texts(found)


async def test_after_steps_it_is_there_as_well(tmp_path: Path) -> None:
    step = Step.model_validate({"derive": {"double": "load * 2"}})
    async with keeping(tmp_path, kept_dataset(columns=STATE, keeping=HELD, steps=(step,))) as rig:
        await rig.sample([("a", 1.0)])
        rig.clock.advance(60)
        assert told(await rig.desk.rows(Q)) == [(at(60), "a", 1.0, 2.0), (at(120), "a", 1.0, 2.0)]
        query = replace(Q, columns=("double",), span=span(0, 1_000), filters=where("seen>2020-01-01"))
        assert [row[-1] for row in told(await rig.desk.rows(query))] == [2.0, 2.0]


class Listing(StubSource):
    """A source that lists the values of its columns by itself."""

    kind = "listing"

    async def tag_values(self, query: Query, key: str) -> tuple[str, ...]:
        return (key, *(item.column for item in (*query.filters, *query.adhoc)))


async def test_a_source_that_lists_values_never_hears_of_it_either(tmp_path: Path) -> None:
    sources = [SourceConfig("lab", "listing", {}, (kept_dataset(columns=STATE, keeping=HELD),))]
    plugins = {"listing": Plugin("listing", "tests", Listing)}
    async with keeping(tmp_path, sources=sources, plugins=plugins) as rig:
        await rig.sample([("a", 1.0)])
        narrowed = replace(Q, filters=where("seen>2020-01-01", "load>0"), adhoc=where("seen>2020-01-01"))
        assert await rig.desk.values(narrowed, "service") == ["service", "load"]
        assert len(await rig.desk.values(Q, "seen")) == 1
