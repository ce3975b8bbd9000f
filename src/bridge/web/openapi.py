"""The route table as an OpenAPI 3.1 document: what stands in the table is described, nothing else."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from bridge import errors
from bridge.model.query import Agg
from bridge.model.schema import Shape
from bridge.web.dataset_query import FORMATS
from bridge.web.handlers import datasets, json_bodies

if TYPE_CHECKING:
    from bridge.web.routes import Route

Json = dict[str, Any]
TEMPLATE = "#/components/schemas/{model}"
JSON_TYPE = "application/json"
FORM_TYPE = "application/x-www-form-urlencoded"
_ERROR_REF = {"$ref": "#/components/responses/Error"}
# Any request may meet these; the others need a body, or a source that is asked.
_ALWAYS = (400, 405, 408, 421, 431, 500, 503)
_WITH_BODY = (413, 415)
_WITH_SOURCE = (404, 422, 502, 504)
_NAMED = re.compile(r"\{(\w+)\}")
_QUERY_SCHEMAS: dict[str, Json] = {
    "format": {"type": "string", "enum": list(FORMATS), "default": "rows"},
    "agg": {"type": "string", "enum": [agg.value for agg in Agg]},
    "shape": {"type": "string", "enum": [shape.value for shape in Shape]},
    "filter": {"type": "array", "items": {"type": "string"}},
    "max_points": {"type": "integer", "minimum": 1},
    "limit": {"type": "integer", "minimum": 1},
}
_QUERY_EXAMPLES: Json = {"format": "page", "limit": 5, "pattern": "digits.*"}
_PATH_EXAMPLES = {"datasets": "digits.runs", "sources": "digits"}
_BODY_EXAMPLES: dict[type[BaseModel], Json] = {
    json_bodies.MetricsBody: {},
    json_bodies.OptionsBody: {"metric": "digits.runs", "name": "model", "payload": {}},
    json_bodies.QueryBody: {"targets": [{"refId": "A", "target": "digits.runs"}], "maxDataPoints": 500},
    json_bodies.VariableBody: {"payload": {"target": "digits.runs.model"}},
    json_bodies.TagsBody: {"key": "model", "queries": [{"refId": "A", "target": "digits.runs"}]},
    json_bodies.SearchBody: {"target": "digits"},
    json_bodies.AnnotationsBody: {"annotation": {"query": "digits.runs"}},
    datasets.BatchBody: {"queries": [{"dataset": "digits.runs", "ref_id": "A", "params": {"limit": 5}}]},
}
_OWN = (
    "Beside the parameters listed here, a dataset takes its own: those its settings declare, and the name of any of "
    "its columns but the time as a filter (`model=svm`, repeatable). `/api/v1/datasets/{name}/schema` lists them."
)
_HEADERS: dict[str, Json] = {
    "X-Request-Id": {"description": "Names this request in the log.", "schema": {"type": "string"}},
    "ETag": {"description": "Send it back as If-None-Match to get 304.", "schema": {"type": "string"}},
    "Cache-Control": {"description": "How long the answer stays fresh.", "schema": {"type": "string"}},
    "X-Bridge-Notices": {
        "description": "JSON list of notices (stale data, points left out) for formats without a place for them.",
        "schema": {"type": "string"},
    },
}
_ERROR: Json = {
    "title": "Error",
    "type": "object",
    "description": "The one shape of every error; which codes there are is listed under `x-errors`.",
    "required": ["message", "error", "code", "request_id", "remedy"],
    "properties": {
        "message": {"type": "string", "description": "What is wrong and what to do, as Grafana shows it."},
        "error": {"type": "string", "description": "What is wrong."},
        "code": {"type": "string", "description": "For programs: stays the same when the text changes."},
        "request_id": {"type": "string", "description": "Names the request in bridge's log."},
        "remedy": {"type": "string", "description": "What a person can do about it; empty when there is nothing."},
    },
}


class _Table:
    """A route table as a cache key: the same object, since its rows hold dicts and have no hash."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self.routes = routes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Table) and self.routes is other.routes

    def __hash__(self) -> int:
        return id(self.routes)


def document(routes: tuple[Route, ...], version: str, public_url: str) -> Json:
    """The OpenAPI document of these routes; built once per table and shared, so it is not to be changed."""
    return _built(_Table(routes), version, public_url)


