"""Sources and their datasets, as they are configured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from bridge.model.schema import Column, ColumnType, Kind, Param, Role, Shape
from bridge.settings.fields import (
    ColumnName,
    Count,
    Flag,
    Name,
    ParamName,
    PositiveCount,
    Seconds,
    Section,
    SourceName,
    refuse,
)
from bridge.settings.yaml_text import Loc
from bridge.sources.quality.options import MAX_CHECKS, Check
from bridge.sources.transform.options import MAX_STEPS, Step

# Words a request already uses for its own purposes: in a panel's payload, and in the query string of a dataset.
PAYLOAD_WORDS = frozenset({"columns", "series", "filter", "agg", "as_of"})
QUERY_WORDS = frozenset(
    {"from", "to", "step", "max_points", "format", "cursor", "limit", "on_error", "fresh", "refId", "shape", "as_of"},
)


class Volatility(StrEnum):
    """How often the far data changes, for datasets that name no number of seconds."""

    STATIC = "static"
    SLOW = "slow"
    LIVE = "live"


_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800, "y": 31_557_600}
TTL_S = {Volatility.STATIC: 3600.0, Volatility.SLOW: 60.0, Volatility.LIVE: 5.0}


class ColumnSettings(Section):
    """One published column."""

    name: ColumnName = Field(description="Published name of the column.")
    type: ColumnType = Field(description="Type of the values: time, number, string, boolean or json.")
    unit: str | None = Field(None, description="Grafana unit id of the values, such as percentunit or bytes.")
    role: Role | None = Field(
        None,
        description="time, dimension or measure; omitted: an attribute shown in tables. The only time column has "
        "the role time by itself.",
    )
    description: str = Field("", description="What the column means, for people.")
    kind: Kind = Field(
        Kind.GAUGE, description="How a measure is thinned out: a gauge keeps its extremes, a counter its last value."
    )
    select: str | None = Field(None, description="Where the source finds the values: a path, or the far name.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.role is Role.TIME and self.type is not ColumnType.TIME:
            refuse([(("role",), f"time needs a column of type time, this one is {self.type}")])
        if self.role is Role.MEASURE and self.type is not ColumnType.NUMBER:
            refuse([(("role",), f"measure needs a column of type number, this one is {self.type}")])
        return self


class ParamSettings(Section):
    """One parameter of the dataset's own."""

    name: ParamName = Field(description="Name of the parameter in payloads and query strings.")
    description: str = Field("", description="What the parameter means, for people.")
    default: str | None = Field(None, description="Value when a request gives none.")
    options: tuple[str, ...] = Field((), description="The only values allowed; empty allows any.")
    required: Flag = Field(False, description="Whether a request without it is refused.")
    multi: Flag = Field(False, description="Whether it may be given several values.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.name in PAYLOAD_WORDS | QUERY_WORDS:
            refuse([(("name",), f"`{self.name}` is a word of every request (choose another name)")])
        if self.options and self.default is not None and self.default not in self.options:
            refuse([(("default",), f"{self.default!r} is not among the options (add it there, or change it)")])
        return self


class HistorySettings(Section):
    """Past answers of a dataset that bridge keeps."""

    keep: str = Field(
        "30d", pattern=r"^[0-9]{1,9}(s|m|h|d|w|y)$", description="How long samples are kept, such as 30d."
    )
    every_s: Annotated[Seconds, Field(ge=1)] = Field(60, description="Seconds between two samples.")
    window_s: Seconds | None = Field(
        None, description="How many seconds back from now a sample asks for; unset: all of the dataset."
    )
    max_bytes: PositiveCount = Field(1024**3, description="Most bytes of its data files; the oldest go first.")
    flush_s: Annotated[Seconds, Field(ge=1)] = Field(
        60,
        description="Seconds between two moves of samples from the segment into the table; each costs a commit, so "
        "that less than 60 costs CPU. What is in the segment is as safe, and is read as well.",
    )
    time: ColumnName | None = Field(
        None,
        description="Name of a time column given to a dataset that has none: when it was sampled. Unset: its rows "
        "are kept as snapshots, to be read with as_of.",
    )

    @property
    def keep_s(self) -> float:
        """How long samples are kept, in seconds."""
        return int(self.keep[:-1]) * _SECONDS[self.keep[-1]]


class PollSettings(Section):
    """Fetches that nobody asked for."""

    every_s: Annotated[Seconds, Field(ge=1)] = Field(description="Seconds from one fetch to the next.")
    window_s: Seconds | None = Field(
        None, description="How many seconds back from now are asked for; unset: all of the dataset."
    )


class DatasetSettings(Section):
    """One dataset of a source."""

    name: Name = Field(description="Name after the dot: the dataset is called SOURCE.NAME.")
    description: str = Field("", description="What the dataset holds, for people.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="What the plug-in needs to find the dataset; see its own page."
    )
    columns: tuple[ColumnSettings, ...] = Field(
        (), description="Published columns in order; empty reads them from the data, where the plug-in can."
    )
    params: tuple[ParamSettings, ...] = Field((), description="Parameters that panels and requests may give.")
    shape: Shape = Field(Shape.AUTO, description="What a panel is given; auto decides by the columns.")
    refresh_s: Seconds | None = Field(
        None, description="Seconds an answer counts as fresh; unset: by volatility, else the plug-in's default."
    )
    volatility: Volatility | None = Field(
        None, description="static, slow or live: fresh for 3600, 60 or 5 seconds when refresh_s is unset."
    )
    stale_after_s: Seconds | None = Field(
        None,
        description="Age in seconds from which a last good answer, served while the source is down, is shown as an "
        "error instead of a warning.",
    )
    retries: Annotated[Count, Field(le=10)] = Field(
        2, description="How often a failed fetch is tried again, with growing pauses."
    )
    min_refresh_s: Seconds = Field(1.0, description="Shortest seconds between two fetches that fresh=1 can force.")
    poll: PollSettings | None = Field(
        None, description="Fetch at intervals, so that answers are there before anyone asks; null: when asked."
    )
    steps: tuple[Step, ...] = Field(
        (),
        max_length=MAX_STEPS,
        description="Changes made to every answer, in order; each has one of the keys below.",
    )
    checks: tuple[Check, ...] = Field(
        (),
        max_length=MAX_CHECKS,
        description="What is looked at in every answer, after the steps; each has one of the keys below.",
    )
    history: HistorySettings | None = Field(None, description="Past answers to keep; null keeps none.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        twice = [*_twice("columns", self.columns), *_twice("params", self.params), *_named_twice(self.checks)]
        refuse([*twice, *self._clashes()])
        return self

    def _clashes(self) -> Iterator[tuple[Loc, str]]:
        times = [index for index, column in enumerate(self.columns) if column.role is Role.TIME]
        for index in times[1:]:
            yield ("columns", index, "role"), f"time is already the role of `{self.columns[times[0]].name}`"
        names = {column.name for column in self.columns}
        for index, param in enumerate(self.params):
            if param.name in names:
                text = f"`{param.name}` is a column as well (requests could not tell them apart; rename one)"
                yield ("params", index, "name"), text

    def fresh_s(self, default_s: float) -> float:
        """Seconds an answer counts as fresh, where the plug-in's own default is `default_s`."""
        if self.refresh_s is not None:
            return self.refresh_s
        return default_s if self.volatility is None else TTL_S[self.volatility]

    def model_columns(self) -> tuple[Column, ...]:
        """The columns as the model knows them; the only time column has the role time."""
        times = [column for column in self.columns if column.type is ColumnType.TIME]
        return tuple(
            Column(
                name=column.name,
                type=column.type,
                unit=column.unit,
                role=Role.TIME if column.role is None and times == [column] else column.role,
                description=column.description,
                kind=column.kind,
                select=column.select,
            )
            for column in self.columns
        )

    def model_params(self) -> tuple[Param, ...]:
        """The parameters as the model knows them."""
        return tuple(Param(**dict(param)) for param in self.params)


class SourceSettings(Section):
    """One far system that offers datasets."""

    name: SourceName = Field(description="Name before the dot: its datasets are called NAME.DATASET.")
    kind: str = Field(min_length=1, description="Plug-in that reads it: an entry point in group bridge.sources.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="What the plug-in needs to reach the far system; see its own page."
    )
    datasets: tuple[DatasetSettings, ...] = Field((), description="Datasets the source offers.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        refuse(list(_twice("datasets", self.datasets)))
        return self


def _named_twice(checks: tuple[Check, ...]) -> Iterator[tuple[Loc, str]]:
    """Names that were given twice; of those that were not, the second gets a number."""
    known: set[str] = set()
    for index, check in enumerate(checks):
        if check.name in known:
            yield ("checks", index, "name"), f"`{check.name}` stands twice in checks (rename one)"
        known.update({check.name} if check.name else ())


def _twice(key: str, items: tuple[Any, ...]) -> Iterator[tuple[Loc, str]]:
    counts: Counter[str] = Counter()
    for index, item in enumerate(items):
        counts[item.name] += 1
        if counts[item.name] > 1:
            yield (key, index, "name"), f"`{item.name}` stands twice in {key} (rename one)"


def unique_sources(sources: tuple[SourceSettings, ...]) -> tuple[SourceSettings, ...]:
    """The same sources, when no two share a name.

    Errors: PydanticCustomError otherwise.
    """
    refuse([(loc[1:], text) for loc, text in _twice("sources", sources)])
    return sources
