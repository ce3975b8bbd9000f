"""`schema.json`: two processes write it, crashes and full disks hit it, and no version is ever lost."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.edge.disks import common_user, file_bound, open_folder

from bridge.errors import BadRequest, SchemaChanged, StoreBroken, StoreError, StoreHeld, StoreNewer
from bridge.model.schema import Column, ColumnType, Kind, Role, Schema
from bridge.sources.history.migration import plan
from bridge.sources.history.schema_file import SchemaFile, folder_of
from bridge.sources.history.versions import Versions

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
TIME = Column("time", ColumnType.TIME, role=Role.TIME)
LOAD = Column("load", ColumnType.NUMBER, unit="s", role=Role.MEASURE, kind=Kind.COUNTER)
SCHEMA = Schema((TIME, LOAD))
STORED = {"load": "integer"}


def wider(*names: str) -> Schema:
    """The schema with further columns."""
    return Schema((TIME, LOAD, *(Column(name, ColumnType.STRING) for name in names)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a history that has not begun."""
    return folder_of(tmp_path, "lab.runs")


@pytest.fixture
def begun(folder: Path) -> SchemaFile:
    """The file of a history with one version."""
    file = SchemaFile(folder)
    file.begin(SCHEMA, STORED, AT)
    return file


def migration(versions: Versions | None) -> Any:
    """A plan that gives `load` another name."""
    assert versions is not None
    return plan(versions, Schema((TIME, replace(LOAD, name="used"))), STORED, {"load": "used"})


def test_versions_are_read_back_as_they_were_written(begun: SchemaFile) -> None:
    """By another process as well; every version stays."""
    made = begun.evolve(wider("host"), STORED, AT)
    made = begun.migrate(migration(made), AT)
    made = begun.back(AT)
    assert SchemaFile(begun.folder).load() == made
    assert [version.why for version in made.items] == ["first", "evolved", "migrated", "reverted"]
    data = orjson.loads(begun.path.read_bytes())
    assert (data["format"], data["dataset"]) == (1, "lab.runs")
    assert data["versions"][0] == {
        "version": 1,
        "at": "2026-01-31T12:00:00+00:00",
        "why": "first",
        "generation": 1,
        "columns": [
            {
                "id": 1,
                "name": "time",
                "type": "time",
                "unit": None,
                "role": "time",
                "kind": "gauge",
                "stored": "time",
            },
            {
                "id": 2,
                "name": "load",
                "type": "number",
                "unit": "s",
                "role": "measure",
                "kind": "counter",
                "stored": "integer",
            },
        ],
    }


def test_nothing_is_there_before_the_first_sample(folder: Path) -> None:
    """And nothing can be changed then."""
    file = SchemaFile(folder)
    assert file.load() is None
    assert not file.changed()
    assert file.admit(SCHEMA, STORED) is None
    for change in (lambda: file.evolve(SCHEMA, STORED, AT), lambda: file.back(AT), lambda: file.adopt(AT)):
        with pytest.raises(StoreError, match=r"`lab\.runs` has no history"):
            change()
    assert not folder.exists()


def test_a_history_is_not_begun_twice(begun: SchemaFile) -> None:
    """Not over versions that are known, nor over those that another process has begun meanwhile."""
    fresh = SchemaFile(begun.folder)
    for file in (begun, fresh):
        with pytest.raises(StoreError, match="is there already"):
            file.begin(wider("x"), STORED, AT)
    assert SchemaFile(begun.folder).load() == begun.load()


def test_samples_of_the_same_columns_write_nothing(begun: SchemaFile) -> None:
    """The versions stay the same object, the file the same file."""
    before = begun.path.stat()
    versions = begun.fit(SCHEMA, STORED, AT)
    assert begun.fit(SCHEMA, {"load": "integer"}, AT) is versions
    assert begun.load() is versions
    assert begun.path.stat() == before


def test_fit_begins_and_evolves_and_stops(folder: Path) -> None:
    """Whatever a sample's columns are to the versions so far."""
    file = SchemaFile(folder)
    assert file.fit(SCHEMA, STORED, AT).current.why == "first"
    assert file.fit(wider("host"), STORED, AT).current.why == "evolved"
    before = file.path.read_bytes()
    for refused in (lambda: file.fit(Schema((TIME,)), {}, AT), lambda: file.admit(Schema((TIME,)), {})):
        with pytest.raises(SchemaChanged, match="no longer has `load`"):
            refused()
    assert file.admit(wider("host", "more"), STORED) is file.admit(wider("host"), STORED) is file.load()
    assert file.path.read_bytes() == before


