"""Habits of the house that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
BARE = {"timeout", "limit", "size", "interval", "ttl", "delay", "age", "duration", "wait"}
# Names that a wire format or another library fixes.
FIXED = {
    ("src/bridge/edge/connect.py", "timeout"): "aiohttp's own parameter",
    ("src/bridge/edge/cache.py", "ttl"): "aiocache's own parameter",
    ("src/bridge/sources/builtin/rest/options.py", "size"): "the settings' word for the rows of a page",
    ("src/bridge/sources/transform/options.py", "limit"): "the settings' word for the step",
    ("src/bridge/sources/transform/options.py", "duration"): "the settings' word for a way to show seconds",
}
MAX_LINES = 400


def tracked() -> list[Path]:
    """Files git would take, as they are in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every parameter and every annotated field or variable, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node.lineno


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_numbers_carry_their_unit_in_the_name(path: Path) -> None:
    """`timeout` leaves open seconds or milliseconds, `limit` rows or bytes: no parameter or field is called so."""
    place = str(path.relative_to(ROOT))
    bad = [
        f"{name} (line {line})"
        for name, line in names(ast.parse(path.read_text()))
        if name in BARE and (place, name) not in FIXED
    ]
    assert not bad, f"{place}: {', '.join(bad)}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_things_say_what_they_are(path: Path) -> None:
    """Modules, public classes and functions begin with one sentence."""
    tree = ast.parse(path.read_text())
    missing = [] if ast.get_docstring(tree) else ["the module"]
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and public(tree, node):
            text = ast.get_docstring(node)
            if not text or text.split("\n")[0].strip()[-1] not in ".:,":
                missing.append(f"{node.name} (line {node.lineno})")
    assert not missing, ", ".join(missing)


def public(tree: ast.Module, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether the node is a public thing of its module, or of a public class of it."""
    if node.name.startswith("_"):
        return False
    owners = [tree, *(item for item in tree.body if isinstance(item, ast.ClassDef) and not item.name.startswith("_"))]
    return any(node in owner.body for owner in owners)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_stay_small(path: Path) -> None:
    """A module over 400 lines is a room that wants a wall."""
    assert len(path.read_text().splitlines()) <= MAX_LINES


def test_no_file_names_this_machine_or_a_package_index() -> None:
    """What a stranger clones holds no local path, no index host, and no note to self."""
    local = re.compile(r"/(?:work|root)/(?:main|shared|\.)|pypi\.org|files\.pythonhosted|\bTODO\b|\bFIXME\b")
    bad = []
    for path in tracked():
        if path.suffix in {".png", ".gz", ".parquet", ".jsonl"} or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if local.search(line):
                bad.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not bad, "\n".join(bad)
