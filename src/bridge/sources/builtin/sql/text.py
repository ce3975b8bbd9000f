"""A query's text, cut at its placeholders; what could leave its brackets is refused."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from bridge.sources.builtin.sql.place import System

_BEGINS = ("SELECT", "WITH", "VALUES", "FROM")
_WRITES = ("INSERT", "UPDATE", "DELETE", "MERGE")
_NULL_TESTS = ("IS", "ISNULL", "NOTNULL")
# Only what every system takes for a space; to some, others belong to a name.
_COMMON = (
    ("space", r"[ \t\n\r\f\v]+"),
    ("block", r"/\*"),
)
_NAMES = (
    ("string", r"'(?:[^']|'')*'"),
    ("quoted", r'"(?:[^"]|"")*"'),
    ("word", r"[^\W\d][\w$]*"),
    ("number", r"[0-9][\w.]*"),
    ("cast", r"::"),
    ("hole", r":[A-Za-z_][A-Za-z0-9_]*"),
    ("other", r"."),
)
_SQLITE = (("line", r"--[^\n]*"), ("ticks", r"`(?:[^`]|``)*`"), ("brackets", r"\[[^\]]*\]"))
_POSTGRES = (
    ("line", r"--[^\n\r]*"),
    ("escapes", r"[eE]'(?:[^'\\]|\\.|'')*'"),
    ("dollars", r"\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$"),
    ("own", r"\$\w+"),
)


def _pattern(*parts: tuple[str, str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in parts), re.S)


_PATTERNS = {
    System.SQLITE: _pattern(*_COMMON, *_SQLITE, *_NAMES),
    System.DUCKDB: _pattern(*_COMMON, *_POSTGRES, *_NAMES),
    System.POSTGRES: _pattern(*_COMMON, *_POSTGRES, *_NAMES),
}
# What begins a placeholder of the system's own; SQLite's may go on in brackets.
_OWN = {System.SQLITE: ("$", "@", "#"), System.DUCKDB: ("$",), System.POSTGRES: ("$",)}
_QUOTES = ("'", '"', "$")
_COMMENT_ENDS = re.compile(r"/\*|\*/")


@dataclass(frozen=True, slots=True)
class Hole:
    """A placeholder; `tested` says that it is compared with NULL right after, which gives it no type."""

    name: str
    tested: bool = False


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


def cut(text: str, system: System) -> tuple[str | Hole, ...]:
    """The query in pieces: literal text and placeholders, without a closing semicolon.

    Errors: ValueError naming what is wrong: several statements, one that does not read, something not closed.
    """
    tokens = list(_tokens(text, system))
    while tokens and (tokens[-1].kind == "space" or tokens[-1].text == ";"):
        tokens.pop()
    plain = [token for token in tokens if token.kind not in ("space", "comment")]
    _check(plain)
    after = {id(token): following for token, following in itertools.pairwise(plain)}
    pieces: list[str | Hole] = []
    for token in tokens:
        if token.kind == "hole":
            following = after.get(id(token))
            tested = following is not None and following.text.upper() in _NULL_TESTS
            pieces.append(Hole(token.text[1:], tested))
        elif pieces and isinstance(pieces[-1], str):
            pieces[-1] += token.text
        else:
            pieces.append(token.text)
    return tuple(pieces)


def _check(plain: list[_Token]) -> None:
    words = [token.text.upper() if token.kind in ("word", "other") else "" for token in plain]
    if next((word for word in words if word != "("), "") not in _BEGINS:
        raise ValueError("a query begins with SELECT or WITH: only reading is possible")
    if ";" in words:
        raise ValueError("a query is one statement; a `;` may only stand at its end")
    for token, after in itertools.pairwise(plain):
        # PostgreSQL goes on reading backslashes there.
        if token.kind == "escapes" and after.kind == "string":
            raise ValueError("a text with escapes is followed by another one, write them as one")
    depth = 0
    for word, following in zip(words, [*words[1:], ""], strict=True):
        depth += (word == "(") - (word == ")")
        if depth < 0:
            raise ValueError("a `)` closes nothing")
        if word == "(" and following in _WRITES:
            raise ValueError(f"the query holds {following}: only reading is possible")
    if depth:
        raise ValueError("a `(` is not closed")


def _tokens(text: str, system: System) -> Iterator[_Token]:
    if "\0" in text:
        raise ValueError("the query holds a NUL character")
    at = 0
    while at < len(text):
        found = _PATTERNS[system].match(text, at)
        # The last pattern matches any character.
        assert found is not None  # noqa: S101
        kind, piece = str(found.lastgroup), found[0]
        if kind == "block":
            end = _comment_end(text, at, nested=system is not System.SQLITE)
            yield _Token("comment", text[at:end])
            at = end
            continue
        if piece in ("'", '"') or (system is System.SQLITE and piece in ("`", "[")):
            raise ValueError(f"a {piece} is not closed")
        if kind == "own" or (kind == "other" and piece in _OWN[system]):
            raise ValueError(f"{piece} is no placeholder here, write :name")
        _check_alone(kind, piece, text[found.end() : found.end() + 1])
        yield _Token("comment" if kind == "line" else kind, piece)
        at = found.end()


def _check_alone(kind: str, piece: str, after: str) -> None:
    """Systems and their versions differ in where such a piece ends, and so in what is text and what is not."""
    if kind == "other" and not (piece.isascii() and piece.isprintable()):
        raise ValueError(f"the character U+{ord(piece):04X} stands outside of a text, put the name in double quotes")
    if piece == "`":
        raise ValueError("a ` is read otherwise by other versions, put the name in double quotes")
    if (kind == "number" and after in _QUOTES) or (kind == "hole" and after in (*_QUOTES, "(")):
        raise ValueError(f"a space is missing between {piece} and {after}")


def _comment_end(text: str, at: int, *, nested: bool) -> int:
    depth = 0
    while found := _COMMENT_ENDS.search(text, at):
        at = found.end()
        if found[0] == "*/":
            depth -= 1
            if depth == 0:
                return at
        elif nested or depth == 0:
            depth += 1
    raise ValueError("a comment is not closed")
