"""What Prometheus may read."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from digits_trainer.grid import MODELS
from digits_trainer.outcome import Outcome

SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    """The container's own numbers; every model has its series from the start."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.runs = Counter("digits_runs_total", "Runs that gave a result.", ["model"], registry=self.registry)
        self.failed = Counter("digits_runs_failed_total", "Runs that gave none.", ["model"], registry=self.registry)
        self.seconds = Histogram(
            "digits_train_seconds", "Time of one run.", ["model"], buckets=SECONDS, registry=self.registry
        )
        self.accuracy = Gauge(
            "digits_last_accuracy", "Validation accuracy of the newest run.", ["model"], registry=self.registry
        )
        self.in_progress = Gauge("digits_in_progress", "Runs being trained now.", registry=self.registry)
        for model in MODELS:
            self.runs.labels(model)
            self.failed.labels(model)
            self.seconds.labels(model)

    def finished(self, model: str, outcome: Outcome) -> None:
        """Count a run that gave a result."""
        self.runs.labels(model).inc()
        self.seconds.labels(model).observe(outcome.duration_s)
        self.accuracy.labels(model).set(outcome.accuracy)

    def text(self) -> bytes:
        """All of it as Prometheus text."""
        return generate_latest(self.registry)
