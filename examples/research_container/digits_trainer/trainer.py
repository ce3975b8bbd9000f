"""The background work: one run after the other, for as long as the container lives."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from itertools import islice

from digits_trainer.grid import Job, jobs
from digits_trainer.metrics import Metrics
from digits_trainer.store import Store
from digits_trainer.worker import RunFailed, Worker

# A process that dies at once (out of memory) must not be started in a tight circle.
RESTART_PAUSE_S = 1.0


async def train_on(grid: str, store: Store, metrics: Metrics, *, pause_s: float, stop_after: int | None) -> None:
    """Train the grid once without pause, then again with further seeds, `pause_s` apart."""
    worker = Worker()
    try:
        for job in islice(jobs(grid), stop_after):
            if job.seed > 0:
                await asyncio.sleep(pause_s)
            try:
                await _train_one(job, worker, store, metrics)
            except (EOFError, OSError):
                store.failed(job, datetime.now(UTC), "the training process ended; a new one is started")
                metrics.failed.labels(job.point.model).inc()
                worker.stop()
                await asyncio.sleep(RESTART_PAUSE_S)
                worker = Worker()
        store.say(datetime.now(UTC), "info", f"training stops after {stop_after} runs")
    finally:
        worker.stop()


async def _train_one(job: Job, worker: Worker, store: Store, metrics: Metrics) -> None:
    store.started(job, datetime.now(UTC))
    with metrics.in_progress.track_inprogress():
        try:
            outcome = await worker.run(job)
        except RunFailed as error:
            store.failed(job, datetime.now(UTC), str(error))
            metrics.failed.labels(job.point.model).inc()
        else:
            store.finished(job, outcome)
            metrics.finished(job.point.model, outcome)
