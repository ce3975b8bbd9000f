"""Types, roles, the time axis and units from names and values."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from bridge.model.schema import ColumnType, Kind, Role
from bridge.sources.infer.columns import Field, guess
from bridge.sources.infer.names import Names, column_name, host_name, jmes_path, path_name, plain_name, snake
from bridge.sources.infer.units import unit_of

ISO = ["2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"]


def one(name: str, values: list[Any], **more: Any) -> Any:
    """The column of one field."""
    return guess([Field((name,), pl.Series(values), **more)], len(values)).columns[0]


@pytest.mark.parametrize(
    ("names", "best"),
    [
        (["ended_at", "started_at"], "started_at"),
        (["updated_at", "created_at"], "created_at"),
        (["updated_at", "timestamp"], "timestamp"),
        (["ended_at", "logged"], "logged"),
        (["expires", "x"], "x"),
        (["lastSeen", "eventTime"], "eventTime"),
        (["finished_at", "updated_at"], "updated_at"),
        (["created_at", "time"], "time"),
        (["a", "b"], "a"),
    ],
)
def test_of_several_times_the_one_that_says_when_is_the_axis(names: list[str], best: str) -> None:
    """The others are plain times, and the comment names them."""
    found = guess([Field((name,), pl.Series(ISO)) for name in names], 2)
    assert [column.name for column in found.columns if column.role is Role.TIME] == [best]
    assert {column.type for column in found.columns} == {ColumnType.TIME}
    assert "preferred to" in found.remarks[best]


def test_a_time_that_most_rows_lack_is_no_axis() -> None:
    """However it is called."""
    fields = [Field(("time",), pl.Series([None, None, ISO[0]])), Field(("x",), pl.Series([*ISO, ISO[0]]))]
    assert [column.role for column in guess(fields, 3).columns] == [None, Role.TIME]


def test_a_table_without_time_says_so() -> None:
    """It is a table all the same."""
    assert "no time column" in guess([Field(("x",), pl.Series([1.5]))], 1).notes[0]


def test_dates_with_the_day_first_are_told_with_what_to_do() -> None:
    """They could be days of another month, so nobody guesses; other texts with points are only texts."""
    found = guess([Field(("Datum",), pl.Series(["20.11.2026 00:00", "1.2.2026"]))], 2)
    assert found.columns[0].role is None
    assert "a `derive` step" in found.remarks["Datum"]
    assert "derive" not in guess([Field(("x",), pl.Series(["1.2.3", "10.11.12"]))], 2).remarks["x"]


def test_one_text_is_counted_as_one() -> None:
    """A comment is read by people."""
    found = guess([Field(("site",), pl.Series(["east"] * 12))], 12)
    assert found.remarks["site"] == "1 text in 12 rows"


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("createdAt", [1_767_225_600_000, 1_767_225_660_000], ColumnType.TIME),
        ("start", [1_767_225_600, 1_767_225_660], ColumnType.TIME),
        ("time_ms", [1_767_225_600_000, 1_767_225_660_000], ColumnType.TIME),
        ("start", [1, 2], ColumnType.NUMBER),
        ("epoch", [1_767_225_600, 1_767_225_660], ColumnType.NUMBER),
        ("value", [1_767_225_600, 1_767_225_660], ColumnType.NUMBER),
        ("ok", [True, False], ColumnType.BOOLEAN),
        ("x", [None, None], ColumnType.STRING),
    ],
)
def test_types_by_values_and_name(name: str, values: list[Any], kind: ColumnType) -> None:
    """A number is a time only where name and values agree."""
    assert one(name, values).type is kind


@pytest.mark.parametrize(
    ("name", "values", "role"),
    [
        ("model", ["svm", "mlp"] * 10, Role.DIMENSION),
        ("model", ["svm", "mlp"], Role.DIMENSION),
        ("run_id", ["a", "b"] * 10, None),
        ("name", [f"run {word}" for word in "abcdefghijklmnopqrstuvwxyz"], None),
        ("commit", ["0123abcd", "9876fedc"], None),
        ("code", ["r0001", "r0002"], None),
        ("message", ["done", "failed"] * 10, None),
        ("x", ["y" * 80, "z"] * 10, None),
        ("word", [f"w{n % 60}x" for n in range(600)], None),
        ("seed", [1, 2], None),
        ("year", [2025, 2026], None),
        ("user_id", [1, 2], None),
        ("loss", [0.5, 0.25], Role.MEASURE),
        ("ok", [True, False], Role.DIMENSION),
    ],
)
def test_roles(name: str, values: list[Any], role: Role | None) -> None:
    """Few texts tell series apart, numbers are drawn, ids do neither."""
    assert one(name, values).role is role


@pytest.mark.parametrize(
    ("name", "values", "unit"),
    [
        ("duration_s", [1.5], "s"),
        ("wall_seconds", [1.5], "s"),
        ("latency_ms", [1.5], "ms"),
        ("latency_us", [1.5], "µs"),
        ("latency_ns", [1.5], "ns"),
        ("rss_bytes", [1.5], "bytes"),
        ("size_kb", [1.5], "deckbytes"),
        ("size_mib", [1.5], "mbytes"),
        ("cpu_percent", [1.5], "percent"),
        ("hit_ratio", [0.5], "percentunit"),
        ("accuracy", [0.5, 1.0], "percentunit"),
        ("f1_macro", [0.5], "percentunit"),
        ("accuracy", [50.0, 99.0], "percent"),
        ("accuracy", [-5.0, 990.0], None),
        ("accuracy", [], "percentunit"),
        ("temp_celsius", [21.5], "celsius"),
        ("clock_hz", [50.0], "hertz"),
        ("clock_mhz", [50.0], None),
        ("requests_total", [50.0], "short"),
        ("count", [5.0], "short"),
        ("temperature", [0.7], None),
        ("price_usd", [0.7], None),
        ("us", [0.7], None),
        ("loss", [0.7], None),
        ("hour", [7.0], None),
    ],
)
def test_units_are_grafanas_and_only_where_something_tells_them(name: str, values: list[float], unit: str) -> None:
    """Names tell most, values of shares the rest; nothing is made up."""
    assert unit_of(name, pl.Series(values, dtype=pl.Float64))[0] == unit


@pytest.mark.parametrize("name", ["cpu_percent", "size_kb", "temperature", "price_usd", "accuracy", "clock_mhz"])
def test_a_doubtful_unit_carries_a_remark(name: str) -> None:
    """A person decides."""
    values = {"accuracy": [50.0], "cpu_percent": [0.1, 0.5, 0.9]}.get(name, [0.5])
    assert unit_of(name, pl.Series(values))[1]


def test_totals_are_counters() -> None:
    """They keep their last value when points are thinned out."""
    assert one("runs_total", [1, 2]).kind is Kind.COUNTER
    assert one("runs", [1, 2]).kind is Kind.GAUGE


def test_promised_types_stand_where_values_do_not_contradict() -> None:
    """And give way where they do."""
    assert one("x", ["1.5", "2.5"], type=ColumnType.NUMBER).type is ColumnType.NUMBER
    assert one("x", ["one", "2"], type=ColumnType.NUMBER).type is ColumnType.STRING
    assert one("x", [None], type=ColumnType.TIME).type is ColumnType.TIME
    assert one("x", ["{}"], type=ColumnType.JSON).type is ColumnType.JSON


def test_names_that_collide_are_numbered() -> None:
    """Each still finds its own values."""
    fields = [Field((name,), pl.Series([1.0])) for name in ("a b", "a-b", "a_b", "a_b_2")]
    found = {column.name: column.select for column in guess(fields, 1).columns}
    assert found == {"a_b": "a b", "a_b_2": "a-b", "a_b_3": "a_b", "a_b_2_2": "a_b_2"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("größe", "grosse"), ("2x", "_2x"), ("a.b c", "a_b_c"), ("", "column"), ("日本", "column"), ("ok_1", "ok_1"),
        ("yes", "yes"), ("1.0", "_1_0"), ("{x}", "x"), ("__", "__"), ("n" * 90, "n" * 60), ("...", "column"),
    ],
)  # fmt: skip
def test_column_names(text: str, name: str) -> None:
    """Letters, digits and underscores."""
    assert column_name(text) == name


def test_names_of_sources_and_datasets() -> None:
    """From hosts and paths."""
    assert plain_name("2024 Runs!", "d") == "d_2024_runs"
    assert plain_name("RunTable", "d") == "run_table"
    assert plain_name("日本", "d") == "d"
    assert snake("HTTPServerTime-Ms") == "http_server_time_ms"
    assert host_name("http://lab.example.org:9000") == "lab"
    assert host_name("http://api.lab.example.org") == "lab"
    assert host_name("http://127.0.0.1:9000") == "local_9000"
    assert host_name("http://localhost") == "local"
    assert host_name("http://10.1.2.3") == "host_10_1_2_3"
    assert host_name("http://[2001:db8::1]:80") == "host_2001_db8_1"
    assert path_name("/api/v1/runs.json") == "runs"
    assert path_name("/runs/{id}/metrics") == "runs_metrics"
    assert path_name("/api/v1") == "rows"
    names = Names()
    assert [names.take("a") for _ in range(3)] == ["a", "a_2", "a_3"]
    assert jmes_path(("a", "b c", 'd"e', "\ud800")) == r'a."b c"."d\"e"."\ud800"'
