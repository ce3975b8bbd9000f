"""Sections whose shape is fixed, and which a running bridge may not serve yet: see `NOT_SERVED`."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self

from pydantic import Field, SecretStr, model_validator

from bridge.settings.fields import Count, Flag, Name, PlacedPath, PositiveCount, Section, Url, refuse


class UpstreamKind(StrEnum):
    """What speaks at the far side of a proxied upstream."""

    PROMETHEUS = "prometheus"
    LOKI = "loki"


class AuthMode(StrEnum):
    """How bridge shows itself to a proxied upstream."""

    NONE = "none"
    BASIC = "basic"
    BEARER = "bearer"
    MTLS = "mtls"
    FORWARD = "forward"
    COOKIE = "cookie"


class UpstreamAuthSettings(Section):
    """Credentials towards one upstream."""

    mode: AuthMode = Field(AuthMode.NONE, description="none, basic, bearer, mtls, forward or cookie.")


class UpstreamSettings(Section):
    """One proxied Prometheus or Loki."""

    name: Name = Field(description="Name in the path /proxy/NAME/.")
    kind: UpstreamKind = Field(description="prometheus or loki.")
    url: Url = Field(description="Where the far server answers.")
    auth: UpstreamAuthSettings = Field(UpstreamAuthSettings(), description="How bridge shows itself to it.")


class GrafanaSettings(Section):
    """The Grafana that bridge speaks to."""

    url: Url = Field("http://127.0.0.1:3000", description="Where Grafana answers.")
    token: SecretStr | None = Field(
        None, description="Service account token; keep it out of the settings with token_file."
    )
    org_id: PositiveCount = Field(1, description="Organisation of the dashboards.")


class KeysSettings(Section):
    """API keys."""

    store: Flag = Field(True, description="Whether keys made by `bridge key new` are looked at.")


class IssuerSettings(Section):
    """One issuer of tokens."""

    name: str = Field(min_length=1, description="The issuer's `iss`.")
    alg: str = Field("EdDSA", description="The only signature algorithm accepted from it.")
    jwks_url: Url | None = Field(None, description="Where its public keys are published.")
    key_file: PlacedPath | None = Field(None, description="File with its public key, instead of jwks_url.")
    audience: str = Field("bridge", description="The `aud` a token must carry.")


class GrafanaIdentitySettings(Section):
    """Grafana's signed statement of who looks at a panel."""

    enabled: Flag = Field(False, description="Whether X-Grafana-Id is looked at.")
    issuer: str | None = Field(None, description="Grafana's root_url, the `iss` of the statement.")
    jwks_url: Url | None = Field(None, description="Where Grafana publishes its signing keys.")


class RoleSettings(Section):
    """Rights under one name."""

    scopes: tuple[str, ...] = Field((), description="Scopes the role gives.")


class MatchSettings(Section):
    """Whom a policy is for."""

    key: str | None = Field(None, description="Name of an API key.")
    user: str | None = Field(None, description="Name of a user.")
    group: str | None = Field(None, description="A group the user belongs to.")
    issuer: str | None = Field(None, description="Name of the issuer of the caller's token.")
    any: Flag = Field(False, description="True matches every caller that proved who it is.")

    @model_validator(mode="after")
    def _names_someone(self) -> Self:
        if not (self.any or self.key or self.user or self.group or self.issuer):
            refuse([((), "matches nobody (give key, user, group, issuer or `any: true`)")])
        return self


class MetricBoundsSettings(Section):
    """Which metrics exist for a caller."""

    types: tuple[str, ...] | None = Field(None, description="Metric types that exist; unset: all.")
    deny: tuple[str, ...] = Field((), description="Patterns of metric names that do not exist.")


