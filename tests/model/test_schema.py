from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.model.schema import Column, ColumnType, Kind, Role, Schema

TIME = Column("started", ColumnType.TIME, role=Role.TIME)
MODEL = Column("model", ColumnType.STRING, role=Role.DIMENSION)
SCORE = Column("score", ColumnType.NUMBER, unit="percentunit", role=Role.MEASURE)
NOTE = Column("note", ColumnType.STRING)
SCHEMA = Schema((NOTE, TIME, MODEL, SCORE))


def test_a_schema_finds_its_columns_by_name_and_by_role() -> None:
    assert SCHEMA.names == ("note", "started", "model", "score")
    assert SCHEMA.get("score") is SCORE
    assert SCHEMA.get("SCORE") is None
    assert SCHEMA.time is TIME
    assert SCHEMA.with_role(Role.DIMENSION) == (MODEL,)
    assert SCHEMA.with_role(Role.MEASURE) == (SCORE,)


def test_a_schema_without_a_time_column_says_so() -> None:
    assert Schema((NOTE,)).time is None


@pytest.mark.parametrize("change", [{"name": "s"}, {"type": ColumnType.STRING}, {"unit": None}, {"role": None}])
def test_a_schema_that_publishes_something_else_has_another_fingerprint(change: dict[str, object]) -> None:
    other = Schema((NOTE, TIME, MODEL, replace(SCORE, **change)))  # type: ignore[arg-type]
    assert other.fingerprint != SCHEMA.fingerprint


def test_what_a_consumer_cannot_see_does_not_change_the_fingerprint() -> None:
    same = Schema((NOTE, TIME, MODEL, replace(SCORE, description="x", select="a.b", kind=Kind.COUNTER)), version=7)
    assert same.fingerprint == SCHEMA.fingerprint
