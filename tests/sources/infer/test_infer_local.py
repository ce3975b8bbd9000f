"""Files: dialects, nested rows, folders, and files that are broken."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import polars as pl
import pytest
from tests.sources.infer.infer_rig import looked, runs

from bridge.errors import BadRequest, DataMissing, SourceError, UpstreamInvalid

DIALECTS = {
    "comma": (b"time,load,note\n2026-01-01T00:00:00Z,1.5,a\n2026-01-02T00:00:00Z,2.5,b\n", {}),
    "semicolon": (
        b"time;load;note\n2026-01-01T00:00:00Z;1,5;a\n2026-01-02T00:00:00Z;2,25;b\n",
        {"separator": ";", "decimal_comma": True},
    ),
    "tab": (
        b'\xef\xbb\xbftime\tload\tnote\r\n2026-01-01T00:00:00Z\t1.5\t"two\r\nlines, one ; cell"\r\n'
        b"2026-01-02T00:00:00Z\t2.5\tb\r\n",
        {"separator": "\t"},
    ),
    "pipe": (b"time|load|note\n2026-01-01T00:00:00Z|1.5|a\n", {"separator": "|"}),
}


@pytest.mark.parametrize("name", DIALECTS)
async def test_csv_dialects_are_recognised(name: str, tmp_path: Path) -> None:
    """Separator, decimal comma, byte order mark and quoted line breaks."""
    content, options = DIALECTS[name]
    (tmp_path / "m.csv").write_bytes(content)
    found = await looked(str(tmp_path / "m.csv"), tmp_path)
    assert found.source.kind == "files"
    assert found.source.options == {}
    assert found.only.options == {"path": "m.csv", **options}
    assert found.column("time")["role"] == "time"
    assert found.column("load") == {"name": "load", "type": "number", "role": "measure"}
    assert found.column("note")["type"] == "string"


async def test_grouped_thousands_are_no_decimals(tmp_path: Path) -> None:
    """Where a comma parts the columns, one before three digits groups thousands: the texts stay texts."""
    (tmp_path / "m.csv").write_text('a,b\n"1,500","1,5"\n"12,250","2,25"\n')
    found = await looked(str(tmp_path / "m.csv"), tmp_path)
    assert found.column("a")["type"] == "string"
    assert found.column("b")["type"] == "number"
    assert found.only.options["decimal_comma"]


async def test_json_documents_lines_parquet_and_gzip(tmp_path: Path) -> None:
    """The rows of a document are found, nested values are opened, and an object by itself is one row."""
    rows = [{**row, "result": {"loss": 0.5, "a.b": 1}} for row in runs()]
    (tmp_path / "doc.json").write_text(json.dumps({"data": {"items": rows}}))
    (tmp_path / "one.json").write_text(json.dumps({"cpu_percent": 5.5, "up": True, "tags": ["a"]}))
    (tmp_path / "log.ndjson").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    (tmp_path / "many.jsonl").write_text("".join(json.dumps({"x": n, "y": "z" * 300}) + "\n" for n in range(3_000)))
    (tmp_path / "gz.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n"))
    pl.DataFrame({"time": [1.5], "x": [{"y": 1}]}).write_parquet(tmp_path / "t.parquet")
    found = await looked(str(tmp_path / "doc.json"), tmp_path)
    assert found.only.options == {"path": "doc.json", "rows": "data.items"}
    assert found.column("result_loss")["select"] == "result.loss"
    assert any("hold a dot" in note for note in found.only.notes)
    found = await looked(str(tmp_path / "one.json"), tmp_path)
    assert found.only.options == {"path": "one.json", "rows": "[@]"}
    assert found.column("cpu_percent")["unit"] == "percent"
    found = await looked(str(tmp_path / "log.ndjson"), tmp_path)
    assert found.column("started_at")["role"] == "time"
    assert (await looked(str(tmp_path / "many.jsonl"), tmp_path)).column("x")["type"] == "number"
    assert (await looked(str(tmp_path / "gz.csv.gz"), tmp_path)).source.name == "gz"
    assert (await looked(str(tmp_path / "t.parquet"), tmp_path)).column("x")["type"] == "json"


async def test_files_alike_are_one_dataset_and_others_their_own(tmp_path: Path) -> None:
    """A folder or a pattern is one dataset as long as its files have the same columns."""
    folder = tmp_path / "runs"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.csv").write_text("x,y\n1,2\n")
    found = await looked(str(folder), tmp_path)
    assert found.only.options == {"path": "runs"}
    assert found.only.name == "runs"
    found = await looked(str(folder / "*.csv"), tmp_path)
    assert found.only.options == {"path": "runs/*.csv"}
    (folder / "c[1].csv").write_text("z\n1\n2\n")
    (folder / "d.csv").write_text("x,y\n1\n")
    (folder / "other.txt").write_text("no data")
    for what in (folder, folder / "*.csv"):
        found = await looked(str(what), tmp_path)
        assert {d.name: d.options["path"] for d in found.source.datasets} == {
            "a": "runs/a.csv", "b": "runs/b.csv", "c_1": "runs/c[[]1].csv",
        }  # fmt: skip
        assert any("left out" in note and "d.csv" in note for note in found.source.notes)
    found = await looked(str(folder), tmp_path, max_datasets=2)
    assert len(found.source.datasets) == 2
    assert any("1 more files" in note for note in found.source.notes)
    assert (await looked(str(folder / "c[1].csv"), tmp_path)).only.options["path"] == "runs/c[[]1].csv"


async def test_files_elsewhere_get_a_root_of_their_own(tmp_path: Path) -> None:
    """Nothing beside them can be read then."""
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "m.csv").write_text("x\n1\n2\n")
    for what in ("m.csv", "*.csv"):
        found = await looked(str(tmp_path / "lab" / what), tmp_path / "settings")
        assert found.source.options == {"root": str(tmp_path / "lab")}
        assert found.only.options == {"path": str(tmp_path / "lab" / what)}


async def test_a_path_that_climbs_is_the_place_it_leads_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`../lab/m.csv` is elsewhere too, and behind a link `..` is where the system says it is."""
    for folder in ("lab", "settings", "far/inner"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "lab" / "m.csv").write_text("x\n1\n2\n")
    (tmp_path / "far" / "m.csv").write_text("x\n1\n2\n")
    (tmp_path / "settings" / "link").symlink_to(tmp_path / "far" / "inner")
    monkeypatch.chdir(tmp_path / "settings")
    for what, root in (("../lab/m.csv", "lab"), ("../lab/*.csv", "lab"), ("link/../m.csv", "far")):
        found = await looked(what, tmp_path / "settings")
        assert found.source.options == {"root": str(tmp_path / root)}
        assert found.only.options == {"path": str(tmp_path / root / Path(what).name)}
    found = await looked("../lab", tmp_path)
    assert found.source.options == {}
    assert found.only.options == {"path": "lab"}


