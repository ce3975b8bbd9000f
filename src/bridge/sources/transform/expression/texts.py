"""Functions over texts, with the bound of what each of them makes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import polars as pl

from bridge.errors import BadQuery
from bridge.model.filters import MAX_PATTERN_CHARS, anchored
from bridge.model.schema import ColumnType
from bridge.sources.transform.expression.fault import fail, shown
from bridge.sources.transform.expression.numbers import whole
from bridge.sources.transform.expression.signature import NUMBER, TEXT, Function, Param, let

# Each part of a text before the wanted one is written out as well.
MAX_PART = 16
MAX_REASON_CHARS = 200
MAX_KEYS = 16
# 'ΐ' in upper case is three characters of two bytes each.
_CASE_GROWTH = 3
# Numbers are read and written again: [1e15,1e15] becomes [1000000000000000.0,1000000000000000.0].
_JSON_GROWTH = 4
# No text is as long, and every number up to it is an integer.
_FAR_CHARS = 2.0**40
_KEY = re.compile(r'([A-Za-z0-9_-]+)|"([\w .:/@$#+()-]+)"')

_TEXT = Param(TEXT)


def _text(name: str, build: Any, *params: Param, grows: Any = None) -> Function:
    # Without a bound of its own the result is a piece of the first operand.
    return Function(name, params or (_TEXT,), ColumnType.STRING, build, grows=grows or _first)


def _truth(name: str, build: Any) -> Function:
    return Function(name, (_TEXT, _TEXT), ColumnType.BOOLEAN, build)


def _first(sizes_bytes: Sequence[int], _fixed: Sequence[Any], _rows: int) -> int:
    return sizes_bytes[0]


def _times(factor: int) -> Any:
    return lambda sizes_bytes, _fixed, _rows: factor * sizes_bytes[0]


def _replaced(sizes_bytes: Sequence[int], fixed: Sequence[str], _rows: int) -> int:
    old, new = (len(text.encode()) for text in fixed)
    return sizes_bytes[0] + sizes_bytes[0] // old * max(0, new - old)


def _some(value: Any, at: int) -> str:
    if not value or not isinstance(value, str):
        fail("a text of at least one character must stand here", at)
    return str(value)


def _written(value: Any, _at: int) -> str:
    return str(value)


def _matched(value: Any, at: int) -> str:
    """A pattern that must match all of a text."""
    pattern, _ = _found(value, at)
    try:
        return anchored(pattern)
    except BadQuery as error:
        fail(error.message, at, error.remedy)


def _found(value: Any, at: int) -> tuple[str, int]:
    """A pattern that may match anywhere, and how many groups it has."""
    pattern = str(value)
    if len(pattern) > MAX_PATTERN_CHARS:
        fail(f"a pattern has at most {MAX_PATTERN_CHARS} characters, this one has {len(pattern)}", at)
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.PolarsError as error:
        # The engine draws the place over several lines, and says why in one that begins so.
        why = re.findall(r"^(?:regex )?error: (?!regex parse)(.*)", str(error), re.MULTILINE)
        reason = why[0][:MAX_REASON_CHARS] if why else "it is refused"
        remedy = "write a regular expression without look-around or back-references"
        fail(f"the pattern {shown(pattern)} does not compile: {reason}", at, remedy)
    return pattern, len(pl.Series([""]).str.extract_groups(pattern).struct.fields)


def _path(value: Any, at: int) -> str:
    """A path such as `items.0.name`, as a JSONPath that is nothing but keys and positions."""
    keys, place = [], 0
    while found := _KEY.match(value or "", place):
        plain, quoted = found.groups()
        keys.append(f"[{plain}]" if plain and plain.isdigit() else f"['{plain or quoted}']")
        place = found.end()
        if value[place : place + 1] != ".":
            break
        place += 1
    if place != len(value or "") or not keys or value.endswith(".") or len(keys) > MAX_KEYS:
        remedy = (
            "write keys and positions with dots between them, such as 'items.0.name', other keys in double quotes"
        )
        fail(f"{shown(value or '')} is no path of at most {MAX_KEYS} keys", at, remedy)
    return "$" + "".join(keys)


def _slice(text: pl.Expr, start: pl.Expr, count: pl.Expr | None = None) -> pl.Expr:
    start = start.floor().clip(-_FAR_CHARS, _FAR_CHARS).cast(pl.Int64)
    if count is None:
        return text.str.slice(start)
    count = count.floor().clip(0, _FAR_CHARS).cast(pl.UInt64)
    # A count of null would be one without an end.
    part = pl.when(pl.field("count").is_not_null()).then(
        pl.field("text").str.slice(pl.field("start"), pl.field("count"))
    )
    return let(part, text=text, start=start, count=count)


def _part(text: pl.Expr, separator: str, number: int) -> pl.Expr:
    return text.str.splitn(separator, number + 1).struct.field(f"field_{number - 1}")


def _extract(text: pl.Expr, pattern: tuple[str, int], group: int | None = None) -> pl.Expr:
    return text.str.extract(pattern[0], min(1, pattern[1]) if group is None else group)


def _no_group(pattern: tuple[str, int], group: int = 0) -> str:
    return f"{shown(pattern[0])} has no group {group}, its last is {pattern[1]}" if group > pattern[1] else ""


def _replace(text: pl.Expr, old: str, new: str) -> pl.Expr:
    return text.str.replace_all(old, new, literal=True)


TEXTS = (
    _text("lower", lambda text: text.str.to_lowercase(), grows=_times(_CASE_GROWTH)),
    _text("upper", lambda text: text.str.to_uppercase(), grows=_times(_CASE_GROWTH)),
    _text("trim", lambda text: text.str.strip_chars()),
    Function("length", (_TEXT,), ColumnType.NUMBER, lambda text: text.str.len_chars().cast(pl.Float64), finite=True),
    _truth("contains", lambda text, part: text.str.contains(part, literal=True)),
    _truth("starts_with", lambda text, part: text.str.starts_with(part)),
    _truth("ends_with", lambda text, part: text.str.ends_with(part)),
    _text("replace", _replace, _TEXT, Param(TEXT, fixed=_some), Param(TEXT, fixed=_written), grows=_replaced),
    _text("slice", _slice, _TEXT, Param(NUMBER), Param(NUMBER, optional=True)),
    _text("split_part", _part, _TEXT, Param(TEXT, fixed=_some), Param(NUMBER, fixed=whole(1, MAX_PART))),
    Function(
        "extract",
        (_TEXT, Param(TEXT, fixed=_found), Param(NUMBER, fixed=whole(0, 99), optional=True)),
        ColumnType.STRING,
        _extract,
        grows=_first,
        misfit=_no_group,
    ),
    Function("concat", (Param(TEXT, many=True),), ColumnType.STRING, lambda *texts: pl.concat_str(texts)),
    _text(
        "json_get",
        lambda text, path: text.str.json_path_match(path),
        _TEXT,
        Param(TEXT, fixed=_path),
        grows=_times(_JSON_GROWTH),
    ),
)
MATCH = Function(
    "=~", (_TEXT, Param(TEXT, fixed=_matched)), ColumnType.BOOLEAN, lambda text, pattern: text.str.contains(pattern)
)
