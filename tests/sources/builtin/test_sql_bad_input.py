"""Queries that write, reach out, never end or return too much: each a sentence, and a healthy process."""

# ruff: noqa: S608  the SQL is made of names of the tests themselves

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from blockbuster import BlockBuster

from bridge.errors import (
    AnswerTooLarge,
    DataMissing,
    Retry,
    SourceError,
    UpstreamInvalid,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from bridge.model.query import Query
from bridge.sources.builtin.sql.duckdb_engine import _CONFIG, DuckdbEngine
from bridge.sources.builtin.sql.engine import FarColumn, Kind, Session, Statement
from bridge.sources.builtin.sql.postgres_engine import PostgresSession
from bridge.sources.builtin.sql.runner import MAX_THREADS, Handle, Runner
from bridge.sources.builtin.sql.sqlite_engine import SqliteEngine, SqliteSession
from servers.postgres import running
from servers.sql_rig import SYSTEMS, Lab, columns

NUMBER = columns("x:number")
ENDLESS = {
    "sqlite": "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) AS x FROM c",
    "duckdb": "SELECT count(*) AS x FROM range(10000000) a, range(10000000) b WHERE hash(a.range + b.range) = 1",
    "postgres": "SELECT 1 AS x FROM pg_sleep(1e9)",
}
# Many more rows than may be answered, without a table of as many.
MANY = {
    "sqlite": "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 100000000) SELECT x FROM c",
    "duckdb": "SELECT range AS x FROM range(100000000)",
    "postgres": "SELECT generate_series(1, 100000000) AS x",
}
LONG = {
    "sqlite": "SELECT hex(zeroblob(45000000)) AS x",
    "duckdb": "SELECT repeat('x', 90000000) AS x",
    "postgres": "SELECT repeat('x', 90000000) AS x",
}


def threads(name: str) -> int:
    return sum(thread.name == name for thread in threading.enumerate())


async def until(true: Callable[[], bool]) -> None:
    """Waits for what another thread does; a hang is the test's deadline."""
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


def session_of(lab: Lab) -> Session:
    """A connection as the source makes it, to show what the engine alone holds back."""
    if lab.system == "sqlite":
        return SqliteEngine(lab.file).connect(5)
    if lab.system == "duckdb":
        return DuckdbEngine(lab.file).connect(5)
    source = lab.source(table="t")
    return source._engine.connect(5)


WRITES = {
    "sqlite": (
        "DELETE FROM {t}",
        "INSERT INTO {t} VALUES (2)",
        "CREATE TABLE other (a)",
        "CREATE TEMP TABLE other (a)",
        "DROP TABLE {t}",
        "PRAGMA query_only = OFF",
        "PRAGMA writable_schema = ON",
        "ATTACH '{f}/other.db' AS other",
        "VACUUM INTO '{f}/copy.db'",
        "SELECT load_extension('{f}/x')",
        "BEGIN IMMEDIATE",
        "UPDATE sqlite_master SET sql = ''",
    ),
    "duckdb": (
        "DELETE FROM {t}",
        "INSERT INTO {t} VALUES (2)",
        "CREATE TABLE other (a int)",
        "COPY {t} TO '{f}/copy.csv'",
        "ATTACH '{f}/other.duckdb' AS other",
        "EXPORT DATABASE '{f}/all'",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "PRAGMA threads = 64",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
    ),
    "postgres": (
        "DELETE FROM {t}",
        "INSERT INTO {t} VALUES (2)",
        "CREATE TABLE other (a int)",
        "COPY {t} TO '{f}/copy.csv'",
        "COPY {t} TO PROGRAM 'touch {f}/copy.csv'",
        "SELECT * FROM {t} FOR UPDATE",
        "SET TRANSACTION READ WRITE",
        "SELECT set_config('transaction_read_only', 'off', true)",
    ),
}


def run(session: Session, sql: str) -> None:
    session.execute(Statement(sql))
    session.fetch(1)


@pytest.mark.parametrize(
    ("system", "statement"), [(system, statement) for system in SYSTEMS for statement in WRITES[system]]
)
def test_the_connection_itself_takes_nothing_that_writes_or_reaches_out(
    tmp_path: Path, system: str, statement: str
) -> None:
    """Even what would get past the reading of its text."""
    lab = Lab(system, tmp_path)
    table = lab.table("a int", [(1,)])
    source = lab.source(table=table)
    session = session_of(lab)
    before = sorted(tmp_path.iterdir())
    try:
        session.begin(5)
        with pytest.raises(Exception, match=r"\w") as caught:
            run(session, statement.format(t=table, f=tmp_path))
        found = source._engine.translate(caught.value, "`s.d`")
        assert isinstance(found, SourceError | AnswerTooLarge), caught.value
        assert found.message.startswith("`s.d`: ")
    finally:
        session.close()
    assert sorted(tmp_path.iterdir()) == before
    frame = asyncio.run(lab.ask(columns("a:number"), table=table))
    assert frame.data["a"].to_list() == [1]
    lab.drop()


@pytest.mark.parametrize(
    ("system", "query", "said"),
    [
        ("sqlite", "SELECT load_extension('x') AS x", "only reading is possible"),
        ("sqlite", "SELECT name AS x FROM pragma_table_info('t')", "only reading is possible"),
        ("duckdb", "SELECT * FROM read_csv('/etc/passwd')", "only the database file itself is read"),
        ("duckdb", "SELECT * FROM '/etc/passwd'", "does not exist"),
        ("duckdb", "SELECT * FROM glob('/etc/*')", "only the database file itself is read"),
        ("postgres", "SELECT nextval('{s}') AS x", "only reading is possible"),
        ("postgres", "SELECT setval('{s}', 5) AS x", "only reading is possible"),
        ("postgres", "SELECT 1 / 0 AS x", "division by zero"),
        ("sqlite", "SELECT 1 AS x FROM", "syntax error"),
        ("duckdb", "SELECT 1 AS x FROM", "syntax error"),
        ("postgres", "SELECT 1 AS x FROM", "syntax error"),
        ("sqlite", "SELECT ? AS x", "refuses"),
    ],
)
async def test_a_query_the_database_refuses_is_a_sentence_that_asking_again_does_not_change(
    tmp_path: Path, system: str, query: str, said: str
) -> None:
    lab = Lab(system, tmp_path)
    lab.table("unused int")
    if system == "postgres":
        running().execute("CREATE SEQUENCE IF NOT EXISTS counted")
    with pytest.raises(SourceError, match=said) as caught:
        await lab.ask(query=query.format(s="counted"))
    assert caught.value.message.startswith("`s.d`: ")
    assert caught.value.remedy
    assert caught.value.retry is Retry.NEVER


def test_each_of_sqlites_guards_holds_without_the_others(tmp_path: Path) -> None:
    """The file is opened for reading only, and the connection is set to be; the authorizer comes before both."""
    lab = Lab("sqlite", tmp_path)
    table = lab.table("a int", [(1,)])
    session = SqliteEngine(lab.file).connect(5)
    assert isinstance(session, SqliteSession)
    try:
        session._db.set_authorizer(None)
        assert session._db.execute("PRAGMA query_only").fetchone() == (1,)
        session._db.execute("PRAGMA query_only = OFF")
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            session._db.execute(f"DELETE FROM {table}")
    finally:
        session.close()


def test_duckdb_reads_only_outside_of_a_transaction_too(tmp_path: Path) -> None:
    lab = Lab("duckdb", tmp_path)
    table = lab.table("a int", [(1,)])
    session = DuckdbEngine(lab.file).connect(5)
    try:
        with pytest.raises(Exception, match="read-only mode"):
            session.execute(Statement(f"DELETE FROM {table}"))
    finally:
        session.close()


@pytest.mark.parametrize("undone", ["SET default_transaction_read_only = off", None])
def test_each_of_postgresqls_guards_holds_without_the_other(tmp_path: Path, undone: str | None) -> None:
    lab = Lab("postgres", tmp_path)
    table = lab.table("a int", [(1,)])
    session = session_of(lab)
    try:
        assert isinstance(session, PostgresSession)
        if undone is None:
            session._db.read_only = None
        else:
            session._db.execute(undone)
            session._db.commit()
        session.begin(5)
        with pytest.raises(Exception, match="read-only transaction"):
            session._db.execute(f"DELETE FROM {table}")
    finally:
        session.close()
        lab.drop()


async def test_the_database_is_told_how_many_rows_are_wanted(lab: Lab) -> None:
    table = lab.table("x int", [(1,)])
    source = lab.source(NUMBER, table=table)
    statement, _ = source._plans["d"].rows(Query("s.d"), (FarColumn("x", Kind.NUMBER),), NUMBER, 500)
    assert " LIMIT " in statement.sql
    assert list(statement.args.values()) == [501]


async def test_what_a_function_changes_in_postgresql_is_rolled_back(tmp_path: Path) -> None:
    """Settings, and the large objects that older servers let a reader make."""
    lab = Lab("postgres", tmp_path)
    query = (
        "SELECT set_config('search_path', 'nowhere', false) AS a, set_config('statement_timeout', '0', false) AS b"
    )
    table = lab.table("a int", [(1,)])
    async with lab.open(query=query) as source:
        await source.collect(Query("s.d"))
        session = source._connections._taken()
        assert session is not None
        session.execute(Statement("SELECT current_setting('search_path'), current_setting('transaction_read_only')"))
        assert session.fetch(1)[0] == ('"$user", public', "on")
        session.close()
    with running().connect() as db:
        before = db.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone()
        with suppress(UpstreamRefused):
            await lab.ask(query="SELECT lo_create(0) AS a")
        assert db.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone() == before
    assert (await lab.ask(table=table)).rows == 1
    lab.drop()


async def test_more_rows_than_may_be_answered_are_refused_while_they_are_read(lab: Lab) -> None:
    with pytest.raises(AnswerTooLarge, match=r"`s.d`: more than 5,000 rows"):
        await lab.ask(NUMBER, query=MANY[lab.system], limits={"max_rows": 5_000})


async def test_as_many_rows_as_may_be_answered_are_given(lab: Lab) -> None:
    query = f"SELECT * FROM ({MANY[lab.system]}) AS m LIMIT 5000"
    assert (await lab.ask(NUMBER, query=query, limits={"max_rows": 5_000})).rows == 5_000


async def test_more_bytes_than_may_be_held_are_refused_while_they_are_read(lab: Lab) -> None:
    word = {"sqlite": "printf('%.*c', 1000, 'x')"}.get(lab.system, "repeat('x', 1000)")
    query = f"SELECT {word} AS x FROM ({MANY[lab.system]}) AS m"
    with pytest.raises(AnswerTooLarge, match=r"`s.d`: the rows have more than 400,000 bytes"):
        await lab.ask(columns("x:string"), query=query, limits={"max_bytes": 100_000})


async def test_a_single_enormous_value_is_refused(lab: Lab) -> None:
    with pytest.raises(AnswerTooLarge, match=r"`s.d`: a (value|row)"):
        await lab.ask(columns("x:string"), query=LONG[lab.system])


@pytest.mark.parametrize("query", ["SELECT repeat('x', 90000000)::blob AS x", "SELECT range(900000) AS x"])
async def test_enormous_values_of_other_types_are_refused_by_duckdb(tmp_path: Path, query: str) -> None:
    lab = Lab("duckdb", tmp_path)
    lab.table("unused int")
    with pytest.raises(AnswerTooLarge):
        await lab.ask(columns("x:string"), query=query)


@pytest.mark.parametrize(
    "query", ["SELECT convert_to(repeat('x', 9000000), 'UTF8') AS x", "SELECT array_fill(1, array[900000]) AS x"]
)
async def test_enormous_values_of_other_types_are_refused_by_postgresql(tmp_path: Path, query: str) -> None:
    with pytest.raises(AnswerTooLarge):
        await Lab("postgres", tmp_path).ask(columns("x:string"), query=query)


async def test_a_query_that_needs_too_much_memory_is_refused_by_duckdb(tmp_path: Path) -> None:
    lab = Lab("duckdb", tmp_path)
    lab.table("unused int")
    with pytest.raises(AnswerTooLarge, match="512MB of memory"):
        await lab.ask(NUMBER, query="SELECT range AS x FROM range(100000000) ORDER BY hash(range)")


async def test_a_query_that_never_ends_is_cancelled_at_the_deadline_and_its_thread_comes_back(lab: Lab) -> None:
    async with lab.open(NUMBER, query=ENDLESS[lab.system], source={"deadline_s": 0.5}) as source:
        with pytest.raises(UpstreamTimeout, match=r"`s.d`: .*(within 0.5 s|gave up)"):
            await source.collect(Query("s.d"))
        await until(lambda: source._runner.count == 0)
    await until(lambda: threads("sql s") + threads("sql interrupt") == 0)
    if lab.system == "postgres":
        await until(lambda: not _sleeping())


def _sleeping() -> bool:
    with running().connect() as db:
        row = db.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bridge' AND state = 'active'"
        ).fetchone()
    return bool(row and row[0])


