"""The panels of a dashboard: what each dataset is drawn as."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, Self

from bridge.model.schema import Column, ColumnType, Shape
from bridge.provision import queries
from bridge.provision.catalogue import Catalogue, Dataset
from bridge.provision.infinity import drawn

with warnings.catch_warnings():
    # The newer builders write a format that Grafana does not read from files yet.
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import common as builders
    from grafana_foundation_sdk.builders import logs, nodegraph, table, timeseries
    from grafana_foundation_sdk.cog import builder as cog
    from grafana_foundation_sdk.cog import variants
    from grafana_foundation_sdk.models import common, dashboard

WIDE, HALF = 24, 12
HEIGHT = 8
# Lines of more measures than these are not told apart.
MAX_MEASURES = 12
# Points per series of which whole rows are shown.
ROWS_POINTS = 100
MAX_TITLE_CHARS = 80
NO_LOOKS: Mapping[str, Sequence[dashboard.DynamicConfigValue]] = MappingProxyType({})
_HALF_NAME = re.compile(r"_?(?:nodes?|edges?)$")


class Query(variants.Dataquery, cog.Builder["Query"]):
    """One query model as the panel builders take it."""

    def __init__(self, model: queries.Model) -> None:
        self.model = model

    def build(self) -> Query:
        """Itself."""
        return self

    def to_json(self) -> queries.Model:
        """The model as it is written."""
        return self.model


class Builder(Protocol):
    """What the builders of all kinds of panels have in common."""

    def build(self) -> dashboard.Panel:
        """The panel."""
        ...

    def title(self, title: str) -> Self:
        """Its first line."""
        ...

    def description(self, description: str) -> Self:
        """What its corner says."""
        ...

    def datasource(self, datasource: common.DataSourceRef) -> Self:
        """Where its queries go."""
        ...

    def with_target(self, target: cog.Builder[variants.Dataquery]) -> Self:
        """One more query."""
        ...

    def id(self, id_val: int) -> Self:
        """Its number in the dashboard."""
        ...

    def grid_pos(self, grid_pos: dashboard.GridPos) -> Self:
        """Where it stands."""
        ...


@dataclass(frozen=True, slots=True)
class Tile:
    """A panel that has no place yet.

    Shape: `key` is the same from one writing to the next, whatever stands beside the panel.
    Units: columns and rows of Grafana's grid.
    """

    key: str
    panel: Builder
    width: int = HALF
    height: int = HEIGHT


def reference() -> common.DataSourceRef:
    """The dashboard's datasource variable."""
    return common.DataSourceRef(type_val=queries.REFERENCE["type"], uid=queries.REFERENCE["uid"])


def tiles(catalogue: Catalogue, datasets: Sequence[Dataset]) -> Iterator[Tile]:
    """The panels of one source, in the order of its datasets."""
    edges_of = _pairs(datasets)
    paired = {dataset.name for dataset in edges_of.values()}
    for dataset in datasets:
        if dataset.is_series:
            yield from _series(catalogue, dataset)
        elif dataset.shape is Shape.LOGS:
            yield _logs(catalogue, dataset)
        elif dataset.name in edges_of:
            yield _graph(catalogue, dataset, edges_of[dataset.name])
        elif dataset.name not in paired:
            yield _table(catalogue, dataset)


def _series(catalogue: Catalogue, dataset: Dataset) -> Iterator[Tile]:
    """A panel per unit, as one axis has one; and the rows, where they hold what no line shows."""
    groups = _by_unit(dataset)
    for unit, number, measures in groups:
        title = dataset.table if len(groups) == 1 else _listed(dataset.table, measures)
        panel = _line_panel(unit)
        filled(panel, title, _described(dataset, measures), queries.series_model(catalogue, dataset, measures))
        yield Tile(f"{dataset.name}|lines|{unit or ''}|{number}", panel)
    if any(column.role is None for column in dataset.schema.columns):
        yield _rows(catalogue, dataset)


