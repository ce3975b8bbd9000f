from __future__ import annotations

import asyncio
import fcntl
import gzip
import logging
import socket
import struct
import termios
import traceback
import tracemalloc
import zlib

import pytest
from aiohttp.abc import AbstractResolver

from bridge.edge.address import Base
from bridge.edge.upstream import Upstream, UpstreamPool
from bridge.errors import (
    AddressRefused,
    BadQuery,
    BridgeError,
    NeedsAuth,
    Retry,
    UpstreamInvalid,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamTooLarge,
    UpstreamUnavailable,
)

MIB = 1024 * 1024
SECRET = "s3cr3t-t0ken/x"


def answer(body: bytes = b"ok", *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(*headers: str) -> bytes:
    return "\r\n".join(["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *headers]).encode() + b"\r\n\r\n"


def redirect(location: str, status: int = 302) -> bytes:
    return answer(b"", f"Location: {location}", status=f"{status} Found")


class Names(AbstractResolver):
    """A name server that gives each question its next answer; the last one stays."""

    def __init__(self, *answers: list[str]):
        self.answers, self.asked = list(answers), 0

    async def resolve(self, host, port=0, family=socket.AF_INET):
        self.asked += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            {"hostname": host, "host": ip, "port": port, "family": family, "proto": 0, "flags": 0} for ip in found
        ]

    async def close(self):
        """Nothing to close."""


def unacknowledged_bytes(writer: asyncio.StreamWriter) -> int:
    return struct.unpack("i", fcntl.ioctl(writer.get_extra_info("socket").fileno(), termios.TIOCOUTQ, b"\0" * 4))[0]


async def refusal(asking) -> BridgeError:
    with pytest.raises(BridgeError) as caught:
        await asking
    return caught.value


# ---------------------------------------------------------------- what is sent


async def test_an_answer_has_its_status_headers_body_and_url(far, pool):
    server = far(answer(b'{"a":1}', "Content-Type: application/json", "Link: <a>", "link: <b>", "Set-Cookie: a=b"))
    got = await pool.upstream(server.url + "/api/").get("/runs", params=[("q", "a b/ü"), ("q", "&=")])
    assert (got.status, got.body) == (200, b'{"a":1}')
    assert got.headers == {"content-type": "application/json", "link": "<a>, <b>"}
    assert got.url == f"{server.url}/api/runs?q=a%20b%2F%C3%BC&q=%26%3D"
    assert server.lines == ["GET /api/runs?q=a%20b%2F%C3%BC&q=%26%3D HTTP/1.1"]
    assert "runs" not in repr(got)


@pytest.mark.parametrize(
    ("base", "path", "line"),
    [
        ("", "", "/"),
        ("/a/", "", "/a/"),
        ("/a/", "/b/", "/a/b/"),
        ("/a%2Fb", "/%7Ec;d=1/..%2Fe//f", "/a%2Fb/%7Ec;d=1/..%2Fe//f"),
    ],
)
async def test_a_path_travels_as_it_was_written(far, pool, base, path, line):
    server = far(answer())
    await pool.upstream(server.url + base).get(path)
    assert server.lines == [f"GET {line} HTTP/1.1"]


@pytest.mark.parametrize(
    "path", ["/../admin", "/%2e%2e/admin", "@evil.example", "/a?b", "/a#b", "/a\\b", "/a\r\nX: y"]
)
async def test_a_path_that_climbs_or_injects_is_never_sent(far, pool, path):
    server = far(answer())
    assert isinstance(await refusal(pool.upstream(server.url + "/base").get(path)), BadQuery)
    assert server.connections == 0


async def test_only_a_fixed_set_of_headers_goes_out(far, pool):
    server = far(answer())
    upstream = pool.upstream(server.url, headers={"X-Team": "a", "Accept": "text/csv"})
    await upstream.request(
        "POST", "/q", headers={"x-team": "b"}, credentials={"Authorization": "Bearer x"}, body=b"{}"
    )
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert body == b"{}"
    assert {line.split(b":")[0].decode().lower() for line in head.split(b"\r\n")[1:]} == {
        *("host", "accept", "accept-encoding", "user-agent", "x-team", "authorization", "content-length")
    }
    assert [server.header(name) for name in ("accept", "accept-encoding", "x-team", "authorization")] == [
        *("text/csv", "gzip", "b", "Bearer x")
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "a\r\nX-B: b"),
        ("X-A", "a\nb"),
        ("X-A", "a\x00b"),
        ("X-A", "\u010a"),
        ("X-A", "ü"),
        ("X-A\r\nX-B", "b"),
        ("X A", "b"),
        ("", "b"),
        ("Host", "evil.example"),
        ("content-length", "5"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "close, Authorization"),
        ("Proxy-Authorization", "x"),
        ("Accept-Encoding", "br"),
    ],
)
async def test_a_header_that_would_break_the_message_is_never_sent(far, pool, name, value):
    server = far(answer())
    upstream = pool.upstream(server.url)
    assert isinstance(await refusal(upstream.get("/", headers={name: value})), BadQuery)
    assert isinstance(await refusal(upstream.get("/", credentials={name: value})), BadQuery)
    with pytest.raises(ValueError, match="header"):
        pool.upstream(server.url, headers={name: value})
    assert server.connections == 0


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "get", "GET /x HTTP/1.1\r\n"])
async def test_a_method_of_no_use_is_never_sent(pool, method):
    assert isinstance(await refusal(pool.upstream("http://127.0.0.1:9").request(method, "/")), BadQuery)


