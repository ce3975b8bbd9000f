"""One process at a time writes to a folder, and whoever comes second is told which."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.edge.disks import common_user, file_bound, open_folder, run_mounted

from bridge.edge.hold import Hold
from bridge.errors import StoreError, StoreHeld

HOLDER = """
import subprocess, sys
from pathlib import Path
from bridge.edge.hold import Hold
hold = Hold.take(Path(sys.argv[1]))
child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, close_fds=False)
print(child.pid, flush=True)
sys.stdin.read()
hold.release()
print("released", flush=True)
sys.stdin.read()
"""


@contextmanager
def elsewhere(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has the folder; its standard output says the number of a child of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@contextmanager
def locked(folder: Path, text: bytes, mode: int = fcntl.LOCK_EX) -> Iterator[int]:
    """The lock is taken, and its file says this."""
    folder.mkdir(exist_ok=True)
    (folder / "lock").write_bytes(text)
    handle = os.open(folder / "lock", os.O_RDWR)
    try:
        fcntl.flock(handle, mode)
        yield handle
    finally:
        os.close(handle)


def dead_pid() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


@pytest.mark.slow
def test_a_second_process_is_refused_and_told_the_first(tmp_path: Path) -> None:
    """Until the first gives it back, which it does without ending."""
    folder = tmp_path / "data"
    with elsewhere(folder) as first:
        line(first)
        with pytest.raises(StoreHeld) as caught:
            Hold.take(folder)
        assert caught.value.pid == first.pid
        assert caught.value.message == f"data_dir `{folder}` is in use by process {first.pid}"
        assert caught.value.remedy == "stop that process, or give this one another data_dir"
        assert Hold.holder(folder) == first.pid
        assert Hold.holder(folder) == first.pid, "looking takes nothing"
        assert first.stdin is not None
        first.stdin.close()
        assert line(first) == b"released"
        assert Hold.holder(folder) is None
        with Hold.take(folder):
            assert Hold.holder(folder) == os.getpid()


@pytest.mark.slow
def test_the_folder_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    """Though a child that it started lives on, and the lock's file still names it."""
    with elsewhere(tmp_path) as first:
        child = int(line(first))
        first.kill()
        first.wait()
        os.kill(child, 0)
        assert (tmp_path / "lock").read_text() == f"{first.pid}\n"
        assert Hold.holder(tmp_path) is None
        with Hold.take(tmp_path) as hold:
            assert hold.folder == tmp_path
            assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_folder_is_taken_once_within_one_process_too(tmp_path: Path) -> None:
    """And is free again after the release, which can be said twice."""
    hold = Hold.take(tmp_path / "a" / "b")
    with pytest.raises(StoreHeld) as caught:
        Hold.take(tmp_path / "a" / "b")
    assert caught.value.pid == os.getpid()
    hold.release()
    hold.release()
    assert (tmp_path / "a" / "b" / "lock").read_bytes() == b""
    with Hold.take(tmp_path / "a" / "b"), Hold.take(tmp_path / "other"):
        assert Hold.holder(tmp_path / "other") == os.getpid()


@pytest.mark.parametrize("text", [b"", b"not a number\n", b"-1", b"0", b"1" * 40, b"\xff\xfe", b"12 34"])
def test_a_lock_that_says_nothing_of_use_still_holds(tmp_path: Path, text: bytes) -> None:
    """The process is not named, and what is written there stays."""
    with locked(tmp_path, text):
        with pytest.raises(StoreHeld, match="is in use by another process") as caught:
            Hold.take(tmp_path)
        assert caught.value.pid is None
        assert Hold.holder(tmp_path) is None
    assert (tmp_path / "lock").read_bytes() == text


def test_a_number_that_another_process_has_now_holds_nothing(tmp_path: Path) -> None:
    """Numbers come again; the lock counts, not the file."""
    (tmp_path / "lock").write_text(f"{os.getpid()}\n")
    assert Hold.holder(tmp_path) is None
    Hold.take(tmp_path).release()


