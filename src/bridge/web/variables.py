"""Values for dashboard variables and ad-hoc filters."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from bridge.errors import BadQuery, BadRequest, BridgeError, UnknownDataset
from bridge.model.query import Query
from bridge.model.schema import Column, Role, Schema
from bridge.model.span import Span
from bridge.sources.ask import Desk
from bridge.sources.keeper import Keeper
from bridge.web.grafana import adhoc, query_of, targets_of
from bridge.web.handlers.json_bodies import TagsBody, Target
from bridge.web.payload import texts

# Keys of a raw JSON variable query that name the dataset, in the order they are looked for.
NAME_KEYS = ("target", "dataset", "metric", "type")
MAX_OPTIONS = 5_000


async def values(desk: Desk, payload: Any, span: Span | None) -> list[dict[str, str]]:
    """Choices of a variable: `{"target": "source.dataset.column"}`, or an object with `dataset` and `column`.

    Errors: BadRequest when no dataset is named; UnknownDataset, BadQuery.
    """
    asked = payload if isinstance(payload, dict) else {"target": payload}
    target = next((text for key in NAME_KEYS if isinstance(text := asked.get(key), str) and text.strip()), "")
    if not target:
        if asked.get("target") == "":
            return _choices((name, name) for name in desk.keepers)
        raise BadRequest(
            "the variable's query names no dataset",
            remedy='write `source.dataset.column`, or {"dataset": "source.dataset", "column": "name"}',
        )
    keeper, column = locate(desk, target)
    name = keeper.entry.name
    column = column or next(iter(texts(asked.get("column"), "column")), "")
    schema = await desk.schema(name)
    rest = {key: value for key, value in asked.items() if key not in (*NAME_KEYS, "column", "text", "value")}
    query = replace(query_of(name, rest, keeper.entry.spec, schema), span=span)
    if pair := _pair(asked, schema, column):
        return await _pairs(desk, query, *pair)
    return _choices((text, text) for text in await desk.values(query, column or _first(schema, name)))


def locate(desk: Desk, target: str) -> tuple[Keeper, str]:
    """The dataset a variable's target names, and the column behind it if there is one.

    Errors: UnknownDataset.
    """
    try:
        return desk.keeper(target), ""
    except UnknownDataset:
        name, dot, column = target.rpartition(".")
        if not dot:
            raise
        try:
            return desk.keeper(name), column
        except UnknownDataset:
            pass
        raise


async def column_values(desk: Desk, target: str, span: Span | None) -> list[str] | None:
    """Values of `source.dataset.column`; None where the target names no column.

    Errors: UnknownDataset.
    """
    keeper, column = locate(desk, target)
    if not column:
        return None
    return await desk.values(Query(keeper.entry.name, span=span), column)


def _pair(asked: dict[str, Any], schema: Schema, column: str) -> tuple[str, str] | None:
    """The columns for text and value, where the query names two or the dataset is made for it."""
    text, value = asked.get("text"), asked.get("value")
    if isinstance(text, str) and isinstance(value, str):
        return text, value
    for text, value in (("__text", "__value"), ("text", "value")):
        if not column and schema.get(text) and schema.get(value):
            return text, value
    return None


async def _pairs(desk: Desk, query: Query, text: str, value: str) -> list[dict[str, str]]:
    rows = await desk.rows(replace(query, columns=(text, value)))
    texts_ = rows.data[text].cast(str).to_list() if text in rows.data.columns else []
    values_ = rows.data[value].cast(str).to_list() if value in rows.data.columns else []
    return _choices((t if t is not None else v or "", v or "") for t, v in zip(texts_, values_, strict=True))


def _choices(items: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Options with different texts: Grafana keeps only the first of two that look alike."""
    out: list[dict[str, str]] = []
    seen: dict[str, str] = {}
    for text, value in items:
        if seen.get(text) == value or len(out) >= MAX_OPTIONS:
            continue
        label = f"{text} ({value})" if text in seen else text
        if label in seen:
            continue
        seen[label] = value
        out.append({"__text": label, "__value": value})
    return out


def _first(schema: Schema, dataset: str) -> str:
    column: Column | None = next(iter(schema.with_role(Role.DIMENSION)), None) or next(
        (c for c in schema.columns if c.role is None), None
    )
    if column is None:
        raise BadQuery(f"{dataset} has no dimension to choose from", remedy=f"write `{dataset}.COLUMN`")
    return column.name


def datasets_in(desk: Desk, queries: Iterable[Target] | None) -> list[str]:
    """The datasets a dashboard's queries name; all of them where none can be told."""
    found: dict[str, None] = {}
    for item in queries or ():
        try:
            for name in targets_of(item):
                found[desk.entry(name).name] = None
        except BridgeError:
            # A variable that is not filled in yet names no dataset: the other queries decide.
            continue
    return list(found) or list(desk.keepers)


async def tag_values(desk: Desk, asked: TagsBody, span: Span | None) -> list[str]:
    """Values of one column over the dashboard's datasets, narrowed by the other filters.

    Errors: BadQuery when no dataset has the column.
    """
    filters = adhoc(asked.filters)
    names = datasets_in(desk, asked.queries)
    found: set[str] = set()
    known = False

    async def one(name: str) -> list[str]:
        try:
            if (await desk.schema(name)).get(asked.key) is None:
                return []
            return [*(await desk.values(Query(name, span=span, adhoc=filters), asked.key)), ""]
        except (BridgeError, TimeoutError):
            return []

    for values_ in await asyncio.gather(*(one(name) for name in names)):
        known = known or bool(values_)
        found.update(text for text in values_ if text)
    if not known:
        raise BadQuery(
            f"no dataset of this dashboard has a column `{asked.key[:80]}`", remedy="POST /tag-keys lists the columns"
        )
    return sorted(found)[:MAX_OPTIONS]
