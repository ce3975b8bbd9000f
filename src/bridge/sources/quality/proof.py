"""Whether the checks of all datasets fit their columns, as far as these are known before anything is asked."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from bridge.model.schema import Schema
from bridge.sources.quality.bound import CheckError
from bridge.sources.quality.judge import bind_check
from bridge.sources.registry import DatasetConfig, Problem, Registry, SourceConfig
from bridge.sources.transform.bound import StepError
from bridge.sources.transform.pipeline import bind

_Placed = tuple[tuple[str | int, ...], DatasetConfig]
_MAX_COMPARED = 2_000


def check_problems(configs: Sequence[SourceConfig], registry: Registry) -> list[Problem]:
    """Everything that is wrong with the checks, and where.

    A dataset whose columns are read from the data is judged when they are known; one whose steps do not fit, when
    they do.
    """
    placed: dict[str, _Placed] = {
        f"{source.name}.{dataset.name}": (("sources", i, "datasets", k), dataset)
        for i, source in enumerate(configs)
        for k, dataset in enumerate(source.datasets)
    }
    if not any(dataset.checks for _, dataset in placed.values()):
        return []
    strangers = [problem for name, item in placed.items() for problem in _strangers(name, item, placed)]
    known = _published(placed, registry)
    return [*strangers, *([] if strangers else _circles(placed)), *_misfits(placed, known)]


def _strangers(name: str, item: _Placed, placed: Mapping[str, _Placed]) -> Iterator[Problem]:
    loc, dataset = item
    for index, check in enumerate(dataset.checks):
        for other in check.others:
            at = (*loc, "checks", index, check.kind, "dataset")
            if other not in placed:
                near = difflib.get_close_matches(other, list(placed)[:_MAX_COMPARED], n=1)
                hint = f"did you mean `{near[0]}`?" if near else f"configured are {', '.join(list(placed)[:20])}"
                yield Problem(at, f"there is no dataset `{other}` ({hint})")
            elif other == name:
                yield Problem(at, f"`{other}` is this dataset itself (name another)")
            elif needed := [p.name for p in placed[other][1].params if p.required and p.default is None]:
                yield Problem(
                    at, f"`{other}` needs the parameter `{needed[0]}`, which a check cannot give (set a default)"
                )


def _read(dataset: DatasetConfig) -> dict[str, tuple[str | int, ...]]:
    """The other datasets that must be fetched for an answer of this one, and the check that asks for them."""
    by_step: dict[str, tuple[str | int, ...]] = {name: () for step in dataset.steps for name in step.others}
    by_check: dict[str, tuple[str | int, ...]] = {
        other: ("checks", index, check.kind, "dataset")
        for index, check in enumerate(dataset.checks)
        for other in check.others
    }
    return {**by_check, **by_step}


def _circles(placed: Mapping[str, _Placed]) -> Iterator[Problem]:
    """An answer that waits for itself: a dataset is only given when those it is compared with have been."""
    reads = {name: _read(dataset) for name, (_, dataset) in placed.items()}
    try:
        list(TopologicalSorter(reads).static_order())
    except CycleError as error:
        # Each is read by the next one.
        circle = [str(name) for name in error.args[1]]
        for read, reader in pairwise(circle):
            if at := reads[reader].get(read):
                text = f"the datasets wait for each other in a circle: {' ← '.join(circle)} (take the check out)"
                yield Problem((*placed[reader][0], *at), text)
                return


def _published(placed: Mapping[str, _Placed], registry: Registry) -> dict[str, Schema]:
    """The columns after the steps, of those datasets for which they are known and fit."""
    others = {name: {o for step in item[1].steps for o in step.others} for name, item in placed.items()}
    known: dict[str, Schema] = {}
    try:
        order = list(TopologicalSorter(others).static_order())
    except CycleError:
        # That the steps go in a circle is told of the steps; the datasets without any are known all the same.
        order = [name for name, read in others.items() if not read]
    for name in order:
        if name not in placed or not others[name] <= known.keys():
            continue
        dataset = placed[name][1]
        own = _own(name, dataset, registry)
        if own is None:
            continue
        try:
            known[name] = bind(dataset.steps, own, known).schema
        except StepError:
            continue
    return known


def _own(name: str, dataset: DatasetConfig, registry: Registry) -> Schema | None:
    if dataset.columns:
        return Schema(dataset.columns)
    entry = registry.datasets.get(name)
    return entry.source.schema(dataset.name) if entry else None


def _misfits(placed: Mapping[str, _Placed], known: Mapping[str, Schema]) -> Iterator[Problem]:
    for name, (loc, dataset) in placed.items():
        for index, check in enumerate(dataset.checks):
            if name not in known:
                continue
            try:
                bind_check(check, known[name], known)
            except CheckError as error:
                yield Problem((*loc, "checks", index, *error.loc), str(error))
