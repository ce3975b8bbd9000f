"""Databases: their tables and views, and files that are none."""

from __future__ import annotations

import shutil
import socket
import sqlite3
from pathlib import Path

import duckdb
import pytest
from tests.servers import postgres
from tests.sources.infer.infer_rig import looked

from bridge.errors import BadRequest, NeedsAuth, SourceError, UpstreamUnavailable


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A SQLite file with two tables and a view."""
    file = tmp_path / "lab.db"
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE runs (id INTEGER PRIMARY KEY, started_at TEXT, model TEXT, loss REAL, yes INTEGER)")
        db.executemany(
            "INSERT INTO runs (started_at, model, loss, yes) VALUES (?, ?, ?, 1)",
            [(f"2026-01-01T00:{n:02d}:00Z", ("svm", "mlp")[n % 2], n / 4) for n in range(20)],
        )
        db.execute('CREATE TABLE "odd.name" ("start" INTEGER, "a b" REAL, "x""y" REAL)')
        db.executemany('INSERT INTO "odd.name" VALUES (?, 1.5, 2.5)', [(1_767_225_600 + n,) for n in range(3)])
        db.execute("CREATE VIEW best AS SELECT model, max(loss) AS loss FROM runs GROUP BY model")
        db.execute("CREATE TABLE empty (time TEXT, x REAL)")
    db.close()
    return file


async def test_every_table_and_view_becomes_a_dataset(lab: Path) -> None:
    """With the columns of its first rows."""
    found = await looked(str(lab), lab.parent)
    assert (found.source.kind, found.source.name) == ("sql", "lab")
    assert found.source.options == {"url": "sqlite:///lab.db"}
    assert {d.name: dict(d.options) for d in found.source.datasets} == {
        "runs": {"table": "runs"},
        "odd_name": {"query": 'SELECT * FROM "odd.name"', "time_as": "epoch_s"},
        "best": {"table": "best"},
        "empty": {"table": "empty"},
    }
    assert found.column("started_at", "runs") == {"name": "started_at", "type": "time", "role": "time"}
    assert found.column("model", "runs")["role"] == "dimension"
    assert found.column("id", "runs") == {"name": "id", "type": "number"}
    assert found.column("a_b", "odd_name")["select"] == "a b"
    assert found.column("start", "odd_name")["role"] == "time"
    assert found.column("loss", "best")["role"] == "measure"


async def test_one_table_can_be_named(lab: Path) -> None:
    """One that is not there is told with those that are; more than were asked for are counted."""
    assert [d.name for d in (await looked(str(lab), lab.parent, table="best")).source.datasets] == ["best"]
    with pytest.raises(BadRequest, match="no table `none`") as caught:
        await looked(str(lab), lab.parent, table="none")
    assert "`runs`" in caught.value.remedy
    found = await looked(str(lab), lab.parent, max_datasets=1)
    assert any("3 more tables" in note for note in found.source.notes)


async def test_a_file_is_known_by_its_first_bytes(lab: Path, tmp_path: Path) -> None:
    """Under any name, and by the URL that the settings would have."""
    other = shutil.copy(lab, tmp_path / "runs 100%.data")
    found = await looked(str(other), tmp_path / "settings")
    assert found.source.options["url"] == f"sqlite:///{tmp_path}/runs 100%25.data"
    assert (await looked(f"sqlite:///{lab}", tmp_path)).source.name == "lab"


async def test_duckdb_tables_of_all_schemas(tmp_path: Path) -> None:
    """The main one's need no schema."""
    with duckdb.connect(tmp_path / "lab.duckdb") as db:
        db.execute("CREATE TABLE runs AS SELECT TIMESTAMP '2026-01-01' AS t, 1.5 AS wall_ms")
        db.execute("CREATE SCHEMA s; CREATE TABLE s.x AS SELECT 1767225600000 AS time, 2 AS y")
    found = await looked(str(tmp_path / "lab.duckdb"), tmp_path)
    assert found.source.options == {"url": "duckdb:///lab.duckdb"}
    assert {d.name: dict(d.options) for d in found.source.datasets} == {
        "runs": {"table": "runs"},
        "s_x": {"table": "s.x", "time_as": "epoch_ms"},
    }
    assert found.column("wall_ms", "runs")["unit"] == "ms"


@pytest.mark.parametrize("content", [b"SQLite format 3\0" + b"\xff" * 4_096, b"not a database at all" * 100])
async def test_a_corrupt_file_is_told(content: bytes, tmp_path: Path) -> None:
    """By the database's own words."""
    (tmp_path / "lab.sqlite3").write_bytes(content)
    with pytest.raises(SourceError, match=r"(?i)database|malformed"):
        await looked(str(tmp_path / "lab.sqlite3"), tmp_path)


