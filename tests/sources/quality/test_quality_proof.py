"""Checks that do not fit are told when the service starts, with their place in the settings."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.model.schema import Column, ColumnType, Param
from bridge.sources.quality.options import Check
from bridge.sources.quality.proof import check_problems
from bridge.sources.registry import DatasetConfig, SourceConfig, build
from bridge.sources.transform.options import Step
from support import COLUMNS, Plugin, StubSource, dataset, tools_of

AT = ("sources", 0, "datasets")


def problems(*datasets: DatasetConfig) -> list[tuple[tuple[str | int, ...], str]]:
    """What is wrong, and where."""
    configs = (SourceConfig("lab", "stub", {}, datasets),)
    registry, others = build(configs, {"stub": Plugin("stub", "tests", StubSource)}, tools_of())
    assert not others
    return [(problem.loc, problem.text) for problem in check_problems(configs, registry)]


def checked(
    name: str,
    *given: dict[str, Any],
    steps: tuple[dict[str, Any], ...] = (),
    columns: tuple[Column, ...] = COLUMNS,
    **options: Any,
) -> DatasetConfig:
    """A dataset with checks."""
    return dataset(
        name,
        checks=tuple(Check.model_validate(item) for item in given),
        steps=tuple(Step.model_validate(item) for item in steps),
        columns=columns,
        **options,
    )


def against(other: str, **more: Any) -> dict[str, Any]:
    return {"reference": {"dataset": other, "on": ["time"], "compare": "value"}, **more}


def test_checks_that_fit_are_no_problem() -> None:
    assert problems(dataset("plain"), checked("runs", {"complete": {}}, {"rows": 1}, against("lab.plain"))) == []


def test_every_check_that_does_not_fit_is_told_with_its_place() -> None:
    found = problems(dataset("plain"), checked("runs", {"complete": ["valeu"]}, {"gaps": 1}, {"rule": "valu > 0"}))
    assert found == [
        (
            (*AT, 1, "checks", 0, "complete", "columns", 0),
            "there is no column `valeu` (did you mean `value`? the columns are time, value, model)",
        ),
        (
            (*AT, 1, "checks", 2, "rule", "that"),
            "at character 1: there is no column `valu` (did you mean `value`?; the columns are `time`, `value`, "
            "`model`)",
        ),
    ]


def test_checks_speak_of_the_columns_after_the_steps() -> None:
    steps = ({"rename": {"value": "loss"}}, {"drop": ["model"]})
    assert problems(checked("runs", {"complete": ["loss"]}, {"rule": "loss > 0"}, steps=steps)) == []
    found = problems(
        checked("runs", {"complete": ["value"]}, {"one_of": {"column": "model", "values": ["a"]}}, steps=steps)
    )
    assert [loc for loc, _ in found] == [
        (*AT, 0, "checks", 0, "complete", "columns", 0),
        (*AT, 0, "checks", 1, "one_of", "column"),
    ]
    assert "(the columns are time, loss)" in found[0][1]


def test_columns_of_joined_datasets_are_known() -> None:
    join = {"join": {"with": "lab.other", "on": ["model"], "columns": ["value"], "prefix": "o_"}}
    assert (
        problems(checked("runs", {"complete": ["o_value"]}, steps=(join,)), dataset("other", columns=COLUMNS)) == []
    )


def test_a_dataset_whose_columns_are_not_known_or_whose_steps_do_not_fit_is_judged_later() -> None:
    assert problems(checked("runs", {"complete": ["nothing"]}, columns=())) == []
    assert problems(checked("runs", {"complete": ["nothing"]}, steps=({"drop": ["nothing"]},))) == []
    union = {"union": ["lab.open"]}
    assert problems(checked("runs", {"complete": ["nothing"]}, steps=(union,)), dataset("open", columns=())) == []
    assert problems(checked("runs", against("lab.open")), dataset("open", columns=())) == []
    one, two = ({"union": ["lab.b"]},), ({"union": ["lab.a"]},)
    assert problems(checked("a", {"complete": ["x"]}, steps=one), checked("b", steps=two)) == []
    # Those that stand outside of the circle are judged all the same.
    found = problems(checked("a", steps=one), checked("b", steps=two), checked("c", {"complete": ["x"]}))
    assert [loc for loc, _ in found] == [(*AT, 2, "checks", 0, "complete", "columns", 0)]


def test_a_dataset_that_is_not_there_is_told_with_the_nearest_name() -> None:
    assert problems(checked("runs", against("lab.curvs"), against("x.y")), dataset("curves")) == [
        (
            (*AT, 0, "checks", 0, "reference", "dataset"),
            "there is no dataset `lab.curvs` (did you mean `lab.curves`?)",
        ),
        (
            (*AT, 0, "checks", 1, "reference", "dataset"),
            "there is no dataset `x.y` (configured are lab.runs, lab.curves)",
        ),
    ]


def test_a_dataset_cannot_be_compared_with_itself_or_one_that_needs_a_parameter() -> None:
    needs = dataset("needs", params=(Param("site", required=True),), columns=COLUMNS)
    assert problems(checked("runs", against("lab.runs"), against("lab.needs")), needs) == [
        ((*AT, 0, "checks", 0, "reference", "dataset"), "`lab.runs` is this dataset itself (name another)"),
        (
            (*AT, 0, "checks", 1, "reference", "dataset"),
            "`lab.needs` needs the parameter `site`, which a check cannot give (set a default)",
        ),
    ]


def read(name: str, *others: str) -> DatasetConfig:
    return checked(name, *(against(f"lab.{other}") for other in others))


def stepped(name: str, *others: str, check: str | None = None) -> DatasetConfig:
    given = (against(f"lab.{check}"),) if check else ()
    return checked(name, *given, steps=({"union": [f"lab.{other}" for other in others]},))


@pytest.mark.parametrize(
    "datasets",
    [
        (read("a", "b"), read("b", "a")),
        (read("a", "b"), read("b", "c"), read("c", "a")),
        (stepped("a", "b"), read("b", "a")),
        (stepped("a", "b"), stepped("b", "c"), read("c", "a")),
        (stepped("a", "b", check="c"), read("b"), stepped("c", "a")),
    ],
)
def test_datasets_that_would_wait_for_each_other_are_refused(datasets: tuple[DatasetConfig, ...]) -> None:
    [(loc, text)] = problems(*datasets)
    assert loc[-2:] == ("reference", "dataset")
    assert datasets[int(loc[3])].checks
    assert text.startswith("the datasets wait for each other in a circle: lab.")
    assert text.endswith(" (take the check out)")


def test_datasets_that_are_read_by_many_are_no_circle() -> None:
    assert problems(read("a", "b", "c"), read("b", "c"), stepped("d", "a", check="b"), read("c")) == []


def test_a_circle_of_steps_alone_is_told_of_the_steps() -> None:
    assert problems(stepped("a", "b"), stepped("b", "a"), checked("c", {"rows": 1})) == []


def test_types_that_cannot_be_compared_are_told() -> None:
    other = dataset("other", columns=(COLUMNS[0], Column("value", ColumnType.STRING)))
    [(loc, text)] = problems(checked("runs", against("lab.other")), other)
    assert loc == (*AT, 0, "checks", 0, "reference", "compare", "value")
    assert "`value` is a number, `value` of `lab.other` is a text" in text
