"""What is counted, in one registry per process; labels that clients can choose are bounded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

MAX_PANELS = 200
# Numbers of checks in one scrape: a dataset may have thousands of columns, and each would be a series for good.
MAX_CHECK_VALUES = 5_000
_LABEL = re.compile(r"[\w.:-]{1,64}", re.ASCII)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0)


@dataclass(frozen=True, slots=True)
class DatasetStatus:
    """How one dataset is doing, as of now.

    Shape: `latency_s` is that of the last fetch, its quantiles are of the last fetches that are remembered;
           the `findings_*` are those that still stand, by level; `history_*` is None where none is kept.
    Units: `age_s` seconds since the last good fetch; None before the first.
    """

    dataset: str
    state: str
    age_s: float | None = None
    stale: bool = False
    breaker: str = "closed"
    error: str | None = None
    remedy: str | None = None
    last_success: str | None = None
    rows: int | None = None
    latency_s: float | None = None
    latency_p50_s: float | None = None
    latency_p95_s: float | None = None
    latency_p99_s: float | None = None
    findings_info: int = 0
    findings_warn: int = 0
    findings_block: int = 0
    history_rows: int | None = None
    history_bytes: int | None = None
    history_pending_rows: int | None = None
    history_error: str | None = None
    history_last: str | None = None


@dataclass(frozen=True, slots=True)
class CheckStatus:
    """What the quality checks of one dataset found last.

    Shape: `active` counts the findings that stand by check and level; `values` are the numbers that were measured, by
           check and column, which is empty where the number is one of the whole dataset.
    """

    dataset: str
    active: Mapping[tuple[str, str], int] = field(default_factory=dict)
    values: Mapping[tuple[str, str], float] = field(default_factory=dict)


class Meters:
    """The service's own metrics.

    Source: names and units follow the Prometheus naming practices (base units, `_total`, `_seconds`).
    """

    def __init__(self, version: str = "0") -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter(
            "bridge_requests_total",
            "HTTP requests by route and status.",
            ["route", "method", "status"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "bridge_request_seconds", "Time to answer by route.", ["route"], buckets=_SECONDS, registry=registry
        )
        self.in_flight = Gauge("bridge_requests_in_flight", "Requests being answered.", registry=registry)
        self.fetches = Counter(
            "bridge_source_fetches_total",
            "Fetches from sources by outcome (ok or an error code).",
            ["source", "dataset", "outcome"],
            registry=registry,
        )
        self.fetch_seconds = Histogram(
            "bridge_source_fetch_seconds",
            "Time one fetch took.",
            ["source", "dataset"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.polls = Counter(
            "bridge_source_polls_total",
            "Fetches made without being asked, by outcome (ok or an error code).",
            ["dataset", "outcome"],
            registry=registry,
        )
        self.samples = Counter(
            "bridge_history_samples_total",
            "Samples taken for a history, by outcome (ok or an error code).",
            ["dataset", "outcome"],
            registry=registry,
        )
        self.sampled_rows = Counter(
            "bridge_history_rows_total", "Rows recorded in a history.", ["dataset"], registry=registry
        )
        self.cache = Counter(
            "bridge_cache_requests_total",
            "Questions to the answer cache by result: hit, miss, renewed, stale or failed.",
            ["dataset", "result"],
            registry=registry,
        )
        self.rows = Counter("bridge_rows_sent_total", "Rows sent by dataset.", ["dataset"], registry=registry)
        self.panel_seconds = Counter(
            "bridge_panel_seconds_total",
            "Time spent answering by dashboard and panel; at most 200 pairs, the rest is `other`.",
            ["dashboard", "panel"],
            registry=registry,
        )
        self.panel_requests = Counter(
            "bridge_panel_requests_total",
            "Requests by dashboard and panel; at most 200 pairs, the rest is `other`.",
            ["dashboard", "panel"],
            registry=registry,
        )
        self.lineage_events = Counter(
            "bridge_lineage_events_total",
            "OpenLineage events by result: sent, dropped or failed.",
            ["result"],
            registry=registry,
        )
        self.findings = Counter(
            "bridge_findings_total",
            "Findings of quality checks by dataset, check and level, counted at each judgement.",
            ["dataset", "check", "level"],
            registry=registry,
        )
        self.reloads = Counter(
            "bridge_config_reloads_total", "Settings reloads by outcome.", ["outcome"], registry=registry
        )
        self.reload_ok = Gauge(
            "bridge_config_last_reload_successful",
            "Whether the last reload of the settings worked.",
            registry=registry,
        )
        self.reload_ok.set(1)
        self._panels: set[tuple[str, str]] = set()
        self.busy = 0
        self.in_flight.set_function(lambda: self.busy)
        self._statuses: Callable[[], Iterable[DatasetStatus]] = tuple
        registry.register(_StatusCollector(self._now, version))
        self._checks: Callable[[], Iterable[CheckStatus]] = tuple
        registry.register(_CheckCollector(self._checked))

    def _now(self) -> Iterable[DatasetStatus]:
        return self._statuses()

    def _checked(self) -> Iterable[CheckStatus]:
        return self._checks()

    def panel(self, dashboard: str, panel: str, seconds: float) -> None:
        """Adds a request to its panel's cost; clients set these names, so odd or surplus ones count as `other`."""
        pair = (dashboard, panel)
        if not (_LABEL.fullmatch(dashboard) and _LABEL.fullmatch(panel)):
            pair = ("other", "other")
        elif pair not in self._panels:
            if len(self._panels) < MAX_PANELS:
                self._panels.add(pair)
            else:
                pair = ("other", "other")
        self.panel_seconds.labels(*pair).inc(seconds)
        self.panel_requests.labels(*pair).inc()

    def watch(self, statuses: Callable[[], Iterable[DatasetStatus]]) -> None:
        """From now on reads the datasets' state from `statuses` at each scrape."""
        self._statuses = statuses

    def watch_checks(self, checks: Callable[[], Iterable[CheckStatus]]) -> None:
        """From now on reads what the quality checks found from `checks` at each scrape."""
        self._checks = checks


