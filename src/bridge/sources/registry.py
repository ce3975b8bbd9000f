"""Which sources are configured, and which dataset a name means."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from bridge.errors import BridgeError, PluginFailed, UnknownDataset, UnknownSource
from bridge.model.schema import Column, Param, Shape
from bridge.sources.base import DatasetSpec, DataSource, Options, Tools
from bridge.sources.leash import Leash
from bridge.sources.plugins import Plugin, discover, what_it_says
from bridge.sources.quality.options import Check
from bridge.sources.transform.options import Step

__all__ = [
    "DatasetConfig",
    "DatasetEntry",
    "Freshness",
    "Keeping",
    "Plugin",
    "Problem",
    "Registry",
    "SourceConfig",
    "SourceEntry",
    "build",
    "discover",
]

log = logging.getLogger("bridge.sources")

# A source that needs longer to start is shown as failed; one that needs longer to close is left behind.
OPEN_S = 15.0
CLOSE_S = 5.0
MAX_NAME_CHARS = 200
# Near misses among more names than these would take longer to find than anyone wants to wait.
MAX_HINTED = 300
Loc = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Freshness:
    """How one dataset is kept.

    Units: seconds; `refresh_s` None takes the plug-in's default.
    """

    refresh_s: float | None = None
    stale_after_s: float | None = 60.0
    min_refresh_s: float = 1.0
    retries: int = 2


@dataclass(frozen=True, slots=True)
class Poll:
    """How one dataset is fetched without being asked.

    Units: seconds; `window_s` None asks for all of it.
    """

    every_s: float
    window_s: float | None = None


@dataclass(frozen=True, slots=True)
class Keeping:
    """What of one dataset's past is kept.

    Shape: `time` names the time column given to a dataset that has none; None keeps its rows as snapshots.
    Units: seconds and bytes; `window_s` None samples all of the dataset.
    """

    keep_s: float
    every_s: float
    window_s: float | None = None
    max_bytes: int = 1024**3
    time: str | None = None
    flush_s: float = 60.0


@dataclass(frozen=True, slots=True)
class DatasetConfig:
    """One dataset as the settings have it."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[Column, ...] = ()
    params: tuple[Param, ...] = ()
    shape: Shape = Shape.AUTO
    description: str = ""
    freshness: Freshness = Freshness()
    steps: tuple[Step, ...] = ()
    poll: Poll | None = None
    checks: tuple[Check, ...] = ()
    history: Keeping | None = None


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """One source as the settings have it."""

    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    datasets: tuple[DatasetConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in the settings of one source, and where."""

    loc: Loc
    text: str


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """A configured source: running, or with the reason why it is not."""

    config: SourceConfig
    source: DataSource | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """A dataset of a running source."""

    name: str
    source: DataSource
    spec: DatasetSpec
    freshness: Freshness
    steps: tuple[Step, ...] = ()
    poll: Poll | None = None
    checks: tuple[Check, ...] = ()
    history: Keeping | None = None

    @property
    def others(self) -> tuple[str, ...]:
        """The other datasets that its steps read."""
        return tuple(dict.fromkeys(name for step in self.steps for name in step.others))


class Registry:
    """The sources of one set of settings."""

    def __init__(self, plugins: Mapping[str, Plugin], entries: Mapping[str, SourceEntry]) -> None:
        self.plugins = plugins
        self.entries = entries
        self.datasets: dict[str, DatasetEntry] = {}
        for entry in entries.values():
            if entry.source is None:
                continue
            for config in entry.config.datasets:
                name = f"{entry.config.name}.{config.name}"
                spec = entry.source.datasets[config.name]
                self.datasets[name] = DatasetEntry(
                    name,
                    entry.source,
                    spec,
                    config.freshness,
                    config.steps,
                    config.poll,
                    config.checks,
                    config.history,
                )

    def resolve(self, target: str) -> DatasetEntry:
        """The dataset a target names: `source.dataset`, or `dataset` alone where only one source has it.

        Errors: UnknownDataset with the nearest names; PluginFailed when its source could not be loaded.
        """
        if entry := self.datasets.get(target):
            return entry
        source, dot, _ = target.partition(".")
        if not dot:
            found = [entry for name, entry in self.datasets.items() if name.partition(".")[2] == target]
            if len(found) == 1:
                return found[0]
            if found:
                names = ", ".join(entry.name for entry in found)
                raise UnknownDataset(f"`{target[:80]}` could mean {names}", remedy="write `source.dataset`")
        for broken in self.entries.values():
            offered = {dataset.name for dataset in broken.config.datasets}
            if broken.source is None and (broken.config.name == source if dot else target in offered):
                raise PluginFailed(
                    f"source `{broken.config.name}` is not running: {broken.error}",
                    remedy="`bridge sources list` shows every source and plug-in with its error",
                )
        raise UnknownDataset(f"there is no dataset `{target[:80]}`", hint=lambda: self._hint(target[:MAX_NAME_CHARS]))

    def _hint(self, target: str) -> str:
        if len(self.datasets) > MAX_HINTED:
            return "GET /api/v1/datasets lists what there is"
        names = {name: name for name in self.datasets}
        if "." not in target:
            names |= {name.partition(".")[2]: name for name in self.datasets}
        near = difflib.get_close_matches(target, names, n=3, cutoff=0.5)
        found = dict.fromkeys(names[name] for name in near)
        return f"did you mean {', '.join(found)}?" if found else "GET /api/v1/datasets lists what there is"

    def source(self, name: str) -> SourceEntry:
        """The configured source of that name.

        Errors: UnknownSource.
        """
        if entry := self.entries.get(name):
            return entry
        known = ", ".join(self.entries) or "none"
        raise UnknownSource(f"there is no source `{name[:80]}`", remedy=f"configured are: {known}")

    async def open(self, deadline_s: float = OPEN_S) -> None:
        """Starts all sources at the same time; one that fails is shown, the rest runs."""
        await asyncio.gather(*(self._open_one(name, deadline_s) for name in self.entries))

    async def _open_one(self, name: str, deadline_s: float) -> None:
        entry = self.entries[name]
        if entry.source is None:
            return
        try:
            await Leash(name).run(entry.source.open, deadline_s)
        except Exception as error:
            log.exception("source does not start", extra={"source": name})
            self.entries = {**self.entries, name: SourceEntry(entry.config, None, what_it_says(error))}
            self.datasets = {key: value for key, value in self.datasets.items() if value.source is not entry.source}
            await _closed(name, entry.source, CLOSE_S)

    async def aclose(self, deadline_s: float = CLOSE_S) -> None:
        """Closes all running sources at the same time, whatever the others do."""
        running = [(name, entry.source) for name, entry in self.entries.items() if entry.source is not None]
        await asyncio.gather(*(_closed(name, source, deadline_s) for name, source in running))


async def _closed(name: str, source: DataSource, deadline_s: float) -> None:
    try:
        await Leash(name).run(source.aclose, deadline_s)
    except Exception:
        # Closing the others matters more.
        log.exception("source does not close", extra={"source": name})


def build(
    configs: Iterable[SourceConfig], plugins: Mapping[str, Plugin], tools: Tools
) -> tuple[Registry, list[Problem]]:
    """The registry of these sources, and everything that is wrong with their settings."""
    entries: dict[str, SourceEntry] = {}
    problems: list[Problem] = []
    for index, config in enumerate(configs):
        loc: Loc = ("sources", index)
        plugin = plugins.get(config.kind)
        if config.name in entries:
            problems.append(Problem((*loc, "name"), f"a second source is called `{config.name}`; names must differ"))
            continue
        if plugin is None:
            known = ", ".join(sorted({plugin.kind for plugin in plugins.values()}))
            text = f"no plug-in offers kind `{config.kind}` (installed: {known})"
            problems.append(Problem((*loc, "kind"), text))
        elif plugin.cls is None:
            entries[config.name] = SourceEntry(
                config, None, f"plug-in `{config.kind}` of {plugin.package}: {plugin.error}"
            )
        else:
            try:
                entry, found = _build_one(config, plugin.cls, tools, loc)
            except Exception as error:  # noqa: BLE001 a foreign constructor may raise anything; the rest must run
                entry, found = SourceEntry(config, None, what_it_says(error)), []
            problems.extend(found)
            entries[config.name] = entry
    return Registry(plugins, entries), problems


def _build_one(
    config: SourceConfig, cls: type[DataSource], tools: Tools, loc: Loc
) -> tuple[SourceEntry, list[Problem]]:
    problems: list[Problem] = []
    options = _options(cls.SourceOptions, config.options, tools, (*loc, "options"), problems)
    specs: dict[str, DatasetSpec] = {}
    for index, dataset in enumerate(config.datasets):
        at: Loc = (*loc, "datasets", index)
        if dataset.name in specs:
            problems.append(Problem((*at, "name"), f"a second dataset is called `{dataset.name}`; names must differ"))
        if not dataset.columns and not cls.infers_schema:
            text = f"kind `{config.kind}` cannot guess columns; list them under `columns`"
            problems.append(Problem(at, text))
        own = _options(cls.DatasetOptions, dataset.options, tools, (*at, "options"), problems)
        if own is not None:
            specs[dataset.name] = DatasetSpec(
                dataset.name, own, dataset.columns, dataset.params, dataset.shape, dataset.description
            )
    if problems or options is None:
        return SourceEntry(config, None, "; ".join(problem.text for problem in problems)), problems
    try:
        source = cls(config.name, options, specs, tools)
    except ValidationError as error:
        problems = list(_told(error, (*loc, "options")))
        return SourceEntry(config, None, "; ".join(problem.text for problem in problems)), problems
    except (ValueError, BridgeError) as error:
        # A constructor may point at the dataset it refuses: `error.loc = ("datasets", "runs", ...)`.
        return SourceEntry(config, None, str(error)), [Problem((*loc, *_place(error, config)), str(error))]
    if not specs.keys() <= getattr(source, "datasets", {}).keys():
        text = f"the constructor of {cls.__name__} does not pass its arguments to DataSource"
        return SourceEntry(config, None, text), []
    return SourceEntry(config, source), []


def _place(error: Exception, config: SourceConfig) -> Loc:
    loc = getattr(error, "loc", None)
    if not isinstance(loc, tuple):
        return ("options",)
    if loc[:1] == ("datasets",) and len(loc) > 1:
        names = [dataset.name for dataset in config.datasets]
        if loc[1] in names:
            return ("datasets", names.index(loc[1]), *loc[2:])
    return loc


def _options(
    model: type[Options], data: Mapping[str, Any], tools: Tools, loc: Loc, problems: list[Problem]
) -> Options | None:
    try:
        return model.model_validate(dict(data), context={"base_dir": tools.base_dir})
    except ValidationError as error:
        problems.extend(_told(error, loc, model))
        return None


def _told(error: ValidationError, loc: Loc, model: type[Options] | None = None) -> Iterator[Problem]:
    """One problem per error, without the values: they may be secrets."""
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        key = ".".join(map(str, item["loc"]))
        text = item["msg"]
        if item["type"] == "extra_forbidden":
            known = f" (known: {', '.join(model.model_fields)})" if model and len(item["loc"]) == 1 else ""
            text = f"`{key}` is no option here{known}"
        elif item["type"] == "missing":
            text = f"`{key}` is required"
        yield Problem((*loc, *item["loc"]), text.removeprefix("Value error, "))
