from __future__ import annotations

import csv
import io
import json
import math
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.frame import Frame, Meta, Notice
from bridge.model.render import (
    answer_bytes_estimate,
    arrow_bytes,
    csv_bytes,
    frames_json,
    ndjson_bytes,
    page_json,
    rows_json,
)
from bridge.model.schema import Column, ColumnType, Schema

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SCHEMA = Schema(
    (
        Column("time", ColumnType.TIME),
        Column("score", ColumnType.NUMBER),
        Column("count", ColumnType.NUMBER),
        Column("model", ColumnType.STRING),
        Column("ok", ColumnType.BOOLEAN),
        Column("grid", ColumnType.JSON),
    )
)
DTYPES: dict[str, Any] = {
    "time": pl.Datetime("us", "UTC"),
    "score": pl.Float64,
    "count": pl.Int64,
    "model": pl.String,
    "ok": pl.Boolean,
    "grid": pl.String,
}
Row = tuple[int | None, float | None, int | None, str | None, bool | None, str | None]
ROWS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(-62_135_510_400_000_000, 253_402_128_000_000_000)),
        st.one_of(st.none(), st.floats()),
        st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
        st.one_of(st.none(), st.text(max_size=12)),
        st.one_of(st.none(), st.booleans()),
        st.one_of(st.none(), st.sampled_from(['{"a": [1, "é"]}', "[]", "null"])),
    ),
    max_size=8,
)
ROW: Row = (1_769_860_800_123_456, 0.5, 2**60, 'say "hi", é\n', True, '{"a": 1}')
NOTHING: Row = (None, None, None, None, None, None)


def table(*rows: Row) -> Frame:
    columns: dict[str, Any] = {name: [row[at] for row in rows] for at, name in enumerate(DTYPES)}
    times = pl.Series(columns.pop("time"), dtype=pl.Int64).cast(DTYPES["time"])
    others = {name: pl.Series(values, dtype=DTYPES[name]) for name, values in columns.items()}
    return Frame(pl.DataFrame({"time": times, **others}), SCHEMA, name="digits.runs")


def strict(body: bytes) -> Any:
    def refuse(text: str) -> Any:
        raise AssertionError(f"{text} is no JSON")

    return json.loads(body, parse_constant=refuse)


