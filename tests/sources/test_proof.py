"""Steps that do not fit are told when the service starts, with their place in the settings."""

from __future__ import annotations

from typing import Any

from bridge.model.schema import Column, Param
from bridge.sources.proof import step_problems
from bridge.sources.registry import DatasetConfig, SourceConfig, build
from bridge.sources.transform.options import Step
from support import COLUMNS, Plugin, StubSource, dataset, tools_of


def problems(*datasets: DatasetConfig) -> list[tuple[tuple[str | int, ...], str]]:
    """What is wrong, and where."""
    configs = (SourceConfig("lab", "stub", {}, datasets),)
    registry, others = build(configs, {"stub": Plugin("stub", "tests", StubSource)}, tools_of())
    assert not others
    return [(problem.loc, problem.text) for problem in step_problems(configs, registry)]


def stepped(
    name: str, *given: dict[str, Any], columns: tuple[Column, ...] = COLUMNS, **options: Any
) -> DatasetConfig:
    """A dataset with steps."""
    return dataset(name, steps=tuple(Step.model_validate(item) for item in given), columns=columns, **options)


AT = ("sources", 0, "datasets")


def test_an_unknown_column_is_told_with_its_place() -> None:
    found = problems(dataset("fine"), stepped("runs", {"drop": ["value"]}, {"rename": {"valu": "v"}}))
    assert found == [
        (
            (*AT, 1, "steps", 1, "rename", "valu"),
            "there is no column `valu` at this step (the columns are time, model)",
        )
    ]


def test_every_dataset_with_a_problem_is_told() -> None:
    bad = {"filter": "nothing > 1"}
    assert [loc for loc, _ in problems(stepped("a", bad), stepped("b", bad))] == [
        (*AT, 0, "steps", 0, "filter"),
        (*AT, 1, "steps", 0, "filter"),
    ]


def test_a_dataset_that_is_not_there_is_told_with_the_nearest_name() -> None:
    found = problems(stepped("runs", {"union": ["lab.curvs"]}), dataset("curves"), stepped("b", {"union": ["x.y"]}))
    assert found == [
        ((*AT, 0, "steps", 0, "union"), "there is no dataset `lab.curvs` (did you mean `lab.curves`?)"),
        (
            (*AT, 2, "steps", 0, "union"),
            "there is no dataset `x.y` (configured are lab.runs, lab.curves, lab.b)",
        ),
    ]


def test_a_dataset_cannot_read_itself_nor_one_that_reads_it() -> None:
    assert problems(stepped("runs", {"union": ["lab.runs"]})) == [
        ((*AT, 0, "steps", 0, "union"), "`lab.runs` is this dataset itself (name another)")
    ]
    found = problems(
        stepped("a", {"union": ["lab.b"]}), stepped("b", {"union": ["lab.c"]}), stepped("c", {"union": ["lab.a"]})
    )
    assert len(found) == 1
    assert found[0][0][-1] == "steps"
    assert "the datasets read each other in a circle: " in found[0][1]


def test_a_dataset_that_needs_a_parameter_cannot_be_read_by_a_step() -> None:
    needs = dataset("needs", params=(Param("site", required=True),))
    assert problems(needs, stepped("runs", {"union": ["lab.needs"]})) == [
        (
            (*AT, 1, "steps", 0, "union"),
            "`lab.needs` needs the parameter `site`, which a step cannot give (set a default)",
        )
    ]
    given = dataset("needs", params=(Param("site", required=True, default="a"),))
    assert problems(given, stepped("runs", {"union": ["lab.needs"]})) == []


def test_columns_made_by_steps_are_known_to_the_datasets_that_read_them() -> None:
    made = stepped("made", {"derive": {"double": "value * 2"}}, {"drop": ["value", "time"]})
    join = {"join": {"with": "lab.made", "on": ["model"], "columns": ["double"]}}
    assert problems(stepped("runs", join, {"filter": "double > 1"}), made) == []
    wrong = {"join": {"with": "lab.made", "on": ["model"], "columns": ["value"]}}
    assert [loc for loc, _ in problems(stepped("runs", wrong), made)] == [(*AT, 0, "steps", 0, "join", "columns", 0)]


def test_of_undeclared_columns_nothing_is_said_before_they_are_known() -> None:
    assert problems(stepped("runs", {"drop": ["nothing"]}, columns=())) == []
    unknown = stepped("other", {"drop": ["nothing"]}, columns=())
    found = problems(unknown, stepped("runs", {"drop": ["nope"]}, {"union": ["lab.other"]}, {"drop": ["nothing"]}))
    # What stands before the dataset that is not known yet can be judged.
    assert [loc for loc, _ in found] == [(*AT, 1, "steps", 0, "drop", 0)]
    assert problems(unknown, stepped("runs", {"union": ["lab.other"]}, {"drop": ["nothing"]})) == []


def test_a_thousand_datasets_in_a_row_are_judged_without_recursion() -> None:
    """They are too many to be asked: each question would go down through all of them."""
    chain = [stepped(f"d{n}", {"union": [f"lab.d{n + 1}"]}) for n in range(1_200)]
    (problem,) = problems(*chain, dataset("d1200"))
    assert problem[1].startswith("`lab.d1184` stands on more than 16 datasets")


def test_datasets_cannot_be_piled_up_without_end() -> None:
    """Each question goes down all the ways: of twenty datasets that read the one before twice there are a million."""
    row = [stepped("d0"), *(stepped(f"d{n}", {"union": [f"lab.d{n - 1}"]}) for n in range(1, 17))]
    assert problems(*row[:16]) == []
    loc, text = problems(*row)[0]
    assert loc == (*AT, 16, "steps")
    assert text.startswith("`lab.d16` stands on more than 16 datasets read one another in a row (")
    ladder = [stepped("d0"), *(stepped(f"d{n}", *[{"union": [f"lab.d{n - 1}"]}] * 2) for n in range(1, 12))]
    assert [text[:45] for _, text in problems(*ladder)] == ["`lab.d9` stands on more than 1000 reads (join"]