async def test_whoever_leaves_takes_the_query_along(lab: Lab) -> None:
    # Longer than the test: neither the deadline nor the server's own limit ends it.
    async with lab.open(NUMBER, query=ENDLESS[lab.system], source={"deadline_s": 600}) as source:
        task = asyncio.create_task(source.collect(Query("s.d")))
        await until(_sleeping if lab.system == "postgres" else lambda: source._runner.count == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: source._runner.count == 0)
        if lab.system == "postgres":
            await until(lambda: not _sleeping())


async def test_a_slow_database_holds_up_neither_the_loop_nor_its_default_threads(
    lab: Lab, no_blocking: BlockBuster
) -> None:
    async with lab.open(NUMBER, query=ENDLESS[lab.system], source={"deadline_s": 60}) as source:
        tasks = [asyncio.create_task(source.collect(Query("s.d"))) for _ in range(40)]
        await until(lambda: source._runner.count == MAX_THREADS)
        async with asyncio.timeout(20):
            assert await asyncio.to_thread(lambda: 1) == 1
        assert threads("sql s") == MAX_THREADS
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await until(lambda: source._runner.count == 0)


async def test_waiting_for_a_thread_counts_as_well(lab: Lab) -> None:
    async with lab.open(NUMBER, query=ENDLESS[lab.system], source={"deadline_s": 1.0}) as source:
        answers = await asyncio.gather(
            *(source.collect(Query("s.d")) for _ in range(MAX_THREADS + 3)), return_exceptions=True
        )
    assert {type(answer) for answer in answers} == {UpstreamTimeout}


