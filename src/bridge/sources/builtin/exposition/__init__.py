"""A container's `/metrics`: the Prometheus text format and OpenMetrics."""

from bridge.sources.builtin.exposition.source import ExpositionSource

__all__ = ["ExpositionSource"]
