"""The bound of the bytes of texts, known before a text is made."""

from __future__ import annotations

import polars as pl
import pytest

from bridge.model.schema import Column, ColumnType, Schema
from bridge.sources.transform.expression import compile_expression

SCHEMA = Schema(
    (
        Column("x", ColumnType.NUMBER),
        Column("model", ColumnType.STRING),
        Column("tags", ColumnType.JSON),
        Column("time", ColumnType.TIME),
    )
)
DATA = pl.DataFrame(
    {
        "x": [-1.2345678901234567e-300, None, 1.0],
        "model": ["ΐΐΐΐ", "İȺ", "a,b,c"],
        "tags": ['{"a":[1e15,1e15,1e15,1e15,1e15,1e15]}', '{"a":"\\u0001x"}', None],
        "time": pl.Series([-62_135_510_400_000_000 + 1, 0, None]).cast(pl.Datetime("us", "UTC")),
    }
)


def bytes_of(texts: pl.Series) -> int:
    return int(texts.str.len_bytes().sum())


def bound(text: str) -> int:
    sizes = {name: bytes_of(DATA[name]) for name in ("model", "tags")}
    return compile_expression(text, SCHEMA).text_bytes(sizes, DATA.height)


@pytest.mark.parametrize(
    "text",
    [
        "model",
        "'abc'",
        "'é'",
        "lower(model)",
        "upper(model)",
        "trim(model)",
        "replace(model, ',', 'a longer text')",
        "replace(model, 'a', '')",
        "replace(tags, '1e15', '<>')",
        "slice(model, 0, 2)",
        "split_part(model, ',', 2)",
        "extract(model, '.+')",
        "concat(model, ' ', tags, text(x))",
        "json_get(tags, 'a')",
        "text(x)",
        "text(time)",
        "text(x > 0)",
        "text(model)",
        "if(x > 0, model, tags)",
        "coalesce(model, tags)",
        "upper(concat(model, model))",
    ],
)
def test_a_result_is_never_larger_than_its_bound(text: str) -> None:
    made = DATA.with_columns(result=compile_expression(text, SCHEMA).polars())["result"]
    assert bytes_of(made) <= bound(text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("x + 1", 0),
        ("model = 'abc'", 0),
        ("length(model)", 0),
        ("time", 0),
        ("number(null)", 0),
        ("model", 100),
        ("'é'", 20),
        ("concat(model, model, 'abc')", 230),
        ("lower(model)", 300),
        ("replace(model, 'ab', 'abcd')", 200),
        ("replace(model, 'abcd', 'ab')", 100),
        ("text(x)", 320),
        ("slice(concat(model, model), 0, 1)", 200),
        ("length(concat(model, model)) > 5", 200),
    ],
)
def test_the_bound_is_of_the_largest_text_on_the_way(text: str, wanted: int) -> None:
    """What is cut, counted or compared afterwards was made before."""
    assert compile_expression(text, SCHEMA).text_bytes({"model": 100, "tags": 0}, 10) == wanted


def test_an_exploding_text_is_known_before_it_is_made() -> None:
    many = f"concat({', '.join(['model'] * 64)})"
    assert compile_expression(many, SCHEMA).text_bytes({"model": 1_000}, 10) == 64_000
    nested = "model"
    for _ in range(31):
        nested = f"replace({nested}, 'a', '{'a' * 40}')"
    for text in (nested, f"length({nested})", f"slice({nested}, 0, 1) = 'a'"):
        assert compile_expression(text, SCHEMA).text_bytes({"model": 1_000}, 10) == 1_000 * 40**31
