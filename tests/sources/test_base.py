"""What a plug-in has without writing it, and how its options are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.schema import Schema, Shape
from bridge.sources.base import (
    MAX_FILE_VALUE_BYTES,
    DatasetSpec,
    DataSource,
    DataSourceMetadata,
    NoOptions,
    Options,
    Ping,
    read_file_values,
)
from support import COLUMNS, frame_of, span, tools_of, where


class Plain(DataSource):
    """Reads nothing.

    And says more in a second paragraph.
    """

    kind = "plain"

    async def collect(self, query: Query) -> Frame:
        return frame_of(name=query.dataset)


def source(cls: type[DataSource] = Plain) -> DataSource:
    specs = {
        "runs": DatasetSpec("runs", NoOptions(), COLUMNS),
        "guessed": DatasetSpec("guessed", NoOptions()),
    }
    return cls("lab", NoOptions(), specs, tools_of())


# Defaults


async def test_a_plugin_that_writes_only_collect_is_whole() -> None:
    plain = source()
    await plain.open()
    query = Query("lab.runs", span=span(0, 1), filters=where("model=a"), columns=("value",), params=(("a", ("1",)),))
    assert plain.narrow(query) == Query("lab.runs", params=(("a", ("1",)),))
    assert await plain.fingerprint(query) is None
    assert await plain.tag_keys(query) is None
    assert await plain.tag_values(query, "model") is None
    assert await plain.ping() == Ping(ok=True)
    frame = await plain.collect(query)
    assert plain.transform(frame) is frame
    await plain.aclose()


async def test_its_frames_are_checked_against_the_declared_columns() -> None:
    plain = source()
    frame = await plain.collect(Query("lab.runs"))
    assert plain.validate(frame).findings == ()
    missing = Frame(frame.data.drop("value"), Schema((COLUMNS[0], COLUMNS[2])), "lab.runs")
    assert plain.validate(missing).blocked
    assert not plain.validate(replace(missing, name="lab.guessed")).blocked


def test_it_publishes_the_declared_columns_or_says_that_it_does_not_know_yet() -> None:
    assert source().schema("runs") == Schema(COLUMNS)
    assert source().schema("guessed") is None


def test_it_describes_itself_by_the_first_line_of_its_docstring() -> None:
    assert source().metadata == DataSourceMetadata(
        name="lab",
        kind="plain",
        version="1",
        description="Reads nothing.",
        datasets={"runs": Schema(COLUMNS), "guessed": None},
    )
    bare = type("Bare", (Plain,), {"__doc__": None})
    assert source(bare).metadata.description == ""
    assert source(type("Said", (Plain,), {"description": "something else"})).metadata.description == "something else"


def test_what_it_overrides_shows_in_what_it_says_of_itself() -> None:
    class More(Plain):
        """Pushes down and streams."""

        def narrow(self, query: Query) -> Query:
            return query

        async def subscribe(self, query: Query) -> Any:
            yield await self.collect(query)

    meta = source(More).metadata
    assert (meta.pushes_down, meta.streams) == (True, True)


def test_a_source_that_does_not_stream_says_so() -> None:
    with pytest.raises(NotImplementedError, match="plain does not stream"):
        source().subscribe(Query("lab.runs"))


def test_a_source_without_collect_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="collect"):
        source(type("Empty", (DataSource,), {"kind": "empty"}))


def test_a_dataset_without_a_shape_of_its_own_takes_that_of_the_panel() -> None:
    assert DatasetSpec("a", NoOptions()).shape is Shape.AUTO


# Options


class Secretive(Options):
    url: str = "http://far"
    token: SecretStr | None = None
    log_file: str | None = None


def test_options_nobody_knows_are_refused_and_options_do_not_change() -> None:
    with pytest.raises(ValidationError, match="tokn"):
        Secretive.model_validate({"tokn": "x"})
    with pytest.raises(ValidationError, match="frozen"):
        Secretive().url = "http://other"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="65536"):
        Secretive.model_validate({"url": "x" * 65_537})


def test_a_key_that_ends_in_file_is_read_from_that_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("  s3cret\n")
    options = Secretive.model_validate({"token_file": str(tmp_path / "token")})
    assert options.token is not None
    assert options.token.get_secret_value() == "s3cret"


def test_a_relative_file_begins_at_the_folder_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, elsewhere = tmp_path / "etc", tmp_path / "cwd"
    for folder, text in ((settings, "right"), (elsewhere, "wrong")):
        folder.mkdir()
        (folder / "token").write_text(text)
    monkeypatch.chdir(elsewhere)
    data = {"token_file": "token"}
    right = Secretive.model_validate(data, context={"base_dir": settings})
    wrong = Secretive.model_validate(data)
    assert [options.token.get_secret_value() for options in (right, wrong) if options.token] == ["right", "wrong"]


def test_a_file_in_the_home_folder_may_be_written_with_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "token").write_text("home")
    options = Secretive.model_validate({"token_file": "~/token"}, context={"base_dir": Path("/nowhere")})
    assert options.token is not None
    assert options.token.get_secret_value() == "home"


def test_a_key_the_options_know_is_theirs_also_when_it_ends_in_file() -> None:
    class Both(Options):
        log: str = ""
        log_file: str = ""

    assert Both.model_validate({"log_file": "/no/such/file"}).log_file == "/no/such/file"
    assert Secretive.model_validate({"log_file": "/no/such/file"}).log_file == "/no/such/file"


def test_no_file_means_no_value() -> None:
    assert Secretive.model_validate({"token_file": None}).token is None


def test_a_file_beside_the_value_it_stands_for_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a")
    for order in (("token", "token_file"), ("token_file", "token")):
        values = {"token": "b", "token_file": str(tmp_path / "token")}
        with pytest.raises(ValidationError, match="token_file: stands beside `token`; keep one of the two"):
            Secretive.model_validate({key: values[key] for key in order})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "token_file: cannot read '.*x': .*No such file"),
        (lambda path: path.mkdir(), "token_file: cannot read '.*x': .*Is a directory"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "token_file: '.*x' holds no text in UTF-8"),
        (lambda path: path.write_bytes(b"x" * (MAX_FILE_VALUE_BYTES + 1)), "has more than 65536 bytes"),
    ],
    ids=["missing", "folder", "binary", "large"],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "x")
    with pytest.raises(ValidationError, match=message):
        Secretive.model_validate({"token_file": str(tmp_path / "x")})


@pytest.mark.parametrize("value", [7, ["a"], "a\x00b"])
def test_a_file_name_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError, match="token_file: cannot read"):
        Secretive.model_validate({"token_file": value})


def test_a_large_file_of_just_the_allowed_size_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x" * MAX_FILE_VALUE_BYTES)
    options = Secretive.model_validate({"token_file": str(tmp_path / "x")})
    assert options.token is not None
    assert len(options.token.get_secret_value()) == MAX_FILE_VALUE_BYTES


def test_what_is_no_mapping_is_left_to_the_model() -> None:
    class Model(BaseModel):
        pass

    assert read_file_values(Model, "text") == "text"
    assert read_file_values(Model, {1: "a", "x_file": "b"}) == {1: "a", "x_file": "b"}
