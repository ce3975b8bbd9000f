"""Plug-in packages, installed as a user would, into a folder of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEADLINE_S = 50


@dataclass(frozen=True)
class Installed:
    """A package of that source folder in that site folder."""

    source: Path
    site: Path

    def run(self, *command: str, cwd: Path | None = None) -> str:
        """What a command of this Python prints while the package is installed."""
        env = {**os.environ, "PYTHONPATH": str(self.site), "NO_COLOR": "1"}
        done = subprocess.run(
            [sys.executable, "-m", *command], env=env, cwd=cwd, capture_output=True, text=True, check=False,
            timeout=DEADLINE_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def plugin(self, kind: str) -> dict[str, Any]:
        """The plug-in as `bridge sources list` knows it."""
        found: list[dict[str, Any]] = json.loads(self.run("bridge", "sources", "list", "--json"))
        assert {item["kind"] for item in found if item["ok"]} >= {"files", "rest"}
        return next(item for item in found if item["kind"] == kind)

    def own_tests(self) -> str:
        """What the package's own tests print, away from its sources, so that the installed package is judged."""
        folder = self.site.parent / "own_tests"
        shutil.copytree(self.source / "tests", folder, dirs_exist_ok=True)
        return self.run("pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder), cwd=folder)


def installed(source: Path, site: Path) -> Installed:
    """The package, installed without any index."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(site), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return Installed(source, site)
