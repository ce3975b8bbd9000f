"""Asking an unknown server, within bounds on bytes, time and requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import ValidationError

from bridge.edge.address import parse_base, read_url
from bridge.edge.upstream import Answer
from bridge.errors import (
    AddressRefused,
    BadRequest,
    NeedsAuth,
    UpstreamInvalid,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamTooLarge,
)
from bridge.sources.base import Tools
from bridge.sources.builtin.http.client import Call, Client
from bridge.sources.builtin.http.options import HttpOptions
from bridge.sources.infer.secrets import SECRET_NAME, refuse_userinfo

ACCEPT = "application/json, application/openapi+json, application/yaml;q=0.9, text/csv;q=0.8, */*;q=0.1"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is looked at.

    Units: bytes of one answer; seconds of one request and of all of them.
    """

    answer_bytes: int = 8 * 1024 * 1024
    request_s: float = 10.0
    total_s: float = 60.0
    requests: int = 60


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be looked at, and how.

    Shape: `base_dir` is the folder of the settings that are written, to which their paths are relative.
    """

    what: str
    base_dir: Path
    name: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    token_file: Path | None = None
    token_header: str | None = None
    table: str | None = None
    max_datasets: int = 20
    bounds: Bounds = field(default_factory=Bounds)


@dataclass(frozen=True, slots=True)
class Address:
    """A URL in the parts that settings have: origin, path, query."""

    origin: str
    path: str
    params: tuple[tuple[str, str], ...]


def read_address(url: str) -> Address:
    """The parts of a URL that may be written down.

    Errors: BadRequest for a URL that cannot be asked, or that holds a secret; its text is not repeated.
    """
    refuse_userinfo(url)
    try:
        far = read_url(url.partition("#")[0])
        parse_base(far.origin)
    except ValueError as error:
        raise BadRequest(f"the URL cannot be used: {error}", remedy="write it as http://host:port/path") from None
    params = tuple(parse_qsl(urlsplit(str(far)).query, keep_blank_values=True))
    for name, _ in params:
        if SECRET_NAME.search(name):
            raise BadRequest(
                f"the URL's query holds `{name[:40]}`, which may be a secret: URLs are shown and logged",
                remedy="take it out, and give it with --token-file (and --token-header where it goes into a header)",
            )
    return Address(far.origin, "" if far.path == "/" else far.path, params)


class Probe:
    """The way to one far server, and how much of the bounds is spent."""

    def __init__(self, address: Address, target: Target, tools: Tools, say: Callable[[str], None]) -> None:
        self.address = address
        self.options = http_options(address, target)
        self._target = target
        self._tools = tools
        self._say = say
        self._asked = 0
        self._until_s = tools.clock.monotonic_s() + target.bounds.total_s
        self._client = self._made()

    def _made(self) -> Client:
        try:
            options = HttpOptions.model_validate(self.options, context={"base_dir": self._target.base_dir})
            return Client(options, self._tools)
        except ValidationError as error:
            said = "; ".join(item["msg"].removeprefix("Value error, ") for item in error.errors(include_input=False))
            raise BadRequest(f"the headers or the token cannot be used: {said}") from None
        except ValueError as error:
            raise BadRequest(str(error)) from None

    async def get(self, path: str, params: tuple[tuple[str, str], ...] = ()) -> Answer:
        """The answer to a GET below the origin.

        Errors: SourceError, with what can be done on the command line.
        """
        return await self.send(Call(path=path, params=params, headers={"Accept": ACCEPT}))

    async def send(self, call: Call) -> Answer:
        """The answer to one request.

        Errors: SourceError; a server is not asked more often or for longer than the bounds say.
        """
        bounds = self._target.bounds
        left_s = self._until_s - self._tools.clock.monotonic_s()
        self._asked += 1
        if left_s <= 0 or self._asked > bounds.requests:
            spent = f"{bounds.total_s:g} s" if left_s <= 0 else f"{bounds.requests} requests"
            raise UpstreamTimeout(
                f"looking at {self.address.origin} took all of {spent}",
                remedy="name one dataset's address, or a smaller --max-datasets",
            )
        self._say(f"{call.method} {self.address.origin}{call.path}")
        try:
            return await self._sent(call, min(left_s, bounds.request_s))
        except NeedsAuth as error:
            error.remedy = "give the credential with --token-file FILE (--token-header NAME for another header)"
            raise
        except UpstreamTooLarge as error:
            error.remedy = "name an address that answers less, for example with ?limit=100"
            raise

    async def _sent(self, call: Call, most_s: float) -> Answer:
        most_bytes = self._target.bounds.answer_bytes
        try:
            return await self._client.send(call, max_bytes=most_bytes, most_s=most_s)
        except AddressRefused as error:
            # The user named this host; that it stands in a private network has to be said in the settings as well.
            # A name that stood elsewhere a moment ago is one that somebody turns.
            if "allow_private" not in error.remedy or self._asked > 1:
                raise
            self.options["allow_private"] = True
            self._client = self._made()
            return await self._client.send(call, max_bytes=most_bytes, most_s=most_s)

    async def found(self, path: str) -> Answer | None:
        """The answer to a GET of something that may not be there.

        Errors: SourceError when the server cannot be asked at all.
        """
        try:
            return await self.get(path)
        except (UpstreamRefused, UpstreamInvalid, UpstreamTooLarge):
            return None


def http_options(address: Address, target: Target) -> dict[str, Any]:
    """The options of a source that asks this server with the user's credential."""
    options: dict[str, Any] = {"url": address.origin}
    if target.token_file is not None:
        file = settings_path(target.token_file, target.base_dir)
        if target.token_header:
            options["auth"] = {"kind": "api_key", "name": target.token_header, "value_file": file}
        else:
            options["auth"] = {"kind": "bearer", "token_file": file}
    if target.headers:
        for name in target.headers:
            if SECRET_NAME.search(name):
                raise BadRequest(
                    f"the header `{name[:40]}` may hold a secret, and settings hold none",
                    remedy="write its value into a file and give --token-file FILE --token-header NAME",
                )
        options["headers"] = dict(target.headers)
    return options


def plain_path(path: Path) -> Path:
    """The path without `~` and `..`: what lies where can then be told from its parts."""
    path = path.expanduser()
    if ".." not in path.parts:
        return path
    end = len(path.parts) - path.parts[::-1].index("..")
    # As the system does it: after a link, `..` is not the folder that the link stands in.
    return Path(*path.parts[:end]).resolve().joinpath(*path.parts[end:])


def settings_path(path: Path, base_dir: Path) -> str:
    """A path as it stands in settings: relative to their folder where it lies below it."""
    whole = plain_path(path).absolute()
    base = base_dir.absolute()
    return whole.relative_to(base).as_posix() if whole.is_relative_to(base) else whole.as_posix()
