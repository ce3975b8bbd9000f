"""Folders, files and patterns of CSV, JSON, NDJSON and Parquet become typed frames."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest
from pydantic import ValidationError

from bridge.errors import AnswerTooLarge, BadQuery, SchemaMismatch, SourceError, UpstreamTooLarge, UpstreamUnavailable
from bridge.model.clock import SystemClock
from bridge.model.filters import parse_filter
from bridge.model.frame import TIME_DTYPE, Frame
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Param, Role
from bridge.model.span import Span
from bridge.sources.base import DatasetSpec, Limits, Tools
from bridge.sources.builtin.files import FilesDataset, FilesOptions, FilesSource
from bridge.sources.builtin.files.content import Budget, Held, Pool, blocks
from bridge.sources.builtin.files.csv_text import Dialect
from bridge.sources.builtin.files.paths import Format, Place, find
from bridge.sources.builtin.files.reading import Job, read
from bridge.sources.builtin.files.source import MAX_THREADS
from bridge.sources.conformance import conformance

DAY = datetime(2026, 1, 1, tzinfo=UTC)
TIME = Column("time", ColumnType.TIME, role=Role.TIME)
MODEL = Column("model", ColumnType.STRING, role=Role.DIMENSION)
ACCURACY = Column("accuracy", ColumnType.NUMBER, role=Role.MEASURE)
RUNS = (TIME, MODEL, ACCURACY)
ROWS = [
    {"time": "2026-01-01T00:00:00Z", "model": "svm", "accuracy": 0.5},
    {"time": "2026-01-02T00:00:00Z", "model": "knn", "accuracy": 0.75},
    {"time": "2026-01-03T00:00:00Z", "model": None, "accuracy": None},
]
WANTED = [(DAY, "svm", 0.5), (DAY + timedelta(days=1), "knn", 0.75), (DAY + timedelta(days=2), None, None)]

Make = Callable[..., FilesSource]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def build(
        path: str,
        columns: tuple[Column, ...] = (),
        *,
        params: tuple[Param, ...] = (),
        root: str = ".",
        limits: Limits | None = None,
        **options: Any,
    ) -> FilesSource:
        spec = DatasetSpec("d", FilesDataset(path=path, **options), columns=columns, params=params)
        tools = Tools(cast(Any, None), SystemClock(), tmp_path, limits or Limits())
        return FilesSource("s", FilesOptions(root=root), {"d": spec}, tools)

    return build


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def to(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return to


Write = Callable[[str, str | bytes], Path]


async def ask(source: FilesSource, **asked: Any) -> Frame:
    return await source.collect(Query("s.d", **asked))


def span(start: datetime, **length: float) -> Span:
    return Span(start, start + timedelta(**length))


def texts(frame: Frame) -> list[str]:
    return [notice.text for notice in frame.meta.notices]


def as_csv(separator: str = ",", end: str = "\n") -> str:
    lines = [separator.join(ROWS[0])]
    lines += [separator.join("" if value is None else str(value) for value in row.values()) for row in ROWS]
    return end.join(lines) + end


def as_ndjson() -> str:
    return "\n".join(map(json.dumps, ROWS))


def as_parquet(tmp_path: Path) -> bytes:
    pl.DataFrame(ROWS).with_columns(pl.col("time").str.to_datetime(time_unit="ns", time_zone="UTC")).write_parquet(
        tmp_path / "x.bin"
    )
    return (tmp_path / "x.bin").read_bytes()


FORMATS: dict[str, Callable[[Path], str | bytes]] = {
    "a.csv": lambda _: as_csv(),
    "b.csv": lambda _: as_csv(";", "\r\n"),
    "c.tsv": lambda _: as_csv("\t"),
    "d.csv": lambda _: as_csv("|"),
    "e.csv": lambda _: "\ufeff" + as_csv(),
    "f.csv": lambda _: as_csv().rstrip("\n"),
    "g.csv": lambda _: "\n\n" + as_csv().replace("\n", "\n\r\n\n"),
    "h.csv.gz": lambda _: gzip.compress(as_csv().encode()),
    "i.json": lambda _: json.dumps(ROWS),
    "j.json.gz": lambda _: gzip.compress(json.dumps(ROWS).encode()),
    "k.ndjson": lambda _: as_ndjson(),
    "l.jsonl": lambda _: as_ndjson() + "\n\n",
    "m.ndjson.gz": lambda _: gzip.compress(as_ndjson().encode()),
    "n.parquet": as_parquet,
    "o.CSV": lambda _: as_csv(),
}


@pytest.mark.parametrize("hold_bytes", [1_000_000, 0])
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("name", FORMATS)
async def test_every_format_gives_the_same_frame(
    name: str, declared: bool, hold_bytes: int, make: Make, write: Write, tmp_path: Path
) -> None:
    write(name, FORMATS[name](tmp_path))
    frame = await ask(make(name, RUNS if declared else (), hold_bytes=hold_bytes))
    assert frame.name == "s.d"
    assert frame.schema.columns == RUNS
    assert frame.data.schema == {"time": TIME_DTYPE, "model": pl.String, "accuracy": pl.Float64}
    assert frame.data.rows() == WANTED
    assert texts(frame) == []


@pytest.mark.parametrize("hold_bytes", [1_000_000, 0])
async def test_csv_values_keep_quotes_separators_and_newlines(make: Make, write: Write, hold_bytes: int) -> None:
    write("a.csv", 'a,b\n"x, ""y""\r\nz",1\n"","NA"\nnull,2\n')
    frame = await ask(make("a.csv", hold_bytes=hold_bytes))
    assert frame.data["a"].to_list() == ['x, "y"\r\nz', None, None]
    assert frame.data["b"].to_list() == [1, None, 2]


async def test_null_values_are_a_choice_and_nan_is_a_number(make: Make, write: Write) -> None:
    write("a.csv", "a,b,c\n,NaN,-\nNA,1.5,-\n")
    frame = await ask(make("a.csv", null_values=("-",)))
    assert frame.data["a"].to_list() == ["", "NA"]
    assert str(frame.data["b"].to_list()) == "[nan, 1.5]"
    assert frame.data["c"].to_list() == [None, None]


@pytest.mark.parametrize("columns", [(), (Column("a", ColumnType.NUMBER), Column("b", ColumnType.STRING))])
async def test_decimal_commas_are_read_where_they_are_set(
    make: Make, write: Write, columns: tuple[Column, ...]
) -> None:
    write("a.csv", "a;b\n1,5;x,y\n-2;z\n")
    frame = await ask(make("a.csv", columns, decimal_comma=True))
    assert frame.data.rows() == [(1.5, "x,y"), (-2.0, "z")]


async def test_a_decimal_point_among_decimal_commas_is_not_guessed_at(make: Make, write: Write) -> None:
    write("a.csv", "a;b\n1.500;x\n1,5;y\n")
    frame = await ask(make("a.csv", (Column("a", ColumnType.NUMBER),), decimal_comma=True))
    assert frame.data["a"].to_list() == [None, 1.5]
    assert "1.500 (a point, but `decimal_comma` is set)" in texts(frame)[0]


async def test_a_header_with_other_separators_in_quotes_is_read_right(make: Make, write: Write) -> None:
    write("a.csv", '"a,b,c";d\n1;2\n')
    assert (await ask(make("a.csv"))).data.columns == ["a,b,c", "d"]
    write("b.csv", "a,b;c\n1;2\n")
    assert (await ask(make("b.csv", separator=";"))).data.columns == ["a,b", "c"]


async def test_undeclared_csv_columns_get_the_type_of_all_their_values(make: Make, write: Write) -> None:
    write("a.csv", "zip,count,ok,mixed,big,x\n007,1,true,1,99999999999999999999,1e3\n123,2,FALSE,x,1,NaN\n")
    frame = await ask(make("a.csv"))
    kinds = {column.name: column.type.value for column in frame.schema.columns}
    assert kinds == dict(
        zip(frame.data.columns, ["string", "number", "boolean", "string", "string", "number"], strict=True)
    )
    assert frame.data["zip"].to_list() == ["007", "123"]
    assert frame.data["count"].dtype == pl.Int64
    assert frame.data["ok"].to_list() == [True, False]


async def test_a_column_without_a_name_is_left_out(make: Make, write: Write) -> None:
    write("a.csv", ",a,\n0,1,x\n1,2,y\n")
    assert (await ask(make("a.csv"))).data.to_dict(as_series=False) == {"a": [1, 2]}


async def test_rows_of_a_json_object_are_found_by_their_path(make: Make, write: Write) -> None:
    write("a.json", json.dumps({"page": {"runs": [{"t": 1, "m": {"acc": 0.5}}]}}))
    frame = await ask(make("a.json", rows="page.runs[].{t: t, acc: m.acc}"))
    assert frame.data.rows() == [(1, 0.5)]


async def test_nested_and_mixed_json_values_are_kept_as_json_and_counted(make: Make, write: Write) -> None:
    write("a.ndjson", '{"a": {"x": 1}, "n": 1}\n{"a": [1], "n": "two"}\n{"n": NaN}\n')
    frame = await ask(make("a.ndjson", (Column("a", ColumnType.JSON), Column("n", ColumnType.NUMBER))))
    assert frame.data["a"].to_list() == ['{"x":1}', "[1]", None]
    assert str(frame.data["n"].to_list()) == "[1.0, None, nan]"
    assert texts(frame) == ["1 of 3 values of `n` is not a number (first: 'two'); it is shown as empty"]


async def test_losses_of_several_files_and_blocks_are_added_up(make: Make, write: Write) -> None:
    write("a.ndjson", '{"n": 1}\n{"n": "x"}\n')
    write("b.ndjson", '{"n": "y"}\n{"n": 1}\n{"n": 9223372036854775808}\n')
    frame = await ask(make("*.ndjson", (Column("n", ColumnType.NUMBER),)))
    assert texts(frame) == ["2 of 5 values of `n` are not numbers (first: 'x'); they are shown as empty"]
    assert frame.data["n"].dtype == pl.Float64


async def test_signed_and_unsigned_files_join_to_one_number(make: Make, write: Write) -> None:
    write("a.ndjson", '{"n": -1}\n')
    write("b.ndjson", '{"n": 9223372036854775808}\n')
    frame = await ask(make("*.ndjson", (Column("n", ColumnType.NUMBER),)))
    assert frame.data["n"].to_list() == [-1.0, 2.0**63]


# several files


async def test_a_folder_and_a_pattern_are_read_in_the_order_of_their_names(make: Make, write: Write) -> None:
    write("runs/b.csv", "a\n2\n")
    write("runs/a.csv", "a\n1\n")
    write("runs/c.json", '[{"a": 3}]')
    write("runs/README.md", "no data")
    write("runs/.hidden.csv", "a\n9\n")
    write("runs/deep/d.csv", "a\n4\n")
    assert (await ask(make("runs"))).data["a"].to_list() == [1, 2, 3]
    assert (await ask(make("runs", format="csv"))).data["a"].to_list() == [1, 2]
    assert (await ask(make("runs/*"))).data["a"].to_list() == [1, 2, 3]
    assert (await ask(make("runs/**/*.csv"))).data["a"].to_list() == [1, 2, 4]
    assert (await ask(make("runs/.*.csv"))).data["a"].to_list() == [9]
    assert (await ask(make("runs/[ab].csv"))).data["a"].to_list() == [1, 2]
    write("odd.txt", "a\n5\n")
    assert (await ask(make("odd.txt", format="csv"))).data["a"].to_list() == [5]


async def test_an_absolute_path_below_the_root_is_fine(make: Make, write: Write, tmp_path: Path) -> None:
    write("runs/a.csv", "a\n1\n")
    for path in (f"{tmp_path}/runs/a.csv", f"{tmp_path}/runs/*.csv", "runs/../runs/*.csv"):
        assert (await ask(make(path, root="runs"))).data["a"].to_list() == [1]


@pytest.mark.parametrize("hold_bytes", [1_000_000, 0])
async def test_a_column_missing_in_one_file_is_empty_there_and_said(
    make: Make, write: Write, hold_bytes: int
) -> None:
    write("a.csv", "a,b\n1,x\n")
    write("b.csv", "a\n2\n")
    write("c.csv", "")
    columns = (Column("a", ColumnType.NUMBER), Column("b", ColumnType.STRING))
    for declared in (columns, ()):
        frame = await ask(make("*.csv", declared, hold_bytes=hold_bytes))
        assert frame.data.rows() == [(1, "x"), (2, None)]
        assert texts(frame) == ["`b` is missing in 1 of 2 files (first: `b.csv`); it is shown as empty there"]


async def test_a_file_of_another_kind_among_the_others_is_an_error(make: Make, write: Write) -> None:
    write("a.csv", "a\n1\n")
    write("b.csv", "z\n1\n")
    with pytest.raises(SchemaMismatch, match=r"`b.csv`: column `a` is missing; the data has `z`"):
        await ask(make("*.csv", (Column("a", ColumnType.NUMBER),)))


async def test_a_file_with_other_types_is_an_error_that_names_it(make: Make, write: Write) -> None:
    write("a.csv", "a\n1\n")
    write("b.csv", "a\nx\n")
    with pytest.raises(SchemaMismatch, match=r"`b.csv`: column `a` holds no number: its first value is 'x'"):
        await ask(make("*.csv"))


async def test_a_missing_declared_column_names_the_file_and_what_is_there(make: Make, write: Write) -> None:
    for name, content in {"a.csv": "x,y\n1,2\n", "b.json": '[{"x": 1, "y": 2}]'}.items():
        write(name, content)
        with pytest.raises(SchemaMismatch, match=f"`{name}`: column `a` is missing; the data has `x`, `y`"):
            await ask(make(name, (Column("a", ColumnType.NUMBER), Column("x", ColumnType.NUMBER))))


async def test_parquet_without_the_declared_columns_is_an_error(make: Make, write: Write, tmp_path: Path) -> None:
    write("a.parquet", as_parquet(tmp_path))
    for hold_bytes in (1_000_000, 0):
        with pytest.raises(SchemaMismatch, match="column `a` is missing; the data has `accuracy`, `model`, `time`"):
            await ask(make("a.parquet", (Column("a", ColumnType.NUMBER),), hold_bytes=hold_bytes))


async def test_select_takes_the_name_in_the_file(make: Make, write: Write) -> None:
    write("a.csv", "far,x\n1,2\n")
    frame = await ask(make("a.csv", (Column("a", ColumnType.NUMBER, select="far"),)))
    assert frame.data.to_dict(as_series=False) == {"a": [1.0]}


# the inferred schema


async def test_the_schema_is_published_after_the_first_read(make: Make, write: Write) -> None:
    write("a.csv", as_csv())
    source = make("a.csv")
    assert source.schema("d") is None
    await ask(source)
    schema = source.schema("d")
    assert schema is not None
    assert schema.columns == RUNS
    assert make("a.csv", RUNS).schema("d") is not None


@pytest.mark.parametrize("hold_bytes", [1_000_000, 0])
async def test_data_that_changes_its_columns_later_is_refused_with_what_changed(
    make: Make, write: Write, hold_bytes: int
) -> None:
    write("a.csv", "a,b,c\n1,x,1\n")
    source = make("a.csv", hold_bytes=hold_bytes)
    await ask(source)
    write("a.csv", "b,c\n2,no\n")
    with pytest.raises(
        SchemaMismatch,
        match=r"`s.d` have changed: `a` is gone, `b` was string and is number, `c` was number and is str",
    ):
        await ask(source)
    write("a.csv", "a,b,c\n3,y,4\n")
    assert (await ask(source)).data.rows() == [(3, "y", 4)]


async def test_new_columns_are_left_out_with_a_notice(make: Make, write: Write) -> None:
    write("a.csv", "a\n1\n")
    source = make("a.csv")
    await ask(source)
    write("a.csv", "a,b\n1,2\n")
    frame = await ask(source)
    assert frame.data.columns == ["a"]
    assert texts(frame) == ["new columns are left out until the next reload: `b`"]


async def test_a_file_that_is_empty_for_a_while_changes_nothing(make: Make, write: Write) -> None:
    write("a.csv", "a,b\n1,x\n")
    source = make("a.csv")
    await ask(source)
    for content in ("a,b\n", ""):
        write("a.csv", content)
        frame = await ask(source)
        assert frame.data.schema == {"a": pl.Float64, "b": pl.String}
        assert frame.rows == 0


async def test_a_column_without_values_takes_its_type_from_the_first_that_comes(make: Make, write: Write) -> None:
    write("a.csv", "started_at,time,b\n,2026-01-01,\n")
    source = make("a.csv")
    assert [column.type.value for column in (await ask(source)).schema.columns] == ["string", "time", "string"]
    write("a.csv", "started_at,time,b\n2026-01-02,2026-01-01,5\n")
    frame = await ask(source)
    assert [column.type.value for column in frame.schema.columns] == ["time", "time", "number"]
    assert frame.schema.time == Column("time", ColumnType.TIME, role=Role.TIME), "the time axis must not move"
    write("a.csv", "started_at,time,b\n2026-01-02,2026-01-01,x\n")
    with pytest.raises(SchemaMismatch, match="`b` was number and is string"):
        await ask(source)


async def test_a_time_column_that_was_empty_at_first_becomes_the_time_axis(make: Make, write: Write) -> None:
    write("a.csv", "time,b\n,1\n")
    source = make("a.csv")
    await ask(source)
    write("a.csv", "time,b\n2026-01-01,1\n")
    assert (await ask(source)).schema.time == TIME


async def test_a_type_is_read_from_the_first_file_that_has_a_value(make: Make, write: Write) -> None:
    write("a.csv", "ended_at,time,b\n,2026-01-01,\n")
    write("b.csv", "ended_at,time,b\n2026-01-02,2026-01-01,5\n")
    frame = await ask(make("*.csv"))
    assert [(c.type.value, c.role) for c in frame.schema.columns] == [
        ("time", Role.TIME),
        ("time", None),
        ("number", Role.MEASURE),
    ]


# large files


def big_rows() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "time": pl.datetime_range(DAY, DAY + timedelta(days=10), "1m", eager=True, time_unit="us"),
            "model": pl.Series(["svm", "knn", None] * 4801).head(14_401),
            "accuracy": pl.int_range(14_401, eager=True) / 14_401,
            "ok": pl.int_range(14_401, eager=True) % 2 == 0,
        }
    )


def write_big(path: Path, kind: str) -> None:
    data = big_rows()
    texted = data.with_columns(pl.col("time").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    match kind:
        case "csv":
            texted.write_csv(path)
        case "json":
            texted.write_json(path)
        case "ndjson":
            texted.write_ndjson(path)
        case "csv.gz":
            path.write_bytes(gzip.compress(texted.write_csv().encode()))
        case "parquet":
            data.write_parquet(path, row_group_size=1_000)
        case "ms.parquet":
            data.with_columns(pl.col("time").dt.cast_time_unit("ms")).write_parquet(path)
        case "zone.parquet":
            data.with_columns(
                pl.col("time").dt.convert_time_zone("Europe/Berlin").dt.cast_time_unit("ns")
            ).write_parquet(path)
        case _:
            texted.write_parquet(path)


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(
    "kind", ["csv", "csv.gz", "json", "ndjson", "parquet", "ms.parquet", "zone.parquet", "text.parquet"]
)
async def test_of_large_files_the_question_is_answered_and_no_more(
    make: Make, tmp_path: Path, kind: str, declared: bool
) -> None:
    write_big(tmp_path / f"a.{kind}", kind)
    columns = (*RUNS, Column("ok", ColumnType.BOOLEAN))
    source = make(f"a.{kind}", columns if declared else (), hold_bytes=1_000, limits=Limits(max_rows=100))
    wanted = big_rows().filter(
        (pl.col("time") >= DAY + timedelta(hours=1))
        & (pl.col("time") < DAY + timedelta(hours=3))
        & (pl.col("model") == "svm")
        & (pl.col("accuracy") >= 0.005)
        & pl.col("ok")
    )
    assert wanted.height > 10
    filters = tuple(map(parse_filter, ("model=svm", "accuracy>=0.005", "ok=true", "foreign=1")))
    frame = await ask(source, span=span(DAY + timedelta(hours=1), hours=2), filters=filters)
    assert frame.data.rows() == wanted.rows()


async def test_of_large_files_only_the_columns_asked_for_are_read(make: Make, tmp_path: Path) -> None:
    for kind in ("csv", "ndjson", "parquet"):
        write_big(tmp_path / f"a.{kind}", kind)
        source = make(f"a.{kind}", RUNS, hold_bytes=1_000)
        asked = {"span": span(DAY, minutes=3), "filters": (parse_filter("model=svm"),)}
        assert (await ask(source, columns=("accuracy",), **asked)).schema.names == ("time", "model", "accuracy")
        assert (await ask(source, columns=("accuracy",))).schema.names == ("time", "accuracy")
    undated = make("a.csv", (ACCURACY,), hold_bytes=1_000)
    assert (await ask(undated, columns=("foreign",))).schema.names == ("accuracy",)


async def test_a_narrowed_frame_passes_the_checks_of_its_source(make: Make, tmp_path: Path) -> None:
    write_big(tmp_path / "a.csv", "csv")
    source = make("a.csv", RUNS, hold_bytes=1_000)
    assert not source.validate(await ask(source, columns=("accuracy",))).blocked


@pytest.mark.parametrize("kind", ["csv", "json", "ndjson", "parquet"])
async def test_too_many_rows_of_a_large_file_are_refused_with_a_way_out(
    make: Make, tmp_path: Path, kind: str
) -> None:
    write_big(tmp_path / f"a.{kind}", kind)
    source = make(f"a.{kind}", RUNS, hold_bytes=1_000, limits=Limits(max_rows=1_000))
    with pytest.raises(AnswerTooLarge, match=r"more than 1,000 rows of `s.d`") as info:
        await ask(source)
    assert "shorter time range" in info.value.remedy
    exactly = span(DAY, minutes=1_000)
    assert (await ask(source, span=exactly)).rows == 1_000
    with pytest.raises(AnswerTooLarge):
        await ask(source, span=span(DAY, minutes=1_001))


async def test_a_bad_filter_value_is_the_callers_error(make: Make, tmp_path: Path) -> None:
    write_big(tmp_path / "a.parquet", "parquet")
    with pytest.raises(BadQuery, match="`accuracy` is a number"):
        await ask(make("a.parquet", RUNS, hold_bytes=1_000), filters=(parse_filter("accuracy=x"),))


async def test_blocks_end_between_records_whatever_the_records_hold(make: Make, write: Write) -> None:
    rows = [(i, f'line "{i}"\n' + "x" * (i % 700)) for i in range(60_000)]
    lines = [f'{i},"{text.replace(chr(34), chr(34) * 2)}"' for i, text in rows]
    path = write("a.csv", "\n".join(["i,text", *lines]))
    write("a.ndjson", "\n".join(json.dumps({"i": i, "text": text}) for i, text in rows))
    assert path.stat().st_size > 16 * 1024 * 1024
    for name in ("a.csv", "a.ndjson"):
        columns = (Column("i", ColumnType.NUMBER), Column("text", ColumnType.STRING))
        frame = await ask(make(name, columns, hold_bytes=0))
        assert frame.data.rows() == rows


async def test_columns_that_come_late_in_a_large_file_are_said_to_be_left_out(make: Make, write: Write) -> None:
    write("a.ndjson", '{"a": 1}\n' * 100_000 + '{"a": 2, "late": 1}\n')
    source = make("a.ndjson", hold_bytes=10)
    for _ in range(2):
        frame = await ask(source, filters=(parse_filter("a>1"),))
        assert frame.data.rows() == [(2.0,)]
        assert texts(frame) == ["columns that the beginning of the files does not have are left out: `late`"]


async def test_the_columns_of_a_large_file_are_read_from_its_first_rows(make: Make, write: Write) -> None:
    text = "x" * 300_000
    write("a.csv", f'a,text\n1,"{text}"\n')
    write("a.ndjson", "\n" * 300_000 + json.dumps({"a": 1, "text": text}))
    for name in ("a.csv", "a.ndjson"):
        assert (await ask(make(name, hold_bytes=10))).data.rows() == [(1.0, text)]


# narrow and fingerprint


async def test_small_files_are_kept_whole_and_large_ones_are_narrowed(make: Make, write: Write) -> None:
    write("a.csv", as_csv())
    asked = Query(
        "s.d",
        span=span(DAY, days=1),
        filters=(parse_filter("accuracy>0"), parse_filter("foreign=1")),
        columns=("accuracy",),
        max_points=10,
    )
    small, large = make("a.csv", RUNS), make("a.csv", RUNS, hold_bytes=10)
    assert small.narrow(asked).span == asked.span, "before its files were looked at, nothing is promised"
    await small.open()
    await large.open()
    assert small.narrow(asked) == asked.whole()
    narrowed = large.narrow(asked)
    assert narrowed == Query("s.d", span=asked.span, filters=asked.filters[:1], columns=("time", "model", "accuracy"))
    assert large.narrow(narrowed) == narrowed
    assert large.narrow(Query("s.d")) == Query("s.d")
    undeclared = make("a.csv", hold_bytes=10)
    await undeclared.open()
    assert undeclared.narrow(asked) == Query("s.d", span=asked.span), "columns are not known yet"


async def test_a_file_that_grows_is_narrowed_from_then_on(make: Make, write: Write) -> None:
    write("a.csv", "a\n1\n")
    source = make("a.csv", hold_bytes=100)
    await source.open()
    asked = Query("s.d", span=span(DAY, days=1))
    assert source.narrow(asked).span is None
    write("a.csv", "a\n" + "1\n" * 100)
    await source.fingerprint(asked)
    assert source.narrow(asked).span == asked.span


async def test_the_sizes_it_remembers_are_bounded(make: Make, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.sources.builtin.files.source.MAX_MEASURED", 2)
    source = make("{param.n}.csv", (Column("a", ColumnType.NUMBER),), params=(Param("n"),))
    for n in "abc":
        write(f"{n}.csv", "a\n1\n")
        await source.fingerprint(Query("s.d", params=(("n", (n,)),)))
    asked = [Query("s.d", span=span(DAY, days=1), params=(("n", (n,)),)) for n in "abc"]
    assert [source.narrow(query).span is None for query in asked] == [False, True, True]


async def test_the_fingerprint_changes_with_the_files_and_only_with_them(make: Make, write: Write) -> None:
    path = write("a.csv", "a\n1\n")
    source = make("*.csv")
    query = Query("s.d")
    first = await source.fingerprint(query)
    assert await source.fingerprint(query) == first
    os.utime(path, ns=(1, 1))
    second = await source.fingerprint(query)
    write("b.csv", "a\n1\n")
    third = await source.fingerprint(query)
    path.unlink()
    assert len({first, second, third, await source.fingerprint(query)}) == 4
    (path.parent / "b.csv").unlink()
    with pytest.raises(SourceError, match=r"no file matches '\*.csv'"):
        await source.fingerprint(query)


async def test_ping_counts_the_files_and_says_what_is_missing(make: Make, write: Write) -> None:
    source = make("*.csv")
    ping = await source.ping()
    assert not ping.ok
    assert "d: no file matches '*.csv'" in ping.text
    await source.open()
    write("a.csv", "a\n1\n")
    assert (await source.ping()).text == "1 file"
    write("b.csv", "a\n1\n")
    ping = await source.ping()
    assert (ping.ok, ping.text) == (True, "2 files")
    templated = make("{param.n}.csv", RUNS, params=(Param("n"),))
    await templated.open()
    assert (await templated.ping()).ok


# being a good neighbour


async def test_the_event_loop_is_never_blocked(make: Make, write: Write, no_blocking: Any) -> None:
    write("runs/a.csv", as_csv())
    source = make("runs/*.csv", hold_bytes=10)
    await source.open()
    query = Query("s.d")
    await source.fingerprint(query)
    await source.collect(source.narrow(query))
    assert (await source.ping()).ok


async def test_a_cancelled_question_leaves_the_source_usable(make: Make, write: Write) -> None:
    for i in range(100):
        write(f"{i}.csv", "a\n" + "1\n" * 2_000)
    source = make("*.csv", (Column("a", ColumnType.NUMBER),))
    task = asyncio.create_task(ask(source))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await ask(source)).rows == 200_000


def test_when_nobody_waits_any_more_the_reading_ends(write: Write, tmp_path: Path) -> None:
    write("a.csv", "a\n1\n")
    place = Place(tmp_path, tmp_path)
    job = Job(
        dataset="s.d",
        matches=find(place, "a.csv", Format.AUTO),
        declared=(Column("a", ColumnType.NUMBER),),
        known=None,
        dialect=Dialect(),
        rows_path=None,
        narrowed=False,
        span=None,
        filters=(),
        columns=(),
        cap_bytes=1_000,
        max_rows=10,
        stop=threading.Event(),
        held=Held(Pool(1_000)),
    )
    assert read(job).data.height == 1
    job.stop.set()
    with pytest.raises(SourceError, match="nobody waits"):
        read(job)


async def test_of_concurrent_first_reads_the_first_to_end_publishes_its_columns(make: Make, write: Write) -> None:
    write("a.csv", "a\n1\n")

    class Swapping(ThreadPoolExecutor):
        """One thread: two look-ups, a reading, and a second one of a file that has changed since."""

        jobs = 0

        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            self.jobs += 1
            if self.jobs == 4:
                super().submit(write, "a.csv", "a\nx\n")
            return super().submit(fn, *args, **kwargs)

    source = make("a.csv")
    source._threads = Swapping(1)
    frames = await asyncio.gather(ask(source), ask(source))
    kinds = [frame.schema.columns[0].type for frame in frames]
    assert sorted(kinds) == [ColumnType.NUMBER, ColumnType.STRING]
    schema = source.schema("d")
    assert schema is not None
    assert schema.columns[0].type == ColumnType.NUMBER


async def test_a_source_whose_files_hang_holds_up_no_other(make: Make, write: Write) -> None:
    write("a.csv", "a\n1\n")
    hung, well, end = make("a.csv"), make("a.csv"), threading.Event()
    try:
        for _ in range(MAX_THREADS):
            hung._threads.submit(end.wait)
        waiting = asyncio.create_task(ask(hung))
        # More sources than the loop's own threads could serve, were they shared.
        assert (await ask(well)).rows == 1
        assert not waiting.done()
        waiting.cancel()
        await hung.aclose()
    finally:
        end.set()


async def test_what_is_read_at_once_is_bounded(make: Make, write: Write) -> None:
    limits = Limits(max_bytes=64)
    write("a.csv", "a\n" + "1\n" * 600)
    write("b.csv", "a\n" + "1\n" * 200)
    write("c.csv", "a\n" + "1\n" * 400)
    write("d.json", json.dumps([{"a": 1}] * 200))
    for path in ("a.csv", "[bc].csv", "d.json"):
        with pytest.raises(UpstreamTooLarge, match="more than the 1,024 bytes"):
            await ask(make(path, limits=limits))
    assert (await ask(make("b.csv", limits=limits))).rows == 200
    assert (await ask(make("a.csv", limits=limits, hold_bytes=100))).rows == 600, "a streamed file is not held"
    with pytest.raises(UpstreamTooLarge):
        await ask(make("d.json", limits=limits, hold_bytes=100))


@pytest.mark.parametrize("hold_bytes", [1_000_000, 0])
async def test_a_gzip_bomb_is_stopped_while_it_unfolds(make: Make, write: Write, hold_bytes: int) -> None:
    path = write("a.csv.gz", gzip.compress(b"a\n" + b"1\n" * 50_000_000, 1))
    assert path.stat().st_size < 1_000_000
    columns = (Column("a", ColumnType.NUMBER),)
    source = make("a.csv.gz", columns, hold_bytes=hold_bytes, limits=Limits(max_bytes=2 * 1024 * 1024))
    with pytest.raises(UpstreamTooLarge, match=r"`a.csv.gz` holds more than the 33,554,432 bytes"):
        await ask(source, filters=(parse_filter("a>1"),))


async def test_gzip_that_unfolds_further_than_tables_do_is_refused_when_it_would_be_held(
    make: Make, write: Write
) -> None:
    write("a.csv.gz", gzip.compress(b"a\n" + b"1\n" * 40_000_000, 1))
    columns = (Column("a", ColumnType.NUMBER),)
    with pytest.raises(UpstreamTooLarge, match="more than 67,108,864 bytes and to more than 100 times its size"):
        await ask(make("a.csv.gz", columns))
    streamed = make("a.csv.gz", columns, hold_bytes=0)
    assert (await ask(streamed, filters=(parse_filter("a>1"),))).rows == 0, "what is streamed is not held"


def test_gzip_that_unfolds_far_is_read_while_it_is_small(write: Write, tmp_path: Path) -> None:
    write("a.csv.gz", gzip.compress(b"a\n" + b"1\n" * 1_000_000))
    (file,) = find(Place(tmp_path, tmp_path), "a.csv.gz", Format.AUTO).files
    assert sum(map(len, blocks(file, Budget(10_000_000), streamed=False))) == 2_000_002


def test_gzip_files_read_at_once_share_one_bound_and_give_it_back(write: Write, tmp_path: Path) -> None:
    write("a.csv.gz", gzip.compress(b"a\n" + b"1\n" * 300))
    write("b.csv.gz", b"no gzip at all \xff")
    (file, bad) = find(Place(tmp_path, tmp_path), "*", Format.AUTO).files
    pool = Pool(1_000)
    with Held(pool) as first:
        assert len(list(blocks(file, Budget(1_000, first), streamed=False))) == 1
        with (
            pytest.raises(UpstreamUnavailable, match=r"`a.csv.gz` has to wait: .* hold 1,000 bytes together"),
            Held(pool) as second,
        ):
            list(blocks(file, Budget(1_000, second), streamed=False))
        assert pool.held_bytes == 602
        list(blocks(file, Budget(1_000, first), streamed=True))
        list(blocks(bad, Budget(1_000, first), streamed=False))
        assert pool.held_bytes == 602, "plain and streamed files are bounded by other means"
    assert pool.held_bytes == 0


@pytest.mark.parametrize("columns", [(Column("a", ColumnType.NUMBER),), ()])
@pytest.mark.parametrize(
    ("name", "hold_bytes"), [("a.csv.gz", 1_000_000), ("a.json.gz", 1_000_000), ("a.json.gz", 0)]
)
async def test_a_reading_waits_for_a_better_time_while_others_hold_too_much_gzip(
    make: Make, write: Write, name: str, hold_bytes: int, columns: tuple[Column, ...]
) -> None:
    write(name, gzip.compress(json.dumps([{"a": 1}] * 60).encode() if "json" in name else b"a\n" + b"1\n" * 300))
    source = make(name, columns, limits=Limits(max_bytes=64), hold_bytes=hold_bytes)
    (file,) = find(Place(source.tools.base_dir, source.tools.base_dir), name, Format.AUTO).files
    with Held(source._pool) as other:
        other.take(600, file)
        with pytest.raises(UpstreamUnavailable, match="has to wait"):
            await ask(source)
    assert (await ask(source)).rows > 0


@pytest.mark.parametrize("hold_bytes", [1_000_000, 0])
@pytest.mark.parametrize("name", ["[ab].json.gz", "[ab].csv.gz"])
async def test_one_source_can_be_asked_for_gzip_again_and_again(
    make: Make, write: Write, name: str, hold_bytes: int
) -> None:
    content = json.dumps([{"a": 1}] * 60) if "json" in name else "a\n" + "1\n" * 300
    assert 512 < len(content) <= 1_024
    for letter in "ab":
        write(name.replace("[ab]", letter), gzip.compress(content.encode()))
    source = make(name, limits=Limits(max_bytes=64 if hold_bytes == 0 else 128), hold_bytes=hold_bytes)
    rows = {(await ask(source)).rows for _ in range(3)}
    assert rows == {120 if "json" in name else 600}
    declared = make(name, (Column("a", ColumnType.NUMBER),), limits=source.tools.limits, hold_bytes=hold_bytes)
    assert {(await ask(declared)).rows for _ in range(3)} == rows


def test_a_path_with_parameters_needs_declared_columns(make: Make) -> None:
    with pytest.raises(ValueError, match="needs declared `columns`, since each file could have others") as info:
        make("{param.n}.csv", params=(Param("n"),))
    assert info.value.loc == ("datasets", "d", "columns")  # type: ignore[attr-defined]


async def test_each_file_of_a_path_with_parameters_is_read_by_the_declared_columns(make: Make, write: Write) -> None:
    write("a.csv", "a,b\n1,2\n")
    write("b.csv", "a,c\nx,3\n")
    source = make("{param.n}.csv", (Column("a", ColumnType.STRING),), params=(Param("n"),))
    values = [(await ask(source, params=(("n", (n,)),))).data["a"].to_list() for n in "ab"]
    assert values == [["1"], ["x"]]


async def test_a_parquet_bomb_is_stopped_before_it_unfolds(make: Make, tmp_path: Path) -> None:
    pl.DataFrame({"a": pl.repeat(1, 10_000_000, eager=True)}).write_parquet(tmp_path / "a.parquet")
    limits = Limits(max_bytes=1_000_000)
    with pytest.raises(UpstreamTooLarge, match=r"`a.parquet` unfolds to 10,000,000 rows"):
        await ask(make("a.parquet", limits=limits))
    with pytest.raises(AnswerTooLarge):
        await ask(make("a.parquet", limits=limits, hold_bytes=10))


def test_wrong_options_stop_the_start(make: Make) -> None:
    for options in ({"rows": "a["}, {"separator": ":"}, {"format": "xml"}, {"hold_bytes": -1}, {"typo": 1}):
        with pytest.raises(ValidationError):
            make("a.csv", **options)


@contextmanager
def some_files() -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "a.csv").write_text(as_csv())
        write_big(base / "b.parquet", "parquet")
        columns = [
            {"name": "time", "type": "time", "role": "time"},
            {"name": "model", "type": "string", "role": "dimension"},
            {"name": "accuracy", "type": "number", "role": "measure"},
        ]
        yield {
            "options": {"root": folder},
            "datasets": [
                {"name": "declared", "options": {"path": f"{folder}/a.csv"}, "columns": columns},
                {"name": "inferred", "options": {"path": f"{folder}/a.csv"}},
                {"name": "large", "options": {"path": f"{folder}/b.parquet", "hold_bytes": 10}, "columns": columns},
            ],
        }


TestConformance = conformance(FilesSource, some_files)


@pytest.mark.parametrize("name", ["d.json", "d.ndjson"])
async def test_a_path_leads_into_nested_values(make: Make, write: Write, name: str) -> None:
    rows = [{"m": {"loss": 0.5, "deep": {"er": "x"}}, "a.b": 1}, {"m": {"loss": 0.25}}, {"m": 7}]
    write(name, "\n".join(map(json.dumps, rows)) if name.endswith("ndjson") else json.dumps(rows))
    columns = (
        Column("loss", ColumnType.NUMBER, role=Role.MEASURE, select="m.loss"),
        Column("deep", ColumnType.STRING, select="m.deep.er"),
        Column("plain", ColumnType.NUMBER, select="a.b"),
    )
    frame = await make(name, columns).collect(Query("s.d"))
    assert frame.data.rows() == [(0.5, "x", 1), (0.25, None, None), (None, None, None)]


async def test_a_path_that_no_row_has_is_a_changed_schema(make: Make, write: Write) -> None:
    write("d.json", json.dumps([{"m": {"loss": 0.5}}]))
    source = make("d.json", (Column("loss", ColumnType.NUMBER, select="m.lost"),))
    with pytest.raises(SchemaMismatch, match=r"`loss` \(`m.lost` in the data\) is missing"):
        await source.collect(Query("s.d"))


async def test_texts_with_a_time_of_day_are_times_under_any_name(make: Make, write: Write) -> None:
    write("d.csv", "Zeit,cohort,v\n2026-01-01T00:00:00+01:00,2026-01-01,1\n2026-01-01 01:00,2026-01-02,2\n")
    frame = await make("d.csv").collect(Query("s.d"))
    assert [(c.name, c.type, c.role) for c in frame.schema.columns] == [
        ("Zeit", ColumnType.TIME, Role.TIME),
        ("cohort", ColumnType.STRING, Role.DIMENSION),
        ("v", ColumnType.NUMBER, Role.MEASURE),
    ]
