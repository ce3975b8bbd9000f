"""Which version the far API has."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

from bridge.edge.upstream import Answer
from bridge.errors import SourceError, UpstreamInvalid
from bridge.model.clock import Clock
from bridge.sources.builtin.http.decode import decode
from bridge.sources.builtin.rest.options import VersionOptions
from bridge.sources.builtin.rest.select import compile_selector

KEEP_S = 60.0
MAX_CHARS = 64


class VersionReader:
    """Asks for the version once for all who wait, and again after a minute or when the API stopped fitting.

    Units: `asked` times so far.
    """

    def __init__(self, options: VersionOptions, fetch: Callable[[str], Awaitable[Answer]], clock: Clock) -> None:
        self._options = options
        self._select = compile_selector(options.select)
        self._fetch = fetch
        self._clock = clock
        self._lock = asyncio.Lock()
        self._version: str | None = None
        self._until_s = -math.inf
        self.asked = 0

    def forget(self) -> None:
        """The next question asks anew."""
        self._until_s = -math.inf

    async def current(self) -> str:
        """The far API's version.

        Errors: SourceError when the API does not tell.
        """
        async with self._lock:
            if self._version is None or self._clock.monotonic_s() >= self._until_s:
                self._version = await self._ask()
            return self._version

    async def anew(self) -> str:
        """The far API's version, asked for now, once for all who wait.

        Errors: SourceError when the API does not tell; the next question asks again.
        """
        asked = self.asked
        self.forget()
        async with self._lock:
            if self.asked == asked or self._version is None:
                self._version = await self._ask()
            return self._version

    def of(self, answer: Answer) -> str | None:
        """The version that an answer to any question says it has; None where answers do not say."""
        found = answer.headers.get(self._options.header.lower()) if self._options.header else None
        return found.strip()[:MAX_CHARS] or None if found else None

    async def known(self) -> str | None:
        """The version when the API tells it; where nothing depends on it, a silent API is no failure."""
        if self._clock.monotonic_s() < self._until_s:
            return self._version
        try:
            return await self.current()
        except SourceError:
            self._until_s = self._clock.monotonic_s() + KEEP_S
            return self._version

    async def _ask(self) -> str:
        version = self._read(await self._fetch(self._options.path))
        self.asked += 1
        self._until_s = self._clock.monotonic_s() + KEEP_S
        return version

    def _read(self, answer: Answer) -> str:
        where = f"GET {self._options.path}"
        found: Any
        if self._options.header is not None:
            found, place = answer.headers.get(self._options.header.lower()), f"header `{self._options.header}`"
        else:
            document = decode(answer.body, answer.headers.get("content-type", ""), "json", what=where)
            found, place = self._select.of(document.value), f"`{self._options.select}`"
        if isinstance(found, (int, float)) and not isinstance(found, bool):
            found = str(found)
        if not isinstance(found, str) or not 0 < len(found.strip()) <= MAX_CHARS:
            raise UpstreamInvalid(
                f"{where} does not tell the API's version at {place}",
                remedy="check `version.path`, `version.select` and `version.header`",
            )
        return found.strip()
