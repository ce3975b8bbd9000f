"""The past, read back: over any span, as it was known at any moment, with no more rows than the question needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import polars as pl

from bridge.errors import AnswerTooLarge, StoreError
from bridge.model.filters import Filter, expression
from bridge.model.frame import TIME_DTYPE, Frame, Notice
from bridge.model.query import Agg, Query
from bridge.model.schema import Role, Schema
from bridge.model.span import to_us
from bridge.sources.history.buckets import bucketed, can_join
from bridge.sources.history.merging import corrected, corrected_lazy, merged, merged_lazy, ordered, repeats
from bridge.sources.history.scanning import (
    all_later,
    estimated_rows,
    known_by,
    meets,
    partly_later,
    same_time,
    scan,
    version_at,
)
from bridge.sources.history.stored import NOTHING, REV, SEQ, DataFile
from bridge.sources.history.versions import Versions, axis_of, kinds_of, schema_of
from bridge.sources.history.view import View
from bridge.sources.present import left_out, measures_of, series_columns

# Up to so many rows are read as they are; beyond, a panel is drawn from the outlines of the files.
RAW_ROWS = 400_000
# So many rows to choose from for each one that is drawn: the shape then is that of all rows.
CHOICE = 8
_FAR_US = 2**62


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """What the past has to a question, live rows among it, and the question that is left to be asked of it.

    Units: `rows` recorded ones that the answer stands for, about.
    """

    frame: Frame
    query: Query
    rows: int
    thinned: bool = False
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to the past.

    Shape: `columns` are those the answer is made of, None for all; `drawn` when lines are made of it, `thin` when
           fewer rows will do; of `distinct` only the different values are wanted.
    """

    query: Query
    max_rows: int
    raw_rows: int = RAW_ROWS
    columns: tuple[str, ...] | None = None
    drawn: bool = False
    thin: bool = False
    by: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()
    distinct: str | None = None


def asked(
    query: Query,
    schema: Schema,
    max_rows: int,
    *,
    drawn: bool,
    thin: bool,
    distinct: str | None = None,
    raw_rows: int = RAW_ROWS,
) -> Asked:
    """What a bound query needs of the past, of a dataset with these columns."""
    time, measures = schema.time, tuple(column.name for column in measures_of(schema, query))
    thin = thin and query.max_points is not None and query.agg is not Agg.NONE and time is not None and bool(measures)
    by = tuple(name for name in series_columns(schema, query) if schema.get(name))
    filtered = tuple(item.column for item in query.filters)
    columns: tuple[str, ...] | None = None
    if distinct is not None:
        columns = tuple(dict.fromkeys((*key_of(schema), distinct, *filtered)))
    elif drawn and time is not None and measures:
        columns = tuple(dict.fromkeys((*key_of(schema), *by, *measures, *filtered)))
    return Asked(query, max_rows, raw_rows, columns, drawn, thin, by, measures, distinct)


def key_of(schema: Schema) -> tuple[str, ...]:
    """The columns that name a row: its time and its dimensions."""
    time = schema.time
    return (*((time.name,) if time else ()), *(column.name for column in schema.with_role(Role.DIMENSION)))


def read(view: View, wanted: Asked, live: Frame | None) -> Past | None:
    """The rows that answer the question, live ones in place of recorded ones of the same key.

    Shape:  in the order of time; None where nothing was recorded.
    Errors: AnswerTooLarge; StoreError where the past cannot be told together with the live rows.
    """
    versions = view.versions
    if versions is None or not (view.files or view.chunks):
        return None
    schema, as_of = schema_of(versions.current), wanted.query.as_of
    if schema.time is None:
        past = _snapshot(view, versions, schema, wanted)
    else:
        past = _Reading(view, versions, schema, wanted, live).past()
    return past if past is None or as_of is None else replace(past, version=version_at(view, as_of))


def between(view: View, low_us: int, high_us: int) -> pl.DataFrame:
    """The newest rows between two instants, both included, as the current version stores them."""
    versions = view.versions
    assert versions is not None  # noqa: S101
    schema = schema_of(versions.current)
    axis = axis_of(versions.current)
    inside = pl.col(axis).is_between(_instant(low_us), _instant(high_us))
    files = [file for file in view.files if meets(file, versions, low_us, high_us + 1)]
    rows = scan(versions, files, view.chunks, schema.names).filter(inside).collect()
    return corrected(rows, rows.filter(pl.col(REV) > 0), key_of(schema)).select(schema.names)


