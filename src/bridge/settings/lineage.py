"""Where it is told what data was made of."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from bridge.edge.address import parse_base
from bridge.settings.fields import Flag, PlacedPath, Seconds, Section, Url, refuse
from bridge.settings.yaml_text import Loc


class EventsSettings(Section):
    """OpenLineage events: to a file or to an endpoint; with neither, none are made."""

    file: PlacedPath | None = Field(
        None, description="File that gets one event per line; at 64 MiB it turns over to `FILE.1`."
    )
    url: Url | None = Field(
        None, description="Endpoint that takes one event per POST, such as http://marquez:5000/api/v1/lineage."
    )
    token: SecretStr | None = Field(
        None, description="Bearer token for the endpoint; keep it out of the settings with token_file."
    )
    allow_private: Flag = Field(
        False, description="Whether the endpoint's name may lead to a loopback or private address."
    )
    namespace: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        "bridge", description="Namespace of the jobs and datasets in the events."
    )
    every_s: Seconds = Field(
        60, description="Seconds between events of one dataset; a changed outcome or schema is told at once."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        problems: list[tuple[Loc, str]] = []
        if self.file is not None and self.url is not None:
            problems.append((("url",), "stands beside `file` (events go to one of the two; take the other out)"))
        if self.token is not None and self.url is None:
            problems.append((("token",), "is for an endpoint, and there is no `url` (add it, or take this out)"))
        if self.url is not None:
            try:
                parse_base(self.url, allow_private=self.allow_private)
            except ValueError as error:
                problems.append((("url",), str(error)))
        refuse(problems)
        return self


class LineageSettings(Section):
    """Where it is told what data was made of, beside the answers themselves."""

    events: EventsSettings = Field(EventsSettings(), description="OpenLineage events.")
