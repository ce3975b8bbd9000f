"""Keeps one dataset's answers: fresh ones are given at once, one fetch serves all who wait, and when the
source is down the last good answer is given with the words that say so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from bridge.edge.cache import Cache, SingleFlight
from bridge.edge.meters import DatasetStatus, Meters
from bridge.errors import (
    BadRequest,
    BreakerOpen,
    BridgeError,
    HeldBack,
    PluginFailed,
    SchemaMismatch,
    SourceError,
)
from bridge.model.clock import Clock
from bridge.model.finding import Finding
from bridge.model.frame import Frame, Held
from bridge.model.query import Query
from bridge.model.schema import Schema
from bridge.sources.attempt import Patience, attempt
from bridge.sources.base import DataSource, Limits
from bridge.sources.guards import Guards
from bridge.sources.history.history import History
from bridge.sources.history.stamp import stamped_schema, unstamped
from bridge.sources.identity import settings_tag
from bridge.sources.inspector import Inspector
from bridge.sources.latency import Latency
from bridge.sources.leash import Leash
from bridge.sources.lineage import version_of
from bridge.sources.lineage_events import LineageEvents
from bridge.sources.publish import publish, received
from bridge.sources.quality.ledger import Ledger
from bridge.sources.quality.standing import standing
from bridge.sources.recipe import Errand, Reach, Recipe, both
from bridge.sources.registry import DatasetEntry
from bridge.sources.stale import Trail, marked
from bridge.sources.trouble import Trouble

log = logging.getLogger("bridge.sources")

# A pushed span that ended this many refresh intervals ago is taken as closed and kept that many times longer.
CLOSED_FACTOR = 10.0
# Part of the deadline kept back, so that a last good answer can still be rendered after a source timed out.
RESERVE_RATIO = 0.1


_Collected = tuple[Frame, tuple[Finding, ...]]


@dataclass(frozen=True, slots=True)
class Kit:
    """What every keeper shares."""

    cache: Cache
    clock: Clock
    meters: Meters
    limits: Limits
    jitter: Callable[[], float]
    retry_wait_s: float = 0.2
    events: LineageEvents | None = None


@dataclass(frozen=True, slots=True)
class _Good:
    """The newest good answer without its rows: those stand in the cache, which is bounded."""

    fetched_at: datetime
    fetched_s: float
    rows: int


class Keeper:
    """One dataset: cache, single flight, retry, breaker and last good answer."""

    def __init__(self, entry: DatasetEntry, kit: Kit, reach: Reach | None = None) -> None:
        self.entry = entry
        # Given once its files have been found; a desk that only looks at sources has none.
        self.history: History | None = None
        self._recipe = Recipe(entry.name, entry.steps, reach) if entry.steps and reach else None
        self._kit = kit
        deadline_s = kit.limits.deadline_s
        self._inspector = Inspector(entry, kit.clock, kit.meters, reach, lambda: self.schema, deadline_s)
        self._flight = SingleFlight()
        self._guards = Guards(kit.clock, kit.jitter, deadline_s, entry.spec.params)
        self._leash = Leash(entry.name)
        self._trail = Trail()
        # Counts the invalidations: what was asked for before one must not be kept after it.
        self._epoch = 0
        self._trouble = Trouble(entry.name)
        self._good: _Good | None = None
        self._inferred: Schema | None = None
        self._latency = Latency()
        given = entry.freshness.refresh_s
        self.refresh_s: float = max(0.0, entry.source.default_refresh_s if given is None else given)

    @cached_property
    def tag(self) -> str:
        """What makes the dataset's answers its own: its settings, and those of the datasets its steps read."""
        return settings_tag(self.entry, self._recipe.tags() if self._recipe else ())

    @property
    def schema(self) -> Schema | None:
        """The dataset's schema: declared, inferred by the source, or read off the last whole frame."""
        own = self._own_schema()
        published = own if self._recipe is None else self._recipe.schema(own)
        if published is None:
            # The source may be down since the start: then what was recorded last is known at least.
            return self.history.schema if self.history else None
        known = stamped_schema(published, self.entry.history)
        return replace(known, version=self.history.schema_version) if self.history else known

    def _own_schema(self) -> Schema | None:
        """The columns before the steps."""
        try:
            known = self.entry.source.schema(self.entry.spec.name)
        except Exception as error:  # noqa: BLE001 a plug-in may raise anything; lists of datasets ask for this
            self._trouble.blame(error)
            known = None
        return known or self._inferred

    async def get(self, query: Query, *, alone: bool = False) -> Frame:
        """The dataset's rows for this query, at least; fresh, or marked with how old they are.

        Shape:  in time order; of a fresh question the rows of other datasets are fresh as well, unless `alone`.
        Errors: SourceError when the source fails and nothing was ever fetched.
        """
        errand, epoch = (
            self._errand(query, fresh=query.fresh and not alone),
            (self._epoch, self._kit.cache.generation),
        )
        key = f"{errand.key}|{self.tag}"
        held: Held | None = await self._kit.cache.get(key)
        if held is not None and self._fresh(held, errand, asked=query.fresh):
            self._count("hit")
            if self._trouble.state == "unknown":
                # Fetched before a reload of the settings, which left this dataset as it was.
                self._note(errand.own, key, held)
                self._trouble.recovered()
            return held.frame
        try:
            fetched = await self._flight.run((self._epoch, key), lambda: self._refresh(errand, key, held, epoch))
        except SourceError as error:
            last = await self._last(errand.own, key, error)
            self._count("failed" if last is None else "stale")
            if last is None:
                raise
            return last
        self._count("renewed" if held is not None and fetched.frame is held.frame else "miss")
        return fetched.frame

    async def tag_values(self, query: Query, column: str) -> tuple[str, ...] | None:
        """Values of one column as the source itself lists them; None where it leaves that to bridge.

        Errors: SourceError when the source fails.
        """
        source, keeping = self.entry.source, self.entry.history
        if keeping is not None and column == keeping.time:
            return None
        asked = unstamped(query, keeping)
        return await self._listed(DataSource.tag_values, lambda: source.tag_values(asked, column))

    async def tag_keys(self, query: Query) -> tuple[str, ...] | None:
        """Columns to filter by as the source itself lists them; None where it leaves that to bridge.

        Errors: SourceError when the source fails.
        """
        source = self.entry.source
        return await self._listed(DataSource.tag_keys, lambda: source.tag_keys(query))

    async def _listed(
        self, default: Callable[..., Any], work: Callable[[], Awaitable[tuple[str, ...] | None]]
    ) -> tuple[str, ...] | None:
        # What the source lists are its own columns and values, not those that steps make of them.
        if getattr(type(self.entry.source), default.__name__) is default or self._recipe is not None:
            return None
        with self._trouble.of_plugin():
            found = await self._leash.run(work, self._deadline_s)
            return None if found is None else tuple(map(str, found))

    def status(self) -> DatasetStatus:
        """How the dataset is doing."""
        good, error = self._good, self._trouble.last
        info, warn, block = standing(self.ledger)
        p50_s, p95_s, p99_s = self._latency.quantiles_s((0.5, 0.95, 0.99))
        return DatasetStatus(
            dataset=self.entry.name,
            state=self._trouble.state,
            age_s=self._kit.clock.monotonic_s() - good.fetched_s if good else None,
            stale=error is not None and (good is not None or self._recorded),
            breaker=self._guards.state,
            error=error.message if error else None,
            remedy=(error.remedy or None) if error else None,
            last_success=good.fetched_at.isoformat() if good else None,
            rows=good.rows if good else None,
            latency_s=self._latency.last_s,
            latency_p50_s=p50_s,
            latency_p95_s=p95_s,
            latency_p99_s=p99_s,
            findings_info=info,
            findings_warn=warn,
            findings_block=block,
            **(self.history.status().told() if self.history else {}),
        )

    @property
    def _recorded(self) -> bool:
        return self.history is not None and self.history.view.last_at is not None

    def forget(self) -> None:
        """Drops what was fetched; the next question goes to the source, and what is under way is not kept."""
        self._epoch += 1
        self._trail.clear()
        self._good = self._inferred = None

    def max_age_s(self) -> float:
        """Seconds for which every answer given now stays fresh; 0 where one may be stale."""
        if self._trouble.last is not None:
            return 0.0
        ages_s = self._trail.ages_s(self._kit.clock.monotonic_s())
        return min((self.refresh_s - age_s for age_s in ages_s if age_s < self.refresh_s), default=0.0)

    @property
    def _deadline_s(self) -> float:
        return self._kit.limits.deadline_s * (1 - RESERVE_RATIO)

    def _errand(self, query: Query, *, fresh: bool) -> Errand:
        """What is fetched: the source's part of the query, and of other datasets', over whole refresh intervals."""
        narrow = self.entry.source.narrow
        query = unstamped(query, self.entry.history)
        try:
            with self._trouble.of_plugin():
                if self._recipe is None:
                    return Errand(self._align(narrow(query)))
                errand = self._recipe.errand(query, self._own_schema(), narrow)
                others = {key: replace(self._align(asked), fresh=fresh) for key, asked in errand.others.items()}
                return replace(errand, own=self._align(errand.own), others=others)
        except (PluginFailed, SchemaMismatch) as error:
            raise self._trouble.failed(error) from error.__cause__

    def _align(self, query: Query) -> Query:
        """The pushed span widened to whole refresh intervals, so that a moving `now` still meets its own entry."""
        if query.span is None or self.refresh_s <= 0:
            return query
        return replace(query, span=query.span.widened(self.refresh_s))

    def _outdated(self, held: Held) -> bool:
        """Whether the columns have had another version since, so that the answer must be looked at again."""
        return self.history is not None and version_of(held.frame) != self.history.schema_version

    def _fresh(self, held: Held, errand: Errand, *, asked: bool) -> bool:
        if self._outdated(held):
            return False
        ttl_s = self.refresh_s
        spans = [query.span for query in (errand.own, *errand.others.values())]
        closed_s = CLOSED_FACTOR * self.refresh_s
        if all(span and (held.fetched_at - span.end).total_seconds() > closed_s for span in spans):
            ttl_s *= CLOSED_FACTOR
        if asked:
            ttl_s = min(ttl_s, self.entry.freshness.min_refresh_s)
        return self._kit.clock.monotonic_s() - held.fetched_s < ttl_s

    async def _refresh(self, errand: Errand, key: str, held: Held | None, epoch: tuple[int, int]) -> Held:
        began_s = self._kit.clock.monotonic_s()
        outcome = "ok"
        try:
            fresh = await self._fetched(errand, held)
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except Exception as error:
            told = self._trouble.told(error, errand.own)
            outcome = told.code
            self._tell(told)
            if told is error:
                raise
            raise told from error
        finally:
            self._measure(outcome, began_s)
        self._trouble.recovered()
        self._tell(fresh.frame)
        if epoch[0] == self._epoch:
            self._note(errand.own, key, fresh)
            # Another house may have invalidated what this one was fetching: the cache outlives both.
            await self._kit.cache.set(key, fresh, since=epoch[1])
        return fresh

    def _tell(self, came: Frame | BridgeError) -> None:
        """Lets those know who follow where data comes from; a wrong question says nothing of the data."""
        if self._kit.events is not None and not isinstance(came, BadRequest):
            self._kit.events.note(self.entry, came, [noted.finding for noted in self.ledger.active])

    def _measure(self, outcome: str, began_s: float) -> None:
        meters, labels = self._kit.meters, (self.entry.source.name, self.entry.name)
        meters.fetches.labels(*labels, outcome).inc()
        if outcome != BreakerOpen.code:
            took_s = self._kit.clock.monotonic_s() - began_s
            self._latency.add(took_s)
            meters.fetch_seconds.labels(*labels).observe(took_s)

    def _note(self, query: Query, key: str, fresh: Held) -> None:
        self._good = _Good(fresh.fetched_at, fresh.fetched_s, fresh.frame.rows)
        if not query.columns and self._recipe is None:
            # Of a frame that was narrowed to some columns the others would seem not to exist.
            self._inferred = fresh.frame.schema
        self._trail.remember(query, key, fresh.fetched_s)

    async def _collected(self, query: Query, held: Held | None) -> tuple[str | None, _Collected | Held]:
        """The fingerprint and what the source has, before the steps; what is held where nothing changed."""
        patience = Patience(self.entry.freshness.retries, self._kit.retry_wait_s, self._deadline_s)
        known = held.fingerprint if held and not (self._inspector.restless or self._outdated(held)) else None
        token, frame = await attempt(self._leash, self.entry.source, query, known, patience, self._kit.clock)
        if frame is None and held is not None:
            return token, held
        try:
            kept, found = received(self.entry, frame, self._kit.limits)
        except SchemaMismatch as error:
            if self._inspector.refused(error):
                self._guards.rest(query, self.ledger.blocks_in_a_row)
            raise
        return token, (kept, found)

    async def _fetched(self, errand: Errand, held: Held | None) -> Held:
        """A good answer of the source: the held one renewed where the source says that nothing changed."""
        kit = self._kit
        others: dict[tuple[int, str], Frame] = {}
        if self._recipe is None or not errand.others:
            token, got = await self._guards.through(errand.own, lambda: self._collected(errand.own, held))
        else:
            # The same rows of its own are another answer when another dataset's have changed.
            (token, got), others = await both(
                self._guards.through(errand.own, lambda: self._collected(errand.own, None)),
                self._recipe.fetch(errand),
            )
        if isinstance(got, Held):
            return replace(got, fetched_at=kit.clock.now(), fetched_s=kit.clock.monotonic_s())
        frame, found = got
        fetched_at = kit.clock.now()
        made, own = await publish(
            self.entry,
            frame,
            kit.limits,
            self._recipe,
            errand,
            others,
            fetched_at=fetched_at,
            accept=lambda made, errand: self._accept(made, errand, found),
        )
        if own is not None:
            self._inferred = own
        return Held(made, fetched_at, kit.clock.monotonic_s(), token)

    async def _accept(self, frame: Frame, errand: Errand, found: tuple[Finding, ...]) -> tuple[Frame, int]:
        """The frame as it may be published.

        Errors: HeldBack when a check keeps it back; SchemaChanged when its history has other columns.
        """
        try:
            frame = await self._inspector.inspect(frame, errand, found)
        except HeldBack:
            self._guards.rest(errand.own, self.ledger.blocks_in_a_row)
            raise
        if self.history is None:
            return frame, 1
        if not errand.own.columns:
            await self.history.admit(frame)
        return frame, self.history.schema_version

    @property
    def ledger(self) -> Ledger:
        """What the checks found."""
        return self._inspector.ledger

    async def _last(self, query: Query, key: str, error: BridgeError) -> Frame | None:
        """The last good answer to the same question, marked; one over another span serves where the spans overlap."""
        for found, covered in [(key, query.span), *self._trail.overlapping(query)]:
            held: Held | None = await self._kit.cache.get(found)
            if held is not None:
                age_s = self._kit.clock.monotonic_s() - held.fetched_s
                stale_after_s = self.entry.freshness.stale_after_s
                shown = marked(held, error, age_s, stale_after_s=stale_after_s, asked=query.span, covered=covered)
                # Left alone it is for what it did before.
                return shown.note(state=self._trouble.state) if isinstance(error, BreakerOpen) else shown
        return None

    def _count(self, result: str) -> None:
        self._kit.meters.cache.labels(self.entry.name, result).inc()
