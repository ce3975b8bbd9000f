import asyncio
import gzip
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from bridge.edge.upstream import UpstreamPool
from bridge.errors import (
    AddressRefused,
    BridgeError,
    SchemaMismatch,
    UpstreamInvalid,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamUnavailable,
)
from bridge.model.clock import SystemClock
from bridge.model.frame import Notice
from bridge.model.query import Query
from bridge.sources.base import Tools
from servers.far import Seen, far, js, raw, text
from servers.rest_rig import build, rest, tools

Q = Query("far.runs")
GOOD = [{"name": "a", "value": 1}]


async def refused(url: str, kind: type[BridgeError], dataset: dict[str, Any] | None = None, **options: Any) -> str:
    """The sentence with which the question fails."""
    async with rest(url, dataset, **options) as source:
        with pytest.raises(kind) as error:
            await source.collect(Q)
        assert type(error.value) is kind
    return error.value.message


@pytest.mark.parametrize(
    ("answer", "kind", "sentence"),
    [
        (
            text("<html><head><title>Log in</title>", "text/html"),
            UpstreamInvalid,
            "far.runs: GET {url}/runs answered with an HTML page (title “Log in”) instead of data",
        ),
        (
            text('{"items": [1, 2', "application/json"),
            UpstreamInvalid,
            "far.runs: GET {url}/runs answered with unreadable JSON: Expecting ',' delimiter at character 15",
        ),
        (
            text("[" * 200_000, "application/json"),
            UpstreamInvalid,
            "far.runs: GET {url}/runs answered with JSON that is nested too deeply to be data",
        ),
        (
            js("just a text"),
            UpstreamInvalid,
            "far.runs: GET {url}/runs: `rows` (@) gives a str, not an array of rows",
        ),
        (
            js([{"title": "a", "value": 1}, {"title": "b"}]),
            SchemaMismatch,
            "far.runs: column `name` is gone: no row has `name`; the keys are title, value",
        ),
        (
            js([1, 2]),
            SchemaMismatch,
            "far.runs: column `name` is gone: no row has `name`; the rows are no objects but int",
        ),
        (
            text("title,value\n", "text/csv"),
            SchemaMismatch,
            "far.runs: column `name` is gone: no row has `name`; the keys are title, value",
        ),
        (
            text("Internal error", "text/plain"),
            SchemaMismatch,
            "far.runs: column `name` is gone: no row has `name`; the keys are Internal error",
        ),
        (
            js([{"name": "a", "value": "many"}, {"name": "b", "value": "few"}]),
            SchemaMismatch,
            "column `value` holds no number: its first value is 'many'",
        ),
        (
            text("name,value,name\na,1,b\n", "text/csv"),
            UpstreamInvalid,
            "far.runs: GET {url}/runs answered with unreadable CSV: the header names `name` more than once",
        ),
        (
            js({"detail": "no such run"}, status=404),
            UpstreamRefused,
            'GET {url}/runs: the server answered 404: {{"detail": "no such run"}}',
        ),
    ],
)
async def test_a_bad_answer_is_a_sentence_a_person_can_act_on(
    answer: web.Response, kind: type[BridgeError], sentence: str
) -> None:
    async with far(lambda seen: answer) as there:
        assert await refused(there.url, kind) == sentence.format(url=there.url)


async def test_a_busy_server_says_when_to_come_back() -> None:
    async with far(lambda seen: js({}, status=429, Retry_After="17")) as there, rest(there.url) as source:
        with pytest.raises(UpstreamRefused) as error:
            await source.collect(Q)
    assert (error.value.far_status, error.value.retry_after_s) == (429, 17.0)


async def test_a_server_that_hangs_is_left_at_the_deadline() -> None:
    async with raw(lambda reader, writer: asyncio.Event().wait()) as url:  # type: ignore[arg-type,return-value]
        sentence = await refused(url, UpstreamTimeout, request_deadline_s=0.2)
    assert sentence == f"GET {url}/runs: no complete answer within 0.2 s"


async def test_a_server_that_drips_is_left_at_the_deadline_too() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n[")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with raw(drip) as url:
        assert "no complete answer within 0.3 s" in await refused(url, UpstreamTimeout, request_deadline_s=0.3)


async def test_an_answer_that_breaks_off_is_never_taken_for_the_whole() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nContent-Length: 100\r\n\r\nname,value\na,1\n")
        await writer.drain()

    async with raw(cut) as url:
        assert await refused(url, UpstreamUnavailable) == f"GET {url}/runs: the connection broke off"


async def test_a_redirect_to_another_host_is_not_followed() -> None:
    async with far(lambda seen: js(GOOD)) as other:

        def serve(seen: Seen) -> web.Response:
            return web.Response(status=302, headers={"Location": f"{other.url}/runs"})

        async with far(serve) as there:
            auth = {"kind": "bearer", "token": "hidden"}
            sentence = await refused(there.url, AddressRefused, auth=auth)
        assert "redirects to another host are not followed" in sentence
        assert other.seen == []


async def test_the_metadata_address_is_refused_even_when_private_ones_are_allowed() -> None:
    async with tools() as given:
        with pytest.raises(ValueError, match=r"169\.254\.169\.254"):
            build(given, "http://169.254.169.254/latest", allow_private=True)


async def test_a_name_of_a_private_address_needs_to_be_allowed_by_the_source() -> None:
    class Resolver(AbstractResolver):
        async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
            return [
                ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)
            ]

        async def close(self) -> None: ...

    async with far(lambda seen: js(GOOD)) as there:
        url = there.url.replace("127.0.0.1", "container.example")
        async with UpstreamPool(resolver=Resolver()) as pool:
            given = Tools(pool.upstream, SystemClock(), Path())
            with pytest.raises(AddressRefused):
                await build(given, url, allow_private=False).collect(Q)
            assert there.seen == []
            assert (await build(given, url, allow_private=True).collect(Q)).rows == 1


