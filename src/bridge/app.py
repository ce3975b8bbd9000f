"""The only place where parts are built and joined: from settings to a running service."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiohttp import web

from bridge import __version__
from bridge.edge.cache import Cache
from bridge.edge.meters import Meters
from bridge.edge.openlineage import FileSink, HttpSink, Outbox
from bridge.edge.upstream import UpstreamPool
from bridge.errors import SettingsError
from bridge.model.clock import Clock, SystemClock
from bridge.model.frame import Frame, Held
from bridge.settings import DatasetSettings, HistorySettings, LimitSettings, Loaded, load_settings
from bridge.sources.ask import Desk
from bridge.sources.base import Limits, Tools
from bridge.sources.history.history import History
from bridge.sources.history.proof import history_problems
from bridge.sources.history.recorder import Recorder
from bridge.sources.history.store import Store
from bridge.sources.keeper import Kit
from bridge.sources.lineage_events import LineageEvents
from bridge.sources.openlineage import Teller
from bridge.sources.poller import Poller
from bridge.sources.proof import step_problems
from bridge.sources.quality.proof import check_problems
from bridge.sources.registry import (
    DatasetConfig,
    DatasetEntry,
    Freshness,
    Keeping,
    Plugin,
    Poll,
    Registry,
    SourceConfig,
    build,
    discover,
)
from bridge.web.front import Front
from bridge.web.guard import guard
from bridge.web.keys import CACHE, CLOCK, CONFIG, DESK, METERS, ROUTES, STATE, RunState, WebConfig
from bridge.web.protocol import assert_c_parser
from bridge.web.routes import TABLE, mount
from bridge.web.tls import TlsFiles

log = logging.getLogger("bridge")

# What an entry costs beside its columns: the frame, its schema and the cache's own record.
ENTRY_BYTES = 2_048


@dataclass(frozen=True, slots=True)
class World:
    """What outlives a reload: the clock, the meters, and the plug-ins of this process."""

    clock: Clock = field(default_factory=SystemClock)
    meters: Meters = field(default_factory=lambda: Meters(__version__))
    plugins: Mapping[str, Plugin] = field(default_factory=discover)
    state: RunState = field(default_factory=RunState)
    _stores: dict[Path, Store] = field(default_factory=dict)

    @asynccontextmanager
    async def histories(self, data_dir: Path, entries: Iterable[DatasetEntry]) -> AsyncIterator[dict[str, History]]:
        """The histories of these datasets; the folder is held until the last house that uses it is closed.

        A new house takes up the histories that are open, with what its settings say of keeping; one that no dataset
        asks for any more stays on the disk, and is found again. Another `data_dir` begins anew, and the histories of
        the one before stay where they are.
        Errors: StoreHeld when another process has the folder; StoreError.
        """
        offered = list(entries)
        if all(entry.history is None for entry in offered):
            yield {}
            return
        store = self._stores.setdefault(data_dir, Store(data_dir, self.clock))
        found = await store.open(offered)
        try:
            yield found
        finally:
            await store.close()


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of one set of settings, not started yet, and the way out they share."""

    registry: Registry
    pool: UpstreamPool
    tools: Tools

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Every source is started, and closed again at the end."""
        try:
            await self.registry.open()
            yield
        finally:
            await self.registry.aclose()
            await self.pool.aclose()


def size_of(value: Any) -> int:
    """Bytes a cached answer takes in memory, about."""
    frame = value.frame if isinstance(value, Held) else value
    return ENTRY_BYTES + (int(frame.data.estimated_size()) if isinstance(frame, Frame) else 0)


def source_configs(loaded: Loaded) -> tuple[SourceConfig, ...]:
    """The settings' sources as the sources room knows them."""
    return tuple(
        SourceConfig(source.name, source.kind, source.options, tuple(map(_dataset, source.datasets)))
        for source in loaded.settings.sources
    )


def _dataset(given: DatasetSettings) -> DatasetConfig:
    refresh_s = None if given.refresh_s is None and given.volatility is None else given.fresh_s(0.0)
    freshness = Freshness(refresh_s, given.stale_after_s, given.min_refresh_s, given.retries)
    return DatasetConfig(
        given.name,
        given.options,
        given.model_columns(),
        given.model_params(),
        given.shape,
        given.description,
        freshness,
        given.steps,
        Poll(given.poll.every_s, given.poll.window_s) if given.poll else None,
        given.checks,
        _keeping(given.history) if given.history else None,
    )


