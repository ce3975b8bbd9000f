"""Choices of variables are told apart by their text, and none is lost."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.web.variables import MAX_OPTIONS, _choices, _object


def shown(*pairs: tuple[str, str]) -> list[tuple[str, str]]:
    return [(item["__text"], item["__value"]) for item in _choices(pairs)]


@pytest.mark.parametrize(
    ("pairs", "found"),
    [
        ([], []),
        ([("a", "1"), ("b", "2")], [("a", "1"), ("b", "2")]),
        ([("a", "1"), ("a", "1")], [("a", "1")]),
        ([("a", "1"), ("a", "2"), ("a", "3")], [("a", "1"), ("a (2)", "2"), ("a (3)", "3")]),
        ([("a", "1"), ("b", "1")], [("a", "1"), ("b", "1")]),
        # A text that looks as if it had been made unique.
        ([("a (2)", "x"), ("a", "1"), ("a", "2")], [("a (2)", "x"), ("a", "1"), ("a (2) 2", "2")]),
        ([("a (2)", "x"), ("a (2) 2", "y"), ("a", "1"), ("a", "2")], None),
    ],
)
def test_no_two_choices_look_alike_and_none_is_lost(pairs: Any, found: Any) -> None:
    got = shown(*pairs)
    if found is not None:
        assert got == found
    assert len({text for text, _ in got}) == len(got) == len(set(pairs))
    assert {value for _, value in got} == {value for _, value in pairs}


def test_more_choices_than_anyone_can_look_through_are_cut() -> None:
    pairs = [(str(number), str(number)) for number in range(MAX_OPTIONS + 10)]
    assert len(shown(*pairs)) == MAX_OPTIONS


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        ({"dataset": "a.b"}, {"dataset": "a.b"}),
        (' {"dataset": "a.b"}', {"dataset": "a.b"}),
        ("a.b.c", {"target": "a.b.c"}),
        ("{a.b,a.c}", {"target": "{a.b,a.c}"}),
        ("[1]", {"target": "[1]"}),
        (None, {"target": None}),
        ([1], {"target": [1]}),
    ],
)
def test_a_query_is_an_object_its_text_or_a_name(payload: Any, found: Any) -> None:
    assert _object(payload) == found


@pytest.mark.parametrize(
    "target",
    ['{"dataset": "lab.runs", "column": "model"}', r'\{"dataset": "lab\.runs", "column": "model"\}'],
)
def test_a_query_written_as_json_in_the_plain_field_is_read(target: str) -> None:
    assert _object({"target": target}) == {"dataset": "lab.runs", "column": "model"}


@pytest.mark.parametrize("target", ["{a,b}", "{a: b", "lab.runs", 5, ""])
def test_what_only_looks_like_json_stays_a_name(target: Any) -> None:
    assert _object({"target": target}) == {"target": target}
