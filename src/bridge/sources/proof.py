"""Whether the steps of all datasets fit their columns, as far as these are known before anything is asked."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from bridge.model.schema import Schema
from bridge.sources.registry import DatasetConfig, Problem, Registry, SourceConfig
from bridge.sources.transform.bound import StepError
from bridge.sources.transform.options import Step
from bridge.sources.transform.pipeline import bind

# Datasets below one another, and reads of datasets on all ways down, each as often as it is reached.
MAX_DEEP = 16
MAX_READ = 1_000
_Placed = tuple[tuple[str | int, ...], DatasetConfig]


def step_problems(configs: Sequence[SourceConfig], registry: Registry) -> list[Problem]:
    """Everything that is wrong with the steps, and where.

    A dataset whose columns are read from the data is judged when they are known: its first answer is the proof.
    """
    placed: dict[str, _Placed] = {
        f"{source.name}.{dataset.name}": (("sources", i, "datasets", k), dataset)
        for i, source in enumerate(configs)
        for k, dataset in enumerate(source.datasets)
    }
    stepped = {name: item for name, item in placed.items() if item[1].steps}
    problems = [problem for name, item in stepped.items() for problem in _strangers(name, item, placed)]
    if problems:
        return problems
    try:
        order = [*TopologicalSorter({name: _others(item[1]) for name, item in stepped.items()}).static_order()]
        return list(_towers(order, placed)) or list(_misfits(order, placed, registry))
    except CycleError as error:
        cycle = [str(name) for name in error.args[1]]
        loc, _ = placed[cycle[0]]
        text = f"the datasets read each other in a circle: {' ← '.join(cycle)} (take one of the steps out)"
        return [Problem((*loc, "steps"), text)]


def _others(dataset: DatasetConfig) -> set[str]:
    return {name for step in dataset.steps for name in step.others}


def _strangers(name: str, item: _Placed, placed: Mapping[str, _Placed]) -> Iterator[Problem]:
    loc, dataset = item
    for index, step in enumerate(dataset.steps):
        for other in step.others:
            at = (*loc, "steps", index, step.name)
            if other not in placed:
                near = difflib.get_close_matches(other, placed, n=1)
                hint = f"did you mean `{near[0]}`?" if near else f"configured are {', '.join(list(placed)[:20])}"
                yield Problem(at, f"there is no dataset `{other}` ({hint})")
            elif other == name:
                yield Problem(at, f"`{other}` is this dataset itself (name another)")
            elif needed := [p.name for p in placed[other][1].params if p.required and p.default is None]:
                yield Problem(
                    at, f"`{other}` needs the parameter `{needed[0]}`, which a step cannot give (set a default)"
                )


def _towers(order: Sequence[str], placed: Mapping[str, _Placed]) -> Iterator[Problem]:
    """Datasets above too many others: each question and each list of datasets goes down all the ways to the last."""
    deep: dict[str, int] = {}
    wide: dict[str, int] = {}
    for name in order:
        loc, dataset = placed[name]
        read = [other for step in dataset.steps for other in step.others]
        deep[name] = 1 + max((deep[other] for other in read), default=0)
        wide[name] = 1 + sum(wide[other] for other in read)
        if deep[name] > MAX_DEEP or wide[name] > MAX_READ:
            what = f"{MAX_DEEP} datasets read one another in a row" if deep[name] > MAX_DEEP else f"{MAX_READ} reads"
            text = (
                f"`{name}` stands on more than {what} (join or unite fewer datasets, or those at the bottom at once)"
            )
            yield Problem((*loc, "steps"), text)
            return


def _misfits(order: Sequence[str], placed: Mapping[str, _Placed], registry: Registry) -> Iterator[Problem]:
    known: dict[str, Schema] = {}
    for name in order:
        loc, dataset = placed[name]
        own = _own(name, dataset, registry)
        if own is None:
            continue
        steps = _judged(dataset.steps, known)
        try:
            pipeline = bind(steps, own, known)
        except StepError as error:
            yield Problem((*loc, "steps", *error.loc), str(error))
            continue
        if len(steps) == len(dataset.steps):
            known[name] = pipeline.schema


def _own(name: str, dataset: DatasetConfig, registry: Registry) -> Schema | None:
    if dataset.columns:
        return Schema(dataset.columns)
    entry = registry.datasets.get(name)
    return entry.source.schema(dataset.name) if entry else None


def _judged(steps: tuple[Step, ...], known: Mapping[str, Schema]) -> tuple[Step, ...]:
    """The steps up to the first that reads a dataset whose columns are not known yet."""
    for index, step in enumerate(steps):
        if any(name not in known for name in step.others):
            return steps[:index]
    return steps
