"""Whether the histories that the settings ask for can be kept, as far as that is known before anything is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bridge.edge import lake
from bridge.model.schema import Role
from bridge.sources.history.stored import unfit
from bridge.sources.registry import DatasetConfig, Problem, SourceConfig


def history_problems(configs: Sequence[SourceConfig]) -> list[Problem]:
    """Everything that is wrong with the histories, and where."""
    return [
        Problem(("sources", i, "datasets", k, *loc), text)
        for i, source in enumerate(configs)
        for k, dataset in enumerate(source.datasets)
        if dataset.history is not None
        for loc, text in _of_one(dataset)
    ]


def _of_one(dataset: DatasetConfig) -> Iterator[tuple[tuple[str, ...], str]]:
    keeping = dataset.history
    assert keeping is not None  # noqa: S101
    if not lake.available():
        yield ("history",), lake.MISSING
    if needed := [param.name for param in dataset.params if param.required and param.default is None]:
        yield ("history",), f"a sample cannot give the required parameter `{needed[0]}` (give it a default)"
    if problem := unfit([column.name for column in dataset.columns]):
        yield ("columns",), f"{problem[0]} ({problem[1]})"
    if keeping.keep_s < keeping.every_s:
        yield ("history", "keep"), "is shorter than the time between two samples (keep more, or sample more often)"
    if keeping.time is None or dataset.steps:
        return
    times = [column.name for column in dataset.columns if column.role is Role.TIME]
    if times:
        yield ("history", "time"), f"the dataset has its own time `{times[0]}` (leave out `time`)"
    elif any(column.name == keeping.time for column in dataset.columns):
        yield ("history", "time"), f"the dataset has a column `{keeping.time}` already (choose another name)"
