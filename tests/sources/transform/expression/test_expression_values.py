"""What expressions evaluate to, by hand-picked cases."""

from __future__ import annotations

import math
import threading
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from bridge.model.frame import TIME_DTYPE
from bridge.model.schema import Column, ColumnType, Schema
from bridge.sources.transform.expression import Compiled, compile_condition, compile_expression

SCHEMA = Schema(
    (
        Column("x", ColumnType.NUMBER),
        Column("whole", ColumnType.NUMBER),
        Column("model", ColumnType.STRING),
        Column("ok", ColumnType.BOOLEAN),
        Column("time", ColumnType.TIME),
        Column("tags", ColumnType.JSON),
        Column("a `b`", ColumnType.NUMBER),
        Column("In", ColumnType.NUMBER),
    )
)
FAR_US = 9 * 10**18
DATA = pl.DataFrame(
    {
        "x": [1.5, float("nan"), float("inf"), None],
        "whole": [7, -7, 2**62, None],
        "model": ["svm", "Forest/Ä", "", None],
        "ok": [True, False, True, None],
        "time": pl.Series([0, 1_769_860_800_123_456, FAR_US, None]).cast(TIME_DTYPE),
        "tags": ['{"a": {"b.c": [1, "x"]}}', "{", "[1e15]", None],
        "a `b`": [1.0, 2.0, 3.0, 4.0],
        "In": [1.0, 2.0, 3.0, 4.0],
    }
)


def values(text: str, data: pl.DataFrame = DATA) -> list[Any]:
    return data.with_columns(compile_expression(text, SCHEMA).polars().alias("result"))["result"].to_list()


