import asyncio
import gc
import gzip
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from blockbuster import BlockBuster

from bridge.edge.cache import Cache
from bridge.edge.meters import Meters
from bridge.edge.upstream import UpstreamPool
from bridge.errors import (
    BridgeError,
    NeedsAuth,
    SchemaMismatch,
    SourceError,
    UpstreamInvalid,
    UpstreamRefused,
    UpstreamTooLarge,
)
from bridge.sources.ask import Desk
from bridge.sources.base import Limits, Tools
from bridge.sources.builtin.exposition import ExpositionSource
from bridge.sources.builtin.exposition.form import Form
from bridge.sources.builtin.exposition.points import points
from bridge.sources.builtin.exposition.scan import MAX_FAMILIES, MAX_LINE_BYTES, Scanner
from bridge.sources.builtin.exposition.source import Job
from bridge.sources.keeper import Kit
from bridge.sources.registry import DatasetConfig, Freshness, Plugin, SourceConfig, build
from servers.exposition_rig import OPEN, TEXT, Q, collected, exposition, page, rows, sentences
from servers.far import far
from support import ManualClock


async def refused(
    body: str | bytes,
    error: type[BridgeError] = UpstreamInvalid,
    dataset: dict[str, Any] | None = None,
    *cols: str,
    kind: str = TEXT,
    **options: Any,
) -> str:
    """The sentence with which the page is refused, without its address."""
    async with (
        far(lambda seen: page(body, kind)) as there,
        exposition(there.url, dataset, *cols, **options) as source,
    ):
        with pytest.raises(error) as found:
            await source.collect(Q)
        assert type(found.value) is error
        assert found.value.remedy
        assert source.far_version is None
    return found.value.message.replace(f"GET {there.url}", "GET …")


@pytest.mark.parametrize(
    ("line", "kind", "said"),
    [
        ('{b="c"} 1', TEXT, "begins with no metric's name"),
        ('{""} 1', TEXT, "begins with no metric's name"),
        ("1", TEXT, "begins with no metric's name"),
        ("a", TEXT, "is no sample"),
        ("inf", TEXT, "is no sample"),
        ("a1", TEXT, "is no sample"),
        ("a 1 2 3", TEXT, "is no sample"),
        ('a 1 # {b="c"} 2', TEXT, "is no sample"),
        ("a 1 1.5", TEXT, "is no sample"),
        ('a{b="c} 1', TEXT, "is no sample"),
        ("a ١", TEXT, "is no sample"),
        ('a 1 # {b="c"}', OPEN, "is no sample"),
        ("a 1 NaN", OPEN, "is no sample"),
        ("a one", TEXT, "is no sample that can be read"),
        ("a 1_0", TEXT, "is no sample"),
        ("a{b=c} 1", TEXT, "is no sample that can be read"),
        ('a{b="1",b="2"} 1', TEXT, "is no sample that can be read"),
        ('a{b="1",b="2"} 1', OPEN, "is no sample that can be read"),
        ('a{__name__="b"} 1', TEXT, "is no sample that can be read"),
        ('a{,b="1"} 1', OPEN, "is no sample that can be read"),
        ("a " + "9" * 400, TEXT, "is no sample that can be read"),
        ('a 1 # {b="c"} x', OPEN, "is no sample that can be read"),
        ("a{b} 1", OPEN, "is no sample that can be read"),
        ('a{b="c", ="b"} 1', TEXT, "is no sample that can be read"),
        ("a b" + "c" * 500, TEXT, "is no sample that can be read"),
        ("a b\u202e\x1b[1m", TEXT, "is no sample"),
        ("a {count:1,sum:2}", OPEN, "is no sample that can be read"),
        ("a 1 9999999999999999", TEXT, "has a time outside of the years that can be stored"),
        ("a 1 1e300", OPEN, "has a time outside of the years that can be stored"),
        ("a " + "9" * 400, OPEN, "is no sample that can be read"),
        ("", OPEN, "is blank, which OpenMetrics does not allow"),
        ("a 1\0", TEXT, "holds a NUL byte"),
    ],
)
async def test_a_line_that_cannot_be_read_is_named_and_nothing_of_its_page_is_used(
    line: str, kind: str, said: str
) -> None:
    body = f"# HELP good It is.\ngood 1\n{line}\ngood_too 1\n" + ("# EOF\n" if kind == OPEN else "")
    sentence = await refused(body, kind=kind)
    assert sentence.startswith(f"node.rows: GET …/metrics: line 3 {said}: ")
    assert sentence.endswith("; nothing of the page is used")
    assert sentence.isprintable()
    assert len(sentence) < 400
    assert line.split("\0", maxsplit=1)[0].split(" ", maxsplit=1)[0][:40] in sentence


