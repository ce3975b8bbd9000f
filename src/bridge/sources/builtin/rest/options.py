"""What may be written in the settings of a `rest` source and of its datasets."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from bridge.sources.base import Options
from bridge.sources.builtin.http.options import HeaderName, Headers, HttpOptions
from bridge.sources.builtin.rest.select import check_expression
from bridge.sources.builtin.rest.templates import check_path, check_template, compile_path


def _check_body(value: Any) -> Any:
    """Every text of a body template is a template of its own."""
    if isinstance(value, str):
        check_template(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"a body key must be text, not {key!r}")  # noqa: TRY004 pydantic reports ValueError
            _check_body(item)
    elif isinstance(value, list):
        for item in value:
            _check_body(item)
    elif value is not None and not isinstance(value, (bool, int, float)):
        raise ValueError(f"a body holds what JSON can hold, not {type(value).__name__}")
    return value


def _check_quoted(version: Any) -> Any:
    if isinstance(version, (int, float)) and not isinstance(version, bool):
        raise ValueError(f'write the version in quotes, such as "{version}": as a number, 2.10 would be 2.1')  # noqa: TRY004
    return version


def _check_plain(path: str) -> str:
    if any(segment.names for segment in compile_path(path)):
        raise ValueError(f"path {path!r} must not hold placeholders; the version belongs to no question")
    return path


Expression = Annotated[str, StringConstraints(min_length=1, max_length=8_192), AfterValidator(check_expression)]
Text = Annotated[str, StringConstraints(max_length=8_192), AfterValidator(check_template)]
Path = Annotated[str, StringConstraints(max_length=8_192), AfterValidator(check_path)]
PlainPath = Annotated[str, StringConstraints(max_length=8_192), AfterValidator(_check_plain)]
# A version as settings name it: whole, or the numeric beginning of several.
VersionKey = Annotated[
    str, BeforeValidator(_check_quoted), StringConstraints(min_length=1, max_length=64, strip_whitespace=True)
]
Body = Annotated[dict[str, Any], AfterValidator(_check_body)]


class VersionOptions(Options):
    """How the far API's version is learned."""

    path: PlainPath = Field("/version", description="Asked with GET.")
    select: Expression = Field("api", description="JMESPath to the version in the JSON answer.")
    header: HeaderName | None = Field(
        None,
        description="Response header that holds the version instead; answers that have it are checked by it.",
    )
    accept: tuple[VersionKey, ...] = Field(
        (), description="Versions that may be read; `2` stands for 2, 2.0, 2.1. Empty: those under `by_version`."
    )


class RestOptions(HttpOptions):
    """One far HTTP API."""

    version: VersionOptions | None = Field(None, description="How the far API's version is learned.")


class Paging(Options):
    """How an answer is cut into pages.

    A POST with a body carries `param` and `size_param` at the top of its body, every other request in its query.
    """

    kind: Literal["none", "page", "offset", "cursor", "link"] = Field("none", description="How pages are asked for.")
    param: str | None = Field(None, min_length=1, description="Parameter of the page, offset or cursor.")
    size_param: str | None = Field(None, min_length=1, description="Parameter of the page size.")
    size: int | None = Field(None, gt=0, le=1_000_000, description="Rows asked for per page.")
    next: Expression | None = Field(
        None, description="JMESPath to the next cursor; with kind `link`, to the next page's URL in the body."
    )
    start: int = Field(1, ge=0, description="Number of the first page.")
    total: Expression | None = Field(
        None, description="JMESPath to the number of all rows; it outweighs short pages."
    )
    max_pages: int = Field(100, gt=0, le=100_000, description="Pages fetched before the rest is left out.")

    @model_validator(mode="after")
    def _complete(self) -> Paging:
        if self.kind == "offset" and self.size is None:
            raise ValueError("paging by offset needs `size`, the rows per page")
        if self.kind == "cursor" and self.next is None:
            raise ValueError("paging by cursor needs `next`, the path to the next cursor in the answer")
        if self.size_param is not None and self.size is None:
            raise ValueError("`size_param` needs `size`, the rows per page")
        return self

    @property
    def sent_as(self) -> str:
        """Name of the parameter that moves from page to page."""
        return self.param or self.kind


class Overlay(Options):
    """What differs for one version of the far API; what is not said stays as the dataset has it."""

    path: Path | None = Field(None, description="Replaces the dataset's path.")
    method: Literal["GET", "POST"] | None = Field(None, description="Replaces the HTTP method.")
    params: dict[str, Text | None] = Field({}, description="Adds or replaces parameters; null takes one away.")
    body: Body | None = Field(None, description="Replaces the JSON body; null takes it away.")
    headers: Headers = Field({}, description="Adds or replaces static headers.")
    format: Literal["auto", "json", "ndjson", "csv"] | None = Field(None, description="Replaces the format.")
    rows: Expression | None = Field(None, description="Replaces the dataset's row path.")
    paging: dict[str, Any] = Field(
        {}, description="Replaces single keys of the dataset's `paging`; another `kind` begins anew."
    )
    select: dict[str, Expression] = Field({}, description="Replaces the `select` of single columns.")


class RestDataset(Options):
    """One dataset of a far HTTP API."""

    path: Path = Field(description="Path template, for example `/runs/{param.model}`.")
    method: Literal["GET", "POST"] = Field("GET", description="HTTP method.")
    params: dict[str, Text] = Field({}, description="Query parameters; one whose value is absent is left out.")
    body: Body | None = Field(None, description="JSON body of a POST; its texts are templates.")
    headers: Headers = Field({}, description="Static headers of this dataset.")
    format: Literal["auto", "json", "ndjson", "csv"] = Field("auto", description="Format of the answer.")
    rows: Expression = Field("@", description="JMESPath to the array of rows.")
    paging: Paging = Field(Paging(), description="How the answer is cut into pages.")
    by_version: dict[VersionKey, Overlay] = Field({}, description="What differs for a version of the far API.")

    @model_validator(mode="after")
    def _complete(self) -> RestDataset:
        if self.body is not None and self.method != "POST":
            raise ValueError("`body` needs `method: POST`")
        if self.paging.kind == "link" and self.method == "POST":
            raise ValueError("paging by link needs `method: GET`; the links are followed with GET")
        return self

    def overlaid(self, overlay: Overlay) -> RestDataset:
        """The dataset as one version of the far API has it.

        Errors: pydantic.ValidationError when the two do not go together.
        """
        given = overlay.model_fields_set
        changes: dict[str, Any] = {
            name: value
            for name in ("path", "method", "body", "format", "rows")
            if name in given and ((value := getattr(overlay, name)) is not None or name == "body")
        }
        params = {**self.params, **overlay.params}
        changes["params"] = {key: text for key, text in params.items() if text is not None}
        changes["headers"] = {**self.headers, **overlay.headers}
        mine = self.paging.model_dump(exclude_unset=True)
        same = overlay.paging.get("kind", self.paging.kind) == self.paging.kind
        changes["paging"] = {**mine, **overlay.paging} if same else overlay.paging
        return RestDataset.model_validate({**self.model_dump(exclude={"by_version", "paging"}), **changes})
