"""A page of metrics is read on the source's own threads."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

from servers.exposition_rig import Q, exposition, page, rows
from servers.far import far


async def test_pages_are_read_while_all_threads_of_other_sources_are_busy() -> None:
    """And so long ones leave those threads to the others."""
    done = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    busy = loop.run_in_executor(None, done.wait)
    try:
        async with far(lambda seen: page("a 1\n")) as there, exposition(there.url) as source:
            frame = await asyncio.wait_for(source.collect(Q), 20)
    finally:
        done.set()
        await busy
    assert rows(frame, "metric", "value") == [("a", 1.0)]


async def test_a_closed_source_leaves_no_thread_behind() -> None:
    async with far(lambda seen: page("a 1\n")) as there, exposition(there.url) as source:
        await source.collect(Q)
        mine = [thread for thread in threading.enumerate() if thread.name.startswith("exposition-node")]
        assert mine
    for thread in mine:
        await asyncio.to_thread(thread.join, 20)
        assert not thread.is_alive()
