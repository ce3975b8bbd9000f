"""Metrics in the Prometheus or OpenMetrics text format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bridge.sources.infer.stanza import DatasetGuess, SourceGuess

_TYPES = re.compile(r"application/openmetrics-text|text/plain\s*;.*version=(0\.0\.4|1\.0\.0)", re.I)
_COMMENT = re.compile(r"# (HELP|TYPE|UNIT) \S+|# EOF")
_SAMPLE = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*(\{[^\n]*\})? +[-+]?(\d[\d.eE+-]*|Inf|NaN|\.\d+)( +\S+.*)?")
_LOOKED_BYTES = 65_536


def is_exposition(body: bytes, content_type: str) -> bool:
    """Whether an answer is the text that Prometheus scrapes, by its type or by its look."""
    lines = body[:_LOOKED_BYTES].decode("utf-8", "replace").splitlines()
    # The last line may be cut.
    lines = [line.strip() for line in (lines if len(body) <= _LOOKED_BYTES else lines[:-1])]
    there = [line for line in lines if line and not (line.startswith("#") and not _COMMENT.match(line))]
    if not there:
        return False
    good = sum(bool(_COMMENT.match(line) or _SAMPLE.fullmatch(line)) for line in there)
    typed = bool(_TYPES.match(content_type.strip()))
    marked = any(line.startswith("# TYPE ") for line in there)
    return good == len(there) and (marked or typed)


def metrics_source(options: Mapping[str, Any], name: str, path: str, body: bytes) -> SourceGuess:
    """The source of these metrics."""
    own = path or "/"
    datasets = [
        DatasetGuess("samples", {"kind": "samples", "path": own}, description="Every sample with its labels."),
        DatasetGuess("families", {"kind": "families", "path": own}, description="Names, types and help texts."),
    ]
    if re.search(rb"^# TYPE \S+ histogram\s*$", body, re.M):
        said = "Quantiles and means of the histograms."
        datasets.append(DatasetGuess("histogram", {"kind": "histogram", "path": own}, description=said))
    count = len(re.findall(rb"^# TYPE ", body, re.M))
    notes = (f"metrics at {own}: {count} families; narrow them with `metrics: [GLOB]`",)
    return SourceGuess(name, "exposition", options, tuple(datasets), notes)
