"""OpenAPI documents: what they promise, what is compared with an answer, and what a broken one does."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from tests.sources.infer.infer_rig import Looked, api, js, looked, runs, text

from bridge.errors import NeedsAuth, UpstreamInvalid
from bridge.settings.datasets import PAYLOAD_WORDS, QUERY_WORDS
from bridge.sources.infer.names import RESERVED

RUN = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "started_at": {"type": "string", "format": "date-time", "description": "Start of the run"},
        "model": {"type": "string", "enum": ["svm", "mlp"]},
        "accuracy": {"type": "number"},
        "params": {"type": "object", "properties": {"C": {"type": "number"}}},
        "tags": {"type": "array", "items": {"type": "string"}},
        "parent": {"$ref": "#/components/schemas/Run"},
    },
}


def document(paths: dict[str, Any], **schemas: Any) -> dict[str, Any]:
    """An OpenAPI document with these paths."""
    return {"openapi": "3.1.0", "info": {"title": "Lab", "version": "1"}, "paths": paths,
            "components": {"schemas": {"Run": RUN, **schemas}}}  # fmt: skip


def get(schema: Any, *parameters: Any, **more: Any) -> dict[str, Any]:
    """A GET that answers JSON of this schema."""
    content = {"application/json": {"schema": schema}}
    return {"get": {"parameters": list(parameters), "responses": {"200": {"content": content}}, **more}}


def param(name: str, place: str = "query", *, required: bool = False, **schema: Any) -> dict[str, Any]:
    """One parameter."""
    return {"name": name, "in": place, "required": required, "schema": schema}


RUNS = {"type": "array", "items": {"$ref": "#/components/schemas/Run"}}


async def described(paths: dict[str, Any], schemas: Any = None, answers: Any = None, **options: Any) -> Looked:
    """What is guessed of a document whose server gives these answers."""
    async with api({"/openapi.json": document(paths, **(schemas or {})), **(answers or {})}) as server:
        return await looked(server.url, **options)


async def test_a_described_answer_becomes_typed_columns_without_a_request_that_works() -> None:
    """Formats, enumerations and descriptions are taken over; what holds itself is JSON."""
    found = await described({"/runs": get(RUNS, summary="All runs")})
    assert found.only.options == {"path": "/runs"}
    assert found.only.description == "All runs"
    assert found.column("started_at") == {
        "name": "started_at", "type": "time", "role": "time", "description": "Start of the run",
    }  # fmt: skip
    assert found.column("model")["role"] == "dimension"
    assert found.column("accuracy")["unit"] == "percentunit"
    assert found.column("params_C") == {"name": "params_C", "type": "number", "role": "measure", "select": "params.C"}
    assert found.column("tags")["type"] == "json"
    assert found.column("parent")["type"] == "json"


@pytest.mark.parametrize(
    "place", ["/openapi.json", "/swagger.json", "/api/openapi.json", "/v3/api-docs", "/openapi.yaml", "/own/doc"]
)
async def test_the_document_is_found_at_its_usual_places(place: str) -> None:
    """In JSON or YAML, below the origin, or where the URL says."""
    body = document({"/runs": get(RUNS)})
    answer = text(yaml.safe_dump(body), "application/yaml") if place.endswith(("yaml", "doc")) else js(body)
    async with api({place: answer, "/runs": runs()}) as server:
        found = await looked(server.url + (place if place == "/own/doc" else ""))
    assert found.only.options == {"path": "/runs"}


async def test_swagger_2_is_read() -> None:
    """Base path, definitions, and types beside the name of a parameter."""
    swagger = {
        "swagger": "2.0", "info": {}, "basePath": "/v1",
        "definitions": {"Run": {"properties": {"x": {"type": "number"}}}},
        "paths": {"/runs": {"get": {
            "parameters": [{"name": "since", "in": "query", "type": "string", "format": "date-time"}],
            "responses": {200: {"schema": {"type": "array", "items": {"$ref": "#/definitions/Run"}}}},
        }}},
    }  # fmt: skip
    async with api({"/swagger.json": swagger}) as server:
        found = await looked(server.url)
    assert found.only.options == {"path": "/v1/runs", "params": {"since": "{from_iso}"}}
    assert found.column("x")["type"] == "number"


@pytest.mark.parametrize(
    ("server", "path", "said"),
    [
        ({"url": "/v2/"}, "/v2/runs", False),
        ({"url": "https://lab.example/v3"}, "/v3/runs", True),
        ({"url": "/{base}", "variables": {"base": {"default": "v4"}}}, "/v4/runs", False),
        ({"url": "http://[broken"}, "/runs", False),
        ({"url": ""}, "/runs", False),
    ],
)
async def test_servers_give_the_base_path_and_never_another_host(server: Any, path: str, said: bool) -> None:
    """Only who was named is asked; another host is told."""
    async with api({"/openapi.json": document({"/runs": get(RUNS)}) | {"servers": [server]}}) as far:
        found = await looked(far.url)
    assert found.only.options["path"] == path
    assert found.source.options["url"] == far.url
    assert any("https://lab.example" in note for note in found.source.notes) is said


@pytest.mark.parametrize(
    ("given", "template"),
    [
        (param("since", type="string", format="date-time"), "{from_iso}"),
        (param("until", type="string"), "{to_iso}"),
        (param("start_time", type="integer", format="int64"), "{from_ms}"),
        (param("endTime", type="integer", description="Unix milliseconds"), "{to_ms}"),
        (param("from", type="number", description="Unix seconds"), "{from_s}"),
        (param("created_after", type="integer"), "{from_s}"),
        (param("before", type="string", format="date"), None),
        (param("start", type="boolean"), None),
        (param("from_station", type="string"), None),
        (param("from_to", type="string"), None),
        (param("model", type="string"), None),
    ],
)
async def test_time_parameters_get_the_template_of_their_format(given: Any, template: str | None) -> None:
    """What is no bound of a time range is named in a comment and not sent."""
    given["description"] = given["schema"].pop("description", "")
    found = await described({"/runs": get(RUNS, given)})
    assert found.only.options.get("params") == ({given["name"]: template} if template else None)
    assert found.only.spans is (template is not None)
    if template is None:
        assert any("other parameters" in note for note in found.only.notes)


def page(**beside: Any) -> dict[str, Any]:
    """An object that holds the runs."""
    return {"type": "object", "properties": {"items": RUNS, **beside}}


@pytest.mark.parametrize(
    ("schema", "given", "paging"),
    [
        (
            page(next={"type": "string"}),
            [param("cursor", type="string"), param("limit", type="integer", maximum=200)],
            {"kind": "cursor", "param": "cursor", "next": "next", "size_param": "limit", "size": 200},
        ),
        (
            page(total={"type": "integer"}),
            [param("page", type="integer"), param("per_page", type="integer", default=25)],
            {"kind": "page", "param": "page", "size_param": "per_page", "size": 25, "total": "total"},
        ),
        (page(), [param("page", type="integer", minimum=0)], {"kind": "page", "param": "page", "start": 0}),
        (
            page(), [param("offset", type="integer"), param("limit", type="integer")],
            {"kind": "offset", "param": "offset", "size_param": "limit", "size": 100},
        ),
        (page(), [param("skip", type="integer")], {"kind": "offset", "param": "skip", "size": 100}),
        (page(next={"type": "string", "format": "uri"}), [], {"kind": "link", "next": "next"}),
        (page(next={"type": "string"}), [], None),
        (page(), [param("cursor", type="string")], None),
    ],
)  # fmt: skip
async def test_paging_parameters_become_paging(schema: Any, given: list[Any], paging: Any) -> None:
    """With the next field of the answer, and the page size the API allows."""
    found = await described({"/runs": get(schema, *given)})
    assert found.only.options["rows"] == "items"
    assert found.only.options.get("paging") == paging


async def test_a_bound_without_pages_is_sent_at_its_most() -> None:
    """Or left to a person where the most is not told."""
    found = await described({"/runs": get(RUNS, param("limit", type="integer", maximum=50))})
    assert found.only.options["params"] == {"limit": "50"}
    found = await described({"/runs": get(RUNS, param("limit", type="string"))})
    assert "params" not in found.only.options
    assert any("`limit` bounds" in note for note in found.only.notes)


async def test_required_parameters_are_declared_and_said() -> None:
    """Of the path and of the query; none is called like a word of a request, a column or another one."""
    paths = {
        "/runs/{id}/x/{limit}": get(
            RUNS, param("id", "path", type="string"), param("site", required=True, enum=["east", "west"]),
            param("days", required=True, type="integer", default=3), param("limit", required=True, type="boolean"),
            param("X-Tenant", "header", required=True, type="string"),
        ),
    }  # fmt: skip
    found = await described(paths)
    options = found.only.options
    assert options["path"] == "/runs/{param.id_param}/x/{param.limit_param_2}"
    declared = {item.name: item for item in found.only.params}
    assert declared["id_param"].required
    assert declared["site"].options == ("east", "west")
    assert (declared["days"].default, declared["days"].required) == ("3", False)
    assert found.only.untried == ("limit_param", "id_param", "limit_param_2")
    assert dict(found.only.trial) == {"site": ("east",)}
    assert any("X-Tenant" in note for note in found.only.notes)
    assert any("fill in a `default`" in note for note in found.only.notes)


async def test_examples_are_used_to_ask_once() -> None:
    """A path parameter with an example leads to a real answer."""
    given = {**param("run", "path", type="string"), "example": "r 1"}
    paths = {"/runs/{run}": get({}, given)}
    async with api({"/openapi.json": document(paths), "/runs/r%201": [{"x": 1.5}]}) as server:
        found = await looked(server.url)
    assert found.only.options["path"] == "/runs/{param.run}"
    assert found.column("x")["type"] == "number"
    assert found.only.trial == (("run", ("r 1",)),)


async def test_words_that_parameters_must_not_be_called_are_those_of_the_settings() -> None:
    """The list here follows the one there."""
    assert RESERVED == PAYLOAD_WORDS | QUERY_WORDS


async def test_what_the_document_leaves_open_is_sampled() -> None:
    """As frameworks describe a function without a declared answer."""
    paths = {
        "/open": get({}), "/any": get({"type": "object", "additionalProperties": True}),
        "/csv": {"get": {"responses": {"200": {"content": {"text/csv": {}}}}}}, "/none": {"get": {}},
        "/image": {"get": {"responses": {"200": {"content": {"image/png": {}}}}}}, "/scalar": get({"type": "string"}),
        "/gone": get({}), "/old": get(RUNS, deprecated=True), "/{bad": get(RUNS), "/post": {"post": {}}, "/odd": None,
    }  # fmt: skip
    rows = [{"x": 1}]
    answers = {"/open": {"rows": rows}, "/any": rows, "/csv": text("x\r\n1\r\n", "text/csv"), "/none": rows}
    found = await described(paths, answers=answers)
    assert [d.name for d in found.source.datasets] == ["open", "any", "csv", "none"]
    assert found.source.datasets[0].options == {"path": "/open", "rows": "rows"}
    assert any("/gone" in note for note in found.source.notes)


async def test_an_answer_corrects_what_was_described() -> None:
    """Types by the values; fields that are not there behind a pipe; those not described after the others."""
    rows = [{**row, "accuracy": str(row["accuracy"]), "params": {"C": 1, "D": 2}} for row in runs()]
    found = await described({"/runs": get(RUNS)}, answers={"/runs": rows})
    assert found.column("accuracy")["type"] == "number"
    assert found.column("parent")["select"] == "@ | parent"
    assert found.column("duration_s")["unit"] == "s"
    assert found.column("params_D")["select"] == "params.D"
    assert found.only.remarks["duration_s"] == "not in the document"
    wrong = [{**row, "accuracy": "none", "started_at": "yesterday"} for row in runs()]
    found = await described({"/runs": get(RUNS)}, answers={"/runs": wrong})
    assert found.column("accuracy")["type"] == "string"
    assert found.column("started_at")["type"] == "string"


@pytest.mark.parametrize("answer", [{"elsewhere": runs()}, {"items": []}, text("<html>", "text/html")])
async def test_an_answer_that_does_not_fit_is_told(answer: Any) -> None:
    """The document is then believed, with a comment."""
    found = await described({"/runs": get(page())}, answers={"/runs": answer})
    assert found.only.options["rows"] == "items"
    assert any("the answer" in note or "not compared" in note for note in found.only.notes)


async def test_fields_that_may_be_missing_stand_behind_a_pipe() -> None:
    """Where the document says which are required."""
    row = {
        "type": "array",
        "items": {"properties": {"a": {"type": "number"}, "b": {"type": "number"}}, "required": ["a"]},
    }
    found = await described({"/runs": get(row)})
    assert "select" not in found.column("a")
    assert found.column("b")["select"] == "@ | b"


async def test_combined_schemas_are_joined() -> None:
    """`allOf`, the one alternative beside null, and lists of types."""
    both = {"allOf": [{"$ref": "#/components/schemas/Run"}, {"properties": {"x": {"type": ["integer", "null"]}}}]}
    maybe = {"anyOf": [{"type": "null"}, {"type": "array", "items": both}]}
    found = await described({"/runs": get({"properties": {"data": maybe}})})
    assert found.only.options["rows"] == "data"
    assert found.column("x")["type"] == "number"
    assert found.column("accuracy")["type"] == "number"


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/components/schemas/Loop"},
        {"$ref": "#/components/schemas/AllOf"},
        {"$ref": "#/components/schemas/Deep"},
        {"$ref": "#/nowhere"},
        {"$ref": "https://elsewhere.example/x.json#/Run"},
        {"$ref": "#/paths/0/x"},
        {"type": "array", "items": {"$ref": "#/components/schemas/Loop"}},
        {"type": "array", "items": 7, "properties": []},
        {"properties": {f"p{n}": {"$ref": "#/components/schemas/Deep"} for n in range(3_000)}},
        {"type": [], "enum": 3, "allOf": {}, "anyOf": "x"},
    ],
)
async def test_references_that_lead_nowhere_or_in_circles_end(schema: Any) -> None:
    """The other paths are still datasets, and nothing but the server that was named is asked."""
    schemas = {
        "Loop": {"$ref": "#/components/schemas/Loop"},
        "AllOf": {"allOf": [{"$ref": "#/components/schemas/AllOf"}, {"$ref": "#/components/schemas/AllOf"}]},
        "Deep": {"properties": {f"p{n}": {"$ref": "#/components/schemas/Deep"} for n in range(10)}},
    }
    found = await described({"/bad": get(schema), "/runs": get(RUNS)}, schemas)
    assert [dataset.name for dataset in found.source.datasets] == ["runs"]


async def test_ten_thousand_paths_are_cut_and_counted() -> None:
    """To as many datasets as were asked for, those that can be asked first."""
    paths = {f"/p{number}/{{id}}": get(RUNS) for number in range(10)}
    paths |= {f"/r{number}": get(RUNS) for number in range(10_000)}
    found = await described(paths, max_datasets=3)
    assert [dataset.name for dataset in found.source.datasets] == ["r0", "r1", "r2"]
    assert any("997 more GET paths" in note for note in found.source.notes)
    assert any("of 10010 paths" in note for note in found.source.notes)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ('{"openapi": "3.0.0", "paths": {', "cannot be read"),
        ('{"openapi": "3.0.0", "x": ' + "[" * 100_000, "cannot be read|too deeply"),
        ("openapi: 3.0.0\npaths: [\n", "cannot be read"),
        ("openapi: 3.0.0\na: &a {x: 1}\nb: &b {<<: [*a, *a]}\nc: {<<: [*b, *b]}\n", "merge keys"),
        ("openapi: 3.0.0\nx: " + "[" * 5_000 + "]" * 5_000, "cannot be read|too deeply"),
        ('{"openapi": "3.0.0"}', "describes no GET"),
        ('{"openapi": "3.0.0", "paths": []}', "describes no GET"),
        (
            '{"openapi": "3.0.0", "servers": [3], "info": 4, "paths": {"/x": {"get": {"responses": []}}}}',
            "describes no",
        ),
    ],
)
async def test_a_broken_document_is_told(body: str, sentence: str) -> None:
    """With what is wrong in it."""
    async with api({"/doc": text(body)}) as server:
        with pytest.raises(UpstreamInvalid, match=sentence):
            await looked(f"{server.url}/doc")


async def test_other_versions_and_lists_are_no_documents() -> None:
    """What only looks like one is sampled like any other answer."""
    body = json.dumps({"openapi": "9.0", "rows": [{"x": 1}]})
    async with api({"/doc": text(body)}) as server:
        assert (await looked(f"{server.url}/doc")).column("x")["type"] == "number"
    async with api({"/doc": text("openapi: 1\n" * 1 + "rows", "text/plain")}) as server:
        with pytest.raises(UpstreamInvalid):
            await looked(f"{server.url}/doc")


async def test_a_credential_that_is_asked_for_behind_the_document_is_told() -> None:
    """And not taken for an API without rows."""
    async with api({"/openapi.json": document({"/runs": get({})}), "/runs": js({}, status=401)}) as server:
        with pytest.raises(NeedsAuth):
            await looked(server.url)


async def test_a_column_that_is_called_like_a_parameter_gets_another_name() -> None:
    """Requests could not tell them apart; the values are found all the same."""
    given = {**param("run", "path", type="string"), "example": "a"}
    found = await described({"/runs/{run}": get({}, given)}, answers={"/runs/a": [{"run": "a", "x": 1.5}]})
    assert found.only.options["path"] == "/runs/{param.run}"
    assert found.column("run_value") == {"name": "run_value", "type": "string", "role": "dimension", "select": "run"}
    assert "run" not in {column.name for column in found.only.columns}
