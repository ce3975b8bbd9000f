"""All checks of a frame together: names, parts of frames, and checks that themselves fail."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.exceptions import PanicException
from quality_rig import NOW, RUNS, SCHEMA, bound, column, frame, judged

from bridge.model.finding import Level
from bridge.model.frame import Frame
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.sources.base import DataValidator
from bridge.sources.quality.bound import Probe, Scene, Verdict
from bridge.sources.quality.judge import MAX_FINDINGS, BoundCheck, judge

N, S, T = ColumnType.NUMBER, ColumnType.STRING, ColumnType.TIME


def test_a_bound_check_is_a_validator_of_its_own() -> None:
    """It says what a whole frame alone can tell; ages and other datasets it leaves out."""
    complete, fresh, reference = bound(
        {"complete": ["done"], "level": "block"},
        {"fresh": 1},
        {"reference": {"dataset": "lab.truth", "on": "run", "compare": "accuracy"}},
    )
    validator: DataValidator = complete
    [finding] = validator.check(frame())
    assert (validator.name, finding.level, finding.column) == ("complete", Level.BLOCK, "done")
    assert [*fresh.check(frame()), *reference.check(frame())] == []


def test_checks_that_measure_the_same_get_numbers_and_others_keep_their_names() -> None:
    found = bound(
        {"complete": {}},
        {"complete": ["accuracy"]},
        {"range": {"column": "accuracy", "min": 0}},
        {"range": {"column": "time", "min": "2020-01-01"}},
        {"range": {"column": "accuracy", "max": 1}, "name": "share"},
        {"range": {"column": "accuracy", "max": 2}},
        {"rule": "done"},
        {"rule": "accuracy > 0"},
        {"rule": "accuracy > 1"},
    )
    assert [check.name for check in found] == [
        *("complete", "complete_2", "range", "range", "share", "range_2", "rule", "rule_2", "rule_3"),
    ]


def test_a_frame_is_blocked_by_a_finding_of_level_block_only() -> None:
    assert not judged({"complete": {}}).blocked
    assert judged({"complete": {}, "level": "block"}).blocked
    assert not judged({"complete": ["run"], "level": "block"}).blocked


def test_a_check_whose_columns_are_not_there_is_skipped_and_has_not_passed() -> None:
    on = frame().select(("time", "accuracy"))
    found = judge(bound({"complete": {}}, {"unique": {}}, {"rule": "accuracy > 0 or done"}), on, {}, NOW)
    assert found.made == {("complete", "time"), ("complete", "accuracy")}
    assert set(found.skipped) == {("complete", name) for name in ("model", "run", "done", "config")} | {
        ("unique", ""),
        ("rule", ""),
    }


def test_of_a_check_over_many_columns_twenty_findings_are_told() -> None:
    names = [f"c{number}" for number in range(1_000)]
    schema = Schema(tuple(Column(name, N) for name in names))
    data = pl.DataFrame({name: [None, 1.0] for name in names})
    found = judged({"complete": {}, "level": "block"}, on=Frame(data, schema, "lab.wide"))
    assert len(found.findings) == MAX_FINDINGS
    last = found.findings[-1]
    assert last.text == ("the same is wrong with 981 more columns: `c19`, `c20`, `c21`, `c22`, `c23` and 976 more")
    assert (last.column, last.level, last.rows) == (None, Level.BLOCK, 1)
    assert len(found.values) == 1_000
    assert ("complete", "") in found.made


# Checks that fail


def broken(error: BaseException, level: Level, *, late: bool, name: str = "odd") -> BoundCheck:
    """A check that fails, when its numbers are made or when it is to say what they mean."""

    def fails(*_: Any) -> Any:
        raise error

    def fine(_: Scene) -> tuple[pl.Expr, ...]:
        return (pl.len(),)

    probe = Probe("accuracy", frozenset(), fails, fine) if late else Probe("accuracy", frozenset(), fails, fails)
    return BoundCheck(name, level, (probe,))


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PanicException("range end out of bounds\nat polars/x.rs"), "PanicException: range end out of bounds"),
        (OverflowError("too large"), "OverflowError: too large"),
        (MemoryError(), "MemoryError: "),
        (pl.exceptions.ComputeError("x" * 10_000), "ComputeError: " + "x" * 186),
    ],
)
@pytest.mark.parametrize(
    ("level", "given_level"), [(Level.INFO, Level.WARN), (Level.WARN, Level.WARN), (Level.BLOCK, Level.BLOCK)]
)
def test_a_check_that_fails_is_a_finding_and_the_others_are_made(
    error: BaseException, reason: str, level: Level, given_level: Level, late: bool
) -> None:
    found = judge((broken(error, level, late=late), *bound({"complete": ["done"]})), frame(), {}, NOW)
    odd, complete = found.findings
    assert odd.text == f"the check `odd` of `accuracy` could not be made: {reason}"
    assert (odd.level, odd.column, found.blocked) == (given_level, "accuracy", level is Level.BLOCK)
    assert complete.check == "complete"


def test_data_of_another_type_than_declared_fails_its_own_check_only() -> None:
    """The numbers of all checks are made in one go; what breaks that is found, and the rest made without it."""
    data = frame().data.with_columns(accuracy=pl.lit("high"))
    found = judge(
        bound({"range": {"column": "accuracy", "min": 0}, "level": "block"}, {"complete": ["done"]}),
        replace(frame(), data=data),
        {},
        NOW,
    )
    assert [finding.text.partition(":")[0] for finding in found.findings] == [
        "the check `range` of `accuracy` could not be made",
        "`done`",
    ]
    assert found.blocked


def test_data_on_which_polars_panics_fails_its_own_check_only() -> None:
    def year(_: Scene) -> tuple[pl.Expr, ...]:
        return (pl.col("time").dt.strftime("%Y").max(),)

    data = frame().data.with_columns(time=pl.lit(-(2**63) + 1).cast(pl.Datetime("us", "UTC")))
    panics = BoundCheck("year", Level.WARN, (Probe("time", frozenset({"time"}), lambda *_: Verdict(), year),))
    found = judge((panics, *bound({"complete": ["done"]})), replace(frame(), data=data), {}, NOW)
    assert found.findings[0].text.startswith("the check `year` of `time` could not be made: PanicException: ")
    assert [finding.check for finding in found.findings] == ["year", "complete"]


def test_a_cancelled_or_interrupted_judgement_is_no_finding() -> None:
    with pytest.raises(KeyboardInterrupt):
        judge((broken(KeyboardInterrupt(), Level.WARN, late=True),), frame(), {}, NOW)


def test_a_rule_whose_texts_would_outgrow_memory_is_not_made() -> None:
    once = f"concat({', '.join(['x'] * 14)})"
    twice = f"concat({', '.join([once] * 14)})"
    found = judged({"rule": f"length({twice}) > 0"}, on=column(S, ["r" * 500_000]))
    assert "could not be made: its texts could take" in found.findings[0].text


# Whatever the data is


EVERY = (
    {"complete": {}},
    {"gaps": 1},
    {"gaps": {"max_gap_s": 1e9, "by": []}},
    {"rows": {"min": 1, "max": 2}},
    {"range": {"column": "accuracy", "min": 0, "max": 1}},
    {"range": {"column": "time", "min": "2000-01-01", "max": "2030-01-01"}},
    {"one_of": {"column": "model", "values": ["a"]}},
    {"one_of": {"column": "accuracy", "values": [0, 1.5, -1e300, 2**63]}},
    {"one_of": {"column": "done", "values": [True]}},
    {"matches": {"column": "model", "pattern": ".*"}},
    {"unique": {}},
    {"unique": ["accuracy", "done", "config"]},
    {"unique": "accuracy"},
    {"ordered": {}},
    {"ordered": {"column": "accuracy", "strictly": True}},
    {"types": {"accuracy": "integer", "run": "time", "config": "json"}},
    {"rule": "accuracy > 0 and done or length(model) > 1"},
    {"fresh": 60},
    {"reference": {"dataset": "lab.truth", "on": ["model"], "compare": ["accuracy", "time"], "missing": "fail"}},
    {"reference": {"dataset": "lab.truth", "on": ["accuracy"], "compare": "accuracy"}, "name": "own"},
)
NUMBERS: Any = {
    pl.Float64(): st.floats(),
    pl.Float32(): st.floats(width=32),
    pl.Int64(): st.integers(-(2**63), 2**63 - 1),
    pl.UInt64(): st.integers(0, 2**64 - 1),
    pl.Int8(): st.integers(-128, 127),
}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.just("z" * 10_000)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    """Tables of any length, with whatever a column of the declared type may hold."""
    height = draw(st.integers(0, 12))
    number = draw(st.sampled_from(list(NUMBERS)))
    kinds: list[tuple[str, Any, Any]] = [
        ("time", pl.Int64(), st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2 * 10**15)),
        ("model", pl.String(), TEXT),
        ("accuracy", number, NUMBERS[number]),
        ("run", pl.String(), TEXT),
        ("done", pl.Boolean(), st.booleans()),
        ("config", pl.String(), TEXT | st.just("{}")),
    ]
    data = pl.DataFrame(
        [
            pl.Series(name, draw(st.lists(st.none() | values, min_size=height, max_size=height)), dtype=dtype)
            for name, dtype, values in kinds
        ]
    )
    return Frame(data.with_columns(pl.col("time").cast(pl.Datetime("us", "UTC"))), SCHEMA, "lab.runs")


@given(frames(), frames(), st.booleans())
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_the_data_is_every_check_can_be_made(on: Frame, other: Frame, whole: bool) -> None:
    found = judge(bound(*EVERY, known={"lab.truth": SCHEMA}), on, {"lab.truth": other}, NOW, whole=whole)
    for finding in found.findings:
        assert "could not be made" not in finding.text
        assert finding.text.isprintable()
        assert len(finding.text) < 1_500
        assert finding.level is Level.WARN
    assert {(finding.check, finding.column or "") for finding in found.findings} <= found.made
    assert found.values.keys() <= found.made
    assert not found.made & set(found.skipped)
    json.dumps([*found.values.values()], allow_nan=False)


def reckoned(rows: list[tuple[Any, ...]], most_s: float) -> tuple[int, float]:
    """Gaps, counted by hand: how many, and the longest."""
    worst, count = 0.0, 0
    for model in {row[1] for row in rows}:
        times = sorted(row[0] for row in rows if row[1] == model)
        apart = [late - early for early, late in pairwise(times)]
        worst = max([worst, *apart])
        count += sum(value > most_s for value in apart)
    return count, worst


@given(st.lists(st.tuples(st.integers(0, 100), st.sampled_from(["a", "b", "c"])), max_size=30), st.integers(1, 20))
@settings(max_examples=150, deadline=None)
def test_gaps_repetitions_and_steps_back_are_those_a_loop_finds(rows: list[tuple[int, str]], most_s: int) -> None:
    on = frame([(second, model, number, "r", None, None) for number, (second, model) in enumerate(rows)], RUNS)
    found = judge(bound({"gaps": most_s}, {"unique": {}}, {"ordered": {}}), on, {}, NOW)
    count, worst_s = reckoned(rows, most_s)
    back = 0
    for model in {model for _, model in rows}:
        times = [second for second, other in rows if other == model]
        back += sum(late < early for early, late in pairwise(times))
    told = {finding.check: finding.rows for finding in found.findings}
    surplus = len(rows) - len(set(rows))
    wanted = {"gaps": count, "unique": surplus, "ordered": back}
    assert told == {check: number for check, number in wanted.items() if number}
    assert found.values == {("gaps", "time"): worst_s, ("unique", ""): surplus, ("ordered", "time"): back}


def test_dimensions_are_the_series_also_where_they_are_numbers() -> None:
    schema = Schema((Column("time", T, role=Role.TIME), Column("site", N, role=Role.DIMENSION)))
    data = pl.DataFrame({"time": pl.Series([0, 100, 1]).cast(pl.Datetime("us", "UTC")), "site": [1.0, 2.0, -0.0]})
    assert judged({"gaps": 1e-6}, on=Frame(data, schema, "lab.x")).findings == ()
    assert Verdict() == Verdict(None, "", 0)
