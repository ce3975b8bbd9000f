"""Keeps one dataset's answers: fresh ones are given at once, one fetch serves all who wait, and when the
source is down the last good answer is given with the words that say so."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import stamina

from bridge.edge.breaker import Breaker
from bridge.edge.cache import Cache, SingleFlight
from bridge.edge.meters import DatasetStatus, Meters
from bridge.errors import (
    AnswerTooLarge,
    BadRequest,
    BreakerOpen,
    BridgeError,
    NeedsAuth,
    PluginFailed,
    Retry,
    SchemaMismatch,
    SourceError,
    UpstreamRefused,
    UpstreamTimeout,
)
from bridge.model.clock import Clock
from bridge.model.finding import Level
from bridge.model.frame import Frame, Held, Notice
from bridge.model.query import Query
from bridge.model.schema import Schema
from bridge.model.span import EPOCH, Span
from bridge.sources.base import Limits
from bridge.sources.registry import DatasetEntry

log = logging.getLogger("bridge.sources")

# A pushed span that ended this many refresh intervals ago is taken as closed and kept that many times longer.
CLOSED_FACTOR = 10.0
# Part of the deadline kept back, so that a last good answer can still be rendered after a source timed out.
RESERVE_RATIO = 0.1


@dataclass(frozen=True, slots=True)
class Kit:
    """What every keeper shares."""

    cache: Cache
    clock: Clock
    meters: Meters
    limits: Limits
    jitter: Callable[[], float]
    retry_wait_s: float = 0.2


class Keeper:
    """One dataset: cache, single flight, retry, breaker and last good answer."""

    def __init__(self, entry: DatasetEntry, kit: Kit) -> None:
        self.entry = entry
        self._kit = kit
        self._flight = SingleFlight()
        self._breaker = Breaker(kit.clock, jitter=kit.jitter)
        self._last_key: dict[str, tuple[str, Query]] = {}
        self._state = "unknown"
        self._error: BridgeError | None = None
        self._good: Held | None = None
        self._latency_s: float | None = None
        given = entry.freshness.refresh_s
        self.refresh_s = entry.source.default_refresh_s if given is None else given

    @property
    def schema(self) -> Schema | None:
        """The dataset's schema: declared, inferred by the source, or read off the last good frame."""
        known = self.entry.source.schema(self.entry.spec.name)
        return known or (self._good.frame.schema if self._good else None)

    async def get(self, query: Query) -> Frame:
        """The dataset's rows for this query, at least; fresh, or marked with how old they are.

        Errors: SourceError when the source fails and nothing was ever fetched.
        """
        narrowed = self._align(self.entry.source.narrow(query))
        key = narrowed.key
        held: Held | None = await self._kit.cache.get(key)
        if held is not None and self._fresh(held, narrowed, asked=query.fresh):
            self._count("hit")
            return held.frame
        try:
            fetched: Held = await self._flight.run(key, lambda: self._refresh(narrowed, key, held))
        except SourceError as error:
            last = held or await self._last(narrowed)
            if last is None:
                raise
            self._count("stale")
            return self._mark(last, error)
        return fetched.frame

    def status(self) -> DatasetStatus:
        """How the dataset is doing."""
        age_s = self._kit.clock.monotonic_s() - self._good.fetched_s if self._good else None
        return DatasetStatus(
            dataset=self.entry.name,
            state=self._state,
            age_s=age_s,
            stale=self._error is not None and self._good is not None,
            breaker=self._breaker.state,
            error=self._error.message if self._error else None,
            remedy=(self._error.remedy or None) if self._error else None,
            last_success=self._good.fetched_at.isoformat() if self._good else None,
            rows=self._good.frame.rows if self._good else None,
            latency_s=self._latency_s,
        )

    def forget(self) -> None:
        """Drops what was fetched; the next question goes to the source."""
        self._last_key.clear()
        self._good = None

    def max_age_s(self) -> float:
        """Seconds for which an answer given now stays fresh."""
        if self._good is None or self._error is not None:
            return 0.0
        return max(0.0, self.refresh_s - (self._kit.clock.monotonic_s() - self._good.fetched_s))

    def _align(self, query: Query) -> Query:
        """The pushed span widened to whole refresh intervals, so that a moving `now` still meets its own entry."""
        if query.span is None or self.refresh_s <= 0:
            return query
        start = math.floor((query.span.start - EPOCH).total_seconds() / self.refresh_s) * self.refresh_s
        end = math.ceil((query.span.end - EPOCH).total_seconds() / self.refresh_s) * self.refresh_s
        try:
            span = Span(EPOCH + timedelta(seconds=start), EPOCH + timedelta(seconds=end))
        except OverflowError:
            return query
        return replace(query, span=span)

    def _fresh(self, held: Held, query: Query, *, asked: bool) -> bool:
        age_s = self._kit.clock.monotonic_s() - held.fetched_s
        if asked:
            return age_s < self.entry.freshness.min_refresh_s
        ttl_s = self.refresh_s
        if query.span and (held.fetched_at - query.span.end).total_seconds() > CLOSED_FACTOR * self.refresh_s:
            ttl_s *= CLOSED_FACTOR
        return age_s < ttl_s

    async def _refresh(self, query: Query, key: str, held: Held | None) -> Held:
        kit, source = self._kit, self.entry.source
        began_s = kit.clock.monotonic_s()
        outcome = "ok"
        try:
            async with asyncio.timeout(kit.limits.deadline_s * (1 - RESERVE_RATIO)), self._breaker.guard():
                token = await source.fingerprint(query)
                if held is not None and token is not None and token == held.fingerprint:
                    fresh = replace(held, fetched_at=kit.clock.now(), fetched_s=began_s)
                    self._count("renewed")
                else:
                    self._count("miss")
                    frame = self._checked(await self._collect(query))
                    fresh = Held(frame, kit.clock.now(), kit.clock.monotonic_s(), token)
        except TimeoutError as error:
            outcome = UpstreamTimeout.code
            raise self._failed(self._too_slow()) from error
        except BadRequest:
            outcome = "bad_request"
            raise
        except BridgeError as error:
            outcome = error.code
            raise self._failed(error) from error
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except Exception as error:
            outcome = PluginFailed.code
            log.exception("source plug-in failed", extra={"dataset": self.entry.name})
            text = f"`{self.entry.name}`: its plug-in failed with {type(error).__name__}"
            raise self._failed(PluginFailed(text, remedy="the service's log has the traceback")) from error
        finally:
            self._latency_s = kit.clock.monotonic_s() - began_s
            kit.meters.fetches.labels(source.name, self.entry.name, outcome).inc()
            kit.meters.fetch_seconds.labels(source.name, self.entry.name).observe(self._latency_s)
        self._good, self._error, self._state = fresh, None, "ok"
        await kit.cache.set(key, fresh)
        self._remember(query, key)
        return fresh

    async def _collect(self, query: Query) -> Frame:
        attempts = self.entry.freshness.retries + 1
        wait_s = self._kit.retry_wait_s
        async for attempt in stamina.retry_context(
            on=_retriable,
            attempts=attempts,
            timeout=self._kit.limits.deadline_s,
            wait_initial=wait_s,
            wait_max=wait_s * 25,
            wait_jitter=wait_s,
        ):
            with attempt:
                return await self.entry.source.collect(query)
        raise self._too_slow()

    def _checked(self, frame: Frame) -> Frame:
        source = self.entry.source
        if frame.rows > self._kit.limits.max_rows:
            raise AnswerTooLarge(
                f"`{self.entry.name}` has more than {self._kit.limits.max_rows} rows",
                remedy="narrow the time range or the filters, or raise limits.rows",
            )
        frame = source.transform(replace(frame, name=self.entry.name))
        result = source.validate(frame)
        if result.blocked:
            texts = "; ".join(finding.text for finding in result.blockers)
            raise SchemaMismatch(
                f"`{self.entry.name}` is held back: {texts}", remedy="compare the data with `columns`"
            )
        warnings = (Notice("warning", finding.text) for finding in result.findings if finding.level is Level.WARN)
        return frame.note(*warnings)

    def _failed(self, error: BridgeError) -> BridgeError:
        self._error = error
        self._state = "needs_auth" if isinstance(error, NeedsAuth) else "down"
        return error

    def _too_slow(self) -> UpstreamTimeout:
        return UpstreamTimeout(
            f"`{self.entry.name}` did not answer within {self._kit.limits.deadline_s:g} s",
            remedy="narrow the time range, or raise limits.deadline_s",
        )

    def _remember(self, query: Query, key: str) -> None:
        self._last_key[_spanless(query)] = (key, query)
        while len(self._last_key) > 64:
            self._last_key.pop(next(iter(self._last_key)))

    async def _last(self, query: Query) -> Held | None:
        """The last good answer to the same question over another span, if the spans overlap."""
        key, asked = self._last_key.get(_spanless(query), (None, None))
        if key is None or asked is None or query.span is None or asked.span is None:
            return None
        if asked.span.end <= query.span.start or query.span.end <= asked.span.start:
            return None
        found: Held | None = await self._kit.cache.get(key)
        return found

    def _mark(self, held: Held, error: SourceError) -> Frame:
        age_s = self._kit.clock.monotonic_s() - held.fetched_s
        limit_s = self.entry.freshness.stale_after_s
        severity = "error" if limit_s is not None and age_s > limit_s else "warning"
        text = f"{error.message}. Shown is the last good answer, {_age(age_s)} old ({_instant(held.fetched_at)})."
        notices = [Notice(severity, f"{text} {error.remedy}".strip())]
        custom: dict[str, Any] = {
            "stale": True,
            "age_s": round(age_s, 3),
            "last_updated": held.fetched_at.isoformat(),
            "state": self._state,
            "error": error.code,
        }
        return held.frame.note(*notices, **custom)

    def _count(self, result: str) -> None:
        self._kit.meters.cache.labels(self.entry.name, result).inc()


def _retriable(error: Exception) -> bool | float:
    """Whether, and after how many seconds, this failure is worth another try."""
    if isinstance(error, BreakerOpen) or not isinstance(error, SourceError) or error.retry is not Retry.LATER:
        return False
    if isinstance(error, UpstreamRefused) and error.retry_after_s:
        return error.retry_after_s
    return True


def _spanless(query: Query) -> str:
    return replace(query, span=None, step_ms=None, max_points=None).key


def _instant(value: datetime) -> str:
    return value.strftime("%Y-%m-%d %H:%M:%S UTC")


def _age(age_s: float) -> str:
    if age_s < 120:
        return f"{age_s:.0f} s"
    return f"{age_s / 60:.0f} min" if age_s < 7200 else f"{age_s / 3600:.1f} h"
