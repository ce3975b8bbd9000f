"""What was recorded under one version of a schema, read as another."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest

from bridge.errors import StoreBroken
from bridge.model.frame import TIME_DTYPE
from bridge.model.schema import ColumnType, Role
from bridge.sources.history.stored import AT
from bridge.sources.history.versions import (
    Fit,
    StoredColumn,
    Version,
    Versions,
    Why,
    axis_of,
    expressions,
    fit,
    kinds_of,
    read_map,
    same_axis,
    schema_of,
    stored_schema,
    widest,
)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
N, S, B, T, J = ColumnType.NUMBER, ColumnType.STRING, ColumnType.BOOLEAN, ColumnType.TIME, ColumnType.JSON
KINDS = {N: "number", S: "string", B: "boolean", T: "time", J: "string"}


def column(
    id_: int, name: str, type_: ColumnType = N, unit: str | None = None, stored: str | None = None
) -> StoredColumn:
    """A column, stored as its type is."""
    role = Role.TIME if type_ is T else None
    return StoredColumn(id_, name, type_, unit, role, stored=stored or KINDS[type_])


def version(*columns: StoredColumn, number: int = 1, generation: int = 1) -> Version:
    """A version of these columns."""
    return Version(number, NOW, Why.FIRST, generation, columns)


def read(then: StoredColumn, now: StoredColumn, values: list[Any]) -> list[Any]:
    """Values stored under one column, read as the other, lazily as files are."""
    before, after = version(then), version(now)
    table = pl.DataFrame(
        {then.name: values, "mark": range(len(values))}, schema=stored_schema(before) | {"mark": pl.Int64}
    )
    return table.lazy().select(*expressions(before, after, [now.name]), "mark").collect()[now.name].to_list()


@pytest.mark.parametrize(
    ("then", "now", "values", "expected"),
    [
        (column(1, "a"), column(1, "b"), [1.5, None], [1.5, None]),
        (column(1, "a"), column(2, "a"), [1.5, 2.5], [None, None]),
        (column(1, "a", unit="s"), column(1, "a", unit="ms"), [1.5, None], [1500.0, None]),
        (column(1, "a", unit="celsius"), column(1, "a", unit="kelvin"), [20.0], [293.15]),
        (column(1, "a"), column(1, "a", unit="ms"), [1.5], [1.5]),
        (column(1, "a", unit="runs"), column(1, "a", unit="trials"), [3.0], [3.0]),
        (column(1, "a", unit="s"), column(1, "a", unit="bytes"), [3.0], [None]),
        (column(1, "a", stored="integer"), column(1, "a"), [2**40, None], [float(2**40), None]),
        (column(1, "a", stored="integer"), column(1, "a", stored="integer"), [2**60 + 1], [2**60 + 1]),
        (column(1, "a", S), column(1, "a"), ["1.5", "n/a", "", None], [1.5, None, None, None]),
        (column(1, "a", S), column(1, "a", B), ["true", "0", "2"], [True, False, None]),
        (column(1, "a", S), column(1, "a", T), ["2026-01-31T12:00:00Z", "soon"], [NOW, None]),
        (column(1, "a"), column(1, "a", S), [1.5, None], ["1.5", None]),
        (column(1, "a", stored="integer"), column(1, "a", S), [3], ["3"]),
        (column(1, "a", B), column(1, "a"), [True, False, None], [1.0, 0.0, None]),
        (column(1, "a"), column(1, "a", B), [1.0, 0.0, 2.0], [True, False, None]),
        (column(1, "a", T), column(1, "a", S), [NOW], ["2026-01-31T12:00:00Z"]),
        (column(1, "a", T), column(1, "a"), [NOW], [None]),
        (column(1, "a", S), column(1, "a", J), ["x", "[1]"], ['"x"', "[1]"]),
    ],
)
def test_old_values_are_read_as_the_column_they_became(
    then: StoredColumn, now: StoredColumn, values: list[Any], expected: list[Any]
) -> None:
    """By the column's number, under whatever name, in the unit and type it has now; what cannot be is empty."""
    assert read(then, now, values) == expected


def test_a_column_that_was_not_there_is_empty_in_every_row() -> None:
    """As many nulls as the files have rows, in the type of the column."""
    before, after = (
        version(column(1, "a")),
        version(column(1, "a"), column(2, "t", T), column(3, "n", stored="integer")),
    )
    table = pl.DataFrame({"a": [1.0, 2.0]}).lazy().select(*expressions(before, after, ["t", "n", "a"])).collect()
    assert table.rows() == [(None, None, 1.0), (None, None, 2.0)]
    assert table.dtypes == [TIME_DTYPE, pl.Int64, pl.Float64]


