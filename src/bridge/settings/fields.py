"""The base of every section of the settings, and the kinds of value that stand in them."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from bridge.settings.yaml_text import Loc
from bridge.sources.base import Options

SEVERAL = "several"
ONE = "sentence"


class Section(Options):
    """A mapping of the settings: frozen, no unknown keys, `X_file` reads `X`, an empty value means the default.

    Paths are relative to the folder of the settings file, which is the validation context's `base_dir`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=65_536, allow_inf_nan=False)

    # Runs before the validator of Options, which then reads the files.
    @model_validator(mode="before")
    @classmethod
    def _place_files(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, Mapping):
            return data
        out: dict[Any, Any] = {}
        problems: list[tuple[Loc, str]] = []
        for key, value in data.items():
            plain = _plain_key(cls, key)
            if value is None and (plain or (key in cls.model_fields and not _admits_none(cls, key))):
                continue
            out[key] = value
            if plain and isinstance(value, str):
                path = place(value, info)
                out[key] = str(path)
                if plain in data:
                    problems.append(((key,), f"stands beside `{plain}` (keep one of the two)"))
                elif not os.path.exists(path):  # unlike Path.exists, False for any name that cannot be
                    problems.append(((key,), f"there is no file {path} (make it, or set `{plain}`)"))
        refuse(problems)
        return out


def _plain_key(model: type[Options], key: Any) -> str:
    plain = key[: -len("_file")] if isinstance(key, str) and key.endswith("_file") else ""
    return plain if plain in model.model_fields and key not in model.model_fields else ""


def _admits_none(model: type[Options], key: str) -> bool:
    return NoneType in get_args(model.model_fields[key].annotation)


def place(value: str | Path, info: ValidationInfo) -> Path:
    """The path as it is meant in a settings file: `~` is a home, and relative is to the file's folder."""
    path = Path(os.path.expanduser(value))
    base_dir = (info.context or {}).get("base_dir")
    return path if base_dir is None else Path(base_dir, path)


def refuse(problems: Sequence[tuple[Loc, str]]) -> None:
    """Raise the problems found in one section; each has its place relative to the section.

    Errors: PydanticCustomError, unless there are none.
    """
    if problems:
        raise PydanticCustomError(SEVERAL, "wrong settings", {"problems": list(problems)})


def sentence(text: str) -> PydanticCustomError:
    """An error of one field that reads as `text`, braces and all."""
    return PydanticCustomError(ONE, "{text}", {"text": text})


def shown(value: object) -> str:
    """A value in one short line of a message."""
    text = repr(value)
    return text if len(text) <= 42 else f"{text[:40]}…"


def _matching(pattern: str, what: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise sentence(f"{shown(value)} is no {what} (write it as {pattern})")
        return value

    return check


_name = _matching(r"[a-z][a-z0-9_]*", "name")


def _source_name(value: str) -> str:
    if value.startswith("_"):
        raise sentence(f"{shown(value)} begins with `_`, as only bridge's own sources do (choose another name)")
    return _name(value)


def _flag(value: Any) -> Any:
    known = {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value
    if not isinstance(known, bool):
        raise sentence(f"must be true or false, not {shown(value)}")
    return known


def _no_flag(value: Any) -> Any:
    if isinstance(value, bool):
        raise sentence(f"must be a number, not {str(value).lower()}")
    return value


def _path(value: Path, info: ValidationInfo) -> Path:
    return place(value, info)


def _existing(value: Path) -> Path:
    if not os.path.isfile(value):
        raise sentence(f"there is no file {value} (a relative path begins at the settings file's folder)")
    return value


def _url(value: str) -> str:
    # The text is not shown: it may hold a password.
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise sentence(f"is no URL: {error} (write it as https://host:port/path)") from error
    if parts.scheme not in ("http", "https") or not host or re.search(r"[\s\x00-\x1f\\]", value):
        raise sentence("is no absolute http or https URL (write it as https://host:port/path)")
    if parts.username is not None or parts.password is not None:
        raise sentence("holds a user name or password (URLs are shown and logged; take them out)")
    if "?" in value or "#" in value:
        raise sentence("has a query or a fragment (end it after the path)")
    return value.rstrip("/")


_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?P<host>{_LABEL}(\.{_LABEL})*\.?|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{{1,5}}))?")


def _host(value: str) -> str:
    text = value.lower()
    if re.fullmatch(r"[0-9a-f:]*:[0-9a-f:]*:[0-9a-f:.]*", text):
        text = f"[{text}]"
    match = _HOST.fullmatch(text)
    good = match is not None and len(match["host"]) <= 255 and int(match["port"] or 1) in range(1, 65_536)
    if good and match is not None and match["host"].startswith("["):
        good = _is_address(match["host"][1:-1])
    if not good:
        raise sentence(f"{shown(value)} is no host or host:port (write only the name, as in `grafana.example:8000`)")
    return text


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _network(value: str) -> str:
    try:
        network = ipaddress.ip_network(value)
    except ValueError as error:
        raise sentence(f"{shown(value)} is no address or network (write it as 10.0.0.5 or 10.0.0.0/24)") from error
    if network.prefixlen == 0:
        raise sentence(f"{shown(value)} trusts every address (name the proxies)")
    return value


Name = Annotated[str, AfterValidator(_name)]
SourceName = Annotated[str, AfterValidator(_source_name)]
ColumnName = Annotated[str, AfterValidator(_matching(r"[A-Za-z_][A-Za-z0-9_]*", "column name"))]
ParamName = Annotated[str, AfterValidator(_matching(r"[A-Za-z_][A-Za-z0-9_]*", "parameter name"))]
Flag = Annotated[bool, BeforeValidator(_flag)]
Count = Annotated[int, Field(ge=0), BeforeValidator(_no_flag)]
PositiveCount = Annotated[int, Field(gt=0), BeforeValidator(_no_flag)]
Seconds = Annotated[float, Field(ge=0), BeforeValidator(_no_flag)]
PositiveSeconds = Annotated[float, Field(gt=0), BeforeValidator(_no_flag)]
Port = Annotated[int, Field(ge=0, le=65_535), BeforeValidator(_no_flag)]
PlacedPath = Annotated[Path, AfterValidator(_path)]
ExistingFile = Annotated[Path, AfterValidator(_path), AfterValidator(_existing)]
Url = Annotated[str, AfterValidator(_url)]
HostPattern = Annotated[str, AfterValidator(_host)]
NetworkText = Annotated[str, AfterValidator(_network)]
