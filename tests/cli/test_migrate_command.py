"""`bridge sources migrate`: a person decides what changed columns are to a history, beside the running service."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.cli.rig import COMMAND, run, serving
from typer.testing import CliRunner

from bridge.cli import app
from bridge.edge.hold import Hold
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.sources.history.schema_file import SchemaFile, folder_of
from bridge.sources.history.versions import Versions

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
TIME = Column("time", ColumnType.TIME, role=Role.TIME)
ACCURACY = Column("accuracy", ColumnType.NUMBER, unit="percentunit", role=Role.MEASURE)
MODEL = Column("model", ColumnType.STRING, role=Role.DIMENSION)
SETTINGS = """\
server: {{port: 0}}
sources:
  - name: lab
    kind: files
    datasets:
      - name: {name}
        refresh_s: 0
        options: {{path: runs.csv}}
        columns:
          - {{name: time, type: time, role: time}}
          - {measure}
          - {{name: model, type: string, role: dimension}}
        {history}
"""
OLD = "{name: accuracy, type: number, unit: percentunit, role: measure}"
NEW = "{name: acc, type: number, unit: percent, role: measure}"
HISTORY = "history: {keep: 30d, every_s: 1}"


def wrote(folder: Path, measure: str = OLD, name: str = "runs", history: str = HISTORY) -> Path:
    """The settings of one dataset, with its data beside them."""
    file = folder / "bridge.yaml"
    file.write_text(SETTINGS.format(measure=measure, name=name, history=history))
    column, value = ("accuracy", 0.5) if measure == OLD else ("acc", 75)
    at = datetime.now(UTC) - timedelta(minutes=5 if measure == OLD else 1)
    (folder / "runs.csv").write_text(f"time,{column},model\n{at.isoformat()},{value},svm\n")
    return file


def begun(folder: Path, name: str = "lab.runs") -> SchemaFile:
    """A history that was recorded under the old columns."""
    file = SchemaFile(folder_of(folder / "data", name))
    file.begin(Schema((TIME, ACCURACY, MODEL)), {"accuracy": "number"}, AT)
    return file


def invoke(*words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command that nobody watches."""
    done = CliRunner(env={"NO_COLOR": "1", "TERM": "dumb"}).invoke(app, ["sources", "migrate", *words])
    assert not isinstance(done.exception, Exception), done.exception
    return done.exit_code, done.stdout, done.stderr


def stands(folder: Path) -> Versions:
    """What the schema file says now."""
    versions = SchemaFile(folder_of(folder / "data", "lab.runs")).load()
    assert versions is not None
    return versions


@pytest.fixture
def config(tmp_path: Path) -> str:
    """The settings after a column was renamed, over a history from before."""
    begun(tmp_path)
    return str(wrote(tmp_path, NEW))


def test_a_script_is_shown_the_plan_and_told_to_say_yes(config: str, tmp_path: Path) -> None:
    """In a process of its own, without a terminal: nothing is changed, and the status says so."""
    done = run("sources", "migrate", "lab.runs", "--config", config)
    assert done.returncode == 2
    assert "`lab.runs` no longer has `accuracy` (type number), which its history has since 2026-01-31" in done.stdout
    assert "`accuracy` (type number) is kept and not shown any more" in done.stdout
    assert "note: if `accuracy` is called `acc` now, add --rename accuracy=acc" in done.stdout
    assert done.stderr == "nothing was changed: add --yes to apply it\n"
    assert len(stands(tmp_path).items) == 1


