"""Where data comes from, as a graph: far systems and datasets are nodes, what one reads of another is an edge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.edge.meters import DatasetStatus
from bridge.model.schema import Column, ColumnType, Schema
from bridge.sources.registry import DatasetConfig, Registry, SourceEntry
from bridge.sources.transform.words import words

Row = dict[str, Any]

# Fractions of a circle; Grafana wants their sum to be 1.
_ARCS = ("ok", "stale", "failed", "unknown")
_DASHES = "6 4"


def _text(name: str, description: str = "") -> Column:
    return Column(name, ColumnType.STRING, description=description)


NODE_COLUMNS = (
    _text("id", "`source` or `source.dataset`"),
    _text("title"),
    _text("subtitle", "the source's kind, the dataset's source"),
    _text("mainstat", "rows of the last good fetch, datasets of a source"),
    _text("secondarystat", "the state; stale where the last good answer is served"),
    *(Column(f"arc__{arc}", ColumnType.NUMBER, description=f"share that is {arc}") for arc in _ARCS),
    _text("detail__kind", "source or dataset"),
    _text("detail__adapter", "kind and version of the plug-in"),
    _text("detail__far_version", "of the far system, where it tells"),
    _text("detail__schema", "version and fingerprint of the columns"),
    _text("detail__fetched", "when it was fetched last"),
    _text("detail__steps"),
    _text("detail__checks"),
    _text("detail__error", "of the last fetch, where it failed"),
)
EDGE_COLUMNS = (
    _text("id"),
    _text("source"),
    _text("target"),
    _text("mainstat", "reads, joins, unites or checks"),
    _text("detail__kind", "reads, joins, unites or checks"),
    Column("strokeDasharray", ColumnType.STRING, description="dashes of an edge that brings no rows"),
)


@dataclass(frozen=True, slots=True)
class _Edge:
    source: str
    target: str
    kind: str

    @property
    def id(self) -> str:
        return f"{self.source}→{self.target} {self.kind}"


def node_rows(
    registry: Registry,
    statuses: Mapping[str, DatasetStatus],
    schemas: Mapping[str, Schema | None],
    only: Collection[str] | None = None,
) -> list[Row]:
    """A row per source and dataset, those that do not run included, in the order of the settings.

    Shape: the columns of NODE_COLUMNS; `only` names datasets and leaves them, what they are made of, and what is made
           of them.
    """
    found: dict[str, Row] = {}
    for name, entry in _sources(registry):
        datasets = {f"{name}.{config.name}": config for config in entry.config.datasets}
        known = {each: statuses.get(each) or DatasetStatus(each, "unknown") for each in datasets}
        found[name] = _source_row(registry, name, entry, list(known.values()))
        for each, config in datasets.items():
            found[each] = _dataset_row(entry, config, known[each], schemas.get(each))
    edges = _edges(registry)
    for end in (end for edge in edges for end in (edge.source, edge.target)):
        # Grafana draws nothing at all when an edge leads to a node that is not there.
        found.setdefault(end, _row(end, title=end, secondarystat="unknown", **_arcs(["unknown"])))
    kept = _kin(edges, only) if only is not None else found.keys()
    return [row for each, row in found.items() if each in kept]


def edge_rows(registry: Registry, only: Collection[str] | None = None) -> list[Row]:
    """A row per thing that is read: of a source, of another dataset by a step, of a reference by a check.

    Shape: the columns of EDGE_COLUMNS; `only` as for `node_rows`, whose rows have all ends of these.
    """
    edges = _edges(registry)
    kept = _kin(edges, only) if only is not None else None
    return [
        {
            "id": edge.id,
            "source": edge.source,
            "target": edge.target,
            "mainstat": edge.kind,
            "detail__kind": edge.kind,
            "strokeDasharray": _DASHES if edge.kind == "checks" else None,
        }
        for edge in edges
        if kept is None or (edge.source in kept and edge.target in kept)
    ]


def _sources(registry: Registry) -> Iterator[tuple[str, SourceEntry]]:
    """The sources of the settings: those that tell of the others are no part of where data comes from."""
    return ((name, entry) for name, entry in registry.entries.items() if not name.startswith("_"))


def _edges(registry: Registry) -> list[_Edge]:
    """All edges, each once."""
    found: dict[_Edge, None] = {}
    for source, entry in _sources(registry):
        for config in entry.config.datasets:
            name = f"{source}.{config.name}"
            found[_Edge(source, name, "reads")] = None
            for step in config.steps:
                for other in step.others:
                    found[_Edge(other, name, "joins" if step.join is not None else "unites")] = None
            for other in (other for check in config.checks for other in check.others):
                found[_Edge(other, name, "checks")] = None
    return list(found)


def _kin(edges: Iterable[_Edge], only: Collection[str]) -> set[str]:
    """The nodes themselves, all that lead to them, and all they lead to."""
    edges = list(edges)
    up: dict[str, list[str]] = {}
    down: dict[str, list[str]] = {}
    for edge in edges:
        up.setdefault(edge.target, []).append(edge.source)
        down.setdefault(edge.source, []).append(edge.target)
    return _reached(up, only) | _reached(down, only)


def _reached(ways: Mapping[str, Iterable[str]], starts: Collection[str]) -> set[str]:
    found, ahead = set(starts), list(starts)
    while ahead:
        for name in ways.get(ahead.pop(), ()):
            if name not in found:
                found.add(name)
                ahead.append(name)
    return found


def _source_row(registry: Registry, name: str, entry: SourceEntry, statuses: list[DatasetStatus]) -> Row:
    shown = [_shown(status) for status in statuses]
    source = entry.source
    plugin = registry.plugins.get(entry.config.kind)
    cls = type(source) if source is not None else plugin.cls if plugin is not None else None
    count = len(statuses)
    return _row(
        name,
        title=name,
        subtitle=entry.config.kind,
        mainstat=f"{count} dataset{'' if count == 1 else 's'}",
        secondarystat="failed" if source is None else _summary(shown),
        detail__kind="source",
        detail__adapter=f"{entry.config.kind} {cls.version}" if cls is not None else entry.config.kind,
        detail__far_version=source.far_version if source is not None else None,
        detail__error=entry.error,
        **_arcs(["failed"] if source is None else [_arc(status) for status in statuses] or ["unknown"]),
    )


def _summary(states: list[str]) -> str:
    """The one state of all its datasets, or how many are in which."""
    counts = Counter(states)
    if len(counts) < 2:
        return next(iter(counts), "unknown")
    return ", ".join(f"{count} {state}" for state, count in counts.most_common())


def _dataset_row(entry: SourceEntry, config: DatasetConfig, status: DatasetStatus, schema: Schema | None) -> Row:
    source = entry.config.name
    version = entry.source.version if entry.source is not None else ""
    return _row(
        f"{source}.{config.name}",
        title=config.name,
        subtitle=source,
        mainstat=None if status.rows is None else f"{status.rows:,} row{'' if status.rows == 1 else 's'}",
        secondarystat=_shown(status),
        detail__kind="dataset",
        detail__adapter=f"{entry.config.kind} {version}".rstrip(),
        detail__schema=f"{schema.version} ({schema.fingerprint})" if schema is not None else None,
        detail__fetched=status.last_success,
        detail__steps="; ".join(map(words, config.steps)) or None,
        detail__checks=", ".join(dict.fromkeys(check.title for check in config.checks)) or None,
        detail__error=status.error,
        **_arcs([_arc(status)]),
    )


def _row(ident: str, **values: Any) -> Row:
    """A row with all columns, so that no reader has to guess at those left out."""
    return {column.name: values.get(column.name) for column in NODE_COLUMNS} | {"id": ident}


def _shown(status: DatasetStatus) -> str:
    return f"{status.state} (stale)" if _arc(status) == "stale" else status.state


def _arc(status: DatasetStatus) -> str:
    if status.state in ("ok", "unknown"):
        return status.state
    return "stale" if status.stale else "failed"


def _arcs(states: list[str]) -> dict[str, float]:
    return {f"arc__{arc}": states.count(arc) / len(states) for arc in _ARCS}
