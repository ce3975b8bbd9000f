"""Typed keys under which an application holds its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge.edge.cache import Cache
from bridge.edge.meters import Meters
from bridge.model.clock import Clock
from bridge.sources.ask import Desk

if TYPE_CHECKING:
    from bridge.web.routes import Route


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What the web room needs to know of the settings.

    Units: bytes and seconds as named.
    """

    public_url: str = "http://127.0.0.1:8000"
    allowed_hosts: tuple[str, ...] = ("127.0.0.1", "localhost")
    body_bytes: int = 1024 * 1024
    query_bytes: int = 65_536
    answer_bytes: int = 64 * 1024 * 1024
    body_s: float = 30.0
    max_in_flight: int = 200
    version: str = "0"


@dataclass(slots=True)
class RunState:
    """What the operator should see of the process: it outlives reloads."""

    config: str | None = None
    started_at: str | None = None
    reloaded_at: str | None = None
    reload_error: str | None = None


CONFIG: Final = web.AppKey("bridge.config", WebConfig)
DESK: Final = web.AppKey("bridge.desk", Desk)
CACHE: Final = web.AppKey("bridge.cache", Cache)
METERS: Final = web.AppKey("bridge.meters", Meters)
CLOCK: Final = web.AppKey("bridge.clock", Clock)
ROUTES: Final = web.AppKey("bridge.routes", tuple["Route", ...])
STATE: Final = web.AppKey("bridge.state", RunState)

REQUEST_ID: Final = web.RequestKey("bridge.request_id", str)
PANEL: Final = web.RequestKey("bridge.panel", tuple[str, str])
