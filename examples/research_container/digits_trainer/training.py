"""One training run. Imported in the worker process only, since scikit-learn takes a second to load."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from digits_trainer.grid import Job, Params
from digits_trainer.outcome import CurvePoint, Outcome

CLASSES = tuple(range(10))
VALIDATION_RATIO = 0.3
SVM_RATIOS = (0.1, 0.2, 0.4, 0.7, 1.0)
FOREST_STEPS = 8
MLP_EPOCHS = 20
# A last epoch that still lowers the loss by more than this has not converged.
CONVERGED_RATIO = 0.01


@dataclass(frozen=True, slots=True)
class Split:
    """Training and validation part; the pixels lie between 0 and 1."""

    train_x: Any
    validation_x: Any
    train_y: Any
    validation_y: Any


@dataclass(frozen=True, slots=True)
class Step:
    """A fitted model on the way: after how much of what, and how many samples it was fitted on."""

    amount: int
    model: Any
    samples: int


@cache
def _digits() -> tuple[Any, Any]:
    pixels, labels = load_digits(return_X_y=True)
    return pixels / 16.0, labels


def _split(seed: int) -> Split:
    pixels, labels = _digits()
    return Split(*train_test_split(pixels, labels, test_size=VALIDATION_RATIO, random_state=seed, stratify=labels))


def _svm(params: Params, seed: int, data: Split) -> Iterator[Step]:
    for ratio in SVM_RATIOS:
        samples = round(len(data.train_y) * ratio)
        model = SVC(C=params["C"], gamma=params["gamma"], random_state=seed)
        yield Step(samples, model.fit(data.train_x[:samples], data.train_y[:samples]), samples)


def _forest(params: Params, seed: int, data: Split) -> Iterator[Step]:
    trees = int(params["n_estimators"] or 1)
    model = RandomForestClassifier(max_depth=params["max_depth"], warm_start=True, random_state=seed, n_jobs=1)
    for grown in sorted({max(1, trees * step // FOREST_STEPS) for step in range(1, FOREST_STEPS + 1)}):
        model.set_params(n_estimators=grown)
        yield Step(grown, model.fit(data.train_x, data.train_y), len(data.train_y))


def _mlp(params: Params, seed: int, data: Split) -> Iterator[Step]:
    model = MLPClassifier(
        (params["hidden"],), learning_rate_init=params["learning_rate"], batch_size=64, random_state=seed
    )
    for epoch in range(1, MLP_EPOCHS + 1):
        model.partial_fit(data.train_x, data.train_y, classes=CLASSES)
        yield Step(epoch, model, len(data.train_y))


Fit = Callable[[Params, int, Split], Iterator[Step]]
FAMILIES: Mapping[str, tuple[Fit, str]] = {
    "svm": (_svm, "samples"),
    "forest": (_forest, "trees"),
    "mlp": (_mlp, "epochs"),
}


def train(job: Job) -> Outcome:
    """Train and judge one model.

    Units: accuracies and f1 are ratios between 0 and 1.
    """
    fit, unit = FAMILIES[job.point.model]
    started_at, started_s = datetime.now(UTC), time.monotonic()
    # One thread: sums are added in the same order everywhere, so a re-run gives the same accuracy to the last digit.
    with threadpool_limits(1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = _split(job.seed)
        curve: list[CurvePoint] = []
        for step in fit(job.point.params, job.seed, data):
            curve.append(_judge(step, unit, len(curve) + 1, data))
        guesses = step.model.predict(data.validation_x)
    counts = confusion_matrix(data.validation_y, guesses, labels=CLASSES)
    return Outcome(
        started_at=started_at,
        ended_at=datetime.now(UTC),
        duration_s=time.monotonic() - started_s,
        accuracy=float(accuracy_score(data.validation_y, guesses)),
        f1_macro=float(f1_score(data.validation_y, guesses, average="macro", zero_division=0)),
        train_size=len(data.train_y),
        curve=tuple(curve),
        confusion=tuple(tuple(int(number) for number in row) for row in counts),
        warnings=(*dict.fromkeys(str(item.message) for item in caught), *_unconverged(unit, curve)),
    )


def _judge(step: Step, unit: str, epoch: int, data: Split) -> CurvePoint:
    seen_x, seen_y = data.train_x[: step.samples], data.train_y[: step.samples]
    loss = None
    if hasattr(step.model, "predict_proba"):
        loss = float(log_loss(data.validation_y, step.model.predict_proba(data.validation_x), labels=CLASSES))
    return CurvePoint(
        time=datetime.now(UTC),
        epoch=epoch,
        amount=step.amount,
        amount_unit=unit,
        train_accuracy=float(step.model.score(seen_x, seen_y)),
        validation_accuracy=float(step.model.score(data.validation_x, data.validation_y)),
        loss=loss,
    )


def _unconverged(unit: str, curve: list[CurvePoint]) -> Iterator[str]:
    if unit != "epochs":
        return
    before, after = curve[-2].loss, curve[-1].loss
    if before and after is not None and (fell := 1 - after / before) > CONVERGED_RATIO:
        yield f"not converged after {len(curve)} epochs: the last one still lowered the loss by {fell:.1%}"
