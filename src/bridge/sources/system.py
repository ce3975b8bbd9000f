"""The datasets that tell how the others are doing: `_status`, `_findings`, `_lineage` and `_lineage_edges`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, Protocol

import polars as pl

from bridge.edge.cache import Cache
from bridge.edge.meters import DatasetStatus, Meters
from bridge.errors import BadQuery, BridgeError
from bridge.model.frame import DTYPES, Frame, Held
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Param, Role, Schema, Shape
from bridge.sources.base import DatasetSpec, DataSource, NoOptions, Tools
from bridge.sources.keeper import Keeper, Kit
from bridge.sources.lineage_graph import EDGE_COLUMNS, NODE_COLUMNS, edge_rows, node_rows
from bridge.sources.quality.ledger import rows
from bridge.sources.registry import DatasetEntry, Freshness, Registry

SOURCE = "_bridge"
REFRESH_S = 1.0
# What is held of them is small and short-lived; it takes nothing from what the answers of sources are kept in.
CACHE_BYTES = 16 * 1024 * 1024

Row = dict[str, Any]


class Watched(Protocol):
    """What the system datasets tell of: asked anew for every answer."""

    registry: Registry

    @property
    def keepers(self) -> Mapping[str, Keeper]:
        """The keepers of all datasets whose source runs, by name."""
        ...

    def statuses(self) -> list[DatasetStatus]:
        """How every dataset is doing, those of sources that could not start included."""
        ...


def _dimension(name: str, description: str = "") -> Column:
    return Column(name, ColumnType.STRING, role=Role.DIMENSION, description=description)


def _measure(name: str, unit: str | None = None, description: str = "") -> Column:
    return Column(name, ColumnType.NUMBER, unit=unit, role=Role.MEASURE, description=description)


# None of the times is the dataset's own: the state is that of now, whatever time range a panel shows.
STATUS_COLUMNS = (
    _dimension("dataset"),
    _dimension("source"),
    _dimension("kind", "of the source"),
    _dimension("state", "ok, down, needs_auth, failed, unknown, held_back or schema_changed"),
    Column("stale", ColumnType.BOOLEAN, description="whether the last good answer is served in place of a new one"),
    Column("last_success", ColumnType.TIME, description="of the last good fetch"),
    _measure("age_s", "s", "since the last good fetch"),
    Column("error", ColumnType.STRING, description="of the last fetch, where it failed"),
    Column("remedy", ColumnType.STRING, description="what can be done about it"),
    _dimension("breaker", "closed, half_open or open"),
    _measure("findings_info", description="findings that stand, by level"),
    _measure("findings_warn"),
    _measure("findings_block"),
    _measure("rows", description="of the last good fetch"),
    _measure("latency_p50_s", "s", "of the last 256 fetches"),
    _measure("latency_p95_s", "s"),
    _measure("latency_p99_s", "s"),
    _measure("schema_version"),
    _measure("history_rows", description="kept of its past"),
    _measure("history_bytes", "bytes"),
    _measure("history_pending_rows", description="recorded, and not in the table yet"),
    Column("history_error", ColumnType.STRING, description="why nothing is recorded"),
    Column("history_last", ColumnType.TIME, description="of the last sample"),
)
# No measure: drawn over time, a finding would be a dot that says nothing.
FINDING_COLUMNS = (
    Column("time", ColumnType.TIME, role=Role.TIME, description="when it was found last"),
    _dimension("dataset"),
    _dimension("source"),
    _dimension("check"),
    _dimension("column"),
    _dimension("level", "info, warn or block"),
    Column("text", ColumnType.STRING),
    Column("rows", ColumnType.NUMBER, description="how many rows it concerns"),
    Column("value", ColumnType.NUMBER, description="what was measured"),
    Column("first_seen", ColumnType.TIME),
    Column("times", ColumnType.NUMBER, description="how often it was found"),
    Column("active", ColumnType.BOOLEAN, description="whether the last fetch showed it"),
)
_OF_ONE = (Param("dataset", description="only what these are made of, and what is made of them", multi=True),)


def status_rows(watched: Watched) -> Iterator[Row]:
    """A row per dataset, in the order of the settings."""
    found = {status.dataset: status for status in watched.statuses()}
    keepers = watched.keepers
    for source, entry in watched.registry.entries.items():
        for config in entry.config.datasets:
            name = f"{source}.{config.name}"
            keeper = keepers.get(name)
            schema = keeper.schema if keeper else None
            status = found.get(name) or DatasetStatus(name, "unknown")
            yield {
                **{column.name: getattr(status, column.name, None) for column in STATUS_COLUMNS},
                "source": source,
                "kind": entry.config.kind,
                "last_success": _instant(status.last_success),
                "history_last": _instant(status.history_last),
                "schema_version": schema.version if schema else None,
            }


def _instant(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def finding_rows(watched: Watched) -> Iterator[Row]:
    """A row per finding that is remembered of any dataset."""
    for name, keeper in watched.keepers.items():
        yield from rows(name, keeper.ledger)


def _named(registry: Registry, query: Query) -> set[str] | None:
    """The full names of the sources and datasets that the query names, also of those that do not run.

    Errors: BadQuery.
    """
    configured = {f"{key}.{item.name}" for key, entry in registry.entries.items() for item in entry.config.datasets}
    known = configured | registry.entries.keys()
    try:
        return {name if name in known else registry.resolve(name).name for name in query.param("dataset")} or None
    except BridgeError as error:
        # The question is wrong, not this dataset down.
        raise BadQuery(error.message, remedy=error.remedy) from error


def node_rows_of(watched: Watched, query: Query) -> Iterable[Row]:
    """Sources, steps and datasets as nodes."""
    statuses = {status.dataset: status for status in watched.statuses()}
    schemas = {name: keeper.schema for name, keeper in watched.keepers.items()}
    return node_rows(watched.registry, statuses, schemas, _named(watched.registry, query))


def edge_rows_of(watched: Watched, query: Query) -> Iterable[Row]:
    """What each of them is made of."""
    return edge_rows(watched.registry, _named(watched.registry, query))


@dataclass(frozen=True, slots=True)
class _Table:
    """One system dataset: what it publishes, and where its rows come from."""

    description: str
    columns: tuple[Column, ...]
    rows: Callable[[Watched, Query], Iterable[Row]]
    shape: Shape = Shape.TABLE
    params: tuple[Param, ...] = ()


_TABLES: Mapping[str, _Table] = {
    "_status": _Table("How every dataset is doing now.", STATUS_COLUMNS, lambda watched, _: status_rows(watched)),
    # Also drawn as log lines and annotations, by the panel that asks.
    "_findings": _Table(
        "What the quality checks found.", FINDING_COLUMNS, lambda watched, _: finding_rows(watched), Shape.AUTO
    ),
    "_lineage": _Table(
        "Where data comes from: the nodes of the graph.", NODE_COLUMNS, node_rows_of, Shape.NODES, _OF_ONE
    ),
    "_lineage_edges": _Table(
        "Where data comes from: the edges of the graph.", EDGE_COLUMNS, edge_rows_of, Shape.EDGES, _OF_ONE
    ),
}


class SystemSource(DataSource):
    """How the datasets of bridge are doing, what is wrong with their data, and where it comes from."""

    kind = "system"
    default_refresh_s = REFRESH_S

    def __init__(self, watched: Watched, tools: Tools) -> None:
        specs = {
            name: DatasetSpec(name, NoOptions(), table.columns, table.params, table.shape, table.description)
            for name, table in _TABLES.items()
        }
        super().__init__(SOURCE, NoOptions(), specs, tools)
        self._watched = watched

    async def collect(self, query: Query) -> Frame:
        """The rows as of now.

        Errors: BadQuery when the parameter names no dataset.
        """
        table = _TABLES[query.table]
        told = list(table.rows(self._watched, query))
        schema = {column.name: DTYPES[column.type] for column in table.columns}
        return Frame(pl.DataFrame(told, schema=schema, orient="row"), Schema(table.columns), query.dataset)


def system_keepers(watched: Watched, kit: Kit) -> dict[str, Keeper]:
    """The system datasets by name, kept apart from those of the settings: in a cache and with counts of their own."""
    source = SystemSource(watched, Tools(_nowhere, kit.clock, Path(), kit.limits))
    cache = Cache.in_memory(max_bytes=CACHE_BYTES, size_of=_size_of, clock=kit.clock)
    own = replace(kit, cache=cache, meters=Meters())
    freshness = Freshness(REFRESH_S, None, 0.0, 0)
    return {name: Keeper(DatasetEntry(name, source, spec, freshness), own) for name, spec in source.datasets.items()}


def _size_of(held: Held) -> int:
    return int(held.frame.data.estimated_size())


def _nowhere(url: str, *, allow_private: bool = False, headers: Mapping[str, str] | None = None) -> NoReturn:
    raise ValueError("the system datasets ask nobody outside")
