"""What the demo starts beside bridge cannot outlive it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from servers.research import gone, wait_until

pytestmark = pytest.mark.slow

WARD = Path(__file__).parents[2] / "src" / "bridge" / "cli" / "ward.py"
# Starts a child, tells both numbers, and goes on; `{}` may make both of them deaf to being asked to end.
COMMAND = """
import os, signal, subprocess, sys, time
{}
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), child.pid, flush=True)
{}
"""


def ward(*lines: str) -> subprocess.Popen[str]:
    """A command under ward."""
    command = [sys.executable, "-P", str(WARD), sys.executable, "-c", COMMAND.format(*lines)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def told(process: subprocess.Popen[str]) -> list[int]:
    """The numbers of the command and of its child."""
    assert process.stdout
    return [int(word) for word in process.stdout.readline().split()]


@pytest.mark.parametrize("deaf", ["", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"])
def test_it_ends_with_all_it_started_when_standard_input_closes(deaf: str) -> None:
    """In order, and where it does not listen, by force."""
    with ward(deaf, "time.sleep(600)") as process:
        pids = told(process)
        assert process.stdin
        process.stdin.close()
        wait_until(lambda: all(map(gone, pids)))
        assert process.wait(timeout=20) == (128 + 9 if deaf else 128 + 15)


def test_it_ends_when_it_is_told_to() -> None:
    """A terminated ward terminates what it watches."""
    with ward("", "time.sleep(600)") as process:
        pids = told(process)
        process.terminate()
        wait_until(lambda: all(map(gone, pids)))
        assert process.wait(timeout=20) == 128 + 15


def test_what_a_command_leaves_behind_goes_with_it_and_its_status_is_passed_on() -> None:
    """Although its own end came first."""
    with ward("", "sys.exit(3)") as process:
        pids = told(process)
        assert process.wait(timeout=20) == 3
        wait_until(lambda: all(map(gone, pids)))
