"""SQL databases: SQLite, DuckDB and PostgreSQL, for reading only."""

from bridge.sources.builtin.sql.source import SqlSource

__all__ = ["SqlSource"]
