"""The one error of the expression language: where in the text, what is wrong, and what helps."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Never

MAX_SHOWN_CHARS = 60
MAX_SHOWN_NAMES = 20
# Near misses are looked for among so many names: a wide table would make a typing error cost seconds.
_MAX_COMPARED = 2_000


class ExpressionError(ValueError):
    """An expression that cannot be used: `message` says why, `remedy` what helps, `at` where in the text it is.

    Units: `at` counts characters from 0; the sentence counts from 1, as editors do.
    """

    def __init__(self, message: str, *, at: int, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.at = at

    def __str__(self) -> str:
        sentence = f"at character {self.at + 1}: {self.message}"
        return f"{sentence} ({self.remedy})" if self.remedy else sentence


def fail(message: str, at: int, remedy: str = "") -> Never:
    """Refuses the expression.

    Errors: ExpressionError.
    """
    raise ExpressionError(message, at=at, remedy=remedy)


def shown(text: str) -> str:
    """A piece of the expression, or of what it speaks of, as it may stand in a sentence."""
    short = text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"
    return f"`{''.join(char if char.isprintable() else f'<U+{ord(char):04X}>' for char in short)}`"


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that was probably meant, as the beginning of a remedy; empty when none is near."""
    by_lower = {item[:MAX_SHOWN_CHARS].lower(): item for item in list(known)[:_MAX_COMPARED]}
    found = get_close_matches(name[:MAX_SHOWN_CHARS].lower(), by_lower, n=1)
    return f"did you mean {shown(by_lower[found[0]])}?" if found else ""


def listed(names: Iterable[str]) -> str:
    """Names as they may stand in a sentence: the first of them, and how many more there are."""
    known = list(names)
    more = f" and {len(known) - MAX_SHOWN_NAMES} more" if len(known) > MAX_SHOWN_NAMES else ""
    return ", ".join(map(shown, known[:MAX_SHOWN_NAMES])) + more if known else "none"
