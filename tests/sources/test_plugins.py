"""Every installed plug-in is listed; one that cannot be used carries its error, and the rest runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from bridge.sources.builtin.files import FilesSource
from bridge.sources.builtin.rest import RestSource
from bridge.sources.plugins import GROUP, Plugin, discover

MODULE = '''
from bridge.sources.base import DataSource

class Good(DataSource):
    """Good."""
    kind = "good"
    async def collect(self, query): ...

class Files(Good):
    kind = "files"

class Unnamed(DataSource):
    async def collect(self, query): ...

class Abstract(DataSource):
    kind = "abstract"

thing = 7
'''
BROKEN = {
    "raises": "raise RuntimeError('no licence')",
    "exits": "import sys; sys.exit(3)",
    "unparsable": "def (",
    "needs": "import no_such_module_anywhere",
}


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "some_plugins.py").write_text(MODULE)
    for name, text in BROKEN.items():
        (tmp_path / f"broken_{name}.py").write_text(text)
    yield
    for name in list(sys.modules):
        if name == "some_plugins" or name.startswith("broken_"):
            del sys.modules[name]


def point(kind: str, value: str) -> EntryPoint:
    return EntryPoint(kind, value, GROUP)


def installed(tmp_path: Path, package: str, kind: str, value: str) -> None:
    """A distribution of that name with one entry point, as pip leaves it."""
    info = tmp_path / f"{package}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{kind} = {value}\n")


def test_the_built_in_sources_are_found_the_way_foreign_ones_are() -> None:
    plugins = discover()
    assert plugins["files"] == Plugin("files", "bridge", FilesSource)
    assert plugins["rest"] == Plugin("rest", "bridge", RestSource)


def test_a_package_s_entry_point_is_all_it_takes(tmp_path: Path) -> None:
    installed(tmp_path, "bridge-source-good", "good", "some_plugins:Good")
    found = discover()["good"]
    assert (found.package, found.error) == ("bridge-source-good", None)
    assert found.cls is not None
    assert found.cls.kind == "good"


@pytest.mark.parametrize(
    ("kind", "value", "error"),
    [
        ("a", "broken_raises:X", "RuntimeError: no licence"),
        ("a", "broken_exits:X", "SystemExit: 3"),
        ("a", "broken_unparsable:X", "SyntaxError: "),
        ("a", "broken_needs:X", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("a", "no_such_module_anywhere:X", "ModuleNotFoundError: "),
        ("a", "some_plugins:Nothing", "AttributeError: "),
        ("a", "some_plugins:thing", "some_plugins:thing is no subclass of DataSource"),
        ("a", "pathlib:Path", "pathlib:Path is no subclass of DataSource"),
        ("abstract", "some_plugins:Abstract", "some_plugins:Abstract does not write collect"),
        ("better", "some_plugins:Good", "some_plugins:Good has kind 'good', its entry point is `better`"),
        ("unnamed", "some_plugins:Unnamed", "some_plugins:Unnamed has kind None, its entry point is `unnamed`"),
    ],
)
def test_one_that_cannot_be_used_is_listed_with_its_error_and_the_rest_is_found(
    kind: str, value: str, error: str
) -> None:
    plugins = discover([point(kind, value), point("good", "some_plugins:Good")])
    assert plugins[kind].cls is None
    assert (plugins[kind].error or "").startswith(error)
    assert plugins["good"].cls is not None


def test_nobody_can_take_the_place_of_a_built_in_source(tmp_path: Path) -> None:
    installed(tmp_path, "a-stranger", "files", "some_plugins:Files")
    plugins = discover()
    assert plugins["files"].cls is FilesSource
    assert plugins["files@a-stranger"] == Plugin(
        "files", "a-stranger", error="kind `files` is taken by package bridge; uninstall one of the two"
    )


def test_of_two_foreign_packages_with_one_kind_the_first_by_name_counts(tmp_path: Path) -> None:
    installed(tmp_path, "zeta", "good", "some_plugins:Good")
    installed(tmp_path, "alpha", "good", "some_plugins:Good")
    plugins = discover()
    assert plugins["good"].package == "alpha"
    assert plugins["good@zeta"].error == "kind `good` is taken by package alpha; uninstall one of the two"
