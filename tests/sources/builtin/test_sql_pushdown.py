"""What a database is asked to filter never costs a row: it may let more through than bridge would, never fewer."""

from __future__ import annotations

import asyncio
import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.errors import BadQuery
from bridge.model.filters import Filter, Op, parse_filter
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.schema import Column
from bridge.model.span import EARLIEST, LATEST, Span
from bridge.sources.builtin.sql import SqlSource
from bridge.sources.builtin.sql.dialect import bounds
from bridge.sources.present import select_rows
from bridge.sources.questions import missing_rows
from servers.postgres import running
from servers.sql_rig import SYSTEMS, Lab, columns

T0 = datetime(2026, 1, 31, 12, tzinfo=UTC)
WORDS = (
    "svm",
    "SVM",
    "svm ",
    " svm",
    "",
    "ä",
    "a\u0308",
    "ﬁ",
    "fi",
    "5",
    "5.0",
    "%",
    "it's",
    "straße",
    "STRASSE",
    None,
)
NUMBERS = (
    0.1,
    0.1 + 2**-55,
    -0.0,
    0.5,
    1,
    2.5,
    5,
    1e300,
    -1e300,
    2**53,
    2**53 + 1,
    math.inf,
    -math.inf,
    math.nan,
    None,
)
WHOLE = (0, 1, 2, 3, 5, -1, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), None)
DECIMALS = ("0.1", "0.10000000000000000001", "0.09999999999999999999", "2.5", "123456789012345678.25", "0", None)
TEXTS_OF_TIMES = (
    "2026-01-31T12:00:00Z",
    "2026-01-31 12:00:00",
    "2026-02-01T01:30:00+14:00",
    "2026-01-30T22:00:00-14:00",
    "2026-01-31",
    "20260131T120000",
    "  2026-01-31T12:00:01Z",
    "2026-W05-6",
    1769860800,
    1769860800000,
    1769860800.5,
    "1769860800",
    "never",
    "",
    None,
)
EDGES = ("0.1", "0.10000000000000002", "-0.0", "2.5", "5", "9007199254740993", "inf", "nan", "123456789012345678.25")
INSTANTS = (*(T0 + timedelta(microseconds=us) for us in (0, 1, -1, 10**6, 36 * 10**8, -36 * 10**8, 10**12)), None)

TABLES = {
    "sqlite": (
        "time text, word text, lazy text COLLATE NOCASE, bare, n integer, f real, num numeric, ok integer",
        columns(
            *("time:time:time", "word:string:dimension", "lazy:string", "bare:string", "n:number", "f:number"),
            *("num:number", "ok:boolean"),
        ),
    ),
    "duckdb": (
        "time timestamptz, word varchar, lazy varchar COLLATE NOCASE, n bigint, f double, num decimal(38, 20), "
        "ok boolean, small float, naive timestamp, huge hugeint",
        columns(
            *("time:time:time", "word:string:dimension", "lazy:string", "n:number", "f:number", "num:number"),
            *("ok:boolean", "small:number", "naive:time", "huge:number"),
        ),
    ),
    "postgres": (
        "time timestamptz, word text, lazy text COLLATE lazy, n bigint, f float8, num numeric, ok boolean, "
        "small real, padded char(5), mood mood, word_of_number numeric",
        columns(
            *("time:time:time", "word:string:dimension", "lazy:string", "n:number", "f:number", "num:number"),
            *("ok:boolean", "small:number", "padded:string", "mood:string", "word_of_number:string"),
        ),
    ),
}


def _pick(values: tuple[Any, ...], index: int) -> Any:
    return values[index % len(values)]


def _row(system: str, index: int) -> tuple[Any, ...]:
    word, n, f, num = (_pick(values, index) for values in (WORDS, WHOLE, NUMBERS, DECIMALS))
    other, ok = _pick(WORDS, index * 7), _pick((True, False, None), index)
    if system == "sqlite":
        bare = _pick((*WORDS, 5, 5.0, b"svm", 1e20), index)
        texts = _pick(TEXTS_OF_TIMES, index)
        return texts, word, other, bare, n, f, num, _pick((1, 0, None, 7), index)
    at = _pick(INSTANTS, index)
    small = f if f is None or abs(f) < 1e30 or math.isinf(f) else 0.1
    if system == "duckdb":
        return at, word, other, n, f, num, ok, small, at and at.replace(tzinfo=None), n
    padded = word and word[:5]
    return (
        at,
        word,
        other,
        n,
        f,
        num and Decimal(num),
        ok,
        small,
        padded,
        _pick(("a", "b", None), index),
        num and Decimal(num),
    )


