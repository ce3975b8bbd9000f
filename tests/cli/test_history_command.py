"""`bridge sources history`: what is recorded, and whose it is."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.cli.rig import run, settings
from tests.edge.disks import common_user, open_folder
from typer.testing import CliRunner

from bridge.cli import app
from bridge.model.schema import Column, ColumnType, Schema
from bridge.sources.history.schema_file import SchemaFile, folder_of

OPTIONS = "        refresh_s: 0\n"
AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


def recorded(folder: Path, name: str) -> Path:
    """The folder of a history with two versions and two files of ten bytes."""
    file = SchemaFile(folder_of(folder / "data", name))
    file.begin(Schema((Column("a", ColumnType.NUMBER),)), {"a": "integer"}, AT)
    file.evolve(Schema((Column("a", ColumnType.NUMBER),)), {"a": "number"}, AT)
    (file.folder / "g1").mkdir()
    (file.folder / "g1" / "s-1.parquet").write_bytes(b"0123456789")
    (file.folder / "open-g2.segment").write_bytes(b"0123456789")
    return file.folder


def listed(config: str) -> list[dict[str, Any]]:
    """The command's answer to machines."""
    done = CliRunner().invoke(app, ["sources", "history", "--config", config, "--json"])
    assert (done.exit_code, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Settings with the one dataset `lab.runs`, which keeps a history."""
    file = settings(tmp_path)
    text = file.read_text()
    assert text.count(OPTIONS) == 1
    file.write_text(text.replace(OPTIONS, f"{OPTIONS}        history: {{keep: 30d}}\n"))
    return str(file)


def test_nothing_recorded_is_an_empty_list(config: str) -> None:
    """No folder is no error, and neither is one that waits for its first sample."""
    assert listed(config) == []
    folder_of(Path(config).parent / "data", "lab.runs").mkdir(parents=True)
    assert listed(config) == []


def test_histories_are_listed_with_what_they_have(config: str, tmp_path: Path) -> None:
    """The bookkeeping beside the samples is not counted."""
    recorded(tmp_path, "lab.runs")
    (row,) = listed(config)
    written = row.pop("written")
    assert datetime.fromisoformat(written) > AT
    assert row == {
        "dataset": "lab.runs",
        "state": "recorded",
        "versions": 2,
        "generations": 2,
        "files": 2,
        "bytes": 20,
        "since": "2026-01-31T12:00:00Z",
        "said": "",
    }


def test_a_history_that_no_dataset_has_is_an_orphan(config: str, tmp_path: Path) -> None:
    """With the command that gives it to the dataset's new name."""
    recorded(tmp_path, "lab.runs")
    recorded(tmp_path, "lab.old")
    done = run("sources", "history", "--config", config)
    assert done.returncode == 0
    assert "no dataset of that name: renamed? `bridge" in done.stdout
    states = {row["dataset"]: (row["state"], row["said"]) for row in listed(config)}
    text = "no dataset of that name: renamed? `bridge sources migrate NEW --from lab.old`"
    assert states == {"lab.old": ("orphan", text), "lab.runs": ("recorded", "")}


def test_what_a_dataset_kept_before_is_told_from_what_belongs_to_none(tmp_path: Path) -> None:
    """The dataset is there, and keeps nothing any more."""
    recorded(tmp_path, "lab.runs")
    (row,) = listed(str(settings(tmp_path)))
    assert (row["state"], row["said"]) == ("kept", "the dataset keeps no history any more")


def test_one_that_cannot_be_read_does_not_hide_the_others(config: str, tmp_path: Path) -> None:
    """It is listed with what is wrong with it."""
    recorded(tmp_path, "lab.runs")
    (recorded(tmp_path, "lab.newer") / "schema.json").write_text('{"format": 7}')
    (recorded(tmp_path, "lab.torn") / "schema.json").write_text("{")
    rows = {row["dataset"]: row for row in listed(config)}
    assert {name: row["state"] for name, row in rows.items()} == {
        "lab.newer": "store_newer",
        "lab.runs": "recorded",
        "lab.torn": "store_broken",
    }
    assert "has format 7" in rows["lab.newer"]["said"]
    assert (rows["lab.torn"]["versions"], rows["lab.torn"]["since"]) == (None, None)


def test_folders_that_may_not_be_looked_into_are_told() -> None:
    """One of them as its own row, the one that has them all as the end of the command."""
    with open_folder() as root:
        config = str(settings(root))
        folder = recorded(root, "lab.runs")
        (folder / "g1").chmod(0)
        with common_user():
            (row,) = listed(config)
            assert (row["state"], row["files"]) == ("store_failed", 0)
            assert "cannot be read: there is no permission" in row["said"]
        folder.parent.chmod(0)
        with common_user():
            done = CliRunner().invoke(app, ["sources", "history", "--config", config])
        assert (done.exit_code, "cannot be read: there is no permission" in done.stderr) == (1, True)
        folder.parent.chmod(0o755)
        (folder / "g1").chmod(0o755)


def test_settings_that_are_wrong_are_told(tmp_path: Path) -> None:
    """As by every command."""
    done = CliRunner().invoke(app, ["sources", "history", "--config", str(tmp_path / "none.yaml")])
    assert (done.exit_code, "no such file" in done.stderr) == (2, True)
