"""The past beside the present: what is asked of it, and what stands in where one of the two is missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from past_rig import Kept, as_of, keeping, kept_dataset, told

from bridge.errors import BadQuery, BridgeError, SchemaChanged, StoreError, UpstreamUnavailable
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Param, Role, Schema
from bridge.sources.history.migration import plan
from bridge.sources.history.schema_file import SchemaFile
from bridge.sources.registry import Plugin, SourceConfig
from support import COLUMNS, StubSource, at, frame_of, span, table, texts, where

DOWN = UpstreamUnavailable("GET http://far: cannot connect", remedy="check that the server runs")
Q = Query("lab.runs")
STATE = (
    Column("service", ColumnType.STRING, role=Role.DIMENSION),
    Column("load", ColumnType.NUMBER, role=Role.MEASURE),
)


def seconds(frame: Frame) -> list[float]:
    return [(row[0] - at(0)).total_seconds() for row in told(frame)]


# Past and present


async def test_what_the_source_forgot_is_answered_from_the_past(tmp_path: Path) -> None:
    async with keeping(tmp_path) as rig:
        await rig.sample([(0, 1.0, "svm"), (1, 2.0, "svm")])
        rig.source().data = frame_of([(1, 2.5, "svm"), (2, 3.0, "svm")])
        found = await rig.desk.rows(Q)
        assert told(found) == told(frame_of([(0, 1.0, "svm"), (1, 2.5, "svm"), (2, 3.0, "svm")]))
        lineage = found.meta.custom["lineage"]
        assert lineage["history"] == {"version": 0, "rows": 2}
        # And it still says how the live rows came.
        assert lineage["fetched_at"] == at(60).isoformat()
        assert "stale" not in found.meta.custom


async def test_every_answer_says_which_version_it_can_be_asked_for_again(tmp_path: Path) -> None:
    """Also where all of its rows are the source's, and the version of a time is the last one until then."""
    async with keeping(tmp_path) as rig:
        for second in range(3):
            await rig.sample(frame_of([(second, 1.0, "svm")]))
            if second == 1:
                rig.flush()
        rig.source().data = frame_of([(second, 1.0, "svm") for second in range(3)])

        async def version(**asked: Any) -> Any:
            return (await rig.desk.rows(replace(Q, **asked))).meta.custom["lineage"]["history"]["version"]

        assert await version() == 2
        assert await version(as_of=1) == 1
        assert await version(as_of=at(61)) == 0
        assert await version(as_of=at(121)) == 1
        assert await version(as_of=at(10_000)) == 2


async def test_a_part_of_the_past_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    async with keeping(tmp_path) as rig:
        await rig.sample(frame_of())
        rig.flush()
        view = rig.history().view
        rig.history().table.view = replace(view, problem=StoreError("generation 1 is broken"))
        found = await rig.desk.rows(Q)
        assert texts(found) == ["warning: generation 1 is broken. Rows that were recorded there are left out."]
        with pytest.raises(StoreError, match="generation 1 is broken"):
            await rig.desk.rows(as_of(0))


async def test_files_that_were_taken_away_leave_the_source_s_own_rows_and_a_warning(tmp_path: Path) -> None:
    async with keeping(tmp_path) as rig:
        await rig.sample(frame_of())
        rig.flush()
        shutil.rmtree(tmp_path / "history" / "lab.runs" / "g1")
        rig.source().data = frame_of([(5, 1.0, "svm")])
        for found in (await rig.desk.rows(Q), (await rig.desk.frames(replace(Q, max_points=10)))[0]):
            [warning] = texts(found)
            assert warning.startswith("warning: the history of `lab.runs` cannot be read")
            assert warning.endswith("Shown are the rows of the source alone.")
            assert seconds(found) == [5]
        # With the source down there is nothing to show, and that is what is said.
        rig.source().always = DOWN
        await rig.desk.invalidate("*")
        with pytest.raises(UpstreamUnavailable):
            await rig.desk.rows(Q)


