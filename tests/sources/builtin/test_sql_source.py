"""Tables and queries of three real databases become typed frames."""

# ruff: noqa: S608  the SQL is made of names of the tests themselves

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bridge.errors import BadQuery, DataMissing, SchemaMismatch, UpstreamInvalid
from bridge.model.filters import parse_filter
from bridge.model.frame import TIME_DTYPE, Frame
from bridge.model.query import Query
from bridge.model.schema import ColumnType, Param, Role
from bridge.model.span import Span
from servers.sql_rig import RUNS, Lab, columns

DAY = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = {
    "sqlite": "started_at text, model text, loss real",
    "duckdb": "started_at timestamptz, model varchar, loss double",
    "postgres": "started_at timestamptz, model text, loss float8",
}
ROWS = [(DAY, "svm", 0.5), (DAY + timedelta(days=1), "knn", 0.75), (DAY + timedelta(days=2), None, None)]


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Lab]:
    made = Lab("postgres", tmp_path)
    yield made
    made.drop()


def runs(lab: Lab) -> str:
    rows = [(at.isoformat() if lab.system == "sqlite" else at, *rest) for at, *rest in ROWS]
    return lab.table(KINDS[lab.system], rows)


def sorted_rows(frame: Frame) -> list[tuple[Any, ...]]:
    return sorted(frame.data.rows(), key=lambda row: tuple(map(str, row)))


async def test_a_table_becomes_a_typed_frame(lab: Lab) -> None:
    frame = await lab.ask(RUNS, table=runs(lab))
    assert frame.name == "s.d"
    assert frame.schema.columns == RUNS
    assert frame.data.schema == {"time": TIME_DTYPE, "model": pl.String, "loss": pl.Float64}
    assert sorted_rows(frame) == ROWS
    assert frame.meta.notices == ()


async def test_columns_are_inferred_from_types_and_values(lab: Lab) -> None:
    async with lab.open(table=runs(lab)) as source:
        assert source.schema("d") is None
        frame = await source.collect(Query("s.d"))
        assert source.schema("d") == frame.schema
    assert [(column.name, column.type, column.role) for column in frame.schema.columns] == [
        ("started_at", ColumnType.TIME, Role.TIME),
        ("model", ColumnType.STRING, Role.DIMENSION),
        ("loss", ColumnType.NUMBER, Role.MEASURE),
    ]
    assert sorted_rows(frame) == ROWS


async def test_a_query_is_asked_with_bound_values(lab: Lab) -> None:
    """Quotes, percent signs and semicolons in a value are nothing but text."""
    table = runs(lab)
    value = "it's; DROP TABLE %s --%"
    lab.run(f"INSERT INTO {table} SELECT started_at, '{value.replace(chr(39), chr(39) * 2)}', 1 FROM {table} LIMIT 1")
    query = (
        f'SELECT started_at AS time, model, loss AS "per%cent" FROM {table} '
        "WHERE (:model IS NULL OR model = :model) -- 100 %"
    )
    async with lab.open(query=query, params=[Param("model")]) as source:
        everything = await source.collect(Query("s.d"))
        one = await source.collect(Query("s.d", params=(("model", (value,)),)))
        none = await source.collect(Query("s.d", params=(("model", ("it's",)),)))
    assert everything.rows == 4
    assert one.data.select("model", "per%cent").rows() == [(value, 1.0)]
    assert none.rows == 0


async def test_a_parameter_with_several_values_is_a_list(lab: Lab) -> None:
    query = f"SELECT model FROM {runs(lab)} WHERE model IN (:models) OR :models IS NULL"
    async with lab.open(columns("model:string"), query=query, params=[Param("models", multi=True)]) as source:

        async def models(*values: str) -> list[Any]:
            frame = await source.collect(Query("s.d", params=(("models", values),) if values else ()))
            return sorted(frame.data["model"].to_list(), key=str)

        assert await models() == [None, "knn", "svm"]
        assert await models("svm") == ["svm"]
        assert await models("svm", "knn", "x") == ["knn", "svm"]
        with pytest.raises(BadQuery, match="at most"):
            await models(*map(str, range(1_001)))


async def test_one_value_is_taken_where_one_is_meant_and_the_default_where_none_is(lab: Lab) -> None:
    query = f"SELECT model FROM {runs(lab)} WHERE model = :model"
    async with lab.open(columns("model:string"), query=query, params=[Param("model", default="knn")]) as source:
        assert (await source.collect(Query("s.d"))).data["model"].to_list() == ["knn"]
        with pytest.raises(BadQuery, match="one value for `model`, not 2"):
            await source.collect(Query("s.d", params=(("model", ("a", "b")),)))