async def test_a_parameter_of_broken_unicode_is_refused(pool):
    assert isinstance(await refusal(pool.upstream("http://127.0.0.1:9").get("/", params=[("a", "\ud800")])), BadQuery)


async def test_a_large_body_is_sent_whole(far, pool):
    server = far(answer())
    await pool.upstream(server.url).request("PUT", "/", body=b"x" * (2 * MIB))
    assert len(server.requests[0].partition(b"\r\n\r\n")[2]) == 2 * MIB
    assert server.header("content-type") is None


async def test_cookies_a_server_sets_are_not_sent_back(far, pool):
    server = far(answer(b"", "Set-Cookie: session=1; Path=/"))
    upstream = pool.upstream(server.url)
    await upstream.get("/")
    await upstream.get("/")
    assert server.header("cookie") is None


async def test_the_proxies_of_the_environment_are_not_used(far, pool, monkeypatch):
    proxy, server = far(answer(b"proxy")), far(answer(b"direct"))
    monkeypatch.setenv("http_proxy", proxy.url)
    assert (await pool.upstream(server.url).get("/")).body == b"direct"


async def test_a_connection_is_used_again(far, pool):
    server = far(answer())
    upstream = pool.upstream(server.url)
    for _ in range(3):
        await upstream.get("/")
    assert server.connections == 1


