"""Runs a command and ends it, with all it started, when standard input closes: it cannot outlive who started it.

Run as a file, not imported, so that it loads nothing of bridge.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress

PATIENCE_S = 5.0


def main(command: list[str]) -> int:
    """The command's exit status; its group is ended in order, and after `PATIENCE_S` at once."""
    # A group of its own: Ctrl-C in a terminal reaches bridge, which ends the command when it is done itself.
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: _end(child.pid, signal.SIGTERM))
    threading.Thread(target=_end_with_stdin, args=(child,), daemon=True).start()
    status = child.wait()
    # What the command left behind goes with it.
    _end(child.pid, signal.SIGKILL)
    return status if status >= 0 else 128 - status


def _end_with_stdin(child: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    _end(child.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        child.wait(PATIENCE_S)
        return
    _end(child.pid, signal.SIGKILL)


def _end(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
