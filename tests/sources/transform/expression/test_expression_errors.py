"""What is refused, where the sentence points, and what it advises."""

from __future__ import annotations

import pytest

from bridge.model.filters import MAX_PATTERN_CHARS
from bridge.model.schema import Column, ColumnType, Schema
from bridge.sources.transform.expression import ExpressionError, compile_condition, compile_expression
from bridge.sources.transform.expression.check import MAX_PATTERNS
from bridge.sources.transform.expression.lexer import MAX_CHARS
from bridge.sources.transform.expression.parser import MAX_ARGS, MAX_NESTING, MAX_NODES

SCHEMA = Schema(
    (
        Column("accuracy", ColumnType.NUMBER),
        Column("model", ColumnType.STRING),
        Column("ok", ColumnType.BOOLEAN),
        Column("time", ColumnType.TIME),
        Column("tags", ColumnType.JSON),
    )
)


def refusal(text: str, schema: Schema = SCHEMA) -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text, schema)
    return caught.value


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("", 0, "the expression is empty"),
        ("  \n", 0, "the expression is empty"),
        ("1 +", 3, "the expression ends too early"),
        ("1 2", 2, "`2` is not expected here"),
        ("1)", 1, "`)` is not expected here"),
        ("(1", 2, "there should be `)` for the `(` at character 1"),
        ("abs(1", 5, "there should be `,` or `)`"),
        ("abs(1 2)", 6, "there should be `,` or `)`"),
        ("abs(1,)", 6, "`)` is not expected here (there should be a value"),
        ("abs(,1)", 4, "`,` is not expected here"),
        ("* 2", 0, "`*` is not expected here"),
        ("and", 0, "`and` is not expected here"),
        ("accuracy is 1", 12, "there should be `null` after `is`"),
        ("accuracy not 1", 13, "there should be `in` after `not`"),
        ("accuracy in 1", 12, "there should be `(` after `in`"),
        ("accuracy in ()", 9, "`in` needs at least one value"),
        ("1 < 2 < 3", 6, "comparisons cannot be chained (join them with `and`"),
        ("1 = 2 is null", 6, "comparisons cannot be chained"),
        ("1abc", 0, "`1abc` is no number"),
        ("1.2.3", 0, "`1.2.3` is no number"),
        ("1e", 0, "`1e` is no number"),
        ("1e999", 0, "`1e999` is too large"),
        ("'abc", 0, "`'abc` has no end"),
        ("model = 'a''", 8, "has no end"),
        ('"', 0, "a text ends with the quote it begins with"),
        ("`abc", 0, "`` `abc` has no end".removeprefix("`` ")),
        ("``", 0, "has no end"),
        ("a && b", 2, "write `and`"),
        ("a || b", 2, "write `or`"),
        ("!ok", 0, "write `not`, or `!=`"),
        ("tags.name", 4, "put a column name with dots in backticks"),
        ("\u00e9", 0, "(U+00E9) is not part of the language"),
        ("1\u00a0+ 1", 1, "`<U+00A0>` (U+00A0) is not part of the language"),
        ("\u2018a\u2019", 0, "(U+2018) is not part of the language"),
        ("\u0662", 0, "(U+0662) is not part of the language"),
        ("1; 2", 1, "`;` is not part of the language"),
        ("[1]", 0, "`[` is not part of the language"),
        ("'a\x00b'", 2, "the character U+0000 may not stand here"),
        ("1 \x1b", 2, "the character U+001B may not stand here"),
        ("'\ud800'", 1, "the character U+D800 may not stand here"),
        (r"'ab\ud83d'", 3, r"`\ud83d` is no character"),
        (r"'\u12'", 1, r"`\u` is no character"),
    ],
)
def test_what_cannot_be_read_is_refused_at_its_place(text: str, at: int, says: str) -> None:
    error = refusal(text)
    assert error.at == at
    assert says in str(error)
    assert str(error).startswith(f"at character {at + 1}: ")


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("lower(accuracy)", 6, "`accuracy` is a number, `lower` takes a text here (write `text(accuracy)`)"),
        ("abs(model)", 4, "`model` is a text, `abs` takes a number here (write `number(model)`)"),
        ("abs(tags)", 4, "`tags` is a text, `abs` takes a number here"),
        ("abs(time)", 4, "`time` is a time, `abs` takes a number here (write `epoch_s(time)`)"),
        ("number(time)", 7, "(write `epoch_s(time)`)"),
        ("year(accuracy)", 5, "`accuracy` is a number, `year` takes a time here (write `time(accuracy)`)"),
        ("year(ok)", 5, "`ok` is true or false, `year` takes a time here"),
        ("not accuracy", 4, "takes true or false here (compare it, for example `accuracy > 0`)"),
        ("not model", 4, "(write `boolean(model)`)"),
        ("not time", 4, "`time` is a time, `not` takes true or false here"),
        ("-model", 1, "`model` is a text, unary `-` takes a number here"),
        ("if(accuracy, 1, 2)", 3, "`if` takes true or false here"),
        ("accuracy + model", 9, "`+` does not join texts (write `concat(a, b)`)"),
        ("model + 1", 6, "`+` does not join texts"),
        ("accuracy - model", 11, "`model` is a text, `-` takes a number here"),
        ("time - model", 7, "`model` is a text, `-` takes a number here"),
        ("time + time", 7, "`time` is a time, `+` takes a number here"),
        ("accuracy - time", 11, "`time` is a time, `-` takes a number here"),
        ("time * 2", 0, "`time` is a time, `*` takes a number here"),
        ("ok < true", 0, "`ok` is true or false, `<` takes a number or a text or a time here"),
        ("min(model)", 4, "`min` takes a number or a time here"),
        ("accuracy = '0.9'", 11, "`accuracy` is a number, but `'0.9'` is a text: `=` takes values of one type"),
        ("time > '2026-01-31'", 7, "(write `time('2026-01-31')`)"),
        ("accuracy in (1, 'a')", 16, "`in` takes values of one type"),
        ("if(ok, 1, 'a')", 10, "`1` is a number, but `'a'` is a text: `if` takes values of one type"),
        ("coalesce(model, 1)", 16, "(write `text(1)`)"),
        ("accuracy =~ '1'", 0, "`accuracy` is a number, `=~` takes a text here"),
        ("contains(model, 1)", 16, "`1` is a number, `contains` takes a text here"),
        ("lower(1 + 1)", 6, "`1 + 1` is a number"),
        ("lower((1 + 1) * 2)", 7, "is a number"),
        (f"lower({' + '.join(['accuracy'] * 20)})", 6, "…` is a number, `lower` takes a text here"),
        ("accuracy = null", 11, "nothing is ever `=` null (write `is null` or `is not null`)"),
        ("accuracy in (1, null)", 16, "nothing is ever `in` null"),
        ("null", 0, "the expression always is null, of no type"),
        ("coalesce(null, if(ok, null, null))", 0, "always is null"),
        ("abs()", 0, "`abs` takes 1 argument, here it has 0"),
        ("round(1, 2, 3)", 0, "`round` takes 1 or 2 arguments, here it has 3"),
        ("concat()", 0, "`concat` takes 1 or more arguments, here it has 0"),
        ("clip(1, 2)", 0, "`clip` takes 3 arguments, here it has 2"),
        ("1 + lowr(model)", 4, "there is no function `lowr` (did you mean `lower`?)"),
        ("LOWER(model)", 0, "(did you mean `lower`?)"),
        ("qqqqqq(1)", 0, "there is no function `qqqqqq` (the functions are abs, boolean, ceil"),
        ("__import__('os')", 0, "there is no function `__import__`"),
        (
            "1 + acuracy",
            4,
            "there is no column `acuracy` (did you mean `accuracy`?; the columns are `accuracy`, `model`",
        ),
        (
            "zzz",
            0,
            "there is no column `zzz` (the columns are `accuracy`, `model`, `ok`, `time`, `tags`; a text stands in "
            "quotes: 'zzz')",
        ),
        ("lower", 0, "(the function is written `lower(…)`; the columns are"),
        ("`a\u202eb`", 0, "there is no column `a<U+202E>b`"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_sentence(text: str, at: int, says: str) -> None:
    error = refusal(text)
    assert says in str(error)
    assert error.at == at


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("time('2026-13-01')", "`2026-13-01` is not a time"),
        ("time('')", "is not a time"),
        ("model =~ '('", "the pattern `(` does not compile: unclosed group"),
        ("model =~ 'a)|(b'", "does not compile: unopened group"),
        ("model =~ '(?x)a#'", "does not compile"),
        ("model =~ '(?=a)'", "look-around, including look-ahead and look-behind, is not supported"),
        (r"model =~ '(a)\1'", "backreferences are not supported"),
        (r"model =~ '\w{999}'", "exceeds size limit"),
        ("extract(model, '[')", "does not compile: unclosed character class"),
        ("extract(model, '(a)', 2)", "`(a)` has no group 2, its last is 1"),
        ("extract(model, '(a)', -1)", "a whole number from 0 to 99 must stand here"),
        ("extract(model, model)", "`model` must be written out for `extract`: it is the same for all rows"),
        ("model =~ model", "`model` must be written out for `=~`"),
        ("model =~ lower('a')", "`lower('a')` must be written out"),
        ("model =~ null", "`null` must be written out"),
        ("replace(model, '', 'a')", "a text of at least one character must stand here"),
        ("replace(model, 'a', model)", "`model` must be written out for `replace`"),
        ("split_part(model, '', 1)", "a text of at least one character"),
        ("split_part(model, '/', 0)", "a whole number from 1 to 16 must stand here"),
        ("split_part(model, '/', 1.5)", "a whole number from 1 to 16 must stand here"),
        ("split_part(model, '/', accuracy)", "`accuracy` must be written out"),
        ("round(accuracy, 16)", "a whole number from 0 to 15"),
        ("round(accuracy, 0 - 1)", "must be written out"),
        ("truncate(time, 'minutes')", "`minutes` is no unit of time (did you mean `minute`?)"),
        ("truncate(time, 'xyz')", "(use second, minute, hour, day, week, month, quarter, year)"),
        ("truncate(time, model)", "must be written out"),
        ("json_get(tags, '')", "is no path of at most 16 keys"),
        ("json_get(tags, 'a.')", "`a.` is no path"),
        ("json_get(tags, '.a')", "`.a` is no path"),
        ("json_get(tags, 'a..b')", "is no path"),
        ("json_get(tags, '$.a[*]')", "is no path"),
        ("json_get(tags, 'a b')", "other keys in double quotes"),
        ("json_get(tags, '\"a\\'b\"')", "is no path"),
        ("json_get(tags, '\"*\"')", "is no path"),
        ("json_get(tags, '" + ".".join(["a"] * 17) + "')", "is no path of at most 16 keys"),
        ("json_get(tags, model)", "must be written out"),
    ],
)
def test_arguments_that_must_be_written_out_are_checked_at_once(text: str, says: str) -> None:
    """A wrong pattern, path, unit or time is the writer's error, not an empty column later."""
    assert says in str(refusal(text))