async def test_a_history_of_a_newer_version_is_left_alone_and_said(tmp_path: Path) -> None:
    folder = tmp_path / "history" / "lab.runs"
    folder.mkdir(parents=True)
    (folder / "schema.json").write_text('{"format": 99}')
    async with keeping(tmp_path) as rig:
        found = await rig.desk.rows(Q)
        assert found.rows == 3
        [warning] = texts(found)
        assert warning.startswith("warning: ")
        assert "newer" in warning
        assert warning.endswith("Nothing is recorded; shown are the rows of the source alone.")
        with pytest.raises(BridgeError, match="newer"):
            await rig.desk.rows(as_of(0))
        rig.source().always = DOWN
        await rig.desk.invalidate("*")
        with pytest.raises(UpstreamUnavailable):
            await rig.desk.rows(Q)


# The source is down


async def from_the_start(
    folder: Path, check: Callable[[Kept], Any], *, columns: tuple[Column, ...], **more: Any
) -> None:
    """Records, and asks after a restart with the source down."""
    async with keeping(folder, kept_dataset(columns=columns, **more)) as rig:
        rig.source().data = frame_of([], columns or COLUMNS)
        await rig.sample([(0, 1.0, "svm")] if (columns or COLUMNS) is COLUMNS else [("a", 1.0)])
    async with keeping(folder, kept_dataset(columns=columns, **more), passed_s=7_260) as rig:
        rig.source().always = DOWN
        await check(rig)


async def test_no_answer_is_younger_than_now(tmp_path: Path) -> None:
    """Whatever the clock said when it was recorded."""
    async with keeping(tmp_path) as rig:
        await rig.sample([(0, 1.0, "svm")])
    async with keeping(tmp_path, passed_s=-7_200) as rig:
        rig.source().always = DOWN
        found = await rig.desk.rows(Q)
    assert found.meta.custom["age_s"] == 0
    assert "Shown is the last good answer, 0 s old" in texts(found)[0]


@pytest.mark.parametrize("columns", [COLUMNS, ()], ids=["declared", "inferred"])
@pytest.mark.parametrize(("stale_after_s", "severity"), [(None, "warning"), (3_600, "error"), (86_400, "warning")])
async def test_a_source_that_is_down_from_the_start_answers_from_its_history(
    tmp_path: Path, columns: tuple[Column, ...], stale_after_s: float | None, severity: str
) -> None:
    async def check(rig: Kept) -> None:
        for found in (await rig.desk.rows(Q), *await rig.desk.frames(replace(Q, max_points=9, span=span(-5, 9)))):
            assert seconds(found) == [0]
            assert texts(found) == [
                f"{severity}: GET http://far: cannot connect. Shown is the last good answer, 2.0 h old "
                "(2026-01-31 12:01:00 UTC). Check that the server runs"
            ]
            custom = found.meta.custom
            assert (custom["stale"], custom["age_s"], custom["error"]) == (True, 7_200, "upstream_unavailable")
            assert custom["state"] == "down"
            assert custom["lineage"]["history"] == {"version": 0, "rows": 1}
            assert custom["lineage"]["source"] == "lab"
        assert await rig.desk.values(Q, "model") == ["svm"]
        assert (await rig.desk.schema("lab.runs")).names == ("time", "value", "model")
        status = rig.keeper().status()
        assert (status.state, status.stale) == ("down", True)
        with pytest.raises(BadQuery):
            await rig.desk.rows(replace(Q, columns=("nothing",)))

    await from_the_start(tmp_path, check, columns=columns, stale_after_s=stale_after_s)


async def test_so_does_one_without_a_time(tmp_path: Path) -> None:
    async def check(rig: Kept) -> None:
        found = await rig.desk.rows(Q)
        assert (told(found), found.meta.custom["stale"]) == ([("a", 1.0)], True)

    await from_the_start(tmp_path, check, columns=STATE)


