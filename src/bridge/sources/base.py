"""What a source plug-in is: one flat class, judged by `bridge.sources.conformance`."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, ValidationInfo, model_validator

from bridge.edge.upstream import Upstream
from bridge.model.clock import Clock
from bridge.model.finding import Finding, ValidationResult
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.schema import Column, Param, Schema, Shape
from bridge.sources.checks import SchemaValidator

MAX_FILE_VALUE_BYTES = 65_536
# Every column costs the service and the browser some work, however few its rows: more than this is a mistake.
MAX_COLUMNS = 5_000


class Options(BaseModel):
    """Base of every plug-in's configuration: unknown keys are refused, and `X_file` reads `X` from a file.

    A relative file name begins at the folder of the settings file: the validation context's `base_dir`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=65_536, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _read_files(cls, data: Any, info: ValidationInfo) -> Any:
        return read_file_values(cls, data, (info.context or {}).get("base_dir"))


def read_file_values(model: type[BaseModel], data: Any, base_dir: Path | None = None) -> Any:
    """`data` with each `X_file` key that `model` does not know replaced by `X`, read from that file.

    Errors: ValueError naming the key when the file cannot be read, is too large, or `X` is given as well.
    """
    if not isinstance(data, Mapping):
        return data
    known = model.model_fields
    out: dict[Any, Any] = {}
    for key, value in data.items():
        plain = key[:-5] if isinstance(key, str) and key.endswith("_file") else ""
        if not plain or key in known or plain not in known:
            out[key] = value
        elif plain in data:
            raise ValueError(f"{key}: stands beside `{plain}`; keep one of the two")
        elif value is not None:
            out[plain] = _file_value(key, value, base_dir or Path())
    return out


def _file_value(key: str, name: Any, base_dir: Path) -> str:
    try:
        with (base_dir / os.path.expanduser(name)).open("rb") as file:
            content: bytes = file.read(MAX_FILE_VALUE_BYTES + 1)
        text = content.decode()
    except UnicodeDecodeError:
        # Its own text would show a piece of what may be a secret.
        raise ValueError(f"{key}: {name!r} holds no text in UTF-8") from None
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{key}: cannot read {name!r}: {error}") from error
    if len(content) > MAX_FILE_VALUE_BYTES:
        raise ValueError(f"{key}: {name!r} has more than {MAX_FILE_VALUE_BYTES} bytes")
    return text.strip()


class BadSetting(ValueError):
    """A setting that cannot work, raised by a source's constructor.

    Shape: `loc` is its place below the source, such as `("datasets", "runs", "options", "path")`.
    """

    def __init__(self, text: str, loc: tuple[str | int, ...]) -> None:
        super().__init__(text)
        self.loc = loc


class NoOptions(Options):
    """For plug-ins that take no configuration."""


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """One dataset as it is configured; `columns` is empty when the schema is to be inferred."""

    name: str
    options: Options
    columns: tuple[Column, ...] = ()
    params: tuple[Param, ...] = ()
    shape: Shape = Shape.AUTO
    description: str = ""


