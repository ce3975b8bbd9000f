"""No answer reaches anybody before its checks; what they find is said, and what they block is held back."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import generate_latest

from bridge.errors import BreakerOpen, HeldBack, PluginFailed, SchemaMismatch, UpstreamUnavailable
from bridge.model.finding import Finding, Level, ValidationResult
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Param, Role
from bridge.sources.guards import FAILURES
from bridge.sources.inspector import MAX_NAMES, MAX_TEXTS
from bridge.sources.poller import Poller
from bridge.sources.publish import MAX_FINDINGS
from bridge.sources.quality.options import Check
from bridge.sources.registry import Plugin, Poll, SourceConfig
from support import COLUMNS, Rig, StubSource, dataset, frame_of, make_desk, texts, where

Q = Query("lab.runs")
GOOD = frame_of([(0, 1.0, "svm")])
BAD = frame_of([(0, 1000.0, "svm")])
DOWN = UpstreamUnavailable("GET http://far: cannot connect")


def checks(*given: dict[str, Any]) -> tuple[Check, ...]:
    return tuple(map(Check.model_validate, given))


RANGE = {"range": {"column": "value", "max": 100}, "level": "block"}


def checked(*given: dict[str, Any], **more: Any) -> Rig:
    """A desk whose dataset has these checks."""
    return make_desk(dataset(**{"refresh_s": 0, "checks": checks(*given), **more}))


async def ask(rig: Rig, frame: Frame | None = None, query: Query = Q) -> Frame:
    if frame is not None:
        rig.source().data = frame
    return await rig.desk.rows(query)


@pytest.mark.parametrize(("level", "severity"), [("info", "info"), ("warn", "warning")])
async def test_what_is_found_is_said_with_the_answer(level: str, severity: str) -> None:
    rig = checked({**RANGE, "level": level})
    assert texts(await ask(rig, GOOD)) == []
    found = await ask(rig, BAD)
    assert found.rows == 1
    [text] = texts(found)
    assert text.startswith(f"{severity}: ")
    assert "`value`" in text
    assert rig.counted("bridge_findings_total", dataset="lab.runs", check="range", level=level) == 1
    [noted] = rig.keeper().ledger.active
    assert (noted.finding.check, noted.finding.column, noted.times) == ("range", "value", 1)
    await ask(rig, GOOD)
    assert rig.keeper().ledger.active == ()


async def test_what_is_blocked_is_held_back_and_the_last_good_answer_stays_marked() -> None:
    rig = checked(RANGE)
    with pytest.raises(HeldBack, match=r"`lab\.runs` is held back: ") as caught:
        await ask(rig, BAD)
    assert "`_findings` lists all" in caught.value.remedy
    await ask(rig, GOOD)
    shown = await ask(rig, BAD)
    assert shown.data.rows() == GOOD.data.rows()
    custom = shown.meta.custom
    assert (custom["stale"], custom["state"], custom["error"]) == (True, "held_back", "held_back")
    [text] = texts(shown)
    assert text.startswith("warning: `lab.runs` is held back: ")
    status = rig.keeper().status()
    assert (status.state, status.findings_block, status.stale) == ("held_back", 1, True)
    assert texts(await ask(rig, GOOD)) == []
    assert rig.keeper().status().state == "ok"


async def test_of_many_blocks_some_are_told_and_the_number_of_the_others() -> None:
    rules = [{"rule": {"that": f"value < {number}"}, "level": "block"} for number in range(MAX_TEXTS + 3)]
    with pytest.raises(HeldBack, match=r"; and 3 more findings$"):
        await ask(checked(*rules), BAD)


async def test_blocks_in_a_row_leave_the_source_alone_and_a_good_answer_brings_it_back() -> None:
    rig = checked(RANGE)
    await ask(rig, GOOD)
    for _ in range(FAILURES):
        await ask(rig, BAD)
    assert rig.keeper().status().breaker == "open"
    asked = len(rig.source().asked)
    shown = await ask(rig)
    assert len(rig.source().asked) == asked
    assert shown.meta.custom["error"] == "breaker_open"
    assert "answers in a row that checks held back" in texts(shown)[0]
    assert "last error: `lab.runs` is held back" in texts(shown)[0]
    # The trial finds it as bad, so the next comes later.
    rig.clock.advance(30)
    await ask(rig)
    assert (len(rig.source().asked), rig.keeper().status().breaker) == (asked + 1, "open")
    rig.clock.advance(31)
    await ask(rig)
    assert len(rig.source().asked) == asked + 1
    rig.clock.advance(29)
    assert texts(await ask(rig, GOOD)) == []
    status = rig.keeper().status()
    assert (status.breaker, status.state, status.findings_block) == ("closed", "ok", 0)
    # And it takes as many again.
    for _ in range(FAILURES - 1):
        await ask(rig, BAD)
    assert rig.keeper().status().breaker == "closed"


async def test_one_caller_s_parameters_do_not_take_the_dataset_from_all_others() -> None:
    rig = checked({"rows": 1, "level": "block"}, params=(Param("run", default="a"),))
    source = rig.source()
    source.pushes = frozenset({"params"})

    async def rows_of(query: Query) -> Frame:
        return GOOD if query.param("run") == ("a",) else frame_of([])

    source.always = rows_of
    odd = replace(Q, params=(("run", ("b",)),))
    for _ in range(FAILURES):
        with pytest.raises(HeldBack):
            await ask(rig, query=odd)
    with pytest.raises(BreakerOpen):
        await ask(rig, query=odd)
    assert (rig.keeper().status().breaker, texts(await ask(rig))) == ("closed", [])
    # What everybody is shown may be bad as well.
    source.always = frame_of([])
    for _ in range(FAILURES):
        await ask(rig)
    assert rig.keeper().status().breaker == "open"


async def test_a_good_answer_between_bad_ones_counts() -> None:
    rig = checked(RANGE)
    for _ in range(FAILURES - 1):
        with pytest.raises(HeldBack):
            await ask(rig, BAD)
    await ask(rig, GOOD)
    for _ in range(FAILURES - 1):
        await ask(rig, BAD)
    assert rig.keeper().status().breaker == "closed"


async def test_a_polled_dataset_that_is_blocked_is_asked_ever_more_rarely_and_comes_back() -> None:
    rig = checked(RANGE, poll=Poll(10.0))
    rig.source().data = BAD
    waits: list[float] = []
    done = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        rig.clock.advance(seconds)
        if len(waits) == 12:
            rig.source().data = GOOD
        if len(waits) == 30:
            done.set()
            await asyncio.Event().wait()

    poller = Poller(rig.desk, rig.clock, rig.meters, jitter=lambda: 0.0, sleep=sleep)
    task = asyncio.create_task(poller.run())
    await done.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert rig.counted("bridge_source_polls_total", dataset="lab.runs", outcome="held_back") >= FAILURES
    assert waits[1:6] == [20, 40, 80, 160, 300]
    assert waits[-5:] == [10] * 5
    assert rig.keeper().status().state == "ok"


# What a check may see


async def test_age_is_found_though_the_source_says_that_nothing_changed() -> None:
    rig = checked({"fresh": 60})
    rig.source().token, rig.clock.passed_s = "same", 10.0
    assert texts(await ask(rig, GOOD)) == []
    rig.clock.advance(100)
    [text] = texts(await ask(rig))
    assert text.startswith("warning: ")
    # Without such a check the source's word is taken.
    plain = checked(RANGE)
    plain.source().token = "same"
    await ask(plain, GOOD)
    plain.clock.advance(100)
    await ask(plain, BAD)
    assert len(plain.source().asked) == 1


async def test_a_source_that_goes_back_to_its_last_good_data_has_no_finding_that_stands() -> None:
    rig = checked(RANGE)
    for token, data in (("1", GOOD), ("2", BAD), ("1", GOOD)):
        rig.source().token = token
        shown = await ask(rig, data)
    assert "stale" not in shown.meta.custom
    status = rig.keeper().status()
    assert (status.state, status.findings_block, rig.keeper().ledger.blocks_in_a_row) == ("ok", 0, 0)


async def test_checks_are_bound_anew_to_columns_that_change() -> None:
    rig = checked({"range": {"column": "value", "max": 100}}, columns=())
    assert len(texts(await ask(rig, BAD))) == 1
    wide = (*COLUMNS, Column("extra", ColumnType.NUMBER, role=Role.MEASURE))
    assert len(texts(await ask(rig, frame_of([(0, 1000.0, "svm", 1.0)], wide)))) == 1


async def test_checks_are_bound_to_thousands_of_columns_beside_the_loop() -> None:
    bound_on: set[threading.Thread] = set()

    class Watched(Check):
        @property
        def title(self) -> str:
            bound_on.add(threading.current_thread())
            return super().title

    wide = tuple(Column(f"c{number}", ColumnType.NUMBER) for number in range(1_001))
    rig = make_desk(dataset(refresh_s=0, columns=wide, checks=(Watched.model_validate({"complete": {}}),)))
    await ask(rig, frame_of([[1.0] * len(wide)], wide))
    assert bound_on - {threading.main_thread()}


async def test_a_check_that_does_not_fit_the_columns_is_a_sentence() -> None:
    rig = checked({"range": {"column": "value", "max": 100}}, columns=())
    other = (COLUMNS[0], Column("loss", ColumnType.NUMBER, role=Role.MEASURE))
    with pytest.raises(SchemaMismatch, match=r"`lab\.runs`: checks\[0\]\.range\.column: .*value") as caught:
        await ask(rig, frame_of([(0, 1.0)], other))
    assert caught.value.remedy == "correct the dataset's `checks`"
    # Its columns of before are known, so the checks fit again when they are back.
    await ask(rig, GOOD)
    shown = await ask(rig, frame_of([(0, 1.0)], other))
    assert shown.meta.custom["stale"]
    assert "checks[0].range.column" in texts(shown)[0]


async def test_a_part_of_the_rows_says_nothing_of_how_many_there_are() -> None:
    rig = checked({"rows": {"min": 3}})
    rig.source().pushes = frozenset({"filters"})
    assert texts(await ask(rig, GOOD, replace(Q, filters=where("model=svm")))) == []
    assert len(texts(await ask(rig))) == 1


# Other datasets


REFERENCE = {"reference": {"dataset": "lab.truth", "on": ["model"], "compare": ["value"]}}


def referring(**more: Any) -> Rig:
    return make_desk(dataset(refresh_s=0, checks=checks({**REFERENCE, **more})), dataset("truth", refresh_s=0))


async def test_another_dataset_is_compared_with() -> None:
    rig = referring()
    rows = {"lab.runs": frame_of([(0, 1.0, "svm")]), "lab.truth": frame_of([(0, 2.0, "svm")])}

    async def collect(query: Query) -> Frame:
        return rows[query.dataset]

    rig.source().always = collect
    assert len(texts(await ask(rig))) == 1
    rows["lab.truth"] = rows["lab.runs"]
    assert texts(await ask(rig)) == []


async def test_another_dataset_that_changes_is_seen_though_the_own_data_did_not() -> None:
    rig = referring(level="block")
    rows = {"lab.runs": GOOD, "lab.truth": GOOD}

    async def collect(query: Query) -> Frame:
        return rows[query.dataset]

    rig.source().always, rig.source().token = collect, "1"
    await ask(rig)
    rows["lab.truth"] = BAD
    await rig.desk.invalidate("lab.truth")
    assert (await ask(rig)).meta.custom["error"] == "held_back"


@pytest.mark.parametrize("level", ["warn", "block"])
async def test_another_dataset_that_is_down_is_a_finding(level: str) -> None:
    rig = referring(level=level)

    async def collect(query: Query) -> Frame:
        if query.dataset == "lab.truth":
            raise DOWN
        return GOOD

    rig.source().always = collect
    if level == "block":
        with pytest.raises(HeldBack, match=r"lab\.truth"):
            await ask(rig)
    else:
        [text] = texts(await ask(rig))
        assert "lab.truth" in text
        assert text.startswith("warning: the check `reference`")


async def test_another_dataset_that_hangs_does_not_take_the_answer_along() -> None:
    rig = make_desk(dataset(refresh_s=0, checks=checks(REFERENCE)), dataset("truth", refresh_s=0), deadline_s=1.0)

    async def collect(query: Query) -> Frame:
        if query.dataset == "lab.truth":
            await asyncio.Event().wait()
        # Used up before, of the time in which all must be there.
        await asyncio.sleep(0.2)
        return GOOD

    rig.source().always = collect
    [text] = texts(await ask(rig))
    assert text.startswith("warning: the check `reference`")


# Checks of a plug-in's own


class Careful(StubSource):
    """A source with checks of its own."""

    kind = "careful"
    found: tuple[Finding, ...] = ()

    def validate(self, frame: Frame) -> ValidationResult:
        return ValidationResult((*super().validate(frame).findings, *self.found))


def careful(*given: dict[str, Any]) -> Rig:
    sources = [SourceConfig("lab", "careful", {}, (dataset(refresh_s=0, checks=checks(*given)),))]
    return make_desk(sources=sources, plugins={"careful": Plugin("careful", "tests", Careful)})


def finding(level: Level, check: str = "range_of_mine") -> Finding:
    return Finding(check, level, "the sensor was moved", "value", 3)


async def test_what_a_plug_in_finds_is_in_the_ledger_until_it_finds_it_no_more() -> None:
    # Its name may begin as that of a check of the settings does.
    rig = careful(RANGE)
    rig.source().found = (finding(Level.WARN), finding(Level.INFO, "other"))
    assert texts(await ask(rig, GOOD)) == ["warning: the sensor was moved", "info: the sensor was moved"]
    assert [noted.finding.check for noted in rig.keeper().ledger.active] == ["range_of_mine", "other"]
    assert rig.counted("bridge_findings_total", dataset="lab.runs", check="other", level="info") == 1
    rig.source().found = ()
    assert texts(await ask(rig)) == []
    assert rig.keeper().ledger.active == ()


async def test_without_checks_in_the_settings_as_well() -> None:
    rig = careful()
    rig.source().found = (finding(Level.WARN),)
    await ask(rig, GOOD)
    assert len(rig.keeper().ledger.active) == 1
    rig.source().found = ()
    await ask(rig)
    assert (rig.keeper().ledger.active, len(rig.keeper().ledger.recent)) == ((), 1)


async def test_what_a_plug_in_blocks_is_held_back_and_told() -> None:
    rig = careful(RANGE)
    await ask(rig, GOOD)
    rig.source().found = (finding(Level.BLOCK), finding(Level.INFO, "other"))
    shown = await ask(rig)
    assert (shown.meta.custom["stale"], shown.meta.custom["error"]) == (True, "schema_mismatch")
    assert [noted.finding.level for noted in rig.keeper().ledger.active] == [Level.BLOCK, Level.INFO]
    assert rig.counted("bridge_findings_total", dataset="lab.runs", check="range_of_mine", level="block") == 1
    rig.source().found = ()
    await ask(rig)
    assert rig.keeper().ledger.active == ()


@pytest.mark.parametrize(
    "odd",
    [
        Finding("mine", "info", "x"),  # type: ignore[arg-type]
        Finding(None, Level.INFO, "x"),  # type: ignore[arg-type]
        Finding("mine", Level.INFO, None),  # type: ignore[arg-type]
        Finding("mine", Level.INFO, "x", column=3),  # type: ignore[arg-type]
        Finding("mine", Level.INFO, "x", rows="3"),  # type: ignore[arg-type]
        Finding("mine", Level.INFO, "x", value="3"),  # type: ignore[arg-type]
        Finding("\ud800", Level.INFO, "x"),
        Finding("mine", Level.INFO, "\ud800"),
        "a text",
    ],
    ids=["level", "check", "text", "column", "rows", "value", "name", "surrogate", "none"],
)
async def test_what_is_no_finding_stays_its_plug_in_s_fault_alone(odd: Any) -> None:
    rig = careful()
    rig.source().found = (odd,)
    with pytest.raises(PluginFailed, match=r"`lab\.runs`: its plug-in's checks gave .+, which is no finding"):
        await ask(rig)
    assert (await rig.desk.rows(Query("_findings"))).rows == 0
    assert generate_latest(rig.meters.registry)


async def test_a_plug_in_that_finds_something_in_every_row_buries_nobody() -> None:
    rig = careful()
    for turn in range(5):
        rig.source().found = tuple(finding(Level.INFO, f"row_{1_000 * turn + row}") for row in range(1_000))
        shown = await ask(rig)
    assert len(texts(shown)) == MAX_FINDINGS
    assert texts(shown)[-1].startswith("info: 951 more findings, such as: ")
    lines = generate_latest(rig.meters.registry).splitlines()
    assert sum(line.startswith(b"bridge_findings_total") for line in lines) == MAX_NAMES + 1
    assert rig.counted("bridge_findings_total", dataset="lab.runs", check="other", level="info") == 5 * 49 - 199
    # The worst of them is not lost among the rest.
    rig.source().found = (*(finding(Level.INFO) for _ in range(100)), finding(Level.BLOCK))
    shown = await ask(rig)
    assert shown.meta.custom["error"] == "schema_mismatch"
    assert "52 more findings" in texts(shown)[-1]


async def test_a_column_that_is_gone_is_in_the_ledger_too() -> None:
    rig = checked()
    await ask(rig, GOOD)
    shown = await ask(rig, frame_of([(0, 1.0)], COLUMNS[:2]))
    assert shown.meta.custom["error"] == "schema_mismatch"
    [noted] = rig.keeper().ledger.active
    assert (noted.finding.check, noted.finding.column) == ("schema", "model")
    await ask(rig, GOOD)
    assert rig.keeper().ledger.active == ()


async def test_a_plug_in_that_refuses_without_a_finding_of_bridge_s_is_told_as_it_is() -> None:
    class Odd(Careful):
        kind = "odd"

        async def collect(self, query: Query) -> Frame:
            raise SchemaMismatch("the file has no header", remedy="write one")

    sources = [SourceConfig("lab", "odd", {}, (dataset(refresh_s=0, checks=checks(RANGE)),))]
    rig = make_desk(sources=sources, plugins={"odd": Plugin("odd", "tests", Odd)})
    with pytest.raises(SchemaMismatch, match="the file has no header"):
        await ask(rig)
    assert rig.keeper().ledger.active == ()