def test_a_migration_is_applied_and_taken_back(config: str, tmp_path: Path) -> None:
    """The column keeps its number under both names; the backup has the version before."""
    done = run("sources", "migrate", "lab.runs", "--config", config, "--rename", "accuracy=acc", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert "was `accuracy`, `percentunit` × 100 = `percent`" in done.stdout
    assert done.stdout.endswith("lab.runs: version 2 is in force\n")
    assert [(column.id, column.name) for column in stands(tmp_path).current.columns] == [
        (1, "time"),
        (2, "acc"),
        (3, "model"),
    ]
    code, out, _ = invoke("lab.runs", "--config", config)
    assert (code, out) == (0, "lab.runs has the columns of version 2 of its history; there is nothing to migrate\n")
    code, out, _ = invoke("lab.runs", "--config", config, "--back", "--yes")
    assert code == 0
    assert "the dataset's settings must go back as well" in out
    assert [(column.id, column.name) for column in stands(tmp_path).current.columns][1] == (2, "accuracy")
    code, _, err = invoke("lab.runs", "--config", config, "--back", "--yes")
    assert code == 1
    assert "no migration that could be taken back" in err


def test_a_dry_run_changes_nothing(config: str, tmp_path: Path) -> None:
    """Whatever else is said; its status is that of a command that did what it was asked to."""
    before = (tmp_path / "data/history/lab.runs/schema.json").read_bytes()
    code, out, err = invoke("lab.runs", "--config", config, "--rename", "accuracy=acc", "--dry-run", "--yes")
    assert (code, err) == (0, "")
    assert "version 1 (since 2026-01-31T12:00:00Z) becomes version 2" in out
    assert (tmp_path / "data/history/lab.runs/schema.json").read_bytes() == before


def test_machines_are_told_the_same(config: str) -> None:
    """As JSON, whether it was applied or not; they are not asked."""
    code, out, _ = invoke("runs", "--config", config, "--rename", "accuracy=acc", "--json")
    told = json.loads(out)
    assert (code, told["applied"], told["change"], told["version"]) == (2, False, "breaking", 1)
    assert told["columns"][1] == {
        "name": "acc",
        "type": "number",
        "unit": "percent",
        "from": "accuracy",
        "how": "was `accuracy`, `percentunit` × 100 = `percent`",
        "may_lose": False,
    }
    code, out, _ = invoke("runs", "--config", config, "--json", "--yes")
    told = json.loads(out)
    assert (code, told["applied"], told["hidden"]) == (0, True, ["accuracy"])
    assert told["columns"][1]["from"] is None
    code, out, _ = invoke("runs", "--config", config, "--json", "--back", "--yes")
    assert (code, json.loads(out)["change"], json.loads(out)["applied"]) == (0, "reverted", True)


@pytest.mark.parametrize(("answer", "code", "versions"), [("y", 0, 2), ("n", 1, 1)])
def test_a_person_at_a_terminal_is_asked(config: str, tmp_path: Path, answer: str, code: int, versions: int) -> None:
    """After the plan was shown; only a yes changes something."""
    ours, theirs = pty.openpty()
    command = [*COMMAND, "sources", "migrate", "lab.runs", "--config", config]
    environment = {**os.environ, "NO_COLOR": "1", "TERM": "dumb"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        said = b""
        while b"apply it?" not in said:
            said += os.read(ours, 4096)
        assert b"is kept and not shown any more" in said
        os.write(ours, f"{answer}\n".encode())
        while True:
            try:
                said += os.read(ours, 4096)
            except OSError:
                break
        assert process.wait(20) == code
    os.close(ours)
    assert len(stands(tmp_path).items) == versions
    assert (b"nothing was changed" in said) is (versions == 1)


def test_a_change_that_the_service_takes_by_itself_needs_no_command(tmp_path: Path) -> None:
    """It is said, and left to the service."""
    SchemaFile(folder_of(tmp_path / "data", "lab.runs")).begin(Schema((TIME, ACCURACY)), {}, AT)
    config = str(wrote(tmp_path))
    code, out, _ = invoke("lab.runs", "--config", config, "--yes")
    assert code == 0
    assert "`model` (type string) is new; it is empty in what was recorded before" in out
    assert "the service records this by itself; there is nothing to migrate" in out
    assert len(stands(tmp_path).items) == 1


def test_a_rename_that_is_none_makes_no_version(tmp_path: Path) -> None:
    """A column that is called what it was called."""
    begun(tmp_path)
    code, out, _ = invoke("lab.runs", "--config", str(wrote(tmp_path)), "--rename", "accuracy=accuracy", "--yes")
    assert code == 0
    assert "there is nothing to migrate" in out
    assert len(stands(tmp_path).items) == 1


def test_declared_columns_are_enough_while_the_source_is_down(config: str, tmp_path: Path) -> None:
    """What the settings say is what will be recorded; it is told that nothing could be seen."""
    (tmp_path / "runs.csv").unlink()
    code, _, err = invoke("lab.runs", "--config", config, "--rename", "accuracy=acc", "--yes")
    assert code == 0
    assert "its columns are those of the settings" in err
    assert stands(tmp_path).current.get("acc") is not None


def test_columns_that_stand_in_the_data_only_need_the_data(config: str, tmp_path: Path) -> None:
    """Without it nobody can say what would be recorded."""
    file = Path(config)
    lines = file.read_text().splitlines()
    file.write_text("\n".join(line for line in lines if "columns" not in line and "- {name" not in line))
    (tmp_path / "runs.csv").unlink()
    code, _, err = invoke("lab.runs", "--config", config, "--yes")
    assert code == 1
    assert "no file matches" in err
    assert len(stands(tmp_path).items) == 1


def test_a_column_without_values_stays_stored_as_it_was(tmp_path: Path) -> None:
    """Nothing can be seen of whether its numbers are whole."""
    file = SchemaFile(folder_of(tmp_path / "data", "lab.runs"))
    file.begin(Schema((TIME, Column("accuracy", ColumnType.NUMBER), MODEL)), {"accuracy": "integer"}, AT)
    config = wrote(tmp_path, NEW.replace("percent", "percentunit"))
    (tmp_path / "runs.csv").write_text(f"time,acc,model\n{datetime.now(UTC).isoformat()},,svm\n")
    assert invoke("lab.runs", "--config", str(config), "--rename", "accuracy=acc", "--yes")[0] == 0
    column = stands(tmp_path).current.get("acc")
    assert column is not None
    assert column.stored == "integer"


def test_a_sample_of_the_last_stretch_of_time_is_asked_for(tmp_path: Path) -> None:
    """As the recorder asks for it; a time column that the history gives is not missed."""
    stamped = Schema((Column("sampled", ColumnType.TIME, role=Role.TIME), ACCURACY, MODEL))
    SchemaFile(folder_of(tmp_path / "data", "lab.runs")).begin(stamped, {"accuracy": "number"}, AT)
    config = wrote(tmp_path, history="history: {keep: 30d, every_s: 1, window_s: 3600, time: sampled}")
    config.write_text(config.read_text().replace("          - {name: time, type: time, role: time}\n", ""))
    code, out, err = invoke("lab.runs", "--config", str(config))
    assert (code, out) == (
        0,
        "lab.runs has the columns of version 1 of its history; there is nothing to migrate\n",
    ), err
    (tmp_path / "runs.csv").unlink()
    code, out, _ = invoke("lab.runs", "--config", str(config))
    assert (code, "there is nothing to migrate" in out) == (0, True)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("lab.rusn",), 1, "there is no dataset `lab.rusn` in the settings (did you mean lab.runs?)"),
        (("zzz.q",), 1, "(`bridge check` lists them)"),
        (("lab.runs", "--rename", "accuracy"), 1, "--rename 'accuracy' is not of the form OLD=NEW"),
        (("lab.runs", "--rename", "a=b", "--rename", "a=c"), 1, "--rename gives `a` two new names"),
        (("lab.runs", "--rename", "acuracy=acc"), 1, "has no column `acuracy` (did you mean accuracy?)"),
        (("lab.runs", "--back", "--rename", "a=b"), 1, "exclude each other"),
        (("lab.runs", "--back", "--from", "lab.old"), 1, "exclude each other"),
        (("lab.runs", "--from", "../../etc"), 1, "--from '../../etc' is no name of a dataset"),
        (("lab.runs", "--from", "lab.runs"), 1, "`lab.runs` is still in the settings"),
        (("lab.runs", "--from", "lab.old"), 1, "`lab.old` has no history"),
    ],
)
def test_what_cannot_be_is_said_with_what_helps(config: str, words: tuple[str, ...], code: int, said: str) -> None:
    """One sentence on standard error, and nothing is changed."""
    status, _, err = invoke(*words, "--config", config, "--yes")
    assert status == code
    assert said in err


