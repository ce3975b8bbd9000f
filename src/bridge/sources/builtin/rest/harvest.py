"""All pages of one answer, gathered within one bound on bytes and one on rows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import polars as pl

from bridge.edge.upstream import Answer
from bridge.errors import SchemaMismatch, UpstreamTooLarge
from bridge.model.frame import Notice
from bridge.sources.builtin.http.client import Call, Client
from bridge.sources.builtin.rest.paging import Move, Pager
from bridge.sources.builtin.rest.plan import Plan
from bridge.sources.builtin.rest.read import Page, read_page, too_many
from bridge.sources.builtin.rest.templates import Values, render_body, render_params, render_path
from bridge.sources.table import from_rows

# Bodies below this are read faster than a hop to a thread and back takes.
THREAD_BYTES = 256 * 1024
ACCEPT = {
    "auto": "application/json, application/x-ndjson;q=0.9, text/csv;q=0.8, */*;q=0.1",
    "json": "application/json, */*;q=0.1",
    "ndjson": "application/x-ndjson, */*;q=0.1",
    "csv": "text/csv, */*;q=0.1",
}
T = TypeVar("T")


class Harvest:
    """The pages of one answer as they come in.

    Shape: `doubtful` when a page had nothing where the rows should be; `versions` are those the pages say they have.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        max_rows: int,
        max_bytes: int,
        version_of: Callable[[Answer], str | None] = lambda answer: None,
    ) -> None:
        self._plan = plan
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._bytes = 0
        self._rows: list[dict[str, Any]] = []
        # Columns that no page has had a place for yet, and the keys that stood there instead.
        self._absent: frozenset[str] | None = None
        self._keys = ""
        self._version_of = version_of
        self.notices: tuple[Notice, ...] = ()
        self.executed = ""
        self.doubtful = False
        self.versions: tuple[str, ...] = ()

    async def gather(self, client: Client, values: Values) -> None:
        """Asks for one page after the other until there are no more.

        Errors: SourceError of the request; UpstreamTooLarge and AnswerTooLarge over a bound.
        """
        plan = self._plan
        pager = Pager(plan.paging, plan.name)
        base = _base_call(plan, values)
        move: Move | None = pager.first()
        self.executed = _call(plan, base, values, pager.first()).text
        for _ in range(plan.paging.max_pages):
            if move is None:
                return
            page = await self._page(client, _call(plan, base, values, move))
            move = pager.after(page.turn)
        if move is not None:
            text = f"only the first {plan.paging.max_pages} pages were fetched (`paging.max_pages`); there are more"
            self.notices += (Notice("warning", text),)

    async def table(self) -> tuple[pl.DataFrame, tuple[Notice, ...]]:
        """All rows, typed, and what must be said of them.

        Errors: SchemaMismatch when a column was nowhere to be found.
        """
        gone = [(column, selector) for column, selector in self._plan.columns if column.name in (self._absent or ())]
        if gone:
            column, selector = gone[0]
            raise SchemaMismatch(
                f"{self._plan.name}: column `{column.name}` is gone: no row has `{selector.text}`; {self._keys}",
                remedy=f"set the `select` of `{column.name}` to where the far API has it now",
            )
        columns = tuple(column for column, _ in self._plan.columns)
        return await _aside(self._bytes, partial(from_rows, self._rows, columns))

    async def _page(self, client: Client, call: Call) -> Page:
        answer = await self._fetch(client, call)
        self._bytes += len(answer.body)
        if (version := self._version_of(answer)) is not None and version not in self.versions:
            self.versions += (version,)
        page = await _aside(len(answer.body), partial(_read, answer, self._plan, self._max_rows))
        self._rows += page.rows
        if len(self._rows) > self._max_rows:
            raise too_many(self._plan, self._max_rows)
        if page.judged:
            self._absent = page.absent if self._absent is None else self._absent & page.absent
            self._keys = self._keys or page.keys
        if page.doubt:
            self.doubtful = True
            self.notices += (Notice("warning", page.doubt),)
        return page

    async def _fetch(self, client: Client, call: Call) -> Answer:
        try:
            # One byte at least: nothing more may come, but an empty last page is still welcome.
            return await client.send(call, max_bytes=max(1, self._max_bytes - self._bytes))
        except UpstreamTooLarge as error:
            if not self._bytes:
                raise
            raise UpstreamTooLarge(
                f"{self._plan.name}: all pages together are over {self._max_bytes} bytes",
                remedy="narrow the time range, or raise the source's `max_bytes`",
            ) from error


def _base_call(plan: Plan, values: Values) -> Call:
    """What all pages have in common."""
    return Call(
        plan.method,
        render_path(plan.path, values, dataset=plan.name),
        params=tuple(render_params(plan.params, values)),
        headers={"Accept": ACCEPT[plan.format], **plan.headers},
    )


def _call(plan: Plan, base: Call, values: Values, move: Move) -> Call:
    """The request for one page."""
    if move.url is not None:
        return Call(url=move.url, path=base.path, headers=base.headers)
    moved = dict(move.params)
    if plan.body is None:
        kept = [item for item in base.params if item[0] not in moved]
        return Call(
            base.method,
            base.path,
            params=(*kept, *((key, str(value)) for key, value in moved.items())),
            headers=base.headers,
        )
    body = {**render_body(plan.body, values, plan.multi), **moved}
    return Call(
        base.method,
        base.path,
        params=base.params,
        headers={"Content-Type": "application/json", **base.headers},
        body=json.dumps(body).encode(),
    )


def _read(answer: Answer, plan: Plan, max_rows: int) -> Page:
    return read_page(
        answer.body,
        answer.headers.get("content-type", ""),
        answer.headers.get("link", ""),
        answer.url,
        plan,
        max_rows=max_rows,
    )


async def _aside(size_bytes: int, work: Callable[[], T]) -> T:
    """`work()` here, or on a thread when there is much to do, so that the loop stays free."""
    return await asyncio.to_thread(work) if size_bytes > THREAD_BYTES else work()
