"""`bridge serve`: the service, until it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.app import Service
from bridge.cli.logs import set_up
from bridge.cli.output import fail
from bridge.errors import BridgeError
from bridge.web.front import run_until_signalled

CONFIG_OPTION = typer.Option("--config", "-c", help="The settings file.", show_default=False)


def serve(
    config: Annotated[Path, CONFIG_OPTION],
    host: Annotated[str | None, typer.Option(help="Address to listen on, over the settings.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on, over the settings; 0 takes a free one.")
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Serve the sources of a settings file. SIGHUP reloads it without dropping a request."""
    overrides = {key: value for key, value in (("server.host", host), ("server.port", port)) if value is not None}
    run(config, overrides, log_level=log_level)


def run(
    config: Path,
    overrides: dict[str, Any],
    *,
    log_level: str,
    ready: Callable[[str, Service], None] | None = None,
) -> None:
    """Builds the service, listens, and stays until a signal ends it."""
    set_up(log_level)
    try:
        service = Service(config, overrides=overrides)
        _runner()(_main(service, ready or _said))
    except BridgeError as error:
        fail(error)


def _runner() -> Callable[[Any], Any]:
    """uvloop's runner where it is installed: the same loop, less time in it."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run


async def _main(service: Service, ready: Callable[[str, Service], None]) -> None:
    bound = await service.start()
    server = service.loaded.settings.server
    host, port = bound[0]
    scheme = "https" if server.tls.cert_file else "http"
    url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    # Said only after the signal handlers below stand: whoever reads it may send one at once.
    asyncio.get_running_loop().call_soon(ready, url, service)

    async def hup() -> None:
        await service.reload()

    await run_until_signalled(service.front, on_hup=hup)


def _said(url: str, service: Service) -> None:
    count = len(service.loaded.settings.sources)
    typer.echo(f"bridge listens on {url} with {count} source{'s' if count != 1 else ''}", err=True)
