"""docs/plugins.md, done as it is written: from an empty folder to an answer."""

from __future__ import annotations

import os
import re
import shlex
import site
import socket
import subprocess
import time
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "plugins.md"
BLOCK = re.compile(r"(?:<!-- (?P<note>[^>]*) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.S)
DEADLINE_S = 50


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Reader:
    """Someone who does what the guide says, in a folder and with an environment of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder / "venv", with_pip=False)
        self.python = folder / "venv" / "bin" / "python"
        packages = next((folder / "venv" / "lib").iterdir()) / "site-packages"
        # What the guide takes for granted: an environment that bridge is installed in.
        here = [*site.getsitepackages(), str(GUIDE.parents[1] / "src")]
        (packages / "bridge-is-here.pth").write_text("".join(f"import site; site.addsitedir({p!r})\n" for p in here))
        self.running: list[subprocess.Popen[bytes]] = []

    def command(self, line: str) -> list[str]:
        """The words to run for a line of the guide."""
        words = shlex.split(line, comments=True)
        module = {"bridge": ["-m", "bridge"], "pip": ["-m", "pip"], "python": []}[words[0]]
        return [str(self.python), *module, *words[1:]]

    def env(self) -> dict[str, str]:
        """Nothing is taken from an index."""
        offline = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "NO_COLOR": "1"}
        return {**os.environ, **offline, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "HOME": str(self.folder)}

    def run(self, line: str) -> str:
        """What a line prints; it must end well."""
        done = subprocess.run(
            self.command(line), cwd=self.folder, env=self.env(), capture_output=True, text=True, check=False,
            timeout=DEADLINE_S,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, line: str, port: int) -> None:
        """Leaves a line running, once it listens."""
        process = subprocess.Popen(self.command(line), cwd=self.folder, env=self.env(), stderr=subprocess.DEVNULL)
        self.running.append(process)
        until_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < until_s and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        pytest.fail(f"{line} did not listen")


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    found = Reader(tmp_path)
    yield found
    for process in found.running:
        process.terminate()
        process.wait(10)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_guide_leads_to_an_answer(reader: Reader) -> None:
    """Each file it shows is written, each line it shows is run, each answer it shows is given."""
    text, ports = GUIDE.read_text(), {"9100": free_port(), "8000": free_port()}
    for written, real in ports.items():
        text = re.sub(rf"(?<=[: ]){written}\b", str(real), text)
    printed: dict[str, str] = {}
    answers = 0
    for block in BLOCK.finditer(text):
        note, language, body = block["note"] or "", block["language"], block["text"]
        if note.startswith("file: "):
            file = reader.folder / note.removeprefix("file: ")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(body)
        elif note == "in the background":
            reader.start(body.strip(), int(next(port for port in map(str, ports.values()) if port in body)))
        elif language == "sh":
            printed |= {line: reader.run(line) for line in body.strip().splitlines()}
        elif language == "console":
            command, answer = body.strip().split("\n", 1)
            url = shlex.split(command)[-1]
            with urllib.request.urlopen(url, timeout=DEADLINE_S) as reply:
                assert reply.read().decode() == answer
            answers += 1
    assert answers == 1
    assert "weather" in printed["bridge sources list"]
    assert "12 passed" in printed["python -m pytest -q bridge-source-weather"]
    assert printed["bridge sources sample station.hourly --config bridge.yaml --rows 2 --json"].count('"site"') == 2
