"""Sources are listed with what is wrong with them, and their far side can be asked for a sign of life."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from bridge.app import World
from bridge.errors import BadQuery, NeedsAuth, UpstreamUnavailable
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.sources.base import DataSource, DataSourceMetadata, NoOptions, Options, Ping, Tools
from bridge.sources.registry import Plugin, discover
from bridge.web.handlers import sources as handler
from servers.house import HANG_S, Clock, House, Start

COLUMNS = "columns: [{name: host, type: string, role: dimension}]"


class OddOptions(Options):
    """What the plug-in does."""

    does: str = "ok"


class Odd(DataSource):
    """A plug-in that does as its settings say."""

    kind: ClassVar[str] = "odd"
    SourceOptions = OddOptions
    DatasetOptions = NoOptions

    @property
    def metadata(self) -> DataSourceMetadata:
        if self.options.does == "mute":  # type: ignore[attr-defined]
            raise RuntimeError("no words")
        return super().metadata

    async def open(self) -> None:
        if self.options.does == "stay shut":  # type: ignore[attr-defined]
            raise RuntimeError("the far side is on fire")

    async def collect(self, query: Query) -> Frame:
        raise NeedsAuth("the far side refused the key", remedy="renew the key")

    async def ping(self) -> Ping:
        match self.options.does:  # type: ignore[attr-defined]
            case "down":
                raise UpstreamUnavailable("nobody is there", remedy="start it")
            case "ask":
                raise BadQuery("what?")
            case "break":
                raise RuntimeError("hunter2")
            case "hang":
                await asyncio.Event().wait()
        return Ping(ok=True, text="here", far_version="2.1")


class Shut:
    """Not a plug-in: stands for one whose import failed."""


def world(clock: Clock | None = None) -> World:
    plugins: Mapping[str, Plugin] = {
        **discover(),
        "odd": Plugin("odd", "odd-package", cls=Odd),
        "gone": Plugin("gone", "gone-package", error="ModuleNotFoundError: no module named 'gone'"),
    }
    return World(clock=clock or Clock(), plugins=plugins)


def odd(does: str, name: str = "far") -> str:
    dataset = f"{{name: d, retries: 0, {COLUMNS}}}"
    return f"  - {{name: {name}, kind: odd, options: {{does: {does}}}, datasets: [{dataset}]}}\n"


GONE = f"  - {{name: lost, kind: gone, datasets: [{{name: d, {COLUMNS}}}]}}\n"


@pytest.fixture
async def bridge(start: Start) -> House:
    return await start("sources:\n" + odd("ok") + odd("stay shut", "shut") + GONE, world=world())


async def test_every_source_and_plugin_is_listed_with_its_error(bridge: House) -> None:
    await bridge.get("/api/v1/datasets/far.d")
    found = (await bridge.get("/api/v1/sources")).json
    sources = {source["name"]: source for source in found["sources"]}
    assert {name: source["state"] for name, source in sources.items()} == {
        "far": "needs_auth",
        "shut": "failed",
        "lost": "failed",
    }
    assert sources["far"]["datasets"][0]["remedy"] == "renew the key"
    assert "on fire" in sources["shut"]["error"]
    assert "no module named 'gone'" in sources["lost"]["error"]
    assert sources["lost"]["datasets"] == ["lost.d"]
    plugins = {plugin["kind"]: plugin for plugin in found["plugins"]}
    assert plugins["files"] == {"kind": "files", "package": "bridge", "ok": True, "error": None}
    assert plugins["gone"]["ok"] is False
    assert "gone" in plugins["gone"]["error"]


async def test_one_source_is_shown_alone(bridge: House) -> None:
    found = (await bridge.get("/api/v1/sources/far")).json
    assert found["kind"] == "odd"
    assert found["description"] == "A plug-in that does as its settings say."
    assert found["state"] == "unknown"
    assert found["streams"] is False
    assert found["pushes_down"] is False
    assert (await bridge.get("/api/v1/sources/lost")).json["state"] == "failed"


async def test_a_plugin_that_cannot_describe_itself_is_shown_and_the_rest_listed(start: Start) -> None:
    bridge = await start("sources:\n" + odd("mute"), world=world())
    for path in ("/api/v1/sources", "/"):
        assert (await bridge.get(path)).status == 200
    found = (await bridge.get("/api/v1/sources/far")).json
    assert found["state"] == "failed"
    assert "cannot describe itself" in found["error"]


@pytest.mark.parametrize("path", ["/api/v1/sources/nope", "/api/v1/sources/nope/ping"])
async def test_an_unknown_source_is_404(bridge: House, path: str) -> None:
    reply = await bridge.get(path, method="POST" if path.endswith("ping") else "GET")
    assert reply.status == 404
    assert reply.json["code"] == "unknown_source"
    assert "far" in reply.json["remedy"]


@pytest.mark.parametrize("name", ["shut.d", "lost.d"])
async def test_a_dataset_of_a_source_that_does_not_run_says_why(bridge: House, name: str) -> None:
    reply = await bridge.get(f"/api/v1/datasets/{name}")
    assert reply.status == 502
    assert reply.json["code"] == "plugin_failed"
    assert "is not running" in reply.json["error"]
    # Its neighbours answer, and searching for its name is no error.
    assert (await bridge.post("/json/search", {"target": "lost"})).json == []
    assert (await bridge.get("/json")).json["datasets"] == ["far.d"]


@pytest.mark.parametrize(
    ("does", "found"),
    [
        ("ok", {"ok": True, "text": "here", "far_version": "2.1"}),
        ("down", {"ok": False, "text": "nobody is there", "remedy": "start it"}),
        ("ask", {"ok": False, "text": "what?", "remedy": ""}),
        ("break", {"ok": False, "text": "its plug-in failed with RuntimeError"}),
    ],
)
async def test_a_ping_says_whether_the_far_side_is_there(
    start: Start, does: str, found: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    bridge = await start("sources:\n" + odd(does), world=world())
    reply = await bridge.get("/api/v1/sources/far/ping", method="POST")
    assert reply.status == 200
    assert reply.json == found
    assert [record.exc_info is not None for record in caplog.records if record.name == "bridge.web"] == (
        [True] if does == "break" else []
    )


async def test_a_ping_of_a_source_that_does_not_run_says_why(bridge: House) -> None:
    reply = await bridge.get("/api/v1/sources/lost/ping", method="POST")
    assert reply.json["ok"] is False
    assert "no module named 'gone'" in reply.json["text"]


async def test_a_ping_of_a_source_that_hangs_ends(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler, "PING_S", 0.05)
    bridge = await start("sources:\n" + odd("hang"), world=world())
    async with asyncio.timeout(HANG_S):
        reply = await bridge.get("/api/v1/sources/far/ping", method="POST")
    assert reply.json == {"ok": False, "text": "no answer within 0.05 s"}


def test_the_odd_plugin_is_made_as_others_are(tmp_path: Any) -> None:
    tools = Tools(lambda *_, **__: None, Clock(), tmp_path)  # type: ignore[arg-type,return-value]
    assert Odd("far", OddOptions(), {}, tools).metadata.kind == "odd"
