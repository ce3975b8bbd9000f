"""What stands where in a tree of pydantic models, read from their annotations."""

from __future__ import annotations

from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from bridge.settings.yaml_text import Loc


def members(annotation: Any) -> Iterator[Any]:
    """The alternatives of an annotation, None left out."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from members(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for part in get_args(annotation):
            yield from members(part)
    elif annotation is not NoneType:
        yield annotation


def model_of(annotation: Any) -> type[BaseModel] | None:
    """The first model among the alternatives."""
    models = (each for each in members(annotation) if isinstance(each, type) and issubclass(each, BaseModel))
    return next(models, None)


def item_of(annotation: Any) -> Any:
    """What a list or a mapping of free keys holds; None for anything else."""
    for each in members(annotation):
        origin, args = get_origin(each), get_args(each)
        if origin in (tuple, list):
            return args[0]
        if origin is dict:
            return args[1]
    return None


def known_keys(model: type[BaseModel], loc: Loc) -> tuple[str, ...]:
    """The keys that may stand in the mapping at `loc`; of all its alternatives, where there are several."""
    here: list[Any] = [model]
    for part in loc:
        here = [child for each in here for child in _children(each, part)]
    models = [each for each in here if isinstance(each, type) and issubclass(each, BaseModel)]
    return tuple(dict.fromkeys(key for each in models for key in each.model_fields))


def _children(annotation: Any, part: str | int) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if isinstance(part, str) and part in annotation.model_fields:
            yield from members(annotation.model_fields[part].annotation)
    elif (item := item_of(annotation)) is not None:
        yield from members(item)
