"""`bridge sources new` writes a package that works, explains itself, and passes the conformance suite."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from bridge.errors import BadRequest, SourceError
from bridge.model.query import Query
from bridge.sources.base import DatasetSpec, DataSource
from bridge.sources.conformance import Conformance, conformance
from bridge.sources.skeleton import write_plugin
from servers.packages import Installed, installed
from support import tools_of


def imported(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The folder of a package that was just written."""
    return write_plugin("lab_notes", tmp_path)[0].parent


@pytest.fixture
def cls(written: Path) -> type[DataSource]:
    module = imported("bridge_source_lab_notes", written / "src/bridge_source_lab_notes/__init__.py")
    found: type[DataSource] = module.LabNotesSource
    return found


def made(cls: type[DataSource], folder: Path, pattern: str = "*") -> DataSource:
    options = cls.SourceOptions.model_validate({"folder": "."})
    spec = DatasetSpec("here", cls.DatasetOptions.model_validate({"pattern": pattern}))
    return cls("mine", options, {"here": spec}, tools_of(base_dir=folder))


def test_it_says_which_files_it_wrote_the_project_first(tmp_path: Path) -> None:
    paths = write_plugin("weather", tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in paths] == [
        "bridge-source-weather/pyproject.toml",
        "bridge-source-weather/README.md",
        "bridge-source-weather/src/bridge_source_weather/__init__.py",
        "bridge-source-weather/src/bridge_source_weather/py.typed",
        "bridge-source-weather/tests/test_weather.py",
    ]
    assert all(path.is_file() for path in paths)
    assert not any("$" in path.read_text() for path in paths)


def test_folders_that_are_not_there_are_made(tmp_path: Path) -> None:
    assert write_plugin("weather", tmp_path / "a" / "b")[0].is_file()


def test_the_project_names_its_entry_point(written: Path) -> None:
    project = tomllib.loads((written / "pyproject.toml").read_text())["project"]
    assert project["name"] == "bridge-source-lab_notes"
    assert project["entry-points"]["bridge.sources"] == {"lab_notes": "bridge_source_lab_notes:LabNotesSource"}
    assert project["dependencies"] == ["bridge"]


def test_everything_in_it_says_what_it_is(written: Path) -> None:
    tree = ast.parse((written / "src/bridge_source_lab_notes/__init__.py").read_text())
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.ClassDef, ast.AsyncFunctionDef)):
            assert ast.get_docstring(node), node.name


def test_it_passes_the_conformance_suite(cls: type[DataSource], tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("a")
    (tmp_path / "b").write_text("b")
    config = {
        "options": {"folder": "."},
        "datasets": [{"name": "here"}, {"name": "py", "options": {"pattern": "*.py"}}],
    }
    suite = conformance(cls, config, base_dir=tmp_path)
    for name, _ in inspect.getmembers(Conformance, inspect.isfunction):
        if name.startswith("test_"):
            getattr(suite(), name)()


async def test_it_reads_what_it_says(cls: type[DataSource], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("four")
    (tmp_path / "folder").mkdir()
    frame = await made(cls, tmp_path, "*.csv").collect(Query("mine.here"))
    (row,) = frame.data.rows(named=True)
    assert (row["name"], row["suffix"], row["size_bytes"]) == ("a.csv", ".csv", 4)
    assert (await made(cls, tmp_path, "*.nope").collect(Query("mine.here"))).rows == 0
    assert (await made(cls, tmp_path).ping()).ok


async def test_a_folder_that_is_gone_is_an_error_and_not_an_empty_answer(
    cls: type[DataSource], tmp_path: Path
) -> None:
    source = made(cls, tmp_path / "gone")
    assert not (await source.ping()).ok
    with pytest.raises(SourceError, match="there is no folder gone"):
        await source.collect(Query("mine.here"))


@pytest.mark.parametrize(
    "name",
    ["", "A", "1a", "_a", "a_", "a__b", "a-b", "a b", "a/b", "../a", "a\n", "ä", "a.b", "$x", "x" * 42, "x" * 10_000],
)
def test_a_name_that_cannot_be_a_package_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="is no name for a plug-in") as caught:
        write_plugin(name, tmp_path)
    assert "lower-case letters" in caught.value.remedy
    assert len(caught.value.message) < 150
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a", "a1", "a_1", "a_b_c", "x" * 41])
def test_a_name_that_can_be_one_is_taken(name: str, tmp_path: Path) -> None:
    assert write_plugin(name, tmp_path)


@pytest.mark.parametrize("name", ["files", "rest"])
def test_the_name_of_an_installed_plugin_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=f"kind `{name}` is offered by bridge already"):
        write_plugin(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_not_touched(written: Path, tmp_path: Path) -> None:
    (written / "README.md").write_text("mine")
    with pytest.raises(BadRequest, match="is there already"):
        write_plugin("lab_notes", tmp_path)
    assert (written / "README.md").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadRequest, match=r"file.* cannot be written: Not a directory") as caught:
        write_plugin("weather", tmp_path / "file")
    assert caught.value.remedy == "name another folder with --into"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("new")
    command = [sys.executable, "-m", "bridge", "sources", "new", "lab_notes", "--into", str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=50)
    return installed(folder / "bridge-source-lab-notes", folder / "site")


@pytest.mark.slow
def test_a_new_package_installs_and_is_found(package: Installed) -> None:
    found = package.plugin("lab_notes")
    assert (found["ok"], found["error"], found["package"]) == (True, None, "bridge-source-lab_notes")


@pytest.mark.slow
def test_a_new_package_passes_its_own_tests(package: Installed) -> None:
    assert "12 passed" in package.own_tests()
