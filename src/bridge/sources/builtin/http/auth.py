"""bridge's own credential at a far API."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode, urlsplit

from bridge.edge.upstream import Upstream
from bridge.errors import NeedsAuth, UpstreamRefused
from bridge.model.clock import Clock
from bridge.sources.base import UpstreamFactory
from bridge.sources.builtin.http.options import ApiKeyAuth, BasicAuth, BearerAuth, NoAuth, OAuth2Auth

EARLY_S = 30.0
DEFAULT_LIFE_S = 300.0
MAX_TOKEN_BYTES = 65_536
# RFC 6750, 2.1; anything else would break the header it is put into.
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")


@dataclass(frozen=True, slots=True)
class Secret:
    """What goes with one request; never shown."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: tuple[tuple[str, str], ...] = field(default=(), repr=False)


class Fixed:
    """A credential that stands in the settings."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    async def current(self, deadline_s: float) -> Secret:
        """The credential to send now."""
        return self._secret

    async def renewed(self, refused: Secret, deadline_s: float) -> Secret | None:
        """Another credential after this one was refused; None when there is no other."""
        return None


class ClientCredentials:
    """RFC 6749, 4.4: a token fetched once for all who wait, kept until shortly before it expires."""

    def __init__(self, options: OAuth2Auth, upstream: Upstream, clock: Clock) -> None:
        self._options = options
        self._upstream = upstream
        self._clock = clock
        parts = urlsplit(options.token_url)
        self._path = parts.path or "/"
        self._params = parse_qsl(parts.query, keep_blank_values=True)
        self._lock = asyncio.Lock()
        self._held: Secret | None = None
        self._until_s = -math.inf

    async def current(self, deadline_s: float) -> Secret:
        """The token to send now.

        Errors: NeedsAuth when the token endpoint gives none.
        """
        return await self._valid(None, deadline_s)

    async def renewed(self, refused: Secret, deadline_s: float) -> Secret | None:
        """A new token after the API refused this one; all whose token was refused together share it.

        Errors: NeedsAuth when the token endpoint gives none.
        """
        return await self._valid(refused, deadline_s)

    async def _valid(self, refused: Secret | None, deadline_s: float) -> Secret:
        async with self._lock:
            held, self._held = self._held, None
            if held is None or held is refused or self._clock.monotonic_s() >= self._until_s:
                held = await self._fetch(deadline_s)
            self._held = held
            return held

    async def _fetch(self, deadline_s: float) -> Secret:
        form = {"grant_type": "client_credentials"}
        form |= {"scope": self._options.scope} if self._options.scope else {}
        form |= {"audience": self._options.audience} if self._options.audience else {}
        client_id, secret = self._options.client_id, self._options.client_secret.get_secret_value()
        credentials: dict[str, str] = {}
        if self._options.style == "basic":
            # RFC 6749, 2.3.1: both are form-encoded before they are joined.
            credentials["Authorization"] = basic(quote_plus(client_id), quote_plus(secret))
        else:
            form |= {"client_id": client_id, "client_secret": secret}
        try:
            answer = await self._upstream.request(
                "POST",
                self._path,
                params=self._params,
                headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
                credentials=credentials,
                secrets=(secret, quote_plus(secret)),
                body=urlencode(form).encode(),
                deadline_s=deadline_s,
                max_bytes=MAX_TOKEN_BYTES,
            )
        except UpstreamRefused as error:
            if error.far_status >= 500 or error.far_status == 429:
                raise
            raise self._refused(f"HTTP {error.far_status}") from error
        except NeedsAuth as error:
            raise self._refused("this client is not accepted") from error
        return self._read(answer.body)

    def _read(self, body: bytes) -> Secret:
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise self._refused("the answer is no JSON") from error
        token = answer.get("access_token") if isinstance(answer, dict) else None
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise self._refused("the answer holds no usable `access_token`")
        self._until_s = self._clock.monotonic_s() + _life_s(answer.get("expires_in")) - EARLY_S
        return Secret({"Authorization": f"Bearer {token}"})

    def _refused(self, reason: str) -> NeedsAuth:
        return NeedsAuth(
            f"the token endpoint {self._options.token_url.partition('?')[0]} gave no token: {reason}",
            remedy="check `token_url`, `client_id`, `client_secret`, `scope` and `style` under `auth`",
        )


def _life_s(value: Any) -> float:
    """Seconds a token lives; some providers write the number as text."""
    try:
        life_s = DEFAULT_LIFE_S if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return DEFAULT_LIFE_S
    return life_s if math.isfinite(life_s) else DEFAULT_LIFE_S


Authority = Fixed | ClientCredentials


def authority(
    options: NoAuth | BasicAuth | BearerAuth | ApiKeyAuth | OAuth2Auth,
    upstream: UpstreamFactory,
    clock: Clock,
    *,
    allow_private: bool,
) -> Authority:
    """The credential that the settings describe.

    Errors: ValueError for a token URL bridge may not call.
    """
    match options:
        case BasicAuth():
            return Fixed(Secret({"Authorization": basic(options.username, options.password.get_secret_value())}))
        case BearerAuth():
            return Fixed(Secret({"Authorization": f"Bearer {options.token.get_secret_value()}"}))
        case ApiKeyAuth(place="query"):
            return Fixed(Secret(params=((options.name, options.value.get_secret_value()),)))
        case ApiKeyAuth():
            return Fixed(Secret({options.name: options.value.get_secret_value()}))
        case OAuth2Auth():
            parts = urlsplit(options.token_url)
            origin = f"{parts.scheme}://{parts.netloc}"
            far = upstream(origin, allow_private=allow_private)
            return ClientCredentials(options, far, clock)
        case _:
            return Fixed(Secret())


def basic(username: str, password: str) -> str:
    """The value of a Basic Authorization header (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()
