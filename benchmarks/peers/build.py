"""A virtual environment for each peer, from its lock: `python build.py [FOLDER]`.

What cannot be built is said, not fatal.

Shape: `FOLDER/NAME/` with a file `lock.sha256` when it is whole, else `FOLDER/NAME.failed` with the reason.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
VENVS = HERE.parents[1] / ".venv-peers"
# The Pythons that a peer's dependencies were built for.
NEEDS = {"grafana_pandas": ((3, 8), (3, 11)), "fastapi_pandas": ((3, 11), (3, 99))}
INSTALLS_WITHIN_S = 600


class NotBuilt(Exception):
    """Why there is no environment."""


def main(folder: Path) -> None:
    """Builds what is missing or was built from another lock."""
    for name in NEEDS:
        venv, failed = folder / name, folder / f"{name}.failed"
        if built(name, venv):
            continue
        print(f"installing into {venv} (once) …", flush=True)
        try:
            build(name, venv)
            failed.unlink(missing_ok=True)
        except NotBuilt as error:
            shutil.rmtree(venv, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            failed.write_text(f"{error}\n")
            print(f"{name} is left out: {error}", flush=True)


def built(name: str, venv: Path) -> bool:
    """Whether the environment is there, whole and from this lock."""
    stamp = venv / "lock.sha256"
    return stamp.is_file() and stamp.read_text() == digest(name)


def digest(name: str) -> str:
    """What tells one lock from another."""
    return hashlib.sha256((HERE / f"{name}.lock").read_bytes()).hexdigest()


def build(name: str, venv: Path) -> None:
    """Installs the lock, bytecode included.

    Errors: NotBuilt.
    """
    shutil.rmtree(venv, ignore_errors=True)
    said([fitting(*NEEDS[name]), "-m", "venv", str(venv)])
    pip = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "-q"]
    said([*pip, "--compile", "--require-hashes", "-r", str(HERE / f"{name}.lock")])
    (venv / "lock.sha256").write_text(digest(name))


def fitting(lowest: tuple[int, int], highest: tuple[int, int]) -> str:
    """A Python of one of these versions.

    Errors: NotBuilt where none is found.
    """
    if lowest <= sys.version_info[:2] <= highest:
        return sys.executable
    for minor in range(min(highest[1], 20), lowest[1] - 1, -1):
        if found := shutil.which(f"python3.{minor}"):
            return found
    raise NotBuilt(f"it needs Python {lowest[0]}.{lowest[1]} to {highest[0]}.{highest[1]}, and there is none")


def said(command: list[str]) -> None:
    """Runs it.

    Errors: NotBuilt with the last line it wrote.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALLS_WITHIN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotBuilt(f"{command[0]} did not run: {type(error).__name__}") from error
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise NotBuilt(next((line for line in lines if "ERROR" in line), (lines or ["it failed silently"])[-1]))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else VENVS)
