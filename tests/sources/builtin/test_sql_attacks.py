"""What reaches past the text of a query: the machine's settings, sessions used again, values that fill the memory."""

# ruff: noqa: S608  the SQL is made of names of the tests themselves

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.errors import (
    AnswerTooLarge,
    BadQuery,
    DataMissing,
    SourceError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from bridge.model.filters import Filter, Op, parse_filter
from bridge.model.query import Query
from bridge.model.schema import Param
from bridge.sources.builtin.sql.engine import MAX_CELL_CHARS, Statement
from bridge.sources.builtin.sql.postgres_engine import PostgresSession
from bridge.sources.builtin.sql.runner import MAX_THREADS, Handle, Runner
from servers.postgres import GUARDED, PASSWORD, running
from servers.sql_rig import Lab, columns

ONE = columns("x:number")
LONG = {"sqlite": f"printf('%.*c', {MAX_CELL_CHARS}, 'x')"}
ROWS = {
    "sqlite": "(WITH RECURSIVE c(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c LIMIT {n}) SELECT i FROM c) AS g",
    "duckdb": "range({n}) AS g(i)",
    "postgres": "generate_series(0, {n} - 1) AS g(i)",
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Lab]:
    made = Lab("postgres", tmp_path)
    yield made
    made.drop()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


def session_of(lab: Lab) -> PostgresSession:
    session = lab.source(table="t")._engine.connect(5)
    assert isinstance(session, PostgresSession)
    return session


@pytest.mark.parametrize("value", ["\ud800", "svm\0"])
@pytest.mark.parametrize("op", [Op.EQ, Op.NE])
async def test_a_filter_value_that_is_no_text_to_a_database_is_left_to_bridge(lab: Lab, value: str, op: Op) -> None:
    table = lab.table("w varchar(9)", [("svm",), ("mlp",)])
    async with lab.open(columns("w:string"), table=table) as source:
        asked = source.narrow(Query("s.d", filters=(Filter("w", op, (value,)),)))
        assert asked.filters == ()
        assert (await source.collect(asked)).rows == 2


@pytest.mark.parametrize("value", ["\ud800", "svm\0"])
async def test_a_parameter_that_is_no_text_to_a_database_is_a_sentence(lab: Lab, value: str) -> None:
    table = lab.table("w varchar(9)", [("svm",)])
    query = f"SELECT w FROM {table} WHERE w = :only"
    with pytest.raises(BadQuery, match="`only` holds a character that is none"):
        await lab.ask(
            columns("w:string"),
            query=query,
            params=(Param("only"),),
            asked=Query("s.d", params=(("only", (value,)),)),
        )


@pytest.mark.parametrize("text", ["n>5", "n<5", "n=7", "n>=0"])
async def test_decimals_that_no_float_can_hold_do_not_break_a_filter(server: Lab, text: str) -> None:
    table = server.table("n numeric", [(value,) for value in ("1e400", "-1e400", "1e-400", "NaN", "infinity", "7")])
    shown = columns("n:number")
    whole = await server.ask(shown, table=table)
    async with server.open(shown, table=table) as source:
        await source.collect(Query("s.d"))
        asked = source.narrow(Query("s.d", filters=(parse_filter(text),)))
        assert asked.filters
        kept = (await source.collect(asked)).data["n"].to_list()
    lower, upper = {"n>5": (5, None), "n<5": (None, 5), "n=7": (7, 7), "n>=0": (0, None)}[text]
    wanted = [
        value for value in whole.data["n"].to_list()
        if (lower is None or value >= lower) and (upper is None or value <= upper)
    ]  # fmt: skip
    assert set(map(str, wanted)) <= set(map(str, kept))
    assert len(kept) < 6


async def test_wide_rows_of_long_values_are_refused_before_they_fill_the_memory(lab: Lab) -> None:
    """Each value is within its limit; all of a first batch together would be half a gigabyte."""
    word = LONG.get(lab.system, f"repeat('x', {MAX_CELL_CHARS})")
    listed = ", ".join(f"{word} AS c{n}" for n in range(30))
    query = f"SELECT {listed} FROM {ROWS[lab.system].format(n=64)}"
    shown = columns(*(f"c{n}:string" for n in range(30)))
    tracemalloc.start()
    try:
        with pytest.raises(AnswerTooLarge, match="the rows have more than"):
            await lab.ask(shown, query=query, limits={"max_bytes": 4_000_000})
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 300_000_000


async def test_long_values_behind_many_short_ones_are_refused_before_they_fill_the_memory(lab: Lab) -> None:
    """By then the batches have grown."""
    word = LONG.get(lab.system, f"repeat('x', {MAX_CELL_CHARS})")
    query = f"SELECT CASE WHEN i < 8128 THEN 'x' ELSE {word} END AS x FROM {ROWS[lab.system].format(n=12_000)}"
    tracemalloc.start()
    try:
        with pytest.raises(AnswerTooLarge, match="the rows have more than"):
            await lab.ask(columns("x:string"), query=query, limits={"max_bytes": 4_000_000})
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 400_000_000


async def test_a_pattern_that_sqlite_could_not_be_interrupted_in_is_refused(tmp_path: Path) -> None:
    lab = Lab("sqlite", tmp_path)
    table = lab.table("w text", [("a" * 2_000,)])
    query = f"SELECT w FROM {table} WHERE w LIKE :like"
    for length, rows in ((900, 1), (1_001, None)):
        asked = Query("s.d", params=(("like", ("a" * (length - 1) + "%",)),))
        work = lab.ask(columns("w:string"), query=query, params=(Param("like"),), asked=asked)
        if rows:
            assert (await work).rows == rows
        else:
            with pytest.raises(UpstreamRefused, match="pattern too complex"):
                await work


async def test_locks_that_a_function_takes_end_with_the_question(server: Lab) -> None:
    """They belong to the session, which no rollback ends."""
    async with server.open(query="SELECT pg_try_advisory_lock(4711) AS x") as source:
        assert (await source.collect(Query("s.d"))).rows == 1
        assert source._connections.has_idle()
        with running().connect() as db:
            found = db.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711")
            assert found.fetchone() == (0,)


async def test_a_connection_that_is_lost_after_the_last_row_costs_no_answer_and_is_not_used_again(
    server: Lab,
) -> None:
    session = session_of(server)
    session.begin(5)
    session.execute(Statement("SELECT pg_backend_pid()"))
    pid = session.fetch(1)[0][0]
    with running().connect() as db:
        db.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    session.end()
    assert not session.is_current()
    session.close()


def test_the_question_for_columns_takes_one_statement_only(server: Lab) -> None:
    """Even one that would get past the reading of its text."""
    query = "SELECT 1 AS x; COMMIT; SET default_transaction_read_only = off; CREATE TABLE broken_in (a int)"
    session = session_of(server)
    try:
        session.begin(5)
        with pytest.raises(Exception, match="multiple commands"):
            session.describe(Statement(query))
    finally:
        session.close()


def test_backslashes_in_texts_mean_what_bridge_reads_whatever_the_role_is_set_to(server: Lab) -> None:
    running().execute(f"ALTER ROLE {GUARDED} SET standard_conforming_strings = off")
    try:
        source = server.source(table="t", source={"url": running().url(GUARDED), "password": PASSWORD})
        session = source._engine.connect(5)
        try:
            session.begin(5)
            session.execute(Statement(r"SELECT '\'"))
            assert session.fetch(1) == [("\\",)]
        finally:
            session.close()
    finally:
        running().execute(f"ALTER ROLE {GUARDED} RESET ALL")


ENV = """
import asyncio, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from servers.sql_rig import Lab
from bridge.model.clock import SystemClock
from bridge.sources.base import DatasetSpec, Tools
from bridge.sources.builtin.sql import SqlSource
options = SqlSource.SourceOptions(url={url!r})
spec = DatasetSpec("d", SqlSource.DatasetOptions(table="t"))
print(asyncio.run(SqlSource("s", options, {{"d": spec}}, Tools(None, SystemClock(), Path("."))).ping()).text)
"""


@pytest.mark.parametrize("where", ["variable", "file", "home"])
def test_no_password_of_the_machines_user_is_sent(tmp_path: Path, where: str) -> None:
    """The settings alone say which credential a server gets."""
    there = tmp_path / ".pgpass"
    there.write_text(f"*:*:*:*:{PASSWORD}\n")
    there.chmod(0o600)
    given = {
        "variable": {"PGPASSWORD": PASSWORD},
        "file": {"PGPASSFILE": str(there)},
        "home": {"HOME": str(tmp_path)},
    }
    script = ENV.format(tests=str(Path(__file__).parents[2]), url=running().url(GUARDED))
    env = {**os.environ, **given[where]}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env)
    assert "no password supplied" in done.stdout
    assert done.stderr == ""


