"""Settings from a file, the environment and the command line, with every problem told at once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from bridge.errors import SettingsError
from bridge.settings.annotations import item_of, model_of
from bridge.settings.explain import explain, path_text
from bridge.settings.overlay import Layers, lay_environment, lay_overrides
from bridge.settings.tree import Settings
from bridge.settings.yaml_text import MAX_FILE_BYTES, Loc, Mark, Unreadable, read_yaml

# Understood in shape, so that a file for a later version reads well here, but nothing would act on them.
NOT_SERVED = (
    "server.workers",
    "upstreams",
    "grafana",
    "access",
    "embeds",
    "services",
    "jobs",
)
_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_Problem = tuple[Mark | None, str]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where each of them was said."""

    settings: Settings
    path: Path | None
    base_dir: Path
    _layers: Layers = field(repr=False)

    def where(self, loc: Loc) -> str:
        """`file:line:column` of a place such as `("sources", 0, "options", "url")`, or of its nearest parent."""
        return self._layers.where(loc)

    def problem(self, loc: Loc, text: str) -> str:
        """One line that says what is wrong at a place."""
        return _line(self.where(loc), loc, text)

    def problems(self, error: ValidationError, loc: Loc, model: type[BaseModel]) -> list[str]:
        """One line for each error in the options of a plug-in, which stand at `loc` and were read as `model`."""
        data: Any = self._layers.data
        for part in loc:
            data = data.get(part, {}) if isinstance(data, dict) else data[int(part)]
        return [self.problem((*loc, *inner), text) for inner, text in explain(error, data, model)]


def load_settings(
    path: Path | None, *, env: Mapping[str, str], overrides: Mapping[str, Any] = MappingProxyType({})
) -> Loaded:
    """Settings of the file, under the variables in `env`, under `overrides` (dotted path to value).

    Errors: SettingsError with one line for each problem; without a file, the defaults are the ground.
    """
    base_dir = Path.cwd() if path is None else path.absolute().parent
    context = {"base_dir": base_dir}
    layers, problems = _read(path)
    said = [*lay_environment(layers, env, tuple(Settings.model_fields)), *lay_overrides(layers, overrides)]
    problems.extend((None, _line(name, (), text)) for name, text in said)
    settings = None
    try:
        settings = Settings.model_validate(layers.data, context=context)
    except ValidationError as error:
        problems.extend(_placed(layers, explain(error, layers.data, Settings)))
    problems.extend(_placed(layers, _not_served(layers.data, context)))
    if problems or settings is None:
        raise SettingsError([line for _, line in sorted(problems, key=_by_place)])
    return Loaded(settings, path, base_dir, layers)


def _by_place(problem: _Problem) -> tuple[bool, Mark]:
    return problem[0] is None, problem[0] or Mark()


def _placed(layers: Layers, found: Iterator[tuple[Loc, str]]) -> Iterator[_Problem]:
    for loc, text in found:
        where, mark = layers.place(loc)
        yield mark, _line(where, loc, text)


def _line(where: str, loc: Loc, text: str) -> str:
    line = ": ".join(part for part in (where, path_text(loc), text) if part)
    return _BREAKS.sub(lambda found: repr(found[0])[1:-1], line)


def _read(path: Path | None) -> tuple[Layers, list[_Problem]]:
    if path is None:
        return Layers(), []
    layers = Layers(file=str(path))
    try:
        with path.open("rb") as file:
            document = read_yaml(file.read(MAX_FILE_BYTES + 1))
    except FileNotFoundError as error:
        raise SettingsError([_line(str(path), (), "there is no such file (name another with --config)")]) from error
    except OSError as error:
        raise SettingsError([_line(str(path), (), f"cannot be read: {os.strerror(error.errno or 0)}")]) from error
    except Unreadable as error:
        raise SettingsError([_line(layers.at(error.mark), (), error.text)]) from error
    problems: list[_Problem] = [(mark, _line(layers.at(mark), loc, text)) for mark, loc, text in document.problems]
    if document.value is not None and not isinstance(document.value, dict):
        kind = "a list" if isinstance(document.value, list) else "a plain value"
        text = f"settings are a mapping of sections, this file holds {kind} (begin with `server:` or `sources:`)"
        raise SettingsError([_line(layers.at(Mark()), (), text)])
    layers.data, layers.marks = document.value or {}, document.marks
    return layers, problems


def _not_served(data: dict[str, Any], context: dict[str, Any]) -> Iterator[tuple[Loc, str]]:
    for path in NOT_SERVED:
        for loc in _beyond_default(data, tuple(path.split(".")), Settings, context):
            yield loc, "is understood but not served by this version of bridge; remove it"


def _beyond_default(
    data: Any, path: tuple[str, ...], model: type[BaseModel], context: dict[str, Any]
) -> Iterator[Loc]:
    key = path[0].removesuffix("[]")
    if not isinstance(data, dict):
        return
    if data.get(f"{key}_file") is not None:
        yield (f"{key}_file",)
    value, field_info = data.get(key), model.model_fields[key]
    if value is None:
        return
    if not path[1:]:
        try:
            same = TypeAdapter[Any](field_info.rebuild_annotation()).validate_python(value, context=context)
            if same == field_info.get_default(call_default_factory=True):
                return
        except ValidationError:  # told by the validation of the whole tree; here it is simply not the default
            pass
        yield (key,)
        return
    inner = model_of(field_info.annotation) or model_of(item_of(field_info.annotation))
    assert inner is not None, path  # noqa: S101
    several = path[0].endswith("[]")
    items = (enumerate(value) if isinstance(value, list) else ()) if several else ((None, value),)
    for index, item in items:
        here: Loc = (key,) if index is None else (key, index)
        yield from ((*here, *loc) for loc in _beyond_default(item, path[1:], inner, context))