def test_the_service_notices_a_migration_while_it_runs(begun: SchemaFile) -> None:
    """By one look at the file; what it wrote itself is no change."""
    begun.fit(SCHEMA, STORED, AT)
    assert not begun.changed()
    command = SchemaFile(begun.folder)
    command.migrate(migration(command.load()), AT)
    assert begun.changed()
    renamed = Schema((TIME, replace(LOAD, name="used")))
    versions = begun.admit(renamed, STORED)
    assert versions is not None
    assert versions.current.get("used") is not None
    assert begun.fit(renamed, STORED, AT).current.why == "migrated"
    assert not begun.changed()


def test_a_change_is_refused_where_the_file_was_changed_since_it_was_read(begun: SchemaFile) -> None:
    """Neither process overwrites what the other wrote."""
    other = SchemaFile(begun.folder)
    other.load()
    begun.evolve(wider("host"), STORED, AT)
    content = begun.path.read_bytes()
    with pytest.raises(StoreError, match="was changed by another process meanwhile") as raised:
        other.migrate(migration(other._versions), AT)
    assert raised.value.remedy == "run the command again"
    assert begun.path.read_bytes() == content


def test_a_sample_that_meets_a_migration_is_fitted_to_it(begun: SchemaFile) -> None:
    """Also when it comes between the look at the file and the writing of it."""

    class Late(SchemaFile):
        """Sees no change, as if it came just after the look."""

        def changed(self) -> bool:
            return False

    late = Late(begun.folder)
    late.load()
    begun.evolve(wider("host"), STORED, AT)
    made = late.fit(wider("host", "site"), STORED, AT)
    assert [column.id for column in made.current.columns] == [1, 2, 3, 4]
    assert [version.why for version in made.items] == ["first", "evolved", "evolved"]


EVOLVE = """\
import sys
from datetime import UTC, datetime
from pathlib import Path
from bridge.errors import StoreError
from bridge.model.schema import Column, ColumnType, Schema
from bridge.sources.history.schema_file import SchemaFile
from bridge.sources.history.versions import schema_of

who, count = sys.argv[2], int(sys.argv[3])
file = SchemaFile(Path(sys.argv[1]))
for number in range(count):
    while True:
        known = schema_of(file.load().current).columns
        try:
            made = file.evolve(Schema((*known, Column(f"{who}{number}", ColumnType.STRING))), {}, datetime.now(UTC))
            break
        except StoreError:
            pass
    print(made.current.version, flush=True)
"""


def evolving(folder: Path, who: str, count: int) -> subprocess.Popen[str]:
    """A process that adds so many columns, and prints the version of each once it is written."""
    return subprocess.Popen(
        [sys.executable, "-c", EVOLVE, str(folder), who, str(count)], stdout=subprocess.PIPE, text=True
    )


def test_processes_that_write_at_the_same_time_lose_nothing(begun: SchemaFile) -> None:
    """Four of them add ten columns each: forty versions, forty columns, each with a number of its own."""
    processes = [evolving(begun.folder, who, 10) for who in "abcd"]
    told = [int(line) for process in processes for line in process.communicate(timeout=50)[0].split()]
    assert sorted(told) == list(range(2, 42))
    versions = SchemaFile(begun.folder).load()
    assert versions is not None
    columns = versions.current.columns
    assert {column.name for column in columns} == {
        "time",
        "load",
        *(f"{who}{n}" for who in "abcd" for n in range(10)),
    }
    assert sorted(column.id for column in columns) == list(range(1, 43))


def test_kill_9_at_any_moment_loses_no_version_that_was_written(begun: SchemaFile) -> None:
    """The file is whole after each, and holds the last version that was told."""
    last = 1
    for turn in range(4):
        with evolving(begun.folder, f"t{turn}x", 10_000) as process:
            assert process.stdout is not None
            for _ in range(3 + 4 * turn):
                last = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            last = max([last, *map(int, process.stdout.read().split())])
        versions = SchemaFile(begun.folder).load()
        assert versions is not None
        assert versions.current.version in (last, last + 1)
        last = versions.current.version


