"""The parameters of a dataset's URL become the question they mean."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.errors import BadQuery, UnknownDataset
from bridge.model.filters import Filter, Op
from bridge.model.query import Agg, Query
from bridge.model.schema import Shape
from bridge.model.span import EARLIEST, Span
from bridge.web.dataset_query import PARAMETERS, Asked, read, wants_error_frame
from bridge.web.keys import DESK
from servers.house import NOW, START, House


async def asked(bridge: House, *pairs: tuple[str, str], name: str = "lab.runs") -> Asked:
    return await read(bridge.app[DESK], name, pairs, NOW)


async def question(bridge: House, *pairs: tuple[str, str], **named: Any) -> Query:
    return (await asked(bridge, *pairs, **named)).query


async def test_nothing_asked_is_everything(bridge: House) -> None:
    assert await asked(bridge) == Asked(Query("lab.runs"))
    assert (await question(bridge, name="runs")).dataset == "lab.runs"


async def test_every_parameter_has_its_place(bridge: House) -> None:
    found = await asked(
        bridge,
        ("from", "2026-01-31T10:00:00Z"),
        ("to", "2026-01-31T11:00:00Z"),
        ("step", "30s"),
        ("filter", "model=svm"),
        ("columns", "accuracy,loss"),
        ("series", "none"),
        ("agg", "max"),
        ("format", "page"),
        ("cursor", "abc"),
        ("limit", "10"),
        ("fresh", "true"),
        ("refId", "Q"),
        ("shape", "table"),
        ("size", "10"),
    )
    assert found == Asked(
        Query(
            "lab.runs",
            ref_id="Q",
            span=Span(START, START.replace(hour=11)),
            step_ms=30_000,
            max_points=120,
            filters=(Filter("model", Op.EQ, ("svm",)), Filter("size", Op.EQ, ("10",))),
            columns=("accuracy", "loss"),
            series=(),
            agg=Agg.MAX,
            shape=Shape.TABLE,
            fresh=True,
        ),
        "page",
        10,
        "abc",
    )


@pytest.mark.parametrize(
    ("pairs", "span"),
    [
        ([("to", "2026-01-31T10:00:00Z")], Span(EARLIEST, START)),
        ([("from", "2026-01-31T10:00:00Z")], Span(START, NOW)),
        ([("from", "$__from"), ("to", "")], None),
    ],
)
async def test_an_open_end_is_now_and_an_open_start_the_beginning(bridge: House, pairs: Any, span: Any) -> None:
    assert (await question(bridge, *pairs)).span == span


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("250ms", 250),
        ("1.5s", 1500),
        ("30s", 30_000),
        ("5m", 300_000),
        ("2h", 7_200_000),
        ("1d", 86_400_000),
        ("1w", 604_800_000),
        ("15000", 15_000),
    ],
)
async def test_a_step_has_a_unit_or_is_milliseconds(bridge: House, text: str, ms: int) -> None:
    assert (await question(bridge, ("step", text))).step_ms == ms


@pytest.mark.parametrize("text", ["-1s", "1y", "s", "0", "0.1", "1e3", "1 s", "99999999999w", "nan"])
async def test_a_step_that_is_none_is_refused(bridge: House, text: str) -> None:
    with pytest.raises(BadQuery, match="`step` cannot be"):
        await question(bridge, ("step", text))


@pytest.mark.parametrize(
    ("pairs", "points"),
    [
        ([("step", "1h"), ("from", "2026-01-31T10:00:00Z"), ("to", "2026-01-31T12:00:00Z")], 2),
        ([("step", "1w"), ("from", "2026-01-31T10:00:00Z")], 1),
        ([("step", "1ms"), ("from", "2000-01-01T00:00:00Z")], 1_000_000),
        ([("step", "1h"), ("from", "2026-01-31T10:00:00Z"), ("max_points", "7")], 7),
        ([("step", "1h"), ("to", "2026-01-31T10:00:00Z")], None),
        ([("step", "1h")], None),
        ([("max_points", "1e300")], 1_000_000),
        ([("max_points", "99.9")], 99),
    ],
)
async def test_points_follow_from_span_and_step(bridge: House, pairs: Any, points: int | None) -> None:
    assert (await question(bridge, *pairs)).max_points == points


async def test_a_limit_is_at_most_what_an_answer_may_have(bridge: House) -> None:
    assert (await asked(bridge, ("limit", "inf"))).limit_rows == 1_000_000
    assert (await asked(bridge, ("limit", "1.9"))).limit_rows == 1
    assert (await asked(bridge)).limit_rows is None


async def test_own_parameters_are_not_filters(bridge: House) -> None:
    found = await question(bridge, ("model_file", "svm"), ("tags", "x,y"), ("model", "a"), name="lab.by_model")
    assert dict(found.params) == {"model_file": ("svm",), "mode": ("fast",), "tags": ("x", "y")}
    assert found.filters == (Filter("model", Op.EQ, ("a",)),)


async def test_a_column_is_known_before_the_data_was_ever_read(bridge: House) -> None:
    assert bridge.app[DESK].keepers["lab.guessed"].schema is None
    assert (await question(bridge, ("refId", "x"), name="lab.guessed")).filters == ()
    assert bridge.app[DESK].keepers["lab.guessed"].schema is None
    found = await question(bridge, ("host", "a"), name="lab.guessed")
    assert found.filters == (Filter("host", Op.EQ, ("a",)),)
    with pytest.raises(BadQuery, match="`nope`"):
        await question(bridge, ("nope", "a"), name="lab.guessed")


async def test_an_unknown_dataset_is_said_before_anything_else(bridge: House) -> None:
    with pytest.raises(UnknownDataset):
        await question(bridge, ("nope", "1"), name="lab.nope")


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("start", "from"),
        ("end", "to"),
        ("since", "from"),
        ("until", "to"),
        ("offset", "cursor"),
        ("maxDataPoints", "max_points"),
        ("acuracy", "accuracy"),
        ("colums", "columns"),
    ],
)
async def test_what_people_try_points_at_what_there_is(bridge: House, key: str, hint: str) -> None:
    with pytest.raises(BadQuery) as caught:
        await question(bridge, (key, "1"))
    assert caught.value.remedy == f"did you mean `{hint}`?"


@pytest.mark.parametrize("key", sorted(PARAMETERS.keys() - {"filter", "columns", "series"}))
async def test_what_stands_once_is_refused_twice(bridge: House, key: str) -> None:
    good = {"from": "1", "to": "2", "step": "1s", "format": "page", "on_error": "frame", "shape": "table"}
    value = good.get(key, "1")
    if key == "agg":
        value = "max"
    pairs = [(key, value), (key, value)]
    with pytest.raises(BadQuery, match=f"`{key}` is given 2 times"):
        await question(bridge, *pairs)


def test_errors_as_data_are_asked_for_by_one_word() -> None:
    assert wants_error_frame([("a", "b"), ("on_error", "frame")])
    assert not wants_error_frame([("on_error", "rows"), ("frame", "on_error")])


async def test_the_span_is_aware(bridge: House) -> None:
    found = await question(bridge, ("from", "2026-01-31T10:00:00+02:00"))
    assert found.span is not None
    assert found.span.start == datetime(2026, 1, 31, 8, tzinfo=UTC)
