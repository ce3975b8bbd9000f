import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary
from prometheus_client.exposition import choose_encoder, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open
from pydantic import ValidationError

from bridge.model.schema import ColumnType, Kind, Role
from bridge.sources.base import NoOptions
from bridge.sources.builtin.exposition import ExpositionSource
from bridge.sources.builtin.exposition.options import ExpositionDataset
from bridge.sources.conformance import conformance
from servers.exposition_rig import OPEN, TEXT, Q, collected, exposition, page, rows, sentences
from servers.far import Seen, far
from servers.rest_rig import HandClock, tools

NOW = HandClock().now()
REQUESTS = """\
# HELP http_requests_total Requests by \\\\ and\\nlines.
# TYPE http_requests_total counter
http_requests_total{method="get",code="200"} 5
http_requests_total{method="post",code="500"} 1 1700000000123
# TYPE temperature_celsius gauge
temperature_celsius 21.5
"""


def registry() -> CollectorRegistry:
    """One metric of each type the client library has, with exemplars."""
    made = CollectorRegistry()
    requests = Counter("http_requests", "Requests", ["method", "code"], registry=made)
    requests.labels("get", "200").inc(5, exemplar={"trace_id": "abc", "span_id": "s1"})
    requests.labels('p"o\\s\nt', "ünï").inc()
    Gauge("queue_bytes", "Waiting", registry=made).set(2.5e9)
    latency = Histogram("latency_seconds", "Latency", ["route"], registry=made, buckets=(0.1, 0.5, 1))
    for index in range(40):
        latency.labels("/a").observe(index / 30, {"trace_id": f"t{index}"} if index % 2 else None)
    summary = Summary("payload_bytes", "Payload", registry=made)
    summary.observe(10)
    summary.observe(30)
    Info("build", "Build", registry=made).info({"version": "1.2"})
    Enum("phase", "Phase", states=["idle", "busy"], registry=made).state("busy")
    Gauge("odd", "NaN and the infinities", ["kind"], registry=made).labels("nan").set(math.nan)
    return made