async def test_a_bomb_is_stopped_at_the_byte_limit() -> None:
    def serve(seen: Seen) -> web.Response:
        body = gzip.compress(b"[" + b" " * 20_000_000)
        return web.Response(body=body, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})

    async with far(serve) as there:
        assert "the answer is over 1000000 bytes" in await refused(there.url, UpstreamTooLarge, max_bytes=1_000_000)


async def test_a_key_missing_on_some_pages_is_a_null() -> None:
    def serve(seen: Seen) -> web.Response:
        pages = {"1": [{"name": "a"}], "2": [{"name": "b", "value": 2}], "3": [{"name": "c"}]}
        return js(pages.get(dict(seen.params)["page"], []))

    async with far(serve) as there, rest(there.url, {"paging": {"kind": "page"}}) as source:
        assert (await source.collect(Q)).data.rows() == [("a", None), ("b", 2), ("c", None)]


async def test_an_answer_without_the_rows_it_should_have_is_not_silent() -> None:
    answer = {"error": "quota exceeded", "code": 7}
    async with far(lambda seen: js(answer)) as there, rest(there.url, {"rows": "items"}) as source:
        frame = await source.collect(Q)
    assert frame.rows == 0
    assert frame.meta.notices == (
        Notice("warning", "no rows: the answer has nothing at `items`; the keys are error, code"),
    )


async def test_some_wrong_values_are_nulls_with_a_notice() -> None:
    rows = [{"name": "a", "value": 1}, {"name": {"x": 1}, "value": "many"}, {"name": "c", "value": [3]}]
    async with far(lambda seen: js(rows)) as there, rest(there.url) as source:
        frame = await source.collect(Q)
    assert frame.data["value"].to_list() == [1, None, None]
    assert [notice.severity for notice in frame.meta.notices] == ["warning"]
    assert "2 of 3 values of `value` are not numbers (first: 'many')" in frame.meta.notices[0].text


async def test_numbers_no_json_knows_leave_the_answer_readable() -> None:
    body = '[{"name": "a", "value": NaN}, {"name": "\\ud800", "value": Infinity}, {"name": "c", "value": 1}]'
    async with far(lambda seen: text(body)) as there, rest(there.url) as source:
        frame = await source.collect(Q)
    assert frame.rows == 3
    assert frame.data["value"].to_list()[2] == 1


async def test_a_deep_value_is_shown_as_json() -> None:
    body = '[{"name": "a", "value": ' + "[" * 300 + "]" * 300 + "}]"
    async with far(lambda seen: text(body)) as there, rest(there.url, {}, ("name", "value:json")) as source:
        frame = await source.collect(Q)
    assert frame.data["value"].to_list() == ["[" * 300 + "]" * 300]


async def test_an_expression_that_does_not_fit_the_answer_is_named() -> None:
    async with far(lambda seen: js(GOOD)) as there:
        sentence = await refused(there.url, UpstreamInvalid, {"rows": "sort(@)"})
    assert sentence.startswith("the expression `sort(@)` does not fit the answer")


async def test_data_too_deep_to_be_compared_is_an_error_of_the_answer() -> None:
    dataset = {"rows": "[?value == name]"}
    sentences = set()
    # Somewhere below the depth that can be read lies one that can be read and not be compared.
    for depth in range(860, 1_000):
        deep = "[" * depth + "]" * depth
        body = f'[{{"name": {deep}, "value": {deep}}}]'
        async with far(lambda seen, body=body: text(body)) as there, rest(there.url, dataset) as source:
            try:
                await source.collect(Q)
            except UpstreamInvalid as error:
                sentences.add(error.message.partition("/runs ")[2])
            except SchemaMismatch:
                continue
    assert sentences == {
        "answered with JSON that is nested too deeply to be data",
        "answered with data that is nested too deeply",
    }


async def test_after_every_bad_answer_the_next_good_one_is_read() -> None:
    bad = [text("<html>", "text/html"), text("["), js({}, status=500), text("[" * 5_000)]

    def serve(seen: Seen) -> web.Response:
        return bad.pop() if bad else js(GOOD)

    async with far(serve) as there, rest(there.url) as source:
        for _ in range(4):
            with pytest.raises(BridgeError):
                await source.collect(Q)
        assert (await source.collect(Q)).data.rows() == [("a", 1)]
