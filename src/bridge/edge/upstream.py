"""One far HTTP server."""

from __future__ import annotations


class Upstream: ...
