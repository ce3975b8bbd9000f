"""From raw values to a typed table: forgiving in what it reads, and it says what it could not read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl

from bridge.errors import SchemaMismatch, UpstreamInvalid
from bridge.model.frame import Notice
from bridge.model.schema import Column, ColumnType, Role
from bridge.sources.convert import converted

SAMPLE_ROWS = 1_000
MAX_SHOWN_CHARS = 80
MAX_SHOWN_NAMES = 20

_TIME_NAME = re.compile(r"(?i)time|timestamp|date|ts|datetime|.*_(at|time)")
_ID_NAME = re.compile(r"(?i)id|.*_id")
_TEXT_NAME = re.compile(r"(?i)body|message|text")
_ISO_START = re.compile(r"\s*\d{4}-")
_COMMA = re.compile(r"\d,\d")
# With a time of day a text is a time under any name; a mere date may be the name of something.
_ISO_TIME = re.compile(r"\s*\d{4}-\d\d-\d\d[T ]\d\d:\d\d")
# Times of research data; a number outside of them in a time-like column is a duration or a counter.
_PLAUSIBLE = (datetime(1990, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
_WORDS = {
    ColumnType.TIME: ("a time", "times"),
    ColumnType.NUMBER: ("a number", "numbers"),
    ColumnType.STRING: ("a text", "texts"),
    ColumnType.BOOLEAN: ("true or false", "true or false"),
    ColumnType.JSON: ("JSON", "JSON"),
}


@dataclass(slots=True)
class _Loss:
    type: ColumnType
    seen: int = 0
    lost: int = 0
    first: str = ""


@dataclass(slots=True)
class Losses:
    """What could not be converted, column by column, added up over the pieces of one table."""

    columns: dict[str, _Loss] = field(default_factory=dict)

    def add(self, column: Column, raw: pl.Series, values: pl.Series, present: pl.Series) -> None:
        """Counts one column of one piece: which values were there, and which of them came through."""
        loss = self.columns.setdefault(column.name, _Loss(column.type))
        loss.seen += int(present.sum())
        lost = (present & values.is_null()).arg_true()
        if len(lost) and not loss.lost:
            loss.first = _shown_at(raw, lost[0])
        loss.lost += len(lost)

    def merge(self, other: Losses) -> None:
        """Adds what another table lost."""
        for name, loss in other.columns.items():
            mine = self.columns.setdefault(name, _Loss(loss.type))
            mine.first = mine.first or loss.first
            mine.seen, mine.lost = mine.seen + loss.seen, mine.lost + loss.lost

    def check(self, where: str = "") -> None:
        """Refuses a table in which a column has values and none of them could be converted.

        Errors: SchemaMismatch naming the column, its first value, and `where` it stands.
        """
        for name, loss in self.columns.items():
            if loss.lost and loss.lost == loss.seen:
                comma = _COMMA.search(str(loss.first)) and loss.type is ColumnType.NUMBER
                raise SchemaMismatch(
                    f"{where}column `{name}` holds no {loss.type}: its first value is {loss.first}",
                    remedy=f"correct the data, or change the type of `{name}` in the dataset's `columns`"
                    + ("; decimal commas of CSV files are read with `decimal_comma: true`" if comma else ""),
                )

    def notices(self) -> tuple[Notice, ...]:
        """One warning for each column that lost values."""
        return tuple(_notice(name, loss) for name, loss in self.columns.items() if loss.lost)


def _notice(name: str, loss: _Loss) -> Notice:
    one, many = _WORDS[loss.type]
    are = f"is not {one}" if loss.lost == 1 else f"are not {many}"
    they_are = "it is" if loss.lost == 1 else "they are"
    text = f"{loss.lost} of {loss.seen} values of `{name}` {are} (first: {loss.first}); {they_are} shown as empty"
    return Notice("warning", text)


def _shown_at(raw: pl.Series, at: int) -> str:
    try:
        value = _value_at(raw, at)
        return repr(value[:MAX_SHOWN_CHARS] if isinstance(value, str) else value)[:MAX_SHOWN_CHARS]
    except (ValueError, RecursionError):
        # An integer of thousands of digits, a list nested too deep.
        return "one that cannot be shown"


def _value_at(raw: pl.Series, at: int) -> object:
    if not isinstance(raw.dtype, (pl.Datetime, pl.Date)):
        return raw[at]
    # Polars panics on a date that Python's calendar does not have: such a one is shown as the number it is stored as.
    time = converted(raw.slice(at, 1), ColumnType.TIME)[0][0]
    return raw.to_physical()[at] if time is None else time.isoformat()


def shown_names(names: Iterable[str]) -> str:
    """Column names as they may stand in a sentence."""
    known = list(names)
    more = f" and {len(known) - MAX_SHOWN_NAMES} more" if len(known) > MAX_SHOWN_NAMES else ""
    return ", ".join(f"`{name[:MAX_SHOWN_CHARS]}`" for name in known[:MAX_SHOWN_NAMES]) + more or "no columns"


def far_name(column: Column) -> str:
    """The name under which the raw data has the column."""
    return column.select or column.name


def check_names(names: Sequence[str], where: str = "") -> None:
    """Column names must be unique.

    Errors: UpstreamInvalid naming those that are not.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UpstreamInvalid(
            f"{where}the data has more than one column named {shown_names(twice)}",
            remedy="rename the columns at their origin, so that each name stands once",
        )


def typed(raw: pl.DataFrame, columns: tuple[Column, ...]) -> tuple[pl.DataFrame, tuple[Notice, ...]]:
    """The declared columns of `raw`, in their declared types.

    Shape:  values that cannot be converted are null, with one notice per column.
    Errors: SchemaMismatch when a column is missing, or when none of its values can be converted.
    """
    names = dict.fromkeys(raw.columns)
    for column in columns:
        check_has(names, column)
    losses = Losses()
    data = convert(raw, columns, losses)
    losses.check()
    return data, losses.notices()


