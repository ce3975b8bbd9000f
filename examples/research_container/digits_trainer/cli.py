"""The command line: bind, say where, train until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from urllib.parse import urlsplit

from aiohttp import web

from digits_trainer.api import Api
from digits_trainer.grid import GRIDS, points
from digits_trainer.metrics import Metrics
from digits_trainer.store import Store
from digits_trainer.tracking import Tracker
from digits_trainer.trainer import train_on
from digits_trainer.versions import VERSIONS

PARENT_CHECK_S = 0.5


def main(argv: Sequence[str] | None = None) -> int:
    """Run the container; the number is the process's exit status."""
    args = parser().parse_args(argv)
    if find_spec("sklearn") is None:
        print("scikit-learn is not installed: pip install scikit-learn", file=sys.stderr)
        return 2
    return asyncio.run(_serve(args))


def parser() -> argparse.ArgumentParser:
    """The options; `--help` shows them."""
    options = argparse.ArgumentParser(
        prog="research_container",
        description="Train small models on the digits data and serve runs, curves and confusion counts.",
    )
    options.add_argument("--host", default="127.0.0.1", help="address to bind (default: %(default)s)")
    options.add_argument(
        "--port", type=_whole(0, 65535), default=8010, help="0 takes a free one (default: %(default)s)"
    )
    options.add_argument(
        "--grid", choices=sorted(GRIDS), default="full", help="how many models (default: %(default)s)"
    )
    options.add_argument(
        "--pause-s", type=_pause_s, default=2.0, help="pause between repeated runs (default: %(default)s)"
    )
    options.add_argument(
        "--api", choices=sorted(VERSIONS), default="1.0", help="version of the HTTP API (default: %(default)s)"
    )
    options.add_argument("--mlflow", type=_url, default=None, metavar="URL", help="log ended runs to this MLflow too")
    options.add_argument(
        "--max-runs", type=_whole(1, 100_000), default=500, help="runs remembered (default: %(default)s)"
    )
    options.add_argument(
        "--stop-after",
        type=_whole(1, 10**9),
        default=None,
        help="stop training after so many runs, but go on serving",
    )
    options.add_argument("--parent-pid", type=_whole(1, 2**31), default=None, help="exit when this process is gone")
    options.add_argument("--exit-on-stdin-close", action="store_true", help="exit when standard input ends")
    return options


async def _serve(args: argparse.Namespace) -> int:
    tracker = Tracker(args.mlflow) if args.mlflow else None
    store, metrics = Store(args.max_runs, tracker.ended if tracker else None), Metrics()
    api = Api(store, metrics, points(args.grid), VERSIONS[args.api])
    runner = web.AppRunner(api.app(), access_log=None)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, args.host, args.port).start()
        except OSError as error:
            print(f"cannot listen on {args.host} port {args.port}: {error}", file=sys.stderr)
            return 2
        host = f"[{args.host}]" if ":" in args.host else args.host
        print(f"listening on http://{host}:{runner.addresses[0][1]}", flush=True)
        training = train_on(args.grid, store, metrics, pause_s=args.pause_s, stop_after=args.stop_after)
        await _until_stopped(asyncio.create_task(training), args)
    finally:
        await runner.cleanup()
    return 0


async def _until_stopped(training: asyncio.Task[None], args: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):
            loop.add_signal_handler(name, stop.set)
    if args.exit_on_stdin_close:
        threading.Thread(target=_wait_for_stdin_end, args=(loop, stop), daemon=True).start()
    watch = asyncio.create_task(_watch_parent(args.parent_pid, stop)) if args.parent_pid else None
    # Serving goes on after the last run, so the end of the training is no reason to stop, unless it broke.
    training.add_done_callback(lambda task: stop.set() if not task.cancelled() and task.exception() else None)
    try:
        await stop.wait()
    finally:
        if watch:
            watch.cancel()
        if training.done():
            training.result()
        training.cancel()
        with suppress(asyncio.CancelledError):
            await training


async def _watch_parent(parent_pid: int, stop: asyncio.Event) -> None:
    # A dead parent that nobody has waited for still has its number, but its children have another parent by then.
    is_child = os.getppid() == parent_pid
    while os.getppid() == parent_pid if is_child else _alive(parent_pid):  # noqa: ASYNC110 - no event tells it
        await asyncio.sleep(PARENT_CHECK_S)
    stop.set()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _wait_for_stdin_end(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    with suppress(RuntimeError):  # the loop may be closed already
        loop.call_soon_threadsafe(stop.set)


def _whole(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not between {low} and {high}")
        return value

    return number


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no address such as http://127.0.0.1:5000")
    return text


def _pause_s(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{value} is not between 0 and 3600 seconds")
    return value
