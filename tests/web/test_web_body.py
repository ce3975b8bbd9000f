"""Bodies and query strings are read once, within bounds, and what cannot be read is said in a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.errors import BadRequest
from bridge.web.body import MAX_PAIRS, Lenient, Strict, decoded, flattened, loads, validated
from servers.house import House


class Loose(Lenient):
    """A lenient body."""

    name: str = "x"


class Tight(Strict):
    """A strict body."""

    names: list[str]


@pytest.mark.parametrize(
    ("body", "found"),
    [(b"", {}), (b" \r\n\t", {}), (b"{}", {}), (b' [1, "a"] ', [1, "a"]), (b"5", 5), (b"null", None)],
)
def test_json_is_read_and_nothing_counts_as_an_empty_object(body: bytes, found: Any) -> None:
    assert loads(body) == found


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{'a': 1}",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1e400}',
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        b"[" * 5000 + b"]" * 5000,
        b"{} {}",
    ],
)
def test_what_is_no_json_is_refused_with_its_place(body: bytes) -> None:
    with pytest.raises(BadRequest, match=r"not valid JSON.*(line|UTF-8|char)"):
        loads(body)


def test_the_last_of_two_equal_keys_counts() -> None:
    assert loads(b'{"a": 1, "a": 2}') == {"a": 2}


def test_a_lenient_body_ignores_what_it_does_not_know_and_a_strict_one_refuses_it() -> None:
    assert validated({"name": "y", "new": 1}, Loose).name == "y"
    with pytest.raises(BadRequest, match="`new`"):
        validated({"names": [], "new": 1}, Tight)


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"names": "a"}, "`names`"),
        ({"names": ["a", 5]}, "`names.1`"),
        ({}, "`names`"),
        ([], "`the body`"),
        (None, "body"),
    ],
)
def test_a_wrong_type_is_refused_with_its_place(data: Any, place: str) -> None:
    with pytest.raises(BadRequest, match=place) as caught:
        validated(data, Tight)
    assert caught.value.remedy == "see /docs for the expected shape"


def test_a_place_that_is_very_long_is_cut() -> None:
    with pytest.raises(BadRequest) as caught:
        validated({"names": [], "x" * 10_000: 1}, Tight)
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", []),
        ("a=1&a=2&b=", [("a", "1"), ("a", "2"), ("b", "")]),
        ("a=b+c%20d&e", [("a", "b c d"), ("e", "")]),
        ("q=a%26b%3Dc+d%2F%C3%A9", [("q", "a&b=c d/é")]),
        ("a=é", [("a", "é")]),
    ],
)
def test_pairs_are_decoded_in_order(text: str, found: list[tuple[str, str]]) -> None:
    assert decoded(text, 100, "the query string") == found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a=" + "x" * 100, "the query string is longer than 100 bytes"),
        ("a=%ff", "the query string is not UTF-8"),
        ("a=%ed%a0%80", "the query string is not UTF-8"),
    ],
)
def test_a_query_string_that_cannot_be_read_is_refused(text: str, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        decoded(text, 100, "the query string")


def test_too_many_pairs_are_refused() -> None:
    assert len(decoded("&".join(["a=1"] * MAX_PAIRS), 100_000, "the form")) == MAX_PAIRS
    with pytest.raises(BadRequest, match=f"the form has more than {MAX_PAIRS} parameters"):
        decoded("&".join(["a=1"] * (MAX_PAIRS + 1)), 100_000, "the form")


def test_an_object_of_parameters_becomes_pairs() -> None:
    assert flattened({"a": "x", "b": [1, 2.5, None, True], "c": None, "d": 1795347206419, "e": 2.0}) == [
        ("a", "x"),
        ("b", "1"),
        ("b", "2.5"),
        ("b", "true"),
        ("d", "1795347206419"),
        ("e", "2"),
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"a": {"b": 1}}, "`a` must be a value"),
        ({"a": [[1]]}, "`a` must be a value"),
        ({"a": [1] * (MAX_PAIRS + 1)}, f"more than {MAX_PAIRS} parameters"),
        ({str(number): 1 for number in range(MAX_PAIRS + 1)}, f"more than {MAX_PAIRS} parameters"),
    ],
)
def test_an_object_that_is_no_list_of_parameters_is_refused(data: Any, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        flattened(data)


async def test_a_query_string_over_the_limit_says_to_post_it(bridge: House) -> None:
    limit = 65_536 - len("GET /api/v1/datasets/lab.runs?filter= HTTP/1.1") - 2
    reply = await bridge.get("/api/v1/datasets/lab.runs?filter=" + "x" * (limit - 100))
    assert reply.status == 400
    reply = await bridge.get("/api/v1/datasets/lab.runs?filter=" + "x" * 70_000)
    assert reply.status == 431
