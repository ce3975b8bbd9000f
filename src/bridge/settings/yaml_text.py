"""YAML 1.2 core text to plain values, with the place of every key and item.

PyYAML reads YAML 1.1, where `on` is a boolean, `1:30` is ninety and a date is an object. Settings mean what they
look like, so only the tree comes from PyYAML; the values are made here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

Loc = tuple[str | int, ...]

MAX_FILE_BYTES = 1024 * 1024
MAX_NODES = 100_000
MAX_DEPTH = 64

_TAG = "tag:yaml.org,2002:"
_PLAIN = "plain"
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TAGS = {"null": _NULL, "bool": _BOOL, "int": _INT, "float": _FLOAT}
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


class Unreadable(ValueError):
    """The text is no YAML that settings can be made of."""

    def __init__(self, mark: Mark, text: str) -> None:
        super().__init__(text)
        self.mark = mark
        self.text = text


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in a text, counted from one."""

    line: int = 1
    column: int = 1


@dataclass(slots=True)
class Document:
    """Values, where each key and list item stands, and what is wrong beyond the syntax."""

    value: Any = None
    marks: dict[Loc, Mark] = field(default_factory=dict)
    problems: list[tuple[Mark, Loc, str]] = field(default_factory=list)


class _Loader(yaml.CSafeLoader):
    """Marks every plain scalar as such, so that YAML 1.1's guesses never happen."""

    def resolve(self, kind: type[yaml.Node], value: str, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            return _PLAIN if implicit[0] else f"{_TAG}str"
        return f"{_TAG}map" if kind is yaml.MappingNode else f"{_TAG}seq"


def plain_scalar(text: str) -> Any:
    """The value of an unquoted scalar in the core schema of YAML 1.2.

    Errors: ValueError for a number with more digits than Python converts.
    """
    kind = next((name for name, pattern in _TAGS.items() if pattern.fullmatch(text)), "str")
    return _scalar(kind, text)


def _scalar(kind: str, text: str) -> Any:
    match kind:
        case "null":
            return None
        case "bool":
            return text[0] in "tT"
        case "int":
            return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
        case "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        case _:
            return text


def read_yaml(data: bytes) -> Document:
    """The one document in `data`; an empty text is an empty document.

    Errors: Unreadable, with the place, when the text is too large, not UTF-8 or not YAML.
    """
    text = _decode(data)
    try:
        node = _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        raise Unreadable(*_syntax(error, text)) from error
    document = Document()
    if node is not None:
        document.value = _Walk(document).value(node, ())
    return document


def _decode(data: bytes) -> str:
    if len(data) > MAX_FILE_BYTES:
        raise Unreadable(Mark(), f"the file is larger than {MAX_FILE_BYTES} bytes (is it a settings file?)")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The bad byte is at error.start of error.object, which lacks the byte order mark when there was one.
        before = error.object[: error.start].decode("utf-8", "replace")
        raise Unreadable(_mark_after(before), "the file is not UTF-8 text (save it as UTF-8)") from error
    if found := _UNPRINTABLE.search(text):
        raise Unreadable(
            _mark_after(text[: found.start()]),
            f"the character U+{ord(found[0]):04X} must not stand in YAML (remove it)",
        )
    return text


def _mark_after(before: str) -> Mark:
    return Mark(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)


def _mark(mark: yaml.Mark) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)


def _syntax(error: yaml.MarkedYAMLError, text: str) -> tuple[Mark, str]:
    place = error.problem_mark or error.context_mark
    mark = _mark(place) if place else Mark()
    problem = str(error.problem)
    line = text.split("\n")[mark.line - 1] if mark.line <= text.count("\n") + 1 else ""
    if "another document" in problem:
        return mark, "a second document begins here (keep one, and remove the `---`)"
    if "cannot start any token" in problem and line[mark.column - 1 : mark.column] == "\t":
        return mark, "a tab cannot indent YAML (use spaces)"
    if "cannot start any token" in problem:
        return mark, f"{line[mark.column - 1 : mark.column]!r} cannot begin a value (put the value in quotes)"
    if "nesting depth" in problem:
        return mark, f"it is nested more than {MAX_DEPTH} levels deep (flatten it)"
    return mark, f"this is not YAML: {problem}{_context(error)}"


