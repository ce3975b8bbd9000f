"""The suite passes good plug-ins, and fails bad ones in the test that names what is wrong."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import BaseModel

from bridge.errors import UpstreamUnavailable
from bridge.model.filters import Op
from bridge.model.frame import Frame
from bridge.model.query import Query
from bridge.model.schema import Column, ColumnType, Role, Schema
from bridge.sources.base import DataSource, Options, Ping
from bridge.sources.builtin.files import FilesSource
from bridge.sources.builtin.rest import RestSource
from bridge.sources.conformance import Conformance, conformance
from bridge.sources.present import select_rows
from bridge.sources.questions import missing_rows, questions
from servers.far import Seen, far, js
from support import COLUMNS, at, frame_of, span

ROWS = [(n, float(n % 5), ("svm", "tree")[n % 2]) for n in range(20)]
SETTINGS = [{"name": "time", "type": "time"}, {"name": "value", "type": "number", "role": "measure"}]
SETTINGS += [{"name": "model", "type": "string", "role": "dimension"}]
STUB = {"datasets": [{"name": "runs", "columns": SETTINGS}]}


class Fine(DataSource):
    """Rows in memory, pushed down by span and filters."""

    kind = "fine"

    def narrow(self, query: Query) -> Query:
        return replace(query.whole(), span=query.span, filters=query.filters)

    async def collect(self, query: Query) -> Frame:
        await asyncio.sleep(0)
        return select_rows(frame_of(ROWS, name=query.dataset), query)


class Streaming(Fine):
    """Streams as well, and lists its own values."""

    async def subscribe(self, query: Query) -> Any:
        while True:
            yield await self.collect(query)

    async def tag_keys(self, query: Query) -> tuple[str, ...]:
        return ("model",)

    async def tag_values(self, query: Query, key: str) -> tuple[str, ...]:
        return ("svm", "tree")


def run(suite: type[Conformance], name: str) -> None:
    getattr(suite(), name)()


def names(suite: type[Conformance]) -> list[str]:
    return [name for name, _ in inspect.getmembers(suite, inspect.isfunction) if name.startswith("test_")]


def passes(suite: type[Conformance]) -> None:
    for name in names(suite):
        run(suite, name)


# Good ones


TestFine = conformance(Fine, STUB)
TestStreaming = conformance(Streaming, STUB)


@contextmanager
def a_folder(path: Path) -> Iterator[dict[str, Any]]:
    lines = [f"{at(n).isoformat()},{value},{model}" for n, value, model in ROWS]
    (path / "runs.csv").write_text("\n".join(["time,value,model", *lines]))
    frame_of(ROWS).data.write_parquet(path / "runs.parquet")
    yield {
        "datasets": [
            {"name": "guessed", "options": {"path": "runs.csv"}},
            {"name": "declared", "options": {"path": "runs.csv", "hold_bytes": 0}, "columns": SETTINGS},
            {"name": "pushed", "options": {"path": "runs.parquet", "hold_bytes": 0}},
        ]
    }


def test_the_files_source_passes(tmp_path: Path) -> None:
    passes(conformance(FilesSource, lambda: a_folder(tmp_path), base_dir=tmp_path))


def answer(seen: Seen) -> Any:
    """A far API that filters by time and model, as the templates ask it to."""
    given, models = dict(seen.params), [value for key, value in seen.params if key == "model"]
    start, end = float(given.get("from", "-inf")), float(given.get("to", "inf"))
    rows = [
        {"at": at(n).timestamp(), "value": value, "model": model}
        for n, value, model in ROWS
        if start <= at(n).timestamp() * 1000 < end and (not models or model in models)
    ]
    return js({"items": rows})


@contextmanager
def a_far_server() -> Iterator[dict[str, Any]]:
    """A server on a loop and thread of its own, as the suite runs loops of its own."""
    ready, end = threading.Event(), asyncio.Event()
    state: dict[str, Any] = {}

    async def serve() -> None:
        async with far(answer) as there:
            state["url"], state["loop"] = there.url, asyncio.get_running_loop()
            ready.set()
            await end.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(30)
        columns = [{**item, **({"select": "at"} if item["name"] == "time" else {})} for item in SETTINGS]
        params = {"from": "{from_ms}", "to": "{to_ms}", "model": "{filter.model}"}
        yield {
            "options": {"url": state["url"], "allow_private": True},
            "datasets": [
                {"name": "runs", "options": {"path": "/runs", "rows": "items", "params": params}, "columns": columns}
            ],
        }
    finally:
        state["loop"].call_soon_threadsafe(end.set)
        thread.join(30)


def test_the_rest_source_passes() -> None:
    # One server for all tests of the suite: asyncio warns of a connection that comes while its server ends.
    with a_far_server() as config:
        passes(conformance(RestSource, lambda: nullcontext(config)))


def test_datasets_may_have_parameters_and_the_columns_all_their_words() -> None:
    columns = [{**SETTINGS[1], "unit": "bytes", "kind": "counter", "description": "said", "select": "v"}]
    given = {"name": "runs", "columns": columns, "params": [{"name": "fold", "default": "1"}, {"name": "seed"}]}
    seen: list[Query] = []

    class Asking(Fine):
        """Notes its questions."""

        async def collect(self, query: Query) -> Frame:
            seen.append(query)
            spec = self.datasets["runs"]
            (column,) = spec.columns
            assert (column.unit, column.kind, column.description, column.select) == ("bytes", "counter", "said", "v")
            assert column.role is Role.MEASURE
            return frame_of([(1.0,)], spec.columns)

    run(conformance(Asking, {"datasets": [{**given, "shape": "table"}]}), "test_gives_the_same_columns_again")
    assert {query.params for query in seen} == {(("fold", ("1",)),)}


@pytest.mark.parametrize(
    ("columns", "roles"),
    [
        ([{"name": "t", "type": "time"}], [Role.TIME]),
        ([{"name": "t", "type": "time", "role": "dimension"}], [Role.DIMENSION]),
        ([{"name": "t", "type": "time"}, {"name": "u", "type": "time"}], [None, None]),
    ],
)
def test_the_only_time_column_has_the_role_time_as_in_the_settings(
    columns: list[dict[str, str]], roles: list[Role | None]
) -> None:
    class Looking(Fine):
        """Looks at its columns."""

        async def collect(self, query: Query) -> Frame:
            declared = self.datasets["runs"].columns
            assert [column.role for column in declared] == roles
            return frame_of([], declared)

    run(
        conformance(Looking, {"datasets": [{"name": "runs", "columns": columns}]}),
        "test_gives_the_same_columns_again",
    )


# Bad ones


class Anything(BaseModel):
    """Takes whatever is written."""


def bad(name: str = "Bad", **members: Any) -> type[DataSource]:
    return type(name, (Fine,), {"__doc__": "Does something wrong.", **members})


def gives(frame: Any) -> Any:
    async def collect(self: DataSource, query: Query) -> Any:
        return frame

    return collect


async def raises(self: DataSource, query: Query) -> Frame:
    raise UpstreamUnavailable("cannot connect", remedy="start it")


async def hangs(self: DataSource, *_: Any) -> Any:
    await asyncio.Event().wait()


async def swallows(self: DataSource, query: Query) -> Frame:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue


async def converts(self: DataSource, query: Query) -> Frame:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        raise UpstreamUnavailable("given up") from None
    return frame_of()


async def returns_early(self: DataSource, query: Query) -> Frame:
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(60)
    return frame_of()


async def swallows_deep_inside(self: DataSource, query: Query) -> Frame:
    for _ in range(6):
        await asyncio.sleep(0)
    return await returns_early(self, query)


async def loses_the_last(self: DataSource, query: Query) -> Frame:
    frame = select_rows(frame_of(ROWS), query)
    return frame.with_data(frame.data.head(-1)) if query.span or query.filters else frame


async def starts_after(self: DataSource, query: Query) -> Frame:
    """Takes the start of the span as excluded."""
    frame = select_rows(frame_of(ROWS), query)
    return frame.with_data(frame.data.filter(pl.col("time") > query.span.start)) if query.span else frame


async def drops_repeats(self: DataSource, query: Query) -> Frame:
    frame = select_rows(frame_of([*ROWS, *ROWS]), query)
    return frame.with_data(frame.data.unique()) if query.filters else frame


async def takes_one_value(self: DataSource, query: Query) -> Frame:
    """Pushes down only the first value of a filter."""
    filters = tuple(replace(item, values=item.values[:1]) for item in query.filters)
    return select_rows(frame_of(ROWS), replace(query, filters=filters))


async def takes_unequal_as_equal(self: DataSource, query: Query) -> Frame:
    filters = tuple(replace(item, op=Op.EQ) for item in query.filters if item.column == "model")
    return select_rows(frame_of(ROWS), replace(query, filters=filters))


async def loses_columns(self: DataSource, query: Query) -> Frame:
    frame = frame_of(ROWS)
    return frame.select(("time", "model")) if query.columns else frame


async def has_nothing_in_common(self: DataSource, query: Query) -> Frame:
    return Frame(pl.DataFrame({"z": [1.0]}), Schema(())) if query.span and not query.filters else frame_of(ROWS)


class Changing(Fine):
    """Gives other columns every time."""

    count = 0

    async def collect(self, query: Query) -> Frame:
        type(self).count += 1
        return frame_of([], (*COLUMNS, Column(f"more{self.count}", ColumnType.STRING)))


async def said_no(self: DataSource) -> Ping:
    return Ping(ok=False, text="404")


async def closes_once(self: Any) -> None:
    if getattr(self, "closed", False):
        raise AssertionError("closed twice")
    self.closed = True


async def one_strange_frame(self: DataSource, query: Query) -> Any:
    yield frame_of([], COLUMNS[:2])


async def no_frame(self: DataSource, query: Query) -> Any:
    await asyncio.Event().wait()
    yield


async def tags(self: DataSource, query: Query) -> tuple[str, ...]:
    return ("host",)


async def numbers(self: DataSource, query: Query, key: str) -> tuple[Any, ...]:
    return (1, 2)


def keeps_columns(self: DataSource, query: Query) -> Query:
    return replace(query.whole(), span=query.span, filters=query.filters, columns=query.columns)


@pytest.mark.parametrize(
    ("test", "cls", "says"),
    [
        ("says_what_it_is", bad(__doc__=None), "say in the docstring what it reads"),
        ("says_what_it_is", bad(__doc__="  "), "say in the docstring what it reads"),
        ("says_what_it_is", bad(version=""), "`version` is empty"),
        ("says_what_it_is", bad(kind="not a name"), "`kind` must be a plain name"),
        ("refuses_options_it_does_not_know", bad(SourceOptions=Anything), ""),
        ("refuses_options_it_does_not_know", bad(DatasetOptions=Anything), ""),
        (
            "lists_its_datasets",
            bad(metadata=property(lambda self: replace(Fine.metadata.__get__(self), datasets={}))),
            "",
        ),
        (
            "lists_its_datasets",
            bad(metadata=property(lambda self: replace(Fine.metadata.__get__(self), kind="x"))),
            "",
        ),
        ("answers_a_ping", bad(ping=said_no), "the far side of the configuration under test does not answer: 404"),
        ("gives_the_columns_it_publishes", bad(collect=gives(frame_of(ROWS).select(("time", "value")))), "differs"),
        (
            "gives_the_columns_it_publishes",
            bad(collect=gives(Frame(frame_of(ROWS).data.drop("value"), Schema(COLUMNS)))),
            "data and schema differ",
        ),
        (
            "gives_the_columns_it_publishes",
            bad(collect=gives(Frame(frame_of(ROWS).data.cast({"value": pl.String}), Schema(COLUMNS)))),
            "runs.value is declared number but holds String",
        ),
        ("gives_the_columns_it_publishes", bad(collect=raises), "cannot be collected: cannot connect start it"),
        ("gives_the_columns_it_publishes", bad(collect=hangs), "did not answer within 0.2 s"),
        ("gives_the_columns_it_publishes", bad(collect=swallows), "did not answer within 0.2 s"),
        ("gives_the_columns_it_publishes", bad(collect=gives(None)), "collect gives NoneType and not a Frame"),
        (
            "passes_its_own_checks",
            bad(collect=gives(frame_of(ROWS).select(("time",)))),
            "column `value` is missing from the data",
        ),
        (
            "passes_its_own_checks",
            bad(transform=lambda self, frame: frame.select(("time", "value"))),
            "the transform breaks the frame",
        ),
        ("gives_the_same_columns_again", Changing, "runs changes its columns"),
        (
            "narrows_only_what_it_was_asked",
            bad(narrow=lambda self, query: replace(query.whole(), dataset="under_test.other")),
            "asks another dataset",
        ),
        (
            "narrows_only_what_it_was_asked",
            bad(narrow=lambda self, query: replace(query.whole(), params=(("a", ("1",)),))),
            "changes the parameters",
        ),
        (
            "narrows_only_what_it_was_asked",
            bad(narrow=lambda self, query: replace(query.whole(), span=span(0, 1))),
            "changes the span",
        ),
        (
            "narrows_only_what_it_was_asked",
            bad(
                narrow=lambda self, query: replace(query, filters=tuple(replace(f, op=Op.EQ) for f in query.filters))
            ),
            "adds a filter",
        ),
        (
            "narrows_only_what_it_was_asked",
            bad(
                narrow=lambda self, query: replace(
                    query, filters=query.filters[1:], span=query.span if query.filters else None
                )
            ),
            "narrowing twice gives another query",
        ),
        ("a_narrowed_answer_loses_no_row", bad(collect=loses_the_last), "loses 1 rows, e.g. {'time': "),
        ("a_narrowed_answer_loses_no_row", bad(collect=starts_after), "a time range or columns loses 1 rows"),
        ("a_narrowed_answer_loses_no_row", bad(collect=drops_repeats), "pushing down model=svm loses"),
        ("a_narrowed_answer_loses_no_row", bad(collect=takes_one_value), "pushing down model=svm,tree loses"),
        ("a_narrowed_answer_loses_no_row", bad(collect=takes_unequal_as_equal), "pushing down model!=svm loses"),
        (
            "a_narrowed_answer_loses_no_row",
            bad(collect=loses_columns, narrow=keeps_columns),
            "loses the wanted columns value",
        ),
        ("a_narrowed_answer_loses_no_row", bad(collect=has_nothing_in_common), "loses 11 rows"),
        ("can_be_cancelled", bad(collect=swallows), "a cancelled collect goes on: do not swallow CancelledError"),
        ("can_be_cancelled", bad(collect=converts), "ends as something else: let CancelledError through"),
        ("can_be_cancelled", bad(collect=returns_early), "ends as something else"),
        ("can_be_cancelled", bad(collect=swallows_deep_inside), "ends as something else"),
        ("tags_are_texts", bad(tag_keys=tags), "tag keys are no columns: ('host',)"),
        ("tags_are_texts", bad(tag_values=numbers), ""),
        ("streams_frames_if_it_streams", bad(subscribe=one_strange_frame), ""),
        ("lists_its_datasets", bad(aclose=closes_once), "closed twice"),
    ],
)
def test_a_bad_plugin_fails_the_test_that_says_what_is_wrong(test: str, cls: type[DataSource], says: str) -> None:
    suite = conformance(cls, STUB, deadline_s=0.2)
    with pytest.raises((AssertionError, pytest.fail.Exception)) as caught:
        run(suite, f"test_{test}")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("test", "cls"),
    [
        ("answers_a_ping", bad(ping=hangs)),
        ("lists_its_datasets", bad(open=hangs)),
        ("lists_its_datasets", bad(aclose=hangs)),
        ("streams_frames_if_it_streams", bad(subscribe=no_frame)),
    ],
)
def test_a_plugin_that_hangs_fails_in_time(test: str, cls: type[DataSource]) -> None:
    with pytest.raises(Exception, match=r"did not answer within 0.1 s"):
        run(conformance(cls, STUB, deadline_s=0.1), f"test_{test}")


def test_a_plugin_that_says_it_streams_by_half_is_told() -> None:
    def quietly(self: DataSource, query: Query) -> Any:
        return iter(())

    cls = bad(subscribe=quietly, metadata=property(lambda self: replace(Fine.metadata.__get__(self), streams=False)))
    with pytest.raises(pytest.fail.Exception, match="NotImplementedError"):
        run(conformance(cls, STUB), "test_streams_frames_if_it_streams")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"datasets": []}, "the configuration under test names no dataset"),
        ({}, "the configuration under test names no dataset"),
        ({**STUB, "options": {"prot": 1}}, "sources.0.options.prot: `prot` is no option here"),
        ({"datasets": [{"name": "runs"}]}, "cannot guess columns"),
    ],
)
def test_a_configuration_that_is_wrong_is_told_as_the_service_would(config: dict[str, Any], says: str) -> None:
    with pytest.raises(AssertionError) as caught:
        run(conformance(Fine, config), "test_gives_the_columns_it_publishes")
    assert says in str(caught.value)


def test_a_plugin_that_does_not_start_is_told() -> None:
    def init(self: DataSource, *args: Any) -> None:
        raise KeyError("bug")

    with pytest.raises(AssertionError, match="the source does not start: KeyError: 'bug'"):
        run(conformance(bad(__init__=init), STUB), "test_lists_its_datasets")


def test_every_test_of_the_suite_has_a_bad_plugin_that_fails_it() -> None:
    marks = test_a_bad_plugin_fails_the_test_that_says_what_is_wrong.pytestmark  # type: ignore[attr-defined]
    judged = {f"test_{case[0]}" for mark in marks for case in mark.args[1]}
    assert set(names(Conformance)) == judged


# The questions it asks


def test_questions_touch_some_rows_and_leave_others_out() -> None:
    frame = frame_of(ROWS)
    asked = list(questions(Query("lab.runs"), frame))
    counts = [select_rows(frame, query).rows for query in asked]
    assert all(0 < count <= len(ROWS) for count in counts)
    assert {item.op for query in asked for item in query.filters} == {Op.EQ, Op.NE, Op.RE, Op.GE}
    assert asked[-1].columns == ("value",)
    assert asked[0].span == replace(span(5, 16), end=at(15.000001))


def test_data_that_says_nothing_asks_nothing() -> None:
    odd = (Column("n", ColumnType.NUMBER, role=Role.DIMENSION), Column("note", ColumnType.STRING))
    assert list(questions(Query("lab.runs"), frame_of([], odd))) == []
    assert list(questions(Query("lab.runs"), frame_of([(1.0, "a")], odd))) == []
    (only,) = questions(Query("lab.runs"), frame_of([], COLUMNS))
    assert (only.span, only.filters, only.columns) == (None, (), ("value",))


def test_rows_are_missed_by_how_often_they_stand_there() -> None:
    wanted, given = frame_of([*ROWS[:2], ROWS[0]]).data, frame_of(ROWS[:2]).data
    assert missing_rows(wanted, given).rows() == [(at(0), 0.0, "svm")]
    assert missing_rows(given, wanted).is_empty()
    holes = frame_of([(None, None, None)]).data
    assert missing_rows(holes, holes).is_empty()
    assert missing_rows(wanted, pl.DataFrame({"z": [1]})).height == 3


class Needing(Fine):
    """Reads a file named in its options."""

    kind = "needing"

    class SourceOptions(Options):
        token: str


def test_files_of_the_configuration_begin_at_its_folder(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    run(
        conformance(Needing, {**STUB, "options": {"token_file": "token"}}, base_dir=tmp_path),
        "test_lists_its_datasets",
    )
