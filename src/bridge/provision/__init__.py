"""Grafana's configuration as files: what is served, as queries, panels, variables and datasources."""
