"""Names that settings accept, from whatever the far side calls its things."""

from __future__ import annotations

import ipaddress
import json
import re
import unicodedata
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

MAX_NAME_CHARS = 60
# Words a request uses for its own purposes; the settings refuse them as names of parameters.
RESERVED = frozenset(
    (
        *("columns", "series", "filter", "agg", "as_of"),
        *("from", "to", "step", "max_points", "format", "cursor", "limit", "on_error", "fresh", "refId", "shape"),
    )
)
_LETTERS = str.maketrans({"ß": "ss", "æ": "ae", "Æ": "Ae", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "µ": "u"})
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _ascii(text: str) -> str:
    folded = unicodedata.normalize("NFKD", text[: 8 * MAX_NAME_CHARS].translate(_LETTERS))
    return re.sub(r"[^A-Za-z0-9_]+", "_", folded.encode("ascii", "ignore").decode())


def column_name(text: str, fallback: str = "column") -> str:
    """A name of a column or a parameter: letters, digits and `_`, not beginning with a digit."""
    if _KEY.fullmatch(text) and len(text) <= MAX_NAME_CHARS:
        return text
    name = re.sub(r"_{2,}", "_", _ascii(text)).strip("_")[:MAX_NAME_CHARS].rstrip("_")
    return (f"_{name}" if name[:1].isdigit() else name) or fallback


def plain_name(text: str, fallback: str) -> str:
    """A name of a source or a dataset: small letters, digits and `_`, beginning with a letter."""
    name = re.sub(r"_{2,}", "_", snake(_ascii(text))).strip("_")[:MAX_NAME_CHARS].rstrip("_")
    return (f"{fallback}_{name}" if name[:1].isdigit() else name) or fallback


def snake(name: str) -> str:
    """`startedAt` and `Started-At` as `started_at`."""
    # The end tells more than the beginning; a name may be as long as the answer it stands in.
    name = name[-8 * MAX_NAME_CHARS :]
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")


class Names:
    """Names given so far; one that is taken gets a number."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._next: dict[str, int] = {}

    def take(self, name: str) -> str:
        """The name itself, or with the first number that makes it new."""
        found, number = name, self._next.get(name, 2)
        while found in self._taken:
            found, number = f"{name}_{number}", number + 1
        self._next[name] = number
        self._taken.add(found)
        return found


def param_name(text: str, columns: Collection[str]) -> str:
    """A name of a parameter that is no word of a request and no column."""
    name = column_name(text, "param")
    return f"{name}_param" if name in RESERVED or name in columns else name


def jmes_path(keys: Iterable[str]) -> str:
    """A JMESPath to a nested key."""
    return ".".join(key if _KEY.fullmatch(key) else _quoted(key) for key in keys)


def _quoted(key: str) -> str:
    readable = key.isprintable() and not any("\ud800" <= char <= "\udfff" for char in key)
    return json.dumps(key, ensure_ascii=not readable)


def host_name(url: str) -> str:
    """A source's name from the host of a URL."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if host == "localhost":
            return f"local_{port}" if port else "local"
        labels = [label for label in host.split(".") if label not in ("www", "api")]
        return plain_name(labels[0] if labels else host, "host")
    if address.is_loopback:
        return f"local_{port}" if port else "local"
    return plain_name(host.replace(":", "_"), "host")


def path_name(path: str, fallback: str = "rows") -> str:
    """A dataset's name from the path of a URL: its last parts that are no template and no version."""
    parts = [part for part in path.split("/") if part and not re.fullmatch(r"api|v\d+(\.\d+)*|\{.*\}", part)]
    if parts:
        parts[-1] = re.sub(r"\.(json|ndjson|jsonl|csv|tsv)$", "", parts[-1])
    return plain_name("_".join(parts[-2:]) if "{" in path else "_".join(parts[-1:]), fallback)
