"""Columns from raw values: types, the time axis, roles and units, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from bridge.model.schema import Column, ColumnType, Kind, Role
from bridge.sources.convert import converted
from bridge.sources.infer.names import Names, column_name, snake
from bridge.sources.infer.stanza import listed
from bridge.sources.infer.units import unit_of
from bridge.sources.table import infer

MAX_COLUMNS = 100
MAX_DISTINCT = 50
FEW_ROWS = 10

# Best first: what says when a row began outweighs what says when it was touched last.
_TIME_RANKS = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?:time|timestamp|ts|datetime|@?timestamp)(?:_(?:ms|s|us|ns|utc|iso))?|_time",
        r"(?:.*_)?(?:start|started|begin|began|since)(?:_.*)?",
        r"(?:.*_)?(?:created|submitted|recorded|logged|observed|measured|sampled|collected|event)(?:_.*)?",
        r"date|day|epoch_(?:ms|s|seconds)|(?:.*_)?(?:at|time|timestamp|ts|datetime|date)",
        r".*",
        r"(?:.*_)?(?:update|updated|modified|changed|seen|last)(?:_.*)?",
        r"(?:.*_)?(?:end|ended|finish|finished|completed|stopped|expire|expires|deleted|until)(?:_.*)?",
    )
)
_ANY_TIME = 4
_TIME_NAMED = re.compile(
    r"(?:.*_)?(?:time|timestamp|ts|datetime|date|at|started|start|begin|end|ended|created|updated|modified|since)"
    r"(?:_(?:ms|us|ns|s|utc|unix|epoch|millis|seconds))?|epoch_(?:ms|s|seconds|millis)"
)
_NO_MEASURE = re.compile(
    r"(?:.*_)?(?:id|ids|seed|year|month|weekday|port|pid|uid|gid|index|idx|zip|zipcode|postcode|version|key|hash"
    r"|number|no|nr)"
)
_IDENTITY = re.compile(r"(?:.*_)?(?:id|ids|uuid|guid|hash|sha|key|token|digest|checksum|etag|cursor)")
_PROSE = re.compile(
    r"(?:.*_)?(?:body|message|msg|text|description|comment|comments|note|notes|summary|error|title|url|uri|href|link"
    r"|path|file|filename|email|payload|content|traceback|stack)"
)
_DAY_FIRST = re.compile(r"\d{1,2}([./-])\d{1,2}\1\d{4}(?!\d)")
_CODE = re.compile(r"[0-9a-fA-F]{8,}|[0-9a-fA-F-]{32,36}|[A-Za-z]*[-_]?\d{2,}|\d+")


@dataclass(frozen=True, slots=True)
class Field:
    """One thing a row holds.

    Shape: `keys` lead to it from the row; `values` are raw, and may be none; `select` is how the source finds it
           where that is not its published name; `type` and `choices` are what a description promises.
    """

    keys: tuple[str, ...]
    values: pl.Series
    select: str | None = None
    type: ColumnType | None = None
    choices: tuple[str, ...] = ()
    description: str = ""
    remark: str = ""


@dataclass(slots=True)
class Guessed:
    """Columns, why they are as they are, and what is said of all of them together."""

    columns: tuple[Column, ...]
    remarks: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def guess(fields: Sequence[Field], rows: int) -> Guessed:
    """The columns of these fields; a published name differs from the far one only where it must."""
    kept = fields[:MAX_COLUMNS]
    names = Names()
    remarks: dict[str, str] = {}
    columns: list[Column] = []
    for item in kept:
        name = names.take(column_name("_".join(item.keys)))
        column, remark = _column(item, name, rows)
        columns.append(column)
        said = "; ".join(filter(None, (item.remark, remark)))
        if said:
            remarks[name] = said
    notes = [*_left_out(fields)]
    columns, why = _timed(columns, {c.name: item for c, item in zip(columns, kept, strict=True)}, remarks)
    return Guessed(tuple(columns), remarks, (*why, *notes))


def _left_out(fields: Sequence[Field]) -> Iterable[str]:
    if len(fields) > MAX_COLUMNS:
        yield f"only the first {MAX_COLUMNS} of {len(fields)} fields; add others you need"


def _column(item: Field, name: str, rows: int) -> tuple[Column, str]:
    own = snake(item.keys[-1])
    kind, remark = _type_of(item, own)
    select = item.select if item.select is not None else (None if item.keys == (name,) else item.keys[-1])
    column = Column(name, kind, description=item.description, select=select)
    if kind is ColumnType.NUMBER:
        return _measure(column, own, item, remark)
    if kind is ColumnType.BOOLEAN:
        return replace(column, role=Role.DIMENSION), remark
    if kind is ColumnType.STRING:
        role, why = _text_role(own, item, rows)
        return replace(column, role=role), "; ".join(filter(None, (remark, why)))
    return column, remark


def _type_of(item: Field, own: str) -> tuple[ColumnType, str]:
    values = item.values
    empty = values.null_count() == len(values)
    if empty:
        if item.type is not None:
            return item.type, ""
        return ColumnType.STRING, "no value was seen: the type is not known"
    if item.type is ColumnType.JSON:
        return item.type, ""
    # `infer` knows the names of times as research data has them; the other spellings are told to it as `time`.
    named = values.alias("time" if _TIME_NAMED.fullmatch(own) else own or "value")
    seen = infer(named.to_frame())[0].type
    if item.type is not None and item.type is not seen and seen is not ColumnType.TIME:
        got, present = converted(values, item.type)
        fits = got.null_count() == len(values) - int(present.sum())
        return (item.type if fits else seen), f"described as {item.type}, seen as {seen}"
    if seen is ColumnType.TIME and named.dtype.is_numeric():
        return seen, "numbers read as times since 1970"
    return seen, ""


def _measure(column: Column, own: str, item: Field, remark: str) -> tuple[Column, str]:
    if _NO_MEASURE.fullmatch(own):
        return column, remark or "a number that names something: no role"
    whole = "_".join(map(snake, item.keys))
    numbers = (
        item.values.cast(pl.Float64, strict=False)
        if item.values.dtype.is_numeric()
        else pl.Series([], dtype=pl.Float64)
    )
    unit, doubt = unit_of(whole, numbers)
    kind = Kind.COUNTER if own.endswith("_total") else Kind.GAUGE
    return replace(column, role=Role.MEASURE, unit=unit, kind=kind), "; ".join(filter(None, (remark, doubt)))


def _text_role(own: str, item: Field, rows: int) -> tuple[Role | None, str]:
    if item.choices:
        return Role.DIMENSION, f"one of {listed(item.choices, 6)}"
    values = item.values.drop_nulls()
    if _IDENTITY.fullmatch(own) or _PROSE.fullmatch(own) or values.is_empty():
        return None, ""
    texts = [str(value) for value in values.to_list()]
    distinct = set(texts)
    if max(map(len, distinct)) > 60 or all(map(_CODE.fullmatch, distinct)):
        return None, ""
    if all(map(_DAY_FIRST.match, distinct)):
        return None, "dates with the day or month first are texts: a `derive` step with `time(…)` makes them times"
    if len(distinct) > MAX_DISTINCT or (len(texts) >= FEW_ROWS and len(distinct) > len(texts) / 2):
        return None, "nearly every row has another text: no role"
    count = "1 text" if len(distinct) == 1 else f"{len(distinct)} different texts"
    why = f"{count} in {len(texts)} rows" if rows >= FEW_ROWS else f"seen in {rows} rows only"
    return Role.DIMENSION, why


def _timed(
    columns: list[Column], items: Mapping[str, Field], remarks: dict[str, str]
) -> tuple[list[Column], list[str]]:
    """The best time column gets the role of time."""
    times = [column for column in columns if column.type is ColumnType.TIME]
    if not times:
        return columns, ["no time column was found: panels over time need one, a table does not"]
    best = min(times, key=lambda column: _rank(items[column.name]))
    others = [column.name for column in times if column is not best]
    over = f", preferred to {listed(others)}" if others else ""
    why = "by its name" if _place(items[best.name]) != _ANY_TIME else "by its values"
    remarks[best.name] = "; ".join(filter(None, (remarks.get(best.name, ""), f"the time axis {why}{over}")))
    return [replace(column, role=Role.TIME) if column is best else column for column in columns], []


def _place(item: Field) -> int:
    own = snake(item.keys[-1])
    # The catch-all stands before the two worst, which are asked first.
    order = (0, 1, 2, 5, 6, 3, _ANY_TIME)
    return next(place for place in order if _TIME_RANKS[place].fullmatch(own))


def _rank(item: Field) -> tuple[bool, int, int]:
    empty = item.values.null_count()
    return (len(item.values) > 0 and empty > len(item.values) / 2, _place(item), len(item.keys))
