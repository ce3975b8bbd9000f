"""Plug-in code cannot outstay its deadline, nor fill the process."""

from __future__ import annotations

import asyncio
import gc

import pytest

from bridge.errors import UpstreamTimeout, UpstreamUnavailable
from bridge.sources.leash import MAX_STRAYS, Leash
from support import settle


class Stubborn:
    """Work that goes on after its cancellation until it is let go, and then fails."""

    def __init__(self) -> None:
        self.begun, self.end = 0, asyncio.Event()

    async def __call__(self) -> str:
        self.begun += 1
        while not self.end.is_set():
            try:
                await self.end.wait()
            except asyncio.CancelledError:
                continue
        raise OSError("too late for anyone")


async def test_what_work_gives_or_raises_comes_through() -> None:
    leash = Leash("lab.runs")

    async def good() -> int:
        return 7

    async def bad() -> int:
        raise KeyError("x")

    assert await leash.run(good, 30) == 7
    with pytest.raises(KeyError):
        await leash.run(bad, 30)


async def test_work_that_is_no_coroutine_fails_as_any_other_bug() -> None:
    def plain() -> list[str]:
        return ["a"]

    with pytest.raises(TypeError):
        await Leash("lab.runs").run(plain, 30)  # type: ignore[arg-type]


async def test_the_deadline_holds_against_work_that_ignores_its_cancellation() -> None:
    work = Stubborn()
    async with asyncio.timeout(30):
        with pytest.raises(UpstreamTimeout, match=r"`lab.runs` did not answer within 0.01 s"):
            await Leash("lab.runs").run(work, 0.01)
    work.end.set()
    await settle()


async def test_too_much_work_that_goes_on_keeps_more_from_beginning_until_it_has_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    leash, work = Leash("lab.runs"), Stubborn()
    for _ in range(MAX_STRAYS):
        with pytest.raises(UpstreamTimeout):
            await leash.run(work, 0)
    with pytest.raises(UpstreamUnavailable, match=f"{MAX_STRAYS} of its fetches go on"):
        await leash.run(work, 30)
    assert work.begun == MAX_STRAYS
    work.end.set()
    await settle()
    with pytest.raises(OSError, match="too late"):
        await leash.run(work, 30)
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_work_that_obeys_is_never_counted_against_its_source() -> None:
    leash, forever = Leash("lab.runs"), asyncio.Event()
    for _ in range(3 * MAX_STRAYS):
        with pytest.raises(UpstreamTimeout):
            await leash.run(forever.wait, 0)
        await settle(3)


async def test_a_caller_that_goes_takes_its_work_along() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    caller = asyncio.create_task(Leash("lab.runs").run(work, 30))
    await settle()
    caller.cancel()
    await asyncio.wait_for(ended.wait(), 30)
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_work_that_cancels_itself_is_told_as_a_failure_and_not_as_the_caller_s_end() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(UpstreamUnavailable, match="gave its work up"):
        await Leash("lab.runs").run(work, 30)