class Bench:
    """One source over the nasty table, and all of its rows."""

    def __init__(self, system: str, folder: Path, **dataset: Any) -> None:
        self.lab = Lab(system, folder)
        columns_sql, self.columns = TABLES[system]
        if system == "postgres":
            running().execute(
                "DROP COLLATION IF EXISTS lazy CASCADE",
                "CREATE COLLATION lazy (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
                "DROP TYPE IF EXISTS mood CASCADE",
                "CREATE TYPE mood AS ENUM ('a', 'b')",
            )
        self.table = self.lab.table(columns_sql, [_row(system, index) for index in range(120)])
        self.loop = asyncio.Runner()
        self.source: SqlSource = self.lab.source(self.columns, **(dataset or {"table": self.table}))
        self.whole = self.ask(Query("s.d"))

    def ask(self, query: Query) -> Frame:
        return self.loop.run(self.source.collect(query))

    def close(self) -> None:
        self.loop.run(self.source.aclose())
        self.loop.close()
        self.lab.drop()


@pytest.fixture(scope="module", params=SYSTEMS)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as folder:
        made = Bench(request.param, Path(folder))
        yield made
        made.close()


def values_for(column: Column) -> st.SearchStrategy[str]:
    if column.type.value == "string":
        return st.sampled_from([*filter(None, WORDS), "", "a", "b", "0.1", "x\0y", "\ufffd"]) | st.text(max_size=3)
    if column.type.value == "boolean":
        return st.sampled_from(["true", "false", "1", "0", "True", ""])
    if column.type.value == "time":
        return st.sampled_from(["2026-01-31T12:00:00Z", "1769860800"])
    known = [str(value) for value in (*NUMBERS, *WHOLE, *DECIMALS) if value is not None]
    return (
        st.sampled_from([*known, "", "1e400", "0.10000000000000001"]) | st.floats().map(str) | st.integers().map(str)
    )


@st.composite
def filters(draw: st.DrawFn, given_columns: tuple[Column, ...]) -> Filter:
    column = draw(st.sampled_from(given_columns))
    op = draw(st.sampled_from([op for op in Op if op not in (Op.RE, Op.NRE)]))
    several = op in (Op.EQ, Op.NE)
    values = draw(st.lists(values_for(column), min_size=1, max_size=3 if several else 1))
    return Filter(column.name, op, tuple(values))


@st.composite
def questions(draw: st.DrawFn, given_columns: tuple[Column, ...]) -> Query:
    start = T0 + timedelta(
        microseconds=draw(st.sampled_from([0, 1, -1, 2, 10**6])) + draw(st.integers(-2, 2)) * 36 * 10**8
    )
    length = timedelta(microseconds=draw(st.sampled_from([1, 2, 10**6, 36 * 10**8, 10**12, 10**14])))
    span = draw(st.none() | st.just(Span(start, start + length)))
    chosen = draw(st.lists(filters(given_columns), max_size=2))
    shown = draw(st.lists(st.sampled_from([column.name for column in given_columns]), max_size=2))
    return Query("s.d", span=span, filters=tuple(chosen), columns=tuple(shown))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_database_and_bridge_together_give_what_bridge_alone_would(bench: Bench, data: st.DataObject) -> None:
    asked = data.draw(questions(bench.columns))
    try:
        wanted = select_rows(bench.whole, asked)
    except BadQuery:
        return
    pushed = select_rows(bench.ask(bench.source.narrow(asked)), asked)
    # An answer without rows has numbers of another width.
    lost = missing_rows(*(frame.data.with_columns(cs.numeric().cast(pl.Float64)) for frame in (wanted, pushed)))
    assert lost.is_empty(), f"{asked}: lost {lost.rows()[:3]}"
    assert pushed.rows == wanted.rows
    assert set(asked.columns) <= set(pushed.data.columns)


def every_filter(given_columns: tuple[Column, ...]) -> Iterator[Filter]:
    for column in given_columns:
        if column.type.value == "string":
            ops, values = (Op.EQ, Op.NE), [*filter(None, WORDS), "", "a", "\ufffd", "0.1"]
        elif column.type.value == "number":
            ops, values = (Op.EQ, Op.LT, Op.GE), list(EDGES)
        else:
            ops, values = (Op.EQ, Op.NE), ["true", "0"] if column.type.value == "boolean" else []
        yield from (Filter(column.name, op, (value,)) for op in ops for value in values)