def value(text: str) -> Any:
    """Of an expression that is the same for all rows."""
    first, *others = values(text)
    assert all(other == first for other in others)
    return first


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("2 ^ 3 ^ 2", 512),
        ("-2 ^ 2", -4),
        ("2 ^ -1", 0.5),
        ("-2 * 3", -6),
        ("- (1 + 1)", -2),
        ("--2", 2),
        ("7 - 4 - 2", 1),
        ("8 / 4 / 2", 1),
        ("-7 % 3", 2),
        ("9077816610887674 % 3", 1),
        ("3 / 10", 0.3),
        ("7 % -3", -2),
        (".5 + 1. + 1e-1", 1.6),
        ("1 = 1 and 2 = 3 or true", True),
        ("true or true and false", True),
        ("not 1 = 2", True),
        ("not true or true", True),
        ("NOT False AND Null IS NULL", True),
        ("1 == 1.0", True),
        ("1 <> 2", True),
        ("1 != 1", False),
        ("'a' < 'b'", True),
        ("'b' <= 'a'", False),
        ("2 >= 2", True),
        ("true = not false", True),
        ("3 in (1, 2, 1 + 2)", True),
        ("3 not in (1, 2)", True),
        ("time('2026-01-01') in (time('2026-01-01T00:00:00Z'))", True),
        ("1 is not null", True),
        ("'abc' =~ 'a.c'", True),
        ("'xabc' =~ 'a.c'", False),
        ("'a\\nc' =~ 'a.c'", True),
        ("'abc' !~ 'a'", True),
        ("'it''s'", "it's"),
        ('"a""b\'\'"', "a\"b''"),
        (r"'a\'\"\n\r\t\\\u00e9'", "a'\"\n\r\t\\é"),
        (r"'\d\.'", r"\d\."),
        ("'tab\there\nand line'", "tab\there\nand line"),
        (" 1\n+\t1\r\n", 2),
        ("round(2.5)", 3),
        ("round(-2.5)", -3),
        ("round(1e300, 15)", 1e300),
        ("clip(5, null, 3)", 3),
        ("clip(1, 2, null)", 2),
        ("log10(2)", math.log10(2)),
        ("log2(1e-3)", math.log2(1e-3)),
        ("min(time('2026-01-02'), time('2026-01-01')) = time('2026-01-01')", True),
        ("if(null, 1, 2)", 2),
        ("extract('abc', 'b.?')", "bc"),
        ("extract('abc', '(b)(c)')", "b"),
        ("extract('abc', '(b)(c)', 2)", "c"),
        ("extract('abc', '(b)(c)', 0)", "bc"),
        ("replace('a$1', '$', '$0')", "a$01"),
        ("replace('aaa', 'aa', '')", "a"),
        ("slice('forest', -3)", "est"),
        ("slice('forest', 1.9, 2.9)", "or"),
        ("slice('forest', 0, -1)", ""),
        ("slice('forest', 99)", ""),
        ("slice('forest', 3, 1e300)", "est"),
        ("slice('forest', -1e300, 2)", ""),
        ("split_part('a//b', '//', 2)", "b"),
        ("json_get('[[1,2],[3]]', '1.0')", "3"),
        ("json_get('{\"a\": {\"b\": [1, 2]}}', 'a')", '{"b":[1,2]}'),
        ("text(1e300)", "1e+300"),
        ("text(-0.0)", "0"),
        ("text(0.1)", "0.1"),
        ("text(true)", "true"),
        ("text(time('2026-01-31T12:00:00.5Z'))", "2026-01-31T12:00:00.500Z"),
        ("number('9007199254740993')", 2.0**53),
        ("number(5)", 5),
        ("boolean(1)", True),
        ("boolean(true)", True),
        ("time(1700000000) = time(1700000000000) and time('1700000000') = time(1700000000)", True),
        ("time(time(0)) = time(0)", True),
        ("time('2026-01-31T12:00:00+01:00')", datetime(2026, 1, 31, 11, tzinfo=UTC)),
        ("time('2026-01-31') + 0.000001", datetime(2026, 1, 31, 0, 0, 0, 1, tzinfo=UTC)),
        ("60 + time('2026-01-31')", datetime(2026, 1, 31, 0, 1, tzinfo=UTC)),
        ("time('2026-01-31') - 86400", datetime(2026, 1, 30, tzinfo=UTC)),
        ("time('2026-01-31') - time('2026-02-01')", -86_400),
        ("truncate(time('2026-05-31T12:34:56.7Z'), 'second')", datetime(2026, 5, 31, 12, 34, 56, tzinfo=UTC)),
        ("truncate(time('2026-05-31T12:34:56Z'), 'minute')", datetime(2026, 5, 31, 12, 34, tzinfo=UTC)),
        ("truncate(time('2026-05-31T12:34:56Z'), 'hour')", datetime(2026, 5, 31, 12, tzinfo=UTC)),
        ("truncate(time('2026-05-31T12:34:56Z'), 'day')", datetime(2026, 5, 31, tzinfo=UTC)),
        ("truncate(time('1969-12-31T12:00:00Z'), 'week')", datetime(1969, 12, 29, tzinfo=UTC)),
        ("truncate(time('2026-05-31'), 'month')", datetime(2026, 5, 1, tzinfo=UTC)),
        ("truncate(time('2026-05-31'), 'quarter')", datetime(2026, 4, 1, tzinfo=UTC)),
        ("truncate(time('2026-05-31'), 'year')", datetime(2026, 1, 1, tzinfo=UTC)),
        ("truncate(time('2026-01-01T00:00:59.9Z'), 'minute') - time('2026-01-01')", 0),
    ],
)
def test_an_expression_has_the_value_that_its_reading_says(text: str, wanted: object) -> None:
    found = value(text)
    assert found == (pytest.approx(wanted, rel=1e-12) if isinstance(wanted, float) else wanted)


