"""What is wrong with a history in the settings is said before anything is asked, with its place and what helps."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import pytest
from tables import DAY_S
from tests.support import COLUMNS, dataset

from bridge.edge.lake import MISSING
from bridge.model.schema import Column, ColumnType, Param, Role
from bridge.sources.history.proof import history_problems
from bridge.sources.registry import DatasetConfig, Keeping, SourceConfig

KEPT = Keeping(DAY_S, 60.0)
VALUE = Column("value", ColumnType.NUMBER, role=Role.MEASURE)


def problems(*datasets: DatasetConfig) -> list[tuple[tuple[Any, ...], str]]:
    found = history_problems([SourceConfig("none", "stub", {}), SourceConfig("lab", "stub", {}, datasets)])
    return [(problem.loc, problem.text) for problem in found]


def one(keeping: Keeping | None = KEPT, columns: Sequence[Column] = COLUMNS, **more: Any) -> DatasetConfig:
    return dataset("runs", history=keeping, columns=columns, **more)


FINE = [
    one(),
    one(None),
    one(Keeping(60.0, 60.0)),
    one(Keeping(DAY_S, 60.0, time="at"), (VALUE,)),
    one(Keeping(DAY_S, 60.0, time="at"), ()),
    one(params=(Param("x", required=True, default="1"), Param("y"))),
    # What the steps leave is known only when they are bound.
    one(Keeping(DAY_S, 60.0, time="time"), steps=(object(),)),
]


@pytest.mark.parametrize("number", range(len(FINE)))
def test_histories_that_can_be_kept_have_no_problem(number: int) -> None:
    """Whatever is known of the columns."""
    assert problems(FINE[number]) == []


WRONG = [
    (
        one(params=(Param("x", required=True),)),
        ("history",),
        "a sample cannot give the required parameter `x` (give it a default)",
    ),
    (
        one(columns=(*COLUMNS, Column("_bridge_seq", ColumnType.NUMBER))),
        ("columns",),
        "`_bridge_seq` is a name that histories need for themselves (rename the column)",
    ),
    (
        one(columns=(*COLUMNS, Column("Model", ColumnType.STRING))),
        ("columns",),
        "`model` and `Model` differ in case only, which a history cannot keep apart (rename one)",
    ),
    (
        one(Keeping(59.0, 60.0)),
        ("history", "keep"),
        "is shorter than the time between two samples (keep more, or sample more often)",
    ),
    (
        one(Keeping(DAY_S, 60.0, time="at")),
        ("history", "time"),
        "the dataset has its own time `time` (leave out `time`)",
    ),
    (
        one(Keeping(DAY_S, 60.0, time="value"), (VALUE,)),
        ("history", "time"),
        "the dataset has a column `value` already (choose another name)",
    ),
]


@pytest.mark.parametrize(("config", "place", "text"), WRONG)
def test_what_is_wrong_is_said_with_its_place(config: DatasetConfig, place: tuple[str, ...], text: str) -> None:
    """In the list of the settings, with what helps."""
    assert problems(one(), config) == [(("sources", 1, "datasets", 1, *place), text)]


def test_a_machine_without_the_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where a history is asked for."""
    monkeypatch.setitem(sys.modules, "deltalake", None)
    assert problems(one(None)) == []
    assert problems(one()) == [(("sources", 1, "datasets", 0, "history"), MISSING)]
