"""The `sql` source keeps what bridge relies on of every source, with each of its databases."""

# ruff: noqa: S608  the SQL is made of names of the tests themselves

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bridge.sources.builtin.sql import SqlSource
from bridge.sources.conformance import conformance
from servers.sql_rig import Lab

DAY = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = {"sqlite": ("text", "real"), "duckdb": ("timestamp", "double"), "postgres": ("timestamptz", "numeric")}
DECLARED = [
    {"name": "time", "type": "time", "role": "time"},
    {"name": "model", "type": "string", "role": "dimension"},
    {"name": "loss", "type": "number", "role": "measure"},
]


def _rows(system: str) -> list[tuple[Any, ...]]:
    times = [DAY + timedelta(hours=hour) for hour in range(40)]
    shown = [at.strftime("%Y-%m-%d %H:%M:%S") if system == "sqlite" else at.replace(tzinfo=None) for at in times]
    if system == "postgres":
        shown = list(times)
    return [(at, ("svm", "knn", None)[n % 3], n / 8 if n % 5 else None) for n, at in enumerate(shown)]


@contextmanager
def _given(system: str) -> Iterator[Mapping[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(system, Path(folder))
        time, number = KINDS[system]
        table = lab.table(f"time {time}, model varchar(20), loss {number}", _rows(system))
        url = lab.url if system == "postgres" else f"{system}:///{lab.file}"
        cut = "(:model IS NULL OR model = :model)"
        if system != "sqlite":
            cut += " AND time >= :from AND time < :to"
        try:
            yield {
                "options": {"url": url},
                "datasets": [
                    {"name": "declared", "options": {"table": table}, "columns": DECLARED},
                    {"name": "inferred", "options": {"table": table}},
                    {
                        "name": "asked",
                        "options": {"query": f"SELECT time, model, loss FROM {table} WHERE {cut}"},
                        "columns": DECLARED,
                        "params": [{"name": "model"}],
                    },
                ],
            }
        finally:
            lab.drop()


TestSqlite = conformance(SqlSource, lambda: _given("sqlite"))
TestDuckdb = conformance(SqlSource, lambda: _given("duckdb"))
TestPostgres = conformance(SqlSource, lambda: _given("postgres"))
