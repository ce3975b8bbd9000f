"""What the parameters of a described operation mean: time ranges, pages, and what a person has to give."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from bridge.model.schema import Param
from bridge.sources.infer.names import Names, jmes_path, param_name, snake
from bridge.sources.infer.openapi import Api, Rows, choices_of, type_of
from bridge.sources.infer.stanza import clean, listed

_START = {"since", "from", "start", "after", "begin"}
_END = {"until", "to", "end", "before", "stop"}
_FILLER = {
    "time",
    "date",
    "ts",
    "timestamp",
    "datetime",
    "at",
    "ms",
    "s",
    "iso",
    "created",
    "started",
    "ended",
    "range",
}
_CURSOR = {"cursor", "page_token", "next_token", "continuation", "continuation_token", "next_cursor"}
_PAGE = {"page", "page_number", "pagenumber"}
_OFFSET = {"offset", "skip"}
_SIZE = {"limit", "size", "per_page", "page_size", "pagesize", "max_results", "top", "count"}
_NEXT = ("next_cursor", "next_page_token", "next_token", "next", "cursor", "continuation", "next_page")
_TOTAL = ("total", "total_count", "total_items", "total_results")
_PAGE_ROWS = 100


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of an operation."""

    name: str
    place: str
    required: bool
    schema: Mapping[str, Any]
    description: str
    example: str | None


@dataclass(slots=True)
class Meaning:
    """What all parameters of one operation come to."""

    path: str
    path_asked: str | None
    params: dict[str, str] = field(default_factory=dict)
    paging: dict[str, Any] | None = None
    declared: list[Param] = field(default_factory=list)
    trial: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    spans: bool = False


def parameters(api: Api, shared: Any, own: Any) -> list[Parameter]:
    """The parameters of a path and of its operation, the operation's first."""
    found: dict[tuple[str, str], Parameter] = {}
    both = [*(shared if isinstance(shared, list) else []), *(own if isinstance(own, list) else [])]
    for node in both[:200]:
        item = api.resolve(node)
        name, place = item.get("name"), item.get("in")
        if isinstance(name, str) and isinstance(place, str) and name.isprintable():
            # Swagger 2 has the type beside the name.
            schema = api.schema(item["schema"]) if "schema" in item else item
            required = item.get("required") is True or place == "path"
            example = _example(item, schema)
            found[(name, place)] = Parameter(
                name, place, required, schema, clean(item.get("description") or ""), example
            )
    return list(found.values())


def _example(item: Mapping[str, Any], schema: Mapping[str, Any]) -> str | None:
    examples = schema.get("examples")
    values = [schema.get("default"), item.get("example"), schema.get("example")]
    values += examples[:1] if isinstance(examples, list) else []
    values += list(choices_of(schema)[:1])
    texts = (str(value) for value in values if isinstance(value, (str, int, float)) and not isinstance(value, bool))
    return next((text for text in texts if text and text.isprintable() and len(text) <= 200), None)


def meaning(path: str, given: list[Parameter], api: Api, rows: Rows | None, columns: set[str]) -> Meaning:
    """How the dataset asks: its path, its templates, its paging and what a person has to give."""
    out = Meaning(path, path)
    queries = [item for item in given if item.place == "query"]
    used = set(_paging(out, queries, api, rows))
    left: list[str] = []
    for item in queries:
        if item.name in used:
            continue
        if template := _time_template(item):
            text, doubt = template
            out.params[item.name] = text
            out.spans = True
            if doubt:
                out.notes.append(f"`{clean(item.name, 60)}` {doubt}")
        elif item.required:
            own = _declare(out, item, columns)
            out.params[item.name] = f"{{param.{own}}}"
        else:
            left.append(item.name)
    _fill_path(out, [item for item in given if item.place == "path"], columns)
    if left:
        out.notes.append(f"other parameters it takes, to be added under `params`: {listed(left)}")
    if any(item.place == "header" and item.required for item in given):
        names = [item.name for item in given if item.place == "header" and item.required]
        out.notes.append(f"it needs the headers {listed(names)}: write them under `headers`")
    return out


def _declare(out: Meaning, item: Parameter, columns: set[str]) -> str:
    own = Names(param.name for param in out.declared).take(param_name(item.name, columns))
    choices = choices_of(item.schema)
    default = item.schema.get("default")
    text = str(default) if isinstance(default, (str, int, float)) and not isinstance(default, bool) else None
    text = text if text and (not choices or text in choices) else None
    out.declared.append(Param(own, item.description, text, choices, required=text is None))
    if text is None and item.example:
        out.trial.append((own, (item.example,)))
    if item.place == "query" and item.example:
        out.asked.append((item.name, item.example))
    if text is None:
        known = f"; tried with {item.example}" if item.example else ": fill in a `default` to have it answer without"
        out.notes.append(f"the parameter `{own}` is required{known}")
    if item.example is None:
        out.path_asked = None
    return own


