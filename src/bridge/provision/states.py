"""How the state of datasets looks: its colours, and the table of it that stands above their data."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from bridge.provision import queries
from bridge.provision.catalogue import Dataset
from bridge.provision.panels import WIDE, Tile, filled, table_panel

with warnings.catch_warnings():
    # The newer builders write a format that Grafana does not read from files yet.
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.models import dashboard

SMALL = 6
SHOWN = ("dataset", "state", "stale", "age_s", "findings_warn", "findings_block", "error", "remedy")
_PLAIN = "transparent"
_COLORS = {
    "ok": "green",
    "unknown": _PLAIN,
    "needs_auth": "orange",
    "held_back": "orange",
    "schema_changed": "orange",
    "down": "red",
    "failed": "red",
}


def _property(name: str, value: Any) -> dashboard.DynamicConfigValue:
    return dashboard.DynamicConfigValue(id_val=name, value=value)


def _mapped(colors: dict[str, str]) -> list[dashboard.DynamicConfigValue]:
    """A cell in the colour of its value."""
    options = {value: {"color": color, "index": index} for index, (value, color) in enumerate(colors.items())}
    return [_property("mappings", [{"type": "value", "options": options}]), _cell("color-background")]


def _from(*steps: tuple[float, str], cell: str = "color-background") -> list[dashboard.DynamicConfigValue]:
    """A cell in the colour of the last step that its number has reached; below the first as all text is."""
    levels: list[dict[str, object]] = [{"color": "text" if cell == "color-text" else _PLAIN, "value": None}]
    levels += [{"color": color, "value": value} for value, color in steps]
    color = _property("color", {"mode": "thresholds"})
    return [color, _property("thresholds", {"mode": "absolute", "steps": levels}), _cell(cell)]


def _cell(kind: str) -> dashboard.DynamicConfigValue:
    return _property(
        "custom.cellOptions", {"type": kind, "mode": "basic"} if "background" in kind else {"type": kind}
    )


LOOKS = {
    "state": _mapped(_COLORS),
    "stale": _mapped({"true": "orange", "false": _PLAIN}),
    "breaker": _mapped({"open": "red", "half_open": "orange", "closed": _PLAIN}),
    "level": _mapped({"block": "red", "warn": "orange", "info": "blue"}),
    "age_s": _from((300, "yellow"), (3_600, "orange"), cell="color-text"),
    "findings_info": _from((1, "blue"), cell="color-text"),
    "findings_warn": _from((1, "orange")),
    "findings_block": _from((1, "red")),
}


def state_tile(status: Dataset, names: Sequence[str]) -> Tile:
    """A small table of how the datasets are doing; what is no column of `status` is left out."""
    columns = [column for name in SHOWN if (column := status.schema.get(name)) is not None]
    panel = table_panel(status, columns, LOOKS)
    text = "Whether what is shown below is new: the last good answer of a source that is down is shown in its place."
    model = queries.states_model(status, names, (column.name for column in columns))
    filled(panel, "State of this data", text, model)
    return Tile("state", panel, WIDE, SMALL)
