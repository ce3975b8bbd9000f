"""Any container's HTTP API, by configuration only."""

from bridge.sources.builtin.rest.source import RestSource

__all__ = ["RestSource"]