def test_a_name_that_two_sources_have_is_to_be_written_in_full(config: str) -> None:
    """The part after the dot means nothing then."""
    file = Path(config)
    second = file.read_text().split("sources:\n")[1].replace("name: lab", "name: other")
    file.write_text(file.read_text() + second)
    code, _, err = invoke("runs", "--config", config)
    assert code == 1
    assert "`runs` could mean lab.runs, other.runs (write `source.dataset`)" in err


def test_a_dataset_without_a_history_has_nothing_to_migrate(tmp_path: Path) -> None:
    """Neither one that was never recorded, nor one that is not recorded any more."""
    config = str(wrote(tmp_path))
    code, _, err = invoke("lab.runs", "--config", config)
    assert code == 1
    assert "`lab.runs` has no history in" in err
    assert "bridge sources history" in err
    begun(tmp_path)
    code, _, err = invoke("lab.runs", "--config", str(wrote(tmp_path, NEW, history="")), "--yes")
    assert code == 1
    assert "`lab.runs` has no `history` in its settings" in err
    assert len(stands(tmp_path).items) == 1


def test_a_history_of_a_newer_bridge_is_left_alone(config: str, tmp_path: Path) -> None:
    """Also by a command that was told yes."""
    path = tmp_path / "data/history/lab.runs/schema.json"
    path.write_text('{"format": 2}')
    for words in ((), ("--back",), ("--rename", "accuracy=acc")):
        code, _, err = invoke("lab.runs", "--config", config, "--yes", *words)
        assert code == 1
        assert "has format 2, this bridge reads 1; it was left as it is" in err
    assert path.read_text() == '{"format": 2}'


