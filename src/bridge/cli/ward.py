"""Runs a command and ends it, with all it started, when standard input closes: it cannot outlive who started it.

Run as a file, not imported, so that it loads nothing of bridge.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress

PATIENCE_S = 5.0
# A closed terminal and its keys reach bridge as well, whose end closes standard input; dead of them, the ward would
# leave its command to itself.
OF_TERMINAL = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def main(words: list[str]) -> int:
    """The command's exit status; its group is ended in order, and after `PATIENCE_S` at once.

    Shape: `[--folder FOLDER] COMMAND…`; the folder is removed when standard input has closed, since who started the
           ward may have been killed.
    """
    folder, command = (words[1], words[2:]) if words[:1] == ["--folder"] else (None, words)
    closed = threading.Event()
    for number in OF_TERMINAL:
        # Not SIG_IGN, which the command would inherit.
        signal.signal(number, lambda number, frame: None)
    # A group of its own: Ctrl-C in a terminal reaches bridge, which ends the command when it is done itself.
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
    signal.signal(signal.SIGTERM, lambda number, frame: _end(child.pid, signal.SIGTERM))
    threading.Thread(target=_end_with_stdin, args=(child, closed), daemon=True).start()
    status = child.wait()
    # What the command left behind goes with it.
    _end(child.pid, signal.SIGKILL)
    if folder is not None and closed.is_set():
        shutil.rmtree(folder, ignore_errors=True)
    return status if status >= 0 else 128 - status


def _end_with_stdin(child: subprocess.Popen[bytes], closed: threading.Event) -> None:
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    closed.set()
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
