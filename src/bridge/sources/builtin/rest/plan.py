"""A dataset's settings, compiled: everything that can be wrong in them is said before the first question."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from bridge.errors import UpstreamInvalid
from bridge.model.query import Query
from bridge.model.schema import Column, Param
from bridge.sources.base import BadSetting, DatasetSpec
from bridge.sources.builtin.rest.options import Paging, RestDataset
from bridge.sources.builtin.rest.select import Selector, compile_selector, key_selector
from bridge.sources.builtin.rest.templates import (
    SPAN_NAMES,
    Template,
    body_names,
    compile_body,
    compile_path,
    compile_template,
    pushed,
)

_NUMERIC = re.compile(r"v?(\d+(?:\.\d+)*)", re.I)


@dataclass(frozen=True, slots=True)
class Plan:
    """One dataset for one version of the far API."""

    name: str
    method: str
    path: tuple[Template, ...]
    params: Mapping[str, Template]
    body: Any
    headers: Mapping[str, str]
    format: str
    rows: Selector
    columns: tuple[tuple[Column, Selector], ...]
    declared: tuple[Param, ...]
    paging: Paging
    next: Selector | None
    total: Selector | None

    @property
    def names(self) -> frozenset[str]:
        """Names of all placeholders."""
        templates = (*self.path, *self.params.values())
        return body_names(self.body).union(*(template.names for template in templates))

    @property
    def multi(self) -> frozenset[str]:
        """Names that become a list in a body."""
        return frozenset(f"param.{param.name}" for param in self.declared if param.multi)


@dataclass(frozen=True, slots=True)
class Plans:
    """One dataset for every version of the far API that the settings know.

    Shape: `accept` are the versions the source declares; none leaves it to the keys of `by_version`.
    """

    base: Plan
    by_version: Mapping[str, Plan]
    accept: tuple[str, ...] = ()

    @property
    def depend(self) -> bool:
        """Whether the far version decides how, or whether, the dataset is read."""
        return bool(self.by_version or self.accept)

    def pick(self, version: str | None) -> Plan:
        """The plan for a version: its own, else that of its longest numeric beginning, else the base where declared.

        Errors: UpstreamInvalid for a version nobody declared.
        """
        if not self.depend:
            return self.base
        text = version or ""
        own = version_key(text, self.by_version)
        if not self.accept and own is not None:
            return self.by_version[own]
        if version_key(text, self.accept) is not None:
            return self.base if own is None else self.by_version[own]
        declared, place = (self.accept, "version.accept") if self.accept else (self.by_version, "by_version")
        raise UpstreamInvalid(
            f"{self.base.name}: the far API has version {text[:40]!r}; declared are {', '.join(declared)}",
            remedy=f"compare what it answers with the settings, then add this version to `{place}`",
        )

    def narrow(self, query: Query) -> Query:
        """What the templates carry to the far side, and nothing else, so that equal questions stay equal."""
        names = self.base.names.union(*(plan.names for plan in self.by_version.values()))
        filters = tuple(
            item
            for column, _ in self.base.columns
            if f"filter.{column.name}" in names and (item := pushed(query, column)) is not None
        )
        return Query(
            dataset=query.dataset,
            span=query.span if names.intersection(SPAN_NAMES) else None,
            step_ms=query.step_ms if names.intersection(("step_ms", "step_s")) else None,
            max_points=query.max_points if "max_points" in names else None,
            filters=filters,
            params=query.params,
        )


def version_key(version: str, keys: Collection[str]) -> str | None:
    """The key that stands for a version: the version itself, else its longest numeric beginning (2.1.3 → 2.1, 2)."""
    numeric = _NUMERIC.match(version)
    parts = numeric[1].split(".") if numeric else []
    beginnings = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((key for key in (version, *beginnings) if key in keys), None)


def compile_plans(source: str, spec: DatasetSpec, accept: tuple[str, ...] = ()) -> Plans:
    """The plans of one dataset; `accept` are the far versions that its source declares.

    Errors: BadSetting naming the key and what is wrong with it.
    """
    options = spec.options
    if not isinstance(options, RestDataset):
        raise TypeError(f"{source}.{spec.name}: options of {type(options).__name__}")
    base = _base(source, spec, options)
    for version, overlay in options.by_version.items():
        _check_reachable(base, spec, version, accept)
        foreign = [name for name in overlay.select if name not in {column.name for column, _ in base.columns}]
        if foreign:
            at = ("datasets", spec.name, "options", "by_version", version, "select", foreign[0])
            raise BadSetting(f"by_version {version}: `{foreign[0]}` is no column of {base.name}", at)
    plans = {version: _overlaid(source, spec, options, version) for version in options.by_version}
    _check_names(spec, base, ("options",))
    for version, plan in plans.items():
        _check_names(spec, plan, ("options", "by_version", version))
    return Plans(base, plans, accept)


def _base(source: str, spec: DatasetSpec, options: RestDataset) -> Plan:
    paging = options.paging
    return Plan(
        name=f"{source}.{spec.name}",
        method=options.method,
        path=compile_path(options.path),
        params={key: compile_template(text) for key, text in options.params.items()},
        body=compile_body(options.body),
        headers=options.headers,
        format=options.format,
        rows=compile_selector(options.rows),
        columns=tuple((column, _column(spec, index, column)) for index, column in enumerate(spec.columns)),
        declared=spec.params,
        paging=paging,
        next=compile_selector(paging.next) if paging.next is not None else None,
        total=compile_selector(paging.total) if paging.total is not None else None,
    )


def _column(spec: DatasetSpec, index: int, column: Column) -> Selector:
    if column.select is None:
        return key_selector(column.name)
    try:
        return compile_selector(column.select)
    except ValueError as error:
        at = ("datasets", spec.name, "columns", index, "select")
        raise BadSetting(f"column `{column.name}`: `select` {error}", at) from error


def _overlaid(source: str, spec: DatasetSpec, options: RestDataset, version: str) -> Plan:
    overlay = options.by_version[version]
    try:
        plan = _base(source, spec, options.overlaid(overlay))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        at = ("datasets", spec.name, "options", "by_version", version, *first["loc"])
        where = ".".join(map(str, first["loc"]))
        text = first["msg"].removeprefix("Value error, ")
        raise BadSetting(f"by_version {version}: {where + ': ' if where else ''}{text}", at) from error
    own = {name: compile_selector(text) for name, text in overlay.select.items()}
    return replace(plan, columns=tuple((column, own.get(column.name, select)) for column, select in plan.columns))


def _check_reachable(base: Plan, spec: DatasetSpec, version: str, accept: tuple[str, ...]) -> None:
    """What the source never accepts would never be read."""
    covered = version_key(version, accept) or any(version_key(item, (version,)) for item in accept)
    if accept and not covered:
        at = ("datasets", spec.name, "options", "by_version", version)
        text = f"by_version {version}: {base.name} is never read so; `version.accept` has {', '.join(accept)}"
        raise BadSetting(text, at)


def _check_names(spec: DatasetSpec, plan: Plan, loc: tuple[str, ...]) -> None:
    """Every `{param.X}` and `{filter.X}` must be declared: an undeclared one could never have a value."""
    known = {
        "param": [param.name for param in plan.declared],
        "filter": [column.name for column, _ in plan.columns],
    }
    for name in sorted(plan.names):
        word, dot, own = name.partition(".")
        if dot and own not in known[word]:
            what = "parameter" if word == "param" else "column"
            listed = ", ".join(known[word]) or "none"
            text = f"{{{name}}}: {plan.name} declares no {what} `{own}` (declared: {listed})"
            raise BadSetting(text, ("datasets", spec.name, *loc))