def test_a_conversion_lets_filters_reach_the_file(tmp_path: Any) -> None:
    """A cast looks at one value at a time, so a filter on other columns is pushed below it."""
    pl.DataFrame({"a": ["1", "x"], "b": [1.0, 2.0]}).write_parquet(tmp_path / "f.parquet")
    before, after = version(column(1, "a", S), column(2, "b")), version(column(1, "a"), column(2, "b"))
    lazy = (
        pl.scan_parquet(tmp_path / "f.parquet").select(expressions(before, after, ["a", "b"])).filter(pl.col("b") < 2)
    )
    assert "SELECTION" in lazy.explain()
    assert lazy.collect().rows() == [(1.0, 1.0)]


@pytest.mark.parametrize(
    ("then", "now", "expected"),
    [
        (column(1, "a"), column(1, "a"), Fit.ALL),
        (column(1, "a"), column(1, "a", S), Fit.ALL),
        (column(1, "a", T), column(1, "a", J), Fit.ALL),
        (column(1, "a", B), column(1, "a"), Fit.ALL),
        (column(1, "a", S), column(1, "a"), Fit.SOME),
        (column(1, "a"), column(1, "a", B), Fit.SOME),
        (column(1, "a", J), column(1, "a", T), Fit.SOME),
        (column(1, "a", T), column(1, "a"), Fit.NONE),
        (column(1, "a", B), column(1, "a", T), Fit.NONE),
        (column(1, "a", unit="s"), column(1, "a", unit="bytes"), Fit.NONE),
        (column(1, "a", unit="s"), column(1, "a", unit="laps"), Fit.ALL),
    ],
)
def test_it_is_known_beforehand_whether_values_can_be_lost(
    then: StoredColumn, now: StoredColumn, expected: Fit
) -> None:
    """From the two columns alone, without a look at the data."""
    assert fit(then, now) is expected


@pytest.mark.parametrize(
    ("older", "kept"),
    [
        (column(1, "a", stored="integer"), "integer"),
        (column(1, "a", stored="integer", unit="s"), "number"),
        (column(1, "a", B), "integer"),
        (column(1, "a"), "number"),
        (column(1, "a", S), "number"),
    ],
)
def test_whole_numbers_are_kept_as_such_only_where_nothing_older_has_fractions(
    older: StoredColumn, kept: str
) -> None:
    """Seconds read as milliseconds and texts read as numbers may have some."""
    versions = Versions("lab.runs", (version(older),))
    assert widest(versions, column(1, "a", unit="ms", stored="integer")).stored == kept


def test_a_generation_is_read_with_the_columns_of_its_last_version() -> None:
    """Its files have all columns that were added while it was written."""
    versions = Versions(
        "lab.runs",
        (
            version(column(1, "a")),
            version(column(1, "a"), column(2, "b"), number=2),
            version(column(2, "b"), number=3, generation=2),
        ),
    )
    assert versions.generations == (1, 2)
    assert versions.of_generation(1).version == 2
    assert [item.then and item.then.name for item in read_map(versions.of_generation(1), versions.current)] == ["b"]


def test_samples_of_an_unknown_generation_are_refused() -> None:
    """They were written under columns that this schema.json, put back from a backup perhaps, does not have."""
    with pytest.raises(StoreBroken, match="generation 7, which its schema"):
        Versions("lab.runs", (version(),)).of_generation(7)


def test_a_version_is_a_schema_with_its_layout() -> None:
    """What is published, how it is stored, and by which instants it is laid out."""
    with_time = version(column(1, "t", T), column(2, "n", stored="integer"), number=4)
    without = version(column(2, "n"))
    assert (schema_of(with_time).names, schema_of(with_time).version) == (("t", "n"), 4)
    assert kinds_of(with_time) == {"t": "time", "n": "integer"}
    assert (axis_of(with_time), axis_of(without)) == ("t", AT)


@pytest.mark.parametrize(
    ("then", "now", "same"),
    [
        (version(column(1, "t", T)), version(column(1, "at", T)), True),
        (version(column(1, "t", T)), version(column(2, "t", T)), False),
        (version(column(1, "t", T)), version(column(2, "n")), False),
        (version(column(2, "n")), version(column(1, "t", T)), False),
        (version(column(2, "n")), version(column(2, "m")), True),
    ],
)
def test_bounds_of_old_files_hold_where_the_time_is_the_same_column(
    then: Version, now: Version, *, same: bool
) -> None:
    """Under another time column they would leave out files that have rows of the span."""
    assert same_axis(then, now) is same
