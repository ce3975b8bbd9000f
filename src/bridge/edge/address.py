"""Which far addresses and paths bridge may ask: read strictly, before and while connecting."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from urllib.parse import quote, unquote

from bridge.errors import AddressRefused, BadQuery, BridgeError

MAX_URL_CHARS = 8_192
DEFAULT_PORTS = {"http": 80, "https": 443}

_PCHAR = r"[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2}"
_PATH = re.compile(rf"(?:/(?:{_PCHAR})*)*")
_URL = re.compile(
    r"(?P<scheme>[A-Za-z]+)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    rf"(?P<path>(?:/(?:{_PCHAR})*)*)(?:\?(?P<query>[!$-;=?-\[\]-_a-~]*))?"
)
_NAME = re.compile(r"(?!.{254})(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_ENCODED_CONTROL = re.compile(r"%(?:[01][0-9A-Fa-f]|7[Ff])")
# A host whose last label reads as a number is an IPv4 address to every resolver (WHATWG URL, "ends in a number").
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")

# IANA special-purpose registries, and the metadata services of the cloud providers. Written out, because the
# tables inside Python's `ipaddress` differ from release to release.
_NEVER_4 = tuple(
    (IPv4Network(network), what)
    for network, what in (
        ("0.0.0.0/8", "an unspecified address"),
        ("169.254.0.0/16", "a link-local address, where metadata services live"),
        ("100.100.100.200/32", "a metadata service"),
        ("168.63.129.16/32", "a metadata service"),
        ("192.0.0.0/24", "a reserved address"),
        ("192.0.2.0/24", "a reserved address"),
        ("192.88.99.0/24", "a reserved address"),
        ("198.51.100.0/24", "a reserved address"),
        ("203.0.113.0/24", "a reserved address"),
        ("224.0.0.0/4", "a multicast address"),
        ("255.255.255.255/32", "the broadcast address"),
        ("240.0.0.0/4", "a reserved address"),
    )
)
_LOCAL_4 = tuple(
    (IPv4Network(network), what)
    for network, what in (
        ("127.0.0.0/8", "a loopback address"),
        ("10.0.0.0/8", "a private address"),
        ("172.16.0.0/12", "a private address"),
        ("192.168.0.0/16", "a private address"),
        ("100.64.0.0/10", "a carrier's private address"),
        ("198.18.0.0/15", "a private address for benchmarks"),
    )
)
_NEVER_6 = tuple(
    (IPv6Network(network), what)
    for network, what in (
        ("::/128", "an unspecified address"),
        ("fe80::/10", "a link-local address"),
        ("ff00::/8", "a multicast address"),
        ("fd00:ec2::/32", "a metadata service"),
        ("fd20:ce::/32", "a metadata service"),
        ("2001:db8::/32", "a reserved address"),
        ("3fff::/20", "a reserved address"),
    )
)
_LOCAL_6 = ((IPv6Network("::1/128"), "a loopback address"), (IPv6Network("fc00::/7"), "a private address"))
_GLOBAL_6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class FarUrl:
    """A URL of which every part has been understood; path and query are kept as they were written."""

    scheme: str
    host: str
    port: int
    path: str
    query: str

    @property
    def origin(self) -> str:
        """Scheme, host and port; the port is left out where the scheme implies it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}")

    def __str__(self) -> str:
        return f"{self.origin}{self.path or '/'}" + (f"?{self.query}" if self.query else "")


@dataclass(frozen=True, slots=True)
class Base:
    """Where one far server stands; `private_ok` says whether its settings name a loopback or private place."""

    scheme: str
    host: str
    port: int
    origin: str
    path: str
    private_ok: bool


