"""What a settings file means as YAML 1.2, and what is refused before anything is understood."""

from __future__ import annotations

import math

import pytest

from bridge.settings.yaml_text import MAX_FILE_BYTES, Mark, Unreadable, read_yaml

PLAIN = {
    "": None,
    "~": None,
    "null": None,
    "NULL": None,
    "nULL": "nULL",
    "true": True,
    "True": True,
    "FALSE": False,
    "tRUE": "tRUE",
    "on": "on",
    "off": "off",
    "yes": "yes",
    "No": "No",
    "y": "y",
    "12": 12,
    "-12": -12,
    "+12": 12,
    "012": 12,
    "0o14": 12,
    "0x1F": 31,
    "0b11": "0b11",
    "1_000": "1_000",
    "1:30": "1:30",
    "1:30:00": "1:30:00",
    "1.5": 1.5,
    "1.": 1.0,
    ".5": 0.5,
    "-1e3": -1000.0,
    "1e3": 1000.0,
    ".inf": math.inf,
    "-.INF": -math.inf,
    "inf": "inf",
    "nan": "nan",
    "2026-01-02": "2026-01-02",
    "2026-01-02T03:04:05Z": "2026-01-02T03:04:05Z",
    "=": "=",
    "<<": "<<",
    "127.0.0.1": "127.0.0.1",
    "1.2.3": "1.2.3",
    "30d": "30d",
    "'12'": "12",
    '"true"': "true",
    "!!str 12": "12",
    "!!int 12": 12,
    '!!int "12"': 12,
    "!!float 1": 1.0,
    "!!bool true": True,
    "!!null ~": None,
}


@pytest.mark.parametrize(("text", "value"), PLAIN.items())
def test_a_scalar_means_what_yaml_1_2_says(text, value):
    found = read_yaml(f"a: {text}\n".encode())
    assert not found.problems
    assert (found.value["a"], type(found.value["a"])) == (value, type(value))


def test_not_a_number_is_read_as_such():
    assert math.isnan(read_yaml(b"a: .nan").value["a"])


def test_words_that_yaml_1_1_takes_for_booleans_are_keys_like_any_other():
    assert read_yaml(b"{on: 1, yes: 2, n: 3}").value == {"on": 1, "yes": 2, "n": 3}


def test_every_key_and_item_has_its_place():
    text = "server:\n  port: 1\nsources:\n- {name: a}\n- - b\n"
    assert read_yaml(text.encode()).marks == {
        ("server",): Mark(1, 1),
        ("server", "port"): Mark(2, 3),
        ("sources",): Mark(3, 1),
        ("sources", 0): Mark(4, 3),
        ("sources", 0, "name"): Mark(4, 4),
        ("sources", 1): Mark(5, 3),
        ("sources", 1, 0): Mark(5, 5),
    }


@pytest.mark.parametrize("text", ["﻿a: ü\r\nb: 1\r\n", "a: ü\nb: 1", "%YAML 1.2\n---\na: ü\nb: 1\n..."])
def test_byte_order_marks_line_ends_and_directives_do_not_matter(text):
    assert read_yaml(text.encode()).value == {"a": "ü", "b": 1}


def test_an_alias_is_a_copy_of_what_it_names():
    found = read_yaml(b"a: &x {b: [1]}\nc: *x\n").value
    assert found == {"a": {"b": [1]}, "c": {"b": [1]}}
    found["a"]["b"].append(2)
    assert found["c"] == {"b": [1]}


UNREADABLE = {
    "not UTF-8": (b"a: 1\nb: \xc3\xbc\xff", Mark(2, 5), "the file is not UTF-8 text (save it as UTF-8)"),
    "not UTF-8 after a byte order mark": (
        b"\xef\xbb\xbfa: \xff",
        Mark(1, 4),
        "the file is not UTF-8 text (save it as UTF-8)",
    ),
    "UTF-16": ("a: 1".encode("utf-16"), Mark(1, 1), "the file is not UTF-8 text (save it as UTF-8)"),
    "a NUL": (b"a: 1\nb: \0", Mark(2, 4), "the character U+0000 must not stand in YAML (remove it)"),
    "a byte order mark inside": (
        "a: \ufeffx".encode(),
        Mark(1, 4),
        "the character U+FEFF must not stand in YAML (remove it)",
    ),
    "a terminal's escape": (b"a: \x1b[0m", Mark(1, 4), "the character U+001B must not stand in YAML (remove it)"),
    "a tab": (b"a:\n\tb: 1", Mark(2, 1), "a tab cannot indent YAML (use spaces)"),
    "an at sign": (b"a: @x", Mark(1, 4), "'@' cannot begin a value (put the value in quotes)"),
    "a percent sign": (b"a: %x", Mark(1, 4), "'%' cannot begin a value (put the value in quotes)"),
    "an open bracket": (
        b"a: [1",
        Mark(2, 1),
        "this is not YAML: did not find expected ',' or ']' while parsing a flow sequence that begins in line 1, "
        "column 4",
    ),
    "an open quote": (
        b"a: 1\nb: 'x\nc: 2",
        Mark(3, 5),
        "this is not YAML: found unexpected end of stream while scanning a quoted scalar that begins in line 2, "
        "column 4",
    ),
    "an anchor twice": (
        b"{a: &x 1, b: &x 2}",
        Mark(1, 14),
        "this is not YAML: second occurrence found duplicate anchor; first occurrence that begins in line 1, "
        "column 5",
    ),
    "a mapping in a line": (
        b"a: b: c",
        Mark(1, 5),
        "this is not YAML: mapping values are not allowed in this context",
    ),
    "an unknown alias": (b"a: *x", Mark(1, 4), "this is not YAML: found undefined alias"),
    "two documents": (
        b"a: 1\n---\nb: 2",
        Mark(2, 1),
        "a second document begins here (keep one, and remove the `---`)",
    ),
    "an empty second document": (
        b"a: 1\n---\n",
        Mark(2, 1),
        "a second document begins here (keep one, and remove the `---`)",
    ),
    "very deep lists": (
        b"[" * 500_000,
        Mark(1, 1001),
        "it is nested more than 64 levels deep (flatten it)",
    ),
    "very deep items": (b"- " * 500_000, Mark(1, 1999), "it is nested more than 64 levels deep (flatten it)"),
    "a list in itself": (b"&a [*a]", Mark(1, 1), "it is nested more than 64 levels deep (flatten it)"),
    "a huge file": (
        b"a: " + b"x" * MAX_FILE_BYTES,
        Mark(1, 1),
        "the file is larger than 1048576 bytes (is it a settings file?)",
    ),
}