def as_object(row: Row) -> dict[str, Any]:
    us, score, *rest = row
    finite = score if score is not None and math.isfinite(score) else None
    return dict(zip(DTYPES, [None if us is None else us // 1000, finite, *rest], strict=True))


def test_rows_are_objects_with_scalars_in_schema_order_and_explicit_nulls() -> None:
    body = rows_json(table(ROW, NOTHING))
    first, second = strict(body)
    assert list(first) == list(second) == list(DTYPES)
    assert first == {
        "time": 1_769_860_800_123,
        "score": 0.5,
        "count": 2**60,
        "model": 'say "hi", é\n',
        "ok": True,
        "grid": '{"a": 1}',
    }
    assert set(second.values()) == {None}


def test_no_rows_are_an_empty_array() -> None:
    assert rows_json(table()) == b"[]"
    assert ndjson_bytes(table()) == b""


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [pl.Float32, pl.Float64])
def test_numbers_that_json_does_not_have_are_null(value: float, dtype: pl.DataType) -> None:
    frame = Frame(pl.DataFrame({"v": pl.Series([value], dtype=dtype)}), Schema((Column("v", ColumnType.NUMBER),)))
    assert strict(rows_json(frame)) == [{"v": None}]
    assert strict(ndjson_bytes(frame)) == {"v": None}


def test_decimals_are_sent_as_numbers() -> None:
    frame = Frame(pl.DataFrame({"v": ["1.50"]}).cast(pl.Decimal(10, 2)), Schema((Column("v", ColumnType.NUMBER),)))
    assert rows_json(frame) == b'[{"v":1.5}]'


@pytest.mark.parametrize("cursor", ["", "eyJvIjoxMDB9", 'a"b'])
def test_a_page_always_has_its_rows_and_a_cursor(cursor: str) -> None:
    rest = {"next_cursor": cursor, "stale": False, "notices": []}
    assert strict(page_json(table(ROW), cursor)) == {"rows": [as_object(ROW)], **rest}
    assert strict(page_json(table(), cursor)) == {"rows": [], **rest}


def test_a_page_says_when_its_rows_are_the_last_good_ones() -> None:
    found = strict(page_json(table(ROW).note(Notice("warning", "10 s old"), stale=True), ""))
    assert (found["stale"], found["notices"]) == (True, [{"severity": "warning", "text": "10 s old"}])


def test_wire_frames_are_an_array_in_the_order_given() -> None:
    custom = {"stale": {"since": EPOCH}, "nested": MappingProxyType({"age_s": 1})}
    first = Frame(table(ROW).data, SCHEMA, name="a.b", ref_id="A", meta=Meta(custom=custom))
    body = strict(frames_json([first, table()]))
    assert [item["data"]["values"][3] for item in body] == [['say "hi", é\n'], []]
    assert body[0]["schema"]["meta"]["custom"] == {
        "stale": {"since": "1970-01-01T00:00:00+00:00"},
        "nested": {"age_s": 1},
    }
    assert frames_json([]) == b"[]"


def test_what_cannot_be_json_is_not_sent_as_something_else() -> None:
    with pytest.raises(TypeError, match="object"):
        frames_json([Frame(table().data, SCHEMA, meta=Meta(custom={"x": object()}))])


def test_csv_has_a_header_quotes_where_needed_and_iso_times() -> None:
    lines = csv_bytes(table((1_769_860_800_123_456, 0.5, 3, 'a "b", c\r\nd', True, '{"a":1}'), NOTHING)).decode()
    assert lines == (
        "time,score,count,model,ok,grid\r\n"
        '2026-01-31T12:00:00.123Z,0.5,3,"a ""b"", c\r\nd",true,"{""a"":1}"\r\n'
        ",,,,,\r\n"
    )


def test_csv_tells_an_empty_text_from_a_null() -> None:
    rows = csv_bytes(table((None, None, None, "", None, None), NOTHING)).decode().split("\r\n")
    assert rows[1:3] == [',,,"",,', ",,,,,"]


def test_csv_does_not_alter_texts_that_look_like_formulas() -> None:
    frame = Frame(
        pl.DataFrame({"s": ["=1+1", "@x", "-2"], "n": [1, 2, 3]}), Schema((Column("s", ColumnType.STRING),))
    )
    assert csv_bytes(frame) == b"s,n\r\n=1+1,1\r\n@x,2\r\n-2,3\r\n"


def test_the_null_of_a_single_column_is_not_lost_by_readers_that_skip_empty_lines() -> None:
    frame = Frame(pl.DataFrame({"v": [1, None, 2]}), Schema((Column("v", ColumnType.NUMBER),)))
    assert list(csv.reader(io.StringIO(csv_bytes(frame).decode(), newline=""))) == [["v"], ["1"], [""], ["2"]]


def test_arrow_carries_values_types_and_an_empty_table_its_schema() -> None:
    for frame in (table(ROW, NOTHING), table()):
        back = pl.read_ipc_stream(io.BytesIO(arrow_bytes(frame)))
        assert back.equals(frame.data)
        assert back.schema == frame.data.schema


def test_arrow_is_written_in_the_layout_that_older_readers_know() -> None:
    frame, newest = table(ROW), io.BytesIO()
    frame.data.write_ipc_stream(newest, compat_level=pl.CompatLevel.newest())
    assert arrow_bytes(frame) != newest.getvalue()


@given(ROWS)
def test_any_rows_can_be_read_back_from_json(rows: list[Row]) -> None:
    wanted = [as_object(row) for row in rows]
    assert strict(rows_json(table(*rows))) == wanted
    assert [strict(line) for line in ndjson_bytes(table(*rows)).splitlines()] == wanted


@given(ROWS)
def test_any_rows_can_be_read_back_from_csv(rows: list[Row]) -> None:
    reader = csv.DictReader(io.StringIO(csv_bytes(table(*rows)).decode(), newline=""))
    back = list(reader)
    assert len(back) == len(rows)
    for cells, (us, score, count, model, ok, grid) in zip(back, rows, strict=True):
        if us is None:
            assert cells["time"] == ""
        else:
            assert datetime.fromisoformat(cells["time"]) - EPOCH == timedelta(milliseconds=us // 1000)
        assert cells["score"] == "" if score is None else repr(float(cells["score"])) == repr(score)
        assert cells["count"] == ("" if count is None else str(count))
        assert cells["model"] == (model or "")
        assert cells["ok"] == ("" if ok is None else str(ok).lower())
        assert cells["grid"] == (grid or "")


@given(ROWS)
def test_the_size_is_estimated_rather_too_high_than_too_low(rows: list[Row]) -> None:
    # Texts made of escapes are the documented exception.
    plain = [(*row[:3], None if row[3] is None else "é" * len(row[3]), *row[4:]) for row in rows]
    frame = table(*plain)
    size = len(rows_json(frame))
    assert size <= answer_bytes_estimate(frame) <= 2 * size + 200


@pytest.mark.parametrize("dtype", [pl.UInt8, pl.Int64, pl.Float32, pl.Decimal(20, 2)], ids=str)
@pytest.mark.parametrize("values", [[], [None], [0], [7, 100]])
def test_the_size_is_estimated_for_numbers_of_every_width(dtype: pl.DataType, values: list[int | None]) -> None:
    data = pl.DataFrame({"v": pl.Series(values, dtype=pl.Int64).cast(dtype)})
    frame = Frame(data, Schema((Column("v", ColumnType.NUMBER),)))
    assert answer_bytes_estimate(frame) >= len(rows_json(frame))
