"""`make bench` works; how fast anything is says only a run of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = "# Benchmarks\n\n## old run 1\n\n| a |\n\n" + "".join(f"## old run {n}\n\ntext\n\n" for n in range(2, 8))
# One beginning for each thing that is measured.
MEASURED = (
    "First read of a Parquet file",
    "Panel of",
    "50,000 points as they are",
    "Small panel (1,000 rows, cached), per request, 1 at once",
    "Small panel (1,000 rows, cached), per request, 32 at once",
    "12 `rest` sources of 100 ms",
    "50 identical requests at once, cold cache, container of 50 ms: calls to the container | 1 | 50 |",
    "`rows_json`",
    "`wire_frame` and orjson",
    "`downsample`",
    "Steps rename, cast, convert, derive, filter, resample, format",
    "50,000 points in memory, 1,000 drawn",
    "50,000 raw points as a frame, `format=frame`",
    "50,000 raw points as a frame, the JSON plug-in's query",
    "Start to first answer",
    "Memory (RSS) 0.5 s after the start",
    "Memory (RSS) with 2, 4 `rest` sources of 200 rows, asked one after the other",
    "Memory (RSS) with 2, 4 `rest` sources of 200 rows, all asked in one panel",
    "Panel of 2,000 rows, fetched anew (`rest`, JSON), with 8 checks",
    "Panel of 2,000 rows, fetched anew (`files`, CSV), with 8 checks",
    "Panel of 2,000 rows, fetched anew (`files`, Parquet), with 8 checks",
    "Panel of a past of 600,000 rows in 30 days: 30 days, 1 series, 1,000 points each: extremes kept",
    "Panel of a past of 600,000 rows in 30 days: 30 days, 1 series, 1,000 points each: means",
    "Panel of a past of 600,000 rows in 30 days: its last day, 20 series, 1,000 points each: extremes kept",
    "4 datasets recorded every 5 s",
)
BUILD = ROOT / "benchmarks" / "peers" / "build.py"


def quick(page: Path, peers: Path) -> str:
    """The newest run on the page after one of tiny sizes."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--quick", "--out", str(page), "--peers", str(peers)],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return page.read_text().partition("## old run 1")[0]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_benchmark_writes_every_row_above_the_runs_before(tmp_path: Path) -> None:
    """`--quick` goes through every case over real HTTP; the page then has the new run on top, and five in all.

    A peer that is not there leaves its rows without figures, with the reason.
    """
    page = tmp_path / "RESULTS.md"
    page.write_text(PAGE)
    (tmp_path / "peers").mkdir()
    (tmp_path / "peers" / "grafana_pandas.failed").write_text("there is no Python for it\n")
    newest = quick(page, tmp_path / "peers")
    titles = re.findall(r"^## (.+)$", page.read_text(), re.M)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC, commit .+", titles[0])
    assert titles[1:] == ["old run 1", "old run 2", "old run 3", "old run 4"]
    assert [start for start in MEASURED if f"\n| {start}" not in newest] == []
    assert re.search(r"load average before the run \d", newest)
    assert "--quick" in newest
    assert {line.count(" | ") for line in newest.splitlines() if line.startswith("| ")} == {4}
    absent = [line for line in newest.splitlines() if "| – | – | – |" in line]
    assert len(absent) == 10
    assert sum(line.endswith("| left out: there is no Python for it |") for line in absent) == 4
    assert sum(line.endswith("| left out: not built: `make peers` does |") for line in absent) == 6


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_peer_that_cannot_be_installed_is_said_and_stops_nothing(tmp_path: Path) -> None:
    """Without an index nothing can be installed: the reason stands where its environment would."""
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    done = subprocess.run(
        [sys.executable, str(BUILD), str(tmp_path / "peers")],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env={**alone, "PIP_NO_INDEX": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(path.name for path in (tmp_path / "peers").iterdir()) == [
        "fastapi_pandas.failed",
        "grafana_pandas.failed",
    ]
    assert "ERROR" in (tmp_path / "peers" / "fastapi_pandas.failed").read_text()
