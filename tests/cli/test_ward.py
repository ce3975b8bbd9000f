"""What the demo starts beside bridge cannot outlive it."""

from __future__ import annotations

import signal
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


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT], ids=lambda number: number.name)
def test_what_a_closed_terminal_or_its_keys_send_does_not_part_it_from_its_command(number: signal.Signals) -> None:
    """All processes of the terminal get it: dead of it, the ward would leave its command to itself."""
    with ward("", "time.sleep(600)") as process:
        pids = told(process)
        process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        assert process.stdin
        process.stdin.close()
        wait_until(lambda: all(map(gone, pids)))
        assert process.wait(timeout=20) == 128 + 15


def test_a_command_hears_the_signals_that_its_ward_does_not() -> None:
    """What the ward does with them is not passed on to it."""
    heard = "print([signal.getsignal(n) == signal.SIG_DFL for n in (signal.SIGHUP, signal.SIGQUIT)], flush=True)"
    with ward(heard, "time.sleep(600)") as process:
        assert process.stdout
        assert process.stdout.readline() == "[True, True]\n"
        assert process.stdin
        process.stdin.close()
        assert process.wait(timeout=20) == 128 + 15


def test_the_folder_of_a_command_goes_when_who_started_it_is_gone(tmp_path: Path) -> None:
    """Killed, it cannot remove the folder itself."""
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "file").write_text("x")
    command = [
        sys.executable,
        "-P",
        str(WARD),
        "--folder",
        str(folder),
        sys.executable,
        "-c",
        "import time; time.sleep(600)",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=folder) as process:
        assert process.stdin
        process.stdin.close()
        assert process.wait(timeout=20) != 0
    assert not folder.exists()


def test_the_folder_stays_for_who_started_the_command_when_the_command_ends_first(tmp_path: Path) -> None:
    """Its last words may stand there."""
    command = [
        sys.executable,
        "-P",
        str(WARD),
        "--folder",
        str(tmp_path),
        sys.executable,
        "-c",
        "raise SystemExit(3)",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.wait(timeout=20) == 3
        assert tmp_path.exists()
