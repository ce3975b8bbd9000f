"""Each kind of step, on a table of its own."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from bridge.errors import AnswerTooLarge, SchemaMismatch
from bridge.model.frame import Frame
from bridge.model.schema import Column, ColumnType, Kind, Role, Schema
from bridge.sources.base import Limits
from bridge.sources.transform.bound import StepError
from bridge.sources.transform.options import Step
from bridge.sources.transform.pipeline import Pipeline, bind
from support import T0, at, frame_of, table

RUNS = (
    Column("time", ColumnType.TIME, role=Role.TIME),
    Column("run", ColumnType.STRING),
    Column("model", ColumnType.STRING, role=Role.DIMENSION),
    Column("accuracy", ColumnType.NUMBER, unit="percentunit", role=Role.MEASURE),
    Column("took", ColumnType.NUMBER, unit="ms", role=Role.MEASURE),
)
ROWS = (
    (0, "r1", "svm", 0.5, 1500.0),
    (30, "r2", "svm", 0.75, 3.0),
    (90, "r3", "mlp", None, 250.0),
    (200, "r4", "svm", 0.25, None),
)
OTHER = (
    Column("time", ColumnType.TIME, role=Role.TIME),
    Column("run_name", ColumnType.STRING),
    Column("loss", ColumnType.NUMBER, role=Role.MEASURE),
    Column("owner", ColumnType.STRING, role=Role.DIMENSION),
)
OTHER_ROWS = ((1, "r1", 0.1, "ann"), (33, "r2", 0.2, "bob"), (95, "r9", 0.9, "eve"))
OTHERS = {"lab.other": Schema(OTHER), "lab.more": Schema(RUNS)}


def steps(*given: dict[str, Any]) -> tuple[Step, ...]:
    """Steps as the settings have them."""
    return tuple(Step.model_validate(item) for item in given)


def pipeline(*given: dict[str, Any], columns: tuple[Column, ...] = RUNS) -> Pipeline:
    """The steps bound to these columns."""
    return bind(steps(*given), Schema(columns), OTHERS)


def made(
    *given: dict[str, Any],
    rows: Any = ROWS,
    columns: tuple[Column, ...] = RUNS,
    others: dict[str, Frame] | None = None,
    **limits: Any,
) -> Frame:
    """The table after the steps."""
    bound = pipeline(*given, columns=columns)
    found = {"lab.other": frame_of(OTHER_ROWS, OTHER), "lab.more": frame_of(ROWS[:1], RUNS)} | (others or {})
    fetched = {(index, name): frame for index in range(len(given)) for name, frame in found.items()}
    return bound.run(frame_of(rows, columns), fetched, Limits(**limits))


def rows(frame: Frame) -> list[dict[str, Any]]:
    """Rows with their times in seconds after noon."""
    times = [c.name for c in frame.schema.columns if c.type is ColumnType.TIME]
    return [
        {
            key: (value - T0).total_seconds() if key in times and value is not None else value
            for key, value in row.items()
        }
        for row in frame.data.to_dicts()
    ]


def column(frame: Frame, name: str) -> Column:
    found = frame.schema.get(name)
    assert found is not None
    return found


def test_rename_gives_new_names_and_columns_may_swap_theirs() -> None:
    frame = made({"rename": {"run": "model", "model": "run", "took": "took_ms"}})
    assert frame.schema.names == ("time", "model", "run", "accuracy", "took_ms")
    assert rows(frame)[0] == {"time": 0, "model": "r1", "run": "svm", "accuracy": 0.5, "took_ms": 1500.0}
    assert column(frame, "run").role is Role.DIMENSION
    assert column(frame, "took_ms").unit == "ms"


def test_keep_orders_the_columns_and_drop_takes_some_away() -> None:
    assert made({"keep": ["accuracy", "time", "accuracy"]}).data.columns == ["accuracy", "time"]
    assert made({"drop": ["run", "took"]}).schema.names == ("time", "model", "accuracy")


def test_cast_changes_type_and_role_and_says_what_it_lost() -> None:
    columns = (*RUNS[:2], Column("n", ColumnType.STRING, role=Role.DIMENSION), Column("at", ColumnType.STRING))
    data = ((0, "r1", "7", "2026-01-31T12:00:05Z"), (1, "r2", "many", None))
    frame = made({"cast": {"n": "number", "at": "time", "run": "json"}}, rows=data, columns=columns)
    assert rows(frame) == [
        {"time": 0, "run": '"r1"', "n": 7.0, "at": 5.0},
        {"time": 1, "run": '"r2"', "n": None, "at": None},
    ]
    roles = {c.name: c.role for c in frame.schema.columns}
    assert roles == {"time": Role.TIME, "run": None, "n": Role.MEASURE, "at": None}
    assert [notice.text for notice in frame.meta.notices] == [
        "1 of 2 values of `n` is not a number (first: 'many'); it is shown as empty"
    ]


def test_a_cast_to_time_makes_the_time_of_a_table_that_had_none() -> None:
    columns = (Column("at", ColumnType.NUMBER), Column("n", ColumnType.NUMBER, unit="s", role=Role.MEASURE))
    frame = made({"cast": {"at": "time", "n": "string"}}, rows=((T0.timestamp(), 1.5),), columns=columns)
    assert (column(frame, "at").role, column(frame, "n").role, column(frame, "n").unit) == (
        Role.TIME,
        Role.DIMENSION,
        None,
    )
    assert rows(frame) == [{"at": 0, "n": "1.5"}]


def test_a_cast_that_fits_no_value_stops_the_dataset() -> None:
    with pytest.raises(SchemaMismatch, match="after `cast`: column `model` holds no number"):
        made({"cast": {"model": "number"}})


@pytest.mark.parametrize(
    ("value", "units", "expected"),
    [
        (3.0, {"from": "ms", "to": "s"}, 0.003),
        (1234567.0, {"from": "\u00b5s", "to": "s"}, 1.234567),
        (2.0, {"from": "ns", "to": "ms"}, 2e-06),
        (0.1, {"from": "h", "to": "s"}, 360.0),
        (98.6, {"from": "fahrenheit", "to": "celsius"}, pytest.approx(37.0)),
        (37.0, {"from": "celsius", "to": "fahrenheit"}, pytest.approx(98.6)),
        (2.0, {"from": "gbytes", "to": "bytes"}, 2.0 * 1024**3),
        (8.0, {"from": "bits", "to": "bytes"}, 1.0),
        (50.0, {"from": "percent", "to": "percentunit"}, 0.5),
        (36.0, {"from": "velocitykmh", "to": "velocityms"}, pytest.approx(10.0)),
    ],
)
def test_convert_changes_values_and_unit(value: float, units: dict[str, str], expected: Any) -> None:
    frame = made({"convert": {"took": units}}, rows=((0, "r", "m", 1.0, value), (1, "r", "m", 1.0, None)))
    assert frame.data["took"].to_list() == [expected, None]
    assert column(frame, "took").unit == units["to"]


def test_convert_knows_the_unit_a_column_has() -> None:
    assert made({"convert": {"took": "s"}}).data["took"].to_list() == [1.5, 0.003, 0.25, None]


def test_derive_computes_columns_that_may_use_each_other() -> None:
    frame = made(
        {
            "derive": {
                "error": {"expr": "1 - accuracy", "unit": "percentunit", "description": "what went wrong"},
                "bad": "error > 0.4",
                "label": "concat(model, '/', run)",
                "accuracy": {"expr": "accuracy * 100", "unit": "percent", "kind": "counter"},
                "one": "1",
            }
        }
    )
    assert frame.data["error"].to_list() == [0.5, 0.25, None, 0.75]
    assert frame.data["bad"].to_list() == [True, False, None, True]
    assert frame.data["label"].to_list() == ["svm/r1", "svm/r2", "mlp/r3", "svm/r4"]
    assert frame.data["accuracy"].to_list() == [50.0, 75.0, None, 25.0]
    assert frame.data["one"].to_list() == [1.0] * 4
    assert column(frame, "error") == Column(
        "error", ColumnType.NUMBER, "percentunit", Role.MEASURE, "what went wrong"
    )
    assert (column(frame, "label").role, column(frame, "bad").role) == (Role.DIMENSION, None)
    assert (column(frame, "accuracy").kind, column(frame, "accuracy").unit) == (Kind.COUNTER, "percent")
    assert frame.schema.names == ("time", "run", "model", "accuracy", "took", "error", "bad", "label", "one")


def test_filter_keeps_the_rows_for_which_the_condition_is_true() -> None:
    assert [row["run"] for row in rows(made({"filter": "accuracy >= 0.5 and model == 'svm'"}))] == ["r1", "r2"]
    # What is not known is not true.
    assert [row["run"] for row in rows(made({"filter": "accuracy < 1"}))] == ["r1", "r2", "r4"]


def test_aggregate_makes_one_row_of_each_group() -> None:
    values = {
        "best": "max(accuracy)",
        "runs": "count()",
        "known": "count(accuracy)",
        "names": "count_distinct(run)",
        "took": {"how": "sum", "of": "took", "unit": "µs"},
        "half": "p50(took)",
        "spread": "std(accuracy)",
        "latest": "last(run)",
        "since": "min(time)",
    }
    frame = made({"aggregate": {"by": ["model"], "values": values}}, rows=(*ROWS[::-1], (250, "r2", "svm", 0.5, 5.0)))
    assert rows(frame) == [
        {
            "model": "svm",
            "best": 0.75,
            "runs": 4,
            "known": 4,
            "names": 3,
            "took": 1508.0,
            "half": 5.0,
            "spread": pytest.approx(0.2041241),
            "latest": "r2",
            "since": 0,
        },
        {
            "model": "mlp",
            "best": None,
            "runs": 1,
            "known": 0,
            "names": 1,
            "took": 250.0,
            "half": 250.0,
            "spread": None,
            "latest": "r3",
            "since": 90,
        },
    ]
    assert (column(frame, "best").unit, column(frame, "runs").unit, column(frame, "took").unit) == (
        "percentunit",
        None,
        "µs",
    )
    assert (column(frame, "best").role, column(frame, "latest").role, column(frame, "since").role) == (
        Role.MEASURE,
        None,
        None,
    )


def test_aggregate_can_make_buckets_of_time_and_a_table_of_one_row() -> None:
    frame = made({"aggregate": {"every_s": 60, "values": {"n": "count()", "took": "mean(took)"}}})
    assert rows(frame) == [
        {"time": 0, "n": 2, "took": 751.5},
        {"time": 60, "n": 1, "took": 250.0},
        {"time": 180, "n": 1, "took": None},
    ]
    assert column(frame, "time").role is Role.TIME
    assert rows(made({"aggregate": {"values": {"n": "count()"}}})) == [{"n": 4}]


def test_a_row_without_time_is_in_no_bucket_and_that_is_said() -> None:
    frame = made(
        {"aggregate": {"every_s": 60, "values": {"n": "count()"}}}, rows=((None, "r", "m", 1.0, 1.0), *ROWS[:1])
    )
    assert rows(frame) == [{"time": 0, "n": 1}]
    assert frame.meta.notices[0].text == "1 rows without a `time` left out"


def test_a_nan_is_no_value_for_an_aggregation_and_sums_of_nothing_are_empty() -> None:
    data = ((0, "r", "a", float("nan"), 1.0), (1, "r", "a", 0.5, 1.0), (2, "r", "b", None, 2.0))
    frame = made({"aggregate": {"by": ["model"], "values": {"m": "max(accuracy)", "s": "sum(accuracy)"}}}, rows=data)
    assert rows(frame) == [{"model": "a", "m": 0.5, "s": 0.5}, {"model": "b", "m": None, "s": None}]


def test_a_sum_of_whole_numbers_does_not_wrap_around() -> None:
    columns = (Column("n", ColumnType.NUMBER, role=Role.MEASURE),)
    frame = Frame(pl.DataFrame({"n": [2**62] * 4}), Schema(columns))
    bound = pipeline({"aggregate": {"values": {"s": "sum(n)"}}}, columns=columns)
    assert bound.run(frame, {}, Limits()).data["s"].to_list() == [2.0**64]


@pytest.mark.parametrize(
    ("how", "expected"), [("count", 1), ("first", 0.5), ("last", 0.5), ("median", 0.5), ("min", 0.5), ("mean", 0.5)]
)
def test_every_way_to_aggregate_takes_what_is_there(how: str, expected: float) -> None:
    assert made({"aggregate": {"values": {"x": f"{how}(accuracy)"}}}, rows=ROWS[:1]).data["x"].to_list() == [expected]


def test_resample_makes_equal_steps_of_each_series() -> None:
    frame = made({"resample": {"every_s": 60}})
    assert rows(frame) == [
        {"time": 0, "model": "svm", "accuracy": 0.625, "took": 751.5},
        {"time": 60, "model": "mlp", "accuracy": None, "took": 250.0},
        {"time": 180, "model": "svm", "accuracy": 0.25, "took": None},
    ]
    assert column(frame, "accuracy") == RUNS[3]


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        ("null", [0.625, None, None, 0.25]),
        ("zero", [0.625, 0.0, 0.0, 0.25]),
        ("previous", [0.625, 0.625, 0.625, 0.25]),
        ("linear", [0.625, 0.5, 0.375, 0.25]),
    ],
)
def test_resample_fills_the_steps_between_a_series_ends(fill: str, expected: list[float | None]) -> None:
    given = {"resample": {"every_s": 60, "how": {"accuracy": "mean", "run": "last"}, "by": ["model"], "fill": fill}}
    frame = made(given, rows=[row for row in ROWS if row[2] == "svm"])
    assert [row["time"] for row in rows(frame)] == [0, 60, 120, 180]
    assert frame.data["accuracy"].to_list() == pytest.approx(expected)
    assert frame.data["run"][0] == "r2"
    # Each series by itself: mlp has one step, and nothing before or after it.
    assert len(made(given).data.filter(pl.col("model") == "mlp")) == 1


def test_resample_without_series_fills_too() -> None:
    frame = made({"resample": {"every_s": 60, "how": {"took": "sum"}, "by": [], "fill": "zero"}})
    assert frame.data["took"].to_list() == [1503.0, 250.0, 0.0, 0.0]
    assert rows(made({"resample": {"every_s": 60, "fill": "zero"}}, rows=())) == []


def test_one_name_needs_no_list_and_an_unquoted_null_is_the_word() -> None:
    given = {"resample": {"every_s": 60, "by": "model", "fill": None}}
    assert made(given).data.equals(made({"resample": {"every_s": 60, "by": ["model"], "fill": "null"}}).data)
    assert made({"aggregate": {"by": "model", "values": {"n": "count()"}}}).data["n"].to_list() == [3, 1]


def test_a_fill_over_centuries_is_refused_before_it_is_made() -> None:
    with pytest.raises(AnswerTooLarge, match="the filled table would have 100000001 rows"):
        made(
            {"resample": {"every_s": 1, "fill": "zero", "by": []}}, rows=(ROWS[0], (100_000_000, "r", "m", 1.0, 1.0))
        )


def test_limit_keeps_the_first_rows_by_a_column_or_by_time() -> None:
    assert [row["run"] for row in rows(made({"limit": 2}))] == ["r4", "r3"]
    assert [row["run"] for row in rows(made({"limit": {"rows": 3, "by": "accuracy"}}))] == ["r2", "r1", "r4"]
    assert [row["run"] for row in rows(made({"limit": {"rows": 1, "by": "took", "order": "asc"}}))] == ["r2"]
    assert [row["run"] for row in rows(made({"drop": ["time"]}, {"limit": 1}))] == ["r1"]


def test_format_sets_unit_and_decimals_and_turns_durations_into_seconds() -> None:
    frame = made(
        {
            "format": {
                "accuracy": {"unit": "percentunit", "decimals": 1},
                "took": {"duration": "clock", "decimals": 2},
            }
        },
        {"format": {"run": "string"}},
    )
    assert frame.data["accuracy"].to_list() == [0.5, 0.8, None, 0.2]
    assert frame.data["took"].to_list() == [1.5, 0.0, 0.25, None]
    assert (column(frame, "took").unit, column(frame, "took").decimals) == ("dthms", 2)
    assert column(frame, "run").unit == "string"


def test_union_puts_rows_below_each_other_and_can_say_where_they_are_from() -> None:
    frame = made({"union": {"with": ["lab.more", "lab.other"], "tag": "from"}})
    assert frame.schema.names == ("time", "run", "model", "accuracy", "took", "run_name", "loss", "owner", "from")
    assert frame.data["from"].to_list() == ["", "", "", "", "lab.more", *["lab.other"] * 3]
    assert rows(frame)[-1] == {
        "time": 95,
        "run": None,
        "model": None,
        "accuracy": None,
        "took": None,
        "run_name": "r9",
        "loss": 0.9,
        "owner": "eve",
        "from": "lab.other",
    }
    assert made({"union": ["lab.more"]}).rows == 5


def test_a_union_over_the_row_limit_is_refused_before_it_is_made() -> None:
    with pytest.raises(AnswerTooLarge, match="the union would have 5 rows, more than the 4 allowed"):
        made({"union": ["lab.more"]}, max_rows=4)


JOINED = {
    "left": [("r1", 0.1), ("r2", 0.2), ("r3", None), ("r4", None)],
    "inner": [("r1", 0.1), ("r2", 0.2)],
    "full": [("r1", 0.1), ("r2", 0.2), ("r3", None), ("r4", None), ("r9", 0.9)],
}


@pytest.mark.parametrize("how", JOINED)
def test_join_brings_the_columns_of_another_dataset(how: str) -> None:
    frame = made({"join": {"with": "lab.other", "on": {"run": "run_name"}, "how": how, "columns": ["loss"]}})
    assert sorted((row["run"], row["loss"]) for row in rows(frame)) == JOINED[how]
    assert frame.schema.names == ("time", "run", "model", "accuracy", "took", "loss")


def test_a_join_takes_all_columns_under_a_prefix_and_keeps_one_time() -> None:
    frame = made({"join": {"with": "lab.other", "on": {"run": "run_name"}, "prefix": "x_"}})
    assert frame.schema.names[-3:] == ("x_time", "x_loss", "x_owner")
    assert (column(frame, "x_time").role, column(frame, "x_owner").role) == (None, Role.DIMENSION)


def test_numbers_of_any_width_meet_and_large_ones_stay_apart() -> None:
    columns = (Column("n", ColumnType.NUMBER), Column("v", ColumnType.STRING))
    big = 2**60
    mine = Frame(pl.DataFrame({"n": pl.Series([big, 3], dtype=pl.Int64), "v": ["a", "b"]}), Schema(columns))
    bound = bind(
        steps({"join": {"with": "o.o", "on": ["n"]}}),
        Schema(columns),
        {"o.o": Schema((columns[0], Column("w", ColumnType.STRING)))},
    )
    others = [
        (pl.Series([big + 1, 3], dtype=pl.UInt32 if big < 2**32 else pl.Int64), [None, "y"]),
        (pl.Series([float("nan"), 3.0]), [None, "y"]),
        (pl.Series([1, 3], dtype=pl.UInt64), [None, "y"]),
    ]
    for keys, expected in others:
        other = Frame(
            pl.DataFrame({"n": keys, "w": ["x", "y"]}), Schema((columns[0], Column("w", ColumnType.STRING)))
        )
        assert bound.run(mine, {(0, "o.o"): other}, Limits()).data["w"].to_list() == expected


def test_a_join_whose_keys_meet_many_times_is_refused_before_it_is_made() -> None:
    many = frame_of([(0, "r1", 1.0, "x")] * 1_000, OTHER)
    given = {"join": {"with": "lab.other", "on": {"run": "run_name"}, "columns": ["loss"]}}
    assert made(given, others={"lab.other": many}, max_rows=1_001).rows == 1_003
    with pytest.raises(AnswerTooLarge, match="the join would have 1000000 rows, more than the 1001 allowed"):
        made(given, rows=[ROWS[0]] * 1_000, others={"lab.other": many}, max_rows=1_001)


def test_nearest_takes_the_row_nearest_in_time_within_reach() -> None:
    given = {"with": "lab.other", "on": [], "how": "nearest", "columns": ["loss"], "within_s": 10}
    frame = made({"join": given}, rows=(*ROWS[::-1], (None, "r5", "svm", 1.0, 1.0)))
    assert {row["run"]: row["loss"] for row in rows(frame)} == {
        "r1": 0.1,
        "r2": 0.2,
        "r3": 0.9,
        "r4": None,
        "r5": None,
    }
    frame = made({"join": given | {"on": {"run": "run_name"}, "within_s": None}})
    assert {row["run"]: row["loss"] for row in rows(frame)} == {"r1": 0.1, "r2": 0.2, "r3": None, "r4": None}
    frame = made({"join": {"with": "lab.other", "on": [], "how": "nearest"}})
    assert frame.schema.names[-3:] == ("run_name", "loss", "owner")


UNKNOWN = "there is no column `acuracy` at this step (did you mean `accuracy`? the columns are time, run, model, "
WRONG: dict[str, tuple[dict[str, Any], tuple[str | int, ...], str]] = {
    "rename": ({"rename": {"acuracy": "a"}}, (0, "rename", "acuracy"), UNKNOWN),
    "rename to a name that is there": ({"rename": {"run": "model"}}, (0, "rename", "run"), "would be called `model`"),
    "keep": ({"keep": ["time", "acuracy"]}, (0, "keep", 1), UNKNOWN),
    "drop": ({"drop": ["acuracy"]}, (0, "drop", 0), UNKNOWN),
    "drop everything": (
        {"drop": ["time", "run", "model", "accuracy", "took"]},
        (0, "drop"),
        "no column would be left",
    ),
    "cast": ({"cast": {"acuracy": "string"}}, (0, "cast", "acuracy"), UNKNOWN),
    "convert": ({"convert": {"acuracy": "s"}}, (0, "convert", "acuracy"), UNKNOWN),
    "convert a text": ({"convert": {"run": "s"}}, (0, "convert", "run"), "`run` is a string, not a number"),
    "convert across kinds": (
        {"convert": {"took": "bytes"}},
        (0, "convert", "took"),
        "`ms` is a unit of time, `bytes` one of data",
    ),
    "convert to no unit": ({"convert": {"took": "secs"}}, (0, "convert", "took"), "`secs` is no unit"),
    "convert to a strange unit": ({"convert": {"took": "zzzzz"}}, (0, "convert", "took"), "(known are ns, "),
    "convert what is elsewhere": (
        {"convert": {"loss": "s"}},
        (0, "convert", "loss"),
        "there is no column `loss`",
    ),
    "derive": ({"derive": {"e": "1 - acuracy"}}, (0, "derive", "e"), "acuracy"),
    "derive a second time": (
        {"derive": {"t": {"expr": "time", "role": "time"}}},
        (0, "derive", "t"),
        "role time needs the only column of type time",
    ),
    "derive a measure of text": (
        {"derive": {"t": {"expr": "run", "role": "measure"}}},
        (0, "derive", "t"),
        "role measure needs a number",
    ),
    "filter": ({"filter": "acuracy > 1"}, (0, "filter"), "acuracy"),
    "filter by a number": ({"filter": "accuracy + 1"}, (0, "filter"), ""),
    "aggregate by": (
        {"aggregate": {"by": ["acuracy"], "values": {"n": "count()"}}},
        (0, "aggregate", "by", 0),
        UNKNOWN,
    ),
    "aggregate of": (
        {"aggregate": {"values": {"n": "max(acuracy)"}}},
        (0, "aggregate", "values", "n"),
        UNKNOWN,
    ),
    "aggregate by time": (
        {"aggregate": {"by": ["time"], "values": {"n": "count()"}}},
        (0, "aggregate", "by"),
        "to group by `time`, give `every_s`",
    ),
    "aggregate by time twice": (
        {"aggregate": {"by": ["time"], "every_s": 5, "values": {"n": "count()"}}},
        (0, "aggregate", "by"),
        "`time` makes the buckets already",
    ),
    "aggregate into a group": (
        {"aggregate": {"by": ["model"], "values": {"model": "count()"}}},
        (0, "aggregate", "values", "model"),
        "`model` is the name of a group's column already",
    ),
    "a mean of texts": (
        {"aggregate": {"values": {"n": "mean(run)"}}},
        (0, "aggregate", "values", "n"),
        "`mean` takes numbers, `run` is a string",
    ),
    "resample by": ({"resample": {"every_s": 5, "by": ["acuracy"]}}, (0, "resample", "by", 0), UNKNOWN),
    "resample how": (
        {"resample": {"every_s": 5, "how": {"acuracy": "max"}}},
        (0, "resample", "how", "acuracy"),
        UNKNOWN,
    ),
    "resample what tells apart": (
        {"resample": {"every_s": 5, "how": {"model": "last"}}},
        (0, "resample", "how", "model"),
        "`model` tells rows apart",
    ),
    "format": ({"format": {"acuracy": "s"}}, (0, "format", "acuracy"), UNKNOWN),
    "decimals of a text": ({"format": {"run": {"decimals": 1}}}, (0, "format", "run"), "`run` is a string"),
    "a duration of bytes": (
        {"format": {"accuracy": {"duration": "words"}}},
        (0, "format", "accuracy", "duration"),
        "`accuracy` is in `percentunit`, which is no unit of time",
    ),
    "limit": ({"limit": {"rows": 1, "by": "acuracy"}}, (0, "limit", "by"), UNKNOWN),
    "a tag that is there": ({"union": {"with": ["lab.more"], "tag": "run"}}, (0, "union", "tag"), "`run` already"),
    "join on mine": (
        {"join": {"with": "lab.other", "on": {"acuracy": "loss"}}},
        (0, "join", "on", "acuracy"),
        UNKNOWN,
    ),
    "join on theirs": (
        {"join": {"with": "lab.other", "on": ["run"]}},
        (0, "join", "on", "run"),
        "there is no column `run` at this step",
    ),
    "join of two types": (
        {"join": {"with": "lab.other", "on": {"run": "loss"}}},
        (0, "join", "on", "run"),
        "`run` is a string, `loss` of `lab.other` a number; `cast` one of them",
    ),
    "join of a column that is there": (
        {"join": {"with": "lab.other", "on": {"run": "run_name"}}},
        (0, "join"),
        "both sides have a column `time`; give a `prefix`",
    ),
    "join of unknown columns": (
        {"join": {"with": "lab.other", "on": {"run": "run_name"}, "columns": ["los"]}},
        (0, "join", "columns", 0),
        "did you mean `loss`?",
    ),
    "join of nothing": (
        {"join": {"with": "lab.other", "on": {"run": "run_name"}, "columns": []}},
        (0, "join", "with"),
        "has no column but those of `on`",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_step_that_does_not_fit_is_told_with_its_place(name: str) -> None:
    given, loc, text = WRONG[name]
    with pytest.raises(StepError) as caught:
        pipeline(given)
    assert caught.value.loc == loc
    assert text in str(caught.value)


def test_steps_that_need_a_time_or_a_measure_say_so() -> None:
    bare = (Column("run", ColumnType.STRING), Column("n", ColumnType.NUMBER))
    timed = (Column("t", ColumnType.TIME, role=Role.TIME), *bare)
    for given, columns, text in (
        ({"resample": {"every_s": 5}}, bare, "`resample` needs a column of role time"),
        ({"resample": {"every_s": 5}}, timed, "`resample` needs a measure"),
        ({"aggregate": {"every_s": 5, "values": {"n": "count()"}}}, bare, "`every_s` needs a column of role time"),
        (
            {"join": {"with": "lab.other", "how": "nearest", "on": []}},
            bare,
            "`how: nearest` needs a column of role time",
        ),
        ({"convert": {"n": "s"}}, bare, "`n` has no unit; say what it is in"),
        ({"union": ["lab.other"]}, timed, "the time of `lab.other` is called `time`, here it is `t`; rename one"),
        ({"cast": {"n": "string"}}, bare, ""),
    ):
        if not text:
            pipeline(given, columns=columns)
            continue
        with pytest.raises(StepError, match=text.replace("(", r"\(")):
            pipeline(given, columns=columns)


def test_a_union_of_two_types_under_one_name_is_refused() -> None:
    columns = (Column("loss", ColumnType.STRING),)
    with pytest.raises(StepError, match=r"`loss` is a string here and a number in `lab\.other`; `cast` one of them"):
        pipeline({"union": ["lab.other"]}, columns=columns)


def test_a_wide_table_is_not_listed_whole() -> None:
    columns = tuple(Column(f"c{number}", ColumnType.NUMBER) for number in range(60))
    with pytest.raises(StepError, match="c39, …"):
        pipeline({"drop": ["zzz"]}, columns=columns)


def test_texts_that_would_outgrow_the_answer_are_refused_before_they_are_made() -> None:
    doubling = {"derive": {f"x{n}": f"concat({', '.join([f'x{n - 1}' if n else 'run'] * 8)})" for n in range(12)}}
    with pytest.raises(AnswerTooLarge, match=r"could take [0-9]+ bytes, more than the 1000000 allowed"):
        made(doubling, max_bytes=1_000_000)
    with pytest.raises(AnswerTooLarge, match="`filter` could take"):
        made({"filter": f"concat({', '.join(['run'] * 60)}) == 'x'"}, max_bytes=100)


def test_data_that_breaks_a_step_stops_the_dataset_with_the_number_of_the_step() -> None:
    bound = pipeline({"drop": ["run"]}, {"filter": "accuracy > 0"})
    broken = frame_of().with_data(pl.DataFrame({"time": [T0]}))
    with pytest.raises(SchemaMismatch, match=r"steps\[1\] does not fit the data"):
        bound.run(broken, {}, Limits())


def test_a_published_column_is_known_by_its_origin_as_long_as_it_is_unchanged() -> None:
    bound = pipeline({"rename": {"model": "family"}}, {"derive": {"run": "upper(run)"}}, {"drop": ["took"]})
    assert (bound.origin("family"), bound.origin("run"), bound.origin("accuracy")) == ("model", None, "accuracy")
    assert pipeline().schema == Schema(RUNS)


def test_a_table_without_rows_goes_through_every_step() -> None:
    frame = made(
        {"cast": {"run": "json"}},
        {"convert": {"took": "s"}},
        {"derive": {"x": "took * 2", "y": "concat(model, '!')"}},
        {"filter": "x > 1"},
        {"join": {"with": "lab.other", "on": {"model": "owner"}, "prefix": "o_"}},
        {"resample": {"every_s": 60, "fill": "linear"}},
        {"format": {"x": {"decimals": 1}}},
        {"limit": 5},
        rows=(),
    )
    assert frame.rows == 0
    assert "x" in frame.schema.names


def test_times_are_where_the_test_thinks() -> None:
    assert table([(1, "a", "b", 1.0, 1.0)], RUNS)["time"].to_list() == [T0 + timedelta(seconds=1)] == [at(1)]
