"""Runs the real command in a real process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

COMMAND = [sys.executable, "-m", "bridge"]

FILES = """\
server: {{port: 0}}
sources:
  - name: lab
    kind: files
    datasets:
      - name: runs
        refresh_s: 0
        options: {{path: {path}}}
"""


def run(*words: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """One command to its end."""
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "160", **(env or {})}
    return subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, env=environment, cwd=cwd, timeout=50, check=False
    )


def settings(folder: Path, path: str = "runs.csv") -> Path:
    """A settings file over one CSV file beside it."""
    (folder / "runs.csv").write_text(
        "time,accuracy,model\n2026-01-01T00:00:00Z,0.5,svm\n2026-01-01T00:01:00Z,0.75,mlp\n"
    )
    file = folder / "bridge.yaml"
    file.write_text(FILES.format(path=path))
    return file


@dataclass
class Running:
    """A service in its own process."""

    process: subprocess.Popen[str]
    url: str

    def hup(self) -> None:
        """Asks it to read its settings again."""
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> str:
        """Ends it; what it wrote to standard error since it was ready."""
        self.process.terminate()
        return self.process.communicate(timeout=30)[1]


@contextmanager
def serving(*words: str, env: dict[str, str] | None = None) -> Iterator[Running]:
    """`bridge serve …` until the block ends."""
    environment = {**os.environ, "NO_COLOR": "1", **(env or {})}
    command = [*COMMAND, "serve", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        lines = []
        assert process.stderr is not None
        try:
            for line in process.stderr:
                lines.append(line)
                if match := re.search(r"listens on (https?://\S+)", line):
                    yield Running(process, match[1])
                    return
            raise AssertionError(f"the service did not start: {''.join(lines)}")
        finally:
            if process.poll() is None:
                process.terminate()
                process.communicate(timeout=30)
