import asyncio
import math
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.errors import UpstreamInvalid
from bridge.model.schema import Kind
from bridge.sources.builtin.exposition.histograms import Bucket, quantile
from bridge.sources.builtin.exposition.options import quantile_name
from servers.exposition_rig import OPEN, TEXT, Q, collected, exposition, page, rows, sentences
from servers.far import far
from servers.rest_rig import HandClock

NOW = HandClock().now()
QUANTILES = (0, 0.01, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1)
# Bounds and cumulative counts; each a case of Prometheus' rule.
HISTOGRAMS: dict[str, list[tuple[str, float]]] = {
    "plain": [("0.1", 3), ("0.5", 30), ("1", 38), ("+Inf", 40)],
    "all_above": [("0.1", 0), ("0.5", 0), ("+Inf", 7)],
    "all_lowest": [("0.1", 7), ("0.5", 7), ("+Inf", 7)],
    "empty_lowest": [("0.1", 0), ("0.5", 7), ("+Inf", 7)],
    "gap": [("1", 5), ("2", 5), ("3", 10), ("+Inf", 10)],
    "negative": [("-2", 4), ("-1", 6), ("1", 9), ("+Inf", 10)],
    "zero_lowest": [("0", 4), ("1", 9), ("+Inf", 10)],
    "none_seen": [("1", 0), ("+Inf", 0)],
    "none_seen_below_zero": [("-1", 0), ("+Inf", 0)],
    "no_inf": [("1", 5), ("2", 10)],
    "only_inf": [("+Inf", 5)],
    "falling": [("1", 5), ("2", 3), ("3", 9), ("+Inf", 8)],
    "unsorted": [("+Inf", 10), ("2", 7), ("1", 3)],
    "same_bound": [("1", 3), ("1.0", 4), ("2", 9), ("+Inf", 10)],
    "exponents": [("1e-3", 1), ("1e+2", 9), ("+Inf", 10)],
    "fractions": [("1", 0.25), ("2", 1.75), ("+Inf", 2.5)],
    "not_a_number": [("1", 3), ("2", math.nan), ("+Inf", 10)],
}


def exposed(histograms: Mapping[str, list[tuple[str, float]]] = HISTOGRAMS) -> str:
    """The page that shows them."""
    lines = ["# TYPE h histogram"]
    for case, buckets in histograms.items():
        lines += [f'h_bucket{{case="{case}",le="{le}"}} {count}' for le, count in buckets]
    return "\n".join(lines) + "\n"