async def test_a_head_request_reads_no_body(far, pool):
    server = far(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\nContent-Encoding: gzip\r\n\r\n")
    assert (await pool.upstream(server.url).request("HEAD", "/", max_bytes=10)).body == b""


# ---------------------------------------------------------------- time and bytes


@pytest.mark.parametrize("when", ["before the head", "inside the head", "inside the body"])
async def test_a_server_that_hangs_is_left_at_the_deadline(far, pool, when):
    async def hang(_, writer):
        whole = answer(b"x" * 100)
        writer.write({"before the head": b"", "inside the head": whole[:20], "inside the body": whole[:-50]}[when])
        await asyncio.Event().wait()

    server = far(hang)
    error = await refusal(pool.upstream(server.url).get("/slow", params=[("key", SECRET)], deadline_s=0.2))
    assert isinstance(error, UpstreamTimeout)
    assert str(error) == f"GET {server.url}/slow: no complete answer within 0.2 s"
    assert error.remedy
    await server.hung_up.wait()


async def test_a_server_that_drips_is_left_at_the_same_deadline(far, pool):
    async def drip(_, writer):
        writer.write(chunked())
        while True:
            writer.write(b"1\r\nx\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    server = far(drip)
    assert isinstance(await refusal(pool.upstream(server.url).get("/", deadline_s=0.2)), UpstreamTimeout)
    await server.hung_up.wait()


async def test_a_server_that_drips_its_head_is_left_too(far, pool):
    async def drip(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X")
            await asyncio.sleep(0.01)

    server = far(drip)
    assert isinstance(await refusal(pool.upstream(server.url).get("/", deadline_s=0.2)), UpstreamTimeout)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        chunked() + b"5\r\nhello\r\n",
        chunked() + b"5\r\nhel",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"",
        chunked("Content-Encoding: gzip") + b"a\r\n" + gzip.compress(b"hello")[:10] + b"\r\n0\r\n\r\n",
        answer(gzip.compress(b"hello" * 1000)[:-9], "Content-Encoding: gzip"),
        answer(zlib.compress(b"hello")[:-2], "Content-Encoding: deflate"),
    ],
)
async def test_an_answer_that_breaks_off_is_never_taken_for_a_whole_one(far, pool, raw):
    async def cut(_, writer):
        writer.write(raw)
        await writer.drain()
        writer.close()

    error = await refusal(pool.upstream(far(cut).url).get("/"))
    assert isinstance(error, UpstreamUnavailable)
    assert "broke off" in str(error)


async def test_an_answer_longer_than_it_says_never_becomes_the_next_callers_answer(far, pool):
    smuggled = answer(b"another tenant's")
    release, sent = asyncio.Event(), asyncio.Event()

    async def early(request, writer):
        writer.write(answer(b"first") + (smuggled if b"/early" in request else b""))
        if b"/late" in request:
            await writer.drain()
            await release.wait()
            writer.write(smuggled)
            while unacknowledged_bytes(writer):
                await asyncio.sleep(0)
            sent.set()

    server = far(early)
    upstream = pool.upstream(server.url)
    assert (await upstream.get("/early")).body == b"first"
    assert (await upstream.get("/a")).body == b"first"
    assert (await upstream.get("/late")).body == b"first"
    release.set()
    await sent.wait()
    # The bytes have arrived at the idle connection; a visit elsewhere gives the loop the turns to read them.
    await pool.upstream(far(answer()).url).get("/")
    assert (await upstream.get("/b")).body == b"first"
    assert server.connections == 3


async def test_a_body_over_the_limit_is_refused_before_and_while_it_is_read(far, pool):
    async def endless(_, writer):
        writer.write(chunked())
        while True:
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await writer.drain()

    server = far(endless)
    error = await refusal(pool.upstream(server.url).get("/", max_bytes=MIB))
    assert isinstance(error, UpstreamTooLarge)
    assert error.remedy
    await server.hung_up.wait()
    sized = far(answer(b"x" * 101))
    assert isinstance(await refusal(pool.upstream(sized.url).get("/", max_bytes=100)), UpstreamTooLarge)
    assert len((await pool.upstream(sized.url).get("/", max_bytes=101)).body) == 101


async def test_an_honest_length_over_the_limit_is_refused_without_reading(far, pool):
    async def announce(_, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n")
        await asyncio.Event().wait()

    assert isinstance(await refusal(pool.upstream(far(announce).url).get("/", max_bytes=100)), UpstreamTooLarge)


@pytest.mark.parametrize("kind", ["one member", "many members", "deflate"])
async def test_a_bomb_costs_no_more_than_the_limit(far, pool, kind):
    plain = bytes(64 * MIB)
    if kind == "deflate":
        packed, coding = zlib.compress(plain), "deflate"
    else:
        packed, coding = gzip.compress(plain if kind == "one member" else plain[: 8 * MIB], 9), "gzip"
    body = packed * (8 if kind == "many members" else 1)
    del plain
    upstream = pool.upstream(far(answer(body, f"Content-Encoding: {coding}")).url)
    tracemalloc.start()
    try:
        error = await refusal(upstream.get("/", max_bytes=4 * MIB))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(error, UpstreamTooLarge)
    assert peak_bytes < 10 * MIB


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress(b"hello " * 100_000)),
        ("x-gzip", gzip.compress(b"hello " * 50_000) + gzip.compress(b"hello " * 50_000)),
        ("GZIP", gzip.compress(b"hello " * 100_000)),
        ("deflate", zlib.compress(b"hello " * 100_000)),
        ("deflate", zlib.compress(b"hello " * 100_000, wbits=-15)),
        ("identity", b"hello " * 100_000),
    ],
)
async def test_packed_bodies_are_unpacked(far, pool, coding, packed):
    got = await pool.upstream(far(answer(packed, f"Content-Encoding: {coding}")).url).get("/")
    assert got.body == b"hello " * 100_000
    assert "content-encoding" not in got.headers
    assert "content-length" not in got.headers


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("br", b"x"),
        ("gzip, gzip", gzip.compress(gzip.compress(b"x"))),
        ("gzip", b"plain text"),
        ("gzip", gzip.compress(b"x") + b"rubbish"),
        ("gzip", gzip.compress(b"x")[:-8] + b"\0" * 8),
        ("gzip", gzip.compress(b"", mtime=0) * 10_001),
        ("deflate", zlib.compress(b"x") * 2),
    ],
)
async def test_a_body_in_a_coding_that_is_unknown_or_broken_is_invalid(far, pool, coding, packed):
    error = await refusal(pool.upstream(far(answer(packed, f"Content-Encoding: {coding}")).url).get("/"))
    assert isinstance(error, UpstreamInvalid)