class UpstreamFactory(Protocol):
    """Makes the only way out: a client bound to one far server."""

    def __call__(
        self, url: str, *, allow_private: bool = False, headers: Mapping[str, str] | None = None
    ) -> Upstream:
        """An upstream for the origin and base path of `url`.

        Errors: ValueError when the URL is not one bridge may call.
        """
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one answer."""

    max_rows: int = 1_000_000
    max_bytes: int = 64 * 1024 * 1024
    max_series: int = 10_000
    deadline_s: float = 25.0


@dataclass(frozen=True, slots=True)
class Tools:
    """What a plug-in is given; it imports no HTTP client and reads no clock of its own."""

    upstream: UpstreamFactory
    clock: Clock
    base_dir: Path
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Ping:
    """Whether the far side answers, and what it calls itself."""

    ok: bool
    text: str = ""
    far_version: str | None = None


@dataclass(frozen=True, slots=True)
class DataSourceMetadata:
    """What a source says of itself."""

    name: str
    kind: str
    version: str
    description: str
    datasets: Mapping[str, Schema | None]
    pushes_down: bool = False
    streams: bool = False
    far_version: str | None = None


class DataValidator(Protocol):
    """A check that looks at a frame and says what it finds."""

    name: str

    def check(self, frame: Frame) -> Iterable[Finding]:
        """Findings about the frame; none when all is well."""
        ...


class DataSource(ABC):
    """One far system that offers datasets.

    A subclass sets the class attributes and writes `collect`; everything else has a default. bridge always
    filters the answer again, so a pushed-down filter is a saving, never a promise. A pushed span arrives widened
    to whole refresh intervals, so that questions a moment apart are one.
    """

    kind: ClassVar[str]
    version: ClassVar[str] = "1"
    description: ClassVar[str] = ""
    SourceOptions: ClassVar[type[Options]] = NoOptions
    DatasetOptions: ClassVar[type[Options]] = NoOptions
    # Whether a dataset may leave out `columns` and have them read from the data.
    infers_schema: ClassVar[bool] = False
    # Seconds an answer is taken as fresh when the dataset's settings say nothing.
    default_refresh_s: ClassVar[float] = 5.0

    def __init__(self, name: str, options: Options, datasets: Mapping[str, DatasetSpec], tools: Tools) -> None:
        self.name = name
        self.options = options
        self.datasets = datasets
        self.tools = tools
        self.far_version: str | None = None

    async def open(self) -> None:
        """Called once before the first question; keep it short, the far side may be down."""

    async def aclose(self) -> None:
        """Called once after the last answer."""

    @abstractmethod
    async def collect(self, query: Query) -> Frame:
        """All rows that answer the query, typed; it may hold more rows than asked for, never fewer.

        Shape:  one frame whose columns are the dataset's schema (`query.table` names the dataset).
        Errors: a subclass of SourceError when the far side fails, BadQuery when the question is wrong.
        """

    def narrow(self, query: Query) -> Query:
        """The part of the query the source answers by itself; bridge does the rest. Default: none of it."""
        return query.whole()

    async def fingerprint(self, query: Query) -> str | None:
        """A cheap token that changes when the data does; None when the source cannot tell."""
        return None

    def validators(self, table: str) -> tuple[DataValidator, ...]:
        """The checks every frame of this dataset passes through."""
        return (SchemaValidator(self.datasets[table].columns),)

    def validate(self, frame: Frame) -> ValidationResult:
        """What the checks say of a frame; a blocking finding keeps it from its consumers."""
        table = frame.name.rpartition(".")[2]
        return ValidationResult(
            tuple(finding for validator in self.validators(table) for finding in validator.check(frame))
        )

    def transform(self, frame: Frame) -> Frame:
        """A last change before the configured steps. Default: none."""
        return frame

    def schema(self, table: str) -> Schema | None:
        """The declared schema, None until it has been inferred from the data."""
        columns = self.datasets[table].columns
        return Schema(columns) if columns else None

    @property
    def metadata(self) -> DataSourceMetadata:
        """What the source says of itself."""
        return DataSourceMetadata(
            name=self.name,
            kind=self.kind,
            version=self.version,
            description=self.description or (type(self).__doc__ or "").strip().split("\n")[0],
            datasets={table: self.schema(table) for table in self.datasets},
            pushes_down=type(self).narrow is not DataSource.narrow,
            streams=type(self).subscribe is not DataSource.subscribe,
            far_version=self.far_version,
        )

    async def ping(self) -> Ping:
        """Whether the far side answers. Default: yes, as there is none."""
        return Ping(ok=True)

    def subscribe(self, query: Query) -> AsyncIterator[Frame]:
        """Frames as they happen, for sources that stream.

        Errors: NotImplementedError where the source does not.
        """
        raise NotImplementedError(f"{self.kind} does not stream")

    async def tag_keys(self, query: Query) -> tuple[str, ...] | None:
        """Columns to filter by; None lets bridge read them from the schema."""
        return None

    async def tag_values(self, query: Query, key: str) -> tuple[str, ...] | None:
        """Values of one column; None lets bridge read them from the data."""
        return None
