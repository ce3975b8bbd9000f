"""Which files a dataset means, and that none of them lies outside of its root."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bridge.errors import BadQuery, DataMissing, SourceError
from bridge.model.schema import Param

MAX_FILES = 10_000
MAX_VALUE_CHARS = 200

_TEMPLATE = re.compile(r"\{([^{}]*)\}")
_PARAM = re.compile(r"param\.([A-Za-z_][A-Za-z0-9_]*)")
# What `glob.escape` makes of a literal character.
_ESCAPED = re.compile(r"\[([*?[])\]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Format(StrEnum):
    """How the data is written; `auto` goes by the file's name."""

    AUTO = "auto"
    CSV = "csv"
    JSON = "json"
    NDJSON = "ndjson"
    PARQUET = "parquet"


_SUFFIXES: Mapping[str, Format] = {
    ".csv": Format.CSV,
    ".tsv": Format.CSV,
    ".json": Format.JSON,
    ".ndjson": Format.NDJSON,
    ".jsonl": Format.NDJSON,
    ".parquet": Format.PARQUET,
}


@dataclass(frozen=True, slots=True)
class Found:
    """One file to read.

    Shape: `path` is fully resolved; `shown` is relative to the root, the only form that leaves this machine.
    """

    path: Path
    shown: str
    format: Format
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a dataset's files may be.

    Shape: patterns are relative to `base`, and everything lies below `root`; both are absolute and normalised.
    """

    base: Path
    root: Path
    follow_symlinks: bool = False


def check_template(place: Place, template: str, params: Sequence[Param]) -> None:
    """The path can be used: its parameters exist, and it stays below the root. Looks at no file.

    Errors: BadQuery.
    """
    known = {param.name for param in params}
    for inner in _TEMPLATE.findall(template):
        match = _PARAM.fullmatch(inner)
        if match is None or match[1] not in known:
            raise BadQuery(
                f"the path {template!r} has the template {{{inner}}}, which is none of the dataset's parameters",
                remedy="write {param.NAME}, and declare NAME under the dataset's `params`",
            )
    if "\0" in template or not template.strip():
        raise BadQuery("the path is empty or holds a NUL character", remedy="name a file, a folder or a pattern")
    lexical = os.path.normpath(place.base / _TEMPLATE.sub("x", template))
    if os.path.commonpath((lexical, place.root)) != str(place.root):
        raise BadQuery(f"the path {template!r} leads out of the source's `root`", remedy="keep it below `root`")


def names_params(template: str) -> bool:
    """Whether the path depends on the question."""
    return bool(_TEMPLATE.search(template))


def filled(template: str, values: Mapping[str, tuple[str, ...]], params: Sequence[Param]) -> str:
    """The path as a pattern, with each parameter's value in place as one literal path segment.

    Errors: BadQuery naming the parameter when a value is missing or could mean another folder.
    """
    defaults = {param.name: param.default for param in params}

    def value(match: re.Match[str]) -> str:
        name = match[1].removeprefix("param.")
        given = values.get(name) or ((default,) if (default := defaults.get(name)) is not None else ())
        if len(given) != 1:
            raise BadQuery(f"the parameter `{name}` needs exactly one value, it has {len(given)}")
        return glob.escape(_segment(name, given[0]))

    return _TEMPLATE.sub(value, template)


def _segment(name: str, value: str) -> str:
    unsafe = any(part in value for part in ("/", "\\", "..")) or value.startswith(".") or _CONTROL.search(value)
    if unsafe or not value or len(value) > MAX_VALUE_CHARS or not _is_text(value):
        raise BadQuery(
            f"the parameter `{name}` cannot be {value[:40]!r}: its value becomes one part of a file name",
            remedy="give a value without slashes and control characters, which does not begin with a dot",
        )
    return value


def _is_text(value: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in value)


@dataclass(frozen=True, slots=True)
class Matches:
    """The files of a pattern, sorted by name, and the symbolic links that were passed over."""

    files: tuple[Found, ...]
    links: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes of all files as they lie on disk."""
        return sum(item.size_bytes for item in self.files)

    @property
    def token(self) -> str:
        """Changes when a file comes, goes or is written."""
        text = "\n".join(f"{item.shown}\t{item.size_bytes}\t{item.mtime_ns}" for item in self.files)
        return hashlib.sha256(text.encode()).hexdigest()


