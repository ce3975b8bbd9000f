"""Every function and operator of the language by its name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from bridge.sources.transform.expression import numbers, texts, times
from bridge.sources.transform.expression.signature import Function

FUNCTIONS: Mapping[str, Function] = MappingProxyType(
    {
        function.name: function
        for function in (*numbers.NUMBERS, *numbers.GENERAL, *texts.TEXTS, *times.TIMES, *times.CONVERSIONS)
    }
)


def _operators() -> dict[str, tuple[Function, ...]]:
    found: dict[str, tuple[Function, ...]] = {}
    for operator in (*numbers.OPERATORS, *times.OPERATORS, texts.MATCH):
        found[operator.name] = (*found.get(operator.name, ()), operator)
    return found


# One sign may stand for several: the types of its operands decide.
OPERATORS: Mapping[str, tuple[Function, ...]] = MappingProxyType(_operators())
