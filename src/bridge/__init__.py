"""Bridge between Grafana and a research platform."""

__version__ = "0.1.0"
