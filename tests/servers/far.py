"""Real servers on free loopback ports, in the place of far containers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web
from aiohttp.test_utils import TestServer


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    params: list[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Handler = Callable[[Seen], Awaitable[web.StreamResponse] | web.StreamResponse]


@dataclass
class Far:
    """A running server: where it is, and what it was asked."""

    url: str = ""
    seen: list[Seen] = field(default_factory=list)

    @property
    def last(self) -> Seen:
        return self.seen[-1]

    def asked(self, key: str) -> list[str]:
        """Values of one parameter over all requests, in order."""
        return [value for seen in self.seen for name, value in seen.params if name == key]


@asynccontextmanager
async def far(handler: Handler) -> AsyncIterator[Far]:
    """A server that answers every request with `handler`."""
    state = Far()

    async def answer(request: web.Request) -> web.StreamResponse:
        parts = urlsplit(request.raw_path)
        seen = Seen(
            request.method,
            parts.path,
            parse_qsl(parts.query, keep_blank_values=True),
            request.headers,
            await request.read(),
        )
        state.seen.append(seen)
        response = handler(seen)
        return await response if isinstance(response, Awaitable) else response

    app = web.Application(client_max_size=8 * 1024 * 1024)
    app.router.add_route("*", "/{rest:.*}", answer)
    server = TestServer(app)
    await server.start_server()
    state.url = str(server.make_url("")).rstrip("/")
    try:
        yield state
    finally:
        await server.close()


@asynccontextmanager
async def raw(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A server that speaks bytes: each connection's request head is read, then `talk` decides."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def text(
    body: str | bytes, content_type: str = "application/json", status: int = 200, **headers: str
) -> web.Response:
    """A response with exactly this body."""
    payload = body.encode() if isinstance(body, str) else body
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return web.Response(body=payload, status=status, headers={"Content-Type": content_type, **named})


def js(value: Any, status: int = 200, **headers: str) -> web.Response:
    """A JSON response."""
    return text(json.dumps(value), status=status, **headers)
