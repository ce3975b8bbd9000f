import asyncio
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from servers.far import Seen, far, js, raw, text
from servers.rest_rig import rest

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
from bridge.model.frame import Notice
from bridge.model.query import Query

Q = Query("far.runs")
GOOD = [{"name": "a", "value": 1}]


async def refused(url: str, kind: type[BridgeError], dataset: dict[str, Any] | None = None, **options: Any) -> str:
    """The sentence with which the question fails; the source answers the next good question all the same."""
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
            "column `value` holds no number any more: its first value is 'many'",
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


async def test_a_private_address_needs_to_be_allowed_by_the_source() -> None:
    async with far(lambda seen: js(GOOD)) as there:
        await refused(there.url, AddressRefused, allow_private=False)
    assert there.seen == []


async def test_a_bomb_is_stopped_at_the_byte_limit() -> None:
    def serve(seen: Seen) -> web.Response:
        body = gzip.compress(b"[" + b" " * 20_000_000)
        return web.Response(body=body, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})

    async with far(serve) as there:
        assert "the answer is over 1000000 bytes" in await refused(there.url, UpstreamTooLarge, max_bytes=1_000_000)


async def test_a_key_missing_in_some_rows_is_a_null_and_in_all_pages_an_error() -> None:
    def serve(seen: Seen) -> web.Response:
        pages = {"1": [{"name": "a"}], "2": [{"name": "b", "value": 2}]}
        return js(pages.get(dict(seen.params)["page"], []))

    async with far(serve) as there, rest(there.url, {"paging": {"kind": "page"}}) as source:
        assert (await source.collect(Q)).data.rows() == [("a", None), ("b", 2)]


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


@pytest.mark.parametrize("depth", [300, 900])
async def test_deep_values_are_either_shown_or_refused(depth: int) -> None:
    body = '[{"name": "a", "value": ' + "[" * depth + "]" * depth + "}]"
    async with far(lambda seen: text(body)) as there, rest(there.url, {}, ("name", "value:json")) as source:
        try:
            frame = await source.collect(Q)
        except UpstreamInvalid as error:
            assert "nested too deeply" in error.message
        else:
            assert json.loads(frame.data["value"][0]) is not None


async def test_an_expression_that_does_not_fit_the_answer_is_named() -> None:
    async with far(lambda seen: js(GOOD)) as there:
        sentence = await refused(there.url, UpstreamInvalid, {"rows": "sort(@)"})
    assert sentence.startswith("the expression `sort(@)` does not fit the answer")


async def test_an_expression_too_deep_to_run_is_an_error_of_the_answer() -> None:
    deep = {"rows": "[?" + " && ".join(["value == `1`"] * 200) + "]"}
    body = '[{"name": "a", "value": 1, "deep": ' + "[" * 500 + "]" * 500 + "}]"
    async with far(lambda seen: text(body)) as there, rest(there.url, deep) as source:
        try:
            assert (await source.collect(Q)).rows == 1
        except UpstreamInvalid as error:
            assert "nested too deeply" in error.message


Answer = Callable[[Seen], web.Response]


async def test_after_every_bad_answer_the_next_good_one_is_read() -> None:
    bad = [text("<html>", "text/html"), text("["), js({}, status=500), text("[" * 5_000)]

    def serve(seen: Seen) -> web.Response:
        return bad.pop() if bad else js(GOOD)

    async with far(serve) as there, rest(there.url) as source:
        for _ in range(4):
            with pytest.raises(BridgeError):
                await source.collect(Q)
        assert (await source.collect(Q)).data.rows() == [("a", 1)]
