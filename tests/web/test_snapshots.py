"""Pages of one answer stay what they were when the first was given."""

from __future__ import annotations

import polars as pl
import pytest

from bridge.edge.cache import Cache
from bridge.errors import AnswerTooLarge, BadQuery, CursorExpired
from bridge.model.frame import Frame
from bridge.model.schema import Column, ColumnType, Schema
from bridge.web.snapshots import KEPT_S, first_page, next_page
from servers.house import Clock


def frame(rows: int, name: str = "a.b") -> Frame:
    data = pl.DataFrame({"n": range(rows)}, schema={"n": pl.Int64})
    return Frame(data, Schema((Column("n", ColumnType.NUMBER),)), name=name)


def numbers(page: Frame) -> list[int]:
    return page.data["n"].to_list()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> Cache:
    return Cache.in_memory(max_bytes=100_000, size_of=lambda frame: frame.data.estimated_size(), clock=clock)


@pytest.mark.parametrize(("rows", "limit"), [(0, 1), (1, 1), (7, 7), (7, 100)])
async def test_what_fits_is_one_page_and_nothing_is_kept(cache: Cache, rows: int, limit: int) -> None:
    page, cursor = await first_page(cache, frame(rows), limit)
    assert (numbers(page), cursor) == (list(range(rows)), "")
    assert cache.stats.entries == 0


@pytest.mark.parametrize("limits", [[3] * 4, [4, 4, 4], [1] * 10, [9, 1], [2, 5, 3], [5, 5]])
async def test_pages_of_any_size_hold_every_row_once(cache: Cache, limits: list[int]) -> None:
    page, cursor = await first_page(cache, frame(10), limits[0])
    found = numbers(page)
    for limit in limits[1:]:
        assert cursor
        page, cursor = await next_page(cache, "a.b", cursor, limit)
        found += numbers(page)
    assert cursor == ""
    assert found == list(range(10))


async def test_a_page_can_be_asked_for_again(cache: Cache) -> None:
    _, cursor = await first_page(cache, frame(10), 4)
    first = await next_page(cache, "a.b", cursor, 4)
    again = await next_page(cache, "a.b", cursor, 4)
    assert numbers(first[0]) == numbers(again[0]) == [4, 5, 6, 7]
    assert first[1] == again[1]


async def test_two_answers_have_cursors_of_their_own(cache: Cache) -> None:
    cursors = {(await first_page(cache, frame(10), 4))[1] for _ in range(5)}
    assert len(cursors) == 5


async def test_pages_are_kept_for_a_while_after_the_first(cache: Cache, clock: Clock) -> None:
    _, cursor = await first_page(cache, frame(10), 4)
    clock.passed_s = KEPT_S - 1
    await next_page(cache, "a.b", cursor, 4)
    clock.passed_s = KEPT_S
    with pytest.raises(CursorExpired, match="kept for 120 s"):
        await next_page(cache, "a.b", cursor, 4)


async def test_a_cursor_of_another_dataset_is_refused(cache: Cache) -> None:
    _, cursor = await first_page(cache, frame(10), 4)
    with pytest.raises(BadQuery, match="none that bridge gave for this dataset"):
        await next_page(cache, "a.c", cursor, 4)


async def test_rows_that_do_not_fit_the_cache_are_refused_at_the_first_page(cache: Cache) -> None:
    with pytest.raises(AnswerTooLarge, match="10000 rows") as caught:
        await first_page(cache, frame(10_000), 4)
    assert "limits.cache_bytes" in caught.value.remedy
