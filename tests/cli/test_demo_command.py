"""`bridge demo`, from the checkout and from a wheel."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@contextmanager
def demo(command: list[str], folder: Path, *words: str, **env: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Runs a demo until the block ends; its URL."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), **env}
    process = subprocess.Popen(
        [*command, "demo", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if match := re.search(r"(http://\S+?)/ ", line):
                yield match[1], process
                break
    finally:
        process.terminate()
        process.communicate(timeout=30)


def get(url: str, body: Any = None) -> Any:
    """JSON of one request."""
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data=data), timeout=30) as response:
        return json.load(response)


def rows_of(url: str, dataset: str, wanted: int = 1) -> list[dict[str, Any]]:
    """Rows of a dataset, asked until there are enough: training goes on meanwhile."""
    while len(rows := get(f"{url}/api/v1/datasets/{dataset}?fresh=1")) < wanted:
        pass
    return list(rows)


def test_the_demo_gives_real_runs(tmp_path: Path) -> None:
    """Runs, curves and the shown answer of README, and the container ends with the demo."""
    with demo([sys.executable, "-m", "bridge"], tmp_path, BRIDGE_SERVER__PORT="0") as (url, process):
        rows = rows_of(url, "digits.runs", 3)
        assert all(0 < row["accuracy"] <= 1 for row in rows)
        assert len({row["accuracy"] for row in rows}) > 1
        shown = json.loads(
            re.search(r"<!-- answer -->\n```json\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
        )
        short = get(f"{url}/api/v1/datasets/digits.runs?columns=accuracy,model,seed&limit=2")
        assert [list(row) for row in short] == [list(row) for row in shown]
        assert [(row["accuracy"], row["model"]) for row in short] == [
            (row["accuracy"], row["model"]) for row in shown
        ]
        frames = get(f"{url}/json/query", {"targets": [{"refId": "A", "target": "digits.curves"}]})
        assert {frame["schema"]["refId"] for frame in frames} == {"A"}
        assert len(get(f"{url}/api/v1/datasets/samples.iris")) == 150
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert children
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_the_demo_works_from_a_wheel(tmp_path: Path) -> None:
    """Nothing of the checkout is needed: the container and its settings are in the package."""
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(build, check=True)
    wheel = next(tmp_path.glob("bridge-*.whl"))
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    site = next(home.glob("lib/python*/site-packages"))
    own = [path for path in sys.path if path.endswith("site-packages")]
    unpack = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(unpack, check=True)
    # The dependencies come from this environment; its own editable bridge is hidden by the wheel, which stands first.
    (site / "dependencies.pth").write_text("\n".join(own))
    python = [str(home / "bin" / "python"), "-m", "bridge"]
    with demo(python, tmp_path, "--port", "0") as (url, _):
        assert rows_of(url, "digits.runs")[0]["model"] in ("svm", "forest", "mlp")
    where = subprocess.run(
        [*python[:1], "-c", "import bridge; print(bridge.__file__)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert str(site) in where.stdout


HIDDEN = """
import sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "sklearn":
            sys.meta_path.remove(self)
            sys.path[:] = [item for item in sys.path if not item.endswith("site-packages")]
        return None

sys.meta_path.insert(0, Hide())
"""


def test_without_scikit_learn_the_demo_says_what_to_install(tmp_path: Path) -> None:
    """One sentence with the command that helps, and no process left behind."""
    (tmp_path / "sitecustomize.py").write_text(HIDDEN)
    done = subprocess.run(
        [sys.executable, "-m", "bridge", "demo", "--port", "0"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "bridge[demo]" in done.stderr
    assert "Traceback" not in done.stderr
