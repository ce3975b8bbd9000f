"""Templates of paths, parameters and bodies, and which parts of a query they carry to the far API."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from bridge.edge.address import check_path as check_raw
from bridge.edge.address import encode_segment
from bridge.errors import BadQuery
from bridge.model.filters import Filter, Op
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Param
from bridge.model.span import EPOCH, to_ms

SPAN_NAMES = ("from_ms", "to_ms", "from_s", "to_s", "from_iso", "to_iso")
NUMBER_NAMES = ("from_ms", "to_ms", "from_s", "to_s", "step_ms", "step_s", "max_points", "limit")
NAMES = (*SPAN_NAMES, "step_ms", "step_s", "max_points", "limit")
MAX_REPEATS = 1_000
# Characters of a path that stand for themselves (RFC 3986, pchar); `%` because literal parts may be encoded already.
_PATH_SAFE = "%:@!$&'()*+,;=-._~"
_PIECE = re.compile(r"\{\{|\}\}|\{(?P<name>[^{}]*)\}|[{}]|[^{}]+")
_OWN = re.compile(r"(?:param|filter)\.[A-Za-z_][A-Za-z0-9_.-]*")

Values = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Name:
    """A placeholder."""

    name: str


@dataclass(frozen=True, slots=True)
class Template:
    """Literal texts and placeholders in order."""

    parts: tuple[str | Name, ...]

    @property
    def names(self) -> frozenset[str]:
        """Names of the placeholders."""
        return frozenset(part.name for part in self.parts if isinstance(part, Name))

    def render(self, values: Values) -> Iterator[str]:
        """Every text the template stands for; none when a value is absent, several when one is multiple.

        Errors: BadQuery when there would be too many.
        """
        choices = [values.get(part.name, ()) if isinstance(part, Name) else (part,) for part in self.parts]
        count = 1
        for choice in choices:
            count *= len(choice)
        if count > MAX_REPEATS:
            raise BadQuery(
                f"a parameter would be repeated {count} times; at most {MAX_REPEATS} are sent",
                remedy="choose fewer values",
            )
        return ("".join(texts) for texts in itertools.product(*choices))


def check_template(text: str) -> str:
    """The text itself when it is a template.

    Errors: ValueError naming what is wrong in it.
    """
    compile_template(text)
    return text


def compile_template(text: str) -> Template:
    """A template from its text; `{{` and `}}` are literal braces.

    Errors: ValueError for a lone brace or an unknown name.
    """
    parts: list[str | Name] = []
    for match in _PIECE.finditer(text):
        piece, name = match[0], match["name"]
        if name is not None:
            if name not in NAMES and not _OWN.fullmatch(name):
                known = " ".join(f"{{{item}}}" for item in NAMES)
                raise ValueError(
                    f"unknown name {{{name}}} in {text!r} (known: {known} {{param.NAME}} {{filter.COLUMN}})"
                )
            parts.append(Name(name))
        elif piece in ("{", "}"):
            raise ValueError(f"lone `{piece}` in {text!r}; write `{piece * 2}` for a literal brace")
        else:
            parts.append(piece[0] if piece in ("{{", "}}") else piece)
    return Template(tuple(parts))


def check_path(text: str) -> str:
    """The text itself when it is a path template.

    Errors: ValueError naming what is wrong in it.
    """
    compile_path(text)
    return text


def compile_path(text: str) -> tuple[Template, ...]:
    """One template per path segment.

    Errors: ValueError for a path that is not absolute, has a query, or climbs with `..`.
    """
    if not text.startswith("/"):
        raise ValueError(f"path {text!r} must begin with `/`")
    if "?" in text or "#" in text:
        raise ValueError(f"path {text!r} must not hold `?` or `#`; query parameters go under `params`")
    segments = tuple(compile_template(segment) for segment in text[1:].split("/"))
    try:
        check_raw(render_path(segments, {name: ("x",) for part in segments for name in part.names}, dataset=text))
    except BadQuery as error:
        raise ValueError(error.message) from error
    return segments


def render_path(segments: tuple[Template, ...], values: Values, *, dataset: str) -> str:
    """The raw path; every value is percent-encoded and stays inside its own segment.

    Errors: BadQuery when a value is absent, multiple, or would make the segment empty, `.` or `..`.
    """
    return "".join("/" + _render_segment(segment, values, dataset) for segment in segments)


def _render_segment(segment: Template, values: Values, dataset: str) -> str:
    out = []
    for part in segment.parts:
        if isinstance(part, str):
            out.append(quote(part, safe=_PATH_SAFE))
            continue
        found = values.get(part.name, ())
        if len(found) != 1:
            raise _path_problem(part.name, len(found), dataset)
        try:
            out.append(encode_segment(found[0]))
        except BadQuery as error:
            raise BadQuery(
                f"`{dataset}` cannot use {found[0][:80]!r} for `{part.name}`: {error.message}",
                remedy="give a value that can be a name",
            ) from error
    return "".join(out)


def _path_problem(name: str, count: int, dataset: str) -> BadQuery:
    if count > 1:
        return BadQuery(f"`{dataset}` takes one value for `{name}`, not {count}", remedy="choose a single value")
    if name in SPAN_NAMES:
        return BadQuery(f"`{dataset}` needs a time range", remedy="send `from` and `to`")
    word, _, own = name.partition(".")
    if word == "param":
        return BadQuery(f"`{dataset}` needs the parameter `{own}`", remedy=f"give `{own}`")
    if word == "filter":
        return BadQuery(f"`{dataset}` needs a filter on `{own}`", remedy=f"add the filter `{own}=VALUE`")
    return BadQuery(f"`{dataset}` needs `{name}`", remedy=f"send `{name}`")


def render_params(templates: Mapping[str, Template], values: Values) -> list[tuple[str, str]]:
    """Query parameters; one whose value is absent is left out, one with several values is repeated."""
    return [(key, text) for key, template in templates.items() for text in template.render(values)]


class Absent(Exception):
    """A part of a body has no value, so the key that holds it is left out."""


def compile_body(value: Any) -> Any:
    """The body with a Template in the place of every text."""
    if isinstance(value, str):
        return compile_template(value)
    if isinstance(value, dict):
        return {key: compile_body(item) for key, item in value.items()}
    return [compile_body(item) for item in value] if isinstance(value, list) else value


def body_names(value: Any) -> frozenset[str]:
    """Names of all placeholders in a compiled body."""
    if isinstance(value, Template):
        return value.names
    items: Iterable[Any] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return frozenset().union(*(body_names(item) for item in items))


def render_body(value: Any, values: Values, multi: frozenset[str]) -> Any:
    """The body with its values; `multi` are the names that always become a list.

    Errors: Absent when the whole of it has no value; BadQuery for several values of a name that is not in `multi`.
    """
    if isinstance(value, Template):
        return _render_leaf(value, values, multi)
    if isinstance(value, dict):
        return dict(_present(value.items(), values, multi))
    if isinstance(value, list):
        return [item for _, item in _present(enumerate(value), values, multi)]
    return value


def _present(items: Iterable[tuple[Any, Any]], values: Values, multi: frozenset[str]) -> Iterator[tuple[Any, Any]]:
    for key, item in items:
        try:
            yield key, render_body(item, values, multi)
        except Absent:
            continue


def _render_leaf(template: Template, values: Values, multi: frozenset[str]) -> Any:
    texts = list(template.render(values))
    if not texts:
        raise Absent
    only = template.parts[0] if len(template.parts) == 1 else None
    if isinstance(only, Name) and only.name in multi:
        return texts
    if len(texts) > 1:
        # A filter is applied again by bridge, so leaving it out only fetches more; a parameter is the whole question.
        names = sorted(name for name in template.names if len(values.get(name, ())) > 1)
        if all(name.startswith("filter.") for name in names):
            raise Absent
        raise BadQuery(f"the body takes one value for `{names[0]}`", remedy="choose a single value")
    if isinstance(only, Name) and only.name in NUMBER_NAMES:
        return float(texts[0]) if "." in texts[0] else int(texts[0])
    return texts[0]


def pushed(query: Query, column: Column) -> Filter | None:
    """The `=` filter on a column that the far API may be asked for; None when there is none it would understand.

    An empty value means null to bridge and who knows what to the far side, so it is not pushed.
    """
    for item in query.filters:
        if item.column == column.name and item.op is Op.EQ and item.values and all(item.values):
            return item
    return None


def _spelled(value: str, column: Column) -> str:
    """bridge reads `1` and `True` as true; far APIs know `true`."""
    if column.type is ColumnType.BOOLEAN:
        return {"1": "true", "0": "false"}.get(value, value.lower())
    return value


def values_of(
    query: Query, columns: Iterable[Column], params: Iterable[Param], *, max_rows: int
) -> dict[str, tuple[str, ...]]:
    """What every template name stands for in this query; absent ones are missing.

    Units: the ends in whole seconds are rounded outwards, so that no row of the span is lost.
    """
    # One more than may be kept, so that an answer the far side cut is noticed.
    values: dict[str, tuple[str, ...]] = {"limit": (str(max_rows + 1),)}
    if query.span is not None:
        start, end = query.span.start, query.span.end
        second = timedelta(seconds=1)
        values |= {
            "from_ms": (str(to_ms(start)),),
            "to_ms": (str(-((EPOCH - end) // timedelta(milliseconds=1))),),
            "from_s": (str((start - EPOCH) // second),),
            "to_s": (str(-((EPOCH - end) // second)),),
            "from_iso": (start.isoformat().replace("+00:00", "Z"),),
            "to_iso": (end.isoformat().replace("+00:00", "Z"),),
        }
    if query.step_ms is not None:
        whole_s, rest_ms = divmod(query.step_ms, 1_000)
        values["step_ms"] = (str(query.step_ms),)
        values["step_s"] = (str(query.step_ms / 1_000 if rest_ms else whole_s),)
    if query.max_points is not None:
        values["max_points"] = (str(query.max_points),)
    for param in params:
        given = query.param(param.name) or (() if param.default is None else (param.default,))
        values[f"param.{param.name}"] = given
    for column in columns:
        if item := pushed(query, column):
            values[f"filter.{column.name}"] = tuple(_spelled(value, column) for value in item.values)
    return values
