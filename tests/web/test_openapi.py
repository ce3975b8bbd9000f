"""The OpenAPI document says what the route table says: all of it, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
import schemathesis
from aiohttp import web
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from bridge import errors
from bridge.errors import BadRequest, SourceError
from bridge.web import body, openapi, routes
from bridge.web.routes import Route

BASE = "http://127.0.0.1:8000"
DATA = "/api/v1/datasets/{name}"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi.document(routes.TABLE, "1.2.3", BASE)


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from refs(item)
    elif isinstance(value, list):
        for item in value:
            yield from refs(item)


def at(document: dict[str, Any], ref: str) -> Any:
    assert ref.startswith("#/"), ref
    found: Any = document
    for key in ref[2:].split("/"):
        found = found[key]
    return found


async def handler(_: web.Request) -> web.StreamResponse:
    """First line.

    Errors: not for the document.
    """
    return web.Response()


class Needed(body.Strict):
    """A body with something that must be there."""

    must: int


def row(method: str = "GET", path: str = "/x", **more: Any) -> Route:
    return Route(method, path, handler, more.pop("scope", "docs:read"), "A row.", **more)


def built(*rows: Route) -> dict[str, Any]:
    return openapi.document(rows, "1", BASE)


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    OPENAPI_31_VALIDATOR.validate(document)
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == "1.2.3"


def test_schemathesis_can_read_every_operation(document: dict[str, Any]) -> None:
    found = list(schemathesis.openapi.from_dict(document).get_all_operations())
    assert len(found) == len(routes.TABLE)
    assert [item for item in found if not hasattr(item, "ok")] == []


def test_every_route_stands_in_the_document_and_nothing_else(document: dict[str, Any]) -> None:
    described = {(method.upper(), path) for method, path, _ in operations(document)}
    assert described == {(route.method, route.path) for route in routes.TABLE}


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = set(refs(document))
    assert found
    for ref in found:
        assert isinstance(at(document, ref), dict)


def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    assert "get_api_v1_datasets_name" in ids


def test_paths_that_differ_only_in_signs_still_get_ids_of_their_own() -> None:
    rows = [row(path="/a/b"), row(path="/a-b"), row(path="/a_b"), row(path="/"), row("POST", path="/a/b")]
    ids = [operation["operationId"] for _, _, operation in operations(built(*rows))]
    assert ids == ["get_a_b", "post_a_b", "get_a_b__2", "get_a_b__3", "get_root"]


def test_every_operation_says_its_scope_tag_and_summary(document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    for route in routes.TABLE:
        operation = document["paths"][route.path][route.method.lower()]
        assert operation["x-scope"] == route.scope
        assert operation["summary"] == route.summary
        assert operation["tags"] == [route.tag]
        assert route.tag in tags
    assert "security" not in document


def test_the_description_is_the_first_line_of_the_handler_only() -> None:
    assert built(row())["paths"]["/x"]["get"]["description"] == "First line."


def test_names_in_a_path_are_required_parameters_that_say_where_to_find_them(document: dict[str, Any]) -> None:
    name = document["paths"][DATA]["get"]["parameters"][0]
    assert (name["name"], name["in"], name["required"]) == ("name", "path", True)
    assert name["x-listing"] == "/api/v1/datasets"
    unlisted = built(row(path="/e/{sid}/{rest}"))["paths"]["/e/{sid}/{rest}"]["get"]["parameters"]
    assert [item["name"] for item in unlisted] == ["sid", "rest"]
    assert "x-listing" not in unlisted[0]


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        (
            "format",
            {"type": "string", "enum": ["rows", "page", "frame", "csv", "ndjson", "arrow"], "default": "rows"},
        ),
        ("agg", {"type": "string", "enum": ["mean", "min", "max", "sum", "last", "count", "none"]}),
        ("max_points", {"type": "integer", "minimum": 1}),
        ("limit", {"type": "integer", "minimum": 1}),
        ("filter", {"type": "array", "items": {"type": "string"}}),
        ("from", {"type": "string"}),
    ],
)
def test_query_parameters_have_the_type_they_are_read_as(
    document: dict[str, Any], name: str, schema: dict[str, Any]
) -> None:
    parameters = {item["name"]: item for item in document["paths"][DATA]["get"]["parameters"]}
    assert parameters[name]["schema"] == schema
    assert parameters[name]["required"] is False
    assert parameters[name]["description"]


def test_a_filter_may_be_repeated(document: dict[str, Any]) -> None:
    parameters = {item["name"]: item for item in document["paths"][DATA]["get"]["parameters"]}
    assert (parameters["filter"]["style"], parameters["filter"]["explode"]) == ("form", True)


def test_a_required_parameter_is_marked(document: dict[str, Any]) -> None:
    (pattern,) = document["paths"]["/api/v1/cache"]["delete"]["parameters"]
    assert pattern["required"] is True


def test_a_dataset_says_that_it_takes_parameters_of_its_own(document: dict[str, Any]) -> None:
    assert "takes its own" in document["paths"][DATA]["get"]["description"]
    assert document["paths"][DATA]["post"]["requestBody"]["content"]["application/json"]["schema"][
        "additionalProperties"
    ]


def test_posted_parameters_are_a_body_in_json_or_a_form(document: dict[str, Any]) -> None:
    operation = document["paths"][DATA]["post"]
    assert [item["in"] for item in operation["parameters"]] == ["path"]
    content = operation["requestBody"]["content"]
    assert set(content) == {"application/json", "application/x-www-form-urlencoded"}
    assert content["application/json"]["schema"]["properties"]["limit"]["type"] == "integer"
    assert operation["requestBody"]["required"] is False


def test_a_required_parameter_that_is_posted_is_required_in_the_body() -> None:
    operation = built(row("POST", params={"pattern": "a glob"}, required=("pattern",)))["paths"]["/x"]["post"]
    assert operation["requestBody"]["required"] is True
    assert operation["requestBody"]["content"]["application/json"]["schema"]["required"] == ["pattern"]


def test_a_body_is_required_only_when_it_has_something_that_must_be_there() -> None:
    document = built(row("POST", body=Needed), row("POST", "/y", body=routes.json_bodies.SearchBody))
    assert document["paths"]["/x"]["post"]["requestBody"]["required"] is True
    assert document["paths"]["/y"]["post"]["requestBody"]["required"] is False
    assert "example" not in document["paths"]["/x"]["post"]["requestBody"]["content"]["application/json"]


def test_a_post_that_takes_nothing_has_no_body(document: dict[str, Any]) -> None:
    assert "requestBody" not in document["paths"]["/api/v1/sources/{name}/ping"]["post"]


def test_every_example_fits_its_own_schema(document: dict[str, Any]) -> None:
    seen = 0
    for _, _, operation in operations(document):
        examples = [item for item in operation["parameters"] if "example" in item]
        examples += list(operation.get("requestBody", {}).get("content", {}).values())
        for item in examples:
            schema = {**item["schema"], "components": document["components"]}
            jsonschema.Draft202012Validator(schema).validate(item["example"])
            seen += 1
    assert seen > 10


def test_a_dataset_answers_in_four_types_and_304_to_get_only(document: dict[str, Any]) -> None:
    get, post = document["paths"][DATA]["get"]["responses"], document["paths"][DATA]["post"]["responses"]
    expected = ["application/json", "text/csv", "application/x-ndjson", "application/vnd.apache.arrow.stream"]
    assert list(get["200"]["content"]) == list(post["200"]["content"]) == expected
    assert "304" in get
    assert "304" not in post


@pytest.mark.parametrize(
    ("path", "types"),
    [
        ("/metrics", ["text/plain", "application/openmetrics-text"]),
        ("/docs", ["text/html"]),
        ("/healthz", ["application/json"]),
    ],
)
def test_the_other_answers_have_the_type_of_their_row(document: dict[str, Any], path: str, types: list[str]) -> None:
    assert list(document["paths"][path]["get"]["responses"]["200"]["content"]) == types


def test_every_error_is_the_one_shape(document: dict[str, Any]) -> None:
    for _, _, operation in operations(document):
        responses = operation["responses"]
        bad = {key for key in responses if key == "default" or int(key) >= 400}
        assert "default" in bad
        for key in bad:
            assert responses[key] == {"$ref": "#/components/responses/Error"}
    schema = at(document, "#/components/responses/Error")["content"]["application/json"]["schema"]
    sent = BadRequest("wrong", remedy="do better").body("ab12")
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(sent)
    assert set(document["components"]["schemas"]["Error"]["required"]) == set(sent)


def test_statuses_are_those_of_the_error_tree(document: dict[str, Any]) -> None:
    tree = {item["status"] for item in document["x-errors"]}
    named = {int(key) for _, _, item in operations(document) for key in item["responses"] if key.isdigit()}
    assert {status for status in named if status >= 400} <= tree
    assert {400, 404, 405, 408, 413, 415, 421, 422, 502, 503, 504} <= named


def test_only_routes_that_can_meet_an_error_name_its_status(document: dict[str, Any]) -> None:
    assert "413" in document["paths"]["/json/query"]["post"]["responses"]
    assert "413" not in document["paths"][DATA]["get"]["responses"]
    assert "504" in document["paths"][DATA]["get"]["responses"]
    assert "504" not in document["paths"]["/healthz"]["get"]["responses"]


def test_every_code_a_client_can_meet_is_explained(document: dict[str, Any]) -> None:
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.BridgeError)]
    listed = {item["code"]: item for item in document["x-errors"]}
    assert set(listed) == {cls.code for cls in classes} - {"settings"}
    assert all(item["text"] for item in listed.values())
    assert listed["upstream_timeout"]["retry"] == "later"


def test_an_error_class_of_a_plugin_does_not_enter_the_document() -> None:
    class Foreign(SourceError):
        """Not bridge's."""

        code = "foreign"

    assert Foreign.code not in [item["code"] for item in openapi.error_codes()]


def test_the_server_is_the_public_url_with_its_sub_path() -> None:
    url = openapi.document(routes.TABLE, "1", "https://lab.example/bridge/")["servers"][0]["url"]
    assert url == "https://lab.example/bridge"


def test_the_document_is_built_once_per_table_version_and_url() -> None:
    rows = (row(),)
    first = openapi.document(rows, "1", BASE)
    assert openapi.document(rows, "1", BASE) is first
    assert openapi.document(rows, "2", BASE) is not first
    assert openapi.document(rows, "1", "http://localhost:1") is not first
    other = openapi.document((replace(rows[0], path="/z"),), "1", BASE)
    assert "/z" in other["paths"]
    assert openapi._Table(rows) != rows
