"""The expression language of transform steps: bounded, typed, and computed by Polars row by row."""

from bridge.sources.transform.expression.compiled import Compiled, compile_condition, compile_expression
from bridge.sources.transform.expression.fault import ExpressionError

__all__ = ["Compiled", "ExpressionError", "compile_condition", "compile_expression"]
