"""Names are looked up apart from everything else, so that one that hangs holds up nobody but those who ask for it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from bridge.edge.connect import CheckedConnector, ThreadResolver
from bridge.edge.upstream import UpstreamPool
from bridge.errors import UpstreamUnavailable

STREAM = socket.SOCK_STREAM


class Lookups:
    """A name server: names that begin with `hang` are answered when the test says so."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)
        self.threads: list[threading.Thread] = []

    def __call__(self, host: str, port: int, **options: Any) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        self.threads.append(threading.current_thread())
        self.begun.release()
        if host.startswith("hang"):
            self.go.wait(30)
        if host.startswith("gone"):
            raise socket.gaierror(-2, "Name or service not known")
        if host.startswith("six"):
            return [
                (socket.AF_INET6, STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),
                (socket.AF_INET6, STREAM, 6, "", ("fe80::1", 0, 0, 7)),
                (socket.AF_INET6, STREAM, 6, "", ("fe80::2%7", 0, 0, 7)),
            ]
        return [(socket.AF_INET, STREAM, 6, "", ("192.0.2.7", 0))]


@pytest.fixture
def lookups() -> Iterator[Lookups]:
    made = Lookups()
    yield made
    made.go.set()
    for thread in made.threads:
        thread.join(30)


async def addresses(resolver: ThreadResolver, host: str, family: int = socket.AF_UNSPEC) -> list[str]:
    found = await resolver.resolve(host, 80, socket.AddressFamily(family))
    assert all(item["port"] == 80 and item["hostname"] == host for item in found)
    return [item["host"] for item in found]


async def hanging(resolver: ThreadResolver, lookups: Lookups, *hosts: str) -> list[asyncio.Task[list[str]]]:
    """Tasks whose lookups have begun and do not end."""
    tasks = [asyncio.create_task(addresses(resolver, host)) for host in hosts]
    for _ in set(hosts):
        assert await asyncio.to_thread(lookups.begun.acquire, timeout=20)
    return tasks


async def test_a_name_is_answered_with_its_addresses(lookups: Lookups) -> None:
    resolver = ThreadResolver(lookups)
    assert await addresses(resolver, "far.example") == ["192.0.2.7"]
    assert await addresses(resolver, "six.example") == ["2001:db8::1", "fe80::1%7", "fe80::2%7"]


async def test_an_answer_is_not_kept_for_later(lookups: Lookups) -> None:
    resolver = ThreadResolver(lookups)
    await addresses(resolver, "far.example")
    await addresses(resolver, "far.example")
    assert lookups.asked == ["far.example"] * 2


async def test_a_name_without_addresses_is_an_error_of_the_system(lookups: Lookups) -> None:
    with pytest.raises(socket.gaierror, match="not known"):
        await addresses(ThreadResolver(lookups), "gone.example")


async def test_names_that_hang_hold_up_no_other_work_in_threads(lookups: Lookups) -> None:
    resolver = ThreadResolver(lookups)
    waiting = await hanging(resolver, lookups, *(f"hang{i}" for i in range(15)))
    # More of them than the loop's own executor has threads on any machine of up to 11 cores.
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "read"), 20) == "read"
    assert await asyncio.wait_for(addresses(resolver, "far.example"), 20) == ["192.0.2.7"]
    lookups.go.set()
    assert await asyncio.gather(*waiting) == [["192.0.2.7"]] * 15


async def test_one_name_takes_one_thread_however_often_it_is_asked_for(lookups: Lookups) -> None:
    resolver = ThreadResolver(lookups, max_lookups=2)
    waiting = await hanging(resolver, lookups, *["hang"] * 50)
    assert await addresses(resolver, "far.example") == ["192.0.2.7"]
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    lookups.go.set()
    assert await asyncio.gather(*waiting[1:]) == [["192.0.2.7"]] * 49
    assert lookups.asked == ["hang", "far.example"]


