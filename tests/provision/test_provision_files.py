"""The files say what Grafana's provisioning reads, and are written whole, and only over files of the same hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.errors import BadRequest
from bridge.model.schema import Column, ColumnType, Schema
from bridge.provision.catalogue import Catalogue, Dataset
from bridge.provision.files import MARK, File, State, Target, compared, documents, target, write

CATALOGUE = Catalogue((Dataset("lab.x", Schema((Column("n", ColumnType.NUMBER),))),))
TO = target("http://bridge:8000/sub/", "b-1", "/dashboards", 30)


def texts(to: Target = TO) -> dict[str, str]:
    return {file.path: file.text for file in documents(CATALOGUE, to)}


def data(path: str, to: Target = TO) -> Any:
    return yaml.safe_load(texts(to)[path])


def test_the_datasource_is_one_that_grafana_provisions() -> None:
    assert data("provisioning/datasources/bridge-infinity.yaml") == {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "b-1",
                "uid": "b-1",
                "type": "yesoreyeram-infinity-datasource",
                "access": "proxy",
                "url": "http://bridge:8000/sub",
                "jsonData": {
                    "auth_method": "none",
                    "allowedHosts": ["http://bridge:8000/sub"],
                    "timeoutInSeconds": 30,
                    "customHealthCheckEnabled": True,
                    "customHealthCheckUrl": "http://bridge:8000/sub/healthz",
                },
            }
        ],
    }


def test_the_dashboards_are_found_where_they_are_said_to_be() -> None:
    [provider] = data("provisioning/dashboards/bridge.yaml")["providers"]
    assert provider["type"] == "file"
    assert provider["options"] == {"path": "/dashboards", "foldersFromFilesStructure": False}


def test_a_dollar_in_a_path_is_no_variable_of_grafanas_environment() -> None:
    text = texts(target("http://bridge:8000", "b", "/a$HOME", 30))["provisioning/dashboards/bridge.yaml"]
    assert "path: /a$$HOME" in text


def test_two_bridges_beside_each_other_have_other_names() -> None:
    def board(uid: str) -> Any:
        return json.loads(texts(target("http://b", uid, "/d", 1))["dashboards/bridge-datasets.json"])

    one, two = board("bridge-infinity"), board("b-2")
    assert (one["uid"], one["title"]) == ("bridge-infinity-datasets", "bridge datasets")
    assert (two["uid"], two["title"]) == ("b-2-datasets", "bridge datasets (b-2)")


@pytest.mark.parametrize(
    ("url", "uid", "said"),
    [
        ("bridge:8000", "b", "--url"),
        ("ftp://bridge", "b", "--url"),
        ("http://", "b", "--url"),
        ("http://127.0.0.1:0", "b", "--url"),
        ("http://bridge:port", "b", "--url"),
        ("http://[::1", "b", "--url"),
        ("http://bridge/?a=1", "b", "--url"),
        ("http://user:word@bridge", "b", "--url"),
        ("http://bridge", "", "uid"),
        ("http://bridge", "a b", "uid"),
        ("http://bridge", "x" * 31, "uid"),
    ],
)
def test_what_grafana_would_not_take_is_refused(url: str, uid: str, said: str) -> None:
    with pytest.raises(BadRequest) as caught:
        target(url, uid, "/d", 1)
    assert said in caught.value.sentence


FILES = (File("a/one.yaml", f"{MARK}\nx: 1\n"), File("b.json", '{"tags": ["bridge-provisioned"]}\n'))


def test_files_are_written_once_and_again_only_where_they_differ(tmp_path: Path) -> None:
    one, two = (tmp_path / file.path for file in FILES)
    assert compared(FILES, tmp_path) == {one: State.MISSING, two: State.MISSING}
    assert write(FILES, tmp_path, force=False) == {one: State.WRITTEN, two: State.WRITTEN}
    assert [path.read_text() for path in (one, two)] == [file.text for file in FILES]
    assert write(FILES, tmp_path, force=False) == {one: State.SAME, two: State.SAME}
    two.write_text('{"tags": ["bridge-provisioned", "mine"]}')
    assert compared(FILES, tmp_path)[two] is State.DIFFERS
    assert write(FILES, tmp_path, force=False) == {one: State.SAME, two: State.WRITTEN}
    assert two.read_text() == FILES[1].text
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["b.json", "one.yaml"]


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("a/one.yaml", "x: 2\n"),
        ("b.json", '{"tags": ["bridge"]}'),
        ("b.json", '{"tags": null}'),
        ("b.json", "[1]"),
        ("b.json", "{"),
        ("b.json", ""),
    ],
)
def test_a_file_of_another_hand_is_kept_and_then_nothing_is_written(tmp_path: Path, path: str, there: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(exist_ok=True)
    file.write_text(there)
    with pytest.raises(BadRequest, match="not written by this command") as caught:
        write(FILES, tmp_path, force=False)
    assert str(file) in caught.value.message
    assert "--force" in caught.value.remedy
    assert file.read_text() == there
    assert [item for item in tmp_path.rglob("*") if item.is_file()] == [file]
    assert write(FILES, tmp_path, force=True)[file] is State.WRITTEN
    assert file.read_text() == next(item.text for item in FILES if item.path == path)


def test_who_reads_a_file_while_it_is_replaced_reads_all_of_the_old_one(tmp_path: Path) -> None:
    write(FILES, tmp_path, force=False)
    old = (tmp_path / "b.json").read_text()
    with (tmp_path / "b.json").open() as reader:
        assert reader.read(5) == old[:5]
        write((File("b.json", '{"tags": ["bridge-provisioned"], "more": true}\n'),), tmp_path, force=False)
        assert reader.read() == old[5:]


def test_a_place_that_cannot_be_used_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file where a folder is needed")
    (tmp_path / "other" / "b.json").mkdir(parents=True)
    for folder, name in ((tmp_path, "one.yaml"), (tmp_path / "other", "b.json")):
        with pytest.raises(BadRequest, match=name) as caught:
            write(FILES, folder, force=False)
        assert "--into" in caught.value.sentence


def test_a_file_that_cannot_be_named_is_told(tmp_path: Path) -> None:
    # Longer than a name may be, once something is put beside it.
    file = File(f"{'x' * 250}.json", "{}")
    with pytest.raises(BadRequest, match="cannot be written") as caught:
        write((file,), tmp_path, force=False)
    assert "--into" in caught.value.sentence


FULL = """
import resource, signal, sys
from pathlib import Path
from bridge.errors import BadRequest
from bridge.provision.files import File, write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
try:
    write((File("b.json", "x" * 100),), Path(sys.argv[1]), force=True)
