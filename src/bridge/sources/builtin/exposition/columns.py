"""Labels as columns: those of the page, those seen before, and those the settings declare."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from bridge.edge.faults import printable
from bridge.errors import UpstreamTooLarge
from bridge.model.frame import DTYPES, TIME_DTYPE, Notice
from bridge.model.schema import Column, ColumnType
from bridge.sources.builtin.exposition.tables import Sheet
from bridge.sources.table import far_name, shown_names, typed

MAX_LABELS = 256
# Every label is a cell of every row, also where it is empty.
MAX_CELLS = 10_000_000
PREFIX = "label_"


@dataclass(frozen=True, slots=True)
class Table:
    """Typed rows; `labels` are the label names that have been seen up to now."""

    data: pl.DataFrame
    columns: tuple[Column, ...]
    labels: tuple[str, ...]
    notices: tuple[Notice, ...] = ()


def tabled(sheet: Sheet, declared: tuple[Column, ...], known: Sequence[str], what: str) -> Table:
    """The rows with a column per label: of the declared columns only those, else all labels now or before.

    Errors: UpstreamTooLarge for more labels than a table takes; SchemaMismatch when no value of a declared column
            has its type.
    """
    present = sorted({name for labels in sheet.labels for name in labels})
    fixed = [column.name for column, _ in (*sheet.before, *sheet.after)]
    names = dict.fromkeys((*sheet.always, *known, *present))
    if declared:
        wanted = {far_name(column) for column in declared}
        shown = {label: name for label, name in _named(names, fixed).items() if name in wanted}
    else:
        if _too_wide(len(names), len(sheet.labels)):
            # What has vanished goes first.
            names = dict.fromkeys((*sheet.always, *present))
        if _too_wide(len(names), len(sheet.labels)):
            raise _too_many(present, len(sheet.labels), what)
        shown = _named(names, fixed)
    raw, columns = _built(sheet, shown)
    if not declared:
        return Table(raw, columns, tuple(shown), sheet.notices)
    raw, notices = _completed(raw, declared, (*fixed, *_named(present, fixed).values()))
    data, losses = typed(raw, declared)
    return Table(data, declared, tuple(shown), sheet.notices + notices + losses)


def _too_wide(labels: int, rows: int) -> bool:
    return labels > MAX_LABELS or labels * rows > MAX_CELLS


def _too_many(present: Sequence[str], rows: int, what: str) -> UpstreamTooLarge:
    return UpstreamTooLarge(
        f"{what}: {rows:,} rows with {len(present):,} different labels are no table "
        f"(the labels are {shown_names(map(printable, present))})",
        remedy="choose fewer with `metrics`, or declare the `columns` you need",
    )


def _named(labels: Iterable[str], fixed: Sequence[str]) -> dict[str, str]:
    """The column of each label: its own name, with a prefix where that is taken."""
    out: dict[str, str] = {}
    taken = {*fixed, *labels}
    for label in labels:
        name = printable(label)
        if label in fixed or name != label:
            while name in taken:
                name = PREFIX + name
            taken.add(name)
        out[label] = name
    return out


def _built(sheet: Sheet, shown: dict[str, str]) -> tuple[pl.DataFrame, tuple[Column, ...]]:
    middle = [
        (Column(name, ColumnType.STRING, role=sheet.role), [labels.get(label) for labels in sheet.labels])
        for label, name in shown.items()
    ]
    parts = [*sheet.before, *middle, *sheet.after]
    return pl.DataFrame([_series(column, values) for column, values in parts]), tuple(column for column, _ in parts)


def _series(column: Column, values: list[object]) -> pl.Series:
    if column.type is ColumnType.TIME:
        return pl.Series(column.name, values, dtype=pl.Int64).cast(TIME_DTYPE)
    return pl.Series(column.name, values, dtype=DTYPES[column.type])


def _completed(
    raw: pl.DataFrame, declared: Sequence[Column], there: Sequence[str]
) -> tuple[pl.DataFrame, tuple[Notice, ...]]:
    """The declared columns that are labels no series has now: empty, as an absent label is in Prometheus."""
    absent = [name for name in dict.fromkeys(map(far_name, declared)) if name not in there]
    lacking = [pl.lit(None, dtype=pl.String).alias(name) for name in absent if name not in raw.columns]
    notices: tuple[Notice, ...] = ()
    if absent and raw.height:
        text = f"no series has the label {shown_names(absent)}; there are {shown_names(there)}"
        notices = (Notice("warning", text),)
    return raw.with_columns(lacking), notices
