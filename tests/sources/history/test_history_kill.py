"""What was acknowledged is there after any number of kills at any moment, and there once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from killed import KEEP, POINTS, STEP_S, row
from tables import opened, rows_of, times, written

PROGRAM = Path(__file__).with_name("killed.py")
ROOT = PROGRAM.parents[3]


def lived(
    folder: Path, seed: int, where: str, nth: int, first: int, killed_after_s: float | None
) -> tuple[list[int], bool]:
    """The rows that one life took, and whether it was killed, by its own hand or by ours."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "src"), str(PROGRAM.parent)])
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), str(folder), str(seed), where, str(nth), str(first)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths, "POLARS_MAX_THREADS": "1"},
    ) as process:
        timer = threading.Timer(killed_after_s or 50.0, process.kill)
        timer.start()
        out, error = process.communicate()
        timer.cancel()
    assert process.returncode in (0, -signal.SIGKILL), error.decode()
    return [int(line.split()[1]) for line in out.decode().splitlines()], process.returncode != 0


def judged(folder: Path, taken: list[int]) -> None:
    """Everything acknowledged and not too old is there, and nothing twice."""
    table = opened(folder, KEEP)
    oldest_s = max(taken) * STEP_S - KEEP.keep_s
    wanted = {number for number in range(taken[0], max(taken) + 1) if row(number)[0] >= oldest_s}
    for found in (rows_of(table), written(table)):
        assert set(found.values()) <= {1}, [item for item in found.items() if item[1] > 1]
        there = {int(value) for value in (item[1] for item in found)}
        assert wanted <= there, sorted(wanted - there)
        assert all(item[0] == item[1] * STEP_S for item in found)
    table.flush()
    lakes = [path for path in sorted(table.folder.glob("g?")) if (path / "_delta_log").exists()]
    foreign = pl.concat([pl.scan_delta(str(path)).select("time", pl.col("value").cast(float)) for path in lakes])
    values = foreign.collect()["value"].to_list()
    assert len(values) == len(set(values))
    assert wanted <= {int(value) for value in values}
    assert times(written(table)) == sorted(value * STEP_S for value in values)
    table.close()


def chosen(seed: int, lives: int) -> Iterator[tuple[str, int]]:
    """Moments to die at, each point early and late."""
    rand = random.Random(seed)  # noqa: S311
    for number in range(lives):
        point, moment = POINTS[number % len(POINTS)], rand.choice(("before", "after"))
        yield f"{point}-{moment}", rand.choice((1, 2, 3, 5, 8, 13, 21))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_every_acknowledged_row_is_there_once_after_kills_at_chosen_moments(tmp_path: Path, seed: int) -> None:
    """In the middle of writing, renaming, deleting, committing, merging and dropping."""
    taken: list[int] = []
    deaths = 0
    for number, (where, nth) in enumerate(chosen(seed, 16)):
        more, killed = lived(tmp_path, seed * 1_000 + number, where, nth, taken[-1] if taken else 0, None)
        taken += more
        deaths += killed
        if number % 4 == 3:
            judged(tmp_path, taken)
    assert deaths >= 12


@pytest.mark.slow
def test_every_acknowledged_row_is_there_once_after_kills_at_any_moment(tmp_path: Path) -> None:
    """Whatever it is doing."""
    rand, taken = random.Random(3), [0]  # noqa: S311
    deaths = 0
    for number in range(12):
        more, killed = lived(tmp_path, number, "random", 0, taken[-1], 0.6 + rand.random() * 0.8)
        taken += more
        deaths += killed
    judged(tmp_path, taken[1:])
    assert deaths >= 6
