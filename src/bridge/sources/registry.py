"""Which plug-ins exist, which sources are configured, and which dataset a name means."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import ValidationError

from bridge.errors import BridgeError, PluginFailed, UnknownDataset, UnknownSource
from bridge.model.schema import Column, Param, Shape
from bridge.sources.base import DatasetSpec, DataSource, Options, Tools

GROUP = "bridge.sources"
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
class DatasetConfig:
    """One dataset as the settings have it."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[Column, ...] = ()
    params: tuple[Param, ...] = ()
    shape: Shape = Shape.AUTO
    description: str = ""
    freshness: Freshness = Freshness()


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """One source as the settings have it."""

    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    datasets: tuple[DatasetConfig, ...] = ()


@dataclass(frozen=True, slots=True)
class Plugin:
    """An installed plug-in: its class, or why it cannot be used."""

    kind: str
    package: str
    cls: type[DataSource] | None = None
    error: str | None = None


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


def discover(points: Iterable[EntryPoint] | None = None) -> dict[str, Plugin]:
    """All plug-ins of the entry-point group, by kind; one that fails to import carries its error."""
    plugins: dict[str, Plugin] = {}
    for point in entry_points(group=GROUP) if points is None else points:
        package = point.dist.name if point.dist else "?"
        try:
            cls = point.load()
        except Exception as error:  # noqa: BLE001 a foreign module may raise anything on import
            plugins[point.name] = Plugin(point.name, package, error=f"{type(error).__name__}: {error}")
            continue
        if isinstance(cls, type) and issubclass(cls, DataSource):
            plugins[point.name] = Plugin(point.name, package, cls=cls)
        else:
            plugins[point.name] = Plugin(point.name, package, error=f"{point.value} is no subclass of DataSource")
    return plugins


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
                self.datasets[name] = DatasetEntry(name, entry.source, spec, config.freshness)

    def resolve(self, target: str) -> DatasetEntry:
        """The dataset a target names: `source.dataset`, or `dataset` alone where only one source has it.

        Errors: UnknownDataset with the nearest names; PluginFailed when its source could not be loaded.
        """
        if entry := self.datasets.get(target):
            return entry
        if "." not in target:
            found = [entry for name, entry in self.datasets.items() if name.partition(".")[2] == target]
            if len(found) == 1:
                return found[0]
            if found:
                names = ", ".join(entry.name for entry in found)
                raise UnknownDataset(f"`{target[:80]}` could mean {names}", remedy="write `source.dataset`")
        broken = self.entries.get(target.partition(".")[0])
        if broken is not None and broken.source is None:
            raise PluginFailed(f"source `{broken.config.name}` is not running: {broken.error}")
        near = difflib.get_close_matches(target, self.datasets, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "GET /api/v1/datasets lists what there is"
        raise UnknownDataset(f"there is no dataset `{target[:80]}`", remedy=hint)

    def source(self, name: str) -> SourceEntry:
        """The configured source of that name.

        Errors: UnknownSource.
        """
        if entry := self.entries.get(name):
            return entry
        known = ", ".join(self.entries) or "none"
        raise UnknownSource(f"there is no source `{name[:80]}`", remedy=f"configured are: {known}")

    async def open(self) -> None:
        """Starts every source; one that fails is shown, the rest runs."""
        for name, entry in list(self.entries.items()):
            if entry.source is None:
                continue
            try:
                await entry.source.open()
            except Exception as error:  # noqa: BLE001 a plug-in may raise anything
                self._drop(name, entry, f"{type(error).__name__}: {error}")

    def _drop(self, name: str, entry: SourceEntry, error: str) -> None:
        self.entries = {**self.entries, name: SourceEntry(entry.config, None, error)}
        self.datasets = {key: value for key, value in self.datasets.items() if value.source is not entry.source}

    async def aclose(self) -> None:
        """Closes every running source, whatever the others do."""
        for entry in self.entries.values():
            if entry.source is not None:
                try:
                    await entry.source.aclose()
                except Exception:  # noqa: BLE001, S112 closing the others matters more
                    continue


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
            known = ", ".join(sorted(plugins))
            text = f"no plug-in offers kind `{config.kind}` (installed: {known})"
            problems.append(Problem((*loc, "kind"), text))
        elif plugin.cls is None:
            entries[config.name] = SourceEntry(
                config, None, f"plug-in `{config.kind}` of {plugin.package}: {plugin.error}"
            )
        else:
            entry, found = _build_one(config, plugin.cls, tools, loc)
            problems.extend(found)
            entries[config.name] = entry
    return Registry(plugins, entries), problems


def _build_one(
    config: SourceConfig, cls: type[DataSource], tools: Tools, loc: Loc
) -> tuple[SourceEntry, list[Problem]]:
    problems: list[Problem] = []
    options = _options(cls.SourceOptions, config.options, (*loc, "options"), problems)
    specs: dict[str, DatasetSpec] = {}
    for index, dataset in enumerate(config.datasets):
        at: Loc = (*loc, "datasets", index)
        if dataset.name in specs:
            problems.append(Problem((*at, "name"), f"a second dataset is called `{dataset.name}`; names must differ"))
        if not dataset.columns and not cls.infers_schema:
            text = f"kind `{config.kind}` cannot guess columns; list them under `columns`"
            problems.append(Problem(at, text))
        own = _options(cls.DatasetOptions, dataset.options, (*at, "options"), problems)
        if own is not None:
            specs[dataset.name] = DatasetSpec(
                dataset.name, own, dataset.columns, dataset.params, dataset.shape, dataset.description
            )
    if problems or options is None:
        return SourceEntry(config, None, "; ".join(problem.text for problem in problems)), problems
    try:
        source = cls(config.name, options, specs, tools)
    except (ValueError, BridgeError) as error:
        # A constructor may point at the dataset it refuses: `error.loc = ("datasets", "runs", ...)`.
        return SourceEntry(config, None, str(error)), [Problem((*loc, *_place(error, config)), str(error))]
    except Exception as error:  # noqa: BLE001 a foreign constructor may raise anything; the rest must run
        return SourceEntry(config, None, f"{type(error).__name__}: {error}"), []
    return SourceEntry(config, source), []


def _place(error: Exception, config: SourceConfig) -> Loc:
    loc: Loc = tuple(getattr(error, "loc", ("options",)))
    if loc[:1] == ("datasets",) and len(loc) > 1 and isinstance(loc[1], str):
        names = [dataset.name for dataset in config.datasets]
        if loc[1] in names:
            return ("datasets", names.index(loc[1]), *loc[2:])
    return loc


def _options(model: type[Options], data: Mapping[str, Any], loc: Loc, problems: list[Problem]) -> Options | None:
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        for item in error.errors(include_url=False, include_context=False, include_input=False):
            key = ".".join(map(str, item["loc"]))
            known = ", ".join(model.model_fields)
            text = item["msg"]
            if item["type"] == "extra_forbidden":
                text = f"`{key}` is no option here (known: {known})"
            elif item["type"] == "missing":
                text = f"`{key}` is required"
            problems.append(Problem((*loc, *item["loc"]), text.removeprefix("Value error, ")))
        return None
