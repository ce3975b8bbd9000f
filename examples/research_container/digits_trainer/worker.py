"""The process that trains, so that the API stays quick while a model is fitted."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection

from digits_trainer.grid import Job
from digits_trainer.outcome import Outcome

NICENESS = 10


class RunFailed(Exception):
    """This run gave no result; the text says why."""


class Worker:
    """One training process. It ends with its parent: the pipe between them closes."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._near, far = context.Pipe()
        self._process = context.Process(target=_serve, args=(far,), daemon=True, name="digits-worker")
        self._process.start()
        far.close()

    async def run(self, job: Job) -> Outcome:
        """Train in the other process.

        Errors: RunFailed when training raised an error; EOFError or OSError when the process is gone.
        """
        answer = await asyncio.to_thread(self._ask, job)
        if isinstance(answer, str):
            raise RunFailed(answer)
        return answer

    def stop(self) -> None:
        """End the process now, also in the middle of a run."""
        self._process.kill()
        self._process.join()

    def _ask(self, job: Job) -> Outcome | str:
        self._near.send(job)
        answer: Outcome | str = self._near.recv()
        return answer


def _serve(far: Connection) -> None:
    # Ctrl-C in a terminal reaches the whole group; the parent ends this process itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    from digits_trainer.training import train

    while True:
        try:
            job: Job = far.recv()
        except EOFError:
            return
        try:
            answer: Outcome | str = train(job)
        except Exception as error:  # noqa: BLE001 - whatever a fit raises is this run's result
            answer = f"{type(error).__name__}: {error}"
        try:
            far.send(answer)
        except OSError:
            return
