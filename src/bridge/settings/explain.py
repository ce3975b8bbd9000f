"""Validation errors as sentences that a person can act on."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bridge.settings.annotations import known_keys
from bridge.settings.fields import ONE, SEVERAL, shown
from bridge.settings.yaml_text import Loc

_PLAIN_PATH_PART = re.compile(r"[A-Za-z0-9_-]+")
_MEMBER = re.compile(r"[a-z-]+\[.*\]")
_UNREAD_FILE = re.compile(r"(?P<key>\w+_file): (?P<text>cannot read .*)", re.S)


def path_text(loc: Loc) -> str:
    """A place as people write it: `sources[0].datasets[1].name`."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = part if _PLAIN_PATH_PART.fullmatch(part) else json.dumps(part[:60], ensure_ascii=False)
            text += f".{plain}" if text else plain
    return text


def closest(word: str, known: Sequence[str]) -> str:
    """`did you mean …` when one of the known words is near, a list of them otherwise."""
    near = difflib.get_close_matches(word.lower()[:80], known, n=1)
    if near:
        return f"(did you mean `{near[0]}`?)"
    return f"(known here: {', '.join(known)})" if known else "(remove it)"


def explain(error: ValidationError, data: Any, model: type[BaseModel] | None) -> Iterator[tuple[Loc, str]]:
    """Every problem in a validation error, as its place in `data` and a sentence.

    `model` is the one that was validated; it knows which keys could have been meant.
    """
    found = [(_in_data(details["loc"], data), details) for details in error.errors(include_url=False)]
    worded = {loc for loc, details in found if details["type"] in ("enum", "literal_error")}
    for loc, details in found:
        if loc in worded and details["type"] in _WANTED:
            continue  # another member of the union knows the words that may stand here
        text = details["msg"].removeprefix("Value error, ")
        if details["type"] == SEVERAL:
            for inner, words in details["ctx"]["problems"]:
                yield (*loc, *inner), words
        elif details["type"] == ONE:
            yield loc, text
        elif details["type"] == "value_error" and (unread := _UNREAD_FILE.fullmatch(text)):
            yield (*loc, unread["key"]), unread["text"]
        elif details["type"] == "value_error":
            yield loc, text
        elif details["type"] == "extra_forbidden":
            known = known_keys(model, loc[:-1]) if model else ()
            yield loc, f"is no known key {closest(str(loc[-1]), known)}"
        elif details["type"] != "default_factory_not_called":  # says only that another field is wrong
            yield loc, _sentence(details) or text[:1].lower() + text[1:]


def _in_data(loc: Loc, data: Any) -> Loc:
    # pydantic puts the names of union members between the keys and behind them; they stand nowhere in the file.
    out: list[str | int] = []
    for index, part in enumerate(loc):
        inside = part in data if isinstance(data, dict) else isinstance(part, int)
        if not inside and _MEMBER.fullmatch(str(part)):
            continue
        if isinstance(data, dict) and not inside and index < len(loc) - 1:
            continue
        out.append(part)
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
    return tuple(out)


_NUMBERS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
}
_WANTED = _NUMBERS | {
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "path_type": "a path",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
}
_COMPARED = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
_WORDS = {"gt": "more than", "ge": "at least", "lt": "less than", "le": "at most"}


def _sentence(details: ErrorDetails) -> str:
    kind, value, ctx = details["type"], details["input"], details.get("ctx", {})
    if kind == "missing":
        return "is missing (add it)"
    if kind in _WANTED:
        quotes = " (put it in quotes)" if kind == "string_type" and isinstance(value, bool | int | float) else ""
        seen = shown(value) if kind in _NUMBERS and isinstance(value, str | int | float) else _kind(value)
        return f"must be {_WANTED[kind]}, not {seen}{quotes}"
    if kind in _COMPARED:
        bound = ctx[_COMPARED[kind]]
        whole = int(bound) if isinstance(bound, float) and bound.is_integer() else bound
        return f"must be {_WORDS[_COMPARED[kind]]} {whole}, not {shown(value)}"
    if kind in ("enum", "literal_error"):
        return f"must be {ctx['expected']}, not {shown(value) if isinstance(value, str) else _kind(value)}"
    if kind in ("too_short", "string_too_short"):
        return "must not be empty"
    if kind == "string_too_long":
        return f"must be at most {ctx['max_length']} characters long"
    if kind == "string_pattern_mismatch":
        return f"{shown(value)} does not match {ctx['pattern']}"
    return ""


def _kind(value: Any) -> str:
    # Where text, a list or a mapping is wanted, what stands there instead may be a secret: only its kind is told.
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case str():
            return "text"
        case int() | float():
            return "a number"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            return f"a {type(value).__name__}"