async def test_bytes_that_are_no_utf8_are_named_by_their_line() -> None:
    sentence = await refused(b'a 1\nb{c="\xff"} 1\n')
    assert sentence == "node.rows: GET …/metrics: line 2 is not UTF-8: 'b{c=\"�\"} 1'; nothing of the page is used"


async def test_openmetrics_without_its_end_is_refused_as_it_may_be_cut_short() -> None:
    for body in ("# TYPE a gauge\na 1\n", "", "a 1\n# EOF"[:-2]):
        sentence = await refused(body, kind=OPEN)
        assert (
            sentence
            == "node.rows: GET …/metrics: the OpenMetrics page has no `# EOF` at its end, so it may be cut short"
        )
    assert (await collected("a 1\n# EOF", kind=OPEN)).rows == 1


async def test_nothing_may_stand_after_the_end() -> None:
    sentence = await refused("a 1\n# EOF\nb 1\n", kind=OPEN)
    assert sentence == "node.rows: GET …/metrics: line 3 stands after `# EOF`: 'b 1'; nothing of the page is used"


@pytest.mark.parametrize("kind", [TEXT, OPEN])
async def test_of_a_series_that_stands_there_twice_the_first_is_taken(kind: str) -> None:
    body = '# TYPE a gauge\na{x="1",y="2"} 1\na{x="2"} 5\na{y="2",x="1"} 2\na{x="1",y="2"} 3\n'
    body += "b 1 1000\nb 2 2000\nb 3 1000\n"
    frame = await collected(body + ("# EOF\n" if kind == OPEN else ""), kind=kind)
    assert rows(frame, "metric", "value") == [("a", 1.0), ("a", 5.0), ("b", 1.0), ("b", 2.0)]
    assert sentences(frame) == [
        '3 samples repeat a series of the page (first: `a{y="2",x="1"}`); the first of each is taken'
    ]
    assert sentences(await collected("a 1\na 1\n")) == [
        "1 sample repeats a series of the page (first: `a{}`); the first of each is taken"
    ]


async def test_a_family_in_two_places_is_read_in_openmetrics_too() -> None:
    """Prometheus reads such pages; what refuses them is only the library."""
    body = '# TYPE a gauge\na 1\n# TYPE b info\nb 1\n# TYPE a gauge\na{x="1"} 2\na 3 1700000000\n# EOF\n'
    assert (await collected(body, kind=OPEN)).rows == 4


async def test_a_million_series_are_refused_before_their_terms_are_read(no_blocking: BlockBuster) -> None:
    body = b"".join(b'm{n="%d"} 1\n' % number for number in range(1_000_000))
    sentence = await refused(body, UpstreamTooLarge)
    assert sentence == "node.rows: GET …/metrics: the page has more than 100,000 samples that are wanted"


async def test_the_remedy_for_too_many_samples_is_to_choose() -> None:
    body = "a 1\nb 1\nc 1\n"
    assert "more than 2 samples" in await refused(body, UpstreamTooLarge, {"max_samples": 2})
    frame = await collected(body, {"max_samples": 2, "metrics": ["a", "b"]})
    assert frame.rows == 2
    assert (await collected(body, {"max_samples": 2, "kind": "families"})).rows == 3


async def test_a_line_of_a_metric_that_is_not_wanted_costs_nothing() -> None:
    """It is passed over by its name, so what is wrong behind that name is not seen."""
    assert (await collected("a 1\nb{{{ x\n", {"metrics": ["a"]})).rows == 1


async def test_more_families_than_any_page_has_are_refused() -> None:
    for line in ("f{} 1\n", "# TYPE f{} gauge\n"):
        body = "".join(line.replace("{}", str(number)) for number in range(MAX_FAMILIES + 1))
        sentence = await refused(body, UpstreamTooLarge, {"kind": "families"})
        assert sentence == "node.rows: GET …/metrics: the page has more than 100,000 families of metrics"


async def test_a_page_over_the_bound_on_bytes_is_refused() -> None:
    sentence = await refused("a 1\n" * 300, UpstreamTooLarge, max_bytes=1_000)
    assert sentence == "GET …/metrics: the answer is over 1000 bytes"


async def test_a_line_longer_than_any_sample_is_refused() -> None:
    body = 'a{b="' + "x" * MAX_LINE_BYTES + '"} 1\n'
    sentence = await refused(body)
    assert "line 1 is longer than 32768 bytes: " in sentence
    assert len(sentence) < 400


