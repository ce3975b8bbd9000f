"""What a URL answers with: an API described by OpenAPI, metrics, an MLflow server, or rows to be sampled."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import replace

from bridge.edge.upstream import Answer
from bridge.errors import NeedsAuth, SourceError, UpstreamInvalid, UpstreamRefused
from bridge.sources.builtin.http.client import Call
from bridge.sources.infer.exposition import is_exposition, metrics_source
from bridge.sources.infer.fetch import Probe
from bridge.sources.infer.names import Names, host_name
from bridge.sources.infer.openapi import Api, is_api, read_api
from bridge.sources.infer.operations import Described, described
from bridge.sources.infer.sampled import sampled
from bridge.sources.infer.stanza import DatasetGuess, SourceGuess

DOCUMENTS = ("/openapi.json", "/swagger.json", "/api/openapi.json", "/v3/api-docs", "/openapi.yaml")
_VERSION = re.compile(rb"\s*\d+\.\d+(\.\w+)*\s*")
_MLFLOW = "/api/2.0/mlflow/experiments/search"


async def look_at_url(probe: Probe, name: str | None, max_datasets: int) -> SourceGuess:
    """What this server offers.

    Errors: SourceError saying what it answers instead of data.
    """
    name = name or host_name(probe.address.origin)
    try:
        own: Answer | SourceError = await probe.get(probe.address.path, probe.address.params)
    except (UpstreamRefused, UpstreamInvalid) as error:
        own = error
    if isinstance(own, Answer):
        text = own.headers.get("content-type", "")
        if api := await asyncio.to_thread(_api, own):
            return await _described(probe, name, api, probe.address.path, max_datasets)
        if is_exposition(own.body, text):
            return metrics_source(probe.options, name, probe.address.path, own.body)
        if probe.address.path:
            # An address that was named in full and gives rows is what was meant.
            return await _sampled(probe, name, own)
    return await _offered(probe, name, own, max_datasets)


async def _offered(probe: Probe, name: str, own: Answer | SourceError, max_datasets: int) -> SourceGuess:
    """What stands at the usual places of a server whose own address gives no rows."""
    bases = list(dict.fromkeys((probe.address.path.rstrip("/"), "")))
    for path in (f"{base}{document}" for base in bases for document in DOCUMENTS):
        answer = await probe.found(path)
        if answer is not None and (api := await asyncio.to_thread(_api, answer)):
            return await _described(probe, name, api, path, max_datasets)
    if await _is_mlflow(probe):
        return _mlflow(probe, name)
    failed: SourceError | None = own if isinstance(own, SourceError) else None
    if isinstance(own, Answer):
        try:
            return await _sampled(probe, name, own)
        except UpstreamInvalid as error:
            failed = error
    answer = await probe.found("/metrics") if not probe.address.path else None
    if answer is not None and is_exposition(answer.body, answer.headers.get("content-type", "")):
        found = metrics_source(probe.options, name, "/metrics", answer.body)
        hint = "rows that this server has at other paths are read by naming their URL"
        return replace(found, notes=(*found.notes, hint))
    assert failed is not None  # noqa: S101
    raise failed


def _api(answer: Answer) -> Api | None:
    return read_api(answer.body, answer.url) if is_api(answer.body) else None


async def _sampled(probe: Probe, name: str, answer: Answer) -> SourceGuess:
    address = probe.address
    dataset = await asyncio.to_thread(sampled, answer, address.path or "/", address.params, Names())
    return SourceGuess(name, "rest", probe.options, (dataset,), (f"sampled from {address.origin}{address.path}",))


async def _described(probe: Probe, name: str, api: Api, path: str, max_datasets: int) -> SourceGuess:
    """The datasets of an OpenAPI document; answers that it does not describe are sampled."""
    base = api.base_path(probe.address.origin)
    found = await asyncio.to_thread(described, api, base, max_datasets)
    names = Names()
    datasets: list[DatasetGuess] = []
    failed: list[str] = []
    for item in found.items:
        if len(datasets) >= max_datasets:
            break
        try:
            datasets.append(await _one(probe, item, names))
        except NeedsAuth:
            raise
        except SourceError as error:
            failed.append(f"{item.path} is left out: {error.message}")
    if not datasets:
        raise UpstreamInvalid(
            f"the OpenAPI document at {path} describes no GET that answers an array of objects"
            + (f" ({failed[0]})" if failed else ""),
            remedy="name the address of a dataset itself",
        )
    left = found.more + len(found.items) - len(datasets) - len(failed)
    notes = [f"read from {probe.address.origin}{path}: {api.title}", *found.notes, *_shortened(failed)]
    if left > 0:
        notes.append(f"{left} more GET paths are left out; --max-datasets takes more")
    if foreign := api.foreign(probe.address.origin):
        notes.append(f"the document names the server {foreign}; this is the one that was asked")
    return SourceGuess(name, "rest", probe.options, tuple(datasets), tuple(notes))


def _shortened(texts: Sequence[str], most: int = 10) -> list[str]:
    more = [f"and {len(texts) - most} more like these"] if len(texts) > most else []
    return [*texts[:most], *more]


async def _one(probe: Probe, item: Described, names: Names) -> DatasetGuess:
    """One described dataset, compared with what the server answers where it can be asked without knowing more."""
    if item.path_asked is None:
        return item.guess(names, None)
    try:
        answer = await probe.get(item.path_asked, item.asked)
    except SourceError:
        if not item.columns:
            raise
        return item.guess(names, None)
    if not item.columns:
        return await asyncio.to_thread(item.sampled, answer, names)
    return await asyncio.to_thread(item.guess, names, answer)


async def _is_mlflow(probe: Probe) -> bool:
    version = await probe.found("/version")
    if version is None or not _VERSION.fullmatch(version.body[:64]):
        return False
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    try:
        answer = await probe.send(Call("POST", _MLFLOW, headers=headers, body=b'{"max_results": 1}'))
        found = json.loads(answer.body)
        return isinstance(found, dict) and (not found or "experiments" in found)
    except (SourceError, ValueError, RecursionError):
        return False


def _mlflow(probe: Probe, name: str) -> SourceGuess:
    kinds = {
        "experiments": "One row per experiment.",
        "runs": "One row per run.",
        "metrics": "Histories of the runs' metrics.",
    }
    datasets = tuple(DatasetGuess(kind, {"kind": kind}, description=text) for kind, text in kinds.items())
    return SourceGuess(name, "mlflow", probe.options, datasets, ("an MLflow tracking server",))
