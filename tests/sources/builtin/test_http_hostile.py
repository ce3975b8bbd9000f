"""Answers that are small on the wire and would be without bounds once they are read."""

import tracemalloc

import pytest

from bridge.errors import AnswerTooLarge, UpstreamInvalid
from bridge.model.query import Query
from bridge.sources.builtin.http.decode import decode
from servers.far import far, text
from servers.rest_rig import rest

Q = Query("far.runs")


def test_a_header_of_very_many_columns_is_read_once() -> None:
    """Compared each with each, these would take minutes."""
    names = [f"c{number}" for number in range(150_000)]
    assert decode(",".join(names).encode(), "text/csv", "auto", what="x").header == tuple(names)


def test_short_rows_below_a_wide_header_take_no_more_than_they_hold() -> None:
    """Filled up, 60 kB of text would be ten million cells."""
    header = ",".join(f"c{number}" for number in range(1_000))
    document = decode((header + "\n" + "1\n" * 10_000).encode(), "text/csv", "auto", what="x")
    assert sum(map(len, document.value)) == 10_000


async def test_a_column_that_all_rows_are_too_short_for_is_empty_and_not_gone() -> None:
    async with (
        far(lambda seen: text("a,b\n1\n2\n", "text/csv")) as there,
        rest(there.url, cols=("a:number", "b:number")) as source,
    ):
        frame = await source.collect(Q)
    assert frame.data.rows() == [(1.0, None), (2.0, None)]


@pytest.mark.parametrize("charset", ["utf-16", "utf-8-sig"])
def test_a_text_that_is_a_mark_of_its_order_only_holds_no_rows(charset: str) -> None:
    document = decode("".encode(charset), f"text/csv; charset={charset}", "auto", what="x")
    assert not document.value


@pytest.mark.parametrize(
    "charset", ["punycode", "PUNYCODE", "idna", "unicode_escape", "raw-unicode-escape", "undefined"]
)
def test_charsets_that_are_no_charsets_are_not_decoded(charset: str) -> None:
    """Some of them take the square of the text's length."""
    with pytest.raises(UpstreamInvalid, match=f"the charset '{charset}' is unknown"):
        decode(b"a,b\n1,2-\n", f"text/csv; charset={charset}", "auto", what="x")


async def test_rows_over_the_limit_are_counted_before_anything_is_made_of_them() -> None:
    """300 kB of text, of which 100,000 rows of thirty columns would be made."""
    body = "[" + ",".join(["{}"] * 100_000) + "]"
    async with (
        far(lambda seen: text(body, "application/json")) as there,
        rest(there.url, cols=[f"c{n}:number" for n in range(30)], limits={"max_rows": 1_000}) as source,
    ):
        tracemalloc.start()
        try:
            with pytest.raises(AnswerTooLarge, match="more than 1000 rows"):
                await source.collect(Q)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak_bytes < 40_000_000
