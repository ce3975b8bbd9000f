"""What makes a dataset the same one: settings that could give another answer make another dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from pydantic import BaseModel, SecretStr

from bridge.sources.registry import DatasetEntry


def settings_tag(entry: DatasetEntry, parents: Iterable[str] = ()) -> str:
    """Differs between settings that could give another answer; what is the same over a reload keeps its answers.

    Shape: `parents` are the tags of the datasets that the steps read.
    """
    source, spec = entry.source, entry.spec
    options = [_told_apart(source.options), _told_apart(spec.options)]
    steps = [step.model_dump_json(exclude_none=True, by_alias=True) for step in entry.steps]
    own = (source.kind, source.version, options, spec.columns, spec.params, str(source.tools.base_dir))
    # An answer that other checks let through has not passed these.
    checks = [check.model_dump_json(exclude_none=True, by_alias=True) for check in entry.checks]
    stamp = entry.history.time if entry.history else None
    parts = (own, steps, tuple(parents), checks, stamp)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _told_apart(value: object) -> object:
    """The options as plain values; a secret counts as what it is, since another credential may see other data."""
    match value:
        case SecretStr():
            return value.get_secret_value()
        case BaseModel():
            return {name: _told_apart(getattr(value, name)) for name in type(value).model_fields}
        case dict():
            return {key: _told_apart(item) for key, item in value.items()}
        case list() | tuple():
            return [_told_apart(item) for item in value]
        case _:
            return value
