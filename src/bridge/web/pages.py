"""Pages for people: templates filled with escaped values, under a policy that lets nothing foreign in."""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import orjson
from aiohttp import web
from jinja2 import DictLoader, Environment, StrictUndefined

Json = dict[str, Any]
JSON_TYPE = "application/json"
# Read with the module: a request must not wait for a disk.
_TEMPLATES: Final = {
    name: files("bridge.web").joinpath("templates", name).read_text(encoding="utf-8")
    for name in ("base.html", "docs.html", "start.html")
}
# Words beside the colours, which not everyone sees.
STATES = {
    "ok": "OK",
    "down": "Down",
    "needs_auth": "Needs credentials",
    "held_back": "Held back",
    "schema_changed": "Columns changed",
    "unknown": "Not asked yet",
    "failed": "Not running",
}
_POLICY = (
    "default-src 'none'; style-src 'nonce-{0}'; script-src 'nonce-{0}'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_NOTES = {
    "maxLength": "at most {} characters",
    "minLength": "at least {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minimum": "at least {}",
    "maximum": "at most {}",
}
_AGES = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
# Deeper than this a body is a protocol of its own, not something to read in a table.
_MAX_DEPTH = 4


def page(template: str, **values: Any) -> web.Response:
    """A template of this package as an HTML answer.

    Shape: `base` is the service's public URL; links begin at its path.
    """
    nonce = secrets.token_urlsafe(18)
    prefix = _prefix(str(values.get("base", "")))
    text = _environment().get_template(template).render(**values, nonce=nonce, prefix=prefix)
    headers = {
        "Content-Security-Policy": _POLICY.format(nonce),
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    return web.Response(text=text, content_type="text/html", charset="utf-8", headers=headers)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    env = Environment(
        loader=DictLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["age"] = age
    env.globals.update(groups=groups, states=STATES)
    return env


def _prefix(base: str) -> str:
    # A path of two slashes would make every link one to another host.
    path = urlsplit(base).path.strip("/")
    return f"/{path}" if path else ""


def age(age_s: float | None) -> str:
    """How long ago, in one unit."""
    if age_s is None:
        return "never"
    for unit_s, name in _AGES:
        if age_s >= unit_s:
            return f"{int(age_s // unit_s)} {name} ago"
    return "just now"


def groups(document: Json, base: str) -> list[Json]:
    """The operations of an OpenAPI document by tag, each ready to be shown."""
    shown = [
        (operation["tags"][0], _shown(document, base.rstrip("/"), path, method, operation))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    names = [tag["name"] for tag in document["tags"]]
    return [{"name": name, "operations": [one for tag, one in shown if tag == name]} for name in names]


def _shown(document: Json, base: str, path: str, method: str, operation: Json) -> Json:
    body = operation.get("requestBody")
    content: Json = body["content"] if body else {}
    schema = next((media["schema"] for media in content.values()), None)
    parameters = operation["parameters"]
    query = {item["name"]: item["example"] for item in parameters if item["in"] == "query" and "example" in item}
    responses = operation["responses"]
    return {
        "id": operation["operationId"],
        "method": method.upper(),
        "path": path,
        "summary": operation["summary"],
        "description": operation["description"],
        "scope": operation["x-scope"],
        "parameters": [{**item, "type": _type(item["schema"], document)} for item in parameters],
        "body_types": list(content),
        "body_rows": list(_rows(schema, document)) if schema is not None else [],
        "gives": list(responses["200"]["content"]),
        "unchanged": "304" in responses,
        "errors": [status for status in responses if status.isdigit() and int(status) >= 400],
        "curl": _curl(base, path, method.upper(), parameters, query, content),
        "pieces": _pieces(path, parameters) if method == "get" else [],
        "query": urlencode(query, quote_via=quote),
        "takes_query": any(item["in"] == "query" for item in parameters),
    }


def _curl(base: str, path: str, method: str, parameters: list[Json], query: Json, content: Json) -> str:
    for item in parameters:
        if item["in"] == "path":
            example = quote(str(item.get("example", item["name"].upper())), safe="")
            path = path.replace(f"{{{item['name']}}}", example)
    url = f"{base}{path}" + (f"?{urlencode(query, quote_via=quote, safe='*')}" if query else "")
    parts = ["curl", *(["-X", method] if method != "GET" and not content else []), shlex.quote(url)]
    lines = [" ".join(parts)]
    if JSON_TYPE in content:
        example = orjson.dumps(content[JSON_TYPE].get("example", {})).decode()
        lines += [f"-H 'Content-Type: {JSON_TYPE}'", f"-d {shlex.quote(example)}"]
    return " \\\n  ".join(lines)


def _pieces(path: str, parameters: list[Json]) -> list[Json]:
    """The path as fixed texts and fields to fill in."""
    known = {item["name"]: item for item in parameters if item["in"] == "path"}
    out: list[Json] = []
    for number, part in enumerate(re.split(r"\{(\w+)\}", path)):
        if number % 2:
            item = known[part]
            out.append({"name": part, "example": item.get("example", ""), "listing": item.get("x-listing", "")})
        elif part:
            out.append({"name": "", "text": part})
    return out


def _rows(schema: Json, document: Json, depth: int = 0) -> Iterator[Json]:
    """The properties of a body, those of nested objects below their own."""
    found = _resolved(schema, document)
    required = found.get("required", ())
    for name, item in found.get("properties", {}).items():
        inner, is_list = _inner(item, document)
        target = _resolved(item, document)
        yield {
            "name": name,
            "depth": depth,
            "required": name in required,
            "type": _type(item, document),
            "description": item.get("description") or target.get("description") or "",
        }
        if inner is not None and depth < _MAX_DEPTH:
            for row in _rows(inner, document, depth + 1):
                yield {**row, "name": f"{name}{'[]' if is_list else ''}.{row['name']}"}


def _inner(schema: Json, document: Json) -> tuple[Json | None, bool]:
    """The object inside a property, if there is one, and whether a list is around it."""
    found = _resolved(schema, document)
    if "properties" in found:
        return found, False
    if isinstance(found.get("items"), dict) and "properties" in _resolved(found["items"], document):
        return found["items"], True
    for choice in found.get("anyOf", ()):
        inner, is_list = _inner(choice, document)
        if inner is not None:
            return inner, is_list
    return None, False


def _resolved(schema: Json, document: Json) -> Json:
    while "$ref" in schema:
        found = document
        for key in schema["$ref"].removeprefix("#/").split("/"):
            found = found[key]
        schema = found
    return schema


def _type(schema: Json, document: Json) -> str:
    """The type in words, with its bounds."""
    found = _resolved(schema, document)
    notes = [_note(key, found[key]) for key in _NOTES if key in found]
    if (
        "default" in schema
        and schema["default"] not in (None, "")
        and not isinstance(schema["default"], (dict, list))
    ):
        notes.append(f"default {orjson.dumps(schema['default']).decode()}")
    return ", ".join([_type_name(found, document), *notes])


def _note(key: str, bound: int) -> str:
    return "not empty" if key in ("minLength", "minItems") and bound == 1 else _NOTES[key].format(bound)


def _type_name(schema: Json, document: Json) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " or ".join(_type(choice, document) for choice in schema["anyOf"])
    kind = schema.get("type", "any value")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}), document)}"
    return kind if isinstance(kind, str) else " or ".join(kind)
