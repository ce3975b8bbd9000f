"""The columns of undeclared data: read from the values once, then a promise that later data must keep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from bridge.errors import SchemaMismatch, UpstreamInvalid
from bridge.model.frame import Notice
from bridge.model.schema import Column, Role
from bridge.sources.builtin.files.content import Piece
from bridge.sources.builtin.files.paths import Found
from bridge.sources.table import infer, shown_names


@dataclass(frozen=True, slots=True)
class Known:
    """Inferred columns; those that had no value yet are `open`, and take the type of the first that comes."""

    columns: tuple[Column, ...]
    open: frozenset[str] = frozenset()


def settled(
    dataset: str, files: Sequence[Found], known: Known | None, heads: Sequence[Piece]
) -> tuple[Known, tuple[Notice, ...]]:
    """The columns of all pieces together, or those that were published before where the pieces still have them.

    Errors: UpstreamInvalid without any column, SchemaMismatch when a published column is gone or changed its type.
    """
    fresh = _inferred(piece.table for piece in heads)
    if known is not None:
        return _reconciled(dataset, known, fresh, has_rows=any(piece.table.height for piece in heads))
    if not fresh.columns:
        names = shown_names(found.shown for found in files)
        raise UpstreamInvalid(
            f"{names} {'has' if len(files) == 1 else 'have'} nothing to read the columns of `{dataset}` from",
            remedy="declare the dataset's `columns`, or write the data",
        )
    return fresh, ()


def _inferred(tables: Iterable[pl.DataFrame]) -> Known:
    """The first table with a value decides on a column's type."""
    columns: dict[str, Column] = {}
    undecided: set[str] = set()
    for table in tables:
        for column in infer(table):
            empty = table[column.name].null_count() == table.height
            if column.name not in columns and empty:
                undecided.add(column.name)
            elif column.name in undecided and not empty:
                undecided.discard(column.name)
            elif column.name in columns:
                continue
            columns[column.name] = column
    return Known(_one_time(columns.values()), frozenset(undecided))


def _one_time(columns: Iterable[Column]) -> tuple[Column, ...]:
    """The columns with the role of time left to the first that has it."""
    out: list[Column] = []
    for column in columns:
        again = column.role is Role.TIME and any(other.role is Role.TIME for other in out)
        out.append(replace(column, role=None) if again else column)
    return tuple(out)


def _reconciled(dataset: str, known: Known, fresh: Known, *, has_rows: bool) -> tuple[Known, tuple[Notice, ...]]:
    now = {column.name: column for column in fresh.columns}
    decided = {name: column for name, column in now.items() if name not in fresh.open}
    changes = [f"`{column.name}` is gone" for column in known.columns if has_rows and column.name not in now]
    changes += [
        f"`{column.name}` was {column.type} and is {decided[column.name].type}"
        for column in known.columns
        if column.name in decided and column.name not in known.open and decided[column.name].type != column.type
    ]
    if changes:
        raise SchemaMismatch(
            f"the columns of `{dataset}` have changed: {', '.join(changes)}",
            remedy="correct the files, declare the dataset's `columns`, or reload to publish the new columns",
        )
    has_time = any(column.role is Role.TIME for column in known.columns)
    columns = [_opened(column, known, decided, has_time=has_time) for column in known.columns]
    published = {column.name for column in known.columns}
    new = [name for name in now if name not in published]
    text = f"new columns are left out until the next reload: {shown_names(new)}"
    notices = (Notice("info", text),) if new else ()
    return Known(_one_time(columns), known.open - decided.keys()), notices


def _opened(column: Column, known: Known, decided: Mapping[str, Column], *, has_time: bool) -> Column:
    """An open column with the type it has now; the time axis stays where it was published."""
    if column.name not in known.open or column.name not in decided:
        return column
    now = decided[column.name]
    return replace(now, role=None) if has_time and now.role is Role.TIME else now
