"""What the JSON plug-ins send, as far as bridge looks at it; every key may be absent."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from bridge.web.body import Lenient

MAX_TARGETS = 200


class TimeRange(Lenient):
    """Grafana's time range; `raw` is what the user typed and is not needed."""

    from_: str | int | float | None = Field(None, alias="from")
    to: str | int | float | None = None


class Target(Lenient):
    """One query row of a panel. `data` is the older spelling of `payload`."""

    refId: str = Field("A", max_length=200)  # noqa: N815 the wire's name
    target: Any = None
    payload: Any = None
    data: Any = None
    hide: bool | None = None
    type: str | None = None
    alias: str | None = Field(None, max_length=500)


class AdHoc(Lenient):
    """One ad-hoc filter of the dashboard."""

    key: str = Field(max_length=500)
    operator: str = "="
    value: Any = ""
    values: list[Any] | None = None


class QueryBody(Lenient):
    """POST /query."""

    targets: list[Target] = Field(default_factory=list, max_length=MAX_TARGETS)
    range: TimeRange | None = None
    maxDataPoints: float | None = None  # noqa: N815 the wire's name
    intervalMs: float | None = None  # noqa: N815 the wire's name
    filters: list[AdHoc] | None = Field(None, max_length=MAX_TARGETS)
    adhocFilters: list[AdHoc] | None = Field(None, max_length=MAX_TARGETS)  # noqa: N815 the wire's name
    scopedVars: dict[str, Any] | None = None  # noqa: N815 the wire's name
    dashboardUID: str | None = None  # noqa: N815 the wire's name
    panelId: int | str | None = None  # noqa: N815 the wire's name
    panelPluginId: str | None = None  # noqa: N815 the wire's name


class MetricsBody(Lenient):
    """POST /metrics."""

    metric: Any = None
    payload: Any = None


class OptionsBody(Lenient):
    """POST /metric-payload-options."""

    metric: str = Field("", max_length=500)
    payload: Any = None
    name: str = Field("", max_length=500)


class VariableBody(Lenient):
    """POST /variable."""

    payload: Any = None
    range: TimeRange | None = None


class SearchBody(Lenient):
    """POST /search of the older protocol: the metric picker and variables alike."""

    target: Any = ""


class TagsBody(Lenient):
    """POST /tag-keys and /tag-values; `queries` are the dashboard's, their variables not filled in."""

    key: str = Field("", max_length=500)
    filters: list[AdHoc] | None = Field(None, max_length=MAX_TARGETS)
    queries: list[Target] | None = Field(None, max_length=5_000)
    timeRange: TimeRange | None = None  # noqa: N815 the wire's name


class Annotation(Lenient):
    """The annotation definition of the older protocol."""

    name: str | None = None
    query: Any = None
    enable: bool | None = None
    iconColor: str | None = None  # noqa: N815 the wire's name
    datasource: Any = None


class AnnotationsBody(Lenient):
    """POST /annotations of the older protocol."""

    range: TimeRange | None = None
    annotation: Annotation = Annotation()
