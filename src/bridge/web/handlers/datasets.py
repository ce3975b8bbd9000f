"""Datasets over plain HTTP: for Infinity, notebooks, and everyone else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl
from aiohttp import web
from pydantic import Field

from bridge.errors import BadQuery, BadRequest, BridgeError
from bridge.model import render
from bridge.model.frame import Frame, Notice
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Schema
from bridge.model.wire import wire_frame
from bridge.provision import infinity
from bridge.sources.ask import Answer
from bridge.sources.work import cells, run
from bridge.web import body, dataset_query, forms, grafana, notices, reply, snapshots
from bridge.web.dataset_query import DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS, Asked
from bridge.web.keys import CACHE, CLOCK, DESK, METERS, REQUEST_ID
from bridge.web.views import dataset_view

CSV_TYPE = "text/csv"
NDJSON_TYPE = "application/x-ndjson"
ARROW_TYPE = "application/vnd.apache.arrow.stream"
TYPES = {
    "rows": reply.JSON_TYPE,
    "page": reply.JSON_TYPE,
    "csv": f"{CSV_TYPE}; charset=utf-8",
    "ndjson": NDJSON_TYPE,
    "arrow": ARROW_TYPE,
}
MAX_BATCH = 50
# What a batch decides by itself, as its answer holds the frames of several datasets.
_NOT_IN_BATCH = ("format", "cursor", "on_error", "refId")


async def index(request: web.Request) -> web.Response:
    """All datasets with their state."""
    desk = request.app[DESK]
    return reply.json({"datasets": [dataset_view(desk, name) for name in (*desk.keepers, *desk.system)]})


async def schema(request: web.Request) -> web.Response:
    """One dataset's columns, parameters and payload form."""
    desk = request.app[DESK]
    name = desk.entry(request.match_info["name"]).name
    found = await desk.schema(name)
    columns = [
        {"name": c.name, "type": c.type, "unit": c.unit, "role": c.role, "kind": c.kind, "description": c.description}
        for c in found.columns
    ]
    spec = desk.entry(name).spec
    return reply.json(
        {
            "name": name,
            "version": found.version,
            "fingerprint": found.fingerprint,
            "description": spec.description,
            "columns": columns,
            "params": [
                {
                    "name": p.name,
                    "description": p.description,
                    "default": p.default,
                    "options": p.options,
                    "required": p.required,
                    "multi": p.multi,
                }
                for p in spec.params
            ],
            "payloads": forms.payloads(spec, found),
            "refresh_s": desk.keeper(name).refresh_s,
        }
    )


async def infinity_query(request: web.Request) -> web.Response:
    """The ready query model for the Infinity datasource."""
    desk = request.app[DESK]
    entry = desk.entry(request.match_info["name"])
    found = await desk.schema(entry.name)
    return reply.json(infinity.query_model(entry.name, found, entry.spec.shape, entry.spec.params))


async def data(request: web.Request) -> web.Response:
    """One dataset's data in the wanted format; the same by POST with the parameters in the body."""
    pairs = await body.posted_pairs(request) if request.method == "POST" else body.pairs(request)
    try:
        asked = await dataset_query.read(
            request.app[DESK], request.match_info["name"], pairs, request.app[CLOCK].now()
        )
        return await _send(request, asked)
    except BridgeError as error:
        if not dataset_query.wants_error_frame(pairs):
            raise
        return await _error_as_data(request, error, pairs)


async def _send(request: web.Request, asked: Asked) -> web.Response:
    if asked.format == "frame":
        return await _send_frames(request, asked)
    cursor = ""
    if asked.format == "page":
        frame, cursor = await _page(request, asked)
    else:
        frame = _limited(await request.app[DESK].rows(asked.query), asked.limit_rows)
    frame = frame.note(*asked.notices)
    _count(request, asked.query, frame.rows)

    def written() -> tuple[bytes, str]:
        reply.refuse_large(request, render.answer_bytes_estimate(frame))
        return _tagged(_rendered(frame, asked.format, cursor))

    payload, tag = await run(cells(frame), written)
    headers = {"ETag": tag, **notices.header(frame.meta.notices)}
    return await _finish(request, asked, payload, TYPES[asked.format], headers)


async def _send_frames(request: web.Request, asked: Asked) -> web.Response:
    found = await request.app[DESK].frames(asked.query)
    first, *others = (_limited(frame, asked.limit_rows) for frame in found)
    frames = [first.note(*asked.notices), *others]
    _count(request, asked.query, sum(frame.rows for frame in frames))

    def written() -> tuple[bytes, str]:
        reply.refuse_large(request, sum(map(render.answer_bytes_estimate, frames)))
        return _tagged(render.frames_json(frames))

    payload, tag = await run(cells(*frames), written)
    return await _finish(request, asked, payload, reply.JSON_TYPE, {"ETag": tag})


def _limited(frame: Frame, rows: int | None) -> Frame:
    return frame if rows is None or frame.rows <= rows else frame.with_data(frame.data.head(rows))


def _tagged(payload: bytes) -> tuple[bytes, str]:
    return payload, reply.etag(payload)


