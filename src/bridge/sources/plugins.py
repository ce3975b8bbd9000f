"""Which plug-ins are installed, and why one of them cannot be used."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from bridge.errors import BridgeError
from bridge.sources.base import DataSource

GROUP = "bridge.sources"
OWN_PACKAGE = "bridge"


@dataclass(frozen=True, slots=True)
class Plugin:
    """An installed plug-in: its class, or why it cannot be used."""

    kind: str
    package: str
    cls: type[DataSource] | None = None
    error: str | None = None

    def listed(self) -> dict[str, str | bool | None]:
        """The plug-in as a row of a list."""
        return {"kind": self.kind, "package": self.package, "ok": self.error is None, "error": self.error}


def discover(points: Iterable[EntryPoint] | None = None) -> dict[str, Plugin]:
    """All plug-ins of the entry-point group, by kind; one that cannot be used carries its error.

    Shape:  of several with one kind bridge's own counts, or the package that comes first; the others are listed as
            `kind@package`.
    """
    found = [_loaded(point) for point in (entry_points(group=GROUP) if points is None else points)]
    plugins: dict[str, Plugin] = {}
    for plugin in sorted(found, key=lambda plugin: (plugin.package != OWN_PACKAGE, plugin.package)):
        first = plugins.setdefault(plugin.kind, plugin)
        if first.package != plugin.package:
            text = f"kind `{plugin.kind}` is taken by package {first.package}; uninstall one of the two"
            plugins[f"{plugin.kind}@{plugin.package}"] = Plugin(plugin.kind, plugin.package, error=text)
    return plugins


def _loaded(point: EntryPoint) -> Plugin:
    package = point.dist.name if point.dist else "?"
    try:
        cls = point.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 a foreign module may do anything on import
        return Plugin(point.name, package, error=what_it_says(error))
    if not (isinstance(cls, type) and issubclass(cls, DataSource)):
        error_text = f"{point.value} is no subclass of DataSource"
    elif inspect.isabstract(cls):
        error_text = f"{point.value} does not write {', '.join(sorted(cls.__abstractmethods__))}"
    elif getattr(cls, "kind", None) != point.name:
        error_text = f"{point.value} has kind {getattr(cls, 'kind', None)!r}, its entry point is `{point.name}`"
    else:
        return Plugin(point.name, package, cls=cls)
    return Plugin(point.name, package, error=error_text)


def what_it_says(error: BaseException) -> str:
    """The error in one line."""
    return error.message if isinstance(error, BridgeError) else f"{type(error).__name__}: {error}"
