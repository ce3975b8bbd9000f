"""What is wrong with a dataset is told in bridge's words, and only while it is wrong."""

from __future__ import annotations

import pytest

from bridge.errors import (
    AnswerTooLarge,
    BadQuery,
    BreakerOpen,
    BridgeError,
    HeldBack,
    NeedsAuth,
    PluginFailed,
    SchemaChanged,
    UpstreamUnavailable,
)
from bridge.model.query import Query
from bridge.sources.trouble import Failure, Trouble
from support import span

Q = Query("lab.runs")
DOWN = UpstreamUnavailable("GET http://far: cannot connect", remedy="check that the server runs")


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (DOWN, "down"),
        (NeedsAuth("401"), "needs_auth"),
        (HeldBack("half of it is null"), "held_back"),
        (SchemaChanged("`value` is gone"), "schema_changed"),
        (AnswerTooLarge("too many rows"), "down"),
    ],
)
def test_a_failure_gives_the_dataset_its_state_until_it_recovers(error: BridgeError, state: str) -> None:
    trouble = Trouble("lab.runs")
    assert (trouble.state, trouble.last) == ("unknown", None)
    assert trouble.told(error, Q) is error
    assert (trouble.state, trouble.last) == (state, Failure(error.message, error.remedy))
    trouble.recovered()
    assert (trouble.state, trouble.last) == ("ok", None)


@pytest.mark.parametrize(
    ("error", "query"),
    [(BadQuery("no such column"), Q), (AnswerTooLarge("too many rows"), Query("lab.runs", span=span(0, 1)))],
)
def test_a_wrong_question_says_nothing_of_the_dataset(error: BridgeError, query: Query) -> None:
    trouble = Trouble("lab.runs")
    assert trouble.told(error, query) is error
    assert trouble.state == "unknown"


def test_a_breaker_names_the_failure_that_opened_it() -> None:
    trouble = Trouble("lab.runs")
    breaker = BreakerOpen("it is left alone", remedy="wait")
    assert trouble.told(breaker, Q) is breaker
    trouble.failed(DOWN)
    told = trouble.told(breaker, Q)
    assert (type(told), told.message) == (
        BreakerOpen,
        "it is left alone (last error: GET http://far: cannot connect)",
    )
    assert told.remedy == "check that the server runs"
    assert trouble.last == Failure(DOWN.message, DOWN.remedy)


def test_what_a_plug_in_should_not_have_raised_is_told_without_its_words() -> None:
    trouble = Trouble("lab.runs")
    told = trouble.told(ValueError("password=secret"), Q)
    assert isinstance(told, PluginFailed)
    assert told.message == "`lab.runs`: its plug-in failed with ValueError"
    with pytest.raises(PluginFailed, match="ZeroDivisionError"), trouble.of_plugin():
        print(1 / 0)
    with pytest.raises(UpstreamUnavailable), trouble.of_plugin():
        raise DOWN