@pytest.mark.parametrize("text", ["accuracy", "model", "time", "1", "if(ok, 1, 2)"])
def test_a_condition_is_true_or_false(text: str) -> None:
    with pytest.raises(ExpressionError, match="a condition is true or false"):
        compile_condition(text, SCHEMA)


def test_many_columns_are_not_all_listed() -> None:
    wide = Schema(tuple(Column(f"column_{number}", ColumnType.NUMBER) for number in range(5_000)))
    error = refusal("zzz", wide)
    assert "and 4980 more" in error.remedy
    assert len(str(error)) < 1_000
    assert "did you mean `column_7`?" in str(refusal("colum_7", wide))


def test_near_misses_are_looked_for_among_the_first_columns_only() -> None:
    """So that a typing error costs the same however wide the table is."""
    names = [*(f"q{number}" for number in range(3_000)), "accuracy"]
    wide = Schema(tuple(Column(name, ColumnType.NUMBER) for name in names))
    assert "did you mean" not in refusal("acuracy", wide).remedy


def test_a_name_of_any_length_makes_a_short_sentence() -> None:
    odd = Schema((Column("x" * 100_000, ColumnType.NUMBER),))
    assert len(str(refusal("a" * MAX_CHARS, odd))) < 500
    assert len(str(refusal("f" * 2_000 + "(1)", odd))) < 1_000
    assert len(str(refusal("'" + "a" * 2_000, odd))) < 500
    assert "the columns are none" in str(refusal("a", Schema(())))