async def test_a_query_gets_the_time_range_and_the_step(lab: Lab) -> None:
    cut = "started_at >= :from AND started_at < :to"
    query = f"SELECT started_at AS time, CAST(:step_s AS real) AS step FROM {runs(lab)} WHERE {cut}"
    async with lab.open(columns("time:time:time", "step:number:measure"), query=query) as source:
        span = Span(DAY + timedelta(hours=1), DAY + timedelta(days=1, hours=1))
        asked = Query("s.d", span=span, step_ms=1_500)
        assert source.narrow(asked) == asked
        assert (await source.collect(asked)).data.rows() == [(DAY + timedelta(days=1), 1.5)]
        # Nothing asked is all of time, so that a whole answer has every row.
        assert (await source.collect(Query("s.d"))).data["step"].to_list() == [None, None, None]


@pytest.mark.parametrize(("time_as", "per_s"), [("epoch_s", 1), ("epoch_ms", 1_000)])
async def test_epoch_numbers_are_asked_for_as_such(lab: Lab, time_as: str, per_s: int) -> None:
    start = int(DAY.timestamp())
    table = lab.table("moment bigint", [((start + n) * per_s,) for n in range(10)])
    given = columns("time:time:time=moment")
    span = Span(DAY + timedelta(seconds=2, milliseconds=500), DAY + timedelta(seconds=4, milliseconds=500))
    asked = Query("s.d", span=span)
    query = f"SELECT moment FROM {table} WHERE moment >= :from AND moment < :to"
    frame = await lab.ask(given, asked=asked, query=query, time_as=time_as)
    inside = [second for second in range(10) if second in (3, 4)]
    assert {DAY + timedelta(seconds=second) for second in inside} <= set(frame.data["time"])
    assert frame.rows < 6
    async with lab.open(given, table=table, time_as=time_as) as source:
        await source.collect(Query("s.d"))
        assert source.narrow(asked).span == span
        pushed = await source.collect(asked)
        assert pushed.rows < 10
        assert {DAY + timedelta(seconds=second) for second in inside} <= set(pushed.data["time"])


async def test_iso_texts_are_asked_for_as_such(lab: Lab) -> None:
    table = lab.table(
        "moment text", [((DAY + timedelta(days=n)).isoformat().replace("+00:00", "Z"),) for n in range(4)]
    )
    query = f"SELECT moment AS time FROM {table} WHERE moment >= :from AND moment < :to"
    asked = Query("s.d", span=Span(DAY + timedelta(days=1), DAY + timedelta(days=3)))
    frame = await lab.ask(columns("time:time:time"), asked=asked, query=query, time_as="iso")
    assert frame.data["time"].to_list() == [DAY + timedelta(days=1), DAY + timedelta(days=2)]


async def test_names_that_need_quotes_are_found(lab: Lab) -> None:
    table = lab.table('"select" text, "a ""b"" % c" real', [("x", 1.5)])
    frame = await lab.ask(columns("word:string=select", 'n:number=a "b" % c'), table=table)
    assert frame.data.rows() == [("x", 1.5)]


async def test_a_table_of_another_schema_is_named_with_it(lab: Lab) -> None:
    table = runs(lab)
    home = {"sqlite": "main", "duckdb": "main", "postgres": "public"}[lab.system]
    assert (await lab.ask(RUNS, table=f"{home}.{table}")).rows == 3


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT 1 AS a, 2 AS b, 3 AS a", "more than one column named `a`"),
        ("SELECT x.a, y.a FROM (SELECT 1 AS a) x, (SELECT 2 AS a) y", "more than one column named `a`"),
    ],
)
async def test_two_columns_of_one_name_are_refused(lab: Lab, query: str, said: str) -> None:
    with pytest.raises(UpstreamInvalid, match=said):
        await lab.ask(query=query)


@pytest.mark.parametrize(("system", "query"), [("sqlite", 'SELECT 1 AS ""'), ("postgres", "SELECT 1+1")])
async def test_a_column_without_a_name_is_refused(tmp_path: Path, system: str, query: str) -> None:
    lab = Lab(system, tmp_path)
    lab.table("a int")
    with pytest.raises(UpstreamInvalid, match="has no name"):
        await lab.ask(query=query)


async def test_names_that_only_look_numbered_are_kept(lab: Lab) -> None:
    frame = await lab.ask(query='SELECT 1 AS a, 2 AS a_1, 3 AS "b:1"')
    assert frame.data.rows() == [(1, 2, 3)]