async def test_without_any_record_the_failure_is_told(tmp_path: Path) -> None:
    async with keeping(tmp_path) as rig:
        rig.source().always = DOWN
        with pytest.raises(UpstreamUnavailable):
            await rig.desk.rows(Q)
        rig.source().always = None
        await rig.sample([])
        rig.source().always = DOWN
        await rig.desk.invalidate("*")
        with pytest.raises(UpstreamUnavailable):
            await rig.desk.rows(Q)


# Parameters


async def test_the_past_of_the_defaults_is_not_shown_for_other_parameters(tmp_path: Path) -> None:
    params = (Param("host", default="a"), Param("free"))
    async with keeping(tmp_path, kept_dataset(params=params)) as rig:
        await rig.sample([(0, 1.0, "svm")])
        rig.source().data = frame_of([(5, 2.0, "svm")])
        assert seconds(await rig.desk.rows(Q)) == [0, 5]
        assert seconds(await rig.desk.rows(replace(Q, params=(("host", ("a",)),)))) == [0, 5]
        for params_, said in (
            ((("host", ("b",)),), "`host` 'a' only"),
            ((("host", ("a",)), ("free", ("x",))), "`free` left out only"),
        ):
            other = replace(Q, params=params_)
            found = await rig.desk.rows(other)
            assert seconds(found) == [5]
            assert texts(found) == [
                f"info: lab.runs is recorded with {said}. Shown are the rows of the source alone."
            ]
            with pytest.raises(BadQuery, match="is recorded with"):
                await rig.desk.rows(as_of(0, other))
        rig.source().always = DOWN
        await rig.desk.invalidate("*")
        with pytest.raises(UpstreamUnavailable):
            await rig.desk.rows(replace(Q, params=(("host", ("b",)),)))


# As of


async def test_what_was_known_then_is_answered_then_and_now_alike(tmp_path: Path) -> None:
    async with keeping(tmp_path) as rig:
        await rig.sample([(0, 1.0, "svm"), (10, 2.0, "svm")])
        await rig.sample([(0, 1.5, "svm"), (5, 9.0, "tree"), (10, 2.0, "svm")])
        rig.source().always = DOWN
        wanted = {
            0: [(0, 1.0, "svm"), (10, 2.0, "svm")],
            1: [(0, 1.5, "svm"), (5, 9.0, "tree"), (10, 2.0, "svm")],
        }
        for step in (rig.flush, rig.compact, lambda: None):
            for version, rows in wanted.items():
                found = await rig.desk.rows(as_of(version))
                assert told(found) == told(frame_of(rows))
                assert texts(found) == [f"info: As it was recorded until version {version}."]
                assert found.meta.custom["lineage"]["history"]["as_of"] == version
                assert "stale" not in found.meta.custom
            then = await rig.desk.rows(replace(Q, as_of=at(119)))
            assert told(then) == told(frame_of(wanted[0]))
            assert texts(then) == ["info: As it was recorded until 2026-01-31 12:01:59 UTC."]
            assert then.meta.custom["lineage"]["history"]["as_of"] == at(119).isoformat()
            assert told(await rig.desk.rows(replace(Q, as_of=at(120)))) == told(frame_of(wanted[1]))
            step()
        # Nobody asked the source.
        assert len(rig.source().asked) == 2


@pytest.mark.parametrize("columns", [COLUMNS, STATE], ids=["series", "snapshots"])
async def test_before_the_first_sample_there_is_nothing(tmp_path: Path, columns: tuple[Column, ...]) -> None:
    async with keeping(tmp_path, kept_dataset(columns=columns)) as rig:
        rig.source().data = frame_of([], columns)
        await rig.sample([(0, 1.0, "svm")] if columns is COLUMNS else [("a", 1.0)])
        early = replace(Q, as_of=at(-100))
        for found in (await rig.desk.rows(early), (await rig.desk.frames(replace(early, max_points=5)))[0]):
            assert found.rows == 0
            assert texts(found) == ["info: Nothing was recorded until 2026-01-31 11:58:20 UTC."]
        assert await rig.desk.values(early, columns[-1].name) == []


