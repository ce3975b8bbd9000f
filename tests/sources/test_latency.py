"""The quantiles of a dataset's fetches are durations that were measured, of the last fetches only."""

from __future__ import annotations

import math

import pytest

from bridge.sources.latency import MAX_FETCHES, Latency

QUANTILES = (0.5, 0.95, 0.99)


def latency(*seconds: float, **options: int) -> Latency:
    """A latency after these fetches."""
    found = Latency(**options)
    for one in seconds:
        found.add(one)
    return found


def test_before_the_first_fetch_nothing_is_known() -> None:
    assert latency().last_s is None
    assert latency().quantiles_s(QUANTILES) == (None, None, None)


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        ([0.3], (0.3, 0.3, 0.3)),
        ([2.0, 1.0], (1.0, 2.0, 2.0)),
        ([float(one) for one in range(1, 21)], (10.0, 19.0, 20.0)),
        ([float(one) for one in range(100, 0, -1)], (50.0, 95.0, 99.0)),
    ],
)
def test_a_quantile_is_the_nearest_rank(seconds: list[float], wanted: tuple[float, ...]) -> None:
    found = latency(*seconds)
    assert found.quantiles_s(QUANTILES) == wanted
    assert found.last_s == seconds[-1]


@pytest.mark.parametrize("count", [1, 2, 7, 20, 40, 100, 255, 256])
def test_so_many_fetches_did_not_take_longer(count: int) -> None:
    """At least the share of fetches that the ratio names lies at or below the quantile, and no smaller one does."""
    seconds = [(index * 37 % 257) / 257 for index in range(count)]
    found = latency(*seconds)
    for ratio, quantile in zip(QUANTILES, found.quantiles_s(QUANTILES), strict=True):
        assert quantile is not None
        needed = math.ceil(ratio * count - 1e-6)
        assert sum(one <= quantile for one in seconds) >= needed
        assert sum(one < quantile for one in seconds) < needed


def test_only_the_last_fetches_count() -> None:
    """A dataset that was slow once is not called slow for ever, and memory stays bounded."""
    found = latency(*[9.0] * MAX_FETCHES, *[0.1] * MAX_FETCHES)
    assert found.quantiles_s((0.0, 1.0)) == (0.1, 0.1)
    assert latency(1.0, 2.0, 3.0, max_fetches=2).quantiles_s((0.0, 1.0)) == (2.0, 3.0)