async def test_closing_ends_what_runs(lab: Lab) -> None:
    source = lab.source(NUMBER, query=ENDLESS[lab.system])
    task = asyncio.create_task(source.collect(Query("s.d")))
    await until(lambda: source._runner.count == 1)
    await source.aclose()
    assert source._runner.count == 0
    with pytest.raises(UpstreamUnavailable, match="closed"):
        await task
    with pytest.raises(UpstreamUnavailable, match="closed"):
        await source.collect(Query("s.d"))


async def test_after_an_error_the_next_question_is_answered(lab: Lab) -> None:
    table = lab.table("x int", [(1,)])
    async with lab.open(NUMBER, table=table) as source:
        for _ in range(2):
            assert (await source.collect(Query("s.d"))).rows == 1
            lab.run(f"ALTER TABLE {table} RENAME TO gone")
            with pytest.raises(DataMissing):
                await source.collect(Query("s.d"))
            lab.run(f"ALTER TABLE gone RENAME TO {table}")
        assert (await source.collect(Query("s.d"))).rows == 1


async def test_connections_are_used_again(tmp_path: Path) -> None:
    lab = Lab("postgres", tmp_path)
    query = "SELECT pg_backend_pid() AS x"
    async with lab.open(NUMBER, query=query) as source:
        pids = {(await source.collect(Query("s.d"))).data["x"][0] for _ in range(3)}
        assert len(pids) == 1
        await asyncio.gather(*(source.collect(Query("s.d")) for _ in range(12)))
        assert len(source._connections._idle) <= MAX_THREADS
    await until(lambda: not _connected(pids))


