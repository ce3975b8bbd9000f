"""One column of raw values to one of the five column types; what cannot be converted becomes null."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any

import orjson
import polars as pl

from bridge.errors import BadQuery
from bridge.model.frame import TIME_DTYPE
from bridge.model.schema import ColumnType
from bridge.model.span import EARLIEST, EPOCH, LATEST, epoch_scale_us, parse_instant

_ISO = (
    r"^(\d{4}-\d{2}-\d{2})"  # day
    r"(?:[Tt ](\d{2}:\d{2})(?::(\d{2}(?:\.\d{1,9})?))?)?"  # hour and minute, second
    r"\s?([Zz]|[+-]\d{2}:?\d{2})?$"  # zone
)
_NUMBER = r"^[+-]?\d+(\.\d*)?([eE][+-]?\d+)?$"
_MAX_TIME_CHARS = 64
# Over it two whole numbers share one float.
_EXACT = 2.0**53
_US_PER_DAY = 86_400_000_000
_FIRST_US, _LAST_US = (round((edge - EPOCH).total_seconds() * 1e6) for edge in (EARLIEST, LATEST))
# Magnitudes at which the unit of an epoch number changes, read from the one function that knows them.
_PROBES = [(10.0**power, epoch_scale_us(10.0**power)) for power in range(20)]
_STEPS = [(bound, scale) for (bound, scale), (_, last) in zip(_PROBES[1:], _PROBES, strict=False) if scale != last]


def converted(raw: pl.Series, wanted: ColumnType) -> tuple[pl.Series, pl.Series]:
    """The values as `wanted`, and a mask of those that were there to be converted.

    Shape: what is there but cannot be converted is null; blank text is not there, except for text columns.
    """
    plain = _plain(raw, wanted)
    values = _CONVERT[wanted](plain)
    present = raw.is_not_null()
    if plain.dtype == pl.String and wanted not in (ColumnType.STRING, ColumnType.JSON):
        present &= (plain.str.strip_chars() != "").fill_null(value=True)
    return values.alias(raw.name), present


def _plain(raw: pl.Series, wanted: ColumnType) -> pl.Series:
    """Python values, enums, bytes, decimals and (where text is wanted) nested values as plain dtypes."""
    dtype = raw.dtype
    if dtype == pl.Binary:
        return _written(raw, _decoded)
    if wanted is ColumnType.JSON:
        return raw
    if dtype == pl.Object or (dtype.is_nested() and wanted is ColumnType.STRING):
        return _written(raw, plain_text)
    if isinstance(dtype, (pl.Categorical, pl.Enum)):
        return raw.cast(pl.String)
    if dtype.is_decimal():
        return raw.cast(pl.String if wanted is ColumnType.STRING else pl.Float64)
    return raw


def _written(raw: pl.Series, write: Callable[[Any], str | None]) -> pl.Series:
    texts = [None if value is None else write(value) for value in raw.to_list()]
    return pl.Series(raw.name, texts, dtype=pl.String)


def _decoded(value: bytes) -> str | None:
    with suppress(UnicodeDecodeError):
        return value.decode()
    return None


def plain_text(value: Any) -> str | None:
    """One parsed JSON value as text that the other conversions read back; objects and arrays as JSON."""
    if isinstance(value, str):
        # A lone surrogate is legal in JSON and no Unicode text.
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        # Beyond a float's range it would come back as infinity.
        return str(value) if value.bit_length() < 1024 else f"a whole number of {value.bit_length()} bits"
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else repr(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return _dumped(value) if isinstance(value, (dict, list, tuple)) else str(value)


def json_text(value: Any) -> str | None:
    """One value as JSON text; a text that already is JSON stays as it is. None when it is nested too deep."""
    if isinstance(value, str):
        try:
            orjson.loads(value)
        except (orjson.JSONDecodeError, UnicodeError):
            return _dumped(value)
        return value
    return _dumped(value)


def _dumped(value: Any) -> str | None:
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # Integers over 64 bits and lone surrogates, which the standard library can write.
        with suppress(RecursionError, ValueError):
            return json.dumps(value, default=str, ensure_ascii=False).encode("utf-8", "replace").decode()
    return None


def _nulls(raw: pl.Series, dtype: pl.DataType) -> pl.Series:
    return pl.Series(raw.name, [None], dtype=dtype).new_from_index(0, len(raw))


def _numbers(raw: pl.Series) -> pl.Series:
    dtype = raw.dtype
    if dtype.is_integer():
        whole = raw if dtype == pl.UInt64 else raw.cast(pl.Int64, strict=False)
        return whole if whole.null_count() == raw.null_count() else raw.cast(pl.Float64)
    if dtype.is_float():
        return raw.cast(pl.Float64)
    if dtype != pl.String:
        return _nulls(raw, pl.Float64())
    text = raw.str.strip_chars()
    values = text.cast(pl.Float64, strict=False)
    if (values.is_finite() & (values.abs() >= _EXACT)).any():
        whole = text.cast(pl.Int64, strict=False)
        return whole if whole.null_count() == values.null_count() else values
    return values


def _booleans(raw: pl.Series) -> pl.Series:
    if raw.dtype == pl.Boolean:
        return raw
    if raw.dtype.is_numeric():
        yes, no = pl.col("value") == 1, pl.col("value") == 0
    elif raw.dtype == pl.String:
        raw = raw.str.strip_chars().str.to_lowercase()
        yes, no = pl.col("value").is_in(["true", "1"]), pl.col("value").is_in(["false", "0"])
    else:
        return _nulls(raw, pl.Boolean())
    truth = pl.when(yes).then(pl.lit(value=True)).when(no).then(pl.lit(value=False))
    return raw.alias("value").to_frame().select(truth.otherwise(None)).to_series()


def _strings(raw: pl.Series) -> pl.Series:
    dtype = raw.dtype
    if isinstance(dtype, pl.Datetime):
        times = _times(raw)
        return times.dt.strftime("%Y-%m-%dT%H:%M:%S%.fZ")
    if dtype == pl.Duration:
        return raw.dt.to_string("iso")
    return raw.cast(pl.String)


def _jsons(raw: pl.Series) -> pl.Series:
    dtype = raw.dtype
    if dtype.is_integer() or dtype == pl.Boolean:
        return raw.cast(pl.String)
    as_they_are = dtype.is_nested() or dtype.is_float() or dtype in (pl.String, pl.Object)
    return _written(raw if as_they_are else _strings(raw), json_text)


def _times(raw: pl.Series) -> pl.Series:
    dtype = raw.dtype
    value = pl.col(raw.name)
    if isinstance(dtype, pl.Datetime):
        # The physical value is UTC whatever the zone; one without a zone is read as UTC.
        factor = {"ns": value // 1_000, "us": value, "ms": _bounded(value, 1_000) * 1_000}
        us = factor[dtype.time_unit]
        raw = raw.to_physical()
    elif dtype == pl.Date:
        us = value.cast(pl.Int64) * _US_PER_DAY
        raw = raw.to_physical()
    elif dtype.is_integer():
        raw = _numbers(raw)
        us = _epoch_us(value, whole=raw.dtype == pl.Int64)
    elif dtype.is_float():
        us = _epoch_us(value, whole=False)
    elif dtype == pl.String:
        return _parsed(raw)
    else:
        return _nulls(raw, TIME_DTYPE)
    return raw.to_frame().select(_usable(us).alias(raw.name)).to_series()


def _bounded(value: pl.Expr, per_unit: int) -> pl.Expr:
    return pl.when(value.is_between(_FIRST_US // per_unit, _LAST_US // per_unit)).then(value)


def _usable(us: pl.Expr) -> pl.Expr:
    """Instants that every later stage can hold; a year 0 or 10000 would fail only when it is written out."""
    return _bounded(us, 1).cast(TIME_DTYPE)


def _epoch_us(value: pl.Expr, *, whole: bool) -> pl.Expr:
    """Epoch s, ms, µs or ns, by the size of each value; whole numbers keep every digit."""
    size = value.cast(pl.Float64).abs()
    scaled = _scaled(value, _PROBES[0][1], whole=whole)
    for bound, scale in _STEPS:
        scaled = pl.when(size < bound).then(scaled).otherwise(_scaled(value, scale, whole=whole))
    return scaled if whole else scaled.round(0).cast(pl.Int64, strict=False)


def _scaled(value: pl.Expr, scale_us: float, *, whole: bool) -> pl.Expr:
    if not whole:
        return value.cast(pl.Float64) * scale_us
    return value * int(scale_us) if scale_us >= 1 else value // round(1 / scale_us)


def _parsed(raw: pl.Series) -> pl.Series:
    """Texts: epoch numbers and the common ISO forms in bulk, rarer ISO forms one by one."""
    text = raw.str.strip_chars().alias("text")
    number = pl.when(pl.col("text").str.contains(_NUMBER)).then(pl.col("text"))
    part = pl.col("text").str.extract_groups(_ISO).struct
    zone = part.field("4").str.replace("(?i)^z$", "+00:00").fill_null("+00:00")
    clock = pl.concat_str([part.field("2").fill_null("00:00"), part.field("3").fill_null("00")], separator=":")
    iso = pl.concat_str([part.field("1"), pl.lit("T"), clock, zone])
    us = pl.coalesce(
        _epoch_us(number.cast(pl.Int64, strict=False), whole=True),
        _epoch_us(number.cast(pl.Float64, strict=False), whole=False),
        iso.str.strptime(TIME_DTYPE, "%Y-%m-%dT%H:%M:%S%.f%z", strict=False).to_physical(),
    )
    values = text.to_frame().select(_usable(us)).to_series()
    rare = text.filter(values.is_null() & (text.str.len_chars() <= _MAX_TIME_CHARS)).unique()
    found = {item: instant for item in rare if (instant := _instant(item)) is not None}
    if found:
        old = text.replace_strict(found, default=None, return_dtype=TIME_DTYPE)
        values = values.zip_with(values.is_not_null(), old)
    return values


def _instant(text: str) -> datetime | None:
    with suppress(BadQuery):
        return parse_instant(text)
    return None


_CONVERT = {
    ColumnType.TIME: _times,
    ColumnType.NUMBER: _numbers,
    ColumnType.STRING: _strings,
    ColumnType.BOOLEAN: _booleans,
    ColumnType.JSON: _jsons,
}