@asynccontextmanager
async def prometheus(folder: Path, jobs: Mapping[str, str]) -> AsyncIterator[str]:
    """The real server on a free port, which scrapes each of the addresses once a second."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = "global: {scrape_interval: 1s}\nscrape_configs:\n"
    for job, address in jobs.items():
        config += f"  - {{job_name: {job}, metrics_path: /{job}, static_configs: [{{targets: ['{address}']}}]}}\n"
    (folder / "prometheus.yml").write_text(config)
    command = (
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    )
    process = await asyncio.create_subprocess_exec(*command)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


async def ask(session: aiohttp.ClientSession, url: str, **params: str) -> Any:
    async with session.get(url, params=params) as response:
        return (await response.json())["data"]


async def until_scraped(session: aiohttp.ClientSession, url: str, jobs: Mapping[str, str]) -> dict[str, Any]:
    """What Prometheus says of each target once it has scraped them all."""
    while True:
        try:
            targets = (await ask(session, f"{url}/api/v1/targets"))["activeTargets"]
            up = (await ask(session, f"{url}/api/v1/query", query="up"))["result"]
        except aiohttp.ClientError:
            targets, up = [], []
        if len(up) == len(jobs) and all(target["health"] != "unknown" for target in targets):
            return {target["labels"]["job"]: target for target in targets}
        await asyncio.sleep(0.1)


@pytest.mark.slow
async def test_quantiles_and_samples_are_those_of_a_real_prometheus(tmp_path: Path) -> None:
    body = exposed() + 'up_bytes{a="x\\"\\\\\\n☃",b=""} 1.5e3\ndup 1\ndup 2\n'
    async with far(lambda seen: page(body)) as there:
        jobs = {"metrics": there.url.removeprefix("http://")}
        async with (
            prometheus(tmp_path, jobs) as url,
            aiohttp.ClientSession() as session,
            exposition(there.url, {"kind": "histogram", "quantiles": QUANTILES}) as source,
            exposition(there.url) as plain,
        ):
            target = (await until_scraped(session, url, jobs))["metrics"]
            assert target["lastError"] == ""
            frame, samples = await source.collect(Q), await plain.collect(Q)
            answers: dict[tuple[str, str], float] = {}
            for wanted in QUANTILES:
                found = await ask(session, f"{url}/api/v1/query", query=f"histogram_quantile({wanted}, h_bucket)")
                for item in found["result"]:
                    answers[item["metric"]["case"], quantile_name(wanted)] = float(item["value"][1])
            series = await ask(session, f"{url}/api/v1/query", query='{instance!="",__name__!~"up|scrape_.*"}')
    assert {case for case, _ in answers} == set(HISTOGRAMS)
    ours = {row["case"]: row for row in frame.data.iter_rows(named=True)}
    for (case, name), theirs in answers.items():
        mine = ours[case][name]
        if case == "not_a_number":
            continue
        assert mine == (None if math.isnan(theirs) else pytest.approx(theirs, rel=1e-12)), f"{case}.{name}"
    labels = ("a", "case", "le")
    there_are = {
        (item["metric"]["__name__"], *(item["metric"].get(name) for name in labels), item["value"][1])
        for item in series["result"]
    }
    here_are = {
        (row["metric"], *(row[name] for name in labels), row["value"]) for row in samples.data.iter_rows(named=True)
    }
    assert {(*key, repr(float(value))) for *key, value in here_are} == {
        (*key, repr(float(value))) for *key, value in there_are
    }


PAGES = {
    "good": "a 1\n",
    "no_name": '{b="c"} 1\n',
    "no_value": "a\n",
    "word": "a b\n",
    "underscored": "a 1_000\n",
    "glued": "a1\n",
    "open_set": 'a{b="c" 1\n',
    "open_quote": 'a{b="c} 1\n',
    "no_quotes": "a{b=c} 1\n",
    "single_quotes": "a{b='c'} 1\n",
    "three_numbers": "a 1 2 3\n",
    "exemplar_in_text": 'a 1 # {b="c"} 2\n',
    "fraction_of_a_ms": "a 1 1.5\n",
    "bad_name": "a-b 1\n",
    "html": "hello <b>world</b>\n",
    "good_then_bad": "a 1\nb 2\nc d\n",
    "comment_and_blank": "# hello\n\na 1\n",
    "untyped_repeated": "a 1\nb 1\na 2\n",
    "type_after": "a 1\n# TYPE a gauge\n",
}


@pytest.mark.slow
async def test_a_page_is_refused_when_a_real_prometheus_refuses_it(tmp_path: Path) -> None:
    async with far(lambda seen: page(PAGES[seen.path[1:]])) as there:
        jobs = dict.fromkeys(PAGES, there.url.removeprefix("http://"))
        async with prometheus(tmp_path, jobs) as url, aiohttp.ClientSession() as session:
            targets = await until_scraped(session, url, jobs)
    theirs = {case: targets[case]["health"] == "up" for case in PAGES}
    ours = {}
    for case, body in PAGES.items():
        try:
            await collected(body)
            ours[case] = True
        except UpstreamInvalid:
            ours[case] = False
    assert ours == theirs
    assert {case for case, good in ours.items() if good} == {
        "good",
        "comment_and_blank",
        "untyped_repeated",
        "type_after",
    }


@pytest.mark.parametrize(
    ("case", "values"),
    [
        ("plain", {0.5: 0.1 + 0.4 * 17 / 27, 0.99: 1.0}),
        ("all_above", {0.5: 0.5}),
        ("all_lowest", {0.5: 0.05}),
        ("gap", {0.5: 1.0, 0.75: 2.5}),
        ("negative", {0.1: -2.0, 0.5: -1.5}),
        ("zero_lowest", {0.1: 0.0, 0.9: 1.0}),
        ("falling", {0.5: 0.9, 0.9: 2 + 3.1 / 4}),
        ("same_bound", {0.5: 5 / 7}),
        ("none_seen", {0.5: None}),
        ("none_seen_below_zero", {0.5: None}),
        ("no_inf", {0.5: None}),
        ("only_inf", {0.5: None}),
        ("not_a_number", {0.5: None}),
        ("empty_lowest", {0: None, 1: 0.5}),
    ],
)
def test_a_quantile_lies_on_the_line_inside_its_bucket(case: str, values: dict[float, float | None]) -> None:
    """Worked by hand from the rule in Prometheus' documentation of histogram_quantile."""
    buckets = [Bucket(le, float(le), count) for le, count in HISTOGRAMS[case]]
    for wanted, value in values.items():
        assert quantile(wanted, buckets) == (None if value is None else pytest.approx(value, rel=1e-12))


