"""What the sources share that read their columns from the data and leave some of them out when asked for fewer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Generic, Protocol, TypeVar

from bridge.model.schema import Column, Schema
from bridge.sources.base import DatasetSpec, DataSource, Options, Tools
from bridge.sources.checks import SchemaValidator


class Known(Protocol):
    """What is remembered of a dataset's first reading."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns it published."""
        ...


K = TypeVar("K", bound=Known)


class ReadingSource(DataSource, Generic[K]):
    """A source whose datasets may leave out `columns`: those of the first reading are then published."""

    infers_schema: ClassVar[bool] = True

    def __init__(self, name: str, options: Options, datasets: Mapping[str, DatasetSpec], tools: Tools) -> None:
        super().__init__(name, options, datasets, tools)
        self._known: dict[str, K] = {}

    def validators(self, table: str) -> tuple[SchemaValidator, ...]:
        """A check against the frame's own schema.

        A narrowed frame has fewer columns than were declared, and `collect` has refused data that lacks any.
        """
        return (SchemaValidator(()),)

    def schema(self, table: str) -> Schema | None:
        """The declared schema, or the one that was inferred at the first reading."""
        declared = super().schema(table)
        known = self._known.get(table)
        return declared if declared or not known else Schema(known.columns)

    def _remember(self, table: str, before: K | None, known: K | None) -> None:
        # Of two first readings at once the first to end publishes its columns.
        if known is not None and self._known.get(table) is before:
            self._known[table] = known
