"""What an expression is before anybody knows its columns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Literal:
    """A value that is written out; None is null."""

    value: float | str | bool | None
    at: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """A column."""

    name: str
    at: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """An operator or a function with its operands; `word_at` is where its name or sign stands."""

    name: str
    args: tuple[Node, ...]
    at: int
    end: int
    word_at: int
    is_function: bool = False


Node = Literal | Name | Call
