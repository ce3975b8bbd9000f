"""A dataset's settings, compiled, and the statements that are made of them and a question."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bridge.errors import BadQuery
from bridge.model.filters import Filter
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Param, Role, Schema
from bridge.sources.base import BadSetting, DatasetSpec
from bridge.sources.builtin.sql.dialect import Args, Dialect, check_values, ends, pushable
from bridge.sources.builtin.sql.dialects import DIALECTS
from bridge.sources.builtin.sql.engine import FarColumn, Statement
from bridge.sources.builtin.sql.options import SqlDataset, TimeAs
from bridge.sources.builtin.sql.place import System
from bridge.sources.builtin.sql.text import Hole, cut
from bridge.sources.table import far_name

SPAN_NAMES = ("from", "to")
NAMES = (*SPAN_NAMES, "step_s")
# A query with one of these may answer otherwise while the file stays as it is.
_VOLATILE = re.compile(
    r"(?i)now|current_|random|today|localtime|clock|uuid|(?:date|time|julianday|unixepoch|strftime)\w*\s*\("
)


@dataclass(frozen=True, slots=True)
class Plan:
    """One dataset: where its rows come from, and what may be asked of them."""

    name: str
    pieces: tuple[str | Hole, ...]
    params: tuple[Param, ...]
    declared: tuple[Column, ...]
    dialect: Dialect
    time_as: TimeAs | None
    is_volatile: bool

    @property
    def holes(self) -> frozenset[str]:
        """Names of the placeholders."""
        return frozenset(piece.name for piece in self.pieces if isinstance(piece, Hole))

    def narrow(self, query: Query, schema: Schema | None, far: Sequence[FarColumn]) -> Query:
        """The part of the query that the database answers: span, filters and columns it can tell."""
        asked = replace(query.whole(), step_ms=query.step_ms if "step_s" in self.holes else None)
        by_hole = not self.holes.isdisjoint(SPAN_NAMES)
        if schema is None:
            return replace(asked, span=query.span)
        known = {column.name: column for column in far}
        span = query.span if by_hole or (query.span and self._pushes_span(schema, query, known)) else None
        filters = tuple(
            item
            for item in query.filters
            if (column := schema.get(item.column)) is not None and self._pushes(item, column, known)
        )
        wanted = {*query.columns, *(query.series or ()), *(item.column for item in query.filters)}
        columns = tuple(c.name for c in schema.columns if c.name in wanted or c.role in (Role.TIME, Role.DIMENSION))
        return replace(asked, span=span, filters=filters, columns=columns if query.columns else ())

    def _pushes_span(self, schema: Schema, query: Query, far: dict[str, FarColumn]) -> bool:
        time = schema.time
        if time is None or query.span is None:
            return False
        there = far.get(far_name(time))
        return there is None or self.dialect.within(Args(), there, query.span, self.time_as) is not None

    def _pushes(self, item: Filter, column: Column, far: dict[str, FarColumn]) -> bool:
        there = far.get(far_name(column))
        return pushable(item, column) and (
            there is None or self.dialect.where(Args(), item, column, there) is not None
        )

    def described(self, query: Query) -> Statement:
        """A statement that gives the columns and no row."""
        args = Args()
        inner = self._inner(args, query)
        return Statement(f"SELECT * FROM {_bracketed(inner)} LIMIT 0", args.values, inner)  # noqa: S608

    def rows(
        self, query: Query, far: Sequence[FarColumn], columns: Sequence[Column], max_rows: int
    ) -> tuple[Statement, tuple[FarColumn, ...]]:
        """A statement that gives the rows of the question, one more than may be kept, and the columns it gives."""
        args = Args()
        source = _bracketed(self._inner(args, query))
        there = {column.name: column for column in far}
        names = dict.fromkeys(far_name(column) for column in columns) if columns else dict.fromkeys(there)
        picked = [there[name] for name in names]
        listed = ", ".join(self.dialect.picked(item) for item in picked)
        tests = " AND ".join(f"({test})" for test in self._tests(args, query, there, columns))
        where = f" WHERE {tests}" if tests else ""
        limit = self.dialect.mark(args, max_rows + 1)
        # Values are bound and names quoted; the query itself is the administrator's, and stays in its brackets.
        sql = f"SELECT {listed} FROM {source}{where} LIMIT {limit}"  # noqa: S608
        return Statement(sql, args.values), tuple(picked)

    def _tests(self, args: Args, query: Query, far: dict[str, FarColumn], columns: Sequence[Column]) -> list[str]:
        schema = Schema(tuple(columns))
        tests: list[str | None] = []
        if query.span is not None and schema.time is not None and schema.time.type is ColumnType.TIME:
            tests.append(self.dialect.within(args, far[far_name(schema.time)], query.span, self.time_as))
        for item in query.filters:
            column = schema.get(item.column)
            if column is not None:
                tests.append(self.dialect.where(args, item, column, far[far_name(column)]))
        return [test for test in tests if test is not None]

    def _inner(self, args: Args, query: Query) -> str:
        return "".join(
            self._filled(args, query, piece) if isinstance(piece, Hole) else self.dialect.literal(piece)
            for piece in self.pieces
        )

    def _filled(self, args: Args, query: Query, hole: Hole) -> str:
        if hole.name in SPAN_NAMES:
            at = ends(query.span, self.time_as)[SPAN_NAMES.index(hole.name)]
            return self.dialect.instant(args, at, self.time_as)
        if hole.name == "step_s":
            return self.dialect.number(args, None if query.step_ms is None else query.step_ms / 1_000)
        param = next(item for item in self.params if item.name == hole.name)
        values = query.param(hole.name) or (() if param.default is None else (param.default,))
        check_values(values, hole.name)
        if hole.tested or not values:
            return self.dialect.text(args, values[0] if values else None, tested=hole.tested)
        if len(values) > 1 and not param.multi:
            raise BadQuery(
                f"`{self.name}` takes one value for `{hole.name}`, not {len(values)}",
                remedy="choose a single value, or declare the parameter with `multi: true`",
            )
        return ", ".join(self.dialect.text(args, value, tested=False) for value in values)


def _bracketed(inner: str) -> str:
    """The query as a table; on lines of its own, as it may end in a comment."""
    return f"(\n{inner}\n) AS q"


def compile_plan(source: str, spec: DatasetSpec, system: System) -> Plan:
    """The plan of one dataset.

    Errors: BadSetting naming the key and what is wrong with it.
    """
    options = spec.options
    if not isinstance(options, SqlDataset):
        raise TypeError(f"{source}.{spec.name}: options of {type(options).__name__}")
    dialect, name = DIALECTS[system], f"{source}.{spec.name}"
    if options.table is not None:
        parts = ".".join('"' + part.replace('"', '""') + '"' for part in options.table.split("."))
        pieces: tuple[str | Hole, ...] = (f"SELECT * FROM {parts}",)  # noqa: S608 quoted names
        return Plan(name, pieces, (), spec.columns, dialect, options.time_as, is_volatile=False)
    try:
        pieces = cut(options.query or "", system)
    except ValueError as error:
        raise BadSetting(f"query of {name}: {error}", ("datasets", spec.name, "options", "query")) from error
    known = (*NAMES, *(param.name for param in spec.params))
    for piece in pieces:
        if isinstance(piece, Hole) and piece.name not in known:
            text = f"query of {name}: unknown name :{piece.name} (known: {' '.join(f':{item}' for item in known)})"
            raise BadSetting(text, ("datasets", spec.name, "options", "query"))
    volatile = _VOLATILE.search(options.query or "") is not None
    return Plan(name, pieces, spec.params, spec.columns, dialect, options.time_as, volatile)
