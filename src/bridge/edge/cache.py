"""The cache for answers and metadata: bounded in bytes, one fetch for all who wait for it."""

from __future__ import annotations

import asyncio
import fnmatch
import re
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from aiocache.base import BaseCache
from aiocache.serializers import NullSerializer

from bridge.errors import BadQuery, UpstreamUnavailable
from bridge.model.clock import Clock

T = TypeVar("T")

# What an entry costs beside its value: key, bookkeeping. It bounds the number of entries, whatever `size_of` says.
ENTRY_OVERHEAD_BYTES = 256
# Older invalidations count as if they had matched everything.
MAX_FORGOTTEN = 256
MAX_PATTERN_CHARS = 256


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counts since the start, and what is held now."""

    hits: int
    misses: int
    evictions: int
    bytes: int
    entries: int


@dataclass(slots=True)
class _Entry:
    value: Any
    size_bytes: int
    expires_s: float | None


class BoundedMemoryCache(BaseCache):  # type: ignore[misc]
    """An aiocache backend in process that forgets what was used longest ago, and never outgrows `max_bytes`.

    Units: `ttl` is in seconds; as with aiocache's own backends, 0 and None mean that an entry does not expire.
    """

    NAME = "bounded_memory"

    def __init__(
        self,
        *,
        max_bytes: int,
        size_of: Callable[[Any], int],
        monotonic_s: Callable[[], float],
        **options: Any,
    ) -> None:
        # Nothing here waits, so aiocache's own timer for each operation is left out.
        super().__init__(**{"serializer": NullSerializer(), "timeout": None} | options)
        self.max_bytes = max_bytes
        self.evictions = 0
        self.held_bytes = 0
        self._size_of = size_of
        self._monotonic_s = monotonic_s
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def live_keys(self) -> list[str]:
        """The keys of all entries that have not expired."""
        return [key for key in list(self._entries) if self._find(key) is not None]

    def _find(self, key: str) -> _Entry | None:
        entry = self._entries.get(key)
        # Expiry is looked at when someone asks: a timer for each key would cost the loop more than the entry.
        if entry is not None and entry.expires_s is not None and self._monotonic_s() >= entry.expires_s:
            self._drop(key)
            return None
        return entry

    def _drop(self, key: str) -> int:
        entry = self._entries.pop(key, None)
        if entry is None:
            return 0
        self.held_bytes -= entry.size_bytes
        return 1

    def _expiry(self, ttl: float | None) -> float | None:
        return self._monotonic_s() + ttl if ttl else None

    async def _get(self, key: str, encoding: str | None = None, _conn: Any = None) -> Any:
        entry = self._find(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry.value

    async def _gets(self, key: str, encoding: str | None = None, _conn: Any = None) -> Any:
        return await self._get(key)

    async def _multi_get(self, keys: Iterable[str], encoding: str | None = None, _conn: Any = None) -> list[Any]:
        return [await self._get(key) for key in keys]

    async def _set(
        self, key: str, value: Any, ttl: float | None = None, _cas_token: Any = None, _conn: Any = None
    ) -> bool:
        if _cas_token is not None and _cas_token != await self._get(key):
            return False
        self._drop(key)
        size_bytes = self._size_of(value) + ENTRY_OVERHEAD_BYTES
        if size_bytes > self.max_bytes // 2:
            # One giant would push out everything else for a single hit.
            return False
        self._entries[key] = _Entry(value, size_bytes, self._expiry(ttl))
        self.held_bytes += size_bytes
        while self.held_bytes > self.max_bytes:
            self.evictions += self._drop(next(iter(self._entries)))
        return True

    async def _multi_set(self, pairs: Iterable[tuple[str, Any]], ttl: float | None = None, _conn: Any = None) -> bool:
        for key, value in pairs:
            await self._set(key, value, ttl=ttl)
        return True

    async def _add(self, key: str, value: Any, ttl: float | None = None, _conn: Any = None) -> bool:
        if self._find(key) is not None:
            raise ValueError(f"the key {key} exists already")
        return await self._set(key, value, ttl=ttl)

    async def _exists(self, key: str, _conn: Any = None) -> bool:
        return self._find(key) is not None

    async def _increment(self, key: str, delta: int, _conn: Any = None) -> int:
        entry = self._find(key)
        if entry is None:
            await self._set(key, delta)
            return delta
        try:
            entry.value = int(entry.value) + delta
        except ValueError as error:
            raise TypeError(f"the value of {key} is not an integer") from error
        return cast(int, entry.value)

    async def _expire(self, key: str, ttl: float | None, _conn: Any = None) -> bool:
        entry = self._find(key)
        if entry is None:
            return False
        entry.expires_s = self._expiry(ttl)
        return True

    async def _delete(self, key: str, _conn: Any = None) -> int:
        return self._drop(key) if self._find(key) is not None else 0

    async def _clear(self, namespace: str | None = None, _conn: Any = None) -> bool:
        for key in [key for key in self._entries if key.startswith(namespace or "")]:
            self._drop(key)
        return True

    async def _raw(self, command: str, *args: Any, **options: Any) -> Any:
        raise NotImplementedError("a cache in process has no commands of its own")

    async def _redlock_release(self, key: str, value: Any) -> int:
        return self._drop(key) if await self._get(key) == value else 0


@dataclass(slots=True)
class _Flight:
    task: asyncio.Task[Any]
    waiters: int = 0


class SingleFlight:
    """Callers who ask for the same thing at the same time share one task."""

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight] = {}
        # The loop itself holds tasks weakly; one that is being cancelled must live to its end.
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._flights)

    async def run(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """What `make` gives, called once for all who come while it runs; nothing is kept afterwards.

        Errors: those of `make`, to every caller. A caller that is cancelled leaves; with the last one the task goes.
        """
        flight = self._flights.get(key) or self._start(key, make)
        flight.waiters += 1
        try:
            return cast(T, await asyncio.shield(flight.task))
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if flight.task.cancelled() and current is not None and not current.cancelling():
                # The work was cancelled and not this caller, who would otherwise vanish without a word.
                raise UpstreamUnavailable("the shared request was given up", remedy="ask again") from None
            raise
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                self._leave(key, flight)
                flight.task.cancel()

    def forget(self, matches: Callable[[Any], object]) -> None:
        """Whoever comes from now on for a matching key starts anew; those who wait already get what they wait for."""
        for key in [key for key in self._flights if matches(key)]:
            del self._flights[key]

    def _start(self, key: Hashable, make: Callable[[], Awaitable[Any]]) -> _Flight:
        async def work() -> Any:
            return await make()

        task = asyncio.create_task(work())
        flight = self._flights[key] = _Flight(task)
        self._tasks.add(task)

        def done(_: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            self._leave(key, flight)

        task.add_done_callback(done)
        return flight

    def _leave(self, key: Hashable, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


class Cache:
    """The seam the product uses; behind it stands an aiocache backend."""

    def __init__(self, store: BoundedMemoryCache) -> None:
        self._store = store
        self._flights = SingleFlight()
        # What was invalidated, newest last, and how often that was in all.
        self._forgotten: deque[Callable[[str], object]] = deque(maxlen=MAX_FORGOTTEN)
        self.generation = 0
        self._hits = 0
        self._misses = 0

    @classmethod
    def in_memory(cls, *, max_bytes: int, size_of: Callable[[Any], int], clock: Clock) -> Cache:
        """A cache in this process."""
        return cls(BoundedMemoryCache(max_bytes=max_bytes, size_of=size_of, monotonic_s=clock.monotonic_s))

    @property
    def stats(self) -> CacheStats:
        """How well it does, and how full it is."""
        store = self._store
        return CacheStats(self._hits, self._misses, store.evictions, store.held_bytes, len(store))

    async def get(self, key: str) -> Any | None:
        """The value, or None."""
        value = await self._store.get(key)
        if value is None:
            self._misses += 1
        else:
            self._hits += 1
        return value

    async def set(self, key: str, value: Any, ttl_s: float | None = None, *, since: int | None = None) -> None:
        """Keeps the value for `ttl_s` seconds, or until there is no room; not at all when `ttl_s` is 0 or less.

        A value whose making began at generation `since` is not kept if its key was invalidated after that.
        """
        if since is not None and self._forgotten_since(key, since):
            return
        if ttl_s is not None and ttl_s <= 0:
            await self._store.delete(key)
        else:
            await self._store.set(key, value, ttl=ttl_s)

    def _forgotten_since(self, key: str, since: int) -> bool:
        count = self.generation - since
        newest = list(self._forgotten)[-count:] if count else []
        return count > len(newest) or any(matches(key) for matches in newest)

    async def delete(self, key: str) -> bool:
        """Whether there was something to forget."""
        self._forget(lambda other: other == key)
        return bool(await self._store.delete(key))

    async def invalidate(self, pattern: str) -> int:
        """How many entries were forgotten, of those whose key matches a glob such as `digits.*`.

        Errors: BadQuery for an overlong pattern.
        """
        if len(pattern) > MAX_PATTERN_CHARS:
            raise BadQuery(f"a pattern has at most {MAX_PATTERN_CHARS} characters, this one has {len(pattern)}")
        matches = re.compile(fnmatch.translate(pattern)).match
        self._forget(matches)
        keys = [key for key in self._store.live_keys() if matches(key)]
        for key in keys:
            await self._store.delete(key)
        return len(keys)

    async def get_or_make(self, key: str, make: Callable[[], Awaitable[T]], ttl_s: float | None = None) -> T:
        """The kept value, or what `make` gives, called once for all who wait; an error is not kept."""
        value = await self.get(key)
        if value is not None:
            return cast(T, value)
        return await self._flights.run(key, lambda: self._fill(key, make, ttl_s))

    async def _fill(self, key: str, make: Callable[[], Awaitable[T]], ttl_s: float | None) -> T:
        since = self.generation
        value = await make()
        await self.set(key, value, ttl_s, since=since)
        return value

    def _forget(self, matches: Callable[[str], object]) -> None:
        """What is being made for these keys is not kept, and not given to those who come from now on."""
        self._forgotten.append(matches)
        self.generation += 1
        self._flights.forget(matches)
