"""One panel's request brought to Queries; a target that cannot be one keeps its place with the reason."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Any

from bridge.errors import BadQuery, BridgeError
from bridge.model.query import Query
from bridge.sources.ask import Answer, Desk
from bridge.web import grafana
from bridge.web.handlers.json_bodies import QueryBody, Target

MAX_DATASETS = 500


async def prepare(desk: Desk, asked: QueryBody, now: datetime) -> list[Query | Answer]:
    """One Query per dataset a target stands for, or the Answer that says why there is none.

    Errors: BadQuery for what concerns the whole request: its range, points and filters, and too many datasets.
    """
    common = Query(
        dataset="",
        span=grafana.span_of(asked.range, now),
        max_points=grafana.points(asked.maxDataPoints, desk.limits.max_rows),
        step_ms=grafana.step_ms_of(asked.intervalMs),
        adhoc=grafana.adhoc(asked.filters or asked.adhocFilters),
    )
    wanted = [one for item in asked.targets if not item.hide for one in _named(asked, item, common)]
    if len(wanted) > MAX_DATASETS:
        raise BadQuery(
            f"the request asks for {len(wanted)} datasets, more than the {MAX_DATASETS} allowed",
            remedy="use fewer queries on one panel, or choose fewer values",
        )
    return list(await asyncio.gather(*(_one(desk, base, payload) for base, payload in wanted)))


def _named(asked: QueryBody, item: Target, common: Query) -> list[tuple[Query | Answer, dict[str, Any]]]:
    """The question of each dataset a target stands for, and the payload that goes with it."""
    base = replace(common, ref_id=item.refId, shape=grafana.shape_of(asked, item))
    try:
        payload = grafana.payload_of(item)
        return [(replace(base, dataset=name), payload) for name in grafana.targets_of(item)]
    except BridgeError as error:
        return [(Answer(base, error=error), {})]


async def _one(desk: Desk, base: Query | Answer, payload: dict[str, Any]) -> Query | Answer:
    if isinstance(base, Answer):
        return base
    try:
        keeper = desk.keeper(base.dataset)
        # A payload speaks of columns: without the schema its filters could not be told from foreign keys.
        schema = keeper.schema or (await desk.schema(base.dataset) if payload else None)
        own = grafana.query_of(keeper.entry.name, payload, keeper.entry.spec, schema)
    except BridgeError as error:
        return Answer(base, error=error)
    return replace(
        base,
        dataset=own.dataset,
        filters=own.filters,
        columns=own.columns,
        series=own.series,
        agg=own.agg,
        as_of=own.as_of,
        params=own.params,
    )
