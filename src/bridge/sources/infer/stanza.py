"""What was guessed, and its YAML with the reasons as comments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from bridge.edge.faults import printable
from bridge.model.schema import Column, Kind, Param

MAX_COMMENT_CHARS = 200
# Texts that no reader of YAML 1.1 or 1.2 takes for anything else, but for the words.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./ @-]*")
_WORDS = re.compile(r"y|n|yes|no|on|off|true|false|null|nan|inf", re.I)


@dataclass(frozen=True, slots=True)
class DatasetGuess:
    """One dataset.

    Shape: `columns` empty leaves them to the plug-in; `remarks` are reasons by column name; `trial` are values of
           parameters with which it can be asked once; `spans` says that it is narrowed by time.
    """

    name: str
    options: Mapping[str, Any]
    columns: tuple[Column, ...] = ()
    params: tuple[Param, ...] = ()
    description: str = ""
    notes: tuple[str, ...] = ()
    remarks: Mapping[str, str] = field(default_factory=dict)
    trial: tuple[tuple[str, tuple[str, ...]], ...] = ()
    spans: bool = False

    @property
    def untried(self) -> tuple[str, ...]:
        """Required parameters for which no value is known."""
        known = {name for name, _ in self.trial}
        return tuple(p.name for p in self.params if p.required and p.default is None and p.name not in known)

    def settings(self) -> dict[str, Any]:
        """The dataset as it stands in the settings."""
        said: dict[str, Any] = {"name": self.name, "description": self.description, "options": dict(self.options)}
        said |= {"params": list(map(_param, self.params)), "columns": list(map(_column, self.columns))}
        return {key: value for key, value in said.items() if value}


@dataclass(frozen=True, slots=True)
class SourceGuess:
    """One source with its datasets."""

    name: str
    kind: str
    options: Mapping[str, Any]
    datasets: tuple[DatasetGuess, ...]
    notes: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """The source as it stands in the settings."""
        said: dict[str, Any] = {"name": self.name, "kind": self.kind, "options": dict(self.options)}
        said |= {"datasets": [dataset.settings() for dataset in self.datasets]}
        return {key: value for key, value in said.items() if value}

    def yaml(self) -> str:
        """A settings document with this one source."""
        return "\n".join(["sources:", *_source(self, "  ")]) + "\n"


def items_yaml(source: SourceGuess, indent: str) -> str:
    """The source as an item of a list of sources that is indented so far."""
    return "\n".join(_source(source, indent)) + "\n"


def _param(param: Param) -> dict[str, Any]:
    said: dict[str, Any] = {"name": param.name, "description": param.description, "default": param.default}
    said |= {"options": list(param.options), "required": param.required, "multi": param.multi}
    return {key: value for key, value in said.items() if value is not None and value not in ("", [], False)}


def _column(column: Column) -> dict[str, Any]:
    said = {
        "name": column.name,
        "type": str(column.type),
        "unit": column.unit,
        "role": column.role and str(column.role),
        "kind": None if column.kind is Kind.GAUGE else str(column.kind),
        "select": column.select,
        "description": column.description,
    }
    return {key: value for key, value in said.items() if value}


def _source(source: SourceGuess, indent: str) -> Iterator[str]:
    yield from (f"{indent}{_comment(note)}" for note in source.notes)
    yield f"{indent}- name: {flow(source.name)}"
    inner = indent + "  "
    yield f"{inner}kind: {flow(source.kind)}"
    if source.options:
        yield f"{inner}options:"
        yield from (f"{inner}  {flow(key)}: {flow(value)}" for key, value in source.options.items())
    yield f"{inner}datasets:"
    for dataset in source.datasets:
        yield from _dataset(dataset, inner + "  ")


def _dataset(dataset: DatasetGuess, indent: str) -> Iterator[str]:
    yield from (f"{indent}{_comment(note)}" for note in dataset.notes)
    said = dataset.settings()
    lists = {key: said.pop(key, []) for key in ("params", "columns")}
    inner = indent + "  "
    yield f"{indent}- name: {flow(said.pop('name'))}"
    yield from (f"{inner}{key}: {flow(value)}" for key, value in said.items())
    for key, items in lists.items():
        if items:
            yield f"{inner}{key}:"
        for item in items:
            remark = dataset.remarks.get(item["name"], "")
            yield f"{inner}  - {flow(item)}" + (f" {_comment(remark)}" if remark else "")


def _comment(text: str) -> str:
    """One line behind a `#`, whatever the text holds: a line break would end the comment and begin settings."""
    line = "".join(char if char.isprintable() else " " for char in text)
    short = line if len(line) <= MAX_COMMENT_CHARS else f"{line[:MAX_COMMENT_CHARS]}…"
    return f"# {short}".rstrip()


class _Dumper(yaml.SafeDumper):
    """Quotes every text that some reader of YAML could take for a number, a date or a marker."""

    def ignore_aliases(self, data: Any) -> bool:
        """No anchors: they help nobody who reads settings."""
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    simple = _PLAIN.fullmatch(text) and not text.endswith(" ") and not _WORDS.fullmatch(text)
    style = None if simple else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def flow(value: Any) -> str:
    """A value in one line of YAML."""
    text = yaml.dump(
        value, Dumper=_Dumper, default_flow_style=True, sort_keys=False, allow_unicode=True, width=float("inf")
    )
    # What is not printable stands inside quotes, where YAML has the same escapes.
    return printable(str(text).removesuffix("\n").removesuffix("\n...").strip())


def clean(text: object, most: int = MAX_COMMENT_CHARS) -> str:
    """A text of the far side as it may stand in a description: one printable line of bounded length."""
    line = " ".join("".join(char if char.isprintable() else " " for char in str(text)[: 4 * most]).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def listed(names: Sequence[str], most: int = 10) -> str:
    """Names as they may stand in a comment."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"`{clean(name, 60)}`" for name in names[:most]) + more