@pytest.mark.parametrize(("data", "mark", "text"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_is_no_yaml_is_refused_with_its_place(data, mark, text):
    with pytest.raises(Unreadable) as caught:
        read_yaml(data)
    assert (caught.value.mark, caught.value.text) == (mark, text)


def test_an_opening_that_is_never_closed_is_shown_where_it_begins():
    with pytest.raises(Unreadable, match="begins in line 2, column 4"):
        read_yaml(b"a: 1\nb: {\n  c: 1\n" + b"d: 1\n" * 50)


def test_nesting_ends_at_64_levels():
    read_yaml(b"[" * 64 + b"]" * 64)
    with pytest.raises(Unreadable, match="more than 64 levels"):
        read_yaml(b"[" * 66 + b"]" * 66)


def test_a_bomb_of_aliases_is_refused_before_it_grows():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    with pytest.raises(Unreadable, match="more than 100000 values") as caught:
        read_yaml("\n".join(lines).encode())
    assert caught.value.mark.line <= 6


PROBLEMS = {
    "twice": ("a: 1\nb: 2\na: 3\n", [(Mark(3, 1), ("a",))], "first in line 1, column 1"),
    "twice inside": ("x:\n- {a: 1, 'a': 2}\n", [(Mark(2, 10), ("x", 0, "a"))], "first in line 2, column 4"),
    "three times": ("{a: 1, a: 2, a: 3}", [(Mark(1, 8), ("a",)), (Mark(1, 14), ("a",))], "first in line 1, column 2"),
    "number as key": ("a: {8000: x}", [(Mark(1, 5), ("a",))], 'a key must be text (write "8000" with its quotes)'),
    "boolean as key": ("true: x", [(Mark(1, 1), ())], 'a key must be text (write "true" with its quotes)'),
    "template without quotes": ("a: {{ b }}", [(Mark(1, 5), ("a",))], "a value that begins with { or [ needs quotes"),
    "merge key": ("a: {<<: {b: 1}}", [(Mark(1, 5), ("a",))], "merge keys (<<) are not part of YAML 1.2"),
    "python object": (
        "a: !!python/object/apply:os.system [ls]",
        [(Mark(1, 4), ("a",))],
        'the tag "!!python/object/apply:os.system" is not read here (remove it)',
    ),
    "tagged mapping": ("a: !x {}", [(Mark(1, 4), ("a",))], 'the tag "!x" is not read here (remove it)'),
    "tagged scalar": ("a: !x 1", [(Mark(1, 4), ("a",))], 'the tag "!x" is not read here (remove it)'),
    "binary": ("a: !!binary aGk=", [(Mark(1, 4), ("a",))], 'the tag "!!binary" is not read here (remove it)'),
    "a word as number": ("a: !!int b", [(Mark(1, 4), ("a",))], 'the tag "!!int" is not read here (remove it)'),
    "too many digits": ("a: " + "1" * 5000, [(Mark(1, 4), ("a",))], "the number has too many digits"),
}


@pytest.mark.parametrize(("text", "places", "words"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_what_yaml_allows_but_settings_do_not_is_told_with_its_place(text, places, words):
    found = read_yaml(text.encode())
    assert [(mark, loc) for mark, loc, _ in found.problems] == places
    assert all(words in told for _, _, told in found.problems)


def test_of_a_key_that_stands_twice_the_first_is_read_on():
    assert read_yaml(b"{a: 1, a: 2}").value == {"a": 1}


def test_a_merge_key_in_quotes_is_a_key():
    assert read_yaml(b"{'<<': 1}").value == {"<<": 1}
