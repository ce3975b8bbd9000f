"""What may be written in the settings of any source that speaks HTTP."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, StringConstraints

from bridge.sources.base import Options

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_SECRET = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
# These carry credentials or belong to the connection; a static header must not replace them.
_RESERVED = frozenset(
    ("authorization", "proxy-authorization", "cookie", "host", "connection", "content-length", "transfer-encoding")
)


def _check_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"{name[:80]!r} is no header name, or its value holds control characters")
        if name.lower() in _RESERVED:
            raise ValueError(f"header `{name}` cannot be set here; credentials go under `auth`")
    return headers


def _check_secret(secret: SecretStr) -> SecretStr:
    value = secret.get_secret_value()
    if not _SECRET.fullmatch(value):
        raise ValueError("the secret is empty or holds characters that cannot stand in a header")
    return secret


Secret = Annotated[SecretStr, AfterValidator(_check_secret)]
Headers = Annotated[dict[str, str], AfterValidator(_check_headers)]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]


class NoAuth(Options):
    """The API asks for no credential."""

    kind: Literal["none"] = Field("none", description="No credential.")


class BasicAuth(Options):
    """RFC 7617."""

    kind: Literal["basic"] = Field(description="User name and password.")
    username: Annotated[str, StringConstraints(pattern=r"^[^:\x00-\x1f]*$")] = Field(description="User name.")
    password: SecretStr = Field(description="Password; `password_file` reads it from a file.")


class BearerAuth(Options):
    """RFC 6750."""

    kind: Literal["bearer"] = Field(description="A fixed token.")
    token: Secret = Field(description="The token; `token_file` reads it from a file.")


class ApiKeyAuth(Options):
    """A key in a header or in the query."""

    kind: Literal["api_key"] = Field(description="A key in a header or in the query.")
    name: HeaderName = Field(description="Name of the header or query parameter.")
    value: Secret = Field(description="The key; `value_file` reads it from a file.")
    place: Literal["header", "query"] = Field("header", alias="in", description="Where the key goes.")


class OAuth2Auth(Options):
    """RFC 6749, 4.4: client credentials."""

    kind: Literal["oauth2"] = Field(description="OAuth2 client credentials.")
    token_url: str = Field(description="The token endpoint.")
    client_id: str = Field(description="Client id.")
    client_secret: SecretStr = Field(description="Client secret; `client_secret_file` reads it from a file.")
    scope: str | None = Field(None, description="Scopes, separated by spaces.")
    audience: str | None = Field(None, description="Audience, where the provider asks for one.")
    style: Literal["body", "basic"] = Field("body", description="Where id and secret go in the token request.")


Auth = Annotated[NoAuth | BasicAuth | BearerAuth | ApiKeyAuth | OAuth2Auth, Field(discriminator="kind")]


class HttpOptions(Options):
    """One far HTTP server, and bridge's credential there."""

    # A value that is refused must not be repeated in the sentence that refuses it: it may be a secret.
    model_config = ConfigDict(hide_input_in_errors=True)

    url: str = Field(description="Base address; the paths of the datasets are appended to it.")
    auth: Auth = Field(NoAuth(), description="bridge's own credential at this API.")
    headers: Headers = Field({}, description="Static headers that are no secret.")
    allow_private: bool = Field(False, description="Whether the address may be a loopback or private one.")
    request_deadline_s: float = Field(20.0, gt=0, le=600, description="Seconds one request may take.")
    max_bytes: int = Field(64 * 1024 * 1024, gt=0, description="Bytes that all pages of one answer may have.")
