"""The dashboard of how all datasets are doing: their state, what is wrong with them, where they come from."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace

from bridge.model.schema import Role, Schema
from bridge.provision import queries
from bridge.provision.catalogue import Catalogue, Dataset
from bridge.provision.dashboard import begun, place, written
from bridge.provision.panels import HEIGHT, WIDE, Tile, filled, table_panel
from bridge.provision.states import LOOKS

with warnings.catch_warnings():
    # The newer builders write a format that Grafana does not read from files yet.
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import barchart, nodegraph
    from grafana_foundation_sdk.builders import common as builders
    from grafana_foundation_sdk.models import common

STATUS, FINDINGS, NODES, EDGES = "_status", "_findings", "_lineage", "_lineage_edges"
# What the user chooses by; the other dimensions would be as many variables again.
_PICKED = ("source", "dataset")
_LATENCY = ("dataset", "latency_p95_s")


def status_json(system: Mapping[str, Dataset], *, uid: str, title: str, datasource_uid: str) -> str:
    """The dashboard over the datasets that tell of the others; the same datasets give the same text."""
    catalogue = Catalogue((_picked(system[STATUS]), _picked(system[FINDINGS])))
    out = begun(catalogue, uid=uid, title=title, datasource_uid=datasource_uid, about="How the datasets are doing.")
    place(out, {"": _tiles(catalogue, system)})
    return written(out)


def _picked(dataset: Dataset) -> Dataset:
    columns = dataset.schema.columns
    shown = (c if c.role is not Role.DIMENSION or c.name in _PICKED else replace(c, role=None) for c in columns)
    return replace(dataset, schema=Schema(tuple(shown), dataset.schema.version))


def _tiles(catalogue: Catalogue, system: Mapping[str, Dataset]) -> Iterator[Tile]:
    status, findings = catalogue.datasets
    yield _table("Datasets", catalogue, status, 10)
    yield _table("Findings", catalogue, findings, HEIGHT)
    yield _latency(catalogue, status)
    yield _lineage(catalogue, system[NODES], system[EDGES])


def _table(title: str, catalogue: Catalogue, dataset: Dataset, height: int) -> Tile:
    panel = table_panel(dataset, dataset.schema.columns, LOOKS)
    filled(panel, title, dataset.description, queries.plain_model(catalogue, dataset))
    return Tile(f"{dataset.name}|table", panel, WIDE, height)


def _latency(catalogue: Catalogue, status: Dataset) -> Tile:
    """A bar per dataset that was fetched."""
    panel = barchart.Panel().orientation(common.VizOrientation.HORIZONTAL).x_field("dataset").unit("s").min(0)
    panel.legend(builders.VizLegendOptions().show_legend(False)).show_value(common.VisibilityMode.AUTO)
    model = queries.plain_model(catalogue, status)
    model = {**model, "columns": [column for column in model["columns"] if column["text"] in _LATENCY]}
    text = "Of the last 256 fetches of each dataset, 95 % took no longer."
    filled(panel, "Fetch time, 95th percentile", text, _with(model, "columns", ",".join(_LATENCY)))
    return Tile(f"{status.name}|latency", panel, WIDE)


def _lineage(catalogue: Catalogue, nodes: Dataset, edges: Dataset) -> Tile:
    """Where the chosen datasets come from; of all of them where none is chosen."""
    panel = nodegraph.Panel()
    halves = (
        queries.shaped_model(catalogue, nodes, ref_id="nodes"),
        queries.shaped_model(catalogue, edges, ref_id="edges"),
    )
    filled(panel, "Lineage", nodes.description, *(_of_the_chosen(model, catalogue) for model in halves))
    return Tile("lineage|graph", panel, WIDE, 2 * HEIGHT)


def _of_the_chosen(model: queries.Model, catalogue: Catalogue) -> queries.Model:
    name = next(variable.name for variable in catalogue.variables if variable.word == "dataset")
    return _with(model, "dataset", f"${{{name}:json}}")


def _with(model: queries.Model, key: str, value: str) -> queries.Model:
    """The model with one more parameter."""
    options = model["url_options"]
    params = [*options["params"], {"key": key, "value": value}]
    return {**model, "url_options": {**options, "params": sorted(params, key=lambda item: item["key"])}}
