"""Memory: what each more source costs a service that has answered for all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cases import Sizes
from page import Goal, Row
from processes import BRIDGE, Client, Server, new_session, panel, running, write_many_sources

# What no straight line explains, of what was added between the fewest sources and the most.
MOST_BESIDE_RATIO = 0.15


async def memory(folder: Path, container: Server, sizes: Sizes) -> list[Row]:
    """RSS of a service with so many `rest` sources, after all were asked: one after the other, and in one panel."""
    rows = sizes.table_rows // 10
    what = f"Memory (RSS) with {', '.join(map(str, sizes.sources))} `rest` sources of {rows:,} rows"
    apart = [await _held_mb(folder, container, count, rows, together=False) for count in sizes.sources]
    at_once = [await _held_mb(folder, container, count, rows, together=True) for count in sizes.sources]
    fit, share = _line(sizes.sources, apart)
    goal = Goal(
        "memory linear in sources",
        f"at most {MOST_BESIDE_RATIO:.0%} of the growth beside a straight line",
        f"{fit}, {share:.0%} of the growth",
        share <= MOST_BESIDE_RATIO,
    )
    peaks = "what many answers need while they are read at the same time stays with the allocator"
    return [
        Row(f"{what}, asked one after the other", _listed(apart), "–", "–", f"{fit} (once each)", goal),
        Row(
            f"{what}, all asked in one panel",
            _listed(at_once),
            "–",
            "–",
            f"{_line(sizes.sources, at_once)[0]}; {peaks} (once each)",
        ),
    ]


def _line(counts: tuple[int, ...], found_mb: list[float]) -> tuple[str, float]:
    """The straight line through the figures, and what lies beside it as a share of the growth."""
    slope_mb, base_mb = np.polyfit(counts, found_mb, 1)
    beside_mb = max(abs(base_mb + slope_mb * count - mb) for count, mb in zip(counts, found_mb, strict=True))
    told = f"{base_mb:.0f} MB and {slope_mb:.2f} MB a source, {beside_mb:.1f} MB at most beside the line"
    # Below one megabyte a page more or less would decide.
    return told, float(beside_mb / max(found_mb[-1] - found_mb[0], 1.0))


def _listed(found_mb: list[float]) -> str:
    return ", ".join(f"{mb:.0f}" for mb in found_mb) + " MB"


async def _held_mb(folder: Path, container: Server, count: int, rows: int, *, together: bool) -> float:
    settings = write_many_sources(folder, container.url, count, rows)
    names = [f"many{number:02}.rows" for number in range(count)]
    with running(folder, *BRIDGE, str(settings)) as bridge:
        async with new_session() as session:
            for asked in [names] if together else [[name] for name in names]:
                body = panel(*asked, points=60 * rows, rows=1000)
                await Client(session).post(f"{bridge.url}/json/query", body)
        return bridge.rss_bytes() / 1e6
