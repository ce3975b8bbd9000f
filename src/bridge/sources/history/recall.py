"""The past beside the present: one answer of both, or of the past alone when that is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from bridge.errors import BadQuery, SourceError, StoreError
from bridge.model.clock import Clock
from bridge.model.frame import Frame, Held, Notice, empty_frame
from bridge.model.query import Query
from bridge.model.schema import Schema, Shape
from bridge.sources.history.history import History
from bridge.sources.history.reading import Past
from bridge.sources.present import bind, resolve_shape
from bridge.sources.registry import DatasetEntry
from bridge.sources.stale import marked
from bridge.sources.work import compiled

Fetched = tuple[Frame, Query, tuple[Notice, ...]]


def refuse_as_of(name: str) -> BadQuery:
    """Why a dataset without a history cannot be asked what it said before."""
    return BadQuery(
        f"{name} keeps no history, so what it said before is not known",
        remedy="give the dataset `history: {keep: 30d, every_s: 60}` in the settings",
    )


class Recall:
    """How the questions to one dataset with a history are answered."""

    def __init__(self, entry: DatasetEntry, history: History, clock: Clock, max_rows: int) -> None:
        self._entry = entry
        self._history = history
        self._clock = clock
        self._max_rows = max_rows

    async def answer(self, query: Query, shape: Shape, live: Callable[[Query], Awaitable[Fetched]]) -> Fetched:
        """The rows that answer the query, live ones in place of recorded ones of the same key.

        Shape:  the query that comes back is bound to the columns, and is what is left to be asked of the rows.
        Errors: as `live` has them, where nothing was recorded either; BadQuery for an `as_of` that is not known.
        """
        if query.as_of is not None:
            return await self._as_of(query, shape)
        try:
            frame, bound, notices = await live(query)
            if (closed := self._history.closed) is not None:
                return (
                    frame.note(Notice("warning", f"{closed.message.rstrip('. ')}. Nothing is recorded.")),
                    bound,
                    notices,
                )
        except SourceError as error:
            if self._history.schema is None:
                raise
            return await self._instead(query, shape, error)
        if frame.schema.time is None:
            return frame, bound, notices
        try:
            past = await self._read(bound, frame.schema, frame, shape)
        except StoreError as error:
            said = Notice("warning", f"{error.message.rstrip('. ')}. Shown are the rows of the source alone.")
            return frame.note(said), bound, notices
        if past is None or past.frame is frame:
            return frame, bound, notices
        whole = replace(frame, data=past.frame.data, schema=past.frame.schema)
        return self._traced(whole, past), past.query, notices

    async def _read(self, bound: Query, schema: Schema, live: Frame | None, shape: Shape) -> Past | None:
        drawn = resolve_shape(shape, schema) is Shape.TIMESERIES and bound.max_points is not None
        return await self._history.read(bound, schema, live, self._max_rows, drawn=drawn)

    async def _alone(self, query: Query, shape: Shape) -> tuple[Past | None, Schema, tuple[Notice, ...]]:
        schema = self._history.schema
        assert schema is not None  # noqa: S101
        bound, notices = await compiled(query, lambda: bind(query, schema))
        return await self._read(bound, schema, None, shape), schema, notices

    async def _instead(self, query: Query, shape: Shape, error: SourceError) -> Fetched:
        """What was recorded last, marked as the last good answer of a source that is down."""
        past, _, notices = await self._alone(query, shape)
        last_at = self._history.view.last_at
        if past is None or last_at is None:
            raise error
        frame = self._traced(replace(past.frame, name=self._entry.name), past)
        age_s = (self._clock.now() - last_at).total_seconds()
        stale_after_s = self._entry.freshness.stale_after_s
        held = Held(frame, last_at, 0.0)
        shown = marked(held, error, age_s, stale_after_s=stale_after_s, asked=None, covered=None)
        return shown, past.query, notices

    async def _as_of(self, query: Query, shape: Shape) -> Fetched:
        view, name = self._history.view, self._entry.name
        if self._history.closed is not None:
            raise self._history.closed
        if view.problem is not None:
            raise view.problem
        if self._history.schema is None:
            raise BadQuery(f"nothing was recorded of {name} yet", remedy="its first sample comes within `every_s`")
        if isinstance(query.as_of, int) and query.as_of > view.seq:
            raise BadQuery(f"{name} has no version {query.as_of} yet", remedy=f"the newest is v{view.seq}")
        past, schema, notices = await self._alone(query, shape)
        if past is None:
            past = Past(Frame(empty_frame(schema.columns), schema), replace(query, as_of=None), 0)
        frame = self._traced(replace(past.frame, name=name), past, as_of=query.as_of)
        when = f"version {query.as_of}" if isinstance(query.as_of, int) else f"{query.as_of:%Y-%m-%d %H:%M:%S} UTC"
        said = "As it was recorded until" if frame.rows else "Nothing was recorded until"
        return frame.note(Notice("info", f"{said} {when}.")), past.query, notices

    def _traced(self, frame: Frame, past: Past, as_of: Any = None) -> Frame:
        """The frame with what of its lineage is known of its past."""
        known = dict(frame.meta.custom.get("lineage") or self._origin(frame))
        view = self._history.view
        told: dict[str, Any] = {"version": view.seq, "rows": past.rows}
        if past.thinned:
            told["thinned"] = True
        if as_of is not None:
            told["as_of"] = as_of.isoformat() if isinstance(as_of, datetime) else as_of
        return frame.note(lineage={**known, "history": told})

    def _origin(self, frame: Frame) -> dict[str, Any]:
        source = self._entry.source
        return {
            "dataset": self._entry.name,
            "source": source.name,
            "kind": source.kind,
            "adapter": source.version,
            "schema": {"version": frame.schema.version, "fingerprint": frame.schema.fingerprint},
        }