async def test_snapshots_are_those_of_the_moment(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset(columns=STATE)) as rig:
        rig.source().data = frame_of([], STATE)
        for rows in ([("a", 1.0), ("b", 2.0)], [("b", 3.0)], []):
            await rig.sample(rows)
        for step in (rig.flush, rig.compact, lambda: None):
            assert told(await rig.desk.rows(as_of(0))) == [("a", 1.0), ("b", 2.0)]
            assert told(await rig.desk.rows(as_of(1))) == [("b", 3.0)]
            assert told(await rig.desk.rows(as_of(2))) == []
            assert told(await rig.desk.rows(as_of(0, replace(Q, filters=where("service=a"))))) == [("a", 1.0)]
            assert await rig.desk.values(as_of(0), "service") == ["a", "b"]
            step()
        # Of now it is what the source has.
        rig.source().data = frame_of([("c", 4.0)], STATE)
        assert told(await rig.desk.rows(Q)) == [("c", 4.0)]


@pytest.mark.parametrize("version", [1, 10**9])
async def test_a_version_that_is_not_there_yet_is_refused_with_the_newest(tmp_path: Path, version: int) -> None:
    async with keeping(tmp_path) as rig:
        with pytest.raises(BadQuery, match=r"nothing was recorded of lab\.runs yet"):
            await rig.desk.rows(as_of(0))
        await rig.sample(frame_of())
        with pytest.raises(BadQuery, match=f"no version {version} yet") as caught:
            await rig.desk.rows(as_of(version))
        assert caught.value.remedy == "the newest is v0"


@pytest.mark.parametrize(
    ("name", "remedy"), [("lab.plain", "give the dataset `history"), ("_status", "leave out `as_of`")]
)
async def test_without_a_history_there_is_no_then(tmp_path: Path, name: str, remedy: str) -> None:
    async with keeping(tmp_path, kept_dataset(), kept_dataset("plain", None)) as rig:
        for ask in (rig.desk.rows, rig.desk.frames, lambda query: rig.desk.values(query, "model")):
            with pytest.raises(BadQuery) as caught:
                await ask(Query(name, as_of=0))
            assert caught.value.remedy.startswith(remedy) or "model" in caught.value.message


class Listing(StubSource):
    """A source that lists the values of its columns by itself."""

    kind = "listing"

    async def tag_values(self, query: Query, key: str) -> tuple[str, ...]:
        return ("now",)


async def test_values_to_choose_from_are_those_of_then(tmp_path: Path) -> None:
    """Also where the source lists values by itself: it knows those of now only."""
    sources = [SourceConfig("lab", "listing", {}, (kept_dataset(),))]
    plugins = {"listing": Plugin("listing", "tests", Listing)}
    async with keeping(tmp_path, sources=sources, plugins=plugins) as rig:
        await rig.sample([(0, 1.0, "svm"), (5, 1.0, "knn")])
        await rig.sample([(10, 2.0, "tree")])
        assert await rig.desk.values(Q, "model") == ["now"]
        assert await rig.desk.values(as_of(0), "model") == ["knn", "svm"]


async def test_values_to_choose_from_are_those_of_past_and_present(tmp_path: Path) -> None:
    async with keeping(tmp_path) as rig:
        await rig.sample([(0, 1.0, "svm"), (5, 1.0, "knn")])
        await rig.sample([(10, 2.0, "tree")])
        rig.source().data = frame_of([(15, 3.0, "new")])
        assert await rig.desk.values(Q, "model") == ["knn", "new", "svm", "tree"]
        assert await rig.desk.values(replace(Q, span=span(4, 12)), "model") == ["knn", "tree"]
        with pytest.raises(BadQuery, match="nothing"):
            await rig.desk.values(as_of(0), "nothing")


