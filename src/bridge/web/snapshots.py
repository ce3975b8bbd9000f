"""Pages of one answer: the rows stay as they were at the first page until the last one is read."""

from __future__ import annotations

import base64
import binascii
import secrets

from bridge.edge.cache import Cache
from bridge.errors import BadQuery, CursorExpired
from bridge.model.frame import Frame

KEPT_S = 120.0
_PREFIX = "_page|"


async def first_page(cache: Cache, frame: Frame, rows: int) -> tuple[Frame, str]:
    """The first rows, and the cursor of the next page; empty when there is none."""
    if frame.rows <= rows:
        return frame, ""
    key = secrets.token_urlsafe(12)
    await cache.set(_PREFIX + key, frame, ttl_s=KEPT_S)
    return frame.with_data(frame.data.head(rows)), _cursor(key, rows)


async def next_page(cache: Cache, cursor: str, rows: int) -> tuple[Frame, str]:
    """The rows a cursor points at, and the cursor of the page after them.

    Errors: BadQuery when the text is no cursor; CursorExpired when its snapshot is gone.
    """
    key, offset = _parsed(cursor)
    frame: Frame | None = await cache.get(_PREFIX + key)
    if frame is None:
        raise CursorExpired(
            f"this page is gone: pages are kept for {KEPT_S:.0f} s after the first",
            remedy="start again without `cursor`",
        )
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
        raise BadQuery("`cursor` is none that bridge gave", remedy="start again without `cursor`") from error
