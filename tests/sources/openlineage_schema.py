"""What OpenLineage 2-0-2 asks of a RunEvent and of the facets bridge writes, as a JSON schema for tests."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

URI = {"type": "string", "format": "uri", "pattern": r"^[a-z][a-z0-9+.-]*:\S+$"}
TEXT = {"type": "string"}
# The format alone is looked at only where a further package is installed.
INSTANT = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$",
}


def _object(required: list[str], /, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


def _facet(version: str, name: str, required: list[str], /, **properties: Any) -> dict[str, Any]:
    """A facet is open for more, and names who made it and which published schema it follows."""
    url = f"https://openlineage.io/spec/facets/{version}/{name}.json#/$defs/{name}"
    own = {"_producer": URI, "_schemaURL": {"const": url}, **properties}
    return _object(["_producer", "_schemaURL", *required], **own)


def _facets(**known: Any) -> dict[str, Any]:
    # Closed here, though not in the specification: a facet that no test knows would be one nobody has looked up.
    return {"type": "object", "properties": known, "additionalProperties": False}


_DATASET_FACETS = _facets(
    schema=_facet(
        "1-1-1",
        "SchemaDatasetFacet",
        [],
        fields={"type": "array", "items": _object(["name"], name=TEXT, type=TEXT, description=TEXT)},
    ),
    dataSource=_facet("1-0-1", "DatasourceDatasetFacet", [], name=TEXT, uri=URI),
    dataQualityAssertions=_facet(
        "1-0-2",
        "DataQualityAssertionsDatasetFacet",
        ["assertions"],
        assertions={
            "type": "array",
            "items": _object(
                ["assertion", "success"], assertion=TEXT, success={"type": "boolean"}, column=TEXT, severity=TEXT
            ),
        },
    ),
)
_DATASET = {"namespace": TEXT, "name": TEXT, "facets": _DATASET_FACETS}
_OUTPUT_FACETS = _facets(
    outputStatistics=_facet(
        "1-0-2", "OutputStatisticsOutputDatasetFacet", [], rowCount={"type": "integer"}, size={"type": "integer"}
    )
)
_RUN_FACETS = _facets(
    errorMessage=_facet(
        "1-0-1",
        "ErrorMessageRunFacet",
        ["message", "programmingLanguage"],
        message=TEXT,
        programmingLanguage=TEXT,
        stackTrace=TEXT,
    ),
    processing_engine=_facet(
        "1-1-1", "ProcessingEngineRunFacet", ["version"], version=TEXT, name=TEXT, openlineageAdapterVersion=TEXT
    ),
)
RUN_EVENT = _object(
    ["eventTime", "producer", "schemaURL", "run", "job"],
    eventType={"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
    eventTime=INSTANT,
    producer=URI,
    schemaURL={"const": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"},
    run=_object(["runId"], runId={"type": "string", "format": "uuid"}, facets=_RUN_FACETS),
    job=_object(["namespace", "name"], namespace=TEXT, name=TEXT, facets=_facets()),
    inputs={"type": "array", "items": _object(["namespace", "name"], **_DATASET, inputFacets=_facets())},
    outputs={"type": "array", "items": _object(["namespace", "name"], **_DATASET, outputFacets=_OUTPUT_FACETS)},
)
VALIDATOR = Draft202012Validator(RUN_EVENT, format_checker=FormatChecker())


def problems(event: Any) -> list[str]:
    """What is wrong with an event; nothing where OpenLineage takes it."""
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(event)]
