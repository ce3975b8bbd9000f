"""From runs, experiments and points to typed tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import polars as pl

from bridge.errors import AnswerTooLarge
from bridge.model.frame import Notice
from bridge.model.schema import Column
from bridge.sources.builtin.mlflow.answers import Experiment, Run, whole
from bridge.sources.builtin.mlflow.histories import Points
from bridge.sources.table import Losses, convert, far_name, raw_series, shown_names

Table = tuple[pl.DataFrame, tuple[Notice, ...]]


def of_experiments(found: Sequence[Experiment], columns: tuple[Column, ...]) -> Table:
    """One row per experiment.

    Errors: SchemaMismatch when none of a column's values can be converted.
    """
    own = {
        "created": _times("created", [item.created for item in found]),
        "updated": _times("updated", [item.updated for item in found]),
        "experiment_id": pl.Series("experiment_id", [item.id for item in found], dtype=pl.String),
        "experiment": raw_series("experiment", [item.name for item in found]),
    }
    for far in _missing(columns, own):
        own[far] = raw_series(far, [item.tags.get(far.partition(".")[2]) for item in found])
    return _typed(own, columns, len(found))


def of_runs(runs: Sequence[Run], columns: tuple[Column, ...]) -> Table:
    """One row per run.

    Errors: SchemaMismatch when none of a column's values can be converted.
    """
    own = {far: _of_run(far, runs) for far in _missing(columns, ())}
    data, notices = _typed(own, columns, len(runs))
    return data, (*_nowhere(runs, columns), *notices)


def of_params(runs: Sequence[Run], columns: tuple[Column, ...], *, dataset: str, max_rows: int) -> Table:
    """One row per run and parameter.

    Errors: AnswerTooLarge over the row limit.
    """
    rows = sum(len(run.params) for run in runs)
    if rows > max_rows:
        raise AnswerTooLarge(
            f"`{dataset}` has {rows} parameters, more than the {max_rows} rows allowed",
            remedy="narrow the time range, `experiments` or `max_runs`",
        )
    of = pl.Series("run", [index for index, run in enumerate(runs) for _ in run.params], dtype=pl.Int64)
    own = {
        "param": raw_series("param", list(chain.from_iterable(run.params for run in runs))),
        "value": raw_series("value", list(chain.from_iterable(run.params.values() for run in runs))),
    }
    return _long(own, of, runs, columns)


def of_points(points: Points, runs: Sequence[Run], columns: tuple[Column, ...]) -> Table:
    """One row per logged point.

    Errors: SchemaMismatch when none of a column's values can be converted.
    """
    own = {
        "time": _times("time", points.time),
        "step": _ints("step", points.step),
        "metric": raw_series("metric", points.metric),
        "value": raw_series("value", points.value),
    }
    return _long(own, pl.Series("run", points.run, dtype=pl.Int64), runs, columns)


def _long(own: dict[str, pl.Series], of: pl.Series, runs: Sequence[Run], columns: tuple[Column, ...]) -> Table:
    """Rows of which each belongs to one of the runs, with what is wanted of their runs beside them."""
    table = dict(own)
    for far in _missing(columns, own):
        table[far] = _of_run(far, runs).gather(of)
    data, notices = _typed(table, columns, len(of))
    return data, (*_nowhere(runs, columns), *notices)


def _missing(columns: Iterable[Column], there: Iterable[str]) -> list[str]:
    return [far for far in dict.fromkeys(map(far_name, columns)) if far not in there]


def _typed(own: Mapping[str, pl.Series], columns: tuple[Column, ...], rows: int) -> Table:
    losses = Losses()
    raw = pl.DataFrame([series.alias(far) for far, series in own.items()])
    data = convert(raw, columns, losses)
    losses.check()
    return data, losses.notices()


def _of_run(far: str, runs: Sequence[Run]) -> pl.Series:
    family, dot, key = far.partition(".")
    if dot:
        return raw_series(far, [getattr(run, family).get(key) for run in runs])
    match far:
        case "time" | "start_time":
            return _times(far, [run.start for run in runs])
        case "end_time":
            return _times(far, [run.end for run in runs])
        case "duration_s":
            return pl.Series(far, [_duration_s(run) for run in runs], dtype=pl.Float64)
        case "run_id":
            return raw_series(far, [run.id for run in runs])
        case "run_name":
            return raw_series(far, [run.name or None for run in runs])
        case "user":
            return raw_series(far, [run.user or None for run in runs])
        case _:
            return raw_series(far, [getattr(run, far) for run in runs])


def _duration_s(run: Run) -> float | None:
    start, end = whole(run.start), whole(run.end)
    return None if start is None or end is None else (end - start) / 1_000


def _times(name: str, values: Sequence[Any]) -> pl.Series:
    """Milliseconds as instants, whatever their size; where one is no whole number all are read as other times are."""
    series = _ints(name, values)
    return series.cast(pl.Datetime("ms", "UTC")) if series.dtype == pl.Int64 else series


def _ints(name: str, values: Sequence[Any]) -> pl.Series:
    """Whole numbers, also those written as texts; as they are where one is something else."""
    found = [None if value is None else whole(value) for value in values]
    if any(value is None and given is not None for value, given in zip(found, values, strict=True)):
        return raw_series(name, list(values))
    return pl.Series(name, found, dtype=pl.Int64)


def _nowhere(runs: Sequence[Run], columns: tuple[Column, ...]) -> tuple[Notice, ...]:
    """A warning for what is declared and was logged by no run: a mistake, or only not logged yet."""
    out: list[Notice] = []
    for column in columns if runs else ():
        family, dot, key = far_name(column).partition(".")
        if not dot or any(key in getattr(run, family) for run in runs):
            continue
        there = sorted(set(chain.from_iterable(getattr(run, family) for run in runs)))
        text = f"`{column.name}` is empty: none of these runs has `{far_name(column)[:80]}`; they have "
        out.append(Notice("warning", text + (shown_names(there) if there else f"no {family}")))
    return tuple(out)
