"""Any text either is an expression or is refused; any expression has the value that a plain reading gives it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import product
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.model.frame import TIME_DTYPE
from bridge.model.schema import Column, ColumnType, Schema
from bridge.model.span import EARLIEST, EPOCH, LATEST, to_us
from bridge.sources.transform.expression import ExpressionError, compile_expression
from bridge.sources.transform.expression.functions import FUNCTIONS, OPERATORS

SCHEMA = Schema(
    (
        Column("x", ColumnType.NUMBER),
        Column("n", ColumnType.NUMBER),
        Column("s", ColumnType.STRING),
        Column("u", ColumnType.STRING),
        Column("b", ColumnType.BOOLEAN),
        Column("t", ColumnType.TIME),
        Column("j", ColumnType.JSON),
    )
)
ALPHABET = "abAB ./,\\'\"\n\t\x00äÄßİΐ€\u0301😀"

Row = dict[str, Any]
Rule = tuple[str, Callable[[Row], Any]]

rows = st.fixed_dictionaries(
    {
        "x": st.none() | st.floats() | st.sampled_from([0.0, -0.0, 1.0, 2.5, math.nan, math.inf, -math.inf, 1e308]),
        "n": st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 9),
        "s": st.none() | st.text(ALPHABET, max_size=8),
        "u": st.none() | st.sampled_from(["", "a", "ab", "1e3", "2026-01-31T12:00:00Z", "true", "[1, {}]"]),
        "b": st.none() | st.booleans(),
        "t": st.none() | st.integers(to_us(EARLIEST), to_us(LATEST)) | st.integers(-(2**63), 2**63 - 1),
        "j": st.none() | st.sampled_from(['{"a": [1, {"b": null}]}', "{", "null", '"x"', "[" * 500]),
    }
)
tables = st.lists(rows, min_size=1, max_size=6)


def frame(table: list[Row]) -> pl.DataFrame:
    dtypes = {"x": pl.Float64, "n": pl.Int64, "s": pl.String, "u": pl.String, "b": pl.Boolean, "j": pl.String}
    data = pl.DataFrame(table, schema={**dtypes, "t": pl.Int64}, orient="row")
    return data.with_columns(pl.col("t").cast(TIME_DTYPE))


OPERANDS = {
    ColumnType.NUMBER: ["x", "2", "number(null)"],
    ColumnType.STRING: ["s", "'a'", "text(null)"],
    ColumnType.BOOLEAN: ["b", "true", "(1 < 0)"],
    ColumnType.TIME: ["t", "time('2026-01-31')"],
}
WRITTEN = {"truncate": ["'day'"], "json_get": ["'a'"], "extract": ["'a'"], "replace": ["'a'", "'b'"], "round": ["1"]}
KINDS = list(OPERANDS)


def mixes(name: str) -> Iterator[str]:
    """Calls of a function with every mix of columns and literals for its operands."""
    function = FUNCTIONS[name]
    kinds = [kind for kind in KINDS if kind in function.params[-1].types] if function.params[-1].same else [None]
    for kind in kinds:
        choices: list[list[str]] = []
        for param in (*function.params, *function.params[-1:] * function.params[-1].many):
            own = kind if param.same else next(known for known in KINDS if known in param.types)
            written = WRITTEN.get(name, ["'/'", "1"])[len(choices) - 1 :]
            choices.append(OPERANDS[own or ColumnType.NUMBER] if param.fixed is None else written[:1] or ["0"])
        for operands in product(*choices):
            yield f"{name}({', '.join(operands)})"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_mix_of_columns_and_literals_fills_the_table(name: str) -> None:
    """Whatever Polars shortens for a literal, an empty column or an empty table: each row has its own result."""
    full = frame(
        [{"x": 1.0, "n": 1, "s": "ab", "u": "", "b": True, "t": 0, "j": "{}"}] * 2 + [dict.fromkeys(SCHEMA.names)]
    )
    for text in mixes(name):
        compiled = compile_expression(text, SCHEMA)
        for expression in (compiled.polars(), compile_expression(f"({text}) is null", SCHEMA).polars()):
            first, _, last = full.with_columns(result=expression)["result"].to_list()
            for data, wanted in ((full.head(1), first), (full.tail(1), last)):
                for times_ in (0, 1, 3):
                    repeated = pl.concat([data] * times_) if times_ else data.clear()
                    assert repeated.with_columns(result=expression)["result"].to_list() == [wanted] * times_, text


WORDS = [
    *FUNCTIONS,
    *(name for name in OPERATORS if name != "negative"),
    *SCHEMA.names,
    *"()(),,[].`\"'\\;-+",
    *(
        "1",
        "0",
        "2.5",
        "1e300",
        "1e-3",
        "'a'",
        "'(a+)+b'",
        "'day'",
        "'a.0'",
        "'\\u0000'",
        "''",
        "true",
        "null",
        "not in",
    ),
    *("abs(", "concat(", "if(", "time('2026-01-31')", "is not null", "!~", "=~ 'a'", "\ud800", "\x00", "é"),
]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(max_size=60) | st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join), tables)
def test_any_text_is_computed_or_refused(text: str, table: list[Row]) -> None:
    """Never another exception, neither when it is read nor when it is computed."""
    data, error = frame(table), None
    try:
        compiled = compile_expression(text, SCHEMA)
    except ExpressionError as caught:
        error = caught
    if error:
        assert 0 <= error.at <= len(text)
        assert str(error).isprintable()
        return
    made = data.with_columns(result=compiled.polars())["result"]
    sizes = {name: int(data[name].str.len_bytes().sum() or 0) for name in ("s", "u", "j")}
    most_bytes = compiled.text_bytes(sizes, data.height)
    if made.dtype == pl.String:
        assert int(made.str.len_bytes().sum() or 0) <= most_bytes
    if made.dtype == pl.Float64:
        assert made.is_finite().all(ignore_nulls=True)


def number(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def strict(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Null when an operand is null, and where there is no finite result."""

    def apply(*operands: Any) -> Any:
        if any(operand is None for operand in operands):
            return None
        try:
            result = operation(*operands)
        except (ZeroDivisionError, OverflowError, ValueError):
            return None
        return number(result) if isinstance(result, float) else result

    return apply


