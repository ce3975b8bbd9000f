"""The example keeps what bridge relies on."""

from bridge_source_machine import MachineSource

from bridge.sources.conformance import conformance

TestConformance = conformance(MachineSource, {"datasets": [{"name": "load"}]})
