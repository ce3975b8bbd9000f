"""Values for dashboard variables and ad-hoc filters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from bridge.errors import BadQuery, BadRequest, BridgeError, UnknownDataset
from bridge.model.filters import text_of
from bridge.model.query import Query
from bridge.model.schema import Column, Role, Schema
from bridge.model.span import Span
from bridge.sources.ask import Desk
from bridge.sources.keeper import Keeper
from bridge.sources.registry import DatasetEntry
from bridge.web.body import loads
from bridge.web.grafana import adhoc, payload_of, query_of, targets_of
from bridge.web.handlers.json_bodies import TagsBody, Target
from bridge.web.payload import unescaped, wholes

# Keys of a raw JSON variable query that may name the dataset, in the order they are looked for.
NAME_KEYS = ("target", "dataset", "metric", "type")
MAX_OPTIONS = 5_000
# Of a dashboard's queries so many datasets are looked at; each costs a question.
MAX_DATASETS = 500
# Where the dashboard names no dataset, all of them are asked, if they are no more than this.
MAX_FANNED_OUT = 100
Params = tuple[tuple[str, tuple[str, ...]], ...]
Pair = tuple[str, str]


async def values(desk: Desk, payload: Any, span: Span | None) -> list[dict[str, str]]:
    """Choices of a variable: `{"target": "source.dataset.column"}`, or an object with `dataset` and `column`.

    Errors: BadRequest when no dataset is named; UnknownDataset, BadQuery.
    """
    asked = _object(payload)
    named = next((key for key in NAME_KEYS if isinstance(text := asked.get(key), str) and text.strip()), None)
    if named is None:
        if asked.get("target") == "":
            return _choices((name, name) for name in desk.keepers)
        raise BadRequest(
            "the variable's query names no dataset",
            remedy='write `source.dataset.column`, or {"dataset": "source.dataset", "column": "name"}',
        )
    rest = {key: value for key, value in asked.items() if key != named}
    found: list[Pair] = []
    for target in targets_of(Target(target=asked[named])):
        found += await _of_one(desk, target, rest, span)
    return _choices(found)


def _object(payload: Any) -> dict[str, Any]:
    """The query as an object; a text may be one that is written as JSON."""
    if isinstance(payload, dict):
        written = payload.get("target")
        # The plug-in's plain query field may hold JSON as well; what it wraps is the query then.
        return _object(written) if set(payload) == {"target"} and _looks_like_json(written) else payload
    if isinstance(payload, str) and _looks_like_json(payload):
        for text in (payload, unescaped(payload)):
            try:
                parsed = loads(text.encode())
            except (BadRequest, UnicodeEncodeError):
                continue
            if isinstance(parsed, dict):
                return parsed
    return {"target": payload}


def _looks_like_json(text: Any) -> bool:
    return isinstance(text, str) and text.lstrip("\\ \n").startswith("{") and ":" in text


async def _of_one(desk: Desk, target: str, rest: dict[str, Any], span: Span | None) -> list[Pair]:
    keeper, column = locate(desk, target)
    name = keeper.entry.name
    column = column or next(iter(wholes(rest.get("column"), "column")), "")
    schema = await desk.schema(name)
    pair = _pair(rest, schema, column)
    spoken_for = ("column",) if pair is None else ("column", "text", "value")
    chosen = {key: value for key, value in rest.items() if key not in spoken_for}
    query = replace(query_of(name, chosen, keeper.entry.spec, schema), span=span)
    if pair is not None:
        return await _pairs(desk, query, *pair)
    return [(text, text) for text in await desk.values(query, column or _first(schema, name))]


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


async def search(desk: Desk, target: Any) -> list[str]:
    """Values of `source.dataset.column`, else the datasets whose name holds the text: all the older protocol asks.

    Errors: BadQuery for an unknown column; those of the source.
    """
    text = target.strip() if isinstance(target, str) else ""
    found: list[str] = []
    for name in targets_of(Target(target=text)) if "." in text else ():
        try:
            keeper, column = locate(desk, name)
        except UnknownDataset:
            continue
        if column:
            found += await desk.values(Query(keeper.entry.name), column)
    # A list of data to choose from; what tells of it is found by who looks for it.
    names = (*desk.keepers, *(desk.system if text.startswith("_") else ()))
    return list(dict.fromkeys(found)) or [name for name in names if text.lower() in name.lower()]


def _pair(asked: dict[str, Any], schema: Schema, column: str) -> Pair | None:
    """The columns for text and value, where the query names two or the dataset is made for it."""
    text, value = asked.get("text"), asked.get("value")
    if isinstance(text, str) and isinstance(value, str):
        return text, value
    for text, value in (("__text", "__value"), ("text", "value")):
        if not column and schema.get(text) and schema.get(value):
            return text, value
    return None


async def _pairs(desk: Desk, query: Query, text: str, value: str) -> list[Pair]:
    rows = await desk.rows(replace(query, columns=(text, value)))
    columns = [column for name in (text, value) if (column := rows.schema.get(name))]
    found = rows.data.select(text_of(column).alias(str(index)) for index, column in enumerate(columns))
    unique = found.unique(maintain_order=True).head(MAX_OPTIONS)
    return [(shown or meant, meant) for shown, meant in unique.iter_rows()]


def _choices(items: Iterable[Pair]) -> list[dict[str, str]]:
    """Options with different texts: Grafana keeps only the first of two that look alike."""
    out: dict[str, str] = {}
    for text, value in dict.fromkeys(items):
        label, count = text, 1
        while label in out:
            label = f"{text} ({value})" if count == 1 else f"{text} ({value}) {count}"
            count += 1
        out[label] = value
        if len(out) >= MAX_OPTIONS:
            break
    return [{"__text": label, "__value": value} for label, value in out.items()]


def _first(schema: Schema, dataset: str) -> str:
    column: Column | None = next(iter(schema.with_role(Role.DIMENSION)), None) or next(
        (c for c in schema.columns if c.role is None), None
    )
    if column is None:
        raise BadQuery(f"{dataset} has no dimension to choose from", remedy=f"write `{dataset}.COLUMN`")
    return column.name


def datasets_in(desk: Desk, queries: Iterable[Target] | None) -> dict[str, Params]:
    """The datasets a dashboard's queries name, with their own parameters; all of them where none can be told."""
    named = dict(islice(((name, item) for item in queries or () for name in _names(item)), MAX_DATASETS))
    found: dict[str, Params] = {}
    for name, item in named.items():
        try:
            entry = desk.entry(name)
        except BridgeError:
            # A variable that is not filled in yet names no dataset: the other queries decide.
            continue
        found[entry.name] = _params(entry, item)
    if found or len(desk.keepers) <= MAX_FANNED_OUT:
        return found or dict.fromkeys(desk.keepers, ())
    # Among so many only those whose columns are known already: nobody named any of them.
    return {name: () for name, keeper in desk.keepers.items() if keeper.schema is not None}