async def test_an_empty_body_is_empty_in_every_coding(far, pool):
    assert (await pool.upstream(far(answer(b"", "Content-Encoding: gzip")).url).get("/")).body == b""


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 " + b"y" * 100_000 + b"\r\n\r\n",
        b"<html>not http at all</html>\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
    ],
)
async def test_a_head_that_is_a_bomb_or_no_http_is_invalid(far, pool, raw):
    error = await refusal(pool.upstream(far(raw).url).get("/", params=[("key", SECRET)]))
    assert isinstance(error, UpstreamInvalid)
    assert "s3cr3t" not in "".join(traceback.format_exception(error))


async def test_headers_that_are_not_text_do_not_spoil_the_answer(far, pool):
    got = await pool.upstream(far(answer(b"ok", "X-Name: caf\xe9")).url).get("/")
    assert got.headers["x-name"].encode().startswith(b"caf")


async def test_a_cancelled_request_hangs_up_on_the_server(far, pool):
    async def hang(_, writer):
        writer.write(chunked() + b"5\r\nhello\r\n")
        await asyncio.Event().wait()

    server = far(hang)
    seen = []
    async with UpstreamPool(observe=lambda *facts: seen.append(facts)) as watched:
        task = asyncio.create_task(watched.upstream(server.url).get("/"))
        await server.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.hung_up.wait()
    assert [facts[:2] for facts in seen] == [("127.0.0.1", "cancelled")]


# ---------------------------------------------------------------- statuses


@pytest.mark.parametrize(
    ("status", "kind", "retry"),
    [
        (400, UpstreamRefused, Retry.NEVER),
        (404, UpstreamRefused, Retry.NEVER),
        (408, UpstreamRefused, Retry.LATER),
        (425, UpstreamRefused, Retry.LATER),
        (429, UpstreamRefused, Retry.LATER),
        (500, UpstreamRefused, Retry.LATER),
        (503, UpstreamRefused, Retry.LATER),
        (401, NeedsAuth, Retry.NEVER),
        (403, NeedsAuth, Retry.NEVER),
        (300, UpstreamInvalid, Retry.NEVER),
        (302, UpstreamInvalid, Retry.NEVER),
        (304, UpstreamInvalid, Retry.NEVER),
    ],
)
async def test_a_status_says_whether_asking_again_can_help(far, pool, status, kind, retry):
    error = await refusal(pool.upstream(far(answer(b"", status=f"{status} X")).url).get("/"))
    assert (type(error), error.retry) == (kind, retry)
    assert str(status) in str(error)
    assert getattr(error, "far_status", status) == status
    assert UpstreamRefused.retry is Retry.LATER