async def test_a_missing_table_or_column_is_said(lab: Lab) -> None:
    table = runs(lab)
    with pytest.raises(DataMissing, match="nope"):
        await lab.ask(table="nope")
    with pytest.raises(SchemaMismatch, match=r"`s.d`: column `x` \(`far` in the data\) is missing; .*`loss`"):
        await lab.ask(columns("x:number=far"), table=table)


async def test_an_inferred_column_that_goes_or_changes_stops_the_dataset(lab: Lab) -> None:
    table = lab.table("a int, b int", [(1, 2)])
    async with lab.open(table=table) as source:
        await source.collect(Query("s.d"))
        lab.run(f"DROP TABLE {table}", f"CREATE TABLE {table} (a int, c int)", f"INSERT INTO {table} VALUES (1, 2)")
        with pytest.raises(SchemaMismatch, match="`b` is gone"):
            await source.collect(Query("s.d"))
        lab.run(
            f"DROP TABLE {table}", f"CREATE TABLE {table} (a int, b text)", f"INSERT INTO {table} VALUES (1, 'x')"
        )
        for _ in range(2):
            with pytest.raises(SchemaMismatch, match="`b`"):
                await source.collect(Query("s.d"))
        lab.run(
            f"DROP TABLE {table}",
            f"CREATE TABLE {table} (b int, a int, c int)",
            f"INSERT INTO {table} VALUES (3, 4, 5)",
        )
        assert (await source.collect(Query("s.d"))).data.rows() == [(4, 3)]


async def test_an_empty_table_publishes_its_columns_and_waits_for_values(lab: Lab) -> None:
    table = lab.table(KINDS[lab.system])
    async with lab.open(table=table) as source:
        empty = await source.collect(Query("s.d"))
        assert empty.rows == 0
        assert empty.schema.names == ("started_at", "model", "loss")
        lab.run(f"INSERT INTO {table} VALUES ('2026-01-01T00:00:00+00:00', 'svm', 0.5)")
        full = await source.collect(Query("s.d"))
    assert [column.type.value for column in full.schema.columns] == ["time", "string", "number"]
    assert full.data.rows() == [ROWS[0]]
    assert [column.role for column in full.schema.columns] == [Role.TIME, Role.DIMENSION, Role.MEASURE]


async def test_a_late_time_column_leaves_the_axis_where_it_is(tmp_path: Path) -> None:
    lab = Lab("sqlite", tmp_path)
    table = lab.table("a text, b text", [("2026-01-01T00:00:00Z", None)])
    async with lab.open(table=table) as source:
        await source.collect(Query("s.d"))
        lab.run(f"UPDATE {table} SET b = '2026-01-02T00:00:00Z'")
        frame = await source.collect(Query("s.d"))
    assert [(column.type.value, column.role) for column in frame.schema.columns] == [
        ("time", Role.TIME),
        ("time", None),
    ]


async def test_values_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    lab = Lab("sqlite", tmp_path)
    table = lab.table("a", [(1,), ("x",), ("2.5",), (b"\xff",)])
    frame = await lab.ask(columns("a:number"), table=table)
    assert frame.data["a"].to_list() == [1.0, None, 2.5, None]
    assert [notice.text for notice in frame.meta.notices] == [
        "1 of 3 values of `a` is not a number (first: 'x'); it is shown as empty"
    ]


async def test_every_type_of_postgresql_is_read(postgres: Lab) -> None:
    query = """SELECT 9223372036854775807 AS big, 170141183460469231731687303715884105727::numeric AS huge,
        1.25::numeric AS num, 'NaN'::numeric AS nan, 'Infinity'::float8 AS inf, 0.1::real AS real,
        timestamptz '2026-01-01 02:00+02' AS tz, timestamp '2026-01-01' AS ts, date '2026-01-01' AS day,
        'infinity'::timestamptz AS never, '0044-03-15 BC'::date AS ides, '5000000-01-01'::date AS far_off,
        interval '1 day 1.5 seconds' AS span, array[1, 2] AS list, '{"a": [1]}'::jsonb AS doc, '[1]'::json AS js,
        row(1, 'x') AS pair, '\\x6162'::bytea AS bytes, '\\xff'::bytea AS raw,
        '7f2c0000-0000-0000-0000-000000000001'::uuid AS u, true AS ok, null::int AS nothing, time '10:00' AS clock,
        'x'::text AS txt, 'y'::char(3) AS padded, '127.0.0.1'::inet AS ip, int4range(1, 2) AS range"""
    row = (await postgres.ask(query=query)).data.row(0, named=True)
    assert math.isnan(row.pop("nan"))
    assert row == {
        "big": 9223372036854775807,
        "huge": 1.7014118346046923e38,
        "num": 1.25,
        "inf": math.inf,
        "real": 0.1,
        "tz": DAY,
        "ts": DAY,
        "day": DAY,
        "never": None,
        "ides": None,
        "far_off": None,
        "span": 86401.5,
        "list": "[1,2]",
        "doc": '{"a": [1]}',
        "js": "[1]",
        "pair": '{"f1":1,"f2":"x"}',
        "bytes": "ab",
        "raw": None,
        "u": "7f2c0000-0000-0000-0000-000000000001",
        "ok": True,
        "nothing": None,
        "clock": "10:00:00",
        "txt": "x",
        "padded": "y",
        "ip": "127.0.0.1/32",
        "range": "[1,2)",
    }