async def test_a_cut_file_is_told(lab: Path) -> None:
    """Its first pages say what was there."""
    lab.write_bytes(lab.read_bytes()[:5_000])
    with pytest.raises(SourceError):
        await looked(str(lab), lab.parent)


async def test_a_locked_file_is_told_and_left_as_it_was(lab: Path) -> None:
    """Whoever writes to it goes on."""
    with sqlite3.connect(lab, isolation_level=None) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SourceError, match=r"(?i)lock|busy"):
            await looked(str(lab), lab.parent)
        db.execute("INSERT INTO runs (model) VALUES ('x')")
        db.execute("COMMIT")
    db.close()


async def test_a_database_without_tables_is_told(tmp_path: Path) -> None:
    """There is nothing to write."""
    sqlite3.connect(tmp_path / "none.db").close()
    with sqlite3.connect(tmp_path / "none.db") as db:
        db.execute("VACUUM")
    db.close()
    with pytest.raises(SourceError) as caught:
        await looked(str(tmp_path / "none.db"), tmp_path)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("url", "options", "sentence"),
    [
        ("postgresql://u:hunter2@127.0.0.1/lab", {}, "--token-file"),
        ("postgresql://127.0.0.1/lab?password=hunter2", {}, "--token-file"),
        ("postgres://u@127.0.0.1/lab?options=-c", {}, "options"),
        ("postgresql://u@127.0.0.1", {}, "cannot be asked"),
        ("sqlite://host/x", {}, "cannot be asked"),
        ("postgresql://u@127.0.0.1/lab", {"headers": {"a": "b"}}, "no header"),
        ("postgresql://u@169.254.169.254/lab", {}, "link-local"),
    ],
)
async def test_urls_with_secrets_or_of_no_use_are_refused(url: str, options: dict, sentence: str) -> None:  # type: ignore[type-arg]
    """The sentence repeats no password."""
    with pytest.raises(BadRequest) as caught:
        await looked(url, **options)
    assert sentence in caught.value.sentence
    assert "hunter2" not in caught.value.sentence


async def test_postgres_tables_of_all_schemas(tmp_path: Path) -> None:
    """Named by the database; a password is read from a file, and asked for by its option."""
    server = postgres.running()
    server.execute(
        "DROP SCHEMA IF EXISTS infer CASCADE",
        "CREATE SCHEMA infer",
        "CREATE TABLE infer.runs AS SELECT TIMESTAMPTZ '2026-01-01' AS started_at, 0.5 AS accuracy",
        f"GRANT USAGE ON SCHEMA infer TO {postgres.GUARDED}",
        f"GRANT SELECT ON infer.runs TO {postgres.GUARDED}",
    )
    found = await looked(server.url(), tmp_path, table="infer.runs")
    assert found.source.name == "postgres"
    assert found.only.options == {"table": "infer.runs"}
    assert found.column("started_at")["role"] == "time"
    assert found.column("accuracy")["unit"] == "percentunit"
    guarded = server.url(postgres.GUARDED)
    with pytest.raises(NeedsAuth) as caught:
        await looked(guarded, tmp_path)
    assert "--token-file" in caught.value.sentence
    (tmp_path / "password").write_text(postgres.PASSWORD)
    found = await looked(guarded, tmp_path, token_file=tmp_path / "password", table="runs")
    assert found.source.options == {"url": guarded, "password_file": "password"}


async def test_a_table_that_cannot_be_read_is_left_out(lab: Path) -> None:
    """The others are there, and the reason is said; one alone is an error."""
    with sqlite3.connect(lab) as db:
        db.execute("CREATE VIEW broken AS SELECT gone FROM nowhere")
    db.close()
    found = await looked(str(lab), lab.parent)
    assert "broken" not in [dataset.name for dataset in found.source.datasets]
    (note,) = found.source.notes
    assert "left out: broken: " in note
    assert "infer.t" not in note
    with pytest.raises(SourceError, match="none that can be read"):
        await looked(str(lab), lab.parent, table="broken")


async def test_a_named_server_in_a_private_network_is_trusted(tmp_path: Path) -> None:
    """It is refused for another reason than its address."""
    with pytest.raises(UpstreamUnavailable):
        await looked(f"postgresql://u@{socket.gethostname()}:1/lab", tmp_path)


async def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    """Looking leaves nothing behind."""
    with pytest.raises(SourceError):
        await looked(f"sqlite:///{tmp_path}/none.db", tmp_path)
    assert not list(tmp_path.iterdir())