except BadRequest as error:
    print(error.sentence)
"""


def test_a_full_disk_leaves_the_old_file_and_nothing_half_done(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text("old")
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "b.json cannot be written" in done.stdout
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("b.json", "old")]


def test_a_deep_file_of_another_hand_is_kept(tmp_path: Path) -> None:
    """It is not read as deep as it goes."""
    path = tmp_path / "dashboards" / "bridge-datasets.json"
    path.parent.mkdir()
    path.write_text("[" * 100_000)
    with pytest.raises(BadRequest, match="not written by this command"):
        write(documents(CATALOGUE, TO), tmp_path, force=False)
    assert path.read_text() == "[" * 100_000


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    os.mkfifo(path)
    with pytest.raises(BadRequest, match="is no file"):
        compared([File("a.json", "{}")], tmp_path)


def test_a_link_that_somebody_laid_in_the_way_is_not_written_through(tmp_path: Path) -> None:
    """The new text stands beside the old one first, under a name that can be guessed."""
    other = tmp_path / "other"
    other.write_text("mine")
    folder = tmp_path / "into"
    folder.mkdir()
    (folder / f".a.json.{os.getpid()}.tmp").symlink_to(other)
    write([File("a.json", "{}")], folder, force=False)
    assert other.read_text() == "mine"
    assert (folder / "a.json").read_text() == "{}"
    assert not (folder / "a.json").is_symlink()
