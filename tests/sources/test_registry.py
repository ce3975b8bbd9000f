"""Which sources run, what is wrong with their settings, and which dataset a name means."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, SecretStr, field_validator

from bridge.errors import PluginFailed, SourceError, UnknownDataset, UnknownSource
from bridge.model.query import Query
from bridge.settings import Loaded, load_settings
from bridge.sources.base import DatasetSpec, DataSource, Options, Tools
from bridge.sources.registry import MAX_HINTED, DatasetConfig, Plugin, Problem, Registry, SourceConfig, build
from support import COLUMNS, StubSource, dataset, make_desk, settle, tools_of

RUNS = DatasetConfig("runs", columns=COLUMNS)
CURVES = DatasetConfig("curves", columns=COLUMNS)


class Inner(Options):
    a: int = 0


class Outer(Options):
    inner: Inner = Inner()


class Picky(StubSource):
    """Has options of its own."""

    kind = "picky"
    infers_schema = False

    class SourceOptions(Options):
        url: str
        port: int = Field(80, ge=1)
        token: SecretStr | None = None

        @field_validator("url")
        @classmethod
        def _url(cls, value: str) -> str:
            if not value.startswith("http"):
                raise ValueError("must begin with http")
            if value == "http://boom":
                raise KeyError("a bug in a validator")
            return value

    class DatasetOptions(Options):
        path: str


def picky(*datasets: DatasetConfig, **options: Any) -> SourceConfig:
    return SourceConfig("lab", "picky", {"url": "http://far", **options}, datasets)


def built(*configs: SourceConfig, tools: Tools | None = None, **plugins: Any) -> tuple[Registry, list[Problem]]:
    known = {"stub": Plugin("stub", "tests", StubSource), "picky": Plugin("picky", "tests", Picky)}
    known |= {kind: Plugin(kind, "tests", cls) for kind, cls in plugins.items()}
    return build(configs, known, tools or tools_of())


def with_path(name: str = "runs", **more: Any) -> DatasetConfig:
    return DatasetConfig(name, **{"options": {"path": "/runs"}, "columns": COLUMNS, **more})


# Problems of the settings, each at its place


@pytest.mark.parametrize(
    ("configs", "loc", "text"),
    [
        (
            [SourceConfig("lab", "nope")],
            ("sources", 0, "kind"),
            "no plug-in offers kind `nope` (installed: picky, stub)",
        ),
        (
            [SourceConfig("lab", "stub", {}, (RUNS,)), SourceConfig("lab", "stub", {}, (RUNS,))],
            ("sources", 1, "name"),
            "a second source is called `lab`; names must differ",
        ),
        (
            [SourceConfig("lab", "stub", {}, (CURVES, RUNS, RUNS))],
            ("sources", 0, "datasets", 2, "name"),
            "a second dataset is called `runs`; names must differ",
        ),
        (
            [picky(with_path(), prot=1)],
            ("sources", 0, "options", "prot"),
            "`prot` is no option here (known: url, port, token)",
        ),
        ([SourceConfig("lab", "picky")], ("sources", 0, "options", "url"), "`url` is required"),
        ([picky(port=0)], ("sources", 0, "options", "port"), "Input should be greater than or equal to 1"),
        ([picky(url="ftp://far")], ("sources", 0, "options", "url"), "must begin with http"),
        (
            [picky(token_file="/no/such")],
            ("sources", 0, "options"),
            "token_file: cannot read '/no/such': [Errno 2] No such file or directory: '/no/such'",
        ),
        (
            [picky(with_path("a"), with_path("b", options={}))],
            ("sources", 0, "datasets", 1, "options", "path"),
            "`path` is required",
        ),
        (
            [picky(with_path("a"), with_path("b", columns=()))],
            ("sources", 0, "datasets", 1),
            "kind `picky` cannot guess columns; list them under `columns`",
        ),
    ],
    ids=[
        "kind",
        "source twice",
        "dataset twice",
        "unknown option",
        "missing option",
        "bad value",
        "own rule",
        "file",
        "dataset option",
        "columns",
    ],
)
def test_a_problem_says_where_it_stands_and_what_it_is(
    configs: list[SourceConfig], loc: tuple[Any, ...], text: str
) -> None:
    _, problems = built(*configs)
    assert problems == [Problem(loc, text)]


def test_all_problems_of_all_sources_are_told_at_once() -> None:
    _, problems = built(picky(with_path(options={}, columns=()), port="x"), SourceConfig("b", "nope"))
    assert [problem.loc for problem in problems] == [
        ("sources", 0, "options", "port"),
        ("sources", 0, "datasets", 0),
        ("sources", 0, "datasets", 0, "options", "path"),
        ("sources", 1, "kind"),
    ]


def test_a_problem_never_repeats_the_value_it_refuses() -> None:
    _, problems = built(picky(token={"a": "swordfish"}, port="swordfish"))
    assert len(problems) == 2
    assert "swordfish" not in repr(problems)


def test_options_nested_in_others_are_not_mistaken_for_those_above() -> None:
    nested = type("Nested", (StubSource,), {"kind": "nested", "SourceOptions": Outer})
    _, problems = built(SourceConfig("lab", "nested", {"inner": {"b": 1}}), nested=nested)
    assert problems == [Problem(("sources", 0, "options", "inner", "b"), "`inner.b` is no option here")]


def test_files_of_options_begin_at_the_folder_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    registry, problems = built(picky(token_file="token"), tools=tools_of(base_dir=tmp_path))
    assert problems == []
    source = registry.source("lab").source
    assert source is not None
    assert isinstance(source.options, Picky.SourceOptions)
    assert source.options.token is not None
    assert source.options.token.get_secret_value() == "s3cret"


def test_the_settings_file_is_quoted_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "bridge.yaml"
    path.write_text(
        "sources:\n  - name: lab\n    kind: files\n    datasets:\n      - name: runs\n        options: {}\n"
    )
    loaded: Loaded = load_settings(path, env={})
    from bridge.app import source_configs
    from bridge.sources.plugins import discover

    _, (problem,) = build(source_configs(loaded), discover(), tools_of(base_dir=tmp_path))
    assert loaded.problem(problem.loc, problem.text).startswith(f"{path}:6")


class Refusing(StubSource):
    """Its constructor raises what the test says."""

    kind = "refusing"
    error: BaseException = ValueError("x")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        raise type(self).error


def refusing(error: BaseException) -> type[DataSource]:
    return type("Refusing", (Refusing,), {"error": error})


class Placed(ValueError):
    def __init__(self, loc: Any) -> None:
        super().__init__("no such place")
        self.loc = loc


@pytest.mark.parametrize(
    ("error", "loc"),
    [
        (ValueError("no such place"), ("options",)),
        (SourceError("no such place"), ("options",)),
        (Placed(("datasets", "curves", "options", "path")), ("datasets", 1, "options", "path")),
        (Placed(("datasets", "nope")), ("datasets", "nope")),
        (Placed(("datasets",)), ("datasets",)),
        (Placed(("options", "url")), ("options", "url")),
        (Placed(None), ("options",)),
        (Placed(7), ("options",)),
    ],
)
def test_a_constructor_can_point_at_what_it_refuses(error: Exception, loc: tuple[Any, ...]) -> None:
    registry, problems = built(SourceConfig("lab", "refusing", {}, (RUNS, CURVES)), refusing=refusing(error))
    assert problems == [Problem(("sources", 0, *loc), "no such place")]
    assert registry.source("lab").error == "no such place"


def test_a_constructor_that_checks_with_pydantic_has_its_problems_told_without_values() -> None:
    class Checking(StubSource):
        kind = "checking"

        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            Picky.SourceOptions.model_validate({"url": "http://far", "port": "swordfish"})

    _, (problem,) = built(SourceConfig("lab", "checking", {}, (RUNS,)), checking=Checking)
    assert problem.loc == ("sources", 0, "options", "port")
    assert "swordfish" not in problem.text


# Sources that do not run


class Forgetful(DataSource):
    """Does not hand its arguments on."""

    kind = "forgetful"
    infers_schema = True

    def __init__(self, name: str, options: Options, datasets: Mapping[str, DatasetSpec], tools: Tools) -> None:
        self.name = name

    async def collect(self, query: Query) -> Any:
        raise NotImplementedError


class Losing(StubSource):
    """Forgets one of its datasets."""

    kind = "losing"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.datasets = {}


class Abstract(DataSource):
    """Has no collect."""

    kind = "abstract"


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (refusing(KeyError("bug")), "KeyError: 'bug'"),
        (refusing(ZeroDivisionError("bug")), "ZeroDivisionError: bug"),
        (Forgetful, "the constructor of Forgetful does not pass its arguments to DataSource"),
        (Losing, "the constructor of Losing does not pass its arguments to DataSource"),
        (Abstract, "TypeError: Can't instantiate abstract class Abstract"),
        (type("NoModel", (StubSource,), {"SourceOptions": dict}), "AttributeError: "),
        (Picky, "KeyError: 'a bug in a validator'"),
    ],
    ids=["key", "zero", "forgetful", "losing", "abstract", "no model", "validator"],
)
def test_a_plugin_whose_code_fails_while_it_is_built_is_shown_and_the_rest_runs(
    cls: type[DataSource], said: str
) -> None:
    bad = SourceConfig("bad", "bad", {"url": "http://boom"} if cls is Picky else {}, (RUNS,))
    if cls is Picky:
        bad = replace(bad, datasets=(with_path(),))
    registry, problems = built(bad, SourceConfig("good", "stub", {}, (RUNS,)), bad=cls)
    assert problems == []
    assert list(registry.datasets) == ["good.runs"]
    entry = registry.source("bad")
    assert entry.source is None
    assert (entry.error or "").startswith(said)
    with pytest.raises(PluginFailed, match="source `bad` is not running: ") as caught:
        registry.resolve("bad.runs")
    assert "bridge sources list" in caught.value.remedy


def test_a_plugin_that_could_not_be_loaded_does_not_stop_the_start() -> None:
    plugins = {
        "stub": Plugin("stub", "tests", StubSource),
        "gone": Plugin("gone", "bridge-source-gone", error="ImportError: libfoo.so"),
    }
    configs = [SourceConfig("bad", "gone", {"any": 1}, (RUNS, CURVES)), SourceConfig("good", "stub", {}, (RUNS,))]
    registry, problems = build(configs, plugins, tools_of())
    assert problems == []
    assert registry.source("bad").error == "plug-in `gone` of bridge-source-gone: ImportError: libfoo.so"
    assert registry.resolve("good.runs").name == "good.runs"
    for target in ("bad.runs", "bad.anything", "curves"):
        with pytest.raises(PluginFailed, match=r"libfoo.so"):
            registry.resolve(target)
    assert registry.resolve("runs").name == "good.runs"


# Names


@pytest.fixture
def registry() -> Registry:
    found, problems = built(
        SourceConfig("digits", "stub", {}, (RUNS, CURVES)), SourceConfig("other", "stub", {}, (RUNS,))
    )
    assert problems == []
    return found


def test_a_dataset_is_named_by_its_source_or_alone_where_only_one_source_has_it(registry: Registry) -> None:
    assert registry.resolve("digits.runs").name == "digits.runs"
    assert registry.resolve("curves").name == "digits.curves"


def test_a_name_that_could_mean_several_says_which(registry: Registry) -> None:
    with pytest.raises(UnknownDataset, match=r"`runs` could mean digits.runs, other.runs") as caught:
        registry.resolve("runs")
    assert caught.value.remedy == "write `source.dataset`"


@pytest.mark.parametrize(
    ("target", "remedy"),
    [
        ("digits.run", "did you mean digits.runs"),
        ("curve", "did you mean digits.curves?"),
        ("rnus", "did you mean other.runs?"),
        ("zzz", "GET /api/v1/datasets lists what there is"),
        ("", "GET /api/v1/datasets lists what there is"),
        ("x" * 1_000_000, "GET /api/v1/datasets lists what there is"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_there_are(registry: Registry, target: str, remedy: str) -> None:
    with pytest.raises(UnknownDataset) as caught:
        registry.resolve(target)
    assert caught.value.remedy.startswith(remedy)
    assert len(caught.value.message) < 120


def test_a_source_is_found_by_name_or_the_configured_ones_are_named(registry: Registry) -> None:
    assert registry.source("other").config.name == "other"
    with pytest.raises(UnknownSource, match="there is no source `nope`") as caught:
        registry.source("nope")
    assert caught.value.remedy == "configured are: digits, other"
    with pytest.raises(UnknownSource) as caught:
        Registry({}, {}).source("x" * 500)
    assert caught.value.remedy == "configured are: none"
    assert len(caught.value.message) < 120


# Start and end


class Staged(StubSource):
    """Starts and ends as the test says."""

    kind = "staged"
    on_open: Any = None
    on_close: Any = None
    closed = 0

    async def open(self) -> None:
        await self._play(self.on_open)

    async def aclose(self) -> None:
        type(self).closed += 1
        await self._play(self.on_close)

    async def _play(self, step: Any) -> None:
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, asyncio.Event):
            await step.wait()


def staged(**steps: Any) -> type[Staged]:
    return type("StagedToo", (Staged,), {"closed": 0, **steps})


def pair(cls: type[DataSource]) -> Registry:
    configs = [SourceConfig("bad", "staged", {}, (RUNS,)), SourceConfig("good", "stub", {}, (CURVES,))]
    found, problems = built(*configs, staged=cls)
    assert problems == []
    return found


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (KeyError("bug"), "KeyError: 'bug'"),
        (SourceError("far side says no"), "far side says no"),
        (asyncio.CancelledError(), "`bad`: the plug-in gave its work up"),
        (asyncio.Event(), "`bad` did not answer within 0.05 s"),
    ],
    ids=["bug", "far", "cancelled", "hangs"],
)
async def test_a_source_that_does_not_start_is_shown_and_closed_and_the_rest_runs(step: Any, said: str) -> None:
    cls = staged(on_open=step)
    registry = pair(cls)
    await registry.open(deadline_s=0.05)
    assert registry.source("bad").source is None
    assert registry.source("bad").error == said
    assert list(registry.datasets) == ["good.curves"]
    assert registry.source("good").source is not None
    assert cls.closed == 1
    with pytest.raises(PluginFailed, match="source `bad` is not running"):
        registry.resolve("bad.runs")


async def test_sources_start_at_the_same_time() -> None:
    go = asyncio.Event()

    class Releasing(StubSource):
        kind = "releasing"

        async def open(self) -> None:
            go.set()

    configs = [SourceConfig("a", "staged", {}, (RUNS,)), SourceConfig("b", "releasing", {}, (RUNS,))]
    registry, _ = built(*configs, staged=staged(on_open=go), releasing=Releasing)
    async with asyncio.timeout(30):
        await registry.open()
    assert all(entry.source for entry in registry.entries.values())


async def test_one_that_was_not_built_is_neither_started_nor_closed() -> None:
    registry, _ = built(SourceConfig("bad", "refusing", {}, (RUNS,)), refusing=refusing(KeyError("bug")))
    await registry.open()
    await registry.aclose()
    assert registry.source("bad").error == "KeyError: 'bug'"


@pytest.mark.parametrize("step", [KeyError("bug"), asyncio.Event()], ids=["raises", "hangs"])
async def test_one_that_does_not_close_does_not_stop_the_others(step: Any, caplog: pytest.LogCaptureFixture) -> None:
    good = staged()
    configs = [SourceConfig("bad", "staged", {}, (RUNS,)), SourceConfig("good", "fine", {}, (RUNS,))]
    registry, _ = built(*configs, staged=staged(on_close=step), fine=good)
    async with asyncio.timeout(30):
        await registry.aclose(deadline_s=0.05)
    assert good.closed == 1
    assert "source does not close" in caplog.text


async def test_a_start_that_is_given_up_is_no_failure_of_the_source() -> None:
    registry = pair(staged(on_open=asyncio.Event()))
    task = asyncio.create_task(registry.open())
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert registry.source("bad").source is not None


def test_settings_of_a_dataset_reach_its_entry() -> None:
    config = replace(RUNS, description="Runs.", shape="table")  # type: ignore[arg-type]
    rig = make_desk(config)
    entry = rig.desk.entry("runs")
    assert (entry.name, entry.spec.description, entry.spec.shape) == ("lab.runs", "Runs.", "table")
    assert entry.spec.columns == COLUMNS
    assert entry.freshness == config.freshness


def test_near_misses_among_very_many_names_are_not_looked_for() -> None:
    """It would take longer than anyone wants to wait; the list of datasets is named instead."""
    rig = make_desk(*(dataset(f"d{number}") for number in range(MAX_HINTED + 1)))
    with pytest.raises(UnknownDataset) as caught:
        rig.registry.resolve("lab.e1")
    assert caught.value.remedy == "GET /api/v1/datasets lists what there is"


def test_a_remedy_of_an_unknown_name_can_be_written_anew() -> None:
    """As any other error's."""
    error = UnknownDataset("no", hint=lambda: "first")
    assert error.remedy == "first"
    error.remedy = "second"
    assert error.sentence == "no (second)"
