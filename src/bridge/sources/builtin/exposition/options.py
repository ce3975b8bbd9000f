"""What may be written in the settings of an `exposition` source and of its datasets."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator

from bridge.edge.address import check_path
from bridge.errors import BadQuery
from bridge.sources.base import Options
from bridge.sources.builtin.http.options import HttpOptions

MAX_QUANTILES = 50


class Rows(StrEnum):
    """What one row of a dataset is."""

    SAMPLES = "samples"
    HISTOGRAM = "histogram"
    BUCKETS = "buckets"
    EXEMPLARS = "exemplars"
    FAMILIES = "families"


def _check_path(path: str) -> str:
    try:
        check_path(path)
    except BadQuery as error:
        raise ValueError(error.sentence) from None
    return path


def quantile_name(quantile: float) -> str:
    """The column of a quantile: 0.5 is `p50`, 0.999 is `p99_9`."""
    return f"p{quantile * 100:.10g}".replace(".", "_").replace("-", "_")


Path = Annotated[str, StringConstraints(min_length=1, max_length=8_192), AfterValidator(_check_path)]
Glob = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Quantile = Annotated[float, Field(ge=0, le=1)]


class ExpositionOptions(HttpOptions):
    """One container that shows its metrics."""


class ExpositionDataset(Options):
    """One view of a page of metrics."""

    kind: Rows = Field(
        Rows.SAMPLES,
        description="What a row is: a sample, a histogram with its quantiles, one bucket, an exemplar, or a family.",
    )
    path: Path = Field("/metrics", description="The page, appended to the base address.")
    params: dict[str, str] = Field({}, description="Query parameters of the page.")
    metrics: tuple[Glob, ...] = Field(
        (), max_length=1_000, description="Globs over the names of families and samples; empty means all."
    )
    quantiles: tuple[Quantile, ...] = Field(
        (0.5, 0.9, 0.99),
        max_length=MAX_QUANTILES,
        description="With kind `histogram`: the quantiles, each a column such as `p90`.",
    )
    max_samples: int = Field(
        100_000, gt=0, le=1_000_000, description="Samples the chosen metrics may have before the page is refused."
    )
    format: Literal["auto", "text", "openmetrics"] = Field(
        "auto", description="The form to ask for; auto prefers OpenMetrics. What comes is read as what it says it is."
    )

    @field_validator("quantiles")
    @classmethod
    def _each_once(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        names = [quantile_name(item) for item in value]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"two of them make the column `{twice}`")
        return value
