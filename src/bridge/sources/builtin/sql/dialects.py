"""The dialects of SQLite, DuckDB and PostgreSQL."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import ClassVar

from bridge.model.filters import Filter, Op
from bridge.model.span import EPOCH, Span, to_us
from bridge.sources.builtin.sql.dialect import Args, Dialect, bounds, stored, usable
from bridge.sources.builtin.sql.engine import MAX_CELL_CHARS, FarColumn, Kind
from bridge.sources.builtin.sql.options import TimeAs
from bridge.sources.builtin.sql.place import System


class SqliteDialect(Dialect):
    """SQLite: types belong to values, not to columns, so that every condition says which values it speaks of."""

    system = System.SQLITE
    before_name = ":"

    def native(self, args: Args, at: datetime) -> str:
        """SQLite has no type for instants; its own functions read ISO 8601."""
        return self.mark(args, stored(at, TimeAs.ISO))

    def within(self, args: Args, column: FarColumn, span: Span, time_as: TimeAs | None) -> str | None:
        """Numbers by their value, texts by the day they begin with."""
        name = f"q.{self.quoted(column.name)}"
        if time_as in (TimeAs.EPOCH_S, TimeAs.EPOCH_MS):
            return f"typeof({name}) NOT IN ('integer', 'real') OR {self.epoch(args, name, span, time_as)}"
        # The text may have any zone, which moves it by less than a day.
        try:
            first, last = span.start - timedelta(days=1), span.end + timedelta(days=1)
        except OverflowError:
            return None
        day = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*"
        low, high = (
            self.mark(args, f"{at.date().isoformat()}{end}") for at, end in ((first, ""), (last, "\U0010ffff"))
        )
        inside = f"({name} >= {low} COLLATE BINARY AND {name} < {high} COLLATE BINARY)"
        return f"typeof({name}) <> 'text' OR {name} NOT GLOB '{day}' OR {inside}"

    def equal_text(self, args: Args, item: Filter, far: FarColumn) -> str | None:
        """Texts are compared byte by byte, whatever the column's collation."""
        name = f"q.{self.quoted(far.name)}"
        marks = [f"{self.mark(args, value)} COLLATE BINARY" for value in item.values]
        joint, sign = (" OR ", "=") if item.op is Op.EQ else (" AND ", "<>")
        test = joint.join(f"{name} {sign} {mark}" for mark in marks)
        return f"typeof({name}) <> 'text' OR ({test})"

    def equal_truth(self, args: Args, item: Filter, far: FarColumn) -> str | None:
        """SQLite has no truth values."""
        return None

    def compared(self, args: Args, item: Filter, far: FarColumn) -> str | None:
        """Texts that are numbers to bridge are let through."""
        name = f"q.{self.quoted(far.name)}"
        return f"typeof({name}) NOT IN ('integer', 'real') OR {self.ranges(args, item, name, whole=False)}"


class _TypedDialect(Dialect):
    """Systems whose columns have types."""

    times: ClassVar[dict[str, str]] = {}
    texts: ClassVar[Sequence[str]] = ()
    wholes: ClassVar[Sequence[str]] = ()
    floats: ClassVar[Sequence[str]] = ()
    decimals: ClassVar[Sequence[str]] = ()
    double: ClassVar[str] = ""

    def within(self, args: Args, column: FarColumn, span: Span, time_as: TimeAs | None) -> str | None:
        """Only for types that are compared as bridge compares instants."""
        name = f"q.{self.quoted(column.name)}"
        if column.type in (*self.wholes, *self.floats, *self.decimals):
            return self.epoch(args, name, span, time_as)
        made = self.times.get(column.type)
        if made is None:
            return None
        start, end = span.start, span.end
        if column.type == "date":
            # A day counts from its midnight.
            start = datetime.combine(start.date(), datetime.min.time(), EPOCH.tzinfo)
        return f"{name} >= {self.moment(args, start, made)} AND {name} < {self.moment(args, end, made)}"

    @abstractmethod
    def moment(self, args: Args, at: datetime, made: str) -> str:
        """An instant that is compared with a column of one of the types of `times`."""

    def equal_text(self, args: Args, item: Filter, far: FarColumn) -> str | None:
        """Only for plain texts; NULL is unequal to everything."""
        if far.type not in self.texts:
            return None
        name = f"q.{self.quoted(far.name)}"
        marks = ", ".join(self.exact(self.text(args, value, tested=True)) for value in item.values)
        test = f"{self.exact(name)} {'IN' if item.op is Op.EQ else 'NOT IN'} ({marks})"
        return test if item.op is Op.EQ else f"{name} IS NULL OR {test}"

    def exact(self, sql: str) -> str:
        """A text that is compared byte by byte."""
        return sql

    def compared(self, args: Args, item: Filter, far: FarColumn) -> str | None:
        """Whole numbers as they are, all others as floats."""
        name = f"q.{self.quoted(far.name)}"
        if far.type in self.wholes:
            return self.ranges(args, item, name, whole=True)
        if far.type in self.floats:
            return self.ranges(args, item, name, whole=False)
        if far.type in self.decimals:
            return self.decimal(args, item, name)
        return None

    def decimal(self, args: Args, item: Filter, name: str) -> str:
        """Decimals, by default as the floats that bridge makes of them."""
        return self.ranges(args, item, f"CAST({name} AS {self.double})", whole=False)


