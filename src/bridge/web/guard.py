"""What stands before and behind every handler: request id, host, load, errors as answers, meters."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web
from polars.exceptions import PanicException

from bridge.edge.meters import Meters
from bridge.errors import BadRequest, BridgeError, MethodNotAllowed, Misdirected, NotFound, NotReady
from bridge.web import reply
from bridge.web.keys import CONFIG, METERS, PANEL, REQUEST_ID

log = logging.getLogger("bridge.web")

_PORT = re.compile(r"(?<=[^:]):\d{1,5}$", re.ASCII)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers every request in one shape, whatever its handler does."""
    began_s = time.perf_counter()
    request_id = request[REQUEST_ID] = secrets.token_hex(8)
    # Whatever is logged on behalf of this request, by whichever part, carries its id.
    structlog.contextvars.bind_contextvars(request_id=request_id)
    meters = request.app[METERS]
    route = _route(request)
    _count_in(meters)
    _note_panel(request)
    status = 499
    try:
        response = await _answer(request, handler, request_id)
        status = response.status
        if not response.prepared:
            response.headers["X-Request-Id"] = request_id
            response.headers["X-Content-Type-Options"] = "nosniff"
            response.headers["Server"] = "bridge"
        return response
    finally:
        spent_s = time.perf_counter() - began_s
        meters.requests.labels(route, _method(request), str(status)).inc()
        meters.request_seconds.labels(route).observe(spent_s)
        if (panel := request.get(PANEL)) is not None:
            meters.panel(panel[0], panel[1], spent_s)


def _count_in(meters: Meters) -> None:
    """Counts the request until its answer has left, so that answers which nobody takes count as load.

    aiohttp runs every request in a task of its own, which is done when the answer has been written or cannot be.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 middlewares are coroutines
    task.add_done_callback(lambda _: _count_out(meters))
    meters.busy += 1


def _count_out(meters: Meters) -> None:
    meters.busy -= 1


async def _answer(request: web.Request, handler: Handler, request_id: str) -> web.StreamResponse:
    try:
        _check_host(request)
        _check_load(request)
        return await handler(request)
    except BridgeError as error:
        # What sources and limits say in their 502 to 504 is written for the caller; a plain 500 is not.
        if error.status == 500:
            return _internal(error, request_id)
        return reply.failure(error, request_id)
    except web.HTTPException as error:
        return reply.failure(_translated(error, request), request_id)
    except (Exception, PanicException) as error:  # noqa: BLE001 the last net: whatever it is, the process stays healthy
        return _internal(error, request_id)


def _note_panel(request: web.Request) -> None:
    """Whose cost this is, as Grafana's backend says in headers; what stands in a body is read with the body."""
    if dashboard := request.headers.get("X-Dashboard-Uid"):
        request[PANEL] = (dashboard, request.headers.get("X-Panel-Id") or "0")


def _internal(error: BaseException, request_id: str) -> web.Response:
    log.error("unhandled error", exc_info=error, extra={"request_id": request_id})
    text = f"something went wrong inside bridge; its log has the details under id {request_id}"
    return reply.failure(BridgeError(text), request_id)


def _check_host(request: web.Request) -> None:
    """Refuses foreign Host headers, on loopback too: a web page may point its own name at 127.0.0.1.

    Source: DNS rebinding; RFC 9110 section 15.5.20 for the status.
    """
    allowed = request.app[CONFIG].allowed_hosts
    # aiohttp would make up for a missing one with this machine's own name.
    host = request.headers.get("Host", "").lower()
    if host in allowed or _PORT.sub("", host) in allowed:
        return
    raise Misdirected(
        f"this service does not answer for host {host[:80]!r}",
        remedy="add it to server.allowed_hosts in the settings",
    )


def _check_load(request: web.Request) -> None:
    config = request.app[CONFIG]
    if request.app[METERS].busy > config.max_in_flight and request.path not in ("/healthz", "/readyz", "/metrics"):
        raise NotReady(
            f"more than {config.max_in_flight} requests are being answered", remedy="try again in a moment"
        )


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unknown"


def _method(request: web.Request) -> str:
    known = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
    return request.method if request.method in known else "other"


def _translated(error: web.HTTPException, request: web.Request) -> BridgeError:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = tuple(sorted(error.allowed_methods))
        return MethodNotAllowed(
            f"{_method(request)} is not possible here", allowed=allowed, remedy=f"use {', '.join(allowed)}"
        )
    if isinstance(error, web.HTTPNotFound):
        return NotFound(f"nothing is at {request.path[:200]!r}", remedy="GET /openapi.json lists every path")
    return BadRequest(error.reason)