@pytest.mark.parametrize(
    ("value", "retry_after_s"),
    [
        ("120", 120),
        ("999999", 3600),
        ("Sat, 31 Jan 2026 12:01:30 GMT", 90),
        ("Sat, 31 Jan 2026 12:01:30 -0000", 90),
        ("Sat, 31 Jan 2026 11:00:00 GMT", 0),
        ("Sat, 31 Jan 2099 12:00:00 GMT", 3600),
        ("-5", None),
        ("1e9", None),
        ("soon", None),
        ("Sat, 99 Foo 2026 12:00:00 GMT", None),
    ],
)
async def test_retry_after_is_read_as_seconds_or_a_date_and_bounded(far, clock, value, retry_after_s):
    server = far(answer(b"", f"Retry-After: {value}", status="503 X"))
    async with UpstreamPool(clock=clock) as pool:
        error = await refusal(pool.upstream(server.url).get("/"))
    assert isinstance(error, UpstreamRefused)
    assert error.retry_after_s == retry_after_s


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("application/json", b'{"message":\n "no  such table"}', ': {"message": "no such table"}'),
        ("application/problem+json", b"{}", ": {}"),
        ("text/plain", b"\x1b[31mred\x00\xe2\x80\xae", ": \\x1b[31mred\\x00\\u202e"),
        ("text/plain", b"x" * 10_000, ": " + "x" * 200),
        ("text/html; charset=utf-8", b"<html>", ": (an HTML page)"),
        ("image/png", b"\x89PNG", ""),
    ],
)
async def test_an_errors_text_is_short_and_printable(far, pool, kind, body, text):
    server = far(answer(body, f"Content-Type: {kind}", status="500 X"))
    error = await refusal(pool.upstream(server.url).get("/runs"))
    assert str(error) == f"GET {server.url}/runs: the server answered 500{text}"


@pytest.mark.parametrize("status", [401, 500])
@pytest.mark.parametrize(
    "echo",
    [
        b"token %s is bad",
        b"%s" * 40,
        b"x" * 2_040 + b"%s",
        b"Bearer %s",
    ],
)
async def test_a_credential_the_server_echoes_never_reaches_the_error(far, pool, status, echo):
    body = echo.replace(b"%s", SECRET.encode())
    server = far(answer(body, "Content-Type: text/plain", status=f"{status} X"))
    for options in (
        {"credentials": {"Authorization": f"Bearer {SECRET}"}},
        {"headers": {"X-Api-Key": SECRET}},
        {"params": [("key", SECRET)], "secrets": [SECRET]},
    ):
        error = await refusal(pool.upstream(server.url).get("/", **options))
        text = "".join(traceback.format_exception(error)) + error.remedy
        assert not any(SECRET[:size] in text for size in range(6, len(SECRET) + 1))


async def test_a_credential_that_the_excerpts_end_cuts_in_two_is_not_half_shown(far, pool):
    secret = "abcdefghijklmnopqrstuvwxyz0123456789ABCDE"
    server = far(answer(secret.encode() * 100, "Content-Type: text/plain", status="500 X"))
    error = await refusal(pool.upstream(server.url).get("/", credentials={"X-Api-Key": secret}))
    assert "abc" not in str(error)
    assert "***" in str(error)


async def test_an_echoed_password_is_recognised_in_every_usual_spelling(far, pool):
    # "Basic dXNlcjpwYS9zcw==" is user:pa/ss.
    body = rb"dXNlcjpwYS9zcw== user:pa/ss pa/ss pa\/ss pa%2Fss"
    server = far(answer(body, "Content-Type: text/plain", status="500 X"))
    error = await refusal(pool.upstream(server.url).get("/", credentials={"Authorization": "Basic dXNlcjpwYS9zcw=="}))
    assert str(error).endswith(": *** *** *** *** ***")
    broken = await refusal(pool.upstream(server.url).get("/", credentials={"Authorization": "Basic x"}))
    assert "user:pa/ss" in str(broken)


@pytest.mark.parametrize("how", ["hangs", "breaks off", "is no gzip"])
async def test_an_error_status_is_told_even_when_its_body_never_ends_well(far, pool, how):
    async def half(_, writer):
        packed = "Content-Encoding: gzip" if how == "is no gzip" else "X: y"
        writer.write(answer(b"x" * 100, "Content-Type: text/plain", packed, status="503 X")[:-50])
        await writer.drain()
        if how == "hangs":
            await asyncio.Event().wait()
        writer.close()

    error = await refusal(pool.upstream(far(half).url).get("/", deadline_s=30))
    assert isinstance(error, UpstreamRefused)
    assert error.far_status == 503


# ---------------------------------------------------------------- redirects and links


