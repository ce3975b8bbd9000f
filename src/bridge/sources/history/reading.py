"""The past, read back: over any span, as it was known at any moment, with no more rows than the question needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import polars as pl

from bridge.model.filters import expression
from bridge.model.frame import TIME_DTYPE, Frame
from bridge.model.query import Agg, AsOf, Query
from bridge.model.schema import Role, Schema
from bridge.model.span import Span, to_us
from bridge.sources.history.stored import AT, MARKS, NOTHING, REV, SEQ, DataFile, normal
from bridge.sources.history.versions import Versions, axis_of, expressions, kinds_of, schema_of, stored_schema
from bridge.sources.history.view import Chunk, View
from bridge.sources.present import measures_of, series_columns

# Up to so many rows are read as they are; beyond, a panel is drawn from the outlines of the files.
RAW_ROWS = 400_000
# So many rows to choose from for each one that is drawn: the shape then is that of all rows.
CHOICE = 8
_BUCKET = "\x00bucket"
_FAR_US = 2**62


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """What the past has to a question, live rows among it, and the question that is left to be asked of it."""

    frame: Frame
    query: Query
    rows: int
    thinned: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to the past.

    Shape: `columns` are those the answer is made of, None for all; `thin` when a panel is drawn of it.
    """

    query: Query
    max_rows: int
    columns: tuple[str, ...] | None = None
    thin: bool = False
    by: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()


def asked(query: Query, schema: Schema, max_rows: int, *, drawn: bool) -> Asked:
    """What a bound query needs of the past; `drawn` when lines are made of it."""
    time = schema.time
    measures = measures_of(schema, query)
    thin = query.max_points is not None and time is not None and bool(measures)
    by = tuple(name for name in series_columns(schema, query) if schema.get(name))
    columns: tuple[str, ...] | None = None
    if drawn and time is not None and measures:
        filtered = (item.column for item in query.filters)
        columns = tuple(dict.fromkeys((time.name, *key_of(schema), *by, *(m.name for m in measures), *filtered)))
    return Asked(query, max_rows, columns, thin, by, tuple(measure.name for measure in measures))


def key_of(schema: Schema) -> tuple[str, ...]:
    """The columns that name a row: its time and its dimensions."""
    time = schema.time
    return (*((time.name,) if time else ()), *(column.name for column in schema.with_role(Role.DIMENSION)))


def read(view: View, wanted: Asked, live: Frame | None) -> Past | None:
    """The rows that answer the question, live ones in place of recorded ones of the same key.

    Shape:  in the order of time; None where nothing was recorded.
    """
    versions = view.versions
    if versions is None or not (view.files or view.chunks):
        return None
    schema = schema_of(versions.current)
    if schema.time is None:
        return _snapshot(view, versions, schema, wanted)
    return _Reading(view, versions, schema, wanted, live).past()


def between(view: View, low_us: int, high_us: int) -> pl.DataFrame:
    """The newest rows between two instants, both included, as the current version stores them."""
    versions = view.versions
    assert versions is not None  # noqa: S101
    schema = schema_of(versions.current)
    axis = axis_of(versions.current)
    inside = pl.col(axis).is_between(_instant(low_us), _instant(high_us))
    files, chunks = _overlapping(view, low_us, high_us + 1)
    lazy = _scan(versions, files, chunks, tuple(schema.names)).filter(inside)
    rows = lazy.collect()
    return _newest(rows, rows.filter(pl.col(REV) > 0), key_of(schema)).select(schema.names)


