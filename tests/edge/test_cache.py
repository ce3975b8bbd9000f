from __future__ import annotations

import asyncio

import pytest
from aiocache.base import BaseCache

from bridge.edge.cache import ENTRY_OVERHEAD_BYTES, MAX_FORGOTTEN, BoundedMemoryCache, Cache, SingleFlight
from bridge.errors import BadQuery, UpstreamUnavailable

EACH = 1_000 + ENTRY_OVERHEAD_BYTES


@pytest.fixture
def store(clock):
    return BoundedMemoryCache(max_bytes=4 * EACH, size_of=len, monotonic_s=clock.monotonic_s)


@pytest.fixture
def cache(store):
    return Cache(store)


class Maker:
    """Makes a value when told to, and counts."""

    def __init__(self, value="made", error: Exception | None = None):
        self.calls, self.cancelled = 0, False
        self.started, self.go = asyncio.Event(), asyncio.Event()
        self.value, self.error = value, error

    async def __call__(self):
        self.calls += 1
        self.started.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.error is not None:
            raise self.error
        return self.value


async def test_what_was_used_longest_ago_goes_first_and_the_bytes_stay_bounded(cache):
    for name in "abcd":
        await cache.set(name, "x" * 1_000)
    assert await cache.get("a")
    await cache.set("e", "x" * 1_000)
    assert [name for name in "abcde" if await cache.get(name)] == ["a", "c", "d", "e"]
    stats = cache.stats
    assert (stats.evictions, stats.entries, stats.bytes, stats.hits, stats.misses) == (1, 4, 4 * EACH, 5, 1)


async def test_empty_values_cannot_fill_the_memory_either(cache):
    for number in range(1_000):
        await cache.set(str(number), "")
    assert cache.stats.entries == 4 * EACH // ENTRY_OVERHEAD_BYTES
    assert cache.stats.bytes <= 4 * EACH


async def test_an_entry_over_half_the_cache_is_not_kept_nor_is_the_older_one_it_replaces(cache):
    await cache.set("other", "y")
    await cache.set("a", "x")
    await cache.set("a", "x" * 3_000)
    assert await cache.get("a") is None
    assert await cache.get("other") == "y"


async def test_an_entry_is_gone_after_its_time(cache, clock):
    await cache.set("a", "x", ttl_s=10)
    await cache.set("b", "x")
    clock.advance(9.9)
    assert await cache.get("a") == "x"
    clock.advance(0.1)
    assert await cache.get("a") is None
    assert await cache.get("b") == "x"
    assert cache.stats.bytes == 1 + ENTRY_OVERHEAD_BYTES


@pytest.mark.parametrize("ttl_s", [0, -1])
async def test_no_time_to_live_means_not_kept(cache, ttl_s):
    await cache.set("a", "old")
    await cache.set("a", "new", ttl_s=ttl_s)
    assert await cache.get("a") is None


async def test_a_pattern_forgets_what_it_matches_and_says_how_many(cache, clock):
    for key in ("digits.runs|1", "digits.curves", "digitsx", "Digits.runs", "gone.x"):
        await cache.set(key, "x", ttl_s=5 if key == "gone.x" else None)
    clock.advance(6)
    assert await cache.invalidate("digits.*") == 2
    assert await cache.invalidate("gone.*") == 0
    assert await cache.get("digits.runs|1") is None
    assert await cache.get("digitsx") == "x"
    assert await cache.invalidate("*") == 2
    assert cache.stats.bytes == 0
    with pytest.raises(BadQuery):
        await cache.invalidate("*" * 1_000)


async def test_a_deleted_key_is_gone(cache):
    await cache.set("a", "x")
    assert await cache.delete("a") is True
    assert await cache.delete("a") is False
    assert await cache.get("a") is None


async def test_callers_at_the_same_time_cause_one_fetch_and_later_ones_none(cache):
    make = Maker()
    waiting = [asyncio.create_task(cache.get_or_make("a", make)) for _ in range(10)]
    await make.started.wait()
    make.go.set()
    assert await asyncio.gather(*waiting) == ["made"] * 10
    assert await cache.get_or_make("a", make) == "made"
    assert make.calls == 1


async def test_a_made_value_lives_as_long_as_asked(cache, clock):
    make = Maker()
    make.go.set()
    await cache.get_or_make("a", make, ttl_s=5)
    clock.advance(6)
    await cache.get_or_make("a", make, ttl_s=5)
    assert make.calls == 2


async def test_an_error_reaches_everyone_who_waits_and_is_not_kept(cache):
    make = Maker(error=UpstreamUnavailable("down"))
    waiting = [asyncio.create_task(cache.get_or_make("a", make)) for _ in range(3)]
    await make.started.wait()
    make.go.set()
    assert {type(error) for error in await asyncio.gather(*waiting, return_exceptions=True)} == {UpstreamUnavailable}
    make.error = None
    assert await cache.get_or_make("a", make) == "made"


@pytest.mark.parametrize("how", ["invalidate", "delete"])
async def test_what_was_fetched_before_an_invalidation_is_not_kept_after_it(cache, how):
    old, new = Maker("old"), Maker("new")
    first = asyncio.create_task(cache.get_or_make("digits.runs", old))
    other = Maker("other")
    beside = asyncio.create_task(cache.get_or_make("other", other))
    await old.started.wait()
    await other.started.wait()
    await (cache.invalidate("digits.*") if how == "invalidate" else cache.delete("digits.runs"))
    second = asyncio.create_task(cache.get_or_make("digits.runs", new))
    await new.started.wait()
    new.go.set()
    assert await second == "new"
    old.go.set()
    other.go.set()
    assert await first == "old"
    assert await beside == "other"
    assert await cache.get("digits.runs") == "new"
    assert await cache.get("other") == "other"


