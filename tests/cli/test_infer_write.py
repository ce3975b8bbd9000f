"""`bridge sources infer --write`: the file that is added to stays its owner's."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
from typer.testing import CliRunner

from bridge.cli import app

SETTINGS = """\
server: {port: 0}
sources:
  - name: other
    kind: rest
    options: {url: "http://127.0.0.1:9", auth: {kind: bearer, token_file: pipe}}
    datasets: [{name: rows, options: {path: /rows}, columns: [{name: a, type: number}]}]
"""


def added(file: Path, meanwhile: Callable[[], None] | None = None) -> tuple[int, str]:
    """Exit status and words of a command that adds a CSV file; `meanwhile` runs while the new text is checked.

    The check reads the token of the file's own source, which waits for somebody to write into the pipe.
    """
    (file.parent / "runs.csv").write_text("time,value\n2026-01-01T00:00:00Z,1\n2026-01-01T00:01:00Z,2\n")
    pipe = file.parent / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        with suppress(BrokenPipeError), pipe.open("w") as out:
            if meanwhile:
                meanwhile()
            out.write("token")

    thread = Thread(target=write, daemon=True)
    thread.start()
    words = ["sources", "infer", str(file.parent / "runs.csv"), "--write", str(file)]
    result = CliRunner().invoke(app, words)
    assert not isinstance(result.exception, Exception), result.exception
    # Where nobody has read the pipe, the writer still waits: it must not outlive the test.
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    thread.join(20)
    os.close(reader)
    assert not thread.is_alive()
    return result.exit_code, result.stderr


def test_the_draft_of_a_private_file_is_private_from_its_first_moment(tmp_path: Path) -> None:
    """It holds all that the file holds, secrets included."""
    file = tmp_path / "bridge.yaml"
    file.write_text(SETTINGS)
    file.chmod(0o600)
    modes: list[int] = []

    def look() -> None:
        modes.extend(stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob(".bridge.yaml.*"))

    code, said = added(file, look)
    assert code == 0, said
    assert modes == [0o600]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_is_written_into_the_file_at_the_last_moment_is_not_lost(tmp_path: Path) -> None:
    """The file is then left as it is, and the command can be run again."""
    file = tmp_path / "bridge.yaml"
    file.write_text(SETTINGS)
    newer = SETTINGS + "# written meanwhile\n"
    code, said = added(file, lambda: file.write_text(newer) and None)
    assert (code, file.read_text()) == (1, newer)
    assert "was changed meanwhile" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bridge.yaml", "pipe", "runs.csv"]


def test_a_file_that_nobody_may_write_is_not_replaced(tmp_path: Path) -> None:
    """Although its folder would allow it."""
    file = tmp_path / "bridge.yaml"
    file.write_text(SETTINGS)
    file.chmod(0o444)
    code, said = added(file)
    assert (code, file.read_text()) == (1, SETTINGS)
    assert "is read-only" in said


def test_a_link_stays_a_link_to_the_file_that_is_added_to(tmp_path: Path) -> None:
    """As editors do it."""
    real = tmp_path / "real.yaml"
    real.write_text("server: {port: 0}\n")
    link = tmp_path / "bridge.yaml"
    link.symlink_to(real)
    code, said = added(link)
    assert code == 0, said
    assert link.is_symlink()
    assert "sources:" in real.read_text()


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_halves_of_characters_are_shown_as_escapes(words: list[str], tmp_path: Path) -> None:
    r"""JSON allows `\ud800` alone; no text in UTF-8 does."""
    file = tmp_path / "runs.json"
    file.write_text('[{"time": "2026-01-01", "a\\ud800": 1, "b": "x\\ud800"}]')
    result = CliRunner().invoke(app, ["sources", "infer", str(file), *words])
    assert not isinstance(result.exception, Exception), result.exception
    (result.stdout + result.stderr).encode()
