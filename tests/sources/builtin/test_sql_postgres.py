"""What only a real PostgreSQL server does: it asks for passwords, restarts, hangs, and stands at some address."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import AddressRefused, DataMissing, NeedsAuth, Retry, UpstreamTimeout, UpstreamUnavailable
from bridge.model.query import Query
from servers.postgres import GUARDED, PASSWORD, Postgres, own, running
from servers.sql_rig import Lab, columns

ONE = columns("x:number")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab("postgres", tmp_path)
    yield made
    made.drop()


@pytest.fixture
def server() -> Iterator[Postgres]:
    with own() as made:
        yield made


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not true():
            await asyncio.sleep(0.01)


def at(url: str, **options: Any) -> dict[str, Any]:
    return {"url": url, **options}


async def test_a_password_opens_the_door(lab: Lab) -> None:
    source = at(running().url(GUARDED), password=PASSWORD)
    assert (await lab.ask(ONE, query="SELECT 1 AS x", source=source)).rows == 1


@pytest.mark.parametrize("password", ["wr0ng-s3cret", None])
async def test_a_wrong_password_is_said_without_repeating_it(lab: Lab, password: str | None) -> None:
    source = at(running().url(GUARDED), **({"password": password} if password else {}))
    async with lab.open(ONE, query="SELECT 1 AS x", source=source) as opened:
        with pytest.raises(NeedsAuth) as caught:
            await opened.collect(Query("s.d"))
        ping = await opened.ping()
    assert not ping.ok
    for text in (caught.value.sentence, ping.text):
        assert "wr0ng" not in text
    assert caught.value.retry is Retry.NEVER


async def test_the_password_stands_in_no_message_even_if_the_server_repeats_it(lab: Lab) -> None:
    """A query may bring it up itself."""
    source = at(running().url(GUARDED), password=PASSWORD)
    with pytest.raises(Exception, match=r"\*\*\*") as caught:
        await lab.ask(ONE, query=f"SELECT CAST('{PASSWORD}' AS int) AS x", source=source)
    assert PASSWORD not in str(caught.value)


async def test_what_the_user_may_not_read_is_said(lab: Lab) -> None:
    table = lab.table("x int", [(1,)])
    source = at(running().url(GUARDED), password=PASSWORD)
    with pytest.raises(NeedsAuth, match=f"permission denied for table {table}") as caught:
        await lab.ask(ONE, table=table, source=source)
    assert "grant" in caught.value.remedy


@pytest.mark.parametrize(
    ("user", "database", "kind"), [("nobody_here", "postgres", NeedsAuth), ("bridge", "no_such", DataMissing)]
)
async def test_an_unknown_user_or_database_is_said(lab: Lab, user: str, database: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="does not exist"):
        await lab.ask(ONE, query="SELECT 1 AS x", source=at(running().url(user, database)))


async def test_a_server_that_is_not_there_is_said(lab: Lab) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with lab.open(ONE, query="SELECT 1 AS x", source=at(f"postgresql://me@127.0.0.1:{port}/x")) as source:
        with pytest.raises(UpstreamUnavailable, match="refused") as caught:
            await source.collect(Query("s.d"))
        assert caught.value.retry is Retry.LATER
        assert not (await source.ping()).ok


async def test_a_name_that_leads_to_this_machine_is_refused_unless_the_settings_say_so(lab: Lab) -> None:
    name = socket.gethostname()
    url = running().url().replace("127.0.0.1", name)
    with pytest.raises((AddressRefused, UpstreamUnavailable)) as caught:
        await lab.ask(ONE, query="SELECT 1 AS x", source=at(url))
    # The machine's own name leads to a loopback or private address wherever it leads anywhere.
    assert isinstance(caught.value, AddressRefused)
    assert "allow_private" in caught.value.remedy


async def test_localhost_is_named_by_itself(lab: Lab) -> None:
    url = running().url().replace("127.0.0.1", "localhost")
    assert (await lab.ask(ONE, query="SELECT 1 AS x", source=at(url))).rows == 1


async def test_a_name_without_addresses_is_said(lab: Lab) -> None:
    with pytest.raises(UpstreamUnavailable, match=r"`nowhere.invalid` cannot be resolved"):
        await lab.ask(ONE, query="SELECT 1 AS x", source=at("postgresql://me@nowhere.invalid/x"))


async def test_tls_that_is_demanded_and_not_offered_is_said(lab: Lab) -> None:
    with pytest.raises(UpstreamUnavailable, match="SSL"):
        await lab.ask(ONE, query="SELECT 1 AS x", source=at(f"{running().url()}?sslmode=require"))


async def test_a_server_that_restarts_is_found_again(lab: Lab, server: Postgres) -> None:
    async with lab.open(ONE, query="SELECT 1 AS x", source=at(server.url())) as source:
        assert (await source.collect(Query("s.d"))).rows == 1
        server.stop()
        server.start()
        # The first question already: its connection of before is dead, and a new one is made.
        assert (await source.collect(Query("s.d"))).rows == 1
        server.stop()
        with pytest.raises(UpstreamUnavailable):
            await source.collect(Query("s.d"))
        server.start()
        assert (await source.collect(Query("s.d"))).rows == 1


async def test_a_server_that_hangs_is_cut_off_and_its_thread_comes_back(lab: Lab, server: Postgres) -> None:
    """It answers nothing, not even the request to stop."""
    query = "SELECT pg_backend_pid() AS x"
    given = at(server.url(), deadline_s=0.5)
    async with lab.open(ONE, query=query, source=given) as source:
        pid = (await source.collect(Query("s.d"))).data["x"][0]
        os.kill(pid, signal.SIGSTOP)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(UpstreamTimeout):
                await source.collect(Query("s.d"))
            await until(lambda: source._runner.count == 0)
        finally:
            os.kill(server.pid, signal.SIGCONT)
            os.kill(pid, signal.SIGCONT)


async def test_the_server_itself_gives_up_as_well(lab: Lab) -> None:
    """Should bridge die meanwhile, nothing goes on for ever."""
    async with lab.open(ONE, query="SELECT 1 AS x FROM pg_sleep(60)") as source:
        session = source._engine.connect(5)
        try:
            session.begin(0.1)
            with pytest.raises(Exception, match="statement timeout") as caught:
                session.describe(source._plans["d"].rows(Query("s.d"), (), (), 1)[0])
            found = source._engine.translate(caught.value, "`s.d`")
            assert isinstance(found, UpstreamTimeout)
        finally:
            session.close()


async def test_ends_of_connections_are_told_apart_from_refusals(lab: Lab) -> None:
    async with lab.open(ONE, query="SELECT 1 AS x FROM pg_sleep(600)", source={"deadline_s": 60}) as source:
        task = asyncio.create_task(source.collect(Query("s.d")))
        await until(lambda: bool(_killed()))
        with pytest.raises(UpstreamUnavailable, match="terminat"):
            await task


def _killed() -> int:
    with running().connect() as db:
        return len(
            db.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'bridge' AND wait_event = 'PgSleep'"
            ).fetchall()
        )
