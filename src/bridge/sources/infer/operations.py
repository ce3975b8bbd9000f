"""The GET paths of an OpenAPI document as datasets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bridge.edge.address import check_path as check_raw
from bridge.edge.upstream import Answer
from bridge.errors import BadQuery, UpstreamInvalid
from bridge.sources.builtin.rest.templates import check_path
from bridge.sources.infer.columns import MAX_COLUMNS, Field, guess
from bridge.sources.infer.names import Names, column_name, jmes_path, path_name
from bridge.sources.infer.openapi import Api, Rows
from bridge.sources.infer.parameters import Meaning, meaning, parameters
from bridge.sources.infer.sampled import read_sample, sampled
from bridge.sources.infer.shape import jmes_select
from bridge.sources.infer.stanza import DatasetGuess, clean, listed

MAX_PATHS = 1_000
_JSON = ("application/json", "text/json", "*/*")
_LINES = ("text/csv", "application/csv", "application/x-ndjson", "application/ndjson", "application/jsonl")


@dataclass(frozen=True, slots=True)
class Described:
    """One GET that may become a dataset; `columns` empty leaves it to a sample."""

    path: str
    shown: str
    meaning: Meaning
    columns: tuple[Field, ...]
    rows: Rows | None
    description: str
    label: str

    @property
    def path_asked(self) -> str | None:
        """The path to ask once; None when a required value is not known."""
        return self.meaning.path_asked

    @property
    def asked(self) -> tuple[tuple[str, str], ...]:
        """The query to ask once."""
        return tuple(self.meaning.asked)

    def sampled(self, answer: Answer, names: Names) -> DatasetGuess:
        """The dataset as its answer shows it, where the document says nothing of it.

        Errors: UpstreamInvalid when it holds no rows of objects.
        """
        found = sampled(answer, self.shown, (), names, name=self.label)
        options = {**found.options, **self._options(dict(found.options).get("rows"))}
        paging = self.meaning.paging or found.options.get("paging")
        notes = ("the document does not say what it answers", *found.notes, *self.meaning.notes)
        return replace(
            found,
            options=options | ({"paging": paging} if paging else {}),
            params=tuple(self.meaning.declared),
            notes=notes,
            description=self.description,
            trial=tuple(self.meaning.trial),
            spans=self.meaning.spans,
        )

    def guess(self, names: Names, answer: Answer | None) -> DatasetGuess:
        """The dataset as it is described, compared with an answer where there is one."""
        fields = list(self.columns)
        said: tuple[str, ...] = ()
        rows = 0
        if answer is not None:
            fields, said, rows = self._compared(answer)
        guessed = guess(fields, rows)
        path = jmes_path(self.rows.keys) if self.rows else ""
        return DatasetGuess(
            names.take(self.label),
            self._options(path or None),
            guessed.columns,
            tuple(self.meaning.declared),
            self.description,
            (f"GET {self.shown}", *self.meaning.notes, *said, *guessed.notes),
            guessed.remarks,
            tuple(self.meaning.trial),
            self.meaning.spans,
        )

    def _options(self, rows: str | None) -> dict[str, Any]:
        options: dict[str, Any] = {"path": self.meaning.path}
        options |= {"params": self.meaning.params} if self.meaning.params else {}
        options |= {"rows": rows} if rows else {}
        return options | ({"paging": self.meaning.paging} if self.meaning.paging else {})

    def _compared(self, answer: Answer) -> tuple[list[Field], tuple[str, ...], int]:
        """The described fields with the values of an answer, and what is different there."""
        try:
            sample = read_sample(answer, f"GET {self.shown}")
        except UpstreamInvalid as error:
            return list(self.columns), (f"not compared with an answer: {error.message}",), 0
        if self.rows is None or sample.found.keys != self.rows.keys:
            where = jmes_path(sample.found.keys) or "@"
            return list(self.columns), (f"the answer has its rows at `{where}`, the document elsewhere",), 0
        seen = {item.keys: item for item in sample.fields}
        out = [_joined(item, seen.pop(item.keys, None)) for item in self.columns]
        opened = {keys[:depth] for keys in (item.keys for item in out) for depth in range(1, len(keys))}
        closed = {item.keys for item in out if item.type == "json"}
        extra = [item for keys, item in seen.items() if keys not in opened and keys[:1] not in closed]
        extra = [replace(item, remark=_and(item.remark, "not in the document")) for item in extra]
        gone = [jmes_path(item.keys) for item in out if item.remark == _ABSENT]
        said = (f"described, but in no row of the answer: {listed(gone)}",) if gone else ()
        return [*out, *extra][: MAX_COLUMNS * 2], said, len(sample.found.rows)


_ABSENT = "in no row that was seen"


def _joined(told: Field, seen: Field | None) -> Field:
    if seen is None:
        return replace(told, select=jmes_select(told.keys, 0), remark=_ABSENT)
    return replace(told, values=seen.values, select=seen.select, remark=seen.remark, type=seen.type or told.type)


def _and(*texts: str) -> str:
    return "; ".join(filter(None, texts))


@dataclass(frozen=True, slots=True)
class AllDescribed:
    """What a document describes: candidates for datasets, how many more there are, and what is odd in it."""

    items: tuple[Described, ...]
    more: int
    notes: tuple[str, ...]


def described(api: Api, base: str, max_datasets: int) -> AllDescribed:
    """The GET paths that answer rows, those without required parameters first."""
    found: list[Described] = []
    paths = api.document.get("paths")
    entries = list(paths.items()) if isinstance(paths, dict) else []
    for path, node in entries[:MAX_PATHS]:
        if isinstance(path, str) and (item := _operation(api, base, path, api.resolve(node))):
            found.append(item)
    found.sort(key=lambda item: sum(param.required for param in item.meaning.declared))
    # Some candidates answer no rows; a few more than wanted are kept in their place.
    items = tuple(found[: max_datasets * 2])
    notes = []
    if len(entries) > MAX_PATHS:
        notes.append(f"only the first {MAX_PATHS} of {len(entries)} paths were read")
    if api.broken:
        notes.append(f"references that lead nowhere: {listed(list(api.broken), 3)}")
    return AllDescribed(items, len(found) - len(items), tuple(notes))


def _operation(api: Api, base: str, path: str, node: Mapping[str, Any]) -> Described | None:
    operation = api.resolve(node.get("get"))
    if not isinstance(node.get("get"), dict) or operation.get("deprecated") is True:
        return None
    told, schema = _answer(api, operation)
    rows = api.rows(schema) if told else None
    if told and rows is None:
        return None
    columns = tuple(api.fields(rows.row)) if rows else ()
    taken = {column_name("_".join(item.keys)) for item in columns}
    given = parameters(api, node.get("parameters"), operation.get("parameters"))
    shown = f"{base}{path}" if path.startswith("/") else f"{base}/{path}"
    asks = meaning(shown, given, api, rows, taken)
    try:
        check_path(asks.path)
        check_raw(asks.path_asked or "")
    except (ValueError, BadQuery):
        return None
    said = clean(operation.get("summary") or operation.get("description") or "")
    return Described(path, shown, asks, columns, rows, said, path_name(path))


def _answer(api: Api, operation: Mapping[str, Any]) -> tuple[bool, Any]:
    """Whether the document says what a good answer holds, and its schema."""
    responses = operation.get("responses")
    known = {str(key).upper(): value for key, value in responses.items()} if isinstance(responses, dict) else {}
    for code in ("200", "2XX", "201", "206", "DEFAULT"):
        if code in known:
            response = api.resolve(known[code])
            return _content(api, response)
    return False, None


def _content(api: Api, response: Mapping[str, Any]) -> tuple[bool, Any]:
    if "schema" in response:
        return bool(api.schema(response["schema"])), response["schema"]
    content = response.get("content")
    for media, node in _items(content):
        kind = str(media).partition(";")[0].strip().lower()
        if kind in _LINES:
            return False, None
        if kind in _JSON or kind.endswith("+json"):
            schema = api.resolve(node).get("schema")
            return bool(api.schema(schema)) and not _open(api.schema(schema)), schema
    # An answer of another type (an image, a page) is no table; without any type it may be one.
    return bool(content), None


def _open(schema: Mapping[str, Any]) -> bool:
    """A schema that allows anything, as frameworks write it for a function without a declared answer."""
    said = set(schema) - {"title", "description", "example", "examples", "nullable", "additionalProperties"}
    return said <= {"type"} and schema.get("type", "object") == "object"


def _items(content: Any) -> Iterator[tuple[Any, Any]]:
    yield from content.items() if isinstance(content, dict) else ()