def _by_unit(dataset: Dataset) -> list[tuple[str | None, int, list[Column]]]:
    """Measures of one unit together, a panel's share at a time."""
    units: dict[str | None, list[Column]] = {}
    for column in filter(drawn, dataset.schema.columns):
        units.setdefault(column.unit, []).append(column)
    return [
        (unit, start // MAX_MEASURES, measures[start : start + MAX_MEASURES])
        for unit, measures in units.items()
        for start in range(0, len(measures), MAX_MEASURES)
    ]


def _line_panel(unit: str | None) -> timeseries.Panel:
    legend = builders.VizLegendOptions().show_legend(True).display_mode(common.LegendDisplayMode.LIST)
    tooltip = builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
    # Infinity puts all series on the times of all of them, so a line has a null wherever another has a point.
    panel = timeseries.Panel().span_nulls(span_nulls=True).show_points(common.VisibilityMode.AUTO)
    panel.legend(legend.placement(common.LegendPlacement.BOTTOM)).tooltip(tooltip)
    return panel.unit(unit) if unit else panel


def _rows(catalogue: Catalogue, dataset: Dataset) -> Tile:
    panel = table_panel(dataset, dataset.schema.columns).max_data_points(ROWS_POINTS)
    note = f"About {ROWS_POINTS} rows per series at most, those that show it best; a shorter time range shows more."
    text = "\n\n".join(filter(None, (dataset.description, note)))
    filled(panel, f"{dataset.table}: rows", text, queries.rows_model(catalogue, dataset))
    return Tile(f"{dataset.name}|rows", panel, WIDE)


def _table(catalogue: Catalogue, dataset: Dataset) -> Tile:
    """A table of what has no time or nothing to draw, of annotations, and of half a graph."""
    panel = table_panel(dataset, dataset.schema.columns)
    filled(panel, dataset.table, dataset.description, queries.plain_model(catalogue, dataset))
    return Tile(f"{dataset.name}|table", panel, WIDE)


def table_panel(
    dataset: Dataset,
    columns: Sequence[Column],
    looks: Mapping[str, Sequence[dashboard.DynamicConfigValue]] = NO_LOOKS,
) -> table.Panel:
    """Columns in the order given, each with its unit, its meaning and its looks; the newest row first."""
    order = {"excludeByName": {}, "indexByName": {c.name: i for i, c in enumerate(columns)}, "renameByName": {}}
    panel = table.Panel().with_transformation(dashboard.DataTransformerConfig(id_val="organize", options=order))
    for column in columns:
        if properties := [*_properties(column), *looks.get(column.name, ())]:
            panel.override_by_name(column.name, properties)
    if time := dataset.schema.time:
        panel.sort_by([builders.TableSortByFieldState().display_name(time.name).desc(True)])
    return panel.filterable(filterable=True)


def _properties(column: Column) -> list[dashboard.DynamicConfigValue]:
    """What Grafana is to know of a column that the answer itself does not say."""
    found: list[dashboard.DynamicConfigValue] = []
    if column.unit and column.type is ColumnType.NUMBER:
        found.append(dashboard.DynamicConfigValue(id_val="unit", value=column.unit))
    if column.description:
        found.append(dashboard.DynamicConfigValue(id_val="description", value=column.description))
    return found


def _logs(catalogue: Catalogue, dataset: Dataset) -> Tile:
    panel = logs.Panel().show_time(True).wrap_log_message(True).enable_log_details(True)
    panel.sort_order(common.LogsSortOrder.DESCENDING).dedup_strategy(common.LogsDedupStrategy.NONE)
    filled(panel, dataset.table, dataset.description, queries.shaped_model(catalogue, dataset))
    return Tile(f"{dataset.name}|logs", panel, WIDE)


def _graph(catalogue: Catalogue, nodes: Dataset, edges: Dataset) -> Tile:
    """Places and arrows in one panel, each by a query of its own."""
    panel = nodegraph.Panel()
    text = "\n\n".join(filter(None, (nodes.description, edges.description)))
    # Grafana's panel also tells them by these names.
    filled(
        panel,
        _stem(nodes) or nodes.source,
        text,
        queries.shaped_model(catalogue, nodes, ref_id="nodes"),
        queries.shaped_model(catalogue, edges, ref_id="edges"),
    )
    return Tile(f"{nodes.name}|graph", panel, WIDE, 2 * HEIGHT)


def _pairs(datasets: Sequence[Dataset]) -> dict[str, Dataset]:
    """The edges of each dataset of nodes: those of the same first part of the name, else the only ones left."""
    nodes = [dataset for dataset in datasets if dataset.shape is Shape.NODES]
    edges = [dataset for dataset in datasets if dataset.shape is Shape.EDGES]
    found: dict[str, Dataset] = {}
    for node in nodes:
        match = next((edge for edge in edges if _stem(edge) == _stem(node)), None)
        if match is not None:
            found[node.name] = match
            edges.remove(match)
    alone = [node for node in nodes if node.name not in found]
    if len(alone) == 1 and len(edges) == 1:
        found[alone[0].name] = edges[0]
    return found


def _stem(dataset: Dataset) -> str:
    return _HALF_NAME.sub("", dataset.table)


def filled(panel: Builder, title: str, description: str, *models: queries.Model) -> None:
    """Gives the panel its words and its queries."""
    panel.title(title).datasource(reference())
    if description:
        panel.description(description)
    for model in models:
        panel.with_target(Query(model))


def _listed(name: str, measures: Sequence[Column]) -> str:
    title = f"{name}: {', '.join(measure.name for measure in measures)}"
    return title if len(title) <= MAX_TITLE_CHARS else title[: MAX_TITLE_CHARS - 1] + "…"


def _described(dataset: Dataset, measures: Sequence[Column]) -> str:
    """What the dataset is, and what each line of the panel means."""
    lines = [f"- {m.name}: {m.description}" for m in measures if m.description]
    return "\n\n".join(filter(None, (dataset.description, "\n".join(lines))))
