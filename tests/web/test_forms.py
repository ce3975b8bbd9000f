"""The form of a dataset asks for what the dataset has, and for nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.model.query import Agg
from bridge.model.schema import Column, ColumnType, Param, Role, Schema
from bridge.sources.base import DatasetSpec, NoOptions
from bridge.web.forms import AGGS, payloads

TIME = Column("time", ColumnType.TIME, role=Role.TIME)
MODEL = Column("model", ColumnType.STRING, role=Role.DIMENSION, description="which model")
LOSS = Column("loss", ColumnType.NUMBER, role=Role.MEASURE)
SHARE = Column("share", ColumnType.NUMBER, role=Role.MEASURE, unit="percentunit")
NOTE = Column("note", ColumnType.STRING)


def form(*columns: Column, params: tuple[Param, ...] = ()) -> dict[str, dict[str, Any]]:
    spec = DatasetSpec("d", NoOptions(), params=params)
    return {field["name"]: field for field in payloads(spec, Schema(columns) if columns else None)}


@pytest.mark.parametrize(
    ("columns", "fields"),
    [
        ((TIME, MODEL, LOSS, SHARE, NOTE), ["model", "columns", "series", "agg", "filter"]),
        ((TIME, MODEL, LOSS), ["model", "series", "agg", "filter"]),
        ((TIME, LOSS), ["agg", "filter"]),
        ((TIME, NOTE), ["filter"]),
        ((TIME, MODEL), ["model", "series", "filter"]),
        ((MODEL, LOSS, SHARE), ["model", "columns", "filter"]),
        ((), []),
    ],
)
def test_fields_follow_from_the_columns(columns: tuple[Column, ...], fields: list[str]) -> None:
    assert list(form(*columns)) == fields


def test_a_dimension_is_a_picker_whose_choices_are_asked_for() -> None:
    assert form(TIME, MODEL, LOSS)["model"] == {
        "name": "model",
        "label": "model",
        "type": "multi-select",
        "placeholder": "which model",
    }


def test_choices_that_are_known_are_written_in() -> None:
    found = form(TIME, MODEL, LOSS, SHARE)
    assert found["columns"]["options"] == [
        {"label": "loss", "value": "loss"},
        {"label": "share (percentunit)", "value": "share"},
    ]
    assert [option["value"] for option in found["series"]["options"]] == ["model", "none"]
    assert [option["value"] for option in found["agg"]["options"]] == list(AGGS) == ["auto", *map(str, Agg)]
    assert found["filter"]["type"] == "textarea"


@pytest.mark.parametrize(
    ("param", "kind"),
    [
        (Param("p", "what"), "input"),
        (Param("p", "what", options=("a", "b")), "select"),
        (Param("p", "what", options=("a", "b"), multi=True), "multi-select"),
    ],
)
def test_a_parameter_is_typed_in_or_chosen(param: Param, kind: str) -> None:
    for columns in ((), (TIME, MODEL)):
        found = form(*columns, params=(param,))["p"]
        assert found["type"] == kind
        assert found["placeholder"] == "what"
        assert ("options" in found) == bool(param.options)