BODY = """\
# TYPE lat_seconds histogram
lat_seconds_bucket{route="/a",le="0.1"} 3
lat_seconds_bucket{route="/a",le="0.5"} 8
lat_seconds_bucket{route="/a",le="+Inf"} 10
lat_seconds_count{route="/a"} 10
lat_seconds_sum{route="/a"} 4
lat_seconds_bucket{route="/b",le="+Inf"} 2
# TYPE other gauge
other 1
"""


async def test_a_histogram_is_one_row_with_count_sum_mean_and_quantiles() -> None:
    frame = await collected(BODY, {"kind": "histogram", "metrics": ["lat_seconds"], "quantiles": [0.5, 0.999]})
    assert frame.schema.names == ("time", "metric", "route", "count", "sum", "mean", "p50", "p99_9")
    assert rows(frame) == [
        (NOW, "lat_seconds", "/a", 10.0, 4.0, 0.4, pytest.approx(0.26), 0.5),
        (NOW, "lat_seconds", "/b", 2.0, None, None, None, None),
    ]
    assert [column.unit for column in frame.schema.columns[3:]] == [None, "s", "s", "s", "s"]
    assert [column.kind for column in frame.schema.columns[3:6]] == [Kind.COUNTER, Kind.COUNTER, Kind.GAUGE]


async def test_a_bucket_is_a_row_with_its_bounds_and_what_is_in_it_alone() -> None:
    frame = await collected(BODY, {"kind": "buckets", "metrics": ["lat_*"]})
    assert frame.schema.names == ("time", "metric", "route", "le", "upper", "count", "cumulative")
    assert rows(frame, "route", "le", "upper", "count", "cumulative") == [
        ("/a", "0.1", 0.1, 3.0, 3.0),
        ("/a", "0.5", 0.5, 5.0, 8.0),
        ("/a", "+Inf", None, 2.0, 10.0),
        ("/b", "+Inf", None, 2.0, 2.0),
    ]
    assert frame.schema.columns[4].unit == "s"


async def test_a_summary_gives_the_quantiles_it_has_itself() -> None:
    body = (
        "# TYPE s summary\n"
        's{quantile="0.5",x="1"} 4\ns{quantile="0.99",x="1"} NaN\ns_sum{x="1"} 9\ns_count{x="1"} 3\n'
    )
    frame = await collected(body, {"kind": "histogram"})
    assert rows(frame)[0][1:] == ("s", "1", 3.0, 9.0, 3.0, 4.0, None, None)
    assert rows(await collected(body, {"kind": "buckets"})) == []


async def test_a_gauge_histogram_is_a_histogram() -> None:
    body = '# TYPE g gaugehistogram\ng_bucket{le="1"} 5\ng_bucket{le="+Inf"} 10\ng_gcount 10\ng_gsum 12\n# EOF\n'
    frame = await collected(body, {"kind": "histogram", "quantiles": [0.25]}, kind=OPEN)
    assert rows(frame)[0][1:] == ("g", 10.0, 12.0, 1.2, 0.5)


@pytest.mark.parametrize("globs", [[], ["h"], ["h_bucket", "h_sum", "h_count"]])
async def test_without_a_type_buckets_make_a_histogram(globs: list[str]) -> None:
    body = 'h_bucket{le="1"} 5\nh_bucket{le="+Inf"} 10\nh_sum 12\nh_count 10\nlone_count 3\ntotal 1\n'
    frame = await collected(body, {"kind": "histogram", "quantiles": [0.25], "metrics": globs})
    assert [row[1:] for row in rows(frame)] == [("h", 10.0, 12.0, 1.2, 0.5)]
    assert sentences(frame) == []