def test_a_crash_before_the_new_file_is_in_place_leaves_the_old_one(begun: SchemaFile) -> None:
    """What was half written is not read, and the next change goes over it."""
    begun.path.with_name("schema.json.new").write_bytes(begun.path.read_bytes()[:40])
    file = SchemaFile(begun.folder)
    assert file.load() == begun.load()
    file.evolve(wider("host"), STORED, AT)
    assert SchemaFile(begun.folder).load() == file.load()


def test_the_file_before_the_last_change_stays_beside_it(begun: SchemaFile) -> None:
    """As it was, to be put back by hand."""
    before = begun.path.read_bytes()
    begun.evolve(wider("host"), STORED, AT)
    assert (begun.folder / "schema.json.bak").read_bytes() == before


def test_a_full_disk_leaves_the_file_as_it_was(begun: SchemaFile) -> None:
    """It is said, and works again once there is room."""
    before = begun.path.read_bytes()
    # There is no room for the copy of the old file; then for that, but not for the new one.
    for room_bytes in (100, len(before) + 10):
        said = r"schema\.json` cannot be written: the file would be larger"
        with file_bound(room_bytes), pytest.raises(StoreError, match=said):
            begun.evolve(wider("host"), STORED, AT)
        assert begun.path.read_bytes() == before
    assert begun.evolve(wider("host"), STORED, AT).current.version == 2


def test_a_read_only_folder_is_told() -> None:
    """With what helps; the file stays, and can still be read."""
    with open_folder() as root:
        file = SchemaFile(folder_of(root, "lab.runs"))
        file.begin(SCHEMA, STORED, AT)
        (file.folder / "schema.lock").chmod(0o444)
        file.folder.chmod(0o555)
        with common_user():
            with pytest.raises(StoreError, match="cannot be written: there is no permission"):
                file.evolve(wider("host"), STORED, AT)
            assert SchemaFile(file.folder).load() is not None
        file.path.chmod(0)
        with common_user(), pytest.raises(StoreError, match="cannot be read: there is no permission"):
            SchemaFile(file.folder).load()
        file.folder.chmod(0o700)
        with common_user():
            assert file.changed()
        file.folder.chmod(0o777)


