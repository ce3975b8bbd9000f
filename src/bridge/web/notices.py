"""What is told beside the rows, where an answer has no place for it: in a header, or as one more annotation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import polars as pl

from bridge.model.frame import TIME_DTYPE, Frame, Notice
from bridge.model.schema import Column, ColumnType
from bridge.model.span import Span
from bridge.sources.ask import Answer

# Clients read headers of up to 8 KiB.
MAX_NOTICES_BYTES = 4_000
MAX_NOTICE_CHARS = 300
_GRAVE = {"error": 0, "warning": 1}
TITLE = "no newer annotations"
TAG = "bridge-stale"
_MARK = (Column("time", ColumnType.TIME), Column("timeEnd", ColumnType.TIME), Column("title", ColumnType.STRING))


def header(notices: Sequence[Notice]) -> dict[str, str]:
    """The notices as a header, as row formats have no place for them; the graver come first, some may not fit."""
    kept: list[dict[str, str]] = []
    for notice in sorted(notices, key=lambda item: _GRAVE.get(item.severity, len(_GRAVE))):
        wider = [*kept, {"severity": notice.severity, "text": notice.text[:MAX_NOTICE_CHARS]}]
        if len(_ascii(wider)) > MAX_NOTICES_BYTES:
            break
        kept = wider
    return {"X-Bridge-Notices": _ascii(kept)} if kept else {}


def _ascii(value: Any) -> str:
    """JSON that may stand in a header: everything but printable ASCII is escaped."""
    return json.dumps(value, separators=(",", ":"))


def annotated(answer: Answer) -> Answer:
    """The answer to a question for annotations; where it is the last good one, with a region of what is not known.

    Source: Grafana shows no notice of an annotation query, so its user would take what is missing for what is not.
    """
    frames = tuple(_marked(frame, answer.query.span) for frame in answer.frames)
    return replace(answer, frames=frames)


def _marked(frame: Frame, span: Span | None) -> Frame:
    """One more annotation, from the last good answer to the end of the time that was asked for."""
    if not frame.meta.custom.get("stale"):
        return frame
    since = datetime.fromisoformat(str(frame.meta.custom["last_updated"]))
    end = span.end if span else None
    if span is not None and since >= span.end:
        return frame
    since = max(since, span.start) if span else since
    text = "\n".join(notice.text for notice in frame.meta.notices if notice.severity != "info")
    mark = {"time": since, "timeEnd": end, "title": f"{frame.name}: {TITLE}", "text": text, "tags": TAG}
    added = [column for column in _MARK if frame.schema.get(column.name) is None]
    columns = (*frame.schema.columns, *added)
    row = pl.DataFrame(
        {name: [value] for name, value in mark.items() if name in {column.name for column in columns}},
        schema_overrides={"time": TIME_DTYPE, "timeEnd": TIME_DTYPE},
    )
    data = pl.concat([frame.data, row], how="diagonal").select(column.name for column in columns)
    return replace(frame, data=data, schema=replace(frame.schema, columns=columns))
