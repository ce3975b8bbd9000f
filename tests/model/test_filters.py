from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import BadQuery
from bridge.model.filters import (
    MAX_PATTERN_CHARS,
    MAX_VALUES,
    Filter,
    Op,
    expression,
    parse_filter,
    parse_op,
    text_of,
)
from bridge.model.schema import Column, ColumnType, Schema

SCHEMA = Schema(
    (
        Column("row", ColumnType.NUMBER),
        Column("time", ColumnType.TIME),
        Column("model", ColumnType.STRING),
        Column("score", ColumnType.NUMBER),
        Column("id", ColumnType.NUMBER),
        Column("ok", ColumnType.BOOLEAN),
        Column("tags", ColumnType.JSON),
    )
)
DATA = pl.DataFrame(
    {
        "row": [0, 1, 2, 3],
        "time": pl.Series(
            [datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3)] + [None], dtype=pl.Datetime("us", "UTC")
        ),
        "model": ["svm", "forest", "", None],
        "score": [0.5, 5.0, None, 1e300],
        "id": [9007199254740993, 9007199254740992, 3, None],
        "ok": [True, False, None, True],
        "tags": ['["a"]', "{}", None, '["a\nb"]'],
    }
)


def kept(column: str, op: str, *values: str) -> list[int]:
    found = DATA.filter(expression(Filter(column, parse_op(op), values), SCHEMA))
    rows: list[int] = found["row"].to_list()
    return rows


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("model=svm", Filter("model", Op.EQ, ("svm",))),
        (" model = svm ", Filter("model", Op.EQ, ("svm",))),
        ("model==svm", Filter("model", Op.EQ, ("svm",))),
        ("model=|svm", Filter("model", Op.EQ, ("svm",))),
        ("model!=svm", Filter("model", Op.NE, ("svm",))),
        ("model<>svm", Filter("model", Op.NE, ("svm",))),
        ("model!=|svm", Filter("model", Op.NE, ("svm",))),
        ("model=~s.*", Filter("model", Op.RE, ("s.*",))),
        ("model!~s.*", Filter("model", Op.NRE, ("s.*",))),
        ("score<1", Filter("score", Op.LT, ("1",))),
        ("score<=1", Filter("score", Op.LE, ("1",))),
        ("score>1", Filter("score", Op.GT, ("1",))),
        ("score>=1", Filter("score", Op.GE, ("1",))),
        ("model=", Filter("model", Op.EQ, ("",))),
        ("model=a=b<c", Filter("model", Op.EQ, ("a=b<c",))),
        ("a.b_1=x\ny", Filter("a.b_1", Op.EQ, ("x\ny",))),
    ],
)
def test_a_filter_is_read_from_column_operator_value(text: str, wanted: Filter) -> None:
    assert parse_filter(text) == wanted


@pytest.mark.parametrize("text", ["", "model", "=svm", "1a=b", "model svm", "a b=c", "model~svm", "a=" + "x" * 9_000])
def test_a_filter_without_column_or_operator_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BadQuery, match="cannot read the filter") as caught:
        parse_filter(text)
    assert "model=svm" in caught.value.remedy


def test_an_unknown_operator_is_refused_with_the_list_of_known_ones() -> None:
    with pytest.raises(BadQuery, match="'~~'") as caught:
        parse_op("~~")
    assert "=~" in caught.value.remedy


def test_a_filter_is_shown_as_it_is_written() -> None:
    assert str(Filter("model", Op.NE, ("a", "b"))) == "model!=a,b"


@pytest.mark.parametrize(
    ("column", "op", "values", "wanted"),
    [
        ("model", "=", ("svm",), [0]),
        ("model", "=", ("svm", "forest"), [0, 1]),
        ("model", "=|", ("svm", "forest"), [0, 1]),
        ("model", "=", ("",), [2]),
        ("model", "=", (), []),
        ("model", "!=", (), [0, 1, 2, 3]),
        ("model", "!=", ("svm",), [1, 2, 3]),
        ("model", "!=|", ("svm", "forest"), [2, 3]),
        ("model", ">", ("g",), [0]),
        ("model", "=~", ("s.*",), [0]),
        ("model", "=~", ("v",), []),
        ("model", "=~", ("svm|forest",), [0, 1]),
        ("model", "=~", ("",), [2, 3]),
        ("model", "!~", ("svm|forest",), [2, 3]),
        ("model", "!~", (".+",), [2, 3]),
        ("score", "=", ("5",), [1]),
        ("score", "=", ("5.0",), [1]),
        ("score", "=", ("5", "0.5", "1e300"), [0, 1, 3]),
        ("score", "=", ("",), [2]),
        ("score", "=", ("", "5"), [1, 2]),
        ("score", "!=", ("5",), [0, 2, 3]),
        ("score", "!=", ("",), [0, 1, 3]),
        ("score", "<", ("1",), [0]),
        ("score", "<=", ("5",), [0, 1]),
        ("score", ">", ("5",), [3]),
        ("score", ">=", ("5",), [1, 3]),
        ("score", "=~", ("5",), [1]),
        ("score", "=~", (r"0\.5",), [0]),
        ("id", "=", ("3",), [2]),
        ("id", "=", ("3", "4"), [2]),
        ("id", "=", ("3.0",), [2]),
        ("id", "=", ("3", "2.5", ""), [2, 3]),
        ("id", "=", ("9007199254740993",), [0]),
        ("id", "=", ("9007199254740992", "3"), [1, 2]),
        ("id", ">", ("9007199254740992",), [0]),
        ("id", "=", ("99999999999999999999999",), []),
        ("id", "=", ("9" * 60,), []),
        ("id", "<", ("-9999999999999999999",), []),
        ("ok", "=", ("true",), [0, 3]),
        ("ok", "=", ("1",), [0, 3]),
        ("ok", "=", ("FALSE",), [1]),
        ("ok", "=", ("0", "true"), [0, 1, 3]),
        ("ok", "!=", ("true",), [1, 2]),
        ("ok", "=", ("",), [2]),
        ("ok", "=~", ("t.*",), [0, 3]),
        ("tags", "=", ('["a"]',), [0]),
        ("tags", "=~", (".*a.*",), [0, 3]),
        ("time", "=", ("2026-01-02",), [1]),
        ("time", "=", ("2026-01-02", "1767225600000"), [0, 1]),
        ("time", "!=", ("2026-01-02",), [0, 2, 3]),
        ("time", ">=", ("2026-01-02T00:00:00Z",), [1, 2]),
        ("time", "<", ("1767312000",), [0]),
        ("time", "=~", ("2026-01-0[12]T.*Z",), [0, 1]),
    ],
)
def test_a_filter_keeps_the_rows_it_names(column: str, op: str, values: tuple[str, ...], wanted: list[int]) -> None:
    assert kept(column, op, *values) == wanted