async def test_the_old_fetchs_end_does_not_disturb_the_one_that_replaced_it(cache):
    old, new = Maker("old"), Maker("new")
    first = asyncio.create_task(cache.get_or_make("a", old))
    await old.started.wait()
    await cache.invalidate("a")
    second = asyncio.create_task(cache.get_or_make("a", new))
    await new.started.wait()
    old.go.set()
    assert await first == "old"
    third = asyncio.create_task(cache.get_or_make("a", new))
    await asyncio.sleep(0)
    new.go.set()
    assert await asyncio.gather(second, third) == ["new", "new"]
    assert new.calls == 1
    assert await cache.get("a") == "new"


async def test_a_caller_never_joins_work_that_is_being_given_up():
    flights, entered, cleaned = SingleFlight(), asyncio.Event(), asyncio.Event()

    async def slow_to_stop():
        try:
            entered.set()
            await asyncio.Event().wait()
        finally:
            await cleaned.wait()

    leaving = asyncio.create_task(flights.run("a", slow_to_stop))
    await entered.wait()
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    again = Maker("again")
    again.go.set()
    assert await flights.run("a", again) == "again"
    cleaned.set()


async def test_one_callers_leaving_does_not_disturb_the_others():
    flights, make = SingleFlight(), Maker()
    first, second = (asyncio.create_task(flights.run("a", make)) for _ in range(2))
    await make.started.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    make.go.set()
    assert await second == "made"
    assert (make.calls, make.cancelled, len(flights)) == (1, False, 0)


async def test_when_the_last_caller_leaves_the_work_stops_and_the_next_one_starts_anew():
    flights, make = SingleFlight(), Maker()
    tasks = [asyncio.create_task(flights.run("a", make)) for _ in range(2)]
    await make.started.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    again = Maker("again")
    again.go.set()
    assert await flights.run("a", again) == "again"
    assert make.cancelled


async def test_work_that_is_cancelled_from_inside_is_an_error_and_no_silent_end():
    async def broken():
        raise asyncio.CancelledError

    with pytest.raises(UpstreamUnavailable, match="given up"):
        await SingleFlight().run("a", broken)


async def test_different_keys_do_not_wait_for_each_other():
    flights, slow, quick = SingleFlight(), Maker("slow"), Maker("quick")
    waiting = asyncio.create_task(flights.run("a", slow))
    quick.go.set()
    assert await flights.run("b", quick) == "quick"
    slow.go.set()
    assert await waiting == "slow"


async def test_the_store_keeps_the_contract_of_an_aiocache_backend(store: BaseCache, clock):
    assert isinstance(store, BaseCache)
    assert await store.multi_set([("a", "1"), ("b", "2")], ttl=5)
    assert await store.multi_get(["a", "b", "c"]) == ["1", "2", None]
    assert await store.exists("a")
    assert await store.add("c", "3")
    with pytest.raises(ValueError, match="exists"):
        await store.add("c", "4")
    assert await store.expire("a", 0)
    assert not await store.expire("missing", 5)
    clock.advance(6)
    assert await store.exists("a")
    assert not await store.exists("b")
    assert await store.get("b", default="none") == "none"
    assert await store.set("a", "new", _cas_token="other") is False
    assert await store.set("a", "new", _cas_token="1") is True
    assert await store._gets("a") == "new"
    assert await store._redlock_release("a", "other") == 0
    assert await store._redlock_release("a", "new") == 1
    assert await store.delete("missing") == 0
    with pytest.raises(NotImplementedError):
        await store.raw("keys")


async def test_the_store_counts_and_clears_by_namespace(clock):
    store = BoundedMemoryCache(max_bytes=10_000, size_of=lambda _: 1, monotonic_s=clock.monotonic_s)
    assert await store.increment("n") == 1
    assert await store.increment("n", 4) == 5
    await store.set("n", "text")
    with pytest.raises(TypeError):
        await store.increment("n")
    await store.set("x", "1", namespace="one:")
    assert await store.clear(namespace="one:")
    assert (len(store), store.live_keys()) == (1, ["n"])
    assert await store.clear()
    assert (len(store), store.held_bytes) == (0, 0)


async def test_a_cache_in_this_process_is_made_with_a_clock(clock):
    cache = Cache.in_memory(max_bytes=10_000, size_of=len, clock=clock)
    await cache.set("a", "x", ttl_s=1)
    clock.advance(1)
    assert await cache.get("a") is None


async def test_a_value_begun_before_its_key_was_invalidated_is_not_kept(cache):
    since = cache.generation
    await cache.set("digits.runs", "kept", since=since)
    await cache.invalidate("digits.*")
    await cache.set("digits.runs", "old", since=since)
    await cache.set("other", "new", since=since)
    assert await cache.get("digits.runs") is None
    assert await cache.get("other") == "new"
    await cache.set("digits.runs", "new", since=cache.generation)
    assert await cache.get("digits.runs") == "new"


async def test_invalidations_that_are_long_ago_count_as_if_they_had_matched(cache):
    since = cache.generation
    for _ in range(MAX_FORGOTTEN):
        await cache.invalidate("nothing.*")
    await cache.set("a", "x", since=since)
    assert await cache.get("a") == "x"
    await cache.invalidate("nothing.*")
    await cache.set("b", "x", since=since)
    assert await cache.get("b") is None
