"""Where the rows of a JSON document are, what their fields are, and how its pages hang together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.errors import UpstreamInvalid
from bridge.model.schema import ColumnType
from bridge.sources.infer.columns import Field
from bridge.sources.infer.names import jmes_path
from bridge.sources.infer.stanza import listed
from bridge.sources.table import SAMPLE_ROWS, raw_series

MAX_DEPTH = 4
MAX_FLAT = 3
MAX_FIELDS = 2_000
MAX_SINGLE_KEYS = 100

Keys = tuple[str, ...]
Select = Callable[[Keys, int], str | None]


@dataclass(frozen=True, slots=True)
class Found:
    """The rows of a document.

    Shape: `keys` lead to them; `single` when the document is one row by itself; `others` are further arrays of
           objects.
    """

    keys: Keys
    rows: Sequence[dict[str, Any]]
    single: bool = False
    others: tuple[Keys, ...] = ()

    @property
    def path(self) -> str | None:
        """JMESPath to the rows; None when they are the document."""
        return jmes_path(self.keys) or None


def find_rows(document: Any, what: str) -> Found:
    """The largest array of objects that is not deeper than four keys, else the object itself as one row.

    Errors: UpstreamInvalid saying what is there instead.
    """
    if document is None:
        raise UpstreamInvalid(f"{what} holds nothing", remedy="ask again when there is data")
    arrays = list(_arrays(document))
    tables = [(keys, items) for keys, items in arrays if _objects(items)]
    if tables:
        keys, items = max(tables, key=lambda table: len(table[1]))
        rows = [item for item in items if item is not None]
        return Found(keys, rows, others=tuple(other for other, _ in tables if other != keys))
    empty = [keys for keys, items in arrays if not items]
    if isinstance(document, dict) and (empty or not arrays or _scalars(document) > 1):
        return _single(document, empty, what)
    raise _no_table(document, arrays, what)


def _arrays(document: Any) -> Iterator[tuple[Keys, list[Any]]]:
    """Arrays breadth first, without looking into them."""
    level: list[tuple[Keys, Any]] = [((), document)]
    for _ in range(MAX_DEPTH + 1):
        below: list[tuple[Keys, Any]] = []
        for keys, value in level:
            if isinstance(value, list):
                yield keys, value
            elif isinstance(value, dict):
                inside = ((key, inner) for key, inner in value.items() if isinstance(inner, (dict, list)))
                below += [((*keys, key), inner) for key, inner in inside]
        level = below


def _objects(items: list[Any]) -> bool:
    there = [item for item in items if item is not None]
    return bool(there) and all(isinstance(item, dict) for item in there)


def _scalars(document: dict[str, Any]) -> int:
    return sum(value is not None and not isinstance(value, (dict, list)) for value in document.values())


def _single(document: dict[str, Any], empty: list[Keys], what: str) -> Found:
    if empty:
        raise UpstreamInvalid(
            f"{what} holds an empty array at `{jmes_path(empty[0])}`: there is nothing to read columns from",
            remedy="ask again when there is data, or name the API's OpenAPI document",
        )
    if len(document) > MAX_SINGLE_KEYS:
        raise UpstreamInvalid(
            f"{what} is one object with {len(document)} keys and no array of objects: it is not a table",
            remedy="name an address that answers rows; where each key holds an object, set `rows: values(@)` by hand",
        )
    if not document:
        raise UpstreamInvalid(f"{what} is an empty object", remedy="ask again when there is data")
    return Found((), [document], single=True)


def _no_table(document: Any, arrays: list[tuple[Keys, list[Any]]], what: str) -> UpstreamInvalid:
    if not arrays:
        return UpstreamInvalid(
            f"{what} is {_kind(document)}, not a table", remedy="name an address that answers an array of objects"
        )
    keys, items = max(arrays, key=lambda array: len(array[1]))
    where = f" at `{jmes_path(keys)}`" if keys else ""
    if not items:
        return UpstreamInvalid(
            f"{what} holds an empty array{where}: there is nothing to read columns from",
            remedy="ask again when there is data, or name the API's OpenAPI document",
        )
    kinds = list(dict.fromkeys(_kind(item) for item in items[:SAMPLE_ROWS]))
    if kinds == ["a list"]:
        return UpstreamInvalid(
            f"{what} holds an array of arrays{where}, which name no columns: it is not a table",
            remedy="write the settings by hand, with `rows` such as `[].{time: [0], value: [1]}`",
        )
    return UpstreamInvalid(
        f"{what} holds an array of {_many(kinds)}{where}, not of objects: it is not a table",
        remedy="name an address that answers an array of objects",
    )


def _many(kinds: list[str]) -> str:
    words = {"an object": "objects", "a list": "lists", "a text": "texts", "a number": "numbers", "null": "nulls"}
    return " and ".join(words.get(kind, kind) for kind in kinds)


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def fields_of(rows: Sequence[dict[str, Any]], select: Select) -> list[Field]:
    """What the rows hold, nested objects opened three keys deep.

    Shape: `select(keys, sure)` gives the source's way to a field; of its keys the first `sure` are in every row.
    """
    sample = list(rows[:SAMPLE_ROWS])
    out: list[Field] = []
    for keys, values, sure in _flat(sample, (), 0):
        if len(out) >= MAX_FIELDS:
            break
        nested = any(isinstance(value, (dict, list)) for value in values)
        remark = "" if sure == len(keys) else "not in every row"
        kind = ColumnType.JSON if nested else None
        series = raw_series("value", values)
        out.append(Field(keys, series, select=select(keys, sure), type=kind, remark=remark))
    return out


def _flat(rows: Sequence[Any], above: Keys, sure: int) -> Iterator[tuple[Keys, list[Any], int]]:
    """Each field with a value for every row; `sure` counts the keys from the left that no row lacks."""
    objects = [row for row in rows if isinstance(row, dict)]
    names: dict[str, None] = {}
    for row in objects:
        names.update(dict.fromkeys(row))
        if len(names) > MAX_FIELDS:
            break
    for name in list(names)[:MAX_FIELDS]:
        values = [row.get(name) if isinstance(row, dict) else None for row in rows]
        everywhere = sure == len(above) and all(name in row for row in objects)
        known = sure + 1 if everywhere else sure
        there = [value for value in values if value is not None]
        keys = (*above, name)
        if len(keys) < MAX_FLAT and there and all(isinstance(value, dict) and value for value in there):
            yield from _flat(values, keys, known)
        else:
            yield keys, values, known


def jmes_select(keys: Keys, sure: int) -> str | None:
    """The column's JMESPath; a key that some rows lack stands behind a pipe, so that its absence is no new schema."""
    if sure == len(keys):
        return None if len(keys) == 1 and jmes_path(keys) == keys[0] else jmes_path(keys)
    return f"{jmes_path(keys[:sure]) or '@'} | {jmes_path(keys[sure:])}"


