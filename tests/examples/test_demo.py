"""The demo's settings, read by bridge and held against the container and the file they speak of."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from bridge.edge.upstream import UpstreamPool
from bridge.model.clock import SystemClock
from bridge.model.filters import Filter, Op
from bridge.model.query import Query
from bridge.model.schema import Role, Shape
from bridge.model.span import Span, parse_instant
from bridge.settings import SourceSettings, load_settings
from bridge.sources.base import DatasetSpec, Tools
from bridge.sources.builtin.rest import RestSource
from servers.research import FOLDER as CONTAINER_FOLDER
from servers.research import SMALL_GRID_RUNS, Container, running, wait_until

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[2] / "examples" / "demo"
SPAN = Span(parse_instant("2020-01-01"), parse_instant("2120-01-01"))


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    """A container that has trained every model of the small grid and rests."""
    with running("--stop-after", str(SMALL_GRID_RUNS)) as container:
        wait_until(lambda: container.ended_runs() == SMALL_GRID_RUNS)
        wait_until(lambda: "stops" in container.items("/events")[-1]["body"])
        yield container


@pytest.fixture(scope="module")
def sources() -> Mapping[str, SourceSettings]:
    """The sources of the demo, by name."""
    loaded = load_settings(FOLDER / "bridge.yaml", env={})
    return {source.name: source for source in loaded.settings.sources}


@pytest.fixture
async def digits(container: Container, sources: Mapping[str, SourceSettings]) -> AsyncIterator[RestSource]:
    """The source as the settings describe it, at the running container's address."""
    given = sources["digits"]
    specs = {
        item.name: DatasetSpec(
            item.name,
            RestSource.DatasetOptions.model_validate(item.options),
            item.model_columns(),
            item.model_params(),
            item.shape,
        )
        for item in given.datasets
    }
    options = RestSource.SourceOptions.model_validate({**given.options, "url": container.url})
    async with UpstreamPool() as pool:
        yield RestSource("digits", options, specs, Tools(pool.upstream, SystemClock(), FOLDER))


def test_the_demo_reads_the_container_where_it_listens_by_default(
    sources: Mapping[str, SourceSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(CONTAINER_FOLDER))
    default = import_module("digits_trainer.cli").parser().parse_args([])
    assert sources["digits"].options["url"] == f"http://{default.host}:{default.port}"


def test_the_demo_has_a_dataset_of_every_shape(sources: Mapping[str, SourceSettings]) -> None:
    assert {item.name: item.shape for item in sources["digits"].datasets} == {
        "runs": Shape.AUTO,
        "curves": Shape.AUTO,
        "confusion": Shape.TABLE,
        "events": Shape.LOGS,
        "lineage_nodes": Shape.NODES,
        "lineage_edges": Shape.EDGES,
    }


@pytest.mark.parametrize("table", ["runs", "curves", "confusion", "events", "lineage_nodes", "lineage_edges"])
async def test_every_column_of_every_dataset_holds_values_of_the_container(
    digits: RestSource, container: Container, table: str
) -> None:
    path = "/" + table.replace("_", "/")
    expected = container.items(path)
    frame = await digits.collect(digits.narrow(Query(f"digits.{table}", span=SPAN)))
    assert frame.rows == len(expected)
    assert digits.validate(frame).findings == ()
    assert frame.meta.notices == ()
    nulls = {name for name in frame.data.columns if frame.data[name].null_count() == frame.rows}
    assert nulls == set()
    assert digits.far_version == "1.0"
    for column in digits.datasets[table].columns:
        if column.select is None and column.role is Role.MEASURE:
            assert frame.data[column.name].to_list() == [item[column.name] for item in expected]


async def test_the_parameters_of_a_run_are_columns_and_null_where_its_model_has_none(
    digits: RestSource, container: Container
) -> None:
    frame = await digits.collect(digits.narrow(Query("digits.runs")))
    for row, run in zip(frame.data.to_dicts(), container.items("/runs"), strict=True):
        names = ("C", "gamma", "n_estimators", "max_depth", "hidden", "learning_rate")
        assert {name: row[name] for name in names} == {name: run["params"].get(name) for name in names}
        assert (row["run"], row["time"]) == (run["id"], parse_instant(run["started_at"]))


@pytest.mark.parametrize("models", [("svm",), ("svm", "mlp")])
@pytest.mark.parametrize("table", ["runs", "curves", "events", "confusion"])
async def test_a_filter_on_the_model_is_answered_by_the_container_alone(
    digits: RestSource, container: Container, table: str, models: tuple[str, ...]
) -> None:
    query = Query(f"digits.{table}", filters=(Filter("model", Op.EQ, models),))
    frame = await digits.collect(digits.narrow(query))
    assert set(frame.data["model"]) == set(models)
    assert frame.rows == len(container.items(f"/{table}", model=list(models)))
    assert digits.validate(frame).findings == ()


@pytest.mark.parametrize(("table", "time"), [("curves", "time"), ("events", "timestamp")])
async def test_a_time_range_is_answered_by_the_container(
    digits: RestSource, container: Container, table: str, time: str
) -> None:
    items = container.items(f"/{table}")
    query = Query(f"digits.{table}", span=replace(SPAN, start=parse_instant(items[7][time])))
    frame = await digits.collect(digits.narrow(query))
    assert frame.rows == len(items) - 7


async def test_the_confusion_counts_of_any_run_can_be_asked_for(digits: RestSource, container: Container) -> None:
    worst = min(container.items("/runs"), key=lambda run: run["accuracy"])["id"]
    frame = await digits.collect(digits.narrow(Query("digits.confusion", params=(("of_run", (worst,)),))))
    assert set(frame.data["run"]) == {worst}
    assert frame.rows == 100


def test_the_flowers_are_fishers() -> None:
    from sklearn.datasets import load_iris

    with (FOLDER / "data" / "iris.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    iris = load_iris()
    names = ("sepal_length", "sepal_width", "petal_length", "petal_width")
    assert [[float(row[name]) for name in names] for row in rows] == iris.data.tolist()
    assert [row["species"] for row in rows] == [str(iris.target_names[kind]) for kind in iris.target]
    assert [name.replace(" (cm)", "").replace(" ", "_") for name in iris.feature_names] == list(names)


def test_the_flowers_columns_are_those_of_the_file(sources: Mapping[str, SourceSettings]) -> None:
    (dataset,) = sources["samples"].datasets
    with (FOLDER / dataset.options["path"]).open(newline="") as file:
        header = next(csv.reader(file))
    assert [column.name for column in dataset.columns] == header
    assert {column.unit for column in dataset.columns if column.role is Role.MEASURE} == {"cm"}
