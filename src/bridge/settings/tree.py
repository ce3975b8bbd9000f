"""The whole settings tree."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from bridge.settings.datasets import SourceSettings, unique_sources
from bridge.settings.fields import (
    Count,
    ExistingFile,
    HostPattern,
    NetworkText,
    PlacedPath,
    Port,
    PositiveCount,
    PositiveSeconds,
    Section,
    Url,
    refuse,
    sentence,
    shown,
)
from bridge.settings.later import AccessSettings, EmbedsSettings, GrafanaSettings, UpstreamSettings
from bridge.settings.lineage import LineageSettings

MIB = 1024 * 1024


class TlsSettings(Section):
    """The certificate bridge itself serves; both files or neither."""

    cert_file: ExistingFile | None = Field(None, description="PEM file with the certificate and its chain.")
    key_file: ExistingFile | None = Field(None, description="PEM file with the certificate's private key.")

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if self.cert_file is None and self.key_file is not None:
            refuse([(("cert_file",), "is missing beside key_file (give both files, or neither)")])
        if self.key_file is None and self.cert_file is not None:
            refuse([(("key_file",), "is missing beside cert_file (give both files, or neither)")])
        return self


def _loopback(value: str) -> str:
    if value.lower() == "localhost":
        return value
    try:
        good = ipaddress.ip_address(value).is_loopback
    except ValueError:
        good = False
    if not good:
        raise sentence(
            f"{shown(value)} listens beyond this machine, which needs credentials (`access`), and this version of "
            "bridge does not serve them (use 127.0.0.1)"
        )
    return value


def _some(hosts: tuple[str, ...]) -> tuple[str, ...]:
    # A bare minimum length would also count the bad entries as missing.
    if not hosts:
        raise sentence("names no host, so nothing would be answered (name at least one)")
    return hosts


def _default_public_url(data: dict[str, Any]) -> str:
    host = f"[{data['host']}]" if ":" in data["host"] else data["host"]
    return f"{'https' if data['tls'].cert_file else 'http'}://{host}:{data['port']}"


class ServerSettings(Section):
    """Where bridge listens."""

    host: Annotated[str, AfterValidator(_loopback)] = Field(
        "127.0.0.1", description="Address to listen on; any other than loopback needs credentials."
    )
    port: Port = Field(8000, description="Port to listen on; 0 takes a free one.")
    workers: PositiveCount = Field(1, description="Processes that share the port.")
    tls: TlsSettings = Field(TlsSettings(), description="Certificate to serve; unset: plain HTTP.")
    public_url: Url = Field(
        default_factory=_default_public_url,
        description="URL under which browsers reach bridge, sub-path included; redirects and launch URLs come from "
        "it only. Unset: made of host and port.",
    )
    trusted_proxies: tuple[NetworkText, ...] = Field(
        (), description="Addresses or networks of the proxies whose X-Forwarded headers count."
    )
    allowed_hosts: Annotated[tuple[HostPattern, ...], AfterValidator(_some)] = Field(
        ("127.0.0.1", "localhost"),
        description="Host headers that are answered, as host or host:port; any other is refused with 421.",
    )


class LimitSettings(Section):
    """Bounds of requests and answers."""

    body_bytes: PositiveCount = Field(MIB, description="Largest request body.")
    query_bytes: PositiveCount = Field(65_536, description="Longest query text.")
    rows: PositiveCount = Field(1_000_000, description="Most rows of one answer.")
    series: PositiveCount = Field(10_000, description="Most series of one answer.")
    answer_bytes: PositiveCount = Field(64 * MIB, description="Largest answer.")
    deadline_s: PositiveSeconds = Field(25, description="Seconds a request may take in all.")
    header_s: PositiveSeconds = Field(10, description="Seconds a client has to send its request's header.")
    body_s: PositiveSeconds = Field(30, description="Seconds a client has to send its request's body.")
    keepalive_s: PositiveSeconds = Field(75, description="Seconds an idle connection stays open.")
    cache_bytes: Count = Field(512 * MIB, description="Memory for cached answers; 0 keeps none.")
    requests_in_flight: PositiveCount = Field(200, description="Requests worked on at once; more are turned away.")


class Settings(Section):
    """Everything that can be configured."""

    server: ServerSettings = Field(default_factory=ServerSettings, description="Where bridge listens.")
    data_dir: PlacedPath = Field(
        Path("data"), validate_default=True, description="Folder of what bridge itself keeps."
    )
    limits: LimitSettings = Field(LimitSettings(), description="Bounds of requests and answers.")
    sources: Annotated[tuple[SourceSettings, ...], AfterValidator(unique_sources)] = Field(
        (), description="Far systems that offer datasets."
    )
    lineage: LineageSettings = Field(
        LineageSettings(), description="Where it is told what data was made of, beside the answers themselves."
    )
    upstreams: tuple[UpstreamSettings, ...] = Field((), description="Proxied Prometheus and Loki servers.")
    grafana: GrafanaSettings = Field(GrafanaSettings(), description="The Grafana that bridge speaks to.")
    access: AccessSettings | None = Field(
        None, description="Who may do what; absent: a demo on loopback, credentials are not looked at."
    )
    embeds: EmbedsSettings = Field(EmbedsSettings(), description="Panels in the pages of others.")
    services: tuple[dict[str, Any], ...] = Field((), description="Sibling services whose status is shown.")
    jobs: tuple[dict[str, Any], ...] = Field((), description="Work that runs by the clock.")