def dotted_select(keys: Keys, _: int) -> str | None:
    """The column's dotted path, as the files source reads it."""
    return None if len(keys) == 1 else ".".join(keys)


_NEXT = ("next_cursor", "nextcursor", "next_page_token", "nextpagetoken", "next_token", "next", "cursor", "next_page")
_NEXT_URL = ("next", "next_url", "next_link", "nextlink", "@odata.nextlink", "next_page_url")


def paging_of(document: Any, found: Found, link: str | None) -> tuple[dict[str, Any] | None, str]:
    """The paging that an answer shows, and why; a remark alone when it is only suspected."""
    if link is not None:
        return {"kind": "link"}, "the Link header names a next page"
    if not isinstance(document, dict) or not found.keys:
        return None, ""
    for keys, holder in _holders(document, found.keys):
        lower = {str(key).lower().replace("-", "_"): key for key in holder}
        for name in dict.fromkeys((*_NEXT_URL, *_NEXT)):
            if name not in lower:
                continue
            value, path = holder[lower[name]], jmes_path((*keys, lower[name]))
            if isinstance(value, str) and (value.startswith(("http://", "https://", "/", "?"))):
                return {"kind": "link", "next": path}, f"`{path}` holds the URL of the next page"
            if value is None or isinstance(value, (str, int)):
                sure = "" if isinstance(value, str) and value else "; not sure, as this answer has no next page"
                param = "page_token" if "token" in name else "cursor"
                why = f"`{path}` stands beside the rows; that its value goes into `{param}` is a guess{sure}"
                return {"kind": "cursor", "param": param, "next": path}, why
    return None, ""


def _holders(document: dict[str, Any], keys: Keys) -> Iterator[tuple[Keys, dict[str, Any]]]:
    """Objects in which a key for the next page may stand: beside the rows, above them, and one below the top."""
    here: Any = document
    for depth in range(len(keys)):
        if isinstance(here, dict):
            yield keys[:depth], here
            here = here.get(keys[depth])
    for key in ("meta", "paging", "pagination", "page", "links", "_links"):
        if isinstance(document.get(key), dict):
            yield (key,), document[key]


def remarks_of(found: Found) -> list[str]:
    """What a person should know of the rows that were chosen."""
    said = []
    if found.single:
        said.append("the answer is one object: one row")
    if found.others:
        said.append(
            f"other arrays of objects in the answer: {listed([jmes_path(keys) or '@' for keys in found.others])}"
        )
    return said
