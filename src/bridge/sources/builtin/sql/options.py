"""What may be written in the settings of a `sql` source and of its datasets."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field, SecretStr, StringConstraints, model_validator

from bridge.sources.base import Options
from bridge.sources.builtin.sql.place import read_place


class TimeAs(StrEnum):
    """How a database without a type for instants holds them."""

    ISO = "iso"
    EPOCH_S = "epoch_s"
    EPOCH_MS = "epoch_ms"


class SqlOptions(Options):
    """One database, and bridge's credential there."""

    # A value that is refused must not be repeated in the sentence that refuses it: it may be a secret.
    model_config = ConfigDict(hide_input_in_errors=True)

    url: str = Field(
        description="`sqlite:///FILE` or `duckdb:///FILE` (relative to the settings file; four slashes for an "
        "absolute path), or `postgresql://USER@HOST:5432/DATABASE?sslmode=verify-full`.",
        examples=["sqlite:///runs.db"],
    )
    password: SecretStr | None = Field(
        None, description="Password at the PostgreSQL server; `password_file` reads it from a file."
    )
    allow_private: bool = Field(False, description="Whether the server's address may be a loopback or private one.")
    deadline_s: float = Field(20.0, gt=0, le=600, description="Seconds one question may take.")

    @model_validator(mode="after")
    def _names_a_place(self) -> SqlOptions:
        read_place(self.url, allow_private=self.allow_private)
        return self


class SqlDataset(Options):
    """One dataset: a table, or what a query gives."""

    table: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = Field(
        None, description="A table or view, `schema.table` for one of another schema.", examples=["runs"]
    )
    query: Annotated[str, StringConstraints(min_length=1)] | None = Field(
        None,
        description="One SELECT; `:from`, `:to`, `:step_s` and `:NAME` of the dataset's parameters are bound values.",
    )
    time_as: TimeAs | None = Field(
        None,
        description="How times are stored where the database has no type for them, and what `:from` and `:to` are: "
        "ISO 8601 texts, or seconds or milliseconds since 1970. Default: the database's own type, `iso` for SQLite.",
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> SqlDataset:
        if (self.table is None) == (self.query is None):
            raise ValueError("give either `table` or `query`")
        if self.table is not None and not all(self.table.split(".")[:3]):
            raise ValueError(f"`{self.table}` is no table name, write `table` or `schema.table`")
        return self
