"""How the benchmark's own servers run: on a free loopback port, on the loop bridge would take."""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web


def serve(app: web.Application) -> None:
    """Serves until the process is ended; the address is written to standard error."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(_forever(app))
    else:
        uvloop.run(_forever(app))


async def _forever(app: web.Application) -> None:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    print(f"listens on http://{host}:{port}", file=sys.stderr, flush=True)
    await asyncio.Event().wait()