@pytest.mark.parametrize(
    ("column", "op", "values", "said"),
    [
        ("nosuch", "=", ("1",), "no column `nosuch`"),
        ("score", "=", ("many",), "`score` is a number"),
        ("score", "=", ("1_0x",), "`score` is a number"),
        ("ok", "=", ("maybe",), "`ok` is true or false"),
        ("time", "=", ("soon",), "`time` is not a time"),
        ("score", "<", ("1", "2"), "exactly one value"),
        ("score", ">", (), "exactly one value"),
        ("score", ">=", ("",), "exactly one value"),
        ("model", "=~", ("(",), "does not compile"),
        ("model", "=~", (r"(\w{500}){500}",), "does not compile"),
        ("model", "=~", ("a", "b"), "one pattern"),
        ("model", "!~", (), "one pattern"),
        ("model", "=~", ("a" * (MAX_PATTERN_CHARS + 1),), "one pattern"),
        ("model", "=", ("a",) * (MAX_VALUES + 1), f"at most {MAX_VALUES}"),
    ],
)
def test_a_filter_that_makes_no_sense_is_the_callers_error(
    column: str, op: str, values: tuple[str, ...], said: str
) -> None:
    with pytest.raises(BadQuery, match=said):
        kept(column, op, *values)


def test_an_unknown_column_is_answered_with_the_columns_there_are() -> None:
    with pytest.raises(BadQuery) as caught:
        kept("nosuch", "=", "1")
    assert "model, score" in caught.value.remedy


@pytest.mark.parametrize("pattern", ["x)|(?:.*", "x)|(.*", "(?x) .* # "])
def test_a_pattern_cannot_break_out_of_its_anchors(pattern: str) -> None:
    with pytest.raises(BadQuery, match="does not compile"):
        kept("model", "=~", pattern)


def test_a_pattern_that_would_backtrack_forever_elsewhere_answers_at_once() -> None:
    data = pl.DataFrame({"model": ["a" * 50_000 + "!"]})
    schema = Schema((Column("model", ColumnType.STRING),))
    assert data.filter(expression(Filter("model", Op.RE, ("(a+)+",)), schema)).height == 0


@pytest.mark.parametrize(
    "dtype", [pl.Int8, pl.Int64, pl.UInt8, pl.UInt64, pl.Float32, pl.Float64, pl.Decimal(10, 1)], ids=str
)
@pytest.mark.parametrize("values", [("1",), ("1", "3"), ("1", "2.5"), ("1", "300", "-1"), ("1", "inf", "")])
@pytest.mark.parametrize("op", ["=", "!="])
def test_numbers_of_every_width_can_be_compared_with_any_numbers(
    dtype: pl.DataType, values: tuple[str, ...], op: str
) -> None:
    schema = Schema((Column("n", ColumnType.NUMBER),))
    data = pl.DataFrame({"n": pl.Series([1, 2]).cast(dtype)})
    found = data.filter(expression(Filter("n", parse_op(op), values), schema))
    assert found["n"].cast(pl.Float64).to_list() == ([1.0] if op == "=" else [2.0])


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=8), st.data())
def test_any_whole_number_finds_exactly_itself(numbers: list[int], data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.sampled_from(numbers), min_size=1, max_size=8))
    schema = Schema((Column("n", ColumnType.NUMBER),))
    frame = pl.DataFrame({"n": pl.Series(numbers, dtype=pl.Int64)})
    found = frame.filter(expression(Filter("n", Op.EQ, tuple(map(str, wanted))), schema))
    assert found["n"].to_list() == [number for number in numbers if number in wanted]


@given(st.text(max_size=20), st.lists(st.one_of(st.none(), st.text(max_size=4)), max_size=5))
def test_equal_and_unequal_part_the_rows_between_them(value: str, cells: list[str | None]) -> None:
    schema = Schema((Column("s", ColumnType.STRING),))
    data = pl.DataFrame({"s": cells}, schema={"s": pl.String})
    same, other = (data.filter(expression(Filter("s", op, (value,)), schema)).height for op in (Op.EQ, Op.NE))
    assert same == sum(cell == value for cell in cells)
    assert same + other == len(cells)


def test_columns_are_read_by_people_as_plain_texts() -> None:
    texts = DATA.select(text_of(column).alias(column.name) for column in SCHEMA.columns)
    assert texts.row(0) == ("0", "2026-01-01T00:00:00.000Z", "svm", "0.5", "9007199254740993", "true", '["a"]')
    assert texts.row(1)[3] == "5"
    assert texts.row(3) == ("3", "", "", "1e+300", "", "true", '["a\nb"]')
