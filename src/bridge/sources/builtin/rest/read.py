"""One answer of the far API as a page of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bridge.errors import AnswerTooLarge, UpstreamInvalid
from bridge.sources.builtin.http.decode import Document, decode
from bridge.sources.builtin.rest.links import next_link
from bridge.sources.builtin.rest.paging import Turn
from bridge.sources.builtin.rest.plan import Plan
from bridge.sources.builtin.rest.select import keys_seen

MAX_SHOWN_KEYS = 20


@dataclass(frozen=True, slots=True)
class Page:
    """The rows of one page.

    Shape: `rows` are objects keyed by column name; `judged` tells whether there was anything to see columns in,
           `absent` are columns no row had a place for, `keys` says which keys were there instead; `doubt` is a
           sentence about an answer without rows that looks wrong.
    """

    rows: list[dict[str, Any]]
    judged: bool
    absent: frozenset[str]
    keys: str
    turn: Turn
    doubt: str = ""


def read_page(body: bytes, content_type: str, link: str, url: str, plan: Plan, *, max_rows: int) -> Page:
    """The page an answer holds.

    Errors: UpstreamInvalid when the answer is not what the dataset is configured to read; AnswerTooLarge for more
            rows than this, before anything is made of them.
    """
    what = f"{plan.name}: {plan.method} {url.partition('?')[0]}"
    try:
        document = decode(body, content_type, plan.format, what=what)
        found = _rows(document.value, plan, what)
        if len(found) > max_rows:
            raise too_many(plan, max_rows)
        turn = Turn(
            rows=len(found),
            body=body,
            url=url,
            link=next_link(link) if link else None,
            cursor=plan.next.of(document.value) if plan.next else None,
            total=_total(plan, document.value),
        )
        return _page(found, document, plan, turn)
    except RecursionError as error:
        raise UpstreamInvalid(f"{what} answered with data that is nested too deeply") from error


def too_many(plan: Plan, max_rows: int) -> AnswerTooLarge:
    """The error for more rows than an answer may have."""
    return AnswerTooLarge(
        f"{plan.name} has more than {max_rows} rows for this question",
        remedy="narrow the time range or the filters, or push them down with `params`",
    )


def _rows(value: Any, plan: Plan, what: str) -> list[Any]:
    """The array of rows; a single object is one row, null is none."""
    found = plan.rows.of(value)
    if found is None:
        return []
    if isinstance(found, dict):
        return [found]
    if isinstance(found, list):
        return [row for row in found if row is not None]
    raise UpstreamInvalid(
        f"{what}: `rows` ({plan.rows.text}) gives a {type(found).__name__}, not an array of rows",
        remedy="let `rows` select the array that holds the rows",
    )


def _total(plan: Plan, value: Any) -> int | None:
    total = plan.total.of(value) if plan.total else None
    if isinstance(total, str) and total.isascii() and total.isdigit() and len(total) < 20:
        return int(total)
    return total if isinstance(total, int) and not isinstance(total, bool) else None


def _page(found: list[Any], document: Document, plan: Plan, turn: Turn) -> Page:
    values: list[list[Any]] = []
    absent: list[str] = []
    for column, selector in plan.columns:
        texts, seen = selector.column(found)
        values.append(texts)
        if document.header is not None and not seen and (not found or plan.rows.steps == ()):
            # A CSV names its columns even when it has no rows, or none that is long enough.
            seen = not selector.roots or not selector.roots.isdisjoint(document.header)
        if not seen:
            absent.append(column.name)
    names = [column.name for column, _ in plan.columns]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
    keys = keys_seen(found) if found else keys_seen([dict.fromkeys(document.header or ())])
    judged = bool(found) or document.header is not None
    return Page(rows, judged, frozenset(absent), keys, turn, _doubt(found, document, plan))


def _doubt(found: list[Any], document: Document, plan: Plan) -> str:
    """An object that lacks the key of the rows is more likely another answer than an empty one."""
    value = document.value
    if found or not isinstance(value, dict) or not plan.rows.roots or not plan.rows.roots.isdisjoint(value):
        return ""
    return f"no rows: the answer has nothing at `{plan.rows.text}`; {keys_seen([value], most=MAX_SHOWN_KEYS)}"
