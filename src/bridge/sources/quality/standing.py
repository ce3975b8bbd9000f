"""How many findings of a dataset stand, as its status tells."""

from __future__ import annotations

from bridge.model.finding import Level
from bridge.sources.quality.ledger import Ledger


def standing(ledger: Ledger) -> tuple[int, int, int]:
    """The number of findings of level info, warn and block that stand."""
    counts = ledger.counts
    return counts[Level.INFO], counts[Level.WARN], counts[Level.BLOCK]