class _StatusCollector(Collector):
    """Age, staleness and breaker of each dataset, read when asked so that an idle dataset still ages."""

    def __init__(self, statuses: Callable[[], Iterable[DatasetStatus]], version: str) -> None:
        self._statuses = statuses
        self._version = version

    def collect(self) -> Iterable[Metric]:
        """One gauge family per fact."""
        labels = ["source", "dataset"]
        up = GaugeMetricFamily("bridge_dataset_up", "Whether the last fetch worked (1), failed (0).", labels=labels)
        age = GaugeMetricFamily("bridge_dataset_age_seconds", "Seconds since the last good fetch.", labels=labels)
        stale = GaugeMetricFamily("bridge_dataset_stale", "Whether a last good answer is served.", labels=labels)
        opened = GaugeMetricFamily(
            "bridge_breaker_open", "Circuit breaker: 0 closed, 0.5 half open, 1 open.", labels=labels
        )
        for status in self._statuses():
            names = [status.dataset.partition(".")[0], status.dataset]
            if status.state != "unknown":
                up.add_metric(names, float(status.state == "ok"))
            if status.age_s is not None:
                age.add_metric(names, status.age_s)
            stale.add_metric(names, float(status.stale))
            opened.add_metric(names, {"closed": 0.0, "half_open": 0.5}.get(status.breaker, 1.0))
        info = InfoMetricFamily("bridge_build", "The running version.", value={"version": self._version})
        return [up, age, stale, opened, info]


class _CheckCollector(Collector):
    """Findings that stand and numbers that were measured, read when asked: what is gone leaves no series behind."""

    def __init__(self, checks: Callable[[], Iterable[CheckStatus]]) -> None:
        self._checks = checks

    def collect(self) -> Iterable[Metric]:
        """One gauge family per fact."""
        active = GaugeMetricFamily(
            "bridge_findings_active",
            "Findings of quality checks that stand.",
            labels=["dataset", "check", "level"],
        )
        values = GaugeMetricFamily(
            "bridge_check_value",
            "What a quality check measured last: a share, seconds or a number; at most 5000 of them.",
            labels=["dataset", "check", "column"],
        )
        left = MAX_CHECK_VALUES
        for status in self._checks():
            for (check, level), count in status.active.items():
                active.add_metric([status.dataset, check, level], count)
            for (check, column), value in list(status.values.items())[:left]:
                values.add_metric([status.dataset, check, column], value)
            left = max(0, left - len(status.values))
        return [active, values]