async def test_a_redirect_within_the_origin_is_followed_with_the_credential(far, pool):
    async def moved(request, writer):
        writer.write(answer(b"here") if b"GET /b%2Fc?x=1 " in request else redirect("/b%2Fc?x=1#frag"))

    server = far(moved)
    got = await pool.upstream(server.url).get("/a/", credentials={"Authorization": "Bearer x"})
    assert (got.body, got.url) == (b"here", f"{server.url}/b%2Fc?x=1")
    assert server.header("authorization") == "Bearer x"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_host_is_not_followed_and_the_credential_never_arrives(far, pool, status):
    evil = far(answer(b"thanks"))
    for location in (
        evil.url + "/x",
        f"http://localhost:{evil.port}/",
        f"//127.0.0.1:{evil.port}/",
        f"https://127.0.0.1:{evil.port}/",
    ):
        server = far(redirect(location, status))
        error = await refusal(
            pool.upstream(server.url).get("/", params=[("key", SECRET)], credentials={"Authorization": "Bearer x"})
        )
        assert isinstance(error, AddressRefused)
        assert str(error).startswith(f"GET {server.url}/: redirects to another host are not followed")
        assert error.remedy
    assert evil.connections == 0


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://10.0.0.1/",
        "http://2130706433/",
        "http://user:hunter2@127.0.0.1/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "ftp://127.0.0.1/",
        "javascript:alert(1)",
        "http://127.0.0.1\\@evil.example/",
        "/\\evil.example/",
        "http://[::1",
        "http://\xfc.example/",
    ],
)
async def test_a_redirect_to_metadata_or_another_scheme_or_a_riddle_is_not_followed(far, pool, location):
    error = await refusal(pool.upstream(far(redirect(location)).url).get("/"))
    assert isinstance(error, AddressRefused)
    assert "hunter2" not in str(error)


async def test_a_chain_of_redirects_ends_after_five(far, pool):
    async def count(request, writer):
        hop = int(request.split(b"/")[1].split(b" ")[0] or 0)
        writer.write(answer(b"end") if hop == 5 else redirect(f"/{hop + 1}"))

    server = far(count)
    assert (await pool.upstream(server.url).get("/0")).body == b"end"
    endless = far(redirect("/6"))
    error = await refusal(pool.upstream(endless.url).get("/6"))
    assert isinstance(error, UpstreamInvalid)
    assert len(endless.requests) == 6


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_what_changes_something_is_not_sent_twice(far, pool, method):
    server = far(redirect("/b", 307))
    assert isinstance(await refusal(pool.upstream(server.url).request(method, "/", body=b"x")), UpstreamInvalid)
    assert len(server.requests) == 1


async def test_an_upgrade_to_https_of_the_same_host_is_followed_without_any_credential(far, tls):
    server_tls, client_tls = tls

    async def upgrade(request, writer):
        secure = writer.get_extra_info("ssl_object") is not None
        writer.write(answer(b"secure") if secure else redirect(f"https://127.0.0.1:{server.port}/s"))

    server = far(upgrade, tls=server_tls)
    async with UpstreamPool(ssl_context=client_tls) as pool:
        upstream = pool.upstream(server.url, headers={"X-Api-Key": SECRET})
        got = await upstream.get("/", headers={"Accept": "text/csv"}, credentials={"Authorization": "Bearer x"})
        assert got.body == b"secure"
        assert server.header("authorization", 0) == "Bearer x"
        assert [server.header(name, 1) for name in ("authorization", "x-api-key", "accept")] == [
            None,
            None,
            "text/csv",
        ]
        await upstream.get("/", credentials={"Authorization": "Bearer x"})
        assert server.header("accept") == "*/*"


async def test_a_downgrade_to_http_is_not_followed(far, tls):
    server_tls, client_tls = tls

    async def downgrade(_, writer):
        writer.write(redirect(f"http://127.0.0.1:{server.port}/"))

    server = far(downgrade, tls=server_tls)
    async with UpstreamPool(ssl_context=client_tls) as pool:
        assert isinstance(await refusal(pool.upstream(f"https://127.0.0.1:{server.port}").get("/")), AddressRefused)


@pytest.mark.parametrize("link", ["?cursor=2", "/api/runs?cursor=2", "{url}/api/runs?cursor=2#top"])
async def test_a_link_to_the_next_page_is_followed_within_the_origin(far, pool, link):
    server = far(answer())
    upstream = pool.upstream(server.url + "/api")
    page = await upstream.get("/runs")
    await upstream.follow(
        link.replace("{url}", server.url), relative_to=page.url, credentials={"Authorization": "Bearer x"}
    )
    assert server.lines[-1] == "GET /api/runs?cursor=2 HTTP/1.1"
    assert server.header("authorization") == "Bearer x"


