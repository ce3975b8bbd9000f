"""The container's HTTP API: JSON pages that a cursor walks through, and Prometheus text."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from digits_trainer import NAME, lineage
from digits_trainer.grid import MODELS, Point
from digits_trainer.metrics import Metrics
from digits_trainer.store import Item, Log, Store
from digits_trainer.versions import V1, Version

DEFAULT_PAGE_ROWS = 50
MAX_PAGE_ROWS = 200
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refused(Exception):
    """The caller's mistake, in words for the caller."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error is a JSON object with a message."""
    try:
        return await handler(request)
    except Refused as error:
        return web.json_response({"message": error.message}, status=error.status)
    except web.HTTPException as error:
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        message = f"{error.reason}: {request.method} {request.path}"
        return web.json_response({"message": message}, status=error.status, headers=allow)


class Api:
    """The handlers; they only read."""

    def __init__(self, store: Store, metrics: Metrics, places: tuple[Point, ...], version: Version = V1) -> None:
        self.store = store
        self.metrics_ = metrics
        self.places = places
        self.spoken = version

    def app(self) -> web.Application:
        """The application with all routes."""
        app = web.Application(middlewares=[errors_as_json])
        for path, handler in {"/version": self.version, "/healthz": self.healthz, "/metrics": self.metrics}.items():
            app.router.add_get(path, handler)
        for path, handler in {
            "/runs": self.runs,
            "/runs/{run}": self.run,
            "/curves": self.curves,
            "/confusion": self.confusion,
            "/events": self.events,
            "/lineage/nodes": self.nodes,
            "/lineage/edges": self.edges,
        }.items():
            app.router.add_get(self.spoken.prefix + path, handler)
        return app

    async def version(self, request: web.Request) -> web.Response:
        """The version of this API."""
        return web.json_response({"api": self.spoken.api, "name": NAME})

    async def healthz(self, request: web.Request) -> web.Response:
        """Alive, and how much there is to read."""
        return web.json_response({"status": "ok", "runs": len(self.store.runs)})

    async def metrics(self, request: web.Request) -> web.Response:
        """Prometheus text."""
        return web.Response(body=self.metrics_.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def runs(self, request: web.Request) -> web.Response:
        """Ended runs, oldest first: `model`, `since`."""
        return self._page(request, self.store.runs, {"model"}, "started_at", self.spoken.run)

    async def run(self, request: web.Request) -> web.Response:
        """One run, also while it is in progress."""
        _only(request)
        name = request.match_info["run"]
        found = self.store.run(name)
        if found is None:
            raise Refused(f"there is no run {name[:40]!r} (any more)", status=404)
        return web.json_response(self.spoken.run(found))

    async def curves(self, request: web.Request) -> web.Response:
        """Points of learning curves, oldest first: `run`, `model`, `since`."""
        return self._page(request, self.store.curves, {"run", "model"}, "time", self.spoken.point)

    async def events(self, request: web.Request) -> web.Response:
        """Lines of the training log, oldest first: `run`, `model`, `severity`, `since`."""
        filters = {"run", "model", "severity"}
        return self._page(request, self.store.events, filters, "timestamp", self.spoken.line)

    async def confusion(self, request: web.Request) -> web.Response:
        """How often each digit was taken for which: of `run`, or of the best run of each `model`."""
        _only(request, "run", "model")
        asked, models = request.query.getall("run", []), request.query.getall("model", [])
        if asked:
            runs = [item for name in asked if (item := self.store.run(name))]
        else:
            runs = [item for model in MODELS if (item := self.store.best(model))]
        items = [row for run in runs if not models or run["model"] in models for row in self._counts(run)]
        return web.json_response(self.spoken.page(items, None))

    async def nodes(self, request: web.Request) -> web.Response:
        """Places of the lineage graph."""
        _only(request)
        return web.json_response(self.spoken.page(lineage.nodes(self.store, self.places), None))

    async def edges(self, request: web.Request) -> web.Response:
        """Arrows of the lineage graph."""
        _only(request)
        return web.json_response(self.spoken.page(lineage.edges(self.places), None))

    def _counts(self, run: Item) -> list[Item]:
        return [
            {"run": run["id"], "model": run["model"], "actual": actual, "predicted": predicted, "count": count}
            for actual, row in enumerate(self.store.confusion.get(run["id"], ()))
            for predicted, count in enumerate(row)
        ]

    def _page(
        self, request: web.Request, log: Log, filters: set[str], time: str, write: Callable[[Item], Item]
    ) -> web.Response:
        spoken = self.spoken
        _only(request, "limit", spoken.cursor_param, spoken.since_param, *filters)
        after = _after(request, spoken.cursor_param)
        limit_rows = _limit_rows(request)
        earliest = _since(request, spoken)
        wanted = {name: set(request.query.getall(name)) for name in filters if name in request.query}

        def fits(item: Item) -> bool:
            return item[time] >= earliest and all(item[name] in values for name, values in wanted.items())

        items, reached = log.page(after, limit_rows, fits)
        following = None if reached is None else _cursor(request.path, reached)
        return web.json_response(spoken.page([write(item) for item in items], following))


def _only(request: web.Request, *names: str) -> None:
    foreign = [name for name in request.query if name not in names]
    if foreign:
        known = ", ".join(sorted(names)) or "none"
        raise Refused(f"unknown parameter {foreign[0][:40]!r}; {request.path} takes: {known}")


def _limit_rows(request: web.Request) -> int:
    text = request.query.get("limit", str(DEFAULT_PAGE_ROWS))
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) > 0):
        raise Refused(f"`limit` is a whole number from 1 to {MAX_PAGE_ROWS}, not {text[:40]!r}")
    return min(int(text), MAX_PAGE_ROWS)


def _since(request: web.Request, spoken: Version) -> str:
    text = request.query.get(spoken.since_param)
    if text is None:
        return ""
    try:
        return spoken.since(text)
    except (ValueError, OverflowError) as error:
        raise Refused(f"`{spoken.since_param}` is {spoken.since_form}, not {text[:40]!r}") from error


def _cursor(path: str, number: int) -> str:
    return base64.urlsafe_b64encode(f"{path}:{number}".encode()).decode().rstrip("=")


def _after(request: web.Request, name: str) -> int:
    """The number a page goes on from; a cursor belongs to the path that gave it."""
    text = request.query.get(name, "")
    if not text:
        return 0
    try:
        path, _, number = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().partition(":")
        if path == request.path and number.isascii() and number.isdigit() and len(number) <= 15:
            return int(number)
    except ValueError:
        pass
    raise Refused(f"`{name}` is not one that {request.path} gave: {text[:40]!r}")