async def test_every_type_of_duckdb_is_read(tmp_path: Path) -> None:
    lab = Lab("duckdb", tmp_path)
    lab.table("a int")
    query = """SELECT 170141183460469231731687303715884105727 AS huge, 1.25::decimal(10, 2) AS num,
        'NaN'::double AS nan, timestamptz '2026-01-01 02:00+02' AS tz, timestamp '2026-01-01' AS ts,
        date '2026-01-01' AS day, timestamp_ns '2026-01-01 00:00:00.123456789' AS ns, 'infinity'::timestamp AS never,
        interval '1 day' AS span, [1, 2] AS list, {'x': 1} AS st, map {'a': 1} AS m, '{"a":1}'::json AS doc,
        'ab'::blob AS bytes, 'a'::enum('a', 'b') AS mood, true AS ok, null::int AS nothing, time '10:00' AS clock,
        '7f2c0000-0000-0000-0000-000000000001'::uuid AS u, 'x' AS txt"""
    row = (await lab.ask(query=query)).data.row(0, named=True)
    assert math.isnan(row.pop("nan"))
    assert row == {
        "huge": 1.7014118346046923e38,
        "num": 1.25,
        "tz": DAY,
        "ts": DAY,
        "day": DAY,
        "never": None,
        "ns": DAY + timedelta(microseconds=123456),
        "span": 86400.0,
        "list": "[1,2]",
        "st": '{"x":1}',
        "m": '{"a":1}',
        "doc": '{"a":1}',
        "bytes": "ab",
        "mood": "a",
        "ok": True,
        "nothing": None,
        "clock": "10:00:00",
        "u": "7f2c0000-0000-0000-0000-000000000001",
        "txt": "x",
    }


async def test_decimals_keep_their_digits_where_a_text_is_wanted(postgres: Lab) -> None:
    frame = await postgres.ask(columns("id:string"), query="SELECT 12345678901234567890.10::numeric AS id")
    assert frame.data["id"].to_list() == ["12345678901234567890.10"]


async def test_sqlite_values_are_read_one_by_one(tmp_path: Path) -> None:
    lab = Lab("sqlite", tmp_path)
    table = lab.table("a, b", [(1, "ä"), (2.5, b"bytes"), (None, 7), (2**62, None)])
    frame = await lab.ask(columns("a:number", "b:string"), table=table)
    assert frame.data["a"].to_list() == [1.0, 2.5, None, float(2**62)]
    assert frame.data["b"].to_list() == ["ä", "bytes", "7", None]


async def test_text_that_is_no_unicode_is_shown_with_replacements(tmp_path: Path) -> None:
    lab = Lab("sqlite", tmp_path)
    lab.table("unused int")
    frame = await lab.ask(columns("a:string"), query="SELECT CAST(x'61ff' AS TEXT) AS a")
    assert frame.data["a"].to_list() == ["a\ufffd"]


async def test_json_texts_stay_as_they_are(lab: Lab) -> None:
    kind = "text" if lab.system == "sqlite" else "json"
    table = lab.table(f"doc {kind}", [('{"b": 1, "a": 12345678901234567890123}',)])
    frame = await lab.ask(columns("doc:json"), table=table)
    assert frame.data["doc"].to_list() == ['{"b": 1, "a": 12345678901234567890123}']


async def test_a_day_is_its_midnight(lab: Lab) -> None:
    if lab.system == "sqlite":
        table = lab.table("moment text", [("2026-01-01",), ("2026-01-02",)])
    else:
        table = lab.table("moment date", [(date(2026, 1, 1),), (date(2026, 1, 2),)])
    span = Span(DAY + timedelta(hours=1), DAY + timedelta(days=1, seconds=1))
    asked = Query("s.d", span=span)
    async with lab.open(columns("time:time:time=moment"), table=table) as source:
        frame = await source.collect(source.narrow(asked))
    assert DAY + timedelta(days=1) in frame.data["time"].to_list()