def plain(name: str, *, of: str) -> Rule:
    return name, (lambda row: number(row[name])) if of == "number" else (lambda row: row[name])


def instant(row: Row) -> datetime | None:
    us = row["t"]
    return None if us is None or not to_us(EARLIEST) <= us <= to_us(LATEST) else EPOCH + timedelta(microseconds=us)


def quoted(text: str) -> str:
    body = "".join(char if char.isprintable() and char not in "\\'" else f"\\u{ord(char):04x}" for char in text)
    return f"'{body}'"


def both_and(a: bool | None, b: bool | None) -> bool | None:
    if a is False or b is False:
        return False
    return None if a is None or b is None else True


def both_or(a: bool | None, b: bool | None) -> bool | None:
    if a is True or b is True:
        return True
    return None if a is None or b is None else False


def least(*values: Any) -> Any:
    return min((value for value in values if value is not None), default=None)


def most(*values: Any) -> Any:
    return max((value for value in values if value is not None), default=None)


def first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def any_equal(value: Any, *items: Any) -> bool | None:
    result: bool | None = False
    for item in items:
        result = both_or(result, None if value is None or item is None else value == item)
    return result


def sliced(text: str, start: float, count: float) -> str:
    begin, chars = (math.floor(min(max(side, -(2.0**40)), 2.0**40)) for side in (start, count))
    low = begin + (len(text) if begin < 0 else 0)
    return text[max(low, 0) : max(low + max(chars, 0), 0)]


def shifted(time: datetime, seconds: float) -> datetime | None:
    if abs(seconds) > 1e12:
        return None
    moved_us = to_us(time) + round(seconds * 1e6)
    return EPOCH + timedelta(microseconds=moved_us) if to_us(EARLIEST) <= moved_us <= to_us(LATEST) else None


def started(time: datetime) -> datetime | None:
    day = time.replace(hour=0, minute=0, second=0, microsecond=0)
    return day if day >= EARLIEST else None


