"""`make bench` works; how fast anything is says only a run of it."""

from __future__ import annotations

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
    "Start to first answer",
    "Memory (RSS)",
)


@pytest.mark.slow
def test_the_benchmark_writes_every_row_above_the_runs_before(tmp_path: Path) -> None:
    """`--quick` goes through every case over real HTTP; the page then has the new run on top, and five in all."""
    page = tmp_path / "RESULTS.md"
    page.write_text(PAGE)
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--quick", "--out", str(page)],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    text = page.read_text()
    titles = re.findall(r"^## (.+)$", text, re.M)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC, commit .+", titles[0])
    assert titles[1:] == ["old run 1", "old run 2", "old run 3", "old run 4"]
    newest = text.partition("## old run 1")[0]
    assert [start for start in MEASURED if f"\n| {start}" not in newest] == []
    assert re.search(r"load average before the run \d", newest)
    assert "--quick" in newest
    assert {line.count(" | ") for line in newest.splitlines() if line.startswith("| ")} == {4}