async def test_histograms_of_different_times_are_rows_of_their_own() -> None:
    body = (
        '# TYPE h histogram\nh_bucket{le="+Inf"} 1 1000\nh_count 1 1000\nh_bucket{le="+Inf"} 2 2000\nh_count 2 2000\n'
    )
    frame = await collected(body, {"kind": "histogram"})
    assert rows(frame, "count") == [(1.0,), (2.0,)]


async def test_the_moment_a_histogram_began_is_no_part_of_it() -> None:
    body = '# TYPE h histogram\nh_bucket{le="+Inf"} 1\nh_created 1.7e9\n# EOF\n'
    frame = await collected(body, {"kind": "histogram", "metrics": ["h", "h_created"]}, kind=OPEN)
    assert rows(frame, "metric", "count") == [("h", 1.0)]


async def test_a_native_histogram_gives_count_sum_and_mean() -> None:
    struct = "{count:24,sum:100,schema:0,zero_threshold:0.001,zero_count:4,positive_spans:[0:1],positive_deltas:[2]}"
    body = f'# TYPE n histogram\nn{{a="b"}} {struct}\nn {struct}\n# EOF\n'
    frame = await collected(body, {"kind": "histogram", "quantiles": [0.5]}, kind=OPEN)
    assert [row[1:] for row in rows(frame)] == [
        ("n", "b", 24.0, 100.0, 100 / 24, None),
        ("n", None, 24.0, 100.0, 100 / 24, None),
    ]
    assert sentences(frame) == ['histograms without buckets, of which no quantiles are given: 2 (first: `n{a="b"}`)']
    samples = await collected(body, kind=OPEN)
    assert rows(samples, "metric", "value") == [("n_count", 24.0), ("n_sum", 100.0)] * 2


@pytest.mark.parametrize(
    ("body", "said", "count"),
    [
        (
            '# TYPE h histogram\nh_bucket{a="b",le="1"} 5\nh_count{a="b"} 7\n',
            'histograms without a `+Inf` bucket, of which no quantiles are given: 1 (first: `h{a="b"}`)',
            7.0,
        ),
        (
            '# TYPE h histogram\nh_bucket{le="1"} 5\nh_bucket{le="2"} 3\nh_bucket{le="+Inf"} 5\n',
            "histograms with less in a bucket than below it, which is raised to that: 1 (first: `h{}`)",
            5.0,
        ),
        (
            '# TYPE h histogram\nh_bucket{le="one"} 5\nh_bucket 3\nh_bucket{le="NaN"} 1\nh_bucket{le="+Inf"} 5\n',
            "samples without a usable `le` or `quantile`, which are left out: 3",
            5.0,
        ),
        (
            '# TYPE s summary\ns 5\ns{quantile="x"} 5\ns_count 5\n',
            "samples without a usable `le` or `quantile`, which are left out: 2",
            5.0,
        ),
    ],
)
async def test_a_histogram_that_is_not_whole_is_told_and_the_rest_goes_on(body: str, said: str, count: float) -> None:
    frame = await collected(body, {"kind": "histogram"})
    assert rows(frame, "count") == [(count,)]
    assert sentences(frame) == [said]


async def test_buckets_that_fall_are_never_less_than_nothing() -> None:
    frame = await collected(exposed({"falling": HISTOGRAMS["falling"]}), {"kind": "buckets"})
    assert rows(frame, "count", "cumulative") == [(5.0, 5.0), (0.0, 5.0), (4.0, 9.0), (0.0, 9.0)]


@pytest.mark.parametrize("kind", ["histogram", "buckets"])
async def test_metrics_that_are_no_histograms_are_told(kind: str) -> None:
    frame = await collected("# TYPE a gauge\na 1\n", {"kind": kind}, kind=TEXT)
    assert (frame.rows, sentences(frame)) == (0, ["the page has no histogram or summary among the chosen metrics"])
    assert sentences(await collected("", {"kind": kind})) == []
