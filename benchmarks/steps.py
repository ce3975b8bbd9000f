"""Transform steps on a panel's data, inside one process."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

from cases import Sizes
from library import table
from measure import alternate, here
from page import Goal, Row, row, short

from bridge.model.frame import Frame
from bridge.sources.base import Limits
from bridge.sources.transform.options import Step
from bridge.sources.transform.pipeline import bind

WANTED_S = 0.2
EVERY_S = 60
STEPS: list[dict[str, Any]] = [
    {"rename": {"value": "took"}},
    {"cast": {"run": "string"}},
    {"convert": {"took": {"from": "ms", "to": "s"}}},
    {"derive": {"score": "log(took + 1) * 100"}},
    {"filter": "took > 0.01"},
    {"resample": {"every_s": EVERY_S, "how": "mean", "by": ["model"]}},
    {"format": {"score": {"unit": "percent", "decimals": 2}}},
]


async def steps(sizes: Sizes) -> list[Row]:
    """Every kind of step that works on one dataset, one after the other."""
    frame = table(sizes.table_rows)
    pipeline = bind(tuple(Step.model_validate(step) for step in STEPS), frame.schema, {})
    limits = Limits()
    _same(pipeline.run(frame, {}, limits), by_hand(frame)())
    names = ", ".join(next(iter(step)) for step in STEPS)
    what = f"Steps {names}: {frame.rows:,} rows × {len(frame.schema.columns)}"
    pairs = await alternate(
        here(lambda: pipeline.run(frame, {}, limits)),
        here(by_hand(frame)),
        rounds=sizes.rounds,
        budget_s=sizes.budget_s,
    )
    own, _ = pairs.wall_s()
    goal = Goal("transform steps on a panel's data", f"below {short(WANTED_S)}", short(own), own < WANTED_S)
    return [row(what, pairs, "a Python loop over the rows that does the same", goal=goal)]


def by_hand(frame: Frame) -> Callable[[], dict[tuple[str, datetime], tuple[float, float]]]:
    """The same as a loop over rows that are Python objects already."""
    records = frame.data.to_dicts()

    def work() -> dict[tuple[str, datetime], tuple[float, float]]:
        groups: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for item in records:
            took = item["value"] / 1000
            if took > 0.01:
                bucket = int(item["time"].timestamp()) // EVERY_S
                groups.setdefault((item["model"], bucket), []).append((took, math.log(took + 1) * 100))
        return {
            (model, datetime.fromtimestamp(bucket * EVERY_S, records[0]["time"].tzinfo)): (
                sum(took for took, _ in rows) / len(rows),
                round(sum(score for _, score in rows) / len(rows), 2),
            )
            for (model, bucket), rows in groups.items()
        }

    return work


def _same(made: Frame, wanted: dict[tuple[str, datetime], tuple[float, float]]) -> None:
    found = {(item["model"], item["time"]): (item["took"], item["score"]) for item in made.data.to_dicts()}
    near = found.keys() == wanted.keys() and all(
        math.isclose(a, b, rel_tol=1e-9, abs_tol=0.011)
        for key, pair in found.items()
        for a, b in zip(pair, wanted[key], strict=True)
    )
    if not near:
        raise SystemExit("the steps and the loop over the rows give different answers")
