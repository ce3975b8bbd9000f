"""What is looked at may be written to harm who looks: nothing of it hangs, breaks off or gets in."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from infer_rig import api, looked, text

from bridge.edge.upstream import UpstreamPool
from bridge.errors import AddressRefused, BridgeError, UpstreamInvalid, UpstreamUnavailable
from bridge.model.clock import SystemClock
from bridge.sources.base import Tools
from bridge.sources.infer import Target
from bridge.sources.infer.columns import Field, guess
from bridge.sources.infer.fetch import Probe, read_address
from bridge.sources.infer.openapi import read_api

HEAD = b"openapi: '3.0.0'\n"


def bomb(levels: int) -> bytes:
    """A text of anchors that unfolds to ten values to the power of the levels."""
    lines = [b"x0: &x0 [a, a, a, a, a, a, a, a, a, a]\n"]
    lines += [b"x%d: &x%d [%s]\n" % (n, n, b", ".join([b"*x%d" % (n - 1)] * 10)) for n in range(1, levels)]
    return HEAD + b"".join(lines)


@pytest.mark.parametrize(
    "line",
    [
        b"x: 1:1" + b":1" * 2_000 + b".5",
        b"x: !!float ''",
        b"x: !!int ''",
        b"x: !!int a",
        b"x: !!bool perhaps",
        b"x: !!timestamp never",
        b"x: 2026-99-99",
        b"? [a]\n: 1",
        b"x: !!python/object/apply:os.system [id]",
        b"x: 0x" + b"f" * 6_000,
        b"x: " + b"9" * 6_000,
        b"x: &x [*x]",
    ],
)
def test_a_yaml_document_with_odd_values_is_read_or_refused_with_a_sentence(line: bytes) -> None:
    said = ""
    try:
        document = read_api(HEAD + line, "http://far/openapi.yaml")
    except UpstreamInvalid as error:
        document, said = None, error.message
    assert document is not None or said.startswith("the OpenAPI document at http://far/openapi.yaml cannot be read: ")


def test_a_version_that_is_a_number_without_end_is_none() -> None:
    assert read_api(b"openapi: 0x" + b"f" * 6_000, "http://far/openapi.yaml") is None


def test_numbers_to_the_base_of_sixty_are_texts() -> None:
    """As numbers, a megabyte of them would take hours."""
    document = read_api(HEAD + b"x: 1" + b":1" * 500_000, "http://far/openapi.yaml")
    assert document is not None
    assert isinstance(document.document["x"], str)


def test_anchors_that_unfold_without_end_are_refused() -> None:
    """Each place that shows such a value as text would take all memory."""
    with pytest.raises(UpstreamInvalid, match="unfolds to more than"):
        read_api(bomb(12) + b"info: {title: *x11}", "http://far/openapi.yaml")


def test_anchors_as_people_use_them_are_read() -> None:
    document = read_api(HEAD + b"a: &a {type: string}\nb: [*a, *a]\n", "http://far/openapi.yaml")
    assert document is not None
    assert document.document["b"] == [{"type": "string"}, {"type": "string"}]


def test_a_name_of_a_megabyte_is_looked_at_as_far_as_names_go() -> None:
    """Every pattern for names goes through it several times."""
    import polars as pl

    fields = [Field(("_a" * 500_000 + str(n),), pl.Series("v", [1.5, 2.5])) for n in range(40)]
    assert len(guess(fields, 2).columns) == 40


@pytest.mark.parametrize("answer", [b"5", b"null", b"[1]", b"true"])
async def test_a_server_that_only_resembles_mlflow_is_refused_with_a_sentence(answer: bytes) -> None:
    answers = {
        "/version": text("2.1.0", "text/plain"),
        "/api/2.0/mlflow/experiments/search": text(answer.decode(), "application/json"),
        "/": text("hello", "text/plain"),
    }
    async with api(answers) as there:
        with pytest.raises(BridgeError) as error:
            await looked(there.url)
    assert error.value.message.startswith("GET / is ")


async def test_halves_of_characters_become_settings_that_can_be_written() -> None:
    r"""JSON allows `\ud800` alone; no text in UTF-8 does."""
    rows = '[{"a\\ud800": 1, "b": "x\\ud800", "c": {"\\udfff": 2}}, {"a\\ud800": 2, "b": "y", "c": {"\\udfff": 2}}]'
    async with api({"/runs": text(rows, "application/json")}) as there:
        found = await looked(f"{there.url}/runs")
    found.source.yaml().encode()


class Turned(AbstractResolver):
    """A name that leads nowhere at first, and into the private network afterwards."""

    def __init__(self) -> None:
        self.asked = 0

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:
        """The loopback address, but for the first time."""
        self.asked += 1
        if self.asked == 1:
            raise OSError("no such name")
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None:
        """Nothing is held."""


async def test_a_name_that_turns_to_a_private_address_while_it_is_looked_at_is_not_followed() -> None:
    """A private address that the user named in the first place is; this one the far side has chosen."""
    async with api({"/runs": [{"a": 1}]}) as there:
        url = there.url.replace("127.0.0.1", "container.example")
        async with UpstreamPool(resolver=Turned()) as pool:
            target = Target(url, Path())
            probe = Probe(read_address(url), target, Tools(pool.upstream, SystemClock(), Path()), lambda text: None)
            with pytest.raises(UpstreamUnavailable):
                await probe.get("/runs")
            with pytest.raises(AddressRefused):
                await probe.get("/runs")
        assert there.seen == []
        assert "allow_private" not in probe.options


async def test_servers_that_a_document_names_are_not_asked_and_no_reference_is_fetched() -> None:
    """Neither its `servers`, nor a `$ref` to a file or another host."""
    schema = {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "number"}}}}
    good = {"200": {"content": {"application/json": {"schema": schema}}}}
    async with api({}) as other, api({}) as there:
        odd = {"200": {"content": {"application/json": {"schema": {"$ref": f"{other.url}/schema"}}}}}
        file = {"200": {"$ref": "file:///etc/passwd"}}
        document = {
            "openapi": "3.0.0",
            "servers": [{"url": "http://169.254.169.254/latest"}, {"url": other.url}],
            "paths": {
                "/runs": {"get": {"responses": good}},
                "/odd": {"get": {"responses": odd}},
                "/file": {"get": {"responses": file}},
                "/ref": {"$ref": f"{other.url}/path"},
            },
        }
        async with api({"/openapi.json": document, "/latest/runs": [{"a": 1}]}) as served:
            found = await looked(served.url)
        assert other.seen == there.seen == []
        assert found.source.options["url"] == served.url
        assert [d.options["path"] for d in found.source.datasets] == ["/latest/runs"]


@pytest.mark.parametrize(
    "path", ["/a\u001b[31m", "/../../etc", "/a\x00b", "/a?x=1", "/a#b", "/{{", "/%2e%2e/x", "//other/x"]
)
async def test_paths_that_are_none_are_left_out_of_a_document(path: str) -> None:
    """The others of the document are read."""
    schema = {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "number"}}}}
    get = {"get": {"responses": {"200": {"content": {"application/json": {"schema": schema}}}}}}
    async with api({"/openapi.json": {"openapi": "3.0.0", "paths": {path: get, "/runs": get}}}) as there:
        found = await looked(there.url)
    assert "/runs" in [dataset.options["path"] for dataset in found.source.datasets]
    assert not any(char in text for text in found.said for char in "\x00\x1b")
