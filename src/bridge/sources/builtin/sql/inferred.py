"""The columns of an undeclared dataset: read once from types and first rows, then a promise that must be kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from bridge.errors import SchemaMismatch, UpstreamInvalid
from bridge.model.schema import Column, Role
from bridge.sources.builtin.sql.engine import FarColumn, Kind
from bridge.sources.builtin.sql.values import sampled
from bridge.sources.table import infer, shown_names


@dataclass(frozen=True, slots=True)
class Known:
    """Published columns with the kinds they had; those without a value yet are `open`."""

    columns: tuple[Column, ...]
    kinds: Mapping[str, Kind]
    open: frozenset[str] = frozenset()


def check_far(where: str, far: Sequence[FarColumn]) -> None:
    """A result must have columns, each with a name of its own.

    Errors: UpstreamInvalid naming what is wrong.
    """
    names = [column.name for column in far]
    if not names:
        raise UpstreamInvalid(f"{where}: the result has no columns", remedy="correct the dataset's `query`")
    if not all(name.strip() and name != "?column?" for name in names):
        raise UpstreamInvalid(
            f"{where}: a column of the result has no name", remedy="name it in the `query`: `… AS name`"
        )
    # SQLite and DuckDB number the second of two equal names; PostgreSQL keeps both.
    twice = [name for name in names if names.count(name) > 1 or _numbered(name) in names]
    if twice:
        raise UpstreamInvalid(
            f"{where}: the result has more than one column named {shown_names(dict.fromkeys(map(_bare, twice)))}",
            remedy="give each column a name of its own in the `query`: `… AS name`",
        )


def _numbered(name: str) -> str | None:
    base, colon, number = name.rpartition(":")
    return base if colon and number.isdigit() else None


def _bare(name: str) -> str:
    return _numbered(name) or name


def first_known(raw: pl.DataFrame, far: Sequence[FarColumn]) -> Known:
    """The columns of a sample; what the database says of types counts more than the values."""
    table = sampled(raw, far)
    kinds = {column.name: column.kind for column in far}
    undecided = [name for name, kind in kinds.items() if kind is Kind.ANY and table[name].dtype == pl.Null]
    return Known(infer(table), kinds, frozenset(undecided))


def settled(where: str, known: Known | None, raw: pl.DataFrame, far: Sequence[FarColumn]) -> Known:
    """The columns of a sample, as they were published where they were.

    Errors: SchemaMismatch when a published column is gone or changed its type.
    """
    fresh = first_known(raw, far)
    if known is None:
        return fresh
    check_kept(where, known, far)
    now = {column.name: column for column in fresh.columns if column.name not in fresh.open}
    has_time = any(column.role is Role.TIME for column in known.columns)
    columns = []
    for column in known.columns:
        decided = now.get(column.name) if column.name in known.open else None
        chosen = decided or column
        if decided is not None and decided.role is Role.TIME:
            chosen = replace(decided, role=None) if has_time else decided
            has_time = True
        columns.append(chosen)
    return Known(tuple(columns), known.kinds, known.open - now.keys())


def check_kept(where: str, known: Known, far: Sequence[FarColumn]) -> None:
    """Every published column is still there, with the kind it had.

    Errors: SchemaMismatch naming what changed.
    """
    now = {column.name: column.kind for column in far}
    changes = [f"`{column.name}` is gone" for column in known.columns if column.name not in now]
    changes += [
        f"`{name}` was {known.kinds[name]} and is {kind}"
        for name, kind in now.items()
        if name in known.kinds and known.kinds[name] is not kind
    ]
    if changes:
        raise SchemaMismatch(
            f"{where}: the columns have changed: {', '.join(changes)}",
            remedy="correct the database, declare the dataset's `columns`, or reload to publish the new columns",
        )
