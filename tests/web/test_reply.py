"""Answers are bytes every client reads: valid JSON, one shape of errors, packed only where that is wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from bridge.errors import AnswerTooLarge, BadQuery, BridgeError, MethodNotAllowed, NotReady, UpstreamRefused
from bridge.web import reply
from bridge.web.keys import CONFIG, WebConfig


def request(headers: Mapping[str, str] | None = None, answer_bytes: int = 10_000) -> web.Request:
    app = web.Application()
    app[CONFIG] = WebConfig(answer_bytes=answer_bytes)
    return make_mocked_request("GET", "/", headers=dict(headers or {}), app=app)


def test_json_holds_no_token_that_json_does_not_have() -> None:
    found = reply.dumps({"a": np.array([1.5, float("nan"), float("inf")]), "b": float("-inf"), 1: (1, 2)})
    assert json.loads(found) == {"a": [1.5, None, None], "b": None, "1": [1, 2]}


@pytest.mark.parametrize(
    ("accept", "takes"),
    [
        ([], False),
        ([""], False),
        (["gzip"], True),
        (["GZip ; q=1.0"], True),
        (["br", "gzip;q=0.001"], True),
        (["gzip;q=0"], False),
        (["gzip; q = 0.0"], False),
        (["gzip;Q=0."], False),
        (["*"], True),
        (["*;q=0"], False),
        (["*;q=0", "gzip"], True),
        (["*", "gzip;q=0"], False),
        (["deflate, br"], False),
    ],
)
def test_what_is_said_of_gzip_counts(accept: list[str], takes: bool) -> None:
    assert reply.takes_gzip(accept) is takes


@pytest.mark.parametrize(
    ("said", "known"), [({}, False), ({"If-None-Match": "*"}, True), ({"If-None-Match": 'W/"b", W/"a"'}, True)]
)
def test_a_validator_the_client_holds_is_known_again(said: dict[str, str], known: bool) -> None:
    assert reply.unchanged(request(said), 'W/"a"') is known
    assert reply.unchanged(request({"If-None-Match": 'W/"aa"'}), 'W/"a"') is False


def test_a_validator_changes_with_the_bytes() -> None:
    assert reply.etag(b"a") == reply.etag(b"a") != reply.etag(b"b")
    assert reply.etag(b"a").startswith('W/"')


async def test_an_answer_is_not_stored_unless_it_says_so() -> None:
    plain = await reply.send(request(), b"[]")
    assert plain.headers["Cache-Control"] == "no-store"
    assert plain.headers["Content-Type"] == "application/json"
    other = await reply.send(request(), b"x", content_type="text/csv; charset=utf-8", headers={"Cache-Control": "y"})
    assert other.headers["Cache-Control"] == "y"
    assert other.headers["Content-Type"] == "text/csv; charset=utf-8"


async def test_an_answer_over_the_limit_is_refused() -> None:
    assert (await reply.send(request(answer_bytes=3), b"[1]")).status == 200
    with pytest.raises(AnswerTooLarge, match="4 bytes, more than the 3 allowed"):
        await reply.send(request(answer_bytes=3), b"[12]")
    reply.refuse_large(request(answer_bytes=3), 6)
    with pytest.raises(AnswerTooLarge, match="about 7 bytes"):
        reply.refuse_large(request(answer_bytes=3), 7)


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (BadQuery("no", remedy="yes"), 400, {}),
        (BridgeError("inside"), 500, {}),
        (MethodNotAllowed("no", allowed=("GET", "HEAD")), 405, {"Allow": "GET, HEAD"}),
        (NotReady("later"), 503, {"Retry-After": "1"}),
        (UpstreamRefused("busy", far_status=429, retry_after_s=2.6), 502, {"Retry-After": "3"}),
        (UpstreamRefused("busy", far_status=429, retry_after_s=0.2), 502, {"Retry-After": "1"}),
        (UpstreamRefused("busy", far_status=500), 502, {}),
    ],
)
def test_every_error_has_one_shape_and_says_when_to_come_again(
    error: BridgeError, status: int, headers: dict[str, str]
) -> None:
    found = reply.failure(error, "id7")
    assert found.status == status
    assert {key: found.headers.get(key) for key in ("Allow", "Retry-After")} == {
        "Allow": headers.get("Allow"),
        "Retry-After": headers.get("Retry-After"),
    }
    assert found.headers["Cache-Control"] == "no-store"
    assert isinstance(found.body, bytes)
    shown = f"{error.message} ({error.remedy})" if error.remedy else error.message
    assert json.loads(found.body) == {
        "message": shown,
        "error": error.message,
        "code": error.code,
        "request_id": "id7",
        "remedy": error.remedy,
    }
