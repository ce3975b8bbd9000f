"""One dataset's settings, compiled: its columns, and which part of a query MLflow answers by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from bridge.model.filters import Filter, Op
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Role
from bridge.model.span import EPOCH, Span, to_ms
from bridge.sources.base import BadSetting, DatasetSpec
from bridge.sources.builtin.mlflow.names import FAMILIES
from bridge.sources.builtin.mlflow.options import MlflowDataset
from bridge.sources.table import far_name

TIME, NUMBER, STRING = ColumnType.TIME, ColumnType.NUMBER, ColumnType.STRING
_EXPERIMENT = Column("experiment", STRING, role=Role.DIMENSION, description="Name of the experiment.")
_RUN_ID = Column("run_id", STRING)
_RUN_NAME = Column("run_name", STRING)
_RUN_LINE = Column("run_name", STRING, role=Role.DIMENSION)
_STARTED = Column("time", TIME, role=Role.TIME, description="When the run started.")

FIXED = {
    "experiments": (
        # Neither is the time of the row: an experiment is there whatever range a dashboard shows.
        Column("created", TIME),
        Column("updated", TIME),
        Column("experiment_id", STRING),
        _EXPERIMENT,
    ),
    # No line per run: names and ids tell every run apart, so they are no dimensions here.
    "runs": (
        _STARTED,
        Column("end_time", TIME),
        Column("duration_s", NUMBER, unit="s", role=Role.MEASURE),
        _RUN_ID,
        _RUN_NAME,
        _EXPERIMENT,
        Column("status", STRING, role=Role.DIMENSION),
        Column("user", STRING),
    ),
    # A history is a line of its own.
    "metrics": (
        Column("time", TIME, role=Role.TIME, description="When the point was logged."),
        Column("step", NUMBER),
        _RUN_ID,
        _RUN_LINE,
        _EXPERIMENT,
        Column("metric", STRING, role=Role.DIMENSION),
        Column("value", NUMBER, role=Role.MEASURE),
    ),
    "params": (
        _STARTED,
        _RUN_ID,
        _RUN_LINE,
        _EXPERIMENT,
        Column("param", STRING, role=Role.DIMENSION),
        Column("value", STRING),
    ),
}
# What `select` may name beside `metrics.NAME`, `params.NAME` and `tags.NAME`.
OF_RUN = (
    "time",
    "start_time",
    "end_time",
    "duration_s",
    "run_id",
    "run_name",
    "experiment",
    "experiment_id",
    "status",
    "user",
)
_ALSO = {
    "experiments": (),
    "runs": OF_RUN,
    "metrics": (*OF_RUN, "step", "metric", "value"),
    "params": (*OF_RUN, "param", "value"),
}
# The kinds whose columns depend on what was logged.
WIDE = ("experiments", "runs")
_MS = timedelta(milliseconds=1)
_ATTRIBUTES = ("run_id", "run_name", "status")
# Letters that no version of MLflow's parser reads as anything else; bridge filters by itself what is not sent.
_PLAIN = re.compile(r"[\w./:+-](?:[\w ./:+-]{0,248}[\w./:+-])?")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of the server for one query; `experiments` and `metrics` are None for all of them."""

    text: str
    experiments: frozenset[str] | None = None
    metrics: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """One dataset. `columns` are those declared, or those its kind always has; None where they are to be learned."""

    name: str
    options: MlflowDataset
    columns: tuple[Column, ...] | None

    def narrow(self, query: Query) -> Query:
        """What MLflow answers by itself.

        Shape: nothing while columns are learned: which there are must not depend on the part that was asked for.
        """
        if self.options.kind == "experiments":
            return query.whole()
        filters = tuple(item for item in query.filters if self._means(item) is not None)
        span = query.span if self._timed else None
        return Query(query.dataset, span=span, filters=filters, params=query.params)

    @property
    def _timed(self) -> bool:
        """Whether the rows' time is the one MLflow searches by: a run's start, or in histories a point's time."""
        wanted = ("time",) if self.options.kind == "metrics" else ("time", "start_time")
        return any(column.role is Role.TIME and far_name(column) in wanted for column in self.columns or ())

    def _means(self, item: Filter) -> str | None:
        """The far name of the column a filter speaks of, where MLflow can be asked for it."""
        column = next((column for column in self.columns or () if column.name == item.column), None)
        if column is None or column.type is not STRING or item.op is not Op.EQ:
            return None
        far = far_name(column)
        if far == "experiment" or (far == "metric" and self.options.kind == "metrics"):
            return far
        family, _, key = far.partition(".")
        known = far in _ATTRIBUTES or (family in ("params", "tags") and _PLAIN.fullmatch(key))
        return far if known and len(item.values) == 1 and _PLAIN.fullmatch(item.values[0]) else None

    def asked(self, query: Query) -> Asked:
        """What the narrowed query asks of the server."""
        found: dict[str, frozenset[str]] = {}
        parts = [self.options.filter] if self.options.filter and self.options.filter.strip() else []
        for item in query.filters:
            far = self._means(item)
            if far in ("experiment", "metric"):
                found[far] = found.get(far, frozenset(item.values)) & frozenset(item.values)
            elif far is not None:
                parts.append(f"{_quoted(far)} = '{item.values[0]}'")
        if query.span is not None and self._timed:
            parts += _within(query.span, self.options.kind)
        named = self.options.metrics
        metrics = found.get("metric") if named is None else found.get("metric", frozenset(named)) & frozenset(named)
        return Asked(" AND ".join(parts), found.get("experiment"), metrics)


def compile_plan(source: str, spec: DatasetSpec) -> Plan:
    """The plan of one dataset.

    Errors: BadSetting naming a column that such a dataset cannot have.
    """
    options = spec.options
    if not isinstance(options, MlflowDataset):
        raise TypeError(f"{source}.{spec.name}: options of {type(options).__name__}")
    known = tuple(dict.fromkeys((*(column.name for column in FIXED[options.kind]), *_ALSO[options.kind])))
    families = ("tags",) if options.kind == "experiments" else tuple(FAMILIES)
    for index, column in enumerate(spec.columns):
        family, dot, key = far_name(column).partition(".")
        if far_name(column) not in known and not (dot and key and family in families):
            raise BadSetting(
                f"column `{column.name}`: kind `{options.kind}` has no `{far_name(column)[:80]}`; `select` names "
                f"{', '.join(f'{item}.NAME' for item in families)} or one of {', '.join(known)}",
                ("datasets", spec.name, "columns", index, "select" if column.select else "name"),
            )
    fixed = None if options.kind in WIDE else FIXED[options.kind]
    return Plan(f"{source}.{spec.name}", options, spec.columns or fixed)


def _quoted(far: str) -> str:
    family, dot, key = far.partition(".")
    return f"{family}.`{key}`" if dot else f"attributes.{far}"


def _within(span: Span, kind: str) -> Iterator[str]:
    """The span in milliseconds, rounded outwards. A history may begin before it, in a run that went on."""
    if kind != "metrics":
        yield f"attributes.start_time >= {to_ms(span.start)}"
    yield f"attributes.start_time < {ceil_ms(span)}"


def ceil_ms(span: Span) -> int:
    """The first whole millisecond that is not before the end."""
    return -((EPOCH - span.end) // _MS)
