"""Every encoding in which Grafana sends a variable comes to the same values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import BadQuery
from bridge.web.payload import MAX_VALUES, alternatives, parts, text_of, texts, unescaped, wholes


def grafana_regex(values: list[str]) -> str:
    """What `templateSrv` writes for a variable in the format `regex`."""
    escaped = [re.sub(r"[\\^$*+?.()|\[\]{}/]", lambda match: "\\" + match[0], value) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        (None, ()),
        ("", ()),
        ("  ", ()),
        ("$__all", ()),
        (".*", ()),
        ("*", ()),
        (".+", ()),
        (["$__all"], ()),
        ('["$__all"]', ()),
        ("svm", ("svm",)),
        (" svm ", ("svm",)),
        (r"svm\.rbf", ("svm.rbf",)),
        (r"a\/b\-c", ("a/b-c",)),
        ("(svm|mlp)", ("svm", "mlp")),
        (r"(a\.b|c\|d|e\(f\))", ("a.b", "c|d", "e(f)")),
        (r"(a\\|b)", ("a\\", "b")),
        ("(a|)", ("a", "")),
        ("{svm,mlp}", ("svm", "mlp")),
        ("{a.b,c d}", ("a.b", "c d")),
        ('["svm","mlp"]', ("svm", "mlp")),
        ('["a,b"]', ("a,b",)),
        ("[1, 2.5, true, null, 3.0]", ("1", "2.5", "true", "3")),
        ("[]", ()),
        (["svm", "mlp", "svm"], ("svm", "mlp")),
        (["(a|b)", "c"], ("a", "b", "c")),
        ([["a"], [["b"]]], ("a", "b")),
        ({"value": "svm"}, ("svm",)),
        ({"text": "Svm", "value": ["svm", "mlp"]}, ("svm", "mlp")),
        (5, ("5",)),
        (5.0, ("5",)),
        (0.25, ("0.25",)),
        (1e300, ("1e+300",)),
        (True, ("true",)),
        (False, ("false",)),
        # These look like one of the forms and are not: they are values.
        ("(svm)", ("(svm)",)),
        ("(a) and (b)", ("(a) and (b)",)),
        (r"(a|b\)", ("(a|b)", "(a", "b)")),
        ("[svm]", ("[svm]",)),
        ('[{"a": 1}]', ('[{"a": 1}]',)),
        ("{svm}", ("{svm}",)),
        ("{a,{b}", ("{a,{b}", "{a", "{b}")),
    ],
)
def test_every_encoding_gives_the_values(sent: Any, found: tuple[str, ...]) -> None:
    assert texts(sent, "model") == found


@pytest.mark.parametrize(
    ("sent", "all_", "cut", "uncut"),
    [
        ("a,b", ("a,b", "a", "b"), ("a", "b"), ("a,b",)),
        ("a|b", ("a|b", "a", "b"), ("a", "b"), ("a|b",)),
        ("a, b ,,c", ("a, b ,,c", "a", "b", "c"), ("a", "b", "c"), ("a, b ,,c",)),
        (["a,b", "c"], ("a,b", "a", "b", "c"), ("a", "b", "c"), ("a,b", "c")),
        ("(a,b|c)", ("a,b", "c"), ("a,b", "c"), ("a,b", "c")),
        ("{a|b,c}", ("a|b", "c"), ("a|b", "c"), ("a|b", "c")),
        (",", (",",), (",",), (",",)),
    ],
)
def test_a_comma_or_pipe_may_stand_between_values_or_in_one(
    sent: Any, all_: tuple[str, ...], cut: tuple[str, ...], uncut: tuple[str, ...]
) -> None:
    assert texts(sent, "model") == all_
    assert parts(sent, "model") == cut
    assert wholes(sent, "model") == uncut


def test_a_known_value_keeps_its_comma() -> None:
    assert parts("a,b", "mode", ("a,b", "c")) == ("a,b",)
    assert parts("a,c", "mode", ("a,b", "c")) == ("a", "c")


@pytest.mark.parametrize("sent", [{}, {"a": 1}, [{"a": 1}], {"value": {"x": 1}}, object()])
def test_an_object_is_refused_by_name(sent: Any) -> None:
    with pytest.raises(BadQuery, match="`model` must be a value or a list of values") as caught:
        texts(sent, "model")
    assert "${name:json}" in caught.value.remedy


@pytest.mark.parametrize("read", [texts, parts, wholes])
def test_more_values_than_the_limit_are_refused(read: Any) -> None:
    assert len(read([str(number) for number in range(MAX_VALUES)], "model")) == MAX_VALUES
    with pytest.raises(BadQuery, match=f"more than {MAX_VALUES} values"):
        read([str(number) for number in range(MAX_VALUES + 1)], "model")


def test_values_nested_deeper_than_python_recurses_are_read() -> None:
    value: Any = "svm"
    for _ in range(5_000):
        value = [{"value": value}]
    assert texts(value, "model") == ("svm",)


@pytest.mark.parametrize(
    "sent",
    ["{" + "," * 500_000, "(" * 500_000 + "|)", "(" * 9 + "a|b" * 250_000, "[" * 500_000 + "]", "(a|" * 200_000],
)
def test_text_made_to_be_slow_is_read_in_one_pass(sent: str) -> None:
    """Reaches the test's own time limit when a form is matched by trying."""
    for text in (sent, sent + "x"):
        assert wholes(text, "model") == (text,)


@given(st.lists(st.text(min_size=1).map(str.strip).filter(bool), min_size=2, max_size=5, unique=True))
@settings(max_examples=200, deadline=None)
def test_what_grafana_escapes_is_what_was_chosen(values: list[str]) -> None:
    assert wholes(grafana_regex(values), "v") == tuple(v for v in values if v not in ("$__all", ".*", "*", ".+"))
    assert wholes(json.dumps(values), "v") == tuple(v for v in values if v not in ("$__all", ".*", "*", ".+"))


@pytest.mark.parametrize(
    ("text", "found"),
    [("a|b", ["a", "b"]), (r"a\|b", [r"a\|b"]), (r"a\\|b", [r"a\\", "b"]), ("", [""]), ("|", ["", ""])],
)
def test_alternatives_are_cut_at_bare_pipes(text: str, found: list[str]) -> None:
    assert alternatives(text) == found


@pytest.mark.parametrize(("text", "plain"), [("ab", "ab"), (r"a\.b", "a.b"), (r"a\\b", r"a\b"), (r"a\db", r"a\db")])
def test_only_what_grafana_escapes_is_unescaped(text: str, plain: str) -> None:
    assert unescaped(text) == plain


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (3, "3"), (3.0, "3"), (float(2**53), str(float(2**53))), ("x", "x")]
)
def test_scalars_are_written_as_people_do(value: Any, text: str) -> None:
    assert text_of(value) == text


@pytest.mark.parametrize("text", ["${species}", "${svc:csv}", "${a.b:json}"])
@pytest.mark.parametrize("read", [texts, parts, wholes])
def test_a_variable_that_was_not_filled_in_is_said_and_not_taken_as_a_value(
    text: str, read: Callable[[Any, str], tuple[str, ...]]
) -> None:
    with pytest.raises(BadQuery, match="did not fill in"):
        read([text], "species")


@pytest.mark.parametrize("text", ["$5", "${}", "cost ${x}", "$name"])
def test_a_dollar_may_belong_to_a_value(text: str) -> None:
    assert wholes(text, "species") == (text,)
