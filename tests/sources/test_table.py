"""Raw values become typed tables, and what cannot be read is said."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import polars as pl
import pytest

from bridge.errors import SchemaMismatch, UpstreamInvalid
from bridge.model.frame import DTYPES, TIME_DTYPE
from bridge.model.schema import Column, ColumnType, Role
from bridge.sources.table import check_names, from_rows, infer, raw_rows, typed

NUMBER, TIME, STRING, BOOLEAN, JSON = (
    ColumnType.NUMBER,
    ColumnType.TIME,
    ColumnType.STRING,
    ColumnType.BOOLEAN,
    ColumnType.JSON,
)
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
NAN = float("nan")


def convert(values: Any, kind: ColumnType, dtype: Any = None) -> tuple[list[Any], list[str]]:
    series = values.alias("x") if isinstance(values, pl.Series) else pl.Series("x", values, dtype=dtype)
    data, notices = typed(series.to_frame(), (Column("x", kind),))
    return data["x"].to_list(), [notice.text for notice in notices]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("1.5", 1.5),
        (" 2 ", 2.0),
        ("1e3", 1000.0),
        ("+5", 5.0),
        ("-.5", -0.5),
        ("NaN", NAN),
        ("Infinity", float("inf")),
        ("-Infinity", float("-inf")),
        ("", None),
        ("  ", None),
        (None, None),
    ],
)
def test_numeric_texts_become_numbers_and_blank_ones_are_no_value(given: str | None, wanted: float | None) -> None:
    values, notices = convert(["0", given], NUMBER, pl.String)
    assert values[1] == pytest.approx(wanted, nan_ok=True) if wanted is not None else values[1] is None
    assert notices == []


@pytest.mark.parametrize("given", ["1,5", "true", "0x10", "1_0", "1 2", "abc", "--1"])
def test_other_texts_are_no_numbers_and_are_counted(given: str) -> None:
    values, notices = convert(["1", given], NUMBER)
    assert values == [1.0, None]
    assert notices == [f"1 of 2 values of `x` is not a number (first: {given!r}); it is shown as empty"]


def test_the_notice_counts_all_that_was_lost_and_shows_the_first() -> None:
    values, notices = convert(["1", "abc", "def", None, ""], NUMBER)
    assert values == [1.0, None, None, None, None]
    assert notices == ["2 of 3 values of `x` are not numbers (first: 'abc'); they are shown as empty"]


def test_a_long_foreign_value_is_cut_in_the_notice() -> None:
    _, notices = convert(["1", "x" * 10_000], NUMBER)
    assert len(notices[0]) < 200


@pytest.mark.parametrize(
    ("dtype", "value", "wanted"),
    [
        (pl.Int8, 5, pl.Int64),
        (pl.UInt32, 5, pl.Int64),
        (pl.Int64, 2**63 - 1, pl.Int64),
        (pl.UInt64, 2**64 - 1, pl.UInt64),
        (pl.Int128, 2**62, pl.Int64),
        (pl.Float32, 0.5, pl.Float64),
        (pl.Float64, 0.5, pl.Float64),
    ],
)
def test_whole_numbers_keep_all_64_bits(dtype: Any, value: float, wanted: Any) -> None:
    data, _ = typed(pl.DataFrame({"x": pl.Series([value], dtype=dtype)}), (Column("x", NUMBER),))
    assert data["x"].dtype == wanted
    assert data["x"].to_list() == [value]


def test_a_number_over_64_bits_becomes_a_float() -> None:
    assert convert([2**100], NUMBER, pl.Int128) == ([float(2**100)], [])


def test_decimals_are_numbers() -> None:
    values = pl.Series(["1.50"]).cast(pl.Decimal(10, 2))
    assert convert(values, NUMBER) == ([1.5], [])
    assert convert(values, STRING) == (["1.50"], [])


def test_large_whole_numbers_in_text_keep_their_digits() -> None:
    assert convert(["1", "9007199254740993"], NUMBER) == ([1, 9007199254740993], [])
    assert convert(["0.5", "9007199254740992"], NUMBER) == ([0.5, 9007199254740992.0], [])


@pytest.mark.parametrize("values", [[True], [date(2026, 1, 1)], [{"a": 1}], [[1]], [time(1)], [timedelta(1)]])
def test_what_is_no_number_at_all_is_a_changed_schema(values: list[Any]) -> None:
    with pytest.raises(SchemaMismatch, match="column `x` holds no number"):
        convert(values, NUMBER)


def test_a_column_in_which_nothing_converts_says_its_first_value_and_a_remedy() -> None:
    with pytest.raises(SchemaMismatch, match=r"column `x` holds no number: its first value is 'abc'") as info:
        convert([None, "", "abc"], NUMBER)
    assert "`x`" in info.value.remedy


@pytest.mark.parametrize("kind", list(ColumnType))
def test_a_column_without_values_has_its_type_all_the_same(kind: ColumnType) -> None:
    for series in (pl.Series("x", [None, None]), pl.Series("x", [], dtype=pl.String)):
        data, notices = typed(series.to_frame(), (Column("x", kind),))
        assert data["x"].dtype == DTYPES[kind]
        assert data["x"].null_count() == len(series)
        assert notices == ()


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([True, False, None], [True, False, None]),
        (["true", "FALSE", " 1 ", "0", ""], [True, False, True, False, None]),
        ([1, 0], [True, False]),
        ([1.0, 0.0], [True, False]),
    ],
)
def test_the_usual_spellings_of_booleans_are_read(values: list[Any], wanted: list[Any]) -> None:
    assert convert(values, BOOLEAN) == (wanted, [])


def test_other_values_are_no_booleans() -> None:
    assert convert(["true", "yes"], BOOLEAN)[0] == [True, None]
    assert convert([1, 2], BOOLEAN)[0] == [True, None]
    with pytest.raises(SchemaMismatch, match="no boolean"):
        convert([date(2026, 1, 1)], BOOLEAN)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (1769860800, NOON),
        (1769860800000, NOON),
        (1769860800000000, NOON),
        (1769860800000000000, NOON),
        (1769860800.5, NOON + timedelta(milliseconds=500)),
        (-1, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("1769860800", NOON),
        ("1769860800.25", NOON + timedelta(milliseconds=250)),
        ("2026-01-31T12:00:00Z", NOON),
        ("2026-01-31T12:00:00z", NOON),
        ("2026-01-31 12:00", NOON),
        (" 2026-01-31T12:00:00 ", NOON),
        ("2026-01-31T14:00:00+02:00", NOON),
        ("2026-01-31T10:30:00-0130", NOON),
        ("2026-01-31T14:00+02", NOON),
        ("2026-01-31T12:00:00.123456789Z", NOON + timedelta(microseconds=123456)),
        ("2026-01-31T12:00:00,5", NOON + timedelta(milliseconds=500)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("20260131T120000", NOON),
        ("2026-W05-6", datetime(2026, 1, 31, tzinfo=UTC)),
        (date(2026, 1, 31), datetime(2026, 1, 31, tzinfo=UTC)),
        (datetime(2026, 1, 31, 12), NOON),  # noqa: DTZ001
    ],
)
def test_every_usual_spelling_of_an_instant_is_read(given: Any, wanted: datetime) -> None:
    assert convert([given], TIME) == ([wanted], [])


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_times_of_any_unit_and_zone_are_the_same_instant(unit: Any, zone: str | None) -> None:
    values = pl.Series([NOON]).dt.convert_time_zone(zone or "UTC").dt.cast_time_unit(unit)
    values = values if zone else values.dt.replace_time_zone(None)
    data, _ = typed(values.alias("x").to_frame(), (Column("x", TIME),))
    assert data["x"].dtype == TIME_DTYPE
    assert data["x"].to_list() == [NOON]


def test_units_and_offsets_may_be_mixed_in_one_column() -> None:
    values = ["2026-01-31T12:00:00Z", "2026-01-31T13:00:00+01:00", "1769860800", "1769860800000", "20260131T12"]
    assert convert(values, TIME) == ([NOON] * 5, [])
    assert convert([1769860800, 1769860800000, 1769860800000000], TIME) == ([NOON] * 3, [])


def test_whole_epoch_numbers_keep_every_microsecond() -> None:
    assert convert([1769860800123457], TIME)[0] == [NOON + timedelta(microseconds=123457)]
    assert convert(["1769860800123457"], TIME)[0] == [NOON + timedelta(microseconds=123457)]


@pytest.mark.parametrize(
    "given",
    ["9999-12-31", "0000-01-01", "12026-01-01", "2026-02-30", "2026-01-31T25:00", "soon", "1e300", "nan", "x" * 100],
)
def test_texts_that_are_no_usable_time_are_empty_and_counted(given: str) -> None:
    values, notices = convert(["2026-01-31T12:00:00Z", given], TIME)
    assert values == [NOON, None]
    assert len(notices) == 1
    assert "is not a time" in notices[0]


@pytest.mark.parametrize("given", [NAN, float("inf"), 1e30])
def test_numbers_that_are_no_usable_time_are_empty_and_counted(given: float) -> None:
    values, notices = convert([1769860800.0, given], TIME)
    assert values == [NOON, None]
    assert len(notices) == 1


@pytest.mark.parametrize("unit", ["ms", "us"])
def test_a_time_beyond_the_year_9999_is_counted_and_not_fatal(unit: Any) -> None:
    first = 1769860800 * (1_000 if unit == "ms" else 1_000_000)
    values, notices = convert(pl.Series([first, 2**62]).cast(pl.Datetime(unit)), TIME)
    assert values == [NOON, None]
    assert f"(first: {2**62})" in notices[0]


def test_booleans_and_nested_values_are_no_times() -> None:
    for values in ([True], [{"a": 1}], [time(1)]):
        with pytest.raises(SchemaMismatch, match="no time"):
            convert(values, TIME)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([1, None], ["1", None]),
        ([1.5], ["1.5"]),
        ([True], ["true"]),
        ([""], [""]),
        ([{"a": [1]}], ['{"a":[1]}']),
        ([[1, 2]], ["[1,2]"]),
        ([date(2026, 1, 31)], ["2026-01-31"]),
        ([NOON], ["2026-01-31T12:00:00Z"]),
        ([time(1, 2)], ["01:02:00"]),
        ([timedelta(days=1)], ["P1D"]),
        (pl.Series(["a"], dtype=pl.Categorical), ["a"]),
        (pl.Series(["a"], dtype=pl.Enum(["a"])), ["a"]),
        ([b"a"], ["a"]),
    ],
)
def test_every_value_can_be_a_text(values: Any, wanted: list[Any]) -> None:
    assert convert(values, STRING) == (wanted, [])


def test_bytes_that_are_no_text_are_counted() -> None:
    values, notices = convert([b"a", b"\xff"], STRING)
    assert values == ["a", None]
    assert "is not a text" in notices[0]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([{"a": 1}, None], ['{"a":1}', None]),
        ([[1, 2]], ["[1,2]"]),
        ([1], ["1"]),
        ([True], ["true"]),
        ([0.5, NAN], ["0.5", "null"]),
        (['{"a":1}', "plain"], ['{"a":1}', '"plain"']),
        ([NOON], ['"2026-01-31T12:00:00Z"']),
    ],
)
def test_a_json_column_holds_json_only(values: list[Any], wanted: list[Any]) -> None:
    assert convert(values, JSON) == (wanted, [])


def test_a_missing_column_names_what_is_there() -> None:
    raw = pl.DataFrame({f"c{i}": [1] for i in range(30)})
    with pytest.raises(SchemaMismatch, match=r"column `x` is missing; the data has `c0`, .* and 10 more") as info:
        typed(raw, (Column("x", NUMBER),))
    assert "select" in info.value.remedy


def test_select_gives_the_name_in_the_data() -> None:
    data, _ = typed(pl.DataFrame({"far": [1], "extra": [2]}), (Column("x", NUMBER, select="far"),))
    assert data.to_dict(as_series=False) == {"x": [1]}
    with pytest.raises(
        SchemaMismatch, match="column `x` \\(`gone` in the data\\) is missing; the data has no columns"
    ):
        typed(pl.DataFrame(), (Column("x", NUMBER, select="gone"),))


# from_rows


def rows_of(values: list[Any], kind: ColumnType) -> tuple[list[Any], list[str]]:
    data, notices = from_rows([{"x": value} for value in values], (Column("x", kind),))
    assert data["x"].dtype == DTYPES[kind] or kind is NUMBER
    return data["x"].to_list(), [notice.text for notice in notices]


MIXED = [1, "2", True, {"a": 1}, [1], None, 1.5, "x"]


@pytest.mark.parametrize(
    ("kind", "wanted", "lost"),
    [
        (NUMBER, [1.0, 2.0, None, None, None, None, 1.5, None], 4),
        (BOOLEAN, [True, None, True, None, None, None, None, None], 5),
        (STRING, ["1", "2", "true", '{"a":1}', "[1]", None, "1.5", "x"], 0),
        (JSON, ["1", "2", "true", '{"a":1}', "[1]", None, "1.5", '"x"'], 0),
    ],
)
def test_mixed_types_follow_the_same_rule_as_texts(kind: ColumnType, wanted: list[Any], lost: int) -> None:
    values, notices = rows_of(MIXED, kind)
    assert values == wanted
    assert (notices[0].split(" ")[0] if notices else "0") == str(lost)


def test_a_missing_key_is_no_value() -> None:
    columns = (Column("a", NUMBER), Column("b", STRING))
    data, notices = from_rows([{"a": 1}, {"b": "x"}, {}], columns)
    assert data.rows() == [(1, None), (None, "x"), (None, None)]
    assert notices == ()


def test_no_rows_give_an_empty_typed_table() -> None:
    data, _ = from_rows([], (Column("a", NUMBER), Column("t", TIME)))
    assert data.schema == {"a": pl.Float64, "t": TIME_DTYPE}


@pytest.mark.parametrize(
    ("values", "dtype", "wanted"),
    [
        ([1, 2**63 - 1], pl.Int64, [1, 2**63 - 1]),
        ([1, 2**64 - 1], pl.UInt64, [1, 2**64 - 1]),
        ([1, 2**70], pl.Float64, [1.0, float(2**70)]),
        ([1, 2.5], pl.Float64, [1.0, 2.5]),
        ([2**60 + 1, 2.5], pl.Float64, [float(2**60), 2.5]),
        ([NAN, float("inf")], pl.Float64, None),
    ],
)
def test_json_numbers_keep_what_they_can(values: list[Any], dtype: Any, wanted: list[Any] | None) -> None:
    data, notices = from_rows([{"x": value} for value in values], (Column("x", NUMBER),))
    assert data["x"].dtype == dtype
    assert notices == ()
    assert wanted is None or data["x"].to_list() == wanted


def test_a_number_beyond_a_float_is_not_infinity() -> None:
    values, notices = rows_of([1, 10**400], NUMBER)
    assert values == [1.0, None]
    assert len(notices) == 1
    assert rows_of([1, 10**5000], NUMBER)[0] == [1.0, None]


def test_a_value_that_cannot_be_shown_is_counted_all_the_same() -> None:
    nested: list[Any] = []
    for _ in range(5_000):
        nested = [nested]
    for odd in (10**5000, nested):
        assert "1 of 2 values" in rows_of([1, odd], NUMBER)[1][0]
    with pytest.raises(SchemaMismatch, match=r"first value is '2026-01-31T12:00:00\+00:00'"):
        convert([NOON], NUMBER)


def test_odd_values_of_json_are_survived() -> None:
    nested: list[Any] = []
    for _ in range(5_000):
        nested = [nested]
    assert rows_of(["\ud800x", "y"], STRING)[0] == ["?x", "y"]
    assert rows_of(["\ud800x", 2**70, NAN, (1,)], JSON)[0] == ['"?x"', str(2**70), "null", "[1]"]
    assert rows_of([1, nested], JSON)[0] == ["1", None]
    assert rows_of([NAN, "x", NOON, NOON.date(), (1,)], STRING)[0] == [
        "NaN",
        "x",
        "2026-01-31T12:00:00+00:00",
        "2026-01-31",
        "[1]",
    ]


def test_parsed_instants_in_rows_are_times() -> None:
    assert rows_of([NOON, "2026-01-31T12:00:00Z", 1769860800], TIME)[0] == [NOON] * 3


# infer


def test_types_and_roles_are_read_from_names_and_values() -> None:
    raw = pl.DataFrame(
        {
            "created_at": [1769860800, 1769860801],
            "time": ["2026-01-31T12:00:00Z", None],
            "TS": [1769860800.5, 1769860801.0],
            "day": [date(2026, 1, 1), None],
            "train_time": [12.5, 13.5],
            "wait_time": [1, 2],
            "date": ["soon", "later"],
            "end_time": ["1769860800", "1769860801"],
            "start_time": pl.Series([None, None], dtype=pl.String),
            "accuracy": [0.5, NAN],
            "model": ["svm", "knn"],
            "ok": [True, None],
            "id": [1, 2],
            "run_id": ["a", "b"],
            "Message": ["x", "y"],
            "params": [{"c": 1}, None],
            "tags": [["a"], []],
            "nothing": [None, None],
        }
    )
    found = {column.name: (column.type, column.role) for column in infer(raw)}
    assert found == {
        "created_at": (TIME, Role.TIME),
        "time": (TIME, None),
        "TS": (TIME, None),
        "day": (TIME, None),
        "train_time": (NUMBER, Role.MEASURE),
        "wait_time": (NUMBER, Role.MEASURE),
        "date": (STRING, Role.DIMENSION),
        "end_time": (STRING, Role.DIMENSION),
        "start_time": (STRING, Role.DIMENSION),
        "accuracy": (NUMBER, Role.MEASURE),
        "model": (STRING, Role.DIMENSION),
        "ok": (BOOLEAN, Role.DIMENSION),
        "id": (NUMBER, None),
        "run_id": (STRING, None),
        "Message": (STRING, None),
        "params": (JSON, None),
        "tags": (JSON, None),
        "nothing": (STRING, Role.DIMENSION),
    }


def test_a_time_like_column_with_an_odd_value_is_no_time() -> None:
    assert infer(pl.DataFrame({"time": ["2026-01-31", "2026-13-99"]}))[0].type is STRING
    assert infer(pl.DataFrame({"time": [1769860800, 5]}))[0].type is NUMBER


def test_rows_of_python_values_can_be_inferred() -> None:
    raw = raw_rows([{"a": {"x": 1}, "b": 1}, {"a": 1, "b": "y"}], ["a", "b"])
    assert [column.type for column in infer(raw)] == [JSON, STRING]


def test_rows_without_columns_are_still_counted() -> None:
    assert raw_rows([{}, {}], []).shape == (2, 0)


def test_duplicate_names_are_refused_by_name() -> None:
    with pytest.raises(UpstreamInvalid, match=r"more than one column named `a`, `b`$"):
        check_names(["a", "b", "c", "a", "b", "b"])
    check_names(["a", "b"])