def check_has(names: Collection[str], column: Column, where: str = "") -> None:
    """The data has the column.

    Errors: SchemaMismatch naming the column and what is there instead.
    """
    if far_name(column) in names:
        return
    what = f"column `{column.name}`" + (f" (`{column.select}` in the data)" if column.select else "")
    raise SchemaMismatch(
        f"{where}{what} is missing; the data has {shown_names(names)}",
        remedy="correct the data, or the dataset's `columns` (`select` gives the name in the data)",
    )


def convert(raw: pl.DataFrame, columns: Iterable[Column], losses: Losses) -> pl.DataFrame:
    """One piece of a table in its declared types; a missing column is all null, losses are counted only."""
    out: list[pl.Series] = []
    there = {series.name: series for series in raw.get_columns()}
    for column in columns:
        name = far_name(column)
        series = there[name] if name in there else pl.Series(name, [None]).new_from_index(0, raw.height)
        values, present = converted(series, column.type)
        losses.add(column, series, values, present)
        out.append(values.alias(column.name))
    return pl.DataFrame(out)


def from_rows(
    rows: Sequence[Mapping[str, Any]], columns: tuple[Column, ...]
) -> tuple[pl.DataFrame, tuple[Notice, ...]]:
    """Parsed JSON objects, keyed by the published column names, as a typed table; a missing key is null.

    Errors: SchemaMismatch when none of a column's values can be converted.
    """
    losses = Losses()
    out: list[pl.Series] = []
    for column in columns:
        series = raw_series(column.name, [row.get(column.name) for row in rows])
        values, present = converted(series, column.type)
        losses.add(column, series, values, present)
        out.append(values)
    losses.check()
    return pl.DataFrame(out), losses.notices()


def raw_rows(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> pl.DataFrame:
    """Parsed JSON objects as an untyped table; columns of mixed or nested values hold Python objects."""
    columns = [raw_series(name, [row.get(name) for row in rows]) for name in names]
    return pl.DataFrame(columns) if columns else pl.DataFrame(height=len(rows))


def raw_series(name: str, values: list[Any]) -> pl.Series:
    """Python values as they are: one dtype where they share one, Python objects where they do not."""
    dtype = _shared_dtype(values)
    try:
        return pl.Series(name, values, dtype=dtype)
    except UnicodeError:
        # A lone surrogate, which is legal in JSON and no Unicode text.
        return pl.Series(name, values, dtype=pl.Object)


def _shared_dtype(values: list[Any]) -> Any:
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return pl.Null
    if len(kinds) == 1 and (same := {str: pl.String, bool: pl.Boolean, float: pl.Float64}.get(next(iter(kinds)))):
        return same
    if kinds == {int}:
        whole = [value for value in values if value is not None]
        low, high = min(whole), max(whole)
        if low >= -(2**63) and high < 2**63:
            return pl.Int64
        return pl.UInt64 if low >= 0 and high < 2**64 else pl.Object
    exact = kinds == {int, float} and all(type(value) is not int or abs(value) < 2**53 for value in values)
    return pl.Float64 if exact else pl.Object


def infer(raw: pl.DataFrame) -> tuple[Column, ...]:
    """The columns that undeclared data publishes: types by its values, roles by type and name.

    Source: times are texts such as 2026-01-31T12:00:00Z under any name; numbers and dates where the name is that of
            a time. The first 1000 values decide.
    """
    check_names(raw.columns)
    columns: list[Column] = []
    has_time = False
    for series in raw.get_columns():
        kind = _type_of(series)
        columns.append(Column(series.name, kind, role=_role_of(series.name, kind, has_time=has_time)))
        has_time = has_time or columns[-1].role is Role.TIME
    return tuple(columns)


def _type_of(series: pl.Series) -> ColumnType:
    dtype = series.dtype
    if isinstance(dtype, pl.Datetime) or dtype == pl.Date:
        return ColumnType.TIME
    sample = series.drop_nulls().head(SAMPLE_ROWS) if dtype != pl.Object else series.head(SAMPLE_ROWS)
    if dtype == pl.Object:
        nested = any(isinstance(value, (dict, list)) for value in sample.to_list())
        return ColumnType.JSON if nested else ColumnType.STRING
    if (dtype.is_numeric() or dtype == pl.String) and _holds_times(sample, named=_named_so(series.name)):
        return ColumnType.TIME
    if dtype.is_numeric():
        return ColumnType.NUMBER
    if dtype == pl.Boolean:
        return ColumnType.BOOLEAN
    return ColumnType.JSON if dtype.is_nested() else ColumnType.STRING


def _named_so(name: str) -> bool:
    return _TIME_NAME.fullmatch(name) is not None


def _holds_times(sample: pl.Series, *, named: bool) -> bool:
    start = _ISO_START if named else _ISO_TIME
    if (sample.dtype != pl.String and not named) or (
        sample.dtype == pl.String and not all(map(start.match, sample.to_list()))
    ):
        return False
    times, _ = converted(sample, ColumnType.TIME)
    if sample.is_empty() or times.null_count():
        return False
    return sample.dtype == pl.String or bool(times.is_between(*_PLAUSIBLE).all())


def _role_of(name: str, kind: ColumnType, *, has_time: bool) -> Role | None:
    if kind is ColumnType.TIME:
        return None if has_time else Role.TIME
    if kind is ColumnType.JSON or _ID_NAME.fullmatch(name):
        return None
    if kind is ColumnType.NUMBER:
        return Role.MEASURE
    return None if _TEXT_NAME.fullmatch(name) else Role.DIMENSION