def test_a_writer_that_hangs_is_named(begun: SchemaFile) -> None:
    """Another process waits for it a moment only."""
    before = begun.path.read_bytes()
    for said, pid, who in (("4711\n", 4711, "process 4711"), ("", None, "another process")):
        with (begun.folder / "schema.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.write(said)
            lock.flush()
            with pytest.raises(StoreHeld, match=f"{who} holds") as raised:
                begun.evolve(wider("host"), STORED, AT)
            assert raised.value.pid == pid
    assert begun.path.read_bytes() == before
    begun.evolve(wider("host"), STORED, AT)
    assert (begun.folder / "schema.lock").read_text() == f"{os.getpid()}\n"


def test_a_file_of_a_newer_bridge_is_left_as_it_is(begun: SchemaFile) -> None:
    """Whatever else stands in it; the sentence names the file and both formats."""
    begun.path.write_bytes(b'{"format": 2, "dataset": "lab.runs", "branches": {"main": []}}')
    before = begun.path.read_bytes()
    for use in uses(begun):
        with pytest.raises(StoreNewer) as raised:
            use()
        assert raised.value.message == f"`{begun.path}` has format 2, this bridge reads 1; it was left as it is"
        assert raised.value.remedy == "run the version of bridge that wrote it, or a newer one"
    assert begun.path.read_bytes() == before


def uses(begun: SchemaFile) -> list[Callable[[], object]]:
    """Everything that reads or writes the file: anew, and by a service that read it while it was good."""
    plans = migration(begun._versions)
    return [
        SchemaFile(begun.folder).load,
        lambda: SchemaFile(begun.folder).fit(wider("host"), STORED, AT),
        lambda: SchemaFile(begun.folder).migrate(plans, AT),
        lambda: begun.fit(wider("host"), STORED, AT),
        lambda: begun.admit(SCHEMA, STORED),
    ]


def edited(*path: Any, to: Any) -> Callable[[Any], None]:
    """A change of the file's content at one place."""

    def edit(data: Any) -> None:
        for part in path[:-1]:
            data = data[part]
        data[path[-1]] = to

    return edit


BROKEN: list[tuple[Callable[[Any], None], str]] = [
    (edited("format", to=None), "`format`: it is no number from 1 on"),
    (edited("format", to=0), "`format`: it is no number from 1 on"),
    (edited("versions", to=[]), "`versions`: Tuple should have at least 1 item"),
    (edited("extra", to=1), "`extra`: Extra inputs are not permitted"),
    (edited("versions", 1, "columns", 0, "id", to=0), "`versions[1].columns[0].id`: Input should be greater"),
    (edited("versions", 1, "columns", 0, "type", to="blob"), "`versions[1].columns[0].type`: Input should be"),
    (edited("versions", 1, "at", to="2026-01-31T12:00:00"), "`versions[1].at`: Input should have timezone"),
    (edited("versions", 1, "version", to=3), "`versions[1]`: is numbered 3"),
    (edited("versions", 0, "generation", to=2), "`versions[1]`: goes back to generation 1"),
    (edited("versions", 1, "columns", 1, "id", to=1), "`versions[1]`: has two columns of one number or of one name"),
    (
        edited("versions", 1, "columns", 1, "name", to="time"),
        "`versions[1]`: has two columns of one number or of one",
    ),
    (edited("versions", 1, "columns", 1, "role", to="time"), "`versions[1]`: has two time columns"),
    (
        edited("versions", 1, "columns", 1, "stored", to="string"),
        "`versions[1]`: stores `load` of type number as string",
    ),
    (edited("versions", 1, "columns", 1, "name", to="x"), "`versions[1]`: changes the columns of generation 1"),
    (
        edited("versions", 1, "columns", 1, "stored", to="number"),
        "`versions[1]`: changes the columns of generation 1",
    ),
    (edited("versions", 1, "columns", to=[]), "`versions[1]`: changes the columns of generation 1"),
]


@pytest.mark.parametrize(("edit", "said"), BROKEN)
def test_a_file_that_contradicts_itself_is_refused_with_its_place(
    begun: SchemaFile, edit: Callable[[Any], None], said: str
) -> None:
    """Read as it stands, samples would be shown as what they are not."""
    begun.evolve(wider("host"), STORED, AT)
    data = orjson.loads(begun.path.read_bytes())
    edit(data)
    begun.path.write_bytes(orjson.dumps(data))
    with pytest.raises(StoreBroken) as raised:
        SchemaFile(begun.folder).load()
    assert f"`{begun.path}` cannot be read at {said}" in raised.value.message
    assert "schema.json.bak" in raised.value.remedy


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"", "line 1 column 1"),
        (b"\0" * 200, "line 1 column 1"),
        (b'{"format": 1,\n "dataset": "lab.runs", "versions": [{"ver', "line 2 column"),
        (b"[1]", "`format`"),
        (b"[" * 100_000, "line 1 column"),
        (b'{"format": 1, "dataset": "\xff"}', "line 1 column"),
    ],
)
def test_a_torn_file_is_refused_and_left_as_it_is(begun: SchemaFile, content: bytes, place: str) -> None:
    """With the file and the place; nothing is written over it, by whoever has read it before."""
    begun.path.write_bytes(content)
    for use in uses(begun):
        with pytest.raises(StoreBroken, match=place.replace("`", ".")):
            use()
    assert begun.path.read_bytes() == content


@pytest.mark.parametrize("left", ["g1", "g12", "open-g1.segment", "schema.json.bak"])
def test_a_file_that_is_gone_while_samples_are_there_is_not_begun_anew(begun: SchemaFile, left: str) -> None:
    """New columns would get the numbers of old ones, and old samples would be read as theirs."""
    begun.path.unlink()
    (begun.folder / left).mkdir()
    for use in (*uses(begun), lambda: SchemaFile(begun.folder).begin(SCHEMA, STORED, AT)):
        with pytest.raises(StoreBroken, match=f"is missing, though `{left}` is there"):
            use()
    assert not begun.path.exists()


def test_a_folder_that_was_moved_away_is_begun_anew(begun: SchemaFile, tmp_path: Path) -> None:
    """As the sentence says that one may."""
    begun.folder.rename(tmp_path / "aside")
    assert begun.fit(wider("host"), STORED, AT).current.why == "first"


def test_there_is_nothing_to_take_back_at_first(begun: SchemaFile) -> None:
    """It is said, and nothing is written."""
    before = begun.path.read_bytes()
    with pytest.raises(BadRequest, match="no migration that could be taken back"):
        begun.back(AT)
    assert begun.path.read_bytes() == before
