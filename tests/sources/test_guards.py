"""A source that fails, or whose answers are bad, is left alone for a while, and tried again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.errors import BreakerOpen, UpstreamRefused, UpstreamUnavailable
from bridge.model.query import Query
from bridge.sources.guards import FAILURES, MAX_OWN, Guards
from support import ManualClock, where

Q = Query("lab.runs")
DOWN = UpstreamUnavailable("GET http://far: cannot connect")
REFUSED = UpstreamRefused("GET http://far: 500", far_status=500)


class Far:
    """A source that does as it is told."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.guards = Guards(self.clock, lambda: 0.0, deadline_s=25.0)
        self.asked = 0
        self.fault: Exception | None = None

    async def ask(self, query: Query = Q) -> str:
        async def work() -> str:
            self.asked += 1
            if self.fault is not None:
                raise self.fault
            return "rows"

        return await self.guards.through(query, work)

    async def failing(self, times: int, query: Query = Q) -> None:
        for _ in range(times):
            with pytest.raises((UpstreamUnavailable, UpstreamRefused)):
                await self.ask(query)


async def test_failures_in_a_row_open_it_and_one_success_closes_it() -> None:
    far = Far()
    assert await far.ask() == "rows"
    far.fault = DOWN
    await far.failing(FAILURES)
    assert far.guards.state == "open"
    with pytest.raises(BreakerOpen, match="is left alone; it is tried again in 30 s"):
        await far.ask()
    assert far.asked == FAILURES + 1
    far.clock.advance(30)
    assert far.guards.state == "half_open"
    far.fault = None
    await far.ask()
    assert far.guards.state == "closed"


@pytest.mark.parametrize(
    "own", [replace(Q, params=(("host", ("a",)),)), replace(Q, filters=where("model=svm"))], ids=["params", "filters"]
)
async def test_what_one_question_makes_the_far_side_refuse_is_that_question_s(own: Query) -> None:
    far = Far()
    far.fault = REFUSED
    await far.failing(FAILURES, own)
    with pytest.raises(BreakerOpen):
        await far.ask(own)
    far.fault = None
    assert (await far.ask(), far.guards.state) == ("rows", "closed")
    # A far side that is not there at all is down for every question.
    far.fault = DOWN
    await far.failing(FAILURES, replace(own, params=(("host", ("b",)),)))
    assert far.guards.state == "open"


async def test_the_questions_asked_last_are_remembered() -> None:
    far = Far()
    far.fault = REFUSED
    for number in range(MAX_OWN + 1):
        await far.failing(FAILURES, replace(Q, params=(("n", (str(number),)),)))
    with pytest.raises(BreakerOpen):
        await far.ask(replace(Q, params=(("n", (str(MAX_OWN),)),)))
    # The first of them is forgotten, and so asked again.
    await far.failing(1, replace(Q, params=(("n", ("0",)),)))


async def test_bad_answers_in_a_row_leave_the_source_alone_for_ever_longer() -> None:
    far = Far()
    for count in range(1, FAILURES):
        far.guards.rest(Q, count)
        assert far.guards.state == "closed"
    for trial, pause_s in enumerate((30, 60, 120, 240, 300, 300)):
        far.guards.rest(Q, FAILURES + trial)
        assert far.guards.state == "open"
        with pytest.raises(
            BreakerOpen, match=f"the source gave {FAILURES + trial} answers in a row that checks held"
        ):
            await far.ask()
        far.clock.advance(pause_s - 0.1)
        assert far.guards.state == "open"
        far.clock.advance(0.1)
        await far.ask()
    # One that is good is the end of it.
    far.guards.rest(Q, 1)
    far.guards.rest(Q, FAILURES)
    far.clock.advance(30)
    assert far.guards.state == "half_open"


async def test_answers_that_were_under_way_when_it_opened_do_not_make_the_pause_longer() -> None:
    far = Far()
    for count in range(1, 4 * FAILURES):
        far.guards.rest(Q, count)
    far.clock.advance(30)
    assert far.guards.state == "half_open"