def _context(error: yaml.MarkedYAMLError) -> str:
    # What was left open is found at its beginning, and reported only at the end of the file.
    if not error.context or error.context_mark is None:
        return ""
    begun = _mark(error.context_mark)
    return f" {error.context} that begins in line {begun.line}, column {begun.column}"


@dataclass(slots=True)
class _Walk:
    """Turns nodes into values. Aliases are followed, so nodes are counted here: that is what a bomb multiplies."""

    document: Document
    nodes: int = 0

    def value(self, node: yaml.Node, loc: Loc) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise Unreadable(_mark(node.start_mark), f"it grows to more than {MAX_NODES} values (use fewer aliases)")
        if len(loc) > MAX_DEPTH:
            raise Unreadable(_mark(node.start_mark), f"it is nested more than {MAX_DEPTH} levels deep (flatten it)")
        match node:
            case yaml.MappingNode() if node.tag == f"{_TAG}map":
                return dict(self._pairs(node, loc))
            case yaml.SequenceNode() if node.tag == f"{_TAG}seq":
                return [self._item(child, (*loc, index)) for index, child in enumerate(node.value)]
            case yaml.ScalarNode():
                return self._scalar(node, loc)
            case _:
                return self._problem(node, loc, f"the tag {_tag(node)} is not read here (remove it)")

    def _item(self, node: yaml.Node, loc: Loc) -> Any:
        self.document.marks[loc] = _mark(node.start_mark)
        return self.value(node, loc)

    def _pairs(self, node: yaml.MappingNode, loc: Loc) -> Iterator[tuple[str, Any]]:
        seen: dict[str, Mark] = {}
        for key_node, child in node.value:
            key = self._key(key_node, loc)
            if key is None:
                continue
            mark = _mark(key_node.start_mark)
            if key in seen:
                first = seen[key]
                text = f"stands twice in one mapping, first in line {first.line}, column {first.column} (remove one)"
                self._problem(key_node, (*loc, key), text)
                continue
            seen[key] = self.document.marks[(*loc, key)] = mark
            yield key, self.value(child, (*loc, key))

    def _key(self, node: yaml.Node, loc: Loc) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self._problem(node, loc, "a key must be text; a value that begins with { or [ needs quotes")
            return None
        if node.tag == _PLAIN and node.value == "<<":
            self._problem(node, loc, "merge keys (<<) are not part of YAML 1.2 (write the keys out)")
            return None
        key = self._scalar(node, loc)
        if not isinstance(key, str):
            shown = json.dumps(node.value[:40], ensure_ascii=False)
            self._problem(node, loc, f"a key must be text (write {shown} with its quotes)")
            return None
        return key

    def _scalar(self, node: yaml.ScalarNode, loc: Loc) -> Any:
        try:
            if node.tag == _PLAIN:
                return plain_scalar(node.value)
            kind = node.tag.removeprefix(_TAG) if node.tag.startswith(_TAG) else ""
            if kind == "str" or (kind in _TAGS and _TAGS[kind].fullmatch(node.value)):
                return _scalar(kind, node.value)
        except ValueError:  # Python converts no more than some thousands of digits
            return self._problem(node, loc, "the number has too many digits (write a shorter one)")
        return self._problem(node, loc, f"the tag {_tag(node)} is not read here (remove it)")

    def _problem(self, node: yaml.Node, loc: Loc, text: str) -> None:
        self.document.problems.append((_mark(node.start_mark), loc, text))


def _tag(node: yaml.Node) -> str:
    return json.dumps(str(node.tag).replace(_TAG, "!!")[:60], ensure_ascii=False)
