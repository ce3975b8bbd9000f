"""Two versions of the research container, read through one settings file."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bridge.app import World
from bridge.edge.upstream import UpstreamPool
from bridge.model.clock import SystemClock
from bridge.model.filters import Filter, Op
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.span import EPOCH, Span, parse_instant
from bridge.settings import load_settings
from bridge.sources.base import DatasetSpec, Tools
from bridge.sources.builtin.rest import RestSource
from servers.far import far, js
from servers.house import Clock, House, house
from servers.research import SMALL_GRID_RUNS, Container, running, wait_until

pytestmark = pytest.mark.slow

SETTINGS = Path(__file__).parents[2] / "examples" / "demo" / "versions.yaml"
TABLES = ("runs", "curves", "confusion")
SPAN = Span(parse_instant("2020-01-01"), parse_instant("2120-01-01"))
# What differs from one process to the next, whatever its version.
OF_THE_CLOCK = ("time", "ended_at", "duration_s")


def rested(api: str) -> Iterator[Container]:
    """A container that has trained every model of the small grid and rests."""
    with running("--api", api, "--stop-after", str(SMALL_GRID_RUNS)) as container:
        wait_until(lambda: container.ended_runs() == SMALL_GRID_RUNS)
        yield container


@pytest.fixture(scope="module")
def first() -> Iterator[Container]:
    yield from rested("1.0")


@pytest.fixture(scope="module")
def second() -> Iterator[Container]:
    yield from rested("2.0")


@asynccontextmanager
async def digits(url: str) -> AsyncIterator[RestSource]:
    """The source as the settings describe it, at this address."""
    (given,) = load_settings(SETTINGS, env={}).settings.sources
    specs = {
        item.name: DatasetSpec(
            item.name, RestSource.DatasetOptions.model_validate(item.options), item.model_columns()
        )
        for item in given.datasets
    }
    options = RestSource.SourceOptions.model_validate({**given.options, "url": url})
    async with UpstreamPool() as pool:
        yield RestSource("digits", options, specs, Tools(pool.upstream, SystemClock(), SETTINGS.parent))


async def read(container: Container, query: Query) -> Frame:
    """One answer, checked as bridge checks it."""
    async with digits(container.url) as source:
        frame = await source.collect(source.narrow(query))
        assert source.validate(frame).findings == ()
        assert frame.meta.notices == ()
        return frame


class TestContainer:
    def test_the_second_version_tells_the_same_results_in_another_way(
        self, first: Container, second: Container
    ) -> None:
        assert first.ask("/version")[1]["api"] == "1.0"
        assert second.ask("/version")[1]["api"] == "2.0"
        for old, new in zip(first.items("/runs"), second.items("/v2/runs"), strict=True):
            assert " ".join(new) == (
                "run_id start_time end_time duration_s model params seed metrics train_size status"
            )
            assert new["metrics"] == {"accuracy": old["accuracy"], "f1_macro": old["f1_macro"]}
            assert (new["run_id"], new["model"], new["params"]) == (old["id"], old["model"], old["params"])
            assert abs(new["end_time"] - new["start_time"] - new["duration_s"] * 1000) < 1000
            assert second.ask(f"/v2/runs/{new['run_id']}") == (200, new)
        for path in ("/confusion", "/lineage/nodes", "/lineage/edges"):
            assert second.items(f"/v2{path}") == first.items(path)

    @pytest.mark.parametrize(("path", "time"), [("/v2/curves", "time"), ("/v2/events", "timestamp")])
    def test_its_pages_and_times_work_as_they_say(self, second: Container, path: str, time: str) -> None:
        items = second.items(path)
        assert second.items(path, limit=4) == items
        assert second.items(path, since_ms=items[3][time])[0][time] == items[3][time]
        assert second.items(path, since_ms=items[-1][time] + 1) == []

    @pytest.mark.parametrize(
        ("path", "params", "status", "says"),
        [
            ("/runs", {}, 404, "/runs"),
            ("/v2/runs", {"cursor": "x"}, 400, "takes: after, limit, model, since_ms"),
            ("/v2/runs", {"after": "zz"}, 400, "`after` is not one that /v2/runs gave"),
            ("/v2/runs", {"since_ms": "yesterday"}, 400, "`since_ms` is a time in milliseconds since 1970"),
            ("/v2/runs", {"since_ms": "-1"}, 400, "`since_ms`"),
            ("/v2/runs", {"since_ms": "9" * 15}, 400, "`since_ms`"),
            ("/v2/runs/r999999", {}, 404, "r999999"),
        ],
    )
    def test_a_mistake_is_told_in_its_own_words(
        self, second: Container, path: str, params: dict[str, str], status: int, says: str
    ) -> None:
        found, answer = second.ask(path, **params)
        assert (found, says in answer["message"]) == (status, True), answer


class TestSettings:
    @pytest.mark.parametrize("table", TABLES)
    async def test_both_versions_give_the_same_columns_and_rows(
        self, first: Container, second: Container, table: str
    ) -> None:
        old, new = [await read(container, Query(f"digits.{table}", span=SPAN)) for container in (first, second)]
        assert (old.meta.custom["far_version"], new.meta.custom["far_version"]) == ("1.0", "2.0")
        assert old.schema == new.schema
        assert old.data.schema == new.data.schema
        own = [name for name in old.data.columns if name not in OF_THE_CLOCK]
        assert old.data.select(own).equals(new.data.select(own))
        assert old.rows >= SMALL_GRID_RUNS

    async def test_the_times_of_the_second_version_are_the_instants_it_means(self, second: Container) -> None:
        frame = await read(second, Query("digits.runs"))
        for row, run in zip(frame.data.to_dicts(), second.items("/v2/runs"), strict=True):
            assert row["time"] == EPOCH + timedelta(milliseconds=run["start_time"])
            assert row["ended_at"] == EPOCH + timedelta(milliseconds=run["end_time"])

    async def test_a_time_range_and_a_filter_are_asked_of_either(self, first: Container, second: Container) -> None:
        for container in (first, second):
            whole = await read(container, Query("digits.curves", span=SPAN))
            start = whole.data["time"][9]
            models = Filter("model", Op.EQ, ("svm",))
            asked = Query("digits.curves", span=Span(start, SPAN.end), filters=(models,))
            part = await read(container, asked)
            kept = [row for row in whole.data.to_dicts() if row["model"] == "svm" and row["time"] >= start]
            assert part.data.to_dicts() == kept
            assert kept


@asynccontextmanager
async def bridge(folder: Path, url: str, clock: Clock) -> AsyncIterator[House]:
    """The service with the settings, at this address; the clock stands still."""
    text = SETTINGS.read_text().replace("http://127.0.0.1:8010", url)
    async with house(folder, text, files={}, world=World(clock=clock)) as running_bridge:
        yield running_bridge


async def rows(of: House, clock: Clock) -> list[dict[str, Any]]:
    """The runs, asked anew of the container."""
    clock.passed_s += 6
    reply = await of.get("/api/v1/datasets/digits.runs")
    assert reply.status == 200, reply.text
    return list(reply.json)


class TestService:
    async def test_a_container_replaced_by_the_other_version_is_followed_without_a_restart(
        self, tmp_path: Path
    ) -> None:
        """Within one question, although bridge keeps the version it has learned for a minute."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
        clock = Clock()
        async with bridge(tmp_path, f"http://127.0.0.1:{port}", clock) as service:
            for api in ("1.0", "2.0", "1.0"):
                with running("--port", port, "--api", api, "--stop-after", "2") as container:
                    wait_until(lambda container=container: container.ended_runs() == 2)
                    found = await rows(service, clock)
                    assert [row["run"] for row in found] == ["r000001", "r000002"]
                    assert all(0 < row["accuracy"] <= 1 for row in found)
                    (source,) = (await service.get("/api/v1/sources")).json["sources"]
                    assert source["far_version"] == api
            assert clock.passed_s < 60

    async def test_an_undeclared_version_is_refused_with_a_sentence(self, tmp_path: Path) -> None:
        async with far(lambda seen: js({"api": "3.0"})) as there, bridge(tmp_path, there.url, Clock()) as service:
            for table in TABLES:
                reply = await service.get(f"/api/v1/datasets/digits.{table}")
                assert (reply.status, reply.json["code"]) == (502, "upstream_invalid")
                assert "the far API has version '3.0'; declared are 1, 2" in reply.json["message"]
            assert {seen.path for seen in there.seen} == {"/version"}
