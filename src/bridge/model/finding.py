"""What a check says of a frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How much a finding matters: told, shown as a warning, or enough to keep the frame from its consumers."""

    INFO = "info"
    WARN = "warn"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a check found.

    Shape: `value` is what was measured, such as the share of nulls, where there is a number to follow.
    """

    check: str
    level: Level
    text: str
    column: str | None = None
    rows: int = 0
    value: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """All findings of one frame."""

    findings: tuple[Finding, ...] = ()

    @property
    def blocked(self) -> bool:
        """Whether the frame must not reach a consumer."""
        return any(finding.level is Level.BLOCK for finding in self.findings)

    @property
    def blockers(self) -> tuple[Finding, ...]:
        """The findings that block."""
        return tuple(finding for finding in self.findings if finding.level is Level.BLOCK)
