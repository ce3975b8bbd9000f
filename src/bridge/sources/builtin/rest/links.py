"""The Link header, and the next page it names."""

from __future__ import annotations

import re
from collections.abc import Iterator

# RFC 8288, 3: `<target>` followed by parameters whose values are tokens or quoted strings.
_LINK = re.compile(
    r"""[\s,]*<(?P<target>[^<>]*)>(?P<params>(?:\s*;\s*[^\s=;,"<>]+\s*(?:=\s*(?:"(?:[^"\\]|\\.)*"|[^\s;,"]*))?)*)"""
)
_PARAM = re.compile(
    r""";\s*(?P<name>[^\s=;,"<>]+)\s*(?:=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<token>[^\s;,"]*)))?"""
)


def next_link(header: str) -> str | None:
    """Target of the first link whose relation is `next`.

    Source: RFC 8288, 3.3: only the first `rel` of a link counts, and it may hold several relations.
    """
    return next((target for target, rel in _links(header) if "next" in rel.lower().split()), None)


def _links(header: str) -> Iterator[tuple[str, str]]:
    position = 0
    while match := _LINK.match(header, position):
        position = match.end()
        rels = (
            re.sub(r"\\(.)", r"\1", param["quoted"]) if param["quoted"] is not None else param["token"] or ""
            for param in _PARAM.finditer(match["params"])
            if param["name"].lower() == "rel"
        )
        yield match["target"].strip(), next(rels, "")
