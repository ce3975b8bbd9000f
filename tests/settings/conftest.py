"""Settings files in a folder of their own, read as a person in that folder would name them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import SettingsError
from bridge.settings import Loaded, load_settings

Load = Callable[..., Loaded]
Problems = Callable[..., list[str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def load(folder: Path) -> Load:
    """Loads a text as `bridge.yaml`."""

    def run(
        text: str | bytes, env: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
    ) -> Loaded:
        (folder / "bridge.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_settings(Path("bridge.yaml"), env=env or {}, overrides=overrides or {})

    return run


@pytest.fixture
def problems(load: Load, folder: Path) -> Problems:
    """The lines a text is refused with, the folder's own name taken out."""

    def run(
        text: str | bytes, env: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
    ) -> list[str]:
        with pytest.raises(SettingsError) as caught:
            load(text, env, overrides)
        assert str(caught.value) == "\n".join(caught.value.problems)
        assert all("\n" not in line for line in caught.value.problems)
        return [line.replace(str(folder), "DIR") for line in caught.value.problems]

    return run
