from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.frame import Frame, Meta, Notice
from bridge.model.schema import Column, ColumnType, Role, Schema, Shape
from bridge.model.wire import wire_frame

TIMES = pl.Datetime("us", "UTC")


def frame(data: dict[str, pl.Series | list[Any]], **settings: Any) -> Frame:
    """A frame whose column types follow from the Polars types; columns named `json…` are json."""
    table = pl.DataFrame(data)
    columns = []
    for name, dtype in table.schema.items():
        kind = ColumnType.NUMBER
        if dtype == TIMES:
            kind = ColumnType.TIME
        elif dtype == pl.String:
            kind = ColumnType.JSON if name.startswith("json") else ColumnType.STRING
        elif dtype == pl.Boolean:
            kind = ColumnType.BOOLEAN
        columns.append(Column(name, kind))
    return Frame(table, Schema(tuple(columns)), **settings)


def sent(answer: Frame) -> Any:
    """What a client reads, with a strict JSON parser that knows no NaN."""

    def refuse(text: str) -> Any:
        raise AssertionError(f"{text} is no JSON")

    return json.loads(orjson.dumps(wire_frame(answer), option=orjson.OPT_SERIALIZE_NUMPY), parse_constant=refuse)


def times_us(*us: int | None) -> pl.Series:
    return pl.Series(list(us), dtype=pl.Int64).cast(TIMES)


def test_a_whole_frame_is_sent_as_grafana_documents_it() -> None:
    schema = Schema(
        (
            Column("time", ColumnType.TIME, role=Role.TIME),
            Column(
                "accuracy", ColumnType.NUMBER, unit="percentunit", role=Role.MEASURE, description="On the test set"
            ),
            Column("model", ColumnType.STRING, role=Role.DIMENSION),
            Column("ok", ColumnType.BOOLEAN),
            Column("grid", ColumnType.JSON),
        )
    )
    data = pl.DataFrame(
        {
            "time": [datetime(2026, 1, 31, 12, tzinfo=UTC)],
            "accuracy": [0.875],
            "model": ["svm"],
            "ok": [True],
            "grid": ['{"C": [1, 10]}'],
        }
    )
    meta = Meta((Notice("warning", "old"),), {"age_s": 3}, "GET /runs")
    assert sent(Frame(data, schema, name="digits.runs", ref_id="B", meta=meta)) == {
        "schema": {
            "name": "digits.runs",
            "refId": "B",
            "meta": {
                "type": "table",
                "typeVersion": [0, 1],
                "notices": [{"severity": "warning", "text": "old"}],
                "custom": {"age_s": 3},
                "executedQueryString": "GET /runs",
            },
            "fields": [
                {"name": "time", "type": "time", "typeInfo": {"frame": "time.Time", "nullable": True}},
                {
                    "name": "accuracy",
                    "type": "number",
                    "typeInfo": {"frame": "float64", "nullable": True},
                    "config": {"unit": "percentunit", "description": "On the test set"},
                },
                {"name": "model", "type": "string", "typeInfo": {"frame": "string", "nullable": True}},
                {"name": "ok", "type": "boolean", "typeInfo": {"frame": "bool", "nullable": True}},
                {"name": "grid", "type": "other", "typeInfo": {"frame": "json.RawMessage", "nullable": True}},
            ],
        },
        "data": {"values": [[1769860800000], [0.875], ["svm"], [True], [{"C": [1, 10]}]]},
    }


def test_a_frame_without_rows_keeps_its_fields() -> None:
    answer = sent(
        frame({"t": times_us(), "v": pl.Series([], dtype=pl.Float64), "json": pl.Series([], dtype=pl.String)})
    )
    assert [field["name"] for field in answer["schema"]["fields"]] == ["t", "v", "json"]
    assert answer["data"] == {"values": [[], [], []]}
    assert not {"name", "refId"} & answer["schema"].keys()


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        (Shape.TIMESERIES, {"type": "timeseries-multi", "typeVersion": [0, 1]}),
        (Shape.LOGS, {"type": "log-lines", "typeVersion": [0, 0], "preferredVisualisationType": "logs"}),
        (Shape.NODES, {"type": "table", "typeVersion": [0, 1], "preferredVisualisationType": "nodeGraph"}),
        (Shape.EDGES, {"type": "table", "typeVersion": [0, 1], "preferredVisualisationType": "nodeGraph"}),
        (Shape.ANNOTATIONS, {"type": "table", "typeVersion": [0, 1]}),
        (Shape.TABLE, {"type": "table", "typeVersion": [0, 1]}),
    ],
)
def test_each_shape_tells_grafana_how_to_draw_it(shape: Shape, wanted: dict[str, Any]) -> None:
    assert sent(frame({"v": [1]}, shape=shape))["schema"]["meta"] == wanted


def test_labels_stand_on_the_numbers_of_a_series_and_nowhere_else() -> None:
    data: dict[str, pl.Series | list[Any]] = {"t": times_us(0), "v": [1.0]}
    fields = sent(frame(data, labels={"model": "svm"}, shape=Shape.TIMESERIES))["schema"]["fields"]
    assert [field.get("labels") for field in fields] == [None, {"model": "svm"}]
    for other in (frame(data, shape=Shape.TIMESERIES), frame(data, labels={"model": "svm"})):
        assert all("labels" not in field for field in sent(other)["schema"]["fields"])


