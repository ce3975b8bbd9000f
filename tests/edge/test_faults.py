"""What a far server says in an error is shown, but never the credential it may repeat."""

from __future__ import annotations

import html
import json
from urllib.parse import quote, quote_plus

import pytest

from bridge.edge.faults import excerpt

SECRET = 'p&ss w"rd/2<x'


@pytest.mark.parametrize(
    "echo",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower(),
        quote_plus(SECRET),
        html.escape(SECRET),
        json.dumps(SECRET)[1:-1],
    ],
)
def test_a_secret_is_blanked_however_it_is_written(echo: str) -> None:
    text = excerpt(f"who is {echo}?".encode(), "text/plain", secrets=[SECRET], whole=True)
    assert text == "who is ***?"
