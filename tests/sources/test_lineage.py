"""Every answer says where it came from: which source, which columns, which question, which steps, which parents."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from bridge.model.frame import Frame, Meta
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.model.span import Span
from bridge.sources.base import Options
from bridge.sources.lineage import MAX_PARENTS, MAX_STEPS, traced
from bridge.sources.quality.options import Check
from bridge.sources.recipe import Errand
from bridge.sources.registry import DatasetConfig, DatasetEntry, Plugin, SourceConfig
from bridge.sources.transform.options import Step
from support import COLUMNS, T0, Rig, StubSource, at, dataset, frame_of, make_desk, span

OWNERS = (Column("model", ColumnType.STRING, role=Role.DIMENSION), Column("owner", ColumnType.STRING))
OWNED = frame_of((("svm", "ann"), ("tree", "bob")), OWNERS)
JOIN = {"join": {"with": "other.owners", "on": ["model"], "columns": ["owner"]}}


def steps(*given: dict[str, Any]) -> tuple[Step, ...]:
    """Steps as the settings have them."""
    return tuple(Step.model_validate(item) for item in given)


def joined(*more: dict[str, Any], **options: Any) -> Rig:
    """Runs joined with the owners of their models, which another source has."""
    rig = make_desk(
        sources=[
            SourceConfig("lab", "stub", {}, (dataset(steps=steps(JOIN, *more), **options),)),
            SourceConfig("other", "stub", {}, (dataset("owners", columns=OWNERS, refresh_s=5),)),
        ]
    )
    rig.source("other").data = OWNED
    return rig


def entry_of(*given: dict[str, Any]) -> DatasetEntry:
    """The dataset `lab.runs` with these steps."""
    rig = make_desk(dataset(steps=steps(*given), columns=()))
    return rig.registry.datasets["lab.runs"]


def told(frame: Frame) -> dict[str, Any]:
    """The lineage of an answer."""
    found: dict[str, Any] = frame.meta.custom["lineage"]
    return found


ERRAND = Errand(Query("lab.runs"))


async def test_a_plain_answer_says_source_columns_question_and_when_it_was_fetched() -> None:
    rig = make_desk()
    rig.source().pushes = frozenset({"span"})
    query = Query("lab.runs", span=span(0, 60))
    frame = await rig.desk.rows(query)
    assert told(frame) == {
        "dataset": "lab.runs",
        "source": "lab",
        "kind": "stub",
        "adapter": "1",
        "schema": {"version": 1, "fingerprint": Schema(COLUMNS).fingerprint},
        "query": query.key.removeprefix("lab.runs|"),
        "span": ["2026-01-31T12:00:00+00:00", "2026-01-31T12:01:00+00:00"],
        "fetched_at": "2026-01-31T12:00:00+00:00",
        "rows": 3,
        "steps": [],
        "parents": [],
    }


async def test_where_an_answer_came_from_stands_in_its_lineage_with_its_parents() -> None:
    rig = joined({"filter": "value > 1"})
    rig.source().data = replace(frame_of(), meta=Meta(custom={"far_version": "2.0", "kept": 1}))
    frame = await rig.desk.rows(Query("lab.runs"))
    assert frame.meta.custom.keys() == {"kept", "lineage"}
    found = told(frame)
    assert list(found) == [
        *("dataset", "source", "kind", "adapter", "far_version", "schema", "query", "span", "fetched_at", "rows"),
        *("steps", "parents"),
    ]
    assert (found["far_version"], found["rows"], found["span"]) == ("2.0", 2, None)
    assert found["steps"] == ["join other.owners on model", "filter value > 1"]
    (parent,) = found["parents"]
    assert list(parent)[:4] == ["dataset", "source", "kind", "adapter"]
    assert (parent["dataset"], parent["source"], parent["rows"], parent["parents"]) == (
        "other.owners",
        "other",
        2,
        [],
    )
    assert parent["schema"]["fingerprint"] == Schema(OWNERS).fingerprint


async def test_a_parent_whose_source_is_down_is_marked_and_keeps_its_own_time() -> None:
    rig = joined(refresh_s=5)
    await rig.desk.rows(Query("lab.runs"))
    rig.clock.advance(6)
    rig.source("other").always = OSError("gone")
    found = told(await rig.desk.rows(Query("lab.runs")))
    assert (found["fetched_at"], "stale" in found) == (at(6).isoformat(), False)
    assert (found["parents"][0]["stale"], found["parents"][0]["fetched_at"]) == (True, T0.isoformat())


async def test_the_time_is_when_the_rows_arrived_and_the_same_stands_in_the_dataset_s_state() -> None:
    """On a clock that goes on with every look at it: one look is enough for both."""
    rig = make_desk()
    seconds = itertools.count()
    rig.clock.now = lambda: at(next(seconds))  # type: ignore[method-assign]
    found = told(await rig.desk.rows(Query("lab.runs")))
    assert found["fetched_at"] == rig.keeper().status().last_success


async def test_an_answer_that_is_renewed_unchanged_says_when_its_rows_came() -> None:
    rig = make_desk(dataset(refresh_s=5))
    rig.source().token = "same"
    await rig.desk.rows(Query("lab.runs"))
    rig.clock.advance(6)
    assert told(await rig.desk.rows(Query("lab.runs")))["fetched_at"] == T0.isoformat()
    assert rig.keeper().status().last_success == at(6).isoformat()


async def test_columns_that_a_panel_needs_alone_are_not_taken_for_a_changed_schema() -> None:
    rig = make_desk(dataset(columns=()))
    source = rig.source()
    source.pushes = frozenset({"columns"})

    async def narrowed(query: Query) -> Frame:
        return frame_of().select(query.columns) if query.columns else frame_of()

    source.always = narrowed
    whole = told(await rig.desk.rows(Query("lab.runs")))["schema"]
    part = told(await rig.desk.rows(Query("lab.runs", columns=("value",))))["schema"]
    assert whole == {"version": 1, "fingerprint": Schema(COLUMNS).fingerprint}
    assert part["partial"] is True
    assert part["fingerprint"] != whole["fingerprint"]


class Secretive(Options):
    """Options that hold a secret."""

    token: SecretStr = SecretStr("s3cr3t")
    url: str = "http://far"


class SecretSource(StubSource):
    """A source whose options hold a secret."""

    kind = "secretive"
    SourceOptions = Secretive


async def test_options_and_secrets_of_a_source_never_stand_in_it() -> None:
    configs = [SourceConfig("lab", "secretive", {"token": "s3cr3t", "url": "http://far"}, (dataset(),))]
    rig = make_desk(sources=configs, plugins={"secretive": Plugin("secretive", "tests", SecretSource)})
    text = orjson.dumps(told(await rig.desk.rows(Query("lab.runs"))))
    assert b"s3cr3t" not in text
    assert b"far" not in text


def test_a_schema_s_version_is_told_as_it_is_given() -> None:
    frame = traced(frame_of(), entry_of(), ERRAND, {}, fetched_at=T0, schema_version=4)
    assert told(frame)["schema"]["version"] == 4


def test_a_plain_dataset_s_lineage_is_small() -> None:
    """It goes to the browser with each panel."""
    long = DatasetConfig("a" * 100, columns=COLUMNS)
    rig = make_desk(sources=[SourceConfig("b" * 100, "stub", {}, (long,))])
    (entry,) = rig.registry.datasets.values()
    errand = Errand(Query(entry.name, span=Span(at(0.123456), at(9.123456))))
    noted = frame_of().note(far_version="9" * 5_000)
    assert len(orjson.dumps(traced(noted, entry, errand, {}, fetched_at=at(0.5)).meta.custom)) < 1_024


def test_what_a_far_side_calls_its_version_stays_short_and_plain() -> None:
    for given, wanted in (("x" * 5_000, "x" * 100), (2.1, "2.1"), (("a", object), str(("a", object))[:100])):
        found = told(traced(frame_of().note(far_version=given), entry_of(), ERRAND, {}, fetched_at=T0))
        assert found["far_version"] == wanted
        orjson.dumps(found)


def test_many_steps_are_told_with_how_many_are_left_out() -> None:
    entry = replace(entry_of(), steps=steps(*({"limit": n} for n in range(1, 31))))
    found = told(traced(frame_of(), entry, ERRAND, {}, fetched_at=T0))["steps"]
    assert (len(found), found[0], found[-1]) == (MAX_STEPS + 1, "limit 1", "and 10 more")


def test_checks_are_told_by_what_they_are_called() -> None:
    given = ({"complete": "value"}, {"complete": "model"}, {"fresh": 60, "name": "recent"})
    entry = replace(entry_of(), checks=tuple(Check.model_validate(item) for item in given))
    found = told(traced(frame_of(), entry, ERRAND, {}, fetched_at=T0))
    assert found["checks"] == ["complete", "recent"]
    assert list(found)[-3:] == ["steps", "checks", "parents"]


def parent(name: str, *parents: dict[str, Any]) -> dict[str, Any]:
    """The lineage of one dataset above these."""
    return {"dataset": name, "source": "lab", "parents": list(parents)}


def above(*parents: dict[str, Any]) -> dict[str, Any]:
    """The lineage of an answer made of these."""
    others = {(step, lineage["dataset"]): frame_of().note(lineage=lineage) for step, lineage in enumerate(parents)}
    return told(traced(frame_of(), entry_of(), ERRAND, others, fetched_at=T0))


def mentions(lineage: dict[str, Any]) -> int:
    """How many parents are told, those of parents included."""
    return sum(1 + mentions(item) for item in lineage["parents"])


def test_a_dataset_that_many_steps_read_is_one_parent() -> None:
    one = frame_of().note(lineage=parent("lab.a"))
    others = {(0, "lab.a"): one, (3, "lab.a"): one}
    assert len(told(traced(frame_of(), entry_of(), ERRAND, others, fetched_at=T0))["parents"]) == 1


def test_a_parent_without_a_lineage_is_named_all_the_same() -> None:
    others = {(0, "lab.a"): frame_of()}
    assert told(traced(frame_of(), entry_of(), ERRAND, others, fetched_at=T0))["parents"] == [{"dataset": "lab.a"}]


def test_as_many_parents_as_may_be_told_are_told() -> None:
    found = above(*(parent(f"lab.d{n}") for n in range(MAX_PARENTS)))
    assert (mentions(found), "more" in found) == (MAX_PARENTS, False)


def test_of_more_parents_than_may_be_told_the_first_are_and_the_rest_is_counted() -> None:
    found = above(*(parent(f"lab.d{n}") for n in range(MAX_PARENTS + 7)))
    assert (mentions(found), found["more"]) == (MAX_PARENTS, 7)


def test_a_tower_of_datasets_that_read_each_other_twice_stays_small() -> None:
    """Unbounded it would name two to the sixteenth parents."""
    lineage = parent("lab.d0")
    for level in range(1, 16):
        twin = {**lineage, "dataset": f"lab.e{level}"}
        lineage = {**above(lineage, twin), "dataset": f"lab.d{level}"}
    assert mentions(lineage) <= MAX_PARENTS
    assert [len(lineage["parents"]), len(lineage["parents"][0]["parents"])] == [2, 2]
    assert len(orjson.dumps(lineage)) < 64 * 1024

    def left_out(node: dict[str, Any]) -> int:
        return node.get("more", 0) + sum(map(left_out, node["parents"]))

    assert left_out(lineage) > 0


def test_leaving_parents_out_of_one_answer_leaves_those_of_its_parents_as_they_were() -> None:
    """They stand in the cache, and are shared."""
    wide = parent("lab.wide", *(parent(f"lab.d{n}") for n in range(MAX_PARENTS)))
    found = above(parent("lab.top", wide))
    assert found["parents"][0]["parents"][0]["more"] == 2
    assert (len(wide["parents"]), "more" in wide) == (MAX_PARENTS, False)


@pytest.mark.parametrize("count", [1, MAX_PARENTS, 5_000])
def test_however_wide_it_is_it_can_be_sent(count: int) -> None:
    assert len(orjson.dumps(above(*(parent(f"lab.d{n}") for n in range(count))))) < 64 * 1024
