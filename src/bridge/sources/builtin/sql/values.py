"""Rows of a driver as raw Polars columns, which `sources.table` turns into typed ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

import polars as pl

from bridge.errors import AnswerTooLarge
from bridge.model.frame import TIME_DTYPE
from bridge.model.schema import Column, ColumnType
from bridge.sources.builtin.sql.engine import MAX_CELL_CHARS, FarColumn, Kind
from bridge.sources.table import raw_series

# What an empty column of each kind is inferred as.
_EMPTY: dict[Kind, Any] = {
    Kind.NUMBER: pl.Float64,
    Kind.BOOLEAN: pl.Boolean,
    Kind.MICROS: TIME_DTYPE,
    Kind.JSON: pl.List(pl.Int8),
    Kind.TEXT: pl.String,
    Kind.BYTES: pl.String,
}


def raw_table(
    rows: Sequence[tuple[Any, ...]], far: Sequence[FarColumn], columns: Sequence[Column], where: str
) -> pl.DataFrame:
    """The rows as an untyped table under the far names; `columns` say which of them are wanted as text.

    Errors: AnswerTooLarge for a value that is too long.
    """
    texts = {column.select or column.name for column in columns if column.type is ColumnType.STRING}
    cells = zip(*rows, strict=True) if rows else [()] * len(far)
    made = []
    for item, values in zip(far, map(list, cells), strict=True):
        if item.kind in (Kind.TEXT, Kind.JSON, Kind.BYTES):
            _check_lengths(item, values, where)
        made.append(_series(item, values, as_text=item.name in texts))
    return pl.DataFrame(made)


def _series(far: FarColumn, values: list[Any], *, as_text: bool) -> pl.Series:
    if all(value is None for value in values):
        return pl.Series(far.name, values, dtype=_EMPTY.get(far.kind, pl.Null))
    if far.kind is Kind.MICROS:
        return pl.Series(far.name, values, dtype=pl.Int64).cast(TIME_DTYPE)
    if far.kind is Kind.BYTES:
        return pl.Series(far.name, list(map(_decoded, values)), dtype=pl.String)
    return raw_series(far.name, _plain(values, as_text=as_text))


def _check_lengths(far: FarColumn, values: list[Any], where: str) -> None:
    if any(value is not None and len(value) > MAX_CELL_CHARS for value in values):
        raise AnswerTooLarge(
            f"{where}: a value of `{far.name}` is longer than {MAX_CELL_CHARS:,} characters",
            remedy="leave the column out, or cut it in a `query`",
        )


def _plain(values: list[Any], *, as_text: bool) -> list[Any]:
    """Decimals as floats, or as texts where a text is wanted; bytes as texts where they are some."""
    kinds = set(map(type, values))
    if Decimal in kinds:
        write = str if as_text else float
        values = [write(value) if isinstance(value, Decimal) else value for value in values]
    if bytes in kinds:
        values = [_decoded(value) if isinstance(value, bytes) else value for value in values]
    return values


def _decoded(value: bytes | None) -> str | None:
    if value is not None:
        with suppress(UnicodeDecodeError):
            return value.decode()
    return None


def sampled(raw: pl.DataFrame, far: Sequence[FarColumn]) -> pl.DataFrame:
    """The table as its columns are inferred from: JSON is nested and a number is one, whatever its values are."""
    odd = {Kind.JSON: (pl.String, pl.Null), Kind.NUMBER: (pl.Object,)}
    plain = [
        pl.Series(item.name, [None], dtype=_EMPTY[item.kind]).new_from_index(0, raw.height)
        for item in far
        if raw[item.name].dtype in odd.get(item.kind, ())
    ]
    return raw.with_columns(plain)
