"""Frames as the bytes of each HTTP format."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import polars as pl

from bridge.model.frame import Frame
from bridge.model.schema import ColumnType
from bridge.model.wire import number_type, wire_frame

_ISO_MS = "%Y-%m-%dT%H:%M:%S%.3fZ"
# Longest usual texts: a float64 has 17 digits, sign, point and exponent; milliseconds have 13 digits until 2286.
_FLOAT_BYTES = {"float64": 22, "float32": 14}
_TYPE_BYTES = {ColumnType.TIME: 14, ColumnType.BOOLEAN: 5}


def rows_json(frame: Frame) -> bytes:
    """A bare array of objects, with the same keys in the same order in every row.

    Shape: explicit nulls, also for NaN and infinities; json columns are texts, as Infinity reads scalars only.
    Units: times are whole milliseconds.
    """
    # Polars' own writer is about twice as fast as orjson over dictionaries.
    return _scalars(frame).write_json().encode()


def page_json(frame: Frame, next_cursor: str) -> bytes:
    """One page: `{"rows": […], "next_cursor": "…", "stale": …, "notices": […]}`.

    Shape:  the cursor is empty on the last page and never missing; `stale` says that the rows are the last good ones
            of a source that is down or held back, and the notices are those a panel of frames would show.
    Source: Infinity ends cursor paging at an empty text and fails when the key is missing.
    """
    stale = b"true" if frame.meta.custom.get("stale") else b"false"
    notices = [{"severity": notice.severity, "text": notice.text} for notice in frame.meta.notices]
    told = (rows_json(frame), orjson.dumps(next_cursor), stale, orjson.dumps(notices))
    return b'{"rows":%b,"next_cursor":%b,"stale":%b,"notices":%b}' % told


def frames_json(frames: Iterable[Frame]) -> bytes:
    """An array of Grafana's wire frames."""
    wired = [wire_frame(frame) for frame in frames]
    return orjson.dumps(wired, default=_mapping, option=orjson.OPT_SERIALIZE_NUMPY)


def csv_bytes(frame: Frame) -> bytes:
    """RFC 4180 with a header; null is an empty field, an empty text is `""`.

    Units:  times are ISO 8601 in UTC with milliseconds.
    Source: RFC 4180. Texts that a spreadsheet would run as a formula are left as they are: data stays data.
    """
    # The null of a single column would be an empty line, which readers skip.
    quoting: Any = "always" if frame.data.width == 1 else "necessary"
    text = frame.data.write_csv(line_terminator="\r\n", datetime_format=_ISO_MS, quote_style=quoting)
    return text.encode()


def ndjson_bytes(frame: Frame) -> bytes:
    """One object per line, each as in `rows_json`."""
    return _scalars(frame).write_ndjson().encode()


def arrow_bytes(frame: Frame) -> bytes:
    """An Arrow IPC stream; a frame without rows still carries its schema."""
    sink = io.BytesIO()
    # The oldest layout is the one every Arrow library reads.
    frame.data.write_ipc_stream(sink, compat_level=pl.CompatLevel.oldest())
    return sink.getvalue()


def answer_bytes_estimate(frame: Frame) -> int:
    """About how many bytes `rows_json` will write: rather too many than too few.

    Errors: texts that are mostly escapes can be up to six times longer than estimated.
    """
    total = 2 + 2 * frame.rows
    for column in frame.schema.columns:
        series = frame.data.get_column(column.name)
        total += frame.rows * (len(orjson.dumps(column.name)) + 2)
        if column.type in (ColumnType.STRING, ColumnType.JSON):
            total += 4 * frame.rows + int(series.str.len_bytes().sum())
        elif column.type is ColumnType.NUMBER:
            total += frame.rows * _number_bytes(series)
        else:
            total += frame.rows * _TYPE_BYTES[column.type]
    return total


def _number_bytes(series: pl.Series) -> int:
    width = _FLOAT_BYTES.get(number_type(series.dtype))
    return width or max(4, len(str(series.min())), len(str(series.max())))


def _scalars(frame: Frame) -> pl.DataFrame:
    """The frame as texts, booleans, whole milliseconds and the numbers JSON has."""
    changed: list[pl.Expr] = []
    # Asked for once: Polars makes the whole mapping anew each time.
    dtypes = frame.data.schema
    for column in frame.schema.columns:
        col = pl.col(column.name)
        if column.type is ColumnType.TIME:
            changed.append(col.to_physical() // 1_000)
        elif column.type is ColumnType.NUMBER and number_type(dtypes[column.name]) == "float64":
            changed.append(col.cast(pl.Float64))
    return frame.data.with_columns(changed)


def _mapping(value: object) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON")
