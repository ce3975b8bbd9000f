"""Which page comes next, and when there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from bridge.errors import UpstreamInvalid
from bridge.sources.builtin.rest.options import Paging

Value = str | int


@dataclass(frozen=True, slots=True)
class Move:
    """How to ask for a page: parameters beside the dataset's own, or a whole URL the far side gave."""

    params: tuple[tuple[str, Value], ...] = ()
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """What a page says about the next one.

    Units: `rows` rows of this page, `total` rows of all pages when the far side tells.
    """

    rows: int
    body: bytes
    url: str
    link: str | None = None
    cursor: Any = None
    total: int | None = None


class Pager:
    """The way through the pages of one answer."""

    def __init__(self, paging: Paging, dataset: str) -> None:
        self._paging = paging
        self._dataset = dataset
        self._seen: set[Value] = set()
        self._page = paging.start
        self._rows = 0
        self._body = b""

    def first(self) -> Move:
        """The first page."""
        match self._paging.kind:
            case "page":
                return self._move(self._page)
            case "offset":
                return self._move(0)
            case _:
                return self._move(None)

    def after(self, turn: Turn) -> Move | None:
        """The page after this one; None when it was the last.

        Errors: UpstreamInvalid when the far side leads in a circle.
        """
        self._rows += turn.rows
        match self._paging.kind:
            case "none":
                return None
            case "cursor":
                return self._cursor(turn.cursor)
            case "link":
                return self._link(turn)
            case _:
                return self._numbered(turn)

    def _move(self, value: Value | None) -> Move:
        paging = self._paging
        params: list[tuple[str, Value]] = []
        if paging.size_param is not None and paging.size is not None:
            params.append((paging.size_param, paging.size))
        if value is not None:
            params.append((paging.sent_as, value))
        return Move(tuple(params))

    def _cursor(self, cursor: Any) -> Move | None:
        if cursor is None or cursor == "" or cursor is False:
            return None
        if isinstance(cursor, bool) or not isinstance(cursor, (str, int, float)):
            raise UpstreamInvalid(
                f"{self._dataset}: the cursor at `{self._paging.next}` is a {type(cursor).__name__}, not a text",
                remedy="let `paging.next` select the cursor itself",
            )
        value = cursor if isinstance(cursor, int) else str(cursor)
        self._once(value, "the cursor repeats")
        return self._move(value)

    def _link(self, turn: Turn) -> Move | None:
        target = turn.cursor if self._paging.next is not None else turn.link
        if target is None or target == "":
            return None
        if not isinstance(target, str):
            raise UpstreamInvalid(f"{self._dataset}: the next link is a {type(target).__name__}, not a text")
        self._seen.add(turn.url)
        try:
            url = urljoin(turn.url, target)
        except ValueError as error:
            raise UpstreamInvalid(f"{self._dataset}: the next link is no URL: {error}") from error
        self._once(url, "the next link repeats")
        return Move(url=url)

    def _once(self, value: Value, text: str) -> None:
        """A far side that names the same page twice would be asked for ever."""
        if value in self._seen:
            raise UpstreamInvalid(
                f"{self._dataset}: {text} after {len(self._seen)} pages; the far API leads in a circle",
                remedy="check `paging.param`: the far API may not know it",
            )
        self._seen.add(value)

    def _numbered(self, turn: Turn) -> Move | None:
        if turn.rows == 0:
            return None
        if turn.body == self._body:
            raise UpstreamInvalid(
                f"{self._dataset}: two pages are the same; the far API ignores `{self._paging.sent_as}`",
                remedy="set `paging.param` to the name the far API knows, or `paging.kind: none`",
            )
        self._body = turn.body
        if turn.total is not None:
            # A known total outweighs a short page: servers cap the page size without telling.
            if self._rows >= turn.total:
                return None
        elif self._paging.size is not None and turn.rows < self._paging.size:
            return None
        self._page += 1
        return self._move(self._page if self._paging.kind == "page" else self._rows)