@pytest.mark.parametrize(
    ("inside", "outside", "says"),
    [
        ("1" + " " * (MAX_CHARS - 1), "1" + " " * MAX_CHARS, "characters, at most 2048 are read"),
        ("+".join(["1"] * (MAX_NODES // 2)), "+".join(["1"] * (MAX_NODES // 2 + 1)), "more than 256 parts"),
        ("(" * MAX_NESTING + "1" + ")" * MAX_NESTING, "(" * (MAX_NESTING + 1) + "1", "nested more than 32 levels"),
        ("-" * MAX_NESTING + "1", "-" * (MAX_NESTING + 1) + "1", "nested more than 32 levels"),
        ("not " * MAX_NESTING + "true", "not " * (MAX_NESTING + 1) + "true", "nested more than 32 levels"),
        ("^".join(["1"] * (MAX_NESTING + 1)), "^".join(["1"] * (MAX_NESTING + 2)), "nested more than 32 levels"),
        ("abs(" * MAX_NESTING + "1" + ")" * MAX_NESTING, "abs(" * (MAX_NESTING + 1) + "1", "nested more than 32"),
        (f"max({','.join(['1'] * MAX_ARGS)})", f"max({','.join(['1'] * (MAX_ARGS + 1))})", "more than 64 arguments"),
        (f"1 in ({','.join(['1'] * MAX_ARGS)})", f"1 in ({','.join(['1'] * (MAX_ARGS + 1))})", "more than 64"),
        (
            f"model =~ '{'a' * MAX_PATTERN_CHARS}'",
            f"model =~ '{'a' * (MAX_PATTERN_CHARS + 1)}'",
            "at most 512 characters, this one has 513",
        ),
        (
            f"extract(model, '{'a' * MAX_PATTERN_CHARS}')",
            f"extract(model, '{'a' * (MAX_PATTERN_CHARS + 1)}')",
            "at most 512 characters",
        ),
        (
            " or ".join(["model =~ 'a'"] * MAX_PATTERNS),
            " or ".join(["model =~ 'a'"] * (MAX_PATTERNS + 1)),
            "more than 16 patterns",
        ),
    ],
)
def test_every_bound_holds_exactly(inside: str, outside: str, says: str) -> None:
    compile_expression(inside, SCHEMA)
    assert says in str(refusal(outside))


@pytest.mark.parametrize("piece", ["(", "-", "not ", "1^", "abs(", "1 in (", "((-", "if(", "- not (", "`", "1+", "."])
def test_a_text_of_nothing_but_depth_is_refused(piece: str) -> None:
    """No stack runs out, whatever is repeated."""
    for text in (piece * 100_000, piece * (MAX_CHARS // len(piece))):
        refusal(text)


def test_brackets_with_an_operator_of_every_level_between_them_need_no_deep_stack() -> None:
    levels = "ok or ok and 1 = 2 + 3 * ("
    refusal(levels * 31 + "1" + ")" * 31)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("model like 's%'", "patterns are written `model =~ 's.*'`"),
        ("accuracy between 0 and 1", "write `x >= 1 and x <= 2`"),
        ("accuracy => 1", "write `>=`"),
        ("accuracy =< 1", "write `<=`"),
        ("model == svm", "a text stands in quotes: 'svm'"),
    ],
)
def test_what_other_languages_write_is_told_as_it_is_written_here(text: str, hint: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text, SCHEMA)
    assert hint in str(caught.value)