def test_no_comparison_of_any_value_loses_a_row(bench: Bench) -> None:
    """Collations, neighbours of floats, NULL, NaN and infinity, by every operator."""
    bad = []
    for item in every_filter(bench.columns):
        asked = Query("s.d", filters=(item,))
        wanted = select_rows(bench.whole, asked)
        pushed = select_rows(bench.ask(bench.source.narrow(asked)), asked)
        if pushed.rows != wanted.rows:
            bad.append(f"{item}: {pushed.rows} of {wanted.rows}")
    assert not bad


@pytest.mark.parametrize("value", [0.0, 0.1, -2.5, 5.0, 1e15])
def test_a_number_is_asked_for_with_room_for_another_rounding(value: float) -> None:
    """Not every version of every database converts decimals to the float that Python does."""
    below, above = math.nextafter(value, -math.inf), math.nextafter(value, math.inf)
    low, high = bounds(Op.EQ, value, whole=False)
    assert low is not None
    assert high is not None
    assert low < below < value < above < high
    assert bounds(Op.LT, value, whole=False) == (None, high)
    assert bounds(Op.GE, value, whole=False) == (low, None)
    assert bounds(Op.EQ, value, whole=True) == (math.floor(value), math.ceil(value))


PUSHED = {
    "word=svm": True,
    "word=svm,knn": True,
    "word!=svm": True,
    "n>=3": True,
    "n<2.5": True,
    "n=5": True,
    "f>0.5": True,
    "num<=2.5": True,
    "ok=true": None,
    "word>a": False,
    "word=~s.*": False,
    "n!=5": False,
    "n=9007199254740993": False,
    "ok=": False,
}


@pytest.mark.parametrize("text", PUSHED)
def test_filters_that_a_database_can_tell_make_the_answer_smaller(bench: Bench, text: str) -> None:
    item = parse_filter(text)
    item = replace(item, values=tuple(item.values[0].split(",")))
    kept = bench.source.narrow(Query("s.d", filters=(item,)))
    wanted = PUSHED[text] if PUSHED[text] is not None else bench.lab.system != "sqlite"
    assert bool(kept.filters) is wanted
    assert (bench.ask(kept).rows < bench.whole.rows) is wanted


def test_a_time_range_makes_the_answer_smaller(bench: Bench) -> None:
    span = Span(T0 + timedelta(days=300), T0 + timedelta(days=301))
    kept = bench.source.narrow(Query("s.d", span=span))
    assert kept.span == span
    assert bench.ask(kept).rows < bench.whole.rows


@pytest.mark.parametrize("kind", ["text", "timestamp_ns", "interval"])
def test_a_time_column_that_is_compared_otherwise_is_left_to_bridge(tmp_path: Path, kind: str) -> None:
    lab = Lab("duckdb", tmp_path)
    value = "1 day" if kind == "interval" else "2026-01-31 12:00:00"
    table = lab.table(f"time {kind}", [(value,)])

    async def work() -> None:
        async with lab.open(columns("time:time:time"), table=table) as source:
            asked = Query("s.d", span=Span(T0, T0 + timedelta(days=1)))
            await source.collect(Query("s.d"))
            assert source.narrow(asked).span is None
            assert (await source.collect(asked)).rows == 1

    asyncio.run(work())


@pytest.mark.parametrize("start", [EARLIEST, LATEST - timedelta(days=1), datetime(9999, 12, 30, 23, tzinfo=UTC)])
def test_a_time_range_at_the_ends_of_the_calendar_is_asked_for_or_left_to_bridge(
    bench: Bench, start: datetime
) -> None:
    asked = Query("s.d", span=Span(start, start + timedelta(days=1)))
    pushed = select_rows(bench.ask(bench.source.narrow(asked)), asked)
    assert pushed.rows == select_rows(bench.whole, asked).rows


async def test_before_anything_is_known_of_a_dataset_only_the_time_range_is_passed_on(tmp_path: Path) -> None:
    source = Lab("sqlite", tmp_path).source(table="runs")
    asked = Query("s.d", span=Span(T0, T0 + timedelta(days=1)), filters=(parse_filter("a=b"),), columns=("a",))
    assert source.narrow(asked) == Query("s.d", span=asked.span)


async def test_without_a_time_column_there_is_no_time_range_to_pass_on(tmp_path: Path) -> None:
    source = Lab("sqlite", tmp_path).source(columns("a:string"), table="runs")
    assert source.narrow(Query("s.d", span=Span(T0, T0 + timedelta(days=1)))) == Query("s.d")
