"""`schema.json` as text: what is written, and what is refused when it is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from bridge.errors import StoreBroken, StoreNewer
from bridge.model.schema import ColumnType, Kind, Role
from bridge.sources.history.versions import NATURAL, StoredColumn, Version, Versions, Why

FORMAT = 1
BACKUP = "schema.json.bak"
Positive = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Column(_Part):
    id: Positive
    name: Annotated[str, Field(min_length=1)]
    type: ColumnType
    unit: str | None
    role: Role | None
    kind: Kind
    stored: Literal["integer", "number", "string", "boolean", "time"]


class _Version(_Part):
    version: Positive
    at: AwareDatetime
    why: Why
    generation: Positive
    columns: tuple[_Column, ...]


class _File(_Part):
    format: int
    dataset: str
    versions: Annotated[tuple[_Version, ...], Field(min_length=1)]


def written(versions: Versions) -> bytes:
    """The file of these versions."""
    data = {
        "format": FORMAT,
        "dataset": versions.dataset,
        "versions": [
            {
                "version": version.version,
                "at": version.at.isoformat(),
                "why": version.why,
                "generation": version.generation,
                "columns": [asdict(column) for column in version.columns],
            }
            for version in versions.items
        ],
    }
    return orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def parsed(content: bytes, path: Path, dataset: str) -> Versions:
    """The versions in the file, as those of the dataset whose folder it stands in.

    Errors: StoreNewer, StoreBroken with the place in the file.
    """
    try:
        data = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise _broken(path, f"line {error.lineno} column {error.colno}", error.msg) from error
    format_ = data.get("format") if isinstance(data, dict) else None
    if not isinstance(format_, int) or format_ < 1:
        raise _broken(path, "`format`", "it is no number from 1 on")
    if format_ > FORMAT:
        raise StoreNewer(
            f"`{path}` has format {format_}, this bridge reads {FORMAT}; it was left as it is",
            remedy="run the version of bridge that wrote it, or a newer one",
        )
    try:
        read = _File.model_validate(data)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise _broken(path, f"`{_place(problem['loc'])}`", problem["msg"]) from error
    versions = Versions(dataset, tuple(map(_version, read.versions)))
    for index, text in _contradictions(versions):
        raise _broken(path, f"`versions[{index}]`", text)
    return versions


def _version(read: _Version) -> Version:
    columns = tuple(StoredColumn(**dict(column)) for column in read.columns)
    return Version(read.version, read.at, read.why, read.generation, columns)


def _place(loc: tuple[Any, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")


def _broken(path: Path, place: str, why: str) -> StoreBroken:
    return StoreBroken(
        f"`{path}` cannot be read at {place}: {why}; it was left as it is",
        remedy=f"put back a copy of it; {BACKUP} beside it is the one before the last change",
    )


def _contradictions(versions: Versions) -> Iterator[tuple[int, str]]:
    """What would make samples be read as what they are not."""
    columns: dict[int, dict[int, tuple[str, str]]] = {}
    newest = 0
    for index, version in enumerate(versions.items):
        if version.version != index + 1:
            yield index, f"is numbered {version.version}"
        if version.generation < newest:
            yield index, f"goes back to generation {version.generation}"
        newest = max(newest, version.generation)
        now = {column.id: (column.name, column.stored) for column in version.columns}
        if not len(version.columns) == len(now) == len({column.name for column in version.columns}):
            yield index, "has two columns of one number or of one name"
        if sum(column.role is Role.TIME for column in version.columns) > 1:
            yield index, "has two time columns"
        for column in version.columns:
            if column.stored != NATURAL[column.type] and (column.type, column.stored) != (
                ColumnType.NUMBER,
                "integer",
            ):
                yield index, f"stores `{column.name}` of type {column.type} as {column.stored}"
        known = columns.setdefault(version.generation, {})
        if any(now.get(id_) != name_and_kind for id_, name_and_kind in known.items()):
            yield index, f"changes the columns of generation {version.generation}"
        known |= now