@pytest.mark.parametrize(
    "text",
    [
        "1 / 0",
        "0 / 0",
        "1 % 0",
        "1 / (1 / 0)",
        "5 % (1 / 0)",
        "10 ^ 10 ^ 10",
        "0 ^ -1",
        "(-8) ^ 0.5",
        "1 ^ (1 / 0)",
        "exp(1000)",
        "exp(-(1 / 0))",
        "1e308 * 10 - 1e308 * 10",
        "log(0)",
        "ln(-1)",
        "log10(0)",
        "log2(-8)",
        "sqrt(-1)",
        "sign(1 / 0)",
        "clip(1, 3, 2)",
        "clip(1 / 0, 0, 1)",
        "max(1 / 0, null)",
        "number('1e999')",
        "number('nan')",
        "number('12 apples')",
        "number(text(null))",
        "number(null)",
        "boolean('perhaps')",
        "boolean(2)",
        "time(1e30)",
        "time(text('soon'))",
        "time('2026-01-31') + 1e300",
        "time('2026-01-31') + 9e12",
        "time('9999-12-29') + 9.2233720368e12",
        "time('0001-01-02') - 9.2233720368e12",
        "time('2026-01-31') - 9e12",
        "time('9999-12-29') + 1e6",
        "truncate(time('0001-01-02'), 'year')",
        "(1 / 0) > 5",
        "1 in (2, number(null))",
        "null and true",
        "-null",
        "concat('a', null)",
        "slice('a', null)",
        "slice('forest', 0, null)",
        "slice('forest', 0, 1 / 0)",
        "split_part('a', '/', 2)",
        "extract('a', 'b')",
        "json_get('{', 'a')",
        "json_get('{\"a\": null}', 'a')",
        "json_get('{\"a\": 1}', 'b')",
    ],
)
def test_what_has_no_value_is_null(text: str) -> None:
    """No NaN, no infinity, no error: an empty cell, also where a later operand could hide that there was none."""
    assert value(text) is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("x", [1.5, None, None, None]),
        ("x is null", [False, True, True, True]),
        ("is_null(x)", [False, True, True, True]),
        ("coalesce(x, 0)", [1.5, 0, 0, 0]),
        ("1 / x", [1 / 1.5, None, None, None]),
        ("whole / 10", [0.7, -0.7, 2.0**62 / 10, None]),
        ("x > 1", [True, None, None, None]),
        ("x + 1 > 1 or true", [True, True, True, True]),
        ("min(x, 9)", [1.5, 9, 9, 9]),
        ("if(ok, x, whole)", [1.5, -7, None, None]),
        ("whole + whole", [14, -14, 2.0**63, None]),
        ("whole * whole", [49, 49, 2.0**124, None]),
        ("model", ["svm", "Forest/Ä", "", None]),
        ("model = 'svm' or ok", [True, False, True, None]),
        ("model in ('svm', '')", [True, False, True, None]),
        ("length(model)", [3, 8, 0, None]),
        ("concat(model, '!')", ["svm!", "Forest/Ä!", "!", None]),
        ("contains(model, slice(model, 1, 1))", [True, True, True, None]),
        ("starts_with(model, 's') and not ends_with(model, 'x')", [True, False, False, None]),
        ("slice('forest', whole, 2)", ["", "f", "", None]),
        ("lower(tags)", ['{"a": {"b.c": [1, "x"]}}', "{", "[1e15]", None]),
        ("json_get(tags, 'a.\"b.c\".1')", ["x", None, None, None]),
        ("json_get(tags, '0')", [None, None, "1000000000000000.0", None]),
        ("`a ``b``` * 2", [2, 4, 6, 8]),
        ("`In` in (2, 3)", [False, True, True, False]),
        ("time is null", [False, False, True, True]),
        ("year(time)", [1970, 2026, None, None]),
        ("epoch_s(time)", [0, 1_769_860_800.123456, None, None]),
        ("text(time)", ["1970-01-01T00:00:00Z", "2026-01-31T12:00:00.123456Z", None, None]),
        ("truncate(time, 'day') < time", [False, True, None, None]),
        ("time + x", [datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC), None, None, None]),
        ("number(ok)", [1, 0, 1, None]),
        ("text(whole)", ["7", "-7", "4.611686018427388e+18", None]),
        ("text(x)", ["1.5", None, None, None]),
    ],
)
def test_a_row_gives_the_value_of_its_own_columns(text: str, wanted: list[Any]) -> None:
    """NaN and infinities of the data are null, and so is a time that no calendar has."""
    assert values(text) == wanted
    for row, one in enumerate(wanted):
        assert values(text, DATA.slice(row, 1)) == [one]
    assert values(text, DATA.clear()) == []


def test_null_follows_the_three_valued_logic_of_sql() -> None:
    truths = ("true", "false", "null")
    table = {(a, b): (value(f"{a} and {b}"), value(f"{a} or {b}")) for a in truths for b in truths}
    assert table == {
        ("true", "true"): (True, True),
        ("true", "false"): (False, True),
        ("true", "null"): (None, True),
        ("false", "true"): (False, True),
        ("false", "false"): (False, False),
        ("false", "null"): (False, None),
        ("null", "true"): (None, True),
        ("null", "false"): (False, None),
        ("null", "null"): (None, None),
    }
    assert value("not null") is None


@pytest.mark.parametrize(
    ("text", "rows"),
    [("x > 1", 1), ("not (x > 1)", 0), ("true", 4), ("not true", 0), ("null or ok", 2), ("1 / 0 = 1", 0)],
)
def test_a_condition_that_is_null_keeps_no_row(text: str, rows: int) -> None:
    assert DATA.filter(compile_condition(text, SCHEMA).polars()).height == rows


