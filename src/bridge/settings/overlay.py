"""Settings from the environment and the command line, laid over those of the file."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.settings.yaml_text import Loc, Mark, Unreadable, plain_scalar, read_yaml

PREFIX = "BRIDGE_"
COMMAND_LINE = "command line"
_BRACKETS: dict[str, type] = {"[": list, "{": dict, '"': str, "'": str}
_QUOTES = "(put quotes around a text that begins with "
_INDEX = re.compile(r"[0-9]{1,4}")


@dataclass(slots=True)
class Layers:
    """The raw settings, and where each of them was said."""

    file: str = "settings"
    data: dict[str, Any] = field(default_factory=dict, repr=False)
    marks: dict[Loc, Mark] = field(default_factory=dict)
    said_in: dict[Loc, str] = field(default_factory=dict)

    def where(self, loc: Loc) -> str:
        """`file:line:column` of a place, the variable that set it, or the same of the nearest parent."""
        return self.place(loc)[0]

    def place(self, loc: Loc) -> tuple[str, Mark | None]:
        """What `where` says, with the mark when it is in the file."""
        for end in range(len(loc), 0, -1):
            for near in (loc[:end], (*loc[: end - 1], f"{loc[end - 1]}_file")):
                if near in self.said_in:
                    return self.said_in[near], None
                if near in self.marks:
                    return self.at(self.marks[near]), self.marks[near]
        return self.at(Mark()) if self.marks else self.file, Mark()

    def at(self, mark: Mark) -> str:
        """A place in the file."""
        return f"{self.file}:{mark.line}:{mark.column}"

    def lay(self, parts: list[str], value: Any, origin: str) -> None:
        """Set one value, making the mappings and list items on the way to it.

        Errors: ValueError saying why there is no such place.
        """
        here: Any = self.data
        loc: Loc = ()
        for part, following in zip(parts, [*parts[1:], None], strict=True):
            key = _key_in(here, part)
            loc = (*loc, key)
            if following is None:
                self._put(here, key, value)
                self._now_from(loc, origin)
                return
            if here[key] is None:
                here[key] = [] if _INDEX.fullmatch(following) else {}
                self._now_from(loc, origin)
            here = here[key]

    @staticmethod
    def _put(here: Any, key: str | int, value: Any) -> None:
        here[key] = value
        if isinstance(key, str):
            # The later word counts: X from here against X_file in the file, and the other way round.
            other = key.removesuffix("_file") if key.endswith("_file") else f"{key}_file"
            here.pop(other, None)

    def _now_from(self, loc: Loc, origin: str) -> None:
        for old in [each for each in self.marks if each[: len(loc)] == loc]:
            del self.marks[old]
        self.said_in[loc] = origin


def _key_in(here: Any, part: str) -> str | int:
    if isinstance(here, dict):
        key = next((each for each in here if each.lower() == part), part)
        here.setdefault(key, None)
        return key
    if not isinstance(here, list):
        raise ValueError(f"there is nothing below a plain value, so no `{part}`")  # noqa: TRY004 - not a bug
    if not _INDEX.fullmatch(part) or int(part) > len(here):
        raise ValueError(f"`{part}` is no item of a list of {len(here)} (count from 0; {len(here)} adds one)")
    if int(part) == len(here):
        here.append(None)
    return int(part)


def lay_environment(layers: Layers, env: Mapping[str, str], top_keys: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Lay the `BRIDGE_…` variables over the layers; what is wrong comes back as variable and sentence.

    Ours are those whose first part is a top-level key. Others pass, as platforms invent some of their own; but a
    near miss with a `__` in it was meant for us.
    """
    for name in sorted((each for each in env if each.startswith(PREFIX)), key=_natural):
        parts = name.removeprefix(PREFIX).lower().split("__")
        if parts[0] not in top_keys:
            near = difflib.get_close_matches(parts[0], top_keys, n=1)
            if len(parts) > 1 and near:
                yield name, f"is no setting (did you mean {'__'.join([PREFIX + near[0], *parts[1:]]).upper()}?)"
            continue
        try:
            layers.lay(parts, read_variable(env[name]), name)
        except ValueError as error:
            yield name, str(error)


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if _INDEX.fullmatch(part) else (-1, part) for part in name.split("__")]


def read_variable(text: str) -> Any:
    """The value of a variable: a YAML scalar, or a list or mapping in brackets.

    Errors: ValueError that does not show the text, which may be a secret.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("is not UTF-8 text") from error
    if text[:1] not in _BRACKETS:
        return _plain(text)
    opening, wanted = text[0], _BRACKETS[text[0]]
    try:
        document = read_yaml(data)
    except Unreadable as error:
        raise ValueError(f"cannot be read as YAML {_QUOTES}{opening})") from error
    if document.problems:
        raise ValueError(document.problems[0][2])
    if not isinstance(document.value, wanted):
        raise ValueError(f"cannot be read as YAML, it goes on after the closing mark {_QUOTES}{opening})")  # noqa: TRY004 - not a bug
    return document.value


def _plain(text: str) -> Any:
    try:
        return plain_scalar(text)
    except ValueError as error:
        raise ValueError("the number has too many digits (write a shorter one)") from error


def lay_overrides(layers: Layers, overrides: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Lay options of the command line, by dotted path, over everything else; None was not given.

    What is wrong comes back as origin and sentence.
    """
    for path, value in overrides.items():
        if value is None:
            continue
        try:
            layers.lay(path.split("."), value, COMMAND_LINE)
        except ValueError as error:
            yield COMMAND_LINE, f"{path}: {error}"
