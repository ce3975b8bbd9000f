"""A step in a few words."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.sources.transform.options import Step
from bridge.sources.transform.words import MAX_CHARS, words


@pytest.mark.parametrize(
    ("step", "text"),
    [
        ({"filter": "accuracy > 0.5"}, "filter accuracy > 0.5"),
        ({"filter": "a > 1\n  and b < 2"}, "filter a > 1 and b < 2"),
        ({"rename": {"a": "b", "c": "d"}}, "rename a to b, c to d"),
        ({"keep": ["a", "b"]}, "keep a, b"),
        ({"drop": ["a", "b", "c", "d", "e"]}, "drop a, b, c, d, …"),
        ({"cast": {"a": "number"}}, "cast a to number"),
        ({"convert": {"t": {"from": "ms", "to": "s"}}}, "convert t to s"),
        ({"derive": {"double": "value * 2"}}, "derive double = value * 2"),
        ({"format": {"loss": {"decimals": 2}, "t": "s"}}, "format loss, t"),
        (
            {"aggregate": {"by": "model", "values": {"best": "max(accuracy)"}}},
            "aggregate best = max(accuracy) by model",
        ),
        ({"aggregate": {"every_s": 60, "values": {"n": "count()"}}}, "aggregate n = count() every 60 s"),
        ({"resample": {"every_s": 0.5}}, "resample every 0.5 s"),
        ({"resample": {"every_s": 60, "by": ["model"]}}, "resample every 60 s by model"),
        ({"union": ["a.b", "c.d"]}, "union a.b, c.d"),
        ({"join": {"with": "a.b", "on": ["run"]}}, "join a.b on run"),
        ({"join": {"with": "a.b", "on": [], "how": "nearest"}}, "join a.b nearest"),
        ({"limit": 5}, "limit 5"),
        ({"limit": {"rows": 5, "by": "loss", "order": "asc"}}, "limit 5 by loss asc"),
    ],
)
def test_each_step_says_what_it_does(step: dict[str, Any], text: str) -> None:
    assert words(Step.model_validate(step)) == text


@pytest.mark.parametrize(
    "step",
    [
        {"filter": "x" * 2_000},
        {"drop": [f"{'c' * 500}{n}" for n in range(900)]},
        {"derive": {f"c{n}": "y" * 2_000 for n in range(500)}},
        {"aggregate": {"by": [f"c{n}" for n in range(900)], "values": {f"v{n}": "max(c1)" for n in range(900)}}},
    ],
)
def test_it_stays_one_short_line(step: dict[str, Any]) -> None:
    text = words(Step.model_validate(step))
    assert len(text) <= MAX_CHARS
    assert text.endswith("…")
    assert "\n" not in text


def test_every_kind_of_step_has_words() -> None:
    """The table above has a line for each of them."""
    marks = test_each_step_says_what_it_does.pytestmark  # type: ignore[attr-defined]
    assert {next(iter(step)) for step, _ in marks[0].args[1]} == set(Step.model_fields)
