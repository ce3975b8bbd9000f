"""Datasets over plain HTTP: for Infinity, notebooks, and everyone else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from aiohttp import web
from pydantic import Field

from bridge.errors import BadRequest, BridgeError
from bridge.model import render
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.wire import wire_frame
from bridge.sources.ask import Answer, run
from bridge.web import body, dataset_query, forms, grafana, infinity, reply, snapshots
from bridge.web.dataset_query import DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS, Asked
from bridge.web.keys import CACHE, CLOCK, DESK, METERS, REQUEST_ID
from bridge.web.views import dataset_view

CSV_TYPE = "text/csv"
NDJSON_TYPE = "application/x-ndjson"
ARROW_TYPE = "application/vnd.apache.arrow.stream"
MAX_BATCH = 50


async def index(request: web.Request) -> web.Response:
    """All datasets with their state."""
    desk = request.app[DESK]
    return reply.json({"datasets": [dataset_view(desk, name) for name in desk.keepers]})


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
                {"name": p.name, "description": p.description, "default": p.default, "options": p.options}
                for p in spec.params
            ],
            "payloads": forms.payloads(spec, found),
            "refresh_s": desk.keepers[name].refresh_s,
        }
    )


async def infinity_query(request: web.Request) -> web.Response:
    """The ready query model for the Infinity datasource."""
    desk = request.app[DESK]
    entry = desk.entry(request.match_info["name"])
    found = await desk.schema(entry.name)
    return reply.json(infinity.query_model(entry.name, found, entry.spec.shape))


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
    if asked.format in ("rows", "page", "csv", "ndjson", "arrow"):
        return await _send_rows(request, asked)
    desk = request.app[DESK]
    frames = await desk.frames(asked.query)
    if frames:
        frames[0] = frames[0].note(*asked.notices)
    rows = sum(frame.rows for frame in frames)
    _count(request, asked.query, rows)
    payload = await run(rows, lambda: render.frames_json(frames))
    return await _finish(request, asked, payload, reply.JSON_TYPE)


async def _send_rows(request: web.Request, asked: Asked) -> web.Response:
    cursor = ""
    if asked.format == "page":
        frame, cursor = await _page(request, asked)
    else:
        frame = await request.app[DESK].rows(asked.query)
        if asked.limit_rows is not None:
            frame = frame.with_data(frame.data.head(asked.limit_rows))
    _count(request, asked.query, frame.rows)
    reply.refuse_large(request, render.answer_bytes_estimate(frame))
    payload, content_type = await run(frame.rows, lambda: _rendered(frame, asked.format, cursor))
    return await _finish(request, asked, payload, content_type, frame)


async def _page(request: web.Request, asked: Asked) -> tuple[Frame, str]:
    rows = min(asked.limit_rows or DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS)
    cache = request.app[CACHE]
    if asked.cursor:
        return await snapshots.next_page(cache, asked.cursor, rows)
    return await snapshots.first_page(cache, await request.app[DESK].rows(asked.query), rows)


def _rendered(frame: Frame, form: str, cursor: str) -> tuple[bytes, str]:
    match form:
        case "page":
            return render.page_json(frame, cursor), reply.JSON_TYPE
        case "csv":
            return render.csv_bytes(frame), CSV_TYPE
        case "ndjson":
            return render.ndjson_bytes(frame), NDJSON_TYPE
        case "arrow":
            return render.arrow_bytes(frame), ARROW_TYPE
        case _:
            return render.rows_json(frame), reply.JSON_TYPE


async def _finish(
    request: web.Request, asked: Asked, payload: bytes, content_type: str, frame: Frame | None = None
) -> web.Response:
    """Cache headers, a validator, and the notices that row formats have no place for."""
    keeper = request.app[DESK].keepers[asked.query.dataset]
    tag = reply.etag(payload)
    headers = {"ETag": tag, "Cache-Control": f"private, max-age={int(keeper.max_age_s())}"}
    notices = (*(frame.meta.notices if frame else ()), *asked.notices)
    if notices and asked.format != "frame":
        text = orjson.dumps([{"severity": n.severity, "text": n.text[:300]} for n in notices[:5]])
        headers["X-Bridge-Notices"] = text.decode().encode("ascii", "backslashreplace").decode()
    if request.method == "GET" and tag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    charset = "utf-8" if content_type == CSV_TYPE else None
    return await reply.send(request, payload, content_type=content_type, charset=charset, headers=headers)


async def _error_as_data(request: web.Request, error: BridgeError, pairs: Sequence[tuple[str, str]]) -> web.Response:
    """The error as a row or notice with status 200: Infinity drops the body of every other status."""
    shape = reply.error_body(error, request[REQUEST_ID])
    row = {key: shape[key] for key in ("error", "code", "remedy", "request_id")}
    form = next((value for key, value in pairs if key == "format"), "rows")
    if form == "frame":
        ref_id = next((value for key, value in pairs if key == "refId"), "A")
        answer = Answer(Query(request.match_info["name"], ref_id=ref_id), error=error)
        return reply.json([grafana.error_frame(answer)])
    if form == "page":
        return reply.json({"rows": [row], "next_cursor": ""})
    if form in ("csv", "ndjson"):
        text = reply.dumps(row) + b"\n"
        if form == "csv":
            text = ("error,code\r\n" + f'"{row["error"]}"'.replace("\n", " ") + f",{row['code']}\r\n").encode()
        return web.Response(body=text, content_type=CSV_TYPE if form == "csv" else NDJSON_TYPE)
    return reply.json([row])


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
    desk, now = request.app[DESK], request.app[CLOCK].now()
    names = [item.ref_id or f"Q{index}" for index, item in enumerate(asked.queries)]
    if len(set(names)) != len(names):
        raise BadRequest("two queries have the same `ref_id`", remedy="give each its own")
    prepared: list[Query | Answer] = []
    for name, item in zip(names, asked.queries, strict=True):
        try:
            pairs = body.flattened(item.params)
            one = await dataset_query.read(desk, item.dataset, [*pairs, ("refId", name)], now)
            prepared.append(one.query)
        except BridgeError as error:
            prepared.append(Answer(Query(item.dataset, ref_id=name), error=error))
    answers = await grafana.ask(desk, prepared)
    rows = sum(frame.rows for answer in answers for frame in answer.frames)
    return await reply.send_json(request, lambda: {"results": _results(answers, request[REQUEST_ID])}, rows)


def _results(answers: list[Answer], request_id: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for answer in answers:
        if answer.error is None:
            out[answer.query.ref_id] = {"status": 200, "frames": [wire_frame(frame) for frame in answer.frames]}
        else:
            out[answer.query.ref_id] = {
                "status": answer.error.status,
                **reply.error_body(answer.error, request_id),
                "frames": [],
            }
    return out
