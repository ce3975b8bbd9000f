"""The queries of a dashboard: a dataset's model with the dashboard's variables filled in where it takes them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from bridge.model.schema import Column, Role, Schema, Shape
from bridge.provision.catalogue import DATASOURCE, Catalogue, Dataset, Variable
from bridge.provision.infinity import PAGE_ROWS, drawn, query_model

PLUGIN = "yesoreyeram-infinity-datasource"
REFERENCE = {"type": PLUGIN, "uid": f"${{{DATASOURCE}}}"}
# Words of every request: a column of such a name is reached by `filter` only.
RESERVED = frozenset(
    {
        *("from", "to", "step", "max_points", "filter", "columns", "series", "agg", "format", "cursor", "limit"),
        *("on_error", "fresh", "refId", "shape", "as_of"),
    }
)
# What every row must match when a picker stands at "All": the rows without a value match it as well.
ALL = ".*"
# So many datasets can be named in one question for values.
MAX_UNITED = 50
# Values that one question can compare a column with.
MAX_VALUES = 1_000
_PLAIN = re.compile(r"[A-Za-z0-9_.]+")
Model = dict[str, Any]


def series_model(catalogue: Catalogue, dataset: Dataset, measures: Sequence[Column]) -> Model:
    """The measures as lines over time, one per combination of dimensions."""
    names = {measure.name for measure in measures}
    schema = _kept(dataset.schema, (c for c in dataset.schema.columns if not drawn(c) or c.name in names))
    model = query_model(dataset.name, schema, dataset.shape, dataset.params)
    wanted = [c.name for c in schema.columns if c.role is Role.DIMENSION or c.name in names]
    # Fewer columns are a smaller answer; a name with a comma in it cannot be asked for, and then all of them come.
    more = {"columns": ",".join(wanted)} if all(map(_PLAIN.fullmatch, wanted)) else {}
    return _filled(catalogue, dataset, model, more)


def rows_model(catalogue: Catalogue, dataset: Dataset) -> Model:
    """Whole rows of a time series, thinned out to what the panel's own number of points allows."""
    model = query_model(dataset.name, dataset.schema, Shape.TABLE, dataset.params)
    return _filled(catalogue, dataset, model, {"step": "${__interval_ms}"})


def shaped_model(catalogue: Catalogue, dataset: Dataset, *, ref_id: str = "A") -> Model:
    """The dataset in its own shape: a table, log lines, annotations, or one half of a graph."""
    model = query_model(dataset.name, dataset.schema, dataset.shape, dataset.params)
    return {**_filled(catalogue, dataset, model), "refId": ref_id}


def plain_model(catalogue: Catalogue, dataset: Dataset) -> Model:
    """All columns of the dataset as a table, whatever its shape."""
    return _filled(catalogue, dataset, query_model(dataset.name, dataset.schema, Shape.TABLE, dataset.params))


def states_model(status: Dataset, names: Sequence[str], columns: Iterable[str]) -> Model:
    """How these datasets are doing: some columns of the rows that tell it."""
    model = query_model(status.name, status.schema, Shape.TABLE)
    wanted = list(columns)
    body: dict[str, object] = {"format": "page", "limit": PAGE_ROWS, "columns": wanted}
    if len(names) <= MAX_VALUES:
        # More of them cannot be compared with in one question; then all are shown.
        body["dataset"] = list(names)
    options = _posted(json.dumps(body, ensure_ascii=False))
    shown = [column for column in model["columns"] if column["text"] in wanted]
    return {
        **model,
        "url_options": options,
        "columns": shown,
        "pagination_mode": "none",
        "datasource": REFERENCE,
    }


def values_model(variable: Variable, catalogue: Catalogue) -> Model:
    """The values of a dimension in all datasets that have it, for the picker.

    Source: `POST /json/variable` joins the values of several datasets and sends each once; Infinity posts a body
            of type `raw` as it stands, once its variables and macros are filled in.
    """
    asked = [d for d in variable.datasets if not d.asked_for][:MAX_UNITED] or [variable.datasets[0]]
    names = [dataset.name for dataset in asked]
    target = names[0] if len(names) == 1 else "{" + ",".join(names) + "}"
    pairs = {"dataset": json.dumps(target), "column": json.dumps(variable.word)}
    pairs |= {word: _as_json(given) for word, given in catalogue.given(asked[0]).items()}
    payload = ", ".join(f"{json.dumps(word)}: {text}" for word, text in pairs.items())
    span = json.dumps({"from": "${__timeFrom}", "to": "${__timeTo}"})
    data = f'{{"payload": {{{payload}}}, "range": {span}}}'
    return {
        "refId": "variable",
        "type": "json",
        "source": "url",
        "parser": "backend",
        "format": "table",
        "url": "/json/variable",
        "url_options": _posted(data),
        "root_selector": "",
        "columns": [{"selector": name, "text": name, "type": "string"} for name in ("__text", "__value")],
        "filters": [],
        "filterExpression": "",
        "computed_columns": [],
        "pagination_mode": "none",
    }


def _posted(data: str) -> Model:
    """A body of JSON, as it stands once its variables and macros are filled in."""
    return {
        "method": "POST",
        "data": data,
        "params": [],
        "headers": [],
        "body_type": "raw",
        "body_content_type": "application/json",
    }


def _as_json(variable: Variable) -> str:
    """The variable's value as JSON: Grafana's format `doublequote` puts quotes around each of its texts."""
    text = f"${{{variable.name}:doublequote}}"
    return f"[{text}]" if variable.param is not None and variable.param.multi else text


def _kept(schema: Schema, columns: Iterable[Column]) -> Schema:
    return Schema(tuple(columns), schema.version)


def _filled(catalogue: Catalogue, dataset: Dataset, model: Model, more: dict[str, str] | None = None) -> Model:
    """The model with its datasource, what else is asked, and a parameter for every variable of the dataset."""
    given = catalogue.given(dataset)
    params = [
        (item["key"], _value(given[item["key"]]) if item["key"] in given else item["value"])
        for item in model["url_options"]["params"]
    ]
    params += [*(more or {}).items(), *_narrowed(catalogue.pickers(dataset))]
    options = {**model["url_options"], "params": [{"key": key, "value": value} for key, value in sorted(params)]}
    return {**model, "url_options": options, "datasource": REFERENCE}


def _value(variable: Variable) -> str:
    return (
        f"${{{variable.name}:json}}"
        if variable.param is not None and variable.param.multi
        else f"${{{variable.name}}}"
    )


def _narrowed(pickers: dict[str, Variable]) -> Iterator[tuple[str, str]]:
    """The dimension compared with the chosen values; "All" is no filter at all.

    Source: as JSON, values keep their commas, pipes and dots, there may be 1,000 of them, and the source itself can
            be asked for them. A pattern says the same in at most 512 characters, and bridge alone can apply it.
    """
    for word, variable in pickers.items():
        if word in RESERVED:
            yield "filter", f"{word}=~${{{variable.name}:regex}}"
        else:
            yield word, f"${{{variable.name}:json}}"
