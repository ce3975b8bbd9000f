"""Which of the forms of a page of metrics an answer has."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

from bridge.edge.faults import printable
from bridge.edge.upstream import Answer
from bridge.errors import UpstreamInvalid
from bridge.sources.builtin.exposition.grammar import looks_like_metrics

_OPEN = "application/openmetrics-text"
_TEXT = "text/plain"
# Quality values as Prometheus sends them: OpenMetrics has exemplars and units, so it comes first.
ACCEPT = {
    "auto": f"{_OPEN};version=1.0.0,{_OPEN};version=0.0.1;q=0.75,{_TEXT};version=0.0.4;q=0.5,*/*;q=0.1",
    "openmetrics": f"{_OPEN};version=1.0.0,{_OPEN};version=0.0.1;q=0.75,*/*;q=0.1",
    "text": f"{_TEXT};version=0.0.4,*/*;q=0.1",
}
_TITLE = re.compile(r"<title[^>]{0,200}>(.{0,2000}?)</title", re.I | re.S)
_VERSION = re.compile(r"version\s*=\s*\"?([0-9A-Za-z.]{1,20})", re.I)
_SNIFF_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Form:
    """The format of a page; `version` is empty where the answer does not tell."""

    is_open: bool
    version: str = ""

    @property
    def text(self) -> str:
        """What the far side calls it, for example `openmetrics 1.0.0`."""
        return f"{'openmetrics' if self.is_open else 'text'} {self.version}".strip()


def form_of(answer: Answer, what: str) -> Form:
    """The form the answer says it has; without a word of it, the text format when the page looks like it.

    Errors: UpstreamInvalid for HTML, for other types, and for a page without a type that is none of metrics.
    Source: Prometheus 2 read everything that did not say OpenMetrics as text.
    """
    said = answer.headers.get("content-type", "")
    media, _, rest = said.partition(";")
    media = media.strip().lower()
    found = _VERSION.search(rest)
    version = found[1] if found else ""
    head = answer.body[:_SNIFF_BYTES].lstrip()
    if head.startswith(b"<"):
        raise _markup(head, what)
    if media == _OPEN:
        return Form(is_open=True, version=version)
    if media == _TEXT or looks_like_metrics(head):
        return Form(is_open=False, version=version)
    kind = f"`{printable(said[:80])}`" if said else "something without a content type"
    raise UpstreamInvalid(
        f"{what} answered with {kind}, which is no page of metrics",
        remedy="check `url` and `path`: a page of metrics is text/plain or application/openmetrics-text",
    )


def _markup(head: bytes, what: str) -> UpstreamInvalid:
    title = _TITLE.search(head.decode("utf-8", "replace"))
    named = f" (title “{printable(' '.join(html.unescape(title[1]).split()))[:80]}”)" if title else ""
    return UpstreamInvalid(
        f"{what} answered with an HTML page{named} instead of metrics",
        remedy="check `url`, `path` and `auth`: a login page or a proxy may stand in front of the metrics",
    )