def test_times_are_whole_milliseconds_rounded_down_and_the_rest_stands_in_nanos() -> None:
    data = sent(frame({"v": [1, 2, 3, 4], "t": times_us(1_769_860_800_123_456, None, -1, 2_000)}))["data"]
    assert data["values"][1] == [1_769_860_800_123, None, -1, 2]
    assert data["nanos"] == [None, [456_000, 0, 999_000, 0]]


@pytest.mark.parametrize("us", [(0, 1_000, -1_000), (None, 1_000), (None,), ()])
def test_whole_milliseconds_need_no_nanos(us: tuple[int | None, ...]) -> None:
    data = sent(frame({"t": times_us(*us)}))["data"]
    assert data == {"values": [[None if value is None else value // 1000 for value in us]]}


def test_what_is_no_finite_number_is_null_and_listed_apart_but_a_null_is_only_null() -> None:
    values = [1.5, float("nan"), None, float("inf"), float("-inf"), float("nan")]
    data = sent(frame({"s": list("abcdef"), "v": values}))["data"]
    assert data["values"][1] == [1.5, None, None, None, None, None]
    assert data["entities"] == [None, {"NaN": [1, 5], "Inf": [3], "NegInf": [4]}]


def test_a_column_of_finite_numbers_and_nulls_has_no_entities() -> None:
    assert sent(frame({"v": [1.5, None]}))["data"] == {"values": [[1.5, None]]}


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (pl.Int8, "int8"),
        (pl.Int16, "int16"),
        (pl.Int32, "int32"),
        (pl.Int64, "int64"),
        (pl.UInt8, "uint8"),
        (pl.UInt16, "uint16"),
        (pl.UInt32, "uint32"),
        (pl.UInt64, "uint64"),
        (pl.Float32, "float32"),
        (pl.Float64, "float64"),
        (pl.Decimal(10, 2), "float64"),
        (pl.Int128, "float64"),
    ],
    ids=str,
)
def test_numbers_of_every_width_are_named_as_go_names_them(dtype: pl.DataType, name: str) -> None:
    for values in ([1, 2], [1, None]):
        answer = sent(frame({"v": pl.Series(values).cast(dtype)}))
        assert answer["schema"]["fields"][0]["typeInfo"]["frame"] == name
        assert answer["data"]["values"] == [values]


def test_large_integers_beside_nulls_keep_every_digit() -> None:
    values = [2**63 - 1, None, -(2**63), 2**53 + 1]
    assert sent(frame({"v": pl.Series(values, dtype=pl.Int64)}))["data"]["values"] == [values]


def test_a_column_of_several_chunks_is_sent_whole() -> None:
    series = pl.concat([pl.Series([1.0]), pl.Series([2.0])], rechunk=False)
    assert sent(frame({"v": series}))["data"]["values"] == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (None, None),
        ("null", None),
        ('{"a": [1, "x", null]}', {"a": [1, "x", None]}),
        ("5", 5),
        ('"x"', "x"),
        ("no json", "no json"),
        ("", ""),
        ("NaN", "NaN"),
        ("{'a': 1}", "{'a': 1}"),
        ("[" * 100 + "]" * 100, json.loads("[" * 100 + "]" * 100)),
        ("[" * 230 + "]" * 230, "[" * 230 + "]" * 230),
        ("[" * 500 + "]" * 500, "[" * 500 + "]" * 500),
        ("[" * 5_000 + "]" * 5_000, "[" * 5_000 + "]" * 5_000),
        ("[" + "{}," * 300 + "1]", [{}] * 300 + [1]),
    ],
    ids=lambda value: str(value)[:12],
)
def test_json_columns_are_sent_as_json_and_what_is_none_as_text(text: str | None, wanted: Any) -> None:
    assert sent(frame({"json": pl.Series([text], dtype=pl.String)}))["data"]["values"] == [[wanted]]


@given(st.lists(st.one_of(st.none(), st.floats(), st.floats(width=32)), max_size=20))
def test_every_float_can_be_read_back_from_values_and_entities(values: list[float | None]) -> None:
    data = sent(frame({"v": pl.Series(values, dtype=pl.Float64)}))["data"]
    back = data["values"][0]
    for name, number in (("NaN", math.nan), ("Inf", math.inf), ("NegInf", -math.inf)):
        for index in (data.get("entities") or [{}])[0].get(name, ()):
            assert back[index] is None
            back[index] = number
    assert list(map(repr, back)) == list(map(repr, values))


@given(st.lists(st.one_of(st.none(), st.integers(-(10**17), 10**17)), max_size=20))
def test_every_instant_can_be_read_back_from_milliseconds_and_nanos(us: list[int | None]) -> None:
    data = sent(frame({"t": times_us(*us)}))["data"]
    nanos = (data.get("nanos") or [[0] * len(us)])[0]
    assert all(0 <= nano <= 999_999 for nano in nanos)
    back = [
        None if ms is None else ms * 1000 + nano // 1000 for ms, nano in zip(data["values"][0], nanos, strict=True)
    ]
    assert back == us
