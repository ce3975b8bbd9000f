"""What may be written in the settings of an `mlflow` source and of its datasets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from bridge.sources.base import Options
from bridge.sources.builtin.http.options import HttpOptions

Kind = Literal["experiments", "runs", "metrics", "params"]
Name = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Names = Annotated[tuple[Name, ...], Field(min_length=1, max_length=1_000)]

_OF_RUNS = ("runs", "metrics", "params")
# The kinds that an option means something to; one that would be ignored is a mistake.
_BELONGS = {
    "experiments": _OF_RUNS,
    "filter": _OF_RUNS,
    "max_runs": _OF_RUNS,
    "metrics": ("metrics",),
    "max_points": ("metrics",),
    "system_tags": ("experiments", "runs"),
}


class MlflowOptions(HttpOptions):
    """One MLflow tracking server."""


class MlflowDataset(Options):
    """One dataset of a tracking server."""

    kind: Kind = Field(description="`experiments`, `runs`, `metrics` (all points of every run) or `params`.")
    experiments: Names | None = Field(None, description="Names of the experiments to read; all when left out.")
    filter: Annotated[str, StringConstraints(max_length=8_192)] | None = Field(
        None, description="Which runs, in MLflow's own filter language: `attributes.status = 'FINISHED'`."
    )
    max_runs: int = Field(5_000, gt=0, le=100_000, description="Newest runs that are read; the rest is left out.")
    metrics: Names | None = Field(None, description="Metrics to read; all of them when left out.")
    max_points: int = Field(200_000, gt=0, le=1_000_000, description="Points that are read; the rest is left out.")
    system_tags: bool = Field(False, description="Whether tags called `mlflow.…` become columns by themselves.")

    @model_validator(mode="after")
    def _fitting(self) -> MlflowDataset:
        for name in sorted(self.model_fields_set):
            if self.kind not in _BELONGS.get(name, (self.kind,)):
                kinds = " or ".join(f"`{kind}`" for kind in _BELONGS[name])
                raise ValueError(f"`{name}` means nothing to kind `{self.kind}`; it belongs to {kinds}")
        return self
