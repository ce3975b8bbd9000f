from __future__ import annotations

import asyncio

import pytest

from bridge.edge.breaker import Breaker
from bridge.errors import BadQuery, BreakerOpen, NeedsAuth, UpstreamRefused, UpstreamTimeout, UpstreamUnavailable


@pytest.fixture
def breaker(clock):
    return Breaker(clock, failures=3, window_s=60.0, open_s=30.0, max_open_s=100.0, jitter=lambda: 0.0)


async def fail(breaker, error: Exception | None = None):
    with pytest.raises(Exception, match=r".*") as caught:
        async with breaker.guard():
            raise error or UpstreamUnavailable("down")
    return caught.value


async def trip(breaker):
    for _ in range(3):
        await fail(breaker)
    assert breaker.state == "open"


async def test_after_enough_failures_in_a_row_the_server_is_left_alone_and_the_error_says_for_how_long(
    breaker, clock
):
    await trip(breaker)
    clock.advance(10)
    with pytest.raises(BreakerOpen, match="tried again in 20 s") as caught:
        async with breaker.guard():
            pytest.fail("nothing gets through an open breaker")
    assert caught.value.remedy
    assert breaker.retry_in_s == 20


async def test_a_success_between_failures_keeps_it_closed(breaker):
    for _ in range(5):
        await fail(breaker)
        await fail(breaker)
        async with breaker.guard():
            pass
    assert (breaker.state, breaker.retry_in_s) == ("closed", 0)


async def test_failures_far_apart_do_not_add_up(breaker, clock):
    for _ in range(6):
        await fail(breaker)
        clock.advance(31)
    assert breaker.state == "closed"


async def test_exactly_one_trial_goes_through_when_the_pause_is_over(breaker, clock):
    await trip(breaker)
    clock.advance(30)
    assert breaker.state == "half_open"
    entered, go = asyncio.Event(), asyncio.Event()

    async def probe():
        async with breaker.guard():
            entered.set()
            await go.wait()

    task = asyncio.create_task(probe())
    await entered.wait()
    for _ in range(5):
        with pytest.raises(BreakerOpen, match="by another request"):
            async with breaker.guard():
                pytest.fail("a second trial got through")
    go.set()
    await task
    assert breaker.state == "closed"
    async with breaker.guard():
        pass


async def test_each_failed_trial_doubles_the_pause_up_to_its_bound_and_a_success_starts_over(breaker, clock):
    await trip(breaker)
    for pause_s in (30, 60, 100, 100):
        assert breaker.retry_in_s == pause_s
        clock.advance(pause_s)
        await fail(breaker)
        assert breaker.state == "open"
    clock.advance(100)
    async with breaker.guard():
        pass
    await trip(breaker)
    assert breaker.retry_in_s == 30


async def test_jitter_spreads_the_returns(clock):
    breaker = Breaker(clock, failures=1, jitter=lambda: 1.0)
    await fail(breaker)
    assert breaker.retry_in_s == 22.5


async def test_a_cancelled_trial_gives_its_place_to_the_next(breaker, clock):
    await trip(breaker)
    clock.advance(30)
    entered = asyncio.Event()

    async def probe():
        async with breaker.guard():
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(probe())
    await entered.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert breaker.state == "half_open"
    async with breaker.guard():
        pass
    assert breaker.state == "closed"


@pytest.mark.parametrize(
    "error", [UpstreamTimeout("slow"), UpstreamRefused("500", far_status=500), RuntimeError("bug")]
)
async def test_what_speaks_of_a_sick_server_counts(breaker, error):
    for _ in range(3):
        assert await fail(breaker, error) is error
    assert breaker.state == "open"


async def test_a_callers_own_mistake_says_nothing_of_the_server(breaker, clock):
    for _ in range(5):
        await fail(breaker, BadQuery("no such column"))
    assert breaker.state == "closed"
    await trip(breaker)
    clock.advance(30)
    await fail(breaker, BadQuery("no such column"))
    assert breaker.state == "half_open"


async def test_a_clear_no_is_an_answer_and_closes_the_breaker(breaker, clock):
    await trip(breaker)
    clock.advance(30)
    await fail(breaker, NeedsAuth("401"))
    assert breaker.state == "closed"


async def test_a_request_from_before_the_break_has_no_say_after_it(breaker, clock):
    go = asyncio.Event()

    async def slow(error: Exception | None):
        async with breaker.guard():
            await go.wait()
            if error is not None:
                raise error

    late = [asyncio.create_task(slow(None)), asyncio.create_task(slow(UpstreamTimeout("slow")))]
    await asyncio.sleep(0)
    await trip(breaker)
    clock.advance(5)
    go.set()
    await asyncio.gather(*late, return_exceptions=True)
    assert (breaker.state, breaker.retry_in_s) == ("open", 25)