def part_of(text: str, number: int) -> str | None:
    parts = text.split("b")
    return parts[number - 1] if number <= len(parts) else None


def call(template: str, rule: Callable[..., Any], *operands: st.SearchStrategy[Rule]) -> st.SearchStrategy[Rule]:
    def join(parts: tuple[Rule, ...]) -> Rule:
        texts = [text for text, _ in parts]
        return template.format(*texts), lambda row: rule(*(read(row) for _, read in parts))

    return st.tuples(*operands).map(join)


@cache
def of_type(kind: str, depth: int) -> st.SearchStrategy[Rule]:
    """Random expressions of one type, with what a plain reading of them computes."""
    if depth == 0:
        return LEAVES[kind]
    num, text, truth, time = (of_type(name, depth - 1) for name in ("number", "text", "truth", "time"))
    choices = {"number": numbers, "text": texts, "truth": truths, "time": times}[kind](num, text, truth, time)
    return st.one_of(LEAVES[kind], *choices)


Choices = list[st.SearchStrategy[Rule]]
Rules = st.SearchStrategy[Rule]


def numbers(num: Rules, text: Rules, truth: Rules, time: Rules) -> Choices:
    return [
        call("({} + {})", strict(lambda a, b: a + b), num, num),
        call("({} - {})", strict(lambda a, b: a - b), num, num),
        call("({} * {})", strict(lambda a, b: a * b), num, num),
        call("({} / {})", strict(lambda a, b: a / b), num, num),
        call("({} % {})", strict(lambda a, b: a % b), num, num),
        call("(- {})", strict(lambda a: -a), num),
        call("abs({})", strict(abs), num),
        call("floor({})", strict(lambda a: float(math.floor(a))), num),
        call("ceil({})", strict(lambda a: float(math.ceil(a))), num),
        call("sqrt({})", strict(math.sqrt), num),
        call("sign({})", strict(lambda a: float((a > 0) - (a < 0))), num),
        call("min({}, {}, {})", least, num, num, num),
        call("max({}, {})", most, num, num),
        call("clip({}, 0, 10)", strict(lambda a: min(max(a, 0.0), 10.0)), num),
        call("if({}, {}, {})", lambda a, b, c: b if a else c, truth, num, num),
        call("coalesce({}, {})", first, num, num),
        call("length({})", strict(lambda a: float(len(a))), text),
        call("number({})", strict(float), truth),
        call("({} - {})", strict(lambda a, b: (a - b) / timedelta(microseconds=1) / 1e6), time, time),
        call("year({})", strict(lambda a: float(a.year)), time),
        call("weekday({})", strict(lambda a: float(a.isoweekday())), time),
        call("second({})", strict(lambda a: float(a.second)), time),
        call("epoch_s({})", strict(lambda a: to_us(a) / 1e6), time),
    ]


def texts(num: Rules, text: Rules, truth: Rules, time: Rules) -> Choices:
    return [
        call("concat({}, {})", strict(lambda a, b: a + b), text, text),
        call("lower({})", strict(str.lower), text),
        call("upper({})", strict(str.upper), text),
        call("trim({})", strict(lambda a: a.strip(" \n\t")), text),
        call("replace({}, 'ab', 'b.a')", strict(lambda a: a.replace("ab", "b.a")), text),
        call("slice({}, {}, {})", strict(sliced), text, num, num),
        call("split_part({}, 'b', 2)", strict(lambda a: part_of(a, 2)), text),
        call("extract({}, 'a(.)')", strict(lambda a: (re.findall("a(.)", a) or [None])[0]), text),
        call("if({}, {}, {})", lambda a, b, c: b if a else c, truth, text, text),
        call("coalesce({}, {})", first, text, text),
        call("text({})", strict(lambda a: str(a).lower()), truth),
    ]


