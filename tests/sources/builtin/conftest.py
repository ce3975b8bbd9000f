"""A database of each system, with a table that nobody asks for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.sql_rig import SYSTEMS, Lab


@pytest.fixture(params=SYSTEMS)
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    made = Lab(request.param, tmp_path)
    made.table("unused int")
    yield made
    made.drop()