def _connected(pids: set[int]) -> bool:
    with running().connect() as db:
        row = db.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)", [list(pids)]).fetchone()
    return bool(row and row[0])


@pytest.mark.parametrize("system", ["sqlite", "duckdb"])
@pytest.mark.parametrize("content", [b"", b"not a database" * 500, None])
async def test_a_file_that_is_no_database_is_said(tmp_path: Path, system: str, content: bytes | None) -> None:
    lab = Lab(system, tmp_path)
    if content is None:
        lab.file.mkdir()
    else:
        lab.file.write_bytes(content)
    async with lab.open(table="t") as source:
        with pytest.raises((UpstreamInvalid, DataMissing)) as caught:
            await source.collect(Query("s.d"))
        assert str(tmp_path) not in caught.value.message or system == "duckdb"
        ping = await source.ping()
        assert ping.ok is (content == b"" and system == "sqlite")


@pytest.mark.parametrize("system", ["sqlite", "duckdb"])
async def test_a_missing_file_is_said_and_not_made(tmp_path: Path, system: str) -> None:
    lab = Lab(system, tmp_path)
    async with lab.open(table="t") as source:
        with pytest.raises(DataMissing, match=f"`lab.{system}` cannot be read"):
            await source.collect(Query("s.d"))
        ping = await source.ping()
    assert not ping.ok
    assert f"lab.{system}" in ping.text
    assert list(tmp_path.iterdir()) == []


