"""The real application behind the real front, and Infinity in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from servers.house import House, Start, house


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts bridges with settings of the test's own; all are closed at its end."""
    async with AsyncExitStack() as stack:

        async def one(*args: Any, folder: Path = tmp_path, **named: Any) -> House:
            return await stack.enter_async_context(house(folder, *args, **named))

        yield one


@pytest.fixture
async def bridge(start: Start) -> House:
    """A bridge with a dataset of every kind, from files."""
    return await start()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client as plain as Go's: it unpacks nothing by itself."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session