def read_url(url: str) -> FarUrl:
    """An absolute http or https URL; the fragment must have been cut off.

    Errors: ValueError with the reason; it does not repeat the URL, which may hold a password.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in DEFAULT_PORTS:
        raise ValueError("only http:// and https:// addresses are called")
    if "@" in re.split(r"[/?#]", rest, maxsplit=1)[0]:
        raise ValueError("a user or password does not belong in the URL, put it under `auth`")
    if not rest.isascii():
        raise ValueError("it holds characters that are not ASCII, write the host as its DNS name (`xn--…`)")
    match = _URL.fullmatch(url) if len(url) <= MAX_URL_CHARS else None
    if match is None:
        raise ValueError("it is not a well-formed URL, percent-encode special characters")
    scheme = scheme.lower()
    port = int(match["port"] or DEFAULT_PORTS[scheme])
    if not 1 <= port <= 65_535:
        raise ValueError(f"the port {port} does not exist")
    return FarUrl(scheme, _host(match["host"]), port, match["path"], match["query"] or "")


def parse_base(url: str, *, allow_private: bool = False) -> Base:
    """The far server a setting names.

    Errors: ValueError naming the URL, what is wrong with it and the remedy.
    Source: loopback and private addresses only where a setting names them: as a literal, as `localhost`, or by
            `allow_private` for a name that resolves to one.
    """
    try:
        if "?" in url or "#" in url:
            raise ValueError("a query or fragment does not belong in it, write queries as parameters")
        far = read_url(url)
        check_path(far.path)
        literal = _literal(far.host)
        named = far.host == "localhost" or (literal is not None and _is_local(literal))
        if literal is not None:
            check_address(literal, private_ok=allow_private or named)
    except (ValueError, BadQuery, AddressRefused) as error:
        remedy = error.remedy if isinstance(error, BridgeError) else ""
        raise ValueError(
            f"the URL `{shown(url)}` cannot be used: {error}" + (f"; {remedy}" if remedy else "")
        ) from None
    return Base(far.scheme, far.host, far.port, far.origin, far.path, allow_private or named)


def shown(url: str) -> str:
    """A URL fit for people and logs: no user or password, no query, nothing unprintable."""
    bare = re.sub(r"//.*@", "//", url, flags=re.DOTALL)
    return re.split(r"[?#]", bare, maxsplit=1)[0].encode("unicode_escape").decode()[:200]


def check_address(ip: str | IPv4Address | IPv6Address, *, private_ok: bool) -> None:
    """Nothing, when bridge may connect to this address.

    Errors: AddressRefused; link-local, metadata, multicast and reserved addresses are refused always, loopback
            and private ones unless `private_ok`. An IPv4 address inside an IPv6 one is judged as itself.
    """
    try:
        address = ipaddress.ip_address(ip)
    except ValueError as error:
        raise AddressRefused(f"{ascii(ip)[:60]} is not an address") from error
    for inner in _meant(address):
        never, local = (_NEVER_4, _LOCAL_4) if isinstance(inner, IPv4Address) else (_NEVER_6, _LOCAL_6)
        what = _found(inner, never)
        if what is None and not private_ok:
            what = _found(inner, local)
            if what is not None:
                raise AddressRefused(
                    f"{address} is {what}, and the settings do not name it",
                    remedy="name the address itself in the source's URL, or set `allow_private: true` there",
                )
        if what is None and isinstance(inner, IPv6Address) and not _ordinary(inner):
            what = "a reserved address"
        if what is not None:
            raise AddressRefused(f"{address} is {what}", remedy="correct the host: bridge never connects there")


def check_path(path: str) -> None:
    """Nothing, when this raw path may be sent: it stays below the base, and reads the same to everyone.

    Errors: BadQuery.
    """
    if path and not path.startswith("/"):
        raise BadQuery(f"the path {ascii(path)[:80]} does not begin with `/`")
    if len(path) > MAX_URL_CHARS or _PATH.fullmatch(path) is None or _ENCODED_CONTROL.search(path):
        raise BadQuery(
            f"the path {ascii(path)[:80]} holds characters that do not belong in one",
            remedy="percent-encode each segment, and write queries as parameters",
        )
    if any(_climbs(segment) for segment in path.split("/")):
        raise BadQuery(f"the path {ascii(path)[:80]} climbs with `.` or `..`", remedy="write the path in full")


def encode_segment(value: str) -> str:
    """One path segment that means exactly `value`, whatever it holds.

    Errors: BadQuery for an empty value, `.`, `..`, control characters and broken Unicode.
    """
    try:
        segment = quote(value, safe="")
    except UnicodeEncodeError as error:
        raise BadQuery(f"{ascii(value)[:80]} is not valid Unicode") from error
    if not segment:
        raise BadQuery("an empty value cannot be a part of a path")
    check_path(f"/{segment}")
    return segment


def _climbs(segment: str) -> bool:
    """Whether some server reads `.` or `..`: decoded more often than any does, without the `;x` that some cut off."""
    for _ in range(8):
        plain = unquote(segment)
        if plain == segment:
            return segment.partition(";")[0] in (".", "..")
        segment = plain
    return True


def _host(text: str) -> str:
    if text.startswith("["):
        return str(IPv6Address(text[1:-1]))
    host = text.lower()
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            return str(IPv4Address(host))
        except ValueError:
            raise ValueError(f"`{host}` is not an IPv4 address in its usual form, write four numbers") from None
    if _NAME.fullmatch(host) is None:
        raise ValueError(f"`{host[:80]}` is not a host name, write it without a trailing dot or empty labels")
    return host


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_local(address: IPv4Address | IPv6Address) -> bool:
    # Only the plain spelling counts as naming a private place: an address wrapped into another hides it.
    return _found(address, _LOCAL_4 if isinstance(address, IPv4Address) else _LOCAL_6) is not None


def _found(
    address: IPv4Address | IPv6Address, table: tuple[tuple[IPv4Network | IPv6Network, str], ...]
) -> str | None:
    return next((what for network, what in table if address in network), None)


def _ordinary(address: IPv6Address) -> bool:
    return address in _GLOBAL_6 or _found(address, _LOCAL_6) is not None


def _meant(address: IPv4Address | IPv6Address) -> Iterator[IPv4Address | IPv6Address]:
    """The addresses that packets to this one end at: those inside mapped, NAT64, 6to4 and Teredo forms."""
    if isinstance(address, IPv4Address):
        yield address
    elif address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    elif address in _NAT64:
        yield IPv4Address(int(address) & 0xFFFF_FFFF)
    elif address.sixtofour is not None:
        yield address.sixtofour
    elif address.teredo is not None:
        yield from address.teredo
    else:
        yield address