class _Reading:
    """One question to the past of a dataset that has a time."""

    def __init__(self, view: View, versions: Versions, schema: Schema, wanted: Asked, live: Frame | None) -> None:
        self.versions, self.schema, self.wanted = versions, schema, wanted
        self.query = wanted.query
        self.axis = axis_of(versions.current)
        self.key = key_of(schema)
        self.live = live if live is not None and live.rows else None
        span = self.query.span
        low_us, high_us = (to_us(span.start), to_us(span.end)) if span else (-_FAR_US, _FAR_US)
        met = (file for file in view.files if meets(file, versions, low_us, high_us))
        self.files = [file for file in met if not all_later(file, self.query.as_of)]
        self.chunks = view.chunks
        names = wanted.columns
        if names is not None and self.live is not None and repeats(self.live.data, self.key, self.axis):
            # Rows of one key are told apart by all that they have.
            names = None
        self.names = tuple(column for column in schema.names if names is None or column in names)
        if self.live is not None:
            self._refuse_other(self.live)

    def _refuse_other(self, live: Frame) -> None:
        for name in self.names:
            now, then = live.schema.get(name), self.schema.get(name)
            if now is not None and then is not None and now.type is not then.type:
                raise StoreError(
                    f"`{name}` is recorded as {then.type} and comes as {now.type}, so the past is left out",
                    remedy="`bridge sources migrate` shows what would happen and applies it",
                )

    def past(self) -> Past:
        wanted = self.wanted
        rows = sum(map(self._estimated, self.files)) + sum(chunk.data.height for chunk in self.chunks)
        if wanted.distinct is not None:
            values = self._current().select(wanted.distinct).unique().collect(engine="streaming")
            frame = Frame(values, self.schema).select((wanted.distinct,))
            return Past(frame, replace(self.query, filters=(), span=None), rows)
        if wanted.thin and rows > wanted.raw_rows:
            if self.query.agg is None and self._outlines_do(rows):
                told = Notice("info", f"Drawn from outlines that stand for about {rows} rows.")
                return self._made(self._rows(outlined=True), rows, told)
            if self.query.agg is not None and (joined := self._joined(rows)):
                return joined
        return self._made(self._rows(outlined=False), rows)

    def _estimated(self, file: DataFile) -> int:
        return estimated_rows(file, self.query.span if same_time(file, self.versions) else None)

    def _outlines_do(self, rows: int) -> bool:
        """Whether the outlines of the files show it as well as all rows would."""
        # What a filter on values leaves has other extremes.
        if any(item.column not in self.key for item in self.query.filters):
            return False
        has = sum(file.outline_rows or file.file.rows for file in self.files) + sum(
            c.data.height for c in self.chunks
        )
        points = (self.query.max_points or 0) * len(self.wanted.measures)
        return has >= CHOICE * points or rows > self.wanted.max_rows

    def _rows(self, *, outlined: bool) -> pl.DataFrame:
        """The recorded rows that the question selects, each key once, in their order."""
        max_rows = self.wanted.max_rows
        keyed, others = self._parted
        if not self._revised:
            lazy = scan(self.versions, self._chosen(None) if outlined else self.files, self.chunks, self.names)
            data = lazy.filter(*self._when, *keyed, *others).head(max_rows + 1).collect()
            _refuse_many(data, max_rows)
            return ordered(data, self.axis).select(self.names)
        later = self._later_rows()
        files = self._chosen(later) if outlined else self.files
        lazy = scan(self.versions, files, self.chunks, self.names).filter(*self._when, *keyed)
        data = lazy.head(2 * max_rows + 1).collect()
        _refuse_many(data, 2 * max_rows)
        data = corrected(ordered(data, self.axis), later, self.key)
        data = data.filter(*others) if others else data
        _refuse_many(data, max_rows)
        return data.select(self.names)

    def _later_rows(self) -> pl.DataFrame:
        """The rows that take the place of others."""
        keyed, _ = self._parted
        files = [file for file in self.files if file.revises]
        lazy = scan(self.versions, files, [chunk for chunk in self.chunks if chunk.revises], self.names)
        return lazy.filter(pl.col(REV) > 0, *self._when, *keyed).collect()

    def _chosen(self, later: pl.DataFrame | None) -> list[DataFile]:
        """The files, an outline in place of each that is asked for whole.

        Where rows are corrected, by others or by live ones, an outline may lack what stands beside the value that
        counts no more: such files are read whole, the newest first, as far as their rows are allowed.
        """
        given = [later, self.live.data if self.live is not None else None]
        times = [data.get_column(self.axis).drop_nulls().to_physical().sort() for data in given if data is not None]
        left = self.wanted.max_rows
        out = []
        for file in sorted(self.files, key=lambda file: file.high_us, reverse=True):
            if file.outline is None or not self._whole(file):
                out.append(file)
                continue
            touched = any(_any_between(each, file.low_us, file.high_us) for each in times)
            if touched and file.file.rows <= left:
                left -= file.file.rows
                out.append(file)
            else:
                out.append(replace(file, file=replace(file.file, path=file.outline.name), folder=file.outline.parent))
        return out[::-1]

    def _whole(self, file: DataFile) -> bool:
        """Whether all of the file is asked for, so that its outline, which is of all its rows, says nothing more."""
        span = self.query.span
        if partly_later(file, self.query.as_of) or not same_time(file, self.versions):
            return False
        return span is None or (to_us(span.start) <= file.low_us and file.high_us < to_us(span.end))

    @cached_property
    def _revised(self) -> bool:
        return any(file.revises for file in self.files) or any(chunk.revises for chunk in self.chunks)

    @cached_property
    def _inside(self) -> list[pl.Expr]:
        span = self.query.span
        return [pl.col(self.axis) >= span.start, pl.col(self.axis) < span.end] if span else []

    @cached_property
    def _when(self) -> list[pl.Expr]:
        """Conditions on the time of rows, and on when they were recorded."""
        return [*self._inside, *known_by(self.query.as_of)]

    @cached_property
    def _parted(self) -> tuple[list[pl.Expr], list[pl.Expr]]:
        """The filters on what names a row, and the others: a row may pass those that its correction does not."""
        keyed = [item for item in self.query.filters if item.column in self.key]
        return self._filters(keyed), self._filters(item for item in self.query.filters if item not in keyed)

    def _filters(self, items: Iterable[Filter]) -> list[pl.Expr]:
        schema = self.live.schema if self.live is not None else self.schema
        return [expression(item, schema) for item in items if self.schema.get(item.column)]

    def _made(self, data: pl.DataFrame, rows: int, *told: Notice) -> Past:
        """The recorded rows and the live ones as one table."""
        columns = [column for column in self.schema.columns if column.name in self.names]
        live = self.live
        if live is not None:
            new = [name for name in live.schema.names if self.schema.get(name) is None and self._wants(name)]
            data, added = merged(data, live.data, self.key, self.axis, new)
            if not added:
                return Past(live, self.query, rows)
            known = [live.schema.get(name) for name in new]
            columns = [live.schema.get(column.name) or column for column in columns] + [c for c in known if c]
        data = data.select(column.name for column in columns)
        if not data.get_column(self.axis).is_sorted():
            data = data.sort(self.axis, maintain_order=True)
        data = data.with_columns(pl.col(self.axis).set_sorted()).rechunk()
        frame = Frame(data, Schema(tuple(columns), self.versions.current.version)).note(*told)
        return Past(frame, self.query, rows, thinned=bool(told))

    def _wants(self, name: str) -> bool:
        return self.wanted.columns is None or name in self.wanted.columns

    def _current(self) -> pl.LazyFrame:
        """All rows that count, live ones among them, before any of them is read."""
        keyed, others = self._parted
        lazy = scan(self.versions, self.files, self.chunks, self.names).filter(*self._when, *keyed)
        if self._revised:
            lazy = corrected_lazy(lazy, self._later_rows(), self.key)
        lazy = lazy.select(self.names)
        if self.live is not None:
            kinds = {name: kind for name, kind in kinds_of(self.versions.current).items() if name in self.names}
            lazy = merged_lazy(lazy, self.live.data, kinds, self.key, self.axis)
            lazy = lazy.filter(*self._inside, *keyed)
        return lazy.filter(*others) if others else lazy

    def _joined(self, rows: int) -> Past | None:
        """Buckets of the panel, worked out where the rows stand, so that few of them are held at a time.

        Shape: None where that would not be what all rows give.
        """
        wanted, query = self.wanted, self.query
        if not can_join(wanted.by, wanted.measures, self.axis, self.names, query):
            return None
        if query.agg is Agg.LAST and wanted.drawn and len(wanted.measures) > 1 and rows <= wanted.max_rows:
            # Each measure has instants of its own then.
            return None
        measures = tuple(column for name in wanted.measures if (column := self.schema.get(name)))
        by = tuple(column for name in dict.fromkeys(wanted.by) if (column := self.schema.get(name)))
        time = self.schema.time
        assert time is not None  # noqa: S101
        made = bucketed(self._current(), time, by, measures, query)
        if made is None:
            return None
        frame, left, lost = made
        lost *= len(measures) if wanted.drawn else 1
        frame = replace(frame, schema=replace(frame.schema, version=self.versions.current.version))
        return Past(frame.note(left_out(lost, query)) if lost > 0 else frame, left, rows, thinned=True)