def find(place: Place, pattern: str, wanted: Format) -> Matches:
    """One file, all data files of a folder, or all files that match.

    Errors: SourceError when nothing matches, or a file leads out of the root.
    """
    root = place.root.resolve()
    shown = _ESCAPED.sub(r"\1", pattern)
    found: dict[Path, Found] = {}
    links: list[str] = []
    try:
        for path, named in _candidates(place.base, pattern, wanted):
            item = _look(place, root, path, wanted, named=named)
            if isinstance(item, Found):
                found.setdefault(item.path, item)
            elif item is not None:
                links.append(item)
            if len(found) > MAX_FILES:
                raise SourceError(f"more than {MAX_FILES} files match {shown!r}", remedy="name fewer files")
    except (OSError, ValueError, RuntimeError) as error:
        raise SourceError(f"{shown!r} cannot be looked up: {reason(error)}", remedy="check the path") from error
    if not found:
        raise DataMissing(
            f"no file matches {shown!r}"
            + (f", only symbolic links that are not followed (first: {links[0]!r})" if links else ""),
            remedy="set `follow_symlinks: true`" if links else f"check `path`; a folder offers {' '.join(_SUFFIXES)}",
        )
    return Matches(tuple(sorted(found.values(), key=lambda item: item.shown)), tuple(sorted(links)))


def _candidates(base: Path, pattern: str, wanted: Format) -> Iterator[tuple[Path, bool]]:
    """Paths to look at, each with whether it was named outright and not just matched."""
    if not glob.has_magic(_ESCAPED.sub("x", pattern)):
        path = base / _ESCAPED.sub(r"\1", pattern)
        if path.is_dir():
            offered = set(Format) - {Format.AUTO} if wanted is Format.AUTO else {wanted}
            children = (child for child in path.iterdir() if format_of(child.name) in offered)
            yield from ((child, False) for child in children if not child.name.startswith("."))
        elif path.is_symlink() or _exists(path):
            yield path, True
        return
    anchor = Path(pattern).anchor
    start = Path(anchor) if anchor else base
    hidden = re.search(r"(^|/)\.[^./]", pattern) is not None
    for path in start.glob(pattern[len(anchor) :]):
        if hidden or not any(part.startswith(".") and part != ".." for part in path.relative_to(start).parts):
            yield path, False


def _exists(path: Path) -> bool:
    """Unlike `Path.exists` this raises when the path is not absent but out of reach."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _look(place: Place, root: Path, path: Path, wanted: Format, *, named: bool) -> Found | str | None:
    """The file at the path, the name of a link that is not followed, or None for what is no data file."""
    real = path.resolve()
    shown = _relative(place, path)
    if not real.is_relative_to(root):
        raise SourceError(
            f"{shown!r} leads out of the source's `root`",
            remedy="remove the symbolic link, or choose a `root` that holds all of the data",
        )
    if not place.follow_symlinks and _has_link(place, path):
        if not named:
            return shown
        raise SourceError(f"{shown!r} is a symbolic link", remedy="set `follow_symlinks: true`")
    status = real.stat()
    kind = format_of(path.name) if wanted is Format.AUTO else wanted
    if kind is not None and stat.S_ISREG(status.st_mode):
        return Found(real, shown, kind, status.st_size, status.st_mtime_ns)
    if not named:
        return None
    if kind is None:
        raise SourceError(f"the format of {shown!r} is not clear from its name", remedy="set `format`")
    raise SourceError(f"{shown!r} is not a regular file", remedy="name a file, a folder or a pattern")


def _has_link(place: Place, path: Path) -> bool:
    """Whether the part of the path below the root goes over a symbolic link."""
    current = place.root
    for part in Path(os.path.relpath(os.path.normpath(path), place.root)).parts:
        current = current / part
        if current.is_symlink():
            return True
    return False


def _relative(place: Place, path: Path) -> str:
    text = Path(os.path.relpath(os.path.normpath(path), place.root)).as_posix()
    return text.encode("utf-8", "replace").decode()


def format_of(name: str) -> Format | None:
    """The format that a file's name tells; only text formats may be gzipped."""
    lower = name.lower()
    kind = _SUFFIXES.get(Path(lower.removesuffix(".gz")).suffix)
    return None if lower.endswith(".gz") and kind is Format.PARQUET else kind


def reason(error: Exception) -> str:
    """The system's words without the path, which is nobody's business outside of this machine."""
    if isinstance(error, OSError):
        # Polars raises the right class, but without the number that gives the system's words.
        unnamed = "permission denied" if isinstance(error, PermissionError) else "the system refuses it"
        return (error.strerror or unnamed).lower()
    return "a loop of symbolic links" if isinstance(error, RuntimeError) else "not a usable path"