@pytest.mark.parametrize(
    "line",
    [
        'a{b="' + '\\"' * 16_000 + '"} 1',
        'a{b="' + "\\" * 32_000 + '"} 1',
        "a{" + ",".join(f'l{number}="v"' for number in range(3_000)) + "} 1",
        "a{" * 16_000,
        "a{" + "x" * 16_000,
        "{" * 32_000,
        "a " + "1" * 32_000,
        "# HELP " + "a" * 32_000,
        '{"' + "\\" * 32_000,
    ],
    ids=lambda line: line[:8],
)
async def test_a_line_made_to_be_slow_is_read_or_refused_like_any_other(line: str) -> None:
    for kind in (TEXT, OPEN):
        async with (
            far(lambda seen, kind=kind: page(f"{line}\n# EOF\n", kind)) as there,
            exposition(there.url) as source,
        ):
            with suppress(SourceError):
                await source.collect(Q)


async def test_ten_thousand_different_labels_are_no_table() -> None:
    body = "".join(f'a{{l{number:05}="v"}} 1\n' for number in range(10_000))
    sentence = await refused(body, UpstreamTooLarge)
    assert sentence.startswith(
        "node.rows: GET …/metrics: 10,000 rows with 10,000 different labels are no table (the labels are `l00000`, "
    )
    assert sentence.endswith(" and 9980 more)")
    frame = await collected(body, None, "value:number", "l00007")
    assert frame.data["l00007"].drop_nulls().to_list() == ["v"]


async def test_many_rows_with_many_labels_are_no_table() -> None:
    """Each row has a cell for each label, also where it has none of them."""
    labels = "".join(f'a{{l{number}="v"}} 1\n' for number in range(200))
    body = labels + "".join(f'b{{n="{number}"}} 1\n' for number in range(60_000))
    assert "60,200 rows with 201 different labels" in await refused(body, UpstreamTooLarge)


async def test_labels_that_come_and_go_do_not_add_up_for_ever() -> None:
    def batch(number: int) -> str:
        return "".join(f'a{{l{number}_{label}="v"}} 1\n' for label in range(100))

    pages = iter([batch(0), batch(1), batch(2), batch(3)])
    async with far(lambda seen: page(next(pages))) as there, exposition(there.url) as source:
        widths = [(await source.collect(Q)).data.width - 3 for _ in range(4)]
    assert widths == [100, 200, 100, 200]


async def test_label_names_are_shown_in_printable_form() -> None:
    frame = await collected('{"a","b\u202ec\x01"="v","b\\u202ec\\x01"="w"} 1\n')
    assert all(name.isprintable() for name in frame.schema.names)
    assert sorted(rows(frame)[0][2:4]) == ["v", "w"]


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (
            "<!doctype html><title>Log &amp; in</title>",
            "text/html",
            "answered with an HTML page (title “Log & in”) instead of metrics",
        ),
        ("  <html></html>", TEXT, "answered with an HTML page instead of metrics"),
        ("<html>", OPEN, "answered with an HTML page instead of metrics"),
        ('{"a": 1}', "application/json", "answered with `application/json`, which is no page of metrics"),
        (
            "\x0a\x0b\x08",
            "application/vnd.google.protobuf",
            "answered with `application/vnd.google.protobuf`, which is no",
        ),
        (
            "Hello there!\n",
            "application/octet-stream",
            "answered with `application/octet-stream`, which is no page of",
        ),
        ("# Hello\n", "", "answered with something without a content type, which is no page of metrics"),
    ],
)
async def test_what_is_no_page_of_metrics_is_called_what_it_is(body: str, kind: str, said: str) -> None:
    assert (await refused(body, kind=kind)).startswith(f"node.rows: GET …/metrics {said}")


@pytest.mark.parametrize("kind", ["", "application/octet-stream", "binary/octet-stream; charset=x"])
@pytest.mark.parametrize("head", ["# TYPE a gauge\n", "# hello\n\n", "", "# HELP a A.\n", "# EOF\n"])
async def test_without_a_known_type_a_page_that_looks_like_metrics_is_text(kind: str, head: str) -> None:
    frame = await collected(f"{head}a 1 1000\n", kind=kind)
    assert frame.data["time"][0].timestamp() == 1.0
    assert frame.meta.custom["far_version"] == "text"


async def test_an_empty_page_has_no_rows() -> None:
    for body, kind in (("", TEXT), ("\n\n", TEXT), ("", ""), ("# EOF\n", OPEN), ("# only words\n", TEXT)):
        for rows_of in ("samples", "histogram", "buckets", "exemplars", "families"):
            frame = await collected(body, {"kind": rows_of}, kind=kind)
            assert (frame.rows, sentences(frame)) == (0, [])


async def test_a_packed_page_is_unpacked() -> None:
    packed = gzip.compress(b"a 1\n" + b'b{c="d"} 2\n')
    async with (
        far(lambda seen: page(packed, TEXT, Content_Encoding="gzip")) as there,
        exposition(there.url) as source,
    ):
        assert rows(await source.collect(Q), "metric", "value") == [("a", 1.0), ("b", 2.0)]
    assert there.last.headers["Accept-Encoding"] == "gzip"


