"""A page of metrics line by line: which samples are wanted, and what is said of their families."""

from __future__ import annotations

import fnmatch
import io
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from bridge.errors import SourceError, UpstreamInvalid, UpstreamTooLarge
from bridge.sources.builtin.exposition.form import Form
from bridge.sources.builtin.exposition.grammar import Parts, name_of, parts_of, said_of

# Prometheus has no bound of its own; a longer line is one of thousands of labels, or no line at all.
MAX_LINE_BYTES = 32_768
MAX_FAMILIES = 100_000
MAX_SHOWN_CHARS = 120
_COUNTERS = ("counter",)
_HISTOGRAMS = ("histogram", "gaugehistogram")
# Which suffixes belong to the family of their stem, by its type.
_SUFFIXES = {
    "_total": _COUNTERS,
    "_created": ("counter", "histogram", "summary"),
    "_bucket": _HISTOGRAMS,
    "_sum": ("histogram", "summary"),
    "_count": ("histogram", "summary"),
    "_gsum": ("gaugehistogram",),
    "_gcount": ("gaugehistogram",),
    "_info": ("info",),
}
_BY_STEM = ("_bucket", "_sum", "_count")


@dataclass(slots=True)
class Family:
    """What a page says of one family of metrics, and how many samples it has there."""

    name: str
    type: str = "unknown"
    unit: str = ""
    help: str = ""
    samples: int = 0
    declared: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One wanted sample, before its terms are read."""

    number: int
    name: str
    family: Family
    parts: Parts


@dataclass(slots=True)
class Scan:
    """The wanted part of a page."""

    lines: list[Line] = field(default_factory=list)
    families: list[Family] = field(default_factory=list)
    unmatched: tuple[str, ...] = ()


class Chosen:
    """The globs of a dataset, and which of them nothing has matched yet."""

    def __init__(self, globs: Iterable[str]) -> None:
        self._globs = {glob: re.compile(fnmatch.translate(glob)) for glob in globs}
        self._open = set(self._globs)

    def match(self, *names: str) -> bool:
        """Whether any of the names is wanted."""
        if not self._globs:
            return True
        hits = [glob for glob, pattern in self._globs.items() if any(map(pattern.match, names))]
        self._open.difference_update(hits)
        return bool(hits)

    @property
    def unmatched(self) -> tuple[str, ...]:
        """Globs that no name has matched."""
        return tuple(glob for glob in self._globs if glob in self._open)

    def names_created(self) -> bool:
        """Whether the moments at which series began are asked for in so many words."""
        return any(glob.endswith("_created") for glob in self._globs)


class Scanner:
    """Goes through one page."""

    def __init__(
        self, form: Form, globs: Iterable[str], *, max_samples: int, by_stem: bool, keep: bool, what: str
    ) -> None:
        self._form = form
        self._chosen = Chosen(globs)
        self._max_samples = max_samples
        self._by_stem = by_stem
        self._keep = keep
        self._what = what
        self._families: dict[str, Family] = {}
        self._ended = False
        self._last: tuple[str, Family | None] = ("", None)
        self._scan = Scan()

    def scan(self, body: bytes, stop: threading.Event) -> Scan:
        """The wanted lines of the page; the others are passed over by their name alone.

        Errors: UpstreamInvalid for a page that is not whole, with the number and text of the line; UpstreamTooLarge
                for one with more wanted samples than allowed; SourceError once `stop` is set.
        """
        for number, raw in enumerate(io.BytesIO(body), 1):
            if stop.is_set():
                raise SourceError("the reading was given up, as nobody waits for it any more")
            self._line(number, self._text(number, raw))
        if self._form.is_open and not self._ended:
            raise UpstreamInvalid(
                f"{self._what}: the OpenMetrics page has no `# EOF` at its end, so it may be cut short",
                remedy="see the far server's log, or set `format: text` for a server that never writes it",
            )
        chosen = self._chosen
        self._scan.families = [item for item in self._families.values() if item.samples or chosen.match(item.name)]
        self._scan.unmatched = chosen.unmatched
        return self._scan

    def _text(self, number: int, raw: bytes) -> str:
        if len(raw) > MAX_LINE_BYTES:
            reason = f"is longer than {MAX_LINE_BYTES} bytes"
            raise self._bad(number, raw[:MAX_SHOWN_CHARS].decode("utf-8", "replace"), reason)
        if b"\0" in raw:
            raise self._bad(number, raw.decode("utf-8", "replace"), "holds a NUL byte")
        try:
            return raw.decode().strip(" \t\r\n")
        except UnicodeDecodeError:
            raise self._bad(number, raw.decode("utf-8", "replace"), "is not UTF-8") from None

    def _bad(self, number: int, text: str, reason: str) -> UpstreamInvalid:
        return broken(self._what, number, text, reason)

    def _line(self, number: int, line: str) -> None:
        if self._ended:
            raise self._bad(number, line, "stands after `# EOF`")
        if line.startswith("#"):
            self._ended = self._form.is_open and line == "# EOF"
            if said := said_of(line, is_open=self._form.is_open):
                self._declare(said.word, said.name, said.rest)
        elif line:
            self._sample(number, line)
        elif self._form.is_open:
            raise self._bad(number, line, "is blank, which OpenMetrics does not allow")

    def _declare(self, word: str, name: str, rest: str) -> None:
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = Family(name)
            self._bound_families()
        self._last = ("", None)
        family.declared = True
        match word:
            case "TYPE" if family.type == "unknown":
                family.type = "unknown" if rest == "untyped" else rest[:MAX_SHOWN_CHARS]
            case "UNIT":
                family.unit = family.unit or rest[:MAX_SHOWN_CHARS]
            case "HELP":
                family.help = family.help or rest

    def _sample(self, number: int, line: str) -> None:
        name = name_of(line)
        if not name:
            raise self._bad(number, line, "begins with no metric's name")
        if name != self._last[0]:
            self._last = (name, self._wanted(name))
        family = self._last[1]
        if family is None:
            return
        family.samples += 1
        if not self._keep:
            return
        parts = parts_of(line, is_open=self._form.is_open)
        if parts is None:
            raise self._bad(number, line, "is no sample")
        self._scan.lines.append(Line(number, name, family, parts))
        if len(self._scan.lines) > self._max_samples:
            raise UpstreamTooLarge(
                f"{self._what}: the page has more than {self._max_samples:,} samples that are wanted",
                remedy="choose fewer with `metrics`, or raise `max_samples`",
            )

    def _wanted(self, name: str) -> Family | None:
        """The family of a wanted sample."""
        family = self._family_of(name)
        if self._keep and self._is_created(name) and not self._chosen.names_created():
            return None
        names = [name, family.name if family else name]
        if self._by_stem and family is None:
            names += [name.removesuffix(suffix) for suffix in _BY_STEM if name.endswith(suffix)]
        if not self._chosen.match(*names):
            return None
        if family is None:
            family = self._families[name] = Family(name)
            self._bound_families()
        return family

    def _family_of(self, name: str) -> Family | None:
        if found := self._families.get(name):
            return found
        for suffix, types in _SUFFIXES.items():
            if name.endswith(suffix):
                stem = self._families.get(name[: -len(suffix)])
                if stem is not None and stem.type in types:
                    return stem
        return None

    def _is_created(self, name: str) -> bool:
        """Whether it tells when another series began; in the text format such are gauges of their own."""
        if not name.endswith("_created"):
            return False
        stem = name.removesuffix("_created")
        found = (self._families.get(stem), self._families.get(f"{stem}_total"))
        return any(item is not None and item.type in _SUFFIXES["_created"] for item in found)

    def _bound_families(self) -> None:
        if len(self._families) > MAX_FAMILIES:
            raise UpstreamTooLarge(
                f"{self._what}: the page has more than {MAX_FAMILIES:,} families of metrics",
                remedy="let the container show less, or take the values apart by labels and not by names",
            )


def broken(what: str, number: int, line: str, reason: str) -> UpstreamInvalid:
    """The error for a line that cannot be read: nothing of its page is used, as Prometheus has it."""
    shown = line.strip()[:MAX_SHOWN_CHARS]
    return UpstreamInvalid(
        f"{what}: line {number} {reason}: {shown!r}; nothing of the page is used",
        remedy="correct what writes the page; `promtool check metrics` says the same of it",
    )