async def test_a_damaged_sqlite_file_is_said(tmp_path: Path) -> None:
    lab = Lab("sqlite", tmp_path)
    table = lab.table("a text", [("x" * 500,)] * 100)
    content = bytearray(lab.file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    lab.file.write_bytes(content)
    with pytest.raises(UpstreamInvalid, match="cannot be read as a SQLite database"):
        await lab.ask(columns("a:string"), table=table)


async def test_a_sqlite_file_that_is_being_written_is_asked_again(tmp_path: Path) -> None:
    lab = Lab("sqlite", tmp_path)
    table = lab.table("a int", [(1,)])
    writer = sqlite3.connect(lab.file, isolation_level=None)
    try:
        writer.execute("BEGIN EXCLUSIVE")
        async with lab.open(table=table) as source:
            with pytest.raises(UpstreamUnavailable, match="another program holds the file") as caught:
                await source.collect(Query("s.d"))
            assert caught.value.retry is Retry.LATER
            writer.execute("COMMIT")
            assert (await source.collect(Query("s.d"))).rows == 1
    finally:
        writer.close()


WRITER = """
import duckdb, sys
db = duckdb.connect(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
db.execute(sys.argv[2])
db.close()
"""


async def test_a_duckdb_file_that_another_program_writes_is_said_and_found_again(tmp_path: Path) -> None:
    lab = Lab("duckdb", tmp_path)
    table = lab.table("a int", [(1,)])
    command = [sys.executable, "-c", WRITER, str(lab.file), f"INSERT INTO {table} VALUES (2)"]
    async with lab.open(table=table) as source:
        assert (await source.collect(Query("s.d"))).rows == 1
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "open\n"
            with pytest.raises(UpstreamUnavailable, match="another program writes to the DuckDB file") as caught:
                await source.collect(Query("s.d"))
            assert caught.value.retry is Retry.LATER
            writer.communicate("\n")
        assert (await source.collect(Query("s.d"))).rows == 2


async def test_readings_of_one_duckdb_file_go_on_side_by_side(tmp_path: Path) -> None:
    """They share an instance, whose settings are locked by the first."""
    lab = Lab("duckdb", tmp_path)
    table = lab.table("a timestamptz", [(datetime(2026, 1, 1, tzinfo=UTC),)])
    async with lab.open(table=table) as one, lab.open(table=table) as two:
        frames = await asyncio.gather(*(source.collect(Query("s.d")) for source in (one, two) * 8))
    assert {frame.data["a"][0] for frame in frames} == {datetime(2026, 1, 1, tzinfo=UTC)}


async def test_a_stop_that_comes_before_the_statement_is_not_forgotten() -> None:
    """Drivers forget an interrupt that comes while nothing runs, so it is repeated until the thread is back."""
    begun, interrupts = threading.Event(), []

    class Deaf(SqliteSession):
        def __init__(self) -> None:
            self.released = threading.Event()

        def interrupt(self, attempt: int) -> None:
            interrupts.append(attempt)
            if attempt >= 2:
                self.released.set()

    def work(handle: Handle) -> str:
        session = Deaf()
        handle.hold(session)
        begun.set()
        session.released.wait(20)
        return "too late"

    runner = Runner("s")
    task = asyncio.create_task(runner.run(work, 30))
    await until(begun.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: runner.count == 0)
    assert interrupts[:3] == [0, 1, 2]


@pytest.mark.parametrize(("system", "package"), [("duckdb", "duckdb"), ("postgres", "psycopg")])
def test_a_missing_driver_is_said_with_what_to_install(tmp_path: Path, system: str, package: str) -> None:
    """The rest of bridge runs without it."""
    script = f"""
import asyncio, sys
sys.modules[{package!r}] = None
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from bridge.model.query import Query
from bridge.model.clock import SystemClock
from bridge.sources.base import DatasetSpec, Tools
from bridge.sources.builtin.sql import SqlSource
url = "duckdb:///x.duckdb" if {system!r} == "duckdb" else "postgresql://me@127.0.0.1:9/x"
options = SqlSource.SourceOptions(url=url)
spec = DatasetSpec("d", SqlSource.DatasetOptions(table="t"))
source = SqlSource("s", options, {{"d": spec}}, Tools(None, SystemClock(), Path(".")))
print(asyncio.run(source.ping()).text)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert f"`{package}` is not installed" in done.stdout
    assert f'pip install "bridge[{system}]"' in done.stdout


def test_a_duckdb_file_that_this_process_opened_with_other_settings_is_not_read(tmp_path: Path) -> None:
    """Openings share their settings, so that those of another would hold for bridge's as well."""
    lab = Lab("duckdb", tmp_path)
    table = lab.table("a int", [(1,)])
    other = duckdb.connect(str(lab.file), read_only=True, config=_CONFIG)
    try:
        other.execute("SET GLOBAL TimeZone = 'Asia/Tokyo'")
        other.execute("SET lock_configuration = true")
        with pytest.raises(UpstreamRefused, match="locked"):
            asyncio.run(lab.ask(table=table))
    finally:
        other.close()