# The columns change


MORE = (*COLUMNS, Column("extra", ColumnType.NUMBER, role=Role.MEASURE))
KINDS = {"time": "time", "value": "string", "model": "string"}
TEXT = (COLUMNS[0], Column("value", ColumnType.STRING, role=Role.MEASURE), COLUMNS[2])


def other(columns: tuple[Column, ...]) -> Frame:
    return Frame(
        table([(9, "x" if columns is TEXT else 1.0, "svm", *([2.0] if columns is MORE else []))], columns),
        Schema(columns),
    )


async def test_a_compatible_change_is_a_new_version_everywhere(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset(columns=())) as rig:
        await rig.sample(frame_of([(0, 1.0, "svm")]))
        assert (await rig.desk.schema("lab.runs")).version == 1
        await rig.sample(other(MORE))
        schema = await rig.desk.schema("lab.runs")
        assert (schema.version, schema.names) == (2, ("time", "value", "model", "extra"))
        found = await rig.desk.rows(Q)
        assert found.meta.custom["lineage"]["schema"]["version"] == 2
        assert found.data["extra"].to_list() == [None, 2.0]
        [status] = told(await rig.desk.rows(Query("_status", columns=("schema_version",))))
        assert status[-1] == 2
        # Older rows are read as the new columns say, also as of then.
        assert (await rig.desk.rows(as_of(0))).data["extra"].to_list() == [None]


async def test_a_breaking_change_stops_the_dataset_until_somebody_says_what_it_means(tmp_path: Path) -> None:
    """The rows of before stay, marked; other datasets go on; what another process says is noticed at once."""
    async with keeping(tmp_path, kept_dataset(columns=()), kept_dataset("other")) as rig:
        await rig.sample(frame_of([(0, 1.0, "svm")]))
        rig.source().script = [other(TEXT)]
        found = await rig.desk.rows(Q)
        assert told(found) == told(frame_of([(0, 1.0, "svm")]))
        custom = found.meta.custom
        assert (custom["stale"], custom["state"], custom["error"]) == (True, "schema_changed", "schema_changed")
        [notice] = texts(found)
        assert "`lab.runs` has `value` as string now, its history as number" in notice
        assert "`bridge sources migrate lab.runs`" in notice
        assert rig.keeper().status().state == "schema_changed"
        with pytest.raises(SchemaChanged):
            await rig.history().record(other(TEXT))
        rig.source().always = None
        rig.source().data = frame_of()
        assert (await rig.desk.rows(Query("lab.other"))).rows == 3
        # Another process says what it means.
        file = SchemaFile(tmp_path / "history" / "lab.runs")
        known = file.load()
        assert known is not None
        file.migrate(plan(known, Schema(TEXT), KINDS, {}), rig.clock.now())
        rig.source().data = other(TEXT)
        fresh = await rig.desk.fetched(replace(Q, fresh=True))
        assert "stale" not in fresh.meta.custom
        assert await rig.history().record(fresh) == 1
        assert [row[1] for row in told(await rig.desk.rows(Q))] == ["1.0", "x"]
        assert rig.keeper().status().state == "ok"
        assert (await rig.desk.schema("lab.runs")).version == 2


async def test_rows_of_before_are_read_as_the_new_type_from_the_first_answer_on(tmp_path: Path) -> None:
    async with keeping(tmp_path, kept_dataset(columns=())) as rig:
        await rig.sample(frame_of([(0, 1.0, "svm")]))
        file = SchemaFile(tmp_path / "history" / "lab.runs")
        known = file.load()
        assert known is not None
        file.migrate(plan(known, Schema(TEXT), KINDS, {}), rig.clock.now())
        rig.source().data = other(TEXT)
        found = await rig.desk.rows(Q)
        assert [row[1] for row in told(found)] == ["1.0", "x"]
        assert texts(found) == []
        await rig.sample(other(TEXT))
        assert (await rig.desk.rows(Q)).rows == 2
