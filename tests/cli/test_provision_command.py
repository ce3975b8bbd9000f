"""`bridge provision infinity`, as it is called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.rig import settings

from servers.boards import BOARD, STATUS_BOARD, invoke, panels

NAMES = [
    "provisioning/datasources/bridge-infinity.yaml",
    "provisioning/dashboards/bridge.yaml",
    BOARD,
    STATUS_BOARD,
]
STATE = "/State of this data"
DOWN = """
      - {name: gone, retries: 0, options: {path: none.csv}}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A settings file over one CSV file, with an address of its own."""
    file = settings(tmp_path)
    file.write_text(
        file.read_text().replace(
            "server: {port: 0}", "server: {public_url: 'http://bridge:8000/', allowed_hosts: [bridge]}"
        )
    )
    return str(file)


def words(config: str, *more: str) -> list[str]:
    return ["--config", config, "--into", str(Path(config).parent / "g"), *more]


def test_it_writes_four_files_and_says_so(config: str) -> None:
    code, out, err = invoke(*words(config))
    folder = Path(config).parent / "g"
    assert (code, err) == (0, "")
    assert out.splitlines() == [f"{folder / name}: written" for name in NAMES]
    assert "url: http://bridge:8000\n" in (folder / NAMES[0]).read_text()
    assert list(panels(json.loads((folder / BOARD).read_text()))) == [STATE, "lab/runs"]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://bridge:8000", False),
        ("http://BRIDGE:9000/sub", False),
        ("http://127.0.0.1:8000", True),
        ("http://[::1]:8000", True),
        ("http://grafana-side:8000", True),
    ],
)
def test_a_host_that_bridge_does_not_answer_for_is_told(config: str, url: str, told: bool) -> None:
    code, _, err = invoke(*words(config, "--url", url))
    assert code == 0
    assert ("add it to server.allowed_hosts" in err) is told


def test_the_same_settings_give_the_same_files(config: str) -> None:
    invoke(*words(config))
    folder = Path(config).parent / "g"
    before = {name: (folder / name).read_bytes() for name in NAMES}
    code, out, _ = invoke(*words(config, "--json"))
    assert (code, {item["state"] for item in json.loads(out)["files"]}) == (0, {"unchanged"})
    assert invoke("--config", config, "--into", str(folder.parent / "h"))[0] == 0
    assert {name: (folder.parent / "h" / name).read_bytes() for name in NAMES} == before


def test_check_writes_nothing_and_names_what_would_change(config: str) -> None:
    code, out, _ = invoke(*words(config, "--check"))
    assert (code, [line.rpartition(": ")[2] for line in out.splitlines()]) == (1, ["missing"] * 4)
    assert not (Path(config).parent / "g").exists()
    invoke(*words(config))
    assert invoke(*words(config, "--check"))[0] == 0
    code, out, _ = invoke(*words(config, "--check", "--url", "http://other:8000", "--json"))
    states = {item["path"].rpartition("/g/")[2]: item["state"] for item in json.loads(out)["files"]}
    assert (code, states) == (1, {NAMES[0]: "differs", **dict.fromkeys(NAMES[1:], "unchanged")})
    assert "bridge:8000" in (Path(config).parent / "g" / NAMES[0]).read_text()


def test_a_file_of_another_hand_needs_force(config: str) -> None:
    other = Path(config).parent / "g" / BOARD
    other.parent.mkdir(parents=True)
    other.write_text("{}")
    code, out, err = invoke(*words(config))
    assert (code, out) == (1, "")
    assert str(other) in err
    assert "--force" in err
    assert other.read_text() == "{}"
    code, out, _ = invoke(*words(config, "--check"))
    assert code == 1
    assert "not written by this command" in out
    assert invoke(*words(config, "--force"))[0] == 0


def test_a_dataset_whose_source_is_down_is_told_and_left_out(config: str) -> None:
    Path(config).write_text(Path(config).read_text().rstrip() + DOWN)
    code, _, err = invoke(*words(config))
    assert code == 1
    assert "lab.gone is left out: " in err
    assert "none.csv" in err
    board = json.loads((Path(config).parent / "g" / BOARD).read_text())
    assert list(panels(board)) == [STATE, "lab/runs"]
    code, out, err = invoke(*words(config, "--skip-failing", "--json"))
    assert (code, err) == (0, "")
    assert [item["dataset"] for item in json.loads(out)["left_out"]] == ["lab.gone"]


def test_a_dataset_that_lacks_what_its_shape_needs_is_left_out(config: str) -> None:
    text = Path(config).read_text().replace("refresh_s: 0", "shape: nodes")
    Path(config).write_text(text)
    code, _, err = invoke(*words(config))
    assert code == 1
    assert "lab.runs is left out: " in err
    assert "`id`" in err


def test_settings_without_an_address_need_one(tmp_path: Path) -> None:
    config = str(settings(tmp_path))
    code, _, err = invoke(*words(config))
    assert code == 1
    assert "--url" in err
    assert not (tmp_path / "g").exists()
    assert invoke(*words(config, "--url", "http://bridge:8000"))[0] == 0


def test_broken_settings_are_told_as_by_check(config: str) -> None:
    Path(config).write_text(Path(config).read_text().replace("path: runs.csv", "pth: runs.csv"))
    code, _, err = invoke(*words(config))
    assert code == 2
    assert "pth" in err