@lru_cache(maxsize=8)
def _built(table: _Table, version: str, public_url: str) -> Json:
    routes = table.routes
    bodies = list(dict.fromkeys(route.body for route in routes if route.body is not None))
    refs, schemas = models_json_schema([(body, "validation") for body in bodies], ref_template=TEMPLATE)
    paths: dict[str, Json] = {}
    known = {route.path for route in routes}
    for route, name in zip(routes, _operation_ids(routes), strict=True):
        body = _body(route, refs[(route.body, "validation")] if route.body is not None else None)
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, name, body, known)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bridge",
            "version": version,
            "summary": "Typed datasets of research sources, for Grafana and everyone else.",
        },
        "servers": [{"url": public_url.rstrip("/") or "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(route.tag for route in routes)],
        "paths": paths,
        "components": {
            "schemas": {**schemas.get("$defs", {}), "Error": _ERROR},
            "responses": {"Error": _error_response()},
            "headers": _HEADERS,
        },
        "x-errors": [*error_codes()],
    }


def error_codes() -> Iterator[Json]:
    """Every code of the error tree with its status, whether a retry helps, and what it means."""
    found: list[type[errors.BridgeError]] = [errors.BridgeError]
    for cls in found:
        # Plug-ins may derive their own; the document speaks of what stands in the tree itself.
        found += [sub for sub in cls.__subclasses__() if sub.__module__ == errors.__name__]
    for cls in sorted(found, key=lambda cls: (cls.status, cls.code)):
        if cls is errors.SettingsError:
            continue
        text = "An error inside bridge." if cls is errors.BridgeError else (cls.__doc__ or "").partition("\n")[0]
        yield {"code": cls.code, "status": cls.status, "retry": cls.retry.value, "text": text}


def _operation_ids(routes: tuple[Route, ...]) -> list[str]:
    """`method_path`, with a number where two paths differ only in signs a name cannot hold."""
    out: list[str] = []
    for route in routes:
        words = re.findall(r"[A-Za-z0-9]+", route.path) or ["root"]
        name = "_".join([route.method.lower(), *words])
        while name in out:
            stem, _, number = name.rpartition("__")
            name = f"{stem}__{int(number) + 1}" if stem else f"{name}__2"
        out.append(name)
    return out


def _operation(route: Route, name: str, body: Json | None, known: set[str]) -> Json:
    said = [
        inspect.cleandoc(route.handler.__doc__ or "").partition("\n")[0],
        _OWN if "format" in route.params else "",
    ]
    out: Json = {
        "operationId": name,
        "tags": [route.tag],
        "summary": route.summary,
        "description": "\n\n".join(text for text in said if text),
        "parameters": [*_path_parameters(route, known), *_query_parameters(route)],
        "responses": _responses(route),
        "x-scope": route.scope,
    }
    if body is not None:
        out["requestBody"] = body
    return out


def _path_parameters(route: Route, known: set[str]) -> Iterator[Json]:
    for match in _NAMED.finditer(route.path):
        listing = route.path[: match.start()].rstrip("/")
        kind = listing.rpartition("/")[2]
        out: Json = {"name": match[1], "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        if listing in known:
            out |= {"description": f"a name that `GET {listing}` lists", "x-listing": listing}
        if kind in _PATH_EXAMPLES:
            out["example"] = _PATH_EXAMPLES[kind]
        yield out


def _query_parameters(route: Route) -> Iterator[Json]:
    if _sends_params(route):
        return
    for name, text in route.params.items():
        schema = _QUERY_SCHEMAS.get(name, {"type": "string"})
        out: Json = {
            "name": name,
            "in": "query",
            "required": name in route.required,
            "description": text,
            "schema": schema,
        }
        if schema["type"] == "array":
            out |= {"style": "form", "explode": True}
        if name in _QUERY_EXAMPLES:
            out["example"] = _QUERY_EXAMPLES[name]
        yield out


def _sends_params(route: Route) -> bool:
    """Whether the parameters travel in the body."""
    return route.method == "POST" and route.body is None and bool(route.params)


def _body(route: Route, ref: Json | None) -> Json | None:
    if ref is not None and route.body is not None:
        required = any(field.is_required() for field in route.body.model_fields.values())
        media: Json = {"schema": ref}
        if route.body in _BODY_EXAMPLES:
            media["example"] = _BODY_EXAMPLES[route.body]
        return {"required": required, "content": {JSON_TYPE: media}}
    if not _sends_params(route):
        return None
    schema: Json = {
        "type": "object",
        "properties": {
            name: {**_QUERY_SCHEMAS.get(name, {"type": "string"}), "description": text}
            for name, text in route.params.items()
        },
        "additionalProperties": {"description": "a parameter or column of the dataset: a value or a list of values"},
    }
    if route.required:
        schema["required"] = list(route.required)
    example = {name: value for name, value in _QUERY_EXAMPLES.items() if name in route.params}
    media = {"schema": schema, "example": example}
    return {"required": bool(route.required), "content": {JSON_TYPE: media, FORM_TYPE: media}}


def _responses(route: Route) -> Json:
    data = "format" in route.params
    names = ["X-Request-Id", *(["ETag", "Cache-Control", "X-Bridge-Notices"] if data else [])]
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
    out: Json = {"200": {"description": "The answer.", "headers": headers, "content": _content(route)}}
    if data and route.method == "GET":
        out["304"] = {"description": "Not changed since the answer whose ETag was sent as If-None-Match."}
    statuses = [*_ALWAYS]
    if route.method in ("POST", "PUT", "PATCH"):
        statuses += _WITH_BODY
    if route.scope == "sources:query":
        statuses += _WITH_SOURCE
    return out | {str(status): _ERROR_REF for status in sorted(statuses)} | {"default": _ERROR_REF}


def _content(route: Route) -> Json:
    text = {"schema": {"type": "string"}}
    if "format" in route.params:
        return {
            JSON_TYPE: {"schema": {"type": ["array", "object"]}},
            datasets.CSV_TYPE: text,
            datasets.NDJSON_TYPE: text,
            datasets.ARROW_TYPE: {"schema": {}},
        }
    if route.gives == JSON_TYPE:
        return {JSON_TYPE: {"schema": {}}}
    if route.gives == "text/plain":
        # The exposition of metrics, which is written in either form by what Accept prefers.
        return {"text/plain": text, "application/openmetrics-text": text}
    return {route.gives: text}


def _error_response() -> Json:
    listed = sorted({code["status"] for code in error_codes()})
    meanings = ", ".join(f"{status} {HTTPStatus(status).phrase}" for status in listed)
    return {
        "description": f"What went wrong, and what to do about it. Statuses: {meanings}.",
        "headers": {"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}},
        "content": {JSON_TYPE: {"schema": {"$ref": TEMPLATE.format(model="Error")}}},
    }
