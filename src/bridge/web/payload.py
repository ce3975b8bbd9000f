"""The many encodings in which Grafana sends a variable's value, brought to one: a tuple of texts."""

from __future__ import annotations

import re
from typing import Any

import orjson

from bridge.errors import BadQuery

MAX_VALUES = 1_000
_ALL = frozenset({"$__all", ".*", "*", ".+"})
_ESCAPED = re.compile(r"\\([\\^$*+?.()|{}\[\]/-])")
_SPLIT_PIPE = re.compile(r"(?<!\\)\|")
_GLOB = re.compile(r"\{([^{}]*,[^{}]*)\}")


def texts(value: Any, name: str) -> tuple[str, ...]:
    """The value or values a payload key holds; empty when it is unset or means "all".

    A text may be one value, or several in the regex form `(a|b)`, the glob form `{a,b}`, as JSON, CSV or joined
    by pipes. In the last two a comma or pipe may as well belong to the value, so the whole text is kept too.
    Errors: BadQuery for an object, or more than 1,000 values.
    """
    found = tuple(dict.fromkeys(_texts(value, name)))
    if len(found) > MAX_VALUES:
        raise BadQuery(f"`{name[:80]}` has {len(found)} values, at most {MAX_VALUES} are taken")
    return found


def _texts(value: Any, name: str) -> list[str]:
    match value:
        case None:
            return []
        case bool():
            return ["true" if value else "false"]
        case int() | float():
            return [str(value)]
        case list():
            return [text for item in value for text in _texts(item, name)]
        case {"value": inner}:
            return _texts(inner, name)
        case str():
            return _split(value)
        case _:
            raise BadQuery(
                f"`{name[:80]}` must be a value or a list of values",
                remedy='for a variable write "${name:json}" or $name',
            )


def _split(text: str) -> list[str]:
    text = text.strip()
    if text == "" or text in _ALL:
        return []
    if text[0] == "[" and text[-1] == "]":
        try:
            items = orjson.loads(text)
        except orjson.JSONDecodeError:
            pass
        else:
            return [
                str(item) if not isinstance(item, bool) else str(item).lower() for item in items if item is not None
            ]
    if text[0] == "(" and text[-1] == ")":
        return [unescaped(part) for part in _SPLIT_PIPE.split(text[1:-1])]
    if match := _GLOB.fullmatch(text):
        return match[1].split(",")
    plain = unescaped(text)
    for mark in (",", "|"):
        if mark in plain:
            return [plain, *(part.strip() for part in plain.split(mark) if part.strip())]
    return [plain]


def unescaped(text: str) -> str:
    """The text without the backslashes Grafana's regex format puts before special characters."""
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text
