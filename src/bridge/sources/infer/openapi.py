"""OpenAPI 3 and Swagger 2 documents: what answers they promise, read within bounds."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import polars as pl
import yaml

from bridge.errors import UpstreamInvalid
from bridge.model.schema import ColumnType
from bridge.sources.infer.columns import Field
from bridge.sources.infer.shape import MAX_DEPTH, MAX_FIELDS, MAX_FLAT, Keys, jmes_select
from bridge.sources.infer.stanza import clean

MAX_REFS = 32
MAX_COMBINED = 64
# Of one answer; a document has many, and all of them are looked at.
MAX_VISITED = 1_000
# Of a document whose anchors are unfolded; one of 8 MB that has none stays below.
MAX_NODES = 2_000_000

_JSON_LOOK = re.compile(rb'\{[\s\S]{0,65536}?"(openapi|swagger)"\s*:')
_YAML_LOOK = re.compile(rb"^[\"']?(openapi|swagger)[\"']?\s*:", re.M)
_TYPES = {
    "integer": ColumnType.NUMBER,
    "number": ColumnType.NUMBER,
    "boolean": ColumnType.BOOLEAN,
    "string": ColumnType.STRING,
    "array": ColumnType.JSON,
    "object": ColumnType.JSON,
}
_TIMES = ("date-time", "date", "unix-time", "unixtime", "timestamp", "epoch")


class _Loader(yaml.CSafeLoader):
    """YAML without merge keys: nested ones unfold without end."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.constructor.ConstructorError(None, None, "merge keys (<<) are not read", node.start_mark)
        super().flatten_mapping(node)


_BOOLEANS = {"true": True, "false": False}
_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")


