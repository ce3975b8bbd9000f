"""From a tree to a typed one: every name is known, every operand is of a type that its function takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from bridge.model.schema import ColumnType, Schema
from bridge.sources.convert import converted
from bridge.sources.transform.expression.fault import MAX_SHOWN_CHARS, fail, listed, nearest, shown
from bridge.sources.transform.expression.functions import FUNCTIONS, OPERATORS
from bridge.sources.transform.expression.nodes import Call, Literal, Name, Node
from bridge.sources.transform.expression.signature import BOOLEAN, NUMBER, TEXT, TIME, Function

# Compiling one pattern may take 50 ms, which is more than all else that an expression costs before it runs.
MAX_PATTERNS = 16

WORDS = {
    ColumnType.NUMBER: "a number",
    ColumnType.STRING: "a text",
    ColumnType.JSON: "a text",
    ColumnType.BOOLEAN: "true or false",
    ColumnType.TIME: "a time",
}
_TYPES = {bool: ColumnType.BOOLEAN, float: ColumnType.NUMBER, str: ColumnType.STRING}
_ORDER = (ColumnType.NUMBER, ColumnType.STRING, ColumnType.BOOLEAN, ColumnType.TIME)


@dataclass(frozen=True, slots=True)
class Part:
    """One node of the typed tree.

    Shape: `type` is None where the value always is null; `value` is that of a literal, `name` that of a column;
           `operands` are the numbers of parts, with the type each is used as; `fixed` the written-out arguments.
    """

    type: ColumnType | None
    value: float | str | bool | datetime | None = None
    name: str | None = None
    function: Function | None = None
    operands: tuple[tuple[int, ColumnType], ...] = ()
    fixed: tuple[Any, ...] = ()


def check(text: str, nodes: Sequence[Node], schema: Schema) -> tuple[Part, ...]:
    """The typed parts, in the order of the nodes.

    Errors: ExpressionError for unknown names, types that do not fit, and written-out arguments that are not usable.
    """
    return _Checker(text, nodes, schema).parts(nodes)


class _Checker:
    def __init__(self, text: str, nodes: Sequence[Node], schema: Schema) -> None:
        self._text = text
        self._columns = {column.name: column.type for column in schema.columns}
        self._numbers = {id(node): number for number, node in enumerate(nodes)}
        self._patterns = 0

    def parts(self, nodes: Sequence[Node]) -> tuple[Part, ...]:
        parts: list[Part] = []
        for node in nodes:
            parts.append(self._part(node, parts))
        return tuple(parts)

    def _part(self, node: Node, parts: list[Part]) -> Part:
        if isinstance(node, Literal):
            return Part(None if node.value is None else _TYPES[type(node.value)], value=node.value)
        if isinstance(node, Name):
            return self._column(node)
        types = [parts[self._numbers[id(arg)]].type for arg in node.args]
        function = self._function(node, types)
        if function.name == "time" and isinstance(node.args[0], Literal) and isinstance(node.args[0].value, str):
            return _instant(node.args[0], node.args[0].value)
        return self._called(node, function, types)

    def _column(self, node: Name) -> Part:
        if node.name not in self._columns:
            known = nearest(node.name, self._columns)
            columns = f"the columns are {listed(self._columns)}"
            if node.name in FUNCTIONS:
                known = f"the function is written `{node.name}(…)`"
            elif not known and node.name.isidentifier():
                columns += f"; a text stands in quotes: '{node.name[:MAX_SHOWN_CHARS]}'"
            fail(f"there is no column {shown(node.name)}", node.at, f"{known}; {columns}" if known else columns)
        return Part(self._columns[node.name], name=node.name)

    def _function(self, node: Call, types: list[ColumnType | None]) -> Function:
        if not node.is_function:
            # The one that takes most of the operands: its complaint is the one that helps.
            return max(OPERATORS[node.name], key=lambda operator: _taken(operator, types))
        if node.name not in FUNCTIONS:
            near = nearest(node.name, FUNCTIONS)
            remedy = near or f"the functions are {', '.join(sorted(FUNCTIONS))}"
            fail(f"there is no function {shown(node.name)}", node.at, remedy)
        function = FUNCTIONS[node.name]
        count = len(node.args)
        if count < function.least or (function.most is not None and count > function.most):
            fail(f"`{function.name}` takes {_arity(function)}, here it has {count}", node.at)
        return function

    def _called(self, node: Call, function: Function, types: list[ColumnType | None]) -> Part:
        operands: list[int] = []
        fixed: list[Any] = []
        for number, arg in enumerate(node.args):
            self._must_fit(node, function, number, types[number])
            if (verify := function.param(number).fixed) is None:
                operands.append(number)
                continue
            fixed.append(verify(self._written(node, arg), arg.at))
        if function.misfit and (problem := function.misfit(*fixed)):
            fail(problem, node.args[-1].at)
        shared = self._shared(node, function, types)
        used = []
        for number in operands:
            param = function.param(number)
            wanted = shared if param.same else next(kind for kind in _ORDER if kind in param.types)
            used.append((self._numbers[id(node.args[number])], types[number] or wanted or ColumnType.STRING))
        return Part(function.gives or shared, function=function, operands=tuple(used), fixed=tuple(fixed))

    def _written(self, node: Call, arg: Node) -> Any:
        """The value of an argument that must be written out."""
        if not isinstance(arg, Literal) or arg.value is None:
            word = f"{self._shown(arg)} must be written out for `{node.name}`"
            fail(f"{word}: it is the same for all rows", arg.at, "put a text in quotes, or a number")
        if node.name in ("=~", "extract") and isinstance(arg.value, str):
            self._patterns += 1
            if self._patterns > MAX_PATTERNS:
                fail(f"the expression has more than {MAX_PATTERNS} patterns", arg.at, "join them with `|`")
        return arg.value

    def _must_fit(self, node: Call, function: Function, number: int, got: ColumnType | None) -> None:
        wanted = function.param(number).types
        if got is None:
            if node.name in ("=", "!=", "in", "<", "<=", ">", ">="):
                fail(f"nothing is ever `{node.name}` null", node.args[number].at, "write `is null` or `is not null`")
            return
        if got in wanted:
            return
        arg = node.args[number]
        if node.name == "+" and got in TEXT:
            fail("`+` does not join texts", node.word_at, "write `concat(a, b)`")
        sign = "unary `-`" if node.name == "negative" else f"`{node.name}`"
        message = f"{self._shown(arg)} is {WORDS[got]}, {sign} takes {_kinds(wanted)} here"
        fail(message, arg.at, _remedy(self._shown(arg), got, wanted))

    def _shared(self, node: Call, function: Function, types: list[ColumnType | None]) -> ColumnType | None:
        """The one type of all arguments that must have the same."""
        shared: ColumnType | None = None
        first: Node | None = None
        for number, (arg, got) in enumerate(zip(node.args, types, strict=True)):
            if not function.param(number).same or got is None:
                continue
            if first is None or got == shared:
                shared, first = got, first or arg
            elif {got, shared} <= TEXT:
                shared = ColumnType.STRING
            else:
                what = f"{self._shown(first)} is {WORDS[shared or got]}, but {self._shown(arg)} is {WORDS[got]}"
                remedy = _remedy(self._shown(arg), got, frozenset({shared or got}))
                fail(f"{what}: `{node.name}` takes values of one type", arg.at, remedy)
        return shared

    def _shown(self, node: Node) -> str:
        return shown(node.name if isinstance(node, Name) else self._text[node.at : node.end])


def _instant(arg: Literal, text: str) -> Part:
    """A time that is written out, read now, so that a wrong one is no null later."""
    time = converted(pl.Series([text]), ColumnType.TIME)[0][0]
    if time is None:
        fail(f"{shown(text)} is not a time", arg.at, "write it as '2026-01-31T12:00:00Z'")
    return Part(ColumnType.TIME, value=time)


def _taken(function: Function, types: list[ColumnType | None]) -> int:
    """How many of the operands, from the first on, the function takes."""
    for number, got in enumerate(types):
        if got is not None and got not in function.param(number).types:
            return number
    return len(types)


def _arity(function: Function) -> str:
    least, most = function.least, function.most
    if most is None:
        return f"{least} or more arguments"
    words = str(most) if least == most else f"{least} or {most}"
    return f"{words} argument{'s' * (most != 1)}"


def _kinds(types: frozenset[ColumnType]) -> str:
    return " or ".join(WORDS[kind] for kind in _ORDER if kind in types)


def _remedy(arg: str, got: ColumnType, wanted: frozenset[ColumnType]) -> str:
    inner = arg[1:-1]
    if "…" in inner:
        return ""
    if wanted & NUMBER and got is ColumnType.TIME:
        return f"write `epoch_s({inner})`"
    if wanted & TEXT:
        return f"write `text({inner})`"
    if wanted & NUMBER:
        return f"write `number({inner})`"
    if wanted & TIME and got is not ColumnType.BOOLEAN:
        return f"write `time({inner})`"
    if wanted == BOOLEAN and got is ColumnType.NUMBER:
        return f"compare it, for example `{inner} > 0`"
    return f"write `boolean({inner})`" if wanted == BOOLEAN and got in TEXT else ""
