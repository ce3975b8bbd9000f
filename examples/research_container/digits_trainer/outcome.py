"""What a training run gives. Apart from `training`, so that it can be read without loading scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One point of a learning curve; `loss` is the validation log loss of models that give probabilities."""

    time: datetime
    epoch: int
    amount: int
    amount_unit: str
    train_accuracy: float
    validation_accuracy: float
    loss: float | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run gave. All but the times follows from the job."""

    started_at: datetime
    ended_at: datetime
    duration_s: float
    accuracy: float
    f1_macro: float
    train_size: int
    curve: tuple[CurvePoint, ...]
    confusion: tuple[tuple[int, ...], ...]
    warnings: tuple[str, ...]