def _plain(loader: _Loader, node: yaml.ScalarNode) -> Any:
    """A scalar as OpenAPI means it, which is YAML 1.2: in 1.1, `1:1:1` is a number whose reading takes long."""
    text = str(loader.construct_scalar(node))
    if _WHOLE.fullmatch(text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return _BOOLEANS.get(text.lower(), text)


for _kind in ("bool", "float", "int", "timestamp"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _plain)


def _read_yaml(body: bytes) -> Any:
    """The document in YAML.

    Errors: YAMLError, also for anchors that unfold to more than can be looked at; ValueError, RecursionError.
    """
    loader = _Loader(body)
    try:
        node = loader.get_single_node()
        if node is not None and _unfolded(node, {}) > MAX_NODES:
            raise yaml.constructor.ConstructorError(None, None, f"it unfolds to more than {MAX_NODES} values")
        return None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _unfolded(node: yaml.Node, known: dict[int, float]) -> float:
    """How many values there are when every anchor is written out; without end for one that holds itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        inside = node.value if isinstance(node, yaml.CollectionNode) else ()
        inner = itertools.chain.from_iterable(inside) if isinstance(node, yaml.MappingNode) else inside
        known[id(node)] = 1 + sum(_unfolded(item, known) for item in inner)
    return known[id(node)]


def is_api(body: bytes) -> bool:
    """Whether an answer looks like an OpenAPI document."""
    start = body[:65_536].removeprefix(b"\xef\xbb\xbf").lstrip()
    return bool(_JSON_LOOK.match(body.removeprefix(b"\xef\xbb\xbf").lstrip()) or _YAML_LOOK.search(start))


def read_api(body: bytes, url: str) -> Api | None:
    """The document; None for what has no version of OpenAPI.

    Errors: UpstreamInvalid for what looks like one and cannot be read.
    """
    body = body.removeprefix(b"\xef\xbb\xbf")
    what = f"the OpenAPI document at {urlsplit(url)._replace(query='', fragment='').geturl()}"
    try:
        document = json.loads(body) if body.lstrip().startswith(b"{") else _read_yaml(body)
    except RecursionError as error:
        raise UpstreamInvalid(f"{what} is nested too deeply") from error
    except (ValueError, yaml.YAMLError) as error:
        said = clean(str(error).replace("\n", " "), 120)
        raise UpstreamInvalid(f"{what} cannot be read: {said}") from error
    if not isinstance(document, dict):
        return None
    version = str(document.get("openapi") or document.get("swagger") or "")
    return Api(document, version, url) if version.startswith(("3.", "2.")) else None


@dataclass(frozen=True, slots=True)
class Rows:
    """Where an answer has its rows, and the schemas of a row and of the object beside them."""

    keys: Keys
    row: Mapping[str, Any]
    beside: tuple[tuple[Keys, Mapping[str, Any]], ...] = ()


@dataclass(frozen=True, slots=True)
class Api:
    """One document; every `$ref` in it is followed for a bounded way, and one that leads nowhere means nothing."""

    document: Mapping[str, Any]
    version: str
    url: str
    broken: dict[str, None] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What the document calls itself."""
        info = self.document.get("info")
        info = info if isinstance(info, dict) else {}
        name = clean(info.get("title") or "an API", 80)
        return f"{name} {clean(info.get('version') or '', 20)} (OpenAPI {clean(self.version, 10)})"

    def _server(self) -> str:
        servers = self.document.get("servers")
        first = servers[0] if isinstance(servers, list) and servers else None
        if isinstance(first, dict):
            variables = first.get("variables")
            variables = variables if isinstance(variables, dict) else {}
            defaults = {k: str(v.get("default", "")) for k, v in variables.items() if isinstance(v, dict)}
            text = re.sub(r"\{([^{}]*)\}", lambda m: defaults.get(m[1], ""), str(first.get("url") or ""))
            return self._joined(text)
        host, base = self.document.get("host"), str(self.document.get("basePath") or "")
        return self._joined(f"//{host}{base}" if host else base)

    def _joined(self, text: str) -> str:
        try:
            return urljoin(self.url, text) if text else ""
        except ValueError:
            return ""

    def base_path(self, origin: str) -> str:
        """The path all paths begin with."""
        return urlsplit(self._server()).path.rstrip("/") if self._server() else ""

    def foreign(self, origin: str) -> str | None:
        """The origin the document names, when it is another one."""
        parts = urlsplit(self._server())
        there = clean(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", 80)
        return there if parts.netloc and there != origin else None

    def resolve(self, node: Any) -> Mapping[str, Any]:
        """The object a node is or refers to; an empty one where there is none."""
        for _ in range(MAX_REFS):
            if not isinstance(node, dict):
                return {}
            ref = node.get("$ref")
            if not isinstance(ref, str):
                return node
            node = self._at(ref)
        return {}

    def _at(self, ref: str) -> Any:
        if not ref.startswith("#/"):
            self.broken[ref] = None
            return None
        here: Any = self.document
        for part in ref[2:].split("/"):
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(here, list) and key.isdecimal() and int(key[:6]) < len(here):
                here = here[int(key[:6])]
            elif isinstance(here, dict) and key in here:
                here = here[key]
            else:
                self.broken[ref] = None
                return None
        return here

    def schema(self, node: Any) -> Mapping[str, Any]:
        """A schema with its `allOf` joined, and the one alternative beside null taken."""
        parts = list(self._parts(node))
        if len(parts) == 1:
            return parts[0]
        joined: dict[str, Any] = {}
        properties: dict[str, Any] = {}
        required: list[Any] = []
        for part in parts:
            joined |= part
            properties |= _mapping(part.get("properties"))
            required += part["required"] if isinstance(part.get("required"), list) else []
        return joined | ({"properties": properties, "required": required} if properties else {})

    def _parts(self, node: Any) -> Iterator[Mapping[str, Any]]:
        waiting, count = [node], 0
        while waiting and count < MAX_COMBINED:
            count += 1
            here = self.resolve(waiting.pop(0))
            yield here
            if isinstance(here.get("allOf"), list):
                waiting += here["allOf"]
            for key in ("anyOf", "oneOf"):
                choices = here.get(key)
                several = [self.resolve(item) for item in choices[:MAX_COMBINED]] if isinstance(choices, list) else []
                real = [item for item in several if type_of(item) != "null"]
                if len(real) == 1:
                    waiting.append(real[0])

    def rows(self, node: Any) -> Rows | None:
        """The first array of objects in an answer, the shallowest first."""
        level: list[tuple[Keys, Any, tuple[tuple[Keys, Mapping[str, Any]], ...]]] = [((), node, ())]
        visited = 0
        for _ in range(MAX_DEPTH + 1):
            below: list[tuple[Keys, Any, tuple[tuple[Keys, Mapping[str, Any]], ...]]] = []
            for keys, inner, above in level:
                visited += 1
                if visited > MAX_VISITED:
                    return None
                schema = self.schema(inner)
                if type_of(schema) == "array":
                    row = self.schema(schema.get("items"))
                    if _mapping(row.get("properties")):
                        return Rows(keys, row, above)
                properties = _mapping(schema.get("properties"))
                here = (*above, (keys, properties))
                below += [((*keys, str(key)), value, here) for key, value in properties.items()]
            level = below
        return None

    def fields(self, row: Mapping[str, Any]) -> list[Field]:
        """The fields of a row, nested objects opened three keys deep."""
        out: list[Field] = []
        for item in self._flat(row, (), 0, self._seen(row)):
            if len(out) >= MAX_FIELDS:
                break
            out.append(item)
        return out

    def _seen(self, row: Mapping[str, Any]) -> frozenset[int]:
        """What a schema is made of, so that one that holds itself is not opened again."""
        return frozenset(id(part["properties"]) for part in self._parts(row) if _mapping(part.get("properties")))

    def _flat(self, node: Mapping[str, Any], above: Keys, sure: int, seen: frozenset[int]) -> Iterator[Field]:
        required = node.get("required")
        for name, inner in list(_mapping(node.get("properties")).items())[:MAX_FIELDS]:
            schema = self.schema(inner)
            keys = (*above, str(name))
            # Few documents say what is required; where one does, the rest may be missing.
            needed = not isinstance(required, list) or not required or name in required
            known = sure + 1 if sure == len(above) and needed else sure
            own = self._seen(inner) if len(keys) < MAX_FLAT and _mapping(schema.get("properties")) else None
            if own is not None and not own & seen:
                yield from self._flat(schema, keys, known, seen | own)
            else:
                remark = "" if known == len(keys) else "may be missing"
                yield _field(keys, schema, jmes_select(keys, known), remark)


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def type_of(schema: Mapping[str, Any]) -> str:
    """The one type of a schema beside null; empty when it has none or several."""
    kind = schema.get("type")
    if isinstance(kind, list):
        real = [item for item in kind if item != "null"]
        kind = real[0] if len(real) == 1 else ("null" if kind and not real else None)
    if not isinstance(kind, str):
        return "object" if _mapping(schema.get("properties")) else "array" if "items" in schema else ""
    return kind


def choices_of(schema: Mapping[str, Any]) -> tuple[str, ...]:
    """The values of an enumeration of texts."""
    values = schema.get("enum")
    if not isinstance(values, list):
        return ()
    return tuple(dict.fromkeys(value for value in values[:100] if isinstance(value, str) and value.isprintable()))


def _field(keys: Keys, schema: Mapping[str, Any], select: str | None, remark: str) -> Field:
    kind = _TYPES.get(type_of(schema))
    if str(schema.get("format") or "").lower() in _TIMES and kind in (ColumnType.STRING, ColumnType.NUMBER):
        kind = ColumnType.TIME
    said = clean(schema.get("description") or schema.get("title") or "")
    return Field(keys, pl.Series("value", [], dtype=pl.Null), select, kind, choices_of(schema), said, remark)