class DuckdbDialect(_TypedDialect):
    """DuckDB."""

    system = System.DUCKDB
    times: ClassVar[dict[str, str]] = {
        "timestamp with time zone": "make_timestamptz",
        "timestamp": "make_timestamp",
        "date": "make_timestamp",
    }
    texts = ("varchar",)
    wholes = ("tinyint", "smallint", "integer", "bigint")
    floats = ("float", "double")
    decimals = ("decimal", "hugeint", "ubigint", "uinteger", "usmallint", "utinyint")
    double = "DOUBLE"

    def native(self, args: Args, at: datetime) -> str:
        """By its microseconds, as binding it needs no calendar then."""
        return self.moment(args, at, "make_timestamptz")

    def moment(self, args: Args, at: datetime, made: str) -> str:
        """A function of microseconds since 1970."""
        return f"{made}(CAST({self.mark(args, to_us(at))} AS BIGINT))"

    def exact(self, sql: str) -> str:
        """As bytes: a collation could make different texts equal."""
        return f"encode({sql})"

    def bound(self, args: Args, value: float, *, whole: bool) -> str:
        """With its type, as DuckDB gives bound values the smallest that fits."""
        return f"CAST({super().bound(args, value, whole=whole)} AS {'BIGINT' if whole else self.double})"

    def picked(self, column: FarColumn) -> str:
        """Instants as microseconds, nested values as JSON, texts no longer than may be read."""
        name = super().picked(column)
        if column.kind is Kind.MICROS:
            # Nanoseconds reach from 1677 to 2262 and cannot be compared with the ends of the calendar.
            return f"epoch_us({name})" if column.type == "timestamp_ns" else usable(name, f"epoch_us({name})")
        if column.kind is Kind.JSON:
            made = name if column.type == "json" else f"to_json({name})"
            return f"left(CAST({made} AS VARCHAR), {MAX_CELL_CHARS + 1})"
        if column.kind is Kind.TEXT:
            return f"left(CAST({name} AS VARCHAR), {MAX_CELL_CHARS + 1})"
        if column.kind is Kind.BYTES:
            return f"CASE WHEN octet_length({name}) > {MAX_CELL_CHARS} THEN error('too long') ELSE {name} END"
        return f"epoch({name})" if column.type == "interval" else name


class PostgresDialect(_TypedDialect):
    """PostgreSQL."""

    system = System.POSTGRES
    before_name, after_name = "%(", ")s"
    times: ClassVar[dict[str, str]] = {"timestamptz": "timestamptz", "timestamp": "timestamp", "date": "timestamp"}
    texts = ("text", "varchar")
    wholes = ("int2", "int4", "int8")
    floats = ("float8",)
    decimals = ("numeric",)
    double = "float8"

    def literal(self, text: str) -> str:
        """A percent sign would begin a placeholder of the driver."""
        return text.replace("%", "%%")

    def text(self, args: Args, value: str | None, *, tested: bool) -> str:
        """Its type follows from where it stands; beside `IS NULL` nothing says it."""
        return self.mark(args, value) + ("::text" if tested else "")

    def number(self, args: Args, value: float | None) -> str:
        """A float."""
        return f"{self.mark(args, value)}::float8"

    def native(self, args: Args, at: datetime) -> str:
        """A timestamp with time zone."""
        return self.moment(args, at, "timestamptz")

    def instant(self, args: Args, at: datetime, time_as: TimeAs | None) -> str:
        """With its type, as nothing else says it beside `IS NULL`."""
        made = super().instant(args, at, time_as)
        return made if time_as is None else f"{made}::{'text' if time_as is TimeAs.ISO else 'bigint'}"

    def moment(self, args: Args, at: datetime, made: str) -> str:
        """A literal of the type the column has: any other would be converted for every row."""
        return f"{self.mark(args, at if made == 'timestamptz' else at.replace(tzinfo=None))}::{made}"

    def exact(self, sql: str) -> str:
        """A collation could make different texts equal."""
        return f'{sql} COLLATE "C"'

    def bound(self, args: Args, value: float, *, whole: bool) -> str:
        """With its type, so that the column keeps its own."""
        return f"{super().bound(args, value, whole=whole)}::{'bigint' if whole else 'float8'}"

    def decimal(self, args: Args, item: Filter, name: str) -> str:
        """As decimals: one that no float can hold would end the query."""
        parts = []
        for low, high in (bounds(item.op, float(value), whole=False) for value in item.values):
            ends = [f"{name} >= {self.mark(args, Decimal(low))}::numeric"] if low is not None else []
            ends += [f"{name} <= {self.mark(args, Decimal(high))}::numeric"] if high is not None else []
            parts.append(f"({' AND '.join(ends)})")
        return " OR ".join(parts)

    def picked(self, column: FarColumn) -> str:
        """Instants as microseconds, nested values as JSON, texts no longer than may be read."""
        name = super().picked(column)
        longest = MAX_CELL_CHARS + 1
        if column.kind is Kind.MICROS:
            return usable(name, f"(EXTRACT(EPOCH FROM {name}) * 1000000)::bigint")
        if column.kind is Kind.JSON:
            made = name if column.type in ("json", "jsonb") else f"to_json({name})"
            return f"left(({made})::text, {longest})"
        if column.kind is Kind.TEXT:
            return f"left({name}::text, {longest})"
        if column.kind is Kind.BYTES:
            return f"substring({name} FROM 1 FOR {longest})"
        return f"EXTRACT(EPOCH FROM {name})::float8" if column.type == "interval" else name


DIALECTS: dict[System, Dialect] = {
    dialect.system: dialect for dialect in (SqliteDialect(), DuckdbDialect(), PostgresDialect())
}