def expected(made: CollectorRegistry) -> set[tuple[Any, ...]]:
    """Every sample of the registry but the moments at which series began."""
    return {
        (sample.name, tuple(sorted(sample.labels.items())), str(float(sample.value)))
        for family in made.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


@pytest.mark.parametrize("kind", [TEXT, OPEN])
async def test_every_value_of_a_real_registry_arrives_in_both_forms(kind: str) -> None:
    made = registry()
    frame = await collected((generate_open if kind == OPEN else generate_latest)(made), kind=kind)
    labels = [c.name for c in frame.schema.with_role(Role.DIMENSION) if c.name != "metric"]
    got = {
        (
            row["metric"],
            tuple(sorted((name, row[name]) for name in labels if row[name] is not None)),
            str(float(row["value"])),
        )
        for row in frame.data.iter_rows(named=True)
    }
    assert got == expected(made)
    assert frame.rows == len(expected(made))
    assert set(frame.data["time"]) == {NOW}
    assert sentences(frame) == []


async def test_every_exemplar_of_a_real_registry_arrives() -> None:
    made = registry()
    frame = await collected(generate_open(made), {"kind": "exemplars"}, kind=OPEN)
    want = [
        (sample.name, sample.labels, sample.exemplar.value, sample.exemplar.timestamp, dict(sample.exemplar.labels))
        for family in made.collect()
        for sample in family.samples
        if sample.exemplar
    ]
    assert len(want) >= 4
    got = list(frame.data.iter_rows(named=True))
    assert frame.schema.names == ("time", "metric", "labels", "value", "trace_id", "span_id")
    for row, (name, labels, value, at_s, marks) in zip(got, want, strict=True):
        assert (row["metric"], json.loads(row["labels"]), row["value"]) == (name, labels, value)
        assert {key: row[key] for key in ("trace_id", "span_id") if row[key]} == marks
        assert abs(row["time"].timestamp() - at_s) < 1e-5


async def test_openmetrics_is_asked_for_first_and_text_second() -> None:
    made = registry()

    def answer(seen: Seen) -> Any:
        encode, kind = choose_encoder(seen.headers["Accept"])
        return page(encode(made), kind)

    for form, version in (
        ("auto", "openmetrics 1.0.0"),
        ("text", "text 0.0.4"),
        ("openmetrics", "openmetrics 1.0.0"),
    ):
        async with far(answer) as there, exposition(there.url, {"format": form}) as source:
            frame = await source.collect(Q)
            assert source.far_version == version
        assert frame.meta.custom["far_version"] == version
    async with far(answer) as there, exposition(there.url) as source:
        await source.collect(Q)
    weights = [part.partition("q=")[2] for part in there.last.headers["Accept"].split(",")]
    assert weights == ["", "0.75", "0.5", "0.1"]


async def test_a_sample_is_a_row_with_its_labels_as_columns() -> None:
    frame = await collected(REQUESTS)
    assert frame.schema.names == ("time", "metric", "code", "method", "value")
    assert [column.role for column in frame.schema.columns] == [
        Role.TIME,
        Role.DIMENSION,
        Role.DIMENSION,
        Role.DIMENSION,
        Role.MEASURE,
    ]
    assert rows(frame) == [
        (NOW, "http_requests_total", "200", "get", 5.0),
        (datetime.fromtimestamp(1700000000.123, UTC), "http_requests_total", "500", "post", 1.0),
        (NOW, "temperature_celsius", None, None, 21.5),
    ]
    assert frame.meta.executed == "GET /metrics"


@pytest.mark.parametrize(
    ("globs", "names"),
    [
        (["http_*"], {"http_requests_total", "http_latency_seconds_bucket", "http_latency_seconds_sum"}),
        (["http_latency_seconds"], {"http_latency_seconds_bucket", "http_latency_seconds_sum"}),
        (["http_latency_seconds_sum", "up"], {"http_latency_seconds_sum", "up"}),
        (["http_requests"], {"http_requests_total"}),
        (["*_created"], {"http_requests_created"}),
        (["[u]?"], {"up"}),
    ],
)
async def test_globs_choose_by_the_name_of_a_family_or_a_sample(globs: list[str], names: set[str]) -> None:
    body = (
        "# TYPE http_requests counter\nhttp_requests_total 1\nhttp_requests_created 1.7e9\n"
        "# TYPE http_latency_seconds histogram\n"
        'http_latency_seconds_bucket{le="+Inf"} 1\nhttp_latency_seconds_sum 1\n'
        "# TYPE up gauge\nup 1\n# EOF\n"
    )
    frame = await collected(body, {"metrics": globs}, kind=OPEN)
    assert set(frame.data["metric"]) == names
    assert sentences(frame) == []


async def test_a_glob_that_nothing_has_the_name_of_is_told() -> None:
    frame = await collected(REQUESTS, {"metrics": ["temperature_celsius", "pressure_*"]})
    assert frame.rows == 1
    assert sentences(frame) == ["the page has no metric called `pressure_*`"]


@pytest.mark.parametrize("kind", [TEXT, OPEN])
async def test_the_moments_at_which_series_began_come_only_when_named(kind: str) -> None:
    """In OpenMetrics they belong to the counter, in the text format they are gauges of their own."""
    body = (generate_open if kind == OPEN else generate_latest)(registry())
    plain = await collected(body, {"metrics": ["http_*"]}, kind=kind)
    assert set(plain.data["metric"]) == {"http_requests_total"}
    named = await collected(body, {"metrics": ["http_requests_created"]}, kind=kind)
    assert (set(named.data["metric"]), named.rows) == ({"http_requests_created"}, 2)
    assert named.schema.columns[-1].kind is Kind.GAUGE


async def test_a_gauge_that_only_happens_to_be_called_so_is_no_such_moment() -> None:
    frame = await collected("# TYPE pod_created gauge\npod_created 1\n")
    assert rows(frame, "metric", "value") == [("pod_created", 1.0)]


@pytest.mark.parametrize(
    ("body", "kind", "unit", "growing"),
    [
        ("# TYPE a_seconds_total counter\na_seconds_total 1\n", TEXT, "s", Kind.COUNTER),
        ("# TYPE a_bytes gauge\na_bytes 1\n", TEXT, "bytes", Kind.GAUGE),
        ("# TYPE a_ratio gauge\na_ratio 1\n", TEXT, "percentunit", Kind.GAUGE),
        ("a_celsius 1\n", TEXT, "celsius", Kind.GAUGE),
        ("a_bytes 1\nb_bytes 1\n", TEXT, "bytes", Kind.GAUGE),
        ("a_bytes 1\nb_seconds 1\n", TEXT, None, Kind.GAUGE),
        ("# TYPE a_total counter\na_total 1\n# TYPE b gauge\nb 2\n", TEXT, None, Kind.GAUGE),
        ("seconds 1\n", TEXT, None, Kind.GAUGE),
        ('# TYPE a_s_seconds histogram\na_s_seconds_bucket{le="+Inf"} 1\n', TEXT, None, Kind.COUNTER),
        ("# TYPE a_seconds summary\na_seconds_sum 1\n", TEXT, "s", Kind.COUNTER),
        ('# TYPE a_seconds summary\na_seconds{quantile="0.5"} 1\n', TEXT, "s", Kind.GAUGE),
        ("a_seconds_sum 1\n", TEXT, "s", Kind.GAUGE),
        ("# TYPE a_bananas gauge\n# UNIT a_bananas bananas\na_bananas 1\n# EOF\n", OPEN, "bananas", Kind.GAUGE),
        ("# TYPE a_volts gauge\n# UNIT a_volts volts\na_volts 1\n# EOF\n", OPEN, "volt", Kind.GAUGE),
        ("# TYPE a_bytes info\na_bytes_info 1\n# EOF\n", OPEN, None, Kind.GAUGE),
    ],
)
async def test_the_value_has_the_unit_and_kind_that_its_metrics_share(
    body: str, kind: str, unit: str | None, growing: Kind
) -> None:
    frame = await collected(body, kind=kind)
    assert (frame.schema.columns[-1].unit, frame.schema.columns[-1].kind) == (unit, growing)


async def test_a_label_called_like_a_fixed_column_gets_a_prefix() -> None:
    body = 'a{time="1",value="2",metric="3",label_time="4",x="5"} 9\n'
    frame = await collected(body)
    assert frame.schema.names == (
        "time",
        "metric",
        "label_time",
        "label_metric",
        "label_label_time",
        "label_value",
        "x",
        "value",
    )
    assert rows(frame)[0][1:] == ("a", "4", "3", "1", "2", "5", 9.0)


@pytest.mark.parametrize(
    ("line", "kind", "metric", "labels", "value"),
    [
        (r'a{b="x\ny\\z\"q"} 1', TEXT, "a", {"b": 'x\ny\\z"q'}, 1.0),
        (r'a{b="\t\x"} 1', TEXT, "a", {"b": r"\t\x"}, 1.0),
        ('a{b="ünï ☃ 𝄞"} 1', TEXT, "a", {"b": "ünï ☃ 𝄞"}, 1.0),
        ('a{b="{},=# "} 1', TEXT, "a", {"b": "{},=# "}, 1.0),
        ('a { b = "c" , } 1', TEXT, "a", {"b": "c"}, 1.0),
        ("a\t1\t", TEXT, "a", {}, 1.0),
        ("a{} 1\r", TEXT, "a", {}, 1.0),
        ('a{b=""} 1', TEXT, "a", {}, 1.0),
        ("a:b 1e3", TEXT, "a:b", {}, 1000.0),
        ("a +Inf", TEXT, "a", {}, math.inf),
        ("a -Inf", OPEN, "a", {}, -math.inf),
        ("a 18446744073709551616", TEXT, "a", {}, 2.0**64),
        ('{"http.requests"} 2', TEXT, "http.requests", {}, 2.0),
        ('{"http.requests","l.b"="c"} 2', TEXT, "http.requests", {"l.b": "c"}, 2.0),
        ('{"http.requests","l.b"="c"} 2', OPEN, "http.requests", {"l.b": "c"}, 2.0),
        (r'{"a \"b\"",c="d"} 2', OPEN, 'a "b"', {"c": "d"}, 2.0),
    ],
)
async def test_names_labels_and_values_are_read_as_they_are_written(
    line: str, kind: str, metric: str, labels: dict[str, str], value: float
) -> None:
    frame = await collected(line + ("\n# EOF\n" if kind == OPEN else "\n"), kind=kind)
    assert frame.data.to_dicts() == [{"time": NOW, "metric": metric, **labels, "value": value}]


async def test_a_nan_is_a_value_and_no_gap() -> None:
    frame = await collected("a NaN\n")
    assert frame.data["value"].null_count() == 0
    assert math.isnan(frame.data["value"][0])


@pytest.mark.parametrize(
    ("line", "kind", "at_s"),
    [
        ("a 1 1700000000123", TEXT, 1700000000.123),
        ("a 1 -1500", TEXT, -1.5),
        ("a 1 1700000000", OPEN, 1700000000.0),
        ("a 1 1700000000.123456", OPEN, 1700000000.123456),
        ("a 1 1.7e9", OPEN, 1700000000.0),
    ],
)
async def test_times_are_milliseconds_in_text_and_seconds_in_openmetrics(line: str, kind: str, at_s: float) -> None:
    frame = await collected(line + ("\n# EOF\n" if kind == OPEN else "\n"), kind=kind)
    assert frame.data["time"][0] == datetime.fromtimestamp(at_s, UTC)


async def test_an_exemplar_without_a_time_has_that_of_its_sample_or_of_the_scrape() -> None:
    body = (
        "# TYPE a counter\n"
        'a_total{x="1"} 1 # {trace_id="own"} 0.5 1600000000.5\n'
        'a_total{x="2"} 1 1500000000 # {trace_id="sample"} 0.5\n'
        'a_total{x="3"} 1 # {} 7\n'
        'a_total{x="4"} 1\n# EOF\n'
    )
    frame = await collected(body, {"kind": "exemplars"}, kind=OPEN)
    assert rows(frame) == [
        (datetime.fromtimestamp(1600000000.5, UTC), "a_total", '{"x":"1"}', 0.5, "own"),
        (datetime.fromtimestamp(1500000000, UTC), "a_total", '{"x":"2"}', 0.5, "sample"),
        (NOW, "a_total", '{"x":"3"}', 7.0, None),
    ]


async def test_families_tell_what_the_page_has() -> None:
    body = (
        '# HELP a_seconds Time \\"spent\\".\n# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n'
        'a_seconds_bucket{le="1"} 1\na_seconds_bucket{le="+Inf"} 1\na_seconds_count 1\na_seconds_sum 1\n'
        "a_seconds_created 1.7e9\nb 1\n# TYPE c stateset\n# TYPE b gauge\n# EOF\n"
    )
    frame = await collected(body, {"kind": "families"}, kind=OPEN)
    assert rows(frame) == [
        ("a_seconds", "histogram", "s", 'Time "spent".', 5.0),
        ("b", "gauge", None, "", 1.0),
        ("c", "stateset", None, "", 0.0),
    ]
    chosen = await collected(body, {"kind": "families", "metrics": ["c"]}, kind=OPEN)
    assert rows(chosen, "metric") == [("c",)]


async def test_help_is_unescaped_as_its_form_has_it() -> None:
    frame = await collected(REQUESTS + '# HELP other \\"x\\"\n', {"kind": "families"})
    assert rows(frame, "help") == [("Requests by \\ and\nlines.",), ("",), ('\\"x\\"',)]


async def test_untyped_is_unknown_and_a_second_type_changes_nothing() -> None:
    body = "# TYPE a untyped\na 1\n# TYPE b counter\n# TYPE b gauge\nb 1\n# a mere comment\n#\n"
    frame = await collected(body, {"kind": "families"})
    assert rows(frame, "metric", "type") == [("a", "unknown"), ("b", "counter")]


async def test_declared_columns_name_what_they_take() -> None:
    body = 'a{code="200",zone="east",time="x"} 5\n'
    cols = ("when:time=time", "status:number=code", "amount:number=value", "what=metric", "odd=label_time")
    frame = await collected(body, None, *cols)
    assert frame.schema.names == ("when", "status", "amount", "what", "odd")
    assert rows(frame) == [(NOW, 200.0, 5.0, "a", "x")]
    assert sentences(frame) == []


async def test_a_declared_label_that_no_series_has_is_empty_and_told() -> None:
    frame = await collected('a{code="200"} 5\n', None, "value:number", "cod")
    assert rows(frame) == [(5.0, None)]
    assert sentences(frame) == ["no series has the label `cod`; there are `time`, `metric`, `value`, `code`"]
    assert sentences(await collected("", None, "value:number", "cod")) == []


async def test_new_labels_become_columns_and_vanished_ones_stay_empty() -> None:
    pages = ['a{b="1"} 1\n', 'a{a="2"} 1\n', "a 1\n", ""]
    left = iter(pages)
    async with far(lambda seen: page(next(left))) as there, exposition(there.url) as source:
        assert source.schema("rows") is None
        frames = [await source.collect(Q) for _ in pages]
        assert source.schema("rows") == frames[-1].schema
    assert [frame.schema.names[2:-1] for frame in frames] == [("b",), ("b", "a"), ("b", "a"), ("b", "a")]
    assert rows(frames[1], "b", "a") == [(None, "2")]
    assert rows(frames[2], "b", "a") == [(None, None)]
    assert [frame.rows for frame in frames] == [1, 1, 1, 0]


async def test_the_path_and_its_parameters_reach_the_server() -> None:
    dataset = {"path": "/probe", "params": {"target": "a b"}}
    async with far(lambda seen: page("a 1\n")) as there, exposition(there.url, dataset) as source:
        assert (await source.ping()).ok
        frame = await source.collect(Q)
    assert [(seen.path, seen.params) for seen in there.seen] == [("/probe", [("target", "a b")])] * 2
    assert frame.meta.executed == "GET /probe?target=a+b"


async def test_ping_tells_the_form_of_the_page() -> None:
    async with far(lambda seen: page("# EOF\n", OPEN)) as there, exposition(there.url) as source:
        ping = await source.ping()
    assert (ping.ok, ping.far_version, there.last.path) == (True, "openmetrics 1.0.0", "/metrics")


async def test_ping_of_a_source_without_datasets_asks_the_usual_page() -> None:
    async with far(lambda seen: page("")) as there, tools() as given:
        options = ExpositionSource.SourceOptions.model_validate({"url": there.url})
        assert (await ExpositionSource("node", options, {}, given).ping()).ok
    assert there.last.path == "/metrics"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"path": "metrics"}, "does not begin with `/`"),
        ({"path": "/a?b=1"}, "write queries as parameters"),
        ({"quantiles": [1.5]}, "less than or equal to 1"),
        ({"quantiles": [0.5, 0.5]}, "two of them make the column `p50`"),
        ({"metrics": [""]}, "at least 1 character"),
        ({"max_samples": 0}, "greater than 0"),
        ({"kind": "traces"}, "'samples', 'histogram'"),
    ],
)
def test_wrong_options_stop_the_start_with_a_sentence(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said.replace("?", r"\?")):
        ExpositionDataset.model_validate(options)


