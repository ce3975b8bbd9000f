"""From the text of an expression to its words."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Never

from bridge.sources.transform.expression.fault import fail, shown

MAX_CHARS = 2_048
KEYWORDS = frozenset({"and", "or", "not", "in", "is", "null", "true", "false"})

# Lone surrogates are no text, and other control characters are invisible where the expression is read.
_REFUSED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_WORD = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    |(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?![A-Za-z0-9_.])
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<text>'(?:[^'\\]|\\.|'')*+'|"(?:[^"\\]|\\.|"")*+")
    |(?P<column>`(?:[^`]|``)++`)
    |(?P<operator>=~|!~|!=|<>|<=|>=|==|[-+*/%^()=<>,])""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)|''|\"\"", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'", '"': '"'}
_REMEDIES = {
    "'": "a text ends with the quote it begins with",
    '"': "a text ends with the quote it begins with",
    "`": "a column name in backticks ends with a backtick and is not empty",
    "&": "write `and`",
    "|": "write `or`",
    "!": "write `not`, or `!=`",
    ".": "put a column name with dots in backticks",
}


class Kind(StrEnum):
    """What a word is."""

    NUMBER = "number"
    TEXT = "text"
    NAME = "name"
    COLUMN = "column"
    OPERATOR = "operator"
    KEYWORD = "keyword"
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    """One word: its kind, its value (keywords in lower case), and where it stands."""

    kind: Kind
    value: str | float
    at: int
    end: int


def tokens(text: str) -> list[Token]:
    """The words of an expression, with one of kind `end` behind the last.

    Errors: ExpressionError for a text that is too long, and at the first place that is no word.
    """
    if len(text) > MAX_CHARS:
        fail(f"the expression has {len(text)} characters, at most {MAX_CHARS} are read", MAX_CHARS)
    if bad := _REFUSED.search(text):
        code = f"U+{ord(bad.group()):04X}"
        fail(
            f"the character {code} may not stand here",
            bad.start(),
            "write it as an escape in a text, such as '\\u0007'",
        )
    out: list[Token] = []
    at = 0
    while at < len(text):
        found = _WORD.match(text, at)
        if found is None:
            _no_word(text, at)
        if found.lastgroup != "space":
            out.append(_token(found.lastgroup or "", found.group(), at))
        at = found.end()
    out.append(Token(Kind.END, "", at, at))
    return out


def _token(group: str, word: str, at: int) -> Token:
    kind, value = Kind(group), word
    if kind is Kind.NUMBER:
        number = float(word)
        if math.isinf(number):
            fail(f"the number {shown(word)} is too large", at, "numbers reach to 1.8e308")
        return Token(kind, number, at, at + len(word))
    if kind is Kind.NAME and word.lower() in KEYWORDS:
        kind, value = Kind.KEYWORD, word.lower()
    elif kind is Kind.TEXT:
        value = _unescaped(word, at)
    elif kind is Kind.COLUMN:
        value = word[1:-1].replace("``", "`")
    return Token(kind, value, at, at + len(word))


def _unescaped(word: str, at: int) -> str:
    """The text between the quotes; a backslash before anything else stays, so that '\\d+' is what it looks like."""

    def one(match: re.Match[str]) -> str:
        code = match[1]
        if code is None:
            return match[0][0] if match[0][0] == word[0] else match[0]
        if code[0] != "u":
            return _ESCAPES.get(code, match[0])
        if len(code) == 1 or 0xD800 <= int(code[1:], 16) <= 0xDFFF:
            fail(f"{shown(match[0])} is no character", at + 1 + match.start(), "write `\\u` and four hex digits")
        return chr(int(code[1:], 16))

    return _ESCAPE.sub(one, word[1:-1])


def _no_word(text: str, at: int) -> Never:
    char = text[at]
    if char.isdigit() and char.isascii():
        word = re.compile(r"[A-Za-z0-9_.]+").match(text, at)
        fail(f"{shown(word.group() if word else char)} is no number", at, "put a column name like it in backticks")
    if char in "'\"`":
        fail(f"{shown(text[at:])} has no end", at, _REMEDIES[char])
    name = shown(char) if char.isascii() else f"{shown(char)} (U+{ord(char):04X})"
    fail(f"{name} is not part of the language", at, _REMEDIES.get(char, "put column names like it in backticks"))
