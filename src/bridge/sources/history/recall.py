"""The past beside the present: one answer of both, or of the past alone when that is asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from bridge.errors import AnswerTooLarge, BadQuery, SourceError, StoreError
from bridge.model.clock import Clock
from bridge.model.frame import Frame, Held, Notice, empty_frame
from bridge.model.query import AsOf, Query
from bridge.model.schema import Schema, Shape
from bridge.sources.history.history import History
from bridge.sources.history.reading import Past, asked
from bridge.sources.history.view import View
from bridge.sources.present import bind, must_exist, resolve_shape
from bridge.sources.registry import DatasetEntry
from bridge.sources.stale import marked
from bridge.sources.work import compiled

Fetched = tuple[Frame, Query, tuple[Notice, ...]]


@dataclass(frozen=True, slots=True)
class Want:
    """What an answer is made into: a shape, whole rows thinned out (`shape` None), or the values of one column."""

    shape: Shape | None = Shape.TABLE
    column: str | None = None


WHOLE = Want()


def refuse_as_of(name: str) -> BadQuery:
    """Why a dataset without a history cannot be asked what it said before."""
    if name.startswith("_"):
        return BadQuery(f"{name} tells of the present only", remedy="leave out `as_of`")
    return BadQuery(
        f"{name} keeps no history, so what it said before is not known",
        remedy="give the dataset `history: {keep: 30d, every_s: 60}` in the settings",
    )


class Recall:
    """How the questions to one dataset with a history are answered.

    A filter on values goes to the source as well: a row that does not pass it there any more counts as it was
    recorded, until the next sample.
    """

    def __init__(self, entry: DatasetEntry, history: History, clock: Clock, max_rows: int) -> None:
        self._entry = entry
        self._history = history
        self._clock = clock
        self._max_rows = max_rows

    async def answer(self, query: Query, want: Want, live: Callable[[Query], Awaitable[Fetched]]) -> Fetched:
        """The rows that answer the query, live ones in place of recorded ones of the same key.

        Shape:  the query that comes back is bound to the columns, and is what is left to be asked of the rows.
        Errors: as `live` has them, where nothing was recorded either; BadQuery for an `as_of` that is not known;
                AnswerTooLarge.
        """
        if query.as_of is not None:
            return await self._as_of(query, query.as_of, want)
        other = self._other(query)
        try:
            frame, bound, notices = await live(query)
        except SourceError as error:
            if other:
                raise
            return await self._instead(query, want, error)
        if other:
            return frame.note(Notice("info", f"{other}. Shown are the rows of the source alone.")), bound, notices
        if closed := self._history.closed:
            said = f"{closed.message.rstrip('. ')}. Nothing is recorded; shown are the rows of the source alone."
            return frame.note(Notice("warning", said)), bound, notices
        view = self._history.view
        if frame.schema.time is None:
            return self._dated(frame, view), bound, notices
        try:
            past = await self._read(view, bound, frame.schema, frame, want)
        except StoreError as error:
            said = f"{error.message.rstrip('. ')}. Shown are the rows of the source alone."
            return frame.note(Notice("warning", said)), bound, notices
        return self._joined(frame, view, past), past.query if past else bound, notices

    def _joined(self, frame: Frame, view: View, past: Past | None) -> Frame:
        if past is not None and past.frame is not frame:
            whole = replace(frame, data=past.frame.data, schema=past.frame.schema)
            frame = self._traced(whole.note(*past.frame.meta.notices), view, past)
        else:
            frame = self._dated(frame, view)
        return self._warned(frame, view)

    def _warned(self, frame: Frame, view: View) -> Frame:
        if view.problem is None:
            return frame
        said = f"{view.problem.message.rstrip('. ')}. Rows that were recorded there are left out."
        return frame.note(Notice("warning", said))

    def _other(self, query: Query) -> str:
        """Why the past says nothing to this question: it is that of the parameters' defaults."""
        for param in self._entry.spec.params:
            sampled = () if param.default is None else (param.default,)
            if query.param(param.name) != sampled:
                value = f"{param.default!r}" if param.default is not None else "left out"
                return f"{self._entry.name} is recorded with `{param.name}` {value} only"
        return ""

    async def _read(self, view: View, bound: Query, schema: Schema, live: Frame | None, want: Want) -> Past | None:
        drawn = want.shape is not None and resolve_shape(want.shape, schema) is Shape.TIMESERIES
        wanted = asked(
            bound,
            schema,
            self._max_rows,
            drawn=drawn,
            thin=drawn or want.shape is None,
            distinct=want.column,
            raw_rows=self._history.raw_rows,
        )
        try:
            return await self._history.read(view, wanted, live)
        except AnswerTooLarge as error:
            raise AnswerTooLarge(f"{self._entry.name}: {error.message}", remedy=error.remedy) from error

    async def _alone(
        self, view: View, query: Query, schema: Schema, want: Want
    ) -> tuple[Past | None, Query, tuple[Notice, ...]]:
        bound, notices = await compiled(query, lambda: bind(query, schema))
        if want.column is not None:
            must_exist(want.column, schema, query, "column")
        return await self._read(view, bound, schema, None, want), bound, notices

    async def _instead(self, query: Query, want: Want, error: SourceError) -> Fetched:
        """What was recorded last, marked as the last good answer of a source that is down."""
        view, schema = self._history.view, self._history.schema
        if schema is None or view.last_at is None:
            raise error
        try:
            past, _, notices = await self._alone(view, query, schema, want)
        except StoreError:
            raise error from None
        if past is None:
            raise error
        frame = self._traced(replace(past.frame, name=self._entry.name), view, past)
        # The clock may have been set back since.
        age_s = max(0.0, (self._clock.now() - view.last_at).total_seconds())
        stale_after_s = self._entry.freshness.stale_after_s
        held = Held(frame, view.last_at, 0.0)
        shown = marked(held, error, age_s, stale_after_s=stale_after_s, asked=None, covered=None)
        return self._warned(shown, view), past.query, notices

    async def _as_of(self, query: Query, as_of: AsOf, want: Want) -> Fetched:
        history, name = self._history, self._entry.name
        view, schema = history.view, history.schema
        if problem := history.closed or view.problem:
            raise problem
        if other := self._other(query):
            raise BadQuery(other, remedy=f"leave it out, or leave out `as_of`; {name} has no other past")
        if schema is None or view.seq < 0:
            raise BadQuery(f"nothing was recorded of {name} yet", remedy="its first sample comes within `every_s`")
        if isinstance(as_of, int) and as_of > view.seq:
            raise BadQuery(f"{name} has no version {as_of} yet", remedy=f"the newest is v{view.seq}")
        past, bound, notices = await self._alone(view, query, schema, want)
        past = past or Past(Frame(empty_frame(schema.columns), schema), bound, 0)
        frame = self._traced(replace(past.frame, name=name), view, past, as_of=as_of)
        when = f"version {as_of}" if isinstance(as_of, int) else f"{as_of:%Y-%m-%d %H:%M:%S} UTC"
        said = "As it was recorded until" if frame.rows else "Nothing was recorded until"
        return frame.note(Notice("info", f"{said} {when}.")), past.query, notices

    def _dated(self, frame: Frame, view: View) -> Frame:
        """The frame with the last version until which anything was recorded, where its rows are all the source's."""
        return frame if view.seq < 0 else self._traced(frame, view, None)

    def _traced(self, frame: Frame, view: View, past: Past | None, as_of: AsOf | None = None) -> Frame:
        """The frame with what of its lineage is known of its past."""
        known = dict(frame.meta.custom.get("lineage") or self._origin(frame))
        told: dict[str, Any] = {"version": view.seq}
        if past is not None:
            told["rows"] = past.rows
            # Asked again with this number the answer is the same.
            told["version"] = view.seq if past.version is None else max(past.version, 0)
        if past is not None and past.thinned:
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
