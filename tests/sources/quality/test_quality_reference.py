"""Values are compared with those of another dataset, row by row, by their keys."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from quality_rig import SCHEMA, bound, judged, told

from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.sources.quality.bound import CheckError
from bridge.sources.quality.judge import asked, judge
from support import T0, span, table

INF, NAN = float("inf"), float("nan")
N, S, T = ColumnType.NUMBER, ColumnType.STRING, ColumnType.TIME
MINE = (Column("run", S), Column("accuracy", N, role=Role.MEASURE), Column("owner", S))
TRUTH = (Column("id", S), Column("best", N), Column("owner", S))


def mine(*rows: tuple[Any, ...], columns: tuple[Column, ...] = MINE) -> Frame:
    return Frame(table(rows, columns), Schema(columns), "lab.runs")


def truth(*rows: tuple[Any, ...], columns: tuple[Column, ...] = TRUTH) -> dict[str, Frame]:
    return {"lab.truth": Frame(table(rows, columns), Schema(columns), "lab.truth")}


def against(compare: Any = None, **more: Any) -> dict[str, Any]:
    """A check that compares `accuracy` with `best`."""
    compare = {"accuracy": "best"} if compare is None else compare
    return {"reference": {"dataset": "lab.truth", "on": {"run": "id"}, "compare": compare, **more}}


CASES: dict[str, tuple[Any, list[Any], list[Any], list[str]]] = {
    "the same": (against(), [("a", 1.0, "x")], [("a", 1.0, "x")], []),
    "another value": (
        against(),
        [("a", 1.0, "x"), ("b", 2.0, "x")],
        [("a", 1.0, "x"), ("b", 2.5, "x")],
        [
            "`accuracy`: 1 of 2 rows (50 %) differs from `best` of `lab.truth`, first 2 instead of 2.5 "
            "for run 'b' in row 2"
        ],
    ),
    "as near as allowed": (against(tolerance=0.1), [("a", 0.3, "x")], [("a", 0.2, "x")], []),
    "just further": (
        against(tolerance=0.1),
        [("a", 0.31, "x")],
        [("a", 0.2, "x")],
        [
            "`accuracy`: 1 of 1 row (100 %) differs from `best` of `lab.truth` by more than 0.1, first 0.31 instead "
            "of 0.2 for run 'a' in row 1"
        ],
    ),
    "a share of theirs": (against(tolerance_ratio=0.1), [("a", 110.0, "x")], [("a", 100.0, "x")], []),
    "more than a share": (
        against(tolerance_ratio=0.1, tolerance=1),
        [("a", 112.0, "x")],
        [("a", 100.0, "x")],
        [
            "`accuracy`: 1 of 1 row (100 %) differs from `best` of `lab.truth` by more than 1 and 10 %, first 112 "
            "instead of 100 for run 'a' in row 1"
        ],
    ),
    "nothing is near to an infinity": (
        against(tolerance_ratio=0.1),
        [("a", 1.0, "x"), ("b", INF, "x"), ("c", INF, "x")],
        [("a", INF, "x"), ("b", INF, "x"), ("c", 1.0, "x")],
        [
            "`accuracy`: 2 of 3 rows (66.7 %) differ from `best` of `lab.truth` by more than 10 %, first 1 instead "
            "of inf for run 'a' in row 1, inf instead of 1 for run 'c' in row 3"
        ],
    ),
    "what is empty on either side is not compared": (
        against(missing="fail"),
        [("a", None, "x"), ("b", NAN, "x"), ("c", 1.0, "x"), ("d", 1.0, "x")],
        [("a", 1.0, "x"), ("b", 1.0, "x"), ("c", NAN, "x"), ("d", None, "x")],
        [],
    ),
    "texts": (
        against({"owner": "owner"}),
        [("a", 1.0, "x")],
        [("a", 1.0, "y")],
        [
            "`owner`: 1 of 1 row (100 %) differs from `owner` of `lab.truth`, first 'x' instead of 'y' for run 'a' "
            "in row 1"
        ],
    ),
    "no partner": (against(), [("a", 1.0, "x"), (None, 1.0, "x")], [("b", 2.0, "x"), (None, 3.0, "x")], []),
    "no partner, which fails": (
        against(missing="fail"),
        [("a", 1.0, "x"), (None, 1.0, "x"), ("b", 2.0, "x")],
        [("b", 2.0, "x"), (None, 1.0, "x")],
        [
            "`accuracy`: 2 of 3 rows (66.7 %) have no partner in `lab.truth`, first run 'a' in row 1, run "
            "nothing in row 2",
        ],
    ),
    "both": (
        against(missing="fail"),
        [("a", 1.0, "x"), ("b", 2.0, "x")],
        [("b", 3.0, "x")],
        [
            "`accuracy`: 1 of 2 rows (50 %) differs from `best` of `lab.truth`, first 2 instead of 3 for run 'b' in "
            "row 2; 1 of 2 rows (50 %) has no partner in `lab.truth`, first run 'a' in row 1"
        ],
    ),
    "no row there": (against(), [("a", 1.0, "x")], [], []),
    "no row here": (against(missing="fail"), [], [("a", 1.0, "x")], []),
    "the last row of a key counts": (against(), [("a", 1.0, "x")], [("a", 2.0, "x"), ("a", 1.0, "x")], []),
    "as many as are allowed": (
        against(max_differing_ratio=0.5),
        [("a", 1.0, "x"), ("b", 2.0, "x")],
        [("a", 1.0, "x"), ("b", 3.0, "x")],
        [],
    ),
}


@pytest.mark.parametrize(("check", "rows", "theirs", "texts"), CASES.values(), ids=CASES)
def test_rows_that_differ_are_told(check: Any, rows: list[Any], theirs: list[Any], texts: list[str]) -> None:
    assert told(check, on=mine(*rows), others=truth(*theirs)) == texts


def test_several_columns_are_measured_each() -> None:
    found = judged(
        against({"accuracy": "best", "owner": "owner"}),
        on=mine(("a", 1.0, "x"), ("b", 2.0, "x")),
        others=truth(("a", 1.0, "y"), ("b", 3.0, "y")),
    )
    assert found.values == {("reference", "accuracy"): 0.5, ("reference", "owner"): 1.0}


@pytest.mark.parametrize(
    ("mine_type", "their_type", "value"),
    [(pl.Int64, pl.UInt64, 2**53 + 1), (pl.Int8, pl.Float64, 7), (pl.UInt64, pl.UInt64, 2**64 - 1)],
)
def test_keys_of_any_width_find_each_other(mine_type: Any, their_type: Any, value: int) -> None:
    columns = (Column("k", N), Column("v", N))
    left = pl.DataFrame([pl.Series("k", [value, 1], dtype=mine_type), pl.Series("v", [1.0, 1.0])])
    right = pl.DataFrame([pl.Series("k", [value, 1], dtype=their_type), pl.Series("v", [1.0, 2.0])])
    if value > 2**53:
        right = pl.concat([right, right.head(1).with_columns(pl.col("k") - 1, v=pl.lit(9.0))])
    check = {"reference": {"dataset": "lab.truth", "on": ["k"], "compare": "v", "missing": "fail"}}
    found = told(
        check,
        on=Frame(left, Schema(columns), "lab.runs"),
        others={"lab.truth": Frame(right, Schema(columns), "lab.truth")},
    )
    assert [text.partition(",")[0] for text in found] == ["`v`: 1 of 2 rows (50 %) differs from `v` of `lab.truth`"]


def test_large_whole_numbers_are_compared_as_such() -> None:
    columns = (Column("k", N), Column("v", N))
    left = pl.DataFrame({"k": [1], "v": [2**53 + 1]})
    right = pl.DataFrame({"k": [1], "v": [2**53]})
    check = {"reference": {"dataset": "lab.truth", "on": "k", "compare": "v"}}
    frames = [Frame(data, Schema(columns), "lab.x") for data in (left, right)]
    assert len(told(check, on=frames[0], others={"lab.truth": frames[1]})) == 1


@pytest.mark.parametrize("level", ["info", "warn", "block"])
def test_without_the_other_dataset_the_check_could_not_be_made(level: str) -> None:
    found = judged({**against(), "level": level}, on=mine(("a", 1.0, "x")), others={})
    [finding] = found.findings
    assert finding.text == (
        "the check `reference` of `accuracy` could not be made: `lab.truth` gave nothing to compare with"
    )
    assert (finding.level, found.blocked) == ("block" if level == "block" else "warn", level == "block")


def test_a_column_that_the_other_lost_since_is_told() -> None:
    gone = truth(("a", 1.0), columns=(*TRUTH[:1], Column("worst", N)))
    check = bound(against(), schema=Schema(MINE))
    assert check[0].check(mine(("a", 1.0, "x"))) == ()
    [finding] = judge(check, mine(("a", 1.0, "x")), gone, T0).findings
    assert "could not be made: `lab.truth`: there is no column `best`" in finding.text


def test_a_frame_that_was_narrowed_is_compared_in_what_is_there() -> None:
    check = against({"accuracy": "best", "owner": "owner"})
    on = mine(("a", 1.0, "x")).select(("run", "owner"))
    bound_check = bound(check, schema=Schema(MINE), known={"lab.truth": Schema(TRUTH)})
    found = judge(bound_check, on, truth(("a", 2.0, "x")), T0)
    assert (found.findings, found.skipped) == ((), (("reference", "accuracy"),))


MISFITS = {
    "a key of another type": (
        {"dataset": "lab.truth", "on": {"accuracy": "id"}, "compare": {"accuracy": "best"}},
        ("on", "accuracy"),
        "`accuracy` is a number, `id` of `lab.truth` is a text (a `cast` in the steps of one of them helps)",
    ),
    "a column that is not here": (
        {"dataset": "lab.truth", "on": {"run": "id"}, "compare": {"acuracy": "best"}},
        ("compare", "acuracy"),
        "there is no column `acuracy`",
    ),
    "a column that is not there": (
        {"dataset": "lab.truth", "on": {"run": "id"}, "compare": {"accuracy": "bst"}},
        ("compare", "accuracy"),
        "`lab.truth`: there is no column `bst` (did you mean `best`?",
    ),
    "texts that may be apart": (
        {"dataset": "lab.truth", "on": {"run": "id"}, "compare": {"run": "id"}, "tolerance_ratio": 1},
        ("tolerance_ratio",),
        "`run` is a text; only numbers may be apart",
    ),
}


@pytest.mark.parametrize(("given", "loc", "text"), MISFITS.values(), ids=MISFITS)
def test_a_comparison_that_does_not_fit_is_told_with_its_place(given: Any, loc: Any, text: str) -> None:
    with pytest.raises(CheckError) as caught:
        bound({"reference": given}, known={"lab.truth": Schema(TRUTH)})
    assert caught.value.loc == (0, "reference", *loc)
    assert text in str(caught.value)


def test_of_another_dataset_only_the_span_is_asked_where_time_is_a_key() -> None:
    known = {"lab.truth": SCHEMA, "lab.other": SCHEMA}
    timed = {"reference": {"dataset": "lab.truth", "on": ["time"], "compare": "accuracy"}}
    keyed = {"reference": {"dataset": "lab.truth", "on": ["run"], "compare": "accuracy"}, "name": "by_run"}
    other = {"reference": {"dataset": "lab.other", "on": ["run"], "compare": "accuracy"}, "name": "other"}
    some = span(0, 60)
    assert asked(bound(timed, {"complete": {}}, known=known), some) == {"lab.truth": Query("lab.truth", span=some)}
    assert asked(bound(timed, keyed, other, known=known), some) == {
        "lab.truth": Query("lab.truth"),
        "lab.other": Query("lab.other"),
    }
    assert asked(bound({"complete": {}}), some) == {}
