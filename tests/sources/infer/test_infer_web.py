"""Looking at servers: which of the known things they are, and what their settings become."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from tests.servers.far import raw
from tests.sources.infer.infer_rig import api, js, looked, runs, text

from bridge.edge.upstream import UpstreamPool
from bridge.errors import (
    AddressRefused,
    BadRequest,
    NeedsAuth,
    UpstreamInvalid,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamUnavailable,
)
from bridge.model.clock import SystemClock
from bridge.sources.base import Tools
from bridge.sources.infer import Target, look
from bridge.sources.infer.fetch import Bounds

METRICS = """\
# HELP lab_runs_total Runs.
# TYPE lab_runs_total counter
lab_runs_total{model="svm"} 3
# TYPE lab_seconds histogram
lab_seconds_bucket{le="+Inf"} 3
lab_seconds_sum 1.5
lab_seconds_count 3
"""


async def test_sampled_rows_become_a_dataset_with_types_units_and_roles() -> None:
    """The rows are found, and each column says what it is."""
    async with api({"/runs": {"data": {"items": runs()}, "total": 12}}) as server:
        found = await looked(f"{server.url}/runs")
    assert found.source.kind == "rest"
    assert found.only.name == "runs"
    assert found.only.options == {"path": "/runs", "rows": "data.items"}
    assert found.column("started_at") == {"name": "started_at", "type": "time", "role": "time"}
    assert found.column("ended_at") == {"name": "ended_at", "type": "time"}
    assert found.column("id") == {"name": "id", "type": "string"}
    assert found.column("seed") == {"name": "seed", "type": "number"}
    assert found.column("model")["role"] == "dimension"
    assert found.column("accuracy") == {
        "name": "accuracy", "type": "number", "unit": "percentunit", "role": "measure",
    }  # fmt: skip
    assert found.column("duration_s")["unit"] == "s"
    assert found.column("steps_total")["kind"] == "counter"
    assert found.written == found.source.settings()


async def test_the_name_is_of_the_host_unless_it_is_given() -> None:
    """`--name` wins; the address of this machine alone would say nothing."""
    async with api({"/runs": runs()}) as server:
        assert (await looked(f"{server.url}/runs", name="lab")).source.name == "lab"
        assert (await looked(f"{server.url}/runs")).source.name.startswith("local_")


async def test_the_query_of_the_url_is_sent_as_it_is() -> None:
    """It goes into `params`, where braces are no templates."""
    async with api({"/runs": runs()}) as server:
        found = await looked(f"{server.url}/runs?limit=5&q=%7Bx%7D")
        assert server.last.params == [("limit", "5"), ("q", "{x}")]
    assert found.only.options["params"] == {"limit": "5", "q": "{{x}}"}


@pytest.mark.parametrize(
    ("answer", "paging"),
    [
        ({"items": runs(), "next": "abc"}, {"kind": "cursor", "param": "cursor", "next": "next"}),
        ({"items": runs(), "next": None}, {"kind": "cursor", "param": "cursor", "next": "next"}),
        (
            {"items": runs(), "meta": {"next_page_token": "t"}},
            {"kind": "cursor", "param": "page_token", "next": "meta.next_page_token"},
        ),
        ({"items": runs(), "next": "http://127.0.0.1/x?page=2"}, {"kind": "link", "next": "next"}),
        (js(runs(), Link='</runs?page=2>; rel="next"'), {"kind": "link"}),
        ({"items": runs()}, None),
        ({"items": runs(), "next": {"odd": 1}}, None),
    ],
)
async def test_paging_is_seen_beside_the_rows(answer: Any, paging: dict[str, Any] | None) -> None:
    """A cursor, a URL or a Link header."""
    async with api({"/runs": lambda _: answer}) as server:
        found = await looked(f"{server.url}/runs")
    assert found.only.options.get("paging") == paging


@pytest.mark.parametrize("kind", ["application/x-ndjson", "text/csv"])
async def test_lines_and_csv_are_sampled(kind: str) -> None:
    """Numbers and times of a CSV are read out of its texts."""
    rows = {
        "application/x-ndjson": '{"time": "2026-01-01T00:00:00Z", "load ms": 1.5}\n' * 3,
        "text/csv": "time,load ms\r\n2026-01-01T00:00:00Z,1.5\r\n2026-01-01T00:01:00Z,2.5\r\n",
    }
    async with api({"/rows": text(rows[kind], kind)}) as server:
        found = await looked(f"{server.url}/rows")
    assert found.column("time")["role"] == "time"
    assert found.column("load_ms") == {
        "name": "load_ms", "type": "number", "unit": "ms", "role": "measure", "select": '"load ms"',
    }  # fmt: skip


async def test_metrics_become_an_exposition_source() -> None:
    """By their type or by their look, at the address itself or at /metrics; histograms only where there are some."""
    plain = text(METRICS, "text/plain")
    async with api({"/m": plain}) as server:
        found = await looked(f"{server.url}/m")
    assert found.source.kind == "exposition"
    assert [d.options for d in found.source.datasets] == [
        {"kind": "samples", "path": "/m"},
        {"kind": "families", "path": "/m"},
        {"kind": "histogram", "path": "/m"},
    ]
    async with api({"/metrics": text("up 1\n", "application/openmetrics-text; version=1.0.0")}) as server:
        found = await looked(server.url)
    assert [d.name for d in found.source.datasets] == ["samples", "families"]
    assert "at other paths" in found.source.notes[-1]


async def test_a_text_that_only_begins_like_metrics_is_none() -> None:
    """Every line has to be one."""
    async with api({"/m": text("# TYPE x counter\nthis is prose\n", "text/plain")}) as server:
        with pytest.raises(UpstreamInvalid):
            await looked(f"{server.url}/m")


async def test_an_mlflow_server_is_known_by_its_api() -> None:
    """A version alone is not enough."""
    answers = {"/version": text("3.4.0", "text/html"), "/": text("<html>", "text/html")}
    both = {**answers, "/api/2.0/mlflow/experiments/search": {"experiments": []}}
    async with api(both) as server:
        found = await looked(server.url)
    assert found.source.kind == "mlflow"
    assert [d.options for d in found.source.datasets] == [
        {"kind": "experiments"}, {"kind": "runs"}, {"kind": "metrics"},
    ]  # fmt: skip
    for odd in (js({"x": 1}), text("<html>", "text/html"), None):
        async with api({**answers, "/api/2.0/mlflow/experiments/search": odd}) as server:
            with pytest.raises(UpstreamInvalid, match=r"HTML page|markup"):
                await looked(server.url)


async def test_a_root_that_answers_rows_is_sampled() -> None:
    """After nothing else was found."""
    async with api({"/": runs()}) as server:
        found = await looked(server.url)
    assert found.only.options == {"path": "/"}
    assert found.only.name == "rows"


async def test_headers_and_tokens_are_sent_and_written_without_the_secret(tmp_path: Path) -> None:
    """The settings name the file, relative to their folder."""
    (tmp_path / "token").write_text("s3cret-token\n")
    async with api({"/runs": runs()}) as server:
        url = f"{server.url}/runs"
        token = tmp_path / "token"
        found = await looked(url, tmp_path, token_file=token, headers={"X-Site": "lab"})
        assert server.last.headers["Authorization"] == "Bearer s3cret-token"
        assert server.last.headers["X-Site"] == "lab"
        assert found.source.options["auth"] == {"kind": "bearer", "token_file": "token"}
        assert found.source.options["headers"] == {"X-Site": "lab"}
        assert "s3cret" not in found.source.yaml()
        other = await looked(url, tmp_path / "deep", token_file=token, token_header="X-Key")
        assert server.last.headers["X-Key"] == "s3cret-token"
        auth = {"kind": "api_key", "name": "X-Key", "value_file": str(token)}
        assert other.source.options["auth"] == auth


@pytest.mark.parametrize(
    ("what", "options", "sentence"),
    [
        ("http://me:hunter2@127.0.0.1/runs", {}, "user name or a password"),
        ("http://me@127.0.0.1/runs", {}, "user name or a password"),
        ("ftp://me:hunter2@127.0.0.1/runs", {}, "user name or a password"),
        ("http://127.0.0.1/runs?api_key=hunter2", {}, "api_key"),
        ("http://127.0.0.1/runs?access_token=hunter2", {}, "access_token"),
        ("http://127.0.0.1/runs", {"headers": {"X-Api-Key": "hunter2"}}, "X-Api-Key"),
        ("http://127.0.0.1/runs", {"headers": {"Authorization": "hunter2"}}, "Authorization"),
        ("http://127.0.0.1/runs", {"headers": {"Host": "hunter2"}}, "headers or the token"),
        ("http://127.0.0.1/runs", {"token_file": Path("missing-token")}, "missing-token"),
        ("http://127.0.0.1/ru ns", {}, "well-formed"),
        ("http://169.254.169.254/", {}, "link-local"),
        ("ftp://127.0.0.1/runs", {}, "nothing is known of ftp"),
        ("http://127.0.0.1/runs", {"table": "t"}, "only databases"),
        ("127.0.0.1:9000/runs", {}, "http://host:port"),
        ("runs.csv", {"headers": {"a": "b"}}, "no header"),
        ("runs.csv", {"table": "t"}, "only databases"),
    ],
)
async def test_what_must_not_be_asked_or_written_is_refused(what: str, options: Any, sentence: str) -> None:
    """With a sentence that says what to do and repeats no secret."""
    with pytest.raises(BadRequest) as caught:
        await looked(what, **options)
    assert sentence in caught.value.sentence
    assert "hunter2" not in caught.value.sentence


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_credential_says_which_option_gives_one(status: int) -> None:
    """And not where it would stand in settings that are not written yet."""
    async with api({"/runs": js({}, status=status)}) as server:
        with pytest.raises(NeedsAuth, match=str(status)) as caught:
            await looked(f"{server.url}/runs")
    assert "--token-file" in caught.value.remedy


async def test_a_page_and_a_missing_address_are_told() -> None:
    """HTML with its title, 404 with its address."""
    page = text("<html><title>Sign in</title></html>", "text/html")
    async with api({"/": page, "/runs": page}) as server:
        for url in (server.url, f"{server.url}/runs"):
            with pytest.raises(UpstreamInvalid, match=r"HTML page .title .Sign in"):
                await looked(url)
        with pytest.raises(UpstreamRefused, match="404"):
            await looked(f"{server.url}/none")


async def test_a_server_that_is_not_there_is_told_once() -> None:
    """And nothing else is tried."""
    with pytest.raises(UpstreamUnavailable, match="cannot connect"):
        await looked("http://127.0.0.1:1/")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ([], "empty array"),
        ({"items": [], "next": None, "total": 0, "page": 1}, "empty array at `items`"),
        ([1, 2, 3], "array of numbers"),
        ({"values": ["a", None]}, "array of texts and nulls at `values`"),
        ([[0, 1.5], [1, 2.5]], "array of arrays"),
        ([{"a": 1}, 2], "array of objects and numbers"),
        ("text", "is a text"),
        (True, "is true or false"),
        (None, "holds nothing"),
        ({}, "empty object"),
        ([{}], "rows that hold nothing"),
        ({f"k{number}": number for number in range(100_000)}, "100000 keys"),
        ({"a": {"b": {"c": {"d": {"e": [{"x": 1}]}}}}, **{f"k{n}": 1 for n in range(101)}}, "not a table"),
        ({f"k{n}": {"a": n} for n in range(20_000)}, "20000 keys"),
    ],
)
async def test_what_is_no_table_is_told(answer: Any, sentence: str) -> None:
    """What is there instead, and what would help."""
    async with api({"/rows": js(answer)}) as server:
        with pytest.raises(UpstreamInvalid, match=sentence) as caught:
            await looked(f"{server.url}/rows")
    assert caught.value.remedy


@pytest.mark.parametrize("body", ["[" * 100_000, '{"a":' * 100_000, '[{"a":' + "[" * 600 + "]" * 600 + "}]"])
async def test_deep_answers_end_in_a_sentence_or_in_a_table(body: str) -> None:
    """Never in a broken process."""
    async with api({"/rows": text(body)}) as server:
        try:
            found = await looked(f"{server.url}/rows")
        except UpstreamInvalid:
            return
        assert found.column("a")["type"] == "json"


async def test_a_row_of_very_many_keys_is_cut() -> None:
    """To as many columns as a person reads, and it is said."""
    async with api({"/rows": [{f"k{number}": number for number in range(100_000)}]}) as server:
        found = await looked(f"{server.url}/rows")
    assert len(found.only.columns) == 100
    assert any("only the first 100" in note for note in found.only.notes)


async def test_csv_with_other_separators_is_refused_over_http() -> None:
    """The source reads commas only; it says so before it is configured."""
    async with api({"/rows": text("a;b\r\n1;2\r\n", "text/csv"), "/head": text("a,b\r\n", "text/csv")}) as server:
        with pytest.raises(UpstreamInvalid, match="';' between 2 columns"):
            await looked(f"{server.url}/rows")
        with pytest.raises(UpstreamInvalid, match="no rows"):
            await looked(f"{server.url}/head")


async def test_an_answer_over_the_cap_is_not_read() -> None:
    """The sentence says how to ask for less."""
    async with api({"/rows": runs(500)}) as server:
        with pytest.raises(UpstreamTooLarge, match="over 1000 bytes") as caught:
            await looked(f"{server.url}/rows", bounds=Bounds(answer_bytes=1_000))
    assert "limit" in caught.value.remedy


async def test_a_stream_that_never_ends_is_left() -> None:
    """By time when it is slow, by bytes when it is fast."""

    async def slowly(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[")
        await writer.drain()
        await asyncio.Event().wait()

    async def fast(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n")
        while True:
            writer.write(b'{"a": 1}\n' * 1_000)
            await writer.drain()

    async with raw(slowly) as url:
        with pytest.raises(UpstreamTimeout, match=r"within 0\.2 s"):
            await looked(f"{url}/rows", bounds=Bounds(request_s=0.2))
    async with raw(fast) as url:
        with pytest.raises(UpstreamTooLarge):
            await looked(f"{url}/rows", bounds=Bounds(answer_bytes=100_000))


async def test_a_server_is_asked_a_bounded_number_of_times() -> None:
    """Whatever it answers."""
    async with api({}) as server:
        with pytest.raises(UpstreamTimeout, match="3 requests"):
            await looked(server.url, bounds=Bounds(requests=3))
        assert len(server.seen) == 3
        with pytest.raises(UpstreamTimeout, match="0 s"):
            await looked(server.url, bounds=Bounds(total_s=0))


async def test_names_that_are_none_are_published_under_others() -> None:
    """And each is still found where it is."""
    odd = [
        "yes",
        "null",
        "1.0",
        "{x}",
        "größe",
        "a b",
        "a_b",
        "a-b",
        "\u202e",
        "\ud800",
        "",
        "- x",
        "#",
        "'\"",
        "a: b",
    ]
    odd += ["n" * 200, "<script>", "on", "=1+1", "\n", "{from_ms}", "x\u2028y"]
    async with api({"/rows": [dict(zip(odd, range(len(odd)), strict=True))] * 3}) as server:
        found = await looked(f"{server.url}/rows", name="lab")
    names = [column.name for column in found.only.columns]
    assert len(set(names)) == len(odd)
    assert all(name.isascii() and name.isidentifier() and len(name) <= 63 for name in names)
    assert found.written == found.source.settings()


async def test_target_is_what_the_command_fills_in() -> None:
    """Its defaults are the command's."""
    assert Target("x", Path()).max_datasets == 20