async def _page(request: web.Request, asked: Asked) -> tuple[Frame, str]:
    rows = min(asked.limit_rows or DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS)
    cache = request.app[CACHE]
    if asked.cursor:
        return await snapshots.next_page(cache, asked.query.dataset, asked.cursor, rows)
    return await snapshots.first_page(cache, await request.app[DESK].rows(asked.query), rows)


def _rendered(frame: Frame, form: str, cursor: str) -> bytes:
    match form:
        case "page":
            return render.page_json(frame, cursor)
        case "csv":
            return render.csv_bytes(frame)
        case "ndjson":
            return render.ndjson_bytes(frame)
        case "arrow":
            return render.arrow_bytes(frame)
        case _:
            return render.rows_json(frame)


async def _finish(
    request: web.Request, asked: Asked, payload: bytes, content_type: str, headers: dict[str, str]
) -> web.Response:
    """The answer with its cache headers, or 304 where the client has it already."""
    keeper = request.app[DESK].keeper(asked.query.dataset)
    headers["Cache-Control"] = f"private, max-age={int(keeper.max_age_s())}"
    if request.method in ("GET", "HEAD") and reply.unchanged(request, headers["ETag"]):
        return web.Response(status=304, headers={**headers, "Vary": "Accept-Encoding"})
    return await reply.send(request, payload, content_type=content_type, headers=headers)


async def _error_as_data(request: web.Request, error: BridgeError, pairs: Sequence[tuple[str, str]]) -> web.Response:
    """The error as a row or notice with status 200: Infinity drops the body of every other status."""
    form = next((value.strip() for key, value in pairs if key == "format"), "rows")
    if form == "frame":
        ref_id = next((value for key, value in pairs if key == "refId" and value), "A")
        answer = Answer(Query(request.match_info["name"], ref_id=ref_id), error=error)
        return reply.json([grafana.error_frame(answer)])
    shape = error.body(request[REQUEST_ID])
    row = {key: shape[key] for key in ("error", "code", "remedy", "request_id")}
    columns = tuple(Column(key, ColumnType.STRING) for key in row)
    frame = Frame(pl.DataFrame([row], schema=dict.fromkeys(row, pl.String)), Schema(columns))
    frame = frame.note(Notice("error", error.sentence))
    headers = {"Cache-Control": "no-store", "Content-Type": TYPES.get(form, reply.JSON_TYPE)}
    return web.Response(body=_rendered(frame, form, ""), headers=headers)


def _count(request: web.Request, query: Query, rows: int) -> None:
    request.app[METERS].rows.labels(query.dataset).inc(rows)


class BatchItem(body.Strict):
    """One question of a batch: a dataset and the parameters its URL would take."""

    dataset: str = Field(max_length=200)
    ref_id: str = Field("", max_length=200)
    params: dict[str, Any] = Field(default_factory=dict)


class BatchBody(body.Strict):
    """Several questions, answered together."""

    queries: list[BatchItem] = Field(min_length=1, max_length=MAX_BATCH)


async def batch(request: web.Request) -> web.Response:
    """Several datasets in one request; one that fails says so and the others answer."""
    asked = await body.parsed(request, BatchBody)
    names = [item.ref_id or f"Q{index}" for index, item in enumerate(asked.queries)]
    if len(set(names)) != len(names):
        raise BadRequest("two queries have the same `ref_id`", remedy="give each its own")
    work = (_prepared(request, item, name) for name, item in zip(names, asked.queries, strict=True))
    prepared = await asyncio.gather(*work)
    answers = await grafana.ask(
        request.app[DESK], [item.query if isinstance(item, Asked) else item for item in prepared]
    )
    answers = [_with(answer, item) for answer, item in zip(answers, prepared, strict=True)]
    grafana.refuse_rows(answers, request.app[DESK].limits.max_rows)
    size = cells(*(frame for answer in answers for frame in answer.frames))
    return await reply.send_json(request, lambda: {"results": _results(answers, request[REQUEST_ID])}, size)


async def _prepared(request: web.Request, item: BatchItem, name: str) -> Asked | Answer:
    try:
        if alone := next((key for key in item.params if key in _NOT_IN_BATCH), None):
            raise BadQuery(f"`{alone}` has no meaning in a batch", remedy="leave it out; the answer holds frames")
        pairs = [*body.flattened(item.params), ("refId", name)]
        return await dataset_query.read(request.app[DESK], item.dataset, pairs, request.app[CLOCK].now())
    except BridgeError as error:
        return Answer(Query(item.dataset, ref_id=name), error=error)


def _with(answer: Answer, asked: Asked | Answer) -> Answer:
    """The answer with the limit and the notices of its own question."""
    if isinstance(asked, Answer) or not answer.frames:
        return answer
    first, *rest = (_limited(frame, asked.limit_rows) for frame in answer.frames)
    return replace(answer, frames=(first.note(*asked.notices), *rest))


def _results(answers: list[Answer], request_id: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for answer in answers:
        if answer.error is None:
            out[answer.query.ref_id] = {"status": 200, "frames": [wire_frame(frame) for frame in answer.frames]}
        else:
            out[answer.query.ref_id] = {
                "status": answer.error.status,
                **answer.error.body(request_id),
                "frames": [],
            }
    return out
