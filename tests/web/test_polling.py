"""Forty containers on one worker: what some of them do is nothing to the others."""

from __future__ import annotations

import asyncio
from collections import Counter

from aiohttp import web

from bridge.app import World
from servers.far import Seen, far
from servers.house import HANG_S, Start

SOURCES = 40
HUNG, FAILING, DRIPPING = range(5), range(5, 10), range(10, 15)


def settings(url: str) -> str:
    """Forty sources, polled every second."""
    sources = [
        f"""
  - name: s{number}
    kind: rest
    options: {{url: "{url}"}}
    datasets:
      - name: runs
        options: {{path: /s{number}}}
        poll: {{every_s: 1}}
        refresh_s: 1
        retries: 0
        columns: [{{name: time, type: time, role: time}}, {{name: value, type: number, role: measure}}]"""
        for number in range(SOURCES)
    ]
    return "sources:" + "".join(sources)


async def test_polled_sources_keep_their_beats_while_others_hang_fail_and_drip(start: Start) -> None:
    asked: Counter[int] = Counter()
    end, beats = asyncio.Event(), asyncio.Event()
    well = [number for number in range(SOURCES) if number >= 15]

    async def container(seen: Seen) -> web.StreamResponse:
        number = int(seen.path.removeprefix("/s"))
        asked[number] += 1
        if all(asked[each] >= 4 for each in well):
            beats.set()
        if number in HUNG:
            await end.wait()
        if number in FAILING:
            return web.Response(status=500, text="broken")
        if number in DRIPPING:
            return web.Response(text="[" + " " * 100_000 + "not json")
        return web.json_response([{"time": 1_767_225_600_000 + number, "value": number}])

    async with far(container) as server:
        bridge = await start(settings(server.url), files={}, world=World())
        try:
            async with asyncio.timeout(HANG_S):
                await beats.wait()
            assert {asked[number] for number in HUNG} == {1}
            # Ever more rarely: four beats of the others are two or three of theirs.
            assert max(asked[number] for number in (*FAILING, *DRIPPING)) < max(asked[number] for number in well)
            # And whoever asks for a good one is answered at once, from what was fetched.
            before = sum(asked.values())
            reply = await bridge.get("/api/v1/datasets/s20.runs", {"format": "rows"})
            assert (reply.json, reply.status) == ([{"time": 1_767_225_600_020, "value": 20.0}], 200)
            assert sum(asked.values()) - before < SOURCES
        finally:
            end.set()
