"""What the checks found of one dataset, remembered from one judgement to the next."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from bridge.edge.meters import CheckStatus
from bridge.model.finding import Finding, Level
from bridge.sources.quality.bound import Key
from bridge.sources.quality.judge import Judged

MAX_RECENT = 200


@dataclass(frozen=True, slots=True)
class Noted:
    """A finding, since when and how often it was found; `ended_at` is None while it stands."""

    finding: Finding
    first_seen: datetime
    last_seen: datetime
    times: int = 1
    ended_at: datetime | None = None


class Ledger:
    """The findings of one dataset: those that stand, and those that stood until a while ago.

    A judgement that could not say anything of a check leaves its finding and its number as they were.
    """

    def __init__(self) -> None:
        self._active: dict[Key, Noted] = {}
        self._gone: deque[Noted] = deque(maxlen=MAX_RECENT)
        self._values: dict[Key, float] = {}
        self._blocks = 0

    def note(self, judged: Judged, at: datetime) -> None:
        """Notes what was found at that time; the clock may have been set back since."""
        found = {(finding.check, finding.column or ""): finding for finding in judged.findings}
        for key in [key for key in self._active if key in judged.made and key not in found]:
            noted = self._active.pop(key)
            self._gone.appendleft(replace(noted, ended_at=max(at, noted.last_seen)))
        for key, finding in found.items():
            self._active[key] = _again(self._active.get(key), finding, at)
        self._values = {key: value for key, value in self._values.items() if key not in judged.made}
        self._values.update(judged.values)
        if judged.blocked:
            self._blocks += 1
        elif not self.counts[Level.BLOCK]:
            self._blocks = 0

    @property
    def active(self) -> tuple[Noted, ...]:
        """The findings that stand, in the order in which they came up."""
        return tuple(self._active.values())

    @property
    def recent(self) -> tuple[Noted, ...]:
        """The newest findings, newest first, those that are gone among them."""
        return tuple(self.remembered()[:MAX_RECENT])

    def remembered(self) -> list[Noted]:
        """All findings that stand, and those that are gone as far as they are kept, newest first."""
        return sorted((*self._active.values(), *self._gone), key=lambda noted: noted.last_seen, reverse=True)

    @property
    def counts(self) -> Mapping[Level, int]:
        """How many findings stand, by level."""
        found = Counter(noted.finding.level for noted in self._active.values())
        return {level: found[level] for level in Level}

    @property
    def blocks_in_a_row(self) -> int:
        """How many judgements in a row kept their frame back."""
        return self._blocks

    @property
    def values(self) -> Mapping[Key, float]:
        """The newest number of each check and column."""
        return self._values


def _again(before: Noted | None, finding: Finding, at: datetime) -> Noted:
    if before is None:
        return Noted(finding, at, at)
    return replace(before, finding=finding, last_seen=max(at, before.last_seen), times=before.times + 1)


def rows(dataset: str, ledger: Ledger) -> list[dict[str, Any]]:
    """A row per finding of the dataset, newest first: all that stand, and those that are remembered."""
    return [
        {
            "time": noted.last_seen,
            "dataset": dataset,
            "source": dataset.rpartition(".")[0],
            "check": noted.finding.check,
            "column": noted.finding.column,
            "level": noted.finding.level.value,
            "text": noted.finding.text,
            "rows": noted.finding.rows,
            "value": noted.finding.value,
            "first_seen": noted.first_seen,
            "times": noted.times,
            "active": noted.ended_at is None,
        }
        for noted in ledger.remembered()
    ]


def check_status(dataset: str, ledger: Ledger) -> CheckStatus:
    """What the metrics tell of the dataset's checks."""
    active = Counter((noted.finding.check, noted.finding.level.value) for noted in ledger.active)
    return CheckStatus(dataset, active, ledger.values)