def _params(entry: DatasetEntry, item: Target) -> Params:
    """The dataset's own parameters as far as the query's payload can be read: its variables are not filled in."""
    try:
        return query_of(entry.name, payload_of(item), entry.spec, None).params
    except BadQuery:
        return ()


def _names(item: Target) -> list[str]:
    try:
        return targets_of(item)
    except BadQuery:
        return []


async def tag_keys(desk: Desk, asked: TagsBody) -> list[Pair]:
    """Columns the dashboard's datasets can be filtered by, and their types."""

    async def one(name: str, params: Params) -> list[Column]:
        try:
            return await desk.tag_keys(Query(name, params=params))
        except BridgeError:
            # A source that is down takes no part; the others' columns are still there to filter by.
            return []

    work = [partial(one, name, params) for name, params in datasets_in(desk, asked.queries).items()]
    found: dict[str, str] = {}
    none: list[Column] = []
    for columns in await desk.together(work, none):
        for column in columns:
            found.setdefault(column.name, str(column.type))
    return sorted(found.items())


async def tag_values(desk: Desk, asked: TagsBody, span: Span | None) -> list[str]:
    """Values of one column over the dashboard's datasets, narrowed by the other filters.

    Errors: BadQuery when no dataset has the column, or what kept all that have it from answering.
    """
    filters = adhoc(asked.filters)

    async def one(name: str, params: Params) -> list[str] | BridgeError | None:
        try:
            if (await desk.schema(name)).get(asked.key) is None:
                return None
            return await desk.values(Query(name, span=span, adhoc=filters, params=params), asked.key)
        except BridgeError as error:
            return error

    work = [partial(one, name, params) for name, params in datasets_in(desk, asked.queries).items()]
    answers = [answer for answer in await desk.together(work, None) if answer is not None]
    good = [answer for answer in answers if isinstance(answer, list)]
    if good:
        return sorted({text for answer in good for text in answer if text})[:MAX_OPTIONS]
    if failed := next((answer for answer in answers if isinstance(answer, BridgeError)), None):
        raise failed
    raise BadQuery(
        f"no dataset of this dashboard has a column `{asked.key[:80]}`", remedy="POST /tag-keys lists the columns"
    )