def truths(num: Rules, text: Rules, truth: Rules, time: Rules) -> Choices:
    compared: Choices = [
        call(f"({{}} {sign} {{}})", strict(rule), side, side)
        for side in (num, text, time)
        for sign, rule in {
            "=": lambda a, b: a == b,
            "!=": lambda a, b: a != b,
            "<": lambda a, b: a < b,
            ">=": lambda a, b: a >= b,
        }.items()
    ]
    return [
        *compared,
        call("({} and {})", both_and, truth, truth),
        call("({} or {})", both_or, truth, truth),
        call("(not {})", strict(lambda a: not a), truth),
        call("({} in ({}, {}))", any_equal, num, num, num),
        call("({} not in ({}))", strict(lambda a, b: a != b), text, text),
        call("({} is null)", lambda a: a is None, num),
        call("({} is not null)", lambda a: a is not None, text),
        call("contains({}, {})", strict(lambda a, b: b in a), text, text),
        call("starts_with({}, {})", strict(str.startswith), text, text),
        call("ends_with({}, {})", strict(str.endswith), text, text),
        call("({} =~ 'a.*')", strict(lambda a: a.startswith("a")), text),
        call("({} !~ '.{{2}}')", strict(lambda a: len(a) != 2), text),
    ]


def times(num: Rules, text: Rules, truth: Rules, time: Rules) -> Choices:
    return [
        call("({} + {})", strict(shifted), time, num),
        call("({} - {})", strict(lambda a, b: shifted(a, -b)), time, num),
        call("truncate({}, 'day')", strict(started), time),
        call("min({}, {})", least, time, time),
        call("time(text({}))", lambda a: a, time),
    ]


LEAVES: dict[str, Rules] = {
    "number": st.sampled_from([plain("x", of="number"), plain("n", of="number"), ("number(null)", lambda _: None)])
    | st.floats(min_value=0, allow_infinity=False).map(lambda value: (repr(value), lambda _: value)),
    "text": st.sampled_from([plain("s", of="text"), plain("u", of="text"), ("text(null)", lambda _: None)])
    | st.text(ALPHABET.replace("😀", ""), max_size=4).map(lambda value: (quoted(value), lambda _: value)),
    "truth": st.sampled_from([plain("b", of="truth"), ("true", lambda _: True), ("(1 < 0)", lambda _: False)]),
    "time": st.sampled_from(
        [("t", instant), ("time('2026-01-31T12:00:00Z')", lambda _: datetime(2026, 1, 31, 12, tzinfo=UTC))]
    ),
}


@pytest.mark.parametrize("kind", list(LEAVES))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data(), table=tables)
def test_an_expression_computes_what_a_plain_reading_computes(
    kind: str, data: st.DataObject, table: list[Row]
) -> None:
    """Over rows with nulls, NaN, huge numbers, odd texts and impossible times."""
    text, rule = data.draw(of_type(kind, 3))
    made = frame(table).with_columns(result=compile_expression(text, SCHEMA).polars())["result"].to_list()
    assert made == [rule(row) for row in table], text


@pytest.mark.parametrize(
    ("template", "rule"),
    [
        ("x ^ n", lambda x, n: x**n if x >= 0 or n.is_integer() else None),
        ("x % n", lambda x, n: x % n if n else None),
        ("exp(x) + 0 * n", lambda x, n: math.exp(x) + 0 * n),
        ("ln(x) + 0 * n", lambda x, n: math.log(x) + 0 * n),
        ("log10(x) + 0 * n", lambda x, n: math.log10(x) + 0 * n),
        ("log2(x) + 0 * n", lambda x, n: math.log2(x) + 0 * n),
        ("number(text(x)) + 0 * n", lambda x, n: x + 0 * n),
    ],
)
@settings(max_examples=60, deadline=None)
@given(table=tables)
def test_functions_that_round_differ_by_no_more_than_rounding(
    template: str, rule: Callable[..., Any], table: list[Row]
) -> None:
    made = frame(table).with_columns(result=compile_expression(template, SCHEMA).polars())["result"].to_list()
    wanted = [strict(rule)(number(row["x"]), number(row["n"])) for row in table]
    for found, expected in zip(made, wanted, strict=True):
        if expected is not None and abs(expected) > 1e307:
            continue
        assert found == (None if expected is None else pytest.approx(expected, rel=1e-9, abs=1e-300))