async def test_a_link_is_relative_to_the_base_when_no_page_is_named(far, pool):
    server = far(answer())
    await pool.upstream(server.url + "/api/").follow("next")
    await pool.upstream(server.url).follow("?c=1")
    assert server.lines == ["GET /api/next HTTP/1.1", "GET /?c=1 HTTP/1.1"]


async def test_a_link_that_leads_away_is_not_followed(far, pool):
    evil, server = far(answer()), far(answer())
    upstream = pool.upstream(server.url)
    for link in (
        evil.url,
        f"//127.0.0.1:{evil.port}/",
        f"http://localhost:{server.port}/",
        f"https://127.0.0.1:{server.port}",
    ):
        assert isinstance(
            await refusal(upstream.follow(link, credentials={"Authorization": "Bearer x"})), AddressRefused
        )
    for link in ("file:///etc/passwd", "http://[::1", f"http://u:p@127.0.0.1:{server.port}/", "/a b"):
        assert isinstance(await refusal(upstream.follow(link)), UpstreamInvalid)
    assert isinstance(await refusal(upstream.follow("/a", params=[("b", "c")])), BadQuery)
    assert (evil.connections, server.connections) == (0, 0)


# ---------------------------------------------------------------- addresses at connect time


async def test_a_private_address_behind_a_name_is_reached_only_when_the_settings_allow_it(far):
    server = far(answer())
    async with UpstreamPool(resolver=Names(["127.0.0.1"])) as pool:
        url = f"http://data.example:{server.port}"
        error = await refusal(pool.upstream(url).get("/a"))
        assert isinstance(error, AddressRefused)
        assert str(error).startswith(f"GET {url}/a: 127.0.0.1 is a loopback address")
        assert "allow_private" in error.remedy
        assert server.connections == 0
        assert (await pool.upstream(url, allow_private=True).get("/a")).status == 200
        # The allowed connection now lies idle under the same host and port: it is not lent to the other rule.
        assert isinstance(await refusal(pool.upstream(url).get("/a")), AddressRefused)


@pytest.mark.parametrize("bad", ["169.254.169.254", "fe80::1", "fd00:ec2::254", "::ffff:169.254.169.254", "0.0.0.0"])
async def test_one_bad_address_among_good_ones_spoils_the_name(far, bad):
    server = far(answer())
    for mixed in ([bad, "127.0.0.1"], ["127.0.0.1", bad]):
        async with UpstreamPool(resolver=Names(mixed)) as pool:
            upstream = pool.upstream(f"http://data.example:{server.port}", allow_private=True)
            assert isinstance(await refusal(upstream.get("/")), AddressRefused)
    assert server.connections == 0


async def test_a_name_that_moves_to_another_address_is_judged_anew_at_each_connection(far):
    async def close(_, writer):
        writer.write(answer(b"ok", "Connection: close"))
        await writer.drain()
        writer.close()

    server = far(close)
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    async with UpstreamPool(resolver=names) as pool:
        upstream = pool.upstream(f"http://rebind.example:{server.port}", allow_private=True)
        assert (await upstream.get("/")).status == 200
        assert isinstance(await refusal(upstream.get("/")), AddressRefused)
    assert names.asked == 2


async def test_an_address_in_the_url_is_judged_at_connect_time_although_no_name_is_resolved(far, pool):
    server = far(answer())
    # Reading the settings sets `private_ok` for this URL; here it is withheld, to see the last guard alone.
    base = Base("http", "127.0.0.1", server.port, server.url, "", private_ok=False)
    error = await refusal(Upstream(base, pool).get("/"))
    assert isinstance(error, AddressRefused)
    assert str(error).startswith(f"GET {server.url}/: 127.0.0.1")
    assert server.connections == 0


async def test_localhost_is_reached_by_its_name(far, pool):
    server = far(answer())
    assert (await pool.upstream(f"http://localhost:{server.port}").get("/")).status == 200


# ---------------------------------------------------------------- servers that are not there


