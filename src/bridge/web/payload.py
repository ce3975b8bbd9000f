"""The many encodings in which Grafana sends a variable's value, brought to one: a tuple of texts."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from bridge.errors import BadQuery

MAX_VALUES = 1_000
_ALL = frozenset({"$__all", ".*", "*", ".+"})
_ESCAPED = re.compile(r"\\([\\^$*+?.()|{}\[\]/-])")
_PAIR_OR_PIPE = re.compile(r"\\.|\|", re.S)
_PAIR = re.compile(r"\\.", re.S)
_UNFILLED = re.compile(r"\$\{(?!__)[\w.]+(:[^}]*)?\}")
# Whole floats beyond this have no digits of their own any more.
_EXACT = 2**53


@dataclass(frozen=True, slots=True)
class Given:
    """One text as it was given, and what it falls into when its commas or pipes are taken as marks between values."""

    whole: str
    parts: tuple[str, ...] = ()


def texts(value: Any, name: str) -> tuple[str, ...]:
    """The value or values a payload key holds; empty when it is unset or means "all".

    A text may be one value, or several in the regex form `(a|b)`, the glob form `{a,b}`, as JSON, CSV or joined
    by pipes. In the last two a comma or pipe may as well belong to the value, so the whole text is kept too.
    Errors: BadQuery for an object, or more than 1,000 values.
    """
    return _bounded(name, (text for item in given(value, name) for text in (item.whole, *item.parts)))


def parts(value: Any, name: str, known: Collection[str] = ()) -> tuple[str, ...]:
    """As `texts`, where a comma or pipe always stands between values, but in those that are `known`.

    Errors: BadQuery as `texts`.
    """

    def one(item: Given) -> tuple[str, ...]:
        return item.parts if item.parts and item.whole not in known else (item.whole,)

    return _bounded(name, (text for item in given(value, name) for text in one(item)))


def wholes(value: Any, name: str) -> tuple[str, ...]:
    """As `texts`, where a comma or pipe belongs to the value.

    Errors: BadQuery as `texts`.
    """
    return _bounded(name, (item.whole for item in given(value, name)))


def _bounded(name: str, found: Iterable[str]) -> tuple[str, ...]:
    out: dict[str, None] = {}
    for text in found:
        out[text] = None
        if len(out) > MAX_VALUES:
            raise BadQuery(f"`{name[:80]}` has more than {MAX_VALUES} values", remedy="choose fewer, or all of them")
    return tuple(out)


def given(value: Any, name: str) -> Iterator[Given]:
    """The texts in a value of any form, in order; what means "all" is left out.

    Errors: BadQuery for an object.
    """
    pending = [value]
    while pending:
        match pending.pop():
            case None:
                pass
            case bool() | int() | float() as item:
                yield Given(text_of(item))
            case list() as items:
                pending.extend(reversed(items))
            case {"value": inner}:
                pending.append(inner)
            case str() as text:
                yield from _split(_filled(text.strip(), name))
            case _:
                raise BadQuery(
                    f"`{name[:80]}` must be a value or a list of values",
                    remedy='for a variable write "${name:json}" or $name',
                )


def _filled(text: str, name: str) -> str:
    if _UNFILLED.fullmatch(text):
        raise BadQuery(
            f"`{name[:80]}` holds {text[:80]}, a variable that Grafana did not fill in",
            remedy="define the variable, or write a value; alert rules know no variables",
        )
    return text


def text_of(value: bool | float | str) -> str:
    """A JSON scalar as people write it: `true`, `5` for 5.0."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    return str(value)


def _split(text: str) -> Iterator[Given]:
    if text == "" or text in _ALL:
        return
    for form in (_json, _group, _glob):
        if (several := form(text)) is not None:
            yield from (Given(item) for item in several if item not in _ALL)
            return
    plain = unescaped(text)
    for mark in (",", "|"):
        if mark in plain:
            yield Given(plain, tuple(part.strip() for part in plain.split(mark) if part.strip()))
            return
    yield Given(plain)


def _json(text: str) -> list[str] | None:
    """The scalars of a JSON array; None where the text is none, but a value that begins with a bracket."""
    if text[0] != "[" or text[-1] != "]":
        return None
    try:
        items = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if any(isinstance(item, (list, dict)) for item in items):
        return None
    return [text_of(item) for item in items if item is not None]


def _group(text: str) -> list[str] | None:
    """The alternatives of `(a|b)`; brackets that belong to values come escaped."""
    if text[0] != "(" or text[-1] != ")":
        return None
    inner = text[1:-1]
    bare = _PAIR.sub("", inner)
    if "|" not in bare or any(mark in bare for mark in "()\\"):
        return None
    return [unescaped(part) for part in alternatives(inner)]


def _glob(text: str) -> list[str] | None:
    """The alternatives of `{a,b}`, in which nothing is escaped."""
    inner = text[1:-1]
    if text[0] != "{" or text[-1] != "}" or "," not in inner or "{" in inner or "}" in inner:
        return None
    return inner.split(",")


def alternatives(text: str) -> list[str]:
    """The text cut at its pipes, but not at those that are escaped."""
    cuts = [match.start() for match in _PAIR_OR_PIPE.finditer(text) if match[0] == "|"]
    return [text[start + 1 : end] for start, end in zip([-1, *cuts], [*cuts, len(text)], strict=True)]


def unescaped(text: str) -> str:
    """The text without the backslashes Grafana's regex format puts before special characters."""
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text
