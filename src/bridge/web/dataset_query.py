"""The parameters of `GET /api/v1/datasets/{name}`, brought to a Query and how to send its answer."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from bridge.errors import BadQuery
from bridge.model.filters import parse_filter
from bridge.model.frame import Notice
from bridge.model.query import Query, parse_as_of
from bridge.model.schema import Role, Schema, Shape
from bridge.model.span import EARLIEST, Span, parse_instant
from bridge.sources.ask import Desk
from bridge.sources.base import DatasetSpec
from bridge.web.grafana import agg_of, bounded, points, query_of

FORMATS = ("rows", "page", "frame", "csv", "ndjson", "arrow")
PARAMETERS = {
    "from": "start of the time range: ms, s, or ISO 8601",
    "to": "end of the time range, exclusive; now when left out",
    "step": "width of one point: `30s`, `5m`, or milliseconds; sets the number of points",
    "max_points": "most points per series; more are thinned out",
    "filter": "`column<op>value`, may be repeated",
    "columns": "measures or columns wanted, by comma",
    "series": "columns that tell series apart, by comma; `none` for one line",
    "agg": "how points are joined: mean, min, max, sum, last, count, none",
    "format": ", ".join(FORMATS),
    "cursor": "where the next page begins, as the page before said",
    "limit": "most rows (of a page)",
    "on_error": "`frame`: errors come as a row or notice with status 200",
    "fresh": "`1`: ask the source now",
    "as_of": "what was recorded until then, of datasets with a history: a time, or a version such as `v120`",
    "refId": "written into frames",
    "shape": "timeseries or table, for format=frame",
}
# Spellings people try: they point at the right one.
_SYNONYMS = {
    "start": "from",
    "end": "to",
    "since": "from",
    "until": "to",
    "maxDataPoints": "max_points",
    "offset": "cursor",
}
_STEP = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)?")
_STEP_MS = {None: 1.0, "ms": 1.0, "s": 1e3, "m": 6e4, "h": 3.6e6, "d": 8.64e7, "w": 6.048e8}
MAX_PAGE_ROWS = 50_000
DEFAULT_PAGE_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Asked:
    """What a dataset URL asks for, and how it wants the answer."""

    query: Query
    format: str = "rows"
    limit_rows: int | None = None
    cursor: str = ""
    notices: tuple[Notice, ...] = ()


def wants_error_frame(pairs: Sequence[tuple[str, str]]) -> bool:
    """Whether errors are to come as data; looked at before anything else can fail."""
    return ("on_error", "frame") in pairs


async def read(desk: Desk, target: str, pairs: Sequence[tuple[str, str]], now: datetime) -> Asked:
    """The question of a dataset URL.

    Errors: UnknownDataset; BadQuery naming the parameter that is wrong or unknown.
    """
    entry = desk.entry(target)
    schema = await _schema_if_needed(desk, entry.name, entry.spec, pairs)
    one = _Reader(entry.name, entry.spec, schema, pairs)
    span, step_ms, own = one.span(now), one.step_ms(), one.own()
    max_points = points(one.number("max_points"), desk.limits.max_rows)
    if max_points is None and step_ms and span and span.start > EARLIEST:
        max_points = max(1, min(round(span.seconds * 1000 / step_ms), desk.limits.max_rows))
    query = replace(
        own,
        ref_id=one.text("refId") or "A",
        span=span,
        step_ms=step_ms,
        max_points=max_points,
        filters=bounded(tuple(parse_filter(text) for text in one.all("filter") if text) + own.filters),
        agg=agg_of(one.text("agg")),
        shape=Shape(one.choice("shape", tuple(Shape), "auto")),
        as_of=parse_as_of(one.text("as_of")),
        fresh=one.choice("fresh", ("1", "true", "0", "false"), "0") in ("1", "true"),
    )
    one.choice("on_error", ("frame",), "")
    limit = one.number("limit")
    asked = Asked(
        query,
        one.choice("format", FORMATS, "rows"),
        None if limit is None else max(1, int(min(limit, desk.limits.max_rows))),
        one.text("cursor"),
        tuple(one.notices),
    )
    if asked.cursor and asked.format != "page":
        raise BadQuery("`cursor` goes with `format=page` only", remedy="add `format=page`, or leave out `cursor`")
    return asked


async def _schema_if_needed(
    desk: Desk, name: str, spec: DatasetSpec, pairs: Sequence[tuple[str, str]]
) -> Schema | None:
    """The schema, fetched only when a parameter may be the name of one of its columns."""
    known = desk.keeper(name).schema
    mine = {param.name for param in spec.params} | PARAMETERS.keys()
    if known is None and any(key not in mine for key, _ in pairs):
        return await desk.schema(name)
    return known


class _Reader:
    """Looks up parameters of one request, and knows what each name may be."""

    def __init__(
        self, dataset: str, spec: DatasetSpec, schema: Schema | None, pairs: Sequence[tuple[str, str]]
    ) -> None:
        self.dataset, self.spec, self.schema, self.pairs = dataset, spec, schema, pairs
        self.columns = {column.name: column for column in schema.columns} if schema else {}
        self.notices: list[Notice] = []

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.pairs if key == name]

    def text(self, name: str) -> str:
        found = self.all(name)
        if len(found) > 1:
            raise BadQuery(f"`{name}` is given {len(found)} times", remedy="give it once")
        text = found[0].strip() if found else ""
        if text.startswith(("$__", "${__")):
            # Grafana leaves some macros as they are in alert rules; such a one says nothing.
            self.notices.append(Notice("info", f"`{name}` holds the macro {text[:40]}, which Grafana left unfilled"))
            return ""
        return text

    def number(self, name: str) -> float | None:
        text = self.text(name)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError as error:
            raise BadQuery(f"`{name}` is a number, {text[:40]!r} is none") from error
        if not value >= 1:
            raise BadQuery(f"`{name}` must be at least 1, not {text[:40]}")
        return value

    def span(self, now: datetime) -> Span | None:
        start, end = self.text("from"), self.text("to")
        if not start and not end:
            return None
        return Span(
            parse_instant(start, name="from") if start else EARLIEST,
            parse_instant(end, name="to") if end else now,
        )

    def step_ms(self) -> int | None:
        text = self.text("step")
        if not text:
            return None
        match = _STEP.fullmatch(text)
        value_ms = float(match[1]) * _STEP_MS[match[2]] if match else 0.0
        if not 1 <= value_ms <= 1e13:
            raise BadQuery(f"`step` cannot be {text[:40]!r}", remedy="write `30s`, `5m`, `1h`, or milliseconds")
        return int(value_ms)

    def choice(self, name: str, known: tuple[str, ...], default: str) -> str:
        text = self.text(name) or default
        if text not in known and text != default:
            raise BadQuery(f"`{name}` cannot be {text[:40]!r}", remedy=f"use one of {', '.join(known)}")
        return text

    def own(self) -> Query:
        """Parameters of the dataset's own, and filters named after its dimensions."""
        payload: dict[str, list[str]] = {}
        names = {param.name for param in self.spec.params}
        for key, value in self.pairs:
            if key in PARAMETERS and key not in ("columns", "series"):
                continue
            if key not in names and key not in ("columns", "series"):
                self._must_be_column(key)
            payload.setdefault(key, []).append(value)
        return query_of(self.dataset, dict(payload), self.spec, self.schema)

    def _must_be_column(self, key: str) -> None:
        column = self.columns.get(key)
        if column is not None and column.role is not Role.TIME:
            return
        near = difflib.get_close_matches(key, [*PARAMETERS, *(p.name for p in self.spec.params), *self.columns], n=1)
        better = _SYNONYMS.get(key) or (near[0] if near else "")
        hint = f"did you mean `{better}`?" if better else f"GET /api/v1/datasets/{self.dataset}/schema lists them"
        raise BadQuery(f"{self.dataset} has no parameter or column `{key[:80]}`", remedy=hint)
