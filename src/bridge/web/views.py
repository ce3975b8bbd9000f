"""What bridge tells of its sources and datasets."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bridge.sources.ask import Desk
from bridge.sources.registry import SourceEntry


def dataset_view(desk: Desk, name: str) -> dict[str, Any]:
    """One dataset: what it is, how it is doing, and where to read it."""
    keeper = desk.keeper(name)
    status = asdict(keeper.status())
    del status["dataset"]
    schema = keeper.schema
    return {
        "name": name,
        "source": keeper.entry.source.name,
        "kind": keeper.entry.source.kind,
        "description": keeper.entry.spec.description,
        "shape": keeper.entry.spec.shape,
        "columns": list(schema.names) if schema else None,
        "refresh_s": keeper.refresh_s,
        "system": name in desk.system,
        "href": f"/api/v1/datasets/{name}",
        **status,
    }


def source_view(desk: Desk, name: str) -> dict[str, Any]:
    """One source: its plug-in, its datasets, and why it does not run if it does not.

    Errors: UnknownSource.
    """
    entry = desk.registry.source(name)
    datasets = [dataset_view(desk, key) for key, item in desk.registry.datasets.items() if item.source.name == name]
    if entry.source is None:
        return _failed(entry, entry.error)
    try:
        meta = entry.source.metadata
    except Exception as error:  # noqa: BLE001 a plug-in may raise anything; the other sources are listed
        return _failed(entry, f"its plug-in cannot describe itself: {type(error).__name__}: {error}")
    states = {item["state"] for item in datasets}
    state = next((s for s in ("needs_auth", "down", "schema_changed", "held_back", "ok") if s in states), "unknown")
    return {
        "name": name,
        "kind": meta.kind,
        "version": meta.version,
        "description": meta.description,
        "state": state,
        "far_version": meta.far_version,
        "pushes_down": meta.pushes_down,
        "streams": meta.streams,
        "datasets": datasets,
    }


def _failed(entry: SourceEntry, error: str | None) -> dict[str, Any]:
    config = entry.config
    return {
        "name": config.name,
        "kind": config.kind,
        "state": "failed",
        "error": error,
        "datasets": [f"{config.name}.{dataset.name}" for dataset in config.datasets],
    }


def plugins_view(desk: Desk) -> list[dict[str, Any]]:
    """Every installed plug-in, with its error if it cannot be loaded."""
    return [plugin.listed() for plugin in desk.registry.plugins.values()]
