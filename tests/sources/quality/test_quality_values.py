"""Checks of values: each says how many rows are not well, of how many, and shows a few of them."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from quality_rig import RUNS, bound, checks, column, frame, judged, told

from bridge.model.frame import Frame
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.sources.quality.bound import CheckError

INF, NAN = float("inf"), float("nan")
N, S, B, J, T = (
    ColumnType.NUMBER,
    ColumnType.STRING,
    ColumnType.BOOLEAN,
    ColumnType.JSON,
    ColumnType.TIME,
)

# What is looked at, the check, and what it says; nothing where all is well.
TEXTS: dict[str, tuple[Frame, dict[str, Any], list[str]]] = {
    "all there": (column(N, [1.0, 2.0]), {"complete": "x"}, []),
    "empty ones": (
        column(N, [1.0, None, NAN, 2.0]),
        {"complete": "x"},
        ["`x`: 2 of 4 values (50 %) are empty, first in row 2, in row 3"],
    ),
    "one empty": (column(S, ["a", None]), {"complete": "x"}, ["`x`: 1 of 2 values (50 %) is empty, first in row 2"]),
    "an empty text is there": (column(S, ["", "a"]), {"complete": "x"}, []),
    "as many empty as are allowed": (
        column(N, [None, 1.0]),
        {"complete": {"columns": "x", "max_null_ratio": 0.5}},
        [],
    ),
    "more empty than are allowed": (
        column(N, [None, None, 1.0]),
        {"complete": {"columns": "x", "max_null_ratio": 0.5}},
        ["`x`: 2 of 3 values (66.7 %) are empty, first in row 1, in row 2; 50 % are allowed"],
    ),
    "all null": (
        column(N, [None] * 5),
        {"complete": "x"},
        ["`x`: 5 of 5 values (100 %) are empty, first in row 1, in row 2, in row 3"],
    ),
    "a range of both edges": (column(N, [0.0, 0.5, 1.0]), {"range": {"column": "x", "min": 0, "max": 1}}, []),
    "outside a range": (
        column(N, [-1.0, 0.5, INF, None, NAN]),
        {"range": {"column": "x", "min": 0, "max": 1}},
        ["`x`: 2 of 3 values (66.7 %) are outside 0 to 1, first -1 in row 1, inf in row 3"],
    ),
    "below": (
        column(N, [-INF, 5.0]),
        {"range": {"column": "x", "min": 0.5}},
        ["`x`: 1 of 2 values (50 %) is below 0.5, first -inf in row 1"],
    ),
    "above": (
        column(N, pl.Series([2**62, 5])),
        {"range": {"column": "x", "max": 10}},
        ["`x`: 1 of 2 values (50 %) is above 10, first 4611686018427387904 in row 1"],
    ),
    "large whole numbers are told apart": (
        column(N, pl.Series([2**53, 2**53 + 1])),
        {"range": {"column": "x", "max": 2**53}},
        ["`x`: 1 of 2 values (50 %) is above 9007199254740992, first 9007199254740993 in row 2"],
    ),
    "unsigned numbers below nothing": (
        column(N, pl.Series([0, 2**64 - 1], dtype=pl.UInt64)),
        {"range": {"column": "x", "min": -5}},
        [],
    ),
    "small numbers far from the edges": (
        column(N, pl.Series([-100, 100], dtype=pl.Int8)),
        {"range": {"column": "x", "min": -1e300, "max": 70_000}},
        [],
    ),
    "only NaN and null are in every range": (column(N, [NAN, None]), {"range": {"column": "x", "min": 0}}, []),
    "times": (
        column(T, [0, 60]),
        {"range": {"column": "x", "min": "2026-01-31T12:00:30Z"}},
        ["`x`: 1 of 2 values (50 %) is below 2026-01-31T12:00:30Z, first 2026-01-31 12:00:00 UTC in row 1"],
    ),
    "one of": (column(S, ["a", "b", None]), {"one_of": {"column": "x", "values": ["a", "b"]}}, []),
    "none of": (
        column(S, ["a", "c"]),
        {"one_of": {"column": "x", "values": ["a", "b"]}},
        ["`x`: 1 of 2 values (50 %) is none of the 2 that are known, first 'c' in row 2"],
    ),
    "whole numbers among floats": (column(N, [1.0, 2.0, NAN]), {"one_of": {"column": "x", "values": [1, 2]}}, []),
    "whole numbers are not rounded": (
        column(N, pl.Series([2**53 + 1])),
        {"one_of": {"column": "x", "values": [2**53, 1.5]}},
        ["`x`: 1 of 1 value (100 %) is none of the 2 that are known, first 9007199254740993 in row 1"],
    ),
    "numbers that do not fit the column": (
        column(N, pl.Series([1, 44], dtype=pl.Int8)),
        {"one_of": {"column": "x", "values": [1, 300, -1e300]}},
        ["`x`: 1 of 2 values (50 %) is none of the 3 that are known, first 44 in row 2"],
    ),
    "single floats": (
        column(N, pl.Series([0.1], dtype=pl.Float32)),
        {"one_of": {"column": "x", "values": [0.1]}},
        [],
    ),
    "booleans": (
        column(B, [True, None, False]),
        {"one_of": {"column": "x", "values": [True]}},
        ["`x`: 1 of 2 values (50 %) is none of the 1 that are known, first false in row 3"],
    ),
    "json as text": (column(J, ["{}"]), {"one_of": {"column": "x", "values": ["{}"]}}, []),
    "a match from end to end": (
        column(S, ["r1", "xr1", "r1\n", None]),
        {"matches": {"column": "x", "pattern": "r[0-9]"}},
        ["`x`: 2 of 3 values (66.7 %) do not match `r[0-9]`, first 'xr1' in row 2, 'r1<U+000A>' in row 3"],
    ),
    "whole numbers": (column(N, [1.0, None, -3e300, NAN]), {"types": {"x": "integer"}}, []),
    "numbers with a fraction": (
        column(N, [1.5, INF, 2.0]),
        {"types": {"x": "integer"}},
        ["`x`: 2 of 3 values (66.7 %) are no whole numbers, first 1.5 in row 1, inf in row 2"],
    ),
    "an integer column": (column(N, pl.Series([1, 2])), {"types": {"x": "integer"}}, []),
    "whole numbers as text": (
        column(S, ["12", "-3", "1.0", "٣", ""]),
        {"types": {"x": "integer"}},
        ["`x`: 3 of 5 values (60 %) are no whole numbers, first '1.0' in row 3, '٣' in row 4, '' in row 5"],
    ),
    "json": (
        column(S, ["{}", "[1", None, "NaN"]),
        {"types": {"x": "json"}},
        ["`x`: 2 of 3 values (66.7 %) are no JSON, first '[1' in row 2, 'NaN' in row 4"],
    ),
    "json that repeats": (
        column(J, ["{", "1", None, "{", "1", "{"]),
        {"types": {"x": "json"}},
        ["`x`: 3 of 5 values (60 %) are no JSON, first '{' in row 1, '{' in row 4, '{' in row 6"],
    ),
    "json that is always empty": (column(J, [None, None]), {"types": {"x": "json"}}, []),
    "json too deep to read": (
        column(J, ["[" * 100_000]),
        {"types": {"x": "json"}},
        [f"`x`: 1 of 1 value (100 %) is no JSON, first '{'[' * 79}…' in row 1"],
    ),
    "times as text": (
        column(S, ["2026-01-31T12:00:00Z", "soon", None]),
        {"types": {"x": "time"}},
        ["`x`: 1 of 2 values (50 %) is no time, first 'soon' in row 2"],
    ),
    "a rule": (column(N, [1.0, None]), {"rule": "x > 0"}, []),
    "a broken rule": (
        column(N, [-1.0, 0.5, None]),
        {"rule": "x > 0"},
        ["1 of 3 rows (33.3 %) breaks the rule `x > 0`, first x -1 in row 1"],
    ),
    "a rule of NaN is not broken": (column(N, [NAN, INF]), {"rule": "x < 0"}, []),
    "a huge example": (
        column(S, ["y" * 100_000]),
        {"one_of": {"column": "x", "values": ["a"]}},
        [f"`x`: 1 of 1 value (100 %) is none of the 1 that are known, first '{'y' * 79}…' in row 1"],
    ),
    "an example with line breaks and terminal codes": (
        column(S, ["a\n\x1b[31mb"]),
        {"one_of": {"column": "x", "values": ["a"]}},
        [
            "`x`: 1 of 1 value (100 %) is none of the 1 that are known, first 'a<U+000A><U+001B>[31mb' in row 1",
        ],
    ),
}


@pytest.mark.parametrize(("on", "check", "texts"), TEXTS.values(), ids=TEXTS)
def test_each_check_says_what_is_wrong_and_nothing_else(on: Frame, check: dict[str, Any], texts: list[str]) -> None:
    assert told(check, on=on) == texts


@pytest.mark.parametrize(
    "check",
    [
        {"complete": {}},
        {"range": {"column": "accuracy", "min": 5}},
        {"one_of": {"column": "model", "values": ["x"]}},
        {"matches": {"column": "model", "pattern": "x"}},
        {"types": {"accuracy": "integer", "config": "json", "run": "time"}},
        {"rule": "accuracy > 5"},
        {"unique": {}},
        {"gaps": 1},
        {"ordered": {}},
    ],
    ids=lambda check: next(iter(check)),
)
def test_of_a_table_without_rows_nothing_is_wrong(check: dict[str, Any]) -> None:
    found = judged(check, on=frame(()))
    assert found.findings == ()
    assert found.made


def test_an_example_says_when_it_was_and_in_which_series() -> None:
    rows = [(0, "svm", 1.7, "r1", None, None), (0.5, None, 2.0, "r2", None, None), (None, "a", -1, "r", None, None)]
    assert told({"range": {"column": "accuracy", "min": 0, "max": 1}}, on=frame(rows)) == [
        "`accuracy`: 3 of 3 values (100 %) are outside 0 to 1, first 1.7 at 2026-01-31 12:00:00 UTC (model 'svm'), "
        "2 at 2026-01-31 12:00:00.5 UTC (model nothing), -1 (model 'a')"
    ]


def test_a_time_that_no_calendar_has_is_shown_as_the_number_it_is() -> None:
    times = pl.Series("time", [2**62, -(2**62)]).cast(pl.Datetime("us", "UTC"))
    schema = Schema((Column("time", T, role=Role.TIME), Column("x", N)))
    on = Frame(pl.DataFrame([times, pl.Series("x", [1.0, 2.0])]), schema, "lab.x")
    found = told({"range": {"column": "x", "max": 0}}, {"range": {"column": "time", "max": "2026-01-31"}}, on=on)
    assert found == [
        "`x`: 2 of 2 values (100 %) are above 0, first 1 at 4611686018427387904 µs since 1970, "
        "2 at -4611686018427387904 µs since 1970",
        "`time`: 1 of 2 values (50 %) is above 2026-01-31, first 4611686018427387904 µs since 1970 in row 1",
    ]


@pytest.mark.parametrize(
    ("bad", "rows", "words"),
    [(1, 100_000, "(0.001 %)"), (99_999, 100_000, "(more than 99.9 %)"), (1, 3, "(33.3 %)"), (7, 7, "(100 %)")],
)
def test_a_share_is_not_said_to_be_none_or_all_where_it_is_neither(bad: int, rows: int, words: str) -> None:
    values = pl.Series([1.0] * (rows - bad) + [9.0] * bad)
    assert words in told({"range": {"column": "x", "max": 5}}, on=column(N, values))[0]


def test_ten_thousand_values_may_be_listed() -> None:
    known = [f"m{number}" for number in range(10_000)]
    on = column(S, [*known, "other"])
    assert told({"one_of": {"column": "x", "values": known}}, on=on) == [
        "`x`: 1 of 10001 values (0.01 %) is none of the 10000 that are known, first 'other' in row 10001"
    ]


def test_the_measured_share_is_told_with_and_without_a_finding() -> None:
    found = judged(
        {"complete": ["accuracy", "run"]},
        {"range": {"column": "accuracy", "max": 0.5, "max_outside_ratio": 1}},
        on=frame([(0, "a", None, "r", None, None), (1, "a", 0.75, "r", None, None)]),
    )
    assert found.values == {("complete", "accuracy"): 0.5, ("complete", "run"): 0, ("range", "accuracy"): 1}
    [finding] = found.findings
    assert (finding.check, finding.column, finding.rows, finding.value) == ("complete", "accuracy", 1, 0.5)


MISFITS = {
    "an unknown column": (
        {"complete": ["acuracy"]},
        ("complete", "columns", 0),
        "there is no column `acuracy` (did you mean `accuracy`? the columns are time, model, accuracy, run, done, "
        "config)",
    ),
    "a range of texts": (
        {"range": {"column": "run", "min": 1}},
        ("range", "column"),
        "`run` is a text, `range` is for a number or a time",
    ),
    "an edge that is no number": (
        {"range": {"column": "accuracy", "min": "low"}},
        ("range", "min"),
        "`accuracy` is a number, 'low' is none",
    ),
    "an edge that is no time": (
        {"range": {"column": "time", "max": "tomorrow"}},
        ("range", "max"),
        "`max` is not a time: 'tomorrow' (write it as 2026-01-31T12:00:00Z)",
    ),
    "edges that cross": (
        {"range": {"column": "accuracy", "min": 1, "max": 0}},
        ("range", "min"),
        "`min` is more than `max`; no value could pass",
    ),
    "a number among texts": (
        {"one_of": {"column": "model", "values": ["a", 1]}},
        ("one_of", "values", 1),
        "`model` is a text, '1' is a number (put it in quotes)",
    ),
    "a flag among numbers": (
        {"one_of": {"column": "accuracy", "values": [True]}},
        ("one_of", "values", 0),
        "`accuracy` is a number, 'True' is true or false",
    ),
    "a number of more than 64 bits": (
        {"one_of": {"column": "accuracy", "values": [2**70]}},
        ("one_of", "values", 0),
        "a whole number of more than 64 bits stands in no column",
    ),
    "values of times": (
        {"one_of": {"column": "time", "values": ["a"]}},
        ("one_of", "column"),
        "`time` is a time, `one_of` is for a text or a number or true or false or a text of kind json",
    ),
    "a pattern over numbers": (
        {"matches": {"column": "accuracy", "pattern": "1"}},
        ("matches", "column"),
        "`accuracy` is a number, `matches` is for a text or a text of kind json",
    ),
    "numbers as JSON": (
        {"types": {"accuracy": "json"}},
        ("types", "accuracy"),
        "`accuracy` is a number, `json` is for a text or a text of kind json",
    ),
    "a rule of an unknown column": (
        {"rule": "acc > 1"},
        ("rule", "that"),
        "at character 1: there is no column `acc`",
    ),
    "a rule that is no condition": (
        {"rule": "accuracy"},
        ("rule", "that"),
        "is a number, a condition is true or false",
    ),
    "a rule of nothing": (
        {"rule": "1 > 0"},
        ("rule", "that"),
        "the condition speaks of no column; it says nothing of any row",
    ),
}


@pytest.mark.parametrize(("check", "loc", "text"), MISFITS.values(), ids=MISFITS)
def test_a_check_that_does_not_fit_the_columns_is_told_with_its_place(
    check: dict[str, Any], loc: tuple[str | int, ...], text: str
) -> None:
    with pytest.raises(CheckError) as caught:
        bound({"complete": {}}, check)
    assert caught.value.loc == (1, *loc)
    assert text in str(caught.value)


@pytest.mark.parametrize("pattern", ["(a{1000}){1000}", "(", "(?=a)", r"(a)\1", "a)|(b", r"(\pL{500}){50}"])
def test_a_pattern_that_cannot_be_used_is_refused_when_it_is_read(pattern: str) -> None:
    with pytest.raises(CheckError, match="does not compile") as caught:
        bound({"matches": {"column": "model", "pattern": pattern}})
    assert caught.value.loc == (0, "matches", "pattern")


def test_a_pattern_that_backtracking_would_choke_on_is_answered_at_once() -> None:
    rows = [(0, "a" * 50_000 + "!", 1.0, "r", None, None)]
    assert len(told({"matches": {"column": "model", "pattern": "(a+)+"}}, on=frame(rows))) == 1


@pytest.mark.parametrize("name", ["complete", "range", "level", "name", "rows", "values", "0", "series", "order"])
def test_a_column_may_be_called_like_a_check(name: str) -> None:
    schema = Schema((Column("time", T, role=Role.TIME), Column(name, N), Column("value", S, role=Role.DIMENSION)))
    data = pl.DataFrame(
        {"time": pl.Series([0, 10]).cast(pl.Datetime("us", "UTC")), name: [5.0, None], "value": ["a", "a"]}
    )
    found = told(
        {"complete": [name]},
        {"range": {"column": name, "max": 1}},
        {"types": {name: "integer"}},
        {"unique": [name, "value"]},
        {"ordered": name},
        {"gaps": 1},
        on=Frame(data, schema, "lab.x"),
    )
    assert [text.split(":")[0] for text in found] == [f"`{name}`", f"`{name}`"]


def test_all_columns_are_looked_at_where_none_is_named() -> None:
    assert [probe.column for probe in bound({"complete": {}})[0].probes] == [item.name for item in RUNS]
    assert checks({"complete": {}})[0].kind == "complete"


def test_a_name_that_is_long_or_would_break_a_line_is_cut() -> None:
    name = "a\n" + "b" * 5_000
    schema = Schema(
        (Column(name, N), Column("time\x1b", T, role=Role.TIME), Column("d" * 3_000, S, role=Role.DIMENSION))
    )
    times = pl.Series([100_000_000, 0]).cast(pl.Datetime("us", "UTC"))
    data = pl.DataFrame([pl.Series(name, [9.0, None]), times.alias("time\x1b"), pl.Series("d" * 3_000, ["s", "s"])])
    texts = told(
        {"complete": ["time\x1b"]},
        {"complete": {}},
        {"ordered": {}},
        {"gaps": 1},
        {"fresh": 1},
        {"unique": {}},
        on=Frame(data, schema, "lab.x"),
    )
    assert len(texts) == 4
    assert all(text.isprintable() and len(text) < 700 for text in texts)
