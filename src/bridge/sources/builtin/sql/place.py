"""Where a database is: a file of this machine, or a PostgreSQL server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from bridge.edge.address import parse_base, shown

_SERVER = re.compile(
    r"(?:(?P<user>[^:@/?#]*)@)?(?P<host>\[[^\]]*\]|[^:@/?#\[\]]*)(?::(?P<port>\d{1,5}))?(?P<rest>.*)", re.S
)
_REST = re.compile(r"/(?P<database>[^/?#]+)(?:\?(?P<query>[^#]*))?", re.S)
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# What libpq reads of a URL that changes whom it talks to or what it sends stays out of reach.
_KNOWN = ("sslmode", "sslrootcert", "sslcert", "sslkey")


class System(StrEnum):
    """The database systems that are spoken."""

    SQLITE = "sqlite"
    DUCKDB = "duckdb"
    POSTGRES = "postgres"


@dataclass(frozen=True, slots=True)
class FilePlace:
    """A database in one file."""

    system: System
    path: Path


@dataclass(frozen=True, slots=True)
class ServerPlace:
    """A database of a PostgreSQL server; `tls` holds libpq's `ssl…` parameters."""

    host: str
    port: int
    database: str
    user: str | None
    private_ok: bool
    tls: Mapping[str, str] = field(default_factory=dict)
    system: System = System.POSTGRES


Place = FilePlace | ServerPlace


def read_place(url: str, *, allow_private: bool = False) -> Place:
    """The place a `url` names.

    Errors: ValueError with the reason; it never repeats a password.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme in ("sqlite", "duckdb"):
        return _file(System(scheme), rest)
    if separator and scheme in ("postgresql", "postgres"):
        return _server(rest, allow_private=allow_private)
    raise ValueError(
        "the URL must begin with sqlite:///, duckdb:/// or postgresql://, for example `sqlite:///runs.db`, "
        "`duckdb:///lab.duckdb` or `postgresql://reader@db.example.org:5432/lab?sslmode=verify-full`"
    )


def _file(system: System, rest: str) -> FilePlace:
    host, slash, path = rest.partition("/")
    if host or not slash:
        raise ValueError(f"write {system}:///FILE, or {system}:////FOLDER/FILE for an absolute path")
    path = unquote(path)
    if not path or path.startswith(":") or "\0" in path:
        raise ValueError("the URL names no database file; databases in memory have nothing to read")
    return FilePlace(system, Path(path))


def _server(rest: str, *, allow_private: bool) -> ServerPlace:
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if ":" in authority.rpartition("@")[0]:
        raise ValueError("a password does not belong in the URL, put it under `password` or `password_file`")
    found = _SERVER.fullmatch(rest)
    tail = _REST.fullmatch(found["rest"]) if found else None
    if found is None or tail is None or not found["host"]:
        raise ValueError(
            f"the URL `{shown('postgresql://' + rest)}` cannot be used: write postgresql://user@host:5432/database"
        )
    port = int(found["port"] or 5432)
    try:
        base = parse_base(f"http://{found['host']}:{port}", allow_private=allow_private)
    except ValueError as error:
        raise ValueError(str(error).replace("`http://", "`postgresql://", 1)) from None
    user, database = found["user"], unquote(tail["database"])
    return ServerPlace(
        base.host, base.port, database, unquote(user) if user else None, base.private_ok, _tls(tail["query"])
    )


def _tls(query: str | None) -> dict[str, str]:
    given = parse_qsl(query or "", keep_blank_values=True)
    for key, value in given:
        if key in ("password", "passfile"):
            raise ValueError("a password does not belong in the URL, put it under `password` or `password_file`")
        if key not in _KNOWN:
            raise ValueError(f"the URL's parameter `{key[:40]}` is not known (known: {', '.join(_KNOWN)})")
        if key == "sslmode" and value not in _SSL_MODES:
            raise ValueError(f"sslmode is one of {', '.join(_SSL_MODES)}")
    return dict(given)
