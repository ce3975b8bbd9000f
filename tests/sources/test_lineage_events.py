"""Of many fetches a lineage consumer is told what it needs: at intervals, and when an outcome changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest
from tests.sources.openlineage_schema import problems

from bridge.edge.meters import Meters
from bridge.edge.openlineage import Outbox
from bridge.errors import UpstreamUnavailable
from bridge.model.finding import Finding, Level
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType
from bridge.sources.lineage import traced
from bridge.sources.lineage_events import MAX_PER_INTERVAL, LineageEvents
from bridge.sources.openlineage import Teller
from bridge.sources.quality.options import Check
from bridge.sources.recipe import Errand
from bridge.sources.registry import DatasetEntry
from support import COLUMNS, ManualClock, dataset, frame_of, make_desk

DOWN = UpstreamUnavailable("GET http://far: cannot connect")
WIDER = frame_of((), (*COLUMNS, Column("loss", ColumnType.NUMBER)))


class Memory:
    """A sink that keeps what it is given."""

    name = "memory"
    events_at_once = 1_000

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    async def send(self, events: Sequence[bytes]) -> None:
        self.taken.extend(events)


@dataclass
class Rig:
    """Lineage events of one service with a clock by hand."""

    sink: Memory = field(default_factory=Memory)
    clock: ManualClock = field(default_factory=ManualClock)
    meters: Meters = field(default_factory=Meters)
    entry: DatasetEntry = field(
        default_factory=lambda: make_desk(dataset(), dataset("curves")).registry.datasets["lab.runs"]
    )

    def __post_init__(self) -> None:
        outbox = Outbox(self.sink, self.meters, jitter=lambda: 0.0)
        self.events = LineageEvents(
            outbox, Teller("bridge", "1.2.3"), self.clock, every_s=60, randomness=lambda count: b"\x07" * count
        )

    def frame(self, frame: Frame | None = None, *columns: str) -> Frame:
        """A frame as it is published."""
        errand = Errand(Query(self.entry.name, columns=columns))
        return traced(frame or frame_of(), self.entry, errand, {}, fetched_at=self.clock.now())

    async def told(self) -> list[dict[str, Any]]:
        """The events since the last time, each of which OpenLineage takes."""
        task = asyncio.create_task(self.events.run())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        events = [orjson.loads(line) for line in self.sink.taken]
        self.sink.taken.clear()
        assert [problem for event in events for problem in problems(event)] == []
        return events


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """What became of the fetches that are told."""
    return [event["eventType"] for event in events]


async def test_a_dataset_that_goes_on_well_is_told_once_per_interval() -> None:
    rig = Rig()
    for _ in range(130):
        rig.events.note(rig.entry, rig.frame())
        rig.clock.advance(1)
    events = await rig.told()
    assert [event["eventTime"][14:19] for event in events] == ["00:00", "01:00", "02:00"]
    assert len({event["run"]["runId"] for event in events}) == 3


async def test_a_failure_and_the_end_of_it_are_told_at_once() -> None:
    rig = Rig()
    for came in (rig.frame(), rig.frame(), DOWN, DOWN, rig.frame(), rig.frame()):
        rig.events.note(rig.entry, came)
    assert kinds(await rig.told()) == ["COMPLETE", "FAIL", "COMPLETE"]


async def test_changed_columns_are_told_at_once() -> None:
    rig = Rig()
    for frame in (frame_of(), frame_of(), WIDER, WIDER):
        rig.events.note(rig.entry, rig.frame(frame))
    fields = [len(event["outputs"][0]["facets"]["schema"]["fields"]) for event in await rig.told()]
    assert fields == [3, 4]


async def test_panels_that_need_some_columns_only_change_nothing() -> None:
    """Each would seem to have taken the other's columns away."""
    rig = Rig()
    rig.events.note(rig.entry, rig.frame(frame_of().select(("value",)), "value"))
    for _ in range(5):
        rig.events.note(rig.entry, rig.frame(frame_of().select(("value",)), "value"))
        rig.events.note(rig.entry, rig.frame(frame_of().select(("model",)), "model"))
        rig.events.note(rig.entry, rig.frame())
    rig.events.note(rig.entry, rig.frame(WIDER))
    events = await rig.told()
    assert ["schema" in event["outputs"][0]["facets"] for event in events] == [False, True]


async def test_the_columns_are_remembered_over_failures_and_intervals() -> None:
    rig = Rig()
    rig.events.note(rig.entry, rig.frame())
    rig.clock.advance(61)
    rig.events.note(rig.entry, DOWN)
    rig.events.note(rig.entry, rig.frame(frame_of().select(("value",)), "value"))
    rig.events.note(rig.entry, rig.frame())
    assert kinds(await rig.told()) == ["COMPLETE", "FAIL", "COMPLETE"]
    rig.events.note(rig.entry, rig.frame(WIDER))
    assert kinds(await rig.told()) == ["COMPLETE"]


async def test_a_dataset_that_fails_every_other_time_floods_nobody() -> None:
    rig = Rig()
    for _ in range(500):
        rig.events.note(rig.entry, rig.frame())
        rig.events.note(rig.entry, DOWN)
    assert len(await rig.told()) == MAX_PER_INTERVAL
    rig.clock.advance(60)
    rig.events.note(rig.entry, DOWN)
    assert kinds(await rig.told()) == ["FAIL"]


async def test_each_dataset_has_its_own_interval() -> None:
    rig = Rig()
    other = make_desk(dataset(), dataset("curves")).registry.datasets["lab.curves"]
    rig.events.note(rig.entry, DOWN)
    rig.events.note(other, DOWN)
    assert [event["job"]["name"] for event in await rig.told()] == ["lab.runs", "lab.curves"]


async def test_findings_and_passed_checks_are_told_with_the_fetch() -> None:
    rig = Rig()
    checks = tuple(Check.model_validate(item) for item in ({"complete": "value"}, {"gaps": 60, "name": "steady"}))
    rig.entry = replace(rig.entry, checks=checks)
    rig.events.note(rig.entry, rig.frame(), [Finding("complete", Level.WARN, "1 of 3 values is empty", "value", 1)])
    (event,) = await rig.told()
    assertions = event["outputs"][0]["facets"]["dataQualityAssertions"]["assertions"]
    assert {item["assertion"]: item["success"] for item in assertions} == {"complete": False, "steady": True}


async def test_old_answers_and_bridge_s_own_datasets_are_no_fetches() -> None:
    rig = Rig()
    rig.events.note(rig.entry, rig.frame().note(stale=True))
    rig.events.note(rig.entry, frame_of())
    rig.events.note(replace(rig.entry, name="_status"), rig.frame())
    assert await rig.told() == []


async def test_what_cannot_be_written_costs_the_event_and_not_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    rig = Rig()
    odd = Column("half \ud800 of a letter", ColumnType.NUMBER)
    rig.events.note(rig.entry, rig.frame(frame_of((), ())).note(lineage={"schema": {"fingerprint": "x"}}))
    rig.events.note(rig.entry, replace(rig.frame(), schema=replace(frame_of().schema, columns=(odd,))))
    rig.clock.advance(60)
    rig.events.note(rig.entry, replace(rig.frame(), schema=replace(frame_of().schema, columns=(odd,))))
    assert await rig.told() == []
    assert rig.meters.registry.get_sample_value("bridge_lineage_events_total", {"result": "failed"}) == 3
    rig.clock.advance(60)
    rig.events.note(rig.entry, rig.frame())
    assert kinds(await rig.told()) == ["COMPLETE"]