def _keeping(given: HistorySettings) -> Keeping:
    return Keeping(given.keep_s, given.every_s, given.window_s, given.max_bytes, given.time, given.flush_s)


def limits_of(given: LimitSettings) -> Limits:
    """The bounds of one answer."""
    return Limits(given.rows, given.answer_bytes, given.series, given.deadline_s)


def build_sources(loaded: Loaded, world: World) -> Sources:
    """The sources the settings describe; one whose plug-in is broken is kept with its error.

    Errors: SettingsError with every problem of every source.
    """
    pool = UpstreamPool(user_agent=f"bridge/{__version__}")
    tools = Tools(pool.upstream, world.clock, loaded.base_dir, limits_of(loaded.settings.limits))
    configs = source_configs(loaded)
    registry, problems = build(configs, world.plugins, tools)
    problems += [*step_problems(configs, registry), *check_problems(configs, registry), *history_problems(configs)]
    if problems:
        raise SettingsError([loaded.problem(problem.loc, problem.text) for problem in problems])
    return Sources(registry, pool, tools)


def build_cache(loaded: Loaded, world: World) -> Cache:
    """The cache that answers are kept in."""
    return Cache.in_memory(max_bytes=loaded.settings.limits.cache_bytes, size_of=size_of, clock=world.clock)


def build_events(loaded: Loaded, sources: Sources, world: World) -> LineageEvents | None:
    """What tells others where data comes from; None where the settings name nobody."""
    given = loaded.settings.lineage.events
    sink: FileSink | HttpSink
    if given.file is not None:
        sink = FileSink(given.file)
    elif given.url is not None:
        far = sources.pool.upstream(given.url, allow_private=given.allow_private)
        sink = HttpSink(far, given.token.get_secret_value() if given.token else None)
    else:
        return None
    outbox = Outbox(sink, world.meters, jitter=random.random)
    teller = Teller(given.namespace, __version__)
    return LineageEvents(outbox, teller, world.clock, every_s=given.every_s, randomness=os.urandom)


def build_desk(sources: Sources, world: World, cache: Cache, events: LineageEvents | None = None) -> Desk:
    """Where questions are asked."""
    kit = Kit(cache, world.clock, world.meters, sources.tools.limits, jitter=random.random, events=events)
    return Desk(sources.registry, kit)


def create_app(loaded: Loaded, world: World, cache: Cache | None = None) -> web.Application:
    """One house: every part of one set of settings, started and closed with the application.

    Answers in `cache` that another house fetched are used where their dataset's settings are the same.
    Errors: SettingsError with every problem of the sources.
    """
    settings = loaded.settings
    sources = build_sources(loaded, world)
    cache = cache or build_cache(loaded, world)
    events = build_events(loaded, sources, world)
    desk = build_desk(sources, world, cache, events)
    app = web.Application(middlewares=[guard])
    app[CONFIG] = WebConfig(
        public_url=str(settings.server.public_url),
        allowed_hosts=tuple(host.lower() for host in settings.server.allowed_hosts),
        body_bytes=settings.limits.body_bytes,
        query_bytes=settings.limits.query_bytes,
        answer_bytes=settings.limits.answer_bytes,
        body_s=settings.limits.body_s,
        max_in_flight=settings.limits.requests_in_flight,
        version=__version__,
    )
    app[DESK], app[CACHE], app[METERS], app[CLOCK] = desk, cache, world.meters, world.clock
    app[ROUTES], app[STATE] = TABLE, world.state
    mount(app)
    app.cleanup_ctx.append(_sources_ctx(sources, desk, world, settings.data_dir, events))
    return app


