"""What may be written under `checks`, and what a wrong one is told."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from bridge.model.finding import Level
from bridge.sources.quality.options import MAX_VALUES, Check

SHORT = {
    "a column": ({"complete": "a"}, {"complete": {"columns": ["a"]}}),
    "columns": ({"complete": ["a", "b"]}, {"complete": {"columns": ["a", "b"]}}),
    "seconds": ({"gaps": 60}, {"gaps": {"max_gap_s": 60}}),
    "an age": ({"fresh": 0.5}, {"fresh": {"max_age_s": 0.5}}),
    "the fewest rows": ({"rows": 3}, {"rows": {"min": 3}}),
    "a key": ({"unique": "a"}, {"unique": {"columns": ["a"]}}),
    "a counter": ({"ordered": "a"}, {"ordered": {"column": "a"}}),
    "a rule": ({"rule": "a > 0"}, {"rule": {"that": "a > 0"}}),
    "pairs": (
        {"reference": {"dataset": "a.b", "on": ["k"], "compare": "v"}},
        {"reference": {"dataset": "a.b", "on": {"k": "k"}, "compare": {"v": "v"}}},
    ),
}


@pytest.mark.parametrize(("short", "long"), SHORT.values(), ids=SHORT)
def test_short_ways_to_write_a_check_mean_the_long_ones(short: dict[str, Any], long: dict[str, Any]) -> None:
    assert Check.model_validate(short) == Check.model_validate(long)


def test_a_check_has_a_level_a_name_and_the_datasets_it_reads() -> None:
    plain = Check.model_validate({"rows": 1})
    assert (plain.said, plain.kind, plain.title, plain.level, plain.others) == (
        ("rows",),
        "rows",
        "rows",
        Level.WARN,
        (),
    )
    given = {"reference": {"dataset": "a.b", "on": "k", "compare": "v"}, "level": "block", "name": "truth"}
    named = Check.model_validate(given)
    assert (named.kind, named.title, named.level, named.others) == ("reference", "truth", Level.BLOCK, ("a.b",))


def test_values_stay_what_they_are() -> None:
    check = Check.model_validate({"one_of": {"column": "a", "values": [True, 1, 1.0, "1", 2**63]}})
    assert check.one_of is not None
    assert [*map(type, check.one_of.values)] == [bool, int, float, str, int]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no check": ({"level": "warn"}, "a check has exactly one key beside `level` and `name`, this one has none"),
    "two checks": ({"rows": 1, "gaps": 1}, "this one has gaps, rows"),
    "an unknown check": ({"completeness": "a"}, "Extra inputs are not permitted"),
    "an unknown level": ({"rows": 1, "level": "error"}, "Input should be 'info', 'warn' or 'block'"),
    "a name with a space": ({"rows": 1, "name": "my rows"}, "String should match pattern"),
    "a flag for a number": ({"rows": {"min": True}}, "must be a number, not true"),
    "a flag for seconds": ({"gaps": True}, "Input should be a valid dictionary"),
    "a flag for an edge": ({"range": {"column": "a", "min": False}}, "must be a number, not false"),
    "no edges": ({"range": {"column": "a"}}, "say `min`, `max` or both"),
    "no bounds": ({"rows": {}}, "say `min`, `max` or both"),
    "crossed bounds": ({"rows": {"min": 2, "max": 1}}, "`min` is more than `max`; no answer could pass"),
    "no seconds": ({"gaps": 0}, "greater than 0"),
    "endless seconds": ({"gaps": 1e300}, "less than or equal to"),
    "not a number": ({"fresh": float("nan")}, "finite number"),
    "a share over one": ({"complete": {"max_null_ratio": 5}}, "less than or equal to 1"),
    "no values": ({"one_of": {"column": "a", "values": []}}, "at least 1 item"),
    "too many values": ({"one_of": {"column": "a", "values": ["v"] * (MAX_VALUES + 1)}}, "at most 10000 items"),
    "a list among values": ({"one_of": {"column": "a", "values": [["v"]]}}, "Input should be a valid"),
    "a pattern too long": ({"matches": {"column": "a", "pattern": "a" * 513}}, "at most 512 characters"),
    "no columns": ({"complete": []}, "at least 1 item"),
    "an unknown type": ({"types": {"a": "uuid"}}, "Input should be 'integer', 'json' or 'time'"),
    "no dataset": (
        {"reference": {"dataset": "b", "on": "k", "compare": "v"}},
        "'b' is no dataset; write `source.dataset`",
    ),
    "nothing compared": ({"reference": {"dataset": "a.b", "on": "k", "compare": []}}, "at least 1 item"),
    "below nothing": (
        {"reference": {"dataset": "a.b", "on": "k", "compare": "v", "tolerance": -1}},
        "greater than or equal to 0",
    ),
}


@pytest.mark.parametrize(("given", "text"), WRONG.values(), ids=WRONG)
def test_a_check_that_is_written_wrongly_is_refused(given: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Check.model_validate(given)
    assert text in str(caught.value)