def _snapshot(view: View, versions: Versions, schema: Schema, wanted: Asked) -> Past | None:
    """The rows of a dataset without a time as they were at one moment: those of the last sample until then."""
    files = [file for file in view.files if not all_later(file, wanted.query.as_of)]
    lazy = scan(versions, files, view.chunks, schema.names).filter(*known_by(wanted.query.as_of))
    newest = lazy.select(pl.col(SEQ).max()).collect().item()
    if newest is None:
        return None
    conditions = [pl.col(SEQ) == newest, pl.col(REV) != NOTHING]
    conditions += [expression(item, schema) for item in wanted.query.filters]
    data = lazy.filter(*conditions).head(wanted.max_rows + 1).select(schema.names).collect()
    _refuse_many(data, wanted.max_rows)
    return Past(Frame(data, replace(schema, version=versions.current.version)), wanted.query, data.height)


def _refuse_many(data: pl.DataFrame, max_rows: int) -> None:
    if data.height > max_rows:
        raise AnswerTooLarge(
            f"its history has more than {max_rows} rows in that time",
            remedy="narrow the time range, add filters, or ask for points joined by an `agg`",
        )


def _any_between(times_us: pl.Series, low_us: int, high_us: int) -> bool:
    low, high = times_us.search_sorted(low_us, side="left"), times_us.search_sorted(high_us, side="right")
    return high > low


def _instant(value_us: int) -> pl.Expr:
    return pl.lit(value_us, pl.Int64).cast(TIME_DTYPE)