class BoundsSettings(Section):
    """What a caller is confined to; an unset key does not confine."""

    datasets: tuple[str, ...] | None = Field(None, description="Patterns of dataset names that exist.")
    columns: tuple[str, ...] | None = Field(None, description="Columns that exist.")
    rows: dict[str, tuple[str, ...]] | None = Field(
        None, description="For each column, the values of rows that exist."
    )
    prom: tuple[str, ...] | None = Field(None, description="Label matchers put on every Prometheus selector.")
    loki: tuple[str, ...] | None = Field(None, description="Label matchers put on every Loki selector.")
    metrics: MetricBoundsSettings | None = Field(None, description="Metrics that exist.")
    org: PositiveCount | None = Field(None, description="Grafana organisation the caller belongs to.")
    redact: tuple[str, ...] | None = Field(None, description="Columns whose values are hidden.")


class PolicySettings(Section):
    """Rights and bounds of the callers that match."""

    match: MatchSettings = Field(description="Whom the policy is for.")
    roles: tuple[str, ...] = Field((), description="Names of roles given; the scopes of all matches are united.")
    bounds: BoundsSettings | None = Field(None, description="Bounds; those of the first match count.")


class CorsSettings(Section):
    """Web pages that may call bridge from a browser."""

    origins: tuple[str, ...] = Field(description="Origins of the pages.")
    routes: tuple[str, ...] = Field((), description="Groups of routes they may call.")
    credentials: Flag = Field(False, description="Whether browsers may send cookies.")


class RateSettings(Section):
    """How fast one caller may ask."""

    per_key_per_s: PositiveCount = Field(50, description="Requests per second of one key, in the long run.")
    burst: PositiveCount = Field(200, description="Requests of one key at once.")


class AccessSettings(Section):
    """Who may do what."""

    keys: KeysSettings = Field(KeysSettings(), description="API keys.")
    issuers: tuple[IssuerSettings, ...] = Field((), description="Issuers whose tokens are accepted.")
    grafana_identity: GrafanaIdentitySettings = Field(
        GrafanaIdentitySettings(), description="Grafana's signed statement of who looks at a panel."
    )
    roles: dict[str, RoleSettings] = Field(default_factory=dict, description="Rights by role name.")
    policies: tuple[PolicySettings, ...] = Field((), description="In order; no match is no access.")
    cors: tuple[CorsSettings, ...] = Field((), description="Web pages that may call bridge from a browser.")
    rate: RateSettings = Field(RateSettings(), description="How fast one caller may ask.")


class CeilingsSettings(Section):
    """What the grants of one key cannot exceed."""

    dashboards: tuple[str, ...] = Field(("*",), description="Patterns of dashboard uids the key may embed.")
    max_ttl_s: PositiveCount = Field(600, description="Longest life of a grant in seconds.")
    must_lock: tuple[str, ...] = Field((), description="Variables every grant must lock.")


class EmbedKeySettings(Section):
    """One key that signs grants."""

    kid: str = Field(min_length=1, description="The key's id, as tokens carry it.")
    alg: str = Field("EdDSA", description="The only signature algorithm accepted with it.")
    public_key_file: PlacedPath | None = Field(None, description="File with the public key.")
    ceilings: CeilingsSettings = Field(CeilingsSettings(), description="What its grants cannot exceed.")


class EmbedSettings(Section):
    """One named embed."""

    dashboard: str = Field(min_length=1, description="Uid of the dashboard.")
    panels: tuple[Count, ...] = Field((), description="Ids of the panels shown.")
    lock: dict[str, Any] = Field(default_factory=dict, description="Variables with fixed values.")
    edit: tuple[str, ...] = Field((), description="Variables the viewer may change.")
    origins: tuple[str, ...] = Field((), description="Origins of pages that may show it.")


class EmbedsSettings(Section):
    """Panels in the pages of others."""

    keys: tuple[EmbedKeySettings, ...] = Field((), description="Keys that sign grants.")
    catalogue: dict[str, EmbedSettings] = Field(default_factory=dict, description="Embeds by name.")
