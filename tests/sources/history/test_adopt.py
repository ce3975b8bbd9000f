"""The history of a dataset that has another name now."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.edge.disks import common_user, open_folder

from bridge.edge.hold import Hold
from bridge.errors import BadRequest, StoreError, StoreHeld, StoreNewer
from bridge.model.schema import Column, ColumnType, Schema
from bridge.sources.history.adopt import adopt, adoptable
from bridge.sources.history.schema_file import SchemaFile, folder_of

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
SCHEMA = Schema((Column("load", ColumnType.NUMBER),))


def recorded(data_dir: Path, name: str) -> Path:
    """The folder of a history with one version and one file."""
    SchemaFile(folder_of(data_dir, name)).begin(SCHEMA, {}, AT)
    folder = folder_of(data_dir, name)
    (folder / "g1").mkdir()
    (folder / "g1" / "s-1.parquet").write_bytes(b"rows")
    return folder


def test_a_history_goes_to_the_new_name_with_all_it_has(tmp_path: Path) -> None:
    """Its files and versions, and one more version that says so; the columns are the same ones."""
    old = recorded(tmp_path, "lab.old")
    before = SchemaFile(old).load()
    assert before is not None
    made = adopt(tmp_path, "lab.old", "lab.new", AT)
    assert not old.exists()
    new = folder_of(tmp_path, "lab.new")
    assert (new / "g1" / "s-1.parquet").read_bytes() == b"rows"
    assert SchemaFile(new).load() == made
    assert (made.dataset, made.items[:1], made.current.why) == ("lab.new", before.items, "adopted")
    assert (made.current.columns, made.current.generation) == (before.current.columns, 1)
    assert Hold.holder(tmp_path) is None


def test_a_folder_that_is_empty_or_only_locked_gives_way(tmp_path: Path) -> None:
    """The service makes it before the first sample."""
    recorded(tmp_path, "lab.old")
    folder_of(tmp_path, "lab.new").mkdir()
    (folder_of(tmp_path, "lab.new") / "schema.lock").touch()
    assert adopt(tmp_path, "lab.old", "lab.new", AT).dataset == "lab.new"


def test_a_name_that_has_a_history_takes_over_no_other(tmp_path: Path) -> None:
    """Neither is touched."""
    folders = [recorded(tmp_path, name) for name in ("lab.old", "lab.new")]
    before = [SchemaFile(folder).load() for folder in folders]
    for act in (lambda: adoptable(tmp_path, "lab.old", "lab.new"), lambda: adopt(tmp_path, "lab.old", "lab.new", AT)):
        with pytest.raises(BadRequest, match=r"`lab\.new` has a history of its own"):
            act()
    assert [SchemaFile(folder).load() for folder in folders] == before


def test_samples_without_a_schema_are_a_history_too(tmp_path: Path) -> None:
    """A segment or a table is never put aside."""
    recorded(tmp_path, "lab.old")
    (folder_of(tmp_path, "lab.new") / "g1").mkdir(parents=True)
    with pytest.raises(BadRequest, match=r"`lab\.new` has a history of its own"):
        adopt(tmp_path, "lab.old", "lab.new", AT)


def test_nothing_is_moved_under_a_process_that_works_there(tmp_path: Path) -> None:
    """It writes into the folder; its number is said."""
    old = recorded(tmp_path, "lab.old")
    with Hold.take(tmp_path) as hold:
        assert hold.folder == tmp_path
        pid = Hold.holder(tmp_path)
        for act in (
            lambda: adoptable(tmp_path, "lab.old", "lab.new"),
            lambda: adopt(tmp_path, "lab.old", "lab.new", AT),
        ):
            with pytest.raises(StoreHeld, match=f"process {pid} works in") as raised:
                act()
            assert raised.value.pid == pid
            assert raised.value.remedy == "stop it, run this command, and start it again"
    assert old.exists()


def test_a_process_that_begins_in_this_very_moment_is_left_alone(tmp_path: Path) -> None:
    """The folder is held while it is moved, so a look beforehand is not all that protects it."""
    old = recorded(tmp_path, "lab.old")
    with Hold.take(tmp_path):
        # Its number is not written yet: whoever looks sees nobody.
        (tmp_path / "lock").write_bytes(b"")
        assert Hold.holder(tmp_path) is None
        with pytest.raises(StoreHeld, match="another process works in"):
            adopt(tmp_path, "lab.old", "lab.new", AT)
    assert old.exists()


def test_a_name_without_a_history_has_nothing_to_give(tmp_path: Path) -> None:
    """It is said, with the command that lists what there is."""
    with pytest.raises(BadRequest, match=r"`lab\.old` has no history") as raised:
        adoptable(tmp_path, "lab.old", "lab.new")
    assert "bridge sources history" in raised.value.remedy


def test_a_history_of_a_newer_bridge_is_not_moved(tmp_path: Path) -> None:
    """This one does not know what else names the dataset in it."""
    old = recorded(tmp_path, "lab.old")
    (old / "schema.json").write_text('{"format": 9}')
    with pytest.raises(StoreNewer, match="has format 9"):
        adopt(tmp_path, "lab.old", "lab.new", AT)
    assert old.exists()


def test_a_folder_that_cannot_be_moved_stays() -> None:
    """It is said why."""
    with open_folder() as root:
        old = recorded(root, "lab.old")
        with common_user(), pytest.raises(StoreError, match=r"cannot be moved to .*: there is no permission"):
            adopt(root, "lab.old", "lab.new", AT)
        assert SchemaFile(old).load() is not None
        new = folder_of(root, "lab.new")
        new.mkdir(mode=0o000)
        with common_user(), pytest.raises(StoreError, match="cannot be read: there is no permission"):
            adoptable(root, "lab.old", "lab.new")
