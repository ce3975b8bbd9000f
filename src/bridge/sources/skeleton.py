"""`bridge sources new`: a plug-in package that works, explains itself and passes the conformance suite."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

from bridge.errors import BadRequest
from bridge.sources.plugins import discover

# Package and module are named by it, so it ends as those must.
_NAME = re.compile(r"(?=.{1,41}$)[a-z][a-z0-9]*(_[a-z0-9]+)*", re.ASCII)


def write_plugin(name: str, folder: Path) -> list[Path]:
    """Writes the package `bridge-source-NAME` below `folder`; the files, pyproject.toml first.

    Errors: BadRequest for a name that is none or is taken, or a folder that is there already or cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise BadRequest(
            f"{name[:80]!r} is no name for a plug-in",
            remedy="use at most 41 lower-case letters, digits and single _ between them",
        )
    if taken := discover().get(name):
        raise BadRequest(f"kind `{name}` is offered by {taken.package} already", remedy="choose another name")
    root = folder / f"bridge-source-{name.replace('_', '-')}"
    if root.exists():
        raise BadRequest(f"{root} is there already", remedy="choose another name, or move it away")
    values = {"name": name, "module": f"bridge_source_{name}", "cls": name.title().replace("_", "") + "Source"}
    try:
        return [_write(root / Template(path).substitute(values), text, values) for path, text in _FILES.items()]
    except OSError as error:
        raise BadRequest(
            f"{error.filename or root} cannot be written: {error.strerror}", remedy="name another folder with --into"
        ) from error


def _write(target: Path, text: str, values: dict[str, str]) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(Template(text).substitute(values), encoding="utf-8")
    return target


_PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "bridge-source-$name"
version = "0.1.0"
description = "A source of bridge: $name."
requires-python = ">=3.11"
dependencies = ["bridge"]

[project.optional-dependencies]
test = ["pytest"]

# The entry point is all bridge needs to find the plug-in.
[project.entry-points."bridge.sources"]
$name = "$module:$cls"

[tool.hatch.build.targets.wheel]
packages = ["src/$module"]
"""

_SOURCE = '''\
"""The files of a folder as a dataset. Replace `collect` by what reads your system."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pydantic import Field

from bridge.errors import SourceError
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.sources.base import DataSource, Options, Ping
from bridge.sources.table import from_rows

# What the dataset publishes: a name and type per column; the role says when, by what, or how much.
COLUMNS = (
    Column("time", ColumnType.TIME, role=Role.TIME, description="last change"),
    Column("size_bytes", ColumnType.NUMBER, unit="bytes", role=Role.MEASURE),
    Column("suffix", ColumnType.STRING, role=Role.DIMENSION),
    Column("name", ColumnType.STRING, description="no role: shown in tables, never a label"),
)


class $cls(DataSource):
    """Files of a folder: name, size and time of the last change."""

    kind = "$name"
    version = "0.1.0"
    infers_schema = True  # the columns are fixed here, so the settings need not list them
    default_refresh_s = 10.0

    class SourceOptions(Options):
        """What the source needs to reach its system; unknown keys are refused for you."""

        folder: str = Field(description="The folder, relative to the settings file.")

    class DatasetOptions(Options):
        """What one dataset needs."""

        pattern: str = Field("*", min_length=1, description="Which files, as a glob.")

    def schema(self, table: str) -> Schema:
        """The same columns for every dataset."""
        return Schema(COLUMNS)

    async def collect(self, query: Query) -> Frame:
        """All rows; bridge filters them by time and label, so nothing here needs to.

        Errors: SourceError when the folder is not there or cannot be read.
        """
        options = self.datasets[query.table].options
        assert isinstance(options, self.DatasetOptions)
        # Blocking work goes to a thread: the service answers others meanwhile.
        rows = await asyncio.to_thread(self._rows, options.pattern)
        data, notices = from_rows(rows, COLUMNS)
        frame = Frame(data, Schema(COLUMNS), query.dataset)
        return frame.note(*notices)

    async def ping(self) -> Ping:
        """Whether the folder is there."""
        return Ping(ok=self._folder.is_dir(), text=f"folder {self._folder.name}")

    @property
    def _folder(self) -> Path:
        assert isinstance(self.options, self.SourceOptions)
        return self.tools.base_dir / self.options.folder

    def _rows(self, pattern: str) -> list[dict[str, object]]:
        if not self._folder.is_dir():
            # An empty answer would look as if all were well.
            raise SourceError(f"there is no folder {self._folder.name}", remedy="correct `folder` in the settings")
        try:
            found = sorted(path for path in self._folder.glob(pattern) if path.is_file())
            return [
                {
                    "time": path.stat().st_mtime,
                    "size_bytes": path.stat().st_size,
                    "suffix": path.suffix,
                    "name": path.name,
                }
                for path in found
            ]
        except OSError as error:
            raise SourceError(f"folder {self._folder.name} cannot be read: {error.strerror}") from error
'''

_TEST = '''\
"""The plug-in keeps what bridge relies on."""

from pathlib import Path

from $module import $cls

from bridge.sources.conformance import conformance

TestConformance = conformance(
    $cls,
    {"options": {"folder": "."}, "datasets": [{"name": "here", "options": {"pattern": "*.py"}}]},
    base_dir=Path(__file__).parent,
)
'''

_README = """\
# bridge-source-$name

    pip install -e ".[test]"    # in bridge's own environment: it finds the plug-in by its entry point
    bridge sources list         # it is in the list of plug-ins
    python -m pytest            # the conformance suite judges it

`src/$module/__init__.py` has one method to change: `collect`.

Use it in `bridge.yaml`:

    sources:
      - name: mine
        kind: $name
        options: {folder: "."}
        datasets:
          - {name: files, options: {pattern: "*"}}
"""

_FILES = {
    "pyproject.toml": _PYPROJECT,
    "README.md": _README,
    "src/$module/__init__.py": _SOURCE,
    "src/$module/py.typed": "",
    "tests/test_$name.py": _TEST,
}