async def test_a_server_that_is_not_there_is_unavailable_with_a_reason(pool):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    error = await refusal(pool.upstream(f"http://127.0.0.1:{port}/a").get("/b"))
    assert isinstance(error, UpstreamUnavailable)
    assert str(error).startswith(f"GET http://127.0.0.1:{port}/a/b: cannot connect")
    assert error.remedy


async def test_a_name_without_address_is_unavailable():
    class Nowhere(Names):
        async def resolve(self, host, port=0, family=socket.AF_INET):
            raise socket.gaierror(-2, "Name or service not known")

    for resolver in (Nowhere([]), Names([])):
        async with UpstreamPool(resolver=resolver) as pool:
            error = await refusal(pool.upstream("http://nowhere.example").get("/"))
            assert isinstance(error, UpstreamUnavailable)
            assert "cannot be resolved" in str(error)


async def test_a_certificate_that_is_not_trusted_is_refused_with_a_remedy(far, pool, tls):
    server = far(answer(), tls=tls[0])
    error = await refusal(pool.upstream(f"https://127.0.0.1:{server.port}").get("/"))
    assert isinstance(error, UpstreamUnavailable)
    assert "certificate" in str(error)
    assert "CA" in error.remedy
    assert server.requests == []


async def test_a_certificate_for_another_host_is_refused(far, tls):
    server = far(answer(), tls=tls[0])
    async with UpstreamPool(ssl_context=tls[1]) as pool:
        error = await refusal(pool.upstream(f"https://localhost:{server.port}").get("/"))
    assert "certificate" in str(error)
    assert server.requests == []


async def test_https_to_a_plain_server_says_so(pool):
    async def plain(_, writer):
        writer.write(answer(status="400 Bad Request"))
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await refusal(pool.upstream(f"https://127.0.0.1:{port}").get("/"))
    assert isinstance(error, UpstreamUnavailable)
    assert "http://" in error.remedy


# ---------------------------------------------------------------- the pool


async def test_the_meters_are_told_how_each_request_ended(far, clock):
    seen = []
    async with UpstreamPool(observe=lambda *facts: seen.append(facts), clock=clock) as pool:
        await pool.upstream(far(answer()).url).get("/")
        await refusal(pool.upstream(far(answer(status="503 X")).url).get("/"))
        await refusal(pool.upstream(far(b"rubbish\r\n\r\n").url).get("/"))
        await refusal(pool.upstream(far(b"HTTP/1.1 200 OK\r\n").url).get("/", deadline_s=0.1))
    assert [facts[1] for facts in seen] == [200, 503, "upstream_invalid", "upstream_timeout"]
    assert {facts[2] for facts in seen} == {0}


def test_an_upstream_is_made_before_any_loop_runs_and_a_bad_url_is_told_at_once():
    pool = UpstreamPool()
    assert repr(pool.upstream("http://127.0.0.1:9/a")) == "Upstream(http://127.0.0.1:9/a)"
    with pytest.raises(ValueError, match="2130706433"):
        pool.upstream("http://2130706433")


async def test_a_closed_pool_asks_nobody_any_more(far):
    pool = UpstreamPool()
    server = far(answer())
    upstream = pool.upstream(server.url)
    await upstream.get("/")
    await pool.aclose()
    await pool.aclose()
    assert isinstance(await refusal(upstream.get("/")), UpstreamUnavailable)
    await server.hung_up.wait()


async def test_requests_to_one_host_wait_for_a_free_connection_and_count_that_against_their_deadline(far):
    go = asyncio.Event()

    async def slow(_, writer):
        await go.wait()
        writer.write(answer())

    server = far(slow)
    async with UpstreamPool(max_connections_per_host=1) as pool:
        upstream = pool.upstream(server.url)
        first = asyncio.create_task(upstream.get("/"))
        await server.asked.wait()
        assert isinstance(await refusal(upstream.get("/", deadline_s=0.1)), UpstreamTimeout)
        go.set()
        assert (await first).status == 200
    assert server.connections == 1


async def test_nothing_of_a_request_is_logged(far, pool, caplog):
    caplog.set_level(logging.DEBUG)
    server = far(answer(SECRET.encode(), "Content-Type: text/plain", status="500 X"))
    await refusal(pool.upstream(server.url).get("/", params=[("key", SECRET)], credentials={"Authorization": SECRET}))
    assert "s3cr3t" not in caplog.text
