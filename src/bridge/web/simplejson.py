"""Annotations as the older protocol wants them: one object for each, with its definition inside."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bridge.model.frame import Frame
from bridge.model.wire import wire_frame
from bridge.web.handlers.json_bodies import Annotation


def listed(frames: Iterable[Frame], definition: Annotation) -> list[dict[str, Any]]:
    """Every row that has a time.

    Units: `time` and `timeEnd` are milliseconds; what has an end is a region.
    """
    shown = _shown(definition)
    rows = (row for frame in frames for row in _rows(wire_frame(frame)))
    return [_one(row, shown) for row in rows if row.get("time") is not None]


def _shown(definition: Annotation) -> dict[str, Any]:
    """What Grafana knows its annotation by; what is nested is left out, as it could be too deep to be written."""
    source = definition.datasource
    if isinstance(source, dict):
        source = {key: value for key, value in source.items() if isinstance(value, str)}
    found = {
        "name": definition.name,
        "datasource": source if isinstance(source, (str, dict)) else None,
        "enable": definition.enable,
        "iconColor": definition.iconColor,
        "query": definition.query if isinstance(definition.query, str) else None,
    }
    return {key: value for key, value in found.items() if value is not None}


def _rows(frame: dict[str, Any]) -> Iterable[dict[str, Any]]:
    names = [field["name"] for field in frame["schema"]["fields"]]
    columns = [values.tolist() if hasattr(values, "tolist") else values for values in frame["data"]["values"]]
    return (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))


def _one(row: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
    tags = row.get("tags")
    out = {
        "annotation": shown,
        "time": row["time"],
        "title": row.get("title") or "",
        "text": row.get("text") or "",
        "tags": [tag.strip() for tag in tags.split(",")] if isinstance(tags, str) else tags or [],
    }
    if row.get("timeEnd") is not None:
        out |= {"timeEnd": row["timeEnd"], "isRegion": True}
    return out
