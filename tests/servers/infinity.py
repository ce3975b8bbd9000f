"""Grafana 12.3 with Infinity 3.11.1, as far as query models need it: variables, requests, pages, frames."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp
from yarl import URL

RECORDED = Path(__file__).parents[1] / "recordings" / "requests.jsonl"
ALL = "$__all"
_VARIABLE = re.compile(r"\$\{(\w+)(?::(\w+))?\}|\$(\w+)")
_GJSON_STEP = re.compile(r"(?:\\.|[^.\\])+")
Sender = Callable[[str, str, dict[str, str], bytes], Awaitable[tuple[int, bytes]]]


def recorded_headers(method: str, content_type: str | None = None) -> dict[str, str]:
    """The headers of a recorded request of Infinity's Go backend, but for host and length."""
    for line in RECORDED.read_text(encoding="utf-8").splitlines():
        request = json.loads(line)
        headers = dict(request["headers"])
        is_it = request["label"] == "inf-dash" and request["method"] == method
        if is_it and headers.get("Content-Type") == content_type and "Authorization" not in headers:
            return {name: headers[name] for name in headers if name not in ("Host", "Content-Length", "X-H")}
    raise AssertionError("nothing was recorded")


@dataclass(frozen=True)
class Chosen:
    """A variable's value: a text, or a list where it takes several; `all_value` stands for all of them."""

    value: str | list[str]
    all_value: str | None = None

    def written(self, form: str | None) -> str:
        """The value in one of Grafana's formats; a custom "All" comes as it stands in all of them."""
        if ALL in self.value:
            assert self.all_value is not None
            return self.all_value
        texts = [self.value] if isinstance(self.value, str) else self.value
        match form or "glob":
            case "glob":
                return texts[0] if len(texts) == 1 else "{" + ",".join(texts) + "}"
            case "json":
                return self.value if isinstance(self.value, str) else json.dumps(self.value, separators=(",", ":"))
            case "regex":
                escaped = [re.sub(r"[\\^$*+?.()|\[\]{}]", r"\\\g<0>", text) for text in texts]
                return escaped[0] if len(escaped) == 1 else "(" + "|".join(escaped) + ")"
            case "doublequote":
                return ",".join('"' + text.replace('"', '\\"') + '"' for text in texts)
            case unknown:
                raise AssertionError(f"Grafana's format {unknown} is not known here")


@dataclass(frozen=True)
class View:
    """What the user looks at: a time range in ms, the width of a point, and the values of the variables."""

    from_ms: int
    to_ms: int
    interval_ms: int = 15_000
    variables: Mapping[str, Chosen] = field(default_factory=dict)

    def choosing(self, **values: str | list[str]) -> View:
        """The same view with other values; a variable keeps its "All"."""
        chosen = {name: replace(self.variables[name], value=value) for name, value in values.items()}
        return replace(self, variables={**self.variables, **chosen})


@dataclass(frozen=True)
class Field:
    """A column of a frame: number, string, boolean or time (ms)."""

    name: str
    type: str
    values: list[Any]
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Frame:
    """What a panel is given."""

    ref_id: str
    fields: list[Field]
    meta: str = ""

    def field(self, name: str) -> Field:
        """The only column of that name."""
        [found] = [item for item in self.fields if item.name == name]
        return found

    @property
    def rows(self) -> int:
        return len(self.fields[0].values) if self.fields else 0


class Failed(Exception):
    """The query's error: Infinity keeps the status and drops the body, which is here for the test's reader."""


class Infinity:
    """The datasource with its base URL, over real HTTP."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session
        self.requests: list[str] = []

    async def frames(self, model: dict[str, Any], view: View) -> Frame:
        """The frame of one query model, by the backend parser."""
        assert (model["type"], model["source"], model["parser"]) == ("json", "url", "backend")
        model = interpolated(model, view)
        pages = [page async for page in self._pages(model, view)]
        return _formatted(model, _merged([_framed(model, page) for page in pages]))

    async def _pages(self, model: dict[str, Any], view: View) -> Any:
        if model["pagination_mode"] == "none":
            yield await self._page(model, view, [])
            return
        assert model["pagination_mode"] == "cursor"
        cursor = ""
        for number in range(model["pagination_max_pages"] + 1):
            more = [(model["pagination_param_cursor_field_name"], cursor)] if number else []
            page = await self._page(model, view, more)
            yield page
            # A missing key is an error of the query, an empty text the end.
            cursor = page[model["pagination_param_cursor_extraction_path"]]
            if cursor == "":
                return

    async def _page(self, model: dict[str, Any], view: View, more: list[tuple[str, str]]) -> Any:
        options = model["url_options"]
        base = urlsplit(self.url + _macros(model["url"], view))
        pairs = parse_qsl(base.query, keep_blank_values=True)
        pairs += [(item["key"], _macros(item["value"], view)) for item in options["params"]]
        query = urlencode(sorted([*pairs, *more], key=lambda pair: pair[0]))
        url = f"{base.scheme}://{base.netloc}{base.path}" + (f"?{query}" if query else "")
        headers, body = recorded_headers("GET"), None
        if options["method"] == "POST":
            assert options["body_type"] == "raw"
            headers = recorded_headers("POST", options["body_content_type"])
            body = _macros(options["data"], view).encode()
        self.requests.append(url)
        async with self._session.request(
            options["method"], URL(url, encoded=True), headers=headers, data=body
        ) as response:
            content = await response.read()
            if response.headers.get("Content-Encoding") == "gzip":
                content = gzip.decompress(content)
            if response.status >= 400 or not content:
                raise Failed(f"{response.status} {url} {content[:300]!r}")
        return json.loads(content)


def interpolated(model: dict[str, Any], view: View) -> dict[str, Any]:
    """The model as Infinity's frontend sends it to its backend: variables filled in, macros not."""
    options = model["url_options"]

    def filled(text: str) -> str:
        return _VARIABLE.sub(lambda match: _variable(match, view), text)

    params = [{**item, "value": filled(item["value"])} for item in options["params"]]
    options = {**options, "params": params, "data": filled(options["data"])}
    return {**model, "url": filled(model["url"]), "url_options": options}


