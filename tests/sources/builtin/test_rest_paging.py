import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from bridge.errors import AddressRefused, AnswerTooLarge, UpstreamInvalid, UpstreamTooLarge
from bridge.model.frame import Notice
from bridge.model.query import Query
from bridge.sources.builtin.rest.options import RestDataset
from servers.far import Seen, far, js, text
from servers.rest_rig import rest

ROWS = [{"name": f"r{index}", "value": index} for index in range(7)]
ALL = [row["name"] for row in ROWS]
Q = Query("far.runs")


def by_page(seen: Seen) -> web.Response:
    asked = dict(seen.params)
    number, size = int(asked["page"]), int(asked["per"])
    return js({"items": ROWS[(number - 1) * size : number * size], "count": len(ROWS)})


def by_offset(seen: Seen) -> web.Response:
    asked = dict(seen.params)
    start, size = int(asked["offset"]), int(asked["limit"])
    return js({"items": ROWS[start : start + size], "count": str(len(ROWS))})


def by_cursor(seen: Seen) -> web.Response:
    start = int(dict(seen.params).get("cursor", "0"))
    return js({"items": ROWS[start : start + 3], "next": start + 3 if start + 3 < len(ROWS) else None})


def by_link(seen: Seen) -> web.Response:
    start = int(dict(seen.params).get("from", "0"))
    more = start + 3 < len(ROWS)
    link = f'<{seen.path}?from={max(0, start - 3)}>; rel="prev"'
    link += f', <{seen.path}?from={start + 3}&x=a%2Fb>; rel="next"' if more else ""
    return js({"items": ROWS[start : start + 3]}, Link=link)


def by_body_link(seen: Seen) -> web.Response:
    start = int(dict(seen.params).get("from", "0"))
    more = start + 3 < len(ROWS)
    return js({"items": ROWS[start : start + 3], "next": f"?from={start + 3}" if more else ""})


@pytest.mark.parametrize(
    ("serve", "paging", "pages"),
    [
        (by_page, {"kind": "page", "size": 3, "size_param": "per"}, 3),
        (by_page, {"kind": "page", "size": 7, "size_param": "per"}, 2),
        (by_page, {"kind": "page", "size": 7, "size_param": "per", "total": "count"}, 1),
        (by_offset, {"kind": "offset", "size": 3, "size_param": "limit"}, 3),
        (by_offset, {"kind": "offset", "size": 3, "size_param": "limit", "total": "count"}, 3),
        (by_cursor, {"kind": "cursor", "next": "next"}, 3),
        (by_link, {"kind": "link"}, 3),
        (by_body_link, {"kind": "link", "next": "next"}, 3),
    ],
)
async def test_every_way_of_paging_gives_all_rows_in_order(
    serve: Callable[[Seen], web.Response], paging: dict[str, Any], pages: int
) -> None:
    async with far(serve) as there, rest(there.url, {"rows": "items", "paging": paging}) as source:
        frame = await source.collect(Q)
    assert frame.data["name"].to_list() == ALL
    assert len(there.seen) == pages
    assert frame.meta.notices == ()


async def test_pages_are_numbered_from_start_under_the_name_the_far_side_knows() -> None:
    def serve(seen: Seen) -> web.Response:
        return js(ROWS[int(dict(seen.params)["p"]) :][:1] if dict(seen.params)["p"] < "2" else [])

    paging = {"kind": "page", "param": "p", "start": 0}
    dataset = {"params": {"p": "9", "fixed": "1"}, "paging": paging}
    async with far(serve) as there, rest(there.url, dataset) as source:
        frame = await source.collect(Q)
    assert there.asked("p") == ["0", "1", "2"]
    assert there.asked("fixed") == ["1", "1", "1"]
    assert frame.rows == 2
    assert frame.meta.executed == "GET /runs?fixed=1&p=0"


