"""The drill's own far side: it never dies, and knows everything it ever said.

`/series` grows, with rows that come late and values that are corrected, some of them back to what they were; `/lines`
is a log in which equal lines stand at equal times; `/state` has no time.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from aiohttp import web

TICK_S = 0.25
SENSORS = ("a", "b", "c")
SERVICES = ("api", "queue", "store")
LATE_RATIO = 0.1
LATE_S = (0.5, 20.0)
CORRECT_RATIO = 0.4
BACK_RATIO = 0.3
# Rows that are corrected are among the last so many.
CORRECTED_ROWS = 200
Row = tuple[Any, ...]


class Far:
    """What is said now, and what was ever said.

    Shape: `said` has the values of each key of the series, one after the other; `lines` how often each line stands;
           `states` the sets of rows of the state.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._now: dict[Row, float] = {}
        self._late: list[tuple[float, Row, float]] = []
        self._lines: list[Row] = []
        self._state: dict[str, int] = dict.fromkeys(SERVICES, 0)
        self.said: dict[Row, list[float]] = {}
        self.lines: Counter[Row] = Counter()
        self.states: set[frozenset[Row]] = set()
        self.frozen = False
        # The earliest instant of the last question: from here on its answer was all there is.
        self.recent_ms = 0

    async def go_on(self) -> None:
        """Says more and more until it is cancelled; nothing new while it is frozen."""
        while True:
            if not self.frozen:
                self.tick(time.time())
            await asyncio.sleep(TICK_S)

    def tick(self, now_s: float) -> None:
        """One step of the world."""
        dice, now_ms = self._random, int(now_s * 1000)
        for sensor in SENSORS:
            key, value = (now_ms, sensor), round(dice.gauss(20, 5), 3)
            if dice.random() < LATE_RATIO:
                self._late.append((now_s + dice.uniform(*LATE_S), key, value))
            else:
                self._now[key] = value
        due = [item for item in self._late if item[0] <= now_s]
        self._late = [item for item in self._late if item[0] > now_s]
        self._now.update((key, value) for _, key, value in due)
        if dice.random() < CORRECT_RATIO:
            key = dice.choice(list(self._now)[-CORRECTED_ROWS:])
            before = self.said.get(key, [])
            back = len(before) > 1 and dice.random() < BACK_RATIO
            self._now[key] = before[-2] if back else round(dice.gauss(20, 5), 3)
        for _ in range(dice.randrange(4)):
            self._lines.append((now_ms, dice.choice(SERVICES), f"event {dice.randrange(3)}"))
        if self._lines and dice.random() < 0.1:
            # The same words at the same time, later: one more line, not the same one.
            self._lines.append(dice.choice(self._lines[-50:]))
        self._state[dice.choice(SERVICES)] += 1

    def series(self, since_ms: int) -> list[dict[str, Any]]:
        """The rows since then; a value counts as said from here on."""
        rows = [(key, value) for key, value in sorted(self._now.items()) if key[0] >= since_ms]
        for key, value in rows:
            values = self.said.setdefault(key, [])
            if not values or values[-1] != value:
                values.append(value)
        return [{"time": key[0], "sensor": key[1], "value": value} for key, value in rows]

    def log(self, since_ms: int) -> list[dict[str, Any]]:
        """The lines since then, in the order in which they were said."""
        self.recent_ms = max(self.recent_ms, since_ms)
        lines = [line for line in self._lines if line[0] >= since_ms]
        self.lines |= Counter(lines)
        return [{"time": time_ms, "host": host, "text": text} for time_ms, host, text in lines]

    def state(self) -> list[dict[str, Any]]:
        """How things are."""
        self.states.add(frozenset(self._state.items()))
        return [{"service": service, "load": count} for service, count in self._state.items()]

    @property
    def newest(self) -> dict[Row, float]:
        """The series as it is now."""
        return dict(self._now)

    def recent_lines(self) -> Counter[Row]:
        """The lines that the last question got."""
        return Counter(line for line in self._lines if line[0] >= self.recent_ms)


def _answer(items: Iterable[dict[str, Any]]) -> web.Response:
    return web.json_response({"items": list(items)})


def _since_ms(request: web.Request) -> int:
    text = request.query.get("since")
    return int(datetime.fromisoformat(text).timestamp() * 1000) if text else 0


@asynccontextmanager
async def serving(far: Far) -> AsyncIterator[str]:
    """The URL at which it answers while the block runs."""

    async def series(request: web.Request) -> web.Response:
        return _answer(far.series(_since_ms(request)))

    async def lines(request: web.Request) -> web.Response:
        return _answer(far.log(_since_ms(request)))

    async def state(_: web.Request) -> web.Response:
        return _answer(far.state())

    app = web.Application()
    app.add_routes([web.get("/series", series), web.get("/lines", lines), web.get("/state", state)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    going = asyncio.create_task(far.go_on())
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        going.cancel()
        await runner.cleanup()
