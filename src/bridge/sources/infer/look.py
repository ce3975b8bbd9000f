"""What a URL, a file or a database is, and what its settings would be."""

from __future__ import annotations

import asyncio
import re
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bridge.errors import BadRequest, SourceError
from bridge.sources.base import Tools
from bridge.sources.builtin.files.paths import reason
from bridge.sources.infer.database import database_file, look_at_database
from bridge.sources.infer.fetch import Probe, Target, read_address
from bridge.sources.infer.local import look_at_files
from bridge.sources.infer.names import Names, jmes_path
from bridge.sources.infer.secrets import refuse_userinfo
from bridge.sources.infer.stanza import DatasetGuess, SourceGuess
from bridge.sources.infer.web import look_at_url

__all__ = ["Target", "look"]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):///?", re.ASCII)
_DATABASES = {"sqlite", "duckdb", "postgresql", "postgres"}
_SQLITE_MAGIC = b"SQLite format 3\0"
_DUCKDB_MAGIC = b"DUCK"
_SQLITE_NAMES = (".db", ".sqlite", ".sqlite3")


async def look(target: Target, tools: Tools, say: Callable[[str], None]) -> SourceGuess:
    """The source this is, with its datasets; `say` is told what is looked at.

    Errors: BadRequest for what cannot be looked at, SourceError for what holds no table.
    """
    found = await _kind(target, tools, say)
    return replace(found, datasets=tuple(map(_unclashed, found.datasets)))


async def _kind(target: Target, tools: Tools, say: Callable[[str], None]) -> SourceGuess:
    scheme = _SCHEME.match(target.what)
    if scheme is None:
        return await _local(target, tools, say)
    if scheme[1].lower() in _DATABASES:
        return await look_at_database(target.what, target, tools, say)
    refuse_userinfo(target.what)
    _only_databases_have_tables(target)
    if scheme[1].lower() not in ("http", "https"):
        raise BadRequest(
            f"nothing is known of {scheme[1][:20]}:// addresses",
            remedy="name an http(s) or postgresql URL, or a file",
        )
    probe = Probe(read_address(target.what), target, tools, say)
    return await look_at_url(probe, target.name, target.max_datasets)


async def _local(target: Target, tools: Tools, say: Callable[[str], None]) -> SourceGuess:
    path = await asyncio.to_thread(Path(target.what).expanduser)
    if system := await asyncio.to_thread(_system, path):
        return await look_at_database(database_file(system, path, target.base_dir), target, tools, say)
    _only_databases_have_tables(target)
    if target.headers or target.token_file:
        raise BadRequest("a file is asked with no header and no token", remedy="leave --header and --token-file out")
    if re.fullmatch(r"[A-Za-z0-9.-]+:\d{1,5}(/.*)?", target.what) and not path.exists():
        raise BadRequest(f"there is no file {target.what[:80]!r}", remedy="write an address as http://host:port/path")
    return await asyncio.to_thread(look_at_files, target.what, target.name, target.base_dir, target.max_datasets, say)


def _only_databases_have_tables(target: Target) -> None:
    if target.table is not None:
        raise BadRequest("only databases have tables", remedy="leave --table out")


def _system(path: Path) -> str | None:
    """The database system whose file this is, by its first bytes or by its name."""
    try:
        # A pipe would be waited for without end.
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with path.open("rb") as file:
            start = file.read(16)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SourceError(f"{path.name[:80]!r} cannot be read: {reason(error)}", remedy="check the path") from error
    if start == _SQLITE_MAGIC:
        return "sqlite"
    if start[8:12] == _DUCKDB_MAGIC or path.suffix.lower() == ".duckdb":
        return "duckdb"
    return "sqlite" if path.suffix.lower() in _SQLITE_NAMES else None


def _unclashed(dataset: DatasetGuess) -> DatasetGuess:
    """A column that is called as a parameter gets another name: requests could not tell them apart."""
    params = {param.name for param in dataset.params}
    if not params & {column.name for column in dataset.columns}:
        return dataset
    names = Names({*params, *(column.name for column in dataset.columns)})
    columns, remarks = [], dict(dataset.remarks)
    for column in dataset.columns:
        if column.name in params:
            name = names.take(f"{column.name}_value")
            remarks[name] = remarks.pop(column.name, "") or f"`{column.name}` is a parameter"
            columns.append(replace(column, name=name, select=column.select or jmes_path((column.name,))))
        else:
            columns.append(column)
    return replace(dataset, columns=tuple(columns), remarks=remarks)
