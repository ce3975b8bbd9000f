"""Frames as Grafana's own JSON: a schema of typed fields, and the values column by column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import polars as pl

from bridge.model.frame import Frame, micros
from bridge.model.schema import Column, ColumnType, Shape
from bridge.model.span import EPOCH

_FIELD_TYPES = {ColumnType.JSON: "other"}
_FRAME_TYPES = {
    ColumnType.TIME: "time.Time",
    ColumnType.STRING: "string",
    ColumnType.BOOLEAN: "bool",
    ColumnType.JSON: "json.RawMessage",
}
# Go's names; numbers of any other width are sent as the float64 every client knows.
_NUMBERS: dict[type[pl.DataType], str] = {
    pl.Float32: "float32",
    pl.Int8: "int8",
    pl.Int16: "int16",
    pl.Int32: "int32",
    pl.Int64: "int64",
    pl.UInt8: "uint8",
    pl.UInt16: "uint16",
    pl.UInt32: "uint32",
    pl.UInt64: "uint64",
}
_FRAME_META: dict[Shape, dict[str, Any]] = {
    Shape.TIMESERIES: {"type": "timeseries-multi", "typeVersion": [0, 1]},
    Shape.LOGS: {"type": "log-lines", "typeVersion": [0, 0], "preferredVisualisationType": "logs"},
    Shape.NODES: {"type": "table", "typeVersion": [0, 1], "preferredVisualisationType": "nodeGraph"},
    Shape.EDGES: {"type": "table", "typeVersion": [0, 1], "preferredVisualisationType": "nodeGraph"},
}
_TABLE_META: dict[str, Any] = {"type": "table", "typeVersion": [0, 1]}
# orjson writes at most 254 levels; what is deeper than this must be one text. The rest is for the answer around it.
_MAX_DEPTH = 200
_ENVELOPE_DEPTH = 50


@dataclass(frozen=True, slots=True)
class _Values:
    """One column as it is sent; `entities` and `nanos` are None where the values say it all."""

    values: Any
    entities: dict[str, list[int]] | None = None
    nanos: list[int] | None = None


def wire_frame(frame: Frame) -> dict[str, Any]:
    """The frame as `{"schema": …, "data": …}`, ready for orjson with OPT_SERIALIZE_NUMPY.

    Shape:  number columns may be numpy arrays, in which orjson writes non-finite values as null.
    Units:  times are whole milliseconds; what is finer stands in `nanos`.
    Source: grafana-plugin-sdk-go, data/frame_json.go; its reader refuses unknown top-level keys.
    """
    columns = [_values(frame.data.get_column(column.name), column) for column in frame.schema.columns]
    data: dict[str, Any] = {"values": [column.values for column in columns]}
    if any(column.entities for column in columns):
        data["entities"] = [column.entities for column in columns]
    if any(column.nanos for column in columns):
        data["nanos"] = [column.nanos for column in columns]
    return {"schema": _schema(frame), "data": data}


def number_type(dtype: pl.DataType) -> str:
    """Grafana's name for a number column of this dtype."""
    return _NUMBERS.get(dtype.base_type(), "float64")


def _schema(frame: Frame) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    if frame.name:
        schema["name"] = frame.name
    if frame.ref_id:
        schema["refId"] = frame.ref_id
    schema["meta"] = _meta(frame)
    # Asked for once: Polars makes the whole mapping anew each time.
    dtypes = frame.data.schema
    schema["fields"] = [_field(frame, column, dtypes[column.name]) for column in frame.schema.columns]
    return schema


def _meta(frame: Frame) -> dict[str, Any]:
    meta = dict(_FRAME_META.get(frame.shape, _TABLE_META))
    if frame.meta.notices:
        meta["notices"] = [{"severity": notice.severity, "text": notice.text} for notice in frame.meta.notices]
    if frame.meta.custom:
        meta["custom"] = dict(frame.meta.custom)
    if frame.meta.executed is not None:
        meta["executedQueryString"] = frame.meta.executed
    return meta


def _field(frame: Frame, column: Column, dtype: pl.DataType) -> dict[str, Any]:
    kind = _FRAME_TYPES.get(column.type) or number_type(dtype)
    field: dict[str, Any] = {
        "name": column.name,
        "type": _FIELD_TYPES.get(column.type, column.type.value),
        "typeInfo": {"frame": kind, "nullable": True},
    }
    if frame.labels and frame.shape is Shape.TIMESERIES and column.type is ColumnType.NUMBER:
        field["labels"] = dict(frame.labels)
    config = {"unit": column.unit or None, "description": column.description or None, "decimals": column.decimals}
    if said := {key: value for key, value in config.items() if value is not None}:
        field["config"] = said
    return field


def _values(series: pl.Series, column: Column) -> _Values:
    match column.type:
        case ColumnType.TIME:
            return _times(series)
        case ColumnType.NUMBER:
            return _numbers(series)
        case ColumnType.JSON:
            return _Values([_parsed(text) for text in series.to_list()])
        case _:
            return _Values(series.to_list())


def _times(series: pl.Series) -> _Values:
    gone = series.is_null().to_list() if series.null_count() else []
    # By numpy: at a panel's size a Polars expression costs several times the arithmetic in it.
    known = micros(series.fill_null(EPOCH) if gone else series)
    # Rounds down, so that the remainder is never negative before 1970.
    ms = known // 1_000
    rest = known - ms * 1_000
    nanos = (rest * 1_000).tolist() if rest.any() else None
    if not gone:
        return _Values(ms, nanos=nanos)
    return _Values([None if lost else value for value, lost in zip(ms.tolist(), gone, strict=True)], nanos=nanos)


def _numbers(series: pl.Series) -> _Values:
    if series.dtype.base_type() not in _NUMBERS:
        series = series.cast(pl.Float64)
    if not series.dtype.is_float():
        return _Values(_plain(series))
    values = series.to_numpy()
    if np.isfinite(values).all():
        return _Values(values)
    # A null is none of the three: in Polars it is neither NaN nor infinite.
    odd = {"NaN": series.is_nan(), "Inf": series == float("inf"), "NegInf": series == float("-inf")}
    entities = {name: mask.arg_true().to_list() for name, mask in odd.items() if mask.any()}
    return _Values(values, entities=entities or None)


def _plain(series: pl.Series) -> Any:
    """Integers as numpy; as a list where nulls would turn them into floats."""
    return series.to_list() if series.null_count() else series.to_numpy()


def _parsed(text: str | None) -> Any:
    """The JSON value of a text; the text itself where it is none, or nested too deeply to be written again."""
    if text is None:
        return None
    try:
        value = orjson.loads(text)
        if text.count("[") + text.count("{") > _MAX_DEPTH:
            probe = value
            for _ in range(_ENVELOPE_DEPTH):
                probe = [probe]
            orjson.dumps(probe)
    except (orjson.JSONDecodeError, TypeError):
        return text
    return value
