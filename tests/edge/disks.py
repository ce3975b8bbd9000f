"""Disks and folders that refuse, for real: the kernel says no, nothing of bridge is replaced."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65_534


@contextmanager
def file_bound(bound_bytes: int) -> Iterator[None]:
    """No file of this process may grow over so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bound_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def no_more_files() -> Iterator[None]:
    """Nothing can be opened in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def common_user() -> Iterator[None]:
    """Permissions count, as they do not for root."""
    root = os.geteuid() == 0
    if root:
        os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        if root:
            os.setresuid(0, 0, 0)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def fill(folder: Path) -> Path:
    """Takes all the room there is, in a file that gives it back when it is deleted."""
    ballast = folder / "ballast"
    handle = os.open(ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for size_bytes in (65_536, 4_096, 1):
            while True:
                try:
                    os.write(handle, b"x" * size_bytes)
                except OSError:
                    break
    finally:
        os.close(handle)
    return ballast


def swap(path: Path, device: str) -> None:
    """Puts a device in the place of a file that this process has open, as if the disk had gone bad under it."""
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            there = Path(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            continue
        if there == path:
            other = os.open(device, os.O_RDWR)
            os.dup2(other, number, inheritable=False)
            os.close(other)
            return
    raise AssertionError(f"{path} is not open")


def run_mounted(options: str, script: str, mount_point: Path) -> list[str]:
    """The lines a Python script prints that sees a tmpfs of its own, which ends with it, at `sys.argv[1]`."""
    apart = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a file system of their own")
    mount = f'mount -t tmpfs -o {options} tmpfs "$1" && exec "$0" -c "$2" "$1"'
    done = subprocess.run(
        [*apart, "sh", "-c", mount, sys.executable, str(mount_point), script],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
