"""Files that cannot be read are named, with the line where it is known, and never with a path of the machine."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import threading
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest

from bridge.errors import BadQuery, BridgeError, SourceError, UpstreamInvalid
from bridge.model.clock import SystemClock
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Param
from bridge.sources.base import DatasetSpec, Tools
from bridge.sources.builtin.files import FilesDataset, FilesOptions, FilesSource, parquet
from bridge.sources.builtin.files.content import Budget, Held, Pool, blocks
from bridge.sources.builtin.files.csv_text import Dialect
from bridge.sources.builtin.files.paths import Format, Found, Matches, Place, find
from bridge.sources.builtin.files.reading import Job, read

A = (Column("a", ColumnType.NUMBER),)
V = (Column("v", ColumnType.STRING),)
PARAMS = (Param("n"), Param("m", default="usual"))


def source(
    base: Path, path: str, columns: tuple[Column, ...] = (), *, root: str = ".", **options: Any
) -> FilesSource:
    spec = DatasetSpec("d", FilesDataset(path=path, **options), columns=columns, params=PARAMS)
    tools = Tools(cast(Any, None), SystemClock(), base)
    return FilesSource("s", FilesOptions(root=root), {"d": spec}, tools)


async def fails(base: Path, path: str, columns: tuple[Column, ...] = (), **options: Any) -> BridgeError:
    """The error, after the promises that all of them keep."""
    with pytest.raises(SourceError) as info:
        await source(base, path, columns, **options).collect(Query("s.d"))
    error = info.value
    assert error.remedy
    for text in (error.message, error.remedy):
        assert str(base) not in text
        assert len(text) < 500
    return error


def parquet_bytes() -> bytes:
    out = io.BytesIO()
    pl.DataFrame({"a": range(10_000)}).write_parquet(out)
    return out.getvalue()


BAD: dict[str, tuple[str, str | bytes, str]] = {
    "empty": ("x.csv", "", "`x.csv` has nothing to read the columns of `s.d` from"),
    "blank": ("x.csv", "\n\r\n", "`x.csv` has nothing to read"),
    "empty json": ("x.json", " \n", "`x.json` is empty"),
    "no rows": ("x.json", "[]", "`x.json` has nothing to read"),
    "truncated json": ("x.json", '[{"a": 1},\n {"a"', "`x.json` is no complete JSON: .* \\(line 2, character"),
    "broken number": ("x.json", '[{"a": NaN}, {"a": nope}]', "`x.json` is no complete JSON"),
    "endless number": ("x.json", '[{"a": ' + "1" * 5_000 + ', "b": NaN}]', "`x.json` is no complete JSON"),
    "deep json": ("x.json", "[" * 100_000, "`x.json` is no complete JSON: depth"),
    "deep json with NaN": ("x.json", "[NaN," * 100_000, "`x.json` is no complete JSON"),
    "lines in json": ("x.json", '{"a": 1}\n{"a": 2}\n', "`x.json` is no complete JSON"),
    "web page": ("x.json", "\ufeff \n<!DOCTYPE html><html>", "`x.json` holds a web page"),
    "web page as csv": ("x.csv", "<html><body>Login</body></html>", "`x.csv` holds a web page"),
    "object": ("x.json", '{"runs": [], "next": 1}', "has an object at its top, .* an object with `runs`, `next`"),
    "text": ("x.json", '"a"', "has a text at its top, .* the document is a text"),
    "scalars": ("x.json", '[{"a": 1}, 2]', "item 2 of the list at its top is a number, not an object"),
    "not utf-8 json": ("x.json", b'[\n{"a": "\xe9"}]', "`x.json` is not UTF-8 in line 2"),
    "truncated line": (
        "x.ndjson",
        '{"a": 1}\n\n{"a":',
        "`x.ndjson`: line 3 is no complete JSON: .* \\(character 6\\)",
    ),
    "no object": ("x.ndjson", '{"a": 1}\n[1]\n', "`x.ndjson`: line 2 holds a list, not an object"),
    "null line": ("x.ndjson", "null\n", "`x.ndjson`: line 1 holds nothing, not an object"),
    "bool line": ("x.ndjson", "true\n", "`x.ndjson`: line 1 holds true or false, not an object"),
    "many keys": (
        "x.ndjson",
        "\n".join(json.dumps({f"k{i}": 1}) for i in range(3_000)),
        "different keys in its rows",
    ),
    "binary": ("x.csv", "a,b\n1,2\n\0\1\2", "`x.csv` holds binary data in line 3, not csv"),
    "parquet as csv": ("x.csv", parquet_bytes(), "`x.csv` holds binary data in line 1"),
    "utf-16": ("x.csv", "a,b\n1,2\n".encode("utf-16"), "`x.csv` is written in UTF-16"),
    "utf-16 json": ("x.json", "[]".encode("utf-16"), "`x.json` is written in UTF-16"),
    "latin-1": ("x.csv", b"a,b\n1,2\n1,\xe9\n", "`x.csv` is not UTF-8 in line 3"),
    "duplicate names": ("x.csv", "a,b,a\n1,2,3\n", "`x.csv`: the data has more than one column named `a`"),
    "short line": ("x.csv", 'a,b\n"x\ny",2\n1\n', "`x.csv`: line 4 has 1 field, the header has 2"),
    "long line": ("x.csv", "a,b\n\n1,2\n1,2,3", "`x.csv`: line 4 has 3 fields, the header has 2"),
    "open quote": ("x.csv", 'a,b\n1,2\n3,"4\n5,6\n', "the record that begins in line 3 opens a quote that is never"),
    "open quote at the start": ("x.csv", 'a,b\n"1,2', "the record that begins in line 2 opens a quote that is never"),
    "stray quotes": ("x.csv", 'a,b\n"x"y,2\n', "the record that begins in line 2 or one after it has misplaced"),
    "quotes that hide a field": ("x.csv", 'a,b\nx "1,2",3\n', "line 2 or one after it has misplaced"),
    "quotes that hide a line": ("x.csv", 'a,b\nx"y\nz",2\n', "line 2 or one after it has misplaced"),
    "bad header": ("x.csv", '"a"x,b\n1,2\n', "`x.csv`: the header in line 1 cannot be read"),
    "old mac": ("x.csv", "a,b\r1,2\r", "`x.csv` ends its lines with a carriage return only"),
    "one huge line": ("x.csv", "a," * 1_000_000, "`x.csv`: the header in line 1 has 2,000,000 bytes"),
    "truncated gzip": ("x.csv.gz", gzip.compress(b"a,b\n1,2\n" * 1_000)[:-12], "`x.csv.gz` is no complete gzip file"),
    "broken gzip": ("x.csv.gz", b"\x1f\x8b\x08\x00" + b"\xff" * 100, "`x.csv.gz` is no complete gzip file"),
    "truncated parquet": ("x.parquet", parquet_bytes()[:-10], "`x.parquet` is no complete Parquet file"),
    "broken parquet": ("x.parquet", b"PAR1" + b"\xff" * 500 + b"PAR1", "`x.parquet` is no complete Parquet file"),
    "csv as parquet": ("x.parquet", "a,b\n1,2\n", "`x.parquet` is no complete Parquet file"),
    "empty parquet": ("x.parquet", "", "`x.parquet` is no complete Parquet file"),
}


@pytest.mark.parametrize("hold_bytes", [10_000_000, 0])
@pytest.mark.parametrize("case", BAD)
async def test_bad_files_are_refused_with_file_and_line(tmp_path: Path, case: str, hold_bytes: int) -> None:
    name, content, wanted = BAD[case]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    error = await fails(tmp_path, name, hold_bytes=hold_bytes)
    assert isinstance(error, UpstreamInvalid)
    assert re.search(wanted, error.message), error.message


@pytest.mark.parametrize("hold_bytes", [10_000_000, 0])
@pytest.mark.parametrize("name", ["x.csv", "x.json", "x.ndjson", "x.parquet"])
async def test_declared_data_is_refused_the_same(tmp_path: Path, name: str, hold_bytes: int) -> None:
    (tmp_path / name).write_bytes(b"PAR1\0\xff\xffPAR1" if name == "x.parquet" else b'{"a": 1}\n\xff\xfe"')
    assert f"`{name}`" in (await fails(tmp_path, name, A, hold_bytes=hold_bytes)).message


@pytest.mark.parametrize(("name", "content"), [("x.csv", ""), ("x.csv", "a,b\n"), ("x.json", "[]"), ("x.ndjson", "")])
async def test_a_file_without_rows_is_fine_where_the_columns_are_declared(
    tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    frame = await source(tmp_path, name, A).collect(Query("s.d"))
    assert frame.data.schema == {"a": pl.Float64}
    assert frame.rows == 0


async def test_the_remedy_for_lines_in_a_json_file_is_to_say_so(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1}\n{"a": 2}\n')
    assert "ndjson" in (await fails(tmp_path, "x.json")).remedy
    frame = await source(tmp_path, "x.json", format="ndjson").collect(Query("s.d"))
    assert frame.data["a"].to_list() == [1, 2]


async def test_a_row_path_that_finds_nothing_or_fails_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"runs": [{"a": 1}]}')
    assert "has nothing at `items`" in (await fails(tmp_path, "x.json", rows="items")).message
    assert "the rows at `abs(runs)` cannot be read" in (await fails(tmp_path, "x.json", rows="abs(runs)")).message


async def test_records_without_an_end_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.sources.builtin.files.csv_text.MAX_RECORD_BYTES", 100_000)
    monkeypatch.setattr("bridge.sources.builtin.files.json_text.MAX_LINE_BYTES", 100_000)
    monkeypatch.setattr("bridge.sources.builtin.files.reading.BLOCK_BYTES", 50_000)
    (tmp_path / "x.csv").write_text('a\n"' + "x\n" * 200_000)
    (tmp_path / "x.ndjson").write_text('{"a": 1}\n{"a": "' + "x" * 200_000)
    assert "line 2 has no end" in (await fails(tmp_path, "x.csv", A, hold_bytes=0)).message
    error = await fails(tmp_path, "x.ndjson", A, hold_bytes=0)
    assert "line 2 has more than 100,000 bytes" in error.message


async def test_one_long_record_is_read(tmp_path: Path) -> None:
    text = "x" * 3_000_000
    (tmp_path / "x.csv").write_text(f"a,b\n1,{text}\n")
    (tmp_path / "x.json").write_text(json.dumps([{"a": 1, "b": text}]))
    for name in ("x.csv", "x.json"):
        frame = await source(tmp_path, name).collect(Query("s.d"))
        assert frame.data.rows() == [(1, text)]


# paths


@pytest.mark.parametrize(
    ("path", "root", "wanted"),
    [
        ("../x.csv", ".", "leads out of the source's `root`"),
        ("/etc/passwd", ".", "leads out of the source's `root`"),
        ("data/../../x.csv", ".", "leads out"),
        ("other/x.csv", "data", "leads out"),
        ("datax/x.csv", "data", "leads out"),
        ("{param.nope}.csv", ".", "\\{param.nope\\}, which is none of the dataset's parameters"),
        ("{n}.csv", ".", "\\{n\\}, which is none"),
        ("{param.n.m}.csv", ".", "which is none"),
        (" ", ".", "is empty"),
        ("a\0b", ".", "NUL"),
    ],
)
def test_a_path_that_cannot_be_right_stops_the_start(tmp_path: Path, path: str, root: str, wanted: str) -> None:
    with pytest.raises(BadQuery, match=wanted) as info:
        source(tmp_path, path, root=root)
    assert info.value.remedy


def test_a_relative_base_folder_is_meant_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source(Path(), "x.csv")
    with pytest.raises(BadQuery):
        source(Path(), "../x.csv")


UNSAFE = ["", ".", "..", "a..b", "../a", "a/b", "a\\b", "/etc/passwd", ".hidden", "a\0", "a\nb", "x" * 201, "\ud800"]


@pytest.mark.parametrize("value", UNSAFE)
async def test_a_parameter_cannot_leave_its_part_of_the_path(tmp_path: Path, value: str) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / ".hidden.csv").write_text("a\n1\n")
    with pytest.raises(BadQuery, match="the parameter `n` cannot be"):
        await source(tmp_path, "runs/{param.n}.csv", A).collect(Query("s.d", params=(("n", (value,)),)))


async def test_a_parameter_is_taken_literally(tmp_path: Path) -> None:
    for name in ("a", "b", "*", "[ab]", "ü %2e"):
        (tmp_path / f"{name}.csv").write_text(f"v\nis {name}\n")
    for value in ("a", "*", "[ab]", "ü %2e"):
        for path in ("{param.n}.csv", "{param.n}.c*"):
            frame = await source(tmp_path, path, V).collect(Query("s.d", params=(("n", (value,)),)))
            assert frame.data["v"].to_list() == [f"is {value}"]
    with pytest.raises(SourceError, match=r"no file matches '\?.csv'"):
        await source(tmp_path, "{param.n}.csv", A).collect(Query("s.d", params=(("n", ("?",)),)))


async def test_a_parameter_needs_one_value_or_a_default(tmp_path: Path) -> None:
    (tmp_path / "usual.csv").write_text("a\n1\n")
    assert (await source(tmp_path, "{param.m}.csv", A).collect(Query("s.d"))).rows == 1
    for params in ((), (("n", ("a", "b")),)):
        with pytest.raises(BadQuery, match="the parameter `n` needs exactly one value"):
            await source(tmp_path, "{param.n}.csv", A).collect(Query("s.d", params=params))


async def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.csv").mkdir()
    (tmp_path / "odd.dat").write_text("a\n1\n")
    (tmp_path / "x.parquet.gz").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.csv")
    assert "no file matches 'gone.csv'" in (await fails(tmp_path, "gone.csv")).message
    assert "no file matches 'odd.dat/x.csv'" in (await fails(tmp_path, "odd.dat/x.csv")).message
    assert "no file matches '*.json'" in (await fails(tmp_path, "*.json")).message
    assert "no file matches 'x.csv'" in (await fails(tmp_path, "x.csv")).message
    assert "the format of 'odd.dat' is not clear" in (await fails(tmp_path, "odd.dat")).message
    assert "the format of 'x.parquet.gz' is not clear" in (await fails(tmp_path, "x.parquet.gz")).message
    assert "'pipe.csv' is not a regular file" in (await fails(tmp_path, "pipe.csv")).message
    assert "no file matches 'pipe*'" in (await fails(tmp_path, "pipe*")).message
    assert "cannot be looked up" in (await fails(tmp_path, "a**b/x.csv")).message
    assert "cannot be looked up: file name too long" in (await fails(tmp_path, "x" * 300 + ".csv")).message


async def test_links_that_lead_out_are_refused_and_others_are_a_choice(tmp_path: Path) -> None:
    base, outside = tmp_path / "base", tmp_path / "secret"
    for folder in (base / "real", outside):
        folder.mkdir(parents=True)
        (folder / "a.csv").write_text("a\n1\n")
    (base / "out.csv").symlink_to(outside / "a.csv")
    (base / "out").symlink_to(outside)
    (base / "in.csv").symlink_to(base / "real" / "a.csv")
    (base / "in").symlink_to(base / "real")
    (base / "loop.csv").symlink_to("loop.csv")
    for path in ("out.csv", "out/a.csv", "out", "out/*", "o*/*.csv"):
        for follow in (True, False):
            error = await fails(base, path, follow_symlinks=follow)
            assert "leads out of the source's `root`" in error.message
            assert "secret" not in error.message
    for path in ("in.csv", "in/a.csv"):
        assert "is a symbolic link" in (await fails(base, path)).message
        assert (await source(base, path, follow_symlinks=True).collect(Query("s.d"))).rows == 1
    error = await fails(base, "in*")
    assert "only symbolic links that are not followed (first: 'in.csv')" in error.message
    assert "follow_symlinks" in error.remedy
    assert "a loop of symbolic links" in (await fails(base, "loop.csv")).message


async def test_links_among_files_are_passed_over_and_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "b.csv").symlink_to("a.csv")
    frame = await source(tmp_path, "*.csv").collect(Query("s.d"))
    assert frame.rows == 1
    assert [notice.text for notice in frame.meta.notices] == [
        "symbolic links are passed over (first: `b.csv`); `follow_symlinks: true` reads them"
    ]
    assert (await source(tmp_path, "*.csv", follow_symlinks=True).collect(Query("s.d"))).rows == 1, "read once"


async def test_a_root_that_is_a_link_itself_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.csv").write_text("a\n1\n")
    (tmp_path / "root").symlink_to("real")
    assert (await source(tmp_path, "root/a.csv", root="root").collect(Query("s.d"))).rows == 1


async def test_more_files_than_can_be_meant_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.sources.builtin.files.paths.MAX_FILES", 2)
    for i in range(3):
        (tmp_path / f"{i}.csv").write_text("a\n1\n")
    assert "more than 2 files match '*.csv'" in (await fails(tmp_path, "*.csv")).message


def found(path: Path, kind: Format = Format.CSV) -> Found:
    return Found(path, path.name, kind, 0, 0)


def test_a_file_swapped_after_it_was_looked_at_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (tmp_path / "a.csv").symlink_to("secret")
    os.mkfifo(tmp_path / "b.csv")
    cases = {
        "a.csv": "cannot be read: too many levels",
        "b.csv": "is not a regular file any more",
        "c.csv": "no such",
    }
    for name, wanted in cases.items():
        with pytest.raises(SourceError, match=wanted) as info:
            list(blocks(found(tmp_path / name), Budget(100), streamed=True))
        assert str(tmp_path) not in info.value.message


@pytest.mark.parametrize("narrowed", [True, False])
@pytest.mark.parametrize("columns", [A, ()])
@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_a_folder_swapped_for_a_link_after_its_file_was_found_is_refused(
    tmp_path: Path, name: str, columns: tuple[Column, ...], narrowed: bool
) -> None:
    base, outside = tmp_path / "base", tmp_path / "secret"
    content = parquet_bytes() if name.endswith("parquet") else b"a\n1\n"
    for folder in (base / "runs", outside):
        folder.mkdir(parents=True)
        (folder / name).write_bytes(content)
    matches = find(Place(base, base), f"runs/{name}", Format.AUTO)
    (base / "runs").rename(base / "old")
    (base / "runs").symlink_to(outside)
    with pytest.raises(SourceError, match=f"`runs/{name}` cannot be read: not a directory"):
        read(job(matches, columns, narrowed=narrowed))
    if name == "x.parquet":
        with pytest.raises(SourceError, match="not a directory"):
            parquet.sample_piece(matches.files[0])


@pytest.mark.parametrize("narrowed", [True, False])
def test_a_file_that_was_replaced_by_another_one_after_it_was_found_is_read(tmp_path: Path, narrowed: bool) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "x.csv").write_text("a\n1\n")
    matches = find(Place(tmp_path, tmp_path), "runs/x.csv", Format.AUTO)
    (tmp_path / "new").write_text("a\n2\n")
    (tmp_path / "new").replace(tmp_path / "runs" / "x.csv")
    assert read(job(matches, A, narrowed=narrowed)).data["a"].to_list() == [2]


def job(matches: Matches, columns: tuple[Column, ...], *, narrowed: bool) -> Job:
    return Job(
        dataset="s.d",
        matches=matches,
        declared=columns,
        known=None,
        dialect=Dialect(),
        rows_path=None,
        narrowed=narrowed,
        span=None,
        filters=(),
        columns=(),
        cap_bytes=10_000_000,
        max_rows=100_000,
        stop=threading.Event(),
        held=Held(Pool(10_000_000)),
    )


@pytest.mark.parametrize("hold_bytes", [1_000_000, 0])
async def test_a_file_without_permission_is_said(tmp_path: Path, hold_bytes: int) -> None:
    for name, content in {"x.csv": b"a\n1\n", "x.parquet": parquet_bytes()}.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0)
    uid = os.geteuid()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        folders = [tmp_path, *list(tmp_path.parents)[:2]]
        modes = [folder.stat().st_mode for folder in folders]
        try:
            for folder in folders:
                if uid == 0:
                    folder.chmod(0o755)
            if uid == 0:
                os.seteuid(65534)
            for columns in (A, ()):
                for name in ("x.csv", "x.parquet"):
                    error = await fails(tmp_path, name, columns, hold_bytes=hold_bytes)
                    assert f"`{name}` cannot be read: permission denied" in error.message
            assert "cannot be looked up: permission denied" in (await fails(tmp_path, "locked/x.csv")).message
        finally:
            os.seteuid(uid)
            for folder, mode in zip(folders, modes, strict=True):
                if uid == 0:
                    folder.chmod(mode)
