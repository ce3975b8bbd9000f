"""A process that records, flushes, merges and drops, and kills itself at a chosen moment; run by the tests.

`python killed.py FOLDER SEED WHERE NTH FIRST` prints `taken N` when the sample that ends with row N was acknowledged.
WHERE is a name of `POINTS`, with `before` or `after`; at its NTH call the process is killed by its own hand.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import deltalake
import polars as pl
from tables import opened
from tests.support import at, frame_of

from bridge.model.frame import Frame
from bridge.sources.history import upkeep
from bridge.sources.history.table import Table
from bridge.sources.registry import Keeping

STEP_S = 60.0
KEEP = Keeping(7_200.0, 5.0, max_bytes=200_000)
WINDOW = 12
POINTS = ("fsync", "fdatasync", "rename", "unlink", "pwrite", "ftruncate", "commit", "create", "parquet", "utime")
SAMPLES = 60


def arm(where: str, nth: int) -> None:
    """Installs the killing on this very process."""
    name, moment = where.split("-")
    left = nth

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def armed(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if not left and moment == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            made = call(*args, **kwargs)
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            return made

        return armed

    owner: Any = {
        "commit": (deltalake.DeltaTable, "create_write_transaction"),
        "create": (deltalake.DeltaTable, "create"),
        "parquet": (pl.DataFrame, "write_parquet"),
    }.get(name, (os, name))
    setattr(owner[0], owner[1], wrapped(getattr(owner[0], owner[1])))


def row(number: int) -> tuple[float, float, str]:
    """Rows of a minute each; the value names the row."""
    return number * STEP_S, float(number), "svm" if number % 2 else "tree"


def sample(first: int, last: int) -> Frame:
    """The latest rows up to one, and whole numbers or others by turns, so that there are generations."""
    frame = frame_of([row(number) for number in range(max(first, 0), last + 1)])
    if last < 200:
        return frame.with_data(frame.data.with_columns(pl.col("value").cast(pl.Int64)))
    return frame


def live(table: Table, seed: int, next_row: int) -> None:
    """One life: samples that overlap, some of them late, and what is to be done between them."""
    rand = random.Random(seed)  # noqa: S311
    for _ in range(SAMPLES):
        next_row += rand.randint(1, 4)
        late = next_row - rand.choice((WINDOW, WINDOW, 40))
        moment = at(next_row * STEP_S)
        table.record(sample(late, next_row), moment)
        os.write(1, b"taken %d\n" % next_row)
        if rand.random() < 0.4:
            table.flush()
        if rand.random() < 0.1:
            upkeep.compact(table)
        if rand.random() < 0.1:
            upkeep.expire(table, moment)
            upkeep.sweep(table, moment)


if __name__ == "__main__":
    folder, seed, where, nth, first = sys.argv[1:]
    if where != "random":
        arm(where, int(nth))
    live(opened(Path(folder), replace(KEEP)), int(seed), int(first))
