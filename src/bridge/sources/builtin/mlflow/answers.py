"""Answers of the tracking server as values: what MLflow 2 and 3 write, and nothing else."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.errors import UpstreamInvalid
from bridge.sources.builtin.http.decode import decode

REMEDY = "check that `url` is that of an MLflow tracking server, and `auth`: another server may stand in front of it"


@dataclass(frozen=True, slots=True)
class Page:
    """The objects of one answer, and the token of the next page where there is one."""

    items: list[dict[str, Any]]
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment.

    Units: times are milliseconds since the epoch, as they came.
    """

    id: str
    name: str
    deleted: bool
    created: Any = None
    updated: Any = None
    tags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """One run: what it is, the last value of each metric, its parameters and its tags.

    Units: times are milliseconds since the epoch, as they came.
    """

    id: str
    name: Any
    experiment_id: str
    experiment: str | None
    status: Any
    user: Any
    start: Any
    end: Any
    metrics: Mapping[str, Any]
    params: Mapping[str, Any]
    tags: Mapping[str, Any]


def read_page(body: bytes, content_type: str, key: str, *, what: str) -> Page:
    """The page an answer holds; protobuf leaves out an empty list, so its absence is no rows.

    Errors: UpstreamInvalid for anything that MLflow would not answer.
    """
    try:
        value = decode(body, content_type, "json", what=what).value
    except UpstreamInvalid as error:
        error.remedy = REMEDY
        raise
    if not isinstance(value, dict):
        raise _strange(what, f"holds {_kind(value)} where MLflow sends an object")
    found, token = value.get(key), value.get("next_page_token")
    if found is None and value.keys() - {key, "next_page_token"}:
        raise _strange(what, f"has no `{key}`")
    if not isinstance(found or [], list):
        raise _strange(what, f"holds {_kind(found)} at `{key}`")
    items = [item for item in found or [] if item is not None]
    if any(not isinstance(item, dict) for item in items):
        raise _strange(what, f"holds something else than objects at `{key}`")
    if not isinstance(token, str | None):
        raise _strange(what, f"holds {_kind(token)} at `next_page_token`")
    return Page(items, token or None)


def read_experiment(item: Mapping[str, Any], *, what: str) -> Experiment:
    """One entry of an answer to `experiments/search`.

    Errors: UpstreamInvalid when it has no id or no name.
    """
    ident, name = _text(item.get("experiment_id")), item.get("name")
    if ident is None or not isinstance(name, str):
        raise _strange(what, "holds an experiment without id or name")
    return Experiment(
        ident,
        name,
        item.get("lifecycle_stage") == "deleted",
        item.get("creation_time"),
        item.get("last_update_time"),
        _pairs(item.get("tags"), what),
    )


def read_run(item: Mapping[str, Any], names: Mapping[str, str], *, what: str) -> Run:
    """One entry of an answer to `runs/search`; `names` are those of the experiments by their ids.

    Errors: UpstreamInvalid when it has no id.
    """
    info, data = item.get("info"), item.get("data") or {}
    if not isinstance(info, dict) or not isinstance(data, dict):
        raise _strange(what, "holds a run without `info`")
    ident = _text(info.get("run_id")) or _text(info.get("run_uuid"))
    if ident is None:
        raise _strange(what, "holds a run without an id")
    experiment_id = _text(info.get("experiment_id")) or ""
    tags = _pairs(data.get("tags"), what)
    metrics = _pairs(data.get("metrics"), what)
    return Run(
        id=ident,
        name=info.get("run_name") or tags.get("mlflow.runName"),
        experiment_id=experiment_id,
        experiment=names.get(experiment_id),
        status=info.get("status"),
        user=info.get("user_id") or tags.get("mlflow.user"),
        start=info.get("start_time"),
        end=info.get("end_time"),
        metrics={key: number(value) for key, value in metrics.items()},
        params=_pairs(data.get("params"), what),
        tags=tags,
    )


def number(value: Any) -> Any:
    """A metric's value; what is no number stays as it is, to be converted with the others.

    Source: MLflow's SQL store keeps an infinity as the largest float.
    """
    if isinstance(value, float) and abs(value) == sys.float_info.max:
        return math.copysign(math.inf, value)
    return float(value) if type(value) is int and abs(value) < 2**53 else value


def whole(value: Any) -> int | None:
    """An int64, which protobuf's JSON may write as a text; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit() and len(value) < 20:
        value = int(value)
    return value if type(value) is int and abs(value) < 2**63 else None


def _pairs(found: Any, what: str) -> dict[str, Any]:
    """A list of `{key, value}` as a mapping."""
    if not isinstance(found or [], list):
        raise _strange(what, "holds metrics, params or tags that are no list")
    return {
        item["key"]: item.get("value")
        for item in found or []
        if isinstance(item, dict) and isinstance(item.get("key"), str)
    }


def _text(value: Any) -> str | None:
    if type(value) is int:
        value = str(value)
    return value if isinstance(value, str) and value else None


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _strange(what: str, how: str) -> UpstreamInvalid:
    return UpstreamInvalid(f"{what}: the answer {how}", remedy=REMEDY)