async def test_options_of_another_plugin_are_refused() -> None:
    async with tools() as given:
        with pytest.raises(TypeError):
            ExpositionSource("node", NoOptions(), {}, given)


# Every sample has a time of its own: the suite compares answers that were fetched one after the other.
TIMED = """\
# TYPE http_requests counter
http_requests_total{method="get",code="200"} 5 1700000000 # {trace_id="abc"} 1 1700000000.25
http_requests_total{method="post",code="500"} 1 1700000001
# TYPE latency_seconds histogram
# UNIT latency_seconds seconds
latency_seconds_bucket{route="/a",le="0.1"} 3 1700000000
latency_seconds_bucket{route="/a",le="+Inf"} 4 1700000000
latency_seconds_count{route="/a"} 4 1700000000
latency_seconds_sum{route="/a"} 0.7 1700000000
# EOF
"""


@contextmanager
def served() -> Iterator[dict[str, Any]]:

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = TIMED.encode()
            self.send_response(200)
            self.send_header("Content-Type", OPEN)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the library's own name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield {
            "options": {"url": f"http://127.0.0.1:{server.server_port}"},
            "datasets": [
                {"name": "samples"},
                {"name": "latency", "options": {"kind": "histogram", "metrics": ["latency_seconds"]}},
                {"name": "buckets", "options": {"kind": "buckets"}},
                {"name": "exemplars", "options": {"kind": "exemplars"}},
                {"name": "families", "options": {"kind": "families"}},
                {
                    "name": "declared",
                    "options": {"metrics": ["http_requests"]},
                    "columns": [
                        {"name": "time", "type": "time", "role": "time"},
                        {
                            "name": "requests",
                            "type": "number",
                            "role": "measure",
                            "kind": "counter",
                            "select": "value",
                        },
                        {"name": "code", "type": "string", "role": "dimension"},
                    ],
                },
            ],
        }
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


TestExposition = conformance(ExpositionSource, served, base_dir=Path())


async def test_all_columns_have_the_types_they_say() -> None:
    frame = await collected(generate_open(registry()), {"kind": "exemplars"}, kind=OPEN)
    assert [column.type for column in frame.schema.columns][2] is ColumnType.JSON
    assert all(column.role is None for column in frame.schema.columns[4:])