def _sources_ctx(
    sources: Sources, desk: Desk, world: World, data_dir: Path, events: LineageEvents | None
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def run(_: web.Application) -> AsyncIterator[None]:
        async with sources.running(), world.histories(data_dir, sources.registry.datasets.values()) as histories:
            desk.remember(histories)
            world.meters.watch(desk.statuses)
            world.meters.watch_checks(desk.check_statuses)
            poller = Poller(desk, world.clock, world.meters, jitter=random.random)
            recorder = Recorder(desk, world.clock, world.meters, jitter=random.random)
            works = [poller.run(), recorder.run(), desk.prove(), *([events.run()] if events else [])]
            tasks = [asyncio.create_task(work) for work in works]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    return run


class Service:
    """A running bridge: it listens once, and swaps its house when the settings change."""

    def __init__(
        self,
        path: Path | None,
        *,
        overrides: Mapping[str, Any],
        env: Mapping[str, str] = os.environ,
        world: World | None = None,
    ) -> None:
        self._path = path
        self._overrides = overrides
        self._env = env
        self.world = world or World()
        self._port = 0
        self.loaded = self._load()
        self._cache = build_cache(self.loaded, self.world)
        limits = self.loaded.settings.limits
        self.front = Front(header_s=limits.header_s, keepalive_s=limits.keepalive_s)

    def _load(self) -> Loaded:
        return load_settings(self._path, env=self._env, overrides=self._overrides)

    async def start(self) -> list[tuple[str, int]]:
        """Builds the first house and listens; the addresses that were bound.

        Errors: SettingsError.
        """
        assert_c_parser()
        server = self.loaded.settings.server
        app = create_app(self.loaded, self.world, self._cache)
        bound = await self.front.listen(server.host, server.port, tls=_tls(self.loaded))
        self._port = bound[0][1]
        self._place(app)
        try:
            await self.front.swap(app)
        except BaseException:
            await self.front.aclose()
            raise
        self.world.state.config = self._path.name if self._path else None
        self.world.state.started_at = self.world.clock.now().isoformat()
        return bound

    def _place(self, app: web.Application) -> None:
        """Puts the real port into the public URL where the settings asked for any free one."""
        config = app[CONFIG]
        if config.public_url.endswith(":0"):
            app[CONFIG] = replace(config, public_url=f"{config.public_url.removesuffix('0')}{self._port}")

    async def reload(self) -> bool:
        """Reads the settings again and swaps the house; with a broken file everything stays, and the log says so."""
        world, old = self.world, self.loaded.settings.server
        try:
            loaded = await asyncio.to_thread(self._load)
            resized = loaded.settings.limits.cache_bytes != self.loaded.settings.limits.cache_bytes
            cache = build_cache(loaded, world) if resized else self._cache
            app = create_app(loaded, world, cache)
            self._place(app)
            await self.front.swap(app)
        except Exception as error:  # noqa: BLE001 a part may raise anything while it starts; the old house stays
            lines = error.problems if isinstance(error, SettingsError) else [f"{type(error).__name__}: {error}"]
            world.state.reload_error = "; ".join(lines)
            world.meters.reloads.labels("failed").inc()
            world.meters.reload_ok.set(0)
            log.error(  # noqa: TRY400 the lines say it, a traceback would hide them
                "reload failed, the settings before stay in force", extra={"problems": lines}
            )
            return False
        await self.front.reload_tls(_tls(loaded))
        new = loaded.settings.server
        fixed = [key for key in ("host", "port") if getattr(new, key) != getattr(old, key)]
        if loaded.settings.data_dir != self.loaded.settings.data_dir:
            log.warning(
                "data_dir has changed: histories begin anew there, and those of before stay where they are",
                extra={"before": str(self.loaded.settings.data_dir), "now": str(loaded.settings.data_dir)},
            )
        world.state.reload_error = None
        world.state.reloaded_at = world.clock.now().isoformat()
        world.meters.reloads.labels("ok").inc()
        world.meters.reload_ok.set(1)
        if fixed:
            log.warning("server.host and server.port change with a restart only", extra={"changed": fixed})
        self.loaded, self._cache = loaded, cache
        log.info("settings reloaded", extra={"sources": len(loaded.settings.sources)})
        return True


def _tls(loaded: Loaded) -> TlsFiles | None:
    tls = loaded.settings.server.tls
    if tls.cert_file is None or tls.key_file is None:
        return None
    return TlsFiles(str(tls.cert_file), str(tls.key_file))