def test_a_longer_text_of_earlier_days_leaves_nothing_behind(tmp_path: Path) -> None:
    """The file says one number only."""
    (tmp_path / "lock").write_text("123456789\nmore\n")
    with Hold.take(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_holder_in_another_container_is_named_by_what_it_wrote(tmp_path: Path) -> None:
    """Its number is not one of the processes that can be seen from here."""
    pid = dead_pid()
    with locked(tmp_path, b"%d\n" % pid):
        with pytest.raises(StoreHeld, match=f"is in use by process {pid}"):
            Hold.take(tmp_path)
        assert Hold.holder(tmp_path) == pid


@pytest.mark.parametrize("mode", [fcntl.LOCK_SH, fcntl.LOCK_EX])
def test_a_look_at_the_lock_does_not_keep_a_process_from_starting(tmp_path: Path, mode: int) -> None:
    """Who looks at a dead process's lock has it for a moment."""
    with locked(tmp_path, b"%d\n" % dead_pid(), mode) as handle:
        timer = threading.Timer(0.05, fcntl.flock, (handle, fcntl.LOCK_UN))
        timer.start()
        with Hold.take(tmp_path):
            assert Hold.holder(tmp_path) == os.getpid()
        timer.join()


def test_another_users_process_is_named() -> None:
    """It lives, though no signal may be sent to it."""
    with open_folder() as folder, locked(folder, b"1\n"):
        (folder / "lock").chmod(0o666)
        with common_user(), pytest.raises(StoreHeld) as caught:
            Hold.take(folder)
        assert caught.value.pid == 1


def test_nobody_has_a_folder_that_was_never_used(tmp_path: Path) -> None:
    """Asking makes neither the folder nor the lock."""
    assert Hold.holder(tmp_path / "new") is None
    assert Hold.holder(tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_said_in_words(tmp_path: Path) -> None:
    """A file stands in its place, or above it, or a folder in that of the lock."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "odd" / "lock").mkdir(parents=True)
    for folder in (tmp_path / "file", tmp_path / "file" / "data"):
        with pytest.raises(
            StoreError, match=f"data_dir `{folder}` cannot be used: a part of its path is a file"
        ) as caught:
            Hold.take(folder)
        assert caught.value.remedy == "correct `data_dir`, or move what stands in its way"
    with pytest.raises(StoreError, match="a part of its path is a file"):
        Hold.holder(tmp_path / "file")
    with pytest.raises(StoreError, match="odd` cannot be used: a folder stands in its place"):
        Hold.take(tmp_path / "odd")
    with pytest.raises(StoreError, match="odd/lock` cannot be read: a folder stands in its place"):
        Hold.holder(tmp_path / "odd")


def test_a_folder_without_permission_is_said_in_words() -> None:
    """To make it, and to write in it."""
    with open_folder() as folder:
        (folder / "shut").mkdir(mode=0o555)
        with common_user():
            for place in (folder / "shut", folder / "shut" / "data"):
                with pytest.raises(StoreError, match=f"`{place}` cannot be used: there is no permission"):
                    Hold.take(place)


def test_a_read_only_folder_is_said_in_words(tmp_path: Path) -> None:
    """Also where a lock of earlier days is in it."""
    script = """
import subprocess, sys
from pathlib import Path
from bridge.edge.hold import Hold
from bridge.errors import StoreError
folder = Path(sys.argv[1])
Hold.take(folder).release()
subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
try:
    Hold.take(folder)
except StoreError as error:
    print(error.sentence)
print(Hold.holder(folder))
"""
    reason = "the folder is read-only (mount it for writing, or give bridge another `data_dir`)"
    assert run_mounted("size=64k", script, tmp_path) == [f"data_dir `{tmp_path}` cannot be used: {reason}", "None"]


def test_a_disk_too_full_for_the_number_is_said_and_the_lock_given_back(tmp_path: Path) -> None:
    """A folder in which not even that can be written is no place for data."""
    with (
        file_bound(0),
        pytest.raises(StoreError, match="lock` cannot be written: the file would be larger") as caught,
    ):
        Hold.take(tmp_path)
    assert not isinstance(caught.value, StoreHeld)
    Hold.take(tmp_path).release()
