"""A folder, a file or a pattern of CSV, JSON, NDJSON and Parquet files."""

from bridge.sources.builtin.files.source import FilesDataset, FilesOptions, FilesSource

__all__ = ["FilesDataset", "FilesOptions", "FilesSource"]