def test_a_renamed_dataset_takes_over_its_history(tmp_path: Path) -> None:
    """After a yes, and while no process works in the folder."""
    begun(tmp_path, "lab.old")
    config = str(wrote(tmp_path))
    words = ("lab.runs", "--config", config, "--from", "lab.old")
    code, out, err = invoke(*words)
    assert code == 2
    assert "with 1 version; the last has `time`, `accuracy`, `model`" in out
    assert "add --yes" in err
    with Hold.take(tmp_path / "data"):
        code, _, err = invoke(*words, "--yes")
    assert code == 1
    assert f"process {os.getpid()} works in" in err
    code, out, _ = invoke(*words, "--yes", "--json")
    assert (code, json.loads(out)) == (0, {"dataset": "lab.runs", "from": "lab.old", "version": 1, "applied": True})
    assert stands(tmp_path).current.why == "adopted"
    assert not (tmp_path / "data/history/lab.old").exists()


def answer(url: str, until: Callable[[Any], bool], path: str = "/lab.runs?format=rows") -> Any:
    """What the service says of its datasets, once `until` holds of it."""
    for _ in range(200):
        with urllib.request.urlopen(f"{url}/api/v1/datasets{path}", timeout=10) as reply:
            told = json.load(reply)
        if until(told):
            return told
        time.sleep(0.1)
    raise AssertionError(told)


@pytest.mark.slow
def test_a_running_service_stops_for_a_changed_column_and_goes_on_after_the_command(tmp_path: Path) -> None:
    """The old rows are shown under the new name and in the new unit, and as they were after it is taken back."""
    config = str(wrote(tmp_path))
    with serving("--config", config) as service:
        versions = SchemaFile(folder_of(tmp_path / "data", "lab.runs"))
        answer(service.url, lambda _: versions.load() is not None and (versions.folder / "open-g1.segment").exists())
        wrote(tmp_path, NEW)
        service.hup()
        state = answer(service.url, lambda told: told["datasets"][0]["state"] == "schema_changed", "")
        stopped = state["datasets"][0]
        assert "no longer has `accuracy`" in stopped["error"]
        assert "bridge sources migrate lab.runs" in stopped["remedy"]
        assert [row["accuracy"] for row in answer(service.url, lambda _: True)] == [0.5], "what was recorded is shown"
        words = ("sources", "migrate", "lab.runs", "--config", config)
        assert run(*words, "--rename", "accuracy=acc", "--yes").returncode == 0
        rows = answer(service.url, lambda told: len(told) == 2 and "acc" in told[0])
        assert [row["acc"] for row in rows] == [50.0, 75.0]
        answer(service.url, lambda _: (versions.folder / "open-g2.segment").exists())
        assert run(*words, "--back", "--yes").returncode == 0
        wrote(tmp_path, OLD)
        service.hup()
        rows = answer(service.url, lambda told: len(told) == 3 and "accuracy" in told[0])
        assert [row["accuracy"] for row in rows] == pytest.approx([0.5, 0.5, 0.75])