async def test_a_server_that_caps_the_page_size_loses_no_rows_when_the_total_is_known() -> None:
    def serve(seen: Seen) -> web.Response:
        start = int(dict(seen.params)["offset"])
        return js({"items": ROWS[start : start + 2], "count": len(ROWS)})

    paging = {"kind": "offset", "size": 5, "size_param": "limit", "total": "count"}
    async with far(serve) as there, rest(there.url, {"rows": "items", "paging": paging}) as source:
        assert (await source.collect(Q)).data["name"].to_list() == ALL
    assert there.asked("offset") == ["0", "2", "4", "6"]


async def test_an_unusable_total_is_no_total() -> None:
    def serve(seen: Seen) -> web.Response:
        start = int(dict(seen.params)["offset"])
        return js({"items": ROWS[start : start + 4], "count": True})

    paging = {"kind": "offset", "size": 4, "total": "count"}
    async with far(serve) as there, rest(there.url, {"rows": "items", "paging": paging}) as source:
        assert (await source.collect(Q)).rows == 7
    assert there.asked("offset") == ["0", "4"]


async def test_an_empty_page_with_a_cursor_is_not_the_end() -> None:
    def serve(seen: Seen) -> web.Response:
        cursor = dict(seen.params).get("cursor")
        return js({"items": [] if cursor is None else ROWS[:1], "next": {None: "a", "a": 2.5, "2.5": False}[cursor]})

    paging = {"kind": "cursor", "next": "next"}
    async with far(serve) as there, rest(there.url, {"rows": "items", "paging": paging}) as source:
        assert (await source.collect(Q)).rows == 2
    assert there.asked("cursor") == ["a", "2.5"]


async def test_a_post_carries_the_page_in_its_body() -> None:
    def serve(seen: Seen) -> web.Response:
        start = seen.json.get("after", 0)
        return js({"items": ROWS[start : start + 4], "next": start + 4 if start + 4 < len(ROWS) else None})

    paging = {"kind": "cursor", "param": "after", "next": "next", "size": 4, "size_param": "take"}
    dataset = {"method": "POST", "body": {"q": "x"}, "rows": "items", "params": {"a": "1"}, "paging": paging}
    async with far(serve) as there, rest(there.url, dataset) as source:
        assert (await source.collect(Q)).rows == 7
    assert [seen.json for seen in there.seen] == [{"q": "x", "take": 4}, {"q": "x", "take": 4, "after": 4}]
    assert [seen.params for seen in there.seen] == [[("a", "1")]] * 2
    assert there.last.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("answer", "paging", "sentence"),
    [
        (
            lambda seen: js({"items": ROWS, "next": "same"}),
            {"kind": "cursor", "next": "next"},
            "far.runs: the cursor repeats after 1 pages; the far API leads in a circle",
        ),
        (
            lambda seen: js({"items": ROWS, "next": {"a": 1}}),
            {"kind": "cursor", "next": "next"},
            "far.runs: the cursor at `next` is a dict, not a text",
        ),
        (
            lambda seen: js({"items": ROWS, "next": True}),
            {"kind": "cursor", "next": "next"},
            "far.runs: the cursor at `next` is a bool, not a text",
        ),
        (
            lambda seen: js({"items": ROWS}),
            {"kind": "page", "param": "p"},
            "far.runs: two pages are the same; the far API ignores `p`",
        ),
        (
            lambda seen: js({"items": ROWS}),
            {"kind": "offset", "size": 7},
            "far.runs: two pages are the same; the far API ignores `offset`",
        ),
        (
            lambda seen: js({"items": ROWS}, Link="</runs>; rel=next"),
            {"kind": "link"},
            "far.runs: the next link repeats after 1 pages; the far API leads in a circle",
        ),
        (
            lambda seen: js({"items": ROWS, "next": 3}),
            {"kind": "link", "next": "next"},
            "far.runs: the next link is a int, not a text",
        ),
        (
            lambda seen: js({"items": ROWS, "next": "http://[x"}),
            {"kind": "link", "next": "next"},
            "far.runs: the next link is no URL: Invalid IPv6 URL",
        ),
    ],
)
async def test_a_far_side_that_leads_in_a_circle_is_stopped(
    answer: Callable[[Seen], web.Response], paging: dict[str, Any], sentence: str
) -> None:
    async with far(answer) as there, rest(there.url, {"rows": "items", "paging": paging}) as source:
        with pytest.raises(UpstreamInvalid) as error:
            await source.collect(Q)
    assert error.value.message == sentence
    assert len(there.seen) <= 2


