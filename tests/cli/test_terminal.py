"""Texts of far servers reach a terminal as texts: none of them steers it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bridge.cli import app

# Clears the screen, sets the title, the same for terminals of eight bits, and turns the direction of the text.
ODD = "\x1b[2J\x1b]0;title\x07\x9b2J\u202e"
ROWS = [{"name": f"a{ODD}", "value": 1}, {"name": "b", "value": 2}]
CONFIG = """
sources:
  - name: far
    kind: rest
    options: {{url: "{url}"}}
    datasets:
      - name: rows
        options: {{path: /rows}}
        columns: [{{name: name, type: string}}, {{name: value, type: number}}]
      - name: gone
        options: {{path: /gone}}
        columns: [{{name: other, type: number}}]
      - name: refused
        options: {{path: /refused}}
        columns: [{{name: other, type: number}}]
  - name: page
    kind: exposition
    options: {{url: "{url}"}}
    datasets: [{{name: samples, options: {{kind: samples, path: /page}}}}]
"""


@pytest.fixture
def url() -> Iterator[str]:
    """A server whose every text holds control characters."""
    answers: dict[str, tuple[int, str, Any]] = {
        "/rows": (200, "application/json", ROWS),
        "/gone": (200, "application/json", [{f"key{ODD}": 1}]),
        "/refused": (400, "application/json", {"message": f"no{ODD}"}),
        "/page": (200, "text/plain", f'a{{b="{ODD}"}} 1\na{{b="{ODD}"}} 1\n'),
    }

    class Handler(BaseHTTPRequestHandler):
        """Answers from the table."""

        def do_GET(self) -> None:
            """Texts as they are, the rest as JSON."""
            status, kind, value = answers.get(self.path, (404, "application/json", {"error": ODD}))
            body = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def steering(result: Result) -> list[str]:
    """The characters a terminal would obey."""
    both = result.stdout + result.stderr
    return [char for char in both if not char.isprintable() and char not in "\n\r\t"]


@pytest.mark.parametrize(
    "words",
    [
        ["sources", "sample", "far.rows"],
        ["sources", "sample", "far.rows", "--json"],
        ["sources", "sample", "far.gone"],
        ["sources", "sample", "far.refused"],
        ["sources", "sample", "page.samples"],
        ["sources", "sample", "page.samples", "--json"],
        ["sources", "list"],
        ["sources", "list", "--json"],
        ["provision", "infinity", "--into", "out"],
    ],
)
def test_what_commands_show_of_a_far_server_steers_no_terminal(
    words: list[str], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On standard output and on standard error, as a table, as JSON and as a sentence."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bridge.yaml").write_text(CONFIG.format(url=url))
    result = CliRunner().invoke(app, [*words, "--config", "bridge.yaml"])
    assert result.stdout + result.stderr
    assert not isinstance(result.exception, Exception), result.exception
    assert steering(result) == []


@pytest.mark.parametrize("words", [[], ["--json"], ["--write", "bridge.yaml"]])
@pytest.mark.parametrize("path", ["/rows", "/gone", "/refused", "/page", "/none"])
def test_what_is_looked_at_steers_no_terminal(
    words: list[str], path: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also not in the settings that are written, nor in the reasons beside them."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["sources", "infer", url + path, *words])
    assert result.stdout + result.stderr
    assert not isinstance(result.exception, Exception), result.exception
    assert steering(result) == []
    for file in tmp_path.glob("*.yaml"):
        assert all(char.isprintable() or char == "\n" for char in file.read_text())
