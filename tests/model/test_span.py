from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import BadQuery
from bridge.model.span import EARLIEST, EPOCH, LATEST, Span, epoch_scale_us, from_us, parse_instant, to_ms

T0 = datetime(2026, 1, 31, 12, tzinfo=UTC)


def instants(first_year: int, last_year: int) -> st.SearchStrategy[datetime]:
    first, last = (datetime(year, 1, 1, tzinfo=UTC) for year in (first_year, last_year))
    span_us = (last - first) // timedelta(microseconds=1)
    return st.integers(0, span_us).map(lambda us: first + timedelta(microseconds=us))


@pytest.mark.parametrize(
    "spelling",
    [
        1769860800,
        1769860800.0,
        1769860800_000,
        1769860800_000_000,
        1769860800_000_000_000,
        "1769860800",
        " 1769860800000 ",
        "1769860800000.0",
        "1.7698608e9",
        "+1769860800",
        "2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00",
        "2026-01-31 12:00",
        " 2026-01-31T12:00:00.000Z ",
        "2026-01-31T13:00:00+01:00",
        "2026-01-31T17:30:00.000000000+05:30",
        "20260131T120000Z",
        T0,
        T0.replace(tzinfo=None),
        T0.astimezone(timezone(timedelta(hours=-8))),
    ],
    ids=str,
)
def test_every_spelling_of_one_instant_is_read_as_the_same_utc_time(spelling: object) -> None:
    instant = parse_instant(spelling)
    assert instant == T0
    assert instant.utcoffset() == timedelta(0)
    assert instant.tzinfo is UTC


@pytest.mark.parametrize(
    ("number", "wanted"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (-1, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (-1769860800_000, datetime(1913, 12, 1, 12, tzinfo=UTC)),
        (1.5, datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)),
        (1769860800_123_456_999, T0 + timedelta(microseconds=123_456)),
        (89_999_999_999_999, datetime(4821, 12, 26, 15, 59, 59, 999_000, tzinfo=UTC)),
    ],
)
def test_the_unit_of_a_number_is_read_from_its_size(number: float, wanted: datetime) -> None:
    assert parse_instant(number) == wanted


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        "",
        "yesterday",
        "now-6h",
        "12:00",
        "2026-13-01",
        "2026-01-31T25:00:00Z",
        "1" * 100,
        "2" * 5_000,
        "x" * 100_000,
        float("nan"),
        float("inf"),
        float("-inf"),
        10**400,
        -(10**400),
        1e29,
        "1e999",
        "0001-01-01T00:00:00Z",
        "9999-12-31T00:00:00Z",
        datetime.max.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
        [1],
        {"a": 1},
        b"2026",
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_time_is_refused_by_a_short_sentence_that_names_the_parameter(value: object) -> None:
    with pytest.raises(BadQuery) as caught:
        parse_instant(value, name="from")
    assert len(caught.value.message) < 200


def test_a_text_too_long_for_a_time_is_refused_before_it_is_read() -> None:
    assert parse_instant("1769860800".zfill(64)) == T0
    with pytest.raises(BadQuery, match="has 65 characters"):
        parse_instant("1769860800".zfill(65))


def test_the_refusal_says_which_parameter_and_what_to_send() -> None:
    with pytest.raises(BadQuery, match=r"`until` is not a time: 'soon'") as caught:
        parse_instant("soon", name="until")
    assert "ISO 8601" in caught.value.remedy


@pytest.mark.parametrize("edge", [EARLIEST, LATEST])
def test_the_first_and_last_storable_instant_are_accepted_in_any_zone(edge: datetime) -> None:
    assert parse_instant(edge.isoformat()) == edge
    for hours in (-12, 14):
        local = edge.replace(tzinfo=timezone(timedelta(hours=hours)))
        assert parse_instant(local.isoformat()) == local


@pytest.mark.parametrize("us", [-62135596800_000_000 - 1, 253402214400_000_000 + 86_400_000_001, 1e40, float("nan")])
def test_microseconds_outside_the_storable_years_are_refused(us: float) -> None:
    with pytest.raises(BadQuery):
        from_us(us)


def test_an_instant_in_the_last_representable_day_is_outside_the_storable_years() -> None:
    with pytest.raises(BadQuery, match="outside the years"):
        from_us(253402300799_000_000)


@pytest.mark.parametrize(
    ("magnitude", "scale_us"),
    [(0, 1e6), (-9e10, 1e6), (1e11, 1e3), (1e14, 1.0), (1e17, 1e-3), (float("inf"), 1e-3), (float("nan"), 1e-3)],
)
def test_every_magnitude_has_a_unit(magnitude: float, scale_us: float) -> None:
    assert epoch_scale_us(magnitude) == scale_us


@pytest.mark.parametrize(
    ("us", "ms"),
    [(0, 0), (999, 0), (1_000, 1), (-1, -1), (-1_000, -1), (-1_001, -2), (1769860800_000_000, 1769860800_000)],
)
def test_milliseconds_are_rounded_down_on_both_sides_of_1970(us: int, ms: int) -> None:
    assert to_ms(from_us(us)) == ms


@given(instants(2, 9998))
def test_iso_8601_is_read_back_exactly(instant: datetime) -> None:
    assert parse_instant(instant.isoformat()) == instant


@given(instants(1974, 5138))
def test_milliseconds_are_read_back_exactly_until_the_year_5138(instant: datetime) -> None:
    ms = to_ms(instant)
    assert to_ms(parse_instant(ms)) == ms
    assert to_ms(parse_instant(str(ms))) == ms


@given(st.one_of(st.text(max_size=80), st.integers(), st.floats(), st.none(), st.booleans()))
def test_anything_at_all_is_either_an_aware_utc_instant_or_a_bad_query(value: object) -> None:
    try:
        instant = parse_instant(value)
    except BadQuery:
        return
    assert instant.tzinfo is UTC


@pytest.mark.parametrize("length_s", [0, -1])
def test_an_empty_or_reversed_span_is_refused(length_s: int) -> None:
    with pytest.raises(BadQuery, match="empty or reversed") as caught:
        Span(T0, T0 + timedelta(seconds=length_s))
    assert caught.value.remedy


def test_a_span_contains_itself_and_what_lies_inside_only() -> None:
    span = Span(T0, T0 + timedelta(seconds=90))
    inner = Span(T0, T0 + timedelta(seconds=1))
    assert span.seconds == 90.0
    assert span.contains(span)
    assert span.contains(inner)
    assert not inner.contains(span)
    assert not span.contains(Span(T0 - timedelta(seconds=1), T0 + timedelta(seconds=1)))


@pytest.mark.parametrize("step_s", [0.1, 5, 60, 3600])
@pytest.mark.parametrize("start_s", [-7.3, 0, 1_795_345_200.05])
def test_a_widened_span_holds_the_span_and_ends_at_whole_steps(step_s: float, start_s: float) -> None:
    span = Span(EPOCH + timedelta(seconds=start_s), EPOCH + timedelta(seconds=start_s + 12.34))
    wide = span.widened(step_s)
    assert wide.contains(span)
    assert wide.widened(step_s) == wide
    assert wide.seconds < span.seconds + 2 * step_s
    assert span.widened(0) is span


def test_a_span_at_the_ends_of_the_calendar_is_widened_as_far_as_it_goes() -> None:
    span = Span(EARLIEST, LATEST)
    assert span.widened(1e13).contains(span)
