"""A query's text is cut at its placeholders, and nothing in it can leave its brackets."""

from __future__ import annotations

import pytest

from bridge.sources.builtin.sql.place import System
from bridge.sources.builtin.sql.text import Hole, cut

EVERYWHERE = tuple(System)


def holes(text: str, system: System = System.POSTGRES) -> list[str]:
    return [piece.name for piece in cut(text, system) if isinstance(piece, Hole)]


@pytest.mark.parametrize("system", EVERYWHERE)
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("SELECT :from, :to", ["from", "to"]),
        ("SELECT ':a', ':b''c' , :d", ["d"]),
        ('SELECT ":a" AS "x:y""z", :d', ["d"]),
        ("SELECT :a -- :b ' ( ;\n, :c", ["a", "c"]),
        ("SELECT :a /* :b ' ; ( */ , :c", ["a", "c"]),
        ("SELECT x::text, :a::int", ["a"]),
        ("SELECT (:a)", ["a"]),
        ("WITH q AS (SELECT :a AS x) SELECT * FROM q;", ["a"]),
        ("(SELECT :a) -- end", ["a"]),
        ("/* why */ SELECT :a ; \n ", ["a"]),
        ("SELECT 1e5, a1, :a", ["a"]),
    ],
)
def test_placeholders_are_names_behind_a_colon_outside_of_texts_names_comments_and_casts(
    system: System, text: str, found: list[str]
) -> None:
    assert holes(text, system) == found
    pieces = cut(text, system)
    assert "".join(f":{piece.name}" if isinstance(piece, Hole) else piece for piece in pieces) == text.rstrip("; \n")


@pytest.mark.parametrize(
    ("system", "text", "found"),
    [
        (System.POSTGRES, "SELECT $$ :a ' ) $$, $x$ :b $$ $x$, :c", ["c"]),
        (System.DUCKDB, "SELECT $$ :a ' ) $$, :c", ["c"]),
        (System.POSTGRES, r"SELECT E'\' :a', e'\\', :b", ["b"]),
        (System.POSTGRES, "SELECT /* a /* :b */ :c */ :d", ["d"]),
        (System.SQLITE, "SELECT /* a /* :b */ :d", ["d"]),
        (System.SQLITE, "SELECT [:a], `:b``c`, :d", ["d"]),
        (System.POSTGRES, "SELECT arr[1:2], arr[1], :d", ["d"]),
        (System.DUCKDB, "FROM runs WHERE x = :d", ["d"]),
    ],
)
def test_each_system_quotes_in_its_own_way(system: System, text: str, found: list[str]) -> None:
    assert holes(text, system) == found


def test_a_placeholder_that_is_tested_for_null_is_told_apart() -> None:
    """Nothing beside it gives it a type."""
    found = list(cut("SELECT :a IS NULL OR x = :a /* c */ IS NOT NULL, :a ISNULL, :b", System.POSTGRES))
    assert [piece.tested for piece in found if isinstance(piece, Hole)] == [True, True, True, False]


@pytest.mark.parametrize("system", EVERYWHERE)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("DELETE FROM runs", "only reading"),
        ("INSERT INTO runs VALUES (1)", "only reading"),
        ("UPDATE runs SET a = 1", "only reading"),
        ("DROP TABLE runs", "only reading"),
        ("COPY runs TO '/tmp/x'", "only reading"),
        ("PRAGMA query_only = OFF", "only reading"),
        ("ATTACH 'other.db' AS o", "only reading"),
        ("EXPLAIN SELECT 1", "only reading"),
        ("", "only reading"),
        ("-- nothing", "only reading"),
        ("'SELECT'", "only reading"),
        ("SELECT 1; DELETE FROM runs", "one statement"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("SELECT 1) AS q; SELECT * FROM (SELECT 2", "one statement"),
        ("SELECT 1) AS q UNION SELECT * FROM (SELECT 2", "closes nothing"),
        ("SELECT (1", "is not closed"),
        ("SELECT ')' , (1", "is not closed"),
        ("SELECT 'x", "is not closed"),
        ("SELECT 'x''", "is not closed"),
        ('SELECT "x', "is not closed"),
        ("SELECT 1 /* x", "comment is not closed"),
        ("WITH x AS (DELETE FROM runs RETURNING *) SELECT * FROM x", "DELETE"),
        ("WITH x AS ( insert INTO runs VALUES (1) RETURNING *) SELECT * FROM x", "INSERT"),
        ("SELECT 1 \0", "NUL"),
    ],
)
def test_what_writes_or_leaves_its_brackets_is_refused_before_any_database_sees_it(
    system: System, text: str, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        cut(text, system)


@pytest.mark.parametrize(
    ("system", "text"),
    [
        (System.SQLITE, "SELECT `x"),
        (System.SQLITE, "SELECT [x"),
        (System.POSTGRES, "SELECT /* a /* b */ 1"),
        (System.POSTGRES, "SELECT $$ x"),
        (System.POSTGRES, "SELECT $1"),
        (System.DUCKDB, "SELECT $name"),
    ],
)
def test_what_one_system_does_not_close_or_know_is_refused(system: System, text: str) -> None:
    with pytest.raises(ValueError, match=r"not closed|no placeholder"):
        cut(text, system)


HIDDEN = ") AS q; DROP TABLE runs; SELECT * FROM (SELECT 1"


@pytest.mark.parametrize(
    ("system", "text"),
    [
        # What is a comment, a text or a name here is none there.
        (System.POSTGRES, f"SELECT 1 --\r {HIDDEN}"),
        (System.DUCKDB, f"SELECT 1 --\r {HIDDEN}"),
        (System.POSTGRES, f"SELECT 1 AS \u2022$$ {HIDDEN} AS \u2022$$"),
        (System.DUCKDB, f"SELECT 1 AS \u2022$$ {HIDDEN} AS \u2022$$"),
        (System.POSTGRES, f"SELECT 1 AS a\u00a0$$ {HIDDEN} AS a\u00a0$$"),
        (System.DUCKDB, f"SELECT 1\u00a0$$ ' $$ {HIDDEN} --'"),
        (System.POSTGRES, f"SELECT 1 AS \u0663$$ {HIDDEN} AS \u0663$$"),
        (System.POSTGRES, f"SELECT E'a'\n'\\'' {HIDDEN} --'"),
        (System.POSTGRES, f"SELECT E'a' -- b\n'\\'' {HIDDEN} --'"),
        (System.POSTGRES, f"SELECT 1E'\\'' {HIDDEN} --'"),
        (System.POSTGRES, f"SELECT 1a$$ {HIDDEN} AS a$$"),
        (System.POSTGRES, f"SELECT :from$$ {HIDDEN} AS a$$"),
        (System.DUCKDB, f"SELECT 1 AS `'` {HIDDEN} --'"),
        (System.SQLITE, "SELECT @a(') AS q UNION SELECT * FROM (SELECT 1 --')"),
        (System.SQLITE, "SELECT :from(') AS q UNION SELECT * FROM (SELECT 1 --')"),
    ],
)
def test_what_systems_would_read_otherwise_than_bridge_does_is_refused(system: System, text: str) -> None:
    """So that nothing behind it runs."""
    with pytest.raises(ValueError, match=r"\w"):
        cut(text, system)


@pytest.mark.parametrize("system", EVERYWHERE)
def test_letters_of_any_script_are_names(system: System) -> None:
    assert holes("SELECT größe, имя, 名前, '\u2022\u00a0', \"\u2022\" /* \u2022 */ FROM t WHERE x = :a", system) == [
        "a"
    ]
