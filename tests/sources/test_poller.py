"""Datasets are fetched at intervals of their own, and none waits for another."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from bridge.errors import UpstreamUnavailable
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.sources.poller import MAX_WAIT_S, Poller
from bridge.sources.registry import Poll, SourceConfig
from support import Rig, dataset, frame_of, make_desk, settle, span

DOWN = UpstreamUnavailable("GET http://far: cannot connect")


class Timeline:
    """Sleepers of a rig's clock, woken in the order of their time."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    async def sleep(self, seconds: float) -> None:
        self._count += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.rig.clock.passed_s + seconds, self._count, future))
        await future

    async def advance(self, seconds: float) -> None:
        """Lets so much time pass, waking whoever sleeps until a moment in it."""
        end_s = self.rig.clock.passed_s + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end_s:
            due_s, _, future = heapq.heappop(self._sleepers)
            self.rig.clock.passed_s = max(self.rig.clock.passed_s, due_s)
            if not future.done():
                future.set_result(None)
            await settle()
        self.rig.clock.passed_s = end_s


@asynccontextmanager
async def polling(rig: Rig, jitter: Callable[[], float] = lambda: 0.0) -> AsyncIterator[Timeline]:
    """The rig polled while the block runs."""
    timeline = Timeline(rig)
    poller = Poller(rig.desk, rig.clock, rig.meters, jitter=jitter, sleep=timeline.sleep)
    task = asyncio.create_task(poller.run())
    try:
        yield timeline
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def polled(every_s: float, window_s: float | None = None, **options: Any) -> Any:
    """A dataset that is polled."""
    return dataset(poll=Poll(every_s, window_s), **options)


async def test_each_dataset_has_its_own_interval_and_is_fetched_at_once() -> None:
    rig = make_desk(dataset("fast", poll=Poll(10)), dataset("slow", poll=Poll(60)), dataset("never"))
    async with polling(rig) as timeline:
        await timeline.advance(0)
        assert [query.dataset for query in rig.source().asked] == ["lab.fast", "lab.slow"]
        await timeline.advance(120)
    asked = [query.dataset for query in rig.source().asked]
    assert (asked.count("lab.fast"), asked.count("lab.slow"), asked.count("lab.never")) == (13, 3, 0)
    assert rig.counted("bridge_source_polls_total", dataset="lab.fast", outcome="ok") == 13


async def test_a_panel_finds_what_was_polled() -> None:
    rig = make_desk(polled(10, refresh_s=30))
    async with polling(rig) as timeline:
        await timeline.advance(12)
        fetched = len(rig.source().asked)
        await rig.desk.rows(Query("lab.runs"))
        assert len(rig.source().asked) == fetched


async def test_a_poll_goes_to_the_source_though_the_answer_before_would_do_for_a_panel() -> None:
    rig = make_desk(polled(10, refresh_s=3600))
    async with polling(rig) as timeline:
        await timeline.advance(35)
    assert len(rig.source().asked) == 4


async def test_only_the_last_stretch_is_asked_for_where_a_window_is_given() -> None:
    rig = make_desk(polled(10, 100, refresh_s=5))
    rig.source().pushes = frozenset({"span"})
    rig.clock.passed_s = 1_000
    async with polling(rig) as timeline:
        await timeline.advance(0)
    assert rig.source().asked[0].span == span(900, 1_000)


async def test_first_fetches_are_spread_over_the_interval() -> None:
    given = iter([0.5, 0.25])
    rig = make_desk(dataset("a", poll=Poll(10)), dataset("b", poll=Poll(1_000)))
    async with polling(rig, lambda: next(given)) as timeline:
        await timeline.advance(4.9)
        assert rig.source().asked == []
        await timeline.advance(0.2)
        assert [query.dataset for query in rig.source().asked] == ["lab.a"]
        # The second of them waits a part of five minutes at most, not of its whole interval.
        await timeline.advance(MAX_WAIT_S * 0.25)
        assert "lab.b" in [query.dataset for query in rig.source().asked]