@pytest.mark.parametrize(
    ("text", "kind", "columns"),
    [
        ("x + whole * x", ColumnType.NUMBER, {"x", "whole"}),
        ("1", ColumnType.NUMBER, set()),
        ("tags", ColumnType.JSON, {"tags"}),
        ("coalesce(tags, tags)", ColumnType.JSON, {"tags"}),
        ("coalesce(null, tags)", ColumnType.JSON, {"tags"}),
        ("if(ok, tags, model)", ColumnType.STRING, {"ok", "tags", "model"}),
        ("if(ok, model, tags)", ColumnType.STRING, {"ok", "tags", "model"}),
        ("lower(tags)", ColumnType.STRING, {"tags"}),
        ("tags = model", ColumnType.BOOLEAN, {"tags", "model"}),
        ("time - time", ColumnType.NUMBER, {"time"}),
        ("time - 1", ColumnType.TIME, {"time"}),
        ("if(ok, null, time)", ColumnType.TIME, {"ok", "time"}),
        ("is_null(if(ok, null, null))", ColumnType.BOOLEAN, {"ok"}),
    ],
)
def test_an_expression_knows_its_type_and_the_columns_it_reads(
    text: str, kind: ColumnType, columns: set[str]
) -> None:
    compiled = compile_expression(text, SCHEMA)
    assert (compiled.text, compiled.type, compiled.columns) == (text, kind, frozenset(columns))
    dtype = DATA.select(compiled.polars()).to_series().dtype
    wanted = {ColumnType.NUMBER: pl.Float64, ColumnType.TIME: TIME_DTYPE, ColumnType.BOOLEAN: pl.Boolean}
    assert dtype == wanted.get(kind, pl.String)


def test_a_literal_can_fill_a_table_of_any_height() -> None:
    for text in ("1 / 0", "'a'", "concat('a', 'b')", "number('5')", "time('2026-01-31') + 1", "clip(1, 0, 2)"):
        expression = compile_expression(text, SCHEMA).polars()
        for data in (DATA, DATA.head(1), DATA.clear()):
            assert data.with_columns(result=expression).height == data.height
            assert data.select(result=pl.repeat(expression, pl.len())).height == data.height


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0 = coalesce(x, 0)", True),
        ("text(null) = if(ok, model, text(null))", None),
        ("number('5') + if(ok, x, number('5'))", 10),
        ("contains('abc', model)", None),
        ("if(ok, model, concat('a', 'b'))", "ab"),
    ],
)
def test_a_table_in_which_all_rows_come_out_alike_is_filled(text: str, wanted: object) -> None:
    nothing = DATA.tail(1)
    for data in (nothing, pl.concat([nothing] * 5), nothing.clear()):
        assert values(text, data) == [wanted] * data.height


def on_a_small_stack(compiled: Compiled) -> list[Any]:
    """Evaluated on a thread whose stack is a quarter of the usual."""
    found: list[Any] = []
    before = threading.stack_size(2**21)
    try:
        thread = threading.Thread(target=lambda: found.extend(DATA.select(compiled.polars()).to_series().to_list()))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    return found


@pytest.mark.parametrize(
    "text",
    [
        "+".join(["whole"] * 128),
        "%".join(["whole"] * 128),
        "/".join(["whole"] * 128),
        "time" + "+whole" * 127,
        "time" + "-1" * 127,
        "(" * 31 + "x" + "/2^2*3/x)" * 31,
        " or ".join(["ok"] * 128),
        "^".join(["whole"] * 33),
        "1/(" * 31 + "whole" + ")" * 31,
        "coalesce(" * 32 + "1 / whole" + ")" * 32,
        "log10(" * 32 + "whole" + ")" * 32,
        "number(text(" * 16 + "whole" + "))" * 16,
        "clip(" * 32 + "whole" + ", whole, whole)" * 32,
        "- " * 32 + "whole",
        "not " * 32 + "ok",
    ],
    ids=lambda text: text[:20],
)
def test_the_largest_expressions_are_computed_in_no_time(text: str) -> None:
    """Nothing is computed twice per level, which would never end, and no stack runs out."""
    assert len(on_a_small_stack(compile_expression(text, SCHEMA))) == DATA.height