class Panic(BaseException):
    """What a native library raises when it panics: no Exception."""


async def test_a_panic_below_costs_neither_the_thread_nor_the_answer() -> None:
    runner = Runner("s")

    def work(handle: Handle) -> None:
        raise Panic("index out of bounds")

    for _ in range(MAX_THREADS + 1):
        with pytest.raises(RuntimeError, match="index out of bounds"):
            await runner.run(work, 20)
    assert runner.count == 0


async def test_a_thread_that_cannot_be_started_is_no_thread_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner("s")

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as broken:
        broken.setattr(threading.Thread, "start", refuse)
        for _ in range(MAX_THREADS + 1):
            with pytest.raises(UpstreamUnavailable, match="no thread"):
                await runner.run(lambda handle: 1, 20)
    assert runner.count == 0
    assert await runner.run(lambda handle: 1, 20) == 1


async def test_two_hundred_questions_that_nobody_waits_for_leave_no_thread(lab: Lab) -> None:
    query = f"SELECT count(*) AS x FROM {ROWS[lab.system].format(n=50_000_000)}"
    async with lab.open(ONE, query=query, source={"deadline_s": 600}) as source:
        for _ in range(50):
            tasks = [asyncio.create_task(source.collect(Query("s.d"))) for _ in range(4)]
            await until(lambda: source._runner.count > 0)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        await until(lambda: source._runner.count == 0)
    await until(lambda: not any(thread.name.startswith("sql ") for thread in threading.enumerate()))


