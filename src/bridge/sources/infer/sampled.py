"""A dataset of the `rest` kind from one answer."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from bridge.edge.upstream import Answer
from bridge.errors import UpstreamInvalid
from bridge.sources.builtin.files.csv_text import sharpened
from bridge.sources.builtin.http.decode import Document, decode
from bridge.sources.builtin.rest.links import next_link
from bridge.sources.infer.columns import Field, guess
from bridge.sources.infer.names import Names, path_name
from bridge.sources.infer.shape import MAX_FIELDS, Found, fields_of, find_rows, jmes_select, paging_of, remarks_of
from bridge.sources.infer.stanza import DatasetGuess
from bridge.sources.table import SAMPLE_ROWS


@dataclass(frozen=True, slots=True)
class Sample:
    """What one answer holds."""

    document: Any
    found: Found
    fields: list[Field]
    link: str | None


def read_sample(answer: Answer, what: str, document: Document | None = None) -> Sample:
    """The rows of an answer and their fields.

    Errors: UpstreamInvalid when it holds no rows of objects.
    """
    kind = answer.headers.get("content-type", "")
    document = document or decode(answer.body, kind, "auto", what=what)
    link = next_link(answer.headers.get("link", ""))
    if document.header is not None:
        return _csv(document, answer.body, what)
    try:
        found = find_rows(document.value, what)
        return Sample(document.value, found, fields_of(found.rows, jmes_select), link)
    except RecursionError as error:
        raise UpstreamInvalid(f"{what} answers with data that is nested too deeply") from error


def _csv(document: Document, body: bytes, what: str) -> Sample:
    header = document.header or ()
    _check_dialect(header, body, what)
    # More columns than anybody declares: each of them is as long as the sample.
    header = header[:MAX_FIELDS]
    rows = document.value[:SAMPLE_ROWS]
    texts = pl.DataFrame(
        {name: [row.get(name) for row in rows] for name in header}, schema=dict.fromkeys(header, pl.String)
    )
    if not rows:
        raise UpstreamInvalid(
            f"{what} is a CSV with a header and no rows: there is nothing to read columns from",
            remedy="ask again when there is data",
        )
    values = sharpened(texts, decimal_comma=False)
    fields = [Field((name,), values[name], select=jmes_select((name,), 1)) for name in header if name]
    return Sample(document.value, Found((), rows), fields, None)


def _check_dialect(header: tuple[str, ...], body: bytes, what: str) -> None:
    first = body.removeprefix(codecs.BOM_UTF8).split(b"\n", 1)[0].decode("utf-8", "replace")
    if len(header) == 1 and (odd := next((item for item in ";\t|" if item in first), None)):
        cells = len(next(csv.reader(io.StringIO(first), delimiter=odd), []))
        raise UpstreamInvalid(
            f"{what} is a CSV with {odd!r} between {cells} columns; over HTTP only commas are read",
            remedy="have the API write commas or JSON, or save the file and infer from it",
        )
    if len(header) == 1 and "," not in first and not first.strip().isidentifier():
        raise UpstreamInvalid(f"{what} is text, and no table", remedy="name an address that answers JSON or CSV")


def sampled(
    answer: Answer, path: str, params: tuple[tuple[str, str], ...], names: Names, *, name: str | None = None
) -> DatasetGuess:
    """The dataset that this answer shows.

    Errors: UpstreamInvalid when it holds no rows of objects.
    """
    sample = read_sample(answer, f"GET {path}")
    options: dict[str, Any] = {"path": path}
    if params:
        options["params"] = fixed(params)
    if sample.found.path:
        options["rows"] = sample.found.path
    paging, why = paging_of(sample.document, sample.found, sample.link)
    if paging:
        options["paging"] = paging
    guessed = guess(sample.fields, len(sample.found.rows))
    if not guessed.columns:
        raise UpstreamInvalid(
            f"GET {path} answers with rows that hold nothing", remedy="ask again when there is data"
        )
    notes = [f"GET {path}: {len(sample.found.rows)} rows were seen", *remarks_of(sample.found)]
    notes += [f"paging: {why}"] if why else []
    return DatasetGuess(
        names.take(name or path_name(path)),
        options,
        guessed.columns,
        notes=(*notes, *guessed.notes),
        remarks=guessed.remarks,
    )


def fixed(params: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    """Parameters that are sent as they are; braces in them are no templates."""
    return {name: value.replace("{", "{{").replace("}", "}}") for name, value in params}