async def test_a_small_packed_page_that_unpacks_without_end_is_refused() -> None:
    packed = gzip.compress(b"a 1\n" * 1_000_000)
    async with (
        far(lambda seen: page(packed, TEXT, Content_Encoding="gzip")) as there,
        exposition(there.url, max_bytes=100_000) as source,
    ):
        with pytest.raises(UpstreamTooLarge):
            await source.collect(Q)


async def test_a_server_that_fails_is_an_error_and_no_empty_page() -> None:
    async with far(lambda seen: web.Response(status=500, text="a 1\n")) as there, exposition(there.url) as source:
        with pytest.raises(UpstreamRefused) as error:
            await source.collect(Q)
        ping = await source.ping()
    assert error.value.far_status == 500
    assert (ping.ok, ping.text) == (False, error.value.message)


async def test_ping_is_bad_news_for_a_page_that_is_none_and_good_for_one_that_is_long() -> None:
    async with far(lambda seen: page("<html>", "text/html")) as there, exposition(there.url) as source:
        assert not (await source.ping()).ok
    async with far(lambda seen: page("a 1\n" * 100)) as there, exposition(there.url, max_bytes=100) as source:
        ping = await source.ping()
    assert (ping.ok, ping.far_version) == (True, None)
    assert "over 100 bytes" in ping.text


async def test_a_refused_credential_is_said_to_be_one() -> None:
    async with far(lambda seen: web.Response(status=401)) as there, exposition(there.url) as source:
        with pytest.raises(NeedsAuth):
            await source.collect(Q)


async def test_a_declared_type_that_no_value_has_stops_the_dataset() -> None:
    sentence = await refused('a{code="ok"} 1\n', SchemaMismatch, None, "code:number")
    assert sentence == "column `code` holds no number: its first value is 'ok'"


async def test_the_loop_goes_on_while_a_long_page_is_read() -> None:
    """The page is read on a thread; here the loop does its part of the work before the thread is through."""
    body = "".join(f'm{{n="{number}"}} 1\n' for number in range(20_000))
    async with far(lambda seen: page(body)) as there, exposition(there.url) as source:
        task = asyncio.create_task(source.collect(Q))
        turns = 0
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
        assert (await task).rows == 20_000
    assert turns > 100


async def test_who_goes_away_takes_the_reading_along() -> None:
    body = "".join(f'm{{n="{number}"}} 1\n' for number in range(50_000))
    async with far(lambda seen: page(body)) as there, exposition(there.url) as source:
        task = asyncio.create_task(source.collect(Q))
        # Those of other tests may not have been collected yet.
        while not (jobs := [job for job in gc.get_objects() if isinstance(job, Job) and there.url in job.what]):
            await asyncio.sleep(0)
        assert not jobs[0].stop.is_set()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert jobs[0].stop.is_set()


class _Given:
    """An event that is set once it has been looked at so often."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_the_reading_ends_when_nobody_waits_for_it_any_more() -> None:
    scanner = Scanner(Form(is_open=False), (), max_samples=10, by_stem=False, keep=True, what="page")
    body = b"a 1\nb 1\nc 1\n"
    scan = scanner.scan(body, threading.Event())
    for work in (
        lambda stop: scanner.scan(body, stop),
        lambda stop: points(scan.lines, Form(is_open=False), stop, "page"),
    ):
        with pytest.raises(SourceError, match="nobody waits"):
            work(_Given(2))  # type: ignore[arg-type]


async def test_the_last_good_answer_stays_when_a_page_is_cut_short() -> None:
    pages = iter(["a 1\n# EOF\n", "a 2\n", "a 3\n# EOF\n"])
    clock = ManualClock()
    async with far(lambda seen: page(next(pages), OPEN)) as there, UpstreamPool() as pool:
        config = SourceConfig(
            "node",
            "exposition",
            {"url": there.url},
            (DatasetConfig("rows", freshness=Freshness(retries=0)),),
        )
        plugins = {"exposition": Plugin("exposition", "bridge", ExpositionSource)}
        registry, problems = build([config], plugins, Tools(pool.upstream, clock, Path()))
        assert problems == []
        cache = Cache.in_memory(max_bytes=2**20, size_of=lambda held: 1, clock=clock)
        desk = Desk(registry, Kit(cache, clock, Meters(), Limits(), jitter=lambda: 0.0, retry_wait_s=0.001))
        answers = []
        for _ in range(3):
            answers.append(await desk.keepers["node.rows"].get(Q))
            clock.advance(30)
    assert [frame.data["value"].to_list() for frame in answers] == [[1.0], [1.0], [3.0]]
    assert "the OpenMetrics page has no `# EOF` at its end" in sentences(answers[1])[0]
    assert (sentences(answers[0]), sentences(answers[2])) == ([], [])