async def test_a_server_that_goes_silent_while_connecting_is_a_deadline(server: Lab) -> None:
    """It accepts and says nothing, agrees to TLS and says nothing, or refuses TLS and never asks for a password."""
    await asyncio.gather(*(silent(server, answer) for answer in (b"", b"S", b"N")))


async def silent(server: Lab, answer: bytes) -> None:
    held = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)
        await reader.readexactly(8)
        writer.write(answer)
        await reader.read()

    far = await asyncio.start_server(talk, "127.0.0.1", 0)
    url = f"postgresql://me@127.0.0.1:{far.sockets[0].getsockname()[1]}/x"
    try:
        async with server.open(ONE, query="SELECT 1 AS x", source={"url": url, "deadline_s": 0.5}) as source:
            with pytest.raises(UpstreamTimeout, match=r"within 0.5 s"):
                await source.collect(Query("s.d"))
            await until(lambda: source._runner.count == 0)
    finally:
        far.close()
        for writer in held:
            writer.close()


async def test_a_table_that_another_session_has_locked_is_a_deadline(server: Lab) -> None:
    table = server.table("x int", [(1,)])
    with running().connect() as db:
        db.execute("BEGIN")
        db.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        async with server.open(ONE, table=table, source={"deadline_s": 0.5}) as source:
            with pytest.raises(UpstreamTimeout):
                await source.collect(Query("s.d"))
            await until(lambda: source._runner.count == 0)
            db.execute("ROLLBACK")
            assert (await source.collect(Query("s.d"))).rows == 1


async def test_a_column_that_changes_its_type_under_a_running_service_is_never_shown_as_before(lab: Lab) -> None:
    table = lab.table("x int", [(1,)])
    async with lab.open(table=table) as source:
        assert (await source.collect(Query("s.d"))).data["x"].to_list() == [1]
        lab.run(f"DROP TABLE {table}", f"CREATE TABLE {table} (x varchar(9))", f"INSERT INTO {table} VALUES ('abc')")
        with pytest.raises((SourceError, DataMissing)):
            await source.collect(Query("s.d"))


async def test_views_and_partitioned_tables_are_read_like_tables(server: Lab) -> None:
    table = server.table("x int", [])
    running().execute(
        f"DROP TABLE {table}",
        f"CREATE TABLE {table} (x int, at date) PARTITION BY RANGE (at)",
        f"CREATE TABLE {table}_a PARTITION OF {table} FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
        f"INSERT INTO {table} VALUES (7, '2026-05-01')",
        f"CREATE VIEW {table}_v AS SELECT * FROM {table}",
    )
    for name in (table, f"{table}_v"):
        assert (await server.ask(table=name)).data["x"].to_list() == [7]
