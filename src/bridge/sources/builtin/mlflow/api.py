"""The tracking server's REST API, as far as it is read here."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from bridge.errors import SourceError, UpstreamInvalid, UpstreamRefused, UpstreamTooLarge
from bridge.model.clock import Clock
from bridge.sources.base import Ping
from bridge.sources.builtin.http.client import Call, Client
from bridge.sources.builtin.mlflow.answers import (
    REMEDY,
    Experiment,
    Page,
    Run,
    read_experiment,
    read_page,
    read_run,
)
from bridge.sources.work import run

API = "/api/2.0/mlflow"
# Asked by MLflow's own pages, in every version from 1 on; the API for programs has nothing like it.
BULK = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
PAGE_ITEMS = 1_000
# The most of a history that MLflow gives at once, and the most runs it takes in one such question.
HISTORY_POINTS = 25_000
BULK_RUNS = 100
# 25,000 points take about 3 MiB, with keys of the longest kind 12.
HISTORY_BYTES = 16 * 1024 * 1024
MAX_PAGES = 1_000
TOGETHER = 8
# A version or a sign of life comes at once or not at all; the questions behind it must still have time.
PROBE_BYTES = 65_536
PROBE_S = 5.0
KEEP_S = 60.0
_VERSION = re.compile(r"\d[\w.+-]{0,63}")

Fetch = Callable[[str | None], Awaitable[Page]]


class Pages:
    """The way through the pages of one answer."""

    def __init__(self, fetch: Fetch, what: str) -> None:
        self._fetch = fetch
        self._what = what
        self._token: str | None = None
        self._seen: set[str] = set()
        self._count = 0
        self.more = True

    async def next(self) -> list[dict[str, Any]]:
        """The objects of the next page; after it `more` tells whether there is another.

        Errors: UpstreamInvalid when the server leads in a circle or never ends; SourceError of the request.
        """
        page = await self._fetch(self._token)
        self._token, self.more = page.token, page.token is not None
        if page.token in self._seen:
            raise UpstreamInvalid(
                f"{self._what}: the server sends the same page token again and again", remedy=REMEDY
            )
        if page.token is not None:
            self._seen.add(page.token)
        self._count += 1
        if self.more and self._count >= MAX_PAGES:
            raise UpstreamInvalid(f"{self._what}: there is no end after {MAX_PAGES} pages", remedy=REMEDY)
        return page.items


class Api:
    """The requests of one answer, within one bound on bytes."""

    def __init__(self, client: Client, dataset: str, *, max_bytes: int) -> None:
        self._client = client
        self._dataset = dataset
        self._max_bytes = max_bytes
        self._bytes = 0
        self._slots = asyncio.Semaphore(TOGETHER)

    async def experiments(self) -> list[Experiment]:
        """All experiments, also those that were deleted."""
        path = f"{API}/experiments/search"
        pages, out = Pages(partial(self._search, path, "experiments", {"view_type": "ALL"}), self._what(path)), []
        while pages.more:
            out += [read_experiment(item, what=self._what(path)) for item in await pages.next()]
        return out

    def runs(self, experiment_ids: Sequence[str], text: str, page_items: int) -> Pages:
        """The runs of these experiments that pass the filter, newest first."""
        body = {
            "experiment_ids": list(experiment_ids),
            "run_view_type": "ACTIVE_ONLY",
            "order_by": ["attributes.start_time DESC"],
            "max_results": page_items,
            **({"filter": text} if text else {}),
        }
        path = f"{API}/runs/search"
        return Pages(partial(self._search, path, "runs", body), self._what(path))

    def read_runs(self, items: list[dict[str, Any]], names: dict[str, str]) -> list[Run]:
        """The runs of one page."""
        what = self._what(f"{API}/runs/search")
        return [read_run(item, names, what=what) for item in items]

    def history(self, run_id: str, metric: str) -> Pages:
        """The points of one metric of one run, in pages."""
        path = f"{API}/metrics/get-history"

        async def fetch(token: str | None) -> Page:
            params = [("run_id", run_id), ("metric_key", metric), ("max_results", str(HISTORY_POINTS))]
            params += [("page_token", token)] if token else []
            async with self._slots:
                return await self._page(Call(path=path, params=tuple(params)), "metrics", HISTORY_BYTES)

        return Pages(fetch, self._what(path))

    async def bulk(self, run_ids: Sequence[str], metric: str) -> list[dict[str, Any]]:
        """The points of one metric of many runs, one run after the other, cut after `HISTORY_POINTS`."""
        asked = [("run_id", ident) for ident in run_ids]
        params = (*asked, ("metric_key", metric), ("max_results", str(HISTORY_POINTS)))
        async with self._slots:
            return (await self._page(Call(path=BULK, params=params), "metrics", HISTORY_BYTES)).items

    async def _search(self, path: str, key: str, body: dict[str, Any], token: str | None) -> Page:
        asked = {"max_results": PAGE_ITEMS, **body} | ({"page_token": token} if token else {})
        call = Call("POST", path, headers={"Content-Type": "application/json"}, body=json.dumps(asked).encode())
        try:
            page = await self._page(call, key)
        except UpstreamRefused as error:
            if error.far_status == 400 and body.get("filter"):
                error.remedy = "check the dataset's `filter`; it is written in MLflow's own filter language"
            raise
        if len(page.items) > asked["max_results"]:
            # Each is looked at on the loop, which is meant for pages.
            raise UpstreamInvalid(
                f"{self._what(path)}: the answer holds {len(page.items)} {key}, "
                f"and {asked['max_results']} were asked for",
                remedy=REMEDY,
            )
        return page

    async def _page(self, call: Call, key: str, most_bytes: int | None = None) -> Page:
        left_bytes = max(1, self._max_bytes - self._bytes)
        try:
            answer = await self._client.send(call, max_bytes=min(left_bytes, most_bytes or left_bytes))
        except UpstreamTooLarge as error:
            if most_bytes is not None and most_bytes < left_bytes:
                raise
            raise self._too_large() from error
        self._bytes += len(answer.body)
        if self._bytes > self._max_bytes:
            # Requests under way at the same time each had what was left then.
            raise self._too_large()
        kind, what = answer.headers.get("content-type", ""), self._what(call.path, call.method)
        # Bytes stand in for cells: reading JSON takes about as long per byte.
        return await run(len(answer.body), lambda: read_page(answer.body, kind, key, what=what))

    def _too_large(self) -> UpstreamTooLarge:
        return UpstreamTooLarge(
            f"`{self._dataset}`: MLflow's answers are over {self._max_bytes} bytes",
            remedy="narrow `experiments`, `filter` or `max_runs`, or raise the source's `max_bytes`",
        )

    def _what(self, path: str, method: str = "POST") -> str:
        return f"`{self._dataset}`: {method} {path}"


class Server:
    """Whether the server is there, and which version it has."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._version: str | None = None
        self._until_s = -math.inf

    async def version(self) -> str | None:
        """The version, asked for once a minute; None where the server does not tell, which is no failure."""
        if self._clock.monotonic_s() < self._until_s:
            return self._version
        self._until_s = self._clock.monotonic_s() + KEEP_S
        try:
            text = await self._get("/version")
        except SourceError:
            return self._version
        self._version = text if _VERSION.fullmatch(text) else None
        return self._version

    async def ping(self) -> Ping:
        """Whether MLflow answers at this address."""
        try:
            text = await self._get("/health")
        except SourceError as error:
            return Ping(ok=False, text=error.message, far_version=self._version)
        self._until_s = -math.inf
        version = await self.version()
        if text != "OK":
            return Ping(ok=False, text=f"GET /health answers, but not as MLflow does; {REMEDY}", far_version=version)
        return Ping(ok=True, far_version=version)

    async def _get(self, path: str) -> str:
        answer = await self._client.send(Call(path=path), max_bytes=PROBE_BYTES, most_s=PROBE_S)
        return answer.body.decode("utf-8", "replace").strip()
