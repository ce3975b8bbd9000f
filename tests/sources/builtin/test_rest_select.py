from typing import Any

import pytest

from bridge.errors import UpstreamInvalid
from bridge.sources.builtin.rest.select import check_expression, compile_selector, key_selector, keys_seen

ROW = {"a": {"b": {"c": 1}}, "list": [10, 20], "odd-key": 3, "name": "x", "none": None, "n": "7"}


@pytest.mark.parametrize(
    ("text", "steps", "value"),
    [
        ("name", ("name",), "x"),
        ("a.b.c", ("a", "b", "c"), 1),
        ('"odd-key"', ("odd-key",), 3),
        ("list[1]", ("list", 1), 20),
        ("list[-1]", ("list", -1), 20),
        ("list[2]", ("list", 2), None),
        ("name[0]", ("name", 0), None),
        ("name.x", ("name", "x"), None),
        ("none.x", ("none", "x"), None),
        ("missing.x", ("missing", "x"), None),
        ("@", (), ROW),
        ("@.a.b", ("a", "b"), {"c": 1}),
        ("to_number(n)", None, 7),
        ("missing || name", None, "x"),
        ("list[?@ > `10`] | [0]", None, 20),
        ("a.*.c | [0]", None, 1),
    ],
)
def test_plain_paths_are_walked_and_all_others_are_left_to_jmespath(text: str, steps: Any, value: Any) -> None:
    selector = compile_selector(text)
    assert selector.steps == steps
    assert selector.of(ROW) == value
    assert selector.compiled.search(ROW) == value


def test_a_plain_column_of_two_thousand_rows_never_runs_jmespath() -> None:
    rows = [{"a": {"b": index}, "c": index} for index in range(2_000)]
    for text, want in (("c", 1999), ("a.b", 1999)):
        selector = compile_selector(text)
        # Without its compiled expression a selector has nothing but the short way.
        bare = type(selector)(selector.text, selector.steps, selector.roots, None)
        assert bare.column(rows)[0][-1] == want


def test_a_column_without_select_is_the_key_of_that_name_whatever_it_looks_like() -> None:
    assert key_selector("a.b").column([{"a.b": 1, "a": {"b": 2}}]) == ([1], True)


@pytest.mark.parametrize(
    ("text", "rows", "values", "seen"),
    [
        ("a", [{"a": 1}, {}], [1, None], True),
        ("a", [{"a": None}], [None], True),
        ("a", [{"b": 1}], [None], False),
        ("a", [1, "x", [2]], [None, None, None], False),
        ("a.b", [{"a": {}}], [None], False),
        ("a.b", [{"a": None}], [None], True),
        ("a.b", [{"a": {"b": None}}], [None], True),
        ("[0]", [[1, 2], [3]], [1, 3], True),
        ("[5]", [[1, 2]], [None], False),
        ("[0]", [{"a": 1}], [None], False),
        ("to_string(a)", [{"a": 1}], ["1"], True),
        ("a || b", [{"b": 1}], [1], True),
        ("a || b", [{"c": 1}], [None], False),
        ("items[?x].y | [0]", [{"x": 1, "y": 1}], [None], False),
        ("items[?x].y | [0]", [{"items": []}], [None], True),
        ("{p: a, q: b}", [{"a": 1}], [{"p": 1, "q": None}], True),
        ("`1`", [{"b": 1}], [1], True),
        ("max_by(items, &v).v", [{"v": 1, "items": [{"v": 2}]}], [2], True),
        ("length(@)", [[1, 2]], [2], True),
        ("items[0:1] | [0]", [{"items": [4, 5]}], [4], True),
    ],
)
def test_a_column_knows_whether_any_row_had_its_place(text: str, rows: list[Any], values: Any, seen: bool) -> None:
    assert compile_selector(text).column(rows) == (values, seen)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a[", "'a[' is no JMESPath expression"),
        ("a..b", "'a..b' is no JMESPath expression"),
        ("", "'' is no JMESPath expression"),
        ("(" * 2_000 + "a" + ")" * 2_000, "nested too deeply"),
        ("a" + "|a" * 4_000, "nested too deeply"),
    ],
)
def test_an_expression_that_cannot_be_read_is_refused_with_its_text(text: str, part: str) -> None:
    with pytest.raises(ValueError, match="JMESPath") as error:
        check_expression(text)
    assert part in str(error.value)
    assert len(str(error.value)) < 400


def test_a_function_that_does_not_take_the_data_names_the_expression() -> None:
    with pytest.raises(UpstreamInvalid, match=r"the expression `sort\(a\)` does not fit the answer"):
        compile_selector("sort(a)").of({"a": "text"})


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([{"a": 1}, {"b": 1}], "the keys are a, b"),
        ([1, "x"], "the rows are no objects but int, str"),
        ([], "there are no keys"),
        ([{str(index): 1 for index in range(30)}], "the keys are 0, 1, …"),
    ],
)
def test_the_keys_of_the_data_are_told_in_a_short_sentence(rows: list[Any], sentence: str) -> None:
    assert keys_seen(rows, most=2) == sentence
