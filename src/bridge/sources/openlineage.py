"""One fetch of a dataset as an OpenLineage event: what was read, what came out, and what the checks said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from bridge.errors import BridgeError
from bridge.model.finding import Finding, Level
from bridge.model.frame import Frame
from bridge.model.schema import Schema
from bridge.model.span import to_ms

_SPEC = "https://openlineage.io/spec"
EVENT_SCHEMA = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
# The published version of each facet bridge writes.
_FACETS = {
    "schema": "1-1-1/SchemaDatasetFacet.json#/$defs/SchemaDatasetFacet",
    "dataSource": "1-0-1/DatasourceDatasetFacet.json#/$defs/DatasourceDatasetFacet",
    "dataQualityAssertions": "1-0-2/DataQualityAssertionsDatasetFacet.json#/$defs/DataQualityAssertionsDatasetFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet.json#/$defs/OutputStatisticsOutputDatasetFacet",
    "errorMessage": "1-0-1/ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet",
    "processing_engine": "1-1-1/ProcessingEngineRunFacet.json#/$defs/ProcessingEngineRunFacet",
}
# OpenLineage's words for what a failed assertion does.
_SEVERITIES = {Level.INFO: "info", Level.WARN: "warn", Level.BLOCK: "error"}


@dataclass(frozen=True, slots=True)
class Teller:
    """Who tells: under which namespace its jobs and datasets stand, and which version runs."""

    namespace: str
    version: str

    @property
    def producer(self) -> str:
        """The URI events name as theirs."""
        return f"urn:bridge:{self.version}"

    def facet(self, name: str, /, **values: Any) -> dict[str, Any]:
        """One facet by its name."""
        url = f"{_SPEC}/facets/{_FACETS[name]}"
        return {name: {"_producer": self.producer, "_schemaURL": url, **values}}

    def dataset(self, name: str, *facets: Mapping[str, Any]) -> dict[str, Any]:
        """A dataset, or a far system, under bridge's namespace."""
        return {"namespace": self.namespace, "name": name, "facets": {k: v for f in facets for k, v in f.items()}}


def run_id(instant: datetime, randomness: bytes) -> str:
    """A UUID of version 7: ordered by time, its other 74 bits from 10 bytes of randomness.

    Source: RFC 9562, 5.7.
    """
    random = int.from_bytes(randomness[:10])
    high, low = random >> 68 & 0xFFF, random & (1 << 62) - 1
    value = (to_ms(instant) & (1 << 48) - 1) << 80 | 7 << 76 | high << 64 | 2 << 62 | low
    return str(UUID(int=value))


def completed(
    teller: Teller, frame: Frame, run: str, *, findings: Sequence[Finding] = (), checks: Iterable[str] = ()
) -> dict[str, Any]:
    """The event of a good fetch, made of the lineage its frame carries.

    Shape: `checks` are the names of all that were made; those without a finding passed.
    """
    lineage = frame.meta.custom["lineage"]
    facets = [] if lineage["schema"].get("partial") else [_schema(teller, frame.schema)]
    out = teller.dataset(lineage["dataset"], *facets, *_assertions(teller, findings, checks))
    out["outputFacets"] = teller.facet("outputStatistics", rowCount=lineage["rows"])
    inputs = [_far(teller, lineage["source"])]
    inputs += [teller.dataset(parent["dataset"]) for parent in lineage["parents"]]
    return _event(teller, "COMPLETE", lineage["fetched_at"], (run, {}), inputs, out)


def failed(
    teller: Teller,
    dataset: str,
    parents: Iterable[str],
    error: BridgeError,
    instant: datetime,
    run: str,
    *,
    findings: Sequence[Finding] = (),
) -> dict[str, Any]:
    """The event of a fetch that gave nothing, with the words that panels are given as well."""
    facet = teller.facet("errorMessage", message=error.sentence, programmingLanguage="PYTHON")
    inputs = [_far(teller, dataset.partition(".")[0]), *map(teller.dataset, parents)]
    out = teller.dataset(dataset, *_assertions(teller, findings, ()))
    return _event(teller, "FAIL", instant.isoformat(), (run, facet), inputs, out)


def _event(
    teller: Teller,
    kind: str,
    time: str,
    run: tuple[str, Mapping[str, Any]],
    inputs: list[dict[str, Any]],
    out: dict[str, Any],
) -> dict[str, Any]:
    ident, facets = run
    engine = teller.facet("processing_engine", version=teller.version, name="bridge")
    return {
        "eventType": kind,
        "eventTime": time,
        "producer": teller.producer,
        "schemaURL": EVENT_SCHEMA,
        "run": {"runId": ident, "facets": {**engine, **facets}},
        "job": {"namespace": teller.namespace, "name": out["name"], "facets": {}},
        "inputs": inputs,
        "outputs": [out],
    }


def _far(teller: Teller, source: str) -> dict[str, Any]:
    """The far system by its name in the settings: its URL is an option, and options are told to nobody."""
    return teller.dataset(source, teller.facet("dataSource", name=source))


def _schema(teller: Teller, schema: Schema) -> dict[str, Any]:
    fields = []
    for column in schema.columns:
        told = " ".join(part for part in (column.description, f"({column.unit})" if column.unit else "") if part)
        fields.append({"name": column.name, "type": column.type.value, **({"description": told} if told else {})})
    return teller.facet("schema", fields=fields)


def _assertions(teller: Teller, findings: Sequence[Finding], checks: Iterable[str]) -> Iterable[dict[str, Any]]:
    """What was found, then what was checked and in order; nothing where nothing was checked."""
    found = [
        {
            "assertion": finding.check,
            "success": finding.level is Level.INFO,
            **({"column": finding.column} if finding.column else {}),
            "severity": _SEVERITIES[finding.level],
        }
        for finding in findings
    ]
    said = {finding.check for finding in findings}
    found += [{"assertion": name, "success": True} for name in dict.fromkeys(checks) if name not in said]
    return [teller.facet("dataQualityAssertions", assertions=found)] if found else []