async def test_only_so_many_files_are_looked_at(tmp_path: Path) -> None:
    """And it is said."""
    for number in range(60):
        (tmp_path / f"f{number:02d}.csv").write_text("x\n1\n")
    found = await looked(str(tmp_path), tmp_path)
    assert any("first 50 of 60" in note for note in found.source.notes)
    assert len(found.said) == 50


async def test_a_large_file_is_read_from_its_beginning_only(tmp_path: Path) -> None:
    """What is broken behind it does no harm here."""
    with (tmp_path / "big.csv").open("wb") as file:
        file.write(b"x,y\n" + b"1,2\n" * 200_000)
        file.write(b"1,2,3\n\xff\n" * 10)
    assert (await looked(str(tmp_path / "big.csv"), tmp_path)).column("x")["type"] == "number"


def parquet_cut(path: Path) -> None:
    """Half a file."""
    pl.DataFrame({"x": list(range(1_000))}).write_parquet(path)
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("cut.parquet", parquet_cut, "no complete Parquet"),
        ("empty.csv", b"", "empty"),
        ("page.csv", b"<!DOCTYPE html><html>", "web page"),
        ("binary.csv", b"a,b\n\0\n", "binary"),
        ("odd.csv", b"a,b\n1\n", "1 field"),
        ("latin.csv", b"gr\xf6\xdfe,b\n1,2\n", "UTF-8"),
        ("cut.json", b'{"items": [', "no complete JSON"),
        ("scalars.json", b"[1, 2]", "array of numbers"),
        ("arrays.json", b"[[1], [2]]", "array of arrays"),
        ("empty.json", b"[]", "empty array"),
        ("deep.json", b"[" * 100_000, "JSON"),
        ("cut.ndjson", b'{"a": 1}\n{"a":\n', "no complete JSON"),
        ("list.ndjson", b"[1]\n[2]\n", "holds no JSON object"),
        ("none.ndjson", b"\n", "nothing to read"),
        ("cut.csv.gz", gzip.compress(b"a,b\n1,2\n" * 1_000)[:30], "no complete gzip"),
        ("names.json", b'[{"\\ud800": 1}]', "nothing to read"),
        ("names.txt", b"x", "not clear"),
    ],
)
async def test_a_file_that_cannot_be_read_is_told(name: str, content: object, sentence: str, tmp_path: Path) -> None:
    """By its name, with what is wrong and what helps."""
    file = tmp_path / name
    if callable(content):
        content(file)
    else:
        file.write_bytes(content)  # type: ignore[arg-type]
    with pytest.raises(SourceError, match=sentence) as caught:
        await looked(str(file), tmp_path)
    assert caught.value.remedy


async def test_a_folder_of_broken_files_is_told_by_its_first(tmp_path: Path) -> None:
    """There is no dataset then."""
    for name in ("a.parquet", "b.parquet"):
        parquet_cut(tmp_path / name)
    with pytest.raises(UpstreamInvalid, match=r"a\.parquet"):
        await looked(str(tmp_path), tmp_path)


async def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    """A missing file, a pattern without matches, a pipe that would be waited for, a brace."""
    for what in ("none.csv", "*.csv", "a\0b"):
        with pytest.raises((DataMissing, SourceError)):
            await looked(str(tmp_path / what), tmp_path)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(SourceError, match="regular file"):
        await looked(str(tmp_path / "pipe.csv"), tmp_path)
    (tmp_path / "{x}.csv").write_text("a\n1\n")
    with pytest.raises(BadRequest, match="brace"):
        await looked(str(tmp_path / "{x}.csv"), tmp_path)


async def test_ten_thousand_keys_in_a_row_are_cut(tmp_path: Path) -> None:
    """As over HTTP."""
    (tmp_path / "wide.json").write_text(json.dumps([{f"k{n}": n for n in range(100_000)}]))
    assert len((await looked(str(tmp_path / "wide.json"), tmp_path)).only.columns) == 100
