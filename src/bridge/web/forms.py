"""Payload forms for Grafana's query builder, made from the datasets' schemas."""

from __future__ import annotations

from functools import partial
from typing import Any

from bridge.errors import BridgeError
from bridge.model.query import Agg, Query
from bridge.model.schema import Column, Role, Schema
from bridge.sources.ask import Desk
from bridge.sources.base import DatasetSpec
from bridge.web.grafana import query_of

AGGS = ("auto", *Agg)


async def metrics(desk: Desk) -> list[dict[str, Any]]:
    """Every dataset with the form of its payload."""
    # At the same time, as each that is not known yet may take its source's whole deadline.
    keepers = {**desk.keepers, **desk.system}
    schemas = await desk.together([partial(known, desk, name) for name in keepers], None)
    return [
        {"label": name, "value": name, "payloads": payloads(keeper.entry.spec, schema)}
        for (name, keeper), schema in zip(keepers.items(), schemas, strict=True)
    ]


async def known(desk: Desk, name: str) -> Schema | None:
    """The dataset's schema, None where it cannot be learnt now."""
    try:
        return await desk.schema(name)
    except BridgeError:
        return None


def payloads(spec: DatasetSpec, schema: Schema | None) -> list[dict[str, Any]]:
    """The payload form of one dataset: its parameters, a picker per dimension, then what applies to all."""
    form = [_param(param.name, param.description, param.options, multi=param.multi) for param in spec.params]
    if schema is None:
        return form
    measures = [column for column in schema.columns if column.role is Role.MEASURE]
    dimensions = [column for column in schema.columns if column.role is Role.DIMENSION]
    # No inline options: the plug-in then asks for them with the values chosen so far, which makes them cascade.
    form += [_field(column.name, column.name, "multi-select", column.description) for column in dimensions]
    if len(measures) > 1:
        form.append(_field("columns", "Measures", "multi-select", "all", [_option(column) for column in measures]))
    if schema.time and dimensions:
        none = {"label": "one line for all", "value": "none"}
        choices = [*map(_option, dimensions), none]
        form.append(_field("series", "Series by", "multi-select", "every dimension", choices))
    if schema.time and measures:
        choices = [{"label": name, "value": name} for name in AGGS]
        form.append(_field("agg", "Join points by", "select", "auto", choices))
    form.append(_field("filter", "Filter", "textarea", "one per line, e.g. accuracy>=0.9"))
    return form


def _field(
    name: str, label: str, kind: str, placeholder: str = "", options: list[dict[str, str]] | None = None
) -> dict[str, Any]:
    field: dict[str, Any] = {"name": name, "label": label, "type": kind, "placeholder": placeholder}
    if options is not None:
        field["options"] = options
    return field


def _param(name: str, description: str, options: tuple[str, ...], *, multi: bool) -> dict[str, Any]:
    if not options:
        return _field(name, name, "input", description)
    return _field(
        name, name, "multi-select" if multi else "select", description, [{"label": o, "value": o} for o in options]
    )


def _option(column: Column) -> dict[str, str]:
    label = f"{column.name} ({column.unit})" if column.unit else column.name
    return {"label": label, "value": column.name}


async def options(desk: Desk, metric: str, name: str, payload: dict[str, Any]) -> list[dict[str, str]]:
    """Choices of one payload field, narrowed by what the other fields already say.

    Errors: UnknownDataset; BadQuery for a field the dataset does not have.
    """
    keeper = desk.keeper(metric)
    spec, schema = keeper.entry.spec, await desk.schema(metric)
    field = next((item for item in payloads(spec, schema) if item["name"] == name), None)
    if field is not None and "options" in field:
        found: list[dict[str, str]] = field["options"]
        return found
    if field is not None and field["type"] in ("input", "textarea"):
        return []
    rest = {key: value for key, value in payload.items() if key != name}
    query: Query = query_of(keeper.entry.name, rest, spec, schema)
    return [{"label": value, "value": value} for value in await desk.values(query, name)]
