"""What is wrong in the settings of a `sql` source is said at start, with its place and without any secret."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bridge.edge.upstream import UpstreamPool
from bridge.model.clock import SystemClock
from bridge.model.schema import Param
from bridge.sources.base import Tools
from bridge.sources.builtin.sql import SqlSource
from bridge.sources.builtin.sql.place import FilePlace, ServerPlace, System, read_place
from bridge.sources.registry import DatasetConfig, Plugin, Problem, SourceConfig, build


def problems(url: str, dataset: Mapping[str, Any], *params: Param, **options: Any) -> list[Problem]:
    config = SourceConfig("s", "sql", {"url": url, **options}, (DatasetConfig("d", dataset, params=params),))
    tools = Tools(UpstreamPool().upstream, SystemClock(), Path())
    return build([config], {"sql": Plugin("sql", "bridge", SqlSource)}, tools)[1]


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("sqlite:///runs.db", FilePlace(System.SQLITE, Path("runs.db"))),
        ("sqlite:////data/my%20runs.db", FilePlace(System.SQLITE, Path("/data/my runs.db"))),
        ("duckdb:///lab/x.duckdb", FilePlace(System.DUCKDB, Path("lab/x.duckdb"))),
        ("postgresql://me@127.0.0.1:5433/lab", ServerPlace("127.0.0.1", 5433, "lab", "me", True)),
        ("postgres://[::1]/my%20lab", ServerPlace("::1", 5432, "my lab", None, True)),
        (
            "postgresql://a%40b@db.example.org/lab?sslmode=verify-full",
            ServerPlace("db.example.org", 5432, "lab", "a@b", False, {"sslmode": "verify-full"}),
        ),
    ],
)
def test_a_url_names_a_file_or_a_server(url: str, place: object) -> None:
    assert read_place(url) == place


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://me@db/lab", "must begin with"),
        ("runs.db", "must begin with"),
        ("sqlite://runs.db", "sqlite:///FILE"),
        ("sqlite:///", "names no database file"),
        ("sqlite:///:memory:", "names no database file"),
        ("duckdb:///:memory:", "names no database file"),
        ("postgresql://me:s3cret@db/lab", "password does not belong in the URL"),
        ("postgresql://me@db/lab?password=s3cret", "password does not belong in the URL"),
        ("postgresql://me@db/lab?host=/tmp", "`host` is not known"),
        ("postgresql://me@db/lab?options=-csearch_path", "`options` is not known"),
        ("postgresql://me@db/lab?sslmode=maybe", "sslmode is one of"),
        ("postgresql://me@/lab", "write postgresql://user@host"),
        ("postgresql://me@db", "write postgresql://user@host"),
        ("postgresql://me@a,b/lab", "cannot be used"),
        ("postgresql://me@db:99999/lab", "port"),
        ("postgresql://me@169.254.169.254/lab", "link-local"),
        ("postgresql://me@2130706433/lab", "four numbers"),
    ],
)
def test_a_url_that_cannot_work_is_refused_with_what_to_write(url: str, said: str) -> None:
    found = problems(url, {"table": "runs"})
    assert [problem.loc for problem in found] == [("sources", 0, "options")]
    assert said in found[0].text
    assert "s3cret" not in found[0].text


@pytest.mark.parametrize(
    ("dataset", "said", "key"),
    [
        ({}, "either `table` or `query`", ()),
        ({"table": "a", "query": "SELECT 1"}, "either `table` or `query`", ()),
        ({"table": "a..b"}, "no table name", ()),
        ({"table": "a", "time_as": "text"}, "iso", ("time_as",)),
        ({"query": "DELETE FROM runs"}, "only reading is possible", ("query",)),
        ({"query": "SELECT 1; SELECT 2"}, "one statement", ("query",)),
        ({"query": "SELECT :modell"}, "unknown name :modell (known: :from :to :step_s :model)", ("query",)),
    ],
)
def test_a_dataset_that_cannot_work_is_refused_at_its_place(
    dataset: dict[str, Any], said: str, key: tuple[str, ...]
) -> None:
    found = problems("sqlite:///runs.db", dataset, Param("model"))
    assert [problem.loc for problem in found] == [("sources", 0, "datasets", 0, "options", *key)]
    assert said in found[0].text


def test_a_password_comes_from_a_file_and_never_back(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text("s3cret\n")
    context = {"base_dir": tmp_path}
    options = SqlSource.SourceOptions.model_validate(
        {"url": "postgresql://me@127.0.0.1/lab", "password_file": "pw"}, context=context
    )
    assert "s3cret" not in repr(options)