def _variable(match: re.Match[str], view: View) -> str:
    name = match[1] or match[3]
    if name == "__interval_ms":
        return str(view.interval_ms)
    if name in ("__timeFrom", "__timeTo"):
        return match[0]
    assert name in view.variables, f"the dashboard has no variable {name}"
    return view.variables[name].written(match[2])


def _macros(text: str, view: View) -> str:
    return text.replace("${__timeFrom}", str(view.from_ms)).replace("${__timeTo}", str(view.to_ms))


def _selected(value: Any, path: str) -> Any:
    """What stands at a GJSON path of plain keys; a backslash takes the next sign as it is."""
    assert not re.search(r"(?<!\\)[|*?#@!{}\[\]]", path), f"{path} is more than a path of keys"
    for step in _GJSON_STEP.findall(path):
        value = value.get(re.sub(r"\\(.)", r"\1", step)) if isinstance(value, dict) else None
    return value


def _framed(model: dict[str, Any], page: Any) -> list[Field]:
    """The declared columns of one page, in alphabetical order, in the declared types; none where there is no row."""
    rows = _selected(page, model["root_selector"]) if model["root_selector"] else page
    assert isinstance(rows, list), f"no rows at {model['root_selector']!r}: {str(page)[:200]}"
    columns = sorted(model["columns"] if rows else [], key=lambda column: column["text"])
    return [
        Field(
            column["text"],
            {"timestamp_epoch": "time"}.get(column["type"], column["type"]),
            [_typed(_selected(row, column["selector"]), column["type"]) for row in rows],
        )
        for column in columns
    ]


def _typed(value: Any, kind: str) -> Any:
    match kind:
        case _ if value is None:
            return None
        case "timestamp_epoch":
            assert isinstance(value, int), f"{value!r} is no time in ms"
            return value
        case "number":
            assert isinstance(value, (int, float)), f"{value!r} is no number"
            assert not isinstance(value, bool)
            return float(value)
        case "boolean":
            assert isinstance(value, bool), f"{value!r} is no boolean"
            return value
        case "string":
            assert isinstance(value, (str, int, float)), f"{value!r} is no text"
            # Go has read a float, and writes whole ones without a point.
            return value if isinstance(value, str) else json.dumps(value).removesuffix(".0")
    raise AssertionError(f"Infinity knows no type {kind}")


def _merged(pages: list[list[Field]]) -> list[Field]:
    return [
        Field(fields[0].name, fields[0].type, [value for item in fields for value in item.values])
        for fields in zip(*pages, strict=True)
    ]


def _formatted(model: dict[str, Any], fields: list[Field]) -> Frame:
    names = {item.name: item.type for item in fields}
    match model["format"]:
        case "timeseries":
            return Frame(model["refId"], _wide(fields) if fields else [], "timeseries-wide")
        case "logs":
            lines = names.get("timestamp") == "time" and names.get("body") == "string"
            return Frame(model["refId"], fields, "log-lines" if lines else "")
        case "node-graph-nodes" | "node-graph-edges":
            return Frame(model["refId"], fields, "nodeGraph")
        case form:
            assert form == "table"
            return Frame(model["refId"], fields)


def _wide(fields: list[Field]) -> list[Field]:
    """Long to wide, as Grafana's SDK does it: texts become labels, and every series has a value for every time."""
    [time] = [item for item in fields if item.type == "time"]
    texts = [item for item in fields if item.type == "string"]
    numbers = [item for item in fields if item.type == "number"]
    assert numbers, "a time series without a number"
    assert time.values == sorted(time.values), "the times are not ascending, so the frame stays long"
    if not texts:
        return [time, *numbers]
    instants = list(dict.fromkeys(time.values))
    at = {instant: index for index, instant in enumerate(instants)}
    series: dict[tuple[str, ...], Field] = {}
    for row, instant in enumerate(time.values):
        labels = {text.name: text.values[row] or "" for text in texts}
        for number in numbers:
            key = (number.name, *labels.values())
            line = series.setdefault(key, Field(number.name, "number", [None] * len(instants), labels))
            line.values[at[instant]] = number.values[row]
    return [Field(time.name, "time", instants), *(series[key] for key in sorted(series))]