async def test_a_failing_dataset_is_asked_ever_more_rarely_and_at_its_interval_when_it_is_back() -> None:
    rig = make_desk(polled(10, refresh_s=5))
    rig.source().always = DOWN
    asked: list[float] = []
    async with polling(rig) as timeline:
        for _ in range(1_300):
            before = rig.counted("bridge_source_polls_total", dataset="lab.runs", outcome="upstream_unavailable")
            before += rig.counted("bridge_source_polls_total", dataset="lab.runs", outcome="breaker_open")
            await timeline.advance(1)
            after = rig.counted("bridge_source_polls_total", dataset="lab.runs", outcome="upstream_unavailable")
            after += rig.counted("bridge_source_polls_total", dataset="lab.runs", outcome="breaker_open")
            if after > before:
                asked.append(rig.clock.passed_s)
        waits = [round(later - earlier) for earlier, later in itertools.pairwise(asked)]
        assert waits[1:6] == [40, 80, 160, 300, 300]
        rig.source().always = None
        await timeline.advance(400)
        good = rig.counted("bridge_source_polls_total", dataset="lab.runs", outcome="ok")
        await timeline.advance(100)
    assert rig.counted("bridge_source_polls_total", dataset="lab.runs", outcome="ok") - good == 10


async def test_an_interval_longer_than_the_longest_wait_is_not_shortened_by_failures() -> None:
    rig = make_desk(polled(3_600, refresh_s=5))
    rig.source().always = DOWN
    async with polling(rig) as timeline:
        await timeline.advance(3_599)
        assert len(rig.source().asked) == 1


async def test_a_last_good_answer_counts_as_a_failure() -> None:
    rig = make_desk(polled(10, refresh_s=5))
    async with polling(rig) as timeline:
        await timeline.advance(0)
        rig.source().always = DOWN
        await timeline.advance(11)
    assert rig.counted("bridge_source_polls_total", dataset="lab.runs", outcome="upstream_unavailable") == 1


async def test_forty_sources_keep_their_beats_while_some_hang_and_some_fail() -> None:
    """Each of forty on one loop: five never answer, five fail, thirty are fetched at their own intervals."""
    every = {f"s{number}": 5.0 + number % 7 for number in range(40)}
    rig = make_desk(
        sources=[SourceConfig(name, "stub", {}, (polled(each_s, refresh_s=1),)) for name, each_s in every.items()],
    )
    stuck = [f"s{number}" for number in range(5)]
    failing = [f"s{number}" for number in range(5, 10)]
    for name in stuck:
        rig.source(name).always = asyncio.Event()
    for name in failing:
        rig.source(name).always = DOWN
    async with polling(rig) as timeline:
        await timeline.advance(600)
        for name, each_s in every.items():
            count = len(rig.source(name).asked)
            if name in stuck:
                assert count == 1
            elif name in failing:
                assert 3 <= count <= 8
            else:
                assert count == int(600 // each_s) + 1, name


async def test_a_fetch_longer_than_its_interval_is_followed_by_the_next_beat_not_by_a_burst() -> None:
    rig = make_desk(polled(10, refresh_s=5))
    timeline_s: list[float] = []

    async def slow(_: Query) -> Frame:
        timeline_s.append(rig.clock.passed_s)
        if len(timeline_s) == 1:
            rig.clock.advance(37)
        return frame_of()

    rig.source().always = slow
    async with polling(rig) as timeline:
        await timeline.advance(70)
    assert timeline_s == [0, 40, 50, 60, 70]


async def test_an_error_inside_bridge_does_not_end_the_polling_of_others() -> None:
    rig = make_desk(dataset("bad", poll=Poll(10)), dataset("good", poll=Poll(10)))

    def broken(_: Query) -> Query:
        raise RuntimeError("bug")

    rig.desk.keepers["lab.bad"].get = broken  # type: ignore[assignment,method-assign]
    async with polling(rig) as timeline:
        await timeline.advance(20)
    assert rig.counted("bridge_source_polls_total", dataset="lab.good", outcome="ok") == 3
    assert rig.counted("bridge_source_polls_total", dataset="lab.bad", outcome="internal") >= 1


async def test_without_polled_datasets_there_is_nothing_to_do() -> None:
    rig = make_desk()
    await Poller(rig.desk, rig.clock, rig.meters, jitter=lambda: 0.0).run()
    assert rig.source().asked == []
