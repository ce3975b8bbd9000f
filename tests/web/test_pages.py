"""The pages: readable by people, and safe whatever the names and errors in them hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from blockbuster import BlockBuster
from jinja2 import UndefinedError
from page_samples import BASE, DOCUMENT, FAILED, HOSTILE, PLUGINS, SOURCES, dataset, source

from bridge.web import openapi, pages, routes

VOID = {"meta", "link", "br", "wbr", "input", "img", "hr"}


class Page(HTMLParser):
    """Tags with their attributes, the text of each element, and whether tags are balanced."""

    def __init__(self, response: web.Response) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(response.text or "")
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.tags if name == tag]

    def urls(self) -> Iterator[str]:
        for _, attrs in self.tags:
            yield from (attrs[key] for key in ("href", "src", "action", "data-prefix") if attrs.get(key))


def start(sources: list[dict[str, Any]] = SOURCES, **more: Any) -> web.Response:
    values: dict[str, Any] = {"base": BASE, "state": {}, "plugins": PLUGINS, **more}
    return pages.page("start.html", sources=sources, **values)


def docs(document: dict[str, Any] = DOCUMENT, base: str = BASE) -> web.Response:
    return pages.page("docs.html", document=document, base=base)


BOTH = pytest.mark.parametrize("response", [start(), docs()], ids=["start", "docs"])


@BOTH
def test_the_policy_lets_in_nothing_but_the_page_itself(response: web.Response) -> None:
    policy = response.headers["Content-Security-Policy"]
    (nonce,) = set(re.findall(r"'nonce-([\w-]+)'", policy))
    assert len(nonce) >= 22
    assert policy == (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    page = Page(response)
    assert [attrs["nonce"] for attrs in page.all("style") + page.all("script")] == [nonce, nonce]
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["Cache-Control"] == "no-store"
    assert (response.content_type, response.charset) == ("text/html", "utf-8")


def test_every_answer_has_a_nonce_of_its_own() -> None:
    assert len({start().headers["Content-Security-Policy"] for _ in range(3)}) == 3


@BOTH
def test_a_page_asks_no_other_host_for_anything(response: web.Response) -> None:
    page = Page(response)
    foreign = [url for url in page.urls() if not url.startswith("data:") and (urlsplit(url).netloc or ":" in url)]
    assert foreign == []
    assert not re.search(r"@import|url\(", response.text or "")


@BOTH
def test_a_page_has_no_inline_handler_or_style_attribute(response: web.Response) -> None:
    bad = [key for _, attrs in Page(response).tags for key in attrs if key == "style" or key.startswith("on")]
    assert bad == []


@BOTH
def test_a_page_is_well_formed_and_marked_up_for_readers(response: web.Response) -> None:
    page = Page(response)
    assert page.open == []
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("meta")[1]["content"].startswith("width=device-width")
    assert len(page.all("h1")) == len(page.all("main")) == 1
    assert page.all("header")
    assert all(nav["aria-label"] for nav in page.all("nav"))
    assert len(page.all("table")) == len(page.all("caption"))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)
    inner = {url[1:] for url in page.urls() if url.startswith("#")}
    assert inner <= set(ids)
    named = {attrs["aria-labelledby"] for _, attrs in page.tags if "aria-labelledby" in attrs}
    assert named <= set(ids)


def test_hostile_names_and_texts_are_shown_as_they_are_and_do_nothing() -> None:
    evil = dataset(HOSTILE, "down", description=HOSTILE, error=HOSTILE, remedy=HOSTILE)
    sources = [
        source(HOSTILE, "down", [evil], kind=HOSTILE, description=HOSTILE, far_version=HOSTILE),
        source("odd", HOSTILE, [dataset("odd.one", HOSTILE)]),
        {**FAILED, "name": HOSTILE, "kind": HOSTILE, "error": HOSTILE, "datasets": [HOSTILE]},
    ]
    plugins = [{"kind": HOSTILE, "package": HOSTILE, "ok": False, "error": HOSTILE}]
    page = Page(start(sources, plugins=plugins, base=BASE, state={"reload_error": HOSTILE}))
    assert page.all("img") == []
    assert len(page.all("script")) == 1
    assert page.text.count(HOSTILE) > 12
    assert "49" not in page.text


def test_a_hostile_document_does_nothing_either() -> None:
    async def handler(_: web.Request) -> web.StreamResponse:
        """<img src=x onerror=alert(1)> `<script>`"""
        return web.Response()

    row = routes.Route("GET", "/<img>/{name}", handler, HOSTILE, HOSTILE, params={"<b>": HOSTILE}, tag="<i>")
    page = Page(docs(openapi.document((row,), HOSTILE, BASE)))
    assert page.all("img") == page.all("b") == page.all("i") == []
    assert len(page.all("script")) == 1
    assert HOSTILE in page.text


def test_a_template_that_lacks_a_value_is_an_error_and_not_a_hole() -> None:
    half = dataset("digits.runs")
    del half["description"]
    with pytest.raises(UndefinedError):
        start([source("digits", "ok", [half])])


def test_every_route_can_be_read_in_the_docs() -> None:
    page = Page(docs())
    ids = {attrs.get("id") for attrs in page.all("article")}
    links = set(page.urls())
    for route in routes.TABLE:
        operation = DOCUMENT["paths"][route.path][route.method.lower()]
        assert operation["operationId"] in ids
        assert f"#{operation['operationId']}" in links
        assert f"{route.method} {route.path}" in page.text
        for name, meaning in route.params.items():
            assert name in page.text
            assert meaning.replace("`", "") in page.text
    for item in DOCUMENT["x-errors"]:
        assert f"{item['status']}{item['code']}{item['text']}" in page.text


def test_nested_bodies_are_shown_with_their_types_and_bounds() -> None:
    (one,) = [
        op for group in pages.groups(DOCUMENT, BASE) for op in group["operations"] if op["path"] == "/json/query"
    ]
    rows = {row["name"]: row for row in one["body_rows"]}
    assert rows["targets"]["type"] == "list of object, at most 200 items"
    assert rows["targets[].refId"]["type"] == 'string, at most 200 characters, default "A"'
    assert rows["targets[].target"]["type"] == "any value"
    assert rows["range.from"]["type"] == "string or integer or number or null"
    assert rows["filters[].key"]["required"] is True
    assert rows["filters"]["required"] is False


def test_a_body_that_holds_itself_ends() -> None:
    tree = {"type": "object", "properties": {"child": {"$ref": "#/tree"}}}
    names = [row["name"] for row in pages._rows({"$ref": "#/tree"}, {"tree": tree})]
    assert names[:2] == ["child", "child.child"]
    assert len(names) < 10


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/healthz", "curl http://127.0.0.1:8000/healthz"),
        (
            "GET",
            "/api/v1/datasets/{name}",
            "curl 'http://127.0.0.1:8000/api/v1/datasets/digits.runs?format=page&limit=5'",
        ),
        ("POST", "/api/v1/sources/{name}/ping", "curl -X POST http://127.0.0.1:8000/api/v1/sources/digits/ping"),
        ("DELETE", "/api/v1/cache", "curl -X DELETE 'http://127.0.0.1:8000/api/v1/cache?pattern=digits.*'"),
        (
            "POST",
            "/json/search",
            "curl http://127.0.0.1:8000/json/search \\\n  -H 'Content-Type: application/json' \\\n"
            '  -d \'{"target":"digits"}\'',
        ),
    ],
)
def test_each_operation_has_an_example_to_paste_into_a_shell(method: str, path: str, expected: str) -> None:
    shown = {
        (op["method"], op["path"]): op for group in pages.groups(DOCUMENT, f"{BASE}/") for op in group["operations"]
    }
    assert shown[method, path]["curl"] == expected


def test_only_get_can_be_tried() -> None:
    labels = [form["aria-label"] for form in Page(docs()).all("form")]
    assert len(labels) == sum(route.method == "GET" for route in routes.TABLE)
    assert all(label.startswith("Try GET ") for label in labels)


@pytest.mark.parametrize(
    ("base", "prefix"),
    [
        (BASE, ""),
        (f"{BASE}/", ""),
        ("https://lab.example/tools/bridge/", "/tools/bridge"),
        ("https://lab.example//evil.example", "/evil.example"),
    ],
)
def test_links_begin_at_the_path_of_the_public_url(base: str, prefix: str) -> None:
    links = [a["href"] for a in Page(start(base=base)).all("a")]
    assert f"{prefix}/docs" in links
    assert f"{prefix}/openapi.json" in links
    assert f"{prefix}/api/v1/datasets/digits.runs?format=csv" in links
    assert not any(link.startswith("//") for link in links)
    assert next(form["data-prefix"] for form in Page(docs(base=base)).all("form")) == prefix


def test_the_first_page_shows_each_source_with_its_state_in_words() -> None:
    text = Page(start()).text
    for word in ("OK", "Down", "Needs credentials", "Not asked yet", "Not running", "Stale answer served"):
        assert word in text
    assert "1,234" in text
    assert "2 h ago" in text
    assert "never" in text
    assert "refused the connection" in text
    assert "start the container" in text
    assert "far version 2.1" in text


def test_a_failed_source_says_why_and_what_is_missing() -> None:
    text = Page(start([FAILED])).text
    assert "No module named 'pyslurm'" in text
    assert "cluster.jobs, cluster.nodes" in text
    assert "Query models" not in text
    assert "missing until then" not in Page(start([{**FAILED, "datasets": []}])).text


def test_plugins_that_failed_are_named_and_the_others_are_not() -> None:
    text = Page(start()).text
    assert "slurm of package bridge-slurm ModuleNotFoundError: pyslurm" in text
    assert "rest of package" not in text
    assert "could not be loaded" not in Page(start(plugins=PLUGINS[1:])).text
    assert "could not be loaded" not in Page(pages.page("start.html", sources=[], base=BASE, state={})).text


def test_without_sources_the_page_says_how_to_get_some() -> None:
    text = Page(start([])).text
    assert "There are no sources yet" in text
    assert "bridge sources new NAME" in text
    assert "has no datasets" in Page(start([source("a", "ok", [])])).text


def test_the_first_page_gives_what_grafana_needs() -> None:
    page = Page(start(base=f"{BASE}/"))
    assert "http://127.0.0.1:8000/json" in page.text
    links = set(page.urls())
    for name in ("digits.runs", "digits.curves", "bench.latency", "vault.trials"):
        assert {f"/api/v1/datasets/{name}{rest}" for rest in ("", "?format=csv", "/schema", "/infinity")} <= links
    assert {"/docs", "/openapi.json", "/metrics", "/readyz"} <= links


def test_what_is_wrong_has_the_colour_of_the_state() -> None:
    """Data that waits for a person is a warning, a source that is down an error; so is what is said of it."""
    for state, style in (("held_back", "note warn"), ("schema_changed", "note warn"), ("down", "note")):
        page = pages.page(
            "start.html", sources=[source("a", state, [dataset("a.b", state, error="why")])], base=BASE, state={}
        )
        assert f'<div class="{style}">why' in page.text


def test_a_reload_that_failed_is_told() -> None:
    assert "bridge.yaml:14" in Page(start(state={"reload_error": "bridge.yaml:14: unknown key"})).text
    assert "reload of the settings failed" not in Page(start(state={"reload_error": None})).text


@pytest.mark.parametrize(
    ("age_s", "expected"),
    [
        (None, "never"),
        (0.0, "just now"),
        (0.99, "just now"),
        (59.9, "59 s ago"),
        (60, "1 min ago"),
        (7_199, "1 h ago"),
        (200_000, "2 d ago"),
    ],
)
def test_ages_are_told_in_one_unit(age_s: float | None, expected: str) -> None:
    assert pages.age(age_s) == expected


async def test_a_page_is_rendered_without_waiting_for_a_disk(no_blocking: BlockBuster) -> None:
    pages._environment.cache_clear()
    assert start().status == docs().status == 200
