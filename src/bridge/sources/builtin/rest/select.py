"""JMESPath over rows, with a shorter way for plain paths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jmespath
from jmespath.exceptions import JMESPathError

from bridge.errors import UpstreamInvalid

# Nodes whose first child alone is evaluated on the row itself; the others see what it gave.
_LEFT_FIRST = frozenset(
    (
        "subexpression",
        "index_expression",
        "pipe",
        "projection",
        "value_projection",
        "filter_projection",
        "flatten",
    )
)
_MISSING: Any = object()


@dataclass(frozen=True, slots=True)
class Selector:
    """One compiled expression.

    Shape: `steps` are keys and indices when the expression is a plain path, else None; `roots` are the keys of the
           row that it begins with.
    """

    text: str
    steps: tuple[str | int, ...] | None
    roots: frozenset[str]
    compiled: Any = None

    def of(self, value: Any) -> Any:
        """The selected value, None when there is none.

        Errors: UpstreamInvalid when a function of the expression does not take what it was given.
        """
        if self.steps is None:
            try:
                return self.compiled.search(value)
            except JMESPathError as error:
                raise UpstreamInvalid(
                    f"the expression `{self.text}` does not fit the answer: {str(error)[:200]}",
                    remedy="compare the expression with what the far API answers",
                ) from error
        found = _walk(value, self.steps)
        return None if found is _MISSING else found

    def column(self, rows: Sequence[Any]) -> tuple[list[Any], bool]:
        """Values of all rows, and whether any row had the place they come from."""
        if self.steps is None:
            return [self.of(row) for row in rows], not self.roots or any(
                isinstance(row, dict) and not self.roots.isdisjoint(row) for row in rows
            )
        if len(self.steps) == 1 and isinstance(self.steps[0], str):
            key = self.steps[0]
            found = [row.get(key, _MISSING) if isinstance(row, dict) else _MISSING for row in rows]
        else:
            found = [_walk(row, self.steps) for row in rows]
        seen = any(value is not _MISSING for value in found)
        return [None if value is _MISSING else value for value in found], seen


def _walk(value: Any, steps: tuple[str | int, ...]) -> Any:
    """The value at the end of a plain path; a null on the way is a null, a missing key is missing."""
    for step in steps:
        if value is None:
            return None
        if isinstance(step, str):
            value = value.get(step, _MISSING) if isinstance(value, dict) else _MISSING
        else:
            fits = isinstance(value, list) and -len(value) <= step < len(value)
            value = value[step] if fits else _MISSING
        if value is _MISSING:
            return _MISSING
    return value


def check_expression(text: str) -> str:
    """The text itself when it is a JMESPath expression.

    Errors: ValueError naming it and what is wrong.
    """
    compile_selector(text)
    return text


def compile_selector(text: str) -> Selector:
    """A selector from JMESPath.

    Errors: ValueError naming the expression and what is wrong.
    """
    try:
        compiled = jmespath.compile(text)
        tree = cast(dict[str, Any], compiled.parsed)
        return Selector(text, _steps(tree), _roots(tree), compiled)
    except JMESPathError as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise ValueError(f"{text[:200]!r} is no JMESPath expression: {reason}") from error
    except RecursionError as error:
        raise ValueError(f"the JMESPath expression {text[:80]!r} is nested too deeply") from error


def key_selector(name: str) -> Selector:
    """A selector of one key, spelled literally."""
    return Selector(name, (name,), frozenset((name,)))


def _steps(node: dict[str, Any]) -> tuple[str | int, ...] | None:
    kind = node["type"]
    if kind in ("field", "index"):
        return (node["value"],)
    if kind in ("identity", "current"):
        return ()
    if kind not in ("subexpression", "index_expression"):
        return None
    steps: tuple[str | int, ...] = ()
    for child in node["children"]:
        more = _steps(child)
        if more is None:
            return None
        steps += more
    return steps


def _roots(node: dict[str, Any]) -> frozenset[str]:
    if node["type"] == "field":
        return frozenset((node["value"],))
    if node["type"] == "expref":
        return frozenset()
    children = [child for child in node["children"] if isinstance(child, dict)]
    if node["type"] in _LEFT_FIRST:
        children = children[:1]
    return frozenset().union(*map(_roots, children))


def keys_seen(rows: Iterable[Any], *, most: int = 20) -> str:
    """The keys of the rows in words, for the sentence that says a column is gone."""
    keys: dict[str, None] = {}
    kinds: dict[str, None] = {}
    for row in rows:
        if isinstance(row, dict):
            keys.update(dict.fromkeys(row))
        else:
            kinds[type(row).__name__] = None
        if len(keys) > most:
            break
    if not keys:
        return f"the rows are no objects but {', '.join(kinds)}" if kinds else "there are no keys"
    shown = [key[:40] for key in list(keys)[:most]]
    return f"the keys are {', '.join(shown)}{', …' if len(keys) > most else ''}"
