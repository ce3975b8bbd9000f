"""The page about expressions says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

from bridge.model.filters import MAX_PATTERN_CHARS
from bridge.model.schema import Column, ColumnType, Schema
from bridge.sources.transform.expression import compile_expression
from bridge.sources.transform.expression.check import MAX_PATTERNS
from bridge.sources.transform.expression.functions import FUNCTIONS, OPERATORS
from bridge.sources.transform.expression.lexer import MAX_CHARS
from bridge.sources.transform.expression.parser import MAX_ARGS, MAX_NESTING, MAX_NODES
from bridge.sources.transform.expression.texts import MAX_KEYS, MAX_PART

PAGE = (Path(__file__).parents[4] / "docs" / "expressions.md").read_text()
ROW = re.compile(r"^\| `(\w+)\((.*?)\)` \| (.+?) \| `(.+?)` \| `(.+?)` \|$", re.MULTILINE)
ROWS = ROW.findall(PAGE)
SCHEMA = Schema(
    (
        *(Column(name, ColumnType.NUMBER) for name in ("accuracy", "loss", "learning rate")),
        *(Column(name, ColumnType.STRING) for name in ("status", "model", "version", "run")),
        Column("tags", ColumnType.JSON),
        Column("time", ColumnType.TIME),
    )
)


def evaluated(text: str) -> object:
    if text == "null":
        return None
    return pl.select(compile_expression(text, Schema(())).polars()).item()


def test_every_function_stands_in_the_table_once() -> None:
    assert [name for name, *_ in ROWS] == list(dict.fromkeys(name for name, *_ in ROWS))
    assert {name for name, *_ in ROWS} == set(FUNCTIONS)


@pytest.mark.parametrize(("name", "example", "wanted"), [(row[0], row[3], row[4]) for row in ROWS])
def test_every_example_has_the_result_that_is_shown(name: str, example: str, wanted: str) -> None:
    assert f"{name}(" in example
    assert evaluated(example) == evaluated(wanted)


@pytest.mark.parametrize(("name", "params"), [(row[0], row[1]) for row in ROWS])
def test_every_function_is_shown_with_as_many_arguments_as_it_takes(name: str, params: str) -> None:
    function = FUNCTIONS[name]
    shown = params.split(", ")
    assert (function.most is None) == (shown[-1] == "…")
    if function.most is not None:
        assert len(shown) == function.most


def test_every_operator_stands_in_the_table() -> None:
    table = PAGE.partition("## Operators")[2].partition("## Functions")[0]
    signs = set(re.findall(r"`([^`]+)`", table))
    for name in OPERATORS:
        sign = {"negative": "-a", "in": "in (a, b)", "=~": "=~ 'pattern'"}.get(name, name)
        assert sign in signs, sign


def test_every_shown_expression_is_one() -> None:
    shown = [line for block in re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    assert len(shown) >= 6
    for line in shown:
        compile_expression(line, SCHEMA)


def test_the_bounds_are_those_of_the_code() -> None:
    bounds = PAGE.partition("## Bounds")[2]
    numbers = [int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", bounds)]
    assert numbers == [MAX_CHARS, MAX_NODES, MAX_NESTING, MAX_ARGS, MAX_PATTERNS, MAX_PATTERN_CHARS, MAX_KEYS]
    assert f"from 1 to {MAX_PART}" in PAGE
