"""The settings tree as a table, for the page generated from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from bridge.settings.annotations import item_of, members, model_of
from bridge.settings.tree import Settings

_TYPES = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    SecretStr: "secret text",
}


@dataclass(frozen=True, slots=True)
class SettingDoc:
    """One key: where it stands, what it holds, what it is when left out, and what it is for."""

    path: str
    type: str
    default: str
    description: str


def describe_settings() -> list[SettingDoc]:
    """Every key of the tree in order; `[]` stands for an item of a list, `NAME` for a key of one's own."""
    return list(_walk(Settings, ""))


def _walk(model: type[BaseModel], prefix: str) -> Iterator[SettingDoc]:
    for key, info in model.model_fields.items():
        path = f"{prefix}{key}"
        yield SettingDoc(path, _type(info.annotation), _default(info), info.description or "")
        item = item_of(info.annotation)
        if inner := model_of(info.annotation):
            yield from _walk(inner, f"{path}.")
        elif several := model_of(item):
            yield from _walk(several, f"{path}.NAME." if _is_mapping(info.annotation) else f"{path}[].")


def _is_mapping(annotation: Any) -> bool:
    return any(get_origin(each) is dict for each in members(annotation))


def _type(annotation: Any) -> str:
    each = next(members(annotation))
    item = item_of(each)
    if item is not None:
        return f"{'mapping' if _is_mapping(each) else 'list'} of {_type(item)}"
    if isinstance(each, type) and issubclass(each, StrEnum):
        return " | ".join(each)
    return _TYPES.get(each, "anything" if each is Any else "mapping")


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    if info.default_factory_takes_validated_data:
        return "made of other settings"
    value = info.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return ""
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False)
