"""An `mlflow` source as the settings would build it, and a server that answers in the place of MLflow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import Any

from aiohttp import web

from bridge.model.schema import Column, ColumnType, Role
from bridge.sources.base import DatasetSpec, Tools
from bridge.sources.builtin.mlflow import MlflowSource
from servers.far import Far, Seen, far, js, text
from servers.rest_rig import HandClock, tools

API = "/api/2.0/mlflow"
BULK = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
Answer = Callable[[Seen], Any]


def columns(*texts: str) -> tuple[Column, ...]:
    """Columns from `name:type:role=select`; a time has the role time."""
    out = []
    for item in texts:
        head, _, select = item.partition("=")
        name, kind, role = [*head.split(":"), "", ""][:3]
        found = Role(role) if role else Role.TIME if kind == "time" else None
        out.append(Column(name, ColumnType(kind or "string"), role=found, select=select or None))
    return tuple(out)


def build(
    given: Tools, url: str, dataset: Mapping[str, Any], cols: Sequence[str] = (), **options: Any
) -> MlflowSource:
    """A source `lab` with one dataset `data`."""
    spec = DatasetSpec("data", MlflowSource.DatasetOptions.model_validate(dataset), columns(*cols))
    settings = MlflowSource.SourceOptions.model_validate({"url": url, "allow_private": True, **options})
    return MlflowSource("lab", settings, {"data": spec}, given)


@asynccontextmanager
async def mlflow(
    url: str,
    dataset: Mapping[str, Any],
    cols: Sequence[str] = (),
    *,
    clock: HandClock | None = None,
    limits: Mapping[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[MlflowSource]:
    """A source `lab` with one dataset `data`, closed afterwards."""
    async with tools(clock, **(limits or {})) as given:
        yield build(given, url, dataset, cols, **options)


def experiment(ident: Any = "1", name: str = "digits", **more: Any) -> dict[str, Any]:
    """One experiment as MLflow writes it."""
    return {
        "experiment_id": ident,
        "name": name,
        "artifact_location": f"mlflow-artifacts:/{ident}",
        "lifecycle_stage": "active",
        "last_update_time": 1767225600000,
        "creation_time": 1767225600000,
        **more,
    }


def run(
    ident: str,
    start_ms: Any = 1767225600000,
    *,
    metrics: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    **info: Any,
) -> dict[str, Any]:
    """One run as MLflow 3 writes it."""
    return {
        "info": {
            "run_uuid": ident,
            "experiment_id": "1",
            "run_name": f"name-{ident}",
            "user_id": "ann",
            "status": "FINISHED",
            "start_time": start_ms,
            "end_time": start_ms + 1500 if isinstance(start_ms, int) else None,
            "artifact_uri": f"mlflow-artifacts:/1/{ident}/artifacts",
            "lifecycle_stage": "active",
            "run_id": ident,
            **info,
        },
        "data": {
            "metrics": [{"key": k, "value": v, "timestamp": start_ms, "step": 0} for k, v in (metrics or {}).items()],
            "params": [{"key": k, "value": v} for k, v in (params or {}).items()],
            "tags": [{"key": k, "value": v} for k, v in (tags or {}).items()],
        },
        "inputs": {},
        "outputs": {},
    }


def points(
    ident: str | None, count: int, metric: str = "loss", start_ms: int = 1767225600000
) -> list[dict[str, Any]]:
    """A history as MLflow writes it; that of many runs names the run."""
    own = {} if ident is None else {"run_id": ident}
    return [{"key": metric, "value": n / 8, "timestamp": start_ms + n, "step": n, **own} for n in range(count)]


@asynccontextmanager
async def fake(
    *,
    experiments: Answer | Any = None,
    runs: Answer | Any = None,
    history: Answer | Any = None,
    bulk: Answer | Any = None,
    version: str | None = "3.17.2",
    health: Answer | Any = "OK",
) -> AsyncIterator[Far]:
    """A server that answers each question with a value, a response, or what a function makes of the request."""
    known = {
        f"{API}/experiments/search": {"experiments": [experiment()]} if experiments is None else experiments,
        f"{API}/runs/search": {} if runs is None else runs,
        f"{API}/metrics/get-history": {} if history is None else history,
        BULK: {"metrics": []} if bulk is None else bulk,
        "/version": text(version, "text/html") if version is not None else text("no", status=404),
        "/health": text("OK", "text/html") if health == "OK" else health,
    }

    async def answer(seen: Seen) -> web.StreamResponse:
        found = known.get(seen.path, text("no such path", status=404))
        made = callable(found)
        found = found(seen) if callable(found) else found
        found = await found if isawaitable(found) else found
        if isinstance(found, web.Response) and made:
            return found
        if isinstance(found, web.Response):
            # A response is spent once it was sent.
            return web.Response(body=found.body, status=found.status, headers=found.headers)
        return js(found)

    async with far(answer) as there:
        yield there


def asked(there: Far, path: str) -> list[Seen]:
    """The requests to one path, in order."""
    return [seen for seen in there.seen if seen.path in (path, f"{API}/{path}")]
