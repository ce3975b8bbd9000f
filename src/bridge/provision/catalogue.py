"""The datasets a dashboard is made of, and the variables they give it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from bridge.model.schema import ColumnType, Param, Role, Schema, Shape
from bridge.provision.infinity import is_series, query_model

DATASOURCE = "datasource"
# Values of other types are not compared as the texts in which a picker shows them.
_PICKED = (ColumnType.STRING, ColumnType.NUMBER, ColumnType.BOOLEAN)
_GRAPH = (Shape.NODES, Shape.EDGES)
_NO_IDENTIFIER = re.compile(r"\W", re.ASCII)


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset as the dashboard sees it."""

    name: str
    schema: Schema
    shape: Shape = Shape.AUTO
    params: tuple[Param, ...] = ()
    description: str = ""

    @property
    def source(self) -> str:
        """The source's name: the part before the dot; none of a system dataset."""
        return self.name.rpartition(".")[0]

    @property
    def table(self) -> str:
        """The dataset's name inside its source: the part after the dot, all of a system dataset's name."""
        return self.name.rpartition(".")[2]

    @property
    def is_series(self) -> bool:
        """Whether it is drawn as lines over time."""
        return is_series(self.schema, self.shape)

    @property
    def asked_for(self) -> tuple[Param, ...]:
        """The parameters that only the dashboard's user can give."""
        return tuple(param for param in self.params if param.required and param.default is None)

    @property
    def picked_by(self) -> tuple[str, ...]:
        """The dimensions it can be narrowed by; of a graph none, as an edge without its node breaks the panel."""
        if self.shape in _GRAPH:
            return ()
        return tuple(c.name for c in self.schema.with_role(Role.DIMENSION) if c.type in _PICKED)

    def refuse_misshapen(self) -> None:
        """Returns when the dataset has the columns that its shape needs.

        Errors: BadQuery.
        """
        query_model(self.name, self.schema, self.shape, self.params)


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of the dashboard: the values of a dimension to choose from, or a parameter to give.

    Shape: `word` is the column or the parameter; `param` is None for a dimension; `datasets` are those that have it.
    """

    name: str
    source: str
    word: str
    datasets: tuple[Dataset, ...]
    param: Param | None = None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All datasets in the order of the settings, and the variables of the dashboard over them."""

    datasets: tuple[Dataset, ...]
    variables: tuple[Variable, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "variables", tuple(_named([*_params(self.datasets), *_pickers(self.datasets)])))

    def by_source(self) -> dict[str, tuple[Dataset, ...]]:
        """The datasets of each source, in order."""
        names = dict.fromkeys(dataset.source for dataset in self.datasets)
        return {name: tuple(d for d in self.datasets if d.source == name) for name in names}

    def given(self, dataset: Dataset) -> dict[str, Variable]:
        """The variable of each parameter that must be given."""
        return {v.word: v for v in self.variables if v.param is not None and dataset in v.datasets}

    def pickers(self, dataset: Dataset) -> dict[str, Variable]:
        """The variable of each dimension."""
        return {v.word: v for v in self.variables if v.param is None and dataset in v.datasets}


def _params(datasets: Sequence[Dataset]) -> Iterator[Variable]:
    """One variable for all datasets of a source that ask for the same."""
    having: dict[tuple[str, str, tuple[str, ...], bool], list[tuple[Dataset, Param]]] = {}
    for dataset in datasets:
        for param in dataset.asked_for:
            key = (dataset.source, param.name, param.options, param.multi)
            having.setdefault(key, []).append((dataset, param))
    for (source, word, *_), found in having.items():
        yield Variable("", source, word, tuple(dataset for dataset, _ in found), found[0][1])


def _pickers(datasets: Sequence[Dataset]) -> Iterator[Variable]:
    """One variable for all datasets of a source that share a dimension; another source may mean something else."""
    having: dict[tuple[str, str], list[Dataset]] = {}
    for dataset in datasets:
        for word in dataset.picked_by:
            having.setdefault((dataset.source, word), []).append(dataset)
    for (source, word), found in having.items():
        yield Variable("", source, word, tuple(found))


def _named(variables: Sequence[Variable]) -> Iterator[Variable]:
    """Each under its own word, or under that and its source where several want the same name."""
    wanted = Counter(_identifier(variable.word) for variable in variables)
    taken = {DATASOURCE}
    for variable in variables:
        word = _identifier(variable.word)
        name = word if wanted[word] == 1 and word not in taken else f"{variable.source}_{word}"
        while name in taken:
            name += "_"
        taken.add(name)
        yield replace(variable, name=name)


def _identifier(word: str) -> str:
    """The word as a name Grafana takes: letters, digits and `_`, and never `__` in front."""
    return _NO_IDENTIFIER.sub("_", word).lstrip("_") or "value"
