"""The shape of a line of metrics, as Prometheus has it; the library that reads its terms takes more than that."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Possessive throughout: no line, whatever it holds, is gone through twice.
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*+"
_QUOTED = r'"(?:[^"\\]++|\\.)*+"'
_SET = rf"\{{(?:[^\"{{}}]++|{_QUOTED})*+\}}"
_NUMBER = r"[0-9A-Za-z.+-]++"
_GAP = r"[ \t]"
_SERIES = rf"(?P<name>{_NAME})?+{_GAP}*+(?P<labels>{_SET})?+"
_SECONDS = r"-?[0-9]++(?:\.[0-9]*+)?(?:[eE][+-]?[0-9]++)?"

# Units: milliseconds, and only whole ones.
_TEXT_LINE = re.compile(rf"{_SERIES}{_GAP}*+(?P<value>{_NUMBER})(?:{_GAP}++(?P<at>-?[0-9]++))?")
# Units: seconds.
_OPEN_LINE = re.compile(
    rf"{_SERIES}{_GAP}*+(?P<value>{_NUMBER})(?:{_GAP}++(?P<at>{_SECONDS}))?"
    rf"(?:{_GAP}++\#{_GAP}++(?P<exemplar>{_SET}){_GAP}++(?P<exemplar_value>{_NUMBER})"
    rf"(?:{_GAP}++(?P<exemplar_at>{_SECONDS}))?)?"
)
_NATIVE_LINE = re.compile(rf"(?P<name>{_NAME})?+(?P<labels>{_SET})?+{_GAP}++(?P<native>\{{count:[^{{}}\"]*+\}})")
_META = re.compile(
    rf"\#{_GAP}++(?P<word>HELP|TYPE|UNIT){_GAP}++(?:(?P<name>{_NAME})|(?P<quoted>{_QUOTED}))(?:{_GAP}++(?P<rest>.*))?",
    re.S,
)
_HEAD = re.compile(rf"(?P<name>{_NAME})|\{{{_GAP}*+(?P<quoted>{_QUOTED}){_GAP}*+(?:,|(?=\}}))")
_TEXT_ESCAPE = re.compile(r'\\([\\n"])')
_HELP_ESCAPE = re.compile(r"\\([\\n])")


@dataclass(frozen=True, slots=True)
class Parts:
    """A sample's line cut into its terms.

    Shape: `labels` and `exemplar` are sets in braces or empty, without the metric's name; `value` has the timestamp
           with it, as does `exemplar`; `native` is the value of a native histogram, which has no `value`.
    """

    labels: str
    value: str
    exemplar: str = ""
    native: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """A line of HELP, TYPE or UNIT."""

    word: str
    name: str
    rest: str


def name_of(line: str) -> str | None:
    """The metric a sample's line is of, and no more of it; None when it begins with none."""
    head = _HEAD.match(line)
    if head is None:
        return None
    return head["name"] or _plain(head["quoted"])


def parts_of(line: str, *, is_open: bool) -> Parts | None:
    """The terms of a sample's line; None for a line that has not the shape of one."""
    match = (_OPEN_LINE if is_open else _TEXT_LINE).fullmatch(line)
    if match is None:
        native = _NATIVE_LINE.fullmatch(line) if is_open else None
        return Parts(_labels(native), "", native=native["native"]) if native else None
    value = f"{match['value']} {match['at']}" if match["at"] else match["value"]
    exemplar = ""
    if is_open and match["exemplar"]:
        exemplar = f"{match['exemplar']} {match['exemplar_value']}"
        exemplar += f" {match['exemplar_at']}" if match["exemplar_at"] else ""
    return Parts(_labels(match), value, exemplar)


def said_of(line: str, *, is_open: bool) -> Said | None:
    """What a line that begins with `#` says of a family; None for a mere comment."""
    match = _META.fullmatch(line)
    if match is None:
        return None
    rest = match["rest"] or ""
    if match["word"] == "HELP":
        rest = (_TEXT_ESCAPE if is_open else _HELP_ESCAPE).sub(_unescaped, rest)
    return Said(match["word"], match["name"] or _plain(match["quoted"]), rest.strip(" \t"))


def looks_like_metrics(head: bytes) -> bool:
    """Whether the first line of a page that is no mere comment is one of metrics; a page without any is one."""
    for raw in head.splitlines():
        line = raw.decode("utf-8", "replace").strip()
        if line == "# EOF" or (line.startswith("#") and said_of(line, is_open=False)):
            return True
        if line and not line.startswith("#"):
            return name_of(line) is not None and parts_of(line, is_open=False) is not None
    return not head.strip()


def _labels(match: re.Match[str]) -> str:
    labels = match["labels"] or ""
    if match["name"] is None and (head := _HEAD.match(labels)):
        return "{" + labels[head.end() :]
    return labels


def _plain(quoted: str) -> str:
    return _TEXT_ESCAPE.sub(_unescaped, quoted[1:-1])


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]