async def test_span_filters_and_columns_reach_the_database(lab: Lab) -> None:
    async with lab.open(RUNS, table=runs(lab)) as source:
        await source.collect(Query("s.d"))
        asked = Query(
            "s.d",
            span=Span(DAY - timedelta(days=3), DAY + timedelta(days=9)),
            filters=tuple(map(parse_filter, ("model=svm", "loss>=0.5", "model=~s.*"))),
            columns=("loss",),
        )
        kept = source.narrow(asked)
        assert kept.span == asked.span
        # Bridge applies both filters on `model` again; the pattern is not the database's.
        assert [str(item) for item in kept.filters] == ["model=svm", "loss>=0.5"]
        frame = await source.collect(kept)
    assert frame.data.columns == ["time", "model", "loss"]
    assert ROWS[0] in frame.data.rows()
    assert frame.meta.executed is not None
    assert "svm" not in frame.meta.executed


async def test_only_the_columns_asked_for_are_read(lab: Lab) -> None:
    table = lab.table("a int, b int, c int", [(1, 2, 3)])
    async with lab.open(columns("a:number", "b:number", "c:number"), table=table) as source:
        kept = source.narrow(Query("s.d", columns=("b",)))
        assert (await source.collect(kept)).data.to_dicts() == [{"b": 2}]


async def test_what_the_database_is_said_by_a_ping(lab: Lab) -> None:
    lab.table("a int")
    async with lab.open(table="t") as source:
        ping = await source.ping()
        assert ping.ok, ping.text
        name = {"sqlite": "SQLite 3.", "duckdb": "DuckDB v", "postgres": "PostgreSQL 1"}[lab.system]
        assert (ping.far_version or "").startswith(name)
        assert source.metadata.far_version == ping.far_version


@pytest.mark.parametrize("system", ["sqlite", "duckdb"])
async def test_a_file_that_is_written_to_changes_its_fingerprint(tmp_path: Path, system: str) -> None:
    lab = Lab(system, tmp_path)
    table = lab.table("a int", [(1,)])
    async with lab.open(table=table) as source:
        first = await source.fingerprint(Query("s.d"))
        assert first == await source.fingerprint(Query("s.d"))
        lab.run(f"INSERT INTO {table} VALUES (2)")
        assert first != await source.fingerprint(Query("s.d"))
        lab.file.unlink()
        with pytest.raises(DataMissing, match="cannot be read"):
            await source.fingerprint(Query("s.d"))


async def test_a_write_ahead_log_changes_the_fingerprint_too(tmp_path: Path) -> None:
    import sqlite3

    lab = Lab("sqlite", tmp_path)
    table = lab.table("a int", [(1,)])
    lab.run("PRAGMA journal_mode = WAL")
    async with lab.open(table=table) as source:
        before = await source.fingerprint(Query("s.d"))
        writer = sqlite3.connect(lab.file)
        try:
            writer.execute(f"INSERT INTO {table} VALUES (2)")
            writer.commit()
            assert await source.fingerprint(Query("s.d")) != before
            assert (await source.collect(Query("s.d"))).rows == 2
        finally:
            writer.close()


@pytest.mark.parametrize(
    ("query", "steady"),
    [("SELECT 1 AS a", True), ("SELECT datetime('now') AS a", False), ("SELECT random() AS a", False)],
)
async def test_a_query_that_reads_the_clock_has_no_fingerprint(tmp_path: Path, query: str, steady: bool) -> None:
    lab = Lab("sqlite", tmp_path)
    lab.table("a int")
    async with lab.open(query=query) as source:
        assert (await source.fingerprint(Query("s.d")) is not None) is steady


async def test_a_server_has_no_fingerprint(postgres: Lab) -> None:
    async with postgres.open(table="t") as source:
        assert await source.fingerprint(Query("s.d")) is None


@pytest.mark.parametrize("system", ["sqlite", "duckdb"])
async def test_a_file_that_is_replaced_is_opened_anew(tmp_path: Path, system: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    lab, other = Lab(system, tmp_path / "a"), Lab(system, tmp_path / "b")
    table = lab.table("a int", [(1,)])
    other.run(f"CREATE TABLE {table} (a int)", f"INSERT INTO {table} VALUES (2)")
    async with lab.open(table=table) as source:
        assert (await source.collect(Query("s.d"))).data["a"].to_list() == [1]
        other.file.replace(lab.file)
        assert (await source.collect(Query("s.d"))).data["a"].to_list() == [2]
