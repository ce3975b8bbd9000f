"""What the pages say is what the code does."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml
from tests.house.generated import DOCS, PAGES, commands
from typer.testing import CliRunner

from bridge import errors
from bridge.app import source_configs
from bridge.cli import app
from bridge.settings import load_settings
from bridge.sources.proof import step_problems
from bridge.sources.registry import build, discover
from support import tools_of

ROOT = Path(__file__).parents[2]
TEXTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]


def blocks(path: Path, language: str) -> list[str]:
    """Fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.S)


@pytest.mark.parametrize("name", PAGES)
def test_generated_pages_are_up_to_date(name: str) -> None:
    """`make docs` would change nothing."""
    assert (DOCS / name).read_text() == PAGES[name]()


def test_every_code_of_an_error_stands_in_the_table_with_its_status() -> None:
    """What a client may be told is listed, beside the status that it comes with."""
    rows = re.findall(r"^\| ([0-9, ]+) \| (.+) \|$", (DOCS / "operate.md").read_text(), re.M)
    told = {(status, code) for statuses, text in rows for status in statuses.split(", ") for code in text.split("`")}
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.BridgeError) and kind.code != "settings":
            assert (str(kind.status), kind.code) in told


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link names a file of the project."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text()):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_shown_commands_exist(path: Path) -> None:
    """Every `bridge …` and `make …` line of a page is a command with these options."""
    known = [" ".join(words) for words in commands()]
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.M))
    for block in blocks(path, "(?:sh|bash|console)"):
        for line in block.splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if words[:1] == ["make"]:
                assert set(words[1:]) <= targets, line
            if words[:1] == ["bridge"]:
                name = next((k for k in known if " ".join(words[1:]).startswith(k)), None)
                assert name, line
                help_text = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "200"}).stdout
                for option in (word.partition("=")[0] for word in words if word.startswith("--")):
                    assert option in help_text, f"{line}: {option}"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_shown_settings_load(path: Path, tmp_path: Path) -> None:
    """Every settings snippet of a page is accepted as it stands."""
    for number, block in enumerate(blocks(path, "yaml")):
        data = yaml.safe_load(block)
        if isinstance(data, dict) and "sources" in data:
            file = tmp_path / f"{number}.yaml"
            file.write_text(block)
            loaded = load_settings(file, env={})
            configs = source_configs(loaded)
            registry, _ = build(configs, discover(), tools_of(base_dir=tmp_path))
            assert step_problems(configs, registry) == []
