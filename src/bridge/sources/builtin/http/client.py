"""Requests to one far API, with bridge's credential."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit

from bridge.edge.upstream import Answer
from bridge.errors import NeedsAuth
from bridge.sources.base import Tools
from bridge.sources.builtin.http.auth import Secret, authority
from bridge.sources.builtin.http.options import HttpOptions


@dataclass(frozen=True, slots=True)
class Call:
    """One request: a path below the base address, or a whole URL that the far side gave for its next page."""

    method: str = "GET"
    path: str = ""
    url: str | None = None
    params: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None

    @property
    def text(self) -> str:
        """The request in words, without any credential."""
        return f"{self.method} {self.path}{'?' if self.params else ''}{urlencode(self.params)}"


class Client:
    """One far API."""

    def __init__(self, options: HttpOptions, tools: Tools) -> None:
        self._deadline_s = options.request_deadline_s
        self._far = tools.upstream(options.url, allow_private=options.allow_private, headers=options.headers)
        self._authority = authority(options.auth, tools.upstream, tools.clock, allow_private=options.allow_private)

    async def send(self, call: Call, *, max_bytes: int, most_s: float = math.inf) -> Answer:
        """The answer; a refused token is fetched anew once. A request takes the source's deadline, or `most_s`.

        Errors: SourceError as `Upstream` raises it.
        """
        deadline_s = min(self._deadline_s, most_s)
        secret = await self._authority.current(deadline_s)
        try:
            return await self._send(call, secret, max_bytes, deadline_s)
        except NeedsAuth:
            renewed = await self._authority.renewed(secret, deadline_s)
            if renewed is None:
                raise
            return await self._send(call, renewed, max_bytes, deadline_s)

    async def _send(self, call: Call, secret: Secret, max_bytes: int, deadline_s: float) -> Answer:
        hidden = [value for _, value in secret.params]
        if call.url is not None:
            return await self._far.follow(
                _with_params(call.url, secret.params),
                headers=call.headers,
                credentials=secret.headers,
                secrets=hidden,
                deadline_s=deadline_s,
                max_bytes=max_bytes,
            )
        return await self._far.request(
            call.method,
            call.path,
            params=(*call.params, *secret.params),
            headers=call.headers,
            credentials=secret.headers,
            secrets=hidden,
            body=call.body,
            deadline_s=deadline_s,
            max_bytes=max_bytes,
        )


def _with_params(url: str, params: tuple[tuple[str, str], ...]) -> str:
    """The URL with the parameters it lacks: few servers repeat a caller's key in their links."""
    parts = urlsplit(url)
    there = {key for key, _ in parse_qsl(parts.query, keep_blank_values=True)}
    missing = urlencode([item for item in params if item[0] not in there])
    return parts._replace(query="&".join(filter(None, (parts.query, missing)))).geturl()
