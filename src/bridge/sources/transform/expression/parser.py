"""From words to a tree: a Pratt parser whose every way down is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Never

from bridge.sources.transform.expression.fault import fail, shown
from bridge.sources.transform.expression.lexer import Kind, Token, tokens
from bridge.sources.transform.expression.nodes import Call, Literal, Name, Node

MAX_NODES = 256
MAX_NESTING = 32
MAX_ARGS = 64

_OR, _AND, _NOT, _COMPARE, _ADD, _MULTIPLY, _POWER = range(1, 8)
_BINARY = {
    "or": _OR,
    "and": _AND,
    **dict.fromkeys(("=", "==", "!=", "<>", "<", "<=", ">", ">=", "=~", "!~", "in", "is", "not"), _COMPARE),
    **dict.fromkeys("+-", _ADD),
    **dict.fromkeys("*/%", _MULTIPLY),
    "^": _POWER,
}
_SPELLINGS = {"==": "=", "<>": "!="}
_LITERALS = {"true": True, "false": False, "null": None}


def parse(text: str) -> tuple[Node, ...]:
    """The nodes of the tree, every one after its operands: the last is the root.

    Errors: ExpressionError for what is not an expression, and for one over the bounds.
    """
    return _Parser(text).whole()


_ELSEWHERE = {
    "like": "patterns are written `model =~ 's.*'`",
    "between": "write `x >= 1 and x <= 2`",
    "=>": "write `>=`",
    "=<": "write `<=`",
    "then": "write `if(condition, yes, no)`",
}


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._next = 0
        self._nesting = 0
        self._made: list[Node] = []

    def whole(self) -> tuple[Node, ...]:
        if len(self._tokens) == 1:
            fail("the expression is empty", 0)
        self._expression(_OR)
        if self._next < len(self._tokens) - 1:
            self._unexpected(self._peek)
        return tuple(self._made)

    @property
    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._tokens[self._next]
        self._next += 1
        return token

    def _is(self, word: str, ahead: int = 0) -> bool:
        token = self._tokens[min(self._next + ahead, len(self._tokens) - 1)]
        return token.kind in (Kind.OPERATOR, Kind.KEYWORD) and token.value == word

    def _expect(self, word: str, why: str) -> Token:
        if not self._is(word):
            self._unexpected(self._peek, f"`{word}` {why}")
        return self._take()

    def _unexpected(self, token: Token, wanted: str = "") -> Never:
        remedy = f"there should be {wanted}" if wanted else ""
        if token.kind is Kind.END:
            fail("the expression ends too early", token.at, remedy or "a value is missing")
        said = self._text[token.at : token.end]
        # What other languages write in its place.
        before = self._text[: token.at].rstrip()[-1:]
        remedy = _ELSEWHERE.get(f"{before}{said}") or _ELSEWHERE.get(said.lower()) or remedy
        fail(f"{shown(said)} is not expected here", token.at, remedy)

    def _add(self, node: Node) -> Node:
        if len(self._made) >= MAX_NODES:
            fail(f"the expression has more than {MAX_NODES} parts", node.at, "split it over several steps")
        self._made.append(node)
        return node

    def _deeper(self, at: int, read: Callable[[], Node]) -> Node:
        """One level down; the bound keeps the parser and everything behind it far from the end of its stack."""
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            fail(f"the expression is nested more than {MAX_NESTING} levels deep", at, "split it over several steps")
        node = read()
        self._nesting -= 1
        return node

    def _expression(self, level: int) -> Node:
        left = self._operand()
        while (mine := self._level()) >= level:
            left = self._infix(left, self._take(), mine)
            if mine == _COMPARE and self._level() == _COMPARE:
                fail(
                    "comparisons cannot be chained", self._peek.at, "join them with `and`, such as `a < b and b < c`"
                )
        return left

    def _level(self) -> int:
        token = self._peek
        if token.kind not in (Kind.OPERATOR, Kind.KEYWORD):
            return 0
        return _BINARY.get(str(token.value), 0)

    def _infix(self, left: Node, token: Token, level: int) -> Node:
        word = str(token.value)
        if word == "is":
            return self._is_null(left, token)
        if word == "not":
            self._expect("in", "after `not`")
            return self._negated(self._membership(left, token), token)
        if word == "in":
            return self._membership(left, token)
        if word == "^":
            right = self._deeper(token.at, lambda: self._expression(_POWER))
        else:
            right = self._expression(level + 1)
        if word == "!~":
            return self._negated(self._call("=~", (left, right), token), token)
        return self._call(_SPELLINGS.get(word, word), (left, right), token)

    def _call(self, name: str, args: tuple[Node, ...], token: Token) -> Node:
        at = min(token.at, args[0].at)
        return self._add(Call(name, args, at, max(args[-1].end, self._tokens[self._next - 1].end), token.at))

    def _negated(self, node: Node, token: Token) -> Node:
        return self._call("not", (node,), token)

    def _is_null(self, left: Node, token: Token) -> Node:
        negated = self._is("not")
        if negated:
            self._take()
        self._expect("null", "after `is`")
        node = self._call("is null", (left,), token)
        return self._negated(node, token) if negated else node

    def _membership(self, left: Node, token: Token) -> Node:
        self._expect("(", "after `in`")
        items = self._arguments(token)
        if not items:
            fail("`in` needs at least one value", token.at, "write `model in ('svm', 'forest')`")
        return self._call("in", (left, *items), token)

    def _operand(self) -> Node:
        token = self._take()
        if token.kind in (Kind.NUMBER, Kind.TEXT):
            return self._add(Literal(token.value, token.at, token.end))
        if token.kind is Kind.KEYWORD and token.value in _LITERALS:
            return self._add(Literal(_LITERALS[str(token.value)], token.at, token.end))
        if token.kind is Kind.NAME and self._is("("):
            self._take()
            return self._function(token)
        if token.kind in (Kind.NAME, Kind.COLUMN):
            return self._add(Name(str(token.value), token.at, token.end))
        return self._prefix(token)

    def _prefix(self, token: Token) -> Node:
        if token.kind is Kind.KEYWORD and token.value == "not":
            return self._negated(self._deeper(token.at, lambda: self._expression(_COMPARE)), token)
        if token.kind is Kind.OPERATOR and token.value == "(":
            node = self._deeper(token.at, lambda: self._expression(_OR))
            self._expect(")", f"for the `(` at character {token.at + 1}")
            return node
        if token.kind is not Kind.OPERATOR or token.value != "-":
            self._unexpected(token, "a value, a column or a function")
        # Below `^`, as in mathematics: -2^2 is -4.
        node = self._deeper(token.at, lambda: self._expression(_POWER))
        if isinstance(node, Literal) and isinstance(node.value, float):
            self._made.pop()
            return self._add(Literal(-node.value, token.at, node.end))
        return self._call("negative", (node,), token)

    def _function(self, token: Token) -> Node:
        args = self._arguments(token)
        end = self._tokens[self._next - 1].end
        return self._add(Call(str(token.value), tuple(args), token.at, end, token.at, is_function=True))

    def _arguments(self, token: Token) -> list[Node]:
        """Everything up to the closing bracket."""
        args: list[Node] = []
        while not self._is(")"):
            if args:
                self._expect(",", "or `)`")
            if len(args) >= MAX_ARGS:
                fail(f"{shown(str(token.value))} has more than {MAX_ARGS} arguments", self._peek.at)
            args.append(self._deeper(self._peek.at, lambda: self._expression(_OR)))
        self._take()
        return args