class _Reading:
    """One question to the past of a dataset that has a time."""

    def __init__(self, view: View, versions: Versions, schema: Schema, wanted: Asked, live: Frame | None) -> None:
        self.view, self.versions, self.schema, self.wanted, self.live = view, versions, schema, wanted, live
        self.query = wanted.query
        self.axis = axis_of(versions.current)
        self.key = key_of(schema)
        span = self.query.span
        low_us, high_us = (to_us(span.start), to_us(span.end)) if span else (-_FAR_US, _FAR_US)
        self.files, self.chunks = _overlapping(view, low_us, high_us)
        self.files = [file for file in self.files if not _later(file, self.query.as_of)]
        self.names = tuple(name for name in (wanted.columns or schema.names) if schema.get(name))

    def past(self) -> Past:
        rows = sum(_estimate(file, self.query.span) for file in self.files) + sum(c.data.height for c in self.chunks)
        outlined = self._outlined(rows)
        if outlined:
            return self._made(self._rows(outlined=True), rows, thinned=True)
        if rows > RAW_ROWS and self._joins():
            return self._joined(rows)
        return self._made(self._rows(outlined=False), rows)

    def _outlined(self, rows: int) -> bool:
        """Whether the outlines of the files answer it as well as all rows would."""
        query, wanted = self.query, self.wanted
        if rows <= RAW_ROWS or not wanted.thin or query.agg not in (None, Agg.MIN, Agg.MAX):
            return False
        names = {column.name for column in self.schema.with_role(Role.DIMENSION)}
        # What a measure's filter leaves has other extremes; so have lines that join several series.
        if any(item.column not in names for item in query.filters) or (query.agg and not names <= set(wanted.by)):
            return False
        has = sum(file.outline_rows or file.file.rows for file in self.files) + sum(
            c.data.height for c in self.chunks
        )
        return has >= CHOICE * (query.max_points or 0) * max(1, len(wanted.measures)) or rows > wanted.max_rows

    def _joins(self) -> bool:
        return self.wanted.thin and self.query.agg not in (None, Agg.NONE) and self.query.span is not None

    def _rows(self, *, outlined: bool) -> pl.DataFrame:
        """The rows the question selects, each key once, live rows left out."""
        files = [self._thin(file) for file in self.files] if outlined else self.files
        lazy = _scan(self.versions, files, self.chunks, self.names)
        when = self._when()
        if not self._revised():
            conditions = when + self._filters(self.query.filters)
            data = lazy.filter(*conditions).head(self.wanted.max_rows + 1).collect()
        else:
            keys = [item for item in self.query.filters if item.column in self.key]
            conditions = when + self._filters(keys)
            base = lazy.filter(*conditions).head(2 * self.wanted.max_rows).collect()
            revising = [file for file in self.files if file.revises]
            later = _scan(self.versions, revising, self.chunks, self.names).filter(pl.col(REV) > 0, *conditions)
            data = _newest(base, later.collect(), self.key)
            data = data.filter(*self._filters(self.query.filters)) if self.query.filters else data
        return data.select(self.names)

    def _thin(self, file: DataFile) -> DataFile:
        """The file's outline, where the whole file is asked for and has one."""
        span, as_of = self.query.span, self.query.as_of
        inside = span is None or (to_us(span.start) <= file.low_us and file.high_us < to_us(span.end))
        if file.outline is None or not inside or _partly(file, as_of):
            return file
        return replace(file, file=replace(file.file, path=file.outline.name), folder=file.outline.parent)

    def _revised(self) -> bool:
        return any(file.revises for file in self.files) or any(chunk.revises for chunk in self.chunks)

    def _when(self) -> list[pl.Expr]:
        """Conditions on the time of rows, and on when they were recorded."""
        out = []
        if span := self.query.span:
            out += [pl.col(self.axis) >= span.start, pl.col(self.axis) < span.end]
        return [*out, *_known_by(self.query.as_of)]

    def _filters(self, items: Iterable[object]) -> list[pl.Expr]:
        return [expression(item, self.schema) for item in items]  # type: ignore[arg-type]

    def _made(self, data: pl.DataFrame, rows: int, *, thinned: bool = False) -> Past:
        columns = tuple(column for column in self.schema.columns if column.name in self.names)
        live = self.live
        if live is not None and live.rows:
            data, added = merged(data, live.data, self.key, self.axis)
            if not added:
                return Past(live, self.query, rows)
            columns = tuple(live.schema.get(column.name) or column for column in columns)
        data = data.select(column.name for column in columns)
        if not data.get_column(self.axis).is_sorted():
            data = data.sort(self.axis, maintain_order=True)
        else:
            data = data.with_columns(pl.col(self.axis).set_sorted())
        return Past(Frame(data.rechunk(), Schema(columns, self.versions.current.version)), self.query, rows, thinned)

    def _joined(self, rows: int) -> Past:
        """Buckets of the panel, worked out where the rows stand, so that few of them are held at a time."""
        query, wanted = self.query, self.wanted
        assert query.span is not None and query.agg is not None and query.max_points is not None  # noqa: S101, PT018
        lazy = _scan(self.versions, self.files, self.chunks, self.names)
        lazy = lazy.filter(*self._when(), *self._filters(query.filters))
        if self._revised():
            later = lazy.filter(pl.col(REV) > 0).collect()
            lazy = pl.concat(
                [_without(lazy.filter(pl.col(REV) <= 0), later, self.key), _newest_lazy(later, self.key)]
            )
        lazy = lazy.select(self.names)
        if self.live is not None and self.live.rows:
            own = Frame(normal(self.live.data.select(self.names), self._kinds()), Schema(()))
            lazy = pl.concat([_without(lazy, own.data, self.key), own.data.lazy()], how="vertical_relaxed")
        start, width = _grid(query.span, query.max_points)
        bucket = ((pl.col(self.axis).to_physical() - start) // width).alias(_BUCKET)
        values = [_join(pl.col(name), query.agg, self.axis).alias(name) for name in wanted.measures]
        joined = lazy.group_by(*wanted.by, bucket).agg(values).collect(engine="streaming")
        begin = (pl.col(_BUCKET) * width + start).cast(TIME_DTYPE).alias(self.axis)
        data = joined.select(begin, *wanted.by, *wanted.measures).sort(self.axis, *wanted.by)
        counted = query.agg is Agg.COUNT
        columns = tuple(
            replace(column, unit=None) if counted and column.name in wanted.measures else column
            for column in (self.schema.get(name) for name in data.columns)
            if column is not None
        )
        # Each bucket has one row now, and how many it stands for is to be added up, not counted again.
        left = replace(query, filters=(), agg=Agg.SUM if counted else query.agg)
        return Past(Frame(data, Schema(columns, self.versions.current.version)), left, rows, thinned=True)

    def _kinds(self) -> dict[str, str]:
        known = kinds_of(self.versions.current)
        return {name: known[name] for name in self.names}


def merged(past: pl.DataFrame, live: pl.DataFrame, key: Sequence[str], axis: str) -> tuple[pl.DataFrame, int]:
    """Live rows, and before and between them the recorded ones of other keys; and how many those are."""
    live = live.select([name for name in past.columns if name in live.columns])
    start = live.get_column(axis).min()
    if start is None or not past.height:
        return pl.concat([past, live], how="diagonal_relaxed"), past.height
    early, late = past.filter(pl.col(axis) < start), past.filter(pl.col(axis) >= start)
    if late.height:
        # Where several live rows share a key, as log lines do, a recorded row is the same only as a whole.
        single = live.select(pl.struct(key).is_duplicated().any()).item() is False
        on = [*key] if single else [name for name in past.columns if name in live.columns]
        same = live.select(on).cast({name: past.schema[name] for name in on})
        late = late.join(same, on=on, how="anti", nulls_equal=True, maintain_order="left")
    return pl.concat([early, late, live], how="diagonal_relaxed"), early.height + late.height


def _snapshot(view: View, versions: Versions, schema: Schema, wanted: Asked) -> Past | None:
    """The rows of a dataset without a time as they were at one moment: those of the last sample until then."""
    files = [file for file in view.files if not _later(file, wanted.query.as_of)]
    lazy = _scan(versions, files, view.chunks, tuple(schema.names)).filter(*_known_by(wanted.query.as_of))
    newest = lazy.select(pl.col(SEQ).max()).collect().item()
    if newest is None:
        return None
    conditions = [pl.col(SEQ) == newest, pl.col(REV) != NOTHING]
    conditions += [expression(item, schema) for item in wanted.query.filters]
    data = lazy.filter(*conditions).head(wanted.max_rows + 1).select(schema.names).collect()
    return Past(Frame(data, replace(schema, version=versions.current.version)), wanted.query, data.height)


def _overlapping(view: View, low_us: int, high_us: int) -> tuple[list[DataFile], list[Chunk]]:
    files = [file for file in view.files if file.low_us < high_us and file.high_us >= low_us]
    return files, list(view.chunks)


def _later(file: DataFile, as_of: AsOf | None) -> bool:
    """Whether all of the file was recorded after that moment."""
    match as_of:
        case None:
            return False
        case int():
            return file.file.low.get(SEQ, -1) > as_of
        case _:
            return file.file.low.get(AT, -_FAR_US) > to_us(as_of)


def _partly(file: DataFile, as_of: AsOf | None) -> bool:
    """Whether some of the file was recorded after that moment."""
    match as_of:
        case None:
            return False
        case int():
            return file.file.high.get(SEQ, _FAR_US) > as_of
        case _:
            return file.file.high.get(AT, _FAR_US) > to_us(as_of)


def _known_by(as_of: AsOf | None) -> list[pl.Expr]:
    if as_of is None:
        return []
    return [pl.col(SEQ) <= as_of if isinstance(as_of, int) else pl.col(AT) <= as_of]


def _estimate(file: DataFile, span: Span | None) -> int:
    """Rows of the file inside the span, as if they were spread evenly."""
    if span is None or file.high_us <= file.low_us:
        return file.file.rows
    inside_us = min(file.high_us, to_us(span.end)) - max(file.low_us, to_us(span.start))
    return int(file.file.rows * min(1.0, max(0, inside_us) / (file.high_us - file.low_us)))


def _scan(
    versions: Versions, files: Sequence[DataFile], chunks: Sequence[Chunk], names: tuple[str, ...]
) -> pl.LazyFrame:
    """All rows of these files and samples, read as the current version has them, with their marks."""
    parts: list[pl.LazyFrame] = []
    for generation, group in groupby(sorted(files, key=_generation), key=_generation):
        then = versions.of_generation(generation)
        lazy = pl.scan_parquet(
            [file.path for file in group],
            schema={**stored_schema(then), **MARKS},
            missing_columns="insert",
            extra_columns="ignore",
            glob=False,
            hive_partitioning=False,
        )
        parts.append(lazy.select(*expressions(then, versions.current, names), *MARKS))
    for generation, chunk_group in groupby(
        sorted(chunks, key=lambda chunk: chunk.generation), lambda c: c.generation
    ):
        then = versions.of_generation(generation)
        blank = pl.DataFrame(schema={**stored_schema(then), **MARKS})
        rows = pl.concat([blank, *(chunk.data for chunk in chunk_group)], how="diagonal_relaxed")
        parts.append(rows.lazy().select(*expressions(then, versions.current, names), *MARKS))
    if not parts:
        current = versions.current
        kinds = stored_schema(current)
        return pl.LazyFrame(schema={**{name: kinds[name] for name in names}, **MARKS})
    return pl.concat(parts, how="vertical_relaxed") if len(parts) > 1 else parts[0]


def _generation(file: DataFile) -> int:
    return file.generation


def _newest(rows: pl.DataFrame, later: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Each key once where it was corrected: the row of the newest sample."""
    if not later.height:
        return rows
    last = later.sort(SEQ).unique([*key], keep="last", maintain_order=True)
    return pl.concat([_without(rows.filter(pl.col(REV) <= 0).lazy(), last, key).collect(), last.select(rows.columns)])


def _newest_lazy(later: pl.DataFrame, key: Sequence[str]) -> pl.LazyFrame:
    return later.sort(SEQ).unique([*key], keep="last", maintain_order=True).lazy()


def _without(rows: pl.LazyFrame, others: pl.DataFrame, key: Sequence[str]) -> pl.LazyFrame:
    return rows.join(others.lazy().select(key), on=[*key], how="anti", nulls_equal=True)


def _grid(span: Span, buckets: int) -> tuple[int, int]:
    """Start and width of the buckets as a panel's own have them."""
    start, end = to_us(span.start), to_us(span.end)
    width = -((start - end) // buckets)
    return start, width if width < 1_000 else -(-width // 1_000) * 1_000


def _join(col: pl.Expr, agg: Agg, axis: str) -> pl.Expr:
    match agg:
        case Agg.MEAN:
            return col.mean()
        case Agg.MIN:
            return col.min()
        case Agg.MAX:
            return col.max()
        case Agg.SUM:
            return pl.when(col.count() > 0).then(col.cast(pl.Float64).sum())
        case Agg.COUNT:
            return col.count().cast(pl.Int64)
        case _:
            # The groups come in no order.
            return col.filter(col.is_not_null()).sort_by(pl.col(axis).filter(col.is_not_null())).last()


def _instant(value_us: int) -> pl.Expr:
    return pl.lit(value_us, pl.Int64).cast(TIME_DTYPE)
