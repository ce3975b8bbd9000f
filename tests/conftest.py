"""Options and guards for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` writes golden answers anew; the diff is then read before it is committed."""
    parser.addoption("--update-golden", action="store_true", help="write golden files from today's answers")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be written."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture
def no_blocking() -> Iterator[BlockBuster]:
    """Fails a test in which bridge's own code blocks the event loop."""
    with blockbuster_ctx("bridge") as watch:
        yield watch
