"""What is written can be read by any reader of YAML as what was meant."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import BadRequest
from bridge.model.schema import Column, ColumnType, Param, Role
from bridge.settings.yaml_text import read_yaml
from bridge.sources.infer import DatasetGuess, SourceGuess
from bridge.sources.infer.splice import spliced
from bridge.sources.infer.stanza import clean, flow

HOSTILE = [
    "yes", "no", "on", "y", "null", "~", "", " ", "1", "1.0", "1e3", "0o7", "0x1F", "1:30", "2026-01-01", ".inf",
    "NaN",
    "{x}", "[x]", "- x", "a: b", "a #b", "#x", "&a", "*a", "!t", "%x", "@x", "`x`", "'", '"', "\\", "a\nb", "a\r\nb",
    "\t", "\x00", "\x85", "\u2028", "\ufeff", "\u202e", "x ", "?", "|", ">", "<<", "=", "größe", "日本", "---", "...",
    "true", "True", "None", "_1", "1_000", "+1", "n" * 500, "a:b", "x:", ",", "\U0001f600",
]  # fmt: skip


def source(**more: Any) -> SourceGuess:
    """A source whose every text is given."""
    text = more.pop("text", "x")
    dataset = DatasetGuess(
        "runs",
        {"path": text, "params": {text: text}},
        (Column("time", ColumnType.TIME, role=Role.TIME, select=text, description=text),),
        (Param("site", text, text, (text,), required=True, multi=True),),
        text,
        (text,),
        {"time": text},
    )
    return SourceGuess("lab", "files", {"root": text}, (dataset,), (text,), **more)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_read_back_as_they_are(text: str) -> None:
    """By the settings' reader of YAML 1.2 and by PyYAML, which reads 1.1; in comments they end nothing."""
    said = source(text=text)
    document = read_yaml(said.yaml().encode())
    assert not document.problems
    assert document.value == {"sources": [said.settings()]}
    assert yaml.safe_load(said.yaml()) == {"sources": [said.settings()]}


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_any_text_is_read_back(text: str) -> None:
    """As a value, as a key and behind a comment mark."""
    said = source(text=text)
    document = read_yaml(said.yaml().encode())
    assert (document.value, document.problems) == ({"sources": [said.settings()]}, [])


def test_plain_values_stay_plain() -> None:
    """What a person would not quote is not quoted."""
    assert flow({"path": "/runs", "size": 5, "on_time": True, "x": "a.b"}) == (
        "{path: /runs, size: 5, on_time: true, x: a.b}"
    )


@pytest.mark.parametrize("text", ["y", "N", "Off", "nan", "Inf"])
def test_words_that_some_reader_takes_for_a_value_are_quoted(text: str) -> None:
    """Not every tool reads YAML as these two do."""
    assert flow(text) == f'"{text}"'


def test_texts_of_the_far_side_are_cut_to_a_line() -> None:
    """However long they are."""
    assert clean("a\n  b\x00c") == "a b c"
    assert len(clean("x" * 10_000)) == 200


TEXTS = {
    "nothing": "",
    "comments": "# only\n# comments\n",
    "no sources": "server: {port: 1} # here\n# end\n",
    "no line end": "server: {port: 1}",
    "null": "sources:\nserver: {port: 1}\n",
    "tilde": "sources: ~ # none yet\nserver: {port: 1}\n",
    "empty list": "sources: [] # none\n# behind\nserver: {port: 1}\n",
    "block": "# a\nsources: # b\n  - name: old # c\n    kind: files # d\n  # e\n\nserver: {port: 1} # f\n",
    "indentless": "sources:\n- name: old\n  kind: files\n# end\nserver: {port: 1}\n",
    "flow items": "sources:\n    - {name: old, kind: files} # x\n",
    "flow list": "sources: [{name: old, kind: files}] # x\nserver: {port: 1}\n",
    "flow lines": "sources: [\n  {name: old, kind: files}, # x\n  {name: older, kind: files}\n]\n",
    "literal": "sources:\n  - name: old\n    x: |\n      text\n      more\n\n# end\nserver: {port: 1}\n",
    "literal at the end": "sources:\n  - name: old\n    x: |-\n      text",
    "quoted lines": 'sources:\n  - name: "old\n      name"\n    kind: files\nserver: {port: 1}\n',
    "windows": "sources:\r\n  - name: old # c\r\n    kind: files\r\nserver: {port: 1}\r\n",
    "deep": "sources:\n  - name: old\n    datasets:\n      - name: a\n        columns:\n          - {name: x}\n# z\n",
    "marker": "---\nsources:\n  - name: old\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_source_is_put_in_and_every_character_stays(name: str) -> None:
    """Comments, order and line ends of the file are those of its writer."""
    before = TEXTS[name]
    after = spliced(before, source())
    old = read_yaml(before.encode()).value or {}
    new = read_yaml(after.encode())
    assert not new.problems
    assert new.value == {**old, "sources": [*(old.get("sources") or []), source().settings()]}
    left = after
    for line in before.splitlines():
        kept = line.replace(" []", "").replace(" ~", "").rstrip("]").rstrip()
        assert kept.split("}]")[0] in left
    if "\r\n" in before:
        assert "\n" not in after.replace("\r\n", "")


@pytest.mark.parametrize(
    "text", ["[1]", "x", "{server: {port: 1}}", "sources: {a: b}", "sources: old", "a: [", "a: b: c"]
)
def test_a_file_without_a_place_for_it_is_refused(text: str) -> None:
    """The person is told to put it in by hand, or what is wrong."""
    with pytest.raises(BadRequest) as caught:
        spliced(text, source())
    assert caught.value.remedy
