"""Which models are trained: a parameter grid, then the same grid again with the next seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count, product, zip_longest

Params = Mapping[str, int | float | None]
MODELS = ("svm", "forest", "mlp")


@dataclass(frozen=True, slots=True)
class Point:
    """One place in the grid."""

    model: str
    params: Params

    @property
    def text(self) -> str:
        """The parameters in one line, such as `C=1 gamma=0.01`."""
        return " ".join(f"{name}={'none' if value is None else value}" for name, value in self.params.items())


@dataclass(frozen=True, slots=True)
class Job:
    """One training run: its result follows from `point` and `seed` alone."""

    run: str
    point: Point
    seed: int


GRIDS: Mapping[str, Mapping[str, Mapping[str, tuple[int | float | None, ...]]]] = {
    "full": {
        "svm": {"C": (0.1, 1, 10), "gamma": (0.001, 0.01, 0.1)},
        "forest": {"n_estimators": (10, 40, 120), "max_depth": (4, 8, None)},
        "mlp": {"hidden": (8, 32, 64), "learning_rate": (0.001, 0.01)},
    },
    "small": {
        "svm": {"C": (1,), "gamma": (0.001, 0.1)},
        "forest": {"n_estimators": (5, 20), "max_depth": (4,)},
        "mlp": {"hidden": (8, 32), "learning_rate": (0.01,)},
    },
}


def points(grid: str) -> tuple[Point, ...]:
    """All places of a named grid; the models take turns, so that each shows early."""
    by_model = [
        [Point(model, dict(zip(axes, values, strict=True))) for values in product(*axes.values())]
        for model, axes in GRIDS[grid].items()
    ]
    return tuple(point for turn in zip_longest(*by_model) for point in turn if point is not None)


def jobs(grid: str) -> Iterator[Job]:
    """The runs in their order, without end: every point with seed 0, then every point with seed 1, and so on."""
    places = points(grid)
    for seed in count():
        for index, point in enumerate(places):
            yield Job(f"r{seed * len(places) + index + 1:06d}", point, seed)
