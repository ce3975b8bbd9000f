"""How samples stand on disk."""

from __future__ import annotations

import time

import polars as pl

from bridge.model.schema import Column, ColumnType, Schema
from bridge.sources.history.stored import stored_kinds

NUMBER = ColumnType.NUMBER


def test_a_number_column_without_a_value_does_not_say_how_it_is_stored() -> None:
    """Else one empty answer would make whole numbers of the past fractions for good."""
    data = pl.DataFrame({"a": [1, None], "b": [None, None], "c": ["x", None]}, schema_overrides={"b": pl.Float64})
    schema = Schema((Column("a", NUMBER), Column("b", NUMBER), Column("c", ColumnType.STRING)))
    assert stored_kinds(data, schema) == {"a": "integer", "c": "string"}
    assert stored_kinds(data.clear(), schema) == {"c": "string"}


def test_thousands_of_columns_are_looked_at_once_each() -> None:
    names = [f"c{number}" for number in range(4_000)]
    data = pl.DataFrame({name: [1.0] for name in names})
    schema = Schema(tuple(Column(name, NUMBER) for name in names))
    began_s = time.process_time()
    assert set(stored_kinds(data, schema).values()) == {"number"}
    assert time.process_time() - began_s < 3
