"""The pages in a real browser: nothing foreign is asked for, nothing overflows, and trying an operation works."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from page_samples import BASE, DOCUMENT, PLUGINS, SOURCES
from playwright.async_api import Page, async_playwright

from bridge.web import pages

pytestmark = pytest.mark.slow

CHROMIUM = "/usr/bin/chromium"
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
ROWS = 500
# WCAG 2.2, 1.4.3: 4.5 to 1, for every text that is shown.
CONTRASTS = """() => {
  const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parts(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility()) continue;
    const [a, b] = [light(parts(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) found.push([element.className || element.tagName, element.textContent.slice(0, 30), ratio]);
  }
  return found;
}"""


@dataclass
class Seen:
    """What the browser complained about and asked for."""

    complaints: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)


async def _start(_: web.Request) -> web.Response:
    return pages.page("start.html", sources=SOURCES, base=BASE, state={"reload_error": "a: b"}, plugins=PLUGINS)


async def _docs(_: web.Request) -> web.Response:
    return pages.page("docs.html", document=DOCUMENT, base=BASE)


async def _names(_: web.Request) -> web.Response:
    return web.json_response({"datasets": [{"name": "digits.runs"}, {"name": "digits.curves"}]})


async def _data(request: web.Request) -> web.Response:
    if request.query.get("format") == "arrow":
        return web.Response(body=b"\xff\xfe\x00", content_type="application/vnd.apache.arrow.stream")
    row = {"dataset": request.match_info["name"], "query": request.query_string, "text": "<b>no markup</b>"}
    return web.json_response({"rows": [row] * int(request.query.get("limit", ROWS))})


@asynccontextmanager
async def browser_page(
    width_px: int = 1280, scheme: Literal["light", "dark"] = "light", *, scripts: bool = True
) -> AsyncIterator[tuple[Page, str, Seen]]:
    """A page of a fresh browser, the origin of the served pages, and what the browser saw."""
    if not Path(CHROMIUM).exists():
        pytest.fail("Chromium is missing: apt-get install chromium")
    app = web.Application()
    app.router.add_get("/", _start)
    app.router.add_get("/docs", _docs)
    app.router.add_get("/api/v1/datasets", _names)
    app.router.add_get("/api/v1/datasets/{name}", _data)
    seen = Seen()
    async with TestServer(app) as server, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
        context = await browser.new_context(
            viewport={"width": width_px, "height": 844}, color_scheme=scheme, java_script_enabled=scripts
        )
        page = await context.new_page()
        page.on("console", lambda message: seen.complaints.append(message.text))
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.on("request", lambda request: seen.urls.append(request.url))
        try:
            yield page, str(server.make_url("/")).rstrip("/"), seen
        finally:
            await browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width_px", [1280, 700, 390])
async def test_both_pages_load_clean_fit_the_screen_and_can_be_read(
    width_px: int, scheme: Literal["light", "dark"]
) -> None:
    async with browser_page(width_px, scheme) as (page, origin, seen):
        for path in ("/", "/docs"):
            await page.goto(origin + path)
            # The folded contents are part of the page too.
            await page.evaluate("document.querySelectorAll('details').forEach((item) => { item.open = true; })")
            wide_px = await page.evaluate("document.documentElement.scrollWidth")
            assert wide_px <= width_px, path
            assert await page.evaluate(CONTRASTS) == []
        assert seen.complaints == []
        assert {url for url in seen.urls if not url.startswith((f"{origin}/", "data:"))} == set()


async def test_an_operation_can_be_tried_and_shows_status_time_and_a_cut_body() -> None:
    async with browser_page() as (page, origin, seen):
        await page.goto(f"{origin}/docs")
        card = page.locator("#get_api_v1_datasets_name")
        line, answer = card.locator(".result p"), card.locator(".result pre")
        assert not await card.locator(".result").is_visible()

        await card.get_by_label("Query string").fill(f"limit={ROWS}")
        await card.get_by_label("name", exact=True).fill("digits/runs")
        await card.get_by_role("button", name="Try").click()
        await line.filter(has_text="200 OK").wait_for()
        shown = await answer.text_content() or ""
        assert shown.startswith('{\n  "rows": [')
        assert '"dataset": "digits/runs"' in shown
        assert "<b>no markup</b>" in shown
        assert 20_000 < len(shown) < 20_100
        assert "more characters are not shown" in shown
        assert " ms · " in (await line.text_content() or "")

        await card.get_by_label("Query string").fill("?format=arrow")
        await card.get_by_role("button", name="Try").click()
        await answer.filter(has_text="Binary: application/vnd.apache.arrow.stream").wait_for()
        assert seen.complaints == []


async def test_an_operation_without_answer_says_so() -> None:
    async with browser_page() as (page, origin, _):
        await page.goto(f"{origin}/docs")
        await page.route("**/healthz", lambda route: route.abort())
        card = page.locator("#get_healthz")
        await card.get_by_role("button", name="Try").click()
        await card.locator(".result p").filter(has_text="No answer").wait_for()
        assert not await card.locator(".result pre").is_visible()


async def test_a_field_for_a_name_offers_the_names_there_are() -> None:
    async with browser_page() as (page, origin, _):
        await page.goto(f"{origin}/docs")
        card = page.locator("#get_api_v1_datasets_name_schema")
        await card.get_by_label("name", exact=True).focus()
        await card.locator("datalist").wait_for(state="attached")
        names: Any = await card.locator("option").evaluate_all("(all) => all.map((one) => one.value)")
        assert names == ["digits.runs", "digits.curves"]


async def test_on_a_phone_the_contents_fold_and_open_again() -> None:
    async with browser_page(390) as (page, origin, _):
        await page.goto(f"{origin}/docs")
        link = page.locator("nav.side a").filter(has_text="/api/v1/batch")
        assert not await link.is_visible()
        await page.get_by_text("Contents", exact=True).click()
        await link.click()
        assert not await link.is_visible()
        assert page.url.endswith("#post_api_v1_batch")
        await page.set_viewport_size({"width": 1280, "height": 844})
        await link.wait_for(state="visible")


async def test_what_is_copied_is_the_text_beside_the_button() -> None:
    async with browser_page() as (page, origin, _):
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=origin)
        await page.goto(origin)
        await page.get_by_role("button", name="Copy the JSON datasource URL").click()
        await page.get_by_text("Copied").wait_for()
        assert await page.evaluate("navigator.clipboard.readText()") == f"{BASE}/json"


async def test_keyboard_focus_can_be_seen() -> None:
    async with browser_page() as (page, origin, _):
        await page.goto(origin)
        await page.keyboard.press("Tab")
        assert await page.get_by_text("Skip to the content").evaluate("(one) => one.getBoundingClientRect().top") >= 0
        await page.keyboard.press("Tab")
        style = await page.evaluate("getComputedStyle(document.activeElement).outline")
        assert "solid 2px" in style


async def test_without_scripts_everything_can_be_read_and_no_dead_button_is_shown() -> None:
    async with browser_page(390, scripts=False) as (page, origin, _):
        await page.goto(f"{origin}/docs")
        assert await page.locator("nav.side a").first.is_visible()
        assert await page.locator("#post_json_query").get_by_text("targets[].refId").is_visible()
        assert await page.locator("button:visible").count() == 0
