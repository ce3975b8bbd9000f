import math
from typing import Any

import pytest

from bridge.errors import UpstreamInvalid
from bridge.sources.builtin.http.decode import decode


def read(body: str | bytes, content_type: str = "application/json", wanted: str = "auto") -> Any:
    payload = body.encode() if isinstance(body, str) else body
    return decode(payload, content_type, wanted, what="GET /runs").value


@pytest.mark.parametrize(
    ("body", "content_type", "wanted", "value"),
    [
        ('[{"a": 1}]', "application/json", "auto", [{"a": 1}]),
        ('{"a": 1}', "application/vnd.api+json; charset=utf-8", "auto", {"a": 1}),
        ('{"a": 1}\n{"a": 2}\n', "application/x-ndjson", "auto", [{"a": 1}, {"a": 2}]),
        ('{"a": 1}\r\n\r\n{"a": 2}', "application/jsonl", "auto", [{"a": 1}, {"a": 2}]),
        ('\x1e{"a": 1}\n\x1e{"a": 2}\n', "application/json-seq", "auto", [{"a": 1}, {"a": 2}]),
        ('{"a": 1}\n{"a": 2}\n', "text/plain", "ndjson", [{"a": 1}, {"a": 2}]),
        ("a,b\n1,x\n", "text/csv", "auto", [{"a": "1", "b": "x"}]),
        ("a,b\n1,x\n", "text/plain", "auto", [{"a": "1", "b": "x"}]),
        ("a\n1\n", "application/json", "csv", [{"a": "1"}]),
        ('  {"a": 1}', "text/plain", "auto", {"a": 1}),
        ("[1]", "", "auto", [1]),
        ("null", "text/plain", "auto", None),
        ("{}", "text/html", "auto", {}),
        ("", "application/json", "auto", None),
        (" \r\n ", "text/csv", "auto", None),
        (" " * 500, "text/csv", "json", None),
        (b"\xef\xbb\xbf[1]", "application/json", "auto", [1]),
        (b"\xef\xbb\xbfa\n1\n", "text/csv", "auto", [{"a": "1"}]),
        ("[123456789012345678901234567890]", "application/json", "auto", [123456789012345678901234567890]),
        ('["\\ud83d\\ude00"]', "application/json", "auto", ["😀"]),
        (b"a\n\xe4\n", "text/csv; charset=ISO-8859-1", "auto", [{"a": "ä"}]),
        ('a,b\n"1,5","x\ny"\n', "text/csv", "auto", [{"a": "1,5", "b": "x\ny"}]),
        ("a,b\n\n1\n,2\n", "text/csv", "auto", [{"a": "1"}, {"a": None, "b": "2"}]),
        (" a , b\n1,2\n", "text/csv", "auto", [{"a": "1", "b": "2"}]),
    ],
)
def test_the_format_is_the_one_named_or_told_or_recognised(
    body: str | bytes, content_type: str, wanted: str, value: Any
) -> None:
    assert read(body, content_type, wanted) == value


def test_nan_and_infinity_of_python_servers_are_numbers() -> None:
    nan, plus, minus = read("[NaN, Infinity, -Infinity]")
    assert math.isnan(nan)
    assert (plus, minus) == (math.inf, -math.inf)


def test_a_csv_without_rows_still_tells_its_columns() -> None:
    assert decode(b"a,b\n", "text/csv", "auto", what="x").header == ("a", "b")


@pytest.mark.parametrize(
    ("body", "content_type", "sentence"),
    [
        (
            "<!DOCTYPE html><html><head><title>\n Sign &amp; in </title></head></html>",
            "text/html",
            "GET /runs answered with an HTML page (title “Sign & in”) instead of data",
        ),
        ("  \n<html>x</html>", "application/json", "GET /runs answered with an HTML page instead of data"),
        ("<?xml version='1.0'?><a/>", "application/xml", "GET /runs answered with markup instead of data"),
        (
            '[{"a": 1}, {"a": ',
            "application/json",
            "GET /runs answered with unreadable JSON: Expecting value at character 17",
        ),
        ("[1] [2]", "application/json", "GET /runs answered with unreadable JSON: Extra data at character 4"),
        (b'["\xff"]', "application/json", "GET /runs answered with unreadable JSON: byte 2 is not utf-8"),
        (
            "[" + "1" * 5_000 + "]",
            "application/json",
            "GET /runs answered with unreadable JSON: Exceeds the limit (4300 digits) for integer string "
            "conversion: value has 5000 digits",
        ),
        ("[" * 100_000, "application/json", "GET /runs answered with JSON that is nested too deeply to be data"),
        (
            "[NaN," + "[" * 100_000,
            "application/json",
            "GET /runs answered with JSON that is nested too deeply to be data",
        ),
        (
            '{"a": 1}\n{"a":',
            "application/x-ndjson",
            "GET /runs answered with unreadable JSON: line 2: Expecting value at character 5",
        ),
        ("a,b,a\n1,2,3\n", "text/csv", "GET /runs answered with unreadable CSV: the header names `a` more than once"),
        (
            "a,b\n1,2\n1,2,3\n",
            "text/csv",
            "GET /runs answered with unreadable CSV: line 3 has 3 cells under a header of 2",
        ),
        ('a,b\n"1,2\n', "text/csv", "GET /runs answered with unreadable CSV: line 2: unexpected end of data"),
        (
            "a\n" + "x" * 200_000,
            "text/csv",
            "GET /runs answered with unreadable CSV: line 2: field larger than field limit (131072)",
        ),
        (b"a\n\xff\n", "text/csv", "GET /runs answered with unreadable CSV: byte 2 is not utf-8"),
        (
            "a\n1",
            "text/csv; charset=klingon",
            "GET /runs answered with unreadable CSV: the charset 'klingon' is unknown",
        ),
        ("a\n1", "text/csv; charset=zlib", "GET /runs answered with unreadable CSV: the charset 'zlib' is unknown"),
    ],
)
def test_an_unreadable_answer_is_a_sentence_that_says_where(
    body: str | bytes, content_type: str, sentence: str
) -> None:
    with pytest.raises(UpstreamInvalid) as error:
        read(body, content_type)
    assert error.value.message == sentence