async def test_a_named_host_in_a_private_network_is_trusted_and_noted(tmp_path: Path) -> None:
    """The user named it: the settings then say that it may be asked; `localhost` needs no permission."""

    class Resolver(AbstractResolver):
        """Every name is this machine."""

        async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
            return [
                ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)
            ]

        async def close(self) -> None:
            """Nothing to close."""

    async with api({"/runs": runs()}) as server, UpstreamPool(resolver=Resolver()) as pool:
        url = server.url.replace("127.0.0.1", "lab.example")
        given = Tools(pool.upstream, SystemClock(), tmp_path)
        source = await look(Target(f"{url}/runs", tmp_path), given, lambda _: None)
        assert source.options == {"url": url, "allow_private": True}
        found = await looked(f"{server.url.replace('127.0.0.1', 'localhost')}/runs")
    assert "allow_private" not in found.source.options


async def test_an_address_that_is_never_asked_stays_so(tmp_path: Path) -> None:
    """Naming it, or a name that leads there, is no permission."""

    class Resolver(AbstractResolver):
        """Every name is the metadata service."""

        async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
            return [
                ResolveResult(
                    hostname=host, host="169.254.169.254", port=port, family=socket.AF_INET, proto=0, flags=0
                )
            ]

        async def close(self) -> None:
            """Nothing to close."""

    with pytest.raises(BadRequest):
        await looked("http://100.100.100.200/")
    async with UpstreamPool(resolver=Resolver()) as pool:
        given = Tools(pool.upstream, SystemClock(), tmp_path)
        with pytest.raises(AddressRefused):
            await look(Target("http://lab.example/", tmp_path), given, lambda _: None)


async def test_nothing_but_the_named_server_is_asked() -> None:
    """A redirect to another host ends in a sentence."""
    async with api({"/x": runs()}) as other:
        away = text("", status=302, Location=f"{other.url}/x")
        async with api({"/runs": away}) as server:
            with pytest.raises(AddressRefused, match="redirects to another host"):
                await looked(f"{server.url}/runs")
        assert other.seen == []