async def test_when_all_lookups_hang_the_next_name_is_refused_and_this_machine_is_not(lookups: Lookups) -> None:
    resolver = ThreadResolver(lookups, slot_wait_s=0.01)
    waiting = await hanging(resolver, lookups, *(f"hang{i}" for i in range(16)))
    with pytest.raises(
        UpstreamUnavailable, match=r"`far.example` is not looked up, as 16 other lookups hang"
    ) as info:
        await addresses(resolver, "far.example")
    assert "name servers" in info.value.remedy
    for name in ("localhost", "LocalHost", "localhost."):
        assert await addresses(resolver, name) == ["127.0.0.1", "::1"]
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    with pytest.raises(UpstreamUnavailable):
        await addresses(resolver, "far.example")
    lookups.go.set()
    for thread in lookups.threads:
        await asyncio.to_thread(thread.join, 30)
    assert await addresses(resolver, "far.example") == ["192.0.2.7"], "the threads are free again"


async def test_a_name_waits_a_while_for_others_to_be_answered(lookups: Lookups) -> None:
    resolver = ThreadResolver(lookups, max_lookups=1, slot_wait_s=30)
    waiting = await hanging(resolver, lookups, "hang")
    waiting.append(asyncio.create_task(addresses(resolver, "far.example")))
    await asyncio.sleep(0)
    lookups.go.set()
    assert await asyncio.gather(*waiting) == [["192.0.2.7"]] * 2


@pytest.mark.parametrize(
    ("family", "wanted"), [(socket.AF_INET, ["127.0.0.1"]), (socket.AF_INET6, ["::1"]), (0, ["127.0.0.1", "::1"])]
)
async def test_localhost_is_this_machine_without_a_name_server(
    lookups: Lookups, family: int, wanted: list[str]
) -> None:
    assert await addresses(ThreadResolver(lookups), "localhost", family) == wanted
    assert lookups.asked == []


async def test_closing_refuses_those_who_wait_and_does_not_wait_for_the_name_server(lookups: Lookups) -> None:
    disturbed: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: disturbed.append(context))
    resolver = ThreadResolver(lookups)
    waiting = await hanging(resolver, lookups, "hang1", "hang2")
    await resolver.close()
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, UpstreamUnavailable)
        assert "going down" in outcome.message
    assert all(thread.daemon for thread in lookups.threads), "the end of the process would wait for them"
    lookups.go.set()
    for thread in lookups.threads:
        await asyncio.to_thread(thread.join, 30)
    assert await addresses(resolver, "far.example") == ["192.0.2.7"]
    assert disturbed == [], "late answers disturb nobody"


async def test_the_end_of_a_connector_is_the_end_of_its_lookups(lookups: Lookups) -> None:
    connector = CheckedConnector(
        private_ok=True, resolver=None, max_connections_per_host=1, ssl_context=None, lookup=lookups
    )
    asking = asyncio.create_task(connector._resolve_host("hang.example", 80))
    assert await asyncio.to_thread(lookups.begun.acquire, timeout=20)
    await connector.close()
    with pytest.raises(UpstreamUnavailable, match="going down"):
        await asking


async def test_addresses_in_urls_and_localhost_are_reached_while_all_lookups_hang(far: Any, lookups: Lookups) -> None:
    server = far(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    resolver = ThreadResolver(lookups, max_lookups=1, slot_wait_s=0.01)
    async with UpstreamPool(resolver=resolver) as pool:
        waiting = await hanging(resolver, lookups, "hang")
        for host in ("127.0.0.1", "localhost"):
            answer = await pool.upstream(f"http://{host}:{server.port}", allow_private=True).get("/")
            assert answer.body == b"ok"
        upstream = pool.upstream(f"http://far.example:{server.port}", allow_private=True)
        with pytest.raises(UpstreamUnavailable, match="1 other lookups hang"):
            await upstream.get("/")
        lookups.go.set()
        await asyncio.gather(*waiting)


def test_a_lookup_that_outlives_its_loop_ends_in_silence(lookups: Lookups) -> None:
    async def leave() -> None:
        await ThreadResolver(lookups).close()
        resolver = ThreadResolver(lookups)
        waiting = await hanging(resolver, lookups, "hang")
        await resolver.close()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(leave())
    lookups.go.set()
    lookups.threads[0].join(30)
    assert not lookups.threads[0].is_alive()
