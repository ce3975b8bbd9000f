"""Pages of one answer: the rows stay as they were at the first page until the last one is read."""

from __future__ import annotations

import base64
import binascii
import secrets

from bridge.edge.cache import Cache
from bridge.errors import AnswerTooLarge, BadQuery, CursorExpired
from bridge.model.frame import Frame

KEPT_S = 120.0
_PREFIX = "_page|"


async def first_page(cache: Cache, frame: Frame, rows: int) -> tuple[Frame, str]:
    """The first rows, and the cursor of the next page; empty when there is none.

    Errors: AnswerTooLarge when the cache has no room for the rows that are left.
    """
    if frame.rows <= rows:
        return frame, ""
    key = _PREFIX + secrets.token_urlsafe(12)
    await cache.set(key, frame, ttl_s=KEPT_S)
    if await cache.get(key) is None:
        raise AnswerTooLarge(
            f"the {frame.rows} rows cannot be kept for the pages that follow: the cache has no room for them",
            remedy="raise `limit` so that one page holds them, narrow the question, or raise limits.cache_bytes",
        )
    return frame.with_data(frame.data.head(rows)), _cursor(key.removeprefix(_PREFIX), rows)


async def next_page(cache: Cache, dataset: str, cursor: str, rows: int) -> tuple[Frame, str]:
    """The rows a cursor points at, and the cursor of the page after them.

    Errors: BadQuery when the text is no cursor of this dataset; CursorExpired when its snapshot is gone.
    """
    key, offset = _parsed(cursor)
    frame: Frame | None = await cache.get(_PREFIX + key)
    if frame is None:
        raise CursorExpired(
            f"this page is gone: pages are kept for {KEPT_S:.0f} s after the first",
            remedy="start again without `cursor`",
        )
    if frame.name != dataset or not 0 < offset < frame.rows:
        raise _no_cursor()
    following = offset + rows
    part = frame.with_data(frame.data.slice(offset, rows))
    return part, _cursor(key, following) if following < frame.rows else ""


def _cursor(key: str, offset: int) -> str:
    return base64.urlsafe_b64encode(f"{offset}.{key}".encode()).decode().rstrip("=")


def _parsed(cursor: str) -> tuple[str, int]:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        offset, _, key = text.partition(".")
        if not key or not offset.isascii() or not offset.isdigit() or len(offset) > 12:
            raise ValueError(text)
        return key, int(offset)
    except (ValueError, binascii.Error) as error:
        raise _no_cursor() from error


def _no_cursor() -> BadQuery:
    return BadQuery("`cursor` is none that bridge gave for this dataset", remedy="start again without `cursor`")
