"""What the pages are shown with in tests: a source in each state, and texts that try to be markup."""

from __future__ import annotations

from typing import Any

from bridge.web import openapi, routes

BASE = "http://127.0.0.1:8000"
HOSTILE = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>{{ 7*7 }}"
DOCUMENT = openapi.document(routes.TABLE, "0.1.0", BASE)


def dataset(name: str, state: str = "ok", **more: Any) -> dict[str, Any]:
    """One dataset as `views.dataset_view` gives it."""
    return {
        "name": name,
        "source": name.partition(".")[0],
        "kind": "rest",
        "description": "",
        "shape": "auto",
        "columns": ["time", "accuracy"],
        "refresh_s": 5.0,
        "href": f"/api/v1/datasets/{name}",
        "state": state,
        "age_s": 3.2,
        "stale": False,
        "breaker": "closed",
        "error": None,
        "remedy": None,
        "last_success": "2026-01-01T00:00:00+00:00",
        "rows": 1234,
        "latency_s": 0.03,
        **more,
    }


def source(name: str, state: str, datasets: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """One running source as `views.source_view` gives it."""
    return {
        "name": name,
        "kind": "rest",
        "version": "1",
        "description": "Any container's HTTP API.",
        "state": state,
        "far_version": None,
        "pushes_down": True,
        "streams": False,
        "datasets": datasets,
        **more,
    }


FAILED: dict[str, Any] = {
    "name": "cluster",
    "kind": "slurm",
    "state": "failed",
    "error": "plug-in `slurm` of bridge-slurm: ModuleNotFoundError: No module named 'pyslurm'",
    "datasets": ["cluster.jobs", "cluster.nodes"],
}
SOURCES: list[dict[str, Any]] = [
    source("digits", "ok", [dataset("digits.runs", description="One row per run."), dataset("digits.curves")]),
    source(
        "bench",
        "down",
        [
            dataset(
                "bench.latency",
                "down",
                stale=True,
                age_s=8000.0,
                error="the far server 127.0.0.1:8020 refused the connection",
                remedy="start the container, or correct sources[1].options.url",
            ),
            dataset("bench.throughput_by_region_and_instance_type_and_day", "unknown", rows=None, age_s=None),
        ],
        far_version="2.1",
    ),
    source("vault", "needs_auth", [dataset("vault.trials", "needs_auth", rows=None, age_s=None, error="401")]),
    FAILED,
]
PLUGINS: list[dict[str, Any]] = [
    {"kind": "slurm", "package": "bridge-slurm", "ok": False, "error": "ModuleNotFoundError: pyslurm"},
    {"kind": "rest", "package": "bridge", "ok": True, "error": None},
]
