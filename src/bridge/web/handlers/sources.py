"""Sources, plug-ins, and the answer cache."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web

from bridge.errors import BadQuery, BridgeError
from bridge.web import body, reply
from bridge.web.keys import DESK
from bridge.web.views import plugins_view, source_view

log = logging.getLogger("bridge.web")

MAX_PATTERN_CHARS = 200
PING_S = 10.0


async def index(request: web.Request) -> web.Response:
    """All sources, and every installed plug-in with its error if it cannot be loaded."""
    desk = request.app[DESK]
    sources = [source_view(desk, name) for name in desk.registry.entries]
    return reply.json({"sources": sources, "plugins": plugins_view(desk)})


async def one(request: web.Request) -> web.Response:
    """One source."""
    return reply.json(source_view(request.app[DESK], request.match_info["name"]))


async def ping(request: web.Request) -> web.Response:
    """Asks the far side whether it is there, now."""
    entry = request.app[DESK].registry.source(request.match_info["name"])
    if entry.source is None:
        return reply.json({"ok": False, "text": entry.error})
    try:
        async with asyncio.timeout(PING_S):
            found = await entry.source.ping()
    except TimeoutError:
        return reply.json({"ok": False, "text": f"no answer within {PING_S:g} s"})
    except BridgeError as error:
        return reply.json({"ok": False, "text": error.message, "remedy": error.remedy})
    except Exception as error:
        log.exception("source plug-in failed", extra={"source": entry.config.name})
        return reply.json({"ok": False, "text": f"its plug-in failed with {type(error).__name__}"})
    return reply.json({"ok": found.ok, "text": found.text, "far_version": found.far_version})


async def forget(request: web.Request) -> web.Response:
    """Drops cached answers of the datasets a glob matches; the next question goes to the source."""
    found = body.pairs(request)
    pattern = found[0][1] if [key for key, _ in found] == ["pattern"] else ""
    if not 0 < len(pattern) <= MAX_PATTERN_CHARS:
        raise BadQuery(
            f"exactly one `pattern` of at most {MAX_PATTERN_CHARS} characters is needed",
            remedy="give a glob over dataset names, e.g. `digits.*` or `*`",
        )
    removed = await request.app[DESK].invalidate(pattern)
    return reply.json({"pattern": pattern, "removed": removed})