async def test_a_link_to_another_host_is_not_followed() -> None:
    async with far(lambda seen: js(ROWS)) as other:

        def serve(seen: Seen) -> web.Response:
            return js(ROWS, Link=f"<{other.url}/runs>; rel=next")

        auth = {"kind": "bearer", "token": "hidden"}
        async with far(serve) as there, rest(there.url, {"paging": {"kind": "link"}}, auth=auth) as source:
            with pytest.raises(AddressRefused, match="the link to the next page leads to"):
                await source.collect(Q)
        assert other.seen == []


async def test_pages_end_at_the_configured_number_and_the_panel_says_so() -> None:
    def serve(seen: Seen) -> web.Response:
        start = int(dict(seen.params).get("cursor", "0"))
        return js({"items": [{"name": "x", "value": start}], "next": str(start + 1)})

    paging = {"kind": "cursor", "next": "next", "max_pages": 3}
    async with far(serve) as there, rest(there.url, {"rows": "items", "paging": paging}) as source:
        frame = await source.collect(Q)
    assert frame.data["value"].to_list() == [0, 1, 2]
    assert frame.meta.notices == (
        Notice("warning", "only the first 3 pages were fetched (`paging.max_pages`); there are more"),
    )
    assert len(there.seen) == 3


async def test_the_last_allowed_page_says_nothing_when_it_was_the_last() -> None:
    paging = {"kind": "cursor", "next": "next", "max_pages": 3}
    async with far(by_cursor) as there, rest(there.url, {"rows": "items", "paging": paging}) as source:
        frame = await source.collect(Q)
    assert frame.rows == 7
    assert frame.meta.notices == ()


async def test_more_rows_than_the_limit_are_refused_over_all_pages() -> None:
    paging = {"kind": "cursor", "next": "next"}
    dataset = {"rows": "items", "paging": paging}
    async with far(by_cursor) as there, rest(there.url, dataset, limits={"max_rows": 5}) as source:
        with pytest.raises(AnswerTooLarge) as error:
            await source.collect(Q)
    assert error.value.message == "far.runs has more than 5 rows for this question"
    assert len(there.seen) == 2


async def test_the_bytes_of_all_pages_have_one_bound() -> None:
    pages = [json.dumps(ROWS[:3]), json.dumps(ROWS[3:6])]

    def serve(seen: Seen) -> web.Response:
        return text(pages[int(dict(seen.params)["page"]) - 1])

    async def rows(max_bytes: int) -> int:
        dataset = {"paging": {"kind": "page", "max_pages": 2}}
        async with far(serve) as there, rest(there.url, dataset, max_bytes=max_bytes) as source:
            return (await source.collect(Q)).rows

    both = sum(map(len, pages))
    assert await rows(both) == 6
    with pytest.raises(UpstreamTooLarge, match=f"far.runs: all pages together are over {both - 1} bytes"):
        await rows(both - 1)
    with pytest.raises(UpstreamTooLarge, match="the answer is over 10 bytes"):
        await rows(10)


@pytest.mark.parametrize(
    ("paging", "part"),
    [
        ({"kind": "offset"}, "paging by offset needs `size`"),
        ({"kind": "cursor"}, "paging by cursor needs `next`"),
        ({"kind": "page", "size_param": "n"}, "`size_param` needs `size`"),
        ({"kind": "cursor", "next": "a["}, "'a[' is no JMESPath expression"),
        ({"kind": "pages"}, "Input should be 'none', 'page', 'offset', 'cursor' or 'link'"),
        ({"kind": "page", "max_pages": 0}, "greater than 0"),
    ],
)
def test_paging_that_cannot_work_is_refused_in_the_settings(paging: dict[str, Any], part: str) -> None:
    with pytest.raises(ValidationError) as error:
        RestDataset.model_validate({"path": "/runs", "paging": paging})
    assert part in str(error.value)
    assert "paging" in str(error.value)