def _fill_path(out: Meaning, given: list[Parameter], columns: set[str]) -> None:
    known = {item.name: item for item in given}
    asked = out.path
    for name in dict.fromkeys(re.findall(r"\{([^{}]*)\}", out.path)):
        item = known.get(name) or Parameter(name, "path", required=True, schema={}, description="", example=None)
        own = _declare(out, item, columns)
        out.path = out.path.replace(f"{{{name}}}", f"{{param.{own}}}")
        asked = asked.replace(f"{{{name}}}", _segment(item.example or ""))
    out.path_asked = asked if out.path_asked is not None else None


def _segment(text: str) -> str:
    return quote(text, safe="")


def _time_template(item: Parameter) -> tuple[str, str] | None:
    """The template of a parameter that bounds a time range, and a doubt."""
    tokens = snake(item.name).split("_")
    ends = [word for word in ("from", "to") if set(tokens) & (_START if word == "from" else _END)]
    if len(ends) != 1 or not set(tokens) <= _START | _END | _FILLER:
        return None
    end, kind = ends[0], type_of(item.schema)
    style = str(item.schema.get("format") or "").lower()
    said = f"{item.description} {item.name}".lower()
    if kind in ("integer", "number"):
        if re.search(r"milli|\bms\b|_ms\b", said):
            return f"{{{end}_ms}}", ""
        if re.search(r"second|\bunix\b|_s\b", said):
            return f"{{{end}_s}}", ""
        if style == "int64":
            return f"{{{end}_ms}}", f"is a whole number: read as milliseconds; for seconds write {{{end}_s}}"
        return f"{{{end}_s}}", f"is a number: read as seconds; for milliseconds write {{{end}_ms}}"
    if kind not in ("string", "") or style == "date":
        return None
    if style == "date-time" or re.search(r"iso|rfc ?3339|date-?time", said):
        return f"{{{end}_iso}}", ""
    return f"{{{end}_iso}}", "says no format: read as ISO 8601"


def _paging(out: Meaning, queries: list[Parameter], api: Api, rows: Rows | None) -> Iterator[str]:
    """Sets the paging; gives the parameters it uses."""
    by_name = {snake(item.name): item for item in queries}
    rows_param = next((by_name[name] for name in by_name if name in _SIZE), None)
    cursor, page, offset = (
        next((by_name[name] for name in by_name if name in words), None) for words in (_CURSOR, _PAGE, _OFFSET)
    )
    sized: dict[str, Any] = {}
    if rows_param is not None and (count := _page_rows(rows_param)):
        sized = {"size_param": rows_param.name, "size": count}
    next_path = _beside(api, rows, _NEXT)
    if cursor is not None and next_path:
        out.paging = {"kind": "cursor", "param": cursor.name, "next": next_path, **sized}
    elif page is not None:
        first = 0 if page.schema.get("minimum") == 0 or page.schema.get("default") == 0 else 1
        start = {"start": 0} if first == 0 else {}
        out.paging = {"kind": "page", "param": page.name, **start, **sized, **_total(api, rows)}
    elif offset is not None:
        rest = sized or {"size": _PAGE_ROWS}
        out.paging = {"kind": "offset", "param": offset.name, **rest, **_total(api, rows)}
        if not sized:
            out.notes.append(f"rows per page are not told: `size` {_PAGE_ROWS} is a guess")
    elif next_path and cursor is None and _is_url(api, rows):
        out.paging = {"kind": "link", "next": next_path}
    elif rows_param is not None and _bounded(out, rows_param):
        yield rows_param.name
    if out.paging is None:
        return
    yield from (item.name for item in (cursor, page, offset, rows_param) if item is not None)


def _bounded(out: Meaning, item: Parameter) -> bool:
    """Whether the bound on rows is dealt with; a required one that is not told has to be given by a person."""
    most = item.schema.get("maximum")
    if isinstance(most, int) and not isinstance(most, bool) and most > 0:
        out.params[item.name] = str(most)
        out.notes.append(f"`{item.name}` has no page behind it: at most {most} rows come")
    elif not item.required:
        out.notes.append(f"`{item.name}` bounds the rows and is not sent: add it under `params` for more")
    else:
        return False
    return True


def _page_rows(item: Parameter) -> int | None:
    most, usual = item.schema.get("maximum"), item.schema.get("default")
    for value in (most, usual):
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1_000_000:
            return min(value, 1_000)
    return _PAGE_ROWS if type_of(item.schema) in ("integer", "") else None


def _beside(api: Api, rows: Rows | None, names: tuple[str, ...]) -> str | None:
    """JMESPath to the first of these keys beside or above the rows."""
    for keys, properties in reversed(rows.beside if rows else ()):
        known = {snake(str(key)): str(key) for key in properties}
        for name in names:
            if name in known:
                return jmes_path((*keys, known[name]))
    return None


def _total(api: Api, rows: Rows | None) -> dict[str, str]:
    path = _beside(api, rows, _TOTAL)
    return {"total": path} if path else {}


def _is_url(api: Api, rows: Rows | None) -> bool:
    for _, properties in reversed(rows.beside if rows else ()):
        for key, node in properties.items():
            if snake(str(key)) in _NEXT:
                schema = api.schema(node)
                return str(schema.get("format") or "") in ("uri", "url", "uri-reference")
    return False
