"""Fresh answers, one fetch for all, retry, breaker, and the last good answer when the source is down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import stamina.instrumentation

from bridge.app import source_configs
from bridge.errors import (
    AnswerTooLarge,
    BadQuery,
    BreakerOpen,
    BridgeError,
    NeedsAuth,
    PluginFailed,
    Retry,
    SchemaMismatch,
    SourceError,
    UpstreamInvalid,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from bridge.model.finding import Finding, Level, ValidationResult
from bridge.model.frame import Frame
from bridge.model.query import Agg, Query
from bridge.model.schema import Schema
from bridge.model.span import EARLIEST, EPOCH, LATEST, Span
from bridge.settings import load_settings
from bridge.sources.base import DataSource
from bridge.sources.guards import FAILURES, MAX_OWN
from bridge.sources.leash import MAX_STRAYS
from bridge.sources.registry import Plugin, SourceConfig, discover
from support import (
    COLUMNS,
    ROWS,
    T0,
    Rig,
    StubSource,
    at,
    dataset,
    frame_of,
    make_desk,
    settle,
    span,
    texts,
    where,
)

Q = Query("lab.runs")
DOWN = UpstreamUnavailable("GET http://far: cannot connect", remedy="check that the server runs")
SPANNED = frozenset({"span"})


async def ask(rig: Rig, query: Query = Q) -> Frame:
    return await rig.keeper().get(query)


# Fresh answers


async def test_a_fresh_answer_is_given_without_asking_the_source_until_its_refresh_interval_is_over() -> None:
    rig = make_desk(dataset(refresh_s=10))
    await ask(rig)
    rig.clock.advance(9.9)
    await ask(rig)
    assert len(rig.source().asked) == 1
    rig.clock.advance(0.1)
    await ask(rig)
    assert len(rig.source().asked) == 2


async def test_without_a_refresh_interval_every_question_goes_to_the_source() -> None:
    rig = make_desk(dataset(refresh_s=0))
    rig.source().pushes = SPANNED
    for _ in range(2):
        await ask(rig, replace(Q, span=span(0, 10)))
    assert [query.span for query in rig.source().asked] == [span(0, 10)] * 2


async def test_where_the_settings_say_nothing_the_plugin_s_own_interval_counts() -> None:
    assert make_desk().keeper().refresh_s == StubSource.default_refresh_s


@pytest.mark.parametrize(
    ("line", "refresh_s"),
    [
        ("volatility: static", 3600.0),
        ("volatility: slow", 60.0),
        ("volatility: live", 5.0),
        ("refresh_s: 7", 7.0),
        ("stale_after_s: 1", 5.0),
    ],
)
def test_volatility_stands_for_a_refresh_interval(tmp_path: Path, line: str, refresh_s: float) -> None:
    path = tmp_path / "bridge.yaml"
    path.write_text(
        "sources: [{name: lab, kind: files, datasets: [{name: runs, options: {path: a.csv}, " + line + "}]}]"
    )
    rig = make_desk(sources=source_configs(load_settings(path, env={})), plugins=discover())
    assert rig.keeper().refresh_s == refresh_s


async def test_questions_that_differ_only_in_what_is_not_pushed_down_share_one_answer() -> None:
    rig = make_desk()
    await ask(rig, replace(Q, span=span(0, 10), filters=where("model=svm"), max_points=5))
    await ask(rig, replace(Q, ref_id="B"))
    assert len(rig.source().asked) == 1


async def test_a_moving_now_meets_its_own_entry_as_pushed_spans_are_widened_to_whole_intervals() -> None:
    rig = make_desk(dataset(refresh_s=5))
    rig.source().pushes = SPANNED
    for now_s in (61, 62.5, 64.9):
        await ask(rig, replace(Q, span=span(now_s - 60, now_s)))
    assert [query.span for query in rig.source().asked] == [span(0, 65)]
    await ask(rig, replace(Q, span=span(5.2, 65.2)))
    assert rig.source().asked[-1].span == span(5, 70)


@pytest.mark.parametrize(
    ("year", "widened"), [(2026, Span(EPOCH, LATEST)), (1950, Span(EARLIEST, EPOCH))], ids=["after", "before 1970"]
)
async def test_an_interval_longer_than_the_calendar_still_makes_one_entry_of_a_moving_span(
    year: int, widened: Span
) -> None:
    rig = make_desk(dataset(refresh_s=1e12))
    rig.source().pushes = SPANNED
    for day in (1, 2):
        await ask(
            rig, replace(Q, span=Span(datetime(year, 1, day, tzinfo=UTC), datetime(year, 1, day + 1, tzinfo=UTC)))
        )
    assert [query.span for query in rig.source().asked] == [widened]


@pytest.mark.parametrize("refresh_s", [0.1, 0.3, 1e-6, 7.7, 3600, 86_400 * 365 * 50, 1e12])
@pytest.mark.parametrize(
    "asked", [span(-0.6, 0.7), span(1e-6, 2e-6), Span(EARLIEST, at(0.9)), Span(at(0), LATEST), Span(EARLIEST, LATEST)]
)
async def test_widening_never_loses_an_instant_of_the_question(refresh_s: float, asked: Span) -> None:
    rig = make_desk(dataset(refresh_s=refresh_s))
    rig.source().pushes = SPANNED
    await ask(rig, replace(Q, span=asked))
    assert rig.source().asked[0].span.contains(asked)
    assert EARLIEST.year - 1 <= rig.source().asked[0].span.start.year
    await ask(rig, replace(Q, span=asked))
    assert len(rig.source().asked) == 1


async def test_a_span_that_ended_long_ago_is_kept_ten_times_longer() -> None:
    rig = make_desk(dataset(refresh_s=5))
    rig.source().pushes = SPANNED
    rig.clock.advance(1_000)
    closed, open_ = replace(Q, span=span(0, 900)), replace(Q, span=span(0, 995))
    await ask(rig, closed)
    await ask(rig, open_)
    rig.clock.advance(49.9)
    await ask(rig, closed)
    assert len(rig.source().asked) == 2
    await ask(rig, open_)
    assert len(rig.source().asked) == 3
    rig.clock.advance(0.1)
    await ask(rig, closed)
    assert len(rig.source().asked) == 4


async def test_fresh_asks_again_but_at_most_every_min_refresh_interval() -> None:
    rig = make_desk(dataset(refresh_s=60, min_refresh_s=2))
    fresh = replace(Q, fresh=True)
    for advance_s, count in ((0, 1), (1.9, 1), (0.1, 2), (1, 2)):
        rig.clock.advance(advance_s)
        await ask(rig, fresh)
        assert len(rig.source().asked) == count
    rig.clock.advance(5)
    await ask(rig)
    assert len(rig.source().asked) == 2


async def test_fresh_never_gets_an_older_answer_than_everyone_else() -> None:
    rig = make_desk(dataset(refresh_s=0.5, min_refresh_s=60))
    await ask(rig)
    rig.clock.advance(0.5)
    await ask(rig, replace(Q, fresh=True))
    assert len(rig.source().asked) == 2


async def test_an_answer_whose_fingerprint_is_unchanged_is_renewed_without_being_collected() -> None:
    rig = make_desk(dataset(refresh_s=5))
    rig.source().token = "a"
    first = await ask(rig)
    rig.clock.advance(5)
    assert await ask(rig) is first
    assert len(rig.source().asked) == 1
    assert rig.keeper().status().age_s == 0
    rig.clock.advance(4.9)
    await ask(rig)
    assert rig.source().probes == 2
    rig.source().token = "b"
    rig.clock.advance(0.1)
    await ask(rig)
    assert len(rig.source().asked) == 2


async def test_a_source_that_cannot_tell_is_collected_every_time() -> None:
    rig = make_desk(dataset(refresh_s=5))
    await ask(rig)
    rig.clock.advance(5)
    await ask(rig)
    assert len(rig.source().asked) == 2


async def test_answers_come_in_the_order_of_their_time_and_say_so_to_later_work() -> None:
    rig = make_desk()
    rig.source().data = frame_of([(2, 1.0, "a"), (None, 5.0, "x"), (0, 2.0, "b"), (2, 3.0, "c")])
    frame = await ask(rig)
    assert frame.data["model"].to_list() == ["x", "b", "a", "c"]
    assert frame.data["time"].flags["SORTED_ASC"]


async def test_how_long_an_answer_stays_fresh_can_be_told_to_browsers() -> None:
    rig = make_desk(dataset(refresh_s=10))
    keeper = rig.keeper()
    assert keeper.max_age_s() == 0
    await ask(rig)
    rig.clock.advance(4)
    assert keeper.max_age_s() == 6
    rig.clock.advance(7)
    assert keeper.max_age_s() == 0
    rig.source().script = [DOWN]
    await ask(rig)
    assert keeper.max_age_s() == 0


async def test_of_several_fresh_answers_the_oldest_decides_what_is_told_to_browsers() -> None:
    rig = make_desk(dataset(refresh_s=10))
    rig.source().pushes = SPANNED
    await ask(rig, replace(Q, span=span(-100, -10)))
    rig.clock.advance(4)
    await ask(rig, replace(Q, span=span(-100, 10)))
    assert rig.keeper().max_age_s() == 6


async def test_once_a_question_failed_or_answers_were_forgotten_browsers_are_to_ask_again() -> None:
    rig = make_desk(dataset(refresh_s=10))
    rig.source().pushes = SPANNED
    await ask(rig, replace(Q, span=span(-100, -10)))
    assert rig.keeper().max_age_s() == 10
    rig.source().script = [DOWN]
    with pytest.raises(UpstreamUnavailable):
        await ask(rig, replace(Q, span=span(100, 200)))
    assert rig.keeper().max_age_s() == 0
    await ask(rig, replace(Q, span=span(100, 200)))
    assert rig.keeper().max_age_s() == 10
    await rig.desk.invalidate("*")
    assert rig.keeper().max_age_s() == 0


async def test_every_question_to_the_cache_is_counted_once_by_its_result() -> None:
    rig = make_desk(dataset(refresh_s=5))
    rig.source().token = "a"

    def counts() -> dict[str, float]:
        names = ("hit", "miss", "renewed", "stale", "failed")
        return {
            name: value
            for name in names
            if (value := rig.counted("bridge_cache_requests_total", dataset="lab.runs", result=name))
        }

    rig.source().script = [DOWN]
    with pytest.raises(UpstreamUnavailable):
        await ask(rig)
    await ask(rig)
    await ask(rig)
    rig.clock.advance(5)
    await ask(rig)
    rig.clock.advance(5)
    rig.source().token, rig.source().script = "b", [DOWN]
    await ask(rig)
    assert counts() == {"failed": 1, "miss": 1, "hit": 1, "renewed": 1, "stale": 1}


async def test_fetches_are_counted_by_outcome_and_timed_unless_nothing_was_fetched() -> None:
    rig = make_desk()
    rig.source().always = DOWN
    for _ in range(FAILURES + 2):
        with pytest.raises(SourceError):
            await ask(rig)

    def fetches(outcome: str) -> float:
        labels = {"source": "lab", "dataset": "lab.runs", "outcome": outcome}
        return rig.counted("bridge_source_fetches_total", **labels)

    assert (fetches("upstream_unavailable"), fetches("breaker_open"), fetches("ok")) == (FAILURES, 2, 0)
    assert rig.counted("bridge_source_fetch_seconds_count", source="lab", dataset="lab.runs") == FAILURES


# One fetch for all who wait


async def test_identical_questions_in_flight_are_fetched_once() -> None:
    rig = make_desk()
    go = asyncio.Event()
    rig.source().script = [go]
    waiting = [asyncio.create_task(ask(rig)) for _ in range(5)]
    await rig.source().started.wait()
    await settle()
    go.set()
    frames = await asyncio.gather(*waiting)
    assert len(rig.source().asked) == 1
    assert all(frame is frames[0] for frame in frames)


async def test_when_all_clients_have_gone_the_fetch_is_cancelled() -> None:
    rig = make_desk()
    rig.source().always = asyncio.Event()
    waiting = [asyncio.create_task(ask(rig)) for _ in range(2)]
    await rig.source().started.wait()
    await settle()
    for task in waiting:
        task.cancel()
    await asyncio.wait_for(rig.source().cancelled.wait(), 30)
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    await settle()
    labels = {"source": "lab", "dataset": "lab.runs", "outcome": "cancelled"}
    assert rig.counted("bridge_source_fetches_total", **labels) == 1
    assert rig.keeper().status().state == "unknown"


async def test_one_client_that_goes_does_not_take_the_answer_from_the_others() -> None:
    rig = make_desk()
    go = asyncio.Event()
    rig.source().always = go
    first, second = asyncio.create_task(ask(rig)), asyncio.create_task(ask(rig))
    await rig.source().started.wait()
    await settle()
    first.cancel()
    await settle()
    assert not rig.source().cancelled.is_set()
    go.set()
    assert (await second).rows == len(ROWS)
    assert len(rig.source().asked) == 1


async def test_a_cancelled_fetch_says_nothing_of_the_source() -> None:
    rig = make_desk()
    rig.source().always = asyncio.Event()
    for _ in range(FAILURES + 1):
        rig.source().started.clear()
        task = asyncio.create_task(ask(rig))
        await rig.source().started.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await settle()
    rig.source().always = None
    assert (await ask(rig)).rows == len(ROWS)


# Retry


@pytest.fixture
def waits() -> Iterator[list[float]]:
    """The pauses before each retry, as they are scheduled."""
    found: list[float] = []
    stamina.instrumentation.set_on_retry_hooks([lambda details: found.append(details.wait_for)])
    yield found
    stamina.instrumentation.set_on_retry_hooks(None)


async def test_a_failure_that_time_can_heal_is_tried_again_and_the_answer_is_good(waits: list[float]) -> None:
    rig = make_desk(dataset(retries=2))
    rig.source().script = [DOWN, UpstreamTimeout("slow")]
    frame = await ask(rig)
    assert len(rig.source().asked) == 3
    assert len(waits) == 2
    assert frame.meta.notices == ()
    assert rig.keeper().status().state == "ok"


async def test_retries_are_bounded_by_the_settings(waits: list[float]) -> None:
    rig = make_desk(dataset(retries=2))
    rig.source().always = DOWN
    with pytest.raises(UpstreamUnavailable):
        await ask(rig)
    assert len(rig.source().asked) == 3


async def test_pauses_grow_and_differ_by_chance(waits: list[float]) -> None:
    rig = make_desk(dataset(retries=4))
    rig.source().always = DOWN
    with pytest.raises(UpstreamUnavailable):
        await ask(rig)
    least = [0.001 * 2**n for n in range(4)]
    # The sums they are told as are rounded in their last digits.
    assert all(low - 1e-9 <= wait <= low + 0.001 + 1e-9 for low, wait in zip(least, waits, strict=True))
    assert all(wait > low + 1e-9 for low, wait in zip(least, waits, strict=True))


async def test_the_pause_a_server_asks_for_is_kept(waits: list[float]) -> None:
    rig = make_desk(dataset(retries=2))
    rig.source().script = [UpstreamRefused("busy", far_status=429, retry_after_s=0.0125)]
    await ask(rig)
    assert waits == [pytest.approx(0.0125)]


async def test_a_pause_beyond_the_deadline_is_not_waited_for(waits: list[float]) -> None:
    rig = make_desk(dataset(retries=2))
    rig.source().always = UpstreamRefused("busy", far_status=429, retry_after_s=3_600)
    with pytest.raises(UpstreamRefused):
        await ask(rig)
    assert (len(rig.source().asked), waits) == (1, [])


@pytest.mark.parametrize(
    "error",
    [
        NeedsAuth("refused"),
        UpstreamInvalid("no JSON"),
        SchemaMismatch("gone"),
        BadQuery("no such model"),
        AnswerTooLarge("too many"),
        ValueError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_will_be_the_same_again_is_not_tried_again(error: Exception) -> None:
    rig = make_desk(dataset(retries=3))
    rig.source().always = error
    with pytest.raises(BridgeError):
        await ask(rig)
    assert len(rig.source().asked) == 1


async def test_retries_end_with_the_deadline() -> None:
    rig = make_desk(dataset(retries=1_000_000), deadline_s=0.2)
    rig.source().always = DOWN
    async with asyncio.timeout(30):
        with pytest.raises(SourceError):
            await ask(rig)


async def test_a_fingerprint_that_cannot_be_had_is_tried_again_as_well() -> None:
    class Shy(StubSource):
        async def fingerprint(self, query: Query) -> str | None:
            await super().fingerprint(query)
            if self.probes == 1:
                raise DOWN
            return None

    rig = make_desk(dataset(retries=1), plugins={"stub": Plugin("stub", "tests", Shy)})
    assert (await ask(rig)).rows == len(ROWS)


# Breaker


async def trip(rig: Rig, error: Exception = DOWN) -> None:
    rig.source().always = error
    for _ in range(FAILURES):
        with pytest.raises(BridgeError):
            await ask(rig)


async def test_after_failures_in_a_row_the_source_is_left_alone_and_the_answer_says_why() -> None:
    rig = make_desk()
    await trip(rig)
    with pytest.raises(
        BreakerOpen, match=r"tried again in 30 s \(last error: GET http://far: cannot connect\)"
    ) as caught:
        await ask(rig)
    assert caught.value.remedy == DOWN.remedy
    assert len(rig.source().asked) == FAILURES
    status = rig.keeper().status()
    assert (status.breaker, status.state, status.error, status.remedy) == ("open", "down", DOWN.message, DOWN.remedy)


async def test_after_the_pause_one_trial_decides_and_success_closes_the_breaker() -> None:
    rig = make_desk()
    await trip(rig)
    rig.clock.advance(30)
    assert rig.keeper().status().breaker == "half_open"
    rig.source().always = None
    assert (await ask(rig)).rows == len(ROWS)
    status = rig.keeper().status()
    assert (status.breaker, status.state, status.error, status.remedy) == ("closed", "ok", None, None)


async def test_a_failed_trial_opens_the_breaker_again() -> None:
    rig = make_desk()
    await trip(rig)
    rig.clock.advance(30)
    with pytest.raises(UpstreamUnavailable):
        await ask(rig)
    with pytest.raises(BreakerOpen):
        await ask(rig)
    assert len(rig.source().asked) == FAILURES + 1


async def test_a_source_that_hangs_opens_the_breaker_too() -> None:
    rig = make_desk(deadline_s=0.02)
    hang = asyncio.Event()
    rig.source().always = hang
    for _ in range(FAILURES):
        with pytest.raises(UpstreamTimeout):
            await ask(rig)
        # As long as real deadlines would have taken one after the other.
        rig.clock.advance(0.02)
    with pytest.raises(BreakerOpen):
        await ask(rig)


async def test_deadlines_that_pass_one_after_the_other_count_as_failures_in_a_row() -> None:
    rig = make_desk(deadline_s=25)
    rig.source().always = DOWN
    for _ in range(FAILURES):
        with pytest.raises(UpstreamUnavailable):
            await ask(rig)
        rig.clock.advance(22.5)
    assert rig.keeper().status().breaker == "open"


async def test_a_plugin_that_raises_whatever_opens_the_breaker() -> None:
    rig = make_desk()
    await trip(rig, KeyError("x"))
    with pytest.raises(BreakerOpen, match="its plug-in failed with KeyError"):
        await ask(rig)


@pytest.mark.parametrize("error", [BadQuery("no such model"), NeedsAuth("refused"), AnswerTooLarge("too many")])
async def test_wrong_questions_and_clear_refusals_never_open_the_breaker(error: BridgeError) -> None:
    rig = make_desk()
    await trip(rig, error)
    with pytest.raises(type(error)):
        await ask(rig)
    assert rig.keeper().status().breaker == "closed"


async def test_a_breaker_that_opens_under_a_healthy_looking_dataset_is_told_as_it_is() -> None:
    rig = make_desk()
    rig.source().pushes = frozenset({"filters"})
    go = asyncio.Event()
    rig.source().script = [go]
    slow = asyncio.create_task(ask(rig, replace(Q, filters=where("model=svm"))))
    await rig.source().started.wait()
    await trip(rig)
    go.set()
    await slow
    with pytest.raises(BreakerOpen, match=r"is tried again in 30 s$"):
        await ask(rig)


# The last good answer


async def stale(rig: Rig, error: Exception = DOWN, query: Query = Q) -> Frame:
    rig.source().always = error
    return await ask(rig, query)


async def test_when_the_source_is_down_the_last_good_answer_is_given_and_says_so() -> None:
    rig = make_desk(dataset(refresh_s=5, stale_after_s=60))
    await ask(rig)
    rig.clock.advance(42)
    frame = await stale(rig)
    assert frame.data.equals(frame_of().data)
    assert texts(frame) == [
        "warning: GET http://far: cannot connect. Shown is the last good answer, 42 s old "
        "(2026-01-31 12:00:00 UTC). Check that the server runs"
    ]
    assert frame.meta.custom["lineage"]["fetched_at"] == T0.isoformat()
    assert {key: value for key, value in frame.meta.custom.items() if key != "lineage"} == {
        "stale": True,
        "age_s": 42.0,
        "last_updated": "2026-01-31T12:00:00+00:00",
        "state": "down",
        "error": "upstream_unavailable",
    }
    status = rig.keeper().status()
    assert (status.state, status.stale, status.age_s, status.last_success) == ("down", True, 42, T0.isoformat())


@pytest.mark.parametrize(
    ("stale_after_s", "age_s", "severity"),
    [(60, 60, "warning"), (60, 60.1, "error"), (None, 1e6, "warning"), (0, 6, "error")],
)
async def test_a_warning_becomes_an_error_when_the_answer_is_too_old(
    stale_after_s: float | None, age_s: float, severity: str
) -> None:
    rig = make_desk(dataset(stale_after_s=stale_after_s))
    await ask(rig)
    rig.clock.advance(age_s)
    frame = await stale(rig)
    assert [notice.severity for notice in frame.meta.notices] == [severity]


@pytest.mark.parametrize(
    ("age_s", "words"), [(119, "119 s old"), (120, "2 min old"), (7199, "120 min old"), (7200, "2.0 h old")]
)
async def test_ages_are_told_in_units_people_read(age_s: float, words: str) -> None:
    rig = make_desk()
    await ask(rig)
    rig.clock.advance(age_s)
    assert words in texts(await stale(rig))[0]


async def test_an_answer_that_comes_back_carries_no_mark_any_more() -> None:
    rig = make_desk()
    await ask(rig)
    rig.clock.advance(10)
    await stale(rig)
    rig.source().always = None
    frame = await ask(rig)
    assert frame.meta.notices == ()
    assert frame.meta.custom.keys() == {"lineage"}
    assert rig.keeper().status().stale is False


async def test_where_nothing_was_ever_fetched_the_error_itself_is_the_answer() -> None:
    rig = make_desk()
    with pytest.raises(UpstreamUnavailable):
        await stale(rig)
    status = rig.keeper().status()
    assert (status.state, status.stale, status.age_s, status.last_success, status.rows) == (
        "down",
        False,
        None,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UpstreamTimeout("slow"), "upstream_timeout"),
        (UpstreamInvalid("HTML"), "upstream_invalid"),
        (SchemaMismatch("gone"), "schema_mismatch"),
        (ZeroDivisionError("bug"), "plugin_failed"),
        (asyncio.Event(), "upstream_timeout"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_whatever_fails_the_last_good_answer_stands_in(error: Any, code: str) -> None:
    rig = make_desk(deadline_s=0.1)
    await ask(rig)
    rig.clock.advance(10)
    frame = await stale(rig, error)
    assert frame.meta.custom["error"] == code
    assert frame.rows == len(ROWS)


async def test_while_the_breaker_is_open_the_last_good_answer_still_stands_in() -> None:
    rig = make_desk()
    await ask(rig)
    rig.clock.advance(10)
    for _ in range(FAILURES):
        await stale(rig)
    frame = await stale(rig)
    assert frame.meta.custom["error"] == "breaker_open"
    assert "last error: GET http://far: cannot connect" in texts(frame)[0]


@pytest.mark.parametrize(
    "error", [BadQuery("no such model"), AnswerTooLarge("too many", remedy="narrow")], ids=["query", "size"]
)
async def test_an_error_of_the_question_is_not_hidden_behind_an_old_answer(error: BridgeError) -> None:
    rig = make_desk()
    await ask(rig)
    rig.clock.advance(10)
    with pytest.raises(type(error)):
        await stale(rig, error)


async def test_refused_credentials_are_a_state_of_their_own_with_the_remedy() -> None:
    rig = make_desk()
    await ask(rig)
    rig.clock.advance(10)
    frame = await stale(rig, NeedsAuth("GET http://far: 401", remedy="renew auth.token of source lab"))
    assert frame.meta.custom["state"] == "needs_auth"
    assert texts(frame)[0].endswith("Renew auth.token of source lab")
    status = rig.keeper().status()
    assert (status.state, status.remedy) == ("needs_auth", "renew auth.token of source lab")


async def test_a_wrong_question_does_not_change_what_is_said_of_the_dataset() -> None:
    rig = make_desk()
    rig.source().pushes = frozenset({"filters"})
    await ask(rig)
    for error in (BadQuery("no such model"), AnswerTooLarge("too many")):
        rig.source().always = error
        with pytest.raises(BridgeError):
            await ask(rig, replace(Q, filters=where("model=nope")))
        assert rig.keeper().status().state == "ok"


async def test_a_dataset_that_is_too_large_as_a_whole_is_shown_as_down() -> None:
    rig = make_desk(max_rows=2)
    with pytest.raises(AnswerTooLarge, match=r"`lab.runs` has more than 2 rows") as caught:
        await ask(rig)
    assert "limits.rows" in caught.value.remedy
    assert rig.keeper().status().state == "down"


async def test_a_frame_over_the_row_limit_is_not_worked_on() -> None:
    class Busy(StubSource):
        def transform(self, frame: Frame) -> Frame:
            raise AssertionError("was called")

    rig = make_desk(plugins={"stub": Plugin("stub", "tests", Busy)}, max_rows=2)
    with pytest.raises(AnswerTooLarge):
        await ask(rig)


async def test_a_transform_cannot_pass_the_row_limit_either() -> None:
    class Doubling(StubSource):
        def transform(self, frame: Frame) -> Frame:
            return frame.with_data(pl.concat([frame.data, frame.data]))

    rig = make_desk(plugins={"stub": Plugin("stub", "tests", Doubling)}, max_rows=5)
    with pytest.raises(AnswerTooLarge):
        await ask(rig)


# Spans


async def test_over_a_moving_span_the_answer_over_an_overlapping_one_stands_in() -> None:
    rig = make_desk(dataset(refresh_s=5))
    rig.source().pushes = SPANNED
    await ask(rig, replace(Q, span=span(-60, 0)))
    rig.clock.advance(30)
    frame = await stale(rig, DOWN, replace(Q, span=span(-30, 30)))
    assert frame.meta.custom["age_s"] == 30
    assert "it covers only" not in texts(frame)[0]


@pytest.mark.parametrize("asked", [span(0, 60), span(-200, -60), span(100, 160)], ids=["touching", "before", "after"])
async def test_an_answer_over_a_span_that_does_not_overlap_never_stands_in(asked: Span) -> None:
    rig = make_desk(dataset(refresh_s=5))
    rig.source().pushes = SPANNED
    await ask(rig, replace(Q, span=span(-60, 0)))
    with pytest.raises(UpstreamUnavailable):
        await stale(rig, DOWN, replace(Q, span=asked))


async def test_an_answer_to_other_filters_never_stands_in() -> None:
    rig = make_desk(dataset(refresh_s=5))
    rig.source().pushes = frozenset({"span", "filters"})
    await ask(rig, replace(Q, span=span(-60, 0), filters=where("model=svm")))
    with pytest.raises(UpstreamUnavailable):
        await stale(rig, DOWN, replace(Q, span=span(-60, 5), filters=where("model=tree")))


async def test_a_question_without_a_span_gets_no_answer_that_covers_only_one() -> None:
    rig = make_desk(dataset(refresh_s=5))
    rig.source().pushes = SPANNED
    await ask(rig, replace(Q, span=span(-60, 0)))
    with pytest.raises(UpstreamUnavailable):
        await stale(rig, DOWN, Q)
    rig.source().always = None
    await ask(rig, Q)
    rig.source().always = DOWN
    with pytest.raises(UpstreamUnavailable):
        await ask(rig, replace(Q, span=span(1_000, 2_000)))


async def test_of_several_overlapping_answers_the_one_that_shares_most_stands_in_and_says_what_it_leaves_out() -> (
    None
):
    rig = make_desk(dataset(refresh_s=5))
    rig.source().pushes = SPANNED
    rig.clock.advance(10_000)
    for asked in (span(0, 1_000), span(0, 5_000), span(4_000, 10_000)):
        await ask(rig, replace(Q, span=asked))
    frame = await stale(rig, DOWN, replace(Q, span=span(0, 5_500)))
    assert "; it covers only 2026-01-31 12:00:00 UTC to 2026-01-31 13:23:20 UTC." in texts(frame)[0]


async def test_of_equally_good_answers_the_newest_stands_in() -> None:
    rig = make_desk(dataset(refresh_s=5))
    rig.source().pushes = SPANNED
    await ask(rig, replace(Q, span=span(-60, 0)))
    rig.clock.advance(100)
    await ask(rig, replace(Q, span=span(-60, 5)))
    assert (await stale(rig, DOWN, replace(Q, span=span(-30, 0)))).meta.custom["age_s"] == 0


async def test_answers_that_had_to_leave_the_cache_are_passed_over() -> None:
    rig = make_desk(dataset(refresh_s=5))
    rig.source().pushes = SPANNED
    await ask(rig, replace(Q, span=span(-60, 0)))
    await rig.cache.invalidate("*")
    with pytest.raises(UpstreamUnavailable):
        await stale(rig, DOWN, replace(Q, span=span(-60, 5)))


async def test_a_bounded_number_of_spans_is_remembered() -> None:
    rig = make_desk(dataset(refresh_s=5))
    rig.source().pushes = SPANNED
    for number in range(70):
        await ask(rig, replace(Q, span=span(number * 100, number * 100 + 5)))
    rig.source().always = DOWN
    with pytest.raises(UpstreamUnavailable):
        await ask(rig, replace(Q, span=span(0, 10)))
    assert (await ask(rig, replace(Q, span=span(6_900, 6_910)))).meta.custom["stale"]


# What blocks


async def test_a_frame_held_back_by_its_checks_never_replaces_the_last_good_one() -> None:
    rig = make_desk()
    await ask(rig)
    rig.clock.advance(10)
    rig.source().data = frame_of([(0, "x")], (COLUMNS[0], replace(COLUMNS[2], name="value")))
    frame = await ask(rig)
    assert frame.data["value"].to_list() == [1.0, 2.0, 3.0]
    assert frame.meta.custom["error"] == "schema_mismatch"
    said = texts(frame)[0]
    assert "column `value` is declared number but holds String" in said
    assert "column `model` is missing from the data" in said
    assert "Compare the data with `columns`" in said
    rig.source().always = DOWN
    assert (await ask(rig)).data["value"].to_list() == [1.0, 2.0, 3.0]


async def test_findings_of_checks_are_shown_by_their_level() -> None:
    class Careful(StubSource):
        def validate(self, frame: Frame) -> ValidationResult:
            levels = ((Level.WARN, "half of it is null"), (Level.INFO, "seen"))
            return ValidationResult(tuple(Finding("nulls", level, text) for level, text in levels))

    rig = make_desk(plugins={"stub": Plugin("stub", "tests", Careful)})
    assert texts(await ask(rig)) == ["warning: half of it is null", "info: seen"]


async def test_a_source_whose_plugin_s_checks_block_every_answer_is_left_alone() -> None:
    class Careful(StubSource):
        def validate(self, frame: Frame) -> ValidationResult:
            return ValidationResult((Finding("nulls", Level.BLOCK, "all of it is null"),))

    rig = make_desk(plugins={"stub": Plugin("stub", "tests", Careful)})
    for _ in range(FAILURES):
        with pytest.raises(SchemaMismatch, match="all of it is null"):
            await ask(rig)
    with pytest.raises(BreakerOpen, match="answers in a row that checks held back"):
        await ask(rig)
    assert len(rig.source().asked) == FAILURES


async def test_the_plugin_s_transform_comes_before_its_checks_and_cannot_rename_the_dataset() -> None:
    class Changing(StubSource):
        def transform(self, frame: Frame) -> Frame:
            assert frame.name == "lab.runs"
            return replace(frame.with_data(frame.data.with_columns(pl.col("value") * 2)), name="other.thing")

    rig = make_desk(plugins={"stub": Plugin("stub", "tests", Changing)})
    frame = await ask(rig)
    assert (frame.name, frame.data["value"].to_list()) == ("lab.runs", [2.0, 4.0, 6.0])


@pytest.mark.parametrize("given", [None, "text"], ids=["nothing", "text"])
async def test_a_plugin_that_gives_no_frame_is_told_as_that(given: Any) -> None:
    async def answer(_: Query) -> Any:
        return given

    rig = make_desk()
    rig.source().always = answer
    with pytest.raises(PluginFailed, match=f"gave {type(given).__name__} instead of a frame"):
        await ask(rig)


async def test_what_a_plugin_raises_is_logged_and_its_text_stays_inside(caplog: pytest.LogCaptureFixture) -> None:
    rig = make_desk()
    rig.source().always = RuntimeError("password is swordfish")
    with pytest.raises(PluginFailed, match="its plug-in failed with RuntimeError") as caught:
        await ask(rig)
    assert "swordfish" not in caught.value.message + caught.value.remedy
    assert "swordfish" in caplog.text


async def test_going_down_and_coming_back_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "bridge.sources")
    rig = make_desk(dataset(refresh_s=0))
    rig.source().script = [DOWN, DOWN]
    for _ in range(2):
        with pytest.raises(UpstreamUnavailable):
            await ask(rig)
    for _ in range(2):
        await ask(rig)
    assert [record.message for record in caplog.records] == ["dataset failed", "dataset answers again"]


@pytest.mark.parametrize("method", ["narrow", "schema"])
async def test_a_plugin_whose_plain_methods_raise_harms_nobody_else(method: str) -> None:
    def broken(self: StubSource, _: Any) -> Any:
        raise KeyError(method)

    cls = type("Broken", (StubSource,), {method: broken})
    rig = make_desk(plugins={"stub": Plugin("stub", "tests", cls)})
    if method == "schema":
        assert rig.keeper().schema is None
        await ask(rig)
        assert rig.keeper().schema == Schema(COLUMNS)
        return
    with pytest.raises(PluginFailed, match="its plug-in failed with KeyError"):
        await ask(rig)
    assert rig.keeper().status().state == "down"


async def test_a_narrowing_that_refuses_the_question_is_no_failure_of_the_source() -> None:
    class Strict(StubSource):
        def narrow(self, query: Query) -> Query:
            raise BadQuery("`step` is needed")

    rig = make_desk(plugins={"stub": Plugin("stub", "tests", Strict)})
    with pytest.raises(BadQuery):
        await ask(rig)
    assert rig.keeper().status().state == "unknown"


async def test_a_source_that_narrows_columns_does_not_narrow_what_the_dataset_publishes() -> None:
    rig = make_desk(dataset(columns=()))
    rig.source().pushes = frozenset({"columns"})
    whole = await ask(rig)
    part = COLUMNS[:2]
    rig.source().data = frame_of([row[:2] for row in ROWS], part)
    await ask(rig, replace(Q, columns=("time", "value")))
    assert rig.keeper().schema == whole.schema


# Invalidation


async def test_after_an_invalidation_the_source_is_asked_and_nothing_old_stands_in() -> None:
    rig = make_desk(dataset(refresh_s=60))
    await ask(rig)
    assert await rig.desk.invalidate("lab.*") == 1
    with pytest.raises(UpstreamUnavailable):
        await stale(rig)
    status = rig.keeper().status()
    assert (status.rows, status.age_s, status.stale) == (None, None, False)
    rig.source().always = None
    await ask(rig)
    assert len(rig.source().asked) == 3


async def test_a_fetch_under_way_at_an_invalidation_brings_no_old_data_back() -> None:
    rig = make_desk(dataset(refresh_s=60))
    go = asyncio.Event()
    old = frame_of([(0, 99.0, "old")])

    async def answer(_: Query) -> Frame:
        await go.wait()
        return old

    rig.source().script = [answer]
    before = asyncio.create_task(ask(rig))
    await rig.source().started.wait()
    await rig.desk.invalidate("*")
    # Whoever asks now does not join the fetch that began before.
    assert (await ask(rig)).data["value"].to_list() == [1.0, 2.0, 3.0]
    go.set()
    assert (await before).data["value"].to_list() == [99.0]
    assert (await ask(rig)).data["value"].to_list() == [1.0, 2.0, 3.0]
    assert len(rig.source().asked) == 2
    assert rig.keeper().status().rows == len(ROWS)


async def test_a_fetch_that_fails_after_an_invalidation_finds_no_old_answer_to_stand_in() -> None:
    rig = make_desk(dataset(refresh_s=5))
    await ask(rig)
    rig.clock.advance(10)

    async def fail(_: Query) -> Frame:
        await go.wait()
        raise DOWN

    go = asyncio.Event()
    rig.source().started.clear()
    rig.source().script = [fail]
    waiting = asyncio.create_task(ask(rig))
    await rig.source().started.wait()
    await rig.desk.invalidate("*")
    go.set()
    with pytest.raises(UpstreamUnavailable):
        await waiting


async def test_an_invalidation_of_another_dataset_changes_nothing() -> None:
    rig = make_desk(dataset("runs", refresh_s=60), dataset("curves", refresh_s=60))
    await ask(rig)
    assert await rig.desk.invalidate("lab.curves") == 0
    await ask(rig)
    assert len(rig.source().asked) == 1


# Plug-ins that misbehave


async def test_a_source_that_does_not_answer_is_given_up_in_time_for_the_rest_of_the_answer() -> None:
    rig = make_desk(deadline_s=0.1)
    rig.source().always = asyncio.Event()
    with pytest.raises(UpstreamTimeout, match=r"`lab.runs` did not answer within 0.09 s"):
        await ask(rig)
    await asyncio.wait_for(rig.source().cancelled.wait(), 30)


@pytest.fixture
async def stubborn() -> AsyncIterator[Callable[[Query], Any]]:
    """Work that swallows its cancellation until the test is over."""
    end = asyncio.Event()

    async def work(_: Query) -> Frame:
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue
        return frame_of()

    yield work
    end.set()
    await settle()


async def test_a_plugin_that_swallows_its_cancellation_cannot_hold_the_request(stubborn: Any) -> None:
    rig = make_desk(deadline_s=0.05)
    rig.source().always = stubborn
    async with asyncio.timeout(30):
        with pytest.raises(UpstreamTimeout):
            await ask(rig)


async def test_a_plugin_that_swallows_its_cancellation_cannot_fill_the_process_with_work(stubborn: Any) -> None:
    rig = make_desk()
    rig.source().pushes = frozenset({"params"})
    rig.source().always = stubborn
    for number in range(MAX_STRAYS):
        rig.source().started.clear()
        task = asyncio.create_task(ask(rig, replace(Q, params=(("n", (str(number),)),))))
        await rig.source().started.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await settle()
    with pytest.raises(UpstreamUnavailable, match="16 of its fetches go on although they were cancelled") as caught:
        await ask(rig)
    assert "pass CancelledError on" in caught.value.remedy
    assert len(rig.source().asked) == MAX_STRAYS


async def test_a_plugin_that_cancels_itself_is_a_failure_of_the_source() -> None:
    async def give_up(_: Query) -> Frame:
        raise asyncio.CancelledError

    rig = make_desk()
    await ask(rig)
    rig.clock.advance(10)
    rig.source().always = give_up
    frame = await ask(rig)
    assert "the plug-in gave its work up" in texts(frame)[0]
    assert rig.keeper().status().state == "down"


async def test_a_retry_class_of_an_error_s_own_is_honoured() -> None:
    final = UpstreamUnavailable("switched off for good")
    final.retry = Retry.NEVER  # type: ignore[misc]
    rig = make_desk(dataset(retries=3))
    rig.source().always = final
    with pytest.raises(UpstreamUnavailable):
        await ask(rig)
    assert len(rig.source().asked) == 1


async def test_the_far_side_s_time_of_an_answer_is_told_as_utc() -> None:
    rig = make_desk()
    await ask(rig)
    assert datetime.fromisoformat(rig.keeper().status().last_success or "").tzinfo == UTC


def test_a_source_of_another_kind_keeps_its_own_interval() -> None:
    class Quick(StubSource):
        kind = "quick"
        default_refresh_s = -1.0

    configs = [SourceConfig("lab", "quick", {}, (dataset(),))]
    rig = make_desk(sources=configs, plugins={"quick": Plugin("quick", "tests", Quick)})
    assert rig.keeper().refresh_s == 0


async def test_where_the_source_lists_no_values_the_data_is_asked() -> None:
    rig = make_desk()
    assert DataSource.tag_values is type(rig.source()).tag_values
    assert await rig.keeper().tag_values(Q, "model") is None


REFUSED = UpstreamRefused("GET http://far: the server answered 500", far_status=500)


async def refused(rig: Rig, query: Query, times: int = FAILURES) -> None:
    """Has the far side answer a question with an error status so many times."""
    rig.source().always = REFUSED
    for _ in range(times):
        with pytest.raises(UpstreamRefused):
            await rig.keeper().get(query)
    rig.source().always = None


async def test_what_one_callers_parameters_are_refused_is_no_one_elses_outage() -> None:
    rig = make_desk()
    bad, good = replace(Q, params=(("run", ("bad",)),)), replace(Q, params=(("run", ("good",)),))
    await refused(rig, bad)
    with pytest.raises(BreakerOpen):
        await rig.keeper().get(bad)
    assert (await rig.keeper().get(good)).rows == len(ROWS)
    assert (await ask(rig)).rows == len(ROWS)


async def test_a_far_side_that_is_not_there_is_left_alone_whatever_the_parameters() -> None:
    rig = make_desk()
    rig.source().always = DOWN
    for number in range(FAILURES):
        with pytest.raises(UpstreamUnavailable):
            await rig.keeper().get(replace(Q, params=(("run", (str(number),)),)))
    with pytest.raises(BreakerOpen):
        await rig.keeper().get(replace(Q, params=(("run", ("another",)),)))


async def test_a_question_without_parameters_that_is_refused_opens_the_datasets_breaker() -> None:
    rig = make_desk()
    await refused(rig, Q)
    with pytest.raises(BreakerOpen):
        await ask(rig)


async def test_only_so_many_questions_have_a_breaker_of_their_own() -> None:
    rig = make_desk()
    bad = replace(Q, params=(("run", ("bad",)),))
    await refused(rig, bad)
    for number in range(MAX_OWN):
        await refused(rig, replace(Q, params=(("run", (str(number),)),)), times=1)
    assert (await rig.keeper().get(bad)).rows == len(ROWS)


@pytest.mark.parametrize("name", ["max_points", "series", "agg"])
async def test_a_source_that_thins_out_by_itself_is_asked_again_for_another_number_of_points(name: str) -> None:
    rig = make_desk()
    rig.source().pushes = frozenset({name})
    values: dict[str, list[Any]] = {
        "max_points": [10, 500],
        "series": [("model",), ()],
        "agg": [Agg.MEAN, Agg.MAX],
    }
    for value in values[name]:
        await rig.keeper().get(replace(Q, **{name: value}))
    assert len(rig.source().asked) == 2
